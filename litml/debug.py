# Exported from nbs/13d_debug.ipynb. Edit either side, then run `litml sync`.
"""A debugger in the kernel of a failed cell, driven from the terminal that runs the
tests.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty
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
        self.has_quit = False

    def run(self, code: str = "%debug") -> bool:
        """Run code that asks questions, to its end; True if the person has quit."""
        request = self.client.execute(code, store_history=False, allow_stdin=True)
        done = {"status": False, "reply": False}
        while True:
            try:  # all of it, or Ctrl-C at the wrong moment ends the tests
                if all(done.values()) or not self.is_alive():
                    return self.has_quit
                self.answer()
                for message in self.news():
                    if message["parent_header"].get("msg_id") == request:
                        self.take(message, done)
            except KeyboardInterrupt:
                self.interrupt()

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

    def take(self, message: dict[str, Any], done: dict[str, bool]) -> None:
        """Write what is to be written, and note what is done."""
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            self.write(content["text"])
        elif kind == "error":
            self.write("\n".join([*content["traceback"], ""]))
        elif kind == "status":
            done["status"] |= content["execution_state"] == "idle"
        elif kind == "execute_reply":
            done["reply"] = True

    def answer(self) -> None:
        """Answer a question, if there is one and all before it has been shown."""
        try:
            question = self.client.get_stdin_msg(timeout=0)["content"]
        except Empty:
            return
        for message in self.news():
            self.take(message, {"status": False})
        while True:
            try:
                line = self.ask(question["prompt"])
                break
            except KeyboardInterrupt:
                self.write("\n")
            except EOFError:
                line = "q"
                break
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
