# Exported from nbs/05d_sync.ipynb. Edit either side, then run `litml sync`.
"""Bring what was edited in a module home to its notebook."""

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from litml.edit import Conflict
from litml.export import Module, assemble, read_share
from litml.files import Transaction, locked, state_dir
from litml.home import (
    Change,
    Pair,
    SyncError,
    bare_chunks,
    code_of,
    drop_derived,
    note_change,
    paragraphs,
    sync_cells,
    sync_docstring,
    sync_imports,
    words_of,
)
from litml.notebook import LitmlError, Location, Notebook
from litml.package import (
    README,
    Base,
    Run,
    committed_base,
    export_project,
    is_settled,
    load_base,
    make_report,
    read,
    read_committed,
    render_target,
    renew,
    start_run,
)
from litml.parts import (
    CONFLICT,
    ModuleText,
    find_markers,
    locate,
    parse_module,
    refuse_conflicts,
    split_module,
)
from litml.project import ConfigError, Project
from litml.text import parse_source, read_source
from litml.uses import Gone, find_uses, rename_uses

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


# ## The base
# %% find_base
def find_base(run: Run, target: str, ours: str, theirs: str) -> Base | None:
    """Return what both sides began with, or None if nobody knows."""
    kept = load_base(run, target)
    if kept and not head_moved(run):
        return kept
    head = committed_base(run, target) or committed_pair(run, target)
    found = [one for one in (head, kept) if one]
    return min(
        found,
        key=lambda one: distance(one.text, ours) + distance(one.text, theirs),
        default=None,
    )


def head_moved(run: Run) -> bool:
    """Was anything committed, pulled or checked out since the last export?"""
    if run.notes_dir.name == ".litml":
        return False
    above = run.notes_dir.parent
    log = (above.parent if above.name == "litml" else above) / "logs/HEAD"
    return not log.exists() or log.stat().st_mtime_ns > run.record.time


def distance(one: str, other: str) -> int:
    """Return how many lines are in one text only."""
    left, right = Counter(one.split("\n")), Counter(other.split("\n"))
    return ((left - right) + (right - left)).total()


# %% committed_pair
def committed_pair(run: Run, target: str) -> Base | None:
    """Return a module as committed, if that agrees with the notebooks it names."""
    name = run.project.name_of(run.path_of(target))
    root = run.project.root
    try:
        text = read_committed(root, [name])[name].decode("utf-8-sig")
        text = text.replace("\r\n", "\n")
        names = list(split_module(text, name, ()).notebooks)
        blobs = read_committed(root, names)
        parts = [read(run, one, blobs[one]) for one in names]
        again, ids = render_target(run, target, parts)
        same = contents(text, name, ids) == contents(again, name, ids)
    except (KeyError, UnicodeDecodeError, LitmlError):
        return None
    return Base(tuple(ids), text) if same else None


def contents(text: str, name: str, ids: Sequence[str]) -> object:
    """Return what a module's text says, apart from how it is put together."""
    module = split_module(text, name, ids)
    cells = [(part.id, part.text) for part in module.parts]
    imports = words_of(module.imports.text), module.prelude.text
    return paragraphs(module.docstring), module.public, imports, cells


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
        raise SyncError(
            "nobody knows what this module was like before it was edited",
            at=Location(name),
            hint="`--take module` makes the notebook say what the module says",
        )
    refuse_conflicts(theirs, name, base.text)
    refuse_merging(ours, base.text)
    if theirs.split("\n")[0] not in (base.text.split("\n")[0], now.split("\n")[0]):
        hint = "litml writes it; put the line back"
        raise SyncError("the first line was edited", at=Location(name), hint=hint)
    old, new = split_both(name, ours, base, theirs)
    owners = {share.notebook: share.module for share in shares}
    alone = contents(now, name, ids) == contents(base.text, name, base.ids)
    return Pair(name, theirs, target, notebooks, owners, ours, old, new, take, alone)


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
        raise SyncError(f"not UTF-8: {error}", at=Location(name)) from error
    if "\r" in text:
        line = text[: text.index("\r")].count("\n") + 1
        raise SyncError("a lone carriage return", at=Location(name, line=line))
    return text


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
    wanted, found = words_of(code_of(pair.theirs)), words_of(code_of(after))
    wanted, found = (
        [line for line in lines if not line.startswith("# %% ")]
        for lines in (wanted, found)
    )
    is_same = wanted == found
    if is_same and outline(pair.theirs) == outline(after):
        return
    lines = zip([*wanted, ""], [*found, ""], strict=False)
    line = next((one for one, other in lines if one != other), "")
    raise lost_edit(pair, line)


def outline(module: ModuleText) -> object:
    """Return what a module means: its syntax tree and its docstring."""
    return ast.dump(ast.parse(code_of(module))), paragraphs(module.docstring)


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
    known = {*pair.base.blocks, *after.blocks}
    lines = {line for block in known for line in block.split("\n")}
    for block in pair.theirs.blocks:
        if block not in known:
            new = [line for line in block.split("\n") if line not in lines]
            hint = "edit the method itself, which stands below"
            raise lost_edit(pair, [*new, block.split("\n")[-1]][0], hint)
    for i, part in enumerate(paragraphs(pair.theirs.docstring)):
        said = paragraphs(after.docstring)[i]
        if part != paragraphs(pair.base.docstring)[i] and not pair.decided:
            lost = Counter(words_of(part)) - Counter(words_of(said))
            if lost:
                raise lost_edit(pair, next(iter(lost)))


# ## All together
# %% Sync
@dataclass(slots=True)
class Sync:
    """One sync at work: the pairs, and the notebooks that were read, by name."""

    run: Run
    take: Mapping[str, str]
    notebooks: dict[str, Notebook] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
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


# %% bring_home
def bring_home(sync: Sync, target: str) -> None:
    """Change, in memory, the notebooks of one edited module."""
    order = list(sync.run.paths)
    names = sorted(sync.run.makers[target], key=order.index)
    try:
        notebooks = [sync.open(name) for name in names]
        pair = open_pair(sync.run, target, notebooks, sync.take)
        drop_derived(pair)
        sync_docstring(pair)
        sync_cells(pair, sync_imports(pair))
        sync.pairs.append(pair)
    except LitmlError as error:
        sync.problems.append(with_cell(sync.run, error))


def with_cell(run: Run, error: LitmlError) -> LitmlError:
    """Return an error about a line of a module as one about the line of its cell."""
    at = error.at
    if at and at.line and at.notebook.endswith(".py"):
        root = run.project.root
        error.at = locate(root, root / at.notebook, at.line) or at
    return error


# %% follow_names
def follow_names(sync: Sync, rename: bool) -> list[str]:
    """Rename what was renamed; return a line for each gone name that is still used."""
    found: dict[tuple[str, str], list[str]] = {}
    for pair in sync.pairs:
        if not pair.gone:
            continue
        package = sync.run.project.package_dir.name
        module = f"{package}/{pair.target}".removesuffix(".py").replace("/", ".")
        cells = frozenset((chunk.notebook, chunk.cell) for chunk in pair.ours.chunks)
        names = frozenset(notebook.name for notebook in pair.notebooks)
        gone = Gone(module, pair.gone, names, cells)
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
def export_all(sync: Sync, files: Mapping[str, bytes]) -> dict[str, str]:
    """Export notebooks from their new bytes and prove each pair; return the modules."""
    texts: dict[str, str] = {}
    run, pairs = sync.run, {pair.target: pair for pair in sync.pairs}
    changed = [name for name, data in files.items() if data != sync.open(name).raw]
    targets = {target for name in changed for target in run.entries[name].targets}
    for target in sorted({*pairs, *targets} - {"", README}):
        try:
            parts = []
            for name in [one for one in run.paths if one in run.makers[target]]:
                data = files.get(name) or sync.open(name).raw
                notebook = parse_source(data, name)
                parts.append((notebook, read_share(notebook, run.project)))
            text, ids = render_target(run, target, parts)
            if target in pairs:
                prove(pairs[target], text, ids)
                texts[target] = text
        except LitmlError as error:
            sync.problems.append(with_cell(run, error))
    return texts


# %% stage_all
def stage_all(sync: Sync, transaction: Transaction | None) -> list[str]:
    """Stage all that changed, and return the names of those files."""
    run, written = sync.run, []
    notebooks = {name: one.to_bytes() for name, one in sync.notebooks.items()}
    texts = export_all(sync, notebooks)
    files = {run.path_of(target): text.encode() for target, text in texts.items()}
    files |= {run.paths[name]: data for name, data in notebooks.items()}
    read = {run.path_of(pair.target): pair.text.encode() for pair in sync.pairs}
    read |= {run.paths[name]: one.raw for name, one in sync.notebooks.items()}
    for path, data in files.items() if not sync.problems else ():
        if path.read_bytes() != data:
            written.append(run.project.name_of(path))
            if transaction:
                transaction.stage(path, data)
    for path, data in read.items():
        if is_other(path, data):
            hint = "nothing was written; run `litml sync` again"
            at = Location(run.project.name_of(path))
            error = SyncError("changed while sync was at work", at=at, hint=hint)
            sync.problems.append(error)
    return written


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
    """Bring every edited module home, then export what else has changed.

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
        return sync_edited(project, take or {}, rename, None)
    state = state_dir(project.root)
    with locked(state), Transaction(state) as transaction:
        report = sync_edited(project, take or {}, rename, transaction)
        if report.problems or report.conflicts:
            return report
        transaction.commit()
    done = export_project(project)
    written = tuple(sorted({*report.written, *done.written}))
    return replace(report, problems=(*done.problems, *done.stale), written=written)


# %% sync_edited
def sync_edited(
    project: Project,
    take: Mapping[str, str],
    rename: bool,
    transaction: Transaction | None,
) -> SyncReport:
    """Sync the modules that were edited, staging what is to be written."""
    run = start_run(project)
    report = make_report(run, None)
    refused = list(run.refused.values())
    if broken := tuple(one for one in report.problems if one not in refused):
        return SyncReport(problems=broken)
    sync = Sync(run, take)
    for target in sorted(run.refused):
        bring_home(sync, target)
    notes = [note for pair in sync.pairs for note in pair.notes]
    written: list[str] = []
    if not sync.problems and not sync.conflicts:
        notes += follow_names(sync, rename)
        written = stage_all(sync, transaction)
    notes += unused(sync)
    changes = tuple(change for pair in sync.pairs for change in pair.changes)
    if transaction is None and not sync.problems:
        written = sorted({*written, *report.written})
    conflicts, problems = tuple(sync.conflicts), tuple(sync.problems)
    return SyncReport(changes, conflicts, problems, tuple(notes), tuple(written))


def unused(sync: Sync) -> list[str]:
    """Return a line for each decision about a cell that has no conflict."""
    decided = {cell for pair in sync.pairs for cell in pair.decided}
    return [
        f"no conflict in a cell `{cell}`, so there was nothing to take"
        for cell in sync.take
        if cell and cell not in decided
    ]
