# Exported from nbs/08d_diff.ipynb. Edit either side, then run `litml sync`.
"""Compare two versions of a notebook, cell by cell."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from litml.details import describe_outputs, describe_table, join_text
from litml.edit import Hunk, Piece, hunks, moved
from litml.match import match_cells
from litml.notebook import Cell, Notebook, NotebookError, parse_notebook

__all__ = [
    "Mark",
    "Line",
    "diff_lines",
    "replace_lines",
    "split_marks",
    "Picture",
    "CellDiff",
    "title_of",
    "NotebookDiff",
    "diff_notebooks",
    "make_pieces",
    "compare_notebooks",
    "count_changes",
    "plural",
    "File",
    "diff_files",
    "diff_texts",
    "text_of",
]


# ## Lines
# %% find_hunks
LONG = 2000  # lines


def find_hunks(old: list[str], new: list[str]) -> list[Hunk]:
    """Return what to replace in the old lines to get the new ones, in order."""
    if max(len(old), len(new)) <= LONG:
        return hunks(old, new)
    return [
        Hunk(start, end, tuple(new[low:high]))
        for tag, start, end, low, high in SequenceMatcher(None, old, new).get_opcodes()
        if tag != "equal"
    ]


# %% Line
Mark = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a comparison: the `sign` is `-`, `+` or a space.

    `old` and `new` count from 1. `marks` are ranges of characters, as in a slice.
    """

    sign: str
    text: str
    old: int | None = None
    new: int | None = None
    marks: tuple[Mark, ...] = ()


# %% mark_words
TOKEN = re.compile(r"\w+|\n|[^\S\n]+|[^\w\s]")
MANY = 2000  # tokens; beyond that, comparing takes longer than reading


def mark_words(old: str, new: str) -> tuple[list[Mark], list[Mark]]:
    """Return where two texts differ: ranges of characters in the one and the other."""
    left, right = TOKEN.findall(old), TOKEN.findall(new)
    changes = compare_tokens(left, right)
    gone = sum(is_word(token) for i, end, _, _ in changes for token in left[i:end])
    words = sum(map(is_word, left)), sum(map(is_word, right))
    if 2 * (words[0] - gone) < 0.5 * sum(words):
        return [], []
    one = [range_of(left, start, end) for start, end, _, _ in changes]
    other = [range_of(right, start, end) for _, _, start, end in changes]
    return join_marks(one, old), join_marks(other, new)


def compare_tokens(
    left: Sequence[str], right: Sequence[str]
) -> list[tuple[int, int, int, int]]:
    """Return what to replace by what: start and end in the one and the other."""
    if max(len(left), len(right)) <= MANY:
        matcher = SequenceMatcher(str.isspace, left, right)
        return [one[1:] for one in matcher.get_opcodes() if one[0] != "equal"]
    head = count_same(left, right)
    tail = count_same(left[:head:-1], right[:head:-1])
    return [(head, len(left) - tail, head, len(right) - tail)]


def count_same(left: Sequence[str], right: Sequence[str]) -> int:
    """Return how many items at their beginning two sequences have in common."""
    pairs = enumerate(zip(left, right, strict=False))
    differs = (i for i, (one, other) in pairs if one != other)
    return next(differs, min(len(left), len(right)))


def is_word(token: str) -> bool:
    """Does a token count when lines are compared?"""
    return not token.isspace()


def range_of(tokens: Sequence[str], start: int, end: int) -> Mark:
    """Return the range of characters that tokens stand for."""
    before = sum(map(len, tokens[:start]))
    return before, before + sum(map(len, tokens[start:end]))


def join_marks(marks: Iterable[Mark], text: str) -> list[Mark]:
    """Return the ranges that are not empty, joined where only a space is between."""
    joined: list[Mark] = []
    for start, end in marks:
        if start == end:
            continue
        if joined and text[joined[-1][1] : start] in ("", " "):
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


# %% diff_lines
def diff_lines(old: list[str], new: list[str], context: int = 3) -> tuple[Line, ...]:
    """Return the changed lines of a text, each with some lines around it."""
    lines: list[Line] = []
    found = find_hunks(old, new) if old != new else []
    ends = [*(hunk.start for hunk in found[1:]), len(old)]
    shown = shift = 0  # of the old lines; from the number of an old line to the new one
    for hunk, end in zip(found, ends, strict=False):
        above = range(max(shown, hunk.start - context), hunk.start)
        lines += [Line(" ", old[i], i + 1, i + shift + 1) for i in above]
        lines += replace_lines(old[hunk.start : hunk.end], hunk, shift)
        shift += len(hunk.lines) - (hunk.end - hunk.start)
        shown = min(hunk.end + context, end)
        below = range(hunk.end, shown)
        lines += [Line(" ", old[i], i + 1, i + shift + 1) for i in below]
    return tuple(lines)


