# Exported from nbs/07_clean.ipynb. Edit either side, then run `litml sync`.
"""Bring a notebook into the one form that git should see."""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from litml.canonical import (
    OddFile,
    fill_ids,
    is_json,
    is_text,
    load_tree,
    split_data,
    split_text,
    write_tree,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "NOTEBOOK_KEYS",
    "CELL_KEYS",
    "Policy",
    "OUTPUTS",
    "SECRETS",
    "parse_policy",
    "KINDS",
    "load_policy",
    "MARKERS",
    "settle_conflict",
    "choose_outputs",
    "find_word",
    "find_directive",
    "WIDGET",
    "settle_output",
    "settle_data",
    "settle_lines",
    "settle_outputs",
    "measure",
    "clean_tree",
    "clean_cell",
    "Cleaned",
    "clean_notebook",
    "clean_bytes",
]


# ## The policy
# %% Policy
NOTEBOOK_KEYS = frozenset(
    "kernelspec language_info jupytext nbdev litml title authors keep_output".split()
)
CELL_KEYS = frozenset(
    "tags slideshow editable deletable nbdev litml keep_output language vscode name"
    " format raw_mimetype".split()
)


class Policy(NamedTuple):
    """What of a notebook is kept.

    `outputs` is `drop`, `keep` or `small`, which is up to `limit` bytes an output.
    The key `*` keeps all metadata. `secrets` is `off`, `redact` or `block`.
    """

    outputs: str = "drop"
    limit: int = 10_000
    notebook_metadata: frozenset[str] = NOTEBOOK_KEYS
    cell_metadata: frozenset[str] = CELL_KEYS
    secrets: str = "off"


OUTPUTS = ("drop", "keep", "small")
SECRETS = ("off", "redact", "block")


# %% parse_policy
def parse_policy(table: Mapping[str, Any]) -> Policy:
    """Turn the table `[tool.litml.clean]` into a policy; raises `ConfigError`."""
    from litml.notebook import Location, suggest
    from litml.project import ConfigError, check_table

    check_table(table, KINDS, "tool.litml.clean")
    for key, words in (("outputs", OUTPUTS), ("secrets", SECRETS)):
        if (value := table.get(key, words[0])) not in words:
            message = f"`{key}` in [tool.litml.clean] is one of {', '.join(words)}"
            at = Location("pyproject.toml")
            hint = suggest(value, words)
            raise ConfigError(f"{message}, not {value!r}", at=at, hint=hint)
    if (limit := table.get("output-limit", 0)) < 0:
        message = f"`output-limit` in [tool.litml.clean] is a number of bytes: {limit}"
        raise ConfigError(message, at=Location("pyproject.toml"))
    return Policy(
        table.get("outputs", "drop"),
        table.get("output-limit", Policy().limit),
        NOTEBOOK_KEYS.union(table.get("notebook-metadata", ())),
        CELL_KEYS.union(table.get("cell-metadata", ())),
        table.get("secrets", "off"),
    )


KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "outputs": (str, "a string"),
    "output-limit": (int, "a number of bytes"),
    "notebook-metadata": (list, "a list of strings"),
    "cell-metadata": (list, "a list of strings"),
    "secrets": (str, "a string"),
}


# %% load_policy
def load_policy(configuration: bytes) -> Policy:
    """Return the policy from the bytes of a `pyproject.toml`; raises `ConfigError`."""
    if b"litml" not in configuration or b"clean" not in configuration:
        return Policy()
    import tomllib

    from litml.notebook import Location
    from litml.project import ConfigError, subtable

    try:
        table: Any = tomllib.loads(configuration.decode())
    except ValueError as error:
        at = Location("pyproject.toml")
        raise ConfigError(f"not TOML: {error}", at=at) from error
    for name in ("tool", "litml", "clean"):
        table = subtable(table, name)
    return parse_policy(table)


# ## Metadata
# %% clean_metadata
TRANSIENT = frozenset(["orig_nbformat", "orig_nbformat_minor", "signature", "trusted"])


def clean_metadata(metadata: dict[str, Any], keys: frozenset[str]) -> dict[str, Any]:
    """Return the metadata whose keys are kept."""
    everything = "*" in keys
    found = {
        key: value
        for key, value in metadata.items()
        if (everything or key in keys) and key not in TRANSIENT
    }
    about = found.get("language_info")
    if not everything and isinstance(about, dict) and "version" in about:
        rest = {key: value for key, value in about.items() if key != "version"}
        found["language_info"] = rest
    return found


