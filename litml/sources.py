# Exported from nbs/16g_sources.ipynb. Edit either side, then run `litml sync`.
"""Which notebooks become pages, what is known of each, and where a name leads."""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from litml.cells import split_head
from litml.docs_settings import DocsSettings
from litml.inventory import Entry, Inventory, Resolver, list_entries
from litml.links import Outline
from litml.navigation import name_pages
from litml.notebook import NotebookError
from litml.page import Heading, Link, Remark, Symbol
from litml.project import Project, default_module, list_notebooks
from litml.store import make_key
from litml.text import parse_source

__all__ = [
    "Source",
    "EXPORTS",
    "list_sources",
    "read_source",
    "make_source",
    "find_module",
    "module_key",
    "Facts",
    "Result",
    "facts_of",
    "result_of",
    "Directory",
    "Shop",
    "Places",
    "Order",
    "page_entry",
    "uses_entry",
    "rendered_entry",
    "twin_entry",
    "search_entry",
]


# ## Notebooks and modules
# %% Source
@dataclass(frozen=True, slots=True)
class Source:
    """A notebook on its way to be a page; `module` is dotted, empty if there is none.

    `path` and `module_file` are from the project's root. `key` changes with the text
    of either.
    """

    path: str
    name: str
    module: str
    module_file: str
    key: str


# %% list_sources
EXPORTS = re.compile(rb"#\s*\|\s*(?:export[is]?|default_exp|exec_doc)\b")


def list_sources(
    project: Project,
    settings: DocsSettings,
    known: Mapping[str, "Facts"] | None = None,
) -> list[Source]:
    """Return the notebooks that pages are made of, in reading order.

    `known` is what the last build found out, by their paths.
    """
    folder = project.notebooks_dir
    paths = {one.relative_to(folder).as_posix(): one for one in list_notebooks(project)}
    kept = [
        path
        for path in paths
        if not any(fnmatch(path, pattern) for pattern in settings.exclude)
    ]
    names = name_pages(kept)
    return [read_source(project, paths[path], names[path], known) for path in kept]


def read_source(
    project: Project,
    path: Path,
    name: str,
    known: Mapping[str, "Facts"] | None = None,
) -> Source:
    """Return a notebook with its module, if that has been exported."""
    try:
        raw = path.read_bytes()
    except OSError:  # which is told when its page is made
        raw = b""
    before = (known or {}).get(project.name_of(path))
    if before and before.module:  # with the same text it has the same module
        _, _, module = before.module.partition(".")
        source = make_source(project, path, name, raw, module)
        if source.key == before.key:
            return source
    module = find_module(project, path, raw) if EXPORTS.search(raw) else ""
    return make_source(project, path, name, raw, module)


def make_source(
    project: Project, path: Path, name: str, raw: bytes, module: str
) -> Source:
    """Return a notebook with a module, which may not be there."""
    parts = module.split(".")
    file = project.package_dir.joinpath(*parts).with_suffix(".py")
    text = file.read_bytes() if module and file.is_file() else b""
    dotted = ".".join([project.package_dir.name, *parts]).removesuffix(".__init__")
    where = project.name_of(path)
    about = (where, name, *((dotted, project.name_of(file)) if text else ("", "")))
    return Source(*about, make_key(*about, raw, text))


def find_module(project: Project, path: Path, raw: bytes) -> str:
    """Return the module that a notebook is for, below the package."""
    if b"default_exp" in raw:
        with suppress(NotebookError):  # which is told where the page is made
            notebook = parse_source(raw, project.name_of(path))
            for cell in notebook.cells:
                for said in split_head(cell.source, notebook.language).directives:
                    if said.name == "default_exp" and cell.kind == "code":
                        return said.value.replace("/", ".")
    return default_module(project, path)


# %% module_key
@cache
def module_key(packages: Path, name: str) -> str:
    """Return the key of a module's text; empty if there is none."""
    path = packages.joinpath(*name.split("."))
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return make_key(file.read_bytes())
    return ""


# ## What is known of a page
# %% Facts
@dataclass(frozen=True, slots=True)
class Facts:
    """What the site, and other pages, have to know of a page.

    `symbols` are qualified names in its module, each with its kind. `needs` are keys
    of the modules that it depends on beside its own.
    """

    key: str
    name: str
    notebook: str
    title: str
    summary: str
    module: str = ""
    symbols: tuple[tuple[str, str], ...] = ()
    needs: Mapping[str, str] = field(default_factory=dict)
    front: Mapping[str, Any] = field(default_factory=dict)


