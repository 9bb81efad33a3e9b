# Exported from nbs/05b_recover.ipynb. Edit either side, then run `litml sync`.
"""See through what tools and people do to the markers of a module."""

import ast
import difflib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from litml.edit import Piece
from litml.parts import Part

__all__ = ["Statement", "read_statements", "split_new", "recover_pieces"]


# ## Statements
# %% Statement
@dataclass(frozen=True, slots=True)
class Statement:
    """A top-level statement: the names it binds, and its lines.

    Decorators and the comments directly above belong to it. `start` and `end` are
    indices into the lines, the end not included.
    """

    names: frozenset[str]
    start: int
    end: int
    is_definition: bool


# %% read_statements
def read_statements(text: str) -> list[Statement]:
    """Return the top-level statements of some code; none if it does not parse."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = ast.parse(text).body
    except (SyntaxError, ValueError):
        return []
    lines = text.split("\n")
    found: list[Statement] = []
    for node in nodes:
        decorators = getattr(node, "decorator_list", [])
        start = min([node.lineno, *(one.lineno for one in decorators)]) - 1
        floor = found[-1].end if found else 0
        while start > floor and lines[start - 1].startswith("#"):
            start -= 1
        names = frozenset(bound(node))
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        simple = isinstance(node, ast.Assign | ast.AnnAssign) and len(names) == 1
        definition = isinstance(node, kinds) or simple
        end = node.end_lineno or node.lineno
        found.append(Statement(names, max(start, floor), end, definition))
    return found


# %% bound
def bound(node: ast.stmt) -> list[str]:
    """Return the names a statement binds by defining or assigning them."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        targets = [item for target in node.targets for item in ast.walk(target)]
        return [item.id for item in targets if isinstance(item, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def names_in(text: str) -> set[str]:
    """Return the names that code binds at its top level."""
    return {name for one in read_statements(text) for name in one.names}


# ## New definitions
# %% split_new
def split_new(text: str, base: str, known: Iterable[str]) -> list[str]:
    """Split new definitions off the end of an edited piece.

    `known` are the names the module had. Returns the piece, then each new definition.
    """
    own, taken = names_in(base), set(known)
    statements = read_statements(text)
    if not own <= names_in(text):
        return [text]
    lines = text.split("\n")
    old = {line.strip() for line in base.split("\n") if len(line.strip()) > 12}
    cut = len(statements)
    for i in range(len(statements) - 1, 0, -1):
        one = statements[i]
        body = {line.strip() for line in lines[one.start : one.end]}
        is_new = one.is_definition and not one.names & taken and not body & old
        if not is_new or lines[one.start - 1].strip():
            break
        cut = i
    if cut == len(statements):
        return [text]
    starts = [one.start for one in statements[cut:]]
    pieces = [lines[: starts[0]]]
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        pieces.append(lines[start:stop])
    return ["\n".join(piece).strip("\n") for piece in pieces]


# ## Lost, mistyped and copied markers
# %% recover_pieces
def recover_pieces(
    theirs: list[Part], base: dict[str, str], ours: set[str]
) -> tuple[list[Piece], list[str]]:
    """Return the pieces of an edited module under their right ids, and notes.

    `base` are the texts the cells had, by id, and `ours` the ids of the notebook's
    cells. A piece without a cell yet has an empty id, or the one its marker gives.
    """
    notes: list[str] = []
    parts = drop_copies(theirs, base, notes)
    found = {part.id for part in parts}
    owner = {
        name: cell
        for cell in base
        if cell not in found
        for name in names_in(base[cell])
    }
    known = {name for text in base.values() for name in names_in(text)}
    pieces: list[Piece] = []
    for part in parts:
        if part.id not in base and part.id not in ours and part.text:
            cells = {owner[name] for name in names_in(part.text) if name in owner}
            if len(cells) == 1:
                cell = cells.pop()
                notes.append(f"cell {cell}: its marker had become `{part.id}`")
                pieces.append(Piece(cell, part.text))
                continue
        pieces += take_apart(part, base, owner, known, notes)
    return join_same(pieces), notes


# %% drop_copies
def drop_copies(
    parts: list[Part], base: dict[str, str], notes: list[str]
) -> list[Part]:
    """Let only one part keep an id: of several, the one most like the base."""
    best: dict[str, tuple[float, int]] = {}
    for i, part in enumerate(parts):
        matcher = difflib.SequenceMatcher(None, base.get(part.id, ""), part.text)
        alike = matcher.ratio() if [p.id for p in parts].count(part.id) > 1 else 1.0
        best[part.id] = max(best.get(part.id, (-1.0, 0)), (alike, -i))
    kept = []
    for i, part in enumerate(parts):
        if part.id and best[part.id][1] != -i:
            notes.append(
                f"cell {part.id}: its marker was copied; the copy is a new cell"
            )
            part = Part("", part.text, part.line, part.headings)
        kept.append(part)
    return kept


# %% take_apart
def take_apart(
    part: Part,
    base: dict[str, str],
    owner: dict[str, str],
    known: set[str],
    notes: list[str],
) -> list[Piece]:
    """Return a part as pieces: what lost its marker, and what is new, by itself."""
    before = base.get(part.id)
    if part.text == before:
        return [Piece(part.id, part.text)]
    lines = part.text.split("\n")
    strays: list[Piece] = []
    for one in reversed(read_statements(part.text)):
        cells = {owner[name] for name in one.names if name in owner}
        if len(cells) == 1:
            cell = cells.pop()
            text = [line for line in lines[one.start : one.end] if line[:4] != "# %%"]
            strays.insert(0, Piece(cell, "\n".join(text)))
            notes.append(f"cell {cell}: its marker was lost; found by name")
            del lines[one.start : one.end]
    rest = "\n".join(lines).strip("\n")
    texts = split_new(rest, before, known) if before is not None else [rest]
    pieces = [Piece(part.id, texts[0])] if texts[0] or part.id else []
    return [*pieces, *strays, *(Piece("", text) for text in texts[1:])]


# %% join_same
def join_same(pieces: list[Piece]) -> list[Piece]:
    """Join pieces that belong to one cell into one, at the place of the first."""
    joined: dict[str, Piece] = {}
    result: list[Piece] = []
    for piece in pieces:
        if piece.id and piece.id in joined:
            first = joined[piece.id]
            text = f"{first.text}\n\n\n{piece.text}"
            result[result.index(first)] = joined[piece.id] = Piece(first.id, text)
        else:
            joined[piece.id] = piece
            result.append(piece)
    return result
