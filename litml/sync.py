# Exported from nbs/05d_sync.ipynb. Edit either side, then run `litml sync`.
"""Bring what was edited in a module home to its notebook."""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import dedent

from litml.edit import Conflict
from litml.export import Module, Share, assemble, read_share
from litml.files import Overtaken, Transaction, locked
from litml.home import (
    Change,
    Pair,
    SyncError,
    bare_chunks,
    drop_derived,
    follow_methods,
    note_change,
    sync_cells,
    sync_docstring,
    sync_imports,
)
from litml.notebook import LitmlError, Location, Notebook
from litml.origin import contents, find_base
from litml.package import (
    README,
    ExportReport,
    Run,
    find_stale,
    is_settled,
    leave_stamps,
    make_report,
    next_record,
    read,
    render_target,
    renew,
    stage_target,
    start_run,
    targets_of,
)
from litml.parts import (
    CONFLICT,
    ModuleText,
    code_of,
    find_markers,
    locate,
    paragraphs,
    parse_module,
    parse_quietly,
    refuse_conflicts,
    split_module,
    texts_of,
    words_of,
)
from litml.project import ConfigError, Project
from litml.record import RECORD, Base, Entry, checksum, dump_record, load_record
from litml.text import read_source

__all__ = ["SyncReport", "sync_project"]


