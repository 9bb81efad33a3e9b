# Exported from nbs/01_notebook.ipynb. Edit either side, then run `litml sync`.
"""Read a notebook file and write it back without losing a byte."""

import json
import re
import zlib
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from json.encoder import encode_basestring, encode_basestring_ascii
from pathlib import Path
from typing import Any

__all__ = [
    "Location",
    "LitmlError",
    "NotebookError",
    "suggest",
    "Cell",
    "CELL_ID",
    "free_name",
    "Notebook",
    "parse_notebook",
    "read_notebook",
    "read_file",
]


# ## Where something is wrong
# %% Location
@dataclass(frozen=True, slots=True)
class Location:
    """A place in a notebook: its name, a cell's id, a line of that cell from 1."""

    notebook: str
    cell: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        cell = f", cell {self.cell}" if self.cell is not None else ""
        line = f", line {self.line}" if self.line is not None else ""
        return f"{self.notebook}{cell}{line}"


# %% LitmlError
class LitmlError(Exception):
    """What a user can mend: a message, the place it is about, and a hint."""

    def __init__(
        self, message: str, *, at: Location | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.hint = hint

    def __str__(self) -> str:
        at = f"\n  at {self.at}" if self.at else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        return f"{self.message}{at}{hint}"


# %% NotebookError
class NotebookError(LitmlError):
    """A file that cannot be read as a notebook."""


# %% suggest
def suggest(name: str, known: Iterable[str]) -> str | None:
    """Return a hint naming the known word nearest to `name`, if one is near."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), n=1)
    return f"did you mean `{near[0]}`?" if near else None


# ## A cell
# %% Cell
@dataclass(slots=True)
class Cell:
    """One cell: a view over its JSON object, `data`, which keeps unknown keys.

    `derived_id` stands in for the id of a cell that has none (nbformat before 4.5).
    """

    data: dict[str, Any]
    derived_id: str = ""

    @property
    def id(self) -> str:
        """The cell's own id, or one derived from its content."""
        return str(self.data.get("id") or self.derived_id)

    @property
    def kind(self) -> str:
        """One of `code`, `markdown` and `raw`."""
        return str(self.data["cell_type"])

    @property
    def source(self) -> str:
        """The text, whether it is stored as lines or as one string."""
        stored = self.data["source"]
        return stored if isinstance(stored, str) else "".join(stored)

    @source.setter
    def source(self, text: str) -> None:
        if text != self.source:
            as_string = isinstance(self.data["source"], str)
            self.data["source"] = text if as_string else text.splitlines(keepends=True)

    @property
    def metadata(self) -> dict[str, Any]:
        """The cell's metadata, to read."""
        found: dict[str, Any] = self.data.get("metadata", {})
        return found

    @property
    def outputs(self) -> list[dict[str, Any]]:
        """The outputs of a code cell; nothing for other kinds."""
        return self.data.get("outputs") or []


# %% derive_ids
def derive_ids(cells: list[Cell]) -> None:
    """Give every cell without an id a `derived_id` that depends on its text only."""
    seen: dict[str, int] = {}
    for cell in cells:
        if not cell.data.get("id"):
            stem = f"{zlib.crc32(cell.source.encode(errors='replace')):08x}"
            seen[stem] = seen.get(stem, 0) + 1
            cell.derived_id = stem if seen[stem] == 1 else f"{stem}-{seen[stem]}"


# %% free_name
CELL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # nbformat's schema


def free_name(stem: str, taken: Container[str]) -> str:
    """Return the stem, or if it is taken the stem and the first number that is free."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name


# ## A notebook
# %% Notebook
@dataclass(slots=True)
class Notebook:
    """A notebook: its JSON tree, its cells, and the bytes it was read from."""

    name: str
    data: dict[str, Any]
    cells: list[Cell]
    raw: bytes

    @property
    def metadata(self) -> dict[str, Any]:
        """The notebook's metadata, to read."""
        found: dict[str, Any] = self.data.get("metadata", {})
        return found

    @property
    def kernel(self) -> str:
        """The name of its kernel; `python3` when nothing says otherwise."""
        spec = self.metadata.get("kernelspec")
        named = spec.get("name") if isinstance(spec, dict) else ""
        return str(named or "python3")

    @property
    def language(self) -> str:
        """The kernel's language in lower case; `python` when nothing says otherwise."""
        for table, key in (("kernelspec", "language"), ("language_info", "name")):
            about = self.metadata.get(table)
            if isinstance(about, dict) and about.get(key):
                return str(about[key]).lower()
        return "python"

    def to_bytes(self) -> bytes:
        """Return the file's bytes: the ones read, if nothing was changed.

        Raises `NotebookError` if a change cannot be written without losing something.
        """
        tree = {**self.data, "cells": [cell.data for cell in self.cells]}
        try:
            return render(tree, self.raw, self.name)
        except RecursionError as error:
            message = "JSON nested too deeply to be written"
            raise NotebookError(message, at=Location(self.name)) from error


# ### Reading
# %% parse_notebook
def parse_notebook(raw: bytes, name: str) -> Notebook:
    """Read a notebook from the bytes of its file.

    nbformat 4 is read as it is; 1 to 3 are upgraded by `nbformat`. Raises
    `NotebookError` for anything that is not a whole notebook in UTF-8.
    """
    data = upgrade(parse_json(raw, name), name)
    cells = [Cell(check_cell(cell, i, name)) for i, cell in enumerate(data["cells"])]
    derive_ids(cells)
    return Notebook(name, data, cells, raw)


# %% parse_json
CONFLICT = rb"(?m)^(?:<{7} |={7}\r?$|>{7} )"


def parse_json(raw: bytes, name: str) -> object:
    """Decode the JSON text, turning every way it can be broken into its own message."""
    at = Location(name)
    if not raw.strip():
        hint = "restore it from git, or delete it"
        raise NotebookError("the file is empty", at=at, hint=hint)
    text = decode(raw, at)
    try:
        return json.loads(text)
    except RecursionError as error:
        raise NotebookError("JSON nested too deeply to be a notebook", at=at) from error
    except ValueError as error:
        raise explain(error, raw, at) from error


def decode(raw: bytes, at: Location) -> str:
    """Return the text of a file in UTF-8, without its byte order mark."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        message = f"not UTF-8: byte {error.start}, line {line} of the file"
        raise NotebookError(message, at=at) from error


# %% explain
def explain(error: ValueError, raw: bytes, at: Location) -> NotebookError:
    """Say why `raw` is not JSON: conflict markers, a cut-off file, or bad syntax."""
    if marker := re.search(CONFLICT, raw):
        line = raw.count(b"\n", 0, marker.start()) + 1
        message = f"conflict markers of a git merge, from line {line} of the file"
        hint = "take one side (`git checkout --ours` or `--theirs`) or redo the merge"
        return NotebookError(message, at=at, hint=hint)
    line, end = getattr(error, "lineno", 0), len(raw.decode("utf-8-sig").rstrip())
    if getattr(error, "pos", 0) >= end or "Unterminated" in str(error):
        message = f"cut off: the JSON stops at line {line} of the file"
        return NotebookError(message, at=at, hint="restore it from git")
    return NotebookError(f"not JSON: {error}", at=at)


# %% upgrade
def upgrade(data: object, name: str) -> dict[str, Any]:
    """Check that `data` is a notebook's tree and bring nbformat 1 to 3 up to 4."""
    at = Location(name)
    version = data.get("nbformat") if isinstance(data, dict) else None
    if not isinstance(data, dict) or type(version) is not int or version < 1:
        raise NotebookError("JSON, but not a notebook: there is no `nbformat`", at=at)
    if version < 4:
        data = convert(data, at)
    elif version > 4:
        hint = "save it as nbformat 4"
        raise NotebookError(f"nbformat {version} is not known", at=at, hint=hint)
    if not isinstance(data.get("cells"), list):
        raise NotebookError("not a notebook: there is no list of `cells`", at=at)
    if not isinstance(data.get("metadata", {}), dict):
        raise NotebookError("the notebook's `metadata` is not an object", at=at)
    return data


# %% convert
def convert(data: dict[str, Any], at: Location) -> dict[str, Any]:
    """Upgrade nbformat 1 to 3 through `nbformat`, without its random cell ids."""
    import nbformat  # half a second, and only old files need it

    try:
        new = nbformat.convert(nbformat.from_dict(data), 4)  # type: ignore[no-untyped-call]
    except (
        *(KeyError, TypeError, ValueError, AttributeError),
        nbformat.ValidationError,
    ) as error:
        raise NotebookError(
            f"cannot be upgraded to nbformat 4: {error}", at=at
        ) from error
    tree: dict[str, Any] = json.loads(json.dumps(new))
    for cell in tree["cells"]:
        cell.pop("id", None)
    return {**tree, "nbformat_minor": min(tree["nbformat_minor"], 4)}


# %% check_cell
def check_cell(cell: object, index: int, name: str) -> dict[str, Any]:
    """Return `cell` if it has what every cell needs: a type and a text."""
    where = cell.get("id") if isinstance(cell, dict) else None
    at = Location(name, str(where or f"number {index + 1}"))
    if not isinstance(cell, dict) or not isinstance(cell.get("cell_type"), str):
        raise NotebookError("a cell without `cell_type`", at=at)
    source = cell.get("source")
    lines = source if isinstance(source, list) else [source]
    if not all(isinstance(line, str) for line in lines):
        raise NotebookError("a cell whose `source` is not text", at=at)
    if not isinstance(cell.get("metadata", {}), dict):
        raise NotebookError("a cell whose `metadata` is not an object", at=at)
    outputs = cell.get("outputs") or []
    if not isinstance(outputs, list) or not all(isinstance(o, dict) for o in outputs):
        raise NotebookError("a cell whose `outputs` are not a list of objects", at=at)
    return cell


# %% read_notebook
def read_notebook(path: Path, name: str | None = None) -> Notebook:
    """Read the notebook at `path`; `name` is what messages call it."""
    name = name or str(path)
    return parse_notebook(read_file(path, name), name)


def read_file(path: Path, name: str) -> bytes:
    """Return the bytes of a file; raises `NotebookError` if the system has none."""
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise NotebookError(reason, at=Location(name)) from error


# ### Writing
# %% Layout
@dataclass(frozen=True, slots=True)
class Layout:
    """How a JSON file is laid out: `indent` is None when it is all on one line."""

    indent: str | None = " "
    ascii: bool = False
    comma: str = ", "
    colon: str = ": "
    newline: str = "\n"
    end: str = "\n"


# %% find_layout
FIRST_KEY = r'\{(\r?\n)([ \t]*)"(?:[^"\\]|\\.)*"(: ?)'
ESCAPED = r"(?<!\\)(?:\\\\)*\\u(?!00[0-7])"  # `\u`, but no control character's


def find_layout(text: str) -> Layout:
    """Read the layout off the text of a JSON file."""
    first = re.match(FIRST_KEY, text)
    wide = re.match(r'\{\s*"(?:[^"\\]|\\.)*": ', text)
    colon = first[3] if first else ": " if wide else ":"
    return Layout(
        indent=first[2] if first else None,
        ascii="\\u" in text and text.isascii() and bool(re.search(ESCAPED, text)),
        comma=", " if colon == ": " else ",",
        colon=colon,
        newline=first[1] if first else "\n",
        end=text[len(text.rstrip()) :],
    )


# %% Number
class Number(float):
    """A number that remembers how it was spelled."""

    def __new__(cls, text: str) -> "Number":
        """Make the number from its JSON text."""
        self = super().__new__(cls, text)
        self.text = text
        return self

    text: str


# %% dump_json
def dump_json(tree: object, layout: Layout) -> str:
    """Write `tree` as JSON, as the standard library would, in the given layout."""
    return "".join(pieces(tree, layout, layout.newline))


# %% pieces
def pieces(tree: object, layout: Layout, line: str) -> Iterator[str]:
    """Yield the JSON text of `tree`; `line` is the line break and indent around it."""
    encode = encode_basestring_ascii if layout.ascii else encode_basestring
    if isinstance(tree, str):
        yield encode(tree)
        return
    if not isinstance(tree, dict | list) or not tree:
        yield tree.text if isinstance(tree, Number) else json.dumps(tree)
        return
    inner = line + layout.indent if layout.indent is not None else ""
    comma = f",{inner}" if inner else layout.comma
    opening, closing = "{}" if isinstance(tree, dict) else "[]"
    yield opening + inner
    if isinstance(tree, dict):
        for i, (key, value) in enumerate(tree.items()):
            yield f"{comma if i else ''}{encode(key)}{layout.colon}"
            yield from pieces(value, layout, inner)
    elif all(isinstance(value, str) for value in tree):
        yield comma.join([encode(value) for value in tree])
    else:
        for i, value in enumerate(tree):
            yield comma if i else ""
            yield from pieces(value, layout, inner)
    yield (line if inner else "") + closing


# %% render
def render(tree: dict[str, Any], raw: bytes, name: str) -> bytes:
    """Write `tree` in the layout of `raw`, or return `raw` if it says the same."""
    text = raw.decode("utf-8-sig")
    layout = find_layout(text)
    new = encode_file(tree, layout, raw)
    if encode_file(parse_notebook(raw, name).data, layout, raw) == new:
        return raw
    old = json.loads(text)
    if encode_file(old, layout, raw) == raw:
        return new
    refuse_double_keys(text, name)
    exact = json.loads(text, parse_float=Number)
    return encode_file(keep_spelling(tree, old, exact), layout, raw)


# %% keep_spelling
def keep_spelling(new: Any, old: Any, exact: Any) -> Any:
    """Return `new` with the numbers it shares with `old` spelled as in `exact`.

    `old` and `exact` are the same tree, read with plain floats and with `Number`s.
    """
    if isinstance(new, float) and isinstance(old, float):
        return exact if new == old else new
    if isinstance(new, dict) and isinstance(old, dict):
        shared = new.keys() & old.keys()
        return {
            key: keep_spelling(value, old[key], exact[key]) if key in shared else value
            for key, value in new.items()
        }
    if isinstance(new, list) and isinstance(old, list):
        places = {key_of(item, i): i for i, item in enumerate(old)}
        found = [places.get(key_of(item, i)) for i, item in enumerate(new)]
        return [
            item if i is None else keep_spelling(item, old[i], exact[i])
            for item, i in zip(new, found, strict=True)
        ]
    return new


def key_of(item: object, index: int) -> object:
    """Return what pairs an item of a list with its old self: an id, or its place."""
    return str(item.get("id", index)) if isinstance(item, dict) else index


# %% encode_file
def encode_file(tree: dict[str, Any], layout: Layout, raw: bytes) -> bytes:
    """Return the bytes of a file, with the byte order mark that `raw` may have."""
    mark = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
    text = dump_json(tree, layout) + layout.end
    # A lone surrogate has no UTF-8; JSON's own escape, `\ud800`, is Python's too.
    return mark + text.encode("utf-8", "backslashreplace")


# %% refuse_double_keys
def refuse_double_keys(text: str, name: str) -> None:
    """Raise if an object of the JSON text has one key twice."""

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if doubled := [key for key in keys if keys.count(key) > 1]:
            message = f"the key `{doubled[0]}` stands twice in one object"
            hint = "open and save it in Jupyter once"
            raise NotebookError(message, at=Location(name), hint=hint)
        return dict(pairs)

    json.loads(text, object_pairs_hook=check)
