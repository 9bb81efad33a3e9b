# Exported from nbs/15b_prose.ipynb. Edit either side, then run `litml sync`.
"""Markdown as people write it in notebooks, with formulas, footnotes and callouts,
as HTML that is safe.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape, unescape
from typing import Any

from litml.formula import to_mathml
from litml.highlight import code_block
from litml.notebook import Location
from litml.page import Callout, Heading, PageError
from litml.safe import Context, place, sanitize, settle, wrap_tables

__all__ = [
    "Div",
    "Part",
    "OPENINGS",
    "split_boxes",
    "mask_code",
    "KINDS",
    "TITLE",
    "make_callout",
    "OPENING",
    "CLOSING",
    "OPTION",
    "Found",
    "read_div",
    "make_box",
    "is_hidden",
    "ALERT",
    "ADMONITION",
    "read_alert",
    "read_admonition",
    "BOXES",
    "parser",
    "Tokens",
    "Env",
    "REACHABLE",
    "render_formula",
    "NAMES",
    "render_name",
    "render_picture",
    "render_fence",
    "RULES",
    "ADDRESS",
    "LABELS",
    "link_addresses",
    "split_text",
    "HEADING",
    "BRACES",
    "place_headings",
    "deepest",
    "has_parts",
    "plain_text",
    "slug",
    "DEEPEST",
    "render_prose",
    "render_text",
    "BROKEN",
    "render_callout",
    "render_inline",
    "DEFINITION",
    "find_definitions",
    "missing_definitions",
]


# ## Boxes
# %% Div
@dataclass(frozen=True, slots=True)
class Div:
    """A part of a text with classes, and perhaps an id, but no frame of its own."""

    classes: tuple[str, ...]
    source: str
    id: str = ""


Part = str | Div | Callout
OPENINGS = re.compile(r"^(?::::|> *\[!|!!!|\?\?\?)", re.MULTILINE)


def split_boxes(source: str) -> Iterator[Part]:
    """Split Markdown into text and its outermost boxes."""
    if not OPENINGS.search(source):  # most texts have none
        if source.strip():
            yield source
        return
    lines = source.split("\n")
    masked = mask_code(lines)
    start = at = 0
    while at < len(lines):
        read = next(
            (r for mark, r in BOXES.items() if masked[at].startswith(mark)), None
        )
        found = read(lines, masked, at) if read else None
        if found is None:
            at += 1
            continue
        if "".join(lines[start:at]).strip():
            yield "\n".join(lines[start:at])
        if found[0] is not None:
            yield found[0]
        start = at = found[1]
    if "".join(lines[start:]).strip():
        yield "\n".join(lines[start:])


def mask_code(lines: Sequence[str]) -> list[str]:
    """Return the lines with those of fenced code emptied."""
    masked, fence = [], ""
    for line in lines:
        match = re.match(r"\s*(`{3,}|~{3,})", line)
        masked.append("" if fence or match else line)
        if fence:
            is_end = match and match[1].startswith(fence) and not line.strip(" `~")
            fence = "" if is_end else fence
        elif match:
            fence = match[1]
    return masked


# %% make_callout
KINDS = {
    **{kind: kind for kind in ("note", "tip", "important", "warning", "caution")},
    **dict.fromkeys(["abstract", "example", "info", "question", "quote"], "note"),
    **dict.fromkeys(["hint", "seealso", "success"], "tip"),
    **dict.fromkeys(["attention"], "warning"),
    **dict.fromkeys(["bug", "danger", "error", "failure"], "caution"),
}
TITLE = re.compile(r"\s*#+ +(.*?)(?: *\{[^{}]*\})?\n")


def make_callout(kind: str, title: str, source: str, folded: bool = False) -> Callout:
    """Make a callout; its title may be the first heading of its text."""
    if not title and (match := TITLE.match(source + "\n")):
        title, source = match[1], source[match.end() :]
    known = KINDS.get(kind.lower(), "note")
    return Callout(known, title.strip(), source.strip("\n"), folded=folded)


# %% read_div
OPENING = re.compile(r":{3,}\s*(?:\{(.*)\}|([\w-]+))\s*:*\s*$")
CLOSING = re.compile(r":{3,}\s*$")
OPTION = re.compile(r"([\w-]+)=(\"[^\"]*\"|'[^']*'|[^\s}]+)")
Found = tuple[Part | None, int] | None  # a part, and the line after it


def read_div(lines: Sequence[str], masked: Sequence[str], at: int) -> Found:
    """Read the box that opens at a line with colons, up to the line that closes it."""
    if not (match := OPENING.match(masked[at])):
        return None
    depth, end = 0, at
    for end in range(at, len(masked)):
        depth += bool(OPENING.match(masked[end])) - bool(CLOSING.match(masked[end]))
        if not depth:
            break
    inner = "\n".join(lines[at + 1 : end] if not depth else lines[at + 1 :])
    return make_box(match[1] or f".{match[2]}", inner), end + 1


def make_box(said: str, inner: str) -> Part | None:
    """Return the box that a fence with these attributes opens; None if hidden."""
    options = {name: value.strip("\"'") for name, value in OPTION.findall(said)}
    rest = OPTION.sub("", said)
    classes = tuple(re.findall(r"\.([\w-]+)", rest))
    id = next(iter(re.findall(r"#([\w-]+)", rest)), "")
    if is_hidden(classes, options):
        return None
    for name in classes:
        if name.startswith("callout-"):
            folded = options.get("collapse") == "true"
            title = options.get("title", "")
            return make_callout(name.removeprefix("callout-"), title, inner, folded)
    return Div(classes, inner, id)


def is_hidden(classes: Iterable[str], options: Mapping[str, str]) -> bool:
    """Is a part of a text not meant for HTML?"""
    asked = [options[k].startswith("html") for k in ("when-format",) if k in options]
    asked += [
        not options[k].startswith("html") for k in ("unless-format",) if k in options
    ]
    if "content-hidden" in classes:
        return all(asked)
    return "content-visible" in classes and not all(asked)


# %% read_alert
ALERT = re.compile(r">\s*\[!(\w+)\]\s*(.*)$")
ADMONITION = re.compile(r"(!!!|\?\?\?)\+?\s+([\w-]+)[^\"]*(?:\"(.*)\")?\s*$")


def read_alert(lines: Sequence[str], masked: Sequence[str], at: int) -> Found:
    """Read a quotation that begins with `[!NOTE]`."""
    if not (match := ALERT.match(masked[at])):
        return None
    end = at + 1
    while end < len(lines) and lines[end].startswith(">"):
        end += 1
    inner = "\n".join(re.sub(r"^> ?", "", line) for line in lines[at + 1 : end])
    return make_callout(match[1], match[2], inner), end


def read_admonition(lines: Sequence[str], masked: Sequence[str], at: int) -> Found:
    """Read `!!! note "Title"` and the indented lines below it."""
    if not (match := ADMONITION.match(masked[at])):
        return None
    end = at + 1
    while end < len(lines) and (
        not lines[end].strip() or lines[end].startswith("    ")
    ):
        end += 1
    inner = "\n".join(line[4:] for line in lines[at + 1 : end])
    folded = match[1] == "???"
    return make_callout(match[2], match[3] or "", inner, folded), end


BOXES = {
    **{":::": read_div, ">": read_alert},
    **{"!!!": read_admonition, "???": read_admonition},
}


# ## The parser
# %% parser
@cache
def parser() -> Any:
    """Return the Markdown parser."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins import amsmath, attrs, deflist, dollarmath, footnote

    md = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    dollars = {"allow_space": False, "allow_digits": False, "double_inline": True}
    md.use(dollarmath.dollarmath_plugin, **dollars)
    md.use(amsmath.amsmath_plugin)
    md.use(footnote.footnote_plugin)
    md.use(deflist.deflist_plugin)
    md.use(attrs.attrs_plugin, spans=True)
    md.core.ruler.after("inline", "addresses", link_addresses)
    for name in RULES:
        md.add_render_rule(name, RULES[name])
    return md


