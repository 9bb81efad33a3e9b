"""The loop: what is called when, what a step is, what is measured."""

import ast
import subprocess
import sys
from collections import UserDict
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from torch.utils._python_dispatch import TorchDispatchMode
from training import (
    DataLoader,
    Losses,
    TensorDataset,
    X,
    Y,
    make_batches,
    make_net,
    make_trainer,
    nn,
    same,
    torch,
    weights,
)

from litml.train import (
    EVENTS,
    Average,
    Checkpoint,
    EarlyStopping,
    Progress,
    Run,
    Trainer,
    TrainError,
    World,
    accuracy,
    move,
    step,
)

LIST = make_batches("list")


def test_import_costs_little() -> None:
    """Counted in modules: nothing heavy comes with it but torch."""
    script = """if True:
        import sys, torch
        before = set(sys.modules)
        import litml.train
        print(*sorted(set(sys.modules) - before))
    """
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert roots <= {"litml", "torch", "torchdata", "safetensors", "_hashlib"} | set(
        sys.stdlib_module_names
    )
    heavy = {"torchdata.nodes", "torch._dynamo", "torch._inductor", "torch.distributed"}
    assert not heavy & set(done.stdout.split())
    assert len(done.stdout.split()) < 100


CORE = "device world batches events metrics step state loop checkpoint schedules"


def count_code(path: Path) -> int:
    """Return the lines that hold code: no imports, `__all__`, docstrings, comments."""
    tree = ast.parse(path.read_text("utf-8"))
    other = (ast.Import, ast.ImportFrom)
    texts = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    texts += [node for node in tree.body if isinstance(node, other)]
    texts += [one for one in tree.body if "__all__" in ast.unparse(one)]
    left = {n for node in texts for n in range(node.lineno, node.end_lineno + 1)}
    nodes = [node for node in ast.walk(tree) if hasattr(node, "lineno")]
    return len({n for one in nodes for n in (one.lineno, one.end_lineno)} - left)


def test_the_core_is_small() -> None:
    """Loop, callbacks, checkpoints and schedules can be read in an evening."""
    folder = Path(step.__file__).parent
    lines = {name: count_code(folder / f"{name}.py") for name in CORE.split()}
    assert 500 < sum(lines.values()) < 900, lines


