# Exported from nbs/06a_dissect.ipynb. Edit either side, then run `litml sync`.
"""Turn a module into a notebook that is shown to export it again."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile

from litml.cells import parse_code
from litml.export import assemble, check_module, read_share, render_module
from litml.notebook import LitmlError, Location, free_name, parse_notebook
from litml.parts import is_all
from litml.pieces import Piece, cut, find_spans, mark_of
from litml.project import Project, default_module

__all__ = ["is_same_code", "Source", "dissect"]


# ## The module's own `__all__`
# %% read_all
def read_all(node: ast.stmt) -> tuple[str, ...] | None:
    """Return the names if the statement is `__all__ = [...]`, a list of strings."""
    if not is_all(node):
        return None
    value = node.value
    items = value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
    names = [item.value for item in items if isinstance(item, ast.Constant)]
    if len(names) < len(items) or not all(isinstance(name, str) for name in names):
        return None
    return tuple(str(name) for name in names)


# %% without_all
def without_all(text: str) -> tuple[str, frozenset[str]] | None:
    """Return the text less a plain `__all__`, and its names; None if it has no such.

    An `__all__` with comments in it is not plain, since they would be lost.
    """
    lines = text.split("\n")
    found = [
        (span, names)
        for span in find_spans(parse_code(text).body)
        if len(span.nodes) == 1 and (names := read_all(span.nodes[0])) is not None
    ]
    if len(found) != 1:
        return None
    span, names = found[0]
    if "#" in "".join(lines[span.start : span.end]):
        return None
    lines[span.start : span.end] = [""] * (span.end - span.start)
    return "\n".join(lines), frozenset(names)


# ## The proof
# %% take_all
def take_all(tree: ast.Module) -> list[str]:
    """Remove a plain `__all__` from a tree and return its names, sorted."""
    found = [(node, names) for node in tree.body if (names := read_all(node))]
    tree.body = [node for node in tree.body if read_all(node) is None]
    return sorted(name for _, names in found for name in names)


# %% is_same_code
def is_same_code(text: str, other: str) -> bool:
    """Are two texts the same module, as Python reads them?

    `__all__` may stand elsewhere and in another order, if both have the same names.
    """
    trees = [parse_code(one) for one in (text, other)]
    if ast.dump(trees[0]) == ast.dump(trees[1]):
        return True
    names = [take_all(tree) for tree in trees]
    return names[0] == names[1] != [] and ast.dump(trees[0]) == ast.dump(trees[1])


# %% export_alone
def export_alone(raw: bytes, name: str, path: str, project: Project) -> str:
    """Return the text of the module `path` as exported from a notebook's bytes alone.

    Raises a `LitmlError` if the notebook cannot be exported.
    """
    share = read_share(parse_notebook(raw, name), project)
    text, starts = render_module(assemble(path, [share]))
    check_module(text, starts, path)
    return text


# %% lost_comments
def lost_comments(text: str, exported: str, raw: bytes) -> list[str]:
    """Return the comments of a module that are neither in its export nor in prose."""
    cells = json.loads(raw)["cells"]
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] != "code")
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = {token.string for token in tokens if token.type == tokenize.COMMENT}
    return sorted(
        comment
        for comment in comments
        if comment not in exported and comment.strip("# -=*~+\t") not in prose
    )


# ## Drafts
# %% Draft
@dataclass(frozen=True, slots=True)
class Draft:
    """One way to write a module: its pieces, and its docstring in case of a title.

    `own_all` says that the module's own `__all__`, or the lack of one, stays.
    """

    pieces: tuple[Piece, ...]
    docstring: str | None
    public: frozenset[str] | None
    own_all: bool


# %% drop_docstring
def drop_docstring(pieces: list[Piece]) -> Iterator[Piece]:
    """Yield the pieces without the docstring; comments above it go to the next code."""
    above = ""
    for piece in pieces:
        if piece.kind == "docstring":
            lines = takewhile(
                lambda line: line[:1] in ("", "#"), piece.text.split("\n")
            )
            above = "\n".join(lines).strip()
        elif piece.kind == "prose" or not above:
            yield piece
        else:
            yield replace(piece, text=f"{above}\n\n{piece.text}")
            above = ""


# %% list_drafts
def list_drafts(text: str) -> Iterator[Draft]:
    """Yield the ways to write a module as a notebook, the nicest first."""
    plain = without_all(text)
    public = plain[1] if plain else None
    for source, own_all in [(plain[0] if plain else None, False), (text, True)]:
        if source is not None:
            pieces = cut(source, public)
            docstring = ast.get_docstring(parse_code(text), clean=False)
            if docstring is not None:
                titled = tuple(drop_docstring(pieces))
                yield Draft(titled, docstring, public, own_all)
            yield Draft(tuple(pieces), None, public, own_all)


# ## Cells
# %% Ids
class Ids:
    """Gives out ids for the cells of one notebook, each only once."""

    def __init__(self, text: str) -> None:
        self.taken = set(re.findall(r"(?m)^# %% ([\w-]+)$", text)) | {"title"}

    def take(self, wish: str) -> str:
        """Return an id like `wish` that nobody has."""
        stem = re.sub(r"[^a-zA-Z0-9_-]+", "-", wish).strip("-")[:60] or "cell"
        found = free_name(stem, self.taken)
        self.taken.add(found)
        return found


# %% is_script
def is_script(node: ast.stmt) -> bool:
    """Is it `if __name__ == "__main__":`?"""
    return isinstance(node, ast.If) and "__main__" in ast.unparse(node.test)


# %% wish_for
def wish_for(piece: Piece) -> str:
    """Return what the id of a piece's cell should be."""
    if piece.kind in ("imports", "docstring"):
        return piece.kind
    if is_script(piece.nodes[0]):
        return "script"
    names = [
        getattr(node, "name", None) or getattr(node, "id", None)
        for top in piece.nodes
        for node in (top, *getattr(top, "targets", []), getattr(top, "target", None))
    ]
    return next((name for name in names if isinstance(name, str)), piece.kind)


