# Exported from nbs/16d_links.ipynb. Edit either side, then run `litml sync`.
"""Dead links, anchors that are not there, headings out of order, images without a
description: found before a reader does.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from posixpath import dirname, join, normpath
from urllib.parse import unquote, urlsplit

from litml.notebook import Location, suggest
from litml.page import Heading, Link, Remark, Rendered

__all__ = [
    "Outline",
    "ID",
    "make_outline",
    "unescape",
    "is_local",
    "Finding",
    "check_links",
    "MANY",
    "make_finding",
    "check_link",
    "check_headings",
    "pairs",
]


# ## What is known of a page
# %% Outline
@dataclass(frozen=True, slots=True)
class Outline:
    """What can be wrong with a page, and what others can link to."""

    name: str
    notebook: str
    ids: tuple[str, ...] = ()
    headings: tuple[Heading, ...] = ()
    links: tuple[Link, ...] = ()
    remarks: tuple[Remark, ...] = ()


# %% make_outline
ID = re.compile(r"""\sid="([^"]+)\"""")


def make_outline(name: str, notebook: str, rendered: Rendered) -> Outline:
    """Return the outline of a rendered page."""
    ids = tuple(dict.fromkeys(map(unescape, ID.findall(rendered.html))))
    links = tuple(one for one in rendered.links if one.is_image or is_local(one.url))
    return Outline(name, notebook, ids, rendered.headings, links, rendered.remarks)


def unescape(text: str) -> str:
    """Return the value of an attribute."""
    from html import unescape

    return unescape(text)


def is_local(url: str) -> bool:
    """Is it an address on this site?"""
    return not re.match(r"(?:[a-zA-Z][a-zA-Z0-9+.-]*:|//)", url)


# ## Finding what is wrong
# %% Finding
@dataclass(frozen=True, slots=True)
class Finding:
    """Something an author should mend, and where."""

    message: str
    at: Location
    hint: str | None = None

    def __str__(self) -> str:
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{self.message}\n  at {self.at}{hint}"


# %% check_links
def check_links(outlines: Iterable[Outline], files: Iterable[str]) -> list[Finding]:
    """Return what is wrong with the pages of a site; `files` are its other files."""
    pages = {f"{outline.name}.html": outline for outline in outlines}
    ids = {url: frozenset(outline.ids) for url, outline in pages.items()}
    others = frozenset(files)
    found: list[Finding] = []
    for url, outline in pages.items():
        for remark in outline.remarks:
            found.append(make_finding(outline, remark.message, remark.cell))
        found += check_headings(outline)
        for link in outline.links:
            suggests = len(found) < MANY
            found += check_link(outline, link, url, ids, others, suggests)
    return found


MANY = 20  # findings; to look for a name that is nearly right takes a while


def make_finding(
    outline: Outline, message: str, cell: str = "", hint: str | None = None
) -> Finding:
    """Return a finding in a cell of a page's notebook."""
    return Finding(message, Location(outline.notebook, cell or None), hint)


# %% check_link
def check_link(
    outline: Outline,
    link: Link,
    url: str,
    ids: Mapping[str, frozenset[str]],
    others: frozenset[str],
    suggests: bool,
) -> Iterator[Finding]:
    """Yield what is wrong with a link or an image of the page at `url`."""
    if link.is_image and not link.text.strip():
        hint = "say what it shows: `![what it shows](…)`, or `#| fig-alt: …`"
        yield make_finding(outline, "an image without alt text", link.cell, hint)
    if not link.url or not is_local(link.url):
        return
    parts = urlsplit(link.url)
    target = normpath(join(dirname(url), unquote(parts.path))) if parts.path else url
    if target.startswith(".."):
        return  # another version, or whatever else is beside the site
    anchor = unquote(parts.fragment)
    if target in others or f"{target}/index.html" in ids:
        return
    if target not in ids:
        what, name, known = "what", target, frozenset(ids)
    elif anchor and anchor not in ids[target]:
        what, name, known = "a place that", anchor, ids[target]
    else:
        return
    message = f"a link to {what} is not there: {link.url}"
    near = suggest(name, known) if suggests else None
    yield make_finding(outline, message, link.cell, near)


# %% check_headings
def check_headings(outline: Outline) -> list[Finding]:
    """Return the headings that come too deep after the one before."""
    return [
        make_finding(
            outline,
            f"a heading of level {later.level} after one of level {earlier.level}:"
            f" {later.title}",
            hint=f"make it level {earlier.level + 1}: `{'#' * (earlier.level + 1)} …`",
        )
        for earlier, later in pairs(outline.headings)
        if later.level > earlier.level + 1
    ]


def pairs(headings: Sequence[Heading]) -> Iterator[tuple[Heading, Heading]]:
    """Yield each heading with the next one; cards stand wherever they have to."""
    plain = [heading for heading in headings if not heading.is_symbol]
    return pairwise(plain)
