"""Early stopping against Keras and Lightning, and the whole of its state."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

REASON = "litml.train needs the extra `train`"
torch = pytest.importorskip("torch", reason=REASON)
pytest.importorskip("torchdata", reason=REASON)

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from litml.train.checkpoint import Checkpoint  # noqa: E402
from litml.train.device import TrainError  # noqa: E402
from litml.train.events import Run  # noqa: E402
from litml.train.loop import Trainer  # noqa: E402
from litml.train.stopping import EarlyStopping, Rule, Standing, StoppingError  # noqa: E402
from litml.train.world import World  # noqa: E402

torch.set_num_threads(1)

PEERS = json.loads((Path(__file__).parent / "peers_stopping.json").read_text())
CURVES: dict[str, list[float]] = PEERS["curves"]
CASES: list[dict[str, Any]] = PEERS["cases"]
OF_LIGHTNING = [case for case in CASES if "lightning" in case]


def follow(
    rule: Rule, curve: list[float], stop_on_nan: bool = False
) -> tuple[int, Standing]:
    """The number of epochs trained, and the standing after them."""
    standing = Standing()
    for epoch, value in enumerate(curve):
        if stop_on_nan and not math.isfinite(value):
            break
        standing = rule.judge(standing, epoch, value)
        if rule.is_over(standing):
            break
    return epoch + 1, standing


class Replay:
    """Logs a curve; the weight of the model tells the epoch."""

    def __init__(self, curve: list[float]) -> None:
        self.curve = curve

    def on_validation_end(self, run: Run) -> None:
        run.logs["valid_loss"] = self.curve[run.epoch]
        run.model.weight.data.fill_(run.epoch)  # type: ignore[union-attr,operator]


DATA = [(torch.ones(1, 1), torch.ones(1, 1))]


def train(curve: list[float], *callbacks: Any, **fit: Any) -> tuple[int, int]:
    """The number of epochs, and the epoch whose weights the model has."""
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    called = [Replay(curve), *callbacks]
    trainer = Trainer(model, nn.MSELoss(), optimizer, callbacks=called, device="cpu")
    history = trainer.fit(DATA, DATA, **{"epochs": len(curve), **fit})
    return len(history), int(model.weight.item())


# Keras and Lightning -----------------------------------------------------------------


def test_the_table_is_about_known_versions() -> None:
    assert PEERS["versions"] == {
        "keras": "3.15.1",
        "lightning": "2.6.6",
        "torch": "2.13.0",
    }
    assert len(CASES) == 624 and len(OF_LIGHTNING) == 208


def test_stops_when_lightning_does() -> None:
    for case in OF_LIGHTNING:
        curve, rule = CURVES[case["curve"]], Rule(**case["options"])
        epochs, _ = follow(rule, curve, stop_on_nan=True)
        assert epochs == case["lightning"]["epochs"], case


def test_keeps_what_the_checkpoint_of_lightning_keeps() -> None:
    """But a first value that is no number is never the best."""
    for case in OF_LIGHTNING:
        curve, rule = CURVES[case["curve"]], Rule(**case["options"])
        _, standing = follow(rule, curve, stop_on_nan=True)
        if math.isfinite(curve[0]):
            assert standing.best_epoch == case["lightning"]["kept"], case
        else:
            assert (standing.best_epoch, case["lightning"]["kept"]) == (-1, 0)


class Noting(Checkpoint):
    """Notes instead of writing."""

    saved: int = -1

    def save(self, run: Run, name: str, keep: int = 1) -> None:
        if name == "best":
            self.saved = run.epoch


def test_a_checkpoint_keeps_the_same_epoch() -> None:
    for case in OF_LIGHTNING:
        curve, mode = CURVES[case["curve"]], case["options"]["mode"]
        epochs, standing = follow(Rule(**case["options"]), curve)
        noting = Noting("nowhere", mode=mode)
        run: Any = Run(None, None, None, None, 0)  # type: ignore[arg-type]
        for run.epoch in range(epochs):
            run.logs = {"valid_loss": curve[run.epoch]}
            noting.on_epoch_end(run)
        if curve[0] != math.inf:  # infinite is no best loss for a checkpoint
            assert noting.saved == standing.best_epoch, case


def differs(case: dict[str, Any], epochs: int, standing: Standing) -> str:
    """Why Keras comes to another verdict, as the chapter says; or nothing."""
    curve, options = CURVES[case["curve"]], case["options"]
    if math.isnan(curve[options.get("start_from_epoch", 0)]):
        return "Keras takes a NaN for its best, and nothing beats it"
    if case["keras"]["epochs"] != epochs:
        rule = Rule(**options)
        late = case["keras"]["epochs"] > epochs
        missed = not rule.is_progress(standing.reference or 0.0, rule.baseline)
        if rule.baseline is not None and late and missed:
            return "Keras waits for a baseline while each epoch beats the last"
        return ""
    if options["min_delta"] and standing.best != standing.reference:
        return "Keras restores the last epoch that beat the margin"
    return ""


def test_the_verdict_of_keras_but_for_what_is_told() -> None:
    reasons: dict[str, int] = {}
    for case in CASES:
        epochs, standing = follow(Rule(**case["options"]), CURVES[case["curve"]])
        verdict = {"epochs": epochs, "restored": standing.best_epoch}
        if verdict != case["keras"]:
            reason = differs(case, epochs, standing)
            assert reason, (case, verdict)
            reasons[reason] = reasons.get(reason, 0) + 1
    assert len(reasons) == 3, "each difference that the chapter names is seen"
    assert sum(reasons.values()) < len(CASES) / 4


def is_example(case: dict[str, Any]) -> bool:
    return case["options"]["patience"] == 2 and case["options"]["mode"] == "min"


@pytest.mark.parametrize("case", [case for case in CASES if is_example(case)])
def test_a_training_does_what_the_rule_says(case: dict[str, Any]) -> None:
    curve, options = CURVES[case["curve"]], case["options"]
    epochs, standing = follow(Rule(**options), curve)
    done, weights = train(curve, EarlyStopping(**options, stop_on_nan=False))
    assert done == epochs
    assert weights == (standing.best_epoch if standing.best_epoch >= 0 else done - 1)


# The rule ----------------------------------------------------------------------------

VALUES = st.lists(st.floats(-100, 100) | st.just(math.nan), min_size=1, max_size=12)


@given(VALUES, st.integers(0, 4), st.floats(0, 1), st.booleans())
def test_the_laws_of_stopping(
    curve: list[float], patience: int, delta: float, relative: bool
) -> None:
    rule = Rule("min", patience, delta, relative)
    epochs, standing = follow(rule, curve)
    seen = [value for value in curve[:epochs] if not math.isnan(value)]
    assert standing.best == (min(seen) if seen else None)
    if seen:
        assert curve.index(min(seen)) == standing.best_epoch
    if epochs < len(curve):
        assert standing.wait == max(patience, 1)
    mirrored = [-value for value in curve]
    assert follow(Rule("max", patience, delta, relative), mirrored)[0] == epochs


@given(VALUES.filter(lambda curve: not any(map(math.isnan, curve))))
def test_a_greater_margin_or_smaller_patience_never_trains_longer(
    curve: list[float],
) -> None:
    lengths = [follow(Rule(patience=patience), curve)[0] for patience in (1, 2, 3, 4)]
    assert lengths == sorted(lengths)


def test_a_relative_margin_follows_the_value() -> None:
    curve = [1000.0, 950.0, 890.0, 850.0, 800.0]
    absolute = follow(Rule(patience=2, min_delta=0.1), curve)[1]
    relative = follow(Rule(patience=2, min_delta=0.1, relative=True), curve)[1]
    assert (absolute.wait, relative.wait) == (0, 0)
    assert relative.reference == 800.0 and absolute.reference == 800.0
    assert follow(Rule(patience=1, min_delta=0.1, relative=True), curve)[0] == 2


@pytest.mark.parametrize(
    "options",
    [{"mode": "auto"}, {"patience": -1}, {"min_delta": -0.1}, {"start_from_epoch": -2}],
)
def test_a_rule_without_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(StoppingError):
        EarlyStopping(**options)


# The callback ------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_ends_the_training(bad: float) -> None:
    stopping = EarlyStopping(patience=9)
    assert train([0.9, 0.5, bad, 0.1], stopping) == (3, 1)
    assert "valid_loss is" in stopping.reason
    stopping = EarlyStopping(patience=9, start_from_epoch=3)
    assert train([0.9, bad, 0.3, 0.1], stopping)[0] == 2


def test_a_nan_in_training_ends_it_though_another_value_is_watched() -> None:
    class Poison:
        def on_epoch_end(self, run: Run) -> None:
            run.logs["train_loss"] = math.nan

    stopping = EarlyStopping()
    assert train([0.9, 0.8], Poison(), stopping)[0] == 1
    assert stopping.reason == "train_loss is nan"
    assert train([0.9, 0.8], Poison(), EarlyStopping(stop_on_nan=False))[0] == 2


def test_a_value_that_nobody_logs() -> None:
    with pytest.raises(StoppingError, match="did you mean `valid_loss`"):
        train([0.9], EarlyStopping("val_loss"))
    with pytest.raises(TrainError, match="there are train_loss, valid_loss"):
        train([0.9], EarlyStopping("accuracy"))


def test_restored_bit_for_bit_with_buffers_and_tied_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    states: list[dict[str, Any]] = []

    class Follow:
        def on_epoch_end(self, run: Run) -> None:
            run.logs["valid_loss"] = [0.5, 0.2, 0.4, 0.6][run.epoch]
            state = run.model.state_dict()
            states.append({name: one.clone() for name, one in state.items()})

    optimizer = torch.optim.AdamW(model.parameters(), 0.1)
    data = [(torch.randn(8, 3), torch.randn(8, 3)) for _ in range(3)]
    callbacks = [Follow(), EarlyStopping(patience=2)]
    trainer = Trainer(model, nn.MSELoss(), optimizer, callbacks=callbacks, device="cpu")
    trainer.fit(data, epochs=9)
    assert len(states) == 4
    for name, value in model.state_dict().items():
        assert torch.equal(value, states[1][name]), name
    assert not torch.equal(states[1]["0.weight"], states[3]["0.weight"])
    assert model[2].weight is model[0].weight


def test_used_again_it_begins_anew() -> None:
    stopping = EarlyStopping(patience=2)
    curve = [0.9, 0.1, 0.5, 0.6, 0.7]
    assert train(curve, stopping) == (4, 1)
    assert train([5.0, 4.0, 3.0], stopping) == (3, 2)


@pytest.mark.parametrize("epochs", [1, 2, 3, 4])
def test_resumed_it_knows_all(tmp_path: Path, epochs: int) -> None:
    curve = [0.9, 0.3, 0.5, 0.4, 0.6, 0.1]
    whole = EarlyStopping(patience=3)
    expected = train(curve, whole, Checkpoint(tmp_path / "whole"))
    assert expected == (5, 1)
    train(curve, EarlyStopping(patience=3), Checkpoint(tmp_path / "a"), epochs=epochs)
    again = EarlyStopping(patience=3)
    found = train(curve, again, Checkpoint(tmp_path / "a"), resume=tmp_path / "a")
    assert found == expected
    assert again.standing == whole.standing and again.reason == whole.reason


def test_stopped_and_resumed_it_is_still_over(tmp_path: Path) -> None:
    curve = [0.9, 0.3, 0.5, 0.4, 0.1, 0.0]
    folder = Checkpoint(tmp_path)
    assert train(curve, EarlyStopping(patience=2), folder) == (4, 1)
    assert train(curve, EarlyStopping(patience=2), folder, resume=tmp_path) == (4, 1)


@pytest.mark.parametrize("rank", [0, 1])
def test_all_processes_judge_the_number_of_the_first(rank: int) -> None:
    """What each measures differs; here the other process adds its part."""
    first = [0.9, 0.3, 0.5, 0.6, 0.1]
    other = [0.1, 0.2, 0.3, 0.4, 0.5]

    class Two(World):
        size = 2
        parts = iter(first)

        def total(self, value: Any) -> Any:
            if value.ndim or value.dtype != torch.float64:
                return value * 2  # sums and weights of losses
            part = next(self.parts)
            return value + (0.0 if rank == 0 else part)

    world = Two()
    world.rank = rank
    stopping = EarlyStopping(patience=2)
    curve = first if rank == 0 else other
    model = nn.Linear(1, 1, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    called = [Replay(curve), stopping]
    trainer = Trainer(
        model, nn.MSELoss(), optimizer, callbacks=called, device="cpu", world=world
    )
    assert len(trainer.fit(DATA, DATA, 5)) == 4
    assert stopping.standing.best_epoch == 1 and model.weight.item() == 1
