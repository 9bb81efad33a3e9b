# Exported from nbs/05h_plain.ipynb. Edit either side, then run `litml sync`.
"""Bring edits home that need no thought, before most of litml is loaded."""

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from litml.cells import split_head
from litml.files import Transaction, locked
from litml.notebook import LitmlError, Location, Notebook, read_notebook
from litml.parts import CONFLICT, MARKER, parse_quietly, with_body
from litml.record import (
    RECORD,
    Base,
    Entry,
    Record,
    base_path,
    checksum,
    dump_base,
    dump_record,
    find_generated,
    load_base,
    load_record,
    look,
)
from litml.stamps import find_changed, head_moved, notes_folder, renew_stamps

__all__ = [
    "sync_plain_edits",
    "is_other_history",
    "find_edited",
    "leave_stamps",
]


# ## What changed
# %% cut_module
TAIL = re.compile(r"\n*(?:# #{2,6} .*\n)*\Z")


def cut_module(text: str) -> list[tuple[str, str, str]]:
    """Cut a module: for each marker its id, the code below it, and what follows that.

    What stands above the first marker comes first, with an empty id.
    """
    head, *rest = MARKER.split(text)
    found = [("", head, "")]
    for name, part in zip(rest[::2], rest[1::2], strict=True):
        code = TAIL.sub("", part[1:])
        found.append((name, code, part[1 + len(code) :]))
    return found


# %% find_edits
def find_edits(base: str, edited: str) -> dict[str, tuple[str, str]] | None:
    """Return the code before and after of each cell that was edited, by id.

    None if more has changed than what stands within definitions.
    """
    old, new = cut_module(base), cut_module(edited)
    if [part[::2] for part in old] != [part[::2] for part in new]:
        return None
    if "\r" in edited:
        return None
    edits = {
        name: (before, after)
        for (name, before, _), (_, after, _) in zip(old, new, strict=True)
        if before != after
    }
    plain = all(keeps_outline(*texts) for texts in edits.values())
    alone = not PATCH.search(edited) or not any(map(may_grow, edits.values()))
    whole = not SPANNING.search(edited) or is_python(edited)
    return edits if plain and alone and whole and "" not in edits else None


SPANNING = re.compile(r"(?m)^(?:from __future__ |global )")  # for cells further down
PATCH = re.compile(r"(?m)^@\s*[\w.]*\bpatch")


def may_grow(texts: tuple[str, str]) -> bool:
    """Is there code of a class, or a patch, of which `04b_patch` shows something?"""
    return any(re.search(r"(?m)^(?:class\b|@)", text) for text in texts)


# %% keeps_outline
def keeps_outline(before: str, after: str) -> bool:
    """Is code that was edited Python, and different within its definitions only?"""
    if CONFLICT.search(after) or split_head(after).body != after:
        return False
    return is_python(after) and outline(before) == outline(after)


def is_python(text: str) -> bool:
    """Does it compile?"""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, "module", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def outline(text: str) -> list[str]:
    """Return the names of what code defines, and what else it does and says."""
    found = re.findall(r"(?m)^#.*", text)
    for node in parse_quietly(text).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(f"{type(node).__name__} {node.name}")
        else:
            found.append(ast.dump(node))
    return found


# ## Into the notebook
# %% Edited
@dataclass(frozen=True, slots=True)
class Edited:
    """An edited module: how its file looked, its next base, and its notebook.

    `edits` are the codes before and after, by cell.
    """

    target: str
    entry: Entry
    base: Base
    notebook: Notebook
    edits: Mapping[str, tuple[str, str]]


# %% open_edited
def open_edited(path: Path, root: Path, notes: Path, record: Record) -> Edited | None:
    """Read a changed file; None unless it is a module that was edited plainly."""
    if not path.is_relative_to(record.package):
        return None
    target = path.relative_to(record.package).as_posix()
    makers = [name for name, one in record.notebooks.items() if target in one.targets]
    base, seen = load_base(notes, target, record), look(path)
    if base is None or seen is None or len(makers) != 1:
        return None
    name = makers[0]
    raw = path.read_bytes()
    edits = find_edits(base.text, raw.decode())
    if record.notebooks[name].targets[1:] or not name.endswith(".ipynb"):
        return None
    if edits is None or not edits.keys() <= set(base.ids):
        return None
    notebook = read_notebook(root / name, name)
    entry = Entry(*seen, checksum(raw))
    return Edited(target, entry, Base(base.ids, raw.decode()), notebook, edits)