def replace_lines(old: Sequence[str], hunk: Hunk, shift: int) -> Iterator[Line]:
    """Yield the lines that a hunk takes out, and those that it puts in."""
    new = hunk.lines
    one, other = "\n".join(old), "\n".join(new)
    marks = mark_words(one, other) if old and new else ([], [])
    for i, own in enumerate(split_marks(old, marks[0]), start=hunk.start + 1):
        yield Line("-", old[i - hunk.start - 1], i, None, own)
    start = hunk.start + shift + 1
    for i, own in enumerate(split_marks(new, marks[1]), start=start):
        yield Line("+", new[i - start], None, i, own)


def split_marks(
    lines: Sequence[str], marks: Sequence[Mark]
) -> Iterator[tuple[Mark, ...]]:
    """Yield the marks in each line, of the marks in all lines as one text."""
    offset = 0
    for line in lines:
        own = [(max(a - offset, 0), min(b - offset, len(line))) for a, b in marks]
        yield tuple((a, b) for a, b in own if a < b)
        offset += len(line) + 1


# ## Order
# %% find_moved
def find_moved(pairs: Mapping[int, int]) -> set[int]:
    """Return the old places of the cells that were moved."""
    before = [str(i) for i in sorted(pairs)]
    after = [str(i) for i in sorted(pairs, key=pairs.__getitem__)]
    return {int(name) for name in moved(before, after)}


# %% order_cells
Place = tuple[int | None, int | None]


def order_cells(pairs: Mapping[int, int], old: int, new: int) -> list[Place]:
    """Return the places of all cells, old and new; `old` and `new` are the numbers."""
    back = {j: i for i, j in pairs.items()}
    stayed = pairs.keys() - find_moved(pairs)
    removed: dict[int | None, list[Place]] = {}  # by the place above
    above = None
    for i in range(old):
        if i in stayed:
            above = i
        elif i not in pairs:
            removed.setdefault(above, []).append((i, None))
    order = [*removed.get(None, [])]
    for j in range(new):
        found = back.get(j)
        order.append((found, j))
        if found in stayed:
            order += removed.get(found, [])
    return order


# ## Cells
# %% CellDiff
@dataclass(frozen=True, slots=True)
class Picture:
    """A picture in an output: `-` or `+`, its mime type, and its base64 or SVG."""

    sign: str
    kind: str
    data: str


@dataclass(frozen=True, slots=True)
class CellDiff:
    """What happened to one cell: `added`, `removed`, `changed`, or only `moved`.

    `old` and `new` are its places, from 1; the id is empty if the file has none.
    `outputs` compares what the outputs say, if that was asked for; `pictures` are
    those that only one side has.
    """

    status: str
    id: str
    kind: str
    title: str
    old: int | None
    new: int | None
    moved: bool = False
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()
    outputs: tuple[Line, ...] = ()
    pictures: tuple[Picture, ...] = ()


def title_of(cell: Cell) -> str:
    """Return the first line of a cell that tells what it is about."""
    lines = [line.strip() for line in cell.source.split("\n")]
    told = [line for line in lines if re.search(r"\w", line)]
    plain = [line for line in told if not line.startswith(("#|", "%%", "@"))]
    title = next(iter(plain or told), "")
    return title.lstrip("# ") if cell.kind == "markdown" else title


# %% compare_cells
KNOWN = {"cell_type", "execution_count", "id", "metadata", "outputs", "source"}


def compare_cells(old: Cell, new: Cell) -> list[str]:
    """Return a line for each change of a cell beside its source and its outputs."""
    notes = [f"kind: {old.kind} → {new.kind}"] if old.kind != new.kind else []
    one, other = own_id(old), own_id(new)
    if one and other and one != other:
        notes.append(f"id: {one} → {other}")
    notes += describe_table(old.metadata, new.metadata, "metadata")
    before, after = (
        {key: cell.data[key] for key in cell.data.keys() - KNOWN} for cell in (old, new)
    )
    return notes + describe_table(before, after, "cell")


