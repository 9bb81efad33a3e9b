"""Symbols are what `inspect` and the notebooks say, without importing anything."""

import importlib
import inspect
import json
import re
import sys
import types
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from litml.library import Library
from litml.page import Symbol
from litml.symbols import find_cells, read_symbols

ROOT = Path(__file__).parents[1]
CHAPTERS = [
    file for file in sorted((ROOT / "litml").glob("*.py")) if file.stem[0] != "_"
]


def read(
    text: str, module: str = "m", library: Library | None = None
) -> dict[str, Symbol]:
    return {one.name: one for one in read_symbols(text, module, library)}


def names(symbol: Symbol) -> list[str]:
    return [one.name for one in symbol.signature_params]


# litml, against `inspect` -------------------------------------------------------------


def callables(module: types.ModuleType) -> Iterator[tuple[str, Any, bool]]:
    """Yield what is called in a module: name, object, and if it takes itself first."""
    for name in getattr(module, "__all__", ()):
        value = getattr(module, name)
        if getattr(value, "__module__", "") != module.__name__:
            continue
        if isinstance(value, types.FunctionType):
            yield name, value, False
        elif isinstance(value, type) and not issubclass(value, Enum):
            if not getattr(value, "_is_protocol", False):
                yield name, value, False
            for one, member in vars(value).items():
                kinds = types.FunctionType | classmethod | staticmethod
                if not one.startswith("_") and isinstance(member, kinds):
                    is_plain = isinstance(member, types.FunctionType)
                    yield f"{name}.{one}", getattr(value, one), is_plain


def test_the_signatures_of_litml() -> None:
    library = Library(ROOT)
    total, differ = 0, []
    for file in CHAPTERS:
        path = f"litml.{file.stem}"
        try:
            module = importlib.import_module(path)
        except ModuleNotFoundError as error:  # of an extra
            assert not str(error.name).startswith("litml"), error
            continue
        symbols = read(file.read_text(), path, library)
        for name, value, takes_self in callables(module):
            try:
                expected = [*inspect.signature(value).parameters][takes_self:]
            except ValueError:  # as of exceptions
                continue
            total += 1
            symbol = symbols[name]
            if names(symbol) != expected and not symbol.dynamic:
                differ.append((path, name, names(symbol), expected))
    assert total > 1000
    assert len(differ) <= 0.01 * total, differ


def test_every_symbol_knows_its_cell() -> None:
    """The notebook, read as JSON, has the definition in the cell that is named."""
    for notebook in sorted((ROOT / "nbs").glob("0*.ipynb")):
        tree = json.loads(notebook.read_bytes())
        cells = {cell["id"]: "".join(cell["source"]) for cell in tree["cells"]}
        file = ROOT / "litml" / f"{notebook.stem.partition('_')[2]}.py"
        text = file.read_text()
        for symbol in read(text, f"litml.{file.stem}").values():
            word = symbol.name.rpartition(".")[2]
            line = text.split("\n")[symbol.line - 1].strip()
            assert line in cells[symbol.cell], symbol
            body = "\n".join(text.split("\n")[symbol.line - 1 : symbol.end_line])
            assert re.search(rf"\b{word}\b", body), symbol


def test_nothing_is_imported() -> None:
    before = set(sys.modules)
    text = (
        "raise SystemExit\nimport antigravity\nfrom nowhere import x\ndef f(a: x): ..."
    )
    assert names(read(text)["f"]) == ["a"]
    assert not {"antigravity", "nowhere"} & (set(sys.modules) - before)


# What a definition can look like ------------------------------------------------------


def test_kinds() -> None:
    found = read(
        """
from functools import cached_property
from enum import Enum
from typing import NamedTuple, Protocol, TypedDict, overload

class Colour(Enum):
    RED = 1

class Point(NamedTuple):
    x: int
    y: int = 0

class Options(TypedDict):
    deep: bool

class Sized(Protocol):
    def size(self) -> int: ...

class A:
    limit: int = 3

    def __init__(self, a): self.later = a
    def __call__(self, b): "Call it."
    def __repr__(self): return ""
    @property
    def p(self) -> int: "One."
    @p.setter
    def p(self, value): ...
    @cached_property
    def c(self) -> str: ...
    @staticmethod
    def s(x, y): ...
    @classmethod
    def k(cls, z): ...
    async def wait(self, *, t): ...
    class Inner:
        def deep(self): ...

@overload
def f(a: int) -> int: ...
@overload
def f(a: str) -> str: ...
def f(a): "Both."

MOST: int = 3
"""
    )
    kinds = {name: one.kind for name, one in found.items()}
    assert kinds["Colour"] == "class" and kinds["Colour.RED"] == "attribute"
    assert names(found["Colour"]) == [] and not found["Colour"].dynamic
    assert names(found["Point"]) == ["x", "y"] and names(found["Options"]) == ["deep"]
    assert kinds["Sized.size"] == "method"
    assert names(found["A"]) == ["a"] and names(found["A.__call__"]) == ["b"]
    assert "A.__repr__" not in found and "A.later" not in found
    assert kinds["A.p"] == kinds["A.c"] == "property" and found["A.p"].returns == "int"
    assert names(found["A.s"]) == ["x", "y"] and names(found["A.k"]) == ["z"]
    assert found["A.wait"].signature_params[0].kind == "keyword"
    assert kinds["A.Inner.deep"] == "method" and kinds["A.limit"] == "attribute"
    assert found["f"].doc == "Both." and names(found["f"]) == ["a"]
    assert found["f"].overloads == ("f(a: int) -> int", "f(a: str) -> str")
    assert found["MOST"].returns == "int"


