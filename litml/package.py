# Exported from nbs/04d_package.ipynb. Edit either side, then run `litml sync`.
"""Bring the package up to date with its notebooks: only what changed, and all of it
or nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from litml.files import (
    Overtaken,
    Transaction,
    WriteError,
    locked,
    move_notes,
    state_dir,
)
from litml.notebook import LitmlError, Location, Notebook, read_file
from litml.project import (
    TEXTS,
    ConfigError,
    Project,
    list_folders,
    list_notebooks,
)
from litml.record import (
    RECORD,
    Base,
    Entry,
    Record,
    base_path,
    checksum,
    dump_base,
    dump_record,
    exported_from,
    exporter_files,
    find_generated,
    is_same,
    load_record,
    look,
    record_key,
    refresh,
)
from litml.stamps import stamp, write_stamps
from litml.text import parse_source

if TYPE_CHECKING:
    import threading

    from litml.export import Share

__all__ = ["PackageError", "ExportReport", "export_project", "watch_project"]


# %% PackageError
class PackageError(LitmlError):
    """A file of the package that the notebooks cannot answer for."""


# ## The report
# %% ExportReport
@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export did: files written, and what is wrong.

    With problems, nothing was written, except that a `stale` module, which no notebook
    exports any more, does not keep the others from being written.
    """

    written: tuple[str, ...] = ()
    problems: tuple[LitmlError, ...] = ()
    stale: tuple[LitmlError, ...] = ()
    notes: tuple[str, ...] = ()


