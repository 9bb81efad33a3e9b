# Exported from nbs/train/01a_world.ipynb. Edit either side, then run `litml sync`.
"""What a training asks of the processes it runs in; here there is one."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

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

    def scale(self, weight: float) -> float | Tensor:
        """Return what the mean loss of this process is multiplied by.

        It stands for things of this weight. Many processes average their gradients,
        so for them it is their number times their share of the whole weight.
        """
        return 1.0

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