class Record:
    """Every event, with the place where it happened."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, int]] = []
        for event in EVENTS:
            setattr(self, event, self.note(event))

    def note(self, event: str) -> Any:
        return lambda run: self.seen.append((event[3:], run.epoch, run.step))


def test_the_order_of_events() -> None:
    record = Record()
    make_trainer(record).fit(LIST[:2], LIST[2:], epochs=2)
    step = ["step_start", "gradients", "step_end"]
    valid = ["validation_start", "validation_end"]
    epoch = ["epoch_start", *step, *step, *valid, "epoch_end"]
    assert [name for name, _, _ in record.seen] == [
        "fit_start",
        *epoch,
        *epoch,
        "fit_end",
    ]
    assert record.seen[3:5] == [("gradients", 0, 0), ("step_end", 0, 1)]
    assert record.seen[-2:] == [("epoch_end", 1, 4), ("fit_end", 2, 4)]


def test_logs_are_complete_when_an_epoch_ends() -> None:
    seen: list[Any] = []

    class Look:
        def on_validation_end(self, run: Run) -> None:
            seen.append((dict(run.logs), len(run.history)))

        def on_epoch_end(self, run: Run) -> None:
            run.logs["rate"] = 0.5
            seen.append((dict(run.logs), len(run.history)))

    history = make_trainer(Look(), metrics={"half": lambda o, t: o.sum() * 0}).fit(
        LIST, LIST
    )
    names = ["train_loss", "valid_loss", "valid_half"]
    assert [list(logs) for logs, _ in seen] == [names, [*names, "rate"]]
    assert [count for _, count in seen] == [0, 1]
    assert list(history[0]) == [*names, "rate"]


def test_the_loop_is_the_one_by_hand() -> None:
    """Bit for bit, with dropout, schedule and clipping."""
    trainer = make_trainer(clip=0.1)
    trainer.fit(LIST, epochs=2)
    other = make_trainer()
    model, optimizer, schedule = other.model, other.optimizer, other.schedule
    torch.manual_seed(0)
    model.train()
    for x, y in LIST * 2:
        nn.functional.mse_loss(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    assert same(weights(trainer), weights(other))


@pytest.mark.parametrize("accumulate, batch", [(3, 24), (2, 16), (6, 44), (9, 44)])
def test_accumulation_equals_the_large_batch(accumulate: int, batch: int) -> None:
    """With a last batch that is smaller, in a step with fewer batches."""

    def fit(size: int, accumulate: int) -> Any:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
        losses = Losses()
        trainer = Trainer(
            model,
            nn.functional.mse_loss,
            torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
            callbacks=[losses],
            accumulate=accumulate,
            clip=1.0,
            device="cpu",
        )
        history = trainer.fit(DataLoader(TensorDataset(X, Y), size), epochs=5)
        return losses.values, history, weights(trainer)

    losses, history, small = fit(8, accumulate)
    expected, wanted, large = fit(batch, 1)
    assert losses == pytest.approx(expected, rel=1e-6)
    assert history == [pytest.approx(one, rel=1e-6) for one in wanted]
    for name, value in large.items():
        torch.testing.assert_close(small[name], value, rtol=1e-6, atol=1e-6)


def test_tokens_are_what_a_loss_is_a_mean_over() -> None:
    """Sequences padded with 0: two micro-batches with unlike numbers of tokens."""
    torch.manual_seed(2)
    tokens = torch.randint(1, 9, (6, 12))
    for row, length in enumerate([12, 11, 9, 3, 2, 1]):
        tokens[row, length:] = 0

    def loss(output: Any, target: Any) -> Any:
        return nn.functional.cross_entropy(
            output.transpose(1, 2), target, ignore_index=0
        )

    def fit(size: int) -> Any:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 9))
        batches = list(zip(tokens.split(size), tokens.split(size), strict=True))
        trainer = Trainer(
            model,
            loss,
            torch.optim.SGD(model.parameters(), lr=1.0),
            accumulate=6 // size,
            weigh=lambda batch: (batch[1] != 0).sum(),
            device="cpu",
        )
        return trainer.fit(batches), trainer.evaluate(batches), weights(trainer)

    one, ours, small = fit(3)
    other, expected, large = fit(6)
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    assert ours == pytest.approx(expected, rel=1e-6)
    for name, value in large.items():
        torch.testing.assert_close(small[name], value, rtol=1e-6, atol=1e-6)


def test_nothing_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step reads no tensor; an epoch reads one."""
    reads: list[str] = []
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        original = getattr(torch.Tensor, name)

        def watched(self: Any, *args: Any, _: Any = (name, original)) -> Any:
            if "optim" not in sys._getframe(1).f_code.co_filename:
                reads.append(_[0])
            return _[1](self, *args)

        monkeypatch.setattr(torch.Tensor, name, watched)
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trainer = Trainer(model, nn.functional.mse_loss, optimizer, clip=1, device="cpu")
    trainer.fit(LIST * 5, epochs=2)
    assert reads == ["tolist", "tolist"]


def test_evaluation_weighs_samples_and_leaves_the_model_alone() -> None:
    trainer = make_trainer(metrics={"mean": lambda output, target: target.mean()})
    trainer.model[1].eval()
    state = torch.get_rng_state()
    found = trainer.evaluate(LIST)
    assert [layer.training for layer in trainer.model][:3] == [True, False, True]
    assert torch.equal(torch.get_rng_state(), state)
    trainer.model.eval()
    with torch.no_grad():
        loss = nn.functional.mse_loss(trainer.model(X), Y).item()
    assert found["loss"] == pytest.approx(loss, rel=1e-6)
    assert found["mean"] == pytest.approx(Y.mean().item(), rel=1e-6)
    torch.testing.assert_close(trainer.predict(LIST), trainer.model(X).detach())
    torch.testing.assert_close(trainer.predict([X]), trainer.model(X).detach())


def test_predicted_tuples_and_mappings_are_whole() -> None:
    class Both(NamedTuple):
        scores: Any
        more: Any

    class Net(nn.Linear):
        def forward(self, input: Any) -> Any:
            scores = super().forward(input)
            more = {"mean": scores.mean(), "list": [scores * 2], "none": None}
            return Both(scores, more)

    trainer = make_trainer(model=Net(6, 1))
    found = trainer.predict(LIST)  # 6 batches
    assert isinstance(found, Both) and found.scores.shape == (44, 1)
    assert torch.equal(found.more["list"][0], 2 * found.scores)
    assert found.more["mean"].shape == (6,) and found.more["none"] == [None] * 6
    with pytest.raises(TrainError, match="to predict with is empty"):
        trainer.predict([])


