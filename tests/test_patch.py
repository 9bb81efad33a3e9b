"""Classes grown over several cells are whole to type checkers, readers and Python.

The judges are mypy, pyright where it is installed, ruff, and the module itself, run.
fastcore's `patch` is stood in for by a small module that does the same.
"""

import ast
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Sandbox, code, prose
from hypothesis import given
from hypothesis import strategies as st

from litml.export import assemble, read_share, render_module
from litml.notebook import parse_notebook
from litml.parts import locate
from litml.patch import grow_classes, trace_line, ungrow
from litml.project import Config, Project

FASTCORE = """\
def patch_to(cls, as_prop=False, cls_method=False, static_method=False, set_prop=False):
    def add(function):
        for owner in cls if isinstance(cls, tuple) else (cls,):
            name, added = function.__name__, function
            if set_prop:
                added = getattr(owner, name).setter(function)
            for wanted, kind in [
                (as_prop, property),
                (cls_method, classmethod),
                (static_method, staticmethod),
            ]:
                added = kind(function) if wanted else added
            setattr(owner, name, added)
    return add


def patch(function=None, **options):
    if function is None:
        return lambda function: patch(function, **options)
    target = next(iter(function.__annotations__.values()))
    return patch_to(getattr(target, "__args__", target), **options)(function)
"""

LEARNER = [
    prose("title", "# Learn\n\n> Learn from data."),
    code(
        "imports",
        "#| export\nfrom collections.abc import AsyncIterator, Iterator\n"
        "from contextlib import contextmanager\nfrom pathlib import Path\n\n"
        "from fastcore.basics import patch, patch_to",
    ),
    code(
        "Learner",
        '#| export\nclass Learner:\n    """Learns."""\n\n'
        "    def __init__(self, lr: float = 0.1) -> None:\n        self.lr = lr",
    ),
    code("Report", '#| export\nclass Report:\n    """Says."""\n\n    epochs = 0'),
    code(
        "fit",
        "#| export\n@patch\ndef fit(self: Learner, n: int = 3, *, log: bool = False)"
        ' -> Report:\n    """Train.\n\n    For n epochs.\n    """\n'
        "    report = Report()\n    report.epochs = n\n    return report",
    ),
    code("use-fit", "Learner().fit(2)"),
    code(
        "loss",
        "#| export\n@patch(as_prop=True)\ndef loss(self: Learner) -> float:\n"
        '    """The loss."""\n    return self.lr / 2',
    ),
    code(
        "set-loss",
        "#| export\n@patch(set_prop=True)\ndef loss(self: Learner, value: float):\n"
        '    """Set the loss."""\n    self.lr = value * 2',
    ),
    code(
        "make",
        "#| export\n@patch_to(Learner, cls_method=True)\n"
        "def make(cls, lr: float) -> Learner:\n"
        '    """Make one."""\n    return cls(lr)',
    ),
    code(
        "check",
        "#| export\n@patch_to(Learner, static_method=True)\n"
        "def check(lr: float) -> bool:\n"
        '    """Is it positive?"""\n    return lr > 0',
    ),
    code(
        "both",
        "#| export\n@patch\ndef name(self: Learner | Report) -> str:\n"
        '    """Return a name."""\n    return type(self).__name__',
    ),
    code(
        "free",
        "#| export\n@patch\ndef free(self: Learner, n, *rest):\n"
        '    """Return it."""\n    return n',
    ),
    code(
        "stream",
        "#| export\n@patch\nasync def stream(self: Learner) -> AsyncIterator[int]:\n"
        '    """Yield."""\n    yield 1',
    ),
    code(
        "paused",
        "#| export\n@patch\n@contextmanager\n"
        "def paused(self: Learner) -> Iterator[int]:\n"
        '    """Wait."""\n    yield 1',
    ),
    code(
        "ls",
        "#| export\n@patch\ndef ls(self: Path) -> list[Path]:\n"
        '    """List."""\n    return []',
    ),
]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which mypy keeps what it knows of the standard library."""
    return tmp_path_factory.mktemp("mypy")


@pytest.fixture(autouse=True)
def use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "MYPY_CACHE_DIR", str(cache))


@pytest.fixture
def learner(project: Sandbox) -> Sandbox:
    """Return an exported project with a class grown over ten cells."""
    (project.root / "fastcore").mkdir()
    (project.root / "fastcore/__init__.py").touch()
    (project.root / "fastcore/basics.py").write_text(FASTCORE)
    project.write("01_learn.ipynb", *LEARNER)
    project.export()
    return project


def read_module(project: Sandbox) -> str:
    return (project.root / "mylib/learn.py").read_text()


# Seen whole --------------------------------------------------------------------------

USES = """\
from mylib.learn import Learner

