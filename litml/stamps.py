# Exported from nbs/02a_stamps.ipynb. Edit either side, then run `litml sync`.
"""Tell in a millisecond that there is nothing to do."""

import os
from binascii import crc32
from stat import S_ISDIR

__all__ = [
    "stamp",
    "list_names",
    "write_stamps",
    "renew_stamps",
    "remove_stamps",
    "YOUNG",
    "find_changed",
    "is_settled",
    "find_root",
    "notes_folder",
    "head_moved",
]


# %% stamp
def stamp(path: str) -> str:
    """Return a line about a path: size and time of change in ns for a file.

    For a folder there is a checksum of the names in it instead.
    """
    try:
        status = os.stat(path)
        if S_ISDIR(status.st_mode):
            return f"{list_names(path)} - {path}"
    except OSError:
        return f"- - {path}"
    return f"{status.st_size} {status.st_mtime_ns} {path}"


def list_names(folder: str) -> str:
    """Return a checksum of the names in a folder, and of which are folders."""
    names = []
    for entry in os.scandir(folder):
        if not entry.name.startswith((".", "_")):
            names.append(f"{entry.name}/" if entry.is_dir() else entry.name)
    return f"{crc32(os.fsencode('//'.join(sorted(names)))):08x}"


# %% write_stamps
def write_stamps(path: str, root: str, lines: list[str]) -> None:
    """Leave stamps for the project at `root`, one a line.

    They have to be of files as they were *before* they were read.
    """
    if "\n" in "".join(lines):
        remove_stamps(path)
        return
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\n".join([root, *lines]))
    os.replace(temporary, path)


def renew_stamps(path: str, root: str, new: dict[str, str]) -> None:
    """Replace the stamps of some files, given by their paths."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        _, *lines = file.read().split("\n")
    names = [line.split(" ", 2)[2] for line in lines]
    lines = [new.get(name, line) for name, line in zip(names, lines, strict=True)]
    write_stamps(path, root, lines)


def remove_stamps(path: str) -> None:
    """Remove stamps, if there are any."""
    try:
        os.remove(path)
    except OSError:
        return


# %% find_changed
YOUNG = 50_000_000  # ns; coarser clocks than this are not in use


def find_changed(path: str, root: str) -> list[str] | None:
    """Return what may have changed since stamps were left at `path`.

    None if there are no stamps there, or not of the project at `root`.
    """
    changed = []
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            owner, *lines = file.read().split("\n")
            believed = os.fstat(file.fileno()).st_mtime_ns - YOUNG
        for line in lines:
            _, time, name = line.split(" ", 2)
            if line != stamp(name) or (time != "-" and int(time) > believed):
                changed.append(name)
    except (OSError, ValueError):
        return None
    return changed if owner == root else None


def is_settled(path: str, root: str) -> bool:
    """Do the stamps at `path` exist, belong to `root`, and match?"""
    return find_changed(path, root) == []


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
            with open(git, "rb") as file:
                link = os.fsdecode(file.read().partition(b"gitdir: ")[2].strip())
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


# %% head_moved
def head_moved(notes: str, since: int) -> bool:
    """Was anything committed, pulled or checked out since a time in ns?"""
    above, name = os.path.split(notes)
    if name == ".litml":
        return False
    git = os.path.dirname(above) if os.path.basename(above) == "litml" else above
    try:
        return os.stat(os.path.join(git, "logs/HEAD")).st_mtime_ns > since
    except OSError:
        return True
