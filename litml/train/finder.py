# Exported from nbs/train/10_finder.ipynb. Edit either side, then run `litml sync`.
"""Train for some steps while the learning rate rises, watch the loss, and put
everything back as it was.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from math import inf, isfinite
from statistics import fmean
from typing import TYPE_CHECKING, Any

from litml.train.batches import find_generators
from litml.train.device import Generators, TrainError, choose_device
from litml.train.events import Run
from litml.train.loop import Trainer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FinderError", "RateCurve", "Sweep", "find_rate", "keep_chance"]


# ## The curve
# %% Curve
class FinderError(TrainError):
    """There is no rate at which the loss falls."""


@dataclass(frozen=True, slots=True)
class RateCurve:
    """The loss of each step, and the highest rate of the optimizer in it."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def smooth(self) -> list[float]:
        """The losses, each the mean of its neighbourhood, a tenth of the steps wide."""
        reach = max(1, len(self.losses) // 20)
        return [
            fmean(self.losses[max(0, i - reach) : i + reach + 1])
            for i in range(len(self.losses))
        ]

    @property
    def suggestion(self) -> float:
        """The rate where the loss falls fastest; raises `FinderError` if none is."""
        smooth = self.smooth
        last = smooth.index(min(smooth))
        slopes = {i: smooth[i + 1] - smooth[i - 1] for i in range(1, last)}
        steepest = min(slopes, key=slopes.__getitem__, default=0)
        if not slopes or slopes[steepest] >= 0:
            hint = "look at the curve; begin at a lower rate, or take more steps"
            raise FinderError("the loss falls at no rate", hint)
        return self.rates[steepest]

    def plot(self) -> "Figure":
        """Return a drawing of the curve; needs matplotlib."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 3.5), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.rates, self.losses, color="0.8", label="loss of a step")
        axes.plot(self.rates, self.smooth, label="smoothed")
        axes.axvline(self.suggestion, linestyle="--", color="k", label="suggestion")
        axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
        axes.legend()
        return figure


# ## The sweep
# %% Sweep
class Sweep:
    """Let the rate rise with every step, and note the losses."""

    def __init__(self, low: float, high: float, steps: int) -> None:
        self.rates = [low * (high / low) ** (i / (steps - 1)) for i in range(steps)]
        self.losses: list[float] = []
        self.lowest = inf

    def on_fit_start(self, run: Run) -> None:
        """Note how fast the groups are, as shares of the fastest."""
        rates = [float(group["lr"]) for group in run.optimizer.param_groups]
        self.shares = [rate / max(rates) if max(rates) else 1.0 for rate in rates]

    def on_step_start(self, run: Run) -> None:
        """Set the rate."""
        for group, share in zip(run.optimizer.param_groups, self.shares, strict=True):
            group["lr"] = share * self.rates[len(self.losses)]

    def on_step_end(self, run: Run) -> None:
        """Note the loss, and say when it is enough."""
        loss = run.world.total(run.loss.clone()).item() / run.world.size
        if not isfinite(loss):
            return run.stop("the loss is no number")
        self.losses.append(loss)
        if len(self.losses) >= 10:
            recent = fmean(self.losses[-10:])
            self.lowest = min(self.lowest, recent)
            if recent > 4 * abs(self.lowest):
                run.stop("the loss explodes")
        if len(self.losses) == len(self.rates):
            run.stop("all rates are tried")


# ## As it was
# %% find_rate
def find_rate(
    trainer: Trainer,
    loader: Iterable[Any],
    low: float = 1e-7,
    high: float = 10.0,
    steps: int = 100,
) -> RateCurve:
    """Return the curve of a range test with a copy of the trainer's model.

    Callbacks and schedule have a rest. Raises `FinderError` for rates that do not
    rise, and for a loss that is no number from the beginning.
    """
    if not 0 < low < high or steps < 10:
        message = f"rates from {low} to {high} in {steps} steps"
        raise FinderError(message, "the rates rise, in 10 steps or more")
    sweep = Sweep(low, high, steps)
    with keep_chance(trainer, loader):
        model, loss, optimizer = deepcopy(
            (trainer.model, trainer.loss, trainer.optimizer)
        )
        copy = replace(
            trainer,
            model=model,
            loss=loss,
            optimizer=optimizer,
            schedule=None,
            callbacks=[sweep],
            seed=None,
        )
        copy.fit(loader, epochs=steps)
    if not sweep.losses:
        raise FinderError("the loss is no number at the first step")
    return RateCurve(tuple(sweep.rates[: len(sweep.losses)]), tuple(sweep.losses))


@contextmanager
def keep_chance(trainer: Trainer, loader: object) -> Iterator[None]:
    """Put the random generators back, the loader's too."""
    chance = Generators(choose_device(trainer.device), find_generators(loader))
    before = chance.state_dict()
    try:
        yield
    finally:
        chance.load_state_dict(before)
