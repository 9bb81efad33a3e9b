# Exported from nbs/train/06_loop.ipynb. Edit either side, then run `litml sync`.
"""The training loop: epochs of steps, a validation after each, and a way out."""

import signal
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from litml.train.batches import Batches, find_generators
from litml.train.device import (
    Generators,
    TrainError,
    change_tensors,
    choose_device,
    move,
    rebuild,
    seed_everything,
)
from litml.train.events import Method, Run, Stateful, find_methods, fire
from litml.train.metrics import Mean, Measure, Metric, Totals, read_means
from litml.train.state import find_state, read_state, restore
from litml.train.step import Stepper, call_loss, call_model, check_batch, name_layer

__all__ = [
    "Interrupt",
    "catch_interrupt",
    "Trainer",
    "check_loader",
    "join_outputs",
    "evaluating",
    "Loop",
    "start",
    "make_loop",
    "check_optimizer",
    "list_parts",
    "fail",
]


# ## Ctrl-C
# %% interrupt
class Interrupt:
    """Whether somebody pressed Ctrl-C."""

    asked = False

    def __call__(self, *_: object) -> None:
        """Handle the signal."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def catch_interrupt() -> Iterator[Interrupt]:
    """Let Ctrl-C be asked for, where signals arrive: in the main thread."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before or signal.SIG_DFL)


# ## The trainer
# %% trainer
@dataclass
class Trainer(Stepper):
    """What a training is made of; `fit` runs it."""

    metrics: Mapping[str, Measure | Metric] = field(default_factory=dict)
    callbacks: Sequence[object] = ()  # in the order in which they hear of events
    accumulate: int = 1  # batches a step
    seed: int | None = 0  # None leaves chance alone

    def fit(
        self,
        train: Iterable[Any],
        valid: Iterable[Any] | None = None,
        epochs: int = 1,
        resume: str | Path | None = None,
    ) -> list[dict[str, float]]:
        """Train, and return what was logged, one dictionary an epoch.

        `resume` is the folder of a `Checkpoint`: go on from its last state.
        """
        loop = make_loop(self, train, valid, epochs)
        with catch_interrupt() as loop.interrupt:
            try:
                start(loop, resume)
                loop.run_epochs()
                fire(loop.methods["on_fit_end"], loop.run)
            except BaseException as error:
                fail(loop, error)
                raise
        return loop.run.history

    def evaluate(self, loader: Iterable[Any]) -> dict[str, float]:
        """Return the loss and the metrics over a loader; raises `TrainError`."""
        check_loader(loader)
        device = choose_device(self.device)
        totals = Totals(self.metrics, device)
        batch = None
        with evaluating(self.model):
            for batch in loader:
                inputs, target = move(check_batch(batch), device)
                with self.context:
                    output = call_model(self.forward, inputs)
                    loss = call_loss(self.loss, output, target)
                totals.add(loss, output, target, float(self.weigh(batch)))
        if batch is None:
            raise TrainError("the loader to evaluate with is empty")
        return totals.read(self.world.total)

    def predict(self, loader: Iterable[Any]) -> Any:
        """Return the outputs, on the processor; targets in the loader are ignored.

        Tuples and mappings that the model returns are kept, of whole tensors.
        """
        check_loader(loader)
        device = choose_device(self.device)
        outputs = []
        with evaluating(self.model):
            for batch in loader:
                inputs = batch[0] if isinstance(batch, tuple | list) else batch
                with self.context:
                    output = call_model(self.forward, move(inputs, device))
                outputs.append(change_tensors(output, Tensor.cpu))
        if not outputs:
            raise TrainError("the loader to predict with is empty")
        return join_outputs(outputs)


def check_loader(loader: object) -> None:
    """Raise `TrainError` for data that would be gone through sample by sample."""
    if isinstance(loader, Tensor) or not isinstance(loader, Iterable):
        hint = "make_loader(data, batch_size) makes one, and a list of batches is one"
        raise TrainError(f"{type(loader).__name__} is no loader", hint)


