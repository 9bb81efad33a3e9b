# Exported from nbs/05g_lens.ipynb. Edit either side, then run `litml sync`.
"""Show a notebook as plain text, and take the edited text back into it."""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from litml.edit import (
    Conflict,
    Edit,
    Piece,
    Plan,
    apply_edits,
    change_cell,
    new_cell,
    plan_edits,
)
from litml.files import Transaction, locked, make_state, replace_file, state_dir
from litml.mend import definitions, mend_markers, name_cell
from litml.notebook import (
    CELL_ID,
    Cell,
    LitmlError,
    Location,
    Notebook,
    suggest,
)
from litml.text import parse_source, read_source
from litml.view import (
    KINDS,
    LensError,
    Section,
    View,
    make_token,
    read_lines,
    read_view,
    show,
    split_view,
    write_cells,
)

__all__ = [
    "LensReport",
    "merge_view",
    "read_sides",
    "show_notebook",
    "name_of",
    "write_notebook",
    "put_back",
    "apply",
    "refuse_other",
    "find_cell",
    "hint_at",
    "hash_source",
    "set_cell",
    "remove_cell",
    "move_cell",
    "insert_cell",
]


# ## Pieces
# %% read_pieces
def read_pieces(
    sections: Iterable[Section], base: Sequence[Section], name: str
) -> list[Piece]:
    """Return sections as pieces, naming those that have no id."""
    sections = list(sections)
    taken = {one.id for one in (*sections, *base)}
    found = []
    for section in sections:
        at = Location(name, section.id or None)
        if section.kind == "above":
            hint = "put the first cell's marker back above it"
            line = section.lines[0]
            raise LensError(f"above the first cell: `{line}`", at=at, hint=hint)
        source = read_lines(section.lines, section.kind, at)
        id = section.id or name_cell(source, section.kind, taken)
        taken.add(id)
        found.append(make_piece(id, section.kind, source))
    return found


def make_piece(id: str, kind: str, source: str) -> Piece:
    """Return the piece for a cell."""
    return Piece(id, f"{kind}\n{source}", kind)


def cell_pieces(notebook: Notebook) -> list[Piece]:
    """Return the pieces of a notebook's cells; raises if ids cannot tell them apart."""
    ids = [cell.id for cell in notebook.cells]
    for id in ids:
        at = Location(notebook.name, id)
        refuse_id(id, at)
        if ids.count(id) > 1:
            raise LensError("two cells have this id", at=at, hint="rename one of them")
    return [make_piece(cell.id, cell.kind, cell.source) for cell in notebook.cells]


def refuse_id(id: str, at: Location) -> None:
    """Raise if nbformat allows no cell to have this id."""
    if not CELL_ID.fullmatch(id):
        raise LensError("a cell's id has letters, digits, `-` and `_` only", at=at)


# %% follow_cells
def follow_cells(
    notebook: Notebook, base: Sequence[Piece], theirs: Sequence[Piece]
) -> None:
    """Give cells without an id of their own the id they have in the other two."""
    free = [cell for cell in notebook.cells if not cell.data.get("id")]
    before = [one.id for one in base]
    if not free or before == [cell.id for cell in notebook.cells]:
        return
    refuse_twins(free, notebook.name)
    new = {one.text: one.id for one in theirs if one.id not in before}
    for cell in free:  # inserted by an earlier application of the view
        if cell.id not in before:
            text = make_piece("", cell.kind, cell.source).text
            cell.derived_id = new.get(text, cell.derived_id)
    gone = {one.id: one.text for one in base}
    for cell in notebook.cells:
        gone.pop(cell.id, None)
    for cell in free:
        if cell.id not in before and cell.id not in new.values():
            cell.derived_id = most_alike(cell, gone) or cell.derived_id
            gone.pop(cell.id, None)


def most_alike(cell: Cell, texts: Mapping[str, str]) -> str | None:
    """Return the id of the text that a cell may have had before it was edited."""
    import difflib

    now = make_piece("", cell.kind, cell.source).text
    alike = {
        difflib.SequenceMatcher(None, text, now, autojunk=False).ratio(): id
        for id, text in texts.items()
        if text.startswith(f"{cell.kind}\n")
    }
    return alike[max(alike)] if max(alike, default=0.0) > 0.5 else None