# ## What happened
# %% SyncReport
@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a sync did, or with a check would do.

    With conflicts or problems, nothing was written.
    """

    changes: tuple[Change, ...] = ()
    conflicts: tuple[tuple[Location, Conflict], ...] = ()
    problems: tuple[LitmlError, ...] = ()
    notes: tuple[str, ...] = ()
    written: tuple[str, ...] = ()


# ## Opening a pair
# %% open_pair
def open_pair(
    run: Run, target: str, notebooks: list[Notebook], take: Mapping[str, str]
) -> Pair:
    """Read both sides of a module; raises a `LitmlError` if they cannot be compared."""
    name = run.project.name_of(run.path_of(target))
    theirs = read_module(run, target)
    shares = [read_share(notebook, run.project) for notebook in notebooks]
    ours = assemble(target, shares)
    now, ids = render_target(run, target, list(zip(notebooks, shares, strict=True)))
    base = find_base(run, target, now, theirs)
    if base is None and "" in take:
        base = Base(tuple(ids), now if take[""] == "theirs" else theirs)
    if base is None:
        message = "nobody knows what this module was like before it was edited"
        hint = "`--take module` makes the notebook say what the module says"
        raise SyncError(message, at=Location(name), hint=hint)
    refuse_conflicts(theirs, name, base.text)
    refuse_merging(ours, base.text)
    refuse_first_line(theirs, name, base.text, now)
    old, new = split_both(name, ours, base, theirs)
    owners = {share.notebook: share.module for share in shares}
    alone = contents(now, name, ids) == contents(base.text, name, base.ids)
    return Pair(name, theirs, target, notebooks, owners, ours, old, new, take, alone)


def refuse_first_line(text: str, name: str, *known: str) -> None:
    """Raise unless the first line is that of a text that litml wrote."""
    if text.split("\n")[0] not in [one.split("\n")[0] for one in known]:
        hint = "litml writes it; put the line back"
        raise SyncError("the first line was edited", at=Location(name), hint=hint)


# %% read_module
def read_module(run: Run, target: str) -> str:
    """Return the text of a module on disk."""
    path = run.path_of(target)
    name = run.project.name_of(path)
    if target == README:
        hint = "edit the notebook, or `litml export --force` throws the edit away"
        message = f"made from {run.makers[target][0]}, and was edited"
        raise SyncError(message, at=Location(name), hint=hint)
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise SyncError(str(error.strerror), at=Location(name)) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        at, hint = Location(name, line=line), "save the file as UTF-8"
        raise SyncError(f"not UTF-8: {error.reason}", at=at, hint=hint) from error
    if not text.strip():
        hint = "is it being written just now? `litml export --force` makes it anew"
        raise SyncError("the module is empty", at=Location(name), hint=hint)
    refuse_lone_returns(text, name)
    return text


def refuse_lone_returns(text: str, name: str) -> None:
    """Raise if there is a carriage return that ends no line."""
    if "\r" in text:
        line = text[: text.index("\r")].count("\n") + 1
        hint = "delete it, or write `\\r` if it is in a string"
        at = Location(name, line=line)
        raise SyncError("a lone carriage return", at=at, hint=hint)


def refuse_merging(ours: Module, before: str) -> None:
    """Raise if a cell has conflict markers, as a merge tool for notebooks leaves."""
    for chunk in ours.chunks:
        for match in CONFLICT.finditer(chunk.code):
            if match[0] not in before.split("\n"):
                line = chunk.code.count("\n", 0, match.start()) + 1
                message = "conflict markers of a git merge"
                raise SyncError(message, at=chunk.at(line))


# %% split_both
def split_both(
    name: str, ours: Module, base: Base, theirs: str
) -> tuple[ModuleText, ModuleText]:
    """Take the base and the edited module apart."""
    parse_module(theirs, name)
    before = set(find_markers(base.text).values())
    marked = before & set(base.ids)
    cells = {chunk.cell for chunk in ours.chunks}
    bare = {chunk.cell for chunk in bare_chunks(ours)}
    new = set(find_markers(theirs).values()) - before - set(base.ids) - cells
    known = marked | (cells - bare) | new
    old = split_module(base.text, name, marked, derive_all=ours.derive_all)
    return old, split_module(theirs, name, known, derive_all=ours.derive_all)


# ## Proving it
# %% prove
def prove(pair: Pair, text: str, ids: Sequence[str]) -> None:
    """Raise if an edit is not in the module that the changed notebooks export to."""
    after = split_module(text, pair.name, ids, derive_all=pair.ours.derive_all)
    prove_derived(pair, after)
    if pair.is_alone:
        prove_same(pair, after)
    else:
        prove_added(pair, after)


def prove_same(pair: Pair, after: ModuleText) -> None:
    """Raise unless a module says what the edited one says."""
    wanted, found = (
        [line for line in words_of(code_of(one)) if not line.startswith("# %% ")]
        for one in (pair.theirs, after)
    )
    said = [paragraphs(one.docstring) for one in (pair.theirs, after)]
    if wanted == found and said[0] == said[1] and means_same(pair.theirs, after):
        return
    lines = zip([*wanted, said[0][0]], [*found, said[1][0]], strict=False)
    line = next((one for one, other in lines if one != other), said[0][0])
    raise lost_edit(pair, line)


def means_same(one: ModuleText, other: ModuleText) -> bool:
    """Is the code of two modules the same to Python? Their lines are."""
    left, right = texts_of(one), texts_of(other)
    trees = (
        parse_quietly("\n\n".join(text for text in mine if text not in others))
        for mine, others in ((left, set(right)), (right, set(left)))
    )
    dumps = {ast.dump(tree) for tree in trees}
    return len(dumps) == 1


UNDO = "undo it in the module, and make it in the notebook"


def lost_edit(pair: Pair, line: str, hint: str = UNDO) -> SyncError:
    """Return the error for a line of the module that would not come out again."""
    lines = [one.rstrip() for one in pair.text.split("\n")]
    number = lines.index(line.rstrip()) + 1 if line.rstrip() in lines else None
    message = f"this edit has no place in the notebook: `{line.strip()}`"
    return SyncError(message, at=Location(pair.name, line=number), hint=hint)


# %% prove_added
def prove_added(pair: Pair, after: ModuleText) -> None:
    """Raise unless all lines added to a cell's code have come out of that cell."""
    now = {part.id: Counter(words_of(part.text)) for part in after.parts}
    texts = [(one.id, pair.before.get(one.id, ""), one.text) for one in pair.pieces]
    texts.append(("", pair.base.imports.text, pair.theirs.imports.text))
    texts.append(("", code_of(pair.base), code_of(pair.theirs)))  # what is no cell's
    everything = Counter(words_of(code_of(after)))
    bare = {chunk.cell for chunk in bare_chunks(pair.ours)}
    for cell, old, new in texts:
        if cell in pair.decided or (not cell and pair.decided):
            continue
        added = Counter(words_of(new)) - Counter(words_of(old))
        found = now.get(cell, everything) if cell not in bare else everything
        for line in added - found:
            if not line.startswith("# %% "):
                raise lost_edit(pair, line)


