# Exported from nbs/train/14_progress.ipynb. Edit either side, then run `litml sync`.
"""See how a training goes: a line that moves in a terminal, a table that grows in a
notebook, a line an epoch in a log file.
"""

import html
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Protocol, TextIO

from litml.train.events import Run

__all__ = [
    "format_logs",
    "format_pace",
    "View",
    "Lines",
    "Terminal",
    "Table",
    "make_row",
    "is_notebook",
    "choose_view",
    "Progress",
]


# ## Words
# %% format_logs
def format_logs(logs: Mapping[str, float]) -> str:
    """Return names and numbers in one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in logs.items())


def format_pace(steps: int, seconds: float, left: int | None) -> str:
    """Return how fast steps are, and for how long they will go on."""
    pace = steps / max(seconds, 1e-9)
    if left is None:
        return f"{pace:.3g} steps/s"
    minutes, rest = divmod(round(left / pace), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"{pace:.3g} steps/s  {clock} left"


# ## Three views
# %% View
class View(Protocol):
    """Where progress is shown."""

    def show(self, line: str) -> None:
        """Show a line until the next one; an empty one takes it away."""
        ...

    def keep(self, epoch: str, logs: Mapping[str, float]) -> None:
        """Add what an epoch brought, for good."""
        ...

    def say(self, line: str) -> None:
        """Add a line, for good."""
        ...


@dataclass(slots=True)
class Lines:
    """Whole lines, for a file or a pipe."""

    stream: TextIO

    def show(self, line: str) -> None:
        """Show nothing that passes."""

    def keep(self, epoch: str, logs: Mapping[str, float]) -> None:
        """Write a line."""
        self.say(f"epoch {epoch}  {format_logs(logs)}")

    def say(self, line: str) -> None:
        """Write a line."""
        print(line, file=self.stream, flush=True)


@dataclass(slots=True)
class Terminal(Lines):
    """Lines, and below them one that passes."""

    def show(self, line: str) -> None:
        """Write over the last line."""
        width = shutil.get_terminal_size().columns - 1
        self.stream.write(f"\r\x1b[K{line[:width]}")
        self.stream.flush()

    def say(self, line: str) -> None:
        """Write a line in place of the one that passes."""
        self.show("")
        print(line, file=self.stream, flush=True)


# %% Table
@dataclass(slots=True)
class Table:
    """A table below a cell of a notebook."""

    rows: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    line: str = ""
    handle: Any = None  # IPython's, once something was displayed

    def show(self, line: str) -> None:
        """Change the line below the table."""
        self.line = line
        self.update()

    def keep(self, epoch: str, logs: Mapping[str, float]) -> None:
        """Add a row."""
        numbers = {name: f"{value:.4g}" for name, value in logs.items()}
        self.rows.append({"epoch": epoch, **numbers})
        self.show("")

    def say(self, line: str) -> None:
        """Add a line below the table."""
        self.notes.append(line)
        self.show("")

    def update(self) -> None:
        """Bring the cell's output up to date."""
        import IPython.display

        shown: Any = IPython.display  # which has no types
        bundle = {"text/plain": self.to_text(), "text/html": self.to_html()}
        if self.handle is None:
            self.handle = shown.display(bundle, raw=True, display_id=True)
        else:
            self.handle.update(bundle, raw=True)

    def to_text(self) -> str:
        """Return rows and lines as text."""
        rows = ["  ".join(f"{k} {v}" for k, v in row.items()) for row in self.rows]
        return "\n".join([*rows, *self.notes, *filter(None, [self.line])])

    def to_html(self) -> str:
        """Return rows and lines as HTML."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        table = [make_row("th", names)] if names else []
        table += [make_row("td", [row.get(n, "") for n in names]) for row in self.rows]
        below = [*self.notes, *filter(None, [self.line])]
        words = "".join(f"<p>{html.escape(one)}</p>" for one in below)
        return f"<table>{''.join(table)}</table>{words}" if table else words


def make_row(kind: str, cells: list[str]) -> str:
    """Return a row of an HTML table."""
    made = "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in cells)
    return f"<tr>{made}</tr>"


# %% choose_view
def is_notebook() -> bool:
    """Does this run in a kernel, so that a front end shows outputs?"""
    if (ipython := sys.modules.get("IPython")) is None:
        return False
    return getattr(ipython.get_ipython(), "kernel", None) is not None


def choose_view(stream: TextIO) -> View:
    """Return the view that suits where the program runs."""
    if stream is sys.stderr and is_notebook():
        return Table()
    return Terminal(stream) if stream.isatty() else Lines(stream)


# ## The callback
# %% Progress
@dataclass(slots=True)
class Progress:
    """Show how a training goes; the loss is read every so many steps."""

    every: int = 20
    stream: TextIO | None = None  # standard error
    pause: float = 0.1  # seconds from one look to the next, at least
    view: View | None = field(default=None, init=False)
    began: float = field(default=0.0, init=False)
    shown: float = field(default=0.0, init=False)
    first: int = field(default=0, init=False)  # the step it began with

    def on_fit_start(self, run: Run) -> None:
        """Find out who looks."""
        speaks = run.world.rank == 0
        self.view = choose_view(self.stream or sys.stderr) if speaks else None
        self.began, self.first = time.monotonic(), run.step

    def on_step_end(self, run: Run) -> None:
        """Show the step, sometimes."""
        if run.step % self.every or not self.view:
            return
        if (now := time.monotonic()) >= self.shown + self.pause:
            self.shown = now
            self.view.show(self.describe(run))

    def on_epoch_end(self, run: Run) -> None:
        """Keep the epoch."""
        is_last = run.epoch + 1 == run.epochs or run.stopping
        is_due = (run.epoch + 1) % ceil(run.epochs / 100) == 0
        if self.view and (is_due or is_last):
            self.view.keep(f"{run.epoch + 1}/{run.epochs}", run.logs)

    def on_fit_end(self, run: Run) -> None:
        """Say why it ended early, if it did."""
        if self.view and run.stopping:
            self.view.say(f"stopped: {run.stopping}")

    def on_exception(self, run: Run) -> None:
        """Leave the place to the traceback."""
        if self.view:
            self.view.show("")

    def describe(self, run: Run) -> str:
        """Return the passing line; this waits for the device."""
        steps, total = run.step - self.first, run.epoch_steps
        left = None if total is None else total * run.epochs - run.step
        step = run.step if total is None else run.step - total * run.epoch
        where = f"epoch {run.epoch + 1}/{run.epochs}  step {step}"
        where += "" if total is None else f"/{total}"
        pace = format_pace(steps, time.monotonic() - self.began, left)
        return f"{where}  loss {run.loss.item():.4g}  {pace}"
