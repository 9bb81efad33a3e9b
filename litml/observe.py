# Exported from nbs/12d_observe.ipynb. Edit either side, then run `litml sync`.
"""Watch which files a notebook's kernel really uses, and turn that into evidence."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from litml.cells import read_directives, split_words
from litml.notebook import Notebook
from litml.select import Evidence, find_files, find_imports, see_file, trace_imports

if TYPE_CHECKING:
    from litml.kernel import Kernel

__all__ = [
    "Observed",
    "start_observing",
    "ask_observed",
    "hide",
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
import sys

seen = []
sys.audit("litml.observe", seen)
files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
seen[:1] = [sorted({*seen[0], *(file for file in files if isinstance(file, str))})]
display = sys.modules["IPython"].get_ipython().display_pub.publish
display({"application/vnd.litml+json": seen, "text/plain": ""})
"""


# %% Observed
@dataclass(frozen=True, slots=True)
class Observed:
    """The files that a kernel has read, and why those may not be all there is."""

    files: frozenset[Path] = frozenset()
    untold: str = ""


async def start_observing(kernel: "Kernel", root: Path, timeout: float = 60) -> None:
    """Begin to watch which files below `root` a Python kernel opens."""
    below = f"{root.resolve()}{os.sep}"
    await kernel.execute(hide(f"{HOOK}install({below!r})"), timeout, hidden=True)


async def ask_observed(kernel: "Kernel", timeout: float = 60) -> Observed:
    """Return what was seen, and that it is not all if the kernel does not answer."""
    done = await kernel.execute(hide(ASK), timeout, hidden=True)
    for output in done.outputs:
        seen = output.get("data", {}).get("application/vnd.litml+json")
        if isinstance(seen, list) and len(seen) == 3:
            files = frozenset(map(Path, seen[0])) - frozenset(map(Path, seen[1]))
            return Observed(files, ", ".join(seen[2]))
    return Observed(untold="its kernel does not say what it has read")


def hide(code: str) -> str:
    """Return Python that runs code in a namespace of its own."""
    return f"__import__('builtins').exec({code!r}, {{}})"


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


def list_imported(notebook: Notebook, places: Sequence[Path]) -> set[Path]:
    """Return the files, existing or not, that matter by what the cells import."""
    sources = [cell.source for cell in notebook.cells if cell.kind == "code"]
    names = {name for source in sources for name in find_imports(source)}
    return trace_imports(names, places)


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
