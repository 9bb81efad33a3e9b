# Exported from nbs/10g_written.ipynb. Edit either side, then run `litml sync`.
"""Tell which files a notebook has written among the sources, and which its
neighbours have.
"""

import itertools
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from math import inf
from pathlib import Path
from tempfile import gettempdir
from typing import TextIO

from litml.files import try_lock

__all__ = [
    "MANY",
    "Stock",
    "take_stock",
    "list_folder",
    "find_changed",
    "TICK",
    "find_cell",
    "Entry",
    "read_entry",
    "NUMBERS",
    "find_register",
    "Presence",
    "read_register",
    "open_new",
    "read_claims",
    "Written",
    "attribute",
    "Lookout",
    "describe_written",
]


# ## What has changed
# %% take_stock
MANY = 5000  # files of which we keep track
Stock = Mapping[str, tuple[int, int, int]]


def take_stock(folders: Iterable[Path]) -> Stock:
    """Return time of change, size, and the system's time of the files in folders.

    Times are in nanoseconds. Hidden files and caches are left out; of very many files
    only some are taken.
    """
    found: dict[str, tuple[int, int, int]] = {}
    todo = [os.fspath(folder) for folder in folders]
    while todo and len(found) < MANY:
        for entry in list_folder(todo.pop()):
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if entry.is_dir(follow_symlinks=False):
                todo.append(entry.path)
            else:
                with suppress(FileNotFoundError):  # gone since it was listed
                    seen = entry.stat(follow_symlinks=False)
                    times = seen.st_mtime_ns, seen.st_ctime_ns
                    found[entry.path] = (times[0], seen.st_size, times[1])
    return found


