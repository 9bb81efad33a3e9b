# Exported from nbs/09e_changes.ipynb. Edit either side, then run `litml sync`.
"""Ask git which notebooks changed, and compare their versions."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from litml.clean import Policy, clean_bytes
from litml.diff import CellDiff, File, NotebookDiff, diff_files
from litml.filter import PolicyError, find_policy
from litml.git import (
    GitError,
    Repository,
    find_repository,
    keep_filtered,
    read_blobs,
    run_git,
)
from litml.hooks import has_filter

__all__ = [
    "name_range",
    "diff_repository",
    "SUFFIX",
    "compare_changes",
    "refuse_unknown",
    "diff_paths",
]


# ## Revisions and paths
# %% split_words
def split_words(folder: Path, words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Tell revisions from paths; raises `GitError` for a word that may be either."""
    for i, word in enumerate(words):
        if not is_revision(folder, word):
            return list(words[:i]), list(words[i:])
        if os.path.lexists(folder / word):
            hint = f"for the file write `./{word}`; for the branch `heads/{word}`"
            raise GitError(f"`{word}` is both a revision and a file", hint=hint)
    return list(words), []


def is_revision(folder: Path, word: str) -> bool:
    """Does git know a commit, or a range of commits, by this name?"""
    try:
        return bool(run_git(folder, "rev-parse", "--revs-only", word, inherit=True))
    except GitError:
        return False


# ## Which files changed
# %% Change
@dataclass(frozen=True, slots=True)
class Change:
    """A file that git says has changed: mode, id and path on the old and new side."""

    status: str
    modes: tuple[str, str]
    ids: tuple[str, str]
    paths: tuple[str, str]


def list_changes(
    folder: Path, revisions: Sequence[str], paths: Sequence[str], *, cached: bool
) -> list[Change]:
    """Return what `git diff` would show, as seen from `folder`; paths are from the top.

    A file in conflict is there twice: unmerged, and compared with our side of it.
    """
    options = ("--raw", "-z", "--no-abbrev", "--find-renames", "--no-relative")
    only = ("--ignore-submodules=all", *(["--cached"] if cached else []))
    words = ("diff", *options, *only, *revisions, "--", *paths)
    return list(parse_raw(run_git(folder, *words, inherit=True)))


def parse_raw(told: bytes) -> Iterator[Change]:
    """Read the output of `git diff --raw -z`."""
    fields = iter(os.fsdecode(told).split("\0"))
    for head in fields:
        if head:
            *about, status = head[1:].split(" ")
            old = next(fields)
            new = next(fields) if status[0] in "RC" else old
            modes, ids = (about[0], about[1]), (about[2], about[3])
            yield Change(status[0], modes, ids, (old, new))


# %% name_range
def name_range(folder: Path, words: Sequence[str], cached: bool) -> list[str]:
    """Return what is compared with what, in words."""
    revisions, _ = split_words(folder, words)
    if len(revisions) > 1 or any(".." in word for word in revisions):
        return revisions
    if cached:
        return [*(revisions or ["HEAD"]), "index"]
    return [*(revisions or ["index"]), "work tree"]


# ## What is in them
# %% Cleaner
class Cleaner:
    """What git's filter makes of the files of a work tree, in this process."""

    def __init__(self, top: Path, paths: Sequence[str]) -> None:
        self.top = top
        self.filtered = keep_filtered(top, paths) if has_filter(top) else []
        self.policies = {str(top.parent): Policy()}

    def clean(self, path: str, raw: bytes) -> bytes:
        """Return a file as git would store it."""
        if path not in self.filtered:
            return raw
        try:
            policy = find_policy(str(self.top / path), self.policies)
        except PolicyError:  # the filter leaves such a file alone, too
            return raw
        return clean_bytes(raw, policy)


# %% compare_files
def compare_files(
    old: File | None, new: File | None, *, outputs: bool
) -> list[NotebookDiff]:
    """Compare two versions: as one notebook, or as two that share nothing."""
    diff = diff_files(old, new, outputs=outputs)
    if diff.status != "renamed" or not diff.cells or diff.same:
        return [diff]
    if any(map(is_known, diff.cells)):
        return [diff]
    alone = [diff_files(old, None, outputs=outputs)]
    return [*alone, diff_files(None, new, outputs=outputs)]


def is_known(cell: CellDiff) -> bool:
    """Is it the same cell on both sides: by its id, or by some of its text?"""
    if cell.old is None or cell.new is None:
        return False
    named = cell.id and not any(note.startswith("id: ") for note in cell.notes)
    shared = any(line.sign == " " or line.marks for line in cell.lines)
    return bool(named or shared or not cell.lines)


