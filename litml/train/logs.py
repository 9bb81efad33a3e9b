# Exported from nbs/train/15_logs.ipynb. Edit either side, then run `litml sync`.
"""Keep what a training measures: in a CSV file, for TensorBoard, and as curves that
grow in a notebook.
"""

import csv
import io
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from litml.train.device import TrainError
from litml.train.events import Run
from litml.train.progress import is_notebook

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "History",
    "to_csv",
    "find_names",
    "CsvLog",
    "TensorBoardLog",
    "open_writer",
    "group_names",
    "draw_curves",
    "LiveCurves",
]


# ## CSV
# %% to_csv
History = Sequence[Mapping[str, float]]


def to_csv(history: History, columns: Sequence[str], first: int = 0) -> str:
    """Return the rows of the epochs from `first` on; with the head, if that is 0."""
    file = io.StringIO()
    writer = csv.DictWriter(file, ["epoch", *columns], lineterminator="\n")
    if not first:
        writer.writeheader()
    for epoch, logs in enumerate(history[first:], first):
        writer.writerow({"epoch": epoch, **logs})
    return file.getvalue()


def find_names(history: History) -> list[str]:
    """Return all names in the logs, in the order of their first appearance."""
    return list(dict.fromkeys(name for logs in history for name in logs))


# %% CsvLog
@dataclass(slots=True)
class CsvLog:
    """Write a row an epoch into a file; one that is there is written anew."""

    path: Path | str
    columns: list[str] = field(default_factory=list, init=False)

    def on_fit_start(self, run: Run) -> None:
        """Write what went before."""
        if run.world.rank == 0:
            self.write_all(run.history)

    def on_epoch_end(self, run: Run) -> None:
        """Add the epoch."""
        if run.world.rank:
            return
        if run.logs.keys() - set(self.columns):
            return self.write_all(run.history)
        with Path(self.path).open("a", encoding="utf-8", newline="") as file:
            file.write(to_csv(run.history, self.columns, run.epoch))

    def write_all(self, history: History) -> None:
        """Write the whole file, or leave the old one as it is."""
        path = Path(self.path)
        self.columns = find_names(history)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.write_text(to_csv(history, self.columns), "utf-8", newline="")
        os.replace(partial, path)


# ## TensorBoard
# %% TensorBoardLog
@dataclass(slots=True)
class TensorBoardLog:
    """Write what TensorBoard shows into a folder; needs `tensorboard`."""

    folder: Path | str
    every: int = 50  # steps from one look at the loss to the next
    writer: Any = field(default=None, init=False, repr=False)

    def on_fit_start(self, run: Run) -> None:
        """Open the files."""
        if run.world.rank == 0:
            purge = run.step + 1 if run.step else None
            self.writer = open_writer(str(self.folder), purge)

    def on_step_end(self, run: Run) -> None:
        """Write loss and rates, sometimes; this waits for the device."""
        if run.step % self.every == 0 and self.writer:
            self.writer.add_scalar("step/loss", run.loss.item(), run.step)
            for i, group in enumerate(run.optimizer.param_groups):
                self.writer.add_scalar(f"step/rate {i}", float(group["lr"]), run.step)

    def on_epoch_end(self, run: Run) -> None:
        """Write what the epoch brought."""
        if self.writer:
            for name, value in run.logs.items():
                self.writer.add_scalar(f"epoch/{name}", value, run.step)
            self.writer.flush()

    def on_fit_end(self, run: Run) -> None:
        """Close the files."""
        if self.writer:
            self.writer.close()
            self.writer = None

    on_exception = on_fit_end


def open_writer(folder: str, purge: int | None) -> Any:
    """Return torch's writer; raises `TrainError` where TensorBoard is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        hint = "pip install tensorboard, or log into a CSV file"
        raise TrainError(
            "TensorBoardLog needs the package tensorboard", hint
        ) from error
    return SummaryWriter(folder, purge_step=purge)


# ## Curves
# %% group_names
def group_names(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return for each quantity its names in the logs, by what they were measured on."""
    groups: dict[str, dict[str, str]] = {}
    for name in names:
        kind, _, rest = name.partition("_")
        is_known = kind in ("train", "valid") and rest
        quantity, label = (rest, kind) if is_known else (name, "")
        groups.setdefault(quantity, {})[label] = name
    return groups


def draw_curves(history: History) -> "Figure":
    """Return a drawing of each quantity over the epochs; needs matplotlib."""
    from matplotlib.figure import Figure

    groups = group_names(find_names(history)) or {"": {}}
    figure = Figure(figsize=(4.5 * len(groups), 3), layout="constrained")
    every = figure.subplots(1, len(groups), squeeze=False)[0]
    for axes, (quantity, names) in zip(every, groups.items(), strict=True):
        for label, name in names.items():
            points = [(i, logs[name]) for i, logs in enumerate(history) if name in logs]
            axes.plot(*zip(*points, strict=True), marker=".", label=label or None)
        axes.set(xlabel="epoch", title=quantity)
        if len(names) > 1:
            axes.legend()
    return figure


# %% LiveCurves
@dataclass(slots=True)
class LiveCurves:
    """Draw the curves below the cell that trains; needs matplotlib."""

    pause: float = 1.0  # seconds from one drawing to the next, at least
    handle: Any = field(default=None, init=False, repr=False)
    drawn: float = field(default=0.0, init=False)

    def on_fit_start(self, run: Run) -> None:
        """Begin another drawing."""
        self.handle, self.drawn = None, 0.0

    def on_epoch_end(self, run: Run) -> None:
        """Draw the epochs so far, if the last drawing is old."""
        if time.monotonic() >= self.drawn + self.pause:
            self.draw(run)

    def on_fit_end(self, run: Run) -> None:
        """Draw them all."""
        self.draw(run)

    def draw(self, run: Run) -> None:
        """Show the curves in place of those before."""
        if not run.history or not is_notebook() or run.world.rank:
            return
        import IPython.display

        shown: Any = IPython.display  # which has no types
        file = io.BytesIO()
        draw_curves(run.history).savefig(file, format="png", dpi=100)
        names = ", ".join(find_names(run.history))
        alt = f"{names} over {len(run.history)} epochs"
        image = shown.Image(file.getvalue(), alt=alt)
        if self.handle is None:
            self.handle = shown.display(image, display_id=True)
        else:
            self.handle.update(image)
        self.drawn = time.monotonic()
