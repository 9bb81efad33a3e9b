"""What goes wrong in a training is named, and nothing is lost."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from training import (
    X,
    Y,
    make_batches,
    make_net,
    make_trainer,
    nn,
    same,
    torch,
    train,
    weights,
)

from litml.train import (
    Checkpoint,
    EarlyStopping,
    Run,
    Trainer,
    TrainError,
    freeze,
    load_weights,
    make_loader,
)
from litml.train.state import read_state, write_state

LIST = make_batches("list")


class At:
    """Do something at an event, once a step is reached."""

    def __init__(self, event: str, step: int, do: Callable[[Run], object]) -> None:
        def method(run: Run) -> None:
            if run.step == step:
                do(run)

        setattr(self, event, method)


def explode(run: Run) -> None:
    raise ZeroDivisionError("a bug")


# Callbacks ---------------------------------------------------------------------------


def test_a_callback_that_raises_is_named_and_the_state_saved(tmp_path: Path) -> None:
    class Plot:
        def on_step_end(self, run: Run) -> None:
            if run.step == 8:
                raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError) as caught:
        train(tmp_path, "plain", Plot())
    (note,) = caught.value.__notes__
    assert note.endswith("Plot.on_step_end, epoch 1, step 8")
    whole, _ = train(tmp_path / "whole", "plain")
    resumed, _ = train(tmp_path / "again", "plain", resume=tmp_path / "failed")
    assert same(weights(resumed), weights(whole))


def test_a_second_exception_hides_nothing(tmp_path: Path) -> None:
    class Worse:
        def on_exception(self, run: Run) -> None:
            assert isinstance(run.error, ZeroDivisionError)
            raise OSError("no space left")

    trainer = make_trainer(At("on_step_end", 1, explode), Worse())
    with pytest.raises(ZeroDivisionError) as caught:
        trainer.fit(LIST)
    assert "no space left" in caught.value.__notes__[-1]


def test_callbacks_that_are_none_are_refused() -> None:
    class Typo:
        def on_epoch_finish(self, run: Run) -> None: ...

    for wrong, text in [
        (Typo(), "no event `on_epoch_finish`"),
        (Checkpoint, "Checkpoint is a class"),
        (print, "hears of no event"),
    ]:
        with pytest.raises(TrainError, match=text):
            make_trainer(wrong).fit(LIST)


def test_a_monitored_metric_that_nobody_logs(tmp_path: Path) -> None:
    trainer = make_trainer(Checkpoint(tmp_path, monitor="valid_f1"))
    with pytest.raises(TrainError, match=r"nothing logs `valid_f1`\nhint.*train_loss"):
        trainer.fit(LIST)
    load_weights(trainer.model, tmp_path / "failed")


def test_a_state_that_could_not_be_read_is_refused_at_once(tmp_path: Path) -> None:
    class Odd:
        def on_epoch_end(self, run: Run) -> None: ...

        def state_dict(self) -> dict[str, Any]:
            return {"path": Path("x")}

        def load_state_dict(self, state: dict[str, Any]) -> None: ...

    with pytest.raises(TrainError, match=r"a state holds `pathlib"):
        make_trainer(Odd(), Checkpoint(tmp_path, monitor=None)).fit(LIST)


# Data --------------------------------------------------------------------------------


def test_an_empty_loader() -> None:
    for train_data, valid in [([], None), (LIST, [])]:
        with pytest.raises(TrainError, match="empty"):
            make_trainer().fit(train_data, valid)
    with pytest.raises(TrainError, match="empty in epoch 1"):
        make_trainer().fit(iter(LIST), epochs=2)


class Broken(torch.utils.data.Dataset):  # type: ignore[misc]
    """Its sample 30 cannot be read."""

    def __len__(self) -> int:
        return 44

    def __getitem__(self, index: int) -> Any:
        if index == 30:
            raise OSError("sample 30 is damaged")
        return X[index], Y[index]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_that_raises(tmp_path: Path, workers: int) -> None:
    loader = torch.utils.data.DataLoader(Broken(), 8, num_workers=workers)
    trainer = make_trainer(Checkpoint(tmp_path))
    with pytest.raises(OSError, match="sample 30 is damaged") as caught:
        trainer.fit(loader)
    assert "while batch 3 of the epoch was fetched" in caught.value.__notes__
    assert (tmp_path / "failed").is_dir()


def test_one_sample() -> None:
    model = nn.Linear(6, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trainer = Trainer(model, nn.functional.mse_loss, optimizer, device="cpu")
    history = trainer.fit([(X[:1], Y[:1])], [(X[:1], Y[:1])], epochs=2)
    assert history[1]["valid_loss"] < history[0]["valid_loss"]
    with pytest.raises(ValueError, match="Expected more than 1 value") as caught:
        make_trainer().fit([(X[:1], Y[:1])])
    assert "in layer `1`, BatchNorm1d" in caught.value.__notes__[0]


def test_batches_that_are_not_pairs() -> None:
    for wrong in (X[:2], {"x": X, "y": Y}, (X, Y, Y)):
        for use in (make_trainer().fit, make_trainer().evaluate):
            with pytest.raises(TrainError, match="not a pair"):
                use([wrong])


def test_what_is_no_loader_is_refused_before_the_first_step() -> None:
    """A data set, or a tensor, would be gone through sample by sample."""
    trainer = make_trainer()
    before = weights(trainer)
    data = torch.utils.data.TensorDataset(X, Y)
    for call in (
        lambda: trainer.fit(data),  # type: ignore[arg-type]
        lambda: trainer.fit(LIST, 5),  # type: ignore[arg-type]
        lambda: trainer.fit(LIST, data),  # type: ignore[arg-type]
        lambda: trainer.evaluate(data),  # type: ignore[arg-type]
        lambda: trainer.predict(X),
    ):
        with pytest.raises(TrainError, match=r"no loader\nhint: make_loader"):
            call()
    assert same(weights(trainer), before)


def test_a_monitored_validation_without_data_for_it() -> None:
    with pytest.raises(TrainError, match="given no data for the validation"):
        make_trainer(EarlyStopping()).fit(LIST)


def test_a_nan_is_told_and_can_be_stopped_at() -> None:
    class StopAtNan:
        def on_epoch_end(self, run: Run) -> None:
            if run.logs["train_loss"] != run.logs["train_loss"]:
                run.stop("train_loss is nan")

    batches = [(x, y * float("nan")) for x, y in LIST]
    with pytest.warns(UserWarning, match="train_loss is nan in epoch 0.*`clip`"):
        history = make_trainer(StopAtNan()).fit(batches, epochs=5)
    assert len(history) == 1


def test_a_nan_is_told_once() -> None:
    batches = [(x, y * float("nan")) for x, y in LIST]
    with pytest.warns(UserWarning, match="train_loss is nan in epoch 0") as caught:
        make_trainer().fit(batches, epochs=3)
    assert len(caught) == 1


def test_no_data() -> None:
    data = torch.utils.data.TensorDataset(X[:0], Y[:0])
    for shuffle in (False, True):
        with pytest.raises(TrainError, match="the data set is empty"):
            make_loader(data, 8, shuffle=shuffle)


# Shapes, memory, devices -------------------------------------------------------------


def test_wrong_shapes_name_the_layer() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Linear(6, 8), nn.Linear(9, 1))

        def forward(self, x: Any) -> Any:
            return self.body(x)

    with pytest.raises(RuntimeError) as caught:
        make_trainer(model=Net()).fit(LIST)
    (note,) = caught.value.__notes__
    assert "layer `body.1`, Linear(in_features=9" in note
    assert "input (8, 8)" in note


def test_wrong_shapes_in_the_loss_are_told() -> None:
    def loss(output: Any, target: Any) -> Any:
        return (output @ target).mean()

    with pytest.raises(RuntimeError) as caught:
        make_trainer(model=nn.Linear(6, 3), loss=loss).fit(LIST)
    assert "in the loss, given output (8, 3), target (8, 1)" in caught.value.__notes__


def test_a_loss_that_is_no_mean() -> None:
    def loss(output: Any, target: Any) -> Any:
        return (output - target) ** 2

    with pytest.raises(TrainError, match=r"the loss is \(8, 1\)\nhint: .* mean"):
        make_trainer(loss=loss).fit(LIST)
    with pytest.raises(TrainError, match="the loss is None"):
        make_trainer(loss=lambda output, target: None).fit(LIST)


def test_nothing_is_trained() -> None:
    model = make_net()
    freeze(model, "*")
    for more in (
        {"model": model},
        {"loss": lambda output, target: (output.detach() - target).square().mean()},
    ):
        with pytest.raises(TrainError, match="depends on nothing that is trained"):
            make_trainer(**more).fit(LIST)
    trainer = make_trainer()
    assert make_trainer(optimizer=trainer.optimizer, model=trainer.model).fit(LIST)
    with pytest.raises(TrainError, match="no parameter of the model"):
        make_trainer(optimizer=trainer.optimizer).fit(LIST)


def test_out_of_memory(tmp_path: Path) -> None:
    class Net(nn.Linear):
        def forward(self, input: Any) -> Any:
            if len(input) < 8:
                raise torch.OutOfMemoryError("tried to allocate 80 GiB")
            return super().forward(input)

    trainer = make_trainer(Checkpoint(tmp_path), model=Net(6, 1))
    with pytest.raises(torch.OutOfMemoryError) as caught:
        trainer.fit(LIST)
    assert "a smaller batch with `accumulate`" in caught.value.__notes__[-1]
    model = Net(6, 1)
    load_weights(model, tmp_path / "failed")
    assert same(model.state_dict(), weights(trainer))


def test_out_of_memory_of_the_processor() -> None:
    class Net(nn.Linear):
        def forward(self, input: Any) -> Any:
            return super().forward(input) + torch.empty(2**60, dtype=torch.uint8).sum()

    with pytest.raises(RuntimeError) as caught:  # torch has no class of its own for it
        make_trainer(model=Net(6, 1)).fit(LIST)
    assert "a smaller batch with `accumulate`" in caught.value.__notes__[-1]


def test_settings_that_make_no_sense() -> None:
    for more, text in [
        ({"device": "cuda:77"}, "no device `cuda:77`\nhint: here are cpu"),
        ({"device": "gpu"}, "no device `gpu`"),
        ({"precision": "fp16"}, "no precision `fp16`\nhint: there are float32"),
    ]:
        with pytest.raises(TrainError, match=text):
            make_trainer(**more)
    with pytest.raises(TrainError, match="accumulate=0"):
        make_trainer(accumulate=0).fit(LIST)
    with pytest.raises(TrainError, match="mode `least`"):
        Checkpoint("x", mode="least")


# Ctrl-C ------------------------------------------------------------------------------


def interrupt(run: Run) -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_finishes_the_step_and_saves(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    ends = []
    end = At("on_fit_end", 9, lambda run: ends.append(run.stopping))
    trainer, history = train(
        tmp_path / "run", "plain", At("on_gradients", 8, interrupt), end
    )
    assert ends == ["interrupted"] and len(history) == 1
    assert signal.getsignal(signal.SIGINT) is before
    kept = make_net()
    load_weights(kept, tmp_path / "run" / "last")
    assert same(weights(trainer), kept.state_dict())
    whole, expected = train(tmp_path / "whole", "plain")
    resumed, again = train(tmp_path / "run", "plain", resume=tmp_path / "run")
    assert again == expected and same(weights(resumed), weights(whole))


def test_ctrl_c_twice_means_it() -> None:
    def twice(run: Run) -> None:
        interrupt(run)
        interrupt(run)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(At("on_gradients", 2, twice)).fit(LIST)


def test_ctrl_c_in_a_terminal_reaches_the_workers_too(tmp_path: Path) -> None:
    script = """if True:
        import os, pathlib, signal, sys, training
        class Interrupt:
            def on_gradients(self, run):
                if run.step == 8:
                    os.killpg(0, signal.SIGINT)
        path = pathlib.Path(sys.argv[1])
        trainer, history = training.train(path, "ours, 2 workers", Interrupt())
        print("left with", len(history))
    """
    here = Path(__file__).parent
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(
        command, cwd=here, capture_output=True, text=True, start_new_session=True
    )
    assert done.stdout == "left with 1\n", done.stderr
    assert "Traceback" not in done.stderr
    assert read_facts(tmp_path / "last")["step"] == 9


def test_raised_in_the_middle_of_a_validation(tmp_path: Path) -> None:
    """The epoch is not trained again, and the whole validation is."""

    class Fragile(nn.Linear):
        left = 1

        def forward(self, input: Any) -> Any:
            self.left -= not self.training
            if self.left == -1:
                raise RuntimeError("the cable is out")
            return super().forward(input)

    def fit(folder: Path, model: Any, resume: Path | None = None) -> Any:
        torch.manual_seed(3)
        model.reset_parameters()
        checkpoint = Checkpoint(folder)
        trainer = make_trainer(checkpoint, model=model)
        return trainer.fit(LIST, [(X[:9], Y[:9]), (X, Y)], epochs=2, resume=resume)

    whole = fit(tmp_path / "whole", nn.Linear(6, 1))
    with pytest.raises(RuntimeError, match="cable") as caught:
        fit(tmp_path / "run", Fragile(6, 1))
    assert len(caught.value.__notes__) == 1
    resume = tmp_path / "run" / "failed"
    assert fit(tmp_path / "run", nn.Linear(6, 1), resume) == whole


def test_wrong_shapes_in_use_name_the_layer_too() -> None:
    trainer = make_trainer()
    for use in (trainer.predict, trainer.evaluate):
        with pytest.raises(RuntimeError) as caught:
            use([(X[:, :3], Y)])
        assert "in layer `0`, Linear" in caught.value.__notes__[0]


# Checkpoints -------------------------------------------------------------------------


def read_facts(folder: Path) -> dict[str, Any]:
    import json

    return json.loads((folder / "facts.json").read_text())  # type: ignore[no-any-return]


def make_run(step: int) -> Run:
    model = nn.Linear(2, 2)
    nn.init.constant_(model.weight, step)
    optimizer = torch.optim.SGD(model.parameters(), lr=step)
    return Run(
        model,
        optimizer,
        None,
        torch.device("cpu"),
        epochs=1,
        step=step,
        parts={"optimizer": optimizer},
    )


def count_and_die(last: int) -> Iterator[None]:
    """Kill the process before the `last` call that changes a file."""
    calls = 0

    def watch(module: Any, name: str) -> None:
        original = getattr(module, name)

        def watched(*args: Any, **more: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **more)

        setattr(module, name, watched)

    watch(Path, "mkdir")
    watch(Path, "rename")
    watch(Path, "write_text")
    watch(os, "fsync")
    watch(os, "unlink")
    watch(os, "rmdir")
    watch(torch, "save")
    yield


def write_and_die(folder: Path, call: int) -> None:
    next(count_and_die(call))
    write_state(folder / "last", make_run(2))


def test_killed_while_writing_the_last_good_one_loads(tmp_path: Path) -> None:
    """Before each call that changes a file, until none is left to be killed at."""
    steps, call = [], 0
    while True:
        call += 1
        folder = tmp_path / str(call)
        write_state(folder / "last", make_run(1))
        process = get_context("fork").Process(target=write_and_die, args=(folder, call))
        process.start()
        process.join(180)
        run = make_run(0)
        found = folder / "last" if (folder / "last").exists() else folder / "last.1"
        step = read_state(found, run.world)["step"]
        load_weights(run.model, folder)
        assert (run.model.weight == step).all()
        steps.append(step)
        write_state(folder / "last", make_run(3))  # what was left does not hinder
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["last"]
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert len(steps) > 8 and set(steps) == {1, 2} and steps == sorted(steps)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    train(tmp_path / "saved", "list")
    return tmp_path / "saved"


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "facts.json"])
@pytest.mark.parametrize("share", [0, 0.5, 0.98])
def test_a_truncated_checkpoint(saved: Path, name: str, share: float) -> None:
    path = saved / "last" / name
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(TrainError, match=str(path)):
        train(saved, "list", resume=saved)
    path.unlink()
    with pytest.raises(TrainError, match=str(saved)):
        train(saved, "list", resume=saved)
    assert not (saved / "failed").exists()  # nothing was done, so nothing is saved


def test_foreign_checkpoints(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="holds no state of a training"):
        train(saved, "list", resume=tmp_path / "nowhere")
    with pytest.raises(TrainError, match=r"last/model.safetensors does not fit"):
        train(tmp_path, "list", resume=saved, model=nn.Linear(6, 1))
    with pytest.raises(TrainError, match=r"no state for the scaler"):
        train(tmp_path, "list", resume=saved, precision="float16")
    model = make_net()
    other = torch.optim.SGD(model.parameters(), lr=0.01)
    with pytest.raises(TrainError, match="with AdamW as optimizer, here is SGD"):
        train(tmp_path, "list", resume=saved, model=model, optimizer=other)
    schedule = torch.optim.lr_scheduler.ConstantLR(make_trainer().optimizer)
    with pytest.raises(TrainError, match="with OneCycleLR as schedule, here is Const"):
        train(tmp_path, "list", resume=saved, schedule=schedule)
    facts = saved / "last" / "facts.json"
    text = facts.read_text()
    facts.write_text(text.replace('"format": 1', '"format": 9'))
    with pytest.raises(TrainError, match=r"facts.json: format 9, .* reads 1"):
        train(tmp_path, "list", resume=saved)
    facts.write_text('["something", "else"]')
    with pytest.raises(TrainError, match=r"facts.json: format None"):
        train(tmp_path, "list", resume=saved)
    facts.write_text(text.replace(torch.__version__, "0.0.1"))
    with pytest.warns(UserWarning, match=r"with torch 0.0.1: it may not go on"):
        train(tmp_path, "list", resume=saved)


def test_a_checkpoint_runs_no_code(saved: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "ran"),)

    state = saved / "last" / "state.pt"
    torch.save({"step": 1, "history": [], "parts": Evil()}, state)
    with pytest.raises(TrainError, match="cannot be read"):
        train(saved, "list", resume=saved)
    state.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(TrainError, match="cannot be read"):
        train(saved, "list", resume=saved)
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """That is told before the first step, not after an epoch of hours."""
    (tmp_path / "file").touch()
    seen = At("on_step_end", 1, explode)
    with pytest.raises(NotADirectoryError) as caught:
        make_trainer(Checkpoint(tmp_path / "file" / "run"), seen).fit(LIST)
    assert "in callback Checkpoint.on_fit_start" in caught.value.__notes__[0]


def test_data_that_has_shrunk(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, every_steps=4)
    stop = At("on_step_end", 4, lambda run: run.stop("enough"))
    make_trainer(stop, checkpoint).fit(LIST)
    with pytest.raises(TrainError, match="4 batches were used, the loader has 3"):
        make_trainer(checkpoint).fit(LIST[:3], resume=tmp_path)


def test_a_full_disk_keeps_the_old_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_state(tmp_path / "last", make_run(1))

    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="no space"):
            write_state(tmp_path / "last", make_run(2))
    assert read_facts(tmp_path / "last")["step"] == 1


def test_callbacks_may_be_left_out(saved: Path, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="not used: callback Wandering"):
        make_trainer(Checkpoint(tmp_path)).fit(LIST, [(X, Y)], epochs=3, resume=saved)
    shutil.rmtree(saved)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(saved, "list")
