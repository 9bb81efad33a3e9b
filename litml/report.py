# Exported from nbs/13e_report.ipynb. Edit either side, then run `litml sync`.
"""Keep what a failed run leaves: the executed copy of the notebook, and one page
about the whole run.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from litml.files import replace_file
from litml.notebook import LitmlError, Location, Notebook
from litml.outcome import Failure, Output, Status
from litml.run import CellRun, NotebookRun, Step
from litml.saving import save_outputs

__all__ = [
    "MOST",
    "cap_outputs",
    "execute_copy",
    "add_failure",
    "artifact_path",
    "write_whole",
    "Entry",
    "PAGE",
    "render_page",
]


# ## The executed copy
# %% cap_outputs
MOST = 1_000_000


def cap_outputs(outputs: Sequence[Output], most: int = MOST) -> list[Output]:
    """Return outputs cut to about `most` characters, with a note where that was."""
    kept: list[Output] = []
    room = most
    for output in outputs:
        size = len(json.dumps(output))
        if size <= room:
            kept.append(output)
        elif output["output_type"] == "stream":
            text = "".join(output["text"])[: max(room, 0)]
            kept.append({**output, "text": f"{text}\n[cut]\n"})
        else:
            note = f"[an output of {size:,} characters was left out]\n"
            kept.append({"output_type": "stream", "name": "stderr", "text": note})
        room -= size
        if room < 0:
            break
    return kept


# %% execute_copy
def execute_copy(
    notebook: Notebook, steps: Sequence[Step], runs: Sequence[CellRun]
) -> bytes:
    """Return the notebook's file with the outputs of a run that stopped at a failure.

    A notebook that is a text file becomes a Jupyter notebook, since text has no place
    for outputs.
    """
    own = {step.cell for step in steps if not step.notebook}
    done = [
        replace(run, outputs=tuple(cap_outputs(run.outputs)))
        for run, step in zip(runs, steps, strict=False)
        if not step.notebook
    ]
    left = own - {run.cell for run in done}
    unrun = [CellRun(cell, Status.NOT_RUN) for cell in sorted(left)]
    copy = save_outputs(notebook, NotebookRun(notebook.name, (*done, *unrun)))
    failures = {run.cell: run.failure for run in done if run.failure}
    for cell in copy.cells:
        if cell.kind == "code":
            failure = failures.get(cell.id)
            cell.data["outputs"] = add_failure(cell.outputs, failure)
    if notebook.name.endswith(".ipynb"):
        return copy.to_bytes()
    cells = [cell.data for cell in copy.cells]
    tree = {"nbformat": 4, "nbformat_minor": 5, "metadata": copy.metadata}
    return json.dumps({**tree, "cells": cells}, indent=1).encode()


def add_failure(outputs: list[Output], failure: Failure | None) -> list[Output]:
    """Return a cell's outputs with its failure, unless they tell of it already."""
    if failure is None or any(one["output_type"] == "error" for one in outputs):
        return outputs
    text = f"{failure}\n{failure.traceback}".rstrip() + "\n"
    lines = text[:MOST].splitlines(keepends=True)
    return [*outputs, {"output_type": "stream", "name": "stderr", "text": lines}]


# %% artifact_path
def artifact_path(folder: Path, name: str, label: str = "") -> Path:
    """Return where the executed copy of the notebook `name` belongs."""
    path = Path(name)
    inside = not path.is_absolute() and ".." not in path.parts
    stem = path.with_suffix("") if inside else Path(path.stem)
    return folder / stem.with_name(f"{stem.name}{f'[{label}]' if label else ''}.ipynb")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one step. Raises `LitmlError` if that cannot be done."""
    try:
        replace_file(path, data)
    except OSError as error:
        at = Location(str(path))
        raise LitmlError(f"cannot be written: {error.strerror}", at=at) from error


# ## The page
# %% Entry
@dataclass(frozen=True, slots=True)
class Entry:
    """One test on the page; `file` and `name` are two parts of its id.

    `verdict` is passed, failed, error or skipped; `text` says why. `artifact` is the
    path of the executed copy, if one was kept.
    """

    file: str
    name: str
    verdict: str
    seconds: float = 0.0
    text: str = ""
    artifact: str = ""
    tries: int = 1


# %% PAGE
PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}: {{ counts }}</title>
<style>
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
td { padding: .15rem .6rem; border-top: 1px solid #8884; vertical-align: top }
td:last-child { text-align: right; white-space: nowrap }
pre { overflow-x: auto; padding: .6rem; background: #8882; white-space: pre-wrap }
.failed, .error { color: #d33 } .passed { color: #2a2 } .skipped { color: #b80 }
</style>
<h1>{{ title }}</h1>
<p>{{ counts }} in {{ "%.1f" | format(seconds) }} s</p>
{% for file, entries in files.items() %}
<h2>{{ file }}</h2>
<table>
{% for entry in entries %}
<tr>
<td class="{{ entry.verdict }}">{{ entry.verdict }}</td>
<td>{{ entry.name }}{% if entry.tries > 1 %} (try {{ entry.tries }}){% endif %}
{% if entry.verdict == "skipped" %}: {{ entry.text }}
{% elif entry.text %}<details open><summary>why</summary><pre>{{ entry.text }}</pre>
{% if entry.artifact %}<a href="{{ entry.artifact }}">the executed notebook</a>{% endif %}
</details>{% endif %}</td>
<td>{{ "%.2f" | format(entry.seconds) }} s</td>
</tr>
{% endfor %}
</table>
{% endfor %}
</html>
"""  # noqa: E501


# %% render_page
def render_page(entries: Sequence[Entry], title: str, seconds: float) -> str:
    """Return the page about a run that took so many seconds; failures come first."""
    from jinja2 import Environment

    files: dict[str, list[Entry]] = {}
    for entry in entries:
        files.setdefault(entry.file, []).append(entry)
    bad = ("failed", "error")
    ordered = sorted(
        files.items(), key=lambda pair: not any(one.verdict in bad for one in pair[1])
    )
    kinds = [*bad, "skipped", "passed"]
    numbers = {kind: sum(one.verdict == kind for one in entries) for kind in kinds}
    counts = ", ".join(f"{number} {kind}" for kind, number in numbers.items() if number)
    template = Environment(autoescape=True, trim_blocks=True).from_string(PAGE)
    values: dict[str, Any] = {"title": title, "seconds": seconds}
    return template.render(files=dict(ordered), counts=counts or "no tests", **values)
