# Exported from nbs/15j_render.ipynb. Edit either side, then run `litml sync`.
"""A page as HTML: what stands inside `<main>`, and what the site has to know of it."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from html import escape, unescape
from itertools import groupby
from urllib.parse import unquote

from litml.cards import render_card
from litml.highlight import code_block
from litml.outputs import fold, render_output
from litml.page import (
    ApiCard,
    Block,
    Callout,
    Code,
    Heading,
    Link,
    Page,
    Prose,
    Rendered,
    Section,
    Shown,
    Symbol,
)
from litml.prose import (
    find_definitions,
    has_parts,
    plain_text,
    render_callout,
    render_inline,
    render_prose,
    slug,
)
from litml.safe import Context, Reader, Resolver

__all__ = [
    "render_code",
    "Sources",
    "render_symbol",
    "render_doc",
    "HEADING",
    "ROLE",
    "DOCTEST",
    "fence_doctests",
    "find_targets",
    "write_targets",
    "block_cell",
    "is_code",
    "MOST",
    "split_sections",
    "find_anchor",
    "repair_anchors",
    "render_block",
    "RESERVED",
    "no_file",
    "render_page",
    "write_blocks",
    "write_head",
    "wrap_cell",
    "is_searched",
    "unique_cards",
]


# ## Code
# %% render_code
def render_code(code: Code, context: Context) -> str:
    """Return code as HTML, folded if it is to be."""
    html = code_block(code.source, code.language)
    if code.caption:
        caption = render_inline(code.caption, context)
        below = f"<figcaption>{caption}</figcaption>"
        html = f'<figure class="listing">{html}{below}</figure>\n'
    return fold("code", html, code, context)


# ## Cards
# %% render_symbol
@dataclass(frozen=True, slots=True)
class Sources:
    """Where the source is to be seen: URLs of the module's file and of the notebook."""

    module: str = ""
    notebook: str = ""


def render_symbol(card: ApiCard, context: Context, sources: Sources) -> str:
    """Return the card of a symbol as HTML."""
    symbol = card.symbol
    last = context.headings[-1].level if context.headings else 1
    titles = [one.level for one in context.headings if not one.is_symbol] or [1]
    level = min(3 + context.shift, titles[-1] + 1) + ("." in symbol.name)
    level = min(level, last + 1)
    context.headings.append(Heading(level, symbol.name, symbol.name, is_symbol=True))
    card = replace(
        card,
        used_in=tuple(map(context.from_here, card.used_in)),
        tested_by=tuple(map(context.from_here, card.tested_by)),
    )
    return render_card(
        card,
        context.find,
        sources.module,
        prose=lambda text: render_doc(text, context),
        level=level,
        notebook_url=sources.notebook,
    )


def render_doc(doc: str, context: Context) -> str:
    """Return a docstring as HTML. Its headings are not among those of the page."""
    before = len(context.headings)
    html = render_prose(fence_doctests(ROLE.sub(r"`\1`", doc)), context)
    del context.headings[before:]
    return HEADING.sub(r'<p class="doc-heading">\2</p>', html)


HEADING = re.compile(
    r'<h[1-6] id="([^"]*)">(.*?)(?:<a class="anchor"[^>]*>#</a>)?</h[1-6]>', re.DOTALL
)
ROLE = re.compile(r":(?:\w+:)?(?:attr|class|data|exc|func|meth|mod|obj):`~?([^`]+)`")
DOCTEST = re.compile(r"^(?P<indent>[ \t]*)>>> .*(?:\n(?P=indent)\S.*)*", re.MULTILINE)


def fence_doctests(doc: str) -> str:
    """Return a docstring with its sessions of Python fenced as code."""

    def fence(match: re.Match[str]) -> str:
        indent = match["indent"]
        lines = match[0].split("\n")
        inner = "\n".join(line.removeprefix(indent) for line in lines)
        return f"\n```pycon\n{inner}\n```\n"

    return DOCTEST.sub(fence, doc) if ">>> " in doc and "```" not in doc else doc


# %% write_targets
def find_targets(page: Page) -> dict[str, list[Symbol]]:
    """Return the symbols without a card by the cell that they link to, or ``""``."""
    cards = {one.symbol.name for one in page.blocks if isinstance(one, ApiCard)}
    shown = {block_cell(block) for block in page.blocks if is_code(block)}
    targets: dict[str, list[Symbol]] = {}
    for symbol in page.symbols:
        if symbol.name not in cards:
            cell = symbol.cell if symbol.cell in shown else ""
            targets.setdefault(cell, []).append(symbol)
    return targets


def write_targets(symbols: Iterable[Symbol]) -> str:
    """Return empty elements that links to some symbols lead to."""
    ids = dict.fromkeys(symbol.name for symbol in symbols)
    return "".join(f'<span class="target" id="{escape(id)}"></span>' for id in ids)


def block_cell(block: Block) -> str:
    """Return the cell that a block is of."""
    return block.symbol.cell if isinstance(block, ApiCard) else block.cell


def is_code(block: Block) -> bool:
    """Is a block of a code cell?"""
    return isinstance(block, ApiCard | Code | Shown)


