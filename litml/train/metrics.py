# Exported from nbs/train/04_metrics.ipynb. Edit either side, then run `litml sync`.
"""Measure a model, without making the device wait."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from litml.train.device import TrainError

__all__ = ["Mean", "read_means", "Measure", "Metric", "Totals", "accuracy"]


# ## Means
# %% mean
class Mean:
    """A weighted mean of values, kept on their device."""

    def __init__(self, device: torch.device) -> None:
        wide = torch.float32 if device.type == "mps" else torch.float64
        self.total = torch.zeros((), dtype=wide, device=device)
        self.weight: float | Tensor = 0.0

    def add(self, value: Tensor, weight: float) -> None:
        """Count a value that is itself a mean over `weight` things."""
        self.total.add_(value.detach(), alpha=weight)
        self.weight += weight

    def reset(self) -> None:
        """Forget everything."""
        self.total.zero_()
        self.weight = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the sums."""
        return {"total": self.total.cpu(), "weight": self.weight}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with sums."""
        self.total.copy_(state["total"])
        self.weight = state["weight"]


# %% read-means
def read_means(
    means: Mapping[str, Mean], total: Callable[[Tensor], Tensor] = torch.clone
) -> dict[str, float]:
    """Return the means as numbers; this waits for the device."""
    sums = torch.stack([mean.total for mean in means.values()])
    weights = torch.stack([torch.as_tensor(mean.weight) for mean in means.values()])
    sums, weights = total(torch.stack([sums, weights.to(sums)]))
    return dict(zip(means, (sums / weights).tolist(), strict=True))


# ## Two kinds of metrics
# %% metric
Measure = Callable[[Any, Any], Tensor]


@runtime_checkable
class Metric(Protocol):
    """A metric that is no mean over samples."""

    def reset(self) -> object:
        """Forget everything."""

    def update(self, output: Any, target: Any) -> object:
        """Count a batch."""

    def compute(self) -> Any:
        """Return the value of all batches since the last reset."""


# %% totals
class Totals:
    """The loss and the metrics of one pass through the data."""

    def __init__(
        self, metrics: Mapping[str, Measure | Metric], device: torch.device
    ) -> None:
        self.objects = {k: m for k, m in metrics.items() if isinstance(m, Metric)}
        self.measures: dict[str, Callable[..., Any]] = {
            k: m for k, m in metrics.items() if not isinstance(m, Metric)
        }
        self.means = {name: Mean(device) for name in ("loss", *self.measures)}
        for metric in self.objects.values():
            if isinstance(metric, nn.Module):
                metric.to(device)
            metric.reset()

    def add(self, loss: Tensor, output: Any, target: Any, weight: float) -> None:
        """Count a batch."""
        self.means["loss"].add(loss, weight)
        for name, measure in self.measures.items():
            self.means[name].add(torch.as_tensor(measure(output, target)), weight)
        for metric in self.objects.values():
            metric.update(output, target)

    def read(self, total: Callable[[Tensor], Tensor] = torch.clone) -> dict[str, float]:
        """Return the values; this waits for the device."""
        zero = self.means["loss"].total
        for name, metric in self.objects.items():
            mean = self.means[name] = Mean(zero.device)
            mean.add(torch.as_tensor(metric.compute(), dtype=zero.dtype), 1.0)
        return read_means(self.means, total)


# ## Accuracy
# %% accuracy
def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """Return the share of right answers.

    `output` holds scores, (batch, classes, ...) for classes, or of the target's
    shape for yes and no, where a positive score is a yes.
    """
    if output.shape == target.shape:
        return ((output > 0) == (target > 0.5)).float().mean()
    if output.ndim != target.ndim + 1:
        shapes = f"{tuple(output.shape)} and {tuple(target.shape)}"
        raise TrainError(f"accuracy of {shapes}", "scores have one dimension more")
    return (output.argmax(1) == target).float().mean()
