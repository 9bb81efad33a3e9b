# Exported from nbs/05c_home.ipynb. Edit either side, then run `litml sync`.
"""Bring the edits of one module home to the cells they belong to."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from zlib import crc32

from litml.cells import parse_code, read_directives, split_head
from litml.edit import Conflict, Edit, Piece, apply_edits, merge_text, plan_edits
from litml.export import Chunk, Module
from litml.notebook import CELL_ID, Cell, LitmlError, Location, Notebook
from litml.parts import (
    ModuleText,
    Part,
    first_line,
    last_line,
    paragraphs,
    texts_of,
    with_body,
    words_of,
)
from litml.recover import (
    follow_ids,
    names_in,
    read_statements,
    recover_pieces,
    rename_patch,
    renamed_methods,
    trim,
)

__all__ = [
    "SyncError",
    "Change",
    "Pair",
    "bare_chunks",
    "drop_derived",
    "refuse_headings",
    "headings_of",
    "follow_methods",
    "sync_docstring",
    "find_title",
    "find_prose",
    "is_title",
    "sync_imports",
    "sync_cells",
]


# %% SyncError
class SyncError(LitmlError):
    """An edit of a module that has no home in a notebook."""


# %% Change
@dataclass(frozen=True, slots=True)
class Change:
    """What sync does to one cell: a word for it, and its text before and after."""

    at: Location
    what: str
    before: str = ""
    after: str = ""


# ## A pair
# %% Pair
@dataclass(slots=True)
class Pair:
    """An edited module and the notebooks it belongs to.

    `text` is the edited module; `owners` are the notebooks' own modules, by notebook.
    `take` decides conflicts by cell, or all under the empty id; `decided` are those it
    did. Is theirs `alone`, the notebooks being as they were? `pieces` are what theirs
    says of each cell and `before` what the base said; `gone` are the names that theirs
    no longer has, with what they were renamed to.
    """

    name: str
    text: str
    target: str
    notebooks: list[Notebook]
    owners: Mapping[str, str]
    ours: Module
    base: ModuleText
    theirs: ModuleText
    take: Mapping[str, str] = field(default_factory=dict)
    is_alone: bool = False
    changes: list[Change] = field(default_factory=list)
    conflicts: list[tuple[Location, Conflict]] = field(default_factory=list)
    decided: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    before: dict[str, str] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)

    @property
    def owner(self) -> Notebook:
        """The notebook whose own module it is, or the first that contributes."""
        own = [one for one in self.notebooks if self.owners[one.name] == self.target]
        return [*own, *self.notebooks][0]

    def homes(self) -> dict[str, Notebook]:
        """Return the notebook of each exported cell, by id."""
        by_name = {one.name: one for one in self.notebooks}
        return {chunk.cell: by_name[chunk.notebook] for chunk in self.ours.chunks}


def bare_chunks(module: Module) -> list[Chunk]:
    """Return the chunks of imports that stand above `__all__`, without markers."""
    if module.chunks and module.chunks[0].is_docstring:
        return []
    return [chunk for chunk in module.chunks[: module.lead] if chunk.is_imports]


# %% choose
def choose(
    pair: Pair,
    at: Location,
    texts: tuple[str, str, str],
    merge: Callable[[str, str, str], str | None] = merge_text,
) -> str:
    """Merge base, ours and theirs; a conflict is decided by `take`, or noted."""
    if (merged := merge(*texts)) is not None:
        return merged
    cell = at.cell or ""
    side = pair.take.get(cell, pair.take.get(""))
    if side is None:
        clash = Conflict(cell, "both sides changed the same lines", *texts)
        pair.conflicts.append((at, clash))
        return texts[1]
    pair.decided.add(cell)
    return texts[2] if side == "theirs" else texts[1]


# ## What is derived
# %% drop_derived
def drop_derived(pair: Pair) -> None:
    """Take derived lines out of the edited module; raises if there are new ones."""
    old = Counter(headings_of(pair.base))
    prose = {f"# {one}" for chunk in pair.ours.chunks for one in chunk.headings}
    refuse_headings(pair, prose | old.keys())
    code = {line for text in texts_of(pair.base) for line in text.split("\n")}
    bare = {f"# %% {chunk.cell}" for chunk in bare_chunks(pair.ours)}
    derived = {*old, *prose, *bare} - code
    missing = old - Counter(headings_of(pair.theirs))

    def clean(part: Part) -> Part:
        text, dropped = without_comments(part.text, derived)
        missing.subtract(dropped)
        return replace(part, text=text)

    pair.theirs = replace(
        pair.theirs,
        imports=clean(pair.theirs.imports),
        prelude=clean(pair.theirs.prelude),
        parts=tuple(clean(part) for part in pair.theirs.parts),
    )
    for heading in prose & (+missing).keys():
        pair.notes.append(f"{pair.name}: `{heading}` is the notebook's, and comes back")


def refuse_headings(pair: Pair, known: Collection[str]) -> None:
    """Raise if somebody wrote a heading into the module."""
    for heading in headings_of(pair.theirs):
        if heading not in known:
            at = Location(pair.name, line=pair.text.split("\n").index(heading) + 1)
            hint = "edit the heading in the notebook"
            message = f"`{heading}` comes from the notebook's prose"
            raise SyncError(message, at=at, hint=hint)


def headings_of(module: ModuleText) -> list[str]:
    """Return the headings that stand above the markers of a module."""
    parts = [module.imports, module.prelude, *module.parts]
    return [heading for part in parts for heading in part.headings]


# %% without_comments
def without_comments(text: str, unwanted: set[str]) -> tuple[str, list[str]]:
    """Return code without certain comments at its top level, and those it had."""
    lines = text.split("\n")
    if unwanted.isdisjoint(lines):
        return text, []
    inside: set[int] = set()
    for node in parse_code(text).body:
        inside.update(range(first_line(node) - 1, last_line(node)))
    outside = [i for i, line in enumerate(lines) if i not in inside]
    dropped = {i: lines[i] for i in outside if lines[i] in unwanted}
    kept = [line for i, line in enumerate(lines) if i not in dropped]
    return trim(kept), list(dropped.values())


# %% follow_methods
def follow_methods(pair: Pair) -> None:
    """Rename the patches of methods that were renamed in their class."""
    names = renamed_methods(pair.base.blocks, pair.theirs.blocks)
    for old, new in names.items():
        texts = [rename_patch(part.text, old, new) for part in pair.theirs.parts]
        pairs = list(zip(pair.theirs.parts, texts, strict=True))
        if sum(part.text != text for part, text in pairs) == 1:
            parts = tuple(replace(part, text=text) for part, text in pairs)
            pair.theirs = replace(pair.theirs, parts=parts)
            note = f"`{old}` is now `{new}` in its class, and so it is below"
            pair.notes.append(f"{pair.name}: {note}")


# ## The docstring
# %% sync_docstring
def sync_docstring(pair: Pair) -> None:
    """Bring an edited docstring into the title cell, and into exported prose."""
    before, after = (paragraphs(one.docstring) for one in (pair.base, pair.theirs))
    if before[0] != after[0]:
        set_summary(pair, find_title(pair, after[0]), before[0], after[0])
    if before[1] != after[1]:
        set_prose(pair, find_prose(pair), before[1], after[1])
    if before == after and pair.base.docstring != pair.theirs.docstring:
        pair.notes.append(f"{pair.name}: the layout of the docstring comes back")


def find_title(pair: Pair, after: str) -> Cell:
    """Return the cell of the docstring's first sentence, which is to be `after`."""
    title = next(filter(is_title, pair.owner.cells), None)
    if title and not after:
        hint = "delete the sentence in the title cell, and the docstring will go"
        raise no_home(pair, "the docstring was deleted, and not its cell", hint)
    if title is None or any(one.is_docstring for one in pair.ours.chunks[:1]):
        hint = "give the notebook a title cell: `# Name` and `> a sentence`"
        raise no_home(pair, "the docstring has no title cell to live in", hint)
    return title


