# Exported from nbs/18a_version.ipynb. Edit either side, then run `litml sync`.
"""Choose the next version, and write it and its notes where they belong."""

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from litml.notebook import LitmlError, Location

if TYPE_CHECKING:
    from packaging.version import Version

__all__ = [
    "VersionError",
    "STEPS",
    "next_version",
    "parse_version",
    "make_step",
    "find_version_file",
    "MODULE",
    "STATIC",
    "read_version",
    "find_line",
    "write_version",
    "UNRELEASED",
    "NEXT",
    "Notes",
    "read_notes",
    "release_notes",
]


# %% VersionError
class VersionError(LitmlError):
    """A version that is none, or not the next one, or not to be found."""


# ## The next version
# %% next_version
STEPS = ("patch", "minor", "major", "rc")


def next_version(current: str, wanted: str = "patch") -> str:
    """Return the version that follows `current`, for a step or a version in full.

    Raises `VersionError` unless it is a public version newer than the current one.
    """
    old = parse_version(current)
    new = parse_version(wanted if wanted not in STEPS else make_step(old, wanted))
    if new.local:
        hint = f"without the label it is `{new.public}`"
        raise VersionError(
            f"`{new}` has a local label, which no index takes", hint=hint
        )
    if new <= old:
        hint = f"the next patch is `{make_step(old, 'patch')}`"
        raise VersionError(f"`{new}` is not newer than `{old}`", hint=hint)
    return str(new)


def parse_version(text: str) -> "Version":
    """Return a version. Raises `VersionError` if the text is none."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(text)
    except InvalidVersion as error:
        hint = f"write {', '.join(STEPS)}, or a version such as 1.4.0"
        raise VersionError(f"`{text}` is no version", hint=hint) from error


def make_step(old: "Version", step: str) -> str:
    """Return the version that is a step after `old`, as text."""
    major, minor, micro = old.major, old.minor, old.micro
    if step == "rc":
        if old.pre and old.pre[0] == "rc":
            return f"{old.base_version}rc{old.pre[1] + 1}"
        return (
            f"{old.base_version if old.is_prerelease else make_step(old, 'patch')}rc1"
        )
    if (
        old.is_prerelease
        and {
            "patch": True,
            "minor": micro == 0,
            "major": minor == micro == 0,
        }[step]
    ):
        return old.base_version
    return {
        "patch": f"{major}.{minor}.{micro + 1}",
        "minor": f"{major}.{minor + 1}.0",
        "major": f"{major + 1}.0.0",
    }[step]


# ## Where the version stands
# %% find_version_file
def find_version_file(pyproject: str) -> str:
    """Return the path of the file that holds the version, relative to the root.

    That is `pyproject.toml` itself if the version is static. Raises `VersionError`.
    """
    data = tomllib.loads(pyproject)
    project = data.get("project", {})
    if "version" in project:
        return "pyproject.toml"
    hatch = data.get("tool", {}).get("hatch", {}).get("version", {})
    if "version" in project.get("dynamic", []) and isinstance(hatch.get("path"), str):
        return str(hatch["path"])
    hint = 'write `version = "0.1.0"` in [project]'
    at = Location("pyproject.toml")
    raise VersionError("the version is not to be found", at=at, hint=hint)


# %% read_version
MODULE = re.compile(r"""^(__version__\s*(?::\s*str\s*)?=\s*)(["'])([^"'\n]+)\2""", re.M)
STATIC = re.compile(r"""^(version\s*=\s*)(["'])([^"'\n]+)\2""", re.M)


def read_version(text: str, file: str) -> str:
    """Return the version that stands in a file. Raises `VersionError` if none does."""
    return find_line(text, file)[3]


def find_line(text: str, file: str) -> "re.Match[str]":
    """Return the match of the one line with the version; raises `VersionError`."""
    if file != "pyproject.toml":
        found = MODULE.search(text)
    else:
        table = re.search(r"^\[project\]\s*(#.*)?$", text, re.M)
        found = STATIC.search(text, table.end()) if table else None
        if (
            found
            and table
            and re.search(r"^\[", text[table.end() : found.start()], re.M)
        ):
            found = None
    if found is None:
        raise VersionError("the version is not to be found", at=Location(file))
    return found


def write_version(text: str, file: str, version: str) -> str:
    """Return the text with another version in it; raises `VersionError`."""
    found = find_line(text, file)
    return f"{text[: found.start(3)]}{version}{text[found.end(3) :]}"


# ## The changelog
# %% Notes
UNRELEASED = re.compile(r"^## \[?Unreleased\]?[^\S\n]*$", re.I | re.M)
NEXT = re.compile(r"^## |^\[[^\]\n]+\]: ", re.M)


@dataclass(frozen=True, slots=True)
class Notes:
    """What a release says of itself: the text below `Unreleased`."""

    text: str

    @property
    def empty(self) -> bool:
        """Is there nothing but headings?"""
        lines = [line.strip() for line in self.text.splitlines()]
        return not any(line and not line.startswith(("#", "<!--")) for line in lines)


def read_notes(changelog: str) -> Notes:
    """Return the notes of the next release. Raises `VersionError` if there is no place.

    The heading is that of Keep a Changelog, with or without brackets.
    """
    heading = UNRELEASED.search(changelog)
    if not heading:
        at = Location("CHANGELOG.md")
        hint = "write `## Unreleased`, and below it what has changed"
        raise VersionError("there is no heading `Unreleased`", at=at, hint=hint)
    rest = changelog[heading.end() :]
    end = NEXT.search(rest)
    return Notes(rest[: end.start() if end else None].strip())


def release_notes(changelog: str, version: str, date: str) -> str:
    """Return the changelog with its notes below the version and the date.

    An empty `Unreleased` stays above it for what comes next.
    """
    read_notes(changelog)
    heading = UNRELEASED.search(changelog)
    assert heading
    number = f"[{version}]" if "[" in heading[0] else version
    start = changelog[: heading.end()]
    return f"{start}\n\n## {number} - {date}{changelog[heading.end() :]}"
