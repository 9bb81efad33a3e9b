# Exported from nbs/train/11_average.ipynb. Edit either side, then run `litml sync`.
"""Keep a moving average of the weights beside the weights that are trained, and
measure, save and hand over the average.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from litml.train.device import TrainError
from litml.train.events import Run

__all__ = ["Average", "copy_all"]


# ## Changing places
# %% Average
@dataclass(slots=True)
class Average:
    """Average the weights; each step, the old average counts as `decay`.

    The average is in the model between epochs and after the training.
    """

    decay: float = 0.999
    start: int = 0  # steps before the first that counts
    count: int = field(default=0, init=False)  # steps that have counted
    in_model: bool = field(default=False, init=False)
    weights: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    others: list[Tensor] = field(default_factory=list, init=False, repr=False)
    move: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not 0 <= self.decay < 1 or self.start < 0:
            message = f"Average(decay={self.decay}, start={self.start})"
            raise TrainError(message, "a decay is below 1: 0.999 averages 1000 steps")
        make_move: Any = get_ema_multi_avg_fn  # torch gives it no types
        self.move = make_move(self.decay)

    def on_fit_start(self, run: Run) -> None:
        """List the tensors, and make place for their averages."""
        named = [*run.model.named_parameters(), *run.model.named_buffers()]
        found = {name: one.detach() for name, one in named if one.is_floating_point()}
        self.weights, self.count, self.in_model = found, 0, False
        self.others = [one.clone() for one in found.values()]

    def on_epoch_start(self, run: Run) -> None:
        """Go on with the weights that are trained."""
        if self.in_model:
            self.swap()

    def on_step_end(self, run: Run) -> None:
        """Move the average towards the weights."""
        if run.step <= self.start:
            return
        weights = list(self.weights.values())
        if self.count:
            self.move(self.others, weights, self.count)
        else:
            copy_all(self.others, weights)
        self.count += 1

    def on_validation_start(self, run: Run) -> None:
        """Measure the average."""
        self.show()

    def on_epoch_end(self, run: Run) -> None:
        """Show the average to callbacks, also where nothing was measured."""
        self.show()

    def on_fit_end(self, run: Run) -> None:
        """Leave the average in the model."""
        self.show()

    def show(self) -> None:
        """Put the average into the model, if there is one and it is not there."""
        if self.count and not self.in_model:
            self.swap()

    def swap(self) -> None:
        """Let the weights and the others change places."""
        kept = [one.clone() for one in self.others]
        copy_all(self.others, list(self.weights.values()))
        copy_all(list(self.weights.values()), kept)
        self.in_model = not self.in_model

    def state_dict(self) -> dict[str, Any]:
        """Return what is not in the model: the average, or else what is trained."""
        others = dict(zip(self.weights, self.others, strict=True))
        return {"count": self.count, "in_model": self.in_model, "others": others}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; the model goes on from its own."""
        self.count, self.in_model = state["count"], state["in_model"]
        copy_all(self.others, [state["others"][name] for name in self.weights])


@torch.no_grad()
def copy_all(to: list[Tensor], source: list[Tensor]) -> None:
    """Copy tensors into others, in place: optimizers hold on to parameters."""
    for one, other in zip(to, source, strict=True):
        one.copy_(other)
