# Exported from nbs/09a_cache.ipynb. Edit either side, then run `litml sync`.
"""Remember what cells showed, so that a checkout can show it again."""

from __future__ import annotations

import marshal
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

__all__ = ["cell_keys", "Shown", "pack", "unpack", "LIMIT", "Cache", "NEWEST"]


# ## Which cell
# %% cell_keys
def cell_keys(cells: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Return a key for each cell of a notebook: of its id and its source."""
    from _blake2 import blake2b  # `hashlib` would load all of OpenSSL along

    seen: dict[str, int] = {}
    keys = []
    for cell in cells:
        source = "".join(cell["source"])
        name = cell.get("id")
        if not name:
            seen[source] = seen.get(source, 0) + 1
            name = f"#{seen[source]}"
        text = f"{name}\0{source}".encode(errors="replace")
        keys.append(blake2b(text, digest_size=16).digest())
    return keys


# ## Where it is kept
# %% pack
class Shown(NamedTuple):
    """What a cell showed: its number and its outputs."""

    number: int | None
    outputs: list[dict[str, Any]]


def pack(shown: Shown) -> bytes:
    """Return what a cell showed as bytes, always the same."""
    return marshal.dumps(tuple(shown), 2)  # later versions write shared objects once


def unpack(data: bytes) -> Shown | None:
    """Read what a cell showed; nothing if it cannot be read."""
    try:
        number, outputs = marshal.loads(data)
    except (ValueError, EOFError, TypeError):
        return None
    return Shown(number, outputs)


# %% TABLE
TABLE = """
create table if not exists outputs (
    key blob, notebook text, used integer, data blob,
    primary key (key, notebook)
)
"""


def connect(path: str) -> sqlite3.Connection:
    """Open the file, and make it anew if it is damaged; raises `sqlite3.Error`."""
    try:
        return prepare(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        with suppress(FileNotFoundError):
            os.remove(path)
        return prepare(path)


def prepare(path: str) -> sqlite3.Connection:
    """Open the file, with its table."""
    connection = sqlite3.connect(path, timeout=10, isolation_level=None)
    connection.execute("pragma page_size = 16384")  # most rows are larger than one
    connection.execute("pragma journal_mode = persist")
    connection.execute("pragma synchronous = off")
    connection.execute(TABLE)
    return connection


# ## To remember and to recall
# %% Cache
LIMIT = 1_000_000_000


class Cache:
    """What cells showed, in the file at `path`, which keeps to `limit` bytes."""

    def __init__(self, path: str, limit: int = LIMIT) -> None:
        self.path = path
        self.limit = limit
        self.connection: sqlite3.Connection | None = None

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Open the file if it is not, and make one change of it; raises `OSError`."""
        try:
            if not self.connection:
                folder = os.path.dirname(os.path.abspath(self.path))
                os.makedirs(folder, exist_ok=True)
                self.connection = connect(self.path)
            self.connection.execute("begin immediate")
            yield self.connection
            self.connection.execute("commit")
        except sqlite3.Error as error:
            self.close()
            raise OSError(f"{self.path}: {error}") from error

    def remember(self, notebook: str, shown: Mapping[bytes, Shown]) -> None:
        """Note what cells of a notebook showed; raises `OSError`."""
        now = int(time.time())
        rows = [(key, notebook, pack(one)) for key, one in shown.items()]
        with self.change() as table:
            for key, name, data in rows:
                if not touch(table, key, name, data, now):
                    row = (key, name, now, data)
                    table.execute("replace into outputs values (?, ?, ?, ?)", row)
            if rows:
                trim(table, self.limit)

    def recall(self, notebook: str, keys: Iterable[bytes]) -> dict[bytes, Shown]:
        """Return what is known of cells; raises `OSError`."""
        found = {}
        if not os.path.exists(self.path):
            return {}
        with self.change() as table:
            for key in keys:
                row = table.execute(NEWEST, (key, notebook)).fetchone()
                if row and (shown := unpack(row[0])):
                    found[key] = shown
        return found

    def close(self) -> None:
        """Let go of the file."""
        if self.connection:
            self.connection.close()
            self.connection = None


NEWEST = """
select data from outputs where key = ? order by notebook = ? desc, used desc limit 1
"""


# %% trim
def touch(
    table: sqlite3.Connection, key: bytes, notebook: str, data: bytes, now: int
) -> bool:
    """Mark a row as used, if it says just this."""
    statement = (
        "update outputs set used = ? where key = ? and notebook = ? and data = ?"
    )
    return table.execute(statement, (now, key, notebook, data)).rowcount > 0


def trim(table: sqlite3.Connection, limit: int) -> None:
    """Delete rows that were not used for the longest time, if there are too many."""
    size, pages, free = (
        table.execute(f"pragma {word}").fetchone()[0]
        for word in ("page_size", "page_count", "freelist_count")
    )
    excess = (pages - free) * size - limit
    if excess <= 0:
        return
    excess += limit // 5
    oldest = table.execute("select rowid, length(data) from outputs order by used, 1")
    for row, length in oldest.fetchall():
        if excess <= 0:
            break
        table.execute("delete from outputs where rowid = ?", (row,))
        excess -= length
