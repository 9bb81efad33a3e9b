# Exported from nbs/12_select.ipynb. Edit either side, then run `litml sync`.
"""Tell whether anything that a notebook's run depends on has changed since it last
passed.
"""

import ast
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

__all__ = [
    "find_imports",
    "absolute_name",
    "trace_imports",
    "read_imports",
    "parse_module",
    "package_of",
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


# ## What a text imports
# %% find_imports
def find_imports(source: str, package: str = "") -> set[str]:
    """Return the dotted names that some code may import.

    `package` is the one that the code is in. Code that is not Python all through,
    like a cell with magics, is read line by line.
    """
    try:
        nodes = ast.walk(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return scan_imports(source)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = absolute_name(node.module or "", node.level, package)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found - {""}


def absolute_name(name: str, level: int, package: str) -> str:
    """Return the name of a module from what a `from` says, with `level` dots."""
    if not level:
        return name
    parts = package.split(".")
    kept = parts[: len(parts) - level + 1]
    return ".".join([*kept, name] if name else kept)


# %% scan_imports
IMPORT = re.compile(
    r"^\s*(?:import|from)\s+([\w.]+)(?:\s+import\s+(.*))?", re.MULTILINE
)
MORE = re.compile(r"^\s*import\s+[\w.]+(?:\s+as\s+\w+)?\s*,(.*)", re.MULTILINE)


def scan_imports(source: str) -> set[str]:
    """Return what the lines of some code seem to import."""
    found = {
        name for line in MORE.findall(source) for name in re.findall(r"[\w.]+", line)
    }
    for base, names in IMPORT.findall(source):
        found |= {base, *(f"{base}.{name}" for name in re.findall(r"\w+", names))}
    return {name for name in found if not name.startswith(".")}


# ## Which files of the project those are
# %% look_for_module
def look_for_module(name: str, places: Sequence[Path]) -> Iterator[Path]:
    """Yield the files that Python looks at, in order, to import a dotted name."""
    for place in places:
        path = place
        for part in name.split("."):
            path = path / part
            package, module = path / "__init__.py", path.with_name(f"{part}.py")
            yield package
            if package.is_file():
                continue
            yield module
            if module.is_file():
                return
            if not path.is_dir():
                break
        if (place / name.split(".")[0]).is_dir():
            return


# %% trace_imports
def trace_imports(names: Iterable[str], places: Sequence[Path]) -> set[Path]:
    """Return the files that matter when these names are imported, existing or not.

    `places` are the folders where the project's modules are looked for, in order.
    """
    looked_at: set[Path] = set()
    waiting = list(names)
    known = set(waiting)
    while waiting:
        for path in look_for_module(waiting.pop(), places):
            if path in looked_at:
                continue
            looked_at.add(path)
            fresh = read_imports(path, package_of(path, places)) - known
            known |= fresh
            waiting += fresh
    return looked_at


def read_imports(path: Path, package: str) -> set[str]:
    """Return what a module imports; a file that is not there imports nothing."""
    try:
        return parse_module(path, package, path.stat().st_mtime_ns)
    except OSError:
        return set()


@cache
def parse_module(path: Path, package: str, changed: int) -> set[str]:
    """Return what a module imports that was last changed at that time."""
    return find_imports(path.read_text("utf-8", errors="replace"), package)


def package_of(path: Path, places: Sequence[Path]) -> str:
    """Return the dotted name of the package that a module is in."""
    for place in places:
        if path.is_relative_to(place):
            return ".".join(path.parent.relative_to(place).parts)
    return ""


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
