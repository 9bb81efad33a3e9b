# Exported from nbs/12d_observe.ipynb. Edit either side, then run `litml sync`.
"""Watch which files a notebook's kernel really uses, and turn that into evidence."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from litml.cells import read_directives, split_words
from litml.imports import find_imports, trace_imports
from litml.notebook import Notebook
from litml.select import Evidence, find_files, see_file

__all__ = [
    "Observed",
    "read_observed",
    "list_patterns",
    "list_imported",
    "IGNORED",
    "is_project_file",
    "gather_evidence",
    "conftest_folders",
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


def list_imported(notebook: Notebook, places: Sequence[Path]) -> frozenset[Path]:
    """Return the files, existing or not, that matter by what the cells import."""
    sources = [cell.source for cell in notebook.cells if cell.kind == "code"]
    names = {name for source in sources for name in find_imports(source)}
    return trace_imports(names, places).files


# %% is_project_file
IGNORED = {".git", "__pycache__", ".ipynb_checkpoints", "site-packages", ".litml"}


def is_project_file(path: Path, root: Path) -> bool:
    """Is a file one that somebody working on the project at `root` may change?"""
    if not path.is_relative_to(root):
        return False
    parts = path.relative_to(root).parts
    return not (IGNORED.intersection(parts) or path.is_dir())


# %% gather_evidence
def gather_evidence(
    notebook: Notebook,
    root: Path,
    places: Sequence[Path],
    observed: Observed,
    digests: tuple[str, str],
    started: float,
) -> Evidence | str:
    """Return what a run depended on, or why that is not known.

    `digests` are those of the steps and of the environment, `started` is the time
    of the clock when the run began; what has changed since may have been read in
    either form.
    """
    patterns = list_patterns(notebook)
    if observed.untold and patterns is None:
        return observed.untold
    paths = {*observed.files, *list_imported(notebook, places)}
    paths |= {folder / "conftest.py" for folder in conftest_folders(notebook, root)}
    names = {
        path.relative_to(root).as_posix()
        for path in paths
        if is_project_file(path, root)
    }
    names = (names | find_files(root, patterns or ())) - {notebook.name}
    files = {name: see_file(root / name) for name in sorted(names)}
    if late := [n for n, seen in files.items() if seen.changed >= started * 1e9]:
        return f"{late[0]} changed while it ran"
    return Evidence(*digests, files, patterns or ())


def conftest_folders(notebook: Notebook, root: Path) -> list[Path]:
    """Return the folders whose `conftest.py` applies to a notebook."""
    folder = (root / notebook.name).parent
    return [one for one in (folder, *folder.parents) if one.is_relative_to(root)]