learner = Learner()
reveal_type(learner.fit(2))  # Report
reveal_type(learner.loss)  # float
reveal_type(learner.free(1))  # Any
reveal_type(learner.name())  # str
reveal_type(Learner.make(0.1))  # Learner
reveal_type(Learner.check(0.1))  # bool
learner.loss = 0.2


async def read() -> None:
    async for one in learner.stream():
        reveal_type(one)  # int


with learner.paused() as number:
    reveal_type(number)  # int
"""
MISUSES = """\
from mylib.learn import Learner

learner = Learner()
learner.fit("three")
learner.fit(3, True)
learner.loss = "low"
learner.make("fast")
learner.nothing()
Learner.check()
"""


def ask_mypy(
    project: Sandbox, source: str, file: str = "use.py"
) -> list[dict[str, object]]:
    (project.root / "use.py").write_text(source)
    words = ["--output", "json", "use.py"]
    done = project.run(sys.executable, "-m", "mypy", *words)
    assert done.returncode < 2, done.stdout + done.stderr
    said = [json.loads(row) for row in done.stdout.splitlines() if row[:1] == "{"]
    return [one for one in said if file in str(one["file"])]


def ask_pyright(project: Sandbox, source: str) -> list[dict[str, object]]:
    found = importlib.util.find_spec("pyright")
    start = [sys.executable, "-m", "pyright"] if found else [shutil.which("pyright")]
    if not start[0]:
        pytest.skip("pyright is not installed")
    (project.root / "use.py").write_text(source)
    done = project.run(*start, "--outputjson", "use.py")
    said = json.loads(done.stdout)["generalDiagnostics"]
    return [{**one, "line": one["range"]["start"]["line"] + 1} for one in said]


@pytest.mark.parametrize("ask", [ask_mypy, ask_pyright])
def test_a_type_checker_sees_every_method(learner: Sandbox, ask: object) -> None:
    said = ask(learner, USES)  # type: ignore[operator]
    assert not [one for one in said if one["severity"] == "error"]
    shown = {one["line"]: str(one["message"]) for one in said}
    for number, row in enumerate(USES.splitlines(), start=1):
        if "# " in row:
            wanted = row.partition("# ")[2]
            known = shown[number].replace("mylib.learn.", "")
            assert f'"{wanted}"' in known.replace("Unknown", "Any"), row


@pytest.mark.parametrize("ask", [ask_mypy, ask_pyright])
def test_a_type_checker_refuses_every_misuse(learner: Sandbox, ask: object) -> None:
    said = ask(learner, MISUSES)  # type: ignore[operator]
    wrong = {one["line"] for one in said if one["severity"] == "error"}
    assert wrong == set(range(4, 10))


def test_mypy_still_looks_into_the_bodies(learner: Sandbox) -> None:
    learner.write(
        "02_more.ipynb",
        code("imports", "#| export\nfrom fastcore.basics import patch"),
        code("A", "#| export\nclass A:\n    x = 1"),
        code("f", "#| export\n@patch\ndef f(self: A) -> str:\n    return self.x"),
    )
    learner.export()
    said = ask_mypy(learner, "import mylib.more", file="more.py")
    [error] = [one for one in said if one["severity"] == "error"]
    assert error["code"] == "return-value"
    at = locate(learner.root, learner.root / "mylib/more.py", int(str(error["line"])))
    assert str(at) == "nbs/02_more.ipynb, cell f, line 4"


def test_the_module_does_what_the_notebook_does(learner: Sandbox) -> None:
    script = (
        "import asyncio\n"
        "from mylib.learn import Learner, Report, __all__\n"
        "from pathlib import Path\n"
        "learner = Learner.make(0.5)\n"
        "assert learner.fit(4, log=True).epochs == 4 and learner.loss == 0.25\n"
        "learner.loss = 1\n"
        "assert learner.lr == 2 and Learner.check(1) and Path().ls() == []\n"
        "assert Report().name() == 'Report' and learner.name() == 'Learner'\n"
        "assert learner.free(1) == 1\n"
        "with learner.paused() as number: assert number == 1\n"
        "assert __all__ == ['Learner', 'Report'], __all__\n"
        "assert not any('TYPE' in name for name in vars(Learner))\n"
    )
    done = learner.run(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr


def test_a_reader_sees_the_class_whole(learner: Sandbox) -> None:
    tree = ast.parse(read_module(learner))
    [owner] = [one for one in tree.body if getattr(one, "name", "") == "Learner"]
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    found = [one.name for one in ast.walk(owner) if isinstance(one, kinds)]
    assert found == [
        *("__init__", "fit", "loss", "loss", "make", "check", "name", "free"),
        *("stream", "paused"),
    ]
    assert "    def ls" not in read_module(learner), "a class of somebody else"


def test_ruff_has_nothing_to_add(learner: Sandbox) -> None:
    """A block is formatted, and no rule is broken in it that the cells do not break."""
    rules = ["E", "F", "I", "UP", "D1", "B", "SIM", "RUF", "ANN2"]
    (learner.root / "ruff.toml").write_text(f"[lint]\nselect = {rules}\n")
    grown = read_module(learner)
    found = []
    for text in (ungrow(grown).text, grown):
        (learner.root / "mylib/learn.py").write_text(text)
        ruff = [sys.executable, "-m", "ruff"]
        done = learner.run(*ruff, "format", "--diff", "mylib")
        assert done.returncode == 0, done.stdout
        done = learner.run(*ruff, "check", "--output-format", "json", "mylib")
        said = [one["code"] + one["message"] for one in json.loads(done.stdout)]
        found.append({re.sub(r"\d+", "", one) for one in said})
    assert found[1] <= found[0], found[1] - found[0]


def test_no_block_without_a_patch(project: Sandbox) -> None:
    project.write("01_a.ipynb", code("A", "#| export\nclass A:\n    patch = 1"))
    project.export()
    assert "TYPE_CHECKING" not in (project.root / "mylib/a.py").read_text()


def test_a_patch_in_another_notebook_of_the_module(learner: Sandbox) -> None:
    """The class is shown with the methods of every notebook of its module."""
    learner.write(
        "02_more.ipynb",
        code("more", "#| export learn\n@patch\ndef more(self: Learner) -> int: ..."),
    )
    learner.export()
    assert "def more(self) -> int: ..." in read_module(learner)
    assert learner.litml("export", "--check").returncode == 0


def test_nbdev_exports_as_nbdev_does(project: Sandbox) -> None:
    (project.root / "pyproject.toml").write_text(
        '[project]\nname = "mylib"\n\n[tool.nbdev]\n'
    )
    cells = [code("exp", "#| default_exp learn"), *LEARNER]
    project.write("01_learn.ipynb", *cells)
    done = project.litml("export", "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "TYPE_CHECKING" not in (project.root / "out/learn.py").read_text()


# The way back ------------------------------------------------------------------------


def test_an_edit_of_a_method_comes_home(learner: Sandbox) -> None:
    path = learner.root / "mylib/learn.py"
    edited = read_module(learner).replace("return self.lr / 2", "return self.lr / 3")
    path.write_text(edited)
    done = learner.litml("sync")
    assert done.returncode == 0, done.stderr
    assert "return self.lr / 3" in (learner.root / "nbs/01_learn.ipynb").read_text()
    assert read_module(learner) == edited


def test_a_new_signature_comes_home_and_goes_up(learner: Sandbox) -> None:
    path = learner.root / "mylib/learn.py"
    edited = read_module(learner).replace(
        "fit(self: Learner, n: int", "fit(self: Learner, k: int"
    )
    path.write_text(edited.replace("report.epochs = n", "report.epochs = k"))
    done = learner.litml("sync")
    assert done.returncode == 0, done.stderr
    learner.export()
    assert "def fit(self, k: int = 3, *, log: bool = False)" in read_module(learner)


def test_an_edit_of_a_block_is_not_lost(learner: Sandbox) -> None:
    path = learner.root / "mylib/learn.py"
    edited = read_module(learner).replace("def name(self)", "def title(self, x)")
    path.write_text(edited)
    before = learner.files("nbs")
    for command in ("sync", "export"):
        done = learner.litml(command)
        assert done.returncode == 1, done.stdout
        assert "learn.py" in done.stderr or "01_learn" in done.stderr
    assert read_module(learner) == edited and learner.files("nbs") == before


def test_a_formatter_may_run_over_a_block(learner: Sandbox) -> None:
    (learner.root / "ruff.toml").write_text("line-length = 60\n")
    done = learner.run(sys.executable, "-m", "ruff", "format", "mylib")
    assert done.returncode == 0 and "def fit(\n" in read_module(learner)
    assert ungrow(read_module(learner)).text.count("TYPE_CHECKING") == 0


# Laws --------------------------------------------------------------------------------

CLASSES = [
    "class A:\n    x = 1",
    'class B:\n    """Say \\"B\\"."""\n\n    def list(self): ...\n    # the end',
    "class C: ...",
    "@frozen\nclass D(A):\n\n    x: int = 1\n\n\n    y = 2\n\nafter = 1",
    "class E:\n  def f(self):\n    return '''\n  if TYPE_CHECKING:\n'''",
]
PATCHES = [
    "@patch\ndef f(self: A) -> list[int]: ...",
    "@patch\ndef g(self: B | D, n: list[int] = [], *a, k: 'D' = 1, **b): return 1",
    '@patch(as_prop=True)\ndef h(self: "B"):\n    """It is \\"h\\"."""',
    "@patch(set_prop=True)\ndef h(self: B, value): ...",
    "@patch_to((A, E))\n@after.wrap(1)\ndef long_name_of_a_method(self, first_parameter"
    ": dict[str, int], second_parameter: tuple[int, ...] = (), /) -> D: ...",
    "@patch\nasync def i(self: E, /, *, x: int = -1):\n    yield 1",
    "@fc.patch\ndef j(self: str): ...",
    "@patch\ndef f(self: E): ...",
]
OTHERS = [
    "import os",
    "from typing import *",
    "TYPE = 1\n\n\ndef g(): ...",
    "x = '@patch'",
]
cells = st.lists(
    st.sampled_from([*CLASSES, *PATCHES, *OTHERS]), unique=True, max_size=9
)
tops = st.sampled_from(
    [
        "from fastcore.basics import *",
        "from __future__ import annotations\nfrom fastcore.basics import patch\nx_ = 1",
        "from typing import TYPE_CHECKING, Any\n\nfrom fastcore.basics import patch",
        "patch = print",
        '"""Of its own."""\nfrom fastcore.basics import patch',
    ]
)


def render(sources: list[str]) -> tuple[str, list[tuple[int, object]]]:
    cells = [code(f"c{i}", f"#| export\n{one}") for i, one in enumerate(sources)]
    tree = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    notebook = parse_notebook(json.dumps(tree).encode(), "nbs/01_a.ipynb")
    share = read_share(notebook, Project(Path("/p"), Config(package="mylib")))
    return render_module(assemble("a.py", [share]))  # type: ignore[return-value]


class Runtime(ast.NodeTransformer):
    """Takes out what Python never runs."""

    def visit_If(self, node: ast.If) -> ast.AST | None:
        self.generic_visit(node)
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if ast.unparse(node) == "TYPE_CHECKING = False" else node


@given(tops, cells)
def test_blocks_change_nothing_else(top: str, sources: list[str]) -> None:
    text, starts = render([top, *sources])
    grown, places = grow_classes(text, starts)  # type: ignore[arg-type]
    assert ungrow(grown).text == text
    tree = Runtime().visit(ast.parse(grown))
    assert ast.dump(tree) == ast.dump(Runtime().visit(ast.parse(text)))
    compile(grown, "a.py", "exec", dont_inherit=True)
    assert [line for line, _ in places] == sorted(line for line, _ in places)
    lines = grown.split("\n")
    for _, chunk in starts:
        first = chunk.code.split("\n")[0]  # type: ignore[attr-defined]
        assert any(lines[n - 1] == first and c is chunk for n, c in places)
    for number in range(1, len(lines) + 1):
        without, line = trace_line(grown, number)
        assert without == text and 1 <= line <= text.count("\n") + 1
        if number in ungrow(grown).lines:
            assert without.split("\n")[line - 1] == lines[number - 1]


@given(tops, cells)
def test_what_is_grown_stays_formatted(top: str, sources: list[str]) -> None:
    """As far as that can be told without asking ruff each time."""
    text, starts = render([top, *sources])
    grown, _ = grow_classes(text, starts)  # type: ignore[arg-type]
    for block in ungrow(grown).blocks:
        assert not any(row.endswith(" ") for row in block.split("\n"))
        assert "\n\n\n" not in block


def test_ruff_keeps_every_block(tmp_path: Path) -> None:
    """All forms at once, in a module that ruff has formatted before."""
    top = "from fastcore.basics import *"
    text, _ = render([top, *(one for one in CLASSES if "E:" not in one), *PATCHES[:5]])
    format_ = [sys.executable, "-m", "ruff", "format", "--isolated", "-"]
    done = subprocess.run(format_, input=text, capture_output=True, text=True)
    path = tmp_path / "a.py"
    sources = done.stdout.split("# %% ")[1:]
    cells = [top, *(one.partition("\n")[2].rstrip() for one in sources)]
    grown, _ = grow_classes(*render(cells))  # type: ignore[arg-type]
    path.write_text(grown)
    assert "if TYPE_CHECKING:" in grown
    words = [*format_[:-1], "--diff", str(path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == "", done.stdout
