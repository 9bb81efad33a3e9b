# Exported from nbs/04_export.ipynb. Edit either side, then run `litml sync`.
"""Turn notebooks into the text of Python modules."""

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from types import CodeType

from litml.cells import Directive, bound_names, read_directives, split_head
from litml.notebook import Cell, LitmlError, Location, Notebook
from litml.project import Project, default_module, module_path

__all__ = [
    "ExportError",
    "Chunk",
    "Share",
    "read_share",
    "Module",
    "assemble",
    "render_module",
    "SPANNING",
    "check_module",
]


# %% ExportError
class ExportError(LitmlError):
    """A notebook that cannot become a module."""


# ## What one cell gives
# %% Chunk
@dataclass(frozen=True, slots=True)
class Chunk:
    """One cell's code in a module.

    `line` is where the code begins in the cell, from 1. `names` are those it adds to
    `__all__`, and `headings` the prose headings that stand above it. Does it hold only
    imports? Does it begin with a string of its own, as a docstring does? Is it known to
    compile?
    """

    notebook: str
    cell: str
    line: int
    module: str
    code: str
    names: tuple[str, ...] = ()
    headings: tuple[str, ...] = ()
    is_imports: bool = False
    is_docstring: bool = False
    is_checked: bool = False

    def at(self, line: int = 1) -> Location:
        """Return the place in the notebook of a line of the code, from 1."""
        return Location(self.notebook, self.cell, self.line + line - 1)


# %% parse_chunk
def parse_chunk(chunk: Chunk) -> ast.Module:
    """Parse the code of a chunk; raises `ExportError` at the line that is wrong."""
    with syntax_errors_of(chunk):
        return ast.parse(chunk.code)


def compile_chunk(chunk: Chunk) -> CodeType:
    """Compile the code of a chunk; raises `ExportError` at the line that is wrong."""
    with syntax_errors_of(chunk):
        return compile(chunk.code, chunk.cell, "exec", dont_inherit=True)