# %% RULES
Tokens = Sequence[Any]
Env = MutableMapping[str, Any]


REACHABLE = 'tabindex="0" role="group" aria-label="Formula"'


def render_formula(self: Any, tokens: Tokens, at: int, options: Any, env: Env) -> str:
    """Render a formula, in a line or of its own."""
    token, context = tokens[at], env["context"]
    display = token.type != "math_inline"
    drawn = to_mathml(token.content, display)
    if drawn is None:
        context.remark(f"a formula that cannot be drawn: `{token.content[:60]}`")
        drawn = f'<code class="formula">{escape(token.content, quote=False)}</code>'
    if not token.block:
        return drawn
    id = f' id="{escape(token.info)}"' if token.info else ""
    return f'<div class="formula"{id} {REACHABLE}>{drawn}</div>\n'


NAMES = re.compile(
    r"(?P<path>[\w./-]+\.ipynb)|(?P<name>[^\W\d][\w.]*)(?:\(\))?|(?P<notebook>\d\w*_\w+)"
)


def render_name(self: Any, tokens: Tokens, at: int, options: Any, env: Env) -> str:
    """Render code inside a line, with a link to what it names."""
    text = tokens[at].content
    code = f"<code>{escape(text, quote=False)}</code>"
    kinds = [token.type for token in tokens[:at]]
    is_linked = kinds.count("link_open") > kinds.count("link_close")
    if is_linked or not (found := NAMES.fullmatch(text)):
        return code
    context = env["context"]
    if found["name"]:
        url = context.find(found["name"])
    else:
        path = found["path"] or f"{text}.ipynb"
        url = context.find(place(path, context.page)) or context.find(path)
    return f'<a class="symbol" href="{escape(url)}">{code}</a>' if url else code


