# Exported from nbs/16c_store.ipynb. Edit either side, then run `litml sync`.
"""What a build keeps for the next one, and the folder it writes into."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import Any

from litml.files import WriteError, replace_file
from litml.notebook import Location

__all__ = [
    "make_key",
    "Store",
    "plain",
    "list_names",
    "LIST",
    "Target",
    "is_inner",
]


# ## Keys
# %% make_key
def make_key(*parts: str | bytes) -> str:
    """Return the key of what depends on all these parts, and on their order."""
    digest = blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "replace")
        digest.update(f"{len(data)}:".encode())
        digest.update(data)
    return digest.hexdigest()


# ## The store
# %% Store
class Store:
    """Entries by name and key, in a folder that may not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self, name: str, key: str) -> Any:
        """Return what was kept under the name and the key, or None."""
        try:
            head, _, text = self.path_of(name).read_bytes().partition(b"\n")
            if head.decode() != f"{key} {make_key(text)}":
                return None
            return json.loads(text)
        except (OSError, ValueError):
            return None

    def write(self, name: str, key: str, data: Any) -> None:
        """Keep data, or dataclasses of it; what was there under the name is gone."""
        text = json.dumps(
            data, ensure_ascii=False, separators=(",", ":"), default=plain
        )
        encoded = text.encode("utf-8", "backslashreplace")
        head = f"{key} {make_key(encoded)}\n".encode()
        with suppress(OSError):
            replace_file(self.path_of(name), head + encoded)

    def path_of(self, name: str) -> Path:
        """Return the file of an entry."""
        return self.folder / f"{make_key(name)}.json"

    def sweep(self, names: Iterable[str]) -> None:
        """Remove the entries that have none of these names."""
        kept = {self.path_of(name).name for name in names}
        with suppress(OSError):
            for path in self.folder.glob("*.json"):
                if path.name not in kept:
                    path.unlink()


# %% plain
def plain(value: object) -> object:
    """Return what JSON can hold of a value that it cannot hold itself."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: getattr(value, name) for name in list_names(type(value))}
    return str(value)


@cache
def list_names(kind: type) -> list[str]:
    """Return the names of a dataclass's fields."""
    return [one.name for one in fields(kind)]


# ## The folder of a site
# %% Target
LIST = ".litml-files"


class Target:
    """The folder that a site is written into."""

    def __init__(
        self, folder: Path, known: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        self.folder = folder
        self.known = known or {}
        self.made: set[str] = set()
        self.written: list[str] = []
        self.removed: list[str] = []

    def write(self, name: str, data: bytes) -> None:
        """Put a file there, by its path from the folder, unless it is there."""
        self.made.add(name)
        path = self.folder / name
        try:
            if path.is_file() and path.read_bytes() == data:
                return
            replace_file(path, data)
        except OSError as error:
            raise self.failed(name, error) from error
        self.written.append(name)

    def keep(self, name: str) -> bool:
        """Let a file of the last build stay, if nobody has changed it since."""
        known = self.known.get(name)
        is_same = known is not None and self.look(name) == list(known)
        if is_same:
            self.made.add(name)
        return is_same

    def look(self, name: str) -> list[int] | None:
        """Return size and time of change of a file; None if it is not there."""
        try:
            status = os.stat(self.folder / name)
        except OSError:
            return None
        return [status.st_size, status.st_mtime_ns]

    def stamps(self) -> dict[str, list[int]]:
        """Return what the next build may know of the files that were made."""
        looks = {name: self.look(name) for name in sorted(self.made)}
        return {name: look for name, look in looks.items() if look}

    def finish(self) -> None:
        """Remove what the last build made and this one did not; renew the list."""
        for name in sorted(self.listed() - self.made):
            if not is_inner(name):
                continue
            path = self.folder / name
            with suppress(OSError):
                path.unlink()
                self.removed.append(name)
                for parent in list(path.relative_to(self.folder).parents)[:-1]:
                    os.rmdir(self.folder / parent)
        made = sorted(self.made - {LIST})
        self.write(LIST, "".join(f"{name}\n" for name in made).encode())

    def listed(self) -> set[str]:
        """Return the files that the last build made."""
        try:
            return set((self.folder / LIST).read_text("utf-8").splitlines())
        except (OSError, ValueError):
            return set()

    def failed(self, name: str, error: OSError) -> WriteError:
        """Return the error for a file that could not be written."""
        at = Location(str(self.folder / name))
        return WriteError(f"cannot write: {error.strerror or error}", at=at)


def is_inner(name: str) -> bool:
    """Is it a path that stays below the folder?"""
    path = PurePosixPath(name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts
