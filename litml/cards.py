# Exported from nbs/15h_cards.ipynb. Edit either side, then run `litml sync`.
"""An API card: what a symbol is called, takes, returns and says, as HTML and as
Markdown.
"""

import re
from collections.abc import Callable, Iterator
from html import escape

from litml.page import ApiCard, Parameter, Symbol

__all__ = [
    "WIDTH",
    "write_signature",
    "Resolve",
    "KNOWN",
    "NAME",
    "link_names",
    "show_plain",
    "render_card",
    "DYNAMIC",
    "card_markdown",
    "write_rows",
    "glance",
]


# ## The signature
# %% list_pieces
def list_pieces(symbol: Symbol) -> list[Parameter | str]:
    """Return the parameters of a symbol, with `/` and `*` where they belong."""
    pieces: list[Parameter | str] = []
    before = ""
    for one in symbol.signature_params:
        if before == "positional-only" != one.kind:
            pieces.append("/")
        if one.kind == "keyword" and before not in ("keyword", "var-positional"):
            pieces.append("*")
        pieces.append(one)
        before = one.kind
    return [*pieces, "/"] if before == "positional-only" else pieces


STARS = {"var-positional": "*", "var-keyword": "**"}


def write_piece(
    piece: Parameter | str, show: Callable[[str, str], str] = lambda text, kind: text
) -> str:
    """Return a parameter as it stands in a signature; `show` writes its parts."""
    if isinstance(piece, str):
        return piece
    name = show(STARS.get(piece.kind, "") + piece.name, "param")
    if piece.annotation:
        name = f"{name}: {show(piece.annotation, 'type')}"
    if not piece.default:
        return name
    equals = " = " if piece.annotation else "="
    return name + equals + show(piece.default, "default")


# %% write_signature
WIDTH = 78


def write_signature(
    symbol: Symbol,
    show: Callable[[str, str], str] = lambda text, kind: text,
    arrow: str = "->",
) -> str:
    """Return the signature of a symbol as text, whose parts `show` writes."""
    name = show(symbol.name.rpartition(".")[2], "name")
    if symbol.kind in ("property", "attribute"):
        return f"{name}: {show(symbol.returns, 'type')}" if symbol.returns else name
    plain = [write_piece(one) for one in list_pieces(symbol)]
    shown = [write_piece(one, show) for one in list_pieces(symbol)]
    end = f" -> {symbol.returns}" if symbol.returns else ""
    tail = f" {arrow} {show(symbol.returns, 'type')}" if symbol.returns else ""
    length = len(symbol.name.rpartition(".")[2]) + len(", ".join(plain)) + len(end) + 2
    if length <= WIDTH:
        return f"{name}({', '.join(shown)}){tail}"
    rows = "".join(f"    {one},\n" for one in shown)
    return f"{name}(\n{rows}){tail}"


# ## Types are links
# %% link_names
Resolve = Callable[[str, str], str | None]
KNOWN = {"None", "bool", "bytes", "float", "int", "str"}
NAME = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*")


def link_names(text: str, symbol: Symbol, resolve: Resolve) -> str:
    """Return a type as HTML, in which the names that something is known of link."""
    meanings = dict(symbol.names)
    html, end = [], 0
    for found in NAME.finditer(text):
        path = meanings.get(found[0])
        is_asked = path is not None and path not in KNOWN
        url = resolve(path, symbol.module) if path and is_asked else None
        html.append(escape(text[end : found.start()], quote=False))
        html.append(f'<a class="symbol" href="{escape(url)}">' if url else "")
        html.append(found[0] + ("</a>" if url else ""))
        end = found.end()
    return "".join([*html, escape(text[end:], quote=False)])


# ## The table
# %% list_rows
COLUMNS = ("Name", "Type", "Default", "Description")
Row = tuple[str, str, str, str]