# %% settle_conflict
MARKERS = r"(?m)^(?:<{7,}|\|{7,}|>{7,})(?: |\r?$)"  # `=======` underlines titles, too


def settle_conflict(metadata: dict[str, Any], text: str) -> dict[str, Any]:
    """Return a cell's metadata, less the flag of a conflict that is resolved."""
    said = metadata.get("litml")
    if not isinstance(said, dict) or said.get("conflict") != "source":
        return metadata
    if re.search(MARKERS, text):
        return metadata
    rest = {key: value for key, value in said.items() if key != "conflict"}
    others = {key: value for key, value in metadata.items() if key != "litml"}
    return others | ({"litml": rest} if rest else {})


# ## Outputs
# %% choose_outputs
def choose_outputs(cell: Mapping[str, Any], default: str) -> str:
    """Return what happens to a code cell's outputs: `drop`, `keep` or `small`."""
    said = find_directive("".join(cell["source"]))
    metadata = cell.get("metadata", {})
    tags = metadata.get("tags")
    tagged = isinstance(tags, list) and "keep_output" in tags
    return said or find_word(metadata) or ("keep" if tagged else default)


def find_word(metadata: Mapping[str, Any]) -> str:
    """Return what metadata, of a cell or a notebook, say of outputs."""
    said = metadata.get("litml")
    word = said.get("outputs") if isinstance(said, dict) else None
    if isinstance(word, str) and word in OUTPUTS:
        return word
    return "keep" if metadata.get("keep_output") is True else ""


def find_directive(text: str) -> str:
    """Return what the directive `outputs` in a cell's head says, if it is right."""
    said = ""
    if "outputs" in text:
        for line in text.split("\n"):
            head = re.match(
                r"\s*(?:(?:#|//|--|%|;)\s*\|\s*([^\s:]*)\s*:?(.*)|%%|$)", line
            )
            if not head:
                break
            if head[1] == "outputs":  # of several the last one counts
                said = head[2].strip()
    return said if said in OUTPUTS else ""


# %% settle_text
def settle_text(text: str) -> str:
    """Return a text without addresses, and without what was overwritten by `\\r`."""
    if "\r" in text:
        text = "\n".join(map(last_state, text.split("\n")))
    while " at 0x" in text:
        shorter = re.sub(r" at 0x[0-9a-fA-F]{6,}", "", text)
        if shorter == text:
            break
        text = shorter
    return text


def last_state(line: str) -> str:
    """Return what is seen of a line at the end; a `\\r` that ends it stays."""
    written = line.rstrip("\r")
    return line[written.rfind("\r") + 1 :]