# ## What search finds
# %% split_sections
MOST = 4000  # characters of a section


def split_sections(
    page: Page, headings: Iterable[Heading], texts: Iterable[str]
) -> Iterator[Section]:
    """Yield the sections of a page, given the HTML of what is to be found."""
    parts = ["", "", *HEADING.split("\n".join(texts))]
    heads = {heading.id: heading for heading in headings}
    for id, part in zip(parts[::3], parts[2::3], strict=True):
        head = heads.get(unescape(id)) or Heading(1, page.title, "")
        text = plain_text(re.sub(r"<math\b.*?</math>", " ", part, flags=re.DOTALL))
        text = text if head.id else f"{page.summary} {text}"
        yield Section(head.id, head.title, text[:MOST].strip(), head.is_symbol)


# ## Anchors
# %% find_anchor
def find_anchor(wanted: str, known: Collection[str]) -> str:
    """Return the id that a link to `#wanted` means, of those of the page."""
    if wanted in known:
        return wanted
    meant = slug(unquote(wanted).replace("-", " "))
    return meant if meant in known else wanted


def repair_anchors(html: str, context: Context) -> tuple[str, tuple[Link, ...]]:
    """Return HTML and its links, with those inside the page leading to its ids."""

    def repair(match: re.Match[str]) -> str:
        anchor = find_anchor(unescape(match[1]), context.ids)
        return f'href="#{escape(anchor)}"'

    links = [
        replace(link, url="#" + find_anchor(link.url[1:], context.ids))
        if link.url.startswith("#")
        else link
        for link in context.links
    ]
    return re.sub(r'href="#([^"]*)"', repair, html), tuple(links)


# ## A page
# %% render_block
def render_block(block: Block, context: Context, sources: Sources) -> str:
    """Return one block as HTML."""
    context.cell, context.attachments = block_cell(block), {}
    if isinstance(block, Prose | Callout):
        context.attachments = block.attachments
    match block:
        case Prose():
            return render_prose(block.source, context)
        case Callout():
            return render_callout(block, context)
        case Code():
            return render_code(block, context)
        case Shown():
            return render_output(block, context)
        case ApiCard():
            return render_symbol(block, context, sources)


# %% render_page
RESERVED = frozenset("main nav overview-title results search toc toc-title".split())


def no_file(path: str) -> None:
    """Read nothing: the reader of a page that has no project around it."""


def render_page(
    page: Page,
    resolve: Resolver,
    assets: dict[str, bytes],
    *,
    read: Reader = no_file,
    trusted: bool = False,
    sources: Sources = Sources(),
) -> Rendered:
    """Return a page as HTML; the files it needs are added to `assets`.

    `resolve` tells where a name or a notebook is documented, `read` what is in a file
    of the project. Raises `PageError` with the cell that cannot be rendered.
    """
    context = Context(page, resolve, read, assets, trusted)
    context.ids |= RESERVED | {symbol.name for symbol in page.symbols}
    prose = [one.source for one in page.blocks if isinstance(one, Prose | Callout)]
    context.definitions = find_definitions(prose)
    context.shift = int(has_parts(prose))
    html, texts = write_blocks(page, context, sources)
    main, links = repair_anchors(html, context)
    return Rendered(
        main,
        tuple(context.headings),
        links,
        tuple(split_sections(page, context.headings, texts)),
        tuple(context.remarks),
        context.asked,
    )


def write_blocks(
    page: Page, context: Context, sources: Sources
) -> tuple[str, list[str]]:
    """Return a page as HTML, and the HTML of those blocks that search looks at."""
    targets = find_targets(page)
    html, texts = [write_head(page), write_targets(targets.pop("", ()))], []
    cells = groupby(unique_cards(page.blocks), lambda b: (block_cell(b), is_code(b)))
    for (cell, is_cell), group in cells:
        done = [(block, render_block(block, context, sources)) for block in group]
        texts += [one for block, one in done if is_searched(block)]
        inner = "".join(one for _, one in done)
        html.append(wrap_cell(inner, cell, targets) if is_cell else inner)
    return "".join(html), texts


# %% write_head
def write_head(page: Page) -> str:
    """Return the title of a page and its summary."""
    summary = f'<p class="summary">{escape(page.summary)}</p>\n' if page.summary else ""
    title = f"<h1>{escape(page.title)}</h1>"
    return f'<header class="page-head">\n{title}\n{summary}</header>\n'


def wrap_cell(html: str, cell: str, targets: Mapping[str, Iterable[Symbol]]) -> str:
    """Return the blocks of a code cell in their element."""
    before = write_targets(targets.get(cell, ()))
    return f'<div class="cell" id="cell-{escape(cell)}">\n{before}{html}</div>\n'


def is_searched(block: Block) -> bool:
    """Does a search find the text of a block?"""
    is_folded = isinstance(block, Code) and (block.folded or block.exported)
    return not isinstance(block, Shown) and not is_folded


def unique_cards(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks, but no card a second time."""
    seen = set()
    for block in blocks:
        if isinstance(block, ApiCard):
            if block.symbol.name in seen:
                continue
            seen.add(block.symbol.name)
        yield block
