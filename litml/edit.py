# Exported from nbs/05_edit.ipynb. Edit either side, then run `litml sync`.
"""Merge changes made to a text view of a notebook with changes made to the notebook."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from litml.notebook import Cell, LitmlError, Location, Notebook

__all__ = [
    "merge_text",
    "common_ends",
    "Piece",
    "Edit",
    "Conflict",
    "Plan",
    "plan_edits",
    "apply_edits",
    "ACTIONS",
]


# ## Lines
# %% merge_text
def merge_text(base: str, ours: str, theirs: str) -> str | None:
    """Merge two edited versions of a text by lines; None if they conflict."""
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    lines = base.split("\n")
    left, right = hunks(lines, ours.split("\n")), hunks(lines, theirs.split("\n"))
    merged: list[str] = []
    at = 0
    while left or right:
        if left and right and left[0] == right[0]:
            right.pop(0)
        elif left and right and touch(left[0], right[0]):
            return None
        side = left if not right or (left and left[0].start < right[0].start) else right
        hunk = side.pop(0)
        merged += [*lines[at : hunk.start], *hunk.lines]
        at = hunk.end
    return "\n".join([*merged, *lines[at:]])


# %% common_ends
def common_ends(one: Sequence[object], other: Sequence[object]) -> tuple[int, int]:
    """Return how many items two sequences share at the start, and then at the end."""
    top, end = 0, min(len(one), len(other))
    while top < end and one[top] == other[top]:
        top += 1
    below = 0
    while below < end - top and one[-1 - below] == other[-1 - below]:
        below += 1
    return top, below


# %% Hunk
@dataclass(frozen=True, slots=True)
class Hunk:
    """Lines that take the place of the base's lines from `start` up to `end`."""

    start: int
    end: int
    lines: tuple[str, ...]


def hunks(base: list[str], edited: list[str]) -> list[Hunk]:
    """Return what changed from the base to the edited lines."""
    from difflib import SequenceMatcher  # not needed if one side did nothing

    top, below = common_ends(base, edited)
    old, new = base[top : len(base) - below], edited[top : len(edited) - below]
    matcher = SequenceMatcher(None, old, new, autojunk=False)
    return [
        Hunk(start + top, stop + top, tuple(new[low:high]))
        for tag, start, stop, low, high in matcher.get_opcodes()
        if tag != "equal"
    ]


def touch(one: Hunk, other: Hunk) -> bool:
    """Do two hunks overlap, or stand right beside each other?"""
    return one.start <= other.end and other.start <= one.end


# ## Cells
# %% Piece
@dataclass(frozen=True, slots=True)
class Piece:
    """What a view shows of one cell."""

    id: str
    text: str
    kind: str = "code"


# %% Edit
@dataclass(frozen=True, slots=True)
class Edit:
    """One change of a notebook: `action` is `change`, `delete`, `insert` or `move`.

    `after` is the id of the cell that an inserted or moved one follows, or None for
    the beginning.
    """

    action: str
    piece: Piece
    after: str | None = None


# %% Conflict
@dataclass(frozen=True, slots=True)
class Conflict:
    """A cell that both sides changed: its three texts, None where it is missing.

    `wanted` is the edit that would take theirs.
    """

    id: str
    reason: str
    base: str | None
    ours: str | None
    theirs: str | None
    wanted: Edit | None = None


# %% Plan
@dataclass(slots=True)
class Plan:
    """The edits that bring theirs into the notebook, and what stands against it."""

    edits: list[Edit] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)


# %% plan_edits
def plan_edits(
    base: Sequence[Piece],
    ours: Sequence[Piece],
    theirs: Sequence[Piece],
    take: Mapping[str, str] | None = None,
) -> Plan:
    """Return what has to change in the notebook to take in an edited view of it."""
    plan = Plan()
    in_base, in_ours, in_theirs = (
        {piece.id: piece for piece in side} for side in (base, ours, theirs)
    )
    for piece in ours:
        if piece.id in in_theirs:
            plan_change(plan, in_base.get(piece.id), piece, in_theirs[piece.id])
        elif piece.id in in_base:
            plan_delete(plan, in_base[piece.id], piece)
    before: str | None = None
    for piece in theirs:
        if piece.id not in in_ours:
            plan_insert(plan, in_base.get(piece.id), piece, before)
        if piece.id in in_ours or piece.id not in in_base:
            before = piece.id
    plan_moves(plan, base, ours, theirs)
    return decide(plan, take or {})


# %% plan_change
def plan_change(plan: Plan, base: Piece | None, ours: Piece, theirs: Piece) -> None:
    """Plan for a cell that both sides have."""
    if ours.text == theirs.text:
        return
    text = merge_text(base.text, ours.text, theirs.text) if base else None
    if text is None:
        before = base.text if base else None
        reason = "both sides changed the same lines"
        wanted = Edit("change", theirs)
        clash = Conflict(ours.id, reason, before, ours.text, theirs.text, wanted)
        plan.conflicts.append(clash)
    elif text != ours.text:
        plan.edits.append(Edit("change", Piece(ours.id, text, ours.kind)))


def plan_delete(plan: Plan, base: Piece, ours: Piece) -> None:
    """Plan for a cell that theirs has deleted."""
    if ours.text == base.text:
        plan.edits.append(Edit("delete", ours))
    else:
        reason = "deleted on one side, changed in the notebook"
        wanted = Edit("delete", ours)
        clash = Conflict(ours.id, reason, base.text, ours.text, None, wanted)
        plan.conflicts.append(clash)


