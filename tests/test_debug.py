"""Ctrl-C at every moment of a talk with the debugger, and of a call into a loop."""

import asyncio
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty
from types import FrameType
from typing import Any

import pytest

import litml.debug
from litml.debug import Talk
from litml.kernel import Loop


class Debugger:
    """The far end of a talk: what a kernel does when it runs `%debug`.

    It asks, repeats each answer, and ends with `c` or `q`. An interrupt ends what it
    computes, and makes it ask again.
    """

    def __init__(self) -> None:
        self.iopub: deque[dict[str, Any]] = deque()
        self.shell: deque[dict[str, Any]] = deque()
        self.stdin: deque[dict[str, Any]] = deque()
        self.session = self.control_channel = self  # for what sends an interrupt
        self.is_done, self.patience = False, 300
        self.heard: list[str] = []
        self.computing: Callable[[], object] = lambda: None
        self.interrupts = 0

    def execute(self, code: str, **more: object) -> str:
        self.reply(self.iopub, "status", execution_state="busy")
        self.question()
        return "request"

    def reply(self, channel: deque[dict[str, Any]], kind: str, **content: str) -> None:
        about = {"msg_id": "request"}
        header = {"msg_type": kind}
        channel.append({"parent_header": about, "header": header, "content": content})

    def question(self) -> None:
        self.reply(self.stdin, "input_request", prompt="ipdb> ")

    def input(self, line: str) -> None:
        self.heard.append(f"did {line}")
        self.reply(self.iopub, "stream", text=f"did {line}\n")
        if line in ("c", "q"):
            self.is_done = True
            self.reply(self.iopub, "status", execution_state="idle")
            self.reply(self.shell, "execute_reply", status="ok")
        elif line == "compute":
            self.computing()
        else:
            self.question()

    def msg(self, kind: str, content: dict[str, str]) -> str:
        return kind

    def send(self, message: str) -> None:
        self.interrupts += 1
        if not self.is_done:
            self.question()

    def take(self, channel: deque[dict[str, Any]]) -> dict[str, Any]:
        self.patience -= 1
        assert self.patience, "waits for what does not come"
        if not channel:
            raise Empty
        found = channel.popleft()
        return found

    def get_iopub_msg(self, timeout: float) -> dict[str, Any]:
        return self.take(self.iopub)

    def get_shell_msg(self, timeout: float) -> dict[str, Any]:
        return self.take(self.shell)

    def get_stdin_msg(self, timeout: float) -> dict[str, Any]:
        return self.take(self.stdin)


def interrupt_at(moment: int, work: Callable[[], object]) -> int:
    """Send Ctrl-C at a line of the debugger's client; return how many lines ran."""
    files = (litml.debug.__file__, __file__)
    seen = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            seen += 1
            if seen == moment:
                signal.raise_signal(signal.SIGINT)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return seen


def talk(client: Any, lines: list[str], shown: list[str]) -> bool:
    """Type some lines; whoever has none left presses Ctrl-D."""

    def ask(prompt: str) -> str:
        if not lines:
            raise EOFError
        return lines.pop(0)

    return Talk(client, ask, shown.append, lambda: True).run()


def test_ctrl_c_at_any_moment_of_a_talk() -> None:
    """It ends, no word of the kernel is lost, and what is typed is heard or dropped."""
    lines = ["p 1", "p 2", "c"]
    count = interrupt_at(-1, partial(talk, Debugger(), [*lines], []))
    assert count > 300
    for moment in range(1, count):
        shown: list[str] = []
        client = Debugger()
        try:
            interrupt_at(moment, partial(talk, client, [*lines], shown))
        except KeyboardInterrupt:
            assert not client.heard, f"ended by line {moment}"
            continue
        said = "".join(shown).strip("\n").split("\n")
        assert [word for word in said if word] == client.heard, moment
        assert client.heard[-1] in ("did c", "did q") and len(client.heard) > 1, moment


def test_ctrl_c_stops_what_the_kernel_computes() -> None:
    """It is passed on, once, and the talk goes on with what the kernel asks then."""
    shown: list[str] = []
    client = Debugger()
    client.computing = lambda: signal.raise_signal(signal.SIGINT)
    assert talk(client, ["compute", "q"], shown)
    assert client.heard == ["did compute", "did q"] and client.interrupts == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_before_work_in_a_loop_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loop is busy with something else; then the work begins, and cleans up."""
    done, free = [], threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            done.append("cleaned up")

    def press(*_: object, **more: object) -> None:
        threading.Timer(0.1, free.set).start()
        raise KeyboardInterrupt

    monkeypatch.setattr("litml.kernel.wait", press)
    with Loop() as loop:
        loop.loop.call_soon_threadsafe(free.wait, 60)
        with pytest.raises(KeyboardInterrupt):
            loop.run(work())
        assert done == ["cleaned up"]
