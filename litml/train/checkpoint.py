# Exported from nbs/train/07_checkpoint.ipynb. Edit either side, then run `litml sync`.
"""Save a training while it runs: the last state to go on from, and the best."""

from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from litml.train.device import TrainError
from litml.train.events import Run
from litml.train.state import write_state

__all__ = ["Checkpoint"]


# ## The callback
# %% checkpoint
@dataclass(slots=True)
class Checkpoint:
    """Save the last and the best state of a training in a folder.

    `monitor` is a name in the logs, or None for no `best`; `keep` is how many last
    states stay (`last`, `last.1`, ...).
    """

    folder: Path | str
    monitor: str | None = "valid_loss"
    mode: str = "min"
    every_steps: int | None = None
    keep: int = 1
    best: float | None = None
    is_last = True  # called after the callbacks that it saves

    def __post_init__(self) -> None:
        self.folder = Path(self.folder)
        if self.mode not in ("min", "max"):
            raise TrainError(f"mode `{self.mode}`", "it is `min` or `max`")

    def on_fit_start(self, run: Run) -> None:
        """Forget the best of another training; a folder in vain is told now."""
        self.best = None
        Path(self.folder).mkdir(parents=True, exist_ok=True)

    def on_step_end(self, run: Run) -> None:
        """Save every so many steps, and before the training is left."""
        is_due = self.every_steps and run.step % self.every_steps == 0
        if is_due or run.stopping:
            self.save(run, "last", self.keep)

    def on_epoch_end(self, run: Run) -> None:
        """Save the epoch, and if it is the best, once more."""
        if self.monitor is not None and self.is_best(run, self.monitor):
            self.best = run.logs[self.monitor]
            self.save(run, "best")
        self.save(run, "last", self.keep)

    def on_exception(self, run: Run) -> None:
        """Save what there is, if anything has been done.

        One of many processes cannot: the others wait elsewhere.
        """
        if run.batch is not None and run.world.size == 1:
            self.save(run, "failed")

    def state_dict(self) -> dict[str, Any]:
        """Return the best value so far."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the best value."""
        self.best = state["best"]

    def is_best(self, run: Run, monitor: str) -> bool:
        """Return whether the epoch is better than any before; a NaN is not."""
        if monitor not in run.logs:
            hint = f"there are {', '.join(run.logs)}; `monitor=None` saves no best"
            raise TrainError(f"Checkpoint: nothing logs `{monitor}`", hint)
        sign = 1 if self.mode == "min" else -1
        best = sign * inf if self.best is None else self.best
        return sign * run.logs[monitor] < sign * best

    def save(self, run: Run, name: str, keep: int = 1) -> None:
        """Write the state of a run into a folder of that name."""
        write_state(Path(self.folder) / name, run, keep)
