# Exported from nbs/11_saving.ipynb. Edit either side, then run `litml sync`.
"""Put the outputs of a run into its notebook, the same after every run."""

import json
import re

from litml.notebook import Notebook
from litml.outcome import Output, Status
from litml.run import NotebookRun
from litml.text import parse_source

__all__ = ["UNSTABLE", "settle", "store_output", "XML", "save_outputs"]


# ## What changes from run to run
# %% UNSTABLE
UNSTABLE = [
    (re.compile(r" at 0x[0-9a-fA-F]+"), ""),
    (re.compile(r"(?<![^\s\"'])[^\s\"']*[/\\]ipykernel_\d+[/\\]\d+\.py"), "<cell>"),
    (re.compile(r"(In ?\[)\d+(\])"), r"\1 \2"),
]


def settle(text: str) -> str:
    """Return a text without what would differ in the next run."""
    for pattern, stable in UNSTABLE:
        text = pattern.sub(stable, text)
    return text


# %% store_output
def store_output(output: Output) -> Output:
    """Return an output as it is stored in a notebook's file, in a stable form."""
    stored: Output = json.loads(json.dumps(output, sort_keys=True))
    if stored["output_type"] == "stream":
        stored["text"] = settle(stored["text"]).splitlines(keepends=True)
    elif stored["output_type"] == "error":
        stored["traceback"] = [settle(line) for line in stored["traceback"]]
    for kind, value in stored.get("data", {}).items():
        if isinstance(value, str) and (kind.startswith("text/") or kind in XML):
            stored["data"][kind] = settle(value).splitlines(keepends=True)
    return stored


XML = ("application/javascript", "image/svg+xml")


# %% save_outputs
def save_outputs(notebook: Notebook, run: NotebookRun) -> Notebook:
    """Return a copy of the notebook that holds the outputs of its run."""
    copy = parse_source(notebook.to_bytes(), notebook.name)
    runs = {cell.cell: cell for cell in run.cells}
    for cell in copy.cells:
        if cell.kind != "code":
            continue
        cell.data["execution_count"] = None
        cell.metadata.pop("execution", None)
        done = runs.get(cell.id)
        if done and done.status is not Status.SKIPPED:
            cell.data["outputs"] = [store_output(output) for output in done.outputs]
    return copy
