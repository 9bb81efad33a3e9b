"""Schedules against torch's own schedulers and closed formulas."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="litml.train needs the extra litml[train]")

from torch.optim.lr_scheduler import LambdaLR, OneCycleLR  # noqa: E402

from litml.train.schedules import ScheduleError, count_steps, one_cycle, warm_cosine  # noqa: E402

PEAKS = (1.0, 0.02)


def make_optimizer(kind: Any = torch.optim.AdamW, **options: Any) -> Any:
    groups = [{"params": [torch.zeros(1)], "lr": peak} for peak in PEAKS]
    return kind(groups, **options)


def rates(optimizer: Any, schedule: Any, steps: int) -> list[list[float]]:
    """The rates of all groups, at each step, and after the last."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = []
        for _ in range(steps):
            found.append([group["lr"] for group in optimizer.param_groups])
            optimizer.step()
            schedule.step()
    return [*found, [group["lr"] for group in optimizer.param_groups]]


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("steps", [7, 10, 100])
def test_one_cycle_is_the_one_of_torch(kind: Any, steps: int) -> None:
    options = {} if kind is torch.optim.AdamW else {"momentum": 0.9}
    ours, theirs = make_optimizer(kind, **options), make_optimizer(kind, **options)
    schedule = one_cycle(ours, steps)
    peer = OneCycleLR(
        theirs, list(PEAKS), total_steps=steps, div_factor=25, final_div_factor=1e5
    )
    assert rates(ours, schedule, steps) == rates(theirs, peer, steps)
    key = "betas" if kind is torch.optim.AdamW else "momentum"
    assert [g[key] for g in ours.param_groups] == [g[key] for g in theirs.param_groups]


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 10, 20, 41])
@pytest.mark.parametrize("warm", [0, 0.05, 0.1, 0.2, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("make", [one_cycle, warm_cosine])
def test_every_number_of_steps_makes_a_schedule(
    make: Callable[..., Any], steps: int, warm: float
) -> None:
    """Torch's own divides by zero for 10 steps of which a tenth is warm-up."""
    optimizer = make_optimizer()
    found = rates(optimizer, make(optimizer, steps, warm=warm), steps)
    for pair in found:
        assert all(
            0 <= rate <= peak + 1e-9 for rate, peak in zip(pair, PEAKS, strict=True)
        )
        assert pair[1] == pytest.approx(pair[0] * PEAKS[1], abs=1e-12)
    assert steps < 3 or any(pair[0] > 0.4 for pair in found)


@pytest.mark.parametrize(("steps", "warm"), [(10, 0.2), (50, 0.1), (9, 0)])
def test_warm_cosine_is_its_formula(steps: int, warm: float) -> None:
    rise = round(steps * warm)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise)))

    ours, theirs = make_optimizer(), make_optimizer()
    found = rates(ours, warm_cosine(ours, steps, warm=warm), steps)
    peer = rates(theirs, LambdaLR(theirs, factor), steps)
    for mine, other in zip(found, peer, strict=True):
        assert mine == pytest.approx(other, abs=1e-12)


def test_momentum_of_zero_stays_zero() -> None:
    optimizer = make_optimizer(torch.optim.SGD)
    rates(optimizer, one_cycle(optimizer, 5), 5)
    assert [group["momentum"] for group in optimizer.param_groups] == [0, 0]


@pytest.mark.parametrize("make", [one_cycle, warm_cosine])
@pytest.mark.parametrize("stop", [1, 3, 4, 9])
def test_a_schedule_goes_on_where_it_was(make: Callable[..., Any], stop: int) -> None:
    whole = make_optimizer()
    expected = rates(whole, make(whole, 12), 12)
    first = make_optimizer()
    schedule = make(first, 12)
    rates(first, schedule, stop)
    second = make_optimizer()
    again = make(second, 12)
    second.load_state_dict(first.state_dict())
    again.load_state_dict(schedule.state_dict())
    assert rates(second, again, 12 - stop) == expected[stop:]


def test_steps_are_those_of_the_optimizer() -> None:
    assert count_steps(range(10), 2) == 20
    assert count_steps(range(10), 2, accumulate=4) == 6
    for steps, warm in ((0, 0.1), (-1, 0.1), (10, 1.0), (10, -0.1), (10, 3)):
        for make in (one_cycle, warm_cosine):
            with pytest.raises(ScheduleError):
                make(make_optimizer(), steps, warm=warm)
