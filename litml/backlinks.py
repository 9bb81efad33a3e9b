# Exported from nbs/15g_backlinks.ipynb. Edit either side, then run `litml sync`.
"""Who uses a thing, and who tests it: found from the names that cells use."""

import ast
import warnings
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from litml.page import Code, Page, Prose

__all__ = [
    "CellUses",
    "PageUses",
    "read_uses",
    "uses_from_json",
    "Places",
    "MANY",
    "link_uses",
    "note_use",
    "find_paths",
    "find_methods",
]


# ## The names in a cell
# %% list_names
def parse(source: str) -> ast.Module | None:
    """Parse a cell; None for one that is not Python, as one with magics."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


def list_names(nodes: Iterable[ast.AST]) -> list[str]:
    """Return the dotted names that code uses, each once; `nodes` are all of it."""
    return list(dict.fromkeys(filter(None, map(dotted, nodes))))


def dotted(node: ast.AST) -> str:
    """Return a name or a chain of attributes; `.x` is an attribute of something."""
    if isinstance(node, ast.Name):
        return node.id if isinstance(node.ctx, ast.Load) else ""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


# %% is_test
def is_test(nodes: Iterable[ast.AST]) -> bool:
    """Does a cell check what it runs?"""
    for node in nodes:
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = dotted(node.func).rpartition(".")[2]
            if name.startswith("test") or name in ("raises", "expect_fail"):
                return True
    return False


# ## A page
# %% read_uses
class CellUses(NamedTuple):
    """The names that a cell uses. `kind` is `code`, `example` or `test`."""

    cell: str
    kind: str
    heading: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PageUses:
    """What a page uses; `imports` are names with their paths, `stars` modules."""

    name: str
    title: str
    module: str = ""
    symbols: tuple[str, ...] = ()
    imports: Mapping[str, str] = field(default_factory=dict)
    stars: tuple[str, ...] = ()
    cells: tuple[CellUses, ...] = ()


def read_uses(page: Page) -> PageUses:
    """Return what the cells of a page use."""
    imports: dict[str, str] = {}
    stars: list[str] = []
    cells = []
    heading = ""
    for block in page.blocks:
        if isinstance(block, Prose):
            heading = last_heading(block.source) or heading
        elif isinstance(block, Code) and (tree := parse(block.source)):
            nodes = list(ast.walk(tree))
            for name, path in list_imports(nodes, page.module):
                stars += [path] if name == "*" else []
                imports |= {name: path} if name != "*" else {}
            kind = "code" if block.exported else "test" if is_test(nodes) else "example"
            cells.append(CellUses(block.cell, kind, heading, tuple(list_names(nodes))))
    symbols = tuple(one.name for one in page.symbols)
    return PageUses(
        page.name,
        page.title,
        page.module,
        symbols,
        imports,
        tuple(dict.fromkeys(stars)),
        tuple(cells),
    )


def uses_from_json(tree: Mapping[str, Any]) -> PageUses:
    """Read a page's uses back from JSON."""
    cells = tuple(
        CellUses(cell, kind, heading, tuple(names))
        for cell, kind, heading, names in tree["cells"]
    )
    lists = {key: tuple(tree[key]) for key in ("symbols", "stars")}
    return PageUses(**{**tree, **lists, "cells": cells})


# %% last_heading
def last_heading(source: str) -> str:
    """Return the last heading in some Markdown, without its marks."""
    lines = [line for line in source.split("\n") if line.startswith("#")]
    return lines[-1].strip("# ").replace("`", "") if lines else ""


def list_imports(nodes: Iterable[ast.AST], module: str) -> Iterator[tuple[str, str]]:
    """Yield the names that imports bind, with their paths; a star for everything."""
    for node in nodes:
        if isinstance(node, ast.Import):
            for one in node.names:
                top = one.name.partition(".")[0]
                yield (one.asname, one.name) if one.asname else (top, top)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            path = ".".join([*above, *([node.module] if node.module else [])])
            for one in node.names:
                name = one.asname or one.name
                yield name, path if name == "*" else f"{path}.{one.name}"


# ## The site
# %% link_uses
Places = tuple[str, ...]  # each an address and a title
MANY = 8  # places that a card names of a kind


def link_uses(pages: Iterable[PageUses]) -> dict[str, dict[str, tuple[Places, Places]]]:
    """Return, by module and name, the places that use and that test each symbol."""
    pages = sorted(pages, key=lambda page: page.name)
    owners = {f"{one.module}.{name}": one for one in pages for name in one.symbols}
    known = {path: path for path in owners} | {
        f"{page.module}.{name}": path  # passed on, as by a package's `__init__`
        for page in pages
        for name, path in page.imports.items()
        if path in owners and f"{page.module}.{name}" not in owners
    }
    bound = {name.partition(".")[0] for one in pages for name in one.symbols}
    bound |= {name for one in pages for name in one.imports}
    found: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
    for page in pages:
        paths = find_paths(page, known, bound)
        for cell in page.cells:
            for path in dict.fromkeys(paths[n] for n in cell.names if n in paths):
                note_use(found.setdefault(path, ({}, {})), cell, page, owners[path])
    linked: dict[str, dict[str, tuple[Places, Places]]] = {}
    for path, (used, tested) in found.items():
        module = owners[path].module
        places = tuple([*used.values()][:MANY]), tuple([*tested.values()][:MANY])
        if any(places):
            linked.setdefault(module, {})[path.removeprefix(f"{module}.")] = places
    return linked


def note_use(
    places: tuple[dict[str, str], dict[str, str]],
    cell: CellUses,
    page: PageUses,
    owner: PageUses,
) -> None:
    """Note a use, or a test, of something; its own page comes first."""
    used, tested = places
    title = cell.heading if page is owner and cell.heading else page.title
    place = f"{page.name}.html#cell-{cell.cell} {title}"
    if cell.kind == "test" and page is owner and page.name not in tested:
        others = [*tested.items()]
        tested.clear()
        tested.update([(page.name, place), *others])
    elif cell.kind == "test":
        tested.setdefault(page.name, place)
    elif page is not owner:
        used.setdefault(page.name, place)


def find_paths(
    page: PageUses, known: Mapping[str, str], bound: Container[str]
) -> dict[str, str]:
    """Return the names on a page that stand for known symbols, with their paths.

    Only names that are `bound` in some module can come from one by a star.
    """
    methods = find_methods(page)
    found = {}
    for name in {name for cell in page.cells for name in cell.names}:
        first, dot, rest = name.partition(".")
        starts = [page.imports.get(first, f"{page.module}.{first}")]
        if first in bound:
            starts += [f"{star}.{first}" for star in page.stars]
        paths = [f"{start}{dot}{rest}" for start in starts]
        paths += [methods.get(rest.rpartition(".")[2], "")] if dot else []
        if path := next((known[one] for one in paths if one in known), ""):
            found[name] = path
    return found


def find_methods(page: PageUses) -> dict[str, str]:
    """Return the paths of those methods in the page's module that share no name."""
    found: dict[str, list[str]] = {}
    for one in page.symbols:
        owner, _, name = one.rpartition(".")
        if owner:
            found.setdefault(name, []).append(f"{page.module}.{one}")
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}
