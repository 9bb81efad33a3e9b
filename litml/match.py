# Exported from nbs/08_match.ipynb. Edit either side, then run `litml sync`.
"""Find out which cell of one version of a notebook is which cell of another."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from litml.edit import Piece, common_ends

__all__ = [
    "match_cells",
    "match_ids",
    "SIMILAR",
    "same_text",
    "unique_ids",
    "match_order",
    "common_order",
    "similarity",
    "SHORT",
    "LONG",
    "ratio",
    "Bag",
    "split_lines",
    "split_words",
]


# %% match_cells
def match_cells(base: Sequence[Piece], other: Sequence[Piece]) -> dict[int, int]:
    """Pair places in `base` with places in `other`; what has no partner is left out.

    A cell may have been edited, moved, or become another kind on the way.
    """
    pairs = match_ids(base, other)
    pairs |= match_order(base, other, pairs)
    pairs |= match_moved(base, other, pairs)
    pairs |= match_similar(base, other, pairs)
    pairs |= match_gaps(base, other, pairs)
    return dict(sorted(pairs.items()))


# %% open_cells
def open_cells(
    base: Sequence[Piece], other: Sequence[Piece], pairs: dict[int, int]
) -> tuple[list[int], list[int]]:
    """Return the places in both versions that have no partner yet."""
    taken = set(pairs.values())
    here = [i for i in range(len(base)) if i not in pairs]
    return here, [j for j in range(len(other)) if j not in taken]


# ## By id
# %% match_ids
def match_ids(base: Sequence[Piece], other: Sequence[Piece]) -> dict[int, int]:
    """Pair cells whose id occurs once on each side, where the ids can be believed."""
    places = unique_ids(other)
    named = [(i, places[k]) for k, i in unique_ids(base).items() if k in places]
    pairs = {i: j for i, j in named if same_text(base[i], other[j])}
    here, there = open_cells(base, other, pairs)
    moved = {base[i].text.strip() for i in here} & {
        other[j].text.strip() for j in there
    }
    moved.discard("")
    edited = [(i, j) for i, j in named if i not in pairs]
    doubtful = {
        i for i, j in edited if moved & {base[i].text.strip(), other[j].text.strip()}
    }
    if len(doubtful) <= len(pairs):
        for i, j in edited:
            if i not in doubtful or similarity(base[i], other[j]) > SIMILAR:
                pairs[i] = j
    return pairs


SIMILAR = 0.5


def same_text(one: Piece, other: Piece) -> bool:
    """Are both the same kind of cell, with the same text?"""
    return one.text == other.text and one.kind == other.kind


def unique_ids(version: Sequence[Piece]) -> dict[str, int]:
    """Return the places of the ids that exactly one cell has."""
    count = Counter(piece.id for piece in version)
    return {
        piece.id: i
        for i, piece in enumerate(version)
        if count[piece.id] == 1 and piece.id
    }


# ## By order
# %% match_order
def match_order(
    base: Sequence[Piece], other: Sequence[Piece], pairs: dict[int, int]
) -> dict[int, int]:
    """Pair open cells of equal text that stand in the same order on both sides."""
    here, there = open_cells(base, other, pairs)
    if not here or not there:
        return {}
    back = {j: i for i, j in pairs.items()}
    left = [i if i in pairs else (p.kind, p.text) for i, p in enumerate(base)]
    right = [back.get(j, (p.kind, p.text)) for j, p in enumerate(other)]
    return {i: j for i, j in common_order(left, right) if i not in pairs}


def common_order(
    left: Sequence[object], right: Sequence[object]
) -> list[tuple[int, int]]:
    """Return the places of what two sequences have in common, in order."""
    from difflib import SequenceMatcher  # only when ids leave something open

    top, below = common_ends(left, right)
    shift = len(right) - len(left)
    pairs = [(i, i) for i in range(top)]
    pairs += [(i, i + shift) for i in range(len(left) - below, len(left))]
    old, new = left[top : len(left) - below], right[top : len(right) - below]
    for start, other, size in SequenceMatcher(
        None, old, new, autojunk=False
    ).get_matching_blocks():
        pairs += [(top + start + k, top + other + k) for k in range(size)]
    return sorted(pairs)


# %% match_moved
def match_moved(
    base: Sequence[Piece], other: Sequence[Piece], pairs: dict[int, int]
) -> dict[int, int]:
    """Pair open cells of equal text wherever they stand."""
    here, there = open_cells(base, other, pairs)
    places: dict[tuple[str, str], list[int]] = {}
    for j in reversed(there):
        places.setdefault((other[j].kind, other[j].text), []).append(j)
    found = {}
    for i in here:
        same = places.get((base[i].kind, base[i].text))
        if same and base[i].text.strip():
            found[i] = same.pop()
    return found


# ## By likeness
# %% similarity
def similarity(one: Piece, other: Piece) -> float:
    """Return how much two cells have in common, from 0 to 1."""
    if one.text == other.text:
        return 1.0
    left, right = split_lines(one.text), split_lines(other.text)
    found = ratio(left, right)
    longest = max(len(one.text), len(other.text))
    if min(len(left.items), len(right.items)) <= SHORT and longest < LONG:
        words = ratio(split_words(one.text), split_words(other.text))
        found = max(found, 0.9 * words)
    return found


SHORT = 5  # lines
LONG = 5000  # characters


def ratio(left: "Bag", right: "Bag") -> float:
    """Return the share of items that two texts have in common, in order.

    Counting without order is quick, and an upper bound: it settles most cases.
    """
    total = len(left.items) + len(right.items)
    if not total:
        return 0.0
    bound = 2 * (left.counts & right.counts).total() / total
    if bound <= SIMILAR:
        return bound
    return 2 * len(common_order(left.items, right.items)) / total


class Bag(NamedTuple):
    """The items of a text, in order, and how often each is there."""

    items: list[str]
    counts: Counter[str]


@lru_cache(maxsize=5000)  # each cell is compared with many
def split_lines(text: str) -> Bag:
    """Return the lines of a text that are not empty, without indentation."""
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return Bag(lines, Counter(lines))


@lru_cache(maxsize=5000)
def split_words(text: str) -> Bag:
    """Return the words of a text."""
    words = re.findall(r"\w+", text)
    return Bag(words, Counter(words))


# %% match_similar
def match_similar(
    base: Sequence[Piece], other: Sequence[Piece], pairs: dict[int, int]
) -> dict[int, int]:
    """Pair open cells that are alike, best pair first."""
    here, there = open_cells(base, other, pairs)
    told = any(base[i].id and base[i].id == other[j].id for i, j in pairs.items())
    before = gaps(len(base), {i: i for i in pairs})
    before_there = gaps(len(other), {j: i for i, j in pairs.items()})
    scores = []
    for i in here:
        for j in there:
            penalty = 0.2 * (base[i].kind != other[j].kind)
            apart = told and bool(base[i].id and other[j].id)
            penalty += 0.2 if apart else -0.2 * (before[i] == before_there[j])
            penalty += 0.001 * abs(i * len(other) / len(base) - j)
            score = similarity(base[i], other[j]) - penalty
            if score > SIMILAR:
                scores.append((-score, i, j))
    found: dict[int, int] = {}
    taken = set()
    for _, i, j in sorted(scores):
        if i not in found and j not in taken:
            found[i] = j
            taken.add(j)
    return found


def gaps(size: int, known: dict[int, int]) -> list[int]:
    """Return for each place the cell of the base that was paired last before it."""
    last, found = -1, []
    for place in range(size):
        found.append(last)
        last = known.get(place, last)
    return found


# %% match_gaps
def match_gaps(
    base: Sequence[Piece], other: Sequence[Piece], pairs: dict[int, int]
) -> dict[int, int]:
    """Pair open cells, one of them without id, that fill the same gap."""
    found: dict[int, int] = {}
    here, there = open_cells(base, other, pairs)
    if not here or not there:
        return found
    steps = [(-1, -1), *sorted(pairs.items()), (len(base), len(other))]
    for (i, j), (i_end, j_end) in pairwise(steps):
        gap, other_gap = range(i + 1, i_end), range(j + 1, j_end)
        kinds = [base[k].kind for k in gap], [other[k].kind for k in other_gap]
        if kinds[0] == kinds[1] and not set(other_gap) - set(there):
            same = zip(gap, other_gap, strict=True)
            found |= {a: b for a, b in same if not (base[a].id and other[b].id)}
    return found
