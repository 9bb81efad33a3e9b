# Exported from nbs/16h_workshop.ipynb. Edit either side, then run `litml sync`.
"""The work on one page: make it of a notebook, render it with its links. Many can be
done at a time.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import griffe

from litml.backlinks import read_uses
from litml.cards import glance
from litml.files import replace_file
from litml.library import Library
from litml.links import make_outline
from litml.notebook import Location
from litml.page import ApiCard, Block, Code, Page, PageError, from_json, to_json
from litml.pages import make_page, plain
from litml.render import Sources, render_page
from litml.safe import read_inside
from litml.search import index_page
from litml.sources import (
    Directory,
    Facts,
    Order,
    Places,
    Result,
    Shop,
    Source,
    module_key,
    page_entry,
    rendered_entry,
    search_entry,
    twin_entry,
    uses_entry,
)
from litml.store import Store, make_key
from litml.text import parse_source
from litml.twins import page_markdown

__all__ = [
    "MOST",
    "Watched",
    "LIBRARIES",
    "open_library",
    "make_one",
    "fetch_page",
    "is_aside",
    "add_uses",
    "SUMMARY",
    "LINK",
    "EMPTY",
    "smooth",
    "render_one",
]


# ## Making a page
# %% open_library
MOST = 250  # modules in memory


class Watched(Library):
    """A library that knows which modules were asked for."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: set[str] = set()

    def open(self, name: str) -> griffe.Module | None:
        """Return a module by its name, and note the name."""
        self.asked.add(name)
        return super().open(name)


LIBRARIES: dict[Path, Watched] = {}


def open_library(packages: Path) -> Watched:
    """Return this process's library of a folder, ready for the next page."""
    library = LIBRARIES.get(packages)
    if library is None or len(library.visited) > MOST:
        library = LIBRARIES[packages] = Watched(packages)
    library.asked.clear()
    return library


# %% make_one
def make_one(source: Source, shop: Shop) -> Facts:
    """Make the page of a notebook and keep it; return what others need of it.

    Raises `PageError`, or another `LitmlError`, at what is wrong.
    """
    library = open_library(shop.packages)
    file = shop.root / source.module_file
    text = file.read_text("utf-8", errors="replace") if source.module else ""
    page = make_page(
        parse_source((shop.root / source.path).read_bytes(), source.path),
        source.name,
        source.module,
        text,
        shop.flags,
        library=library,
        module_file=source.module_file,
    )
    needs = sorted(library.asked - {source.module})
    store = Store(shop.store)
    store.write(page_entry(source), source.key, to_json(page))
    store.write(uses_entry(source.path), source.key, read_uses(page))
    return Facts(
        source.key,
        page.name,
        page.notebook,
        page.title,
        plain(page.summary),
        page.module,
        tuple({symbol.name: symbol.kind for symbol in page.symbols}.items()),
        needs={name: module_key(shop.packages, name) for name in needs},
        front=page.front,
    )


# ## Rendering a page
# %% fetch_page
def fetch_page(source: Source, shop: Shop) -> Page:
    """Return the page of a notebook, from the store if it is there."""
    store = Store(shop.store)
    for _ in range(2):
        tree = store.read(page_entry(source), source.key)
        try:
            if tree is not None:
                return from_json(tree)
        except PageError:
            pass
        make_one(source, shop)
    at = Location(source.path)
    raise PageError("the page cannot be kept: is the disk full?", at=at)


def is_aside(block: Block, page: Page) -> bool:
    """Is it a part of the package on the front page, which is no place for it?"""
    exported = isinstance(block, Code) and block.exported
    return page.name == "index" and (exported or isinstance(block, ApiCard))


def add_uses(block: Block, used: Mapping[str, tuple[Places, Places]]) -> Block:
    """Return a block; a card with the places that use and test its symbol."""
    if not isinstance(block, ApiCard) or block.symbol.name not in used:
        return block
    used_in, tested_by = used[block.symbol.name]
    return replace(block, used_in=used_in, tested_by=tested_by)


# %% smooth
SUMMARY = re.compile(r"<summary>.*?</summary>", re.DOTALL)
LINK = re.compile(r"</?a\b[^>]*>")
EMPTY = re.compile(r"<th\b[^>]*>\s*</th>")


def smooth(html: str) -> str:
    """Return a page without links in controls, and without empty headings."""
    html = SUMMARY.sub(lambda found: LINK.sub("", found[0]), html)
    return EMPTY.sub("<td></td>", html)


# %% render_one
def render_one(order: Order, shop: Shop, directory: Directory) -> Result:
    """Render a page and keep it; return what the site needs to know of it.

    Raises `PageError` at what cannot be rendered.
    """
    page = fetch_page(order.source, shop)
    shown = (block for block in page.blocks if not is_aside(block, page))
    blocks = tuple(add_uses(block, order.used) for block in shown)
    assets: dict[str, bytes] = {}
    rendered = render_page(
        replace(page, blocks=blocks, summary=plain(page.summary)),
        directory,
        assets,
        read=read_inside(shop.root),
        trusted=shop.trusted,
        sources=Sources(shop.url_of(page.module_file), shop.url_of(page.notebook)),
    )
    for name, data in assets.items():
        if not (shop.out / name).is_file():
            replace_file(shop.out / name, data)
    entries = index_page(f"{page.name}.html", page.title, rendered.texts)
    html, markdown = smooth(rendered.html), page_markdown(page, rendered.asked)
    content = make_key(html, markdown, repr(entries), repr(page.symbols))
    glances = {symbol.name: glance(symbol).split("\n", 1) for symbol in page.symbols}
    store, path = Store(shop.store), order.source.path
    store.write(rendered_entry(path), content, {"html": html, "glances": glances})
    store.write(twin_entry(path), content, markdown)
    store.write(search_entry(path), content, entries)
    outline = make_outline(page.name, path, rendered)
    return Result(order.key, content, rendered.asked, tuple(assets), outline)
