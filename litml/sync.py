# Exported from nbs/05d_sync.ipynb. Edit either side, then run `litml sync`.
"""Bring what was edited in a module home to its notebook."""

import io
import re
import tokenize
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha1
from pathlib import Path

from litml.cells import read_directives, split_head
from litml.edit import Conflict, Edit, Piece, apply_edits, merge_text, plan_edits
from litml.export import Chunk, Module, assemble, find_summary, read_share
from litml.files import Transaction, locked, state_dir
from litml.notebook import Cell, LitmlError, Location, Notebook, read_notebook
from litml.package import (
    Base,
    Run,
    committed_base,
    export_project,
    load_base,
    make_report,
    render_target,
    start_run,
)
from litml.parts import (
    ModuleText,
    find_markers,
    locate,
    parse_module,
    split_module,
)
from litml.project import Project
from litml.recover import names_in, recover_pieces

__all__ = ["SyncError", "Change", "SyncReport", "Pair", "sync_project"]


# %% SyncError
class SyncError(LitmlError):
    """An edit of a module that has no home in a notebook."""


# ## What happened
# %% Change
@dataclass(frozen=True, slots=True)
class Change:
    """What sync does to one cell: a word for it, and its text before and after."""

    at: Location
    what: str
    before: str = ""
    after: str = ""


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


