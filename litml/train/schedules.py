# Exported from nbs/train/09_schedules.ipynb. Edit either side, then run `litml sync`.
"""How the learning rate moves over a training: one cycle, or a warm-up and a cosine,
both made of torch's own schedulers.
"""

import math
from collections.abc import Sized

from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    SequentialLR,
)

from litml.train.device import TrainError

__all__ = [
    "ScheduleError",
    "count_steps",
    "one_cycle",
    "check_shares",
    "warm_cosine",
]


# ## How many steps
# %% count_steps
class ScheduleError(TrainError):
    """A schedule of no steps, or with shares that make no sense."""


def count_steps(loader: Sized, epochs: int, accumulate: int = 1) -> int:
    """Return how often the optimizer steps in a training."""
    return epochs * math.ceil(len(loader) / accumulate)


# ## One cycle
# %% one_cycle
def one_cycle(
    optimizer: Optimizer, steps: int, *, warm: float = 0.3, start: float = 0.04
) -> LRScheduler:
    """Return torch's `OneCycleLR` with the rates of the groups as its peaks.

    It begins at `start` times the peak, and ends at 1e-5 times that.
    """
    check_shares(steps, warm)
    peaks = [float(group["lr"]) for group in optimizer.param_groups]
    steps = max(steps, 2)
    rises = warm * steps > 1  # where it does not, torch would divide by zero
    momentum = "betas" in optimizer.defaults or optimizer.defaults.get("momentum")
    return OneCycleLR(
        optimizer,
        max_lr=peaks,
        total_steps=steps,
        pct_start=warm if rises else 0.5 / steps,
        div_factor=1 / start,
        final_div_factor=1e5,
        cycle_momentum=bool(momentum),  # 0 stays 0,
    )


def check_shares(steps: int, warm: float) -> None:
    """Raise `ScheduleError` for numbers that make no schedule."""
    if steps < 1:
        hint = "count_steps(loader, epochs) gives the number"
        raise ScheduleError(f"a schedule of {steps} steps", hint=hint)
    if not 0 <= warm < 1:
        raise ScheduleError(f"`warm` is a share of the steps, not {warm}")


# ## Warm-up and cosine
# %% warm_cosine
def warm_cosine(optimizer: Optimizer, steps: int, *, warm: float = 0.1) -> LRScheduler:
    """Return a line up to the rates of the groups, and a cosine down to 0."""
    check_shares(steps, warm)
    rise = round(steps * warm)
    fall = CosineAnnealingLR(optimizer, max(steps - rise, 1))
    if not rise:
        return fall
    line = LinearLR(optimizer, start_factor=1 / (rise + 1), total_iters=rise)
    return SequentialLR(optimizer, [line, fall], milestones=[rise])