def own_id(cell: Cell) -> str:
    """Return the id that is in the file, if there is one."""
    return str(cell.data.get("id") or "")


# %% compare_outputs
MOST = 200  # lines of a cell's outputs


def compare_outputs(old: Cell | None, new: Cell | None) -> tuple[Line, ...]:
    """Return the changed lines of what the outputs of a cell say."""
    found = diff_lines(write_outputs(old), write_outputs(new))
    if len(found) <= MOST:
        return found
    rest = f"… {len(found) - MOST} lines more"
    return *found[:MOST], Line(" ", rest)


def write_outputs(cell: Cell | None) -> list[str]:
    """Return the lines of all outputs of a cell; a picture is named only."""
    from litml.view import describe_output

    texts = [describe_output(output) for output in cell.outputs] if cell else []
    return "\n".join(texts).split("\n") if texts else []


# %% find_pictures
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/svg+xml")


def find_pictures(old: Cell | None, new: Cell | None) -> tuple[Picture, ...]:
    """Return the pictures that the outputs have on one side only, old ones first."""
    sides = {"-": list_pictures(old), "+": list_pictures(new)}
    return tuple(
        Picture(sign, *one)
        for sign, other in (("-", "+"), ("+", "-"))
        for one in sides[sign]
        if one not in sides[other]
    )


def list_pictures(cell: Cell | None) -> list[tuple[str, str]]:
    """Return kind and content of each picture in the outputs of a cell."""
    tables = [output.get("data") for output in cell.outputs] if cell else []
    return [
        (kind, join_text(table[kind]))
        for table in tables
        if isinstance(table, dict)
        for kind in PICTURES
        if kind in table
    ]


# %% diff_cell
def diff_cell(
    old: Cell | None, new: Cell | None, place: Place, *, moved: bool, outputs: bool
) -> CellDiff:
    """Return what happened to a cell, which has to be there on one side."""
    cell = new or old
    assert cell is not None
    notes = compare_cells(old, new) if old and new else []
    if old and new:
        notes += describe_outputs(old, new)
    lines = diff_lines(lines_of(old), lines_of(new))
    changed = "changed" if lines or notes else "moved" if moved else "same"
    status = "added" if not old else "removed" if not new else changed
    told = compare_outputs(old, new) if outputs else ()
    seen = find_pictures(old, new) if outputs else ()
    was, now = (number + 1 if number is not None else None for number in place)
    found = CellDiff(status, own_id(cell), cell.kind, title_of(cell), was, now, moved)
    return replace(found, lines=lines, notes=tuple(notes), outputs=told, pictures=seen)


def lines_of(cell: Cell | None) -> list[str]:
    """Return the lines of a cell's source."""
    return cell.source.split("\n") if cell and cell.source else []


# ## Notebooks
# %% NotebookDiff
@dataclass(frozen=True, slots=True)
class NotebookDiff:
    """What happened to a notebook; `same` cells of it are not listed.

    If `problem` says why a side cannot be read as a notebook, there are no cells but
    `lines`, those of the file.
    """

    old: str | None
    new: str | None
    cells: tuple[CellDiff, ...] = ()
    notes: tuple[str, ...] = ()
    same: int = 0
    problem: str = ""
    lines: tuple[Line, ...] = ()

    @property
    def status(self) -> str:
        """One of `added`, `removed`, `renamed` and `changed`."""
        if self.old is None or self.new is None:
            return "added" if self.old is None else "removed"
        return "renamed" if self.old != self.new else "changed"

    @property
    def is_empty(self) -> bool:
        """Is there nothing to tell?"""
        told = self.cells or self.notes or self.lines or self.problem
        return not told and self.status == "changed"

    @property
    def name(self) -> str:
        """The name it has now, or had last."""
        return self.new or self.old or ""


# %% fold_notes
FEW = 3


def fold_notes(cells: Sequence[CellDiff]) -> tuple[tuple[CellDiff, ...], list[str]]:
    """Return cells without the notes that many of them share, and those notes."""
    counts = Counter(note for cell in cells for note in cell.notes)
    shared = {note: n for note, n in counts.items() if n > FEW}
    kept = []
    for cell in cells:
        notes = tuple(note for note in cell.notes if note not in shared)
        cell = replace(cell, notes=notes)
        if cell.status == "changed" and not (cell.lines or notes):
            if not (cell.moved or cell.outputs):
                continue
            cell = replace(cell, status="moved" if cell.moved else "changed")
        kept.append(cell)
    return tuple(kept), [f"{note} ({n} cells)" for note, n in shared.items()]


