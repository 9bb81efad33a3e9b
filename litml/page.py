# Exported from nbs/15_page.ipynb. Edit either side, then run `litml sync`.
"""What a page of the documentation says, as plain data: prose, code, outputs and API
cards in reading order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from litml.notebook import LitmlError

__all__ = [
    "Parameter",
    "Symbol",
    "Prose",
    "Code",
    "Shown",
    "ApiCard",
    "Callout",
    "Block",
    "Page",
    "PageError",
    "to_json",
    "write_block",
    "write_symbol",
    "list_fields",
    "BLOCKS",
    "from_json",
    "read_block",
    "read_symbol",
    "Heading",
    "Link",
    "Section",
    "Remark",
    "Rendered",
]


# ## Symbols
# %% Parameter
@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter as it is written; `kind` is one of

    `positional-only`, `positional`, `var-positional`, `keyword`, `var-keyword`.
    """

    name: str
    kind: str = "positional"
    annotation: str = ""
    default: str = ""
    description: str = ""


# %% Symbol
@dataclass(frozen=True, slots=True)
class Symbol:
    """What a module defines: `name` is qualified in it, such as `Cell.source`.

    `kind` is one of `function`, `class`, `method`, `property`, `attribute`. `doc` is
    without what went to the parameters. `names` pairs a name as written with what it
    stands for. `dynamic` means that the real signature is made at run time. `overloads`
    are the signatures that `@overload` declares, as text.
    """

    name: str
    module: str
    kind: str
    signature_params: tuple[Parameter, ...] = ()
    returns: str = ""
    returns_description: str = ""
    doc: str = ""
    bases: tuple[str, ...] = ()
    decorators: tuple[str, ...] = ()
    cell: str = ""
    line: int = 0
    end_line: int = 0
    names: tuple[tuple[str, str], ...] = ()
    dynamic: bool = False
    overloads: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The whole dotted name, `litml.notebook.Cell.source`."""
        return f"{self.module}.{self.name}"


# ## Blocks
# %% Prose
@dataclass(frozen=True, slots=True)
class Prose:
    """Markdown; `attachments` are the cell's: name → mimetype → base64."""

    cell: str
    source: str
    attachments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Code:
    """Code without its directives. `exported` code is part of the module."""

    cell: str
    source: str
    language: str = "python"
    folded: bool = False
    summary: str = ""
    exported: bool = False
    caption: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Shown:
    """An output in nbformat's form; `caption`, `alt` and `label` are for figures."""

    cell: str
    output: Mapping[str, Any]
    folded: bool = False
    summary: str = ""
    caption: str = ""
    alt: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class ApiCard:
    """The card of a symbol, with the places that use and test it: URL and title."""

    symbol: Symbol
    used_in: tuple[str, ...] = ()
    tested_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Callout:
    """A box: `kind` is `note`, `tip`, `important`, `warning` or `caution`."""

    kind: str
    title: str
    source: str
    cell: str = ""
    folded: bool = False
    attachments: Mapping[str, Any] = field(default_factory=dict)


Block = Prose | Code | Shown | ApiCard | Callout


# ## The page
# %% Page
@dataclass(frozen=True, slots=True)
class Page:
    """What a page says."""

    name: str
    notebook: str
    module: str
    title: str
    summary: str
    blocks: tuple[Block, ...]
    symbols: tuple[Symbol, ...] = ()
    module_file: str = ""
    language: str = "python"
    front: Mapping[str, Any] = field(default_factory=dict)


# ## Keeping pages
# %% PageError
class PageError(LitmlError):
    """A page that cannot be made, or that cannot be read back."""


# %% to_json
def to_json(page: Page) -> dict[str, Any]:
    """Return the page as a tree for JSON; what outputs hold is not copied."""
    blocks = [write_block(block) for block in page.blocks]
    symbols = [write_symbol(symbol) for symbol in page.symbols]
    return {**list_fields(page), "blocks": blocks, "symbols": symbols}


def write_block(block: Block) -> dict[str, Any]:
    """Return one block as a tree."""
    tree = {"type": type(block).__name__, **list_fields(block)}
    if isinstance(block, ApiCard):
        tree["symbol"] = write_symbol(block.symbol)
    return tree


def write_symbol(symbol: Symbol) -> dict[str, Any]:
    """Return one symbol as a tree."""
    params = [list_fields(one) for one in symbol.signature_params]
    return {**list_fields(symbol), "signature_params": params}


def list_fields(value: Block | Page | Parameter | Symbol) -> dict[str, Any]:
    """Return the fields of a dataclass by their names, as they are."""
    return {name: getattr(value, name) for name in value.__slots__}


# %% from_json
BLOCKS = {kind.__name__: kind for kind in (Prose, Code, Shown, ApiCard, Callout)}


def from_json(data: Mapping[str, Any]) -> Page:
    """Read a page back. Raises `PageError` if it is none."""
    try:
        blocks = tuple(read_block(dict(block)) for block in data["blocks"])
        symbols = tuple(read_symbol(symbol) for symbol in data["symbols"])
        return Page(**{**data, "blocks": blocks, "symbols": symbols})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PageError(f"not a page: {error!r}") from error


def read_block(data: dict[str, Any]) -> Block:
    """Read one block."""
    kind = BLOCKS[data.pop("type")]
    if kind is ApiCard:
        symbol = read_symbol(data["symbol"])
        return ApiCard(symbol, tuple(data["used_in"]), tuple(data["tested_by"]))
    block: Block = kind(**data)
    return block


def read_symbol(data: Mapping[str, Any]) -> Symbol:
    """Read one symbol; lists become the tuples they were."""
    tuples = {key: tuple(data[key]) for key in ("bases", "decorators", "overloads")}
    names = tuple((written, meant) for written, meant in data["names"])
    params = tuple(Parameter(**one) for one in data["signature_params"])
    return Symbol(**{**data, **tuples, "names": names, "signature_params": params})


# ## What rendering gives
# %% Rendered
@dataclass(frozen=True, slots=True)
class Heading:
    """A heading or a card of a page, with the id that links to it."""

    level: int
    title: str
    id: str
    is_symbol: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """A link, or an image (`is_image`) with its alternative text, and its cell."""

    url: str
    cell: str = ""
    is_image: bool = False
    text: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """The plain text from one heading to the next; `id` is empty at the page's top."""

    id: str
    title: str
    text: str
    is_symbol: bool = False


@dataclass(frozen=True, slots=True)
class Remark:
    """Something to tell the author: what is wrong, and in which cell."""

    message: str
    cell: str = ""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The HTML of a page, and what the site knows of it."""

    html: str
    headings: tuple[Heading, ...] = ()
    links: tuple[Link, ...] = ()
    texts: tuple[Section, ...] = ()
    remarks: tuple[Remark, ...] = ()
    asked: Mapping[str, str | None] = field(default_factory=dict)
