"""What is written down of a training, also of one that was killed and goes on."""

import csv
import os
import subprocess
import sys
from multiprocessing import get_context
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
from litml.train.logs import (  # noqa: E402
    CsvLog,
    LiveCurves,
    TensorBoardLog,
    draw_curves,
    find_names,
    group_names,
    to_csv,
)
from litml.train.loop import Trainer  # noqa: E402
from litml.train.world import World  # noqa: E402

torch.set_num_threads(1)


def train(
    *callbacks: Any, epochs: int = 4, world: World | None = None, **fit: Any
) -> list[dict[str, float]]:
    torch.manual_seed(0)
    x = torch.randn(12, 2)
    data = list(zip(x.split(2), x.sum(1, keepdim=True).split(2), strict=True))
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options = {"callbacks": callbacks, "device": "cpu", "world": world or World()}
    trainer = Trainer(model, nn.MSELoss(), optimizer, **options)
    return trainer.fit(data, data, epochs, **fit)


def read(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row.pop("epoch")) for row in rows] == list(range(len(rows)))
    return [{k: float(v) for k, v in row.items() if v} for row in rows]


class Quit(Exception):
    pass


class Break:
    """Ends a training as a crash does, at a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, run: Run) -> None:
        if run.step == self.step:
            raise Quit


class Extra:
    """Logs one more number, in some epochs."""

    def on_validation_end(self, run: Run) -> None:
        if run.epoch % 2:
            run.logs["extra"] = float(run.epoch)


# CSV ---------------------------------------------------------------------------------

NAMES = st.text("ab_,\";: é'", min_size=1, max_size=5)
HISTORY = st.lists(
    st.dictionaries(NAMES, st.floats(allow_nan=False), min_size=1, max_size=3),
    max_size=5,
)


@given(HISTORY)
def test_numbers_and_names_read_back_as_they_were(
    history: list[dict[str, float]],
) -> None:
    import io

    text = to_csv(history, find_names(history))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    found = [
        {k: float(v) for k, v in row.items() if v and k != "epoch"} for row in rows
    ]
    assert found == history


def test_the_file_is_the_history(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.csv"
    assert read_after(path, train(CsvLog(path)))
    assert read_after(path, train(CsvLog(path), epochs=2)), "a new training, a new file"
    assert [entry.name for entry in path.parent.iterdir()] == ["log.csv"]


def read_after(path: Path, history: list[dict[str, float]]) -> bool:
    return read(path) == history and len(history) > 1


def test_it_is_there_after_every_epoch(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"

    class Look:
        def on_epoch_end(self, run: Run) -> None:
            assert read(path) == run.history

    train(Extra(), CsvLog(path), Look())


@pytest.mark.parametrize("step", [8, 12, 15, 23])
@pytest.mark.parametrize("rest", ["whole", "cut", "gone", "ahead"])
def test_a_resumed_training_has_one_file(tmp_path: Path, step: int, rest: str) -> None:
    """Rows of epochs that are trained again, half a row, or no file at all."""
    whole, path = tmp_path / "whole.csv", tmp_path / "log.csv"
    train(Extra(), CsvLog(whole))
    save = Checkpoint(tmp_path / "state", every_steps=4)
    with pytest.raises(Quit):
        train(Extra(), CsvLog(path), save, Break(step))
    if rest == "cut":
        path.write_bytes(path.read_bytes()[:-3])
    elif rest == "gone":
        path.unlink()
    elif rest == "ahead":
        with path.open("a") as file:
            file.write("7,0.1,0.2,0.3\n")
    train(Extra(), CsvLog(path), save, resume=tmp_path / "state")
    assert path.read_text() == whole.read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="forks a process to kill it")
def test_a_kill_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: Any
) -> None:
    path = tmp_path / "log.csv"
    train(CsvLog(path))
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *paths: os._exit(9))
    child = get_context("fork").Process(target=CsvLog(path).write_all, args=([],))
    child.start()
    child.join()
    assert child.exitcode == 9 and path.read_bytes() == before


# TensorBoard -------------------------------------------------------------------------


def read_board(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads."""
    module = "tensorboard.backend.event_processing.event_accumulator"
    reader = pytest.importorskip(module, reason="reads with TensorBoard")
    board = reader.EventAccumulator(str(folder)).Reload()
    tags = board.Tags()["scalars"]
    return {tag: [(p.step, p.value) for p in board.Scalars(tag)] for tag in tags}