def list_folder(folder: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def find_changed(before: Stock, after: Stock) -> dict[Path, float]:
    """Return the files that are new or changed, and the time at which each was."""
    return {
        Path(path): max(look[0], look[2]) / 1e9
        for path, look in after.items()
        if before.get(path, ())[:2] != look[:2]
    }


# %% find_cell
TICK = 0.004  # seconds by which the clock of files may be late


def find_cell(moment: float, begun: Mapping[str, float]) -> str:
    """Return the cell that ran at a time; `begun` says when each began, in order."""
    cells = [cell for cell, start in begun.items() if start <= moment + TICK]
    return cells[-1] if cells else next(iter(begun), "")


# ## Neighbours
# %% Entry
@dataclass(frozen=True, slots=True)
class Entry:
    """A run of a notebook in the register; `ended` is 0 while it goes on."""

    path: Path
    notebook: str
    began: float
    ended: float = 0.0
    killed: bool = False

    @property
    def claims(self) -> Path:
        """The file to which the kernel appends what it opens to write."""
        return self.path.with_suffix(".claims")

    def ran_at(self, moment: float) -> bool:
        """Did it run at that time?"""
        return self.began <= moment + TICK and moment <= (self.ended or moment)

    def remove(self) -> None:
        """Remove it from the register."""
        self.path.unlink(missing_ok=True)
        self.claims.unlink(missing_ok=True)


def read_entry(path: Path) -> Entry | None:
    """Return an entry, or None if there is none, or not yet."""
    try:
        with path.open("r+", encoding="utf-8") as file:
            free = try_lock(file)
            notebook, began, ended = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return Entry(path, notebook, began, ended, killed=free and not ended)


# %% Presence
NUMBERS = itertools.count()


def find_register(root: Path) -> Path:
    """Return the folder of the register for the project at `root`; it may not exist."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    name = blake2b(os.fsencode(root.resolve()), digest_size=8).hexdigest()
    return Path(gettempdir(), f"litml-runs-{user}-{name}")


class Presence:
    """An entry of our own. Raises `OSError` if it cannot be written."""

    def __init__(self, root: Path, notebook: str) -> None:
        folder = find_register(root)
        path = folder / f"{os.getpid()}-{next(NUMBERS)}.json"
        self.entry = Entry(path, notebook, time.time())
        self.file = open_new(path)
        while not try_lock(self.file):  # somebody is just looking at it
            time.sleep(0.001)
        self.write()
        self.entry.claims.touch()

    def write(self, ended: float = 0.0) -> None:
        """Write it."""
        self.file.seek(0)
        self.file.write(json.dumps([self.entry.notebook, self.entry.began, ended]))
        self.file.flush()

    def find_others(self) -> list[Entry]:
        """Return the runs that have gone on beside ours at some time."""
        return [
            one
            for one in read_register(self.entry.path.parent)
            if one.path != self.entry.path
            and (one.ended >= self.entry.began if one.ended else not one.killed)
        ]

    def leave(self) -> None:
        """Say that the run has ended, and remove what is of no more use."""
        folder = self.entry.path.parent
        with suppress(OSError), self.file:
            self.write(time.time())
        entries = read_register(folder)
        running = [one for one in entries if not one.ended and not one.killed]
        first = min((one.began for one in running), default=inf)
        with suppress(OSError):
            for one in entries:
                if one not in running and one.ended < first:
                    one.remove()
            folder.rmdir()


def read_register(folder: Path) -> list[Entry]:
    """Return all entries of a register."""
    entries = [read_entry(path) for path in folder.glob("*.json")]
    return [one for one in entries if one]


def open_new(path: Path) -> TextIO:
    """Open a new file and, if need be, make its folder. Raises `OSError`."""
    for _ in range(100):
        with suppress(FileNotFoundError):  # somebody has just removed it
            path.parent.mkdir(mode=0o700, exist_ok=True)
            return path.open("x", encoding="utf-8")
    raise FileNotFoundError(path)


# %% read_claims
def read_claims(entry: Entry) -> set[str]:
    """Return the files that a kernel has claimed so far."""
    try:
        lines = entry.claims.read_text("utf-8").splitlines()
    except OSError:
        return set()
    found = set()
    for line in lines:
        with suppress(ValueError):  # one that is just being written
            found.add(str(json.loads(line)))
    return found


# ## Who it was
# %% Written
@dataclass(frozen=True, slots=True)
class Written:
    """A file that changed while a cell ran; `sure` if its kernel wrote it.

    `others` are the notebooks that may have written it as well.
    """

    cell: str
    sure: bool = False
    others: tuple[str, ...] = ()


def attribute(
    path: Path, moment: float, cell: str, own: set[str] | None, others: Sequence[Entry]
) -> Written | None:
    """Return who has written a file at that time; None if it was somebody else.

    `own` are our claims, if our kernel makes any, and `others` the runs beside ours.
    """
    name = os.path.realpath(path)
    if own and name in own:
        return Written(cell, sure=True)
    if any(name in read_claims(one) for one in others):
        return None
    names = {one.notebook for one in others if one.ran_at(moment)}
    return Written(cell, own is None and not names, tuple(sorted(names)))


# %% Lookout
class Lookout:
    """Looks out for files below `folders` that change from now on."""

    def __init__(self, root: Path, folders: Sequence[Path], notebook: str) -> None:
        self.folders = folders
        self.presence: Presence | None = None
        self.listens = False
        if folders:
            with suppress(OSError):
                self.presence = Presence(root, notebook)
        self.stock = take_stock(folders)

    def listen(self, home: Path) -> None:
        """Have the kernel with that home tell which files it writes."""
        if self.presence:
            with suppress(OSError):
                os.link(self.presence.entry.claims, home / "claims")
                self.listens = True

    def close(self, begun: Mapping[str, float]) -> dict[Path, Written]:
        """Return what was written; `begun` says when each cell began, in order."""
        changed = find_changed(self.stock, take_stock(self.folders))
        presence, self.presence = self.presence, None
        own = read_claims(presence.entry) if presence and self.listens else None
        others = presence.find_others() if presence and changed else []
        found = {}
        for path, moment in changed.items():
            cell = find_cell(moment, begun)
            if one := attribute(path, moment, cell, own, others):
                found[path] = one
        if presence:
            presence.leave()
        return found


# ## What is said
# %% describe_written
def describe_written(written: Mapping[str, Written], most: int = 3) -> str:
    """Say who wrote which files; `written` has the files' names."""
    groups: dict[Written, list[str]] = {}
    for name, one in written.items():
        groups.setdefault(one, []).append(name)
    said = []
    for one, names in groups.items():
        more = f" and {len(names) - most} more" if len(names) > most else ""
        files = f"{', '.join(names[:most])}{more}"
        if one.sure:
            said.append(f"cell {one.cell} wrote {files}")
        else:
            who = " and ".join([f"cell {one.cell}", *one.others])
            said.append(f"while {who} ran, something wrote {files}")
    return "; ".join(said)
