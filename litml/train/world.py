# Exported from nbs/train/01a_world.ipynb. Edit either side, then run `litml sync`.
"""What a training asks of the processes it runs in; here there is one."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from litml.train.device import TrainError

__all__ = ["NOTHING", "World"]


# ## A world of one
# %% world
NOTHING = nullcontext()


class World:
    """A process that trains alone; one among many overrides the methods."""

    rank = 0
    size = 1

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return what is called instead of the model, which is on its device."""
        return model

    def share(self, weights: Sequence[float]) -> tuple[list[float], float]:
        """Return what each loss of a step is multiplied by, and their whole weight."""
        total = sum(weights)
        if total == 0:
            raise TrainError("a step has nothing to learn from", "`weigh` says 0")
        return [weight / total for weight in weights], total

    def hold(self, forward: nn.Module, last: bool) -> AbstractContextManager[object]:
        """Return what a batch is run in: gradients are exchanged with the last."""
        return NOTHING

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over all processes."""
        return value

    def agree(self, flag: bool) -> bool:
        """Return whether any process says yes."""
        return flag

    def wait(self) -> None:
        """Wait until all processes are here."""

    def save_weights(self, model: nn.Module, path: Path) -> None:
        """Write the whole model into one file."""
        save_model(model, str(path))

    def load_weights(self, model: nn.Module, path: Path) -> None:
        """Read what `save_weights` has written."""
        load_model(model, str(path))