def refuse_twins(cells: Sequence[Cell], name: str) -> None:
    """Raise if two of the cells cannot be told apart."""
    if len({(cell.kind, cell.source) for cell in cells}) < len(cells):
        message = "cells without ids and with equal texts, in a notebook that changed"
        hint = "take a new view; saving it in a current Jupyter gives cells ids"
        raise LensError(message, at=Location(name), hint=hint)


# ## Merging
# %% refuse_marks
def refuse_marks(theirs: Iterable[Piece], base: Iterable[Piece], name: str) -> None:
    """Raise if a merge has left its markers in the view."""
    texts = {piece.id: piece.text for piece in base}
    for piece in theirs:
        for line in piece.text.split("\n"):
            is_mark = line.startswith(("<<<<<<< ", ">>>>>>> "))
            if is_mark and line not in texts.get(piece.id, "").split("\n"):
                at = Location(name, piece.id)
                raise LensError("conflict markers of a git merge", at=at)


# %% plan_view
def plan_view(
    notebook: Notebook,
    base: Sequence[Piece],
    theirs: Sequence[Piece],
    take: Mapping[str, str],
) -> Plan:
    """Return the edits that bring theirs into the notebook, and open conflicts."""
    ours = cell_pieces(notebook)
    if [piece.text for piece in ours] == [piece.text for piece in theirs]:
        return Plan()
    follow_cells(notebook, base, theirs)
    ours = cell_pieces(notebook)
    plan = plan_edits(base, ours, theirs, take)
    both = {piece.id for piece in base} & {piece.id for piece in theirs}
    if is_idle(plan.edits, [piece.id for piece in ours if piece.id in both]):
        plan.edits = [edit for edit in plan.edits if edit.action != "move"]
    return plan


def is_idle(edits: Iterable[Edit], ids: Sequence[str]) -> bool:
    """Do the moves among the edits leave the cells in the order that they have?"""
    order = list(ids)
    for edit in edits:
        if edit.action == "move":
            order.remove(edit.piece.id)
            order.insert(
                order.index(edit.after) + 1 if edit.after else 0, edit.piece.id
            )
    return order == list(ids)


# %% change_kind
def source_of(cell: Cell | None, piece: Piece) -> str:
    """Return the source for a piece, giving the cell it had the piece's kind."""
    kind, _, source = piece.text.partition("\n")
    if cell and cell.kind != kind:
        change_kind(cell, kind)
    return source


def change_kind(cell: Cell, kind: str) -> None:
    """Make a cell one of another kind, without what only the old kind has."""
    more: dict[str, object] = {"execution_count": None, "outputs": []}
    code = more if kind == "code" else {}
    other = ("attachments",) if code else ("execution_count", "outputs")
    kept = {key: value for key, value in cell.data.items() if key not in other}
    data = {**kept, **code, "cell_type": kind}
    cell.data = dict(sorted(data.items())) if code else data


# %% bare
def bare_edit(edit: Edit) -> Edit:
    """Return an edit whose text is the source, without the line of the kind."""
    return replace(edit, piece=replace(edit.piece, text=bare(edit.piece.text)))


def bare_conflict(clash: Conflict) -> Conflict:
    """Return a conflict whose texts are sources; differing kinds are in the reason."""
    texts = [clash.base, clash.ours, clash.theirs]
    kinds = sorted({text.partition("\n")[0] for text in texts if text is not None})
    reason = (
        f"{clash.reason} ({' or '.join(kinds)})" if len(kinds) > 1 else clash.reason
    )
    base, ours, theirs = (text if text is None else bare(text) for text in texts)
    return Conflict(clash.id, reason, base, ours, theirs)


def bare(text: str) -> str:
    """Return a piece's text without the line that says its kind."""
    return text.partition("\n")[2]


