# Exported from nbs/02b_front.ipynb. Edit either side, then run `litml sync`.
"""Read what a notebook says for all of its cells: how long they may take, what they
need, with which parameters they are run.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from litml.cells import Directive, check_directive, split_words
from litml.notebook import LitmlError, Location, Notebook, suggest

__all__ = [
    "DIRECTIVES",
    "WORDS",
    "Front",
    "parse_yaml",
    "read_rows",
    "read_front",
]


# ## Which words
# %% Front
DIRECTIVES = ("skip", "timeout", "needs", "flaky", "check-output")
WORDS = (*DIRECTIVES, "raises", "params", "fixtures")


@dataclass(frozen=True, slots=True)
class Front:
    """What a notebook says for all of its cells; `rows` are sets of parameters."""

    said: Mapping[str, Directive] = field(default_factory=dict)
    may_raise: tuple[str, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    fixtures: tuple[str, ...] = ()


# %% FrontError
class FrontError(LitmlError):
    """Front matter that cannot be read, or that asks for what there is not."""


# ## Finding it
# %% find_table
def find_table(notebook: Notebook) -> dict[str, Any]:
    """Return the mapping `litml` of metadata and front matter; the latter wins."""
    at = Location(notebook.name)
    raw = next((cell for cell in notebook.cells if cell.kind == "raw"), None)
    about = notebook.metadata.get("litml")
    if isinstance(about, dict):  # what git keeps of outputs is for `07_clean` to read
        about = {word: value for word, value in about.items() if word != "outputs"}
    tables = [about]
    if raw and raw.source.lstrip().startswith("---") and "litml:" in raw.source:
        at = Location(notebook.name, raw.id)
        front = parse_yaml(raw.source.strip().strip("-"), at)
        tables.append(front.get("litml") if isinstance(front, dict) else None)
    found: dict[str, Any] = {}
    for table in tables:
        if table is not None and not isinstance(table, dict):
            raise FrontError(f"`litml` is not a mapping, but {table!r}", at=at)
        found |= table or {}
    if unknown := found.keys() - set(WORDS):
        word = min(map(str, unknown))
        message = f"unknown word `{word}` for a notebook"
        raise FrontError(message, at=at, hint=suggest(word, WORDS))
    return found


# %% parse_yaml
def parse_yaml(text: str, at: Location) -> Any:
    """Parse YAML of plain values. Raises `FrontError` if it is none."""
    import yaml  # type: ignore[import-untyped,unused-ignore]

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        message = " ".join(str(error).split())
        raise FrontError(f"the front matter is not YAML: {message}", at=at) from error


# ## Rows
# %% read_rows
def read_rows(value: object, at: Location) -> tuple[dict[str, Any], ...]:
    """Return the rows of a table of parameters: a list of mappings, or a grid.

    A grid is a mapping of lists, and stands for all combinations. Raises `FrontError`.
    """
    from itertools import product

    if value is None:
        return ()
    if isinstance(value, dict) and all(isinstance(v, list) for v in value.values()):
        return tuple(
            dict(zip(value, row, strict=True)) for row in product(*value.values())
        )
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return tuple({str(name): one for name, one in row.items()} for row in value)
    hint = "write `[{lr: 0.1}, {lr: 0.01}]`, or `{lr: [0.1, 0.01]}` for a grid"
    raise FrontError(f"`params` is not a table: {value!r}", at=at, hint=hint)


# ## Directives for all
# %% as_text
def as_text(value: object) -> str | None:
    """Return a value as it would stand in a directive; None for `false`."""
    if isinstance(value, bool):
        return "" if value else None
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value).strip()


# %% read_front
def read_front(notebook: Notebook) -> Front:
    """Return what the notebook says for all of its cells.

    Raises `FrontError` or `DirectiveError` if that makes no sense.
    """
    if not (table := find_table(notebook)):
        return Front()
    at = Location(notebook.name)
    said = {
        name: Directive(name, text, 0)
        for name in DIRECTIVES
        if name in table and (text := as_text(table[name])) is not None
    }
    for directive in said.values():
        check_directive(directive, at)
    return Front(
        said,
        tuple(split_words(as_text(table.get("raises", "")) or "")),
        read_rows(table.get("params"), at),
        tuple(split_words(as_text(table.get("fixtures", "")) or "")),
    )
