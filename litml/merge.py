# Exported from nbs/08b_merge.ipynb. Edit either side, then run `litml sync`.
"""Merge two versions of a notebook cell by cell, from the version both began with."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from litml.canonical import fill_ids
from litml.edit import Conflict, Piece
from litml.lines import MergedText, merge_lines
from litml.notebook import Cell, LitmlError, Location, Notebook, derive_ids
from litml.order import Trio, find_moves, find_trios, order_trios
from litml.rescue import rescue

__all__ = [
    "Clash",
    "find_clash",
    "set_flag",
    "get_flag",
    "drop_flag",
    "Merged",
    "MergeError",
    "merge_notebooks",
    "merge_frame",
]


# ## Tables
# %% merge_values
def merge_values(base: Any, ours: Any, theirs: Any, at: str, notes: list[str]) -> Any:
    """Merge two versions of a JSON value; `MISSING` is the value that is not there."""
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    if isinstance(ours, dict) and isinstance(theirs, dict) and at not in WHOLE:
        table = base if isinstance(base, dict) else {}
        return merge_tables(table, ours, theirs, at, notes)
    if isinstance(ours, list) and isinstance(theirs, list):
        before = base if isinstance(base, list) else []
        kept = [one for one in ours if one in theirs or one not in before]
        return kept + [one for one in theirs if one not in ours and one not in before]
    if ours is MISSING or theirs is MISSING:
        return theirs if ours is MISSING else ours
    notes.append(f"{at} differs on both sides; ours is kept")
    return ours


def merge_tables(
    base: Mapping[str, Any],
    ours: Mapping[str, Any],
    theirs: Mapping[str, Any],
    at: str,
    notes: list[str],
) -> dict[str, Any]:
    """Merge two versions of a JSON object, in the order of ours."""
    merged = {}
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        before, here, there = (side.get(key, MISSING) for side in (base, ours, theirs))
        where = f"{at}.{key}".removeprefix(".")
        value = merge_values(before, here, there, where, notes)
        if value is not MISSING:
            merged[key] = value
    return sort_like(merged, ours)


MISSING: Any = object()
WHOLE = {"metadata.kernelspec", "metadata.language_info"}


def sort_like(table: dict[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Sort the keys of a table if those of the model are sorted, as Jupyter does."""
    return dict(sorted(table.items())) if list(model) == sorted(model) else table


# ## Cells
# %% pick
Versions = tuple[Sequence[Cell], Sequence[Cell], Sequence[Cell]]
Three = tuple[Cell | None, Cell | None, Cell | None]


def pick(base: Any, ours: Any, theirs: Any) -> Any:
    """Return the value of the side that changed it; that of ours if both did."""
    return theirs if ours == base else ours


# %% choose_results
def choose_results(
    base: Cell | None, ours: Cell, theirs: Cell, text: str
) -> tuple[list[dict[str, Any]], int | None]:
    """Return outputs and execution count for a cell whose merged source is `text`."""
    here, there = results(ours), results(theirs)
    if ours.source != text and theirs.source != text:
        return [], None
    if ours.source != theirs.source:
        return here if ours.source == text else there
    return there if base and here == results(base) else here


def results(cell: Cell) -> tuple[list[dict[str, Any]], int | None]:
    """Return the outputs of a cell, and the number of its run."""
    return cell.outputs, cell.data.get("execution_count")


# %% merge_cell
def merge_cell(
    base: Cell | None,
    ours: Cell | None,
    theirs: Cell | None,
    text: str,
    notes: list[str],
) -> Cell:
    """Merge two versions of a cell, given the text it will have."""
    before = base.data if base else {}
    one = ours or theirs
    if one is None:
        raise ValueError("a cell that neither side has")
    if ours is None or theirs is None or ours.data == theirs.data:
        data = dict(one.data)
    elif before in (ours.data, theirs.data):
        data = dict(pick(before, ours.data, theirs.data))
    else:
        data = combine_cells(base, ours, theirs, text, notes)
    return settle(Cell(data), text, one.data)


def combine_cells(
    base: Cell | None, ours: Cell, theirs: Cell, text: str, notes: list[str]
) -> dict[str, Any]:
    """Put a cell together that both sides have changed."""
    before = base.data if base else {}
    data = merge_tables(before, ours.data, theirs.data, "", [])
    three = (base.metadata if base else {}, ours.metadata, theirs.metadata)
    data["metadata"] = merge_values(*three, f"cell {ours.id}: metadata", notes)
    name = pick(before.get("id"), ours.data.get("id"), theirs.data.get("id"))
    if name is not None:
        data["id"] = name
    found = choose_results(base, ours, theirs, text)
    data["outputs"], data["execution_count"] = found
    data["source"] = (theirs if theirs.source == text else ours).data["source"]
    return data


