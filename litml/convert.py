# Exported from nbs/06d_convert.ipynb. Edit either side, then run `litml sync`.
"""Change an nbdev notebook where litml would read it differently, and nowhere else."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from litml.cells import (
    COMMENTS,
    Directive,
    DirectiveError,
    bound_names,
    check_directive,
    parse_code,
    read_directives,
    split_head,
)
from litml.dissect import is_same_code
from litml.export import Chunk, Share
from litml.nbdev import MARKS, drop_quarto_form, named_module
from litml.notebook import CELL_ID, Cell, Location, Notebook, free_name
from litml.pieces import Span, find_spans
from litml.project import Nbdev, Project

__all__ = ["Change", "rename_cells", "convert_doubles", "convert_notebook"]


# %% Change
@dataclass(frozen=True, slots=True)
class Change:
    """One thing that was changed, or that a person should look at: where, and what."""

    at: Location
    text: str

    def __str__(self) -> str:
        return f"{self.at}: {self.text}"


# ## The head of a cell
# %% edit_head
def edit_head(cell: Cell, language: str, lines: Mapping[int, tuple[str, str]]) -> None:
    """Change lines of a cell's head, by number from 1.

    Each has a directive to stand there, or an empty text for none, and a comment that
    goes below the head, or an empty text for none.
    """
    prefix = COMMENTS.get(language, "#")
    source = cell.source.split("\n")
    top = split_head(cell.source, language).body_line - 1
    head = []
    for number, line in enumerate(source[:top], start=1):
        directive = lines[number][0] if number in lines else line
        if number in lines and directive:
            mark = re.match(rf"\s*{re.escape(prefix)}\s*\|\s*", line)
            directive = (mark[0] if mark else "") + directive
        if directive or number not in lines:
            head.append(directive)
    comments = [f"{prefix} {lines[number][1]}" for number in lines if lines[number][1]]
    cell.source = "\n".join([*head, *comments, *source[top:]])


# %% is_known
def is_known(name: str, flags: Iterable[str], at: Location) -> bool:
    """Does litml know a directive of this name that needs no value?"""
    try:
        check_directive(Directive(name, "", 0), at, flags)
    except DirectiveError:
        return False
    return True


# %% convert_directive
def convert_directive(
    one: Directive, seen: bool, flags: Iterable[str], at: Location
) -> tuple[str, str] | None:
    """Return what becomes of a directive, and the comment it leaves.

    None if it stays as it is. `seen` tells whether nbdev obeyed it.
    """
    said = f"{one.name}: {one.value}" if one.value else one.name
    if one.name in (*MARKS, "default_exp"):
        if not seen:
            return "", said
        if "/" in one.value:
            return f"{one.name} {one.value.replace('/', '.')}", ""
    try:
        check_directive(one, at, flags)
    except DirectiveError:
        first, _, rest = one.value.partition(" ")
        if one.name == "eval" and first.lower() in ("true", "false"):
            return f"eval: {first.lower()}", rest.lstrip("# ")
        if one.value and is_known(one.name, flags, at):
            return one.name, one.value.lstrip("# ")
        return "", said
    return None


# %% describe
def describe(one: Directive, directive: str, comment: str, *, seen: bool) -> str:
    """Say what became of a directive."""
    said = f"`{one.name}: {one.value}`" if one.value else f"`{one.name}`"
    if not directive:
        reason = "litml does not know it" if seen else "nbdev did not obey it"
        return f"{said} is a comment now: {reason}"
    return f"{said} is `{directive}` now" + (", and a comment" if comment else "")


# %% nbdev_directives
def nbdev_directives(
    notebook: Notebook, project: Project
) -> list[dict[str, Directive]]:
    """Return the directives of every cell that nbdev obeyed when it exported.

    Without a `default_exp` it exported nothing that was meant for that module.
    """
    nbdev = project.nbdev or Nbdev(3)
    said = [
        drop_quarto_form(cell, directives, nbdev)
        for cell, directives in zip(
            notebook.cells, read_directives(notebook, strict=False), strict=True
        )
    ]
    if named_module(notebook, said, project):
        return said
    return [
        {
            name: one
            for name, one in directives.items()
            if name not in MARKS or one.value
        }
        for directives in said
    ]


# %% convert_heads
def convert_heads(
    notebook: Notebook, project: Project, flags: Iterable[str]
) -> Iterator[Change]:
    """Convert the heads of all code cells."""
    obeyed = nbdev_directives(notebook, project)
    for cell, seen in zip(notebook.cells, obeyed, strict=True):
        language = str(cell.metadata.get("language") or notebook.language)
        lines = {}
        head = split_head(cell.source, language).directives
        for one in head if cell.kind == "code" else ():
            at = Location(notebook.name, cell.id, one.line)
            found = convert_directive(one, one.name in seen, flags, at)
            if found is not None:
                lines[one.line] = found
                yield Change(at, describe(one, *found, seen=one.name in seen))
        if lines:
            edit_head(cell, language, lines)


# ## Cells that export
# %% calls_only
def calls_only(body: str) -> bool:
    """Does code do nothing but import from nbdev and call its exporter?"""
    try:
        nodes = parse_code(
            re.sub(r"^\s*!\s*nbdev_export\s*$", "", body, flags=re.M)
        ).body
    except SyntaxError:
        return False
    call = r"(?:nbdev\.)?(?:nbdev_export|notebook2script)\(.*\)"
    plain = re.compile(rf"(?:import|from) nbdev\b.*|{call}")
    return all(plain.fullmatch(ast.unparse(node)) for node in nodes)


# %% convert_exporters
def convert_exporters(notebook: Notebook) -> Iterator[Change]:
    """Remove cells that only call `nbdev_export`; mark others that call it."""
    for cell in list(notebook.cells):
        if cell.kind != "code" or not EXPORTER.search(cell.source):
            continue
        at = Location(notebook.name, cell.id)
        body = split_head(cell.source).body
        if calls_only(body):
            notebook.cells.remove(cell)
            yield Change(at, "removed: it did nothing but call nbdev's exporter")
        elif not re.search(r"^\s*#\s*\|\s*eval", cell.source, re.MULTILINE):
            cell.source = f"#| eval: false\n{cell.source}"
            yield Change(at, "calls nbdev's exporter, so it is not run any more")


EXPORTER = re.compile(
    r"\bnbdev_export\(|\bnotebook2script\(|^\s*!\s*nbdev_export\b", re.M
)


# ## Magics
# %% silence
def silence(cell: Cell, numbers: list[int]) -> None:
    """Make comments of some lines of a cell; drop them where that is other code."""
    lines = cell.source.split("\n")
    top = split_head(cell.source).body_line
    head = {n: ("", lines[n - 1].strip()) for n in numbers if n < top}
    rest = [line for n, line in enumerate(lines, 1) if n not in numbers]
    for n in (n for n in numbers if n >= top):
        lines[n - 1] = re.sub(r"^(\s*)", r"\1# ", lines[n - 1])
    cell.source = "\n".join(lines)
    edit_head(cell, "python", head)
    if not is_same_code(cell.source, "\n".join(rest)):
        cell.source = "\n".join(rest)


# %% convert_magics
def convert_magics(notebook: Notebook) -> Iterator[Change]:
    """Turn magic lines of exported cells into comments."""
    said = read_directives(notebook, strict=False)
    for cell, directives in zip(notebook.cells, said, strict=True):
        if cell.kind == "code" and directives.keys() & set(MARKS):
            lines = cell.source.split("\n")
            found = [n for n, line in enumerate(lines, 1) if MAGIC.match(line)]
            if found:
                silence(cell, found)
            for n in found:
                at = Location(notebook.name, cell.id, n)
                yield Change(at, f"`{lines[n - 1].strip()}` is no magic any more")


MAGIC = re.compile(r"\s*%")


# ## Ids and names
# %% rename_cells
def rename_cells(notebook: Notebook, taken: set[str]) -> Iterator[Change]:
    """Give exported cells new ids if theirs are taken, or cannot be ids at all.

    The ids of the others are added to `taken`.
    """
    said = read_directives(notebook, strict=False)
    ids = [cell.id for cell in notebook.cells]
    for cell, directives in zip(notebook.cells, said, strict=True):
        if cell.kind != "code" or not directives.keys() & set(MARKS):
            continue
        valid = CELL_ID.fullmatch(cell.id)
        if valid and cell.id not in taken and ids.count(cell.id) == 1:
            taken.add(cell.id)
            continue
        old, stem = (
            cell.id,
            re.sub(r"[^\w-]", "-", cell.id, flags=re.ASCII)[:58] or "cell",
        )
        cell.data["id"] = free_name(stem, {*taken, *ids})
        ids[ids.index(old)] = cell.id
        taken.add(cell.id)
        yield Change(Location(notebook.name, old), f"its id is `{cell.id}` now")


# %% find_doubles
def find_doubles(chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, frozenset[str]]]:
    """Yield chunks of one module that export names which later chunks export again."""
    later: set[str] = set()
    for chunk in reversed(list(chunks)):
        if doubled := later & set(chunk.names):
            yield chunk, frozenset(doubled)
        later |= set(chunk.names)


# %% split_body
def split_body(body: str, names: frozenset[str]) -> Iterator[tuple[str, bool]]:
    """Yield the code in parts that all or none define `names`, and whether they do."""
    lines, start = body.split("\n"), 0
    spans = find_spans(parse_code(body).body)

    def defines(span: Span) -> bool:
        return bool(names & {*bound_names(ast.Module([*span.nodes], []))})

    for doubled, run in groupby(spans, defines):
        last = [*run][-1]
        end = last.end if last is not spans[-1] else len(lines)
        yield "\n".join(lines[start:end]).strip("\n"), doubled
        start = end


# %% split_cell
def split_cell(cell: Cell, names: frozenset[str], ids: list[str]) -> list[Cell]:
    """Cut a cell so that the definitions of `names` stand alone, with `exporti`."""
    head = split_head(cell.source)
    bodies = list(split_body(head.body, names))
    if len(bodies) == 1:
        cell.source = INTERNAL.sub(r"\1exporti", cell.source, count=1)
        return [cell]
    above = cell.source.split("\n")[: head.body_line - 1]
    parts: list[Cell] = []
    for body, doubled in bodies:
        part = Cell({**cell.data}, "" if parts else cell.derived_id)
        text = "\n".join([*above, body])
        part.source = INTERNAL.sub(r"\1exporti", text, count=1) if doubled else text
        if parts and "id" in cell.data:
            part.data["id"] = free_name(cell.id, ids)
            ids.append(part.id)
        parts.append(part)
    for part in parts[:-1]:
        part.data |= {"outputs": [], "execution_count": None}
    return parts


INTERNAL = re.compile(r"^(\s*#\s*\|\s*)exports?\b", re.MULTILINE)


# %% convert_doubles
def convert_doubles(
    shares: Iterable[Share], notebooks: Mapping[str, Notebook]
) -> Iterator[Change]:
    """Mark what other cells of the module export again with `exporti`."""
    modules: dict[str, list[Chunk]] = {}
    for share in shares:
        for chunk in share.chunks:
            modules.setdefault(chunk.module, []).append(chunk)
    for chunk, names in (
        pair for one in modules.values() for pair in find_doubles(one)
    ):
        cells = notebooks[chunk.notebook].cells
        i = next(i for i, cell in enumerate(cells) if cell.id == chunk.cell)
        parts = split_cell(cells[i], names, [cell.id for cell in cells])
        cells[i : i + 1] = parts
        said = ", ".join(f"`{name}`" for name in sorted(names))
        cut = f", and the cell is cut into {len(parts)}" if len(parts) > 1 else ""
        yield Change(
            chunk.at(), f"{said} comes again later, so it is `exporti` here{cut}"
        )


# ## A whole notebook
# %% convert_notebook
def convert_notebook(
    notebook: Notebook, project: Project, flags: Iterable[str]
) -> list[Change]:
    """Convert a notebook of an nbdev project in place; return what was changed.

    `flags` are the project's test flags.
    """
    changes = [*convert_heads(notebook, project, tuple(flags))]
    changes += convert_exporters(notebook)
    if project.nbdev and project.nbdev.scrub_magics:
        changes += convert_magics(notebook)
    return [*changes, *rename_cells(notebook, set())]