# %% compare_change
LINK, MODULE = "120000", "160000"


def is_there(mode: str) -> bool:
    """Does a mode say that there is a file?"""
    return bool(mode.strip("0"))


def read_file(path: Path) -> bytes:
    """Return what a file of the work tree holds."""
    return os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()


def compare_change(
    change: Change,
    top: Path,
    blobs: Mapping[str, bytes],
    cleaner: Cleaner,
    outputs: bool,
) -> list[NotebookDiff]:
    """Compare the two versions of a changed file."""
    sides: list[File | None] = []
    for mode, id, path in zip(change.modes, change.ids, change.paths, strict=True):
        if not is_there(mode):
            sides.append(None)
        elif id in blobs:
            sides.append(File(path, blobs[id]))
        else:
            try:
                raw = cleaner.clean(path, read_file(top / path))
            except OSError as error:
                problem = f"cannot be read: {error.strerror}"
                return [NotebookDiff(*change.paths, problem=problem)]
            sides.append(File(path, raw))
    return compare_files(*sides, outputs=outputs)


# %% note_change
def note_change(diff: NotebookDiff, change: Change, unmerged: bool) -> NotebookDiff:
    """Return a comparison with what git says of the file."""
    old, new = change.modes
    changed = is_there(old) and is_there(new) and old != new
    notes = ["not merged yet"] if unmerged else []
    notes += [f"mode: {old} → {new}"] if changed else []
    return replace(diff, notes=(*notes, *diff.notes))


def join_unmerged(changes: Sequence[Change]) -> Iterator[tuple[Change, bool]]:
    """Yield changes, and whether each is of a merge; a file in conflict comes once."""
    unmerged = {change.paths for change in changes if change.status == "U"}
    compared = {change.paths for change in changes if change.status != "U"}
    for change in changes:
        if change.status != "U" or change.paths not in compared:
            yield change, change.paths in unmerged


# ## All of it
# %% diff_repository
def diff_repository(
    folder: Path, words: Sequence[str], *, cached: bool = False, outputs: bool = False
) -> list[NotebookDiff]:
    """Compare the notebooks that `git diff` with these words would compare.

    Raises `GitError` for what git would refuse, and for a path that is nowhere.
    """
    repository = find_repository(folder, inherit=True)
    revisions, paths = split_words(folder, words)
    changes = list_changes(folder, revisions, paths, cached=cached)
    refuse_unknown(folder, repository.top, paths, changes)
    notebooks = [
        change
        for change in changes
        if change.paths[1].endswith(SUFFIX) and MODULE not in change.modes
    ]
    return compare_changes(repository, notebooks, outputs)


SUFFIX = ".ipynb"


def compare_changes(
    repository: Repository, changes: Sequence[Change], outputs: bool
) -> list[NotebookDiff]:
    """Compare the versions of changed files; those that are the same are left out."""
    top = repository.top
    ids = {id for change in changes for id in change.ids if is_there(id)}
    blobs = read_blobs(repository.git_dir, sorted(ids))
    here = [one.paths[1] for one in changes if not is_there(one.ids[1])]
    cleaner = Cleaner(top, here)
    found: list[NotebookDiff] = []
    for change, unmerged in join_unmerged(changes):
        if change.status == "U":
            diffs = [NotebookDiff(*change.paths)]
        else:
            diffs = compare_change(change, top, blobs, cleaner, outputs)
        found += [note_change(diff, change, unmerged) for diff in diffs]
    return [diff for diff in found if not diff.is_empty]


def refuse_unknown(
    folder: Path, top: Path, paths: Sequence[str], changes: Sequence[Change]
) -> None:
    """Raise `GitError` for a path that nobody knows, or that is no notebook."""
    names = [name for change in changes for name in change.paths]
    for path in paths:
        name = Path(os.path.relpath(folder.resolve() / path, top)).as_posix()
        known = any(one == name or one.startswith(f"{name}/") for one in names)
        if not known and not os.path.lexists(folder / path):
            raise GitError(f"`{path}` is neither a revision nor a file")
        if (folder / path).is_file() and not path.endswith(SUFFIX):
            hint = f"try `git diff {path}`"
            raise GitError(f"`{path}` is not a notebook", hint=hint)


# %% diff_paths
def diff_paths(old: str, new: str, *, outputs: bool = False) -> NotebookDiff:
    """Compare two files; raises `GitError` for one that cannot be read."""
    files: list[File | None] = []
    for path in (old, new):
        try:
            there = path != os.devnull
            files.append(File(path, Path(path).read_bytes()) if there else None)
        except OSError as error:
            raise GitError(f"cannot read {path}: {error.strerror}") from error
    return diff_files(*files, outputs=outputs)