# ## One run
# %% Run
@dataclass(slots=True)
class Run:
    """One export in progress.

    `base` is the folder of the modules, `notes_dir` that of litml's own notes.
    `entries` and `files` are the notebooks and the written files of the next record;
    `makers` are the notebooks of each target, and `known` those by the last record.
    `pending` are the targets whose text is new, and `refused` those that somebody
    edited. `stage` does nothing in a check. `stamps` are of what else the run depends
    on, taken when it began, and `seen` is what files held that are to be replaced.
    """

    project: Project
    paths: dict[str, Path]
    base: Path
    record: Record
    notes_dir: Path
    stamps: list[str]
    force: bool = False
    stage: Callable[[Path, bytes], object] = lambda path, data: None
    rule: str = ""
    entries: dict[str, Entry] = field(default_factory=dict)
    makers: dict[str, list[str]] = field(default_factory=dict)
    known: dict[str, set[str]] = field(default_factory=dict)
    files: dict[str, Entry] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    seen: dict[Path, bytes | None] = field(default_factory=dict)
    refused: dict[str, LitmlError] = field(default_factory=dict)
    problems: list[LitmlError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def in_place(self) -> bool:
        """Does it write the project's own package, and not another folder?"""
        return self.base == self.project.package_dir

    def path_of(self, target: str) -> Path:
        """Return the path of a target: a module's file below the package, or README."""
        readme = self.project.config.readme
        return self.project.root / readme if target == README else self.base / target


README = "@readme"


# %% start_run
def start_run(project: Project, target: Path | None = None, force: bool = False) -> Run:
    """Return a run at its beginning, with the last record."""
    if not project.notebooks_dir.is_dir():
        hint = "make it, or name another: `notebooks = …` in [tool.litml]"
        message = f"there is no folder `{project.config.notebooks}`"
        raise ConfigError(message, at=Location("pyproject.toml"), hint=hint)
    base = target.resolve() if target else project.package_dir
    state = base / ".litml" if target else state_dir(project.root)
    if not target:
        move_notes(project.root, state)
    configured = [project.root / "pyproject.toml", project.root / "settings.ini"]
    folders = list_folders(project)
    texts = [path for folder in folders for path in folder.glob("*.[mp][dy]")]
    context = [*configured, *folders, *texts, *exporter_files()]
    stamps = [stamp(str(path)) for path in context]
    paths = {project.name_of(one): one for one in list_notebooks(project)}
    record = load_record(state / RECORD, record_key(project))
    return Run(project, paths, base, record, state, stamps, force)


# ## From notebooks to targets
# %% read
def read(run: Run, name: str, raw: bytes) -> tuple[Notebook, Share]:
    """Return a notebook, read from its bytes, and what it contributes."""
    from litml.export import read_share
    from litml.nbdev import docstring_rule, read_nbdev_share

    notebook = parse_source(raw, name)
    if not run.project.nbdev:
        return notebook, read_share(notebook, run.project)
    run.rule = run.rule or docstring_rule(run.project)
    return notebook, read_nbdev_share(notebook, run.project, run.rule)


# %% targets_of
def targets_of(run: Run, share: Share) -> tuple[str, ...]:
    """Return the targets of a share: its own module or an empty string, then others."""
    modules = list(dict.fromkeys(chunk.module for chunk in share.chunks))
    own = share.module if share.module in modules else ""
    others = [module for module in modules if module != own]
    if is_index(run, share.notebook):
        others.append(README)
    return (own, *others)


# %% is_index
def is_index(run: Run, name: str) -> bool:
    """Is it the notebook that the README is made from?"""
    if not (run.in_place and run.project.config.readme and name in run.paths):
        return False
    return run.paths[name].with_suffix("") == run.project.notebooks_dir / "index"


# %% render_target
def render_target(
    run: Run, target: str, parts: list[tuple[Notebook, Share]]
) -> tuple[str, list[str]]:
    """Return the text of a target, and the ids of the cells in it."""
    from litml.export import assemble, check_module, render_module
    from litml.nbdev import assemble_nbdev

    if target == README:
        from litml.readme import render_readme

        return render_readme(parts[0][0], run.project.config.test_flags), []
    shares = [share for _, share in parts]
    put_together = assemble_nbdev if run.project.nbdev else assemble
    text, starts = render_module(put_together(target, shares))
    ids = [chunk.cell for _, chunk in starts]
    if "patch" in text and not run.project.nbdev:
        from litml.patch import grow_classes

        text, starts = grow_classes(text, starts)
    check_module(text, starts, run.project.name_of(run.path_of(target)))
    return text, ids


# ## The base of an edit
# %% stage_base
def stage_base(run: Run, target: str, text: str, ids: list[str]) -> None:
    """Stage the copy of a module."""
    if run.in_place and target != README:
        copy = dump_base(Base(tuple(ids), text))
        run.stage(base_path(run.notes_dir, target), copy)


# ## May it be replaced?
# %% may_replace
def may_replace(run: Run, target: str, there: bytes) -> bool:
    """Is the text on disk an export, and so nobody's work?"""
    entry = run.record.files.get(target)
    if run.force or (entry and entry.checksum == checksum(there)):
        return True
    committed = committed_base(run, target) if run.in_place else None
    if committed:
        return checksum(committed.text.encode()) == checksum(there)
    return not (there.strip() or entry or committed_bytes(run, target).strip())


# %% committed_base
def committed_base(run: Run, target: str, commit: str = "HEAD") -> Base | None:
    """Return a target as committed, if the committed notebooks export to just that."""
    module = committed_bytes(run, target, commit)
    names = exported_from(module.decode(errors="replace"))
    blobs = read_commit(run, names, commit)
    if not names or len(blobs) < len(names):
        return None
    try:
        parts = [read(run, name, blobs[name]) for name in names]
        text, ids = render_target(run, target, parts)
    except LitmlError:
        return None
    if checksum(text.encode()) != checksum(module):
        return None
    return Base(tuple(ids), text)


def committed_bytes(run: Run, target: str, commit: str = "HEAD") -> bytes:
    """Return the file of a target as committed; nothing if it is not."""
    path = run.project.name_of(run.path_of(target))
    return read_commit(run, [path], commit).get(path, b"")


def read_commit(run: Run, names: Sequence[str], commit: str) -> dict[str, bytes]:
    """Return the files that a commit holds; none where there is no git."""
    if run.notes_dir.name == ".litml":
        return {}
    from litml.git import read_committed  # most exports ask git nothing

    return read_committed(run.project.root, names, commit)


# ## What is written
# %% stage_target
def stage_target(run: Run, target: str, text: str, ids: list[str]) -> None:
    """Stage the text of a target, unless it is there already or was edited."""
    path, data = run.path_of(target), text.encode(errors="replace")
    seen = look(path) or (0, 0)  # before it is read
    there = run.seen[path] = path.read_bytes() if path.is_file() else None
    wanted = checksum(data)
    run.files[target] = Entry(*seen, wanted)
    run.refused.pop(target, None)
    if there is not None and checksum(there) == wanted:
        if target in run.pending:  # a part of the text, when that was all we knew
            run.pending.remove(target)
            run.stage(path, there)
    elif there is not None and not may_replace(run, target, there):
        run.refused[target] = edited_error(run.project.name_of(path))
        return
    else:
        run.pending.add(target)
        run.stage(path, data)
    stage_base(run, target, text, ids)


def edited_error(name: str) -> PackageError:
    """Return the error for a module whose edit would be lost."""
    hint = "`litml sync` brings the edit home; `--force` throws it away"
    message = "edited since the last export, so it was not overwritten"
    return PackageError(message, at=Location(name), hint=hint)


# %% missing_inits
def missing_inits(run: Run, targets: Iterable[str]) -> set[str]:
    """Return the `__init__.py` that folders of modules lack and no notebook makes."""
    modules = [target for target in targets if target != README]
    folders = {parent for one in modules for parent in PurePosixPath(one).parents}
    wanted = {(folder / "__init__.py").as_posix() for folder in folders}
    return {one for one in wanted - {*modules} if not run.path_of(one).exists()}


# ## What changed
# %% survey
def survey(run: Run, progress: Callable[[int, int], None] | None) -> set[str]:
    """Read the notebooks that changed; return the targets that this may affect."""
    affected: set[str] = set()
    for name in run.record.notebooks.keys() & run.paths.keys():
        for target in filter(None, run.record.notebooks[name].targets):
            run.known.setdefault(target, set()).add(name)
    for count, (name, path) in enumerate(run.paths.items(), start=1):
        known = run.record.notebooks.get(name)
        if known and is_same(path, known, run.record):
            enter(run, name, known)
        else:
            affected.update(known.targets if known else ())
            with collect_problems(run):
                affected |= read_changed(run, name, path)
        if progress:
            progress(count, len(run.paths))
    for name in run.record.notebooks.keys() - run.paths.keys():
        affected.update(run.record.notebooks[name].targets)
    for target, entry in run.record.files.items():
        if not is_same(run.path_of(target), entry, run.record):
            affected.add(target)
    return (affected | run.makers.keys() - run.record.files.keys()) - {""}


@contextmanager
def collect_problems(run: Run) -> Iterator[None]:
    """Collect what is wrong in a notebook; a disk that is full ends the run."""
    try:
        yield
    except WriteError:
        raise
    except LitmlError as error:
        run.problems.append(error)


# %% enter
def enter(run: Run, name: str, entry: Entry) -> None:
    """Enter a notebook into the next record."""
    run.entries[name] = entry
    for target in entry.targets:
        if target:
            run.makers.setdefault(target, []).append(name)


# %% read_changed
def read_changed(run: Run, name: str, path: Path) -> set[str]:
    """Read one notebook, stage what is its alone so far, and return its targets."""
    status = look(path)
    raw = read_file(path, name)
    notebook, share = read(run, name, raw)
    targets = targets_of(run, share)
    enter(run, name, Entry(*(status or (0, 0)), checksum(raw), targets))
    if run.project.nbdev and not share.module and is_exporting(notebook):
        run.notes.append(f"{name} has no `default_exp`, so nothing is exported from it")
    for target in filter(None, targets):
        makers = {*run.makers.get(target, []), *run.known.get(target, ())}
        if makers == {name}:
            part = (notebook, share)
            stage_target(run, target, *render_target(run, target, [part]))
    return set(targets)


# %% is_exporting
def is_exporting(notebook: Notebook) -> bool:
    """Does any cell say `export`, without naming a module?"""
    from litml.cells import read_directives
    from litml.nbdev import MARKS

    said = read_directives(notebook, strict=False)
    marks = [one for cell in said for one in cell.values() if one.name in MARKS]
    return any(not mark.value for mark in marks)


# %% make_targets
def make_targets(run: Run, affected: Iterable[str]) -> None:
    """Make the affected targets that the survey could not finish by itself."""
    order = {name: i for i, name in enumerate(run.paths)}
    for target in sorted(affected):
        names = sorted(run.makers.get(target, []), key=order.__getitem__)
        if not names or (target in run.files and len(names) == 1):
            continue
        with collect_problems(run):
            parts = [read(run, name, run.paths[name].read_bytes()) for name in names]
            stage_target(run, target, *render_target(run, target, parts))


# ## Modules that nobody exports
# %% find_stale
def find_stale(run: Run) -> list[LitmlError]:
    """Return an error for each generated module that no notebook exports."""
    found = set(run.record.files) - run.makers.keys() - {README}
    if run.in_place:
        found |= find_generated(run.base, run.makers)
    return [
        PackageError(
            "no notebook exports this module any more",
            at=Location(run.project.name_of(run.path_of(target))),
            hint="delete it, or give it its notebook back",
        )
        for target in sorted(found)
        if run.path_of(target).exists()
    ]


# ## Exporting a project
# %% make_report
def make_report(run: Run, progress: Callable[[int, int], None] | None) -> ExportReport:
    """Run the export; the caller commits what was staged, if there is no problem."""
    affected = survey(run, progress)
    shared = {target for target, names in run.makers.items() if len(names) > 1}
    if not run.problems:
        make_targets(run, affected | shared - run.record.files.keys())
    for target in missing_inits(run, run.makers):
        run.pending.add(target)
        run.seen[run.path_of(target)] = None
        run.stage(run.path_of(target), b"")
    run.problems += run.refused.values()
    written = sorted(run.project.name_of(run.path_of(one)) for one in run.pending)
    stale = [] if run.problems else find_stale(run)
    return ExportReport(
        tuple(written), tuple(run.problems), tuple(stale), tuple(run.notes)
    )


# %% is_settled
def is_settled(run: Run) -> bool:
    """Is every notebook and every written file as the record says?"""
    record = run.record
    if not record.settled or record.notebooks.keys() != run.paths.keys():
        return False
    same = all(is_same(*pair, record) for pair in recorded_files(run, record))
    return same and not missing_inits(run, record.files)


def recorded_files(run: Run, record: Record) -> list[tuple[Path, Entry]]:
    """Return the path of every notebook and written file, and what is known of it."""
    notebooks = [(run.paths[name], entry) for name, entry in record.notebooks.items()]
    return [*notebooks, *((run.path_of(one), e) for one, e in record.files.items())]


# %% renew
def renew(run: Run) -> None:
    """Renew record and stamps of a settled project; that they age is no error."""
    with suppress(OSError, WriteError), locked(run.notes_dir):
        path = run.notes_dir / RECORD
        if load_record(path, run.record.key) == run.record:
            refresh(path, run.record)
            leave_stamps(run, run.record)


def leave_stamps(run: Run, record: Record) -> None:
    """Leave stamps of all that a settled project depends on; see `02a_stamps`."""
    if not record.settled:
        return
    files = recorded_files(run, record)
    folders = {run.base / os.path.dirname(target) for target in record.files}
    lines = [f"{entry.size} {entry.time} {path}" for path, entry in files]
    lines += [*run.stamps, *(stamp(str(one / "__init__.py")) for one in folders)]
    write_stamps(str(run.notes_dir / "stamps"), str(run.project.root), lines)


# %% export_project
def export_project(
    project: Project,
    *,
    target: Path | None = None,
    check: bool = False,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Export what changed; with `check`, say what would be written and write nothing.

    `force` overwrites modules that were edited. All problems in notebooks are returned
    together; raises `WriteError` if a file cannot be written.
    """
    run = start_run(project, target, force)
    if is_settled(run):
        if not check:
            renew(run)
        return ExportReport()
    if check:
        return make_report(run, progress)
    with locked(run.notes_dir), Transaction(run.notes_dir) as transaction:
        return write_package(start_run(project, target, force), transaction, progress)


# %% write_package
def write_package(
    run: Run, transaction: Transaction, progress: Callable[[int, int], None] | None
) -> ExportReport:
    """Make a run and commit its files, along with the next record."""
    run.stage = transaction.stage
    report = make_report(run, progress)
    if not report.problems:
        record = next_record(run, report, transaction)
        transaction.stage(run.notes_dir / RECORD, dump_record(record))
        try:
            transaction.commit(run.seen)
        except Overtaken as error:
            refused = edited_error(run.project.name_of(error.path))
            return ExportReport(problems=(refused,))
        with suppress(OSError):
            leave_stamps(run, record)
    return report


# %% next_record
def next_record(run: Run, report: ExportReport, transaction: Transaction) -> Record:
    """Return the record of a finished run, to be committed along with its files."""
    files = {
        target: entry
        for target, entry in run.record.files.items()
        if target in run.makers or run.path_of(target).exists()
    }
    for target, entry in run.files.items():
        status = transaction.look(run.path_of(target))
        now = Entry(status.st_size, status.st_mtime_ns, entry.checksum)
        files[target] = now if target in run.pending else entry
    settled, package = not report.stale, str(run.base)
    return Record(run.record.key, 0, settled, run.entries, files, package)


# ## Watching
# %% watch_project
def watch_project(
    project: Project,
    stop: threading.Event | None = None,
    saved: Callable[[list[Path]], object] = lambda paths: None,
) -> Iterator[ExportReport]:
    """Export now and after every change of a notebook, until `stop` is set.

    `saved` is called with the files that were saved, before they are exported.
    """
    from watchfiles import watch

    last = export_project(project)
    yield last
    for changes in watch(
        project.notebooks_dir,
        watch_filter=lambda _, path: path.endswith((".ipynb", *TEXTS)),
        stop_event=stop,
        raise_interrupt=True,
        rust_timeout=3000,
        yield_on_timeout=True,
    ):
        saved([Path(path) for _, path in changes])
        report = export_project(project)
        if report.written or str(report) != str(last):
            yield report
        last = report
