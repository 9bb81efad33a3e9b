# Exported from nbs/15k_twins.ipynb. Edit either side, then run `litml sync`.
"""Every page a second time as Markdown, for those who read text: assistants,
scripts, people in a terminal.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from litml.cards import card_markdown
from litml.outputs import OBJECT, join, settle_lines
from litml.page import ApiCard, Block, Callout, Code, Page, Prose, Shown
from litml.prose import has_parts, mask_code
from litml.safe import SUFFIXES, asset_name, decode, place

__all__ = [
    "fence",
    "LONG",
    "COLOURS",
    "output_markdown",
    "text_markdown",
    "callout_markdown",
    "LINK",
    "settle_links",
    "attach",
    "prose_markdown",
    "page_markdown",
    "block_markdown",
    "llms_txt",
    "llms_full",
]


# ## Blocks
# %% fence
def fence(text: str, language: str) -> str:
    """Return text as a fenced block; the fence is longer than any inside."""
    inside = [len(run) for run in re.findall(r"`{3,}", text)]
    marks = "`" * max([2, *inside], default=2) + "`"
    return f"{marks}{language}\n{text}\n{marks}"


# %% output_markdown
LONG = 4000  # characters of one output
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def output_markdown(shown: Shown, up: str = "") -> str:
    """Return an output as Markdown; nothing if it cannot be told in text.

    `up` leads from the page's folder to the site's root.
    """
    output = shown.output
    if output.get("output_type") == "error":
        return fence(
            f"{join(output.get('ename'))}: {join(output.get('evalue'))}", "text"
        )
    found = output.get("data")
    data: dict[str, Any] = found if isinstance(found, dict) else {}
    for kind, suffix in SUFFIXES.items():
        image = decode(data.get(kind)) if kind != "image/svg+xml" else None
        if kind in data and image and kind.startswith("image/"):
            alt = shown.alt or shown.caption or "Plot"
            return f"![{alt}]({up}{asset_name(image, suffix)})"
    if markdown := join(data.get("text/markdown", "")).strip():
        return markdown
    return text_markdown(join(output.get("text", data.get("text/plain", ""))))


def text_markdown(text: str) -> str:
    """Return text for a terminal as Markdown, in its beginning if it is long."""
    text = COLOURS.sub("", settle_lines(text))
    if not text.strip() or OBJECT.fullmatch(text):
        return ""
    return fence(text if len(text) <= LONG else f"{text[:LONG]}\n…", "text")


# %% callout_markdown
def callout_markdown(callout: Callout) -> str:
    """Return a callout as a quotation, in the form that GitHub shows as a box."""
    title = [f"**{callout.title}**", ""] if callout.title else []
    lines = [f"[!{callout.kind.upper()}]", *title, *callout.source.split("\n")]
    return "\n".join(f"> {line}".rstrip() for line in lines)


LINK = re.compile(r"(\]\(<?)([^)\s>]+)")


def settle_links(markdown: str, page: Page, asked: Mapping[str, str | None]) -> str:
    """Return Markdown with its links to notebooks and images as the site has them.

    `asked` is what rendering the page has asked, with the answers.
    """
    up = "../" * page.name.count("/")

    def settle(match: re.Match[str]) -> str:
        path, mark, anchor = match[2].partition("#")
        target = place(path, page) if path else ""
        found = asked.get(target) or asked.get(f"file:{target}")
        if not found:
            return match[0]
        up_here = "" if re.match(r"[a-z]+:", found) else up
        return f"{match[1]}{up_here}{re.sub(r'[.]html$', '.md', found)}{mark}{anchor}"

    return LINK.sub(settle, markdown)


def attach(markdown: str, attachments: Mapping[str, Any], up: str) -> str:
    """Return Markdown with the images of its cell as files of the site."""
    for name, bundle in attachments.items():
        for kind in SUFFIXES if isinstance(bundle, dict) else ():
            if image := decode(bundle[kind]) if kind in bundle else None:
                url = up + asset_name(image, SUFFIXES[kind])
                markdown = markdown.replace(f"attachment:{quote(name)}", url)
                markdown = markdown.replace(f"attachment:{name}", url)
    return markdown


def prose_markdown(source: str, shift: int = 0) -> str:
    """Return prose, its headings `shift` levels deeper, without fences of colons."""
    kept, lines = [], source.split("\n")
    for line, masked in zip(lines, mask_code(lines), strict=True):
        if not masked.startswith(":::"):
            is_heading = re.match(r"#{1,5} ", masked)
            kept.append("#" * shift + line if is_heading else line)
    return "\n".join(kept).strip("\n")


# ## A twin
# %% page_markdown
def page_markdown(page: Page, asked: Mapping[str, str | None]) -> str:
    """Return a page as Markdown; links lead where they did when it was rendered."""
    parts = [f"# {page.title}", f"> {page.summary}" if page.summary else ""]
    if page.module:
        parts.append(f"Module `{page.module}`, notebook `{page.notebook}`.")
    up = "../" * page.name.count("/")
    shift = int(has_parts(one.source for one in page.blocks if isinstance(one, Prose)))
    seen: set[str] = set()
    for block in page.blocks:
        text = block_markdown(block, up, shift, seen)
        if isinstance(block, Prose | Callout):
            text = settle_links(attach(text, block.attachments, up), page, asked)
        parts.append(text)
    return "\n\n".join(part for part in parts if part) + "\n"


def block_markdown(block: Block, up: str, shift: int, seen: set[str]) -> str:
    """Return one block as Markdown; `seen` are the symbols that have had their card."""
    match block:
        case Prose():
            return prose_markdown(block.source, shift)
        case Callout():
            return callout_markdown(block)
        case Code():
            return "" if block.folded else fence(block.source, block.language)
        case Shown():
            return output_markdown(block, up)
        case ApiCard():
            is_new = block.symbol.name not in seen
            seen.add(block.symbol.name)
            return card_markdown(block.symbol, 3 + shift).strip() if is_new else ""


# ## Lists for assistants
# %% llms_txt
def llms_txt(
    title: str, summary: str, sections: Mapping[str, Sequence[Page]], url: str = ""
) -> str:
    """Return `llms.txt`: the pages of each section, with a line about each.

    `url` is where the site is; without it, links are relative.
    """
    parts = [f"# {title}", f"> {summary}" if summary else ""]
    base = f"{url.rstrip('/')}/" if url else ""
    for name, pages in sections.items():
        lines = [
            f"- [{page.title}]({base}{page.name}.md)"
            + (f": {page.summary}" if page.summary else "")
            for page in pages
        ]
        parts.append("\n".join([f"## {name}", "", *lines]))
    return "\n\n".join(part for part in parts if part) + "\n"


def llms_full(title: str, summary: str, twins: Iterable[str]) -> Iterator[str]:
    """Yield `llms-full.txt` in pieces: a head, then every twin."""
    yield f"# {title}\n\n" + (f"> {summary}\n\n" if summary else "")
    for twin in twins:
        yield f"---\n\n{twin}\n"
