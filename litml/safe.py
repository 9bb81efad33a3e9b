# Exported from nbs/15a_safe.ipynb. Edit either side, then run `litml sync`.
"""HTML from anybody made harmless, and its links and images settled."""

import base64
import binascii
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import blake2b
from html import escape, unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from litml.formula import ATTRIBUTES, TAGS
from litml.page import Heading, Link, Page, Remark

__all__ = [
    "Resolver",
    "Reader",
    "answer",
    "asset_name",
    "MEDIA",
    "read_inside",
    "Context",
    "DEEPEST",
    "TAG",
    "ALONE",
    "is_too_deep",
    "STYLES",
    "MORE_TAGS",
    "COMMON",
    "cleaner",
    "sanitize",
    "image_size",
    "SUFFIXES",
    "decode",
    "SVG",
    "XLINK",
    "RUNS",
    "OUTSIDE",
    "clean_drawing",
    "is_drawn",
    "is_plain",
    "ATTACHMENT",
    "DATA",
    "find_media",
    "keep",
    "place",
    "ELEMENT",
    "ATTRIBUTE",
    "NEAR",
    "settle",
    "write_tag",
    "settle_link",
    "find_page",
    "settle_media",
    "link_media",
    "wrap_tables",
]


# ## What a page may ask
# %% Resolver
Resolver = Callable[
    [str, str], str | None
]  # (name or path, module) → URL from the root
Reader = Callable[[str], bytes | None]  # path from the root → content


def answer(key: str, module: str, resolve: Resolver, read: Reader) -> str | None:
    """Return what a page is told that asks for `key`; files are `file:path`."""
    if not key.startswith("file:"):
        return resolve(key, module)
    data = read(key.removeprefix("file:"))
    return None if data is None else asset_name(data, Path(key).suffix.lower())


def asset_name(data: bytes, suffix: str, folder: str = "_assets") -> str:
    """Return where a file is kept on the site: under a hash of what is in it."""
    return f"{folder}/{blake2b(data, digest_size=10).hexdigest()}{suffix}"


# %% read_inside
MEDIA = frozenset(
    ".png .jpg .jpeg .gif .svg .webp .avif .bmp .ico .mp4 .webm .ogg .mp3 .wav".split()
)


def read_inside(root: Path) -> Reader:
    """Return a reader for the pictures and films below `root`, and nothing else."""
    real = root.resolve()

    def read(name: str) -> bytes | None:
        try:
            path = (real / name).resolve()
            if path.suffix.lower() in MEDIA and path.is_relative_to(real):
                return path.read_bytes()
        except (OSError, ValueError):
            pass  # not there, a folder, a name with a zero byte
        return None

    return read


# ## What a page gathers
# %% Context
@dataclass(slots=True)
class Context:
    """A page while it is rendered: whom it asks, and what was gathered so far.

    `trusted` prose keeps its HTML as it is. `assets` are files of the site by name.
    `shift` is how much deeper headings are on the page than in the notebook.
    """

    page: Page
    resolve: Resolver
    read: Reader = lambda path: None
    assets: dict[str, bytes] = field(default_factory=dict)
    trusted: bool = False
    cell: str = ""
    attachments: Mapping[str, Any] = field(default_factory=dict)
    definitions: str = ""
    shift: int = 0
    asked: dict[str, str | None] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    headings: list[Heading] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)

    def ask(self, key: str) -> str | None:
        """Return the answer from the site's root; each question is asked once."""
        if key not in self.asked:
            self.asked[key] = answer(key, self.page.module, self.resolve, self.read)
        return self.asked[key]

    def find(self, name: str, module: str = "") -> str | None:
        """Return the URL of what `name` stands for, as it is written on this page."""
        found = self.ask(name)
        return None if found is None else self.from_here(found)

    def from_here(self, url: str) -> str:
        """Return a URL of the root as it is written on this page."""
        if re.match(r"[a-z][a-z0-9+.-]*:|//|#", url, re.IGNORECASE):
            return url
        return "../" * self.page.name.count("/") + url

    def remark(self, message: str) -> None:
        """Tell the author something about the present cell."""
        self.remarks.append(Remark(message, self.cell))

    def add_asset(self, data: bytes, suffix: str, folder: str = "_assets") -> str:
        """Keep a file for the site; return its URL as it is written on this page."""
        name = asset_name(data, suffix, folder)
        self.assets[name] = data
        return self.from_here(name)

    def new_id(self, wanted: str) -> str:
        """Return an id that this page does not have, as near as can be to `wanted`."""
        name, number = wanted, 1
        while name in self.ids:
            number += 1
            name = f"{wanted}-{number}"
        self.ids.add(name)
        return name


