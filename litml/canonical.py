# Exported from nbs/07_canonical.ipynb. Edit either side, then run `litml sync`.
"""One form for the bytes of a notebook, which is the form that Jupyter saves."""

from __future__ import annotations

import json
import re
import zlib
from functools import cache
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = [
    "OddFile",
    "DECODER",
    "load_tree",
    "explain",
    "is_table",
    "is_cell",
    "is_output",
    "is_text",
    "write_tree",
    "write_value",
    "EMPTY",
    "write_items",
    "encoder",
    "split_text",
    "split_data",
    "is_json",
    "TEXTS",
    "fill_ids",
    "derive_id",
]


# ## Reading
# %% OddFile
class OddFile(ValueError):
    """A file that is left alone; the message says why."""


# %% refuse_doubles
def refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as an object; raises `OddFile` if a key stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        doubled = next(key for key in keys if keys.count(key) > 1)
        raise OddFile(f"the key `{doubled}` stands twice in one object")
    return found


# %% load_tree
DECODER = json.JSONDecoder(object_pairs_hook=refuse_doubles)


def load_tree(raw: bytes) -> dict[str, Any]:
    """Read the tree of a notebook of format 4; raises `OddFile` for anything else."""
    try:
        tree: Any = DECODER.decode(raw.decode("utf-8-sig"))
    except OddFile:
        raise
    except (ValueError, RecursionError) as error:
        raise OddFile(explain(raw)) from error
    version = tree.get("nbformat") if isinstance(tree, dict) else None
    if type(version) is not int or version != 4:
        what = f"nbformat {version}" if type(version) is int else "no notebook"
        raise OddFile(f"{what}, and only nbformat 4 is cleaned")
    if not isinstance(tree.get("cells"), list) or not is_table(tree, "metadata"):
        raise OddFile("not a notebook: its `cells` or its `metadata` are not right")
    if not all(isinstance(cell, dict) and is_cell(cell) for cell in tree["cells"]):
        raise OddFile("not a notebook: it has a cell that is none")
    return dict(tree)


def explain(raw: bytes) -> str:
    """Say why a file is not JSON."""
    from litml.notebook import NotebookError, parse_json

    try:
        parse_json(raw, "")
    except NotebookError as error:
        return error.message
    return "it cannot be read"


# %% is_cell
def is_table(parent: Mapping[str, Any], key: str) -> bool:
    """Is the value an object, if it is there at all?"""
    return isinstance(parent.get(key, {}), dict)


def is_cell(cell: dict[str, Any]) -> bool:
    """Has the cell a type, a text, and outputs that can be looked at?"""
    outputs = cell.get("outputs", [])
    return (
        isinstance(cell.get("cell_type"), str)
        and is_text(cell.get("source"))
        and is_table(cell, "metadata")
        and isinstance(outputs, list)
        and all(isinstance(one, dict) and is_output(one) for one in outputs)
    )


def is_output(output: dict[str, Any]) -> bool:
    """Are the parts of an output, as far as there are any, of their kinds?"""
    texts = [output.get("text", ""), output.get("traceback", [])]
    return (
        all(is_text(text) for text in texts)
        and is_table(output, "data")
        and is_table(output, "metadata")
    )


def is_text(stored: object) -> bool:
    """Is it a text, as one string or as a list of lines?"""
    if isinstance(stored, list):
        return set(map(type, stored)) <= {str}
    return isinstance(stored, str)


# ## Writing
# %% write_tree
def write_tree(tree: object) -> bytes:
    """Return the canonical bytes of a tree."""
    found: list[str] = []
    write_value(tree, "\n", found)
    # A lone surrogate has no UTF-8; JSON's own escape, `\ud800`, is Python's too.
    return "".join([*found, "\n"]).encode("utf-8", "backslashreplace")


def write_value(value: Any, line: str, found: list[str]) -> None:
    """Append a value's JSON text; `line` is the line break and indent around it."""
    kind, inner = type(value), f"{line} "
    if kind is str:
        found.append(encode_basestring(value))
    elif not value and kind in EMPTY:
        found.append(EMPTY[kind])
    elif kind is dict:
        between = "{"
        for key in sorted(value):
            found.append(f"{between}{inner}{encode_basestring(key)}: ")
            write_value(value[key], inner, found)
            between = ","
        found.append(f"{line}}}")
    elif kind is list:
        found.append(f"[{inner}")
        write_items(value, inner, found)
        found.append(f"{line}]")
    else:
        found.append(encoder(line)(value))


EMPTY: dict[type, str] = {dict: "{}", list: "[]", type(None): "null"}


def write_items(items: list[Any], line: str, found: list[str]) -> None:
    """Append the JSON text of a list's items."""
    kinds = set(map(type, items))
    if kinds == {str}:
        found.append(f",{line}".join(map(encode_basestring, items)))
    elif kinds.isdisjoint({dict, list}):
        found.append(encoder(line)(items)[1:-1])
    else:
        for number, item in enumerate(items):
            found.append(f",{line}" if number else "")
            write_value(item, line, found)


@cache
def encoder(line: str) -> Callable[[object], str]:
    """Return a function that writes values, with a line break after each comma."""
    between = (f",{line}", ": ")
    return json.JSONEncoder(
        ensure_ascii=False, sort_keys=True, separators=between
    ).encode


# %% split_text
def split_text(stored: str | list[str]) -> list[str]:
    """Return a text as lines, as it is stored if an editor would store it like that."""
    text = "".join(stored)
    lines = text.splitlines(keepends=True)
    if isinstance(stored, list) and stored != lines:
        plain = re.findall(r"[^\n]*\n|[^\n]+", text)
        return stored if stored == plain else lines
    return lines


# %% split_data
def split_data(mime: str, value: Any) -> Any:
    """Return the value of a mime type as Jupyter stores it."""
    if is_json(mime) or not is_text(value):
        return value
    is_lines = mime.startswith("text/") or mime in TEXTS
    return split_text(value) if is_lines else "".join(value)


def is_json(mime: str) -> bool:
    """Is it a mime type of JSON?"""
    return mime.startswith("application/") and mime.endswith(("/json", "+json"))


TEXTS = ("image/svg+xml", "application/javascript")


# ## Ids
# %% fill_ids
def fill_ids(cells: Iterable[dict[str, Any]]) -> None:
    """Give an id, derived from its text, to each cell that has none of its own."""
    cells = list(cells)
    ids = [cell.get("id") for cell in cells]
    taken = {one for one in ids if isinstance(one, str)}
    seen = {""}
    for cell in cells:
        if not isinstance(cell.get("id"), str) or cell["id"] in seen:
            cell["id"] = derive_id("".join(cell["source"]), taken)
            taken.add(cell["id"])
        seen.add(cell["id"])


def derive_id(text: str, taken: set[str]) -> str:
    """Return an id for a text that is not taken yet."""
    stem = name = f"{zlib.crc32(text.encode(errors='replace')):08x}"
    number = 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name
