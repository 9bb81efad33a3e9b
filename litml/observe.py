# Exported from nbs/12d_observe.ipynb. Edit either side, then run `litml sync`.
"""Watch which files a notebook's kernel really uses, and turn that into evidence."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from litml.cells import read_directives, split_words
from litml.imports import find_imports, trace_imports
from litml.notebook import Notebook
from litml.select import Evidence, find_files, see_file

__all__ = [
    "Observed",
    "observing_codes",
    "hide",
    "read_observed",
    "list_patterns",
    "list_imported",
    "IGNORED",
    "is_project_file",
    "gather_evidence",
    "conftest_folders",
]


# ## In the kernel
# %% HOOK
HOOK = """
def install(root):
    import os
    import sys

    read, written, other = set(), set(), set()
    programs = ("subprocess.Popen", "os.system", "os.posix_spawn")
    local = ("127.", "::1", "localhost")

    def hook(event, args):
        if event == "open" and isinstance(args[0], (str, bytes)):
            path = os.path.abspath(os.fsdecode(args[0]))
            if path.startswith(root) and path not in written:
                flags = args[2] if isinstance(args[2], int) else 0
                writes = flags & (os.O_WRONLY | os.O_RDWR) and path not in read
                (written if writes else read).add(path)
        elif event in programs or event in ("os.exec", "os.forkpty"):
            other.add("it starts other programs")
        elif event == "socket.connect" and isinstance(args[1], tuple):
            if not str(args[1][0]).startswith(local):
                other.add("it uses the network")
        elif event == "litml.observe":
            args[0].extend([sorted(read), sorted(written), sorted(other)])

    sys.addaudithook(hook)
"""
ASK = """
def tell(path):
    import json
    import sys

    seen = []
    sys.audit("litml.observe", seen)
    files = [getattr(one, "__file__", None) for one in list(sys.modules.values())]
    seen[0] = sorted({*seen[0], *(file for file in files if isinstance(file, str))})
    with open(path, "w", encoding="utf-8") as file:
        json.dump(seen, file)
"""


# %% Observed
@dataclass(frozen=True, slots=True)
class Observed:
    """The files that a kernel has read, and why those may not be all there is."""

    files: frozenset[Path] = frozenset()
    untold: str = ""


def observing_codes(root: Path, path: Path) -> tuple[str, str]:
    """Return the code to run first and last in a Python kernel.

    It watches which files below `root` are opened, and writes them to `path`.
    """
    below = f"{root.resolve()}{os.sep}"
    return hide(f"{HOOK}install({below!r})"), hide(f"{ASK}tell({str(path)!r})")


def hide(code: str) -> str:
    """Return Python that runs code in a namespace of its own."""
    return f"__import__('builtins').exec({code!r}, {{}})"


def read_observed(path: Path) -> Observed:
    """Return what a kernel has written to `path`; if nothing, that is why."""
    try:
        read, written, other = json.loads(path.read_bytes())
    except (OSError, ValueError):
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
