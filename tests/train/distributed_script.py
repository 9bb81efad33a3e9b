"""What the processes that torchrun starts do in the tests: python FILE folder."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from litml.train import (
    Average,
    Checkpoint,
    EarlyStopping,
    Run,
    Trainer,
    World,
    accuracy,
    make_loader,
)
from litml.train.distributed import close_world, open_world, shard, share_loader

torch.set_num_threads(1)
torch.manual_seed(1)
X = torch.randn(44, 6)
Y = (X @ torch.randn(6, 3)).argmax(1)


def make_net(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(2)
    blocks = nn.ModuleList([nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)])
    blocks.insert(2, nn.Dropout(dropout))
    return Chain(blocks)


class Chain(nn.Module):
    def __init__(self, blocks: nn.ModuleList) -> None:
        super().__init__()
        self.blocks = blocks

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


def make_trainer(
    world: World, *callbacks: object, sharded: bool = False, **more: Any
) -> Trainer:
    model = make_net(more.pop("dropout", 0.0))
    if sharded:
        linear = [one for one in model.modules() if isinstance(one, nn.Linear)]
        shard(model, world, "cpu", linear)
    settings: dict[str, Any] = {
        "loss": nn.functional.cross_entropy,
        "optimizer": torch.optim.AdamW(model.parameters(), 0.02),
        "metrics": {"accuracy": accuracy},
        "callbacks": callbacks,
        "device": "cpu",
        "world": world,
    }
    return Trainer(model, **{**settings, **more})


def fit(trainer: Trainer, epochs: int = 3, workers: int = 0, **more: Any) -> Any:
    """16 samples a batch for all: two whole ones and one of 12."""
    data, world = TensorDataset(X, Y), trainer.world
    train = make_loader(data, 16, shuffle=True, seed=4, workers=workers)
    valid = make_loader(data, 43)  # the last batch has one sample
    return trainer.fit(
        share_loader(train, world), share_loader(valid, world), epochs, **more
    )


def read_weights(trainer: Trainer) -> list[float]:
    state = trainer.model.state_dict()
    whole = [
        getattr(one, "full_tensor", lambda one=one: one)() for one in state.values()
    ]
    return [value for one in whole for value in one.double().flatten().tolist()]


class Stop:
    """Stop in a step, as if the process had been killed after a checkpoint."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_start(self, run: Run) -> None:
        if run.step == self.step:
            raise KeyboardInterrupt


def same_as_alone(world: World, folder: Path, **more: Any) -> dict[str, Any]:
    trainer = make_trainer(world, clip=0.5, **more)
    history = fit(trainer)
    return {"history": history, "weights": read_weights(trainer)}


def accumulated(world: World, folder: Path) -> dict[str, Any]:
    return same_as_alone(world, folder, accumulate=2)


def sharded(world: World, folder: Path) -> dict[str, Any]:
    return same_as_alone(world, folder, sharded=True)


def sharded_accumulated(world: World, folder: Path) -> dict[str, Any]:
    return same_as_alone(world, folder, sharded=True, accumulate=2)


def resumed(world: World, folder: Path, **more: Any) -> dict[str, Any]:
    """Stopped in the second epoch and resumed, with dropout and shuffling."""
    workers = more.pop("workers", 0)
    whole = make_trainer(world, dropout=0.3, **more)
    fit(whole, workers=workers)
    saving = Checkpoint(folder / "state", every_steps=1)
    with contextlib.suppress(KeyboardInterrupt):
        fit(make_trainer(world, saving, Stop(4), dropout=0.3, **more), workers=workers)
    again = make_trainer(world, Checkpoint(folder / "state"), dropout=0.3, **more)
    fit(again, workers=workers, resume=folder / "state")
    return {"whole": read_weights(whole), "again": read_weights(again)}


def resumed_workers(world: World, folder: Path) -> dict[str, Any]:
    return resumed(world, folder, workers=1)


def resumed_sharded(world: World, folder: Path) -> dict[str, Any]:
    return resumed(world, folder, sharded=True)


def stopped_early(world: World, folder: Path, **more: Any) -> dict[str, Any]:
    """The best weights come back, and both processes stop in the same epoch."""

    class Unlike:
        """A value that the processes do not agree about."""

        def on_validation_end(self, run: Run) -> None:
            value = run.epoch if run.world.rank == 0 else -run.epoch
            run.logs["strange"] = float(value)

    stopping = EarlyStopping("strange", patience=2)
    trainer = make_trainer(world, Unlike(), stopping, Average(0.5), **more)
    history = fit(trainer, epochs=20)
    return {"epochs": len(history), "reason": stopping.reason}


def stopped_early_sharded(world: World, folder: Path) -> dict[str, Any]:
    return stopped_early(world, folder, sharded=True)


class Rank:
    """A metric that is something else in each process."""

    def __init__(self, world: World) -> None:
        self.world = world

    def reset(self) -> None: ...

    def update(self, output: Tensor, target: Tensor) -> None: ...

    def compute(self) -> float:
        return float(self.world.rank)


def interrupted(world: World, folder: Path) -> dict[str, Any]:
    """Ctrl-C in rank 1 ends both, after the same step."""

    class Press:
        def on_step_end(self, run: Run) -> None:
            if run.step == 4 and run.world.rank == run.world.size - 1:
                os.kill(os.getpid(), signal.SIGINT)

    steps: list[int] = []

    class Count:
        def on_step_end(self, run: Run) -> None:
            steps.append(run.step)

    best = Checkpoint(folder / "interrupted", "valid_rank", every_steps=1)
    metrics = {"rank": Rank(world)}
    trainer = make_trainer(world, Press(), Count(), best, metrics=metrics)
    history = fit(trainer, epochs=50)
    return {"epochs": len(history), "step": steps[-1], "best": best.best}


CASES: list[Callable[[World, Path], dict[str, Any]]] = [
    same_as_alone,
    accumulated,
    sharded,
    sharded_accumulated,
    resumed,
    resumed_workers,
    resumed_sharded,
    stopped_early,
    stopped_early_sharded,
    interrupted,
]

if __name__ == "__main__":
    world, root = open_world("cpu", timeout=180), Path(sys.argv[1])
    found = {}
    for case in CASES:
        found[case.__name__] = case(world, root / case.__name__)
        world.wait()
    (root / f"found.{world.rank}.json").write_text(json.dumps(found))
    close_world()
