# Exported from nbs/09d_probe.ipynb. Edit either side, then run `litml sync`.
"""Find out whether git in this clone does what litml needs of it."""

import os
from pathlib import Path

from litml.git import (
    Entry,
    GitError,
    Repository,
    find_repository,
    find_touched,
    hash_files,
    list_index,
    run_git,
)
from litml.hooks import find_place, has_filter
from litml.starter import starter_path

__all__ = [
    "BARE",
    "RUN",
    "try_filter",
    "ask_attribute",
    "find_gap",
    "find_unclean",
]


# ## A trial
# %% try_filter
BARE = """\
{
 "cells": [
  {
   "cell_type": "code",
   "execution_count": null,
   "id": "probe",
   "metadata": {},
   "outputs": [],
   "source": []
  }
 ],
 "metadata": {},
 "nbformat": 4,
 "nbformat_minor": 5
}
"""
RUN = BARE.replace("null", "1")


def try_filter(folder: Path) -> str:
    """Return what is wrong with the filter of a clone; nothing if it works."""
    try:
        repository = find_repository(folder)
        root = find_place(folder, repository)[1]
        path = (root / "litml-probe.ipynb").relative_to(repository.top).as_posix()
        filter = ask_attribute(repository, "filter", path)
        if filter != "litml":
            return f"notebooks have the filter `{filter}`, not `litml`"
        words = ("hash-object", "--stdin", f"--path={path}")
        found = run_git(repository.top, *words, data=RUN.encode())
        wanted = run_git(repository.top, *words[:2], data=BARE.encode())
    except GitError as error:
        return f"the filter does not work: {error.message}"
    return "" if found == wanted else "the filter does not clean: its Python is gone"


def ask_attribute(repository: Repository, name: str, path: str) -> str:
    """Return the value of an attribute of a path, `unspecified` if it has none."""
    told = run_git(repository.top, "check-attr", "-z", name, "--", path)
    return os.fsdecode(told.split(b"\0")[2])


# ## A clone that knows nothing
# %% find_gap
def find_gap(folder: Path) -> str:
    """Return what this clone lacks of what its attributes name; mostly nothing."""
    try:
        repository = find_repository(folder)
    except GitError:
        return ""
    root = find_place(folder, repository)[1]
    attributes = root / ".gitattributes"
    if not attributes.exists() or b"filter=litml" not in attributes.read_bytes():
        return ""
    if not has_filter(repository.top):
        return "git in this clone does not know the filter that .gitattributes names"
    if not starter_path(repository).exists():
        return "git's filter is set to a script that is not there"
    return ""


# ## What was there before
# %% find_unclean
def find_unclean(folder: Path) -> list[Entry]:
    """Return the notebooks in the index that git would hold otherwise by now.

    Notebooks that were changed since are not looked at.
    """
    try:
        top = find_repository(folder).top
        found = [one for one in list_index(top) if one.path.endswith(".ipynb")]
        changed = set(find_touched(top, found)) if found else set()
        same = [one for one in found if one not in changed and not one.stage]
        ids = hash_files(top, [one.path for one in same])
    except GitError:
        return []
    return [one for one, id in zip(same, ids, strict=True) if one.id != id]
