# Exported from nbs/15f_inventory.ipynb. Edit either side, then run `litml sync`.
"""Which name is documented where: `objects.inv`, for others to read and from others."""

import builtins
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

from litml.notebook import LitmlError, Location
from litml.page import Symbol

__all__ = [
    "Entry",
    "HEAD",
    "write_inventory",
    "InventoryError",
    "LINE",
    "LARGEST",
    "read_inventory",
    "unreadable",
    "ROLES",
    "list_entries",
    "Inventory",
    "open_inventory",
    "FOLDER",
    "BUNDLED",
    "load_inventories",
    "load_bundled",
    "SHORT",
    "Resolver",
    "is_exception",
]


# ## The format
# %% Entry
@dataclass(frozen=True, slots=True)
class Entry:
    """A documented name: its role, as `py:class`, and its place below the site."""

    name: str
    role: str
    place: str
    title: str = "-"
    priority: int = 1

    @property
    def line(self) -> str:
        """The entry as the file has it."""
        place = self.place
        if place.endswith(self.name):
            place = place.removesuffix(self.name) + "$"
        return f"{self.name} {self.role} {self.priority} {place} {self.title}\n"

    @property
    def url(self) -> str:
        """The place, written out."""
        return self.place.removesuffix("$") + self.name * self.place.endswith("$")


# %% write_inventory
HEAD = """# Sphinx inventory version 2
# Project: {project}
# Version: {version}
# The remainder of this file is compressed using zlib.
"""


def write_inventory(entries: Iterable[Entry], project: str, version: str) -> bytes:
    """Return entries as an `objects.inv`, in an order that does not change."""
    lines = sorted(one.line for one in entries)
    # One line each: a project's name may be anything
    project, version = (" ".join(one.split()) for one in (project, version))
    head = HEAD.format(project=project, version=version)
    return head.encode() + zlib.compress("".join(lines).encode(), 9)


# %% read_inventory
class InventoryError(LitmlError):
    """An `objects.inv` that cannot be read, or that is not where it should be."""


LINE = re.compile(r"(.+?)\s+(\S+:\S+)\s+(-?\d+)\s+?(\S*)\s+(.*)")
LARGEST = 50_000_000  # bytes, unpacked: the largest known has 8


def read_inventory(raw: bytes, name: str) -> list[Entry]:
    """Read an `objects.inv`; `name` is what errors call it."""
    head, body = raw.split(b"\n", 4)[:4], raw.split(b"\n", 4)[4:]
    if not body or head[0].rstrip() != b"# Sphinx inventory version 2":
        raise unreadable(name, "does not begin as version 2 of the format does")
    unpack = zlib.decompressobj()
    try:
        text = unpack.decompress(body[0], LARGEST).decode()
    except (zlib.error, UnicodeDecodeError) as error:
        raise unreadable(name, f"is damaged: {error}") from error
    if not unpack.eof:
        raise unreadable(name, "is cut off, or far too large")
    found = (LINE.fullmatch(line.rstrip()) for line in text.splitlines())
    return [
        Entry(one[1], one[2], one[4], one[5], int(one[3]))
        for one in found
        if one is not None
    ]


def unreadable(name: str, why: str) -> InventoryError:
    """Return the error for an inventory that cannot be read."""
    hint = "download the project's `objects.inv` again"
    return InventoryError(f"the inventory {why}", at=Location(name), hint=hint)


# ## Our own
# %% list_entries
ROLES = {
    "class": "py:class",
    "function": "py:function",
    "method": "py:method",
    "property": "py:property",
    "attribute": "py:attribute",
}


def list_entries(
    places: Mapping[str, str], symbols: Iterable[Symbol], pages: Mapping[str, str]
) -> list[Entry]:
    """Return the entries of a site.

    `places` are the places of symbols by their paths; `pages` those of modules.
    """
    roles = {one.path: ROLES[one.kind] for one in symbols}
    found = [
        Entry(path, role, places[path])
        for path, role in roles.items()
        if path in places
    ]
    return found + [Entry(name, "py:module", place) for name, place in pages.items()]