# %% prove_derived
def prove_derived(pair: Pair, after: ModuleText) -> None:
    """Raise if an edit of the docstring or of something derived is lost."""
    before, wanted, found = (
        set(one.public or ()) for one in (pair.base, pair.theirs, after)
    )
    if (wanted - before) - found or (before - wanted) & found:
        hint = "`#| export` and `#| exporti` in the notebook decide what is in it"
        line = pair.text[: max(pair.text.find("\n__all__"), 0)].count("\n") + 2
        at = Location(pair.name, line=line)
        raise SyncError("`__all__` is derived, and was edited", at=at, hint=hint)
    old = (*pair.base.blocks, *after.blocks)
    known = {one for block in old for one in declared(block)}
    for block in pair.theirs.blocks:
        if not known.issuperset(declared(block)):
            lines = block.split("\n")
            new = [one for one in lines if one not in "\n".join(old).split("\n")]
            hint = "edit the method itself, which stands below"
            raise lost_edit(pair, [*new, lines[-1]][0], hint)
    for i, part in enumerate(paragraphs(pair.theirs.docstring)):
        now = paragraphs(after.docstring)[i]
        if part != paragraphs(pair.base.docstring)[i] and not pair.decided:
            lost = Counter(words_of(part)) - Counter(words_of(now))
            if lost:
                raise lost_edit(pair, next(iter(lost)))


def declared(block: str) -> list[str]:
    """Return what a block declares, however it is laid out, and its comments."""
    comments = re.findall(r"(?m)#.*$", block)
    tree = ast.parse(dedent(block)).body
    inner = [one for node in tree for one in getattr(node, "body", [node])]
    return [*map(ast.unparse, inner), *comments]


# ## All together
# %% Sync
@dataclass(slots=True)
class Sync:
    """One sync at work: the pairs, and the notebooks that were read, by name.

    `changed` are the notebooks' new bytes, where they are new.
    """

    run: Run
    take: Mapping[str, str]
    notebooks: dict[str, Notebook] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    changed: dict[str, bytes] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[LitmlError] = field(default_factory=list)

    def open(self, name: str) -> Notebook:
        """Return a notebook as it is by now."""
        if name not in self.notebooks:
            self.notebooks[name] = read_source(self.run.paths[name], name)
        return self.notebooks[name]

    @property
    def conflicts(self) -> list[tuple[Location, Conflict]]:
        """The conflicts of all pairs."""
        return [clash for pair in self.pairs for clash in pair.conflicts]


# %% collected
@contextmanager
def collected(sync: Sync, target: str = "") -> Iterator[None]:
    """Collect what is wrong with a module, at the line of its cell where possible."""
    run = sync.run
    try:
        yield
    except LitmlError as error:
        at = error.at or Location(run.project.name_of(run.path_of(target)))
        root, is_module = run.project.root, at.notebook.endswith(".py")
        line = at.line if is_module else None
        error.at = (line and locate(root, root / at.notebook, line)) or at
        if error.at != at:
            place = f"it stands in line {line} of {at.notebook}"
            error.hint = f"{place}; {error.hint}" if error.hint else place
        sync.problems.append(error)


# %% bring_home
def bring_home(sync: Sync, target: str) -> None:
    """Change, in memory, the notebooks of one edited module."""
    order = list(sync.run.paths)
    with collected(sync, target):
        names = sorted(sync.run.makers[target], key=order.index)
        notebooks = [sync.open(name) for name in names]
        pair = open_pair(sync.run, target, notebooks, sync.take)
        drop_derived(pair)
        follow_methods(pair)
        sync_docstring(pair)
        sync_cells(pair, sync_imports(pair))
        sync.pairs.append(pair)