def find_prose(pair: Pair) -> Cell:
    """Return the one cell of prose that the rest of the docstring comes from."""
    said = read_directives(pair.owner, strict=False)
    cells = [
        cell
        for cell, one in zip(pair.owner.cells, said, strict=True)
        if {"export", "exportd"} & one.keys() and cell.kind == "markdown"
    ]
    if len(cells) != 1 or any("exportd" in one for one in said):
        hint = "write it in one markdown cell that begins with `#| export`"
        raise no_home(pair, "this part of the docstring has no single home", hint)
    return cells[0]


def is_title(cell: Cell) -> bool:
    """Is it a markdown cell with a title?"""
    return cell.kind == "markdown" and cell.source.startswith("# ")


# %% no_home
def no_home(pair: Pair, message: str, hint: str) -> SyncError:
    """Return the error for an edit at the top of the module."""
    return SyncError(message, at=Location(pair.name, line=2), hint=hint)


# %% set_summary
def set_summary(pair: Pair, cell: Cell, before: str, after: str) -> None:
    """Replace the quoted sentence of the title cell."""
    now = paragraphs(pair.ours.docstring)[0]
    at = Location(pair.owner.name, cell.id)
    sentence = choose(pair, at, (before, now, after))
    if sentence == now:
        return
    title, line, below = cell.source.partition("\n")
    quoted = re.compile(r"(?m)^> ?.+(?:\n> ?.+)*")
    below, count = quoted.subn(lambda _: f"> {sentence}", below, count=1)
    if not count:
        below, line = f"\n> {sentence}\n\n{below.strip()}".rstrip(), "\n"
    note_change(pair, pair.owner, cell, f"{title}{line}{below}")