@contextmanager
def syntax_errors_of(chunk: Chunk) -> Iterator[None]:
    """Turn what Python says about the code of a chunk into an error about its cell."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        raise explain_syntax(error, chunk, line) from error


# %% explain_syntax
MAGIC = re.compile(r"\s*(?:[\w.,\s]+=\s*)?[%!?]|.*\?\s*$")


def explain_syntax(error: Exception, chunk: Chunk, line: int) -> ExportError:
    """Return the error for line `line` of a chunk that Python does not accept."""
    lines = chunk.code.split("\n")
    text = lines[min(line, len(lines)) - 1]
    reason = getattr(error, "msg", str(error))
    if isinstance(error, MemoryError | RecursionError):
        reason = "nested too deeply for Python to read"
    hint = None
    if MAGIC.match(text):
        reason = f"a magic or shell line cannot be exported: `{text.strip()}`"
        hint = "move it to a cell without `#| export`"
    elif "'await' outside" in reason or "outside async" in reason:
        reason, hint = "top-level `await` cannot be exported", "put it into a function"
    elif "__future__" in reason and "beginning" in reason:
        reason = "a late `from __future__` import"
        hint = "put it at the top of the notebook's first exported cell"
    return ExportError(reason, at=chunk.at(line), hint=hint)


# %% is_plain
DEFINITION = r"(?:async )?(?:def|class) \w+ ?[(:]"
OTHER = re.compile(rf"(?m)^(?![ \t#)\]}}]|{DEFINITION}|@(?![\w.]*\bpatch)|$)")


def is_plain(code: str) -> bool:
    """Are there only definitions in the code, none of them a patch?"""
    return OTHER.search(code) is None


def plain_names(code: CodeType) -> list[str]:
    """Return the names of the definitions in compiled code that holds nothing else."""
    inner = [one.co_name for one in code.co_consts if isinstance(one, CodeType)]
    return list(dict.fromkeys(name for name in inner if name[0] != "<"))


# %% is_import
def is_import(node: ast.stmt) -> bool:
    """Is it an import, or a block of imports for type checkers only?"""
    if isinstance(node, ast.If) and not node.orelse:
        test = ast.unparse(node.test)
        guarded = test in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        return guarded and all(is_import(inner) for inner in node.body)
    return isinstance(node, ast.Import | ast.ImportFrom)


# %% read_chunk
@lru_cache(maxsize=1024)  # bringing an edit home reads a notebook up to three times
def read_chunk(chunk: Chunk, is_public: bool) -> Chunk | None:
    """Return the chunk with its names, or None if there is no code in it."""
    names = plain_names(compile_chunk(chunk)) if is_plain(chunk.code) else []
    if names:
        public = tuple(name for name in names if not name.startswith("_"))
        return replace(chunk, names=public if is_public else (), is_checked=True)
    tree = parse_chunk(chunk)
    compile_chunk(chunk)
    if not tree.body:
        return None
    return replace(
        chunk,
        names=tuple(bound_names(tree)) if is_public else (),
        is_imports=all(is_import(node) for node in tree.body),
        is_docstring=ast.get_docstring(tree) is not None,
        is_checked=True,
    )


# %% check_id
def check_id(cell: Cell, at: Location) -> None:
    """Raise unless the cell's id is one by nbformat 4.5's schema."""
    if not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell.id):
        hint = "an id has 1 to 64 letters, digits, `-` and `_`"
        raise ExportError(f"{cell.id!r} cannot be the id of a cell", at=at, hint=hint)


# %% make_chunk
def make_chunk(
    cell: Cell,
    said: dict[str, Directive],
    notebook: Notebook,
    own: str,
    project: Project,
) -> Chunk | None:
    """Return the chunk of a code cell, or None if the cell is not exported.

    Raises `ExportError` for code that does not parse.
    """
    marks = [said[name] for name in ("export", "exports", "exporti") if name in said]
    if not marks or "exportd" in said:
        return None
    at = Location(notebook.name, cell.id, marks[0].line or None)
    if len(marks) > 1 and "exporti" in said:
        hint = "keep `exporti` to leave the names out of `__all__`"
        raise ExportError("both `export` and `exporti`", at=at, hint=hint)
    check_id(cell, at)
    head = split_head(cell.source)
    code = "\n".join([*head.magics, head.body]).replace("\r\n", "\n")
    module = module_path(project, marks[0].value, at) if marks[0].value else own
    line = head.body_line - len(head.magics)
    chunk = Chunk(notebook.name, cell.id, line, module, code)
    return read_chunk(chunk, is_public="exporti" not in said)


# ## What one notebook gives
# %% Share
@dataclass(frozen=True, slots=True)
class Share:
    """What one notebook contributes: its own module's file, docstring, and chunks.

    `module` is empty for a notebook that exports nothing. With `derive_all` the names
    of its chunks become the module's `__all__`.
    """

    notebook: str
    module: str
    docstring: str
    chunks: tuple[Chunk, ...]
    derive_all: bool = True


# %% read_share
def read_share(notebook: Notebook, project: Project) -> Share:
    """Read what a notebook contributes to the package.

    Raises a `LitmlError` that names the cell if something in it cannot be exported.
    """
    said = read_directives(notebook, project.config.test_flags)
    own = own_module(notebook, said, project)
    chunks: list[Chunk] = []
    headings: list[str] = []
    for cell, directives in zip(notebook.cells, said, strict=True):
        if cell.kind == "markdown":
            headings = open_headings(headings, cell.source)
        elif cell.kind == "code":
            chunk = make_chunk(cell, directives, notebook, own, project)
            if chunk and notebook.language == "python":
                chunks.append(replace(chunk, headings=tuple(headings)))
                headings = []
    refuse_double_ids(notebook, chunks)
    docstring = read_docstring(notebook, said)
    derive_all = not any("no_all" in directives for directives in said)
    return Share(notebook.name, own, docstring, tuple(chunks), derive_all)


# %% own_module
def own_module(
    notebook: Notebook, said: list[dict[str, Directive]], project: Project
) -> str:
    """Return the file of the notebook's own module, such as `models/linear.py`."""
    module = default_module(project, project.root / notebook.name)
    at = Location(notebook.name)
    for cell, directives in zip(notebook.cells, said, strict=True):
        if cell.kind == "code" and (found := directives.get("default_exp")):
            module, at = (
                found.value,
                Location(notebook.name, cell.id, found.line or None),
            )
    exports = any(one.keys() & {"export", "exports", "exporti"} for one in said)
    return module_path(project, module, at) if at.cell or exports else ""


# %% open_headings
HEADING = re.compile(r"^(#{2,6}) +(.+?)[ #]*$", re.MULTILINE)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")  # no tab, no line feed