def test_inputs_are_moved_in_whatever_they_are_nested() -> None:
    class Pair(NamedTuple):
        left: Any
        right: Any

    batch = UserDict(pair=Pair(X, [Y]), text="abc")
    moved = move(batch, torch.device("meta"))
    assert isinstance(moved["pair"], Pair) and moved["text"] == "abc"
    assert moved["pair"].left.is_meta and moved["pair"].right[0].is_meta


def test_several_inputs() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 1)

        def forward(self, left: Any, right: Any) -> Any:
            return self.layer(left - right)

    for inputs in ((X, X / 2), [X, X / 2], {"right": X / 2, "left": X}):
        trainer = make_trainer(model=Net())
        trainer.fit([(inputs, Y)])
        assert trainer.predict([(inputs, Y)]).shape == (44, 1)


def test_a_run_can_be_stopped_in_an_epoch_or_at_its_end() -> None:
    class Stop:
        def __init__(self, event: str) -> None:
            setattr(self, event, lambda run: run.stop("enough"))

    for event, epochs, steps in [
        ("on_step_end", 0, 1),
        ("on_epoch_start", 0, 0),
        ("on_epoch_end", 1, 6),
        ("on_validation_end", 1, 6),
    ]:
        record = Record()
        history = make_trainer(Stop(event), record).fit(LIST, LIST, epochs=3)
        assert len(history) == epochs
        assert record.seen[-1] == ("fit_end", epochs, steps)


def test_half_precision_computes_in_it_and_keeps_weights_whole() -> None:
    seen = set()

    def loss(output: Any, target: Any) -> Any:
        seen.add(output.dtype)
        return nn.functional.mse_loss(output.float(), target)

    for precision in ("bfloat16", "float16"):
        trainer = make_trainer(precision=precision, loss=loss)
        history = trainer.fit(LIST, epochs=3)
        assert history[-1]["train_loss"] < history[0]["train_loss"]
        assert {p.dtype for p in trainer.model.parameters()} == {torch.float32}
    assert seen == {torch.bfloat16, torch.float16}


def test_gradients_are_unscaled_for_callbacks_and_overflow_changes_nothing() -> None:
    norms = []

    class Watch:
        def on_gradients(self, run: Run) -> None:
            norms.append([p.grad.norm().item() for p in run.model.parameters()])  # type: ignore[union-attr]

    def small(output: Any, target: Any) -> Any:
        return 0.01 * nn.functional.mse_loss(output, target)

    for precision in ("float32", "float16"):
        torch.manual_seed(4)
        more = {"precision": precision, "loss": small, "model": nn.Linear(6, 1)}
        make_trainer(Watch(), **more).fit(LIST[:1])
    assert norms[1] == pytest.approx(norms[0], rel=0.02)

    model = nn.Linear(6, 1)
    before = [p.clone() for p in model.parameters()]
    trainer = make_trainer(precision="float16", model=model)
    with pytest.warns(UserWarning, match="train_loss is inf"):
        trainer.fit([(X, Y * 1e30)])
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True)
    )
    assert trainer.schedule.last_epoch == 0  # type: ignore[union-attr]


def test_compiled_models_keep_the_names_of_their_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def compile(model: Any) -> Any:
        calls.append(model)
        return lambda *args: model(*args)

    monkeypatch.setattr(torch, "compile", compile)
    trainer = make_trainer(compile=True)
    trainer.fit(LIST, LIST)
    assert calls == [trainer.model]
    assert list(weights(trainer)) == list(make_net().state_dict())


@pytest.mark.slow  # the compiler takes its time
def test_compiled_for_real() -> None:
    plain, compiled = make_trainer(), make_trainer(compile=True)
    one, other = (t.fit(LIST[:5], LIST[:5], epochs=2) for t in (plain, compiled))
    assert one[0]["valid_loss"] == pytest.approx(other[0]["valid_loss"], rel=0.2)