def join_outputs(parts: Sequence[Any]) -> Any:
    """Return what a model made of several batches as if it had been one."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: join_outputs([one[key] for one in parts]) for key in first}
    if isinstance(first, tuple | list):
        return rebuild(first, [join_outputs(one) for one in zip(*parts, strict=True)])
    if not isinstance(first, Tensor):
        return list(parts)
    return torch.cat([one if one.ndim else one[None] for one in parts])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Use a model without training it, and leave each layer in its mode."""
    modes = [(layer, layer.training) for layer in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    except Exception as error:
        name_layer(error, model)
        raise
    finally:
        for layer, mode in modes:
            layer.training = mode


# ## The loop
# %% loop
@dataclass(slots=True)
class Loop:
    """A trainer at work on its data."""

    trainer: Trainer
    run: Run
    methods: dict[str, tuple[Method, ...]]
    train: Batches
    valid: Iterable[Any] | None
    seen: Mean  # the losses of this epoch
    interrupt: Interrupt = field(default_factory=Interrupt)
    entered: bool = False  # an epoch is under way, because a run goes on in it

    def run_epochs(self) -> None:
        """Train and validate until the epochs are over, or somebody says stop."""
        run = self.run
        while run.epoch < run.epochs and not run.stopping:
            if not self.entered:
                self.enter_epoch()
            self.train.begin(run.epoch)
            self.train_epoch()
            if run.stopping:
                break
            run.logs["train_loss"] = self.read_loss()
            if self.valid is not None:
                self.validate(self.valid)
            self.listen()
            self.leave_epoch()

    def train_epoch(self) -> None:
        """Take the steps of an epoch."""
        trainer, run, methods = self.trainer, self.run, self.methods
        count = trainer.accumulate
        while not run.stopping and (batches := self.train.take(count)):
            fire(methods["on_step_start"], run)
            weight = trainer.compute(run, batches)
            fire(methods["on_gradients"], run)
            trainer.apply()
            run.step += 1
            self.seen.add(run.loss, weight)
            self.listen()
            fire(methods["on_step_end"], run)

    def validate(self, valid: Iterable[Any]) -> None:
        """Measure the model on data that it does not learn from."""
        fire(self.methods["on_validation_start"], self.run)
        for name, value in self.trainer.evaluate(valid).items():
            self.run.logs[f"valid_{name}"] = value
        fire(self.methods["on_validation_end"], self.run)

    def enter_epoch(self) -> None:
        """Get ready for an epoch."""
        self.run.logs = {}
        self.seen.reset()
        self.run.model.train()
        self.run.optimizer.zero_grad()
        self.entered = True
        fire(self.methods["on_epoch_start"], self.run)

    def leave_epoch(self) -> None:
        """Note what an epoch brought."""
        run = self.run
        self.train.end()
        self.entered = False
        run.history.append(run.logs)
        fire(self.methods["on_epoch_end"], run)
        run.epoch += 1

    def listen(self) -> None:
        """Stop if somebody, in any process, pressed Ctrl-C."""
        if self.trainer.world.agree(self.interrupt.asked):
            self.run.stop("interrupted")

    def read_loss(self) -> float:
        """Return the mean loss of the epoch; an empty loader is an error."""
        if not self.train.taken:
            hint = (
                "an iterator can be gone through once; `drop_last` wants a full batch"
            )
            raise TrainError(f"the loader was empty in epoch {self.run.epoch}", hint)
        (loss,) = read_means({"": self.seen}, self.trainer.world.total).values()
        before = [one.get("train_loss", 0.0) for one in self.run.history]
        if not isfinite(loss) and all(map(isfinite, before)):  # told once
            text = f"train_loss is {loss} in epoch {self.run.epoch}"
            hint = "a lower learning rate or `clip` may help"
            warnings.warn(f"{text}: {hint}", stacklevel=4)
        return loss


# ## The start
# %% start
def start(loop: Loop, resume: str | Path | None) -> None:
    """Begin a training, or go on from a state."""
    run, first = loop.run, loop.methods["on_fit_start"]
    if resume is None:
        if loop.trainer.seed is not None:
            seed_everything(loop.trainer.seed)
        fire(first, run)
        return
    folder = find_state(Path(resume))
    state = read_state(folder, run.world)
    run.step, run.history = state["step"], state["history"]
    run.epoch = len(run.history)
    fire(first, run)
    if state["parts"]["train batches"]["taken"]:
        loop.enter_epoch()
    restore(run, folder, state)


# %% make-loop
def make_loop(
    trainer: Trainer, train: Iterable[Any], valid: Iterable[Any] | None, epochs: int
) -> Loop:
    """Return a loop that is ready to start; raises `TrainError`."""
    if trainer.accumulate < 1:
        raise TrainError(f"accumulate={trainer.accumulate}", "1: each batch is a step")
    check_optimizer(trainer)
    for loader in (train, [] if valid is None else valid):
        check_loader(loader)
    device = choose_device(trainer.device)
    run = Run(trainer.model, trainer.optimizer, trainer.schedule, device, epochs)
    run.world = trainer.world
    if isinstance(train, Sized):
        run.epoch_steps = ceil(len(train) / trainer.accumulate)
    methods = find_methods(trainer.callbacks)
    loop = Loop(trainer, run, methods, Batches(train, device), valid, Mean(device))
    run.parts = list_parts(loop)
    return loop


def check_optimizer(trainer: Trainer) -> None:
    """Raise `TrainError` if the optimizer changes nothing of model and loss."""
    modules = [
        one for one in (trainer.model, trainer.loss) if isinstance(one, nn.Module)
    ]
    known = {id(one) for module in modules for one in module.parameters()}
    groups = trainer.optimizer.param_groups
    if not any(id(one) in known for group in groups for one in group["params"]):
        hint = "make the optimizer last, from the model that the trainer is given"
        raise TrainError("the optimizer has no parameter of the model", hint)


def list_parts(loop: Loop) -> dict[str, Stateful]:
    """Return everything but the weights that has a state, by its name."""
    named: dict[str, object] = {
        "optimizer": loop.run.optimizer,
        "schedule": loop.run.schedule,
        "scaler": loop.trainer.scaler,
        "train loss": loop.seen,
        "valid loader": Generators(loop.run.device, find_generators(loop.valid)),
    }
    count = Counter[str]()
    for callback in loop.trainer.callbacks:
        name = f"callback {type(callback).__name__}"
        count[name] += 1
        named[f"{name} {count[name]}" if count[name] > 1 else name] = callback
    named["train batches"] = loop.train  # with all generators: the last to be put back
    return {name: one for name, one in named.items() if isinstance(one, Stateful)}


# ## When something is raised
# %% fail
def fail(loop: Loop, error: BaseException) -> None:
    """Say where an exception is from, and let callbacks save what they can."""
    loop.run.error = error
    name_layer(error, loop.run.model)
    is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError)
    if is_memory or "DefaultCPUAllocator" in str(error):
        error.add_note("hint: a smaller batch with `accumulate`, or half `precision`")
    try:
        fire(loop.methods["on_exception"], loop.run)
    except Exception as second:
        error.add_note(f"then {second!r}")
