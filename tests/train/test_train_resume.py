"""A training that was killed goes on, and ends with the same weights, bit for bit."""

from pathlib import Path
from typing import Any

import pytest
from training import KINDS, same, train, train_and_die, weights

WHOLE: dict[str, Any] = {}


def uninterrupted(folder: Path, kind: str, **more: Any) -> Any:
    key = f"{kind} {more}"
    if key not in WHOLE:
        trainer, history = train(folder / "whole", kind, **more)
        WHOLE[key] = weights(trainer), history
    return WHOLE[key]


def check(folder: Path, kind: str, step: int, **more: Any) -> None:
    expected, history = uninterrupted(folder, kind, **more)
    train_and_die(folder / "killed", kind, step, **more)
    resumed = folder / "killed"
    trainer, again = train(resumed, kind, resume=resumed, **more)
    assert same(weights(trainer), expected)
    assert again == history


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "step", [2, 6, 11]
)  # mid-epoch, after an epoch, before its end
def test_killed_at_a_step(tmp_path: Path, kind: str, step: int) -> None:
    check(tmp_path, kind, step)


@pytest.mark.parametrize(
    "step", [1, 3, 4]
)  # an epoch has 3 steps, the last a short one
def test_killed_between_accumulated_steps(tmp_path: Path, step: int) -> None:
    check(tmp_path, "ours", step, accumulate=2, clip=1.0)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_killed_in_half_precision(tmp_path: Path, precision: str) -> None:
    check(tmp_path, "plain", 8, precision=precision)