# ## Those of others
# %% Inventory
@dataclass(frozen=True, slots=True)
class Inventory:
    """The names that a site documents, and their places below its address."""

    url: str
    places: Mapping[str, str] = field(default_factory=dict)

    def find(self, name: str) -> str | None:
        """Return the address of a name; None if it is not documented there."""
        place = self.places.get(name)
        return None if place is None else f"{self.url}/{place}"


def open_inventory(raw: bytes, url: str, name: str) -> Inventory:
    """Return the Python names of an `objects.inv`, for the site at `url`."""
    if not re.match(r"https?://", url):
        raise InventoryError(f"`{url}` is no address of a site", at=Location(name))
    entries = [one for one in read_inventory(raw, name) if one.role.startswith("py:")]
    return Inventory(url.rstrip("/"), {one.name: one.url for one in entries})


# %% load_inventories
FOLDER = "inventories"
BUNDLED = {
    "python": "https://docs.python.org/3",
    "numpy": "https://numpy.org/doc/stable",
    "torch": "https://docs.pytorch.org/docs/stable",
}


def load_inventories(root: Path, named: Mapping[str, str]) -> list[Inventory]:
    """Return the inventories that a project names, then those that litml brings."""
    found = []
    for name, url in named.items():
        file = f"{FOLDER}/{name}.inv"
        try:
            raw = (root / file).read_bytes()
        except OSError as error:
            hint = f"download {url}/objects.inv to {file}"
            message = f"there is no inventory of `{name}`"
            raise InventoryError(message, at=Location(file), hint=hint) from error
        found.append(open_inventory(raw, url, file))
    return [*found, *(load_bundled(one) for one in BUNDLED if one not in named)]


@cache
def load_bundled(name: str) -> Inventory:
    """Return an inventory that litml brings along."""
    file = files("litml") / FOLDER / f"{name}.inv"
    return open_inventory(file.read_bytes(), BUNDLED[name], f"{name}.inv")


# ## From a name to a link
# %% Resolver
SHORT = {"np": "numpy", "nn": "torch.nn", "F": "torch.nn.functional"}


class Resolver:
    """Finds the URL of a name: in the project, then in the inventories in order."""

    def __init__(
        self, places: Mapping[str, str], inventories: Iterable[Inventory] = ()
    ) -> None:
        """Take the places of the project's symbols by their paths."""
        self.places = places
        self.inventories = tuple(inventories)
        self.packages = {path.partition(".")[0] for path in places}
        self.endings: dict[str, set[str]] = {}
        for path in places:
            parts = path.split(".")
            for start in range(1, len(parts)):
                self.endings.setdefault(".".join(parts[start:]), set()).add(path)

    def __call__(self, name: str, module: str = "") -> str | None:
        """Return the URL of a name that a page about `module` uses; None: no link."""
        own = self.find_own(name, module)
        return own if own is not None else self.find_foreign(name)

    def find_own(self, name: str, module: str) -> str | None:
        """Return the place of a symbol of the project."""
        for path in (f"{module}.{name}", name):
            if path in self.places:
                return self.places[path]
        first, _, rest = name.partition(".")
        if first in self.packages and rest:  # passed on by another module
            name = name.rpartition(".")[2]
        is_word = re.fullmatch(r"[a-z]+", name)
        paths = () if is_word else self.endings.get(name, ())
        places = {self.places[path] for path in paths}
        return places.pop() if len(places) == 1 else None

    def find_foreign(self, name: str) -> str | None:
        """Return the address of a name of another project."""
        first, dot, rest = name.partition(".")
        if not dot and not is_exception(name):
            return None
        full = f"{SHORT.get(first, first)}{dot}{rest}"
        found = (one.find(full) for one in self.inventories)
        return next((url for url in found if url is not None), None)


def is_exception(name: str) -> bool:
    """Is it the name of an exception that is built in?"""
    found = getattr(builtins, name, None)
    return isinstance(found, type) and issubclass(found, BaseException)