def list_rows(symbol: Symbol) -> list[Row]:
    """Return the table of a symbol: name, type, default and description a row."""
    params = symbol.signature_params
    described = [one.description for one in params]
    if not any([*described, symbol.returns_description]):
        return []
    rows = [
        (
            STARS.get(one.kind, "") + one.name,
            one.annotation,
            one.default or ("" if one.kind in STARS else "required"),
            one.description,
        )
        for one in params
    ]
    if symbol.returns or symbol.returns_description:
        rows.append(("returns", symbol.returns, "", symbol.returns_description))
    return rows


def list_columns(rows: list[Row]) -> list[int]:
    """Return which columns of a table have something to show."""
    return [i for i in range(len(COLUMNS)) if any(row[i] for row in rows)]


# ## As HTML
# %% render_card
def show_plain(text: str) -> str:
    """Return Markdown as it is written, in paragraphs."""
    parts = re.split(r"\n\s*\n", text.strip())
    return "".join(f"<p>{escape(part, quote=False)}</p>\n" for part in parts if part)


def render_card(
    card: ApiCard,
    resolve: Resolve,
    source_url: str = "",
    *,
    prose: Callable[[str], str] = show_plain,
    level: int = 3,
    notebook_url: str = "",
) -> str:
    """Return an API card as HTML.

    `source_url` is that of the module's file, to which the lines are added.
    """
    symbol = card.symbol
    parts = [
        write_heading(symbol, level),
        write_sources(symbol, source_url, notebook_url),
        write_code(symbol, resolve),
        write_bases(symbol, resolve),
        DYNAMIC if symbol.dynamic else "",
        prose(symbol.doc) if symbol.doc else "",
        write_table(symbol, resolve, prose),
        write_uses("Used in", card.used_in),
        write_uses("Tested by", card.tested_by),
    ]
    return f'<div class="card">\n{"".join(parts)}</div>\n'


DYNAMIC = (
    '<p class="note">A decorator or a base from elsewhere makes the real signature'
    " when the program runs.</p>\n"
)


# %% write_heading
def write_heading(symbol: Symbol, level: int) -> str:
    """Return the heading of a card, with its kind and a link to itself."""
    name = escape(symbol.name)
    return (
        f'<h{level} id="{name}"><code>{name}</code> '
        f'<span class="kind">{escape(name_kind(symbol))}</span>'
        f'<a class="anchor" href="#{name}" aria-label="Link to “{name}”">#</a>'
        f"</h{level}>\n"
    )


def name_kind(symbol: Symbol) -> str:
    """Return the kind of a symbol in words."""
    if symbol.kind == "method":
        for kind in ("class", "static"):
            if f"{kind}method" in symbol.decorators:
                return f"{kind} method"
    return symbol.kind


def write_sources(symbol: Symbol, source_url: str, notebook_url: str) -> str:
    """Return the links to the lines that define a symbol, and to its notebook."""
    lines = f"#L{symbol.line}-L{symbol.end_line}" if symbol.line else ""
    urls = {"source": source_url and source_url + lines, "notebook": notebook_url}
    name = escape(symbol.name)
    links = [
        f'<a href="{escape(url)}" aria-label="{text} of {name}">{text}</a>'
        for text, url in urls.items()
        if url
    ]
    return f'<p class="sources">{" · ".join(links)}</p>\n' if links else ""


def write_code(symbol: Symbol, resolve: Resolve) -> str:
    """Return the signature as a block of code."""

    def show(text: str, kind: str) -> str:
        if kind == "type":
            return f'<span class="t">{link_names(text, symbol, resolve)}</span>'
        safe = escape(text, quote=False)
        return (
            f'<span class="{CLASSES[kind]}">{safe}</span>' if kind != "param" else safe
        )

    lines = [link_names(one, symbol, resolve) for one in symbol.overloads]
    code = "\n".join(lines) or write_signature(symbol, show, "→")
    return (
        '<pre class="signature" tabindex="0" role="group"'
        f' aria-label="Signature of {escape(symbol.name)}"><code>{code}</code></pre>\n'
    )


CLASSES = {"name": "f", "default": "m"}


def write_bases(symbol: Symbol, resolve: Resolve) -> str:
    """Return what a class inherits from."""
    links = [
        f"<code>{link_names(base, symbol, resolve)}</code>" for base in symbol.bases
    ]
    return f'<p class="bases">Bases: {", ".join(links)}</p>\n' if links else ""


