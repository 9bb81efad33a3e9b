"""What a terminal, a file and a notebook see of a training, and what it costs."""

import contextlib
import io
import os
import re
import sys
from typing import Any

import pytest

REASON = "litml.train needs the extra `train`"
torch = pytest.importorskip("torch", reason=REASON)
pytest.importorskip("torchdata", reason=REASON)

from torch import nn  # noqa: E402

from litml.train.events import Run  # noqa: E402
from litml.train.loop import Trainer  # noqa: E402
from litml.train.progress import Lines, Progress, Table, Terminal, choose_view  # noqa: E402
from litml.train.world import World  # noqa: E402

torch.set_num_threads(1)

PROGRAM = """
import torch
from torch import nn
from litml.train.loop import Trainer
from litml.train.progress import Progress

data = [(torch.ones(2, 1), torch.ones(2, 1))] * 10
model = nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
progress = Progress(every=2, pause=0.0)
trainer = Trainer(model, nn.MSELoss(), optimizer, callbacks=[progress], device="cpu")
trainer.fit(data, data, 3)
"""


class Window(io.StringIO):
    def isatty(self) -> bool:
        return True


def train(
    progress: Any, *more: Any, epochs: int = 3, data: Any = None, **options: Any
) -> None:
    data = data or [(torch.ones(2, 1), torch.ones(2, 1))] * 10
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    options |= {"callbacks": [progress, *more], "device": "cpu"}
    Trainer(model, nn.MSELoss(), optimizer, **options).fit(data, data, epochs)


def screen(text: str) -> list[str]:
    """What stands on a terminal after these characters."""
    lines = [""]
    for part in re.split(r"(\r|\n|\x1b\[K)", text):
        if part == "\n":
            lines.append("")
        elif part in ("\r", "\x1b[K"):
            lines[-1] = ""
        else:
            lines[-1] += part
    return lines


def read_to_the_end(terminal: int) -> bytes:
    """What was written comes in parts, the last some time after it was written."""
    seen = b""
    with contextlib.suppress(OSError):  # so Linux says that the other side is closed
        while part := os.read(terminal, 4096):
            seen += part
    return seen


def test_a_file_gets_a_line_an_epoch() -> None:
    stream = io.StringIO()
    train(Progress(1, stream, pause=0.0))
    lines = stream.getvalue().splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["epoch", f"{epoch}/3"] for epoch in (1, 2, 3)
    ]
    assert all("train_loss" in line and "valid_loss" in line for line in lines)
    assert "\r" not in stream.getvalue() and "\x1b" not in stream.getvalue()


def test_a_terminal_shows_one_line_that_passes() -> None:
    stream = Window()
    train(Progress(2, stream, pause=0.0))
    passing = re.findall(r"epoch (\d)/3  step (\d+)/10  loss \S+  ", stream.getvalue())
    assert passing == [(str(e), str(s)) for e in (1, 2, 3) for s in (2, 4, 6, 8, 10)]
    shown = screen(stream.getvalue())
    assert len(shown) == 4 and shown[-1] == ""
    assert all("steps/s" not in line for line in shown), "what passes has passed"


def test_a_line_is_never_wider_than_the_window(monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "24")
    stream = Window()
    train(Progress(1, stream, pause=0.0))
    passing = re.findall(r"\x1b\[K([^\r\n]+)(?=\r)", stream.getvalue())
    assert passing and max(map(len, passing)) == 23


def test_fast_steps_are_not_all_shown() -> None:
    stream = Window()
    train(Progress(1, stream, pause=60.0))
    assert len(re.findall(r"steps/s", stream.getvalue())) == 1


def test_thousands_of_epochs_are_a_hundred_lines() -> None:
    stream = io.StringIO()
    train(Progress(stream=stream), epochs=1001, data=[(torch.ones(1, 1),) * 2])
    lines = stream.getvalue().splitlines()
    assert len(lines) <= 101 and lines[-1].startswith("epoch 1001/1001")


def test_the_loss_is_read_every_so_many_steps(monkeypatch: Any) -> None:
    reads: list[int] = []
    item = torch.Tensor.item

    def count(self: Any) -> Any:
        reads.append(1)
        return item(self)

    class Window60(Window):
        pass

    monkeypatch.setattr(torch.Tensor, "item", count)
    train(Progress(5, Window60(), pause=0.0))
    assert len(reads) == 30 / 5
    reads.clear()
    train(Progress(1000, Window60(), pause=0.0))
    assert not reads


def test_it_says_why_it_ends_early() -> None:
    class Stop:
        def on_epoch_end(self, run: Run) -> None:
            run.stop("enough is enough")

    stream = io.StringIO()
    train(Progress(stream=stream), Stop())
    assert stream.getvalue().splitlines()[-1] == "stopped: enough is enough"


def test_a_traceback_has_a_line_of_its_own() -> None:
    class Fail:
        def on_step_end(self, run: Run) -> None:
            if run.step == 3:
                raise RuntimeError

    stream = Window()
    with pytest.raises(RuntimeError):
        train(Progress(1, stream, pause=0.0), Fail())
    assert screen(stream.getvalue()) == [""]


def test_a_loader_of_unknown_length() -> None:
    class Endless:
        def __iter__(self) -> Any:
            return iter([(torch.ones(2, 1), torch.ones(2, 1))] * 4)

    stream = Window()
    train(Progress(1, stream, pause=0.0), data=Endless())
    assert re.search(r"step 4  loss \S+  \S+ steps/s\r", stream.getvalue())


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_in_a_real_terminal() -> None:
    import pty

    here, there = pty.openpty()
    with open(there, "w") as stream:
        train(Progress(2, stream, pause=0.0))
    seen = read_to_the_end(here).decode()
    os.close(here)
    assert "\x1b[K" in seen and "step 10/10" in seen
    assert len(screen(seen)) == 4


def test_in_a_notebook_one_output_is_updated() -> None:
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel()
    messages: list[dict[str, Any]] = []
    try:
        client.execute_interactive(PROGRAM, timeout=180, output_hook=messages.append)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    kinds = [message["msg_type"] for message in messages]
    assert kinds.count("display_data") == 1 and "stream" not in kinds
    updates = [one for one in messages if one["msg_type"] == "update_display_data"]
    assert len(updates) > 10
    ids = {one["content"]["transient"]["display_id"] for one in updates}
    assert len(ids) == 1
    last = updates[-1]["content"]["data"]
    assert last["text/html"].count("<tr>") == 4 and "steps/s" not in str(last)


def test_the_view_that_suits(monkeypatch: Any) -> None:
    assert type(choose_view(Window())) is Terminal
    assert type(choose_view(io.StringIO())) is Lines
    monkeypatch.setattr("litml.train.progress.is_notebook", lambda: True)
    assert type(choose_view(sys.stderr)) is Table
    assert type(choose_view(io.StringIO())) is Lines, "somebody asked for a stream"


class Second(World):
    rank = 1


def test_the_first_process_speaks_for_all() -> None:
    stream = Window()
    train(Progress(1, stream, pause=0.0), world=Second())
    assert stream.getvalue() == ""


def test_names_are_escaped() -> None:
    table = Table([{"epoch": "1", "<b>": "2"}], ["<i>"], "<u>")
    assert not re.search(r"<[biu]>", table.to_html())
