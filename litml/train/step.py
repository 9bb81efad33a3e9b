# Exported from nbs/train/05_step.ipynb. Edit either side, then run `litml sync`.
"""One step of the optimizer: forward, backward, and what stands between."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from litml.train.device import (
    TrainError,
    choose_device,
    make_context,
    make_scaler,
    move,
)
from litml.train.events import Run
from litml.train.world import World

__all__ = [
    "count_samples",
    "check_batch",
    "call_model",
    "call_loss",
    "name_layer",
    "describe",
    "Stepper",
    "step_scaled",
]


# ## How much a batch counts
# %% count-samples
def count_samples(batch: Any) -> int:
    """Return the length of the first tensor in a batch."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.ndim else 1
    parts = batch.values() if isinstance(batch, Mapping) else batch
    for part in parts:
        return count_samples(part)
    raise TrainError("a batch is empty", "a batch is (inputs, target)")


# ## Calling the model
# %% check-batch
def check_batch(batch: Any) -> Any:
    """Return a batch that is a pair; raises `TrainError`."""
    if isinstance(batch, tuple | list) and len(batch) == 2:
        return batch
    hint = "a batch is (inputs, target); a loader's `collate` can make it so"
    raise TrainError(f"a batch is a {type(batch).__name__}, not a pair", hint)


# %% call-model
def call_model(model: Callable[..., Any], inputs: Any) -> Any:
    """Return what the model makes of a tensor, a tuple or a dictionary."""
    if isinstance(inputs, tuple | list):
        return model(*inputs)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(inputs)


# %% name-layer
def call_loss(loss: Callable[[Any, Any], Tensor], output: Any, target: Any) -> Tensor:
    """Return the loss; a frame of its own tells where an exception is from."""
    value = loss(output, target)
    if not isinstance(value, Tensor) or value.ndim:
        shown = tuple(value.shape) if isinstance(value, Tensor) else repr(value)
        raise TrainError(f"the loss is {shown}", "return its mean, a tensor of one")
    if torch.is_grad_enabled() and not value.requires_grad:
        hint = "is everything frozen, or a result detached on the way?"
        raise TrainError("the loss depends on nothing that is trained", hint)
    return value


def name_layer(error: BaseException, model: nn.Module) -> None:
    """Add to an exception where it was raised, in a layer or in the loss."""
    names = {id(layer): name for name, layer in model.named_modules()}
    note = ""
    trace = error.__traceback__
    while trace:
        frame, trace = trace.tb_frame, trace.tb_next
        owner = frame.f_locals.get("self")
        if id(owner) in names and frame.f_code.co_name == "forward":
            name = names[id(owner)] or "(the model itself)"
            shown = str(owner).partition("\n")[0]
            note = f"in layer `{name}`, {shown}, given {describe(frame.f_locals)}"
        elif frame.f_code is call_loss.__code__:
            note = f"in the loss, given {describe(frame.f_locals)}"
    if note and note not in getattr(error, "__notes__", []):
        error.add_note(note)


def describe(values: Mapping[str, Any]) -> str:
    """Return the names and shapes of the tensors among values."""
    shapes = {k: tuple(v.shape) for k, v in values.items() if isinstance(v, Tensor)}
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


# ## The step
# %% stepper
@dataclass
class Stepper:
    """How one step is taken. `loss` is a mean over as many things as `weigh` says."""

    model: nn.Module
    loss: Callable[[Any, Any], Tensor]
    optimizer: Optimizer
    schedule: LRScheduler | None = None  # of the learning rate, step by step
    device: str | torch.device | None = None  # None: the best there is
    precision: str = "float32"  # or bfloat16, float16: what the model computes in
    clip: float | None = None  # the largest norm of all gradients together
    compile: bool = False  # by torch.compile
    weigh: Callable[[Any], float | Tensor] = count_samples
    world: World = field(default_factory=World)

    def __post_init__(self) -> None:
        self.device = device = choose_device(self.device)
        self.context = make_context(self.precision, device)
        self.scaler = make_scaler(self.precision, device)
        for module in (self.model, self.loss):
            if isinstance(module, nn.Module):
                module.to(device)
        self.forward: Any = self.world.wrap(self.model, device)
        if self.compile:
            self.forward = torch.compile(self.forward)

    def compute(self, run: Run, batches: Sequence[Any]) -> float:
        """Add up gradients, put the mean loss into the run, return its weight."""
        weights = [float(self.weigh(batch)) for batch in batches]
        weight, parts = sum(weights), []
        if not weight:
            raise TrainError("a step has nothing to learn from", "`weigh` says 0")
        scale = self.world.scale(weight)
        for i, batch in enumerate(batches):
            run.batch = inputs, target = move(check_batch(batch), run.device)
            with self.world.hold(self.forward, last=i == len(batches) - 1):
                with self.context:
                    output = call_model(self.forward, inputs)
                    loss = call_loss(self.loss, output, target)
                part = loss if len(batches) == 1 else loss * (weights[i] / weight)
                whole = part if self.world.size == 1 else part * scale
                scaled = self.scaler.scale(whole) if self.scaler else whole
                torch.autograd.backward(scaled)
            parts.append(part.detach())
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        run.loss = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
        return weight

    def apply(self) -> None:
        """Clip the gradients, change the weights, and clear the gradients."""
        if self.clip is not None:
            groups = self.optimizer.param_groups
            clip_grad_norm_([p for one in groups for p in one["params"]], self.clip)
        is_taken = True
        if self.scaler is None:
            self.optimizer.step()
        else:
            is_taken = step_scaled(self.scaler, self.optimizer)
        if self.schedule and is_taken:
            self.schedule.step()
        self.optimizer.zero_grad()


def step_scaled(scaler: torch.amp.GradScaler, optimizer: Optimizer) -> bool:
    """Step if all gradients are finite, and return whether that was so.

    To know it the scaler waits for the device; asking for its scale would wait again.
    """
    taken: list[bool] = []
    hook = optimizer.register_step_post_hook(lambda *_: taken.append(True))
    try:
        scaler.step(optimizer)
    finally:
        hook.remove()
    scaler.update()
    return bool(taken)