def render_picture(self: Any, tokens: Tokens, at: int, options: Any, env: Env) -> str:
    """Render an image; with an id as `#fig-loss` it is a figure with its caption."""
    from markdown_it.token import Token

    token = tokens[at]
    caption = self.renderInline(token.children or [], options, env)
    if alt := token.attrs.pop("fig-alt", ""):
        token.children = [Token("text", "", 0, content=str(alt))]
    id = str(token.attrs.get("id", ""))
    if not id.startswith("fig-"):
        return str(self.image(tokens, at, options, env))
    del token.attrs["id"]
    image = self.image(tokens, at, options, env)
    below = f"<figcaption>{caption}</figcaption>"
    return f'<figure id="{escape(id)}">{image}{below}</figure>'


def render_fence(self: Any, tokens: Tokens, at: int, options: Any, env: Env) -> str:
    """Render a block of code."""
    match = re.match(r"\s*\{?\.?([\w+#-]*)", tokens[at].info)
    source = tokens[at].content.rstrip("\n")
    return code_block(source, match[1] if match else "")


RULES: dict[str, Any] = {
    **dict.fromkeys(["math_inline", "math_inline_double"], render_formula),
    **dict.fromkeys(["math_block", "math_block_label", "amsmath"], render_formula),
    **{"code_inline": render_name, "image": render_picture},
    **dict.fromkeys(["fence", "code_block"], render_fence),
}


# %% link_addresses
ADDRESS = re.compile(
    r"(https?://[^\s<>\"`]*[^\s<>\"`.,;:!?'*)\]])"
    r"|(?<![\w@])@((?:eq|fig|lst|sec|tbl)-[\w-]*\w)"
)
LABELS = {"eq": "Equation", "fig": "Figure", "lst": "Listing"} | {
    **{"sec": "Section", "tbl": "Table"}
}


def link_addresses(state: Any) -> None:
    """Make links of addresses and references in the texts of a document."""
    for token in state.tokens:
        if token.type == "inline" and ADDRESS.search(token.content):
            depth = 0
            children: list[Any] = []
            for child in token.children:
                depth += {"link_open": 1, "link_close": -1}.get(child.type, 0)
                is_text = child.type == "text" and not depth
                children += split_text(child) if is_text else [child]
            token.children = children


def split_text(token: Any) -> Iterator[Any]:
    """Split a text at its addresses and references."""
    from markdown_it.token import Token

    for i, part in enumerate(ADDRESS.split(token.content)):
        if part and i % 3 == 0:
            yield token.copy(content=part)
        elif part:
            href = part if i % 3 == 1 else f"#{part}"
            text = part if i % 3 == 1 else LABELS[part.partition("-")[0]]
            yield Token("link_open", "a", 1, attrs={"href": href})
            yield token.copy(content=text)
            yield Token("link_close", "a", -1)


# ## Headings
# %% place_headings
HEADING = re.compile(r"<h([1-6])([^>]*)>(.*?)</h\1>", re.DOTALL)
BRACES = re.compile(r"\s*\{([^{}<>]*)\}\s*$")


def place_headings(html: str, context: Context) -> str:
    """Give every heading its level and its id, and note it."""

    def place(match: re.Match[str]) -> str:
        inner = BRACES.sub("", match[3])
        named = re.search(r"#([\w-]+)", match[3][len(inner) :]) or re.search(
            r'\bid="([^"]+)"', match[2]
        )
        title = plain_text(inner)
        id = context.new_id(unescape(named[1]) if named else slug(title))
        level = min(max(int(match[1]) + context.shift, 2), deepest(context.headings))
        context.headings.append(Heading(level, title, id))
        label = escape(f"Link to “{title}”")
        anchor = f'<a class="anchor" href="#{escape(id)}" aria-label="{label}">#</a>'
        return f'<h{level} id="{escape(id)}">{inner}{anchor}</h{level}>'

    return HEADING.sub(place, html)


