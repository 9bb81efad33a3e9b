"""Small trainings with everything in them, for the tests of `litml.train`."""

import os
import random
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

REASON = "litml.train needs the extra `train`"
torch = pytest.importorskip("torch", reason=REASON)
pytest.importorskip("safetensors", reason=REASON)
pytest.importorskip("torchdata", reason=REASON)

from torch import Tensor, nn  # noqa: E402
from torch.utils.data import DataLoader, Dataset, TensorDataset  # noqa: E402

from litml.train import Checkpoint, Run, Trainer, make_loader  # noqa: E402

torch.set_num_threads(1)
torch.manual_seed(11)
X = torch.randn(44, 6)
Y = X @ torch.randn(6, 1)


class Noisy(Dataset[Any]):
    """Samples with random noise, drawn from two generators."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return X[index] + 0.1 * torch.randn(6) + random.random(), Y[index]


@dataclass
class Wandering:
    """A callback with a state that decides about the training."""

    factor: float = 1.0

    def on_gradients(self, run: Run) -> None:
        self.factor = 0.9 * self.factor + 0.2 * random.random()
        for parameter in run.model.parameters():
            assert parameter.grad is not None
            parameter.grad *= self.factor

    def state_dict(self) -> dict[str, float]:
        return {"factor": self.factor}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.factor = state["factor"]


@dataclass
class Die:
    """Kill the process, without a word, when a step begins."""

    step: int

    def on_step_start(self, run: Run) -> None:
        if run.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Losses:
    """The loss of every step."""

    values: list[float] = field(default_factory=list)

    def on_step_end(self, run: Run) -> None:
        self.values.append(run.loss.item())


def make_net() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 1)
    )


def make_trainer(*callbacks: object, **more: Any) -> Trainer:
    """A model with dropout and a schedule, on the processor."""
    model = more.pop("model", None) or make_net()
    usual = torch.optim.AdamW(model.parameters(), lr=more.pop("lr", 0.01))
    optimizer = more.pop("optimizer", usual)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=100)
    settings = {
        "loss": nn.functional.mse_loss,
        "schedule": schedule,
        "callbacks": callbacks,
        "device": "cpu",
    }
    return Trainer(model, optimizer=optimizer, **{**settings, **more})


def make_batches(kind: str) -> Iterable[Any]:
    """Eight samples a batch: 5 batches and a ragged one."""
    plain = TensorDataset(X, Y)
    if kind == "list":
        return list(zip(X.split(8), Y.split(8), strict=True))
    if kind == "plain":
        return DataLoader(Noisy(), 8, shuffle=True)
    if kind == "plain, 2 workers":
        return DataLoader(Noisy(), 8, shuffle=True, num_workers=2)
    if kind == "plain, own generator":
        return DataLoader(
            plain, 8, shuffle=True, generator=torch.Generator().manual_seed(3)
        )
    if kind == "ours, in memory":
        return make_loader(plain, 8, shuffle=True, seed=3)
    if kind == "ours":
        return make_loader(Noisy(), 8, shuffle=True, seed=3)
    assert kind == "ours, 2 workers"
    return make_loader(Noisy(), 8, shuffle=True, seed=3, workers=2)


KINDS = [
    "list",
    "plain",
    "plain, 2 workers",
    "plain, own generator",
    "ours, in memory",
    "ours",
    "ours, 2 workers",
]


def train(
    folder: Path,
    kind: str,
    *callbacks: object,
    resume: Path | None = None,
    **more: Any,
) -> tuple[Trainer, list[dict[str, float]]]:
    """Two epochs, with everything that has a state."""
    checkpoint = Checkpoint(folder, every_steps=1)
    trainer = make_trainer(Wandering(), checkpoint, *callbacks, **more)
    valid = [(X[:20], Y[:20]), (X[20:], Y[20:])]
    history = trainer.fit(make_batches(kind), valid, epochs=2, resume=resume)
    return trainer, history


def train_and_die(folder: Path, kind: str, step: int, **more: Any) -> None:
    """Train in a process that is killed when the step begins."""
    process = get_context("fork").Process(
        target=train, args=(folder, kind, Die(step)), kwargs=more
    )
    process.start()
    process.join(180)
    assert process.exitcode == -signal.SIGKILL


def weights(trainer: Trainer) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in trainer.model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Bit for bit."""
    assert one.keys() == other.keys()
    return all(torch.equal(one[key], other[key]) for key in one)
