# Exported from nbs/12d_observe.ipynb. Edit either side, then run `litml sync`.
"""Watch which files a notebook's kernel really uses, and turn that into evidence."""

import json
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from litml.cells import read_directives, split_words
from litml.imports import find_imports, read_imports, trace_imports
from litml.notebook import Notebook
from litml.select import IGNORED, Evidence, find_files, name_from, see_file

__all__ = [
    "Observed",
    "read_observed",
    "list_patterns",
    "list_imported",
    "list_others",
    "is_installed_to",
    "is_edited",
    "gather_evidence",
]


# ## What the kernel tells
# %% Observed
@dataclass(frozen=True, slots=True)
class Observed:
    """The files that a kernel has read, and why those may not be all there is."""

    files: frozenset[Path] = frozenset()
    untold: str = ""


def read_observed(told: bytes) -> Observed:
    """Return what a kernel has told; if nothing, that is why."""
    try:
        read, written, other = json.loads(told)
    except ValueError:
        return Observed(untold="its kernel does not say what it has read")
    files = frozenset(map(Path, read)) - frozenset(map(Path, written))
    return Observed(files, ", ".join(other))


# ## Evidence of a run
# %% list_patterns
def list_patterns(notebook: Notebook) -> tuple[str, ...] | None:
    """Return the patterns that the cells declare, or None if none does."""
    said = [
        split_words(one["depends"].value)
        for one in read_directives(notebook, strict=False)
        if "depends" in one
    ]
    if not said:
        return None
    return tuple(word for words in said for word in words if word != "none")


def list_imported(
    sources: Iterable[str], root: Path, places: Sequence[Path]
) -> frozenset[Path]:
    """Return the files, existing or not, that matter by what some cells import.

    The first of `places` is the notebook's folder. Each `conftest.py` there and above
    matters, with what it imports.
    """
    above = (places[0], *places[0].parents)
    conftests = [one / "conftest.py" for one in above if one.is_relative_to(root)]
    names = {name for source in sources for name in find_imports(source)}
    names.update(*(read_imports(path, "") for path in conftests))
    return trace_imports(names, [*places, *list_others(root)]).files.union(conftests)


def list_others(root: Path) -> list[Path]:
    """Return the folders of modules that are neither the project's nor installed."""
    others = (Path(place) for place in sys.path if os.path.isabs(place))
    known = (root, Path(sys.prefix), Path(sys.base_prefix))
    return [
        one
        for one in others
        if not (any(map(one.is_relative_to, known)) or is_installed_to(one))
    ]


def is_installed_to(folder: Path) -> bool:
    """Are packages installed there, whose versions the environment's digest has?"""
    return folder.name.endswith("-packages") or any(folder.glob("*.dist-info"))


# %% is_edited
def is_edited(name: str) -> bool:
    """Is that something which somebody working on the project may change?"""
    return not IGNORED.intersection(name.split("/"))


# %% gather_evidence
def gather_evidence(
    notebook: Notebook,
    root: Path,
    imported: Iterable[Path],
    observed: Observed,
    digests: tuple[str, str],
    started: float,
) -> Evidence | str:
    """Return what a run depended on, or why that is not known.

    `imported` are the files of `list_imported`, `digests` are those of the steps and
    of the environment, `started` is the time of the clock when the run began; what has
    changed since may have been read in either form.
    """
    patterns = list_patterns(notebook)
    if observed.untold and patterns is None:
        return observed.untold
    paths = {name_from(root, path) for path in (*observed.files, *imported)}
    names = {name for name in paths if is_edited(name)} - {notebook.name}
    names |= find_files(root, patterns or ())
    files = {name: see_file(root / name) for name in sorted(names)}
    if late := [n for n, seen in files.items() if seen.changed >= started * 1e9]:
        return f"{late[0]} changed while it ran"
    return Evidence(*digests, files, patterns or ())