# %% LensReport
@dataclass(frozen=True, slots=True)
class LensReport:
    """What taking in a view does: the edits of the notebook, and notes.

    With conflicts nothing is done. `view` is the view of the notebook afterwards.
    """

    notebook: str
    edits: tuple[Edit, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    notes: tuple[str, ...] = ()
    view: str = ""


# %% merge_view
def merge_view(
    notebook: Notebook,
    view: Sequence[Section],
    base: str,
    take: Mapping[str, str] | None = None,
) -> LensReport:
    """Bring the sections of an edited view into a notebook, unless they conflict.

    `base` is the text of the sections that the edits began with. Raises `LensError`
    for a view that makes no sense.
    """
    name = notebook.name
    ours = cell_pieces(notebook)
    agreed, theirs, notes = read_sides(view, base, ours, name)
    plan = plan_view(notebook, agreed, theirs, take or {})
    if not plan.conflicts:
        apply_edits(notebook, plan.edits, source_of, lambda notebook, at: at + 1)
        if ours == agreed and cell_pieces(notebook) != theirs:
            raise LensError(
                "an error in litml: not the view's cells", at=Location(name)
            )
    edits = tuple(map(bare_edit, plan.edits))
    conflicts = tuple(map(bare_conflict, plan.conflicts))
    return LensReport(name, edits, conflicts, tuple(notes))


def read_sides(
    view: Sequence[Section], base: str, ours: Iterable[Piece], name: str
) -> tuple[list[Piece], list[Piece], list[str]]:
    """Return the pieces of the base and of the view, and notes on its markers."""
    notes: list[str] = []
    before = split_view(base, name)
    agreed = read_pieces(before, [], name)
    mended = mend_markers(view, before, [piece.id for piece in ours], notes)
    theirs = read_pieces(mended, before, name)
    refuse_marks(theirs, agreed, name)
    return agreed, theirs, notes


# ## Files
# %% keep_cells
KEPT = 500  # views; about ten megabytes


def keep_cells(root: Path, notebook: Notebook) -> None:
    """Keep the text of a notebook's sections, to be found by its token."""
    state = state_dir(root)
    data = write_cells(notebook).encode()
    path = state / "views" / f"{make_token(data.decode())}.txt"
    with suppress(OSError, LitmlError):
        if path.exists() and path.read_bytes() == data:
            return os.utime(path)
        make_state(state)
        replace_file(path, data)
        views = sorted(os.scandir(path.parent), key=lambda view: view.stat().st_mtime)
        for view in views[:-KEPT]:
            os.unlink(view)


def find_cells(root: Path, notebook: Notebook, token: str) -> str:
    """Return the text of the sections that a token names."""
    now = write_cells(notebook)
    if make_token(now) == token:
        return now
    with suppress(OSError, UnicodeDecodeError):
        path = state_dir(root) / "views" / f"{token}.txt"
        if make_token(kept := path.read_text("utf-8")) == token:
            return kept
    hint = "take a new view with `litml show`, and make the edits there"
    message = (
        f"nothing is known of the view @{token}, and the notebook is not as it was"
    )
    raise LensError(message, at=Location(notebook.name), hint=hint)


# %% show_notebook
def show_notebook(root: Path, path: Path, outputs: int = 300) -> str:
    """Return the view of a notebook's file, and remember what it shows."""
    notebook = read_source(path, name_of(root, path))
    keep_cells(root, notebook)
    return show(notebook, outputs)


def name_of(root: Path, path: Path) -> str:
    """Return what messages call a notebook: its path from the project's root."""
    full = path.parent.resolve() / path.name  # a notebook may be a link itself
    inside = full.is_relative_to(root.resolve())
    return (full.relative_to(root.resolve()) if inside else full).as_posix()


# %% write_notebook
def write_notebook(root: Path, path: Path, notebook: Notebook) -> bool:
    """Write a changed notebook back to its file; False if there was no change.

    Raises `LensError` if the file is not as it was when the notebook was read.
    """
    with locked(state_dir(root)):
        return put_back(root, path, notebook)


def put_back(root: Path, path: Path, notebook: Notebook) -> bool:
    """Write a notebook back to its file, under the lock."""
    data = notebook.to_bytes()
    with Transaction(state_dir(root)) as transaction:
        is_new = transaction.stage(path, data)
        if path.read_bytes() != notebook.raw:
            hint = "nothing was written; do it again"
            message = "the file was changed by another program just now"
            raise LensError(message, at=Location(notebook.name), hint=hint)
        if is_new:
            transaction.commit({path: notebook.raw})
    return is_new


# %% apply
def apply(
    root: Path,
    text: str,
    path: Path | None = None,
    take: Mapping[str, str] | None = None,
    *,
    check: bool = False,
) -> LensReport:
    """Bring an edited view into its notebook's file; with `check`, write nothing.

    The view says which file; `path` has to agree. Raises `LensError` for a view that
    cannot be taken in, and if the file changes meanwhile.
    """
    view = read_view(text)
    refuse_other(view, name_of(root, path or root / view.notebook))
    with nullcontext() if check else locked(state_dir(root)):
        notebook = read_source(root / view.notebook, view.notebook)
        base = find_cells(root, notebook, view.token)
        report = merge_view(notebook, view.sections, base, take)
        if report.conflicts:
            return report
        if not check:
            put_back(root, root / view.notebook, notebook)
        after = parse_source(notebook.to_bytes(), notebook.name)
        keep_cells(root, after)
        return replace(report, view=show(after))


def refuse_other(view: View, name: str) -> None:
    """Raise if the view is not of the notebook called `name`."""
    if name != view.notebook:
        hint = "was the notebook renamed? then change the first line of the view"
        message = f"this is a view of {view.notebook}"
        raise LensError(message, at=Location(name), hint=hint)


# ## One cell
# %% find_cell
def find_cell(notebook: Notebook, id: str, expect: str | None = None) -> Cell:
    """Return the cell with an id, and with a source of the hash `expect` if given.

    Raises `LensError`, with a hint where to look, if there is not exactly one.
    """
    at = Location(notebook.name)
    ids = [cell.id for cell in notebook.cells]
    if id not in ids:
        raise LensError(f"there is no cell `{id}`", at=at, hint=hint_at(notebook, id))
    if ids.count(id) > 1:
        raise LensError(f"several cells have the id `{id}`", at=at)
    cell = notebook.cells[ids.index(id)]
    if expect is not None and hash_source(cell.source) != expect:
        message = f"the cell has changed: its hash is {hash_source(cell.source)} now"
        hint = "look at it again before you change it"
        raise LensError(message, at=Location(notebook.name, id), hint=hint)
    return cell


def hint_at(notebook: Notebook, name: str) -> str:
    """Return where to look instead of a cell that is not there."""
    for cell in notebook.cells:
        if cell.kind == "code" and name in definitions(cell.source.split("\n")):
            return f"`{name}` is defined in cell `{cell.id}`"
    near = suggest(name, [cell.id for cell in notebook.cells])
    return near or f"`litml show {notebook.name}` shows all cells"


def hash_source(source: str) -> str:
    """Return the hash of a cell's source."""
    return make_token(source.encode("utf-8", "surrogatepass").hex())


# %% set_cell
def set_cell(
    notebook: Notebook, id: str, source: str, expect: str | None = None
) -> None:
    """Give a cell another source; outputs it has are marked as stale."""
    cell = find_cell(notebook, id, expect)
    if source != cell.source:
        change_cell(cell, source)


def remove_cell(notebook: Notebook, id: str, expect: str | None = None) -> None:
    """Remove a cell."""
    find_cell(notebook, id, expect)
    notebook.cells = [cell for cell in notebook.cells if cell.id != id]


def move_cell(notebook: Notebook, id: str, after: str | None) -> None:
    """Move a cell behind another one, or to the beginning."""
    cell = find_cell(notebook, id)
    if after == id:
        at = Location(notebook.name, id)
        raise LensError("a cell cannot stand behind itself", at=at)
    others = [other for other in notebook.cells if other is not cell]
    place = others.index(find_cell(notebook, after)) + 1 if after else 0
    notebook.cells = [*others[:place], cell, *others[place:]]


def insert_cell(
    notebook: Notebook,
    source: str,
    after: str | None = None,
    kind: str = "code",
    id: str = "",
) -> str:
    """Insert a new cell behind another one, or at the beginning; return its id."""
    taken = [cell.id for cell in notebook.cells]
    id = id or name_cell(source, kind, taken)
    at = Location(notebook.name, id)
    if kind not in ("code", "markdown", "raw"):
        raise LensError(f"no kind of cell: `{kind}`", at=at, hint=suggest(kind, KINDS))
    refuse_id(id, at)
    place = notebook.cells.index(find_cell(notebook, after)) + 1 if after else 0
    notebook.cells.insert(place, new_cell(Piece(id, source, kind), source, notebook))
    return id
