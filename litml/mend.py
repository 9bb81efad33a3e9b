# Exported from nbs/05f_mend.ipynb. Edit either side, then run `litml sync`.
"""See through what people and programs do to the markers of a view."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, takewhile

from litml.notebook import Location, free_name
from litml.view import LensError, Section, trim

__all__ = ["name_cell", "mend_markers"]


# %% keep_one
def keep_one(
    sections: list[Section], base: Mapping[str, Section], notes: list[str]
) -> list[Section]:
    """Let one section keep an id that several have."""
    rivals: dict[str, list[Section]] = {}
    for section in sections:
        rivals.setdefault(section.id, []).append(section)
    for id in [id for id, several in rivals.items() if id and len(several) > 1]:
        best = max(rivals[id], key=lambda one: likeness(base.get(id), one))
        at = next(i for i, section in enumerate(sections) if section is best)
        sections = [
            replace(section, id="") if section.id == id and i != at else section
            for i, section in enumerate(sections)
        ]
        notes.append(f"cell {id}: its marker was copied; the copy is a new cell")
    return sections


def likeness(one: Section | None, other: Section) -> float:
    """Return how much two sections have in common, from 0 to 1."""
    if one is None or one.kind != other.kind:
        return 0.0
    return alike(one.lines, other.lines)


def alike(some: Sequence[str], others: Sequence[str]) -> float:
    """Return how much lines have in common, from 0 to 1; 1 is for equal ones only."""
    import difflib

    if some == others:
        return 1.0
    texts = "\n".join(some), "\n".join(others)
    if max(map(len, texts)) < 1000:  # by characters; longer ones by lines
        return difflib.SequenceMatcher(None, *texts, autojunk=False).ratio() * 0.99
    return difflib.SequenceMatcher(None, some, others, autojunk=False).ratio() * 0.99


# %% find_tail
DEFINITION = re.compile(r"(?:async def|def|class) (\w+)")


def find_tail(section: Section, lost: Section, above: Section) -> int | None:
    """Return where in a section the lines of the lost one begin, if they are there."""
    lines, block = section.lines, lost.lines
    if not block or lines == above.lines:
        return None
    starts = [i for i, line in enumerate(lines, start=1) if not line.strip()]
    starts += [] if above.lines else [0]
    if count(lines, block) > count(above.lines, block):
        found = [i for i in starts if lines[i : i + len(block)] == block]
        if found:
            return max(found)
    names = definitions(block) - definitions(above.lines)
    if lost.kind == "code" and names & definitions(lines):
        for i in sorted(starts):
            if definitions(paragraph(lines[i:])) & names:
                return i
    return find_edited(lines, block, above.lines, starts)


def find_edited(
    lines: Sequence[str], block: Sequence[str], above: Sequence[str], starts: list[int]
) -> int | None:
    """Return at which of the starts the lines are much like the block, if at one.

    Without what is below it, the section has to be more like the one it was.
    """
    before = alike(trim(lines), above)
    sure = {
        start: alike(lines[start : start + len(block)], block)
        for start in starts
        if alike(trim(lines[:start]), above) > before or not above
    }
    best = max(sure, key=sure.__getitem__, default=None)
    return best if best is not None and sure[best] > 0.6 else None


def paragraph(lines: Sequence[str]) -> list[str]:
    """Return the lines up to the first blank one."""
    return list(takewhile(str.strip, lines))


def count(lines: Sequence[str], block: Sequence[str]) -> int:
    """Return how often a block occurs in the lines."""
    starts = range(len(lines) - len(block) + 1)
    return sum(lines[i : i + len(block)] == block for i in starts)


def definitions(lines: Iterable[str]) -> set[str]:
    """Return the names of functions and classes that lines define at the top level."""
    return {match[1] for line in lines if (match := DEFINITION.match(line))}


# %% refuse_swallowed
def refuse_swallowed(section: Section, lost: Section, above: Section) -> None:
    """Raise if lines of a lost cell stand in one of another kind."""
    if section.kind == lost.kind:
        return
    new = set(section.lines) - set(above.lines)
    for line in lost.lines:
        if len(line) > 12 and line in new:
            place = f"in cell `{section.id}`" if section.id else "above all cells"
            message = f"no marker for `{lost.id}`, but its line `{line}` is {place}"
            hint = "put the marker back, or remove the cell's lines as well"
            raise LensError(message, at=Location("the view", lost.id), hint=hint)


# %% find_lost
def find_lost(
    sections: list[Section], base: Sequence[Section], notes: list[str]
) -> list[Section]:
    """Put markers back where the lines of their cells follow those of another."""
    there = {section.id for section in sections}
    found, above = list(sections), Section("", "above", ())
    for lost in base:
        if lost.id in there:
            above = lost
            continue
        places = [i for i, one in enumerate(found) if is_same_id(one, above)]
        start = find_tail(found[places[0]], lost, above) if places else None
        if start is None:
            if places:
                refuse_swallowed(found[places[0]], lost, above)
            continue
        whole = found[places[0]]
        upper = replace(whole, lines=tuple(trim(whole.lines[:start])))
        lower = Section(lost.id, lost.kind, tuple(trim(whole.lines[start:])))
        found[places[0] : places[0] + 1] = [upper, lower]
        notes.append(f"cell {lost.id}: its marker was lost, and put back")
        above = lost
    return [one for one in found if one.kind != "above" or one.lines]


def is_same_id(one: Section, other: Section) -> bool:
    """Are they sections of one cell, or both what stands above all cells?"""
    return one.id == other.id and (bool(one.id) or one.kind == other.kind)


# %% find_changed
def find_changed(
    sections: Iterable[Section],
    base: Sequence[Section],
    ours: Iterable[str],
    notes: list[str],
) -> list[Section]:
    """Give sections whose ids nobody knows the ids of missing cells they belong to."""
    sections = list(sections)
    there, known = {one.id for one in sections}, {one.id for one in base} | {*ours}
    places = pairwise(["", *(one.id for one in base)])
    before = {id: above for above, id in places}
    missing = [one for one in base if one.id not in there]
    found: list[Section] = []
    for section in sections:
        if section.id not in known and section.kind != "above":
            above = found[-1].id if found else ""
            sure = [
                likelihood(section, one, above == before[one.id]) for one in missing
            ]
            if max(sure, default=0.0) > 0.5:
                lost = missing.pop(sure.index(max(sure)))
                notes.append(note_change(lost.id, section.id))
                section = replace(section, id=lost.id)
        found.append(section)
    return found


def note_change(id: str, marker: str) -> str:
    """Return the note for a cell that was known in spite of its marker."""
    was = f"had become `{marker}`" if marker else "had lost its id"
    return f"cell {id}: its marker {was}; the cell keeps its id"


def likelihood(section: Section, lost: Section, in_place: bool) -> float:
    """Return how likely it is that a section belongs to a missing cell, from 0 to 1."""
    if lost.kind != section.kind:
        return 0.0
    same = likeness(lost, section)
    shared = definitions(section.lines) & definitions(lost.lines)
    if same < 1.0 and shared and lost.kind == "code":
        return 0.9
    if same < 1.0 and in_place and section.id and alike([lost.id], [section.id]) > 0.8:
        return 0.8
    enough = 0.7 if section.id else 0.5  # somebody may have named a new cell
    return same if same == 1.0 or (in_place and same > enough) else 0.0


# %% name_cell
def name_cell(source: str, kind: str, taken: Iterable[str]) -> str:
    """Return a readable id for a new cell that is not among those taken."""
    lines = [line for line in source.split("\n") if not line.startswith("#|")]
    names = [match[1] for line in lines if (match := DEFINITION.match(line))]
    if kind != "code" or not names:
        first = next((line for line in lines if re.search(r"[a-zA-Z0-9]", line)), "")
        words = re.findall(r"[a-z0-9]+", first.lower())
        names = ["-".join(words[:4])]
    stem = names[0].strip("_").replace("_", "-")[:50] or kind
    return free_name(stem, set(taken))


# %% mend_markers
def mend_markers(
    sections: Sequence[Section],
    base: Sequence[Section],
    ours: Iterable[str],
    notes: list[str],
) -> list[Section]:
    """Return edited sections under their right ids; what was done goes to the notes.

    `ours` are the ids of the notebook's cells. A section of a new cell has no id, or
    the one that its marker gives. Raises `LensError` where it cannot be told.
    """
    found = keep_one(list(sections), {one.id: one for one in base}, notes)
    found = find_lost(found, base, notes)
    return find_changed(found, base, ours, notes)
