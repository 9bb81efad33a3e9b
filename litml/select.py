# Exported from nbs/12_select.ipynb. Edit either side, then run `litml sync`.
"""Tell whether anything that a notebook's run depends on has changed since it last
passed.
"""

import glob
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

__all__ = [
    "Seen",
    "see_file",
    "list_names",
    "IGNORED",
    "Evidence",
    "digest_steps",
    "LOCKS",
    "INSTALLED",
    "digest_environment",
    "find_packages",
    "list_installed",
    "tell_origin",
    "find_change",
    "find_files",
    "name_from",
    "list_below",
    "describe",
]


# ## Evidence
# %% Seen
@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was: size, time of change in ns, and the digest of its content.

    That of a folder is the names in it.

    A file that was looked for, and was not there, has no digest.
    """

    size: int = 0
    changed: int = 0
    digest: str = ""


def see_file(path: Path, before: Seen | None = None) -> Seen:
    """Look at a file; its content is read unless it is as it was `before`."""
    try:
        status = path.stat()
        changed = status.st_mtime_ns if os.name == "nt" else status.st_ctime_ns
        now = Seen(status.st_size, changed, before.digest if before else "")
        if now == before and now.digest:
            return now
        if path.is_dir():
            return replace(now, digest=digest_steps(*list_names(path)))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "blake2b").hexdigest()[:32]
    except OSError:
        return Seen()
    return replace(now, digest=digest)


def list_names(folder: Path) -> list[str]:
    """Return what is in a folder, but for what tools leave there."""
    return sorted(one for one in os.listdir(folder) if one not in IGNORED)


IGNORED = {".git", "__pycache__", ".ipynb_checkpoints", "site-packages", ".litml"}


# %% Evidence
@dataclass(frozen=True, slots=True)
class Evidence:
    """What a run that passed depended on; names are relative to the project's root.

    A file outside has its whole path for a name.

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
        {one for folder in folders or sys.path for one in list_installed(folder, root)}
    )
    locks = [
        (path.name, see_file(path).digest)
        for lock in LOCKS
        for path in sorted(root.glob(lock))
    ]
    return digest_steps(sys.version, sys.platform, installed, locks)


def find_packages(kernel: str) -> list[str]:
    """Return where packages are for a kernel of another Python; none for our own."""
    if kernel == "python3":
        return []
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        program = Path(KernelSpecManager().get_kernel_spec(kernel).argv[0])
    except NoSuchKernel:
        return []
    return sorted(map(str, program.parent.parent.glob("[lL]ib/**/site-packages")))


def list_installed(folder: str, root: Path) -> list[tuple[str, str]]:
    """Return the packages of a folder: their names, and what else tells them."""
    try:
        names = [name for name in os.listdir(folder) if name.endswith(INSTALLED)]
    except OSError:
        return []
    return [(name, tell_origin(Path(folder, name), root)) for name in names]


def tell_origin(path: Path, root: Path) -> str:
    """Return a digest of what was installed, if a name and a version do not tell it."""
    try:
        if path.suffix == ".pth":
            return digest_steps(path.read_text().replace(str(root), ""))
        origin = json.loads((path / "direct_url.json").read_bytes())  # PEP 610
        is_edited = origin.get("dir_info", {}).get("editable")
        is_own = origin.get("url") == root.as_uri()
    except (OSError, ValueError, AttributeError):
        return ""
    return "" if is_edited or is_own else see_file(path / "RECORD").digest


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
    """Return the files that match, named as in `Evidence`; a folder stands for all.

    A pattern may lead out of the root, and begin with `~`.
    """
    found: set[str] = set()
    for pattern in map(os.path.expanduser, patterns):
        for name in glob.glob(
            pattern, root_dir=root, recursive=True, include_hidden=True
        ):
            inner = list_below(root / name) if (root / name).is_dir() else [root / name]
            found |= {name_from(root, path) for path in inner if path.is_file()}
    return found


def name_from(root: Path, path: Path) -> str:
    """Return the name of a file for one who stands in the root."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def list_below(folder: Path) -> Iterator[Path]:
    """Yield what is in a folder and below, also behind links, each folder once."""
    known: set[str] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        if (real := os.path.realpath(place)) in known:
            folders.clear()
        else:
            known.add(real)
            yield from (Path(place, name) for name in files)


def describe(before: Seen, now: Seen) -> str:
    """Return what has become of a file."""
    if not before.digest:
        return "has appeared"
    return "has changed" if now.digest else "is gone"
