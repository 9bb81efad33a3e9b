# Exported from nbs/07a_ids.ipynb. Edit either side, then run `litml sync`.
"""Give exported cells ids that a reader knows: the names of what they define."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from litml.canonical import OddFile, fill_ids, load_tree
from litml.cells import assigned, parse_code
from litml.export import MARKER, Chunk, Share, read_share
from litml.files import Transaction, locked
from litml.notebook import LitmlError, Location, Notebook, free_name
from litml.package import make_report, start_run
from litml.patch import read_patch
from litml.project import ConfigError, Project
from litml.record import RECORD, load_record
from litml.sync import Sync, SyncReport, finish, stage_all

__all__ = [
    "RANDOM",
    "is_random",
    "find_names",
    "IdsReport",
    "name_cells",
    "rename_all",
]


# ## Which ids are random
# %% is_random
RANDOM = re.compile(
    r"(?=.*\d)(?:[0-9a-f]{8}(?:-\d+)?|[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"
)


def is_random(cell_id: str) -> bool:
    """Has nobody chosen this id?"""
    return RANDOM.fullmatch(cell_id.lower()) is not None


# ## What a cell defines
# %% find_names
def find_names(code: str) -> Iterator[str]:
    """Yield names for a cell with this code, the best first."""
    body = parse_code(code).body
    chunk = Chunk("", "", 1, "", code)
    defined: list[str] = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            patch = read_patch(node, chunk)
            owner = f"{patch.owners[0]}-" if patch and patch.owners else ""
            defined.append(f"{owner}{patch.name if patch else node.name}")
    kinds = ast.Assign | ast.AnnAssign | ast.AugAssign
    bound = [
        name for node in body if isinstance(node, kinds) for name in assigned(node)
    ]
    public = [name for name in defined if not name.startswith("_")]
    for name in dict.fromkeys([*public, *defined, *bound]):
        if re.fullmatch(r"[a-zA-Z0-9_-]{1,60}", name) and not is_random(name):
            yield name


# %% choose_id
def choose_id(chunk: Chunk, taken: set[str]) -> str | None:
    """Return a readable id for a chunk's cell, or None if nothing suggests one."""
    names = ["imports"] if chunk.is_imports else list(find_names(chunk.code))
    free = [name for name in names if name not in taken]
    return free[0] if free else free_name(names[0], taken) if names else None


# ## The ids of a notebook
# %% Renamed
@dataclass(frozen=True, slots=True)
class Renamed:
    """A cell that has another id: where it is, under the old one, and the new one."""

    at: Location
    new: str

    def __str__(self) -> str:
        return f"{self.at}: now `{self.new}`"


def rename_cells(
    notebook: Notebook, share: Share, taken: Iterable[str] = ()
) -> list[Renamed]:
    """Give the exported cells of a notebook readable ids; `taken` are not free."""
    if notebook.data.get("nbformat_minor", 0) < 5:
        notebook.data["nbformat_minor"] = 5
    fill_ids(cell.data for cell in notebook.cells)
    cells = {cell.id: cell for cell in notebook.cells}
    names = {*taken, *cells}
    found = []
    for chunk in share.chunks:
        if is_random(chunk.cell) and (new := choose_id(chunk, names)):
            cells[chunk.cell].data["id"] = new
            names.add(new)
            found.append(Renamed(Location(notebook.name, chunk.cell), new))
    return found


# ## The ids of a project
# %% name_cells
@dataclass(frozen=True, slots=True)
class IdsReport:
    """The cells that have new ids, or would with a check; or what is in the way.

    `changed` are the notebooks; one that was raised to 4.5 may have no cell renamed.
    """

    renamed: tuple[Renamed, ...] = ()
    changed: tuple[str, ...] = ()
    problems: tuple[LitmlError, ...] = ()


def name_cells(
    project: Project, names: Iterable[str] | None = None, *, check: bool = False
) -> IdsReport:
    """Give exported cells readable ids and export them, all of it or nothing.

    `names` are the notebooks to look at, by default all of the project.
    """
    if project.nbdev:
        raise ConfigError("this project is configured for nbdev, which writes its ids")
    run = start_run(project)
    wanted = set(run.paths if names is None else names)
    if check:
        return rename_all(Sync(run, {}), wanted)
    with locked(run.notes_dir), Transaction(run.notes_dir) as transaction:
        run.record = load_record(run.notes_dir / RECORD, run.record.key)
        run.stage = transaction.stage
        sync = Sync(run, {})
        report = rename_all(sync, wanted)
        if report.changed and not report.problems:
            finish(sync, SyncReport(), transaction)
    return report


def rename_all(sync: Sync, wanted: set[str]) -> IdsReport:
    """Rename in the wanted notebooks and stage what changes."""
    run = sync.run
    if problems := make_report(run, None).problems:
        return IdsReport(problems=problems)
    shares = {name: read_share(sync.open(name), run.project) for name in run.paths}
    taken = {name: names_in(share) for name, share in shares.items()}
    renamed: list[Renamed] = []
    for name in [name for name in run.paths if name in wanted and is_json(sync, name)]:
        others = [
            taken[other] for other in shares if shares_module(shares, name, other)
        ]
        found = rename_cells(sync.notebooks[name], shares[name], set().union(*others))
        taken[name] |= {one.new for one in found}
        renamed += found
    sync.changed = stage_all(sync)
    return IdsReport(tuple(renamed), tuple(sync.changed), tuple(sync.problems))


# %% names_in
def names_in(share: Share) -> set[str]:
    """Return the ids of the chunks, and comments in them that look like markers."""
    inside = {name for chunk in share.chunks for name in MARKER.findall(chunk.code)}
    return {chunk.cell for chunk in share.chunks} | inside


def shares_module(shares: dict[str, Share], one: str, other: str) -> bool:
    """Do two notebooks export to one module?"""
    first, second = ({chunk.module for chunk in shares[n].chunks} for n in (one, other))
    return not first.isdisjoint(second)


def is_json(sync: Sync, name: str) -> bool:
    """Is it a notebook of format 4, and not one that is written as text?"""
    try:
        load_tree(sync.open(name).raw)
    except OddFile:
        return False
    return True