def plan_insert(
    plan: Plan, base: Piece | None, theirs: Piece, after: str | None
) -> None:
    """Plan for a piece whose cell the notebook does not have: new, or deleted there."""
    if base is None:
        plan.edits.append(Edit("insert", theirs, after))
    elif theirs.text != base.text:
        reason = "deleted in the notebook, changed on the other side"
        wanted = Edit("insert", theirs, after)
        clash = Conflict(theirs.id, reason, base.text, None, theirs.text, wanted)
        plan.conflicts.append(clash)


# %% plan_moves
def plan_moves(
    plan: Plan, base: Sequence[Piece], ours: Sequence[Piece], theirs: Sequence[Piece]
) -> None:
    """Plan the moves that the order of theirs asks for."""
    shared = {piece.id for piece in base} & {piece.id for piece in ours}
    shared &= {piece.id for piece in theirs}
    orders = [[p.id for p in side if p.id in shared] for side in (base, ours, theirs)]
    moved_there = moved(orders[0], orders[2])
    moved_here = moved(orders[0], orders[1])
    texts = {piece.id: piece for piece in ours}
    here, there = (
        dict(zip(order, [None, *order], strict=False)) for order in orders[1:]
    )
    for name in orders[2]:
        if name not in moved_there or orders[1] == orders[2]:
            continue
        move = Edit("move", texts[name], there[name])
        if name in moved_here and here[name] != there[name]:
            clash = Conflict(name, "both sides moved it", None, None, None, move)
            plan.conflicts.append(clash)
        else:
            plan.edits.append(move)


# %% moved
def moved(before: list[str], after: list[str]) -> set[str]:
    """Return the fewest ids whose moving turns one order into the other."""
    place = {name: i for i, name in enumerate(before)}
    ends: list[int] = []  # ends[k]: the smallest end of a rising run of length k + 1
    back: dict[int, int | None] = {}
    for name in after:
        k = bisect_left(ends, place[name])
        back[place[name]] = ends[k - 1] if k else None
        ends[k : k + 1] = [place[name]]
    still: set[int] = set()
    last = ends[-1] if ends else None
    while last is not None:
        still.add(last)
        last = back[last]
    return {name for name in before if place[name] not in still}


# %% decide
def decide(plan: Plan, take: Mapping[str, str]) -> Plan:
    """Settle the conflicts that were decided beforehand."""
    open_ones = []
    for clash in plan.conflicts:
        side = take.get(clash.id, take.get(""))
        if side is None:
            open_ones.append(clash)
        elif side == "theirs" and clash.wanted:
            plan.edits.append(clash.wanted)
    plan.conflicts = open_ones
    return plan


# ## Applying a plan
# %% EditError
class EditError(LitmlError):
    """Edits that cannot be brought into the notebook."""


# %% apply_edits
def apply_edits(
    notebook: Notebook,
    edits: Sequence[Edit],
    source_of: Callable[[Cell | None, Piece], str],
    place_after: Callable[[Notebook, int], int],
) -> None:
    """Change the notebook's cells; every byte of the other cells stays as it is.

    `source_of` gives the source for a piece, from the cell it had or None;
    `place_after` the position for what follows the cell at a position, or at -1 for
    what comes first.
    """
    for edit in sorted(edits, key=lambda edit: ACTIONS.index(edit.action)):
        index = {cell.id: i for i, cell in enumerate(notebook.cells)}
        here = index.get(edit.piece.id)
        if edit.action == "change" and here is not None:
            cell = notebook.cells[here]
            change_cell(cell, source_of(cell, edit.piece))
        elif edit.action == "delete" and here is not None:
            del notebook.cells[here]
        elif edit.action == "insert":
            cell = new_cell(edit.piece, source_of(None, edit.piece), notebook)
            put(notebook, cell, edit.after, place_after)
        elif edit.action == "move" and here is not None:
            put(notebook, notebook.cells.pop(here), edit.after, place_after)


ACTIONS = ("change", "delete", "move", "insert")


# %% put
def put(
    notebook: Notebook,
    cell: Cell,
    after: str | None,
    place_after: Callable[[Notebook, int], int],
) -> None:
    """Put a cell behind the one with the id `after`, or at the beginning."""
    ids = [other.id for other in notebook.cells]
    at = place_after(notebook, ids.index(after) if after in ids else -1)
    notebook.cells.insert(at, cell)


# %% change_cell
def change_cell(cell: Cell, source: str) -> None:
    """Give a cell another source, marking outputs it has as stale."""
    cell.source = source
    if cell.outputs:
        metadata = cell.data.setdefault("metadata", {})
        metadata.setdefault("litml", {})["stale"] = True


def new_cell(piece: Piece, source: str, notebook: Notebook) -> Cell:
    """Return a new cell for a piece, in the notebook's form."""
    if any(cell.id == piece.id for cell in notebook.cells):
        at = Location(notebook.name, piece.id)
        raise EditError("there is a cell with this id already", at=at)
    data: dict[str, object] = {"cell_type": piece.kind}
    if piece.kind == "code":
        data["execution_count"] = None
    if notebook.data.get("nbformat_minor", 5) >= 5:
        data["id"] = piece.id
    data["metadata"] = {}
    if piece.kind == "code":
        data["outputs"] = []
    data["source"] = source.splitlines(keepends=True)
    return Cell(data, piece.id)
