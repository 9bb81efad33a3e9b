# Exported from nbs/16e_versions.ipynb. Edit either side, then run `litml sync`.
"""Several versions of a site side by side, each whole, with a switch between them."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Any

from litml.notebook import LitmlError

__all__ = [
    "VersionsError",
    "Version",
    "DEV",
    "STABLE",
    "folder_of",
    "is_release",
    "order_versions",
    "numbers",
    "read_versions",
    "version_files",
    "FIRST",
    "is_newest",
]


# ## A version
# %% VersionsError
class VersionsError(LitmlError):
    """A version that documentation cannot have."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the site: its folder, and how readers know it."""

    path: str
    title: str


# %% folder_of
DEV, STABLE = "dev", "stable"


def folder_of(version: str) -> str:
    """Return the folder of a version: `1.2` of `1.2.3`, or a name such as `dev`.

    Raises `VersionsError` for what cannot be a folder.
    """
    if release := re.fullmatch(r"v?(\d+\.\d+)(?:\.\d+)*", version):
        return release[1]
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", version):
        hint = "write a version such as 1.2, or `dev`"
        raise VersionsError(f"`{version}` cannot be a folder", hint=hint)
    return version


def is_release(path: str) -> bool:
    """Is it the folder of a release?"""
    return re.fullmatch(r"\d+\.\d+", path) is not None


# ## All versions
# %% order_versions
def order_versions(versions: Iterable[Version]) -> list[Version]:
    """Return versions with the newest release first, and others after releases."""
    by_path = {version.path: version for version in versions if version.path != STABLE}
    releases = [one for one in by_path.values() if is_release(one.path)]
    others = [one for one in by_path.values() if not is_release(one.path)]
    newest = sorted(releases, key=lambda one: numbers(one.path), reverse=True)
    stable = [Version(STABLE, f"{newest[0].path} (stable)")] if newest else []
    return [*stable, *newest, *sorted(others, key=lambda one: one.path)]


def numbers(path: str) -> tuple[int, ...]:
    """Return what releases are compared by."""
    return tuple(int(part) for part in path.split("."))


# %% read_versions
def read_versions(data: bytes) -> list[Version]:
    """Return the versions of a list; none if it is not one."""
    try:
        rows: list[dict[str, Any]] = json.loads(data)
        found = [Version(str(row["path"]), str(row["title"])) for row in rows]
        return [one for one in found if folder_of(one.path) == one.path]
    except (ValueError, TypeError, KeyError, VersionsError):
        return []


# %% version_files
def version_files(known: bytes, built: str, title: str) -> dict[str, bytes]:
    """Return the files above all versions, once a version is built into `built`.

    `known` is the list so far; `title` is the site's.
    """
    versions = order_versions([*read_versions(known), Version(built, built)])
    rows = [{"path": one.path, "title": one.title} for one in versions]
    text = json.dumps(rows, indent=1)
    first = escape(versions[0].path)
    page = FIRST.format(title=escape(title), target=f"{first}/index.html")
    return {
        "versions.json": f"{text}\n".encode(),
        "versions.js": f"window.litmlVersions = {text};\n".encode(),
        "index.html": page.encode(),
    }


FIRST = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<meta http-equiv="refresh" content="0; url={target}">
</head>
<body><main><h1>{title}</h1><p><a href="{target}">Documentation</a></p></main></body>
</html>
"""


# %% is_newest
def is_newest(known: bytes, built: str) -> bool:
    """Is what is being built the newest release, so that it is the stable version?"""
    others = [one.path for one in read_versions(known) if is_release(one.path)]
    return is_release(built) and numbers(built) >= max(map(numbers, others), default=())
