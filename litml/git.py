# Exported from nbs/03b_git.ipynb. Edit either side, then run `litml sync`.
"""Ask git, and tell it that a notebook it holds has not changed."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from litml.notebook import LitmlError

__all__ = [
    "GitError",
    "run_git",
    "Repository",
    "find_repository",
    "Entry",
    "list_index",
    "parse_index",
    "read_objects",
    "read_blobs",
    "read_committed",
    "keep_filtered",
    "hash_files",
    "settle",
    "find_touched",
    "update_index",
]


# ## Running git
# %% local_variables
@cache
def local_variables() -> frozenset[str]:
    """Return the names of the variables that tie git to one repository."""
    command = ["git", "rev-parse", "--local-env-vars"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return frozenset(done.stdout.split())


def make_environment(inherit: bool) -> dict[str, str]:
    """Return the environment for git, free of another repository's unless inherited."""
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    is_told = not inherit and any(name.startswith("GIT_") for name in os.environ)
    dropped = local_variables() if is_told else frozenset()  # mostly, a process less
    return {k: v for k, v in os.environ.items() if k not in dropped} | quiet


# %% run_git
class GitError(LitmlError):
    """What git would not do, in git's own words."""


def run_git(
    folder: Path, *words: str, data: bytes = b"", inherit: bool = False
) -> bytes:
    """Run git in a folder and return its output; raises `GitError`.

    With `inherit` it is about the repository of the hook that we are run by.
    """
    command = ["git", "--literal-pathspecs", *words]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            input=data,
            capture_output=True,
            env=make_environment(inherit),
            check=True,
        )
    except OSError as error:
        message = f"git cannot be run in {folder}: {error.strerror}"
        raise GitError(message, hint="is it installed?") from error
    except subprocess.CalledProcessError as error:
        told = error.stderr.decode(errors="replace").strip().split("\n")
        message = told[0].removeprefix("fatal: ").removeprefix("error: ")
        hint = told[-1].strip() if "safe.directory" in told[-1] else None
        what = f"git {words[0]}: {message or error.returncode}"
        raise GitError(what, hint=hint) from error
    return done.stdout


# ## The repository
# %% Repository
@dataclass(frozen=True, slots=True)
class Repository:
    """A repository: its work tree, git's folder for that, and the common folder."""

    top: Path
    git_dir: Path
    common_dir: Path


def find_repository(folder: Path, *, inherit: bool = False) -> Repository:
    """Find the repository around a folder; raises `GitError` if there is none."""
    asked = ("--show-toplevel", "--absolute-git-dir", "--git-common-dir")
    told = run_git(folder, "rev-parse", *asked, inherit=inherit).splitlines()
    if len(told) != len(asked):  # a folder's name has a line break
        each = (run_git(folder, "rev-parse", word, inherit=inherit) for word in asked)
        told = [one.removesuffix(b"\n") for one in each]
    top, git_dir, common_dir = (Path(folder, os.fsdecode(name)) for name in told)
    return Repository(top, git_dir, common_dir.resolve())


# ## What is in it
# %% Entry
@dataclass(frozen=True, slots=True)
class Entry:
    """A file in the index or in a commit; `stage` is not 0 if it is in conflict."""

    path: str
    mode: str
    id: str
    stage: int = 0


def list_index(
    folder: Path, paths: Iterable[str] = (), *, inherit: bool = False
) -> list[Entry]:
    """Return the index's entries for paths, or all below `folder`; relative to it."""
    words = ("ls-files", "--stage", "-z", "--", *paths)
    return list(parse_index(run_git(folder, *words, inherit=inherit)))


def parse_index(told: bytes) -> Iterator[Entry]:
    """Read the lines of `git ls-files --stage -z`."""
    for line in filter(None, told.split(b"\0")):
        head, _, path = line.partition(b"\t")
        mode, id, stage = head.decode().split(" ")
        yield Entry(os.fsdecode(path), mode, id, int(stage))


# %% read_blobs
def read_objects(folder: Path, names: Sequence[str]) -> list[bytes | None]:
    """Return what git holds under each name, None for nothing; raises `GitError`."""
    asked = b"".join(os.fsencode(f"{name}\n") for name in names)
    told = run_git(folder, "cat-file", "--batch", data=asked) if names else b""
    found: list[bytes | None] = []
    at = 0
    for _ in names:
        end = told.index(b"\n", at)
        size = told[at:end].split(b" ")[-1]
        at = end + 2 + int(size) if size.isdigit() else end + 1
        found.append(told[end + 1 : at - 1] if size.isdigit() else None)
    return found


def read_blobs(folder: Path, ids: Sequence[str]) -> dict[str, bytes]:
    """Return blobs by their ids; raises `GitError` for one that is not there."""
    found = {}
    for id, blob in zip(ids, read_objects(folder, ids), strict=True):
        if blob is None:
            raise GitError(f"git does not hold {id}")
        found[id] = blob
    return found


def read_committed(
    root: Path, names: Sequence[str], commit: str = "HEAD"
) -> dict[str, bytes]:
    """Return files as they are in a commit, without those that are not there."""
    try:
        blobs = read_objects(root, [f"{commit}:./{name}" for name in names])
    except GitError:
        return {}
    pairs = zip(names, blobs, strict=True)
    return {name: blob for name, blob in pairs if blob is not None}


# %% keep_filtered
def keep_filtered(
    folder: Path, names: Sequence[str], *, inherit: bool = False
) -> list[str]:
    """Return the files that the attributes give to the filter of litml."""
    asked = b"".join(os.fsencode(f"{name}\0") for name in names)
    words = ("check-attr", "-z", "--stdin", "filter")
    told = run_git(folder, *words, data=asked, inherit=inherit) if names else b""
    pairs = zip(names, told.split(b"\0")[2::3], strict=True)
    return [name for name, value in pairs if value == b"litml"]


# ## Changes that are none
# %% hash_files
def hash_files(folder: Path, paths: Sequence[str]) -> list[str]:
    """Return the ids that files would have in git, once their filters have run."""
    told = run_git(folder, "hash-object", "--", *paths) if paths else b""
    return told.decode().split()


def settle(folder: Path, paths: Iterable[Path]) -> list[Path]:
    """Let git forget changes that are none, and return the files that had some.

    Files that are not in the index, are in conflict, or really changed, stay as they
    are. Outside of a repository, or while another git is at work, nothing happens.
    """
    names = {os.path.relpath(path, folder): path for path in paths if path.is_file()}
    try:
        entries = list_index(folder, names) if names else []
        touched = find_touched(folder, [one for one in entries if not one.stage])
        ids = hash_files(folder, [one.path for one in touched])
        same = [one for one, id in zip(touched, ids, strict=True) if one.id == id]
        update_index(folder, same)
    except GitError:
        return []
    return [names[one.path] for one in same]


def find_touched(folder: Path, entries: list[Entry]) -> list[Entry]:
    """Return the entries whose file is not as git remembers it."""
    paths = [entry.path for entry in entries]
    words = ("ls-files", "--modified", "-z", "--", *paths)
    told = run_git(folder, *words) if paths else b""
    modified = {os.fsdecode(path) for path in told.split(b"\0")}
    return [entry for entry in entries if entry.path in modified]


def update_index(folder: Path, entries: list[Entry]) -> None:
    """Let git look at files anew that are, for it, as they were."""
    if not entries:
        return
    paths = [entry.path for entry in entries]
    run_git(folder, "update-index", "--", *paths)
    for entry in set(entries) - set(list_index(folder, paths)):
        about = f"{entry.mode},{entry.id},{entry.path}"
        run_git(folder, "update-index", "--cacheinfo", about)
