# Exported from nbs/15i_pages.ipynb. Edit either side, then run `litml sync`.
"""What of a notebook is on its page: titles, directives, cards, outputs."""

import ast
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from litml.cells import Directive, bound_names, read_directives, split_head
from litml.front import parse_yaml
from litml.library import Library
from litml.notebook import Cell, Location, Notebook
from litml.page import (
    ApiCard,
    Block,
    Callout,
    Code,
    Page,
    PageError,
    Prose,
    Shown,
    Symbol,
)
from litml.prose import Div, split_boxes
from litml.symbols import read_symbols
from litml.widgets import pack_models, read_models

__all__ = [
    "Opening",
    "FRONT_KEYS",
    "FRONT_LINE",
    "read_title",
    "plain",
    "read_opening",
    "find_title",
    "BADGES",
    "is_headed",
    "is_front",
    "body_of",
    "Wish",
    "NOTHING",
    "ALIASES",
    "read_wish",
    "read_options",
    "make_prose",
    "is_note",
    "is_readable",
    "show_doc_names",
    "find_cards",
    "CHORES",
    "HIDDEN_LINE",
    "LANGUAGES",
    "shown_code",
    "is_chore",
    "name_code",
    "check_output",
    "make_outputs",
    "keep_lines",
    "Maker",
    "fold_code",
    "make_page",
    "make_maker",
]


# ## The title
# %% Opening
@dataclass(frozen=True, slots=True)
class Opening:
    """The title and what else the head of a page says; `rest` is prose below it."""

    title: str = ""
    summary: str = ""
    rest: str = ""
    front: Mapping[str, Any] = field(default_factory=dict)
    cell: str = ""


FRONT_KEYS = frozenset(
    "aliases author authors bibliography categories code-fold date description draft"
    " eval execute format hide image jupyter keywords lang listing number-sections"
    " order output-file page-layout search sidebar skip_exec skip_showdoc subtitle"
    " title title-block-banner toc toc-depth".split()
)
FRONT_LINE = re.compile(r"- ([\w-]+): *(.*)$")


def read_title(source: str, at: Location) -> Opening | None:
    """Read the cell with the title; None if it is none."""
    if not (match := re.match(r"\s*# +(.+?)(?: *\{[^{}]*\})? *(?:\n|$)", source)):
        return None
    lines = source[match.end() :].split("\n")
    quote, front = [], {}
    while lines:
        said = FRONT_LINE.match(lines[0])
        if said and said[1] in FRONT_KEYS:
            front[said[1]] = said[2].strip()
        elif lines[0].startswith(">") and not lines[0].startswith("> ["):
            quote.append(lines[0].lstrip("> ").rstrip())
        elif lines[0].strip():
            break
        del lines[0]
    summary = front.get("description") or " ".join(quote)
    rest = "\n".join(lines).strip("\n")
    title = front.get("title") or plain(match[1])
    return Opening(title, summary, rest, front, at.cell or "")


def plain(markdown: str) -> str:
    """Return a line of Markdown without its marks."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)|<[^>]*>", r"\1", markdown)
    return re.sub(r"[*`]+|(?<!\w)_+|_+(?!\w)", "", text).strip()


# %% read_opening
def read_opening(notebook: Notebook, name: str) -> Opening:
    """Return how a page opens. Without a title, it is called as its notebook is."""
    front: dict[str, Any] = {}
    for cell in notebook.cells:
        if cell.kind == "raw" and is_front(cell.source):
            at = Location(notebook.name, cell.id)
            found = parse_yaml(cell.source.strip().strip("-"), at)
            front |= found if isinstance(found, dict) else {}
        elif is_headed(cell):
            break
    opening = find_title(notebook)
    front = {**opening.front, **front}
    words = re.sub(r"^\d+\w?_", "", posixpath.basename(name)).replace("_", " ").strip()
    title = str(front.get("title") or opening.title or words.capitalize() or name)
    said = front.get("description") or front.get("subtitle") or opening.summary
    front.pop("litml", None)  # which is about running
    return replace(opening, title=title, summary=str(said), front=front)


def find_title(notebook: Notebook) -> Opening:
    """Return the title, and what stands with it; an empty one if there is none.

    Below other prose, one of several headings is a part of the page, not its title.
    """
    prose = [cell for cell in notebook.cells if cell.kind == "markdown"]
    heads = [cell for cell in prose if is_headed(cell)]
    above = prose[: prose.index(heads[0])] if heads else []
    if not heads or (len(heads) > 1 and any(BADGES.sub("", c.source) for c in above)):
        return Opening()
    at = Location(notebook.name, heads[0].id)
    return read_title(body_of(heads[0]), at) or Opening()


BADGES = re.compile(r"<[^>]*>|\[!\[[^\]]*\]\([^)]*\)\]\([^)]*\)|\s+")


def is_headed(cell: Cell) -> bool:
    """Does a cell begin with a heading that may be a title?"""
    return cell.kind == "markdown" and bool(re.match(r"\s*# ", body_of(cell)))


def is_front(source: str) -> bool:
    """Is a raw cell front matter?"""
    return bool(re.fullmatch(r"\s*---\n.*\n---\s*", source, re.DOTALL))


def body_of(cell: Cell) -> str:
    """Return a prose cell's text without directives."""
    return split_head(cell.source).body if "|" in cell.source[:80] else cell.source


