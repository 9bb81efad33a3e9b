"""A training that was killed goes on, and ends with the same weights, bit for bit."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training import (
    KINDS,
    Wandering,
    X,
    Y,
    make_batches,
    make_trainer,
    same,
    torch,
    train,
    train_and_die,
    weights,
)

from litml.train import Checkpoint, load_weights

WHOLE: dict[str, Any] = {}
WITH_WORKERS = [kind for kind in KINDS if "workers" in kind]


def uninterrupted(folder: Path, kind: str, **more: Any) -> Any:
    key = f"{kind} {more}"
    if key not in WHOLE:
        trainer, history = train(folder / "whole", kind, **more)
        WHOLE[key] = weights(trainer), history
    return WHOLE[key]


def check(folder: Path, kind: str, step: int, **more: Any) -> None:
    expected, history = uninterrupted(folder, kind, **more)
    killed = folder / "killed"
    train_and_die(killed, kind, step, **more)
    trainer, again = train(killed, kind, resume=killed, **more)
    assert same(weights(trainer), expected)
    assert again == history


# An epoch has 6 batches: in it, between two, and before the last step of the second.
@pytest.mark.parametrize("step", [2, 6, 11])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in WITH_WORKERS])
def test_killed_at_a_step(tmp_path: Path, kind: str, step: int) -> None:
    check(tmp_path, kind, step)


@pytest.mark.parametrize("kind", WITH_WORKERS)
def test_killed_while_workers_prepare_batches(tmp_path: Path, kind: str) -> None:
    check(tmp_path, kind, 8)


# An epoch has 3 steps, the last of 4 samples fewer: after one, between epochs, in one.
@pytest.mark.parametrize("step", [1, 3, 4])
def test_killed_between_accumulated_steps(tmp_path: Path, step: int) -> None:
    check(tmp_path, "ours", step, accumulate=2, clip=1.0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_killed_in_half_precision(tmp_path: Path, precision: str) -> None:
    check(tmp_path, "plain", 8, precision=precision)


def test_killed_as_a_program_of_its_own(tmp_path: Path) -> None:
    """The others are forks of this process: this one shares nothing with it."""
    script = "import sys, pathlib, training; training.train(" + (
        "pathlib.Path(sys.argv[1]), 'ours, 2 workers', training.Die(8))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "killed")]
    done = subprocess.run(command, cwd=Path(__file__).parent)
    assert done.returncode == -signal.SIGKILL
    kind = "ours, 2 workers"
    expected, history = uninterrupted(tmp_path, kind)
    trainer, again = train(tmp_path / "killed", kind, resume=tmp_path / "killed")
    assert same(weights(trainer), expected) and again == history


def test_killed_twice_and_after_the_end(tmp_path: Path) -> None:
    expected, history = uninterrupted(tmp_path, "plain")
    killed = tmp_path / "killed"
    train_and_die(killed, "plain", 3)
    train_and_die(killed, "plain", 10, resume=killed)
    for _ in range(2):  # the second has nothing left to do
        trainer, again = train(killed, "plain", resume=killed)
        assert same(weights(trainer), expected) and again == history


@pytest.mark.parametrize("kind", ["plain", "ours", "ours, 2 workers"])
def test_saving_leaves_no_trace(tmp_path: Path, kind: str) -> None:
    expected, history = uninterrupted(tmp_path, kind)  # saved after every step
    trainer = make_trainer(Wandering())
    again = trainer.fit(make_batches(kind), [(X[:20], Y[:20]), (X[20:], Y[20:])], 2)
    assert same(weights(trainer), expected) and again == history


def test_what_is_not_put_back_shows(tmp_path: Path) -> None:
    """The comparison can fail: another schedule, another batch, another number."""
    expected, _ = uninterrupted(tmp_path, "plain")
    train_and_die(tmp_path / "killed", "plain", 8)
    state = tmp_path / "killed" / "last" / "state.pt"
    saved = torch.load(state, weights_only=True)
    for name in ("schedule", "generators", "place"):
        parts = {**saved["parts"]}
        place = parts["train batches"]
        if name == "generators":
            place["now"]["torch"] = torch.Generator().manual_seed(1).get_state()
        elif name == "schedule":
            parts[name]["last_epoch"] += 1
        else:
            place["taken"] += 1
        torch.save({**saved, "parts": parts}, state)
        trainer, _ = train(tmp_path / name, "plain", resume=tmp_path / "killed")
        assert not same(weights(trainer), expected)
        torch.save(saved, state)
        saved = torch.load(state, weights_only=True)


def test_best_weights_are_the_ones_of_the_best_epoch(tmp_path: Path) -> None:
    seen = {}

    class Watch:
        def on_epoch_end(self, run: Any) -> None:
            values = {k: v.clone() for k, v in run.model.state_dict().items()}
            seen[run.logs["valid_loss"]] = values

    trainer, history = train(tmp_path, "plain", Watch(), lr=1.0)
    load_weights(trainer.model, tmp_path / "best")
    assert same(weights(trainer), seen[min(one["valid_loss"] for one in history)])


def test_earlier_states_are_kept(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "kept", monitor=None, every_steps=1, keep=3)
    train(tmp_path / "run", "list", checkpoint)
    names = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert names == ["last", "last.1", "last.2"]