def open_headings(headings: list[str], markdown: str) -> list[str]:
    """Add the headings of a markdown cell, closing those of their level and below."""
    for match in HEADING.finditer(re.sub(r"(?ms)^```.*?^```", "", markdown)):
        level = len(match[1])
        headings = [one for one in headings if one.index(" ") < level]
        headings.append(f"{match[1]} {CONTROL.sub(' ', match[2])}")
    return headings


# %% refuse_double_ids
def refuse_double_ids(notebook: Notebook, chunks: Iterable[Chunk]) -> None:
    """Raise if an exported cell shares its id with another cell of the notebook."""
    ids = [cell.id for cell in notebook.cells]
    for chunk in chunks:
        if ids.count(chunk.cell) > 1:
            hint = "an id is a name: give one of the cells another"
            message = f"two cells have the id `{chunk.cell}`"
            at = Location(notebook.name, chunk.cell)
            raise ExportError(message, at=at, hint=hint)


# %% read_docstring
def read_docstring(notebook: Notebook, said: list[dict[str, Directive]]) -> str:
    """Return the docstring of a notebook's module: its summary, then exported prose."""
    parts = [find_summary(notebook)]
    for cell, directives in zip(notebook.cells, said, strict=True):
        if "exportd" not in directives and not (
            cell.kind == "markdown" and "export" in directives
        ):
            continue
        body = split_head(cell.source).body.strip()
        parts.append(body if cell.kind == "markdown" else f"```python\n{body}\n```")
    return "\n\n".join(part for part in parts if part)


# %% find_summary
def find_summary(notebook: Notebook) -> str:
    """Return the quoted sentence of the title cell, or the first paragraph below it."""
    for cell in notebook.cells:
        if cell.kind == "markdown" and cell.source.startswith("# "):
            below = cell.source.split("\n")[1:]
            quoted = "\n".join(below) + "\n"
            if match := re.search(r"(?m)^> ?.+\n(?:> ?.+\n)*", quoted):
                lines = [line.lstrip("> ").strip() for line in match[0].splitlines()]
                return "\n".join(lines)
            break
    return ""


# ## Putting a module together
# %% Module
@dataclass(frozen=True, slots=True)
class Module:
    """A module: its file below the package, and the chunks it is made of.

    The first `lead` chunks stand above `__all__`.
    """

    path: str
    docstring: str
    chunks: tuple[Chunk, ...]
    lead: int
    derive_all: bool = True

    @property
    def notebooks(self) -> list[str]:
        """The notebooks that contribute to it."""
        return list(dict.fromkeys(chunk.notebook for chunk in self.chunks))


# %% assemble
def assemble(path: str, shares: list[Share]) -> Module:
    """Put the module at `path` together from shares in reading order.

    Raises `ExportError` if two notebooks claim it or two cells clash in it.
    """
    owner = refuse_other_owner(path, shares)
    chunks = [
        chunk for share in shares for chunk in share.chunks if chunk.module == path
    ]
    refuse_clashes(chunks)
    docstring = wrap(owner.docstring) if owner and not chunks[0].is_docstring else ""
    derive_all = owner.derive_all if owner else True
    return Module(path, docstring, tuple(chunks), count_lead(chunks), derive_all)


# %% wrap
def wrap(docstring: str, width: int = 82) -> str:
    """Break a long first paragraph into lines; what follows it stays as it is."""
    summary, gap, rest = docstring.partition("\n\n")
    if len(summary) > width and "\n" not in summary:
        import textwrap

        summary = "\n".join(textwrap.wrap(summary, width, break_long_words=False))
    text = f"{summary}{gap}{rest}"
    return text + "\n" if "\n" in text else text


# %% refuse_other_owner
def refuse_other_owner(path: str, shares: list[Share]) -> Share | None:
    """Return the share of the module's own notebook; raises if there are two."""
    owners = [
        share
        for share in shares
        if share.module == path and any(c.module == path for c in share.chunks)
    ]
    if len(owners) > 1:
        message = (
            f"`{path}` is claimed by {owners[0].notebook} and {owners[1].notebook}"
        )
        hint = "give one of them another `#| default_exp`"
        raise ExportError(message, at=Location(owners[1].notebook), hint=hint)
    return owners[0] if owners else None


# %% refuse_clashes
MARKER = re.compile(r"^# %% ([\w-]+)$", re.MULTILINE)