# ## What is shown of a cell
# %% Wish
@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be shown: `code` and `outputs` are `show`, `fold`, `open` or `none`.

    What is `open` can be folded. `asis` takes printed text for Markdown.
    """

    code: str = "show"
    outputs: str = "show"
    warnings: bool = True
    errors: bool = True
    asis: bool = False


NOTHING = Wish("none", "none")
ALIASES = {
    **{"hide_input": "echo: false", "hide_output": "output: false"},
    **{"collapse": "code-fold", "collapse_input": "code-fold"},
    **{"collapse_show": "code-fold: show", "collapse_hide": "code-fold"},
    **{"collapse_output": "collapse-output"},
    **{"remove-cell": "hide", "remove_cell": "hide", "hide-cell": "code-fold"},
    **{"remove-input": "echo: false", "remove-output": "output: false"},
    **{"hide-input": "code-fold", "hide-output": "collapse-output"},
}


def read_wish(options: Mapping[str, str]) -> Wish:
    """Return what the options of a cell ask for."""
    if "hide" in options or options.get("include") == "false":
        return NOTHING
    code, outputs = "show", "show"
    if fold := options.get("code-fold"):
        code = {"true": "fold", "show": "open"}.get(fold, "show")
    if options.get("echo") == "false":
        code = "none"
    if options.get("collapse-output") == "true":
        outputs = "fold"
    if options.get("output") == "false" or options.get("results") == "hide":
        outputs = "none"
    return Wish(
        code,
        outputs,
        warnings=options.get("warning") != "false",
        errors=options.get("error") != "false",
        asis="asis" in (options.get("output"), options.get("results")),
    )


# %% read_options
def read_options(cell: Cell, said: Mapping[str, Directive]) -> dict[str, str]:
    """Return what a cell says of itself in any notation; `true` where no value is."""
    about = cell.metadata
    tags = about.get("tags")
    found = [str(tag) for tag in tags] if isinstance(tags, list) else []
    found += ["hide_input"] if about.get("hide_input") is True else []
    if isinstance(lab := about.get("jupyter"), dict):
        found += ["code-fold"] if lab.get("source_hidden") is True else []
        found += ["collapse-output"] if lab.get("outputs_hidden") is True else []
    options = {}
    for word in [*found, *said]:
        name, _, value = ALIASES.get(word, word).partition(": ")
        own = said[word].value if word in said and word not in ALIASES else ""
        options[name] = (own or value or "true").strip().strip("\"'")
    return options


# ## Prose
# %% make_prose
def make_prose(cell: Cell, source: str) -> Iterator[Block]:
    """Yield the blocks of some Markdown of a cell."""
    found = cell.data.get("attachments")
    attachments = found if isinstance(found, dict) else {}
    for part in split_boxes(source):
        if isinstance(part, Callout):
            yield replace(part, cell=cell.id, attachments=attachments)
        elif isinstance(part, Div):
            said = [f"#{part.id}"] if part.id else []
            said += [f".{name}" for name in part.classes]
            text = f"::: {{{' '.join(said)}}}\n{part.source}\n:::"
            yield Prose(cell.id, text, attachments)
        else:
            yield Prose(cell.id, part.strip("\n"), attachments)


def is_note(source: str) -> bool:
    """Is a cell a heading that its author has for himself?"""
    text = source.strip()
    return text.startswith("#") and text.endswith(" -")


def is_readable(cell: Cell) -> bool:
    """Is a raw cell HTML or Markdown?"""
    kind = cell.metadata.get("raw_mimetype") or cell.metadata.get("format")
    return kind in ("text/html", "text/markdown")


# ## Cards
# %% show_doc_names
def show_doc_names(body: str) -> list[str]:
    """Return what a cell of nothing but `show_doc(…)` calls names; else nothing."""
    if "show_doc" not in body:
        return []
    try:
        statements = ast.parse(body).body
    except (SyntaxError, ValueError):
        return []
    names = []
    for statement in statements:
        call = statement.value if isinstance(statement, ast.Expr) else None
        if not isinstance(call, ast.Call) or not call.args:
            return []
        if getattr(call.func, "attr", getattr(call.func, "id", "")) != "show_doc":
            return []
        names.append(ast.unparse(call.args[0]))
    return names


def find_cards(own: Sequence[Symbol], elsewhere: Iterable[str]) -> list[ApiCard]:
    """Return the cards at a cell that defines some symbols."""
    kinds = ("function", "class", "method", "property")
    classes = {symbol.name for symbol in own if symbol.kind == "class"}
    return [
        ApiCard(symbol)
        for symbol in own
        if symbol.kind in kinds and symbol.name not in elsewhere
        # a method of a class in this cell, or one that is added to a class here
        if symbol.name.rpartition(".")[0] not in classes or symbol.doc
    ]


# ## Code
# %% shown_code
CHORES = re.compile(
    r"^%(?:load_ext|reload_ext|autoreload|matplotlib|config)\b.*\n?", re.M
)
HIDDEN_LINE = re.compile(r"^.*#\s*\|\s*hide_line[^\S\n]*\n?", re.M)
LANGUAGES = {
    **{"bash": "bash", "sh": "bash", "script": "bash", "!": "bash", "html": "html"},
    **{"javascript": "javascript", "js": "javascript", "latex": "latex", "sql": "sql"},
    **{"cython": "cython", "perl": "perl", "ruby": "ruby", "r": "r", "svg": "xml"},
}


def shown_code(cell: Cell, notebook: Notebook) -> tuple[str, str]:
    """Return a cell's code as its reader wants it, and its language."""
    language = str(cell.metadata.get("language") or notebook.language).lower()
    head = split_head(cell.source, language)
    body = HIDDEN_LINE.sub("", CHORES.sub("", head.body)) if head.body else ""
    magic = re.match(r"\s*%%(\w+)", "\n".join(head.magics))
    if magic and magic[1].lower() in LANGUAGES:
        language = LANGUAGES[magic[1].lower()]
    elif re.fullmatch(r"\s*(?:!.*\s*)+", body):
        language = "bash"
    return "\n".join([*head.magics, body.strip("\n")]).strip("\n"), language