# %% diff_notebooks
def diff_notebooks(
    old: Notebook | None, new: Notebook | None, *, outputs: bool = False
) -> NotebookDiff:
    """Compare two versions of a notebook; None for the one that is not there."""
    before, after = old.cells if old else [], new.cells if new else []
    pairs = match_cells(make_pieces(before), make_pieces(after))
    gone = find_moved(pairs)
    found = []
    for i, j in order_cells(pairs, len(before), len(after)):
        one = before[i] if i is not None else None
        other = after[j] if j is not None else None
        found.append(diff_cell(one, other, (i, j), moved=i in gone, outputs=outputs))
    cells, notes = fold_notes([cell for cell in found if cell.status != "same"])
    if old and new:
        notes = compare_notebooks(old, new) + notes
        notes += count_changes([(before[i], after[j]) for i, j in pairs.items()])
        if not (cells or notes) and old.raw != new.raw:
            notes = ["only the layout of the JSON changed"]
    names = old.name if old else None, new.name if new else None
    same = sum(cell.status == "same" for cell in found)
    return NotebookDiff(*names, cells, tuple(notes), same)


def make_pieces(cells: Iterable[Cell]) -> list[Piece]:
    """Return cells as what matching needs to know of them."""
    return [Piece(own_id(cell), cell.source, cell.kind) for cell in cells]


def compare_notebooks(old: Notebook, new: Notebook) -> list[str]:
    """Return a line for each change of a notebook outside its cells."""
    versions = [
        f"{one.data.get('nbformat')}.{one.data.get('nbformat_minor')}"
        for one in (old, new)
    ]
    notes = [f"nbformat: {' → '.join(versions)}"] if len(set(versions)) > 1 else []
    notes += describe_table(old.metadata, new.metadata, "metadata")
    known = {"cells", "metadata", "nbformat", "nbformat_minor"}
    before, after = (
        {key: one.data[key] for key in one.data.keys() - known} for one in (old, new)
    )
    return notes + describe_table(before, after, "notebook")


def count_changes(pairs: Sequence[tuple[Cell, Cell]]) -> list[str]:
    """Return how many cells were executed again, and how many got or lost an id."""
    key = "execution_count"
    again = sum(one.data.get(key) != other.data.get(key) for one, other in pairs)
    named = sum(bool(own_id(one)) != bool(own_id(other)) for one, other in pairs)
    found = {"execution counts": again, "ids given or removed": named}
    return [f"{what}: {plural(n, 'cell')}" for what, n in found.items() if n]


def plural(number: int, word: str) -> str:
    """Return a number of things in words."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


# ## Files
# %% diff_files
@dataclass(frozen=True, slots=True)
class File:
    """A version of a notebook's file: its name, and its bytes."""

    name: str
    raw: bytes


def diff_files(
    old: File | None, new: File | None, *, outputs: bool = False
) -> NotebookDiff:
    """Compare two versions of a file; None for the one that is not there."""
    names = old.name if old else None, new.name if new else None
    if old and new and old.raw == new.raw:
        return NotebookDiff(*names)
    notebooks: list[Notebook | None] = []
    for side, file in (("old", old), ("new", new)):
        try:
            notebooks.append(parse_notebook(file.raw, file.name) if file else None)
        except NotebookError as error:
            return diff_texts(old, new, f"the {side} version: {error.message}")
    try:
        return diff_notebooks(*notebooks, outputs=outputs)
    except RecursionError:
        return diff_texts(old, new, "JSON nested too deeply to be compared")


def diff_texts(old: File | None, new: File | None, problem: str) -> NotebookDiff:
    """Compare two versions as text; a binary file has no lines."""
    names = old.name if old else None, new.name if new else None
    raws = [file.raw for file in (old, new) if file]
    if any(b"\0" in raw[:8000] for raw in raws):  # what git takes for a binary file
        return NotebookDiff(*names, problem=f"{problem}; a binary file")
    lines = diff_lines(text_of(old), text_of(new))
    if not lines:
        problem += "; only its line ends changed"
    return NotebookDiff(*names, problem=problem, lines=lines)


def text_of(file: File | None) -> list[str]:
    """Return the lines of a file, whatever it holds."""
    text = file.raw.decode("utf-8-sig", "backslashreplace") if file else ""
    return text.replace("\r\n", "\n").split("\n") if text else []
