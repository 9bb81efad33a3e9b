# Exported from nbs/02a_stamps.ipynb. Edit either side, then run `litml sync`.
"""Tell in a millisecond that there is nothing to do."""

import os
import time
from collections.abc import Iterable

__all__ = [
    "stamp",
    "YOUNG",
    "write_stamps",
    "remove_stamps",
    "is_settled",
    "find_root",
    "notes_folder",
]


# %% stamp
def stamp(path: str) -> str:
    """Return a line about a file or folder: size, time of change in ns, and path."""
    try:
        status = os.stat(path)
    except OSError:
        return f"- - {path}"
    size = 0 if os.path.isdir(path) else status.st_size
    return f"{size} {status.st_mtime_ns} {path}"


# %% write_stamps
YOUNG = 50_000_000  # ns; coarser clocks than this are not in use


def write_stamps(path: str, root: str, stamps: Iterable[str]) -> None:
    """Leave stamps for the project at `root`; none if one of them is too young.

    They have to be of files as they were *before* they were read.
    """
    lines = list(stamps)
    times = [int(line.split(" ")[1]) for line in lines if line[0] != "-"]
    too_young = max(times, default=0) > time.time_ns() - YOUNG
    if too_young or "\n" in "".join(lines):
        remove_stamps(path)
        return
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\n".join([root, *lines]))
    os.replace(temporary, path)


def remove_stamps(path: str) -> None:
    """Remove stamps, if there are any."""
    try:
        os.remove(path)
    except OSError:
        return


# %% is_settled
def is_settled(path: str, root: str) -> bool:
    """Do the stamps at `path` exist, belong to `root`, and match?"""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            owner, *lines = file.read().split("\n")
    except (OSError, UnicodeDecodeError):
        return False
    return owner == root and all(line == stamp(line.split(" ", 2)[2]) for line in lines)


# ## Which project?
# %% find_root
def find_root(folder: str) -> str | None:
    """Return the nearest folder upward that holds a configuration file."""
    while True:
        for name in ("pyproject.toml", "settings.ini"):
            if os.path.exists(os.path.join(folder, name)):
                return folder
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


# %% notes_folder
def notes_folder(root: str) -> str:
    """Return the folder of litml's notes on the project at `root`.

    A linked work tree and a submodule have a file `.git` that names git's folder.
    """
    top = root
    while True:
        git = os.path.join(top, ".git")
        if os.path.isfile(git):
            with open(git, encoding="utf-8") as file:
                link = file.read().partition("gitdir: ")[2].strip()
            git = os.path.realpath(os.path.join(top, link)) if link else git
        if os.path.isdir(git):
            below = (
                os.path.relpath(root, top).replace("%", "%25").replace(os.sep, "%2F")
            )
            return os.path.normpath(os.path.join(git, "litml", below))
        above = os.path.dirname(top)
        if above == top:
            return os.path.join(root, ".litml")
        top = above
