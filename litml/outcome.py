# Exported from nbs/10_outcome.ipynb. Edit either side, then run `litml sync`.
"""Turn what a kernel sends about one cell into outputs and a verdict."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

__all__ = [
    "Output",
    "KINDS",
    "LIMIT",
    "OutputArea",
    "make_output",
    "measure",
    "update_displays",
    "Status",
    "Failure",
    "Execution",
    "judge",
    "SYNTAX_PLACE",
    "COLORS",
    "CELL_LINE",
    "OTHER_LINE",
    "find_line",
    "clean_traceback",
    "describe_report",
]


# ## Outputs
# %% OutputArea
Output = dict[str, Any]
KINDS = ("stream", "display_data", "execute_result", "error")
LIMIT = 10_000_000


class OutputArea:
    """What one cell shows: messages go in by `add`, `finish` gives the outputs.

    `displays` maps display ids to outputs, also those of earlier cells. Of all
    output about `limit` characters are kept.
    """

    def __init__(
        self, displays: dict[str, list[Output]] | None = None, limit: int = LIMIT
    ) -> None:
        self.outputs: list[Output] = []
        self.error: Output | None = None
        self.displays = {} if displays is None else displays
        self.limit = self.room = limit
        self.clear_next = False

    def add(self, kind: str, content: dict[str, Any]) -> None:
        """Take in one message; kinds that show nothing are passed over."""
        if kind == "too_long":
            self.room = -1
        elif kind == "clear_output":
            self.clear_next = True
            if not content.get("wait"):
                self.clear()
        elif kind == "update_display_data":
            update_displays(self.displays, content, self.limit)
        elif kind in KINDS:
            if self.clear_next:
                self.clear()
            output = make_output(kind, content)
            self.error = output if kind == "error" else self.error
            self.show(output, content.get("transient", {}).get("display_id"))

    def clear(self) -> None:
        """Forget what has been shown, but not that there was an error."""
        gone = {id(output) for output in self.outputs}
        for shown in self.displays.values():
            shown[:] = [output for output in shown if id(output) not in gone]
        self.outputs, self.room, self.clear_next = [], self.limit, False

    def show(self, output: Output, display: str | None) -> None:
        """Append an output, or as much of it as there is room for."""
        cost = measure(output)
        if output["output_type"] == "stream":
            self.write(output["name"], output["text"][: max(self.room, 0)])
        elif cost <= self.room:
            self.outputs.append(output)
            if display:
                self.displays.setdefault(display, []).append(output)
        self.room -= cost

    def write(self, stream: str, text: str) -> None:
        """Append text to a stream, to the last output if that is the same stream."""
        last = self.outputs[-1] if self.outputs else {}
        if text and last.get("name") == stream:
            last["text"].append(text)  # joined once, by `finish`
        elif text:
            new = {"output_type": "stream", "name": stream, "text": [text]}
            self.outputs.append(new)

    def last_text(self) -> list[str]:
        """Return the text of the last output; of a long one its end."""
        last = self.outputs[-1] if self.outputs else {}
        text = last.get("text") or last.get("data", {}).get("text/plain") or ""
        return ["".join(text)[-4000:]]

    def look(self) -> tuple[Output, ...]:
        """Return a copy of the outputs so far; more may come."""
        return tuple(
            {**output, "text": "".join(output["text"])} if "text" in output else output
            for output in self.outputs
        )

    def finish(self) -> tuple[Output, ...]:
        """Return the outputs, with a note as the last one if something was dropped."""
        if self.room < 0:
            note = f"[litml keeps {self.limit:,} characters of a cell's output: cut]\n"
            self.write("stderr", note)
            self.outputs += [self.error] if self.error else []
        for output in self.outputs:
            if output["output_type"] == "stream" and isinstance(output["text"], list):
                output["text"] = "".join(output["text"])
        return tuple(self.outputs)


# %% make_output
def make_output(kind: str, content: dict[str, Any]) -> Output:
    """Return the nbformat output for a message; execution counts are left out."""
    if kind == "stream":
        return {"output_type": kind, "name": content["name"], "text": content["text"]}
    if kind == "error":
        keys = ("ename", "evalue", "traceback")
        return {"output_type": kind, **{key: content[key] for key in keys}}
    output = {"data": content["data"], "metadata": content.get("metadata", {})}
    count = {"execution_count": None} if kind == "execute_result" else {}
    return {"output_type": kind, **count, **output}


# %% measure
def measure(output: Output) -> int:
    """Return the size of an output in characters, with something for its frame."""
    texts = [output.get("text", ""), *output.get("data", {}).values()]
    return 100 + sum(len(str(text)) for text in texts)


# %% update_displays
def update_displays(
    displays: dict[str, list[Output]], content: dict[str, Any], limit: int
) -> None:
    """Put new content into every output that shows the display."""
    new = make_output("display_data", content)
    if measure(new) <= limit:
        for output in displays.get(content["transient"]["display_id"], []):
            output |= {"data": new["data"], "metadata": new["metadata"]}


# ## The verdict
# %% Status
class Status(StrEnum):
    """The verdict on a cell."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    TIMED_OUT = "timed out"
    DIED = "died"
    NOT_RUN = "not run"