# ## HTML without end
# %% is_too_deep
DEEPEST = 5000  # elements in elements
TAG = re.compile(r"<(?:(!--|(?:script|style)\b)|(/?)([a-z][^\s/>]*))")
ALONE = frozenset(  # elements that need no end
    "br col hr img input link meta p source wbr"
    " dd dt li option tbody td tfoot th thead tr".split()
)


def is_too_deep(html: str) -> bool:
    """Are there more than `DEEPEST` elements in each other?"""
    if html.count("<") <= DEEPEST:
        return False
    html, at = html.lower(), 0
    inside: list[str] = []
    while at >= 0 and len(inside) <= DEEPEST and (match := TAG.search(html, at)):
        at, (skipped, end, name) = match.end(), match.groups()
        if skipped:
            at = html.find("-->" if skipped == "!--" else f"</{skipped}", at)
        elif end and inside[-1:] == [name]:
            inside.pop()
        elif not end and name not in ALONE:
            inside.append(name)
    return len(inside) > DEEPEST


# ## The allow-list
# %% sanitize
STYLES = frozenset(
    "background-color border border-bottom border-collapse border-color border-left"
    " border-radius border-right border-style border-top border-width color"
    " font-family font-size font-style font-weight height line-height max-height"
    " max-width min-width padding padding-bottom padding-left padding-right padding-top"
    " text-align text-decoration text-indent vertical-align white-space width".split()
)
MORE_TAGS = frozenset("audio section source video".split())
COMMON = frozenset(
    "align aria-label class dir height id lang role style tabindex title width".split()
)


@cache
def cleaner() -> Any:
    """Return the sanitizer; it is made once."""
    import nh3

    attributes = {tag: set(names) for tag, names in nh3.ALLOWED_ATTRIBUTES.items()}
    attributes |= {tag: set(ATTRIBUTES) for tag in TAGS}
    attributes |= {"*": set(COMMON), "pre": {"data-language"}}
    attributes["a"] |= {"name"}
    for tag in ("audio", "video", "source"):
        attributes[tag] = {"src", "controls", "loop", "muted", "type"}
    return nh3.Cleaner(
        tags=nh3.ALLOWED_TAGS | TAGS | MORE_TAGS,
        attributes=attributes,
        url_schemes={"http", "https", "mailto", "data", "attachment"},
        filter_style_properties=set(STYLES),
        link_rel=None,
    )


def sanitize(html: str, context: Context | None = None) -> str:
    """Return the harmless part of some HTML, in the one form.

    What is nested without end is shown as text.
    """
    if is_too_deep(html):
        if context:
            context.remark("HTML is nested too deeply to be shown")
        return f"<pre>{escape(html[:1000], quote=False)}…</pre>"
    clean: str = cleaner().clean(html)
    return clean


# ## Images
# %% image_size
def image_size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG, GIF or JPEG in pixels; None for others."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    if data.startswith(b"GIF8") and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    place = 2 if data.startswith(b"\xff\xd8") else len(data)
    while place + 9 < len(data) and data[place] == 0xFF:
        if data[place + 1] in (0xC0, 0xC1, 0xC2):  # the three frames in use
            at = place + 5
            height, width = data[at : at + 2], data[at + 2 : at + 4]
            return int.from_bytes(width), int.from_bytes(height)
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


# %% decode
SUFFIXES = {
    **{"image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif"},
    **{"image/webp": ".webp", "image/avif": ".avif", "image/svg+xml": ".svg"},
    **{"video/mp4": ".mp4", "video/webm": ".webm", "audio/mpeg": ".mp3"},
    **{"audio/wav": ".wav", "audio/x-wav": ".wav", "audio/ogg": ".ogg"},
}


