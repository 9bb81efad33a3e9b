# Exported from nbs/08c_driver.ipynb. Edit either side, then run `litml sync`.
"""Merge notebooks inside `git merge`, `rebase`, `cherry-pick` and `stash pop`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from litml.canonical import OddFile, load_tree
from litml.files import replace_file
from litml.merge import Merged, merge_notebooks
from litml.notebook import Cell, Notebook, derive_ids

__all__ = ["merge_bytes", "wants_base", "main"]


# ## Reading
# %% load_notebook
def load_notebook(raw: bytes, name: str) -> Notebook:
    """Read a notebook of format 4; raises `OddFile` for anything else."""
    tree = load_tree(raw)
    cells = [Cell(cell) for cell in tree["cells"]]
    derive_ids(cells)
    return Notebook(name, tree, cells, raw)


# %% merge_bytes
def merge_bytes(
    base: bytes, ours: bytes, theirs: bytes, name: str, size: int = 7
) -> tuple[bytes, Merged]:
    """Merge the bytes of three notebooks; raises `OddFile` if one is none."""
    first = load_notebook(base, name) if base.strip() else None
    sides = load_notebook(ours, name), load_notebook(theirs, name)
    merged = merge_notebooks(first, *sides, size=size)
    if merged.conflicts and size == 7 and wants_base():
        merged = merge_notebooks(first, *sides, size=size, show_base=True)
    return merged.notebook.to_bytes(), merged


def wants_base() -> bool:
    """Has the user asked git to show the base in conflicts?"""
    import subprocess  # only when there is a conflict

    command = ["git", "config", "merge.conflictStyle"]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return False
    return done.stdout.strip() in ("diff3", "zdiff3")


# ## Merging as text
# %% merge_as_text
def merge_as_text(base: Path, ours: Path, theirs: Path, size: int) -> int:
    """Merge files by lines into `ours`; return 1 if there is a conflict."""
    import subprocess  # only when something is wrong

    labels = [word for name in ("ours", "base", "theirs") for word in ("-L", name)]
    command = ["git", "merge-file", f"--marker-size={size}", *labels]
    try:
        done = subprocess.run([*command, ours, base, theirs], capture_output=True)
    except OSError:
        return write_both(ours, theirs, size)
    if done.returncode not in range(128):
        return write_both(ours, theirs, size)
    return int(done.returncode > 0)


def write_both(ours: Path, theirs: Path, size: int) -> int:
    """Put both files, whole, between markers into `ours`."""
    marks = (f"{sign * size} {name}".strip().encode() for sign, name in SIGNS)
    parts = zip(marks, (ours.read_bytes(), theirs.read_bytes(), b""), strict=True)
    replace_file(ours, b"".join(mark + b"\n" + end_line(part) for mark, part in parts))
    return 1


SIGNS = (("<", "ours"), ("=", ""), (">", "theirs"))


def end_line(text: bytes) -> bytes:
    """Return a text that ends with a line break, if there is any text."""
    return text if not text or text.endswith(b"\n") else text + b"\n"


# ## The entry point
# %% merge_files
def merge_files(base: Path, ours: Path, theirs: Path, size: int, name: str) -> int:
    """Merge three files into `ours` and return the exit status that git expects."""
    try:
        three = (base.read_bytes(), ours.read_bytes(), theirs.read_bytes())
        raw, merged = merge_bytes(*three, name, size)
        replace_file(ours, raw)
    except Exception as error:  # a driver that dies leaves ours, and no marker
        reason = str(error) if isinstance(error, OddFile) else repr(error)
        say(f"{name}: merged as text, not by cells: {reason}")
        readable = not isinstance(error, OddFile)
        status = merge_as_text(base, ours, theirs, size)
        return status or int(readable and not is_notebook(ours.read_bytes()))
    for note in merged.notes:
        say(f"{name}: {note}")
    for conflict in merged.conflicts:
        say(f"{name}: conflict in cell {conflict.id}: {conflict.reason}")
    if merged.conflicts:
        say("edit the cells, or take a side: `litml resolve NOTEBOOK`")
    return 1 if merged.conflicts else 0


def is_notebook(raw: bytes) -> bool:
    """Can the bytes be read as a notebook?"""
    try:
        load_tree(raw)
    except OddFile:
        return False
    return True


def say(line: str) -> None:
    """Print a line on the error stream."""
    print(f"litml: {line}", file=sys.stderr)


# %% main
def main(words: Sequence[str]) -> int:
    """Run as git's merge driver; `words` are `%O %A %B %L %P`."""
    import gc

    gc.disable()
    if len(words) != 5:
        say("usage: python -P -m litml.driver %O %A %B %L %P")
        return 2
    base, ours, theirs = map(Path, words[:3])
    size = int(words[3]) if words[3].isdigit() else 7
    return merge_files(base, ours, theirs, size, words[4])


# %% start
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
