# Exported from nbs/05a_parts.ipynb. Edit either side, then run `litml sync`.
"""Take the text of a module apart again, and find the cell that a line came from."""

import ast
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import TypeGuard

from litml.cells import parse_code, split_head
from litml.notebook import Cell, LitmlError, Location, Notebook
from litml.record import exported_from
from litml.text import read_source

__all__ = [
    "Part",
    "ModuleText",
    "parse_module",
    "parse_quietly",
    "refuse_conflicts",
    "CONFLICT",
    "find_markers",
    "MARKER",
    "first_line",
    "last_line",
    "split_module",
    "read_header",
    "texts_of",
    "code_of",
    "words_of",
    "paragraphs",
    "locate",
]


# %% ModuleError
class ModuleError(LitmlError):
    """The text of a module that cannot be taken apart."""


# ## Parts
# %% Part
@dataclass(frozen=True, slots=True)
class Part:
    """The code under one marker; `line` is its first line in the module, from 1.

    `headings` are the lines that stand directly above the marker, from the prose.
    """

    id: str
    text: str
    line: int
    headings: tuple[str, ...] = ()


# %% ModuleText
@dataclass(frozen=True, slots=True)
class ModuleText:
    """A module's text, taken apart.

    `imports` is what stands above `__all__`, `prelude` what stands between it and the
    first marker; `public` is the value of `__all__`, or None if there is none. `blocks`
    are the signatures that `04b_patch` has put into classes, taken out again.
    """

    notebooks: tuple[str, ...]
    docstring: str
    imports: Part
    public: tuple[str, ...] | None
    prelude: Part
    parts: tuple[Part, ...]
    blocks: tuple[str, ...] = ()


# %% parse_module
def parse_module(text: str, name: str) -> ast.Module:
    """Parse a module's text; raises `ModuleError` that names its line."""
    try:
        return parse_quietly(text)
    except (SyntaxError, ValueError, RecursionError) as error:
        refuse_conflicts(text, name)
        at = Location(name, line=getattr(error, "lineno", None))
        reason = getattr(error, "msg", str(error))
        raise ModuleError(f"does not parse: {reason}", at=at) from error


@lru_cache(maxsize=8)  # base, edited and new text of a module are each asked for often
def parse_quietly(text: str) -> ast.Module:
    """Parse a module's text without warnings; nobody may change the tree."""
    return parse_code(text)


# %% refuse_conflicts
def refuse_conflicts(text: str, name: str, before: str = "") -> None:
    """Raise if the text has conflict markers of a git merge, but not as before."""
    new = Counter(CONFLICT.findall(text)) - Counter(CONFLICT.findall(before))
    if new:
        line = text.split("\n").index(next(iter(new))) + 1
        hint = "resolve the merge first, or take either side of it"
        message = "conflict markers of a git merge"
        raise ModuleError(message, at=Location(name, line=line), hint=hint)


CONFLICT = re.compile(r"^(?:<{7}|>{7})(?: .*)?$", re.MULTILINE)


# %% find_markers
def find_markers(
    text: str, known: Collection[str] | None = None, tree: ast.Module | None = None
) -> dict[int, str]:
    """Return the lines, from 1, of the markers in a module's text, with their ids.

    `tree` is the text's syntax tree, if it is there already.
    """
    found, number, at = {}, 1, 0
    for match in MARKER.finditer(text):
        number, at = number + text.count("\n", at, match.start()), match.start()
        if known is None or match[1] in known:
            found[number] = match[1]
    if not found:
        return {}
    for node in (tree or parse_quietly(text)).body:
        for number in range(first_line(node), last_line(node) + 1):
            found.pop(number, None)
    return found


MARKER = re.compile(r"(?m)^# %% ([a-zA-Z0-9_-]{1,64})$")


def first_line(node: ast.stmt) -> int:
    """Return the line at which a statement begins, from 1, decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(one.lineno for one in decorators)])


def last_line(node: ast.stmt) -> int:
    """Return the line at which a statement ends, from 1."""
    return node.end_lineno or node.lineno


# %% split_module
def split_module(
    text: str,
    name: str,
    known: Collection[str] | None = None,
    *,
    derive_all: bool = True,
) -> ModuleText:
    """Take a module's text apart; raises `ModuleError` if it is not a module's.

    Only ids in `known` are taken for markers, or all where it is None. With
    `derive_all` the first `__all__` is not a cell's.
    """
    tree = parse_module(text, name)
    text, numbers, blocks = take_blocks(text)
    tree = parse_module(text, name) if blocks else tree
    lines = text.split("\n")
    notebooks = read_header(lines[0], name)
    markers = find_markers(text, known, tree)
    starts = [*sorted(markers), len(lines) + 1]
    docstring = take_docstring(tree, lines, starts[0])
    public, above = take_all(tree, lines, name) if derive_all else (None, None)
    middle = min(above or starts[0], starts[0])
    imports = make_part("", lines, 2, middle)
    prelude = make_part("", lines, middle, starts[0])
    parts = tuple(
        with_line(make_part(markers[start], lines, start + 1, stop), numbers)
        for start, stop in pairwise(starts)
    )
    return ModuleText(notebooks, docstring, imports, public, prelude, parts, blocks)


def read_header(line: str, name: str) -> tuple[str, ...]:
    """Return the notebooks that a module's first line names."""
    if not (notebooks := exported_from(line)):
        raise ModuleError("not exported by litml", at=Location(name, line=1))
    return notebooks


# %% take_docstring
def take_docstring(tree: ast.Module, lines: list[str], first: int) -> str:
    """Empty the lines of the docstring above line `first`, and return it.

    A docstring that stands further down is a cell's own.
    """
    docstring = ast.get_docstring(tree, clean=False)
    if docstring is None or first_line(tree.body[0]) >= first:
        return ""
    blank_out(lines, tree.body[0])
    return docstring


