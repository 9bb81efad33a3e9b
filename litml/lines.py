# Exported from nbs/08a_lines.ipynb. Edit either side, then run `litml sync`.
"""Merge the lines of a cell, and mark the ones on which both sides disagree."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from litml.edit import Hunk, common_ends, hunks, touch

__all__ = [
    "MergedText",
    "merge_lines",
    "mark",
    "take_lines",
    "has_clash",
    "BLOCK",
]


# %% MergedText
@dataclass(frozen=True, slots=True)
class MergedText:
    """A text made of two, with `clashes` places that hold what both sides wanted."""

    text: str
    clashes: int = 0


# ## Regions
# %% Region
@dataclass(frozen=True, slots=True)
class Region:
    """Lines of the base from `start` up to `end`, and what each side made of them."""

    start: int
    end: int
    ours: list[str]
    theirs: list[str]


def regions(
    base: Sequence[str], left: Sequence[Hunk], right: Sequence[Hunk]
) -> Iterator[Region]:
    """Yield the changed regions, in the order of the base."""
    tagged = [
        (hunk.start, hunk.end, k, hunk) for k in (0, 1) for hunk in (left, right)[k]
    ]
    group: tuple[list[Hunk], list[Hunk]] = [], []
    for _, _, k, hunk in sorted(tagged, key=lambda one: one[:3]):
        joined = any(touch(hunk, other) for other in group[1 - k])
        if any(group) and not joined:
            yield make_region(base, *group)
            group = [], []
        group[k].append(hunk)
    if any(group):
        yield make_region(base, *group)


def make_region(
    base: Sequence[str], left: Sequence[Hunk], right: Sequence[Hunk]
) -> Region:
    """Return the region that hunks of both sides cover."""
    start = min(hunk.start for hunk in (*left, *right))
    end = max(hunk.end for hunk in (*left, *right))
    sides = (replace_lines(base, start, end, side) for side in (left, right))
    return Region(start, end, *sides)


def replace_lines(
    base: Sequence[str], start: int, end: int, side: Sequence[Hunk]
) -> list[str]:
    """Return the base's lines from `start` up to `end` as one side has them."""
    lines: list[str] = []
    for hunk in side:
        lines += [*base[start : hunk.start], *hunk.lines]
        start = hunk.end
    return [*lines, *base[start:end]]


# ## Merging
# %% merge_lines
def merge_lines(
    base: str, ours: str, theirs: str, *, size: int = 7, show_base: bool = False
) -> MergedText:
    """Merge two edited versions of a text by lines."""
    if ours == theirs or theirs == base:
        return MergedText(ours)
    if ours == base:
        return MergedText(theirs)
    lines = base.split("\n")
    left, right = hunks(lines, ours.split("\n")), hunks(lines, theirs.split("\n"))
    merged: list[str] = []
    at = clashes = 0
    for region in regions(lines, left, right):
        before = lines[region.start : region.end]
        merged += lines[at : region.start]
        at = region.end
        if region.theirs in (before, region.ours):
            merged += region.ours
        elif region.ours == before:
            merged += region.theirs
        else:
            merged += mark(region, before if show_base else None, size)
            clashes += 1
    return MergedText("\n".join([*merged, *lines[at:]]), clashes)


def mark(region: Region, base: list[str] | None, size: int) -> Iterator[str]:
    """Yield a region's lines, those of both sides between markers."""
    ours, theirs = region.ours, region.theirs
    top, below = common_ends(ours, theirs)
    yield from ours[:top]
    yield "<" * size + " ours"
    yield from ours[top : len(ours) - below]
    if base is not None:
        yield "|" * size + " base"
        yield from base
    yield "=" * size
    yield from theirs[top : len(theirs) - below]
    yield ">" * size + " theirs"
    yield from ours[len(ours) - below :]


# ## Settling
# %% take_lines
def take_lines(text: str, side: str) -> str:
    """Return a marked text with the lines of `ours`, of `theirs` or of `both`."""

    def choose(found: re.Match[str]) -> str:
        ours, theirs = found["ours"] or "", found["theirs"] or ""
        return {"ours": ours, "theirs": theirs, "both": ours + theirs}[side]

    taken = re.sub(BLOCK, choose, text + "\n")
    return taken.removesuffix("\n")


def has_clash(text: str) -> bool:
    """Is a place in the text still marked?"""
    return bool(re.search(BLOCK, text + "\n"))


BLOCK = re.compile(
    r"^(?P<mark><{7,}) ours\n(?P<ours>(?:.*\n)*?)"
    r"(?:\|{7,} base\n(?:.*\n)*?)?"
    r"={7,}\n(?P<theirs>(?:.*\n)*?)>{7,} theirs\n",
    re.MULTILINE,
)
