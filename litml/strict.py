# Exported from nbs/10_strict.ipynb. Edit either side, then run `litml sync`.
"""Which troubles fail a notebook, besides an error in a cell."""

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from litml.project import Kind, Project, check_table

__all__ = [
    "Strict",
    "KINDS",
    "read_strict",
    "MANY",
    "Stock",
    "take_stock",
    "list_folder",
    "TICK",
    "find_written",
    "describe_written",
]


# ## The table
# %% Strict
@dataclass(frozen=True, slots=True)
class Strict:
    """Which troubles fail a notebook; `end_timeout` is in seconds."""

    hidden_errors: bool = True
    pending_tasks: bool = True
    shell_errors: bool = False
    written_files: bool = False
    end_timeout: float = 10.0


KINDS: dict[str, Kind] = {
    "hidden-errors": (bool, "true or false"),
    "pending-tasks": (bool, "true or false"),
    "shell-errors": (bool, "true or false"),
    "written-files": (bool, "true or false"),
    "end-timeout": ((int, float), "a number of seconds"),
}


def read_strict(project: Project) -> Strict:
    """Return what the project's table says. Raises `ConfigError` if it is wrong."""
    table = dict(project.config.tables.get("run", {}))
    check_table(table, KINDS, "tool.litml.run")
    return Strict(**{key.replace("-", "_"): value for key, value in table.items()})


# ## Files
# %% take_stock
MANY = 5000  # files of which we keep track
Stock = Mapping[Path, tuple[int, int]]


def take_stock(folders: Iterable[Path]) -> Stock:
    """Return the times of change, in nanoseconds, and sizes of the files in folders.

    Hidden files and caches are left out; of very many files only some are taken.
    """
    found: dict[Path, tuple[int, int]] = {}
    todo = list(folders)
    while todo and len(found) < MANY:
        for entry in list_folder(todo.pop()):
            if entry.name.startswith(".") or entry.name == "__pycache__":
                continue
            if entry.is_dir(follow_symlinks=False):
                todo.append(Path(entry.path))
            else:
                with suppress(FileNotFoundError):  # gone since it was listed
                    status = entry.stat(follow_symlinks=False)
                    found[Path(entry.path)] = (status.st_mtime_ns, status.st_size)
    return found


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


# %% find_written
TICK = 0.004  # seconds by which the clock of files may be late


def find_written(
    before: Stock, after: Stock, begun: Mapping[str, float]
) -> dict[Path, str]:
    """Return new and changed files and, of each, the cell that was running.

    `begun` has the times at which the cells began, in seconds, in their order.
    """
    written = {}
    for path, look in after.items():
        if before.get(path) != look:
            time = look[0] / 1e9 + TICK
            cells = [cell for cell, start in begun.items() if start <= time]
            written[path] = next(reversed(cells), next(iter(begun), ""))
    return written


# %% describe_written
def describe_written(written: Mapping[str, str], most: int = 3) -> str:
    """Say which cells wrote which files; `written` has files and their cells."""
    cells: dict[str, list[str]] = {}
    for name, cell in written.items():
        cells.setdefault(cell, []).append(name)
    said = []
    for cell, names in cells.items():
        more = f" and {len(names) - most} more" if len(names) > most else ""
        who = f"cell {cell} wrote" if cell else "written meanwhile:"
        said.append(f"{who} {', '.join(names[:most])}{more}")
    return "; ".join(said)
