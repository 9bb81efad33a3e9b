# Exported from nbs/09g_resolve.ipynb. Edit either side, then run `litml sync`.
"""Settle the conflicts that a merge left in a notebook, cell by cell."""

from collections.abc import Callable, Sequence
from pathlib import Path

from litml.canonical import OddFile
from litml.driver import merge_bytes
from litml.git import GitError, list_index, read_blobs
from litml.lines import has_clash, take_lines
from litml.merge import Merged, drop_flag, get_flag
from litml.notebook import (
    LitmlError,
    Location,
    Notebook,
    NotebookError,
    parse_notebook,
    read_notebook,
    suggest,
)

__all__ = [
    "find_open",
    "open_merge",
    "merge_paths",
    "take",
    "ANSWERS",
    "QUESTION",
    "resolve_asking",
    "explain_flag",
]


# ## What is open
# %% find_open
def find_open(notebook: Notebook) -> dict[str, str]:
    """Return the cells in conflict, by id, and what kind of conflict it is."""
    found = {}
    for cell in notebook.cells:
        if flag := get_flag(cell) or ("source" if has_clash(cell.source) else ""):
            found[cell.id] = flag
    return found


# ## Settling
# %% resolve_cell
SIDES = ("ours", "theirs", "both")


def resolve_cell(notebook: Notebook, name: str, side: str) -> None:
    """Settle the conflict of the cell with the id `name` by taking a side."""
    check_choice(notebook, name, side)
    flag = find_open(notebook)[name]
    place = next(i for i, cell in enumerate(notebook.cells) if cell.id == name)
    cell = notebook.cells[place]
    cell.source = take_lines(cell.source, side)
    drop_flag(cell)
    if flag == f"deleted by {side}":
        del notebook.cells[place]
    elif flag.startswith(f"moved by {side} "):
        before = flag.removeprefix(f"moved by {side} behind ")
        notebook.cells.remove(cell)
        ids = [other.id for other in notebook.cells]
        at = ids.index(before) + 1 if before in ids else 0
        notebook.cells.insert(at, cell)


class ResolveError(LitmlError):
    """A conflict that is not there, or cannot be settled like that."""


def check_choice(notebook: Notebook, name: str | None, side: str) -> None:
    """Raise `ResolveError` if there is no such conflict, or no such side."""
    if side not in SIDES:
        message = f"take {', '.join(SIDES)}, not {side!r}"
        raise ResolveError(message, hint=suggest(side, SIDES))
    if name is not None and name not in (found := find_open(notebook)):
        message = f"no conflict in a cell {name!r}"
        at = Location(notebook.name)
        raise ResolveError(message, at=at, hint=suggest(name, found))


# ## Merging again
# %% merge_again
def merge_again(path: Path) -> bytes:
    """Merge a notebook that git has left in conflict, from git's three versions."""
    at = Location(path.name)
    entries = {entry.stage: entry for entry in list_index(path.parent, [path.name])}
    if not {2, 3} <= entries.keys():
        hint = "`litml merge BASE OURS THEIRS` merges any three files"
        raise ResolveError("git knows of no conflict in it", at=at, hint=hint)
    blobs = dict(read_blobs(path.parent, [entry.id for entry in entries.values()]))
    base, ours, theirs = (
        blobs[entries[stage].id] if stage in entries else b"" for stage in (1, 2, 3)
    )
    try:
        return merge_bytes(base, ours, theirs, path.name)[0]
    except OddFile as error:
        raise ResolveError(f"not to be merged by cells: {error}", at=at) from error


# %% open_merge
def open_merge(path: Path) -> Notebook:
    """Read a notebook after a merge, which is made again if need be."""
    try:
        return read_notebook(path)
    except NotebookError as error:
        if not path.is_file():
            raise
        try:
            return parse_notebook(merge_again(path), str(path))
        except (GitError, ResolveError):
            raise error from None


def merge_paths(base: str, ours: str, theirs: str) -> tuple[bytes, Merged]:
    """Merge three files by cells; `-` for the base if there is none."""
    names = (base, ours, theirs)
    try:
        three = [b"" if name == "-" else Path(name).read_bytes() for name in names]
        return merge_bytes(three[0], three[1], three[2], ours)
    except OSError as error:
        message = error.strerror or str(error)
        raise NotebookError(message, at=Location(str(error.filename))) from error
    except OddFile as error:
        hint = "`git merge-file` merges files of any kind, as text"
        raise ResolveError(f"not to be merged by cells: {error}", hint=hint) from error


# ## Telling
# %% take
def take(notebook: Notebook, words: Sequence[str]) -> None:
    """Settle conflicts as `words` say; raises `ResolveError` before it does any."""
    pairs = [word.rpartition("=") for word in words]
    chosen = {name: side for name, equals, side in pairs if equals}
    found = find_open(notebook)
    for name, equals, side in pairs:
        check_choice(notebook, name if equals else None, side)
        if not equals:
            chosen = dict.fromkeys(found, side) | chosen
    for name, side in chosen.items():
        resolve_cell(notebook, name, side)


# ## Asking
# %% resolve_asking
ANSWERS = {"o": "ours", "t": "theirs", "b": "both", "s": "", "q": "quit"}
QUESTION = "take [o]urs, [t]heirs, [b]oth; [s]kip, [q]uit? "


def resolve_asking(notebook: Notebook, ask: Callable[[str], str]) -> None:
    """Ask for each conflict what to take, and take it."""
    for name, flag in find_open(notebook).items():
        cell = next(cell for cell in notebook.cells if cell.id == name)
        question = f"\ncell {name}: {explain_flag(flag)}\n{cell.source}\n\n{QUESTION}"
        while (answer := ANSWERS.get(ask(question).strip()[:1].lower())) is None:
            question = QUESTION
        if answer == "quit":
            return
        if answer:
            resolve_cell(notebook, name, answer)


def explain_flag(flag: str) -> str:
    """Say a conflict in words."""
    if flag == "source":
        return "both sides changed the same lines"
    side, other = ("ours", "theirs")[:: -1 if flag.endswith("theirs") else 1]
    if flag.startswith("deleted by"):
        return f"deleted in {side}, changed in {other}"
    return f"both sides moved it; in theirs {flag.removeprefix('moved by theirs ')}"