def test_tensorboard_reads_what_was_logged(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="writes for TensorBoard")
    history = train(TensorBoardLog(tmp_path, every=2))
    board = read_board(tmp_path)
    losses = [(6 * (i + 1), logs["valid_loss"]) for i, logs in enumerate(history)]
    assert dict(board["epoch/valid_loss"]) == pytest.approx(dict(losses), rel=1e-6)
    assert [step for step, _ in board["step/loss"]] == list(range(2, 25, 2))
    assert all(rate == pytest.approx(0.1) for _, rate in board["step/rate 0"])


@pytest.mark.parametrize("step", [8, 15, 23])
def test_tensorboard_goes_on_with_a_training(tmp_path: Path, step: int) -> None:
    """The points after the checkpoint are not there twice."""
    pytest.importorskip("tensorboard", reason="writes for TensorBoard")
    train(TensorBoardLog(tmp_path / "whole", every=1))
    save = Checkpoint(tmp_path / "state", every_steps=4)
    with pytest.raises(Quit):
        train(TensorBoardLog(tmp_path / "log", every=1), save, Break(step))
    log = TensorBoardLog(tmp_path / "log", every=1)
    train(log, save, resume=tmp_path / "state")
    assert read_board(tmp_path / "log") == read_board(tmp_path / "whole")


def test_without_tensorboard_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrainError, match="pip install tensorboard"):
        train(TensorBoardLog(tmp_path))


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    script = (
        "import sys, litml.train.logs, litml.train.finder, litml.train.prepare\n"
        "heavy = {'matplotlib', 'tensorboard', 'IPython', 'sklearn', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


# Curves ------------------------------------------------------------------------------


def test_curves_show_each_quantity_by_what_it_was_measured_on() -> None:
    pytest.importorskip("matplotlib", reason="draws with matplotlib")
    history = train(Extra())
    loss, extra = draw_curves(history).axes
    assert (loss.get_title(), extra.get_title()) == ("loss", "extra")
    drawn = {line.get_label(): list(line.get_ydata()) for line in loss.lines}
    assert drawn == {
        "train": [logs["train_loss"] for logs in history],
        "valid": [logs["valid_loss"] for logs in history],
    }
    assert extra.lines[0].get_xdata().tolist() == [1, 3]
    assert len(draw_curves([]).axes) == 1


def test_names_fall_into_groups() -> None:
    assert group_names(["train_loss", "train", "valid_", "test_loss"]) == {
        "loss": {"train": "train_loss"},
        "train": {"": "train"},
        "valid_": {"": "valid_"},
        "test_loss": {"": "test_loss"},
    }


def test_live_curves_update_one_output(monkeypatch: Any) -> None:
    pytest.importorskip("matplotlib", reason="draws with matplotlib")
    pytest.importorskip("IPython", reason="shows in a notebook")
    shown: list[Any] = []

    class Handle:
        update = shown.append

    def display(image: Any, display_id: bool) -> Any:
        shown.append(image)
        return Handle

    monkeypatch.setattr("IPython.display.display", display)
    train(LiveCurves(pause=0.0))
    assert not shown, "nobody looks"
    monkeypatch.setattr("litml.train.logs.is_notebook", lambda: True)
    train(LiveCurves(pause=0.0))
    assert len(shown) == 5 and all(one.data[:4] == b"\x89PNG" for one in shown)
    shown.clear()
    train(LiveCurves(pause=60.0))
    assert len(shown) == 2, "the first epoch, and all at the end"
    assert shown[-1].alt == "train_loss, valid_loss over 4 epochs"


class Second(World):
    rank = 1


@pytest.mark.parametrize("log", ["csv", "board", "curves"])
def test_the_first_process_writes_for_all(
    tmp_path: Path, monkeypatch: Any, log: str
) -> None:
    monkeypatch.setattr("litml.train.logs.is_notebook", lambda: True)
    make = {"csv": CsvLog, "board": TensorBoardLog, "curves": LiveCurves}
    callback = make[log]() if log == "curves" else make[log](tmp_path / "log")
    train(callback, world=Second())
    assert not os.listdir(tmp_path)
