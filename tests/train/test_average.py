"""The average of the weights against torch's own `AveragedModel`."""

from pathlib import Path
from typing import Any

import pytest

REASON = "litml.train needs the extra `train`"
torch = pytest.importorskip("torch", reason=REASON)
pytest.importorskip("torchdata", reason=REASON)

from torch import nn  # noqa: E402
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn  # noqa: E402

from litml.train.average import Average  # noqa: E402
from litml.train.batches import make_loader  # noqa: E402
from litml.train.checkpoint import Checkpoint  # noqa: E402
from litml.train.device import TrainError  # noqa: E402
from litml.train.events import Run  # noqa: E402
from litml.train.loop import Trainer  # noqa: E402
from litml.train.state import load_weights  # noqa: E402
from litml.train.stopping import EarlyStopping  # noqa: E402

torch.set_num_threads(1)


def make_model() -> Any:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 1)
    )


def make_data() -> Any:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, generator=generator)
    return torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))


def train(model: Any, *callbacks: Any, epochs: int = 3, **fit: Any) -> Any:
    optimizer = torch.optim.AdamW(model.parameters(), 0.05)
    trainer = Trainer(model, nn.MSELoss(), optimizer, callbacks=callbacks, device="cpu")
    train, valid = (
        make_loader(make_data(), 8, shuffle=True),
        make_loader(make_data(), 8),
    )
    return trainer.fit(train, valid, epochs=epochs, **fit)


class Peer:
    """Torch's own average, and whether the model shows it at the right times."""

    def __init__(self, start: int = 0) -> None:
        self.start = start
        self.shown: list[str] = []

    def on_fit_start(self, run: Run) -> None:
        move = get_ema_multi_avg_fn(0.9)
        self.average = AveragedModel(run.model, multi_avg_fn=move, use_buffers=True)

    def on_step_end(self, run: Run) -> None:
        if run.step > self.start:
            self.average.update_parameters(run.model)
        self.trained = {n: p.clone() for n, p in run.model.state_dict().items()}

    def same(self, run: Run, expected: Any) -> bool:
        found = run.model.state_dict()
        return all(
            torch.equal(found[name], value)
            for name, value in expected.items()
            if value.is_floating_point()
        )

    def on_validation_start(self, run: Run) -> None:
        assert self.same(run, self.average.module.state_dict())

    on_validation_end = on_epoch_end = on_fit_end = on_validation_start

    def on_epoch_start(self, run: Run) -> None:
        if run.step:
            assert self.same(run, self.trained)


@pytest.mark.parametrize("start", [0, 3])
def test_it_is_torchs_average_bit_for_bit(start: int) -> None:
    average = Average(0.9, start)
    train(make_model(), average, Peer(start))
    assert average.count == 15 - start


def test_the_training_is_not_disturbed() -> None:
    class Note:
        def __init__(self) -> None:
            self.losses: list[float] = []

        def on_step_end(self, run: Run) -> None:
            self.losses.append(run.loss.item())

    plain, averaged = Note(), Note()
    train(make_model(), plain)
    train(make_model(), averaged, Average(0.9))
    assert plain.losses == averaged.losses


def test_nothing_is_shown_before_the_start() -> None:
    with_it, without = make_model(), make_model()
    train(with_it, Average(0.9, start=100))
    train(without)
    for one, other in zip(with_it.parameters(), without.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_best_on_disk_and_restored_is_the_average(tmp_path: Path) -> None:
    model = make_model()
    stopping = EarlyStopping(patience=1)
    history = train(model, Average(0.9), stopping, Checkpoint(tmp_path), epochs=6)
    best = min(history, key=lambda logs: logs["valid_loss"])
    loaded = make_model()
    load_weights(loaded, tmp_path / "best")
    for found in (model, loaded):
        optimizer = torch.optim.SGD(found.parameters(), 0.0)
        trainer = Trainer(found, nn.MSELoss(), optimizer, device="cpu")
        valid = trainer.evaluate(make_loader(make_data(), 8))
        assert valid["loss"] == best["valid_loss"]


class Quit(Exception):
    pass


@pytest.mark.parametrize("step", [2, 5, 7, 10, 12])
def test_resumed_it_goes_on_bit_for_bit(tmp_path: Path, step: int) -> None:
    """In mid-epoch the model is saved as it is trained; between epochs, averaged."""

    class Break:
        def on_step_start(self, run: Run) -> None:
            if run.step == step:
                raise Quit

    whole, resumed = make_model(), make_model()
    expected = train(whole, Average(0.9))
    save = Checkpoint(tmp_path, every_steps=1 if step % 5 else None)
    with pytest.raises(Quit):
        train(make_model(), Average(0.9), Break(), save)
    save = Checkpoint(tmp_path)
    assert train(resumed, Average(0.9), save, resume=tmp_path) == expected
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_no_step_waits_for_the_device() -> None:
    """No number is read, as torch's `AveragedModel` does to know the first step."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(
            self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.add(operation.overloadpacket.__name__)
            return operation(*args, **kwargs or {})

    seen: set[str] = set()
    average, model = Average(0.9), make_model()
    run = Run(model, None, None, torch.device("cpu"), 1)  # type: ignore[arg-type]
    average.on_fit_start(run)
    with Watch():
        for run.step in (1, 2, 3):
            average.on_step_end(run)
    assert seen == {"copy_", "_foreach_lerp_"}
    with Watch():
        AveragedModel(model).update_parameters(model)
    assert "_local_scalar_dense" in seen


@pytest.mark.parametrize(("decay", "start"), [(1.0, 0), (-0.1, 0), (0.9, -1)])
def test_what_is_no_average_is_refused(decay: float, start: int) -> None:
    with pytest.raises(TrainError):
        Average(decay, start)
