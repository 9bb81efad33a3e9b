# Exported from nbs/05b_recover.ipynb. Edit either side, then run `litml sync`.
"""See through what tools and people do to the markers of a module."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby

from litml.cells import is_patch, parse_code
from litml.edit import Piece
from litml.parts import Part, first_line, last_line, parse_quietly

__all__ = [
    "read_statements",
    "recover_pieces",
    "is_hollow",
    "follow_ids",
    "group_by_key",
    "DECLARED",
    "renamed_methods",
    "rename_patch",
]


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
@lru_cache(maxsize=512)
def read_statements(text: str) -> tuple[Statement, ...]:
    """Return the top-level statements of some code; none if it does not parse.

    Statements on one line count as one.
    """
    try:
        nodes = parse_code(text).body
    except (SyntaxError, ValueError):
        return ()
    lines = text.split("\n")
    found: list[Statement] = []
    for node in nodes:
        start, end = first_line(node) - 1, last_line(node)
        names = frozenset(bound(node))
        if found and start < found[-1].end:
            last = found.pop()
            found.append(Statement(last.names | names, last.start, end, False))
            continue
        floor = found[-1].end if found else 0
        while start > floor and lines[start - 1].startswith("#"):
            start -= 1
        found.append(Statement(names, start, end, is_definition(node)))
    return tuple(found)


# %% bound
def is_definition(node: ast.stmt) -> bool:
    """Does it do nothing but give something one name?"""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    simple = isinstance(node, ast.Assign | ast.AnnAssign) and len(bound(node)) == 1
    return isinstance(node, kinds) or simple


def bound(node: ast.stmt) -> list[str]:
    """Return the names a statement binds by defining or assigning them."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        targets = [item for target in node.targets for item in ast.walk(target)]
        names = [item for item in targets if isinstance(item, ast.Name)]
        return [item.id for item in names if isinstance(item.ctx, ast.Store)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def names_in(text: str) -> set[str]:
    """Return the names that code binds at its top level."""
    return {name for one in read_statements(text) for name in one.names}


# ## New definitions
# %% split_new
def split_new(text: str, base: str, known: set[str]) -> list[str]:
    """Split new definitions off the end of an edited piece.

    `known` are the names the module had. Returns the piece, then each new definition.
    """
    statements, lines = read_statements(text), text.split("\n")
    names = {name for one in statements for name in one.names}
    if not names_in(base) <= names:
        return [text]
    old = long_lines(base.split("\n"))
    cut = len(statements)
    for i in range(len(statements) - 1, 0, -1):
        one = statements[i]
        is_new = one.is_definition and not one.names & known
        body = lines[one.start : one.end]
        if not is_new or long_lines(body) & old or lines[one.start - 1].strip():
            break
        cut = i
    starts = [0, *(one.start for one in statements[cut:])]
    ends = [*starts[1:], len(lines)]
    return [trim(lines[start:end]) for start, end in zip(starts, ends, strict=True)]


# %% long_lines
def long_lines(lines: Iterable[str]) -> set[str]:
    """Return the lines that are too long to be alike by chance."""
    return {line.strip() for line in lines if len(line.strip()) > 12}


def trim(lines: Sequence[str]) -> str:
    """Join lines to a text without blank ones at its edges."""
    kept = [i for i, line in enumerate(lines) if line.strip()]
    return "\n".join(lines[kept[0] : kept[-1] + 1]).rstrip() if kept else ""


# ## Lost, mistyped and copied markers
# %% Lost
@dataclass(slots=True)
class Lost:
    """Cells without a marker: where to look up their statements, by text and name.

    `base` are the texts of all cells before the edit. The cells in `hollow` have a
    marker, but other code below it.
    """

    base: dict[str, str]
    cells: set[str]
    hollow: set[str]
    texts: dict[str, set[str]] = field(default_factory=dict)
    names: dict[str, set[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for cell in self.cells | self.hollow:
            for one, code in statements_of(self.base[cell]):
                self.texts.setdefault(code, set()).add(cell)
                for name in one.names if cell in self.cells else ():
                    self.names.setdefault(name, set()).add(cell)

    def find(self, one: Statement, code: str) -> str | None:
        """Return the lost cell that a statement belongs to, if that is certain."""
        found = self.texts.get(code, set()) & (self.cells | self.hollow)
        if not found:
            found = {cell for name in one.names for cell in self.names.get(name, ())}
            found &= self.cells
        return found.pop() if len(found) == 1 else None


def statements_of(text: str) -> Iterator[tuple[Statement, str]]:
    """Yield the statements of some code, each with its text without comments above."""
    lines = text.split("\n")
    for one in read_statements(text):
        code = "\n".join(lines[one.start : one.end])
        yield one, re.sub(r"\A(?:#.*\n)+", "", code).rstrip()


# %% recover_pieces
def recover_pieces(
    theirs: list[Part], base: dict[str, str], ours: set[str]
) -> tuple[list[Piece], list[str]]:
    """Return the pieces of an edited module under their right ids, and notes.

    `base` are the texts the cells had, by id, and `ours` the ids of the notebook's
    cells. A piece without a cell yet has an empty id, or the one its marker gives.
    """
    notes: list[str] = []
    parts = [part for part in drop_copies(theirs, base, notes) if part.text]
    changed = [part for part in parts if part.text != base.get(part.id)]
    hollow = {part.id for part in changed if part.id in base and is_hollow(part, base)}
    lost = Lost(base, set(base) - {part.id for part in parts}, hollow)
    homes = {id(part): find_homes(part, lost) for part in changed}
    taken = {home for part in changed for home in homes[id(part)] if home != part.id}
    pieces: list[Piece] = []
    for part in parts:
        if part not in changed or not read_statements(part.text):
            pieces.append(Piece(part.id, part.text))
        else:
            own = "" if part.id in taken else part.id
            is_known = part.id in base or part.id in ours
            found = take_apart(part, own, homes[id(part)], lost, is_known, notes)
            pieces += found
    return join_comments(pieces, notes), notes


def is_hollow(part: Part, base: dict[str, str]) -> bool:
    """Is nothing left under a marker of what was there?"""
    before = list(statements_of(base[part.id]))
    now = list(statements_of(part.text))
    names = {name for one, _ in before for name in one.names}
    texts = {code for _, code in before}
    return not any(one.names & names or code in texts for one, code in now)


# %% drop_copies
def drop_copies(
    parts: list[Part], base: dict[str, str], notes: list[str]
) -> list[Part]:
    """Let only one part keep an id: of several, the one most like the base."""
    counts = Counter(part.id for part in parts if part.text)
    if max(counts.values(), default=1) == 1:
        return parts
    from difflib import SequenceMatcher

    best: dict[str, tuple[float, int]] = {}
    for i, part in enumerate(parts):
        if counts[part.id] > 1:
            before = base.get(part.id, "").split("\n")
            matcher = SequenceMatcher(None, before, part.text.split("\n"))
            best[part.id] = max(best.get(part.id, (-1.0, 0)), (matcher.ratio(), -i))
    kept = []
    for i, part in enumerate(parts):
        if part.id and part.text and part.id in best and best[part.id][1] != -i:
            notes.append(
                f"cell {part.id}: its marker was copied; the copy is a new cell"
            )
            part = Part("", part.text, part.line, part.headings)
        kept.append(part)
    return kept


# %% find_homes
def find_homes(part: Part, lost: Lost) -> list[str | None]:
    """Return the cell that each statement of a part belongs to, if that is known.

    A lost cell that is found is lost no more.
    """
    before = list(statements_of(lost.base.get(part.id, "")))
    texts = {code for _, code in before}
    names = {name for one, _ in before for name in one.names}
    homes = [
        part.id if code in texts or one.names & names else lost.find(one, code)
        for one, code in statements_of(part.text)
    ]
    found = {home for home in homes if home is not None and home != part.id}
    lost.cells -= found
    lost.hollow -= found
    return homes


# %% take_apart
def take_apart(
    part: Part,
    own: str,
    homes: list[str | None],
    lost: Lost,
    is_known: bool,
    notes: list[str],
) -> list[Piece]:
    """Return a part as pieces: its own, those of lost cells, and new definitions."""
    bases = lost.base.values() if len(homes) > 1 else ()  # one statement is not split
    known = {name for text in bases for name in names_in(text)}
    cells = {home for home in homes if home is not None}
    mistyped = not is_known and len(cells) == 1
    ids = spread(homes, next(iter(cells)) if mistyped else own)
    pieces = []
    for cell, text in runs(part.text, read_statements(part.text), ids):
        if cell in lost.base and cell != part.id:
            how = f"had become `{part.id}`" if mistyped and part.id else "was lost"
            notes.append(f"cell {cell}: its marker {how}; found by its code")
            text = drop_leftover(text, lost.base[cell])
        texts = split_new(text, lost.base[cell], known) if cell in lost.base else [text]
        pieces += [Piece(cell if i == 0 else "", one) for i, one in enumerate(texts)]
    return pieces


# %% spread
def spread(homes: list[str | None], own: str) -> list[str]:
    """Give every statement a home such that each has one stretch of the text.

    What stands in the midst of a cell's statements stays with that cell.
    """
    ids: list[str] = []
    for home in homes:
        ids.append(home if home is not None else ids[-1] if ids else own)
    for cell in dict.fromkeys([own, *ids]):
        if cell in ids:
            first, last = ids.index(cell), len(ids) - ids[::-1].index(cell)
            inner = own if own in ids[first:last] else cell
            ids[first:last] = [inner] * (last - first)
    return ids


def runs(
    text: str, statements: Sequence[Statement], ids: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield each stretch of statements with one id, and its text."""
    lines = text.split("\n")
    heads = [next(group) for _, group in groupby(range(len(ids)), ids.__getitem__)]
    starts = [0, *(statements[i].start for i in heads[1:])]
    for i, start, end in zip(heads, starts, [*starts[1:], len(lines)], strict=True):
        yield ids[i], trim(lines[start:end])


def drop_leftover(text: str, base: str) -> str:
    """Drop what is left of a marker above code that is a cell's after all."""
    first, _, rest = text.partition("\n")
    is_left = first.startswith("# %%") and first not in base.split("\n")
    return rest if is_left else text


# %% join_comments
def join_comments(pieces: list[Piece], notes: list[str]) -> list[Piece]:
    """Join pieces that are all comments to the one above them, or below."""
    joined: list[Piece] = []
    above = ""
    for piece in pieces:
        if all(line[:1] in ("", "#") for line in piece.text.split("\n")):
            if piece.id:
                notes.append(f"cell {piece.id}: only comments were left of it")
            if joined:
                last = joined.pop()
                joined.append(Piece(last.id, f"{last.text}\n\n\n{piece.text}"))
            else:
                above += f"{piece.text}\n\n\n"
        else:
            joined.append(Piece(piece.id, above + piece.text))
            above = ""
    return joined


# ## Ids that changed
# %% follow_ids
def follow_ids(base: dict[str, str], ours: dict[str, str]) -> dict[str, str]:
    """Return the new id of each cell of the base that has another one now."""
    gone = {cell: text for cell, text in base.items() if cell not in ours}
    come = {cell: text for cell, text in ours.items() if cell not in base}
    found: dict[str, str] = {}
    for look in (str, lambda text: frozenset(names_in(text))):
        old, new = (
            group_by_key({cell: look(text) for cell, text in side.items()})
            for side in (gone, come)
        )
        for key in old.keys() & new.keys():
            if key and len(old[key]) == len(new[key]) == 1:
                found[old[key][0]] = new[key][0]
                del gone[old[key][0]], come[new[key][0]]
    return found


def group_by_key(keys: dict[str, object]) -> dict[object, list[str]]:
    """Turn a mapping from cells to keys round."""
    groups: dict[object, list[str]] = {}
    for cell, key in keys.items():
        groups.setdefault(key, []).append(cell)
    return groups


# ## Methods renamed in their class
# %% renamed_methods
DECLARED = re.compile(r"(?<=def )\w+|(?<=    @)\w+(?=\.setter)|(?<=    )\w+(?=: Any)")


def renamed_methods(before: Sequence[str], after: Sequence[str]) -> dict[str, str]:
    """Return the methods that were renamed in blocks in which nothing else changed."""
    found: dict[str, str] = {}
    for block, edited in zip(before, after, strict=False):
        old, new = (DECLARED.findall(one) for one in (block, edited))
        names = {a: b for a, b in zip(old, new, strict=False) if a != b}
        left, right = (DECLARED.sub("", one).split() for one in (block, edited))
        if left == right and len(old) == len(new):
            found |= names
    return found


def rename_patch(text: str, old: str, new: str) -> str:
    """Rename a patch in the code of a cell."""
    lines = text.split("\n")
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    functions = [one for one in parse_quietly(text).body if isinstance(one, kinds)]
    for node in functions:
        if node.name == old and is_patch(node):
            line = lines[node.lineno - 1]
            lines[node.lineno - 1] = re.sub(rf"\b{old}\b", new, line, count=1)
    return "\n".join(lines)
