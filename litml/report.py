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
    "BAD",
    "render_page",
    "count_verdicts",
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
:root { color-scheme: light dark; font: .95rem/1.5 system-ui, sans-serif;
  --ground: #fff; --ink: #1b1b1b; --line: #d4d4d4; --code: #f2f2f2; --link: #0b57d0;
  --failed: #b3261e; --passed: #176b2c; --skipped: #7a4f00 }
@media (prefers-color-scheme: dark) { :root {
  --ground: #141414; --ink: #e6e6e6; --line: #3d3d3d; --code: #222; --link: #9ab8ff;
  --failed: #ff8f86; --passed: #7fd894; --skipped: #f0c36c } }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere;
  background: var(--ground); color: var(--ink) }
h1 { margin-bottom: 0 } h2 { display: inline; font-size: 1.15rem }
a { color: var(--link) } summary { cursor: pointer } section { margin-top: 1.5rem }
table { border-collapse: collapse; width: 100%; table-layout: fixed; margin-top: .4rem }
th, td { padding: .2rem .4rem; border-top: 1px solid var(--line);
  vertical-align: top; text-align: left; font-weight: normal }
thead th { border: 0; color: var(--ink); opacity: .8; font-size: .85rem }
.verdict { width: 4.5rem } .time { width: 4.5rem; text-align: right }
.why td { border: 0; padding-top: 0 }
pre { margin: .3rem 0; padding: .6rem; background: var(--code); white-space: pre-wrap }
.failed, .error { color: var(--failed); font-weight: bold }
.passed { color: var(--passed) } .skipped { color: var(--skipped) }
</style>
<main>
<h1>{{ title }}</h1>
<p>{{ counts }} in {{ "%.1f" | format(seconds) }} s</p>
{% if failures %}
<nav aria-label="failures"><ul>
{% for entry in failures %}
<li><a href="#failure-{{ loop.index }}">{{ entry.file }}: {{ entry.name }}</a></li>
{% endfor %}
</ul></nav>
{% endif %}
{% for file, entries, counts, is_open in files %}
<section>
<details{{ " open" if is_open }}><summary><h2>{{ file }}</h2> ({{ counts }})</summary>
<table>
<thead><tr><th class="verdict" scope="col">verdict</th><th scope="col">test</th>\
<th class="time" scope="col">time</th></tr></thead>
{% for entry in entries %}
<tr{% if entry in failures %} id="failure-{{ failures.index(entry) + 1 }}"{% endif %}>
<td class="verdict {{ entry.verdict }}">{{ entry.verdict }}</td>
<th scope="row">{{ entry.name }}{% if entry.tries > 1 %} (try {{ entry.tries }})\
{% endif %}{% if entry.verdict == "skipped" %}: {{ entry.text }}{% endif %}</th>
<td class="time">{{ "%.2f" | format(entry.seconds) }} s</td>
</tr>
{% if entry.text and entry.verdict != "skipped" %}
<tr class="why"><td colspan="3"><pre>{{ entry.text }}</pre>
{% if entry.artifact %}
<a href="{{ entry.artifact }}">the executed copy of {{ file }}</a>
{% endif %}
</td></tr>
{% endif %}
{% endfor %}
</table>
</details>
</section>
{% endfor %}
</main>
</html>
"""


# %% render_page
BAD = ("failed", "error")


def render_page(entries: Sequence[Entry], title: str, seconds: float) -> str:
    """Return the page about a run that took so many seconds; failures come first."""
    from jinja2 import Environment

    files: dict[str, list[Entry]] = {}
    for entry in entries:
        files.setdefault(entry.file, []).append(entry)
    rows = [
        (file, found, count_verdicts(found), any(one.verdict in BAD for one in found))
        for file, found in files.items()
    ]
    rows.sort(key=lambda row: not row[3])
    failures = [one for row in rows for one in row[1] if one.verdict in BAD]
    counts = count_verdicts(entries) or "no tests"
    template = Environment(autoescape=True, trim_blocks=True).from_string(PAGE)
    values: dict[str, Any] = {"title": title, "seconds": seconds, "counts": counts}
    return template.render(files=rows, failures=failures, **values)


def count_verdicts(entries: Sequence[Entry]) -> str:
    """Return how many tests passed, failed and so on, in words."""
    verdicts = [entry.verdict for entry in entries]
    kinds = [kind for kind in (*BAD, "skipped", "passed") if kind in verdicts]
    return ", ".join(f"{verdicts.count(kind)} {kind}" for kind in kinds)