def merge_streams(outputs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return outputs with neighbours of one stream in one."""
    found: list[dict[str, Any]] = []
    for (kind, _), group in groupby(outputs, key=stream_of):
        several = list(group)
        if kind == "stream" and len(several) > 1:
            text = "".join("".join(one.get("text", "")) for one in several)
            several = [{**several[0], "text": text}]
        found += several
    return found


def stream_of(output: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return what the outputs of one stream have in common."""
    return output.get("output_type"), output.get("name")


# %% settle_output
WIDGET = "application/vnd.jupyter.widget-view+json"


def settle_output(output: dict[str, Any], widgets: bool) -> dict[str, Any]:
    """Return an output in the form that the next run will give it, too."""
    found = {key: value for key, value in output.items() if key != "transient"}
    if "execution_count" in found:
        found["execution_count"] = None
    if "metadata" in found:
        shown = {"isolated", "needs_background"}
        told = found["metadata"].items()
        found["metadata"] = {k: v for k, v in told if "/" in k or k in shown}
    if "text" in found:
        found["text"] = settle_lines(found["text"])
    if "traceback" in found:
        found["traceback"] = [settle_text(line) for line in found["traceback"]]
    if isinstance(found.get("evalue"), str):
        found["evalue"] = settle_text(found["evalue"])
    if "data" in found:
        data = found["data"].items()
        kept = {mime: value for mime, value in data if widgets or mime != WIDGET}
        found["data"] = {mime: settle_data(mime, kept[mime]) for mime in kept}
    return found


def settle_data(mime: str, value: Any) -> Any:
    """Return the value of one mime type: text without addresses, as lines."""
    if is_json(mime) or not is_text(value):
        return value
    if mime.startswith("text/"):
        return settle_lines(value)
    return split_data(mime, value)


def settle_lines(stored: str | list[str]) -> list[str]:
    """Return a text as lines, the stored ones if nothing in it had to change."""
    before = "".join(stored)
    after = settle_text(before)
    return split_text(stored if after == before else after)


# %% settle_outputs
def settle_outputs(
    outputs: list[dict[str, Any]], limit: int | None, widgets: bool = False
) -> list[dict[str, Any]]:
    """Return the outputs to be kept; with a limit, those of up to so many bytes."""
    while True:
        settled = [settle_output(one, widgets) for one in merge_streams(outputs)]
        kept = [one for one in settled if one.get("data", True)]
        if limit is not None:
            kept = [one for one in kept if measure(one) <= limit]
        if kept == outputs:
            return kept
        outputs = kept


def measure(output: dict[str, Any]) -> int:
    """Return the size of an output: the bytes of its JSON, without a layout."""
    text = json.dumps(output, ensure_ascii=False)
    return len(text.encode("utf-8", "backslashreplace"))


# ## All together
# %% clean_tree
def clean_tree(tree: dict[str, Any], policy: Policy) -> None:
    """Clean the tree of a notebook of format 4, in place."""
    metadata = tree.get("metadata", {})
    default = find_word(metadata) or policy.outputs
    tree["metadata"] = clean_metadata(metadata, policy.notebook_metadata)
    widgets = "widgets" in tree["metadata"]
    minor = tree.get("nbformat_minor")
    if isinstance(minor, int) and minor >= 5:
        fill_ids(tree["cells"])
    for cell in tree["cells"]:
        clean_cell(cell, policy, default, widgets)


def clean_cell(
    cell: dict[str, Any], policy: Policy, default: str, widgets: bool
) -> None:
    """Clean a cell, in place; `default` is what happens to outputs otherwise."""
    if cell["cell_type"] == "code":
        cell.setdefault("outputs", [])
        cell.setdefault("execution_count", None)
    cell.setdefault("metadata", {})
    if cell.get("outputs"):
        word = choose_outputs(cell, default)
        limit = policy.limit if word == "small" else None
        outputs = [] if word == "drop" else cell["outputs"]
        cell["outputs"] = settle_outputs(outputs, limit, widgets)
    if "execution_count" in cell:
        cell["execution_count"] = None
    cell["source"] = split_text(cell["source"])
    if cell.get("metadata"):
        kept = clean_metadata(cell["metadata"], policy.cell_metadata)
        cell["metadata"] = settle_conflict(kept, "".join(cell["source"]))
    attachments = cell.get("attachments")
    for bundle in attachments.values() if isinstance(attachments, dict) else ():
        if isinstance(bundle, dict):
            bundle |= {mime: split_data(mime, bundle[mime]) for mime in bundle}


# %% clean_notebook
class Cleaned(NamedTuple):
    """What cleaning gave: the bytes, and why they were left alone if they were.

    `cells` are the cleaned cells, `showed` the number and the outputs each had before.
    """

    data: bytes
    left: str = ""
    cells: Sequence[dict[str, Any]] = ()
    showed: Sequence[tuple[Any, Any]] = ()


def clean_notebook(raw: bytes, policy: Policy) -> Cleaned:
    """Clean a notebook's bytes; whatever is no notebook of format 4 is left alone."""
    try:
        tree = load_tree(raw)
        cells = tree["cells"]
        showed = [(one.get("execution_count"), one.get("outputs")) for one in cells]
        clean_tree(tree, policy)
        data = write_tree(tree)
    except OddFile as odd:
        return Cleaned(raw, str(odd))
    except RecursionError:
        return Cleaned(raw, "JSON nested too deeply to be a notebook")
    if b"Infinity" in data and b"Infinity" not in raw:
        return Cleaned(raw, "a number in it is too large to be read")
    return Cleaned(data, "", cells, showed)


def clean_bytes(raw: bytes, policy: Policy) -> bytes:
    """Return the bytes that git should see; always the same for the same bytes."""
    return clean_notebook(raw, policy).data