def settle(cell: Cell, text: str, model: Mapping[str, Any]) -> Cell:
    """Give a cell its text, and only the keys that its kind may have."""
    if cell.source != text:
        cell.source = text
        cell.data |= {"outputs": [], "execution_count": None}
    if cell.kind == "code":
        cell.data = {"execution_count": None, "outputs": [], **cell.data}
        cell.data.pop("attachments", None)
    else:
        cell.data.pop("outputs", None)
        cell.data.pop("execution_count", None)
    cell.data = sort_like(cell.data, model)
    return cell


# ## Conflicts
# %% Clash
@dataclass(frozen=True, slots=True)
class Clash:
    """A conflict of one cell: the flag it gets, and the reason for a message."""

    flag: str
    reason: str


def find_clash(
    trio: Trio, versions: Versions, marked: bool, apart: bool
) -> Clash | None:
    """Return why a cell that stays is in conflict, if it is."""
    if marked:
        lines = "the same lines" if trio.base is not None else "it"
        verb = "changed" if trio.base is not None else "added"
        return Clash("source", f"both sides {verb} {lines}")
    for side, name, other in ((1, "ours", "theirs"), (2, "theirs", "ours")):
        if trio.base is not None and trio[side] is None:
            return Clash(f"deleted by {name}", f"deleted in {name}, changed in {other}")
    if apart and trio.theirs is not None:
        before = versions[2][trio.theirs - 1].id if trio.theirs else ""
        place = f"behind {before}" if before else "to the top"
        return Clash(f"moved by theirs {place}", "both sides moved it")
    return None


def set_flag(cell: Cell, flag: str) -> None:
    """Name the conflict in the cell's metadata."""
    own = cell.metadata.get("litml")
    own = own if isinstance(own, dict) else {}
    metadata = {**cell.metadata, "litml": {**own, "conflict": flag}}
    cell.data["metadata"] = sort_like(metadata, cell.metadata)


def get_flag(cell: Cell) -> str:
    """Return the conflict that the cell's metadata name, or nothing."""
    own = cell.metadata.get("litml")
    return str(own.get("conflict", "")) if isinstance(own, dict) else ""


def drop_flag(cell: Cell) -> None:
    """Take the name of a conflict out of the cell's metadata."""
    if get_flag(cell):
        own = {k: v for k, v in cell.metadata["litml"].items() if k != "conflict"}
        rest = {key: value for key, value in cell.metadata.items() if key != "litml"}
        kept = rest | ({"litml": own} if own else {})
        cell.data["metadata"] = sort_like(kept, cell.metadata)


# %% is_kept
def is_kept(trio: Trio, versions: Versions) -> bool:
    """Does a cell stay in the notebook?"""
    base, ours, theirs = cells_of(trio, versions)
    if ours and theirs:
        return True
    left = ours or theirs
    if base is None or left is None:
        return left is not None
    return content(base) != content(left) or bool(get_flag(base))


def cells_of(trio: Trio, versions: Versions) -> Three:
    """Return the three versions of a cell."""
    base, ours, theirs = versions
    return (
        None if trio.base is None else base[trio.base],
        None if trio.ours is None else ours[trio.ours],
        None if trio.theirs is None else theirs[trio.theirs],
    )


def content(cell: Cell) -> tuple[str, str, object]:
    """Return what of a cell a person has written."""
    return cell.kind, cell.source, cell.data.get("attachments")


# ## Ids
# %% settle_ids
def settle_ids(cells: Sequence[Cell], before: Mapping[str, str], minor: int) -> None:
    """Make the ids of cells unique; `before` has the text of each id in the base."""
    if minor >= 5:
        groups: dict[str, list[Cell]] = {}
        for cell in cells:
            groups.setdefault(cell.data.get("id") or "", []).append(cell)
        for name, group in groups.items():
            same = (cell for cell in group if cell.source == before.get(name))
            owner = next(same, group[0]) if name else None
            for cell in group:
                if cell is not owner:
                    cell.data.pop("id", None)
        lacking = [cell for cell in cells if "id" not in cell.data]
        fill_ids(cell.data for cell in cells)
        for cell in lacking:
            model = [key for key in cell.data if key != "id"]
            cell.data = sort_like(cell.data, dict.fromkeys(model))
    derive_ids(list(cells))