def deepest(headings: Sequence[Heading]) -> int:
    """Return how deep the next heading may be, after these and after the cards."""
    plain = [heading.level for heading in headings if not heading.is_symbol]
    return min([*plain[-1:], *(one.level for one in headings[-1:])], default=1) + 1


def has_parts(sources: Iterable[str]) -> bool:
    """Does some text have a heading of the first level?"""
    lines = (line for s in sources if "# " in s for line in mask_code(s.split("\n")))
    return any(line.startswith("# ") for line in lines)


def plain_text(html: str) -> str:
    """Return the text of some HTML."""
    return " ".join(unescape(re.sub(r"<[^>]*>", "", html)).split())


def slug(title: str) -> str:
    """Return a title as an id, as Pandoc and so Quarto and nbdev make it.

    That is lower case without punctuation, from the first letter on, with hyphens.
    """
    kept = re.sub(r"[^\w\s.-]", "", title.lower())
    return re.sub(r"^[\W\d_]+", "", "-".join(kept.split())) or "section"


# ## Rendering
# %% render_prose
DEEPEST = 20  # boxes in boxes


def render_prose(source: str, context: Context, depth: int = 0) -> str:
    """Return Markdown as HTML: safe, its links settled, its headings noted.

    Raises `PageError` where boxes are nested without end.
    """
    if depth > DEEPEST:
        at = Location(context.page.notebook, context.cell)
        raise PageError("boxes are nested too deeply to be shown", at=at)
    html = []
    for part in split_boxes(source):
        if isinstance(part, Callout):
            html.append(render_callout(part, context, depth + 1))
        elif isinstance(part, Div):
            classes = escape(" ".join(part.classes))
            id = f' id="{escape(part.id)}"' if part.id else ""
            inner = render_prose(part.source, context, depth + 1)
            html.append(f'<div class="{classes}"{id}>\n{inner}</div>\n')
        else:
            html.append(render_text(part, context))
    return "".join(html)


def render_text(source: str, context: Context) -> str:
    """Return Markdown without boxes as HTML."""
    env: Env = {"context": context}
    if "[" in source and context.definitions:
        source = f"{source}\n\n{missing_definitions(source, context.definitions)}"
    if "[^" in source:
        env["docId"] = context.new_id("notes")
    source = re.sub(r"\$\$[ \t]*\{#(eq-[\w-]+)\}", r"$$ (\1)", source)
    source = re.sub(r"\{\{< *video +(\S+).*?>\}\}", r"<\1>", source)
    html = str(parser().render(source, env))
    if not context.trusted:
        html = sanitize(html, context)
    if BROKEN.search(html):
        context.remark("a bar ends a cell of a table, in code, too: write `\\|`")
    html = html.replace("<p></p>", "")  # what is left around a figure
    return wrap_tables(place_headings(settle(html, context), context))


BROKEN = re.compile(r"<t[dh]\b[^>]*>[^<`]*`[^<`]*</t[dh]>")  # half of some code


def render_callout(callout: Callout, context: Context, depth: int = 0) -> str:
    """Return a box that stands out of the text."""
    title = render_inline(callout.title or callout.kind.capitalize(), context)
    inner = render_prose(callout.source, context, depth)
    frame = f'class="callout {escape(callout.kind)}"'
    if callout.folded:
        return f"<details {frame}><summary>{title}</summary>\n{inner}</details>\n"
    label = escape(callout.kind.capitalize())
    heading = f'<p class="callout-title">{title}</p>'
    return (
        f'<aside {frame} role="note" aria-label="{label}">{heading}\n{inner}</aside>\n'
    )


def render_inline(source: str, context: Context) -> str:
    """Return one line of Markdown as HTML without a paragraph around it."""
    html = str(parser().renderInline(source, {"context": context}))
    return settle(html if context.trusted else sanitize(html, context), context)


# %% find_definitions
DEFINITION = re.compile(
    r"^ {0,3}\[(\^?[^\]\n]+)\]:[ \t]*\S.*(?:\n {4}.*)*", re.MULTILINE
)


def find_definitions(sources: Iterable[str]) -> str:
    """Return the definitions of links and footnotes in some texts."""
    return "\n\n".join(m[0] for s in sources for m in DEFINITION.finditer(s))


def missing_definitions(source: str, definitions: str) -> str:
    """Return the definitions that a text does not have itself."""
    own = {match[1] for match in DEFINITION.finditer(source)}
    others = DEFINITION.finditer(definitions)
    return "\n\n".join(match[0] for match in others if match[1] not in own)