def set_prose(pair: Pair, cell: Cell, before: str, after: str) -> None:
    """Merge an edit of the docstring into the markdown cell it comes from."""
    now = split_head(cell.source).body.strip()
    merged = choose(pair, Location(pair.owner.name, cell.id), (before, now, after))
    if merged != now:
        note_change(pair, pair.owner, cell, with_body(cell, merged))


# %% note_change
def note_change(pair: Pair, notebook: Notebook, cell: Cell, source: str) -> None:
    """Change a cell, and note that."""
    at = Location(notebook.name, cell.id)
    pair.changes.append(Change(at, "updated", cell.source, source))
    cell.source = source


# ## The imports
# %% sync_imports
def sync_imports(pair: Pair) -> str:
    """Bring edited imports into the cells of imports.

    Returns what has no such cell to go to.
    """
    before, after = pair.base.imports.text, pair.theirs.imports.text
    bare = bare_chunks(pair.ours)
    now = "\n\n".join(chunk.code for chunk in bare)
    if words_of(after) in (words_of(before), words_of(now)):
        return ""
    if not bare and not before:
        return after
    home = (bare[0].notebook, bare[0].cell) if bare else (pair.owner.name,)
    merged = choose(pair, Location(*home), (before, now, after), merge_imports)
    if not bare:
        return merged
    for chunk, text in zip(bare, share_out(bare, merged), strict=True):
        if text != chunk.code:
            action = "change" if text else "delete"
            edit = Edit(action, Piece(chunk.cell, text or chunk.code))
            apply_plan(pair, [edit], [])
    return ""


# %% merge_imports
def merge_imports(base: str, ours: str, theirs: str) -> str | None:
    """Merge edited imports by lines, or else by statements; None if they conflict."""
    if (merged := merge_text(base, ours, theirs)) is not None:
        return merged
    old, here, there = (cut_imports(text) for text in (base, ours, theirs))
    keys = [trim(item.split("\n")) for item in here]
    added = [item for item in there if item not in old and item not in keys]
    removed = {item for item in old if item not in there}
    if any(item not in keys for item in removed) and added:
        return None
    merged_items = [item for item in keys if item not in removed]
    for item in added:
        above = there[: there.index(item)]
        places = [merged_items.index(one) for one in above if one in merged_items]
        merged_items.insert(max(places, default=-1) + 1, item)
    return "\n".join(merged_items)


def cut_imports(text: str) -> list[str]:
    """Return the statements of some code, each with the comments above it."""
    lines = text.split("\n")
    ends = [one.end for one in read_statements(text)]
    starts = [0, *ends]
    items = (trim(lines[a:b]) for a, b in zip(starts, [*ends, len(lines)], strict=True))
    return [item for item in items if item]


# %% share_out
def share_out(cells: Sequence[Chunk], merged: str) -> list[str]:
    """Cut the edited import block into a text for each cell of imports."""
    from difflib import SequenceMatcher

    old = [(i, item) for i, cell in enumerate(cells) for item in cut_imports(cell.code)]
    new = cut_imports(merged)
    matcher = SequenceMatcher(None, [item for _, item in old], new, autojunk=False)
    shares: list[list[str]] = [[] for _ in cells]
    for tag, low, _, start, stop in matcher.get_opcodes():
        for k in range(start, stop):
            place = low + (k - start if tag == "equal" else -(tag == "insert"))
            shares[old[max(place, 0)][0]].append(new[k])
    whole = [cut_imports(cell.code) for cell in cells]
    if len(cells) == 1 and shares[0] != whole[0]:
        return [merged]
    return [
        cell.code if share == items else "\n".join(share)
        for cell, share, items in zip(cells, shares, whole, strict=True)
    ]