def test_dataclasses_inherit_across_modules(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/__init__.py").write_text("from .base import *")
    (tmp_path / "zoo/base.py").write_text(
        "from dataclasses import KW_ONLY, InitVar, dataclass, field\n"
        "from typing import ClassVar, Generic, TypeVar\n\nT = TypeVar('T')\n\n"
        "@dataclass\nclass Base(Generic[T]):\n"
        "    a: int  # the a\n"
        "    b: T = None\n"
        "    count: ClassVar[int] = 0\n"
        "    made: int = field(init=False)\n"
        "    seed: InitVar[int] = 3\n"
        "    _: KW_ONLY\n"
        "    deep: bool = False\n"
    )
    text = (
        "import zoo\nfrom dataclasses import dataclass\n\n"
        "@dataclass(frozen=True)\nclass Cat(zoo.Base[int]):\n"
        "    b: int = 7  # ours\n    name: str = ''\n\n"
        "class Tiger(Cat): pass\n"
    )
    found = read(text, "zoo.cats", Library(tmp_path))
    cat = {one.name: one for one in found["Cat"].signature_params}
    assert list(cat) == ["a", "b", "seed", "name", "deep"]
    assert cat["a"].description == "the a" and cat["b"].description == "ours"
    assert cat["seed"].annotation == "int" and cat["deep"].kind == "keyword"
    assert names(found["Tiger"]) == list(cat) and not found["Tiger"].dynamic
    assert dict(found["Cat"].names)["zoo.Base"] == "zoo.base.Base"


def test_patched_methods_stand_in_their_class() -> None:
    """As litml writes them into the class for type checkers, they are there once."""
    found = read(
        """
class A:
    def one(self): "Its own."

    if TYPE_CHECKING:  # grown in later cells

        def two(self, x: int = 1) -> int: ...


# %% later
@patch
def two(
    self: A,
    x: int = 1,  # how many
) -> int:
    "Two. Twice."

@patch(as_prop=True)
def three(self: A | B) -> str: ...

@patch(cls_method=True)
def four(cls: A, y): ...

@patch_to(A, static_method=True)
def five(z): ...

@patch
def _hidden(self: A): ...

def two(other): "A function of the same name."
"""
    )
    assert found["A.two"].cell == "later" and found["A.two"].doc == "Two. Twice."
    assert found["A.two"].signature_params[0].description == "how many"
    assert found["A.three"].kind == found["B.three"].kind == "property"
    assert names(found["A.four"]) == ["y"] and names(found["A.five"]) == ["z"]
    assert names(found["two"]) == ["other"] and "A._hidden" not in found


def test_delegates_across_modules(tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/__init__.py").write_text("")
    (tmp_path / "zoo/base.py").write_text(
        "class Base:\n    def __init__(self, a, b=1, c=2): ...\n"
        "    def run(self, fast=True, far=None): ...\n"
        "def fit(\n    data,\n    n=1, # rounds\n    *, rate=0.1, **kw): ...\n"
    )
    text = (
        "from fastcore.meta import *\nfrom zoo.base import *\n"
        "@delegates(fit)\ndef train(model, **kwargs): ...\n"
        "@delegates(fit, keep=True, but='rate')\ndef keeps(n, **kwargs): ...\n"
        "@delegates()\nclass Sub(Base):\n    def __init__(self, z, **kwargs): ...\n"
        "@delegates(Base.run)\ndef go(x, **kwargs): ...\n"
        "@delegates(train)\ndef twice(**kwargs): ...\n"
        "@delegates(torch.load)\ndef far(x, **kwargs): ...\n"
        "@use_kwargs(['u', 'v'])\ndef named(a, **kwargs): ...\n"
    )
    found = read(text, "zoo.a", Library(tmp_path))
    assert names(found["train"]) == ["model", "n", "rate"]
    assert found["train"].signature_params[1].description == "rounds"
    assert names(found["keeps"]) == ["n", "kwargs"]
    assert names(found["Sub"]) == ["z", "b", "c"]
    assert names(found["go"]) == ["x", "fast", "far"]
    assert names(found["twice"]) == ["n", "rate"]
    assert names(found["far"]) == ["x", "kwargs"] and found["far"].dynamic
    assert names(found["named"]) == ["a", "u", "v"]
    assert not found["train"].dynamic


@pytest.mark.parametrize(
    ("decorator", "is_dynamic"),
    [
        ("functools.cache", False),
        ("contextmanager", False),
        ("elsewhere.make(3)", True),
        ("own", False),
        ("own_with(3)", False),
        ("other", True),
    ],
)
def test_what_a_decorator_does_is_known_or_said(
    decorator: str, is_dynamic: bool
) -> None:
    text = (
        "import functools\nfrom contextlib import contextmanager\n"
        "def own(f):\n    @functools.wraps(f)\n    def g(*a): ...\n    return g\n"
        "def own_with(n):\n    def put(f):\n        return f\n    return put\n"
        "def other(f):\n    def g(*a): ...\n    return g\n"
        f"@{decorator}\ndef f(x): ...\n"
    )
    assert read(text)["f"].dynamic is is_dynamic


def test_nothing_said_is_lost() -> None:
    """What a docstring describes is in the table, or stays in the text."""
    text = '''
class A:
    """One.

    Attributes:
        size (int): how large
    """
    def __init__(self, a):
        """Make.

        Args:
            a: the a
            b: nobody knows
        """

class B:
    def __init__(self, a):
        """Make a B."""

def f(**kwargs):
    """Do.

    Args:
        deep: an option
    """

def g(a: Annotated[int, "how many"], b: Annotated[int, Gt(0), "more"] = 1): ...
'''
    found = read(text)
    assert found["A"].doc == "One.\n\n- `size: int`: how large"
    assert found["A"].signature_params[0].description == "the a"
    assert found["B"].doc == "Make a B."
    assert found["f"].doc == "Do.\n\n- `deep`: an option"
    a, b = found["g"].signature_params
    assert (a.annotation, a.description) == ("int", "how many")
    assert (b.annotation, b.description) == ('Annotated[int, Gt(0), "more"]', "more")


@pytest.mark.parametrize(
    "text",
    [
        "class A(A): ...",
        "class A(A.B): ...",
        "class A(B): ...\nclass B(A): ...",
        "@delegates(g)\ndef f(**k): ...\n@delegates(f)\ndef g(**k): ...",
        "@delegates(f)\ndef f(**k): ...",
        "@wraps(f)\ndef f(*a): ...",
        "@delegates()\nclass A:\n    @delegates(A)\n    def __init__(self, **k): ...",
        "from m import *\nfrom m import A\nclass B(A): ...",
        "class A(B, C): ...\nclass B(C): ...\nclass C(B): ...",
    ],
)
def test_what_goes_in_a_circle_ends(text: str) -> None:
    read(text)
    read(f"from functools import wraps\n{text}")


def test_bases_are_looked_through_in_python_s_order() -> None:
    text = (
        "class A:\n    def __init__(self, a): ...\n"
        "class B(A): ...\n"
        "class C:\n    def __init__(self, c): ...\n"
        "class D(B, C): ...\n"
        "class E(A):\n    def __init__(self, e): ...\n"
        "class F(B, E): ...\n"
    )
    space: dict[str, Any] = {}
    exec(text, space)
    found = read(text)
    for name in "ABCDEF":
        assert names(found[name]) == [*inspect.signature(space[name]).parameters]


def test_imports_that_lead_nowhere_or_round() -> None:
    """An alias is never asked for its line, which would be an error of griffe."""
    text = "from a import b\nfrom . import c\nfrom m import f as f2\nfrom .m import *\n"
    found = read(f"{text}\n__all__ = ['b', 'f']\ndef f(x: b.C, y: c, z: f2): ...")
    assert list(found) == ["f"]
    assert dict(found["f"].names)["b.C"] == "a.b.C"


def test_all_decides() -> None:
    text = "def a(): ...\ndef _b(): ...\ndef c(): ...\n"
    assert list(read(text)) == ["a", "c"]
    assert list(read(f"__all__ = ['_b', 'c']\n{text}")) == ["_b", "c"]


def test_markers_of_three_notations() -> None:
    lines = ["# %% readable", "# %% ../nbs/a.ipynb #1f2e", "# %% ../nbs/a.ipynb 12"]
    assert list(find_cells("\n".join(lines)).values()) == ["readable", "1f2e", "12"]
    assert find_cells("# %% auto 0\n x = '''\n# %% two words\n'''") == {}


DEEP = f"x = {'+'.join('1' * 200_000)}"


@pytest.mark.parametrize("text", ["def f(:", "\0", "x = (", "", "@", DEEP, "(" * 300])
def test_what_does_not_compile_defines_nothing(text: str) -> None:
    assert read_symbols(text, "m") == ()