def decode(text: object) -> bytes | None:
    """Return what base64 stands for, in lines or not; None if it is no base64."""
    joined = "".join(map(str, text)) if isinstance(text, list) else str(text)
    try:
        return base64.b64decode("".join(joined.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


# ## Drawings
# %% clean_drawing
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
RUNS = frozenset("foreignObject handler listener script".split())
OUTSIDE = re.compile(r"url\(\s*[\"']?(?!#)|@import|\\", re.IGNORECASE)


def clean_drawing(data: bytes) -> bytes | None:
    """Return an SVG without what could run or load; None if it is damaged."""
    from xml.etree import ElementTree as Trees

    Trees.register_namespace("", SVG)
    Trees.register_namespace("xlink", XLINK)
    try:
        root = Trees.fromstring(data)
        if root.tag != f"{{{SVG}}}svg":
            return None
        for element in root.iter():
            for child in [*element]:
                if not is_drawn(child.tag, child.text or ""):
                    element.remove(child)
            for name, value in [*element.attrib.items()]:
                if not is_plain(name, value):
                    del element.attrib[name]
        return Trees.tostring(root)
    except (Trees.ParseError, LookupError, RecursionError, ValueError):
        return None


def is_drawn(tag: str, text: str) -> bool:
    """Is an element part of a drawing, and does it run and load nothing?"""
    space, _, name = tag.rpartition("}")
    is_outside = name == "style" and OUTSIDE.search(text)
    return space == "{" + SVG and name not in RUNS and not is_outside


def is_plain(name: str, value: str) -> bool:
    """Is an attribute one that runs and loads nothing?"""
    if name in ("href", f"{{{XLINK}}}href"):
        return value.strip().startswith(("#", "data:image/"))
    if name == "attributeName":
        return "href" not in value and not value.strip().startswith("on")
    return not (name.startswith(("on", "{")) or OUTSIDE.search(value))


# %% find_media
ATTACHMENT, DATA = "attachment:", re.compile(r"data:([\w/+.-]+);base64,(.*)", re.DOTALL)


def find_media(src: str, context: Context) -> tuple[str, bytes | None]:
    """Return where the site has an image or a film, and its content if it is ours.

    The first is empty if there is nothing to be shown.
    """
    if src.startswith(ATTACHMENT):
        bundle = context.attachments.get(unquote(src.removeprefix(ATTACHMENT)))
        forms = bundle.items() if isinstance(bundle, dict) else []
        found = next(((m, v) for m, v in forms if m in SUFFIXES), None)
        return (
            keep(decode(found[1]), SUFFIXES[found[0]], context) if found else ("", None)
        )
    if match := DATA.match(src):
        suffix = SUFFIXES.get(match[1], "")
        return keep(decode(unquote(match[2])), suffix, context)
    if re.match(r"https?:|//|data:image/", src):
        return src, None
    path = place(src.partition("?")[0], context.page)
    if context.ask(f"file:{path}") is None:
        return "", None
    return keep(context.read(path), Path(path).suffix.lower(), context)


def keep(data: bytes | None, suffix: str, context: Context) -> tuple[str, bytes | None]:
    """Keep a file for the site, if it is one."""
    if data and suffix == ".svg":
        data = clean_drawing(data)
    if not data or not suffix:
        return "", None
    return context.add_asset(data, suffix), data


def place(path: str, page: Page) -> str:
    """Return a path beside the notebook as one from the project's root.

    One that begins with a slash is from the folder of the notebooks.
    """
    folder = posixpath.dirname(page.notebook)
    base = folder.partition("/")[0] if path.startswith("/") else folder
    return posixpath.normpath(posixpath.join(base, unquote(path).lstrip("/")))


# ## Settling
# %% settle
ELEMENT = re.compile(
    r"<(a|img|video|audio|source)\b((?:\s+[\w:-]+(?:=\"[^\"]*\")?)*)\s*/?>"
)
ATTRIBUTE = re.compile(r"([\w:-]+)=\"([^\"]*)\"")
NEAR = 1000  # characters that may stand between a link and its image


def settle(html: str, context: Context) -> str:
    """Settle every link and image of some HTML."""

    def settle_one(match: re.Match[str]) -> str:
        said = {name: unescape(value) for name, value in ATTRIBUTE.findall(match[2])}
        if match[1] == "a":
            return settle_link(said, context)
        before = html[max(0, match.start() - NEAR) : match.start()]
        is_inside = before.rfind("<a ") > before.rfind("</a>")
        return settle_media(match[1], said, context, is_inside)

    return ELEMENT.sub(settle_one, html)


def write_tag(tag: str, said: Mapping[str, str]) -> str:
    """Write an opening tag."""
    return "".join([f"<{tag}", *(f' {k}="{escape(v)}"' for k, v in said.items()), ">"])


# %% settle_link
def settle_link(said: dict[str, str], context: Context) -> str:
    """Write a link with the address that the site has for it."""
    href = said.get("href")
    if href is None:
        return write_tag("a", said)  # an anchor
    if re.match(r"(data|attachment):", href):
        del said["href"]
        return write_tag("a", said)
    if said.get("class") != "symbol":  # which is settled
        said["href"] = find_page(href, context)
    context.links.append(Link(said["href"], context.cell))
    return write_tag("a", said)


def find_page(href: str, context: Context) -> str:
    """Return the URL of another notebook's page, or of an image; others as they are."""
    path, mark, anchor = href.partition("#")
    if not path or re.match(r"[a-z][a-z0-9+.-]*:|//", path, re.IGNORECASE):
        return href
    if Path(path).suffix.lower() in MEDIA:
        return find_media(path, context)[0] or href
    found = context.find(place(path, context.page))
    return href if found is None else f"{found}{mark}{anchor}"


# %% settle_media
def settle_media(
    tag: str, said: dict[str, str], context: Context, is_inside: bool = False
) -> str:
    """Write an image or a film with the file that the site has of it.

    `is_inside` that of a link, it cannot be a link itself.
    """
    source = said.get("src", "")
    url, data = find_media(source, context) if source else ("", None)
    if tag == "img" and not url:
        context.remark(f"no image `{source[:80]}` in the project")
        return (
            f'<span class="missing">{escape(said.get("alt", "") or source[:80])}</span>'
        )
    if not data and re.match(r"https?:|//", url) and not context.trusted:
        words = said.get("alt", "")
        link = link_media(tag, url, words, context)
        return escape(words or url.rpartition("/")[2]) if is_inside else link
    if url:
        said["src"] = url
    if tag == "img":
        size = image_size(data) if data else None
        if size and not said.keys() & {"width", "height", "style"}:
            said["width"], said["height"] = str(size[0]), str(size[1])
        said = {"alt": "", "loading": "lazy", **said}
        context.links.append(Link(url, context.cell, is_image=True, text=said["alt"]))
    return write_tag(tag, said)


def link_media(tag: str, url: str, alt: str, context: Context) -> str:
    """Write a link to what another host has: a page asks nobody but its own site."""
    if tag == "source":
        return ""
    context.remark(f"not on the site, so a link: `{url[:80]}`")
    link = f'<a href="{escape(url)}">{escape(alt or url)}</a>'
    return link if tag == "img" else f"{link}<{tag} hidden>"


# %% wrap_tables
def wrap_tables(html: str) -> str:
    """Put every table into a box that scrolls, and say what its headings head."""
    if "<table" not in html:
        return html
    opening = '<div class="table" tabindex="0" role="group" aria-label="Table"><table'
    html = html.replace("<table", opening).replace("</table>", "</table></div>")
    parts = re.split(r"(<thead\b.*?</thead>)", html, flags=re.DOTALL)
    scopes = ["row" if i % 2 == 0 else "col" for i in range(len(parts))]
    return "".join(
        re.sub(r"<th\b(?![^>]*\bscope=)", f'<th scope="{scope}"', part)
        for part, scope in zip(parts, scopes, strict=True)
    )
