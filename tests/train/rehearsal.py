"""Trainings on the pretended device: python rehearsal.py. It prints what went wrong.

A program of its own, since a device cannot be taken away from torch again.
"""

import json
import tempfile
import traceback
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from pretended import MODULE, NAME, Far, Pretended, waits
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils.data import TensorDataset, random_split
from training import Losses, Noisy, X, Y, make_batches, make_net, make_trainer

from litml.train import (
    Average,
    Checkpoint,
    CsvLog,
    EarlyStopping,
    Progress,
    Run,
    Trainer,
    fade_rates,
    find_rate,
    freeze,
    load_weights,
    make_groups,
    make_loader,
    summarize,
    unfreeze,
)
from litml.train.graph import Input, Layer, build_network
from litml.train.transformer import (
    Transformer,
    TransformerConfig,
    generate,
    token_loss,
)
from litml.train.typed import feedback, join, linear, pointwise, scan

DATA = make_batches("list")
CHECKS: dict[str, Callable[[], None]] = {}


def check(function: Callable[[], None]) -> Callable[[], None]:
    CHECKS[function.__name__] = function
    return function


class Waits:
    """What was waited for within the steps."""

    is_last = True

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_step_start(self, run: Run) -> None:
        waits.clear()

    def on_step_end(self, run: Run) -> None:
        self.seen += waits


def fit(device: str | None, *callbacks: object, **more: Any) -> tuple[Trainer, Any]:
    """Train with everything, but for chance, which differs from device to device."""
    folder = Path(tempfile.mkdtemp())
    model = make_net()
    model[3].p = 0.0
    trainer = make_trainer(
        EarlyStopping(), Average(0.9), Progress(stream=StringIO(), pause=0, every=100),
        CsvLog(folder / "log.csv"), Checkpoint(folder), *callbacks,
        model=model, device=device, metrics={"off": measure}, **more,
    )  # fmt: skip
    return trainer, trainer.fit(DATA, DATA, epochs=2)


