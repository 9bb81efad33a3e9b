# Exported from nbs/04a_nbdev.ipynb. Edit either side, then run `litml sync`.
"""Export the notebooks of a project that is configured for nbdev, as its own nbdev
would.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from litml.cells import (
    Directive,
    is_patch,
    listed,
    parse_code,
    read_directives,
    split_head,
)
from litml.export import (
    Chunk,
    ExportError,
    Module,
    Share,
    compile_chunk,
    is_plain,
    plain_names,
    refuse_other_owner,
)
from litml.notebook import Cell, Location, Notebook
from litml.project import Nbdev, Project, module_path

__all__ = [
    "docstring_rule",
    "read_nbdev_share",
    "named_chunks",
    "is_documentation",
    "assemble_nbdev",
]


# ## Cells
# %% read_cell
def read_cell(cell: Cell, notebook: Notebook, nbdev: Nbdev) -> tuple[int, str]:
    """Return the line at which a cell's code begins, and the code."""
    language = str(cell.metadata.get("language") or notebook.language)
    head = split_head(cell.source, language)
    code = "\n".join([*head.magics, head.body])
    if nbdev.scrub_magics and cell.kind == "code":
        code = re.sub(r"(?m)^\s*(%%|%).*\n?", "", code)
    return head.body_line - len(head.magics), code


def blacken(code: str) -> str:
    """Return code as black formats it, or as it is if black cannot."""
    try:
        import black
    except ImportError:
        return code
    try:
        return black.format_str(code, mode=black.Mode()).strip()
    except Exception:  # nbdev passes over whatever black raises, and so must this
        return code


# %% drop_quarto_form
def drop_quarto_form(
    cell: Cell, said: dict[str, Directive], nbdev: Nbdev
) -> dict[str, Directive]:
    """Return what nbdev 2 sees of a cell's directives, or all of them for nbdev 3."""
    if nbdev.major > 2:
        return said
    lines = cell.source.split("\n")
    form = re.compile(r"\s*#\s*\|\s*[^\s:]+:\s*\S")
    return {
        name: one
        for name, one in said.items()
        if one.line and not form.match(lines[one.line - 1])
    }


# %% nbdev_names
def nbdev_names(tree: ast.Module) -> list[str]:
    """Return the names that nbdev would put into `__all__` for this code."""
    assigned: list[str] = []
    defined: list[str] = []
    extra: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = list(one_level(node))
            assigned += targets
            if targets[:1] == ["_all_"] and node.value:
                extra += listed(node.value)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            plain = [one for one in node.decorator_list if not is_attribute(one)]
            bare = ast.ClassDef(node.name, [], [], [], decorator_list=plain)
            defined += [] if is_patch(bare) else [node.name]
    public = [name for name in assigned + defined if not name.startswith("_")]
    return list(dict.fromkeys([*public, *extra]))


# %% one_level
def one_level(node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> Iterator[str]:
    """Yield the names of an assignment's targets, looking into one level of tuples."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        for item in getattr(target, "elts", [target]):
            if isinstance(item, ast.Name):
                yield item.id


# %% is_attribute
def is_attribute(decorator: ast.expr) -> bool:
    """Is the decorator an attribute, such as `@fc.patch`, called or not?"""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(called, ast.Attribute)


# ## Chunks
# %% named_module
def named_module(
    notebook: Notebook, said: list[dict[str, Directive]], project: Project
) -> str:
    """Return the file that the notebook's last `default_exp` names, or nothing."""
    own = ""
    for cell, directives in zip(notebook.cells, said, strict=True):
        found = directives.get("default_exp")
        if found and found.value and cell.kind == "code":
            at = Location(notebook.name, cell.id, found.line or None)
            own = module_path(project, found.value, at)
    return own


# %% cell_chunks
def cell_chunks(
    cell: Cell, said: dict[str, Directive], notebook: Notebook, project: Project
) -> Iterator[tuple[str, Chunk]]:
    """Yield a code cell's chunks, each with the module it names or an empty string."""
    marks = [one for name, one in said.items() if name in MARKS]
    if cell.kind != "code" or not marks:
        return
    nbdev = project.nbdev or Nbdev(3)
    line, code = read_cell(cell, notebook, nbdev)
    marker = re.sub(r"[^\w-]", "-", cell.id)
    if "exportd" in said:
        code = ""
    elif nbdev.black:
        code = blacken(code)
    chunk = with_names(Chunk(notebook.name, marker, line, "", code.strip("\n")))
    for mark in marks:
        public = mark.name != "exporti"
        yield mark.value, chunk if public else replace(chunk, names=())


MARKS = ("export", "exports", "exporti")


# %% chunk_names
def with_names(chunk: Chunk) -> Chunk:
    """Return a chunk with what it adds to `__all__`, and whether it compiles."""
    try:
        code = compile_chunk(chunk)
    except ExportError:
        return replace(chunk, names=chunk_names(chunk))
    if not is_plain(chunk.code):
        return replace(chunk, names=chunk_names(chunk), is_checked=True)
    names = [name for name in plain_names(code) if not name.startswith("_")]
    return replace(chunk, names=tuple(names), is_checked=True)


def chunk_names(chunk: Chunk) -> tuple[str, ...]:
    """Return what a chunk adds to `__all__`: nothing if it does not parse."""
    if chunk.code.lstrip().startswith(("%", "!")):
        return ()
    try:
        return tuple(nbdev_names(parse_code(chunk.code)))
    except SyntaxError:
        return ()


# ## The docstring
# %% docstring_rule
def docstring_rule(project: Project) -> str:
    """Return which nbdev's docstrings the project has: `3`, `2.4` or `2.3`.

    A `settings.ini` does not say which nbdev 2 goes with it; its modules do.
    """
    if project.nbdev and project.nbdev.major > 2:
        return "3"
    generated = False
    for path in sorted(project.package_dir.rglob("*.py")):
        text = path.read_text("utf-8", errors="replace")
        if "AUTOGENERATED! DO NOT EDIT! File to edit:" in text[:300]:
            generated = True
            if text.startswith(('"""', 'r"""')) and "_doc_" not in text:
                return "2.4"
    return "2.3" if generated else "2.4"


# %% nbdev_docstring
def nbdev_docstring(
    notebook: Notebook,
    said: list[dict[str, Directive]],
    project: Project,
    rule: str,
    chunks: list[Chunk],
) -> str:
    """Return the docstring of the notebook's own module, or nothing."""
    if rule == "2.3":
        return variable_docstring([c for c in chunks if c.module == chunks[0].module])
    nbdev = project.nbdev or Nbdev(3)
    pages = [cell for cell in notebook.cells if cell.kind == "markdown"]
    texts = (read_cell(cell, notebook, nbdev)[1].lstrip("\n") for cell in pages)
    title = next((text for text in texts if text.startswith("# ")), None)
    if title is None:
        return ""
    quoted = quoted_lines(title)
    if rule == "2.4":
        return quoted[0] if quoted else ""
    parts = filter(None, documentation(notebook, said, nbdev))
    text = "\n\n".join(["\n".join(quoted), *parts]).strip()
    address = page_address(notebook.name, project)
    return f"{text}\n\nDocs: {address}".strip() if address else text


def documentation(
    notebook: Notebook, said: list[dict[str, Directive]], nbdev: Nbdev
) -> Iterator[str]:
    """Yield the prose and the code that nbdev 3 adds to a docstring."""
    for cell, directives in zip(notebook.cells, said, strict=True):
        if cell.kind == "markdown" and directives.keys() & {"export", "exportd"}:
            yield read_cell(cell, notebook, nbdev)[1].strip("\n").rstrip()
        elif cell.kind == "code" and "exportd" in directives:
            yield fence(read_cell(cell, notebook, nbdev)[1].rstrip())


# %% quoted_lines
def quoted_lines(markdown: str) -> list[str]:
    """Return the first run of lines that begin with `> `, without the marks."""
    lines = markdown.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("> ")), None)
    quoted = []
    for line in lines[first:] if first is not None else []:
        if not line.startswith("> "):
            break
        quoted.append(line.lstrip("> ").strip())
    return quoted


# %% fence
def fence(code: str) -> str:
    """Return code in a Markdown fence longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}python\n{code}\n{ticks}"


# %% page_address
def page_address(name: str, project: Project) -> str:
    """Return the address of a notebook's page in nbdev's documentation, or nothing."""
    if not (project.nbdev and project.nbdev.docs):
        return ""
    path = Path(project.root, name).relative_to(project.notebooks_dir)
    stem = re.sub(r"^\d+[a-zA-Z0-9]*_", "", path.stem.lower())
    return f"{project.nbdev.docs}/{path.with_name(stem).as_posix()}.html.md"


# %% variable_docstring
def variable_docstring(chunks: list[Chunk]) -> str:
    """Return the value of the first `_doc_ = "…"` in the chunks."""
    for chunk in chunks:
        if "_doc_" in chunk.code and chunk.is_checked:
            for node in ast.parse(chunk.code).body:
                if isinstance(node, ast.Assign) and list(one_level(node)) == ["_doc_"]:
                    return str(ast.literal_eval(node.value))
    return ""


# ## A notebook's share
# %% read_nbdev_share
def read_nbdev_share(notebook: Notebook, project: Project, rule: str) -> Share:
    """Read what an nbdev notebook contributes; `rule` is that of `docstring_rule`."""
    nbdev = project.nbdev or Nbdev(3)
    said = [
        drop_quarto_form(cell, directives, nbdev)
        for cell, directives in zip(
            notebook.cells, read_directives(notebook, strict=False), strict=True
        )
    ]
    own = named_module(notebook, said, project)
    found: dict[str, list[Chunk]] = {}
    for cell, directives in zip(notebook.cells, said, strict=True):
        if is_documentation(cell, directives, nbdev) and rule != "2.3":
            found.setdefault("", [])
        for name, chunk in cell_chunks(cell, directives, notebook, project):
            found.setdefault(name, []).append(replace(chunk, module=own or ""))
    chunks = found.get("", []) if own else []
    for name, chunk in named_chunks(found, own):
        path = module_path(project, name, chunk.at())
        chunks.append(replace(chunk, module=path))
    docstring = nbdev_docstring(notebook, said, project, rule, chunks)
    return Share(notebook.name, own, docstring, tuple(chunks))


def named_chunks(
    found: dict[str, list[Chunk]], own: str
) -> Iterator[tuple[str, Chunk]]:
    """Yield the chunks for modules that cells name, with these names.

    Without a module of its `own`, a notebook loses what stands below the first cell
    that is for it.
    """
    for name, chunks in found.items():
        if name:
            yield from ((name, chunk) for chunk in chunks)
        elif not own:
            return


def is_documentation(cell: Cell, said: dict[str, Directive], nbdev: Nbdev) -> bool:
    """Does nbdev keep the cell for the docstring of the notebook's own module?"""
    marked = nbdev.major > 2 and said.keys() & {"export", "exportd"}
    if cell.kind == "code":
        return bool(marked) and "exportd" in said
    text = read_cell(cell, Notebook("", {}, [], b""), nbdev)[1].lstrip("\n")
    return cell.kind == "markdown" and (text.startswith("# ") or bool(marked))


# ## A module
# %% assemble_nbdev
def assemble_nbdev(path: str, shares: list[Share]) -> Module:
    """Put the module at `path` together as nbdev does."""
    owner = refuse_other_owner(path, shares)
    ordered = [share for share in shares if share is not owner]
    if owner:
        ordered.insert(0, owner)
    chunks = [c for share in ordered for c in share.chunks if c.module == path]
    own = [chunk for chunk in chunks if owner and chunk.notebook == owner.notebook]
    future = re.compile(r"^from __future__ import", re.MULTILINE)
    late = [i for i, chunk in enumerate(own) if future.search(chunk.code)]
    lead = late[-1] + 1 if late else 0
    return Module(path, owner.docstring if owner else "", tuple(chunks), lead)