# %% follow_names
def follow_names(sync: Sync, rename: bool) -> list[str]:
    """Rename what was renamed; return a line for each gone name that is still used."""
    if not any(pair.gone for pair in sync.pairs):
        return []
    from litml.uses import Gone, find_doors, find_uses, rename_uses

    found: dict[tuple[str, str], list[str]] = {}
    for pair in [one for one in sync.pairs if one.gone]:
        package = sync.run.project.package_dir.name
        module = f"{package}/{pair.target}".removesuffix(".py").replace("/", ".")
        cells = frozenset((chunk.notebook, chunk.cell) for chunk in pair.ours.chunks)
        names = frozenset(notebook.name for notebook in pair.notebooks)
        doors = find_doors(module, pair.gone, sync.run.project.root)
        gone = Gone(module, pair.gone, names, cells, doors)
        for name in sync.run.paths:
            path = sync.run.paths[name]
            notebook = sync.notebooks.get(name) or read_source(path, name)
            for cell, source in list(rename_uses(gone, notebook)) if rename else ():
                note_change(pair, notebook, cell, source)
                sync.notebooks[name] = notebook
            for old, places in find_uses(gone, notebook).items():
                found.setdefault((old, pair.gone[old]), []).extend(map(str, places))
    return [
        f"`{old}` {f'is now `{new}`' if new else 'has gone'},"
        f" but is still used at {'; '.join(places)}"
        for (old, new), places in sorted(found.items())
    ]


# %% export_all
Exported = tuple[str, list[str]]  # a module's text, and the ids of its cells


def export_all(sync: Sync, files: Mapping[str, bytes]) -> dict[str, Exported]:
    """Export changed notebooks from their new bytes, and prove each pair."""
    run, pairs = sync.run, {pair.target: pair for pair in sync.pairs}
    fresh: dict[str, tuple[Notebook, Share]] = {}
    found: dict[str, Exported] = {}
    with collected(sync):
        for name, data in files.items():
            fresh[name] = read(run, name, data)
            own = targets_of(run, fresh[name][1])
            run.entries[name] = replace(run.entries[name], targets=own)
    if sync.problems:
        return {}
    targets = {target for name in fresh for target in run.entries[name].targets}
    for target in sorted({*pairs, *targets} - {"", README}):
        names = [name for name in run.paths if name in run.makers[target]]
        with collected(sync, target):
            parts = [
                fresh.get(name) or read(run, name, sync.open(name).raw)
                for name in names
            ]
            if not any(c.module == target for _, share in parts for c in share.chunks):
                raise SyncError("no cell of this module would be left", hint=DELETE)
            found[target] = render_target(run, target, parts)
            if target in pairs:
                prove(pairs[target], *found[target])
    return found


DELETE = "delete the cells in the notebook, and then the file"


# %% stage_all
def stage_all(sync: Sync) -> dict[str, bytes]:
    """Stage all that changed; return the new bytes of the notebooks, by name."""
    run, pairs = sync.run, {pair.target for pair in sync.pairs}
    files = {name: one.to_bytes() for name, one in sync.notebooks.items()}
    changed = {name: x for name, x in files.items() if x != sync.notebooks[name].raw}
    for target, exported in export_all(sync, changed).items():
        run.force = target in pairs  # what it says is safe in the notebook
        stage_target(run, target, *exported)
    for name, data in changed.items():
        run.seen[run.paths[name]] = sync.notebooks[name].raw
        run.stage(run.paths[name], data)
    before = {run.path_of(pair.target): pair.text.encode() for pair in sync.pairs}
    before |= {run.paths[name]: one.raw for name, one in sync.notebooks.items()}
    for path, data in before.items():
        if is_other(path, data):
            sync.problems.append(overtaken_error(run.project.name_of(path)))
    return changed


