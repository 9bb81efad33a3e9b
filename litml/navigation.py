# Exported from nbs/16b_navigation.ipynb. Edit either side, then run `litml sync`.
"""Where a page stands in the site: its address, its section, its neighbours."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import PurePosixPath

from litml.project import NUMBER

__all__ = [
    "name_pages",
    "parts_of",
    "plain",
    "Place",
    "Part",
    "make_parts",
    "reading_order",
    "matches",
    "folder_title",
    "NEAREST",
    "Surroundings",
    "surround",
]


# ## Addresses
# %% name_pages
def name_pages(paths: Sequence[str]) -> dict[str, str]:
    """Return the names of pages by the paths of notebooks below their folder."""
    short = {path: "/".join(map(plain, parts_of(path))) for path in paths}
    counts = Counter(name.lower() for name in short.values())
    return {
        path: name if counts[name.lower()] == 1 else "/".join(parts_of(path))
        for path, name in short.items()
    }


def parts_of(path: str) -> tuple[str, ...]:
    """Return the folders and the stem of a path, fit for an address."""
    parts = PurePosixPath(path).with_suffix("").parts
    return tuple(re.sub(r"[^\w.~-]+", "-", part) for part in parts)


def plain(part: str) -> str:
    """Return a part of a path without its number; one that is all number stays."""
    return NUMBER.sub("", part) or part


# ## Sections
# %% Place
@dataclass(frozen=True, slots=True)
class Place:
    """A page as navigation shows it."""

    name: str
    title: str
    summary: str = ""

    @property
    def url(self) -> str:
        """The page's address from the site's root."""
        return f"{self.name}.html"


@dataclass(frozen=True, slots=True)
class Part:
    """A section of the site: its title and its pages, in reading order."""

    title: str
    places: tuple[Place, ...]

    @property
    def url(self) -> str:
        """The address of its first page."""
        return self.places[0].url


# %% make_parts
def make_parts(
    places: Mapping[str, Place], sections: Mapping[str, Sequence[str]]
) -> tuple[Part, ...]:
    """Return the sections; `places` go by their paths below the notebooks' folder."""
    found: dict[str, list[Place]] = {title: [] for title in sections}
    inner: dict[str, list[Place]] = {}
    for path, place in sorted(places.items(), key=reading_order):
        if place.name == "index":
            continue
        titles = (title for title, some in sections.items() if matches(path, some))
        if title := next(titles, None):
            found[title].append(place)
        else:
            inner.setdefault(PurePosixPath(path).parent.as_posix(), []).append(place)
    for folder, some in inner.items():
        found.setdefault(folder_title(folder, some), []).extend(some)
    return tuple(Part(title, tuple(some)) for title, some in found.items() if some)


def reading_order(item: tuple[str, Place]) -> tuple[str, bool, str]:
    """Return what to sort by: the index of a folder is its first page."""
    path = PurePosixPath(item[0])
    return path.parent.as_posix(), path.stem != "index", path.name


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Does a path match one of the patterns?"""
    return any(fnmatch(path, pattern) for pattern in patterns)


# %% folder_title
def folder_title(folder: str, places: Sequence[Place]) -> str:
    """Return the title of the section of a folder; `.` is the top."""
    if folder == ".":
        return "Pages"
    first = places[0]
    if first.name.endswith("/index") or first.name == "index":
        return first.title
    words = re.split(r"[_-]+", plain(PurePosixPath(folder).name))
    title = " ".join(words)
    return title[:1].upper() + title[1:]


# ## One page's surroundings
# %% Surroundings
NEAREST = 120


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What navigation shows beside a page: `part` is its section, None for the front.

    `listed` are the pages of the section, or those nearest to the page.
    """

    part: Part | None
    listed: tuple[Place, ...]
    previous: Place | None
    next: Place | None


def surround(front: Place | None, parts: Sequence[Part]) -> dict[str, Surroundings]:
    """Return the surroundings of every page, by name."""
    order = [*([front] if front else []), *(p for part in parts for p in part.places)]
    before = {place.name: order[i - 1] for i, place in enumerate(order) if i}
    after = {place.name: order[i + 1] for i, place in enumerate(order[:-1])}
    found = {}
    if front:
        found[front.name] = Surroundings(None, (), None, after.get(front.name))
    for part in parts:
        for i, place in enumerate(part.places):
            start = max(0, min(i - NEAREST // 2, len(part.places) - NEAREST))
            listed = part.places[start : start + NEAREST]
            near = before.get(place.name), after.get(place.name)
            found[place.name] = Surroundings(part, listed, *near)
    return found
