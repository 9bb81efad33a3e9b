# Exported from nbs/06_pieces.ipynb. Edit either side, then run `litml sync`.
"""Cut the text of a module into the pieces that will be the cells of a notebook."""

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby

from litml.cells import bound_names, parse_code
from litml.export import is_import
from litml.parts import first_line

__all__ = ["Piece", "Span", "find_spans", "mark_of", "cut"]


# ## Pieces
# %% Piece
@dataclass(frozen=True, slots=True)
class Piece:
    """Lines of a module for one cell: their kind, their text, and their statements."""

    kind: str
    text: str
    nodes: tuple[ast.stmt, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names that exporting the piece would put into `__all__`."""
        return bound_names(ast.Module([*self.nodes], []))


# %% Span
@dataclass(frozen=True, slots=True)
class Span:
    """Statements and the lines they stand on, from `start` up to `end`, from 0."""

    kind: str
    start: int
    end: int
    nodes: tuple[ast.stmt, ...]


# %% kind_of
DEFINITION = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def kind_of(node: ast.stmt) -> str:
    """Return the kind of piece that a statement makes."""
    if is_import(node):
        return "imports"
    if isinstance(node, DEFINITION):
        return "definition"
    return "block" if hasattr(node, "body") or hasattr(node, "cases") else "values"


# %% is_text
def is_text(node: ast.stmt) -> bool:
    """Is the statement a string, which at the top of a module is its docstring?"""
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


# %% find_spans
def find_spans(body: Iterable[ast.stmt]) -> list[Span]:
    """Return the lines of each statement; those that share a line are one span."""
    spans: list[Span] = []
    for node in body:
        start = first_line(node) - 1
        kind = kind_of(node) if spans or not is_text(node) else "docstring"
        span = Span(kind, start, node.end_lineno or start, (node,))
        if spans and start < spans[-1].end:
            last = spans.pop()
            kind = last.kind if last.kind == span.kind else "values"
            span = Span(kind, last.start, span.end, (*last.nodes, node))
        spans.append(span)
    return spans


# ## Comments
# %% read_heading
RULE = re.compile(r"^[\s\-=#*~+_]*$")


def read_heading(lines: list[str]) -> str | None:
    """Return the heading that a banner such as `--- Tables ---` stands for."""
    titles = [line for line in lines if not RULE.match(line)]
    if len(titles) != 1:
        return None
    title = titles[0].strip(" -=#*~+")
    ruled = len(lines) > 1 or re.match(r"\s*([-=#*~+])\1.*\1\1\s*$", titles[0])
    return f"## {title}" if ruled and len(title) < 60 else None


# %% is_code
def is_code(text: str) -> bool:
    """Is the text of a comment code that was switched off, rather than words?"""
    try:
        body = parse_code(text).body
    except (SyntaxError, ValueError):
        return False
    words = (ast.Name, ast.Constant, ast.Tuple)
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, words))
        for node in body
    )


# %% read_prose
KEEP = re.compile(
    r"copyright|©|licen[sc]e|spdx|noqa|-\*-|\b(?:todo|fixme|xxx|hack)\b"
    r"|^\s*(?:!|\||%%|(?:end)?region\b|(?:type|fmt|mypy|ruff|isort|pylint|pyright"
    r"|flake8|pragma|nosec|yapf|cython|coding|doctest|black|vim?) *:)",
    re.MULTILINE | re.IGNORECASE,
)


def read_prose(block: list[str]) -> str | None:
    """Return a block of comment lines as Markdown, or None if it has to stay code."""
    if not all(line.startswith("#") for line in block):
        return None
    lines = [line.lstrip("#") for line in block]
    text = textwrap.dedent("\n".join(lines)).strip()
    if KEEP.search("\n".join(lines)) or not re.search(r"[^\W\d_]{2}", text):
        return None
    if heading := read_heading(lines):
        return heading
    return None if is_code(text) else text


# ## Cutting
# %% find_blocks
def find_blocks(lines: list[str], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where each run of lines that are not blank begins and ends."""
    first = None
    for i in range(start, end):
        if lines[i].strip() and first is None:
            first = i
        elif not lines[i].strip() and first is not None:
            yield first, i
            first = None
    if first is not None:
        yield first, end


# %% Gap
@dataclass(frozen=True, slots=True)
class Gap:
    """What stands between two statements.

    `tail` is where the piece above ends, `head` where the one below begins; between
    them stands `prose`. `blank` is the number of blank lines in a row, at most.
    """

    tail: int
    prose: tuple[str, ...]
    head: int
    blank: int


# %% read_gap
def read_gap(lines: list[str], start: int, end: int) -> Gap:
    """Read the lines from `start` up to `end`, which hold no statement."""
    indented = [i for i in range(start, end) if re.match(r"[ \t]+\S", lines[i])]
    tail = max(indented, default=start - 1) + 1 if start else 0
    head, prose = tail, []
    for block_start, block_end in find_blocks(lines, tail, end):
        text = read_prose(lines[block_start:block_end])
        if text is None or block_end == end:
            head = block_start
            break
        prose.append(text)
        head = block_end
    else:
        head = end
    runs = groupby(lines[tail:end], lambda line: not line.strip())
    blank = max((len(list(run)) for empty, run in runs if empty), default=0)
    return Gap(tail, tuple(prose), head, blank)


# %% mark_of
def mark_of(nodes: Iterable[ast.stmt], public: frozenset[str] | None) -> str:
    """Return `export` or `exporti` for statements, `` if it does not matter.

    `mixed` stands for statements that bind names of both kinds.
    """
    names = bound_names(ast.Module([*nodes], []))
    if not names:
        private = any(isinstance(node, DEFINITION) for node in nodes)
        return "exporti" if private else ""
    if public is None:
        return "export"
    inside = [name in public for name in names]
    return "export" if all(inside) else "mixed" if any(inside) else "exporti"


# %% belongs
def belongs(last: Span, span: Span, gap: Gap, public: frozenset[str] | None) -> bool:
    """Does a span go into the same piece as the one before it?"""
    if last.kind == span.kind == "imports":
        return True
    if last.kind == span.kind == "definition":
        names = [getattr(one.nodes[-1], "name", "") for one in (last, span)]
        return names[0] == names[1] != "_"
    marks = mark_of(last.nodes, public), mark_of(span.nodes, public)
    if span.kind != "values" or gap.prose or not (marks[0] == marks[1] or "" in marks):
        return False
    if last.kind == "values":
        return gap.blank < 2
    return last.kind == "definition" and last.end == span.start


# %% make_piece
def make_piece(group: Span | str, lines: list[str]) -> Piece:
    """Return the piece of some prose, or of a span's lines."""
    if isinstance(group, str):
        return Piece("prose", group)
    text = "\n".join(lines[group.start : group.end])
    return Piece(group.kind, text.strip("\n"), group.nodes)


# %% cut
def cut(text: str, public: frozenset[str] | None = None) -> list[Piece]:
    """Cut a module's text into pieces, in order; no statement and no comment is lost.

    `public` are the names in the module's `__all__`, which are kept apart from others.
    """
    lines = text.split("\n")
    spans = find_spans(parse_code(text).body)
    groups: list[Span | str] = []
    end = 0
    for span in spans:
        gap = read_gap(lines, end, span.start)
        last = groups[-1] if groups else None
        end = span.end
        if isinstance(last, Span) and belongs(last, span, gap, public):
            nodes = (*last.nodes, *span.nodes)
            groups[-1] = replace(last, end=span.end, nodes=nodes)
            continue
        if isinstance(last, Span):
            groups[-1] = replace(last, end=gap.tail)
        groups += [*gap.prose, replace(span, start=gap.head)]
    rest = "\n".join(lines[end:]).rstrip()
    return [make_piece(one, lines) for one in groups[:-1]] + [
        replace(piece, text=f"{piece.text}\n{rest}".rstrip())
        for piece in (make_piece(one, lines) for one in groups[-1:])
    ]