def measure(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs().mean()


def to_near(trainer: Trainer) -> list[Tensor]:
    values = trainer.model.state_dict().values()
    return [one.near.clone() if isinstance(one, Far) else one.clone() for one in values]


def compare(**more: Any) -> list[str]:
    """Train here and there, and return what the steps there waited for."""
    seen = Waits()
    there, history = fit(None, seen, **more)
    assert str(there.device) == NAME and isinstance(there.model[0].weight, Far)  # type: ignore[index]
    here, other = fit("cpu", **more)
    assert history == other
    assert all(map(torch.equal, to_near(there), to_near(here)))
    state = there.optimizer.state_dict()["state"][0]
    kinds = {name: one.device.type for name, one in state.items()}
    assert kinds == {"step": "cpu", "exp_avg": NAME, "exp_avg_sq": NAME}
    output = there.predict(DATA)
    assert type(output) is Tensor and torch.equal(output, here.predict(DATA))
    assert there.evaluate(DATA) == here.evaluate(DATA)
    return seen.seen


@check
def equal_and_no_step_waits() -> None:
    assert compare(clip=1.0) == []


@check
def equal_in_ragged_accumulation() -> None:
    assert compare(clip=1.0, accumulate=4) == []


@check
def equal_in_bfloat16() -> None:
    assert compare(precision="bfloat16") == []


@check
def in_float16_only_the_scaler_waits() -> None:
    assert compare(precision="float16", accumulate=4) == ["_local_scalar_dense"] * 4


@check
def a_wait_is_seen() -> None:
    losses, seen = Losses(), Waits()
    make_trainer(losses, seen, device=None).fit(DATA)
    assert seen.seen == ["_local_scalar_dense"] * len(DATA)


@check
def goes_on_bit_for_bit() -> None:
    """Dropout there draws from a generator there."""

    class Stop:
        def on_step_end(self, run: Run) -> None:
            if run.step == 8:
                run.stop("enough")

    def train(*callbacks: object, resume: Path | None = None) -> Any:
        scaled = {"precision": "float16", "device": None, "clip": 1.0}
        trainer = make_trainer(Average(0.9), EarlyStopping(), *callbacks, **scaled)
        trainer.fit(DATA, DATA, epochs=3, resume=resume)
        return to_near(trainer), trainer.optimizer.state_dict()["state"][0]

    whole, moments = train()
    folder = Path(tempfile.mkdtemp())
    train(Stop(), Checkpoint(folder))
    MODULE.manual_seed_all(77)
    ends, others = train(Checkpoint(folder), resume=folder)
    assert all(map(torch.equal, whole, ends))
    assert isinstance(others["exp_avg"], Far)
    assert torch.equal(moments["exp_avg"].near, others["exp_avg"].near)
    here = make_net()
    load_weights(here, folder / "last")  # without any device
    assert all(map(torch.equal, here.state_dict().values(), ends))


@check
def loaders_pin_what_lies_here() -> None:
    plain = Tensor.pin_memory
    try:  # a worker's batches are pinned in a thread, which knows no `Pretended`
        Tensor.pin_memory = lambda self, *_: self  # type: ignore[method-assign]
        for workers in (0, 2):
            loader = make_loader(Noisy(), 8, shuffle=True, workers=workers)
            assert loader.pin_memory
            make_trainer(device=None).fit(loader, epochs=1)
    finally:
        Tensor.pin_memory = plain  # type: ignore[method-assign]


@check
def loaders_leave_what_lies_there() -> None:
    data = TensorDataset(X.to(NAME), Y.to(NAME))
    for part in (data, random_split(data, [30, 14])[0]):
        loader = make_loader(part, 8, shuffle=True)
        seen = Waits()
        assert not loader.pin_memory
        make_trainer(seen, device=None).fit(loader, loader)
        assert seen.seen == []


@check
def finder_leaves_no_trace() -> None:
    trainer = make_trainer(device=None)
    chance, weights = MODULE.get_rng_state(), to_near(trainer)
    curve = find_rate(trainer, DATA, high=100.0, steps=40)
    assert len(curve.losses) > 20
    assert torch.equal(chance, MODULE.get_rng_state())
    assert all(map(torch.equal, weights, to_near(trainer)))


@check
def summary_takes_inputs_from_anywhere() -> None:
    trainer = make_trainer(device=None)
    assert "(8, 8)" in str(summarize(trainer.model, X[:8]))


@check
def freezing_and_rates() -> None:
    model = make_net()
    freeze(model, "0.bias")
    groups = make_groups(model, 0.01, rates=fade_rates(["0", "4"], 0.01, 0.5))
    make_trainer(model=model, optimizer=torch.optim.AdamW(groups), device=None).fit(
        DATA
    )
    unfreeze(model, "0")
    assert model[0].bias.grad is None and isinstance(model[0].bias, Far)


@check
def graphs() -> None:
    row, seen = Input("row", 6), Waits()
    hidden = Layer("hidden", nn.LazyLinear(8))(row).relu() * 0.5
    both = torch.cat([hidden, row[:, :2]], dim=1)
    model = build_network([row], Layer("answer", nn.Linear(10, 1))(both))
    make_trainer(seen, model=model, device=None).fit(DATA)
    assert seen.seen == []


@check
def typed_networks() -> None:
    def train(device: str | None) -> list[dict[str, float]]:
        torch.manual_seed(0)
        cell = join(1, 4) >> linear("weigh", 5, 4)
        model = scan(feedback(cell >> pointwise(torch.tanh))) >> linear("answer", 4, 1)
        data = [(x[..., None], x[..., None].cumsum(1)) for x, _ in DATA]
        return make_trainer(model=model, device=device).fit(data)

    assert train(None) == [pytest.approx(one) for one in train("cpu")]


@check
def transformers() -> None:
    found = {}
    chance = torch.Generator().manual_seed(0)
    tokens = torch.randint(11, (4, 13), generator=chance)
    for device in ("cpu", None):
        for positions in ("rotary", "learned"):
            torch.manual_seed(0)
            config = TransformerConfig(
                11, 12, 8, 2, 2, positions=positions, activation="swiglu"
            )  # type: ignore[arg-type]
            model, seen = Transformer(config), Waits()
            optimizer = torch.optim.AdamW(model.parameters(), 0.01)
            trainer = Trainer(
                model, token_loss, optimizer, device=device, callbacks=[seen], clip=1.0
            )
            batch = (tokens[:, :-1], tokens[:, 1:])
            (logs,) = trainer.fit([batch] * 3)
            prompt = tokens[:, :5].to(trainer.device)
            written = generate(model, prompt, 10, temperature=0)
            generate(model, prompt, 10, top=3)
            assert seen.seen == []
            found[device, positions] = logs["train_loss"], written.tolist()
    for positions in ("rotary", "learned"):
        (loss, written), (other, text) = (found[d, positions] for d in ("cpu", None))
        assert abs(loss - other) < 1e-5 and written == text


@check
def encoder_decoders() -> None:
    config = TransformerConfig(11, 12, 8, 2, 1, kind="encoder-decoder")
    model = Transformer(config).to(NAME)
    tokens = torch.arange(8).view(2, 4).to(NAME)
    mask = torch.ones(2, 4, dtype=torch.bool).to(NAME)
    waits.clear()
    model(tokens, tokens, mask, mask).sum().backward()
    assert waits == [] and generate(model, tokens, 3, source=tokens).shape == (2, 7)


@check
def losses_and_metrics_with_weights() -> None:
    class Farthest:
        def reset(self) -> None:
            self.value: Any = 0.0

        def update(self, output: Tensor, target: Tensor) -> None:
            self.value = (output - target).abs().max().clamp_min(self.value)

        def compute(self) -> Any:
            return self.value

    def fit(device: str | None) -> Any:
        torch.manual_seed(0)
        model, loss = nn.Linear(6, 1), nn.HuberLoss(delta=0.5)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        metrics = {"far": Farthest(), "half": lambda *_: 0.5, "mse": mse_loss}
        trainer = Trainer(model, loss, optimizer, metrics=metrics, device=device)
        return trainer.fit(DATA, DATA)

    assert fit(f"{NAME}:0") == fit("cpu")


def main() -> None:
    found = {}
    for name, run in CHECKS.items():
        try:
            with Pretended():
                run()
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