def overtaken_error(name: str) -> SyncError:
    """Return the error for a file that was changed under our hands."""
    hint = "it was left as it is; run `litml sync` again"
    message = "changed while sync was at work"
    return SyncError(message, at=Location(name), hint=hint)


def is_other(path: Path, data: bytes) -> bool:
    """Has a file other text by now? Line ends and a byte order mark do not count."""
    try:
        now = path.read_bytes()
    except OSError:
        return True
    texts = [one.replace(b"\r\n", b"\n").removeprefix(MARK) for one in (now, data)]
    return texts[0] != texts[1]


MARK = b"\xef\xbb\xbf"


# %% sync_project
def sync_project(
    project: Project,
    *,
    take: Mapping[str, str] | None = None,
    rename: bool = False,
    check: bool = False,
) -> SyncReport:
    """Bring every edited module home, and export what else has changed.

    `take` decides conflicts: `ours` (the notebook) or `theirs` (the module), by cell
    id, or for all under the empty id. With `rename`, what was renamed in a module is
    renamed in all notebooks. With `check`, nothing is written, and `written` names what
    would be.
    """
    if project.nbdev:
        hint = "`nbdev-update` brings edits home in such a project"
        raise ConfigError("this project is configured for nbdev", hint=hint)
    run = start_run(project)
    if is_settled(run):
        if not check:
            renew(run)
        return SyncReport()
    if check:
        return sync_edited(Sync(run, take or {}), rename)
    with locked(run.notes_dir), Transaction(run.notes_dir) as transaction:
        run.record = load_record(run.notes_dir / RECORD, run.record.key)
        run.stage = transaction.stage
        sync = Sync(run, take or {})
        report = sync_edited(sync, rename)
        if not report.problems and not report.conflicts:
            report = finish(sync, report, transaction)
    return report


# %% sync_edited
def sync_edited(sync: Sync, rename: bool) -> SyncReport:
    """Bring home and stage; the caller commits, unless there are problems."""
    run = sync.run
    found = make_report(run, None)
    refused = list(run.refused.values())
    if broken := tuple(one for one in found.problems if one not in refused):
        return SyncReport(problems=broken)
    for target in sorted(run.refused):
        bring_home(sync, target)
    if not sync.problems and not sync.conflicts:
        sync.notes = follow_names(sync, rename)
        sync.changed = stage_all(sync)
    notes = [note for pair in sync.pairs for note in pair.notes]
    written = {run.project.name_of(run.path_of(target)) for target in run.pending}
    return SyncReport(
        tuple(change for pair in sync.pairs for change in pair.changes),
        tuple(sync.conflicts),
        tuple(sync.problems),
        (*notes, *sync.notes, *unused(sync)),
        tuple(sorted({*written, *sync.changed})) if not sync.problems else (),
    )


def finish(sync: Sync, report: SyncReport, transaction: Transaction) -> SyncReport:
    """Commit all files along with the record; raises `SyncError` if one has changed."""
    run = sync.run
    for name, data in sync.changed.items():
        status = transaction.look(run.paths[name])
        size, time = status.st_size, status.st_mtime_ns
        run.entries[name] = Entry(size, time, checksum(data), run.entries[name].targets)
    stale = tuple(find_stale(run))
    done = ExportReport(report.written, stale=stale, notes=tuple(run.notes))
    record = next_record(run, done, transaction)
    transaction.stage(run.notes_dir / RECORD, dump_record(record))
    try:
        transaction.commit(run.seen)
    except Overtaken as error:
        raise overtaken_error(run.project.name_of(error.path)) from error
    with suppress(OSError):
        leave_stamps(run, record)
    return replace(report, problems=stale)


def unused(sync: Sync) -> list[str]:
    """Return a line for each decision about a cell that has no conflict."""
    decided = {cell for pair in sync.pairs for cell in pair.decided}
    return [
        f"no conflict in a cell `{cell}`, so there was nothing to take"
        for cell in sync.take
        if cell and cell not in decided
    ]