def refuse_clashes(chunks: list[Chunk]) -> None:
    """Raise if chunks of one module share an id or a name, or imitate a marker."""
    ids: dict[str, Chunk] = {}
    names: dict[str, Chunk] = {}
    for chunk in chunks:
        if (other := ids.setdefault(chunk.cell, chunk)) is not chunk:
            message = f"{other.notebook} has a cell `{chunk.cell}` in this module too"
            hint = "give one of the cells another id"
            raise ExportError(message, at=chunk.at(), hint=hint)
        for name in chunk.names:
            if (first := names.setdefault(name, chunk)) is not chunk:
                message = f"`{name}` is exported twice, first by {first.at()}"
                hint = "keep one of them, or rename it"
                raise ExportError(message, at=chunk.at(), hint=hint)
    for chunk in chunks:
        for match in MARKER.finditer(chunk.code) if "# %% " in chunk.code else ():
            if match[1] in ids:
                line = chunk.code.count("\n", 0, match.start()) + 1
                message = f"this line reads as the marker of cell `{match[1]}`"
                hint = "put a space before it, or more words behind"
                raise ExportError(message, at=chunk.at(line), hint=hint)


# %% count_lead
def count_lead(chunks: list[Chunk]) -> int:
    """Return how many chunks stand above `__all__`: the imports at the top.

    A first cell with a docstring, or with a `__future__` import and more, does as well:
    Python wants it there.
    """
    count = 1 if chunks and chunks[0].is_docstring else 0
    while count < len(chunks) and chunks[count].is_imports:
        count += 1
    future = re.compile(r"^from __future__ import", re.MULTILINE)
    return 1 if not count and chunks and future.search(chunks[0].code) else count


# ## The text of a module
# %% render_module
def render_module(module: Module) -> tuple[str, list[tuple[int, Chunk]]]:
    """Return a module's text, and at which of its lines each chunk's code begins."""
    names = ", ".join(module.notebooks)
    text = f"# Exported from {names}. Edit either side, then run `litml sync`.\n"
    text += quote(module.docstring) + "\n" if module.docstring else ""
    starts: list[tuple[int, Chunk]] = []
    lines = text.count("\n")

    def add(before: str, chunk: Chunk | None, code: str) -> None:
        nonlocal text, lines
        if chunk:
            starts.append((lines + before.count("\n") + 1, chunk))
        text += f"{before}{code}\n"
        lines += before.count("\n") + code.count("\n") + 1

    for chunk in module.chunks[: module.lead]:
        bare = chunk.is_imports and not module.chunks[0].is_docstring
        add("\n" if bare else f"\n# %% {chunk.cell}\n", chunk, chunk.code)
    if module.derive_all:
        public = [name for chunk in module.chunks for name in chunk.names]
        add("\n", None, list_names(public))
    for chunk in module.chunks[module.lead :]:
        headings = "".join(f"# {heading}\n" for heading in chunk.headings)
        add(f"\n\n{headings}# %% {chunk.cell}\n", chunk, chunk.code)
    return text, starts


# %% list_names
def list_names(names: Iterable[str]) -> str:
    """Return the statement that sets `__all__`."""
    quoted = [f'"{name}"' for name in dict.fromkeys(names)]
    line = f"__all__ = [{', '.join(quoted)}]"
    if len(line) < 80:
        return line
    return "\n".join(["__all__ = [", *(f"    {name}," for name in quoted), "]"])


# %% quote
def quote(text: str) -> str:
    """Return a docstring literal whose value is `text`."""
    plain = '"""' not in text and not text.endswith(('"', "\\"))
    plain = plain and not CONTROL.search(text)
    if plain and "\\" not in text:
        return f'"""{text}"""'
    if plain:
        return f'r"""{text}"""'
    escaped = text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    escaped = CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", escaped)
    return f'"""{escaped[:-1]}\\""""' if escaped.endswith('"') else f'"""{escaped}"""'


# ## Proving it
# %% check_module
SPANNING = re.compile(r"(?m)^(?:from __future__ |global )")


def check_module(text: str, starts: list[tuple[int, Chunk]], path: str) -> None:
    """Compile a module's text; raises `ExportError` at the cell that is wrong."""
    try:
        text.encode()
        if all(chunk.is_checked for _, chunk in starts) and not SPANNING.search(text):
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(text, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        if isinstance(error, UnicodeEncodeError):
            line = text.count("\n", 0, error.start) + 1
        above = [(start, chunk) for start, chunk in starts if start <= line]
        if not above:
            raise ExportError(str(error), at=Location(path, line=line)) from error
        start, chunk = above[-1]
        raise explain_syntax(error, chunk, line - start + 1) from error