# %% Result
@dataclass(frozen=True, slots=True)
class Result:
    """What is known of a rendered page, beside its text."""

    key: str
    content: str
    asked: Mapping[str, str | None]
    assets: tuple[str, ...]
    outline: Outline


# %% from_tree
def facts_of(tree: Mapping[str, Any]) -> Facts:
    """Read facts back from JSON; raises as any wrong data do."""
    symbols = tuple((name, kind) for name, kind in tree["symbols"])
    return Facts(**{**tree, "symbols": symbols})


def result_of(tree: Mapping[str, Any]) -> Result:
    """Read a result back from JSON; raises as any wrong data do."""
    told = dict(tree["outline"])
    told["ids"] = tuple(told["ids"])
    for name, kind in (("headings", Heading), ("links", Link), ("remarks", Remark)):
        told[name] = tuple(kind(**one) for one in told[name])
    assets = tuple(tree["assets"])
    return Result(**{**tree, "assets": assets, "outline": Outline(**told)})


# ## Where a name leads
# %% Directory
class Directory:
    """The addresses of all symbols, modules and pages, from the site's root.

    `load` gives the inventories of other sites, when one is first asked for.
    """

    def __init__(
        self,
        pages: Iterable[Facts],
        load: Callable[[], Iterable[Inventory]] = tuple,
    ) -> None:
        self.load = load
        self.others: Resolver | None = None
        self.pages: dict[str, str] = {}
        self.modules: dict[str, str] = {}
        self.places: dict[str, str] = {}
        self.symbols: list[Symbol] = []
        for page in pages:
            url = f"{page.name}.html"
            if page.notebook:
                self.pages[page.notebook] = url
            if page.module:
                self.modules.setdefault(page.module, url)
            for name, kind in page.symbols:
                symbol = Symbol(name, page.module, kind)
                self.symbols.append(symbol)
                self.places.setdefault(symbol.path, f"{url}#{name}")
        self.resolver = Resolver(self.places)

    def find(self, name: str, module: str = "") -> str | None:
        """Return the address that a name has on this site, or None."""
        found = self.pages.get(name) or self.modules.get(name)
        return found or self.resolver.find_own(name, module)

    def __call__(self, name: str, module: str = "") -> str | None:
        """Return where a name leads, on this site or on another."""
        if own := self.find(name, module):
            return own
        if self.others is None:
            self.others = Resolver({}, self.load())
        return self.others.find_foreign(name)

    def list_entries(self) -> list[Entry]:
        """Return what other projects may link to."""
        return list_entries(self.places, self.symbols, self.modules)


# ## What is to be done
# %% Shop
@dataclass(frozen=True, slots=True)
class Shop:
    """What all the work of one build has in common.

    `packages` is the folder that the package is in, `source` what stands before a path
    in an address of the repository.
    """

    root: Path
    packages: Path
    store: Path
    out: Path
    flags: tuple[str, ...] = ()
    trusted: bool = False
    source: str = ""

    def url_of(self, path: str) -> str:
        """Return the address of a file in the repository, if there is one."""
        return f"{self.source}/{path}" if self.source and path else ""


# %% Order
Places = tuple[str, ...]  # each an address and a title


@dataclass(frozen=True, slots=True)
class Order:
    """A page to be rendered: `used` are who uses and who tests its symbols."""

    source: Source
    key: str
    used: Mapping[str, tuple[Places, Places]] = field(default_factory=dict)


def page_entry(source: Source) -> str:
    """Return the name under which a page is kept."""
    return f"page {source.path}"


def uses_entry(notebook: str) -> str:
    """Return the name under which it is kept what a page uses."""
    return f"uses {notebook}"


def rendered_entry(notebook: str) -> str:
    """Return the name under which a rendered page is kept in the store."""
    return f"rendered {notebook}"


def twin_entry(notebook: str) -> str:
    """Return the name under which a page's Markdown is kept."""
    return f"twin {notebook}"


def search_entry(notebook: str) -> str:
    """Return the name under which it is kept what is found on a page."""
    return f"search {notebook}"
