# Exported from nbs/09e_modules.ipynb. Edit either side, then run `litml sync`.
"""Export again what a merge left open, and let no notebook into a commit that git
should not hold.
"""

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litml.clean import Policy, clean_notebook
from litml.filter import PolicyError, find_policy
from litml.git import (
    GitError,
    Repository,
    find_repository,
    keep_filtered,
    list_index,
    read_blobs,
    run_git,
)
from litml.hooks import has_filter, read_text
from litml.notebook import LitmlError
from litml.package import (
    PackageError,
    Run,
    committed_base,
    committed_bytes,
    export_project,
    start_run,
)
from litml.project import Project, find_project

__all__ = [
    "find_staged_faults",
    "find_faults",
    "find_unfiltered",
    "main",
    "is_under_way",
    "settle_merged",
    "group_merged",
    "report_exported",
]


# ## What is staged
# %% find_fault
def find_fault(raw: bytes, policy: Policy) -> str:
    """Return why a notebook should not be committed; nothing if it may."""
    cleaned = clean_notebook(raw, policy)
    if cleaned.left:
        return "" if cleaned.left.startswith("nbformat") else cleaned.left
    for cell in cleaned.cells:
        about = cell.get("metadata", {}).get("litml")
        if isinstance(about, dict) and "conflict" in about:
            return f"the conflict in cell {cell.get('id')} is open"
    if cleaned.data != raw:
        return "not in the form that git should hold; `git add` it again"
    return find_secret(cleaned.cells) if policy.secrets != "off" else ""


def find_secret(cells: Sequence[dict[str, Any]]) -> str:
    """Return what is like a secret in the outputs of cells; nothing if nothing is."""
    if not any(cell.get("outputs") for cell in cells):
        return ""
    from litml.secrets import scan_tree

    for found in scan_tree({"cells": cells}, ""):
        where = f"cell {found.at.cell}, line {found.line} of output {found.output}"
        return f"{where}, is like a secret ({found.kind}); `litml clean` says more"
    return ""


# %% find_staged_faults
def find_staged_faults(top: Path) -> list[str]:
    """Return what is wrong with staged notebooks, in a hook."""
    words = ("diff", "--cached", "--name-only", "-z", "--diff-filter=d")
    told = os.fsdecode(run_git(top, *words, inherit=True))
    known: dict[str, Policy] = {}
    faults = find_faults(
        top, told.split("\0"), lambda name: find_policy(name, known), inherit=True
    )
    return [f"{name}: {fault}" for name, fault in faults]


def find_faults(
    folder: Path,
    names: Iterable[str],
    policy_of: Callable[[str], Policy],
    *,
    inherit: bool = False,
) -> list[tuple[str, str]]:
    """Return names of notebooks in the index, and why they should not be there.

    Only those are looked at that the attributes give to the filter of litml.
    """
    names = [name for name in names if name.endswith(".ipynb")]
    names = keep_filtered(folder, names, inherit=inherit)
    entries = list_index(folder, names, inherit=inherit) if names else []
    blobs = read_blobs(folder, [entry.id for entry in entries])
    faults = []
    for entry in entries:
        try:
            fault = find_fault(blobs[entry.id], policy_of(entry.path))
        except PolicyError as error:
            fault = str(error)
        if fault:
            faults.append((entry.path, fault))
    return faults


