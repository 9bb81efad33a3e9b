# Exported from nbs/12_select.ipynb. Edit either side, then run `litml sync`.
"""Tell whether anything that a notebook's run depends on has changed since it last
passed.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "Seen",
    "see_file",
    "Evidence",
    "digest_steps",
    "LOCKS",
    "INSTALLED",
    "digest_environment",
    "list_installed",
    "find_change",
    "find_files",
    "describe",
]


# ## Evidence
# %% Seen
@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was: size, time of change in ns, and the digest of its content.

    A file that was looked for, and was not there, has no digest.
    """

    size: int = 0
    changed: int = 0
    digest: str = ""


def see_file(path: Path, before: Seen | None = None) -> Seen:
    """Look at a file; its content is read unless it is as it was `before`."""
    try:
        status = path.stat()
        size, changed = status.st_size, status.st_mtime_ns
        if (
            before
            and before.digest
            and (before.size, before.changed) == (size, changed)
        ):
            return before
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
    except OSError:
        return Seen()
    return Seen(size, changed, digest)


# %% Evidence
@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run that passed depended on; names are relative to the project's root.

    `steps` and `environment` are digests. A file that matches one of `patterns`
    matters even if it did not exist then.
    """

    steps: str
    environment: str
    files: Mapping[str, Seen] = field(default_factory=dict)
    patterns: tuple[str, ...] = ()


# %% digest_steps
def digest_steps(*parts: object) -> str:
    """Return a digest of values that say all about themselves by `repr`."""
    text = "\n".join(map(repr, parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


# %% digest_environment
LOCKS = ("uv.lock", "poetry.lock", "pdm.lock", "pixi.lock", "requirements*.txt")
INSTALLED = (".dist-info", ".egg-info", ".egg-link", ".pth")


def digest_environment(root: Path, folders: Sequence[str] = ()) -> str:
    """Return a digest of the environment that kernels of this Python run in.

    `folders` are those where packages are installed; by default `sys.path`.
    """
    installed = sorted(
        {name for folder in folders or sys.path for name in list_installed(folder)}
    )
    locks = [
        (path.name, see_file(path).digest)
        for lock in LOCKS
        for path in sorted(root.glob(lock))
    ]
    return digest_steps(sys.version, sys.platform, installed, locks)


def list_installed(folder: str) -> list[str]:
    """Return the names by which the packages of a folder can be told."""
    try:
        return [name for name in os.listdir(folder) if name.endswith(INSTALLED)]
    except OSError:
        return []


# ## What has changed?
# %% find_change
def find_change(
    before: Evidence,
    steps: str,
    environment: str,
    root: Path,
    look: Callable[[Path, Seen | None], Seen] = see_file,
) -> str:
    """Return the first thing that is not as it was, in words; "" if all is."""
    if before.steps != steps:
        return "its code has changed"
    if before.environment != environment:
        return "the environment has changed"
    for name, seen in before.files.items():
        now = look(root / name, seen)
        if now.digest != seen.digest:
            return f"{name} {describe(seen, now)}"
    found = find_files(root, before.patterns) - before.files.keys()
    return f"{min(found)} has appeared" if found else ""


def find_files(root: Path, patterns: Iterable[str]) -> set[str]:
    """Return the files below the root that match; a folder stands for all in it."""
    found: set[str] = set()
    for pattern in patterns:
        for path in root.glob(pattern):
            inner = path.rglob("*") if path.is_dir() else [path]
            found |= {p.relative_to(root).as_posix() for p in inner if p.is_file()}
    return found


def describe(before: Seen, now: Seen) -> str:
    """Return what has become of a file."""
    if not before.digest:
        return "has appeared"
    return "has changed" if now.digest else "is gone"
