# Exported from nbs/08a_order.ipynb. Edit either side, then run `litml sync`.
"""Lay the cells of two versions of a notebook out in one order."""

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from litml.edit import Piece, moved
from litml.match import common_order, match_cells, similarity, unique_ids

__all__ = ["Trio", "find_trios", "find_moves", "order_trios"]


# ## One cell, three versions
# %% Trio
class Trio(NamedTuple):
    """The places of one cell in the base, in ours and in theirs."""

    base: int | None
    ours: int | None
    theirs: int | None


# %% find_trios
def find_trios(
    base: Sequence[Piece], ours: Sequence[Piece], theirs: Sequence[Piece]
) -> list[Trio]:
    """Return every cell of the three versions exactly once."""
    here, there = match_cells(base, ours), match_cells(base, theirs)
    new = match_new(ours, theirs, here, there)
    trios = [Trio(i, here.get(i), there.get(i)) for i in range(len(base))]
    old = set(here.values())
    trios += [Trio(None, j, new.get(j)) for j in range(len(ours)) if j not in old]
    old = set(there.values()) | set(new.values())
    return trios + [Trio(None, None, k) for k in range(len(theirs)) if k not in old]


# %% match_new
def match_new(
    ours: Sequence[Piece],
    theirs: Sequence[Piece],
    here: dict[int, int],
    there: dict[int, int],
) -> dict[int, int]:
    """Pair the cells that are new on both sides and the same."""
    if not here and not there:
        return match_cells(ours, theirs)
    back = [{j: i for i, j in side.items()} for side in (here, there)]
    left, right = (
        [places.get(j, (piece.kind, piece.text)) for j, piece in enumerate(side)]
        for places, side in zip(back, (ours, theirs), strict=True)
    )
    new = [j for j in range(len(ours)) if j not in back[0]]
    new_there = [k for k in range(len(theirs)) if k not in back[1]]
    pairs = match_named(ours, theirs, new, new_there)
    for j, k in common_order(left, right):
        if j in new and j not in pairs and k not in pairs.values():
            pairs[j] = k
    new = [j for j in new if j not in pairs]
    new_there = [k for k in new_there if k not in pairs.values()]
    return pairs | match_twins(ours, theirs, new, new_there)


def match_named(
    ours: Sequence[Piece],
    theirs: Sequence[Piece],
    new: Collection[int],
    new_there: Collection[int],
) -> dict[int, int]:
    """Pair new cells that have the same id."""
    named = unique_ids(theirs)
    found = {}
    for name, j in unique_ids(ours).items():
        k = named.get(name, -1)
        if j not in new or k not in new_there:
            continue
        if not name.isdigit() or similarity(ours[j], theirs[k]) > 0.5:
            found[j] = k
    return found


# %% is_twin
def is_twin(one: Piece, other: Piece) -> bool:
    """Are two new cells so alike that one of them must be the other, edited?"""
    names = [re.search(DEFINED, piece.text) for piece in (one, other)]
    words = [name and name[1] for name in names]
    if one.kind != other.kind or words[0] != words[1]:
        return False
    limit = 0.75 if words[0] else 0.9
    is_long = min(one.text.count("\n"), other.text.count("\n")) >= 4
    return bool(words[0] or is_long) and similarity(one, other) > limit


DEFINED = r"(?m)^(?:async def|def|class)\s+(\w+(?:\(self: ?[\w.]+)?)"


def match_twins(
    ours: Sequence[Piece],
    theirs: Sequence[Piece],
    new: Collection[int],
    new_there: Collection[int],
) -> dict[int, int]:
    """Pair new cells that are twins."""
    found: dict[int, int] = {}
    for j in new:
        left = (k for k in new_there if k not in found.values())
        twin = next((k for k in left if is_twin(ours[j], theirs[k])), None)
        if twin is not None:
            found[j] = twin
    return found


# ## Moves
# %% find_moves
def find_moves(trios: Collection[Trio]) -> tuple[set[Trio], set[Trio]]:
    """Return the cells that theirs alone moved, and the ones that both moved apart."""
    shared = [trio for trio in trios if None not in trio]
    names = {trio: str(trio.base) for trio in shared}
    orders = [sorted(shared, key=lambda trio, k=k: trio[k]) for k in range(3)]  # type: ignore[misc]
    if orders[1] == orders[2]:
        return set(), set()
    before, *after = ([names[trio] for trio in order] for order in orders)
    here, there = (moved(before, order) for order in after)
    left, right = (
        dict(zip(order, [None, *order], strict=False)) for order in orders[1:]
    )
    by_theirs = {trio for trio in shared if names[trio] in there}
    by_both = {trio for trio in by_theirs if names[trio] in here}
    return by_theirs - by_both, {t for t in by_both if left[t] != right[t]}


# ## One order
# %% order_trios
def order_trios(trios: Collection[Trio], kept: Collection[Trio]) -> list[Trio]:
    """Return the kept cells in the order of both sides."""
    wanted = set(kept)
    moves, _ = find_moves(trios)
    ours = [trio for trio in wanted if trio.ours is not None and trio not in moves]
    order = sorted(ours, key=lambda trio: trio.ours or 0)
    before: Trio | None = None
    theirs = [trio for trio in wanted if trio.theirs is not None]
    for trio in sorted(theirs, key=lambda trio: trio.theirs or 0):
        if trio.ours is None or trio in moves:
            at = order.index(before) + 1 if before else 0
            while at < len(order) and order[at].base is order[at].theirs is None:
                at += 1
            order.insert(at, trio)
        before = trio
    return order
