# Exported from nbs/04c_record.ipynb. Edit either side, then run `litml sync`.
"""Remember how files looked, so that what has not changed need not be read again."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import litml
from litml.files import replace_file
from litml.stamps import YOUNG

if TYPE_CHECKING:
    from litml.project import Project

__all__ = ["dump_record", "Base"]


# ## The record
# %% Entry
@dataclass(frozen=True, slots=True)
class Entry:
    """How a file looked: size in bytes, change time in ns, checksum, and its targets.

    `targets` are the files a notebook contributes to, its own module first; the
    first is empty if it has none. For a written file there are none.
    """

    size: int
    time: int
    checksum: str
    targets: tuple[str, ...] = ()


# %% Record
@dataclass(frozen=True, slots=True)
class Record:
    """What the last export read and wrote, by name from the root.

    `key` identifies litml and the configuration; `time` is when it was written, in ns;
    `package` is the folder that the files are in.
    """

    key: str = ""
    time: int = 0
    settled: bool = False
    notebooks: dict[str, Entry] = field(default_factory=dict)
    files: dict[str, Entry] = field(default_factory=dict)
    package: str = ""


# %% load_record
RECORD = "export.json"


def load_record(path: Path, key: str | None) -> Record:
    """Read a record; one that is absent or damaged is as good as none.

    One with another key still knows what was written, but nothing about notebooks.
    Where there is no doubt about the key, it may be None.
    """
    try:
        data = json.loads(path.read_bytes())
        notebooks, files = (
            {
                name: Entry(size, stamp, checksum, tuple(targets))
                for name, (size, stamp, checksum, targets) in data[part].items()
            }
            for part in ("notebooks", "files")
        )
        if key in (None, data["key"]):
            about = data["key"], data["time"], data["settled"]
            return Record(*about, notebooks, files, data["package"])
        return Record(key or "", files=files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Record(key or "")


# %% dump_record
def dump_record(record: Record) -> bytes:
    """Return the text of a record, dated now."""

    def rows(entries: dict[str, Entry]) -> dict[str, object]:
        return {n: [e.size, e.time, e.checksum, e.targets] for n, e in entries.items()}

    data = {
        "key": record.key,
        "time": time.time_ns(),
        "settled": record.settled,
        "notebooks": rows(record.notebooks),
        "files": rows(record.files),
        "package": record.package,
    }
    return json.dumps(data).encode()


# %% record_key
EXPORTER = (
    "notebook text cells project export patch nbdev readme record package".split()
)


def exporter_files() -> list[str]:
    """Return the files of litml that decide what an export looks like."""
    return [f"{litml.__path__[0]}/{name}.py" for name in EXPORTER]


def record_key(project: Project) -> str:
    """Return what a record depends on besides files: litml, Python, configuration."""
    stamps = [os.stat(path).st_mtime_ns for path in exporter_files()]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return f"1 {stamps} {version} {project.config} {project.nbdev}"


# ## Has it changed?
# %% look
def look(path: Path) -> tuple[int, int] | None:
    """Return size and change time of a file, or None if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


# %% checksum
def checksum(data: bytes) -> str:
    """Return a checksum that is safe against accidents, of text with any line ends."""
    from _blake2 import blake2b  # `hashlib` would load all of OpenSSL along

    return blake2b(data.replace(b"\r\n", b"\n"), digest_size=16).hexdigest()


# %% is_same
def is_same(path: Path, entry: Entry | None, record: Record) -> bool:
    """Is the file as it was when the record was written?"""
    if not entry or look(path) != (entry.size, entry.time):
        return False
    if entry.time < record.time - YOUNG:
        return True
    return checksum(path.read_bytes()) == entry.checksum


# %% refresh
def refresh(path: Path, record: Record) -> None:
    """Date a record that was found right to now, if that makes it more useful."""
    entries = [*record.notebooks.values(), *record.files.values()]
    newest = max((entry.time for entry in entries), default=0)
    if record.time - YOUNG <= newest < time.time_ns() - YOUNG:
        replace_file(path, dump_record(record))


# ## Whose files are they?
# %% find_generated
def find_generated(package: Path, known: Collection[str] = ()) -> set[str]:
    """Return the modules in a folder that begin as litml's do, but are not known."""
    found = set()
    for folder, inner, names in os.walk(package):
        inner[:] = [name for name in inner if not name.startswith((".", "__"))]
        below = os.path.relpath(folder, package)
        paths = [os.path.normpath(os.path.join(below, name)) for name in names]
        modules = {path.replace(os.sep, "/") for path in paths if path.endswith(".py")}
        for path in modules.difference(known):
            with open(os.path.join(package, path), "rb") as file:
                if file.read(16) == b"# Exported from ":
                    found.add(path)
    return found


def exported_from(text: str) -> tuple[str, ...]:
    """Return the notebooks that the first line of an exported file names."""
    header = re.match(r"(?:#|<!--) Exported from (.+?)\. Edit ", text)
    return tuple(header[1].split(", ")) if header else ()


# ## The base of an edit
# %% Base
@dataclass(frozen=True, slots=True)
class Base:
    """A module as it was when notebook and module agreed; its cells' ids in order."""

    ids: tuple[str, ...]
    text: str


# %% load_base
def base_path(notes: Path, target: str) -> Path:
    """Return where the copy of a module is kept, out of sight of linters."""
    return notes / "base" / f"{target}.txt"


def dump_base(base: Base) -> bytes:
    """Return the bytes of a copy."""
    return f"{json.dumps(base.ids)}\n{base.text}".encode()


def load_base(notes: Path, target: str, record: Record) -> Base | None:
    """Return the copy of a module, if it is of the text that was written last."""
    try:
        kept = base_path(notes, target).read_text("utf-8")
        ids, _, text = kept.partition("\n")
        base = Base(tuple(json.loads(ids)), text)
    except (OSError, ValueError, TypeError):
        return None
    entry = record.files.get(target)
    same = entry and entry.checksum == checksum(base.text.encode())
    return base if same else None