def is_chore(body: str) -> bool:
    """Is a cell there for tools only?"""
    return not body or "nbdev_export()" in body


def name_code(body: str) -> str:
    """Return what to call folded code that has no card: by what it defines."""
    try:
        tree = ast.parse(body)
    except (SyntaxError, ValueError):
        return "Code"
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    private = [one.name for one in tree.body if isinstance(one, kinds)]
    if names := bound_names(tree) or private:
        listed = ", ".join(f"`{name}`" for name in names[:3])
        return f"Code of {listed}{', …' if len(names) > 3 else ''}"
    imports = any(isinstance(one, ast.Import | ast.ImportFrom) for one in tree.body)
    return "Imports" if imports else "Code"


# ## Outputs
# %% check_output
def check_output(output: Mapping[str, Any], at: Location) -> None:
    """Raise `PageError` unless an output is what nbformat says."""
    kind = output.get("output_type")
    texts: list[object] = []
    if kind == "stream":
        texts = [output.get("text")]
    elif kind in ("display_data", "execute_result", "update_display_data"):
        if not isinstance(output.get("data"), dict):
            raise PageError("an output whose `data` is not an object", at=at)
        forms = output["data"].items()
        texts = [value for form, value in forms if form.startswith("text/")]
    elif kind != "error":
        raise PageError(f"an output of no known type: {kind!r}", at=at)
    for text in texts:
        lines = text if isinstance(text, list) else [text]
        if not all(isinstance(line, str) for line in lines):
            raise PageError("an output whose text is not text", at=at)


def make_outputs(
    cell: Cell, options: Mapping[str, str], wish: Wish, at: Location
) -> Iterator[Shown]:
    """Yield what is shown of a cell's outputs, with their captions."""
    caption = options.get("fig-cap") or options.get("tbl-cap") or ""
    label, alt = options.get("label", ""), options.get("fig-alt", "")
    folded = wish.outputs == "fold"
    for output in cell.outputs if wish.outputs != "none" else ():
        check_output(output, at)
        kind = output["output_type"]
        if kind == "error" and not wish.errors:
            continue
        if kind == "stream" and (output := keep_lines(output, options, wish, at)):
            yield Shown(cell.id, output, folded)
        elif kind != "stream":
            yield Shown(cell.id, output, folded, "", caption, alt, label)
            caption = label = ""