# %% take_edits
def take_edits(one: Edited) -> bool:
    """Change the notebook's cells in memory; False if one is not as expected."""
    cells = {cell.data.get("id"): cell for cell in one.notebook.cells}
    for name, (before, after) in one.edits.items():
        if (cell := cells.get(name)) is None or cell.outputs:
            return False
        head = split_head(cell.source)
        if head.body != before or head.magics:
            return False
        cell.source = with_body(cell, after)
    return True


# ## Onto the disk
# %% stage_edited
def stage_edited(
    one: Edited, root: Path, notes: Path, record: Record, transaction: Transaction
) -> Record:
    """Stage the notebook and the new base of a module; return the new record."""
    name, data = one.notebook.name, one.notebook.to_bytes()
    transaction.stage(root / name, data)
    transaction.stage(base_path(notes, one.target), dump_base(one.base))
    status = transaction.look(root / name)
    size, time = status.st_size, status.st_mtime_ns
    entry = Entry(size, time, checksum(data), (one.target,))
    return replace(
        record,
        notebooks={**record.notebooks, name: entry},
        files={**record.files, one.target: one.entry},
    )


def is_untouched(one: Edited, root: Path, record: Record) -> bool:
    """Are module and notebook on the disk as they were read?"""
    seen = one.entry.size, one.entry.time
    notebook = root / one.notebook.name
    return (
        look(Path(record.package, one.target)) == seen
        and notebook.read_bytes() == one.notebook.raw
    )


# %% sync_plain_edits
def sync_plain_edits(root: str) -> list[Location] | None:
    """Bring home all that was edited since the last stamps; return the changed cells.

    None, with nothing written, if that is not plain or cannot be told from here.
    """
    notes = Path(notes_folder(root))
    try:
        with locked(notes), Transaction(notes) as transaction:
            record = load_record(notes / RECORD, None)
            found = find_edited(Path(root), notes, record)
            if not found or is_other_history(found, Path(root), notes, record):
                return None
            for one in found:
                record = stage_edited(one, Path(root), notes, record, transaction)
            transaction.stage(notes / RECORD, dump_record(record))
            if not all(is_untouched(one, Path(root), record) for one in found):
                return None
            notebooks = [one.notebook for one in found]
            transaction.commit({Path(root, one.name): one.raw for one in notebooks})
            leave_stamps(found, root, notes, record)
    except (LitmlError, OSError, ValueError):
        return None
    return [Location(one.notebook.name, cell) for one in found for cell in one.edits]


def is_other_history(
    found: Sequence[Edited], root: Path, notes: Path, record: Record
) -> bool:
    """May a file not be edited, but from a commit? Without git there are none."""
    if notes.name == ".litml":
        return False
    from litml.git import read_committed

    modules = {Path(record.package, one.target): one.base.text for one in found}
    names = {path.relative_to(root).as_posix(): path for path in modules}
    blobs = read_committed(root, list(names))
    restored = any(blobs[name].decode() == modules[names[name]] for name in blobs)
    return restored or head_moved(str(notes), record.time)


def find_edited(root: Path, notes: Path, record: Record) -> list[Edited] | None:
    """Return the edited modules with their cells changed; None if one is not plain."""
    paths = find_changed(str(notes / "stamps"), str(root))
    if not paths or find_generated(Path(record.package), record.files):
        return None
    found = []
    for path in sorted(set(paths)):  # a module may be on the list twice
        one = open_edited(Path(path), root, notes, record)
        if one is None or not take_edits(one):
            return None
        found.append(one)
    return found


def leave_stamps(
    found: Sequence[Edited], root: str, notes: Path, record: Record
) -> None:
    """Leave new stamps of the modules and notebooks; that they are old is no error."""
    new = {}
    for one in found:
        name = one.notebook.name
        for path, entry in [
            (Path(record.package, one.target), one.entry),
            (Path(root, name), record.notebooks[name]),
        ]:
            new[str(path)] = f"{entry.size} {entry.time} {path}"
    with suppress(OSError):
        renew_stamps(str(notes / "stamps"), root, new)