# ## A module and its notebooks
# %% Pair
@dataclass(slots=True)
class Pair:
    """An edited module and the notebooks it belongs to.

    `gone` are names that the module no longer has, with what they were renamed to.
    """

    name: str
    target: str
    notebooks: list[Notebook]
    ours: Module
    base: ModuleText
    theirs: ModuleText
    base_text: str
    theirs_text: str
    changes: list[Change] = field(default_factory=list)
    conflicts: list[tuple[Location, Conflict]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    gone: dict[str, str] = field(default_factory=dict)

    def notebook_of(self, cell: str | None) -> Notebook:
        """Return the notebook that has a cell; the module's own if none has."""
        for notebook in self.notebooks:
            if any(one.id == cell for one in notebook.cells):
                return notebook
        return self.notebooks[0]


# %% find_base
def find_base(run: Run, target: str) -> Base | None:
    """Return what both sides began with, or None if nobody knows."""
    kept = load_base(run, target)
    log = state_dir(run.project.root).parent / "logs/HEAD"
    moved = not log.exists() or log.stat().st_mtime_ns > run.record.time
    return (
        (moved and committed_base(run, target)) or kept or committed_base(run, target)
    )


# %% open_pair
def open_pair(
    run: Run, target: str, notebooks: list[Notebook], take: Mapping[str, str]
) -> Pair:
    """Read both sides of a module; raises a `LitmlError` if they cannot be compared."""
    name = run.project.name_of(run.path_of(target))
    shares = [read_share(notebook, run.project) for notebook in notebooks]
    ours = assemble(target, shares)
    now, _ = render_target(run, target, list(zip(notebooks, shares, strict=True)))
    theirs = run.path_of(target).read_bytes().decode("utf-8").replace("\r\n", "\n")
    base = find_base(run, target)
    if base is None and take.get("") == "theirs":
        base = Base(tuple(chunk.cell for chunk in ours.chunks), now)
    if base is None:
        raise SyncError(
            "nobody knows what this module was like before it was edited",
            at=Location(name),
            hint="`--take module` makes the notebook say what the module says",
        )
    known = {*base.ids, *(chunk.cell for chunk in ours.chunks)}
    old = split_module(base.text, name, set(base.ids))
    parse_module(theirs, name)
    mine = set(find_markers(base.text).values()) - known
    new = split_module(theirs, name, {*known, *find_markers(theirs).values()} - mine)
    return Pair(name, target, notebooks, ours, old, new, base.text, theirs)


# ## What is derived
# %% check_headings
def check_headings(pair: Pair) -> None:
    """Raise if somebody wrote a heading into the module."""

    def headings(module: ModuleText) -> list[str]:
        parts = [module.imports, module.prelude, *module.parts]
        return [heading for part in parts for heading in part.headings]

    prose = {f"# {one}" for chunk in pair.ours.chunks for one in chunk.headings}
    for heading in headings(pair.theirs):
        if heading not in prose and heading not in headings(pair.base):
            line = pair.theirs_text.split("\n").index(heading) + 1
            hint = "edit the heading in the notebook"
            message = f"`{heading}` comes from the notebook's prose"
            raise SyncError(message, at=Location(pair.name, line=line), hint=hint)


# ## The docstring
# %% sync_docstring
def sync_docstring(pair: Pair) -> None:
    """Bring an edited docstring into the title cell, and into exported prose."""
    before, after = (
        paragraphs(module.docstring) for module in (pair.base, pair.theirs)
    )
    if before == after:
        return
    notebook = pair.notebooks[0]
    if before[0] != after[0]:
        cell = next((c for c in notebook.cells if c.source.startswith("# ")), None)
        if cell is None or cell.kind != "markdown" or not after[0]:
            hint = "give the notebook a title cell: `# Name` and `> a sentence`"
            raise no_home(pair, "the docstring has no title cell to live in", hint)
        set_summary(pair, notebook, cell, before[0], after[0])
    if before[1] != after[1]:
        said = read_directives(notebook, strict=False)
        prose = [
            cell
            for cell, directives in zip(notebook.cells, said, strict=True)
            if cell.kind == "markdown" and "export" in directives
        ]
        if len(prose) != 1:
            hint = "edit the markdown cells marked `#| export`"
            raise no_home(pair, "this part of the docstring has several homes", hint)
        set_prose(pair, notebook, prose[0], before[1], after[1])


# %% paragraphs
def paragraphs(docstring: str) -> tuple[str, str]:
    """Return a docstring's first paragraph on one line, and what follows it."""
    first, _, rest = docstring.strip().partition("\n\n")
    return " ".join(first.split()), rest.strip()


def no_home(pair: Pair, message: str, hint: str) -> SyncError:
    """Return the error for an edit at the top of the module."""
    return SyncError(message, at=Location(pair.name, line=2), hint=hint)


# %% set_summary
def set_summary(
    pair: Pair, notebook: Notebook, cell: Cell, before: str, after: str
) -> None:
    """Replace the quoted sentence of the title cell."""
    now = " ".join(find_summary(notebook).split())
    if now not in (before, after):
        reason = "both sides changed the docstring"
        at = Location(notebook.name, cell.id)
        pair.conflicts.append((at, Conflict(cell.id, reason, before, now, after)))
    elif now == before:
        quoted = re.compile(r"(?m)^> ?.+\n?(?:^> ?.+\n?)*")
        source, count = quoted.subn(lambda _: f"> {after}\n", cell.source + "\n", 1)
        if not count:
            title, _, below = cell.source.partition("\n")
            source = f"{title}\n\n> {after}\n\n{below.strip()}"
        note_change(pair, notebook, cell, source.rstrip("\n"))


def set_prose(
    pair: Pair, notebook: Notebook, cell: Cell, before: str, after: str
) -> None:
    """Merge an edit of the docstring into the markdown cell it comes from."""
    now = split_head(cell.source).body.strip()
    merged = merge_text(before, now, after)
    if merged is None:
        reason = "both sides changed the same lines"
        at = Location(notebook.name, cell.id)
        pair.conflicts.append((at, Conflict(cell.id, reason, before, now, after)))
    elif merged != now:
        note_change(pair, notebook, cell, with_body(cell, merged))


# %% with_body
def with_body(cell: Cell, body: str) -> str:
    """Return the cell's source with another body below its head."""
    head = split_head(cell.source)
    lines = cell.source.split("\n")[: head.body_line - 1]
    return "\n".join([*lines, body])


def note_change(pair: Pair, notebook: Notebook, cell: Cell, source: str) -> None:
    """Change a cell, and note that."""
    at = Location(notebook.name, cell.id)
    pair.changes.append(Change(at, "updated", cell.source, source))
    cell.source = source


# ## The imports
# %% sync_imports
def sync_imports(pair: Pair) -> None:
    """Bring edited imports into the cells of imports."""
    before, after = pair.base.imports.text, pair.theirs.imports.text
    lead = [c for c in pair.ours.chunks[: pair.ours.lead] if c.is_imports]
    now = "\n\n".join(chunk.code for chunk in lead)
    if before == after or now == after:
        return
    merged = merge_text(before, now, after)
    first = lead[0].cell if lead else "imports"
    notebook = pair.notebook_of(first)
    if merged is None:
        reason = "both sides changed the imports"
        at = Location(notebook.name, first)
        pair.conflicts.append((at, Conflict(first, reason, before, now, after)))
    elif not lead:
        insert_cell(pair, notebook, Piece("imports", merged), None)
    else:
        for chunk, text in zip(lead, share_out(lead, merged), strict=True):
            edit_cell(pair, chunk.cell, chunk.code, text)


# %% share_out
def share_out(lead: list[Chunk], merged: str) -> list[str]:
    """Cut the edited import block into a text for each cell of imports."""
    from difflib import SequenceMatcher

    old: list[str] = []
    owner: list[int] = []
    for i, chunk in enumerate(lead):
        lines = [*([""] if i else []), *chunk.code.split("\n")]
        old += lines
        owner += [i] * len(lines)
    new = merged.split("\n")
    texts: list[list[str]] = [[] for _ in lead]
    for tag, low, high, start, stop in SequenceMatcher(None, old, new).get_opcodes():
        for k in range(start, stop):
            place = low + (k - start) if tag == "equal" else max(low - 1, 0)
            place = min(place, high - 1) if tag == "replace" and high > low else place
            texts[owner[max(place, low) if tag != "insert" else place]].append(new[k])
    return ["\n".join(lines).strip("\n") for lines in texts]


# ## The cells
# %% sync_cells
def sync_cells(pair: Pair, take: Mapping[str, str]) -> None:
    """Bring changed, new, deleted and moved chunks into the notebooks' cells."""
    marked = [c for c in pair.ours.chunks if not is_bare(pair.ours, c)]
    base = {part.id: part.text for part in pair.base.parts}
    ours = [Piece(chunk.cell, chunk.code) for chunk in marked]
    parts = list(pair.theirs.parts)
    if pair.theirs.prelude.text:
        parts.insert(0, pair.theirs.prelude)
    pieces, notes = recover_pieces(parts, base, {piece.id for piece in ours})
    pair.notes += [f"{pair.name}: {note}" for note in notes]
    theirs = name_new(pair, pieces)
    refuse_heads(pair, theirs)
    old = [Piece(name, text) for name, text in base.items()]
    plan = plan_edits(old, ours, theirs, take)
    for clash in plan.conflicts:
        notebook = pair.notebook_of(clash.id)
        pair.conflicts.append((Location(notebook.name, clash.id), clash))
    if not pair.conflicts:
        for notebook in pair.notebooks:
            apply_to(pair, notebook, plan.edits)
        compare_names(pair, base, theirs)


# %% is_bare
def is_bare(module: Module, chunk: Chunk) -> bool:
    """Does the chunk stand above `__all__` without a marker?"""
    lead = module.chunks[: module.lead]
    return chunk in lead and chunk.is_imports and not module.chunks[0].is_docstring


# %% name_new
def name_new(pair: Pair, pieces: list[Piece]) -> list[Piece]:
    """Give every new piece an id that no cell of the notebooks has."""
    taken = {cell.id for notebook in pair.notebooks for cell in notebook.cells}
    taken |= {piece.id for piece in pieces}
    named = []
    for piece in pieces:
        if not piece.id:
            names = sorted(names_in(piece.text), key=piece.text.find)
            wanted = names[0].strip("_").replace("_", "-") if names else "new"
            if wanted in taken or not wanted:
                wanted = sha1(f"{pair.name}\n{piece.text}".encode()).hexdigest()[:8]
            piece = Piece(wanted, piece.text)
            taken.add(wanted)
        named.append(piece)
    return named


def refuse_heads(pair: Pair, pieces: list[Piece]) -> None:
    """Raise if a chunk begins with a directive: it would change what its cell means."""
    for piece in pieces:
        if split_head(piece.text).directives:
            at = Location(pair.name, piece.id)
            hint = "write directives in the notebook"
            raise SyncError("code that begins with a directive", at=at, hint=hint)


# %% apply_to
def apply_to(pair: Pair, notebook: Notebook, edits: list[Edit]) -> None:
    """Apply to one notebook the edits that are its."""
    ids = {cell.id: cell for cell in notebook.cells}
    mine = []
    for edit in edits:
        if edit.piece.id in ids:
            mine.append(edit)
        elif edit.action == "insert" and pair.notebook_of(edit.after) is notebook:
            lead = [c.cell for c in pair.ours.chunks[: pair.ours.lead]]
            after = edit.after or (lead[-1] if lead else None)
            mine.append(Edit("insert", edit.piece, after))
    for edit in mine:
        at = Location(notebook.name, edit.piece.id)
        cell = ids.get(edit.piece.id)
        before = split_head(cell.source).body if cell else ""
        after = "" if edit.action == "delete" else edit.piece.text
        pair.changes.append(Change(at, WORDS[edit.action], before, after))
    exported = {c.cell for c in pair.ours.chunks} | {e.piece.id for e in edits}

    def source_of(cell: Cell | None, piece: Piece) -> str:
        return (
            with_body(cell, piece.text) if cell else new_source(pair, notebook, piece)
        )

    def place_after(notebook: Notebook, at: int) -> int:
        if at < 0:  # below the title, if there is one
            return 1 if notebook.cells and notebook.cells[0].kind == "markdown" else 0
        at += 1
        while at < len(notebook.cells) and is_example(notebook.cells[at], exported):
            at += 1
        return at

    apply_edits(notebook, mine, source_of, place_after)


WORDS = {"change": "updated", "insert": "new", "delete": "deleted", "move": "moved"}


# %% is_example
def is_example(cell: Cell, exported: set[str]) -> bool:
    """Is it a code cell that is not exported, such as stand below a definition?"""
    return cell.kind == "code" and cell.id not in exported


def new_source(pair: Pair, notebook: Notebook, piece: Piece) -> str:
    """Return the source of a new cell: a directive that exports it, and its text."""
    names = names_in(piece.text)
    private = names and all(name.startswith("_") for name in names)
    word = "exporti" if private else "export"
    own = {
        chunk.module for chunk in pair.ours.chunks if chunk.notebook == notebook.name
    }
    elsewhere = pair.notebooks[0] is not notebook and len(own) > 1
    module = pair.target.removesuffix(".py").replace("/", ".")
    return f"#| {word}{f' {module}' if elsewhere else ''}\n{piece.text}"


def insert_cell(
    pair: Pair, notebook: Notebook, piece: Piece, after: str | None
) -> None:
    """Insert one new exported cell."""
    apply_to(pair, notebook, [Edit("insert", piece, after)])


def edit_cell(pair: Pair, cell: str, before: str, after: str) -> None:
    """Give a cell another text, or delete it if nothing is left of it."""
    if before != after:
        action = "change" if after.strip() else "delete"
        apply_to(pair, pair.notebook_of(cell), [Edit(action, Piece(cell, after))])


# %% compare_names
def compare_names(pair: Pair, base: dict[str, str], theirs: list[Piece]) -> None:
    """Find the names that have gone from the module: deleted, or renamed to another."""
    now = {name for piece in theirs for name in names_in(piece.text)}
    for name, text in base.items():
        gone = names_in(text) - now
        piece = next((piece for piece in theirs if piece.id == name), None)
        came = (names_in(piece.text) if piece else set()) - names_in(text)
        renamed = len(gone) == len(came) == 1
        pair.gone |= {old: min(came) if renamed else "" for old in gone}


# ## Where a name is still used
# %% find_uses
def find_uses(run: Run, pairs: list[Pair], notebooks: dict[str, Notebook]) -> list[str]:
    """Return a line for each name that has gone from a module but is used in cells."""
    gone = {old: new for pair in pairs for old, new in pair.gone.items()}
    exported = {chunk.cell for pair in pairs for chunk in pair.ours.chunks}
    places: dict[str, list[str]] = {}
    for name, path in run.paths.items() if gone else ():
        notebook = notebooks.get(name) or read_notebook(path, name)
        for cell in notebook.cells:
            for old in gone.keys() & set(re.findall(r"\w+", cell.source)):
                if cell.id not in exported:
                    places.setdefault(old, []).append(str(Location(name, cell.id)))
    return [
        f"`{old}` {f'is now `{gone[old]}`' if gone[old] else 'has gone'},"
        f" but is still used at {'; '.join(where)}"
        for old, where in sorted(places.items())
    ]


# %% rename_uses
def rename_uses(run: Run, pairs: list[Pair], notebooks: dict[str, Notebook]) -> None:
    """Replace renamed names in all cells that are not exported to those modules."""
    names = {old: new for pair in pairs for old, new in pair.gone.items() if new}
    exported = {chunk.cell for pair in pairs for chunk in pair.ours.chunks}
    for name, path in run.paths.items() if names else ():
        notebook = notebooks.get(name) or read_notebook(path, name)
        for cell in notebook.cells:
            rename = rename_code if cell.kind == "code" else rename_prose
            source = rename(cell.source, names)
            if cell.id not in exported and source != cell.source:
                note_change(pairs[0], notebook, cell, source)
                notebooks[name] = notebook


def rename_prose(source: str, names: Mapping[str, str]) -> str:
    """Replace names that stand alone between backticks."""
    return re.sub(
        r"`(\w+)(\(\))?`", lambda m: f"`{names.get(m[1], m[1])}{m[2] or ''}`", source
    )


def rename_code(source: str, names: Mapping[str, str]) -> str:
    """Replace names in code, token by token; code with magics is left alone."""
    lines = source.split("\n")
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return source
    for token in reversed(tokens):
        if token.type == tokenize.NAME and token.string in names:
            (row, start), (_, end) = token.start, token.end
            text = lines[row - 1]
            lines[row - 1] = text[:start] + names[token.string] + text[end:]
    return "\n".join(lines)


# ## Proving it
# %% prove
def prove(pair: Pair, run: Run) -> str:
    """Return the module the changed notebooks export to; raises if an edit is lost."""
    parts = [(one, read_share(one, run.project)) for one in pair.notebooks]
    text, ids = render_target(run, pair.target, parts)
    after = split_module(text, pair.name, set(ids))
    if pair.theirs.public != pair.base.public and set(after.public or ()) != set(
        pair.theirs.public or ()
    ):
        hint = "`#| export` and `#| exporti` in the notebook decide what is in it"
        above = pair.theirs_text[: pair.theirs_text.find("__all__")]
        at = Location(pair.name, line=above.count("\n") + 1)
        raise SyncError("`__all__` is derived, and was edited", at=at, hint=hint)
    added = lines_of(pair.theirs) - lines_of(pair.base)
    if lost := added - lines_of(after):
        line = next(iter(lost))
        number = [one.strip() for one in pair.theirs_text.split("\n")].index(line) + 1
        at = Location(pair.name, line=number)
        raise SyncError(f"this line has no home in a notebook: `{line}`", at=at)
    return text


def lines_of(module: ModuleText) -> Counter[str]:
    """Return the lines of a module that are code, and how often each is there."""
    texts = [module.imports.text, module.prelude.text, *(p.text for p in module.parts)]
    lines = [line.strip() for text in texts for line in text.split("\n")]
    return Counter(line for line in lines if line and not line.startswith("# %% "))


# ## All together
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
    renamed in all notebooks. With `check`, nothing is written.
    """
    state = state_dir(project.root)
    if check:
        return sync_edited(project, take or {}, rename, None)
    with locked(state), Transaction(state) as transaction:
        report = sync_edited(project, take or {}, rename, transaction)
        if report.problems or report.conflicts:
            return report
        transaction.commit()
    done = export_project(project)
    written = sorted({*report.written, *done.written})
    problems = (*done.problems, *done.stale)
    return SyncReport(report.changes, (), problems, report.notes, tuple(written))


# %% sync_edited
def sync_edited(
    project: Project,
    take: Mapping[str, str],
    rename: bool,
    transaction: Transaction | None,
) -> SyncReport:
    """Sync the modules that were edited, staging what is to be written."""
    run = start_run(project)
    found = make_report(run, None).problems
    if broken := tuple(one for one in found if one not in run.refused.values()):
        return SyncReport(problems=broken)
    notebooks: dict[str, Notebook] = {}
    pairs: list[Pair] = []
    problems: list[LitmlError] = []
    for target in sorted(run.refused):
        try:
            pairs.append(bring_home(run, target, notebooks, take))
        except LitmlError as error:
            problems.append(with_cell(run, error))
    conflicts = [clash for pair in pairs for clash in pair.conflicts]
    if rename and not problems and not conflicts:
        rename_uses(run, pairs, notebooks)
    notes = [note for pair in pairs for note in pair.notes]
    notes += find_uses(run, pairs, notebooks)
    if not problems and not conflicts:
        problems += stage_all(run, pairs, notebooks, transaction)
    changes = [change for pair in pairs for change in pair.changes]
    written = sorted({change.at.notebook for change in changes})
    return SyncReport(
        tuple(changes), tuple(conflicts), tuple(problems), tuple(notes), tuple(written)
    )


def with_cell(run: Run, error: LitmlError) -> LitmlError:
    """Return an error about a line of a module as one about the line of its cell."""
    at = error.at
    if at and at.line and at.notebook.endswith(".py"):
        root = run.project.root
        error.at = locate(root, root / at.notebook, at.line) or at
    return error


# %% bring_home
def bring_home(
    run: Run, target: str, notebooks: dict[str, Notebook], take: Mapping[str, str]
) -> Pair:
    """Change, in memory, the notebooks of one edited module."""
    order = {name: i for i, name in enumerate(run.paths)}
    names = sorted(run.makers[target], key=order.__getitem__)
    for name in names:
        if name not in notebooks:
            notebooks[name] = read_notebook(run.paths[name], name)
    pair = open_pair(run, target, [notebooks[name] for name in names], take)
    check_headings(pair)
    sync_docstring(pair)
    sync_imports(pair)
    sync_cells(pair, take)
    return pair


# %% stage_all
def stage_all(
    run: Run,
    pairs: list[Pair],
    notebooks: dict[str, Notebook],
    transaction: Transaction | None,
) -> list[LitmlError]:
    """Prove every pair and stage all that changed; return what is wrong."""
    problems: list[LitmlError] = []
    stage = transaction.stage if transaction else run.stage
    for pair in pairs:
        try:
            text = prove(pair, run)
            path = run.path_of(pair.target)
            refuse_changed(path, pair.theirs_text.encode(), pair.name)
            stage(path, text.encode())
        except LitmlError as error:
            problems.append(with_cell(run, error))
    for name, notebook in notebooks.items():
        refuse_changed(run.paths[name], notebook.raw, name)
        stage(run.paths[name], notebook.to_bytes())
    return problems


def refuse_changed(path: Path, read: bytes, name: str) -> None:
    """Raise if a file is no longer what was read."""
    if path.read_bytes().replace(b"\r\n", b"\n") != read.replace(b"\r\n", b"\n"):
        hint = "nothing was written; run `litml sync` again"
        raise SyncError("changed while sync was at work", at=Location(name), hint=hint)