def keep_lines(
    output: dict[str, Any], options: Mapping[str, str], wish: Wish, at: Location
) -> dict[str, Any]:
    """Return a stream as far as it is shown; nothing if it is not."""
    if output.get("name") == "stderr" and not wish.warnings:
        return {}
    text = "".join(output["text"])
    if wish.asis and output.get("name") != "stderr":
        return {"output_type": "display_data", "data": {"text/markdown": text}}
    if words := options.get("filter_stream", "").split():
        try:
            pattern = re.compile("|".join(words))
        except re.error as error:
            raise PageError(f"`filter_stream`: {error}", at=at) from error
        lines = text.splitlines(keepends=True)
        text = "".join(line for line in lines if not pattern.search(line))
    return {**output, "text": text} if text.strip() else {}


# ## A page
# %% Maker
@dataclass(frozen=True, slots=True)
class Maker:
    """What the cells of a page have in common."""

    notebook: Notebook
    opening: Opening
    symbols: Mapping[str, Symbol]
    by_cell: Mapping[str, Sequence[Symbol]]
    elsewhere: frozenset[str]

    def blocks(self, cell: Cell, said: Mapping[str, Directive]) -> Iterable[Block]:
        """Return the blocks of a cell."""
        if cell.kind == "code":
            return self.code_blocks(cell, read_options(cell, said))
        if cell.kind == "raw":
            return make_prose(cell, cell.source) if is_readable(cell) else ()
        source = body_of(cell)
        if cell.id == self.opening.cell:
            source = self.opening.rest
        return () if is_note(source) else make_prose(cell, source)

    def code_blocks(self, cell: Cell, options: Mapping[str, str]) -> Iterator[Block]:
        """Yield the blocks of a code cell: cards, code, outputs."""
        wish = read_wish(options)
        body, language = shown_code(cell, self.notebook)
        if wish is NOTHING or is_chore(body):
            return
        names = [self.strip(name) for name in show_doc_names(body)]
        if any(name in self.symbols for name in names):
            yield from (ApiCard(self.symbols[n]) for n in names if n in self.symbols)
            return
        exported = bool(options.keys() & {"export", "exports", "exporti"})
        cards = find_cards(self.by_cell.get(cell.id, ()), self.elsewhere)
        yield from cards
        code = Code(cell.id, body, language, exported=exported)
        code = replace(code, caption=options.get("lst-cap", ""))
        yield from fold_code(code, wish, options, bool(cards))
        at = Location(self.notebook.name, cell.id)
        models = read_models(self.notebook.metadata)
        for shown in make_outputs(cell, options, wish, at):
            yield replace(shown, output=pack_models(shown.output, models))

    def strip(self, name: str) -> str:
        """Return a name as the module has it: `core.Cell.source` is `Cell.source`."""
        while name not in self.symbols and "." in name:
            name = name.partition(".")[2]
        return name


def fold_code(
    code: Code, wish: Wish, options: Mapping[str, str], has_card: bool
) -> Iterator[Code]:
    """Yield code as it is to be shown: open, folded, or not at all."""
    if wish.code == "none" or show_doc_names(code.source):
        return
    hidden = code.exported and "exports" not in options and wish.code == "show"
    summary = options.get("code-summary", "")
    if hidden or wish.code in ("fold", "open"):
        default = "Implementation" if has_card else "Code"
        if code.exported and not has_card:
            default = name_code(code.source)
        folded = hidden or wish.code == "fold"
        yield replace(code, folded=folded, summary=summary or default)
    else:
        yield code


# %% make_page
def make_page(
    notebook: Notebook,
    name: str,
    module: str = "",
    module_text: str = "",
    flags: Iterable[str] = (),
    *,
    library: Library | None = None,
    module_file: str = "",
) -> Page:
    """Make the page of a notebook, and of the module that is made of it.

    Raises `PageError`, or another `LitmlError`, naming the cell that is wrong.
    """
    symbols = read_symbols(module_text, module, library) if module_text else ()
    maker = make_maker(notebook, read_opening(notebook, name), symbols)
    said = read_directives(notebook, tuple(flags), strict=False)
    pairs = zip(notebook.cells, said, strict=True)
    return Page(
        name,
        notebook.name,
        module,
        maker.opening.title,
        maker.opening.summary,
        tuple(block for cell, one in pairs for block in maker.blocks(cell, one)),
        symbols,
        module_file,
        notebook.language,
        maker.opening.front,
    )


def make_maker(
    notebook: Notebook, opening: Opening, symbols: Iterable[Symbol]
) -> Maker:
    """Return what the cells of a page have in common."""
    by_cell: dict[str, list[Symbol]] = defaultdict(list)
    for symbol in symbols:
        by_cell[symbol.cell].append(symbol)
    by_name = {symbol.name: symbol for symbol in symbols}
    maker = Maker(notebook, opening, by_name, by_cell, frozenset())
    bodies = [cell.source for cell in notebook.cells if "show_doc" in cell.source]
    shown = [n for body in bodies for n in show_doc_names(split_head(body).body)]
    return replace(maker, elsewhere=frozenset(map(maker.strip, shown)))
