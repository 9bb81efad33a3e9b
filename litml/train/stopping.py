# Exported from nbs/train/08_stopping.ipynb. Edit either side, then run `litml sync`.
"""Stop when a measured value no longer gets better, and go back to the weights with
which it was best.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from math import isfinite, isnan
from typing import Any, Literal

import torch
from torch import Tensor

from litml.train.device import TrainError
from litml.train.events import Run

__all__ = [
    "StoppingError",
    "Standing",
    "Rule",
    "EarlyStopping",
    "share_value",
    "copy_tensor",
    "read_log",
]


# ## The rule
# %% Standing
class StoppingError(TrainError):
    """A rule that makes no sense, or a value that nobody logs."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a training has done: the best value, the last progress, and since when."""

    best: float | None = None
    best_epoch: int = -1
    reference: float | None = None  # what progress has to beat
    wait: int = 0  # epochs without progress


@dataclass(frozen=True, slots=True)
class Rule:
    """What counts as better, and how long to wait for it."""

    mode: Literal["min", "max"] = "min"
    patience: int = 3
    min_delta: float = 0.0
    relative: bool = False
    baseline: float | None = None
    start_from_epoch: int = 0

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max"):
            raise StoppingError(f"mode `{self.mode}`", "it is `min` or `max`")
        for name in ("patience", "min_delta", "start_from_epoch"):
            if getattr(self, name) < 0:
                raise StoppingError(f"{name}={getattr(self, name)} is below 0")

    def is_better(self, value: float, other: float | None, margin: float = 0.0) -> bool:
        """Is the value better than the other, if there is one, by more than that?"""
        if other is None or isnan(value):
            return not isnan(value)
        sign = 1 if self.mode == "min" else -1
        return sign * value + margin < sign * other

    def is_progress(self, value: float, other: float | None) -> bool:
        """Is the value better by more than `min_delta`?"""
        size = abs(other) if self.relative and other is not None else 1.0
        return self.is_better(value, other, self.min_delta * size)

    def judge(self, standing: Standing, epoch: int, value: float) -> Standing:
        """Return the standing after an epoch."""
        if epoch < self.start_from_epoch:
            return standing
        best, best_epoch = standing.best, standing.best_epoch
        if self.is_better(value, best):
            best, best_epoch = value, epoch
        reference, wait = standing.reference, standing.wait + 1
        if self.is_progress(value, reference):
            reference = value
            if self.is_progress(value, self.baseline):
                wait = 0
        return Standing(best, best_epoch, reference, wait)

    def is_over(self, standing: Standing) -> bool:
        """Has there been no progress for too long?"""
        return standing.wait >= max(self.patience, 1)


# ## The callback
# %% EarlyStopping
@dataclass(slots=True)
class EarlyStopping:
    """Stop when `monitor`, a name in the logs, gets no better; see `Rule`."""

    monitor: str = "valid_loss"
    mode: Literal["min", "max"] = "min"
    patience: int = 3
    min_delta: float = 0.0
    relative: bool = False
    baseline: float | None = None
    start_from_epoch: int = 0
    stop_on_nan: bool = True
    restore_best: bool = True
    standing: Standing = field(default=Standing(), init=False)
    weights: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    reason: str = field(default="", init=False)  # why it stopped the training
    rule: Rule = field(init=False, repr=False)
    run: Run | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self.rule = Rule(
            self.mode,
            self.patience,
            self.min_delta,
            self.relative,
            self.baseline,
            self.start_from_epoch,
        )

    def on_fit_start(self, run: Run) -> None:
        """Forget another training."""
        self.run, self.standing, self.weights, self.reason = run, Standing(), {}, ""

    def on_epoch_end(self, run: Run) -> None:
        """Judge the epoch."""
        value = share_value(run, read_log(run.logs, self.monitor))
        watched = {self.monitor: value, "train_loss": run.logs.get("train_loss", 0.0)}
        bad = [name for name, one in watched.items() if not isfinite(one)]
        if bad and self.stop_on_nan:
            return self.stop(run, f"{bad[0]} is {watched[bad[0]]}")
        self.standing = self.rule.judge(self.standing, run.epoch, value)
        if self.restore_best and self.standing.best_epoch == run.epoch:
            state = run.model.state_dict()
            self.weights = {name: copy_tensor(one) for name, one in state.items()}
        if self.rule.is_over(self.standing):
            best = f"{self.standing.best} in epoch {self.standing.best_epoch}"
            self.stop(run, f"{self.monitor} gets no better than {best}")

    def on_fit_end(self, run: Run) -> None:
        """Put the best weights back."""
        if self.weights:
            run.model.load_state_dict(self.weights)

    def stop(self, run: Run, reason: str) -> None:
        """End the training, and remember why."""
        self.reason = reason
        run.stop(reason)

    def state_dict(self) -> dict[str, Any]:
        """Return the standing, the best weights, and the reason to stop if any."""
        standing = asdict(self.standing)
        return {"standing": standing, "weights": self.weights, "reason": self.reason}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a standing."""
        self.standing = Standing(**state["standing"])
        self.weights, self.reason = state["weights"], state["reason"]
        if self.run and self.reason:
            self.run.stop(self.reason)


def share_value(run: Run, value: float) -> float:
    """Return the value of the first process."""
    if run.world.size == 1:
        return value
    own = value if run.world.rank == 0 else 0.0
    wide = torch.tensor(own, dtype=torch.float64, device=run.device)
    return float(run.world.total(wide))


def copy_tensor(value: Any) -> Any:
    """Return a copy of a tensor outside the accelerator; other values as they are."""
    return value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else value


def read_log(logs: Mapping[str, float], name: str) -> float:
    """Return a logged value; raises `StoppingError` if nobody logs it."""
    if name not in logs:
        close = get_close_matches(name, logs, 1)
        known = f"there are {', '.join(logs)}"
        hint = f"did you mean `{close[0]}`?" if close else known
        if name.startswith("valid_") and "valid_loss" not in logs:
            hint = "`fit` was given no data for the validation"
        raise StoppingError(f"EarlyStopping: nothing logs `{name}`", hint)
    return logs[name]
