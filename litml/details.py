# Exported from nbs/08d_details.ipynb. Edit either side, then run `litml sync`.
"""Say in one line each what changed around a cell's source: metadata and outputs."""

import json
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from litml.notebook import Cell

__all__ = [
    "MANY",
    "describe_table",
    "compare_tables",
    "describe_outputs",
    "core",
    "normalize",
    "join_lines",
    "list_outputs",
]


# ## Metadata
# %% write_value
WIDTH = 60


def write_value(value: object) -> str:
    """Return a JSON value on one line, whose length says whether to cut it."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def shorten(text: str, width: int = WIDTH) -> str:
    """Return a text cut to a width, if it is longer."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


# %% describe_table
MANY = 8


def describe_table(
    old: Mapping[str, Any], new: Mapping[str, Any], name: str
) -> list[str]:
    """Return a line for each key of a JSON object that changed, in order of keys."""
    changes = list(compare_tables(old, new, "", 2))
    lines = [f"{name}: {change}" for change in islice(changes, MANY)]
    if len(changes) > MANY:
        lines.append(f"{name}: {len(changes) - MANY} more changed")
    return lines


def compare_tables(
    old: Mapping[str, Any], new: Mapping[str, Any], above: str, depth: int
) -> Iterator[str]:
    """Yield what happened to each key, down to `depth` levels."""
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        path = above + shorten(key)
        if depth > 1 and isinstance(before, dict) and isinstance(after, dict):
            yield from compare_tables(before, after, f"{path}.", depth - 1)
        elif key not in new:
            yield f"{path} {shorten(write_value(before))} removed"
        elif key not in old:
            yield f"{path} {shorten(write_value(after))} added"
        elif (one := write_value(before)) != (other := write_value(after)):
            yield f"{path} {shorten(one)} → {shorten(other)}"


# ## Outputs
# %% describe_output
def describe_output(output: Mapping[str, Any]) -> str:
    """Return kind and size of an output, in a few words."""
    if "text" in output:
        return f"{output.get('name', 'stream')} {count_lines(output['text'])}"
    if output.get("output_type") == "error":
        return shorten(f"error {output.get('ename')}", 40)
    data = output.get("data")
    data = data if isinstance(data, dict) else {}
    rich = [kind for kind in data if kind != "text/plain"]
    if not rich:
        return f"text {count_lines(data.get('text/plain', ''))}"
    kind = next((kind for kind in rich if kind.startswith("image/")), rich[0])
    return f"{shorten(kind, 40)} {count_bytes(data[kind])}"


def count_lines(text: object) -> str:
    """Return how many lines a text has, whether it is stored as lines or as one."""
    joined = join_text(text).removesuffix("\n")
    number = joined.count("\n") + 1 if joined else 0
    return f"{number} line" if number == 1 else f"{number} lines"


def join_text(text: object) -> str:
    """Return a text that is stored as lines or as one."""
    return "".join(map(str, text)) if isinstance(text, list) else str(text)


def count_bytes(value: object) -> str:
    """Return how long a value is in the file, roughly."""
    text = write_value(value) if isinstance(value, dict) else join_text(value)
    return f"{len(text)} bytes" if len(text) < 10_000 else f"{len(text) // 1000} kB"


# %% describe_outputs
def describe_outputs(old: Cell, new: Cell) -> list[str]:
    """Return the line about changed outputs, or no line."""
    if old.outputs == new.outputs:
        return []
    before, after = core(old), core(new)
    if before == after:
        return []
    was, now = list_outputs(old), list_outputs(new)
    if not before:
        return [f"outputs added: {now}"]
    if not after:
        return [f"outputs removed: {was}"]
    return [f"outputs changed: {was if was == now else f'{was} → {now}'}"]


def core(cell: Cell) -> list[str]:
    """Return the outputs without execution counts and without how text is stored."""
    return [write_value(normalize(output)) for output in cell.outputs]


def normalize(output: Mapping[str, Any]) -> dict[str, Any]:
    """Return an output in one form, without the number of the execution it is from."""
    data = output.get("data")
    joined = {key: join_lines(value) for key, value in output.items()}
    if isinstance(data, dict):
        joined["data"] = {kind: join_lines(value) for kind, value in data.items()}
    joined.pop("execution_count", None)
    return joined


def join_lines(value: object) -> object:
    """Return a list of lines as one text, and any other value as it is."""
    lines = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return join_text(value) if lines else value


def list_outputs(cell: Cell) -> str:
    """Return what the outputs of a cell are, in one line."""
    shown = [describe_output(output) for output in cell.outputs[:4]]
    more = len(cell.outputs) - len(shown)
    return ", ".join([*shown, f"{more} more"] if more else shown)