# ## The cells
# %% sync_cells
def sync_cells(pair: Pair, above: str) -> None:
    """Bring changed, new, deleted and moved chunks into the notebooks' cells.

    `above` is code from the top of the module that needs a cell.
    """
    base = {part.id: part.text for part in pair.base.parts}
    bare = {chunk.cell for chunk in bare_chunks(pair.ours)}
    ours = {c.cell: c.code for c in pair.ours.chunks if c.cell not in bare}
    now = follow_ids(base, ours)
    base = {now.get(cell, cell): text for cell, text in base.items()}
    top = [Part("", above, 0), pair.theirs.prelude]
    parts = [replace(one, id=now.get(one.id, one.id)) for one in pair.theirs.parts]
    pieces, notes = recover_pieces([*top, *parts], base, set(ours))
    pair.notes += [f"{pair.name}: {note}" for note in notes]
    pair.pieces, pair.before = name_new(pair, pieces, base), base
    refuse_heads(pair)
    old = [Piece(cell, text) for cell, text in base.items()]
    new = [Piece(cell, text) for cell, text in ours.items()]
    plan = plan_edits(old, new, pair.pieces, pair.take)
    homes = pair.homes()
    for clash in plan.conflicts:
        where = homes.get(clash.id, pair.owner).name
        pair.conflicts.append((Location(where, clash.id), clash))
    if pair.take:
        found = {clash.id for clash in plan_edits(old, new, pair.pieces).conflicts}
        pair.decided |= found - {clash.id for clash in plan.conflicts}
    if not pair.conflicts:
        pair.gone = gone_names(pair, base)
        apply_plan(pair, plan.edits, [piece.id for piece in pair.pieces])


# %% name_new
def name_new(
    pair: Pair, pieces: Sequence[Piece], base: Mapping[str, str]
) -> list[Piece]:
    """Give every new piece an id that no cell of the notebooks has."""
    exported = {chunk.cell: chunk.code for chunk in pair.ours.chunks}
    new_here = {
        name: cell
        for cell, code in exported.items()
        if cell not in base
        for name in names_in(code)
    }
    taken = {cell.id for notebook in pair.notebooks for cell in notebook.cells}
    taken |= {*base, *exported}
    named: list[Piece] = []
    for piece in pieces:
        cell = piece.id
        if cell not in base and cell not in exported:
            same = {new_here[name] for name in names_in(piece.text) & new_here.keys()}
            same -= {one.id for one in [*pieces, *named]}
            if len(same) == 1:
                cell = same.pop()
            elif not cell or cell in taken:
                cell = free_id(pair, piece.text, taken)
        taken.add(cell)
        named.append(Piece(cell, piece.text))
    return named


def free_id(pair: Pair, text: str, taken: set[str]) -> str:
    """Return an id for a new cell."""
    statements = read_statements(text)
    named = (min(one.names) for one in statements if one.names)
    wanted = next(named, "code" if not is_imports(text) else "imports")
    wanted = wanted.strip("_").replace("_", "-")
    count = 0
    while wanted in taken or not CELL_ID.fullmatch(wanted):
        wanted = f"{crc32(f'{pair.name} {count} {text}'.encode()):08x}"
        count += 1
    return wanted


def is_imports(text: str) -> bool:
    """Does the code hold imports only?"""
    nodes = parse_code(text).body
    return all(isinstance(node, ast.Import | ast.ImportFrom) for node in nodes)


# %% refuse_heads
def refuse_heads(pair: Pair) -> None:
    """Raise if a piece would not all be the body of its cell."""
    for piece in pair.pieces:
        if split_head(piece.text).body != piece.text.rstrip():
            at = Location(pair.name, piece.id)
            hint = "write directives in the notebook"
            raise SyncError("code that begins with a directive", at=at, hint=hint)


# %% gone_names
def gone_names(pair: Pair, base: Mapping[str, str]) -> dict[str, str]:
    """Return the names the edited module lacks, with what they were renamed to."""
    now = {piece.id: piece.text for piece in pair.pieces}
    gone: dict[str, str] = {}
    for cell, before in base.items():
        if before != now.get(cell):
            lost = names_in(before) - names_in(now.get(cell, ""))
            came = names_in(now.get(cell, "")) - names_in(before)
            renamed = len(lost) == len(came) == 1
            gone |= {old: min(came) if renamed else "" for old in lost}
    if not gone:
        return {}
    text = "\n".join([pair.theirs.imports.text, *now.values()])
    kept = names_in(text) | imported_names(text)
    return {old: new for old, new in gone.items() if old not in kept}


