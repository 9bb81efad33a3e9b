# Exported from nbs/08e_show_diff.ipynb. Edit either side, then run `litml sync`.
"""Write a comparison of notebooks as text for a terminal, as a table of counts, and
as JSON.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from typing import Any

from litml.diff import CellDiff, Line, NotebookDiff, plural
from litml.view import spell

__all__ = [
    "INVISIBLE",
    "make_visible",
    "WIDE",
    "split_line",
    "head_cell",
    "say_status",
    "head_notebook",
    "show_diffs",
    "show_notes",
    "show_stat",
    "count",
    "say_counts",
    "to_json",
]


# ## Harmless text
# %% make_visible
INVISIBLE = (
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069"
    "\ufeff\ud800-\udfff]"
)


def make_visible(text: str) -> str:
    """Return a text with the characters spelled out that act instead of being seen."""
    return re.sub(INVISIBLE, lambda found: spell(found[0]), text)


# %% split_line
WIDE = 400


def split_line(line: Line) -> Iterator[tuple[str, bool]]:
    """Yield the pieces of a line, fit to be shown, and whether each is marked."""
    text, first = line.text, line.marks[0][0] if line.marks else 0
    at = first - 40 if len(text) > WIDE and first > WIDE / 2 else 0
    end = min(at + WIDE, len(text))
    if at:
        yield f"… {at} characters … ", False
    for start, stop in line.marks:
        if start >= end:
            break
        yield make_visible(text[at:start]), False
        yield make_visible(text[start : min(stop, end)]), True
        at = min(stop, end)
    yield make_visible(text[at:end]), False
    if end < len(text):
        yield f" … {len(text) - end} characters more", False


# ## Text
# %% paint
COLOURS = {"head": "1", "place": "36", "note": "33", "-": "31", "+": "32", "far": "2"}
Paint = Callable[[str, str], str]


def paint(text: str, style: str) -> str:
    """Return a text in the colours of a style, for a terminal."""
    code = COLOURS.get(style)
    return f"\x1b[{code}m{text}\x1b[m" if code and text else text


def keep_plain(text: str, style: str) -> str:
    """Return a text without colours."""
    return text


# %% show_line
def show_line(line: Line, paint: Paint) -> str:
    """Return a line with its sign."""
    pieces = list(split_line(line))
    if paint is keep_plain or line.sign == " ":
        return line.sign + "".join(piece for piece, _ in pieces)
    shown = [f"\x1b[7m{one}\x1b[27m" if marked else one for one, marked in pieces]
    return paint(line.sign + "".join(shown), line.sign)


def show_lines(lines: Iterable[Line], paint: Paint) -> Iterator[str]:
    """Yield lines as text, with a line of its own for each gap."""
    last = 0, 0
    for line in lines:
        if is_gap(last, line):
            yield paint(" ⋮", "far")
        last = line.old or last[0], line.new or last[1]
        yield show_line(line, paint)


def is_gap(last: tuple[int, int], line: Line) -> bool:
    """Are lines left out between the last numbers, old and new, and a line?"""
    before, after = last
    return (line.old or before + 1) > before + 1 or (line.new or after + 1) > after + 1


# %% head_cell
def head_cell(cell: CellDiff) -> str:
    """Return what a cell is known by: its place, its kind and id, its first line."""
    places = [cell.old, cell.new] if cell.moved else [cell.new or cell.old]
    place = ("" if cell.new else "old ") + f"cell {' → '.join(map(str, places))}"
    name = " ".join(filter(None, [cell.kind if cell.kind != "code" else "", cell.id]))
    title = cell.title if len(cell.title) <= 60 else f"{cell.title[:59]}…"
    return make_visible(": ".join(filter(None, [f"{place} {name}".strip(), title])))


def say_status(cell: CellDiff) -> str:
    """Return what happened to a cell, in words."""
    both = cell.moved and cell.status == "changed"
    return "moved and changed" if both else cell.status


def head_notebook(diff: NotebookDiff) -> str:
    """Return the names of a notebook, and what happened to it as a whole."""
    told = {"added": "new", "removed": "deleted", "renamed": "renamed", "changed": ""}
    names = dict.fromkeys(filter(None, (diff.old, diff.new)))
    status = told[diff.status]
    return make_visible(" → ".join(names)) + (f" ({status})" if status else "")


# %% show_diffs
def show_diffs(diffs: Iterable[NotebookDiff], *, colour: bool = False) -> Iterator[str]:
    """Yield comparisons as lines of text."""
    use = paint if colour else keep_plain
    for i, diff in enumerate(diffs):
        yield from [""] * (i > 0)
        yield use(f"notebook {head_notebook(diff)}", "head")
        if diff.problem:
            warning = f"! not compared by cells. {diff.problem}"
            yield use(make_visible(warning), "note")
        yield from show_notes(diff.notes, use)
        yield from show_lines(diff.lines, use)
        for cell in diff.cells:
            yield use(f"@@ {head_cell(cell)} @@ {say_status(cell)}", "place")
            yield from show_lines(cell.lines, use)
            yield from show_notes(cell.notes, use)
            yield from (f"> {line}" for line in show_lines(cell.outputs, use))


def show_notes(notes: Iterable[str], paint: Paint) -> Iterator[str]:
    """Yield notes as text."""
    for note in notes:
        yield paint(f"~ {make_visible(note)}", "note")


# ## Counts
# %% show_stat
def show_stat(diffs: Iterable[NotebookDiff]) -> Iterator[str]:
    """Yield a line of counts for each notebook, and one for all."""
    rows = [(head_notebook(diff), count(diff)) for diff in diffs]
    width = max((len(name) for name, _ in rows), default=0)
    for name, counts in rows:
        yield f" {name:{width}} | {say_counts(counts)}"
    if len(rows) > 1:
        total = sum((counts for _, counts in rows), Counter[str]())
        yield f" {plural(len(rows), 'notebook')}: {say_counts(total)}"


def count(diff: NotebookDiff) -> Counter[str]:
    """Return how many cells something happened to, and how many lines."""
    counts = Counter(cell.status for cell in diff.cells)
    lines = [line for cell in diff.cells for line in cell.lines] + [*diff.lines]
    counts += Counter(line.sign for line in lines if line.sign != " ")
    counts["as text"] = int(bool(diff.problem))
    return counts


def say_counts(counts: Counter[str]) -> str:
    """Return counts in words."""
    words = ("changed", "added", "removed", "moved")
    told = [f"{counts[word]} {word}" for word in words if counts[word]]
    cells = [f"cells: {', '.join(told)}"] if told else []
    texts = [f"{counts['as text']} as text"] if counts["as text"] else []
    changed = counts["+"] or counts["-"]
    lines = [f"lines: +{counts['+']} -{counts['-']}"] if changed else []
    return "; ".join([*cells, *texts, *lines]) or "no cell changed"


# ## JSON
# %% to_json
def to_json(diffs: Iterable[NotebookDiff]) -> dict[str, Any]:
    """Return comparisons as what `json` can write."""
    notebooks = [{"status": one.status} | asdict(one) for one in diffs]
    for picture in (p for n in notebooks for c in n["cells"] for p in c["pictures"]):
        del picture["data"]
    return {"notebooks": notebooks}