# %% take_all
def take_all(
    tree: ast.Module, lines: list[str], name: str
) -> tuple[tuple[str, ...] | None, int | None]:
    """Empty the lines of `__all__`; return its value and its line, or None for both."""
    for node in tree.body:
        if is_all(node):
            value = read_all(node, name)
            blank_out(lines, node)
            return value, node.lineno
    return None, None


# %% is_all
def is_all(node: ast.stmt) -> TypeGuard[ast.Assign]:
    """Is it the assignment of `__all__`?"""
    if not isinstance(node, ast.Assign) or len(node.targets) != 1:
        return False
    return isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"


def read_all(node: ast.Assign, name: str) -> tuple[str, ...]:
    """Return the value of `__all__`."""
    try:
        return tuple(str(item) for item in ast.literal_eval(node.value))
    except (ValueError, TypeError) as error:
        at = Location(name, line=node.lineno)
        raise ModuleError("`__all__` is not a list of strings", at=at) from error


def blank_out(lines: list[str], node: ast.stmt) -> None:
    """Empty the lines of a statement."""
    for i in range(first_line(node) - 1, last_line(node)):
        lines[i] = ""


# %% make_part
def make_part(name: str, lines: list[str], start: int, stop: int) -> Part:
    """Return the part on the lines from `start` up to `stop`, from 1."""
    first, last = start, stop
    while last > first and re.match(r"# #{2,6} ", lines[last - 2]):
        last -= 1
    headings = tuple(lines[last - 1 : stop - 1]) if stop <= len(lines) else ()
    last = stop if not headings else last
    while last > first and not lines[last - 2].strip():
        last -= 1
    while first < last and not lines[first - 1].strip():
        first += 1
    text = "\n".join(lines[first - 1 : last - 1]).rstrip()
    return Part(name, text, first, headings)


def with_line(part: Part, numbers: Sequence[int]) -> Part:
    """Return a part with the line it has where blocks have not been taken out."""
    line = numbers[min(part.line, len(numbers)) - 1]
    return Part(part.id, part.text, line, part.headings)


def take_blocks(text: str) -> tuple[str, Sequence[int], tuple[str, ...]]:
    """Return a text without grown classes' blocks, the numbers of its lines, and those.

    The chapter about them is loaded only where there may be one.
    """
    if "TYPE_CHECKING" not in text:
        return text, range(1, text.count("\n") + 2), ()
    from litml.patch import ungrow

    ungrown = ungrow(text)
    return ungrown.text, ungrown.lines, ungrown.blocks


# ## What a module says
# %% texts_of
def texts_of(module: ModuleText) -> list[str]:
    """Return the texts of a module in their order, derived lines left out."""
    parts = [module.imports, module.prelude, *module.parts]
    return [part.text for part in parts if part.text]


def code_of(module: ModuleText) -> str:
    """Return the code of a module in its order, derived lines left out."""
    return "\n\n".join(texts_of(module))


def words_of(text: str) -> list[str]:
    """Return the lines of code that are not blank."""
    return [line.rstrip() for line in text.split("\n") if line.strip()]


def paragraphs(docstring: str) -> tuple[str, str]:
    """Return a docstring's first paragraph on one line, and what follows it."""
    first, _, rest = docstring.strip().partition("\n\n")
    return " ".join(first.split()), rest.strip()


# %% with_body
def with_body(cell: Cell, body: str) -> str:
    """Return the cell's source with another body below its head."""
    head = split_head(cell.source)
    lines = cell.source.split("\n")[: head.body_line - 1]
    end = cell.source[len(cell.source.rstrip()) :]
    return "\n".join([*lines, body]) + end


# ## From a line to its cell
# %% locate
def locate(root: Path, module: Path, line: int) -> Location | None:
    """Return the place in a notebook of a line of an exported module, if it has one.

    `root` is the project's; the line counts from 1. Files that litml did not export,
    and lines that belong to no cell, have no place.
    """
    try:
        text = module.read_text("utf-8")
        notebooks = [read_source(root / one, one) for one in exported_from(text)]
    except (OSError, UnicodeDecodeError, LitmlError):
        return None
    if not (notebooks and 1 <= line <= text.count("\n") + 1):
        return None
    if "TYPE_CHECKING" in text:
        from litml.patch import trace_line

        text, line = trace_line(text, line)
    lines = text.split("\n")
    for above in range(line - 1, 0, -1):
        if (match := MARKER.fullmatch(lines[above - 1])) and (
            place := place_in_cell(notebooks, match[1], lines, above, line)
        ):
            return place
    return place_of_import(notebooks, lines[line - 1])


# %% place_in_cell
def place_in_cell(
    notebooks: list[Notebook], name: str, lines: list[str], marker: int, line: int
) -> Location | None:
    """Return the place of a line below the marker of the cell called `name`."""
    first = marker + 1
    while first < line and not lines[first - 1].strip():
        first += 1
    for notebook in notebooks:
        for cell in notebook.cells:
            if cell.id == name:
                body = body_line(cell) + line - first
                return Location(notebook.name, name, body)
    return None


def body_line(cell: Cell) -> int:
    """Return the line of a cell at which its body begins, from 1."""
    head = split_head(cell.source)
    return head.body_line - len(head.magics)


def place_of_import(notebooks: list[Notebook], text: str) -> Location | None:
    """Return the place of a line of the header: in a cell of imports."""
    for notebook in notebooks:
        for cell in notebook.cells:
            lines = cell.source.split("\n")
            if cell.kind == "code" and text.strip() and text in lines:
                return Location(notebook.name, cell.id, lines.index(text) + 1)
    return None
