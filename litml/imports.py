# Exported from nbs/10_imports.ipynb. Edit either side, then run `litml sync`.
"""Tell from the text of some code what it imports, directly and through the
project's own modules.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = [
    "find_imports",
    "absolute_name",
    "Trace",
    "trace_imports",
    "read_imports",
    "parse_module",
    "package_of",
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
@dataclass(frozen=True, slots=True)
class Trace:
    """What an import leads to: all names, and the files looked at for them."""

    names: frozenset[str]
    files: frozenset[Path]


def trace_imports(names: Iterable[str], places: Sequence[Path]) -> Trace:
    """Return what matters when these names are imported.

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
    return Trace(frozenset(known), frozenset(looked_at))


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
