# Exported from nbs/19_update.ipynb. Edit either side, then run `litml sync`.
"""Bring a project to the newest template, and keep what its people have made of it."""

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from packaging.version import Version

import litml
from litml.answers import Answers, NewError, check_answers
from litml.files import Transaction, locked, state_dir
from litml.git import GitError, run_git
from litml.merge import merge_notebooks
from litml.new import RECORD, Record, blob_id, read_template, render_template
from litml.notebook import LitmlError, Location, parse_notebook
from litml.project import Project

__all__ = [
    "read_record",
    "check_record",
    "Step",
    "decide",
    "merge_contents",
    "merge_lines",
    "find_base",
    "plan_update",
    "next_record",
    "update_project",
]


# ## What the project was made from
# %% read_record
def read_record(root: Path) -> Record:
    """Read what a project was made from; raises `NewError`."""
    at = Location(RECORD)
    try:
        tree = json.loads((root / RECORD).read_bytes())
        record = Record(**{**tree, "answers": Answers(**tree["answers"])})
        check_record(record)
        newer = Version(record.litml) > Version(litml.__version__)
    except FileNotFoundError as error:
        hint = "only a project that `litml new` has made can be updated"
        raise NewError("there is no record of a template", at=at, hint=hint) from error
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        hint = f"take it from your history: `git log {RECORD}`"
        raise NewError(f"not a record: {error}", at=at, hint=hint) from error
    if newer:
        hint = f"pip install 'litml>={record.litml}'"
        raise NewError("it is of a newer litml", at=at, hint=hint)
    return record


# %% check_record
def check_record(record: Record) -> None:
    """Raise `ValueError` or `NewError` for a record that nobody can have written."""
    kinds: list[tuple[Any, type]] = [(record.template, str), (record.litml, str)]
    for one in fields(Answers):
        value = getattr(record.answers, one.name)
        kinds.append((value, int if one.name == "year" else str))
    for table in (record.files, record.texts):
        kinds += [(value, str) for value in dict(table).values()]
    for value, kind in kinds:
        if not isinstance(value, kind):
            raise ValueError(f"{value!r} is not a {kind.__name__}")
    for one_id in record.files.values():
        if not re.fullmatch("[0-9a-f]{40}", one_id):
            raise ValueError(f"{one_id!r} is not the id of a content")
    check_answers(record.answers)


# ## What becomes of a file
# %% Step
@dataclass(frozen=True, slots=True)
class Step:
    """What is done about a file: `same`, `replaced`, `kept`, `deleted`, `added`,
    `merged` or `offered`; `content` is what is written, if anything.
    """

    path: str
    action: str
    content: bytes | None = None
    conflicts: int = 0


# %% decide
def decide(
    path: str,
    current: bytes | None,
    new: bytes,
    base: str | None,
    find: Callable[[], bytes | None],
) -> Step:
    """Return what becomes of a file; `find` looks for the content of the id `base`."""
    if current == new:
        return Step(path, "same")
    if current is None:
        return Step(path, "deleted") if base else Step(path, "added", new)
    if blob_id(current) == base:
        return Step(path, "replaced", new)
    if blob_id(new) == base:
        return Step(path, "kept")
    old = find() if base else None
    merged = None if old is None else merge_contents(path, current, old, new)
    if merged is None:
        return Step(path, "offered", new)
    return Step(path, "merged", *merged)


# %% merge_contents
def merge_contents(
    path: str, ours: bytes, base: bytes, theirs: bytes
) -> tuple[bytes, int] | None:
    """Merge three contents; return the result and its conflicts, None if it fails."""
    if not path.endswith(".ipynb"):
        return merge_lines(ours, base, theirs)
    try:
        sides = [parse_notebook(raw, path) for raw in (base, ours, theirs)]
        merged = merge_notebooks(*sides)
    except LitmlError:
        return None
    return merged.notebook.to_bytes(), len(merged.conflicts)


def merge_lines(ours: bytes, base: bytes, theirs: bytes) -> tuple[bytes, int] | None:
    """Merge three texts by `git merge-file`."""
    labels = ("yours", "the template then", "the template now")
    with tempfile.TemporaryDirectory(prefix="litml-update-") as temporary:
        command = ["git", "merge-file", "-p", "--diff3"]
        for number, content in enumerate((ours, base, theirs)):
            (Path(temporary) / str(number)).write_bytes(content)
            command += ["-L", labels[number]]
        done = subprocess.run(
            [*command, "0", "1", "2"], cwd=temporary, capture_output=True, check=False
        )
    # It returns the number of conflicts, at most 127; other numbers are errors
    return (done.stdout, done.returncode) if 0 <= done.returncode <= 127 else None


# ## The whole project
# %% find_base
def find_base(root: Path, record: Record, path: str) -> bytes | None:
    """Return what the template made of a file then, if it is known still."""
    if path in record.texts:
        return record.texts[path].encode()
    try:
        return run_git(root, "cat-file", "blob", record.files[path])
    except GitError:
        return None


# %% plan_update
def plan_update(root: Path, record: Record, files: Mapping[str, bytes]) -> list[Step]:
    """Return what becomes of each file of the template."""
    steps = []
    for path, new in files.items():
        place, base = root / path, record.files.get(path)
        if os.path.lexists(place) and (place.is_symlink() or not place.is_file()):
            steps.append(Step(path, "kept"))
            continue
        current = place.read_bytes() if place.exists() else None

        def find(path: str = path) -> bytes | None:
            return find_base(root, record, path)

        steps.append(decide(path, current, new, base, find))
    return steps


# %% next_record
def next_record(
    record: Record, steps: list[Step], files: Mapping[str, bytes]
) -> Record:
    """Return the record of the project after these steps.

    What was only offered is recorded as it was, so that it is offered again.
    """
    ids, texts = {}, {}
    for step in steps:
        path = step.path
        if step.action not in ("offered", "deleted"):
            ids[path] = blob_id(files[path])
        elif path in record.files:
            ids[path] = record.files[path]
        if step.action == "merged":
            texts[path] = files[path].decode()
        elif step.action in ("kept", "offered") and path in record.texts:
            texts[path] = record.texts[path]
    return Record(record.template, litml.__version__, record.answers, ids, texts)


# %% update_project
def update_project(project: Project) -> list[Step]:
    """Bring a project to its template of today, and return what was done.

    Raises `NewError`, `WriteError`; the project is then as it was before.
    """
    root, state = project.root, state_dir(project.root)
    with locked(state), Transaction(state) as transaction:
        record = read_record(root)
        files = render_template(read_template(record.template), record.answers)
        steps = plan_update(root, record, files)
        try:
            for step in steps:
                if step.content is not None:
                    ending = ".template-new" if step.action == "offered" else ""
                    place = root / f"{step.path}{ending}"
                    place.parent.mkdir(parents=True, exist_ok=True)
                    transaction.stage(place, step.content)
        except OSError as error:
            reason = error.strerror or str(error)
            raise NewError(f"cannot write `{step.path}`: {reason}") from error
        after = next_record(record, steps, files)
        transaction.stage(root / RECORD, after.to_bytes())
        transaction.commit()
    return steps
