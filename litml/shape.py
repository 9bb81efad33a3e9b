# Exported from nbs/06g_shape.ipynb. Edit either side, then run `litml sync`.
"""Tell whether two exporters made the same module."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from litml.cells import parse_code
from litml.dissect import read_all
from litml.patch import ungrow

__all__ = ["read_shape", "compare_modules"]


# %% Shape
@dataclass(frozen=True, slots=True)
class Shape:
    """What a module does: its statements, its public names, and its docstring.

    `first_lines` are those of the statements, for messages. White space in docstrings
    is not part of a shape, since nbdev 2 could format with black.
    """

    code: tuple[str, ...]
    first_lines: tuple[str, ...]
    names: frozenset[str]
    docstring: str


# %% is_framing
def is_framing(node: ast.stmt) -> bool:
    """Is it `__all__`, the version that nbdev writes, or a string that does nothing?"""
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id == "__version__" or read_all(node) is not None
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


# %% flatten
def flatten(node: ast.stmt) -> None:
    """Make all white space in a docstring the same."""
    value = node.value if isinstance(node, ast.Expr) else None
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        value.value = " ".join(value.value.split())


# %% read_shape
def read_shape(text: str, path: str, package: str) -> Shape:
    """Read the shape of a module at `path` below the package; raises `SyntaxError`."""
    tree = parse_code(ungrow(text).text)
    docstring = re.sub(r"\s*Docs: http\S+\s*$", "", ast.get_docstring(tree) or "")
    names = frozenset(name for node in tree.body for name in read_all(node) or ())
    tree.body = [node for node in tree.body if not is_framing(node)]
    here = [package, *path.removesuffix(".py").split("/")][:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            node.module = ".".join([*base, *filter(None, [node.module])])
            node.level = 0
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            flatten(node.body[0])
    code = tuple(ast.dump(node) for node in tree.body)
    lines = tuple(ast.unparse(node).split("\n")[0] for node in tree.body)
    return Shape(code, lines, names, " ".join(docstring.split()))


# ## All modules of a package
# %% find_difference
def find_difference(old: Shape, new: Shape) -> str:
    """Say where the code of two shapes differs first."""
    pairs = zip_longest(old.code, new.code)
    i = next(i for i, (left, right) in enumerate(pairs) if left != right)
    left, right = (
        f"`{side.first_lines[i]}`" if i < len(side.code) else "nothing"
        for side in (old, new)
    )
    return f"{left} became {right}" if left != right else f"inside {left}"


# %% list_notes
def list_notes(pairs: Mapping[str, tuple[Shape, Shape]]) -> Iterator[str]:
    """Yield what may differ between modules, and does."""
    for path, (old, new) in pairs.items():
        for word, names in [
            ("is without", old.names - new.names),
            ("also has", new.names - old.names if old.code else ()),
        ]:
            if names:
                listed = ", ".join(f"`{name}`" for name in sorted(names))
                yield f"{path}: `__all__` {word} {listed}"
        if old.docstring and old.docstring != new.docstring:
            yield f"{path}: the docstring is another: {new.docstring[:60]!r} …"
    gained = [
        p for p, (old, new) in pairs.items() if new.docstring and not old.docstring
    ]
    if gained:
        listed = ", ".join(gained)
        yield f"docstrings, from the quotes under titles, are new in {listed}"


# %% Comparison
@dataclass(frozen=True, slots=True)
class Comparison:
    """Modules whose code differs, each with the place, and notes on what may differ."""

    wrong: tuple[str, ...]
    notes: tuple[str, ...]


# %% compare_modules
def compare_modules(
    before: Mapping[str, str], after: Mapping[str, str], package: str
) -> Comparison:
    """Compare the modules of two exports, texts by path below the package.

    A module that only one of them has must be empty.
    """
    pairs = {
        path: (
            read_shape(before.get(path, ""), path, package),
            read_shape(after.get(path, ""), path, package),
        )
        for path in sorted({*before, *after})
    }
    wrong = [
        f"{path} ({find_difference(old, new)})"
        for path, (old, new) in pairs.items()
        if old.code != new.code
    ]
    return Comparison(tuple(wrong), tuple(list_notes(pairs)))
