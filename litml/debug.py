# Exported from nbs/13d_debug.ipynb. Edit either side, then run `litml sync`.
"""A debugger in the kernel of a failed cell, driven from the terminal that runs the
tests.
"""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty
from threading import current_thread, main_thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jupyter_client.blocking.client import BlockingKernelClient

__all__ = ["connect", "QUITS", "Ask", "Write", "Talk", "debug_kernel"]


# ## A line of our own
# %% connect
def connect(
    info: Mapping[str, Any], seconds: float = 10.0
) -> "BlockingKernelClient | None":
    """Return a client of the kernel that `info` tells of; None if it is silent."""
    from jupyter_client.blocking.client import BlockingKernelClient

    client = BlockingKernelClient()
    client.load_connection_info(dict(info))  # type: ignore[arg-type,unused-ignore]
    client.start_channels(hb=False)
    for _ in range(int(seconds / 0.2)):
        client.kernel_info()
        with suppress(Empty):
            client.get_iopub_msg(timeout=0.2)
            return client
    client.stop_channels()
    return None


# ## The conversation
# %% Talk
QUITS = ("q", "quit", "exit")
Ask = Callable[[str], str]
Write = Callable[[str], None]


class Talk:
    """One session with the debugger; `is_alive` says whether there is a kernel."""

    def __init__(
        self,
        client: "BlockingKernelClient",
        ask: Ask,
        write: Write,
        is_alive: Callable[[], bool],
    ) -> None:
        self.client = client
        self.ask = ask
        self.write = write
        self.is_alive = is_alive
        self.has_quit = self.is_asking = self.is_interrupted = False

    def run(self, code: str = "%debug") -> bool:
        """Run code that asks questions, to its end; True if the person has quit."""
        with self.hearing():
            request = self.client.execute(code, store_history=False, allow_stdin=True)
            done: set[str] = set()
            while len(done) < 2 and self.is_alive():
                if self.is_interrupted:
                    self.is_interrupted = False
                    self.interrupt()
                question = self.newest_question()
                for message in self.news():
                    if message["parent_header"].get("msg_id") == request:
                        done |= self.take(message)
                if question and not done:
                    self.answer(question)
        return self.has_quit

    @contextmanager
    def hearing(self) -> Iterator[None]:
        """Have Ctrl-C noted where it would raise; only the main thread hears it."""
        if current_thread() is not main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self.hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def hear(self, *_: object) -> None:
        """Note a Ctrl-C, or drop the line that is being typed."""
        if self.is_asking:
            self.is_asking = False
            raise KeyboardInterrupt
        self.is_interrupted = True

    def newest_question(self) -> str | None:
        """Return the prompt of the last question that was asked, if there is one."""
        prompt = None
        with suppress(Empty):
            while True:
                prompt = self.client.get_stdin_msg(timeout=0)["content"]["prompt"]
        return prompt

    def news(self) -> list[dict[str, Any]]:
        """Return what has come on the other two channels, waiting a little for it."""
        found: list[dict[str, Any]] = []
        for get, seconds in ((self.client.get_iopub_msg, 0.05), (self.shell, 0)):
            with suppress(Empty):
                while True:
                    found.append(get(timeout=seconds))
                    seconds = 0
        return found

    def shell(self, timeout: float) -> dict[str, Any]:
        """Return a message of the shell channel, or raise `Empty`."""
        message: dict[str, Any] = self.client.get_shell_msg(timeout=timeout)
        return message

    def take(self, message: dict[str, Any]) -> set[str]:
        """Write what is to be written; return the kind of a message that ends it."""
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            self.write(content["text"])
        elif kind == "error":
            self.write("\n".join([*content["traceback"], ""]))
        is_end = kind == "execute_reply" or content.get("execution_state") == "idle"
        return {kind} if is_end else set()

    def answer(self, prompt: str) -> None:
        """Ask the person, until there is a line, and send it."""
        line = None
        while line is None:
            try:
                self.is_asking, self.is_interrupted = True, False
                line = self.ask(prompt)
                self.is_asking = False
            except KeyboardInterrupt:
                self.write("\n")
            except EOFError:
                line = "q"
        self.is_asking = False
        self.has_quit = line.strip() in QUITS
        self.client.input(line)

    def interrupt(self) -> None:
        """Have the kernel stop what it is doing."""
        message = self.client.session.msg("interrupt_request", {})
        self.client.control_channel.send(message)


# %% debug_kernel
def debug_kernel(
    info: Mapping[str, Any],
    ask: Ask,
    write: Write,
    is_alive: Callable[[], bool] = lambda: True,
) -> bool:
    """Look at the last error in a kernel; `info` is what its connection file says.

    Return whether the person has quit, and wants no more of all this.
    """
    if (client := connect(info)) is None:
        write("the kernel does not answer, so there is nothing to debug\n")
        return False
    try:
        return Talk(client, ask, write, is_alive).run()
    finally:
        client.stop_channels()