def imported_names(text: str) -> set[str]:
    """Return the names that code imports at its top level."""
    nodes = parse_code(text).body
    imports = [one for one in nodes if isinstance(one, ast.Import | ast.ImportFrom)]
    return {alias.asname or alias.name for one in imports for alias in one.names}


# ## Into the notebooks
# %% apply_plan
def apply_plan(pair: Pair, edits: Iterable[Edit], order: Sequence[str]) -> None:
    """Apply edits to the notebooks; `order` are the ids as theirs has them."""
    homes = pair.homes()
    exported = set(homes)
    lead = [chunk.cell for chunk in pair.ours.chunks[: pair.ours.lead]]
    shares: dict[str, list[Edit]] = {}
    for edit in edits:
        cell, after = edit.piece.id, edit.after
        if edit.action == "insert":
            first = homes[lead[-1]] if lead else pair.owner
            home = homes.setdefault(cell, homes.get(after or "", first))
        else:
            home = homes[cell]
        if edit.action == "move":
            above = order[: order.index(cell)]
            beside = [i for i in above if i in exported and homes[i] is home]
            after = beside[-1] if beside else None
        if edit.action in ("move", "insert") and after is None:
            after = next((i for i in reversed(lead) if homes[i] is home), None)
        shares.setdefault(home.name, []).append(Edit(edit.action, edit.piece, after))
    for notebook in pair.notebooks:
        apply_to(pair, notebook, shares.get(notebook.name, []))


# %% apply_to
def apply_to(pair: Pair, notebook: Notebook, edits: Sequence[Edit]) -> None:
    """Apply to one notebook the edits that are its."""
    cells = {cell.id: cell for cell in notebook.cells}
    for edit in edits:
        at = Location(notebook.name, edit.piece.id)
        cell = cells.get(edit.piece.id)
        before = split_head(cell.source).body if cell else ""
        after = "" if edit.action == "delete" else edit.piece.text
        pair.changes.append(Change(at, WORDS[edit.action], before, after))
        if edit.action == "move" and (left := examples_of(notebook, edit.piece.id)):
            pair.notes.append(f"{at}: moved, its examples were not: {', '.join(left)}")

    def source_of(cell: Cell | None, piece: Piece) -> str:
        if cell:
            return with_body(cell, piece.text)
        return new_source(pair, notebook, piece)

    def place_after(notebook: Notebook, at: int) -> int:
        said = read_directives(notebook, strict=False)
        at = at + 1 if at >= 0 else top_of(pair, notebook)
        while at < len(said) and is_example(notebook.cells[at], said[at]):
            at += 1
        return at

    apply_edits(notebook, edits, source_of, place_after)


WORDS = {"change": "updated", "insert": "new", "delete": "deleted", "move": "moved"}


# %% is_example
def is_example(cell: Cell, said: Collection[str]) -> bool:
    """Is it a code cell that is not exported, such as stand below a definition?"""
    words = {"export", "exporti", "exports"}
    return cell.kind == "code" and words.isdisjoint(said)


def examples_of(notebook: Notebook, name: str) -> list[str]:
    """Return the ids of the examples that stand below a cell."""
    said = read_directives(notebook, strict=False)
    at = [cell.id for cell in notebook.cells].index(name) + 1
    below = list(zip(notebook.cells, said, strict=True))[at:]
    return [cell.id for cell, one in takewhile(lambda c: is_example(*c), below)]


def top_of(pair: Pair, notebook: Notebook) -> int:
    """Return the index at which the module's cells begin in a notebook."""
    if pair.owners[notebook.name] == pair.target:
        return 1 if notebook.cells and notebook.cells[0].kind == "markdown" else 0
    mine = {chunk.cell for chunk in pair.ours.chunks if chunk.notebook == notebook.name}
    found = [i for i, cell in enumerate(notebook.cells) if cell.id in mine]
    return min(found, default=len(notebook.cells))


def new_source(pair: Pair, notebook: Notebook, piece: Piece) -> str:
    """Return the source of a new cell: a directive that exports it, and its text."""
    names = names_in(piece.text)
    private = names and all(name.startswith("_") for name in names)
    module = pair.target.removesuffix(".py").replace("/", ".")
    target = "" if pair.owners[notebook.name] == pair.target else f" {module}"
    return f"#| {'exporti' if private else 'export'}{target}\n{piece.text}"
