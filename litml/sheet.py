# Exported from nbs/12b_sheet.ipynb. Edit either side, then run `litml sync`.
"""A notebook as one Python file that a type checker can read, in which every line
knows its cell.
"""

import ast
import re
import warnings
from bisect import bisect_right
from dataclasses import dataclass

from litml.cells import read_directives, split_head
from litml.export import Chunk
from litml.notebook import Location, Notebook
from litml.patch import grow_classes, names_bound

__all__ = ["Sheet", "make_sheet"]


# ## Plain Python
# %% plain_python
PYTHON_MAGICS = re.compile(r"%%(?:time|timeit|capture|prun|debug|python3?)\b")
MAGIC = re.compile(r"^\s*[%!?]|=\s*[%!]|\?\s*$", re.MULTILINE)


def plain_python(source: str) -> str:
    """Return a cell's source as Python; every line stays at its place, or is empty."""
    head = split_head(source)
    if not all(PYTHON_MAGICS.match(magic) for magic in head.magics):
        return ""
    body = head.body
    if MAGIC.search(body):
        from IPython.core.inputtransformer2 import TransformerManager

        body = TransformerManager().transform_cell(body)  # type: ignore[no-untyped-call]
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(body, "<cell>", "exec", flags)
    except (SyntaxError, ValueError):
        return ""
    return "\n" * (head.body_line - 1) + body.rstrip("\n")


# ## The sheet
# %% Sheet
@dataclass(frozen=True, slots=True)
class Sheet:
    """A notebook as one Python file; `starts` says where each cell's code begins.

    Of the cells in `silent` nothing is reported from here: they are in the package,
    or are there to fail.
    """

    notebook: str
    text: str
    starts: tuple[tuple[int, Chunk], ...]
    silent: frozenset[str]

    def place(self, line: int) -> Location | None:
        """Return the place of a line, or None for lines that are silent."""
        at = bisect_right([start for start, _ in self.starts], line) - 1
        if at < 0 or self.starts[at][1].cell in self.silent:
            return None
        start, chunk = self.starts[at]
        return chunk.at(line - start + 1)


# %% HEAD
HEAD = (
    "# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs,"
    " allow-untyped-decorators, allow-untyped-globals, allow-redefinition,"
    " allow-any-generics, allow-subclassing-any, no-strict-optional,"
    " no-strict-equality, no-warn-return-any, no-warn-unreachable,"
    ' no-warn-unused-ignores, disable-error-code="'
    'import-untyped, no-redef, top-level-await, var-annotated"'
)
GIVEN = {  # what a kernel gives to every cell
    "display": ["def display(*shown: object, **options: object) -> None: ..."],
    "get_ipython": [
        "from typing import Any as _Any",
        "def get_ipython() -> _Any: ...",
    ],
}


# %% make_sheet
def make_sheet(notebook: Notebook) -> Sheet:
    """Return a notebook's code cells as a sheet, with its classes whole."""
    chunks = [
        Chunk(notebook.name, cell.id, 1, "", plain_python(cell.source))
        for cell in notebook.cells
        if cell.kind == "code"
    ]
    trees = [ast.parse(chunk.code) for chunk in chunks]
    bound = {name for tree in trees for one in tree.body for name in names_bound(one)}
    given = [row for name, rows in GIVEN.items() if name not in bound for row in rows]
    rows = [HEAD, *given]
    starts = []
    for chunk in chunks:
        starts.append((len(rows) + 1, chunk))
        rows += chunk.code.split("\n")
    text, places = grow_classes("\n".join([*rows, ""]), starts)
    return Sheet(notebook.name, text, tuple(places), find_silent(notebook))


# %% find_silent
def find_silent(notebook: Notebook) -> frozenset[str]:
    """Return the cells that are exported, or say that they fail."""
    said = read_directives(notebook, strict=False)
    marks = {"export", "exports", "exporti", "raises"}
    return frozenset(
        cell.id
        for cell, directives in zip(notebook.cells, said, strict=True)
        if marks & directives.keys()
        or "raises-exception" in (cell.metadata.get("tags") or [])
    )
