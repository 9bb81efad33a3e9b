# Exported from nbs/train/01_device.ipynb. Edit either side, then run `litml sync`.
"""Choose where to train and in what precision, and make chance repeatable."""

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

__all__ = [
    "TrainError",
    "choose_device",
    "move",
    "change_tensors",
    "rebuild",
    "PRECISIONS",
    "make_context",
    "make_scaler",
    "seed_everything",
    "Generators",
]


# ## Errors
# %% train-error
class TrainError(Exception):
    """What went wrong with a training, and what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}\nhint: {hint}" if hint else message)
        self.message = message
        self.hint = hint


# ## Choosing
# %% choose-device
def choose_device(name: str | torch.device | None = None) -> torch.device:
    """Return the device named, or the best there is; raises `TrainError`."""
    is_there = torch.accelerator.is_available()
    best = torch.accelerator.current_accelerator() if is_there else None
    if name is None:
        return best or torch.device("cpu")
    present = ["cpu"]
    if best is not None:
        count = torch.accelerator.device_count()
        present += [best.type, *(f"{best.type}:{i}" for i in range(count))]
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or str(device) not in present:
        hint = f"here are {', '.join(present)}; without `device` the best is taken"
        raise TrainError(f"there is no device `{name}`", hint)
    return device


# %% move
def move(value: Any, device: torch.device) -> Any:
    """Return the tensors in nested tuples, lists and mappings on a device.

    From pinned memory the copy runs beside the computation.
    """
    return change_tensors(value, lambda one: one.to(device, non_blocking=True))


def change_tensors(value: Any, change: Callable[[torch.Tensor], Any]) -> Any:
    """Return nested tuples, lists and mappings with their tensors changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: change_tensors(one, change) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return rebuild(value, [change_tensors(one, change) for one in value])
    return value


def rebuild(like: Any, items: list[Any]) -> Any:
    """Return a tuple, named tuple or list of other items."""
    return type(like)(*items) if hasattr(like, "_fields") else type(like)(items)


# ## Precision
# %% precision
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def make_context(
    precision: str, device: torch.device
) -> AbstractContextManager[object]:
    """Return what the forward pass runs in; raises `TrainError`."""
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise TrainError(f"there is no precision `{precision}`", f"there are {known}")
    dtype = PRECISIONS[precision]
    return torch.autocast(device.type, dtype) if dtype else nullcontext()


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler | None:
    """Return the scaler of the loss, which only float16 needs."""
    return torch.amp.GradScaler(device.type) if precision == "float16" else None


# ## Chance
# %% seed-everything
def seed_everything(seed: int) -> None:
    """Seed Python, NumPy (if it is in use) and torch on every device."""
    random.seed(seed)
    torch.manual_seed(seed)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(seed % 2**32)


# %% generators
class Generators:
    """Every random generator that a training on `device` uses."""

    def __init__(
        self, device: torch.device, own: Sequence[torch.Generator] = ()
    ) -> None:
        self.device = device
        self.own = own

    def state_dict(self) -> dict[str, Any]:
        """Return their states, made of plain values and tensors."""
        state = {"python": random.getstate(), "torch": torch.get_rng_state()}
        state["own"] = [one.get_state() for one in self.own]
        if numpy := sys.modules.get("numpy"):
            name, keys, *rest = numpy.random.get_state()
            state["numpy"] = (name, keys.tolist(), *rest)
        if self.device.type != "cpu":
            get = torch.get_device_module(self.device).get_rng_state
            state["device"] = get(*self._where())
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put the states back."""
        random.setstate(state["python"])
        torch.set_rng_state(state["torch"])
        for generator, own in zip(self.own, state["own"], strict=True):
            generator.set_state(own)
        if "numpy" in state and (numpy := sys.modules.get("numpy")):
            numpy.random.set_state(state["numpy"])
        if "device" in state and self.device.type != "cpu":
            put = torch.get_device_module(self.device).set_rng_state
            put(state["device"], *self._where())

    def _where(self) -> tuple[torch.device, ...]:
        # Apple's module has one device, and takes none.
        return () if self.device.type == "mps" else (self.device,)