# %% make_cell
Json = dict[str, object]


def make_cell(kind: str, id: str, source: str) -> Json:
    """Return a cell as nbformat has it, its keys in Jupyter's order."""
    cell: Json = {"cell_type": kind, "id": id, "metadata": {}}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    cell["source"] = source.splitlines(keepends=True)
    return dict(sorted(cell.items()))


# %% write_pieces
def write_pieces(
    draft: Draft, ids: Ids, examples: Mapping[str, tuple[str, ...]]
) -> Iterator[Json]:
    """Yield a cell for each piece, and examples below what they are about."""
    seen: set[str] = set()
    for i, piece in enumerate(draft.pieces):
        if piece.kind == "prose":
            below = [wish_for(one) for one in draft.pieces[i:] if one.nodes]
            id = ids.take("-".join(["about", *below[:1]]))
            yield make_cell("markdown", id, piece.text)
            continue
        twice = seen & set(piece.names)
        internal = twice or mark_of(piece.nodes, draft.public) == "exporti"
        head = ["#| exporti" if internal else "#| export"]
        if is_script(piece.nodes[0]):
            head.append("#| skip: it runs the module as a script")
        seen.update(piece.names)
        yield make_cell(
            "code", ids.take(wish_for(piece)), "\n".join([*head, piece.text])
        )
        for name in piece.names:
            for example in examples.get(name, ()):
                yield make_cell("code", ids.take(f"{name}-example"), example)


# ## The notebook
# %% Source
@dataclass(frozen=True, slots=True)
class Source:
    """A module to be cut.

    `path` is its file below the package, `notebook` the name of its notebook-to-be.
    `examples` are cells to go below what they are about, by its name.
    """

    text: str
    path: str
    notebook: str
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def module(self) -> str:
        """The module's dotted name below the package."""
        return self.path.removesuffix(".py").replace("/", ".")


# %% set_up
def set_up(source: Source, project: Project) -> Iterator[tuple[str, str]]:
    """Yield id and source of cells that tell litml and the kernel about the module."""
    if default_module(project, project.root / source.notebook) != source.module:
        yield "default-exp", f"#| default_exp {source.module}"
    imports = ast.walk(parse_code(source.text))
    if any(isinstance(node, ast.ImportFrom) and node.level for node in imports):
        package = [project.package_dir.name, *source.module.split(".")[:-1]]
        yield (
            "package",
            f'__package__ = "{".".join(package)}"  # of the relative imports',
        )


# %% find_title
def find_title(source: Source, project: Project) -> str:
    """Return the notebook's title, from the module's name."""
    parts = [project.package_dir.name, *source.module.split(".")]
    last = parts[-2] if parts[-1] == "__init__" else parts[-1]
    words = last.strip("_").replace("_", " ")
    return f"{words[:1].upper()}{words[1:]}" or last


# %% write_cells
def write_cells(draft: Draft, source: Source, project: Project) -> Iterator[Json]:
    """Yield the cells of a draft's notebook."""
    ids = Ids(source.text)
    summary, _, rest = (draft.docstring or "").rstrip().partition("\n\n")
    quoted = "".join(f"\n> {line}" for line in summary.split("\n") if summary)
    title = f"# {find_title(source, project)}" + (f"\n{quoted}" if quoted else "")
    yield make_cell("markdown", "title", title)
    for wish, text in set_up(source, project):
        yield make_cell("code", ids.take(wish), text)
    if draft.own_all:
        yield make_cell("code", ids.take("no-all"), "#| no_all")
    if rest:
        yield make_cell("markdown", ids.take("about"), f"#| export\n{rest}")
    yield from write_pieces(draft, ids, source.examples)


# %% write_draft
def write_draft(draft: Draft, source: Source, project: Project) -> bytes:
    """Return the bytes of a draft's notebook, laid out as Jupyter does."""
    spec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    tree = {
        "cells": list(write_cells(draft, source, project)),
        "metadata": {"kernelspec": spec, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode()


# %% DissectError
class DissectError(LitmlError):
    """A module that cannot be written as a notebook."""


# %% dissect
def dissect(source: Source, project: Project) -> tuple[bytes, str]:
    """Return a notebook for a module, and the text of the module it exports.

    Raises a `LitmlError` if no notebook can be shown to give the module back.
    """
    at = Location(source.path)
    found: LitmlError = DissectError("no notebook gives it back unchanged", at=at)
    for draft in list_drafts(source.text):
        raw = write_draft(draft, source, project)
        try:
            text = export_alone(raw, source.notebook, source.path, project)
        except LitmlError as error:
            found = error
            continue
        if is_same_code(source.text, text) and not lost_comments(
            source.text, text, raw
        ):
            return raw, text
    raise found
