# Exported from nbs/train/12_groups.ipynb. Edit either side, then run `litml sync`.
"""Which parameters are trained, and how fast: freezing by name, a rate for each part
of a model, and no weight decay where it does harm.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn import Parameter

from litml.train.device import TrainError

__all__ = [
    "GroupError",
    "find_parameters",
    "is_match",
    "freeze",
    "unfreeze",
    "set_trained",
    "make_groups",
    "fade_rates",
]


# ## Names
# %% find_parameters
class GroupError(TrainError):
    """A pattern that matches no parameter of the model."""


def find_parameters(model: nn.Module, pattern: str) -> dict[str, Parameter]:
    """Return the parameters that a pattern means, by their names.

    Raises `GroupError` if there is none.
    """
    named = dict(model.named_parameters())
    found = {name: one for name, one in named.items() if is_match(name, pattern)}
    if not found:
        layers = [name for name, _ in model.named_modules() if name]
        close = get_close_matches(pattern, [*layers, *named], 1)
        hint = (
            f"did you mean `{close[0]}`?" if close else f"layers: {', '.join(layers)}"
        )
        raise GroupError(f"`{pattern}` matches no parameter", hint=hint)
    return found


def is_match(name: str, pattern: str) -> bool:
    """Does the pattern mean this parameter, or a layer that it is in?"""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


# ## Freezing
# %% freeze
def freeze(model: nn.Module, *patterns: str) -> list[str]:
    """Train the parameters that the patterns mean no more; return their names."""
    return set_trained(model, patterns, False)


def unfreeze(model: nn.Module, *patterns: str) -> list[str]:
    """Train the parameters that the patterns mean again; return their names."""
    return set_trained(model, patterns, True)


def set_trained(model: nn.Module, patterns: Iterable[str], trained: bool) -> list[str]:
    """Train all parameters that are meant, or do not; change none at an error."""
    found: dict[str, Parameter] = {}
    for pattern in patterns:
        found |= find_parameters(model, pattern)
    for parameter in found.values():
        parameter.requires_grad_(trained)
    return list(found)


# ## Groups for an optimizer
# %% make_groups
def make_groups(
    model: nn.Module,
    rate: float,
    *,
    decay: float = 0.01,
    rates: Mapping[str, float] | None = None,
    no_decay: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Return parameter groups: `rate` for all that no pattern of `rates` means.

    Raises `GroupError` if a pattern matches nothing, or nothing is left to train.
    """
    own_rate: dict[str, float] = {}
    for pattern, value in (rates or {}).items():
        own_rate |= dict.fromkeys(find_parameters(model, pattern), value)
    exempt = {name for one in no_decay for name in find_parameters(model, one)}
    groups: dict[tuple[float, float], list[Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_free = parameter.ndim < 2 or name in exempt
            key = own_rate.get(name, rate), 0.0 if is_free else decay
            groups.setdefault(key, []).append(parameter)
    if not groups:
        raise GroupError("all parameters are frozen", hint="unfreeze some: the head?")
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


# ## Layer-wise rates
# %% fade_rates
def fade_rates(patterns: Sequence[str], rate: float, share: float) -> dict[str, float]:
    """Return `rate` for the last pattern, for each one before `share` of the next."""
    if not 0 < share <= 1:
        raise GroupError(f"a share is above 0 and at most 1, not {share}")
    last = len(patterns) - 1
    return {name: rate * share ** (last - i) for i, name in enumerate(patterns)}
