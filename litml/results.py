# Exported from nbs/12c_results.ipynb. Edit either side, then run `litml sync`.
"""Remember what has passed, what it depended on and how long it took; choose what to
run by it.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from litml.files import replace_file
from litml.git import run_git
from litml.notebook import LitmlError
from litml.select import LOCKS, Evidence, Seen, digest_steps, find_files

__all__ = [
    "Result",
    "Store",
    "parse_result",
    "forget",
    "list_changed",
    "is_affected",
    "DECLARED",
    "says_environment",
    "assign_shards",
    "parse_shard",
]


# ## The store
# %% Result
@dataclass(frozen=True, slots=True)
class Result:
    """What the last run of a notebook taught; `seconds` is how long it took.

    There is `evidence` only if it passed, and if all it depends on is known.
    """

    notebook: str
    seconds: float
    evidence: Evidence | None = None


# %% Store
class Store:
    """Results by the notebooks' names, in a folder that may not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path_of(self, notebook: str) -> Path:
        """Return the file of a notebook's result."""
        stem = Path(notebook).stem[:80]
        return self.folder / f"{stem}-{digest_steps(notebook)[:16]}.json"

    def read(self, notebook: str) -> Result | None:
        """Return what is known of a notebook, or None."""
        try:
            result = parse_result(json.loads(self.path_of(notebook).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return result if result.notebook == notebook else None

    def write(self, result: Result) -> None:
        """Keep a result, in one step; raises `OSError`."""
        replace_file(self.path_of(result.notebook), json.dumps(asdict(result)).encode())


def parse_result(tree: dict[str, Any]) -> Result:
    """Return the result that was written as this tree."""
    evidence = tree["evidence"]
    if evidence is None:
        return Result(tree["notebook"], float(tree["seconds"]))
    files = {name: Seen(**seen) for name, seen in evidence["files"].items()}
    patterns = tuple(evidence["patterns"])
    evidence = Evidence(**{**evidence, "files": files, "patterns": patterns})
    return Result(tree["notebook"], float(tree["seconds"]), evidence)


# %% forget
def forget(store: Store, notebook: str, seconds: float | None = None) -> None:
    """Take away the evidence that a notebook passes; raises `OSError`."""
    known = store.read(notebook)
    if seconds is not None:
        store.write(Result(notebook, seconds))
    elif known and known.evidence:
        store.write(replace(known, evidence=None))


# ## What a commit can affect
# %% list_changed
def list_changed(root: Path, revision: str) -> set[str]:
    """Return the files below `root` that differ from a commit, by relative name.

    Raises `GitError` if git does not know the revision, or is not there.
    """
    changed = ("diff", "--name-only", "--relative", "-z", revision, "--")
    fresh = ("ls-files", "--others", "--exclude-standard", "-z")
    names = run_git(root, *changed) + run_git(root, *fresh)
    return {os.fsdecode(name) for name in names.split(b"\0") if name}


# %% is_affected
def is_affected(
    notebook: str,
    files: Iterable[str],
    patterns: Iterable[str],
    changed: set[str],
    root: Path,
) -> bool:
    """Can what has changed make a difference to a notebook?

    `files` and `patterns` are what it depends on, as in its `Evidence`.
    """
    declared = find_files(root, patterns)
    environment = any(says_environment(name) for name in changed)
    return environment or bool(changed & {notebook, *files, *declared})


DECLARED = ("pyproject.toml", "setup.*", "settings.ini", "environment*.y*ml")


def says_environment(name: str) -> bool:
    """Is that a file at the root that says what is installed?"""
    from fnmatch import fnmatch

    patterns = (*LOCKS, *DECLARED)
    return "/" not in name and any(fnmatch(name, one) for one in patterns)


# ## Shards
# %% assign_shards
def assign_shards(seconds: Mapping[str, float | None], count: int) -> list[list[str]]:
    """Divide names among `count` machines by their seconds; None is unknown."""
    known = [value for value in seconds.values() if value is not None]
    usual = median(known) if known else 1.0
    times = {name: usual if s is None else s for name, s in seconds.items()}
    shards: list[list[str]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for name in sorted(times, key=lambda name: (-times[name], name)):
        least = loads.index(min(loads))
        shards[least].append(name)
        loads[least] += times[name] or 1e-6  # so that those without a time spread, too
    return shards


def parse_shard(text: str) -> tuple[int, int]:
    """Return k and n of a text like `2/5`; raises `LitmlError`."""
    k, slash, n = text.partition("/")
    if slash and k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n):
        return int(k), int(n)
    hint = "write `--shard 1/3`, `--shard 2/3` and `--shard 3/3`, one on each machine"
    raise LitmlError(f"not a shard: `{text}`", hint=hint)