def test_accuracy_of_classes_and_of_yes_or_no() -> None:
    scores = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    assert accuracy(scores, torch.tensor([1, 1])) == 0.5
    assert accuracy(scores[:, 0] - 2, torch.tensor([0.0, 1.0])) == 1
    pixels = torch.zeros(2, 3, 4, 4)
    assert accuracy(pixels, torch.zeros(2, 4, 4)) == 1
    with pytest.raises(TrainError):
        accuracy(scores, torch.zeros(2, 1))


def test_the_second_fit_starts_from_the_weights_of_the_first() -> None:
    trainer = make_trainer()
    first = trainer.fit(LIST, epochs=3)
    second = trainer.fit(LIST, epochs=3)
    assert len(second) == 3 and second[0]["train_loss"] < first[0]["train_loss"]


# The seams for many processes --------------------------------------------------------


class Recorder(World):
    """The second of two processes, whose twin does the same."""

    rank, size = 1, 2

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.asked = 0

    def wrap(self, model: Any, device: Any) -> Any:
        self.seen.append("wrap")
        return nn.Sequential(model)

    def scale(self, weight: float) -> Any:
        self.seen.append(weight)
        return torch.tensor(1.0)

    def hold(self, forward: Any, last: bool) -> Any:
        self.seen.append(last)
        return super().hold(forward, last)

    def total(self, value: Any) -> Any:
        self.seen.append("total")
        return value * 2

    def agree(self, flag: bool) -> bool:
        self.asked += 1
        return flag or self.asked == 4

    def wait(self) -> None:
        self.seen.append("wait")

    def save_weights(self, model: Any, path: Path) -> None:
        self.seen.append("save")


def test_a_world_is_asked_for_all_that_is_common(tmp_path: Path) -> None:
    world, alone = Recorder(), make_trainer(accumulate=2)
    losses = Losses()
    trainer = make_trainer(losses, world=world, accumulate=2)
    history = trainer.fit(LIST[:3], [(X, Y)])
    assert history == [pytest.approx(one) for one in alone.fit(LIST[:3], [(X, Y)])]
    assert same(weights(trainer), weights(alone))
    assert world.seen == ["wrap", 16, False, True, 8, True, "total", "total"]
    # The other process says stop in the fourth step, so this one saves and leaves.
    (tmp_path / ".last.new").mkdir()
    stopped = make_trainer(Checkpoint(tmp_path, monitor=None), world=Recorder())
    assert stopped.fit(LIST, epochs=9) == []
    assert stopped.world.seen[-4:] == ["wait", "save", "wait", "wait"]  # type: ignore[attr-defined]
    (file,) = (tmp_path / ".last.new").iterdir()
    assert file.name == "state.1.pt" and torch.load(file)["step"] == 4


WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "unique"}


def test_no_step_reads_a_number() -> None:
    """On the processor, where one sees which operations a GPU would wait for."""

    class Watch(TorchDispatchMode):
        is_last = True

        def on_step_start(self, run: Run) -> None:
            self.__enter__()

        def on_step_end(self, run: Run) -> None:
            self.__exit__(None, None, None)

        def __torch_dispatch__(
            self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.add(operation.overloadpacket.__name__)
            return operation(*args, **kwargs or {})

    def fit(*callbacks: object) -> set[str]:
        seen.clear()
        model = make_net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        more = {"clip": 1.0, "accumulate": 2, "precision": "bfloat16"}
        stopping = EarlyStopping("train_loss")
        callbacks = (
            Average(0.9),
            stopping,
            Progress(stream=StringIO()),
            *callbacks,
            Watch(),
        )
        make_trainer(*callbacks, **more, optimizer=optimizer, model=model).fit(LIST)
        return seen & WAITS

    seen: set[str] = set()
    assert not fit() and "native_batch_norm" in seen
    assert fit(Losses()) == {"_local_scalar_dense"}  # it can be seen


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA tells who waits")
def test_on_a_gpu_no_step_waits_for_the_device() -> None:
    class Refuse:
        def on_step_start(self, run: Run) -> None:
            torch.cuda.set_sync_debug_mode("error" if run.step else "default")

        def on_step_end(self, run: Run) -> None:
            torch.cuda.set_sync_debug_mode("default")

    trainer = make_trainer(Refuse(), device="cuda", clip=1.0, accumulate=2)
    trainer.fit([(x.pin_memory(), y.pin_memory()) for x, y in LIST], LIST, epochs=2)
