"""The range test: what it finds, and that nobody notices it was done."""

import math
import random
from typing import Any

import pytest

REASON = "litml.train needs the extra `train`"
torch = pytest.importorskip("torch", reason=REASON)
pytest.importorskip("torchdata", reason=REASON)

from torch import nn  # noqa: E402

from litml.train.batches import make_loader  # noqa: E402
from litml.train.events import Run  # noqa: E402
from litml.train.finder import FinderError, RateCurve, find_rate  # noqa: E402
from litml.train.loop import Trainer  # noqa: E402
from litml.train.schedules import one_cycle  # noqa: E402

torch.set_num_threads(1)


def make_trainer(**more: Any) -> Trainer:
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1)
    )
    groups = [
        {"params": model[0].parameters(), "lr": 1e-3},
        {"params": [*model[1].parameters(), *model[3].parameters()], "lr": 1e-2},
    ]
    optimizer = torch.optim.AdamW(groups)
    return Trainer(
        model,
        nn.MSELoss(),
        optimizer,
        schedule=one_cycle(optimizer, 40),
        device="cpu",
        seed=None,
        **more,
    )


def make_data() -> Any:
    torch.manual_seed(5)
    x = torch.randn(48, 4)
    data = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))
    return make_loader(data, 8, shuffle=True)


def picture(trainer: Trainer, loader: Any) -> list[Any]:
    """Everything that can be seen of a trainer, in plain values."""
    model, optimizer = trainer.model, trainer.optimizer
    return [
        {name: one.tolist() for name, one in model.state_dict().items()},
        [layer.training for layer in model.modules()],
        [one.grad for one in model.parameters()],
        str(optimizer.state_dict()),
        [sorted(group) for group in optimizer.param_groups],
        str(trainer.schedule.state_dict()) if trainer.schedule else "",
        random.getstate(),
        torch.get_rng_state().tolist(),
        loader.generator.get_state().tolist(),
        (trainer.callbacks, trainer.seed),
    ]


@pytest.mark.parametrize("trained", [False, True])
def test_everything_is_as_it_was(trained: bool) -> None:
    trainer, loader = make_trainer(), make_data()
    if trained:
        trainer.fit(loader, epochs=2)
        trainer.model[1].eval()  # type: ignore[index]
    parameters = list(trainer.model.parameters())
    before = picture(trainer, loader)
    curve = find_rate(trainer, loader)
    assert len(curve.losses) > 20
    assert picture(trainer, loader) == before
    for one, other in zip(parameters, trainer.model.parameters(), strict=True):
        assert one is other


def test_the_training_after_it_is_the_one_without_it() -> None:
    losses: list[Any] = []
    for look_first in (False, True):
        trainer, loader = make_trainer(), make_data()
        if look_first:
            find_rate(trainer, loader)
        losses.append(trainer.fit(loader, epochs=3))
    assert losses[0] == losses[1]


def test_the_test_is_repeatable() -> None:
    trainer, loader = make_trainer(), make_data()
    assert find_rate(trainer, loader) == find_rate(trainer, loader)


def test_after_a_failure_all_is_as_it_was() -> None:
    trainer, loader = make_trainer(), make_data()
    before = picture(trainer, loader)

    def fail(output: Any, target: Any) -> Any:
        raise RuntimeError("no loss today")

    trainer.loss, loss = fail, trainer.loss
    with pytest.raises(RuntimeError, match="no loss today"):
        find_rate(trainer, loader)
    trainer.loss = loss
    assert picture(trainer, loader) == before


@pytest.mark.parametrize("curvature", [0.1, 1.0, 10.0])
def test_a_bowl_whose_best_rate_is_known(curvature: float) -> None:
    """Descent on c/2 x² explodes above a rate of 2 / c, and is best at 1 / c."""
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(1.0)
    optimizer = torch.optim.SGD(model.parameters(), 1.0)

    def bowl(output: Any, target: Any) -> Any:
        return curvature / 2 * output.square().mean()

    trainer = Trainer(model, bowl, optimizer, device="cpu")
    one = torch.ones(1, 1)
    rate = find_rate(trainer, [(one, one)], low=1e-6, high=1e3).suggestion
    assert 0.001 / curvature < rate < 2 / curvature


def test_groups_keep_their_proportions() -> None:
    seen: list[list[float]] = []

    class Optimizer(torch.optim.SGD):  # type: ignore[name-defined,misc]
        def step(self, closure: Any = None) -> None:
            seen.append([group["lr"] for group in self.param_groups])

    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    groups = [
        {"params": model[0].parameters(), "lr": 0.001},
        {"params": model[1].parameters(), "lr": 0.004},
    ]
    trainer = Trainer(model, nn.MSELoss(), Optimizer(groups, lr=1.0), device="cpu")
    data = [(torch.ones(1, 1), torch.ones(1, 1))]
    curve = find_rate(trainer, data, 1e-5, 1e-1, steps=30)
    assert [pair[1] for pair in seen] == pytest.approx(list(curve.rates))
    assert [pair[0] * 4 for pair in seen] == pytest.approx(list(curve.rates))
    assert curve.rates[0] == 1e-5 and curve.rates[-1] == pytest.approx(1e-1)


def test_it_ends_when_the_loss_explodes() -> None:
    trainer, loader = make_trainer(accumulate=2), make_data()
    curve = find_rate(trainer, loader, 1e-6, 1e6, steps=60)
    assert len(curve.losses) == len(curve.rates) < 60
    assert all(math.isfinite(loss) for loss in curve.losses)


def test_callbacks_have_a_rest() -> None:
    class Never:
        def on_fit_start(self, run: Run) -> None:
            raise AssertionError

    trainer, loader = make_trainer(callbacks=[Never()]), make_data()
    find_rate(trainer, loader, steps=12)


def test_what_cannot_be_found() -> None:
    trainer, loader = make_trainer(), make_data()
    for low, high, steps in ((0.0, 1.0, 50), (1.0, 1.0, 50), (0.1, 1.0, 9)):
        with pytest.raises(FinderError):
            find_rate(trainer, loader, low, high, steps)
    trainer.loss = lambda output, target: output.mean() * math.nan
    with pytest.raises(FinderError, match="no number"):
        find_rate(trainer, loader)
    with pytest.raises(FinderError, match="falls at no rate"):
        _ = RateCurve((0.1, 0.2, 0.3), (1.0, 1.0, 1.0)).suggestion


def test_the_curve_is_drawn() -> None:
    pytest.importorskip("matplotlib", reason="draws with matplotlib")
    trainer, loader = make_trainer(), make_data()
    curve = find_rate(trainer, loader)
    axes = curve.plot().axes[0]
    assert axes.get_xscale() == "log"
    assert len(axes.lines[0].get_xdata()) == len(curve.rates)