# ## Notebooks
# %% Merged
@dataclass(frozen=True, slots=True)
class Merged:
    """A merged notebook, its conflicts, and notes on what was decided for ours."""

    notebook: Notebook
    conflicts: list[Conflict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class MergeError(LitmlError):
    """A merge that would lose something."""


def merge_notebooks(
    base: Notebook | None,
    ours: Notebook,
    theirs: Notebook,
    *,
    size: int = 7,
    show_base: bool = False,
) -> Merged:
    """Merge two versions of a notebook; `base` is None if both sides added it.

    `size` is the length of a conflict marker; `show_base` puts the base's lines
    between those of both sides. Raises `MergeError` rather than lose a line.
    """
    before = base.raw if base else None
    if theirs.raw in (before, ours.raw):
        return Merged(ours)
    if ours.raw == before:
        return Merged(theirs)
    notes: list[str] = []
    tree = merge_frame(base, ours, theirs, notes)
    versions = (base.cells if base else [], ours.cells, theirs.cells)
    cells, clashes = merge_cells(versions, size, show_base, notes)
    texts = {cell.id: cell.source for cell in versions[0]}
    settle_ids(cells, texts, tree["nbformat_minor"])
    refuse_loss(versions, cells, ours.name)
    conflicts = [to_conflict(*found) for found in clashes]
    return Merged(Notebook(ours.name, tree, cells, ours.raw), conflicts, notes)


def merge_frame(
    base: Notebook | None, ours: Notebook, theirs: Notebook, notes: list[str]
) -> dict[str, Any]:
    """Merge what a notebook has beside its cells."""
    before = base.data if base else {}
    tree = merge_tables(before, ours.data, {**theirs.data, "cells": []}, "", notes)
    minor = (side.data.get("nbformat_minor", 0) for side in (ours, theirs))
    return {**tree, "nbformat_minor": max(minor)}


# %% merge_cells
def merge_cells(
    versions: Versions, size: int, show_base: bool, notes: list[str]
) -> tuple[list[Cell], list[tuple[Cell, Clash, Three]]]:
    """Return the merged cells, and those in conflict with their versions."""
    base, ours, theirs = (list(map(to_piece, side)) for side in versions)
    trios = find_trios(base, ours, theirs)
    rescued = rescue(trios, (base, ours, theirs))
    kept = [t for t in trios if t not in rescued.gone and is_kept(t, versions)]
    _, apart = find_moves(trios)
    merged, clashes = [], []
    for trio in order_trios(trios, kept):
        three = cells_of(trio, versions)
        text = merge_texts(three, size, show_base)
        if trio in rescued.texts:
            text = MergedText(rescued.texts[trio])
        cell = merge_cell(*three, text.text, notes)
        clash = find_clash(trio, versions, text.clashes > 0, trio in apart)
        if clash:
            set_flag(cell, clash.flag)
            clashes.append((cell, clash, three))
        merged.append(cell)
    return merged, clashes


def merge_texts(three: Three, size: int, show_base: bool) -> MergedText:
    """Merge the texts of a cell, which may be missing on one side."""
    base, ours, theirs = (cell.source if cell else None for cell in three)
    if ours is None or theirs is None:
        return MergedText(ours or theirs or "")
    return merge_lines(base or "", ours, theirs, size=size, show_base=show_base)


def to_piece(cell: Cell) -> Piece:
    """Return what cells are matched by: an id only if it is a cell's own."""
    return Piece(str(cell.data.get("id") or ""), cell.source, cell.kind)


# %% to_conflict
def to_conflict(cell: Cell, clash: Clash, three: Three) -> Conflict:
    """Return a conflict by the id that the cell has in the end."""
    base, ours, theirs = (one.source if one else None for one in three)
    return Conflict(cell.id, clash.reason, base, ours, theirs)


# %% refuse_loss
def refuse_loss(versions: Versions, merged: Iterable[Cell], name: str) -> None:
    """Raise `MergeError` if a line that a side added is not in the merged cells."""
    base, ours, theirs, result = map(count_lines, (*versions, merged))
    for side in (ours, theirs):
        if lost := [line for line in side - base if line not in result]:
            raise MergeError(f"the merge would lose {lost[0]!r}", at=Location(name))


def count_lines(cells: Iterable[Cell]) -> Counter[str]:
    """Count the lines that are not empty."""
    lines = (line for cell in cells for line in cell.source.split("\n"))
    return Counter(line for line in lines if line.strip())