# %% write_table
def write_table(symbol: Symbol, resolve: Resolve, prose: Callable[[str], str]) -> str:
    """Return the table of parameters, in a region of its own."""
    rows = list_rows(symbol)
    if not rows:
        return ""
    columns = list_columns(rows)
    heads = "".join(f'<th scope="col">{COLUMNS[i]}</th>' for i in columns)
    body = []
    for row in rows:
        is_result = row is rows[-1] and row[0] == "returns" and row[2] == ""
        cells = [write_cell(symbol, row, i, resolve, prose) for i in columns[1:]]
        name = "returns" if is_result else f"<code>{escape(row[0])}</code>"
        body.append(f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>\n')
    return (
        '<div class="table" tabindex="0" role="group"'
        f' aria-label="Parameters of {escape(symbol.name)}">'
        f'<table class="params"><thead><tr>{heads}</tr></thead>\n'
        f"<tbody>{''.join(body)}</tbody></table></div>\n"
    )


def write_cell(
    symbol: Symbol, row: Row, column: int, resolve: Resolve, prose: Callable[[str], str]
) -> str:
    """Return a cell of the table. Its label is shown where rows become stacks."""
    text = row[column]
    if column == 1:
        html = f"<code>{link_names(text, symbol, resolve)}</code>" if text else ""
    elif column == 2:
        is_code = text not in ("", "required")
        html = f"<code>{escape(text, quote=False)}</code>" if is_code else text
    else:
        html = bare(prose(text)) if text else ""
    return f'<td data-label="{COLUMNS[column]}">{html}</td>'


def bare(html: str) -> str:
    """Return a single paragraph without its tags; other HTML as it is."""
    inner = re.fullmatch(r"\s*<p>(.*)</p>\s*", html, re.DOTALL)
    return inner[1] if inner and "<p>" not in inner[1] else html


def write_uses(title: str, places: tuple[str, ...]) -> str:
    """Return the places that use a symbol, as links."""
    links = []
    for place in places:
        url, _, name = place.partition(" ")
        links.append(f'<a href="{escape(url)}">{escape(name or url)}</a>')
    return f'<p class="uses">{title}: {", ".join(links)}</p>\n' if links else ""


# ## As Markdown
# %% card_markdown
def card_markdown(symbol: Symbol, level: int = 3) -> str:
    """Return an API card as Markdown."""
    parts = [
        f"{'#' * level} `{symbol.name}` ({name_kind(symbol)})",
        f"```python\n{chr(10).join(symbol.overloads) or write_signature(symbol)}\n```",
        "Bases: " + ", ".join(f"`{one}`" for one in symbol.bases)
        if symbol.bases
        else "",
        symbol.doc,
        "\n".join(write_rows(symbol)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def write_rows(symbol: Symbol) -> Iterator[str]:
    """Yield the lines of the table of parameters."""
    rows = list_rows(symbol)
    columns = list_columns(rows)
    for i, row in enumerate([COLUMNS, *rows] if rows else []):
        cells = [" ".join(row[c].split()).replace("|", "\\|") for c in columns]
        if i:
            code = [
                c < 3 and row[c] not in ("", "required", "returns") for c in columns
            ]
            cells = [
                f"`{one}`" if is_code else one
                for one, is_code in zip(cells, code, strict=True)
            ]
        yield f"| {' | '.join(cells)} |"
        if not i:
            yield f"|{'---|' * len(columns)}"


# ## At a glance
# %% glance
def glance(symbol: Symbol) -> str:
    """Return a symbol on two lines: its signature, and its first sentence."""
    signature = " ".join(write_signature(symbol).split())
    signature = signature.replace("( ", "(").replace(", )", ")")
    first = " ".join(symbol.doc.partition("\n\n")[0].split())
    sentence = re.match(r".*?[.!?](?=\s|$)", first)
    return "\n".join(filter(None, [signature, sentence[0] if sentence else first]))
