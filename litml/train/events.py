# Exported from nbs/train/03_events.ipynb. Edit either side, then run `litml sync`.
"""What happens during a training, when, and who hears of it."""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from litml.train.device import TrainError
from litml.train.world import World

__all__ = [
    "Stateful",
    "Run",
    "EVENTS",
    "Method",
    "find_methods",
    "check_callback",
    "fire",
]


# ## A run
# %% run
@runtime_checkable
class Stateful(Protocol):
    """Whatever has a state that travels with a checkpoint."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state: tensors and plain values."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Go on from a state."""


@dataclass(slots=True)
class Run:
    """A training under way."""

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler | None
    device: torch.device
    epochs: int
    epoch: int = 0  # the one under way, from 0
    step: int = 0  # optimizer steps done, over all epochs
    epoch_steps: int | None = None  # how many steps an epoch has, if that is known
    batch: Any = None  # (inputs, target) on the device
    loss: Tensor = field(default_factory=lambda: torch.zeros(()))
    logs: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    stopping: str = ""  # why the training ends early
    error: BaseException | None = None  # at `on_exception`
    parts: dict[str, Stateful] = field(default_factory=dict)  # what a checkpoint holds
    world: World = field(default_factory=World)

    def stop(self, reason: str) -> None:
        """End the training after this step, or after this epoch if it is over."""
        self.stopping = self.stopping or reason


# ## The events
# %% EVENTS
EVENTS = (
    "on_fit_start",
    "on_epoch_start",
    "on_step_start",
    "on_gradients",
    "on_step_end",
    "on_validation_start",
    "on_validation_end",
    "on_epoch_end",
    "on_fit_end",
    "on_exception",
)


# %% find-methods
Method = Callable[[Run], object]


def find_methods(callbacks: Iterable[object]) -> dict[str, tuple[Method, ...]]:
    """Return for each event the methods to call; raises `TrainError`."""
    ordered = sorted(callbacks, key=lambda one: bool(getattr(one, "is_last", False)))
    for callback in ordered:
        check_callback(callback)
    return {
        event: tuple(getattr(one, event) for one in ordered if hasattr(one, event))
        for event in EVENTS
    }


def check_callback(callback: object) -> None:
    """Raise `TrainError` for a misspelt event, or for something else entirely."""
    if isinstance(callback, type):
        name = callback.__name__
        raise TrainError(f"callback {name} is a class", f"make one: `{name}()`")
    name = type(callback).__name__
    methods = [one for one in dir(callback) if one.startswith("on_")]
    if not methods:
        events = ", ".join(EVENTS)
        raise TrainError(f"callback {name} hears of no event", f"there are {events}")
    for method in methods:
        if method not in EVENTS and callable(getattr(callback, method)):
            close = difflib.get_close_matches(method, EVENTS, 1, 0.5)
            hint = (
                f"did you mean `{close[0]}`?" if close else f"see {', '.join(EVENTS)}"
            )
            raise TrainError(f"callback {name}: there is no event `{method}`", hint)


# %% fire
def fire(methods: tuple[Method, ...], run: Run) -> None:
    """Call the methods; a note on what they raise says who and where."""
    for method in methods:
        try:
            method(run)
        except BaseException as error:
            name = getattr(method, "__qualname__", repr(method))
            error.add_note(f"in callback {name}, epoch {run.epoch}, step {run.step}")
            raise