# %% Failure
@dataclass(frozen=True, slots=True)
class Failure:
    """Why a cell did not pass; `line` counts from 1 in the cell.

    `cell` is where it arose, if that is known not to be the cell that was running.
    """

    name: str
    value: str
    traceback: str = ""
    line: int | None = None
    cell: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.value}" if self.value else self.name


# %% Execution
@dataclass(frozen=True, slots=True)
class Execution:
    """What came of executing a cell once.

    `noticed` is a failure of something that ran beside it, such as a thread.
    """

    status: Status
    outputs: tuple[Output, ...]
    failure: Failure | None
    seconds: float
    noticed: Failure | None = None


# %% judge
def judge(
    reply: dict[str, Any], area: OutputArea, cells: Mapping[int, str]
) -> Failure | None:
    """Return why the cell failed, or None if reply and outputs say that it passed.

    `cells` names the cells by execution count, for the traceback.
    """
    error = area.error or {}
    if reply["status"] != "ok" or error:
        # A failing `_repr_html_` is an error in an output, and `NoneType` in the reply.
        said = reply if reply.get("ename", "NoneType") != "NoneType" else error
        trace = error.get("traceback") or reply.get("traceback") or area.last_text()
        return Failure(
            str(said.get("ename") or "Error"),
            SYNTAX_PLACE.sub("", str(said.get("evalue") or "")),
            clean_traceback(trace, cells),
            find_line("\n".join(trace), reply.get("execution_count", 0)),
        )
    if any(item.get("source") == "ask_exit" for item in reply.get("payload", [])):
        return Failure("Exit", "the cell ends its kernel, with `exit` or `quit`")
    return None


SYNTAX_PLACE = re.compile(r" \((?:\d+\.py|<\w+>), line \d+\)$")


# %% find_line
COLORS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
CELL_LINE = re.compile(
    r"Cell In ?\[(\d+)\], line (\d+)|File <(?:timed exec|magic-timeit)>:(\d+)"
)
OTHER_LINE = re.compile(
    r'[/\\]ipykernel_\d+[/\\]\d+\.py"?(?::|, line )(\d+)'  # Python's own
    r"|in <module>:(\d+)|File <(?:tokenize|string)>:(\d+)"  # rich; a wrong indent
)


def find_line(text: str, count: int) -> int | None:
    """Return the line of the cell with this execution count where an error arose.

    Reads IPython's tracebacks; in those of others the first cell's line will do.
    """
    text = COLORS.sub("", text)
    line = None
    for cell, plain, below_magic in CELL_LINE.findall(text):
        if below_magic or int(cell) > count:
            line = int(below_magic or plain) + 1
        elif int(cell) == count:
            line = int(plain)
    if line is None and (other := OTHER_LINE.search(text)):
        line = int(next(filter(None, other.groups())))
    return line


# %% clean_traceback
def clean_traceback(lines: Sequence[str], cells: Mapping[int, str]) -> str:
    """Return a traceback as plain text that calls the cells by their names."""
    newest = next(reversed(list(cells.values())), "")
    text = re.sub(r"^-{10,}\n", "", COLORS.sub("", "\n".join(lines)))
    return re.sub(
        r"Cell In ?\[(\d+)\]",
        lambda match: f"cell {cells.get(int(match[1]), newest)}",
        text,
    ).strip("\n")


# ## Beside the cell
# %% describe_report
def describe_report(
    report: Mapping[str, Any], cells: Mapping[int, str], requests: Mapping[str, str]
) -> Failure:
    """Return the failure that a report tells of.

    `cells` and `requests` name the cells by execution count and by request.
    """
    count, trace = report.get("count"), str(report.get("traceback") or "")
    cell = requests.get(str(report.get("request")), "")
    if count is not None:
        cell = cells.get(count, cell)
    said = f"{report.get('value') or ''} ({report.get('where')})".strip()
    name, line = str(report.get("name") or "Error"), report.get("line")
    return Failure(name, said, clean_traceback([trace], cells), line, cell)