# %% find_unfiltered
def find_unfiltered(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Return the files that no filter of litml cleans in this clone."""
    names = {os.path.relpath(path, folder): path for path in paths}
    try:
        filtered = keep_filtered(folder, list(names)) if has_filter(folder) else []
    except GitError:
        return list(paths)
    return [path for name, path in names.items() if name not in filtered]


# ## What a merge left
# %% read_merged
NOTED = "litml-merged"


def read_merged(repository: Repository) -> list[str]:
    """Return the files that the module driver noted, from the top of the work tree."""
    with suppress(FileNotFoundError):
        names = os.fsdecode((repository.git_dir / NOTED).read_bytes()).split("\0")
        return list(dict.fromkeys(filter(None, names)))
    return []


def find_sides(repository: Repository, hook: str, squashed: bool) -> list[str]:
    """Return the commits that were put together, or are about to be."""
    rebased = read_heads(repository, "rebase-merge/onto", "rebase-merge/orig-head")
    if rebased:
        return rebased
    prefix = "GITHEAD_"  # before its commit, a merge says it like this
    theirs = [name[len(prefix) :] for name in os.environ if name.startswith(prefix)]
    theirs += read_heads(repository, "MERGE_HEAD", "CHERRY_PICK_HEAD")
    ours = read_heads(repository, "sequencer/head") or ["HEAD"]
    if ours == ["HEAD"] and not squashed and hook.startswith("post-"):
        ours = parents_of(repository.top, "HEAD")
    return [*ours, *theirs]


def read_heads(repository: Repository, *names: str) -> list[str]:
    """Return the commits in files of git's folder, as far as there are any."""
    found: list[str] = []
    for name in names:
        with suppress(FileNotFoundError):
            found += (repository.git_dir / name).read_text().split()
    return found


def parents_of(folder: Path, commit: str) -> list[str]:
    """Return the parents of a commit."""
    return run_git(folder, "rev-parse", f"{commit}^@").decode().split()


# %% was_exported
def was_exported(run: Run, target: str, commit: str) -> bool:
    """Was a file, in a commit, what the notebooks of that commit export to?"""
    is_empty = not committed_bytes(run, target, commit)
    return is_empty or committed_base(run, target, commit) is not None


def has_no_edit(run: Run, target: str, commit: str) -> bool:
    """Is a file, in a commit, an export, or what a merge made of exports?"""
    if was_exported(run, target, commit):
        return True
    parents = parents_of(run.project.root, commit)
    return len(parents) > 1 and all(was_exported(run, target, one) for one in parents)


# %% export_merged
@dataclass(frozen=True, slots=True)
class Exported:
    """Files that were exported again, from the project's root, and what went wrong."""

    written: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def export_merged(project: Project, merged: set[str], sides: Iterable[str]) -> Exported:
    """Export a project, also over the files that a merge put together as text.

    Nothing is written if a notebook has a problem, or if an edit would be lost.
    """
    run = start_run(project)
    for name in sorted(merged):
        for side in sides:
            if not has_no_edit(run, target_of(run, name), side):
                return Exported((), (f"{name} was edited in {side[:10]}, {LOST}",))
    plan = export_project(project, check=True)
    mine = [error for error in plan.problems if is_about(error, merged)]
    others = tuple(str(error) for error in plan.problems if error not in mine)
    if others:
        return Exported((), others)
    report = export_project(project, force=bool(mine))
    return Exported(report.written, tuple(map(str, report.problems)))


LOST = """and no notebook has the edit
  hint: put it into the notebook and run `litml export --force`; this check will not
  see that, so commit with `--no-verify`"""


def is_about(error: LitmlError, names: set[str]) -> bool:
    """Does it say that one of these files is not as it was exported?"""
    at = error.at.notebook if error.at else ""
    return isinstance(error, PackageError) and at in names


def target_of(run: Run, name: str) -> str:
    """Return the target of a file that is named from the project's root."""
    path = run.project.root / name
    if path.is_relative_to(run.base):
        return path.relative_to(run.base).as_posix()
    return "@readme"


# ## The hooks
# %% main
def main(words: list[str]) -> int:
    """Run as one of git's hooks; the first word is its name."""
    name = words[0]
    try:
        repository = find_repository(Path.cwd(), inherit=True)
        before = name.startswith("pre-")
        if not before and is_under_way(name, repository):
            return 0
        faults = find_staged_faults(repository.top) if name == "pre-commit" else []
        squashed = words == ["post-merge", "1"]
        faults += settle_merged(name, repository, squashed)
    except LitmlError as error:
        faults = [str(error)]
    for fault in faults:
        print(f"litml: {fault}", file=sys.stderr)
    if faults and name == "pre-commit":
        print("litml: nothing is committed (`--no-verify` skips this)", file=sys.stderr)
    return 1 if faults and name.startswith("pre-") else 0


def is_under_way(hook: str, repository: Repository) -> bool:
    """Will git go on with other commits after this hook?"""
    folders = ("rebase-merge", "rebase-apply")
    if any((repository.git_dir / folder).exists() for folder in folders):
        return hook != "post-rewrite"
    todo = read_text(repository.git_dir / "sequencer/todo") or ""
    return todo.count("\n") > 1  # the line of this commit is still there


def settle_merged(hook: str, repository: Repository, squashed: bool) -> list[str]:
    """Export what a merge left open; return what a person has to know."""
    top, merged = repository.top, read_merged(repository)
    told: list[str] = []
    done = True
    sides = find_sides(repository, hook, squashed) if merged else []
    for project, names in group_merged(top, merged):
        exported = export_merged(project, names, sides)
        told += exported.problems
        done = done and not exported.problems
        again = sorted(names.intersection(exported.written))
        inside = [os.path.relpath(project.root / one, top) for one in again]
        if inside:
            told += report_exported(hook, top, inside)
    if done:
        (repository.git_dir / NOTED).unlink(missing_ok=True)
    return told


def group_merged(top: Path, merged: Iterable[str]) -> list[tuple[Project, set[str]]]:
    """Return projects with their files, named from the root of each."""
    found: dict[Path, tuple[Project, set[str]]] = {}
    for name in merged:
        project = find_project((top / name).parent)
        _, names = found.setdefault(project.root, (project, set()))
        names.add(project.name_of(top / name))
    return list(found.values())


def report_exported(hook: str, top: Path, paths: list[str]) -> list[str]:
    """Stage files where that has a meaning; return what a person has to know."""
    listed = ", ".join(paths)
    index = os.path.basename(os.environ.get("GIT_INDEX_FILE", "index"))
    if not hook.startswith("pre-"):
        return [f"exported again after the merge, not committed yet: {listed}"]
    if index.startswith("next-index"):
        return [f"exported again after the merge: {listed}; `git add` them first"]
    run_git(top, "add", "--", *paths, inherit=True)
    if hook == "pre-commit":
        print(f"litml: exported again and staged: {listed}", file=sys.stderr)
        return []
    return [f"exported again and staged: {listed}; `git commit` ends the merge"]
