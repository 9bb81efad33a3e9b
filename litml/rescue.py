# Exported from nbs/08a_rescue.ipynb. Edit either side, then run `litml sync`.
"""See that a cell was split in two, or two were joined, before calling it a
conflict.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from litml.edit import Piece
from litml.lines import merge_lines
from litml.order import Trio

__all__ = ["Rescued", "Sides", "rescue"]


# ## Texts
# %% merge_joined
def merge_joined(base: Sequence[str], joined: str, other: Sequence[str]) -> str | None:
    """Merge cells that one side joined with the same cells as the other edited them."""
    for gap in ("\n", "\n\n"):
        merged = merge_lines(gap.join(base), joined, gap.join(other))
        if not merged.clashes:
            return merged.text
    return None


# %% merge_split
def merge_split(base: str, parts: Sequence[str], other: str) -> tuple[str, str] | None:
    """Merge a cell that one side split with the same cell as the other edited it."""
    for gap in ("\n", "\n\n"):
        merged = merge_lines(base, gap.join(parts), other)
        if not merged.clashes:
            return cut(merged.text.split("\n"), parts)
    return None


def cut(lines: Sequence[str], parts: Sequence[str]) -> tuple[str, str] | None:
    """Cut lines before the first one of the second part, or behind the first part."""
    first = [line for line in parts[0].split("\n") if line.strip()]
    second = [line for line in parts[1].split("\n") if line.strip()]
    if second and lines.count(second[0]) == 1:
        at = lines.index(second[0])
    elif first and lines.count(first[-1]) == 1:
        at = lines.index(first[-1]) + 1
    else:
        return None
    halves = ("\n".join(half).strip("\n") for half in (lines[:at], lines[at:]))
    top, below = halves
    return (top, below) if top and below else None


# ## Cells
# %% Rescued
@dataclass(slots=True)
class Rescued:
    """Texts that were merged across a border of cells, and the cells that are gone."""

    texts: dict[Trio, str] = field(default_factory=dict)
    gone: set[Trio] = field(default_factory=set)


Sides = tuple[Sequence[Piece], Sequence[Piece], Sequence[Piece]]


def rescue(trios: Collection[Trio], sides: Sides) -> Rescued:
    """Find cells that were joined or split on one side and edited on the other."""
    found = Rescued()
    for trio in trios:
        if trio.base is not None and (trio.ours is None) != (trio.theirs is None):
            rescue_join(trio, trios, sides, found)
        elif None not in trio:
            rescue_split(trio, trios, sides, found)
    return found


# %% is_within
def is_within(lines: Collection[str], text: str) -> bool:
    """Are most of the lines in the text?"""
    wanted = Counter(line.strip() for line in lines if line.strip())
    present = Counter(line.strip() for line in text.split("\n"))
    return bool(wanted) and (wanted & present).total() > 0.6 * wanted.total()


# %% rescue_join
def rescue_join(
    trio: Trio, trios: Collection[Trio], sides: Sides, found: Rescued
) -> None:
    """Merge a deleted cell into the neighbour that holds its lines."""
    deleter = 1 if trio.ours is None else 2
    kept = (0, 3 - deleter)
    lost, edited = (read(trio, k, sides) for k in kept)
    if lost == edited:
        return
    for near in trios:
        if None in near or near in found.texts or abs(near[0] - trio[0]) != 1:  # type: ignore[operator]
            continue
        joined = read(near, deleter, sides)
        if is_within(lost.split("\n"), joined):
            pair = sorted((near, trio), key=lambda one: one.base or 0)
            base, other = ([read(one, k, sides) for one in pair] for k in kept)
            text = merge_joined(base, joined, other)
            if text is not None:
                found.texts[near] = text
                found.gone.add(trio)
                return


def read(trio: Trio, side: int, sides: Sides) -> str:
    """Return a cell's text on one side; empty where it is not."""
    place = trio[side]
    return "" if place is None else sides[side][place].text


# %% rescue_split
def rescue_split(
    trio: Trio, trios: Collection[Trio], sides: Sides, found: Rescued
) -> None:
    """Merge a cell in conflict together with the new cell that took its lines."""
    texts = [read(trio, side, sides) for side in range(3)]
    if len(set(texts)) < 3 or not merge_lines(*texts).clashes:
        return
    for side in (1, 2):
        lost = Counter(texts[0].split("\n")) - Counter(texts[side].split("\n"))
        for near in new_neighbours(trio, trios, side):
            if not is_within(list(lost.elements()), read(near, side, sides)):
                continue
            pair = sorted((near, trio), key=lambda one, k=side: one[k] or 0)  # type: ignore[misc]
            parts = [read(one, side, sides) for one in pair]
            halves = merge_split(texts[0], parts, texts[3 - side])
            if halves:
                found.texts |= zip(pair, halves, strict=True)
                return


def new_neighbours(trio: Trio, trios: Collection[Trio], side: int) -> Iterator[Trio]:
    """Yield the cells next to a cell that only this side has."""
    for near in trios:
        place, here = near[side], trio[side]
        is_new = near.base is None and near[3 - side] is None
        if is_new and place is not None and here is not None and abs(place - here) == 1:
            yield near
