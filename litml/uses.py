# Exported from nbs/05c_uses.ipynb. Edit either side, then run `litml sync`.
"""Find where a name that has gone from a module is still used, and rename it there."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from litml.cells import parse_code
from litml.notebook import Cell, Location, Notebook

__all__ = [
    "Gone",
    "find_uses",
    "used_names",
    "find_doors",
    "rename_uses",
    "rename_code",
    "rename_prose",
]


# %% Gone
@dataclass(frozen=True, slots=True)
class Gone:
    """Names that a module no longer has, with what each was renamed to, or nothing.

    `module` is its dotted name, `notebooks` are those that contribute to it, and
    `cells` the notebook and id of each of its own. `doors` are packages that hand the
    names on.
    """

    module: str
    names: Mapping[str, str]
    notebooks: frozenset[str]
    cells: frozenset[tuple[str, str]]
    doors: frozenset[str] = frozenset()

    @property
    def stem(self) -> str:
        """The last part of the module's name, by which attributes are known."""
        return self.module.removesuffix(".__init__").rpartition(".")[2]


# %% find_uses
def find_uses(gone: Gone, notebook: Notebook) -> dict[str, list[Location]]:
    """Return the places at which a notebook uses each name that has gone."""
    found: dict[str, list[Location]] = {}
    names = seen_names(gone, notebook)
    for cell in notebook.cells:
        if (notebook.name, cell.id) not in gone.cells:
            for name in sorted(used_names(cell, gone, names)):
                found.setdefault(name, []).append(Location(notebook.name, cell.id))
    return found


def used_names(cell: Cell, gone: Gone, names: set[str]) -> set[str]:
    """Return which of the names a cell uses."""
    if cell.kind != "code":
        spans = re.findall(r"`[^`\n]+`", cell.source)
        return names & {word for span in spans for word in re.findall(r"\w+", span)}
    tree = parse_cell(cell.source)
    if tree is None:
        return names & set(re.findall(r"\w+", cell.source))
    return {name for _, _, name in find_names(tree, gone, names)}


# %% seen_names
def seen_names(gone: Gone, notebook: Notebook) -> set[str]:
    """Return which of the names code of a notebook can use as they are."""
    names = set(gone.names)
    if notebook.name in gone.notebooks:
        return names
    imported: set[str] = set()
    for cell in notebook.cells:
        words = {gone.stem, *gone.doors}
        is_relevant = cell.kind == "code" and any(one in cell.source for one in words)
        for node in (
            ast.walk(parse_cell(cell.source) or ast.Module([], []))
            if is_relevant
            else ()
        ):
            if isinstance(node, ast.ImportFrom) and is_module(node.module, gone):
                plain = {one.name for one in node.names if not one.asname}
                imported |= names if "*" in plain else plain
    return names & imported


def is_module(name: str | None, gone: Gone) -> bool:
    """Is it how an import calls the module, or a package that hands its names on?"""
    return name in gone.doors or (name or "").rpartition(".")[2] == gone.stem


def parse_cell(source: str) -> ast.Module | None:
    """Parse a cell with its magics left out; None if it is not Python."""
    try:
        return parse_code(re.sub(r"(?m)^[ \t]*[%!].*$", "", source))
    except (SyntaxError, ValueError):
        return None


# %% find_doors
def find_doors(module: str, names: Mapping[str, str], root: Path) -> frozenset[str]:
    """Return the packages above a module that import any of the names from it."""
    parts, doors = module.removesuffix(".__init__").split("."), set()
    known = {*names, *names.values(), "*"}
    for count in range(1, len(parts)):
        file = root.joinpath(*parts[:count], "__init__.py")
        text = file.read_text("utf-8", "replace") if file.is_file() else ""
        within = (".".join(parts), f".{'.'.join(parts[count:])}")
        for node in ast.walk(parse_cell(text) or ast.Module([], [])):
            if isinstance(node, ast.ImportFrom):
                called = f"{'.' * node.level}{node.module or ''}"
                if called in within and known & {one.name for one in node.names}:
                    doors.add(".".join(parts[:count]))
    return frozenset(doors)


# %% find_names
def find_names(
    tree: ast.Module, gone: Gone, seen: set[str]
) -> Iterator[tuple[int, int, str]]:
    """Yield line, byte and name of every use of the names; `seen` are plain ones."""
    own = seen - bound_anywhere(tree, gone)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in own:
            yield node.lineno, node.col_offset, node.id
        elif isinstance(node, ast.ImportFrom) and is_module(node.module, gone):
            for alias in node.names:
                if alias.name in gone.names:
                    yield alias.lineno, alias.col_offset, alias.name
        elif isinstance(node, ast.Attribute) and node.attr in gone.names:
            value = node.value
            above = getattr(value, "attr", getattr(value, "id", None))
            if (
                above in {gone.stem, *gone.doors}
                and node.end_lineno
                and node.end_col_offset
            ):
                size = len(node.attr.encode())
                yield node.end_lineno, node.end_col_offset - size, node.attr


def bound_anywhere(tree: ast.Module, gone: Gone) -> set[str]:
    """Return the names that some code binds, at whatever depth, by itself."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom) and is_module(node.module, gone):
            found |= {one.asname for one in node.names if one.asname}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {one.asname or one.name for one in node.names}
    return found


# %% rename_uses
def rename_uses(gone: Gone, notebook: Notebook) -> Iterator[tuple[Cell, str]]:
    """Yield each cell that uses a renamed name, with its source as it should be."""
    renamed = {old: new for old, new in gone.names.items() if new}
    names = seen_names(gone, notebook) & renamed.keys()
    for cell in notebook.cells:
        if (notebook.name, cell.id) in gone.cells:
            continue
        if cell.kind == "code":
            source = rename_code(cell.source, gone, names)
        else:
            source = rename_prose(cell.source, {name: renamed[name] for name in names})
        if source != cell.source:
            yield cell, source


def rename_code(source: str, gone: Gone, seen: set[str]) -> str:
    """Replace names in code; what is not Python is left alone."""
    tree = parse_cell(source)
    lines = [line.encode() for line in source.split("\n")]
    found = set(find_names(tree, gone, seen)) if tree else ()
    for row, start, name in sorted(found, reverse=True):
        line, old, new = lines[row - 1], name.encode(), gone.names[name].encode()
        if new and line[start : start + len(old)] == old:  # not so in all f-strings
            lines[row - 1] = line[:start] + new + line[start + len(old) :]
    return b"\n".join(lines).decode()


def rename_prose(source: str, names: Mapping[str, str]) -> str:
    """Replace names that stand alone between backticks."""
    return re.sub(
        r"`(\w+)(\(\))?`", lambda m: f"`{names.get(m[1], m[1])}{m[2] or ''}`", source
    )
