# Exported from nbs/05c_origin.ipynb. Edit either side, then run `litml sync`.
"""Find what both sides of an edit began with."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from litml.git import GitError, read_committed, run_git
from litml.notebook import LitmlError
from litml.package import Run, committed_base, read, render_target
from litml.parts import paragraphs, split_module, words_of
from litml.record import Base, load_base
from litml.stamps import head_moved

__all__ = []


# ## The base
# %% find_base
def find_base(run: Run, target: str, ours: str, theirs: str) -> Base | None:
    """Return what both sides began with, or None if nobody knows."""
    kept = load_base(run.notes_dir, target, run.record)
    if kept and not head_moved(str(run.notes_dir), run.record.time):
        return kept
    head = committed_base(run, target) or committed_pair(run, target)
    found = [one for one in (head, kept) if one] or agreed_pairs(run, target)
    return min(
        found,
        key=lambda one: distance(one.text, ours) + distance(one.text, theirs),
        default=None,
    )


def distance(one: str, other: str) -> int:
    """Return how many lines are in one text only."""
    left, right = Counter(one.split("\n")), Counter(other.split("\n"))
    return ((left - right) + (right - left)).total()


# %% committed_pair
def committed_pair(run: Run, target: str, commit: str = "HEAD") -> Base | None:
    """Return a module as committed, if that agrees with the notebooks it names."""
    name = run.project.name_of(run.path_of(target))
    root = run.project.root
    try:
        text = read_committed(root, [name], commit)[name].decode("utf-8-sig")
        text = text.replace("\r\n", "\n")
        names = list(split_module(text, name, ()).notebooks)
        blobs = read_committed(root, names, commit)
        parts = [read(run, one, blobs[one]) for one in names]
        again, ids = render_target(run, target, parts)
        same = contents(text, name, ids) == contents(again, name, ids)
    except (KeyError, UnicodeDecodeError, LitmlError):
        return None
    return Base(tuple(ids), text) if same else None


def agreed_pairs(run: Run, target: str) -> list[Base]:
    """Return the pair of the last commit in which both sides agreed, if any."""
    makers = run.makers.get(target, [])
    paths = [run.path_of(target), *(run.paths[name] for name in makers)]
    words = ("log", "--format=%H", f"--max-count={SEARCHED}", "--", *map(str, paths))
    try:
        commits = run_git(run.project.root, *words).decode().split()
    except GitError:
        return []
    pairs = (committed_pair(run, target, one) for one in commits)
    return list(islice(filter(None, pairs), 1))


SEARCHED = 50


def contents(text: str, name: str, ids: Sequence[str]) -> object:
    """Return what a module's text says, apart from how it is put together."""
    module = split_module(text, name, ids)
    cells = [(part.id, part.text) for part in module.parts]
    imports = words_of(module.imports.text), module.prelude.text
    return paragraphs(module.docstring), module.public, imports, cells
