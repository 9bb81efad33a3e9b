# Exported from nbs/10a_kernel.ipynb. Edit either side, then run `litml sync`.
"""Execute cells in a real Jupyter kernel, which ends when we say so."""

import asyncio
import atexit
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, TypeVar

from litml.notebook import LitmlError
from litml.outcome import (
    COLORS,
    Execution,
    Failure,
    Output,
    OutputArea,
    Status,
    find_line,
    judge,
)
from litml.protocol import Exchange, receive

if TYPE_CHECKING:
    from jupyter_client.asynchronous.client import AsyncKernelClient
    from jupyter_client.manager import AsyncKernelManager

__all__ = [
    "kernel_env",
    "make_home",
    "KernelError",
    "make_manager",
    "describe_exit",
    "describe_death",
    "read_tail",
    "describe_timeout",
    "GRACE",
    "PATIENCE",
    "Kernel",
    "start_kernel",
    "wait_until_ready",
    "launch",
    "T",
    "Loop",
]


# ## The process
# %% kernel_env
def kernel_env(base: Mapping[str, str], paths: Sequence[Path]) -> dict[str, str]:
    """Return the environment of a kernel that can import from `paths`."""
    env = {
        name: value
        for name, value in base.items()
        if name != "MPLBACKEND" and not name.startswith("PYTEST_")
    }
    places = [*map(str, paths), base.get("PYTHONPATH", "")]
    return env | {"PYTHONPATH": os.pathsep.join(place for place in places if place)}


# %% make_home
def make_home() -> Path:
    """Make a private folder for a kernel's sockets and its log."""
    place = tempfile.gettempdir()
    if os.name == "posix" and len(place) > 60:
        place = "/tmp"
    return Path(tempfile.mkdtemp(prefix="litml-", dir=place))


# %% KernelError
class KernelError(LitmlError):
    """A kernel that is not installed, or does not start."""


# %% make_manager
def make_manager(name: str, home: Path) -> "AsyncKernelManager":
    """Return jupyter_client's manager for a kernel of that name, not yet started.

    `python3` is always the Python that litml runs in. Raises `KernelError` for a
    name that is not installed.
    """
    from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, NoSuchKernel
    from jupyter_client.manager import AsyncKernelManager

    file = str(home / "connection.json")
    manager = AsyncKernelManager(kernel_name=name, connection_file=file)
    if os.name == "posix":
        manager.transport, manager.ip = "ipc", str(home / "socket")
    try:
        spec = manager.kernel_spec
    except NoSuchKernel as error:
        installed = ", ".join(sorted(manager.kernel_spec_manager.find_kernel_specs()))
        message = f"the kernel `{name}` is not installed"
        hint = f"install it, or choose another in Jupyter; installed: {installed}"
        raise KernelError(message, hint=hint) from error
    if spec and manager.kernel_name == NATIVE_KERNEL_NAME:
        spec.argv[0] = sys.executable  # not whatever a user once registered
    return manager


# %% describe_exit
def describe_exit(code: int) -> str:
    """Say what the exit code of a process means; negative ones are signals."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


# %% describe_death
def describe_death(code: int, log: Path) -> Failure:
    """Return the failure for a process that has ended, with the end of its log."""
    words = read_tail(log)
    return Failure("KernelDied", describe_exit(code), words, find_line(words, 0))


def read_tail(path: Path, size: int = 4000) -> str:
    """Return the last characters of a log; nothing if there is none."""
    try:
        text = path.read_bytes()[-size:].decode(errors="replace")
    except OSError:
        return ""
    return COLORS.sub("", text).strip()


# %% describe_timeout
def describe_timeout(timeout: float, found: Failure | None, killed: bool) -> Failure:
    """Return the failure for a cell that was stopped; `found` says where it was."""
    end = "it ignored an interrupt and was killed" if killed else "interrupted"
    value = f"still running after {timeout:g} s; {end}"
    if found is None:
        return Failure("Timeout", value)
    return Failure("Timeout", value, found.traceback, found.line)


# ## The kernel
# %% Kernel
GRACE = 2.0  # seconds a kernel has to heed an interrupt, or a request to leave
PATIENCE = 50  # ticks to wait for the last output of a cell that has been answered


class Kernel:
    """A running kernel, made by `start_kernel`; an asynchronous context manager."""

    def __init__(self, manager: "AsyncKernelManager", home: Path) -> None:
        self.manager = manager
        self.home = home
        self.cells: dict[int, str] = {}  # names by execution count
        self.displays: dict[str, list[Output]] = {}
        self.busy = True
        self.group: int | None = getattr(manager.provisioner, "pgid", None)
        atexit.register(self.kill)
        self.client: AsyncKernelClient = manager.client(context=manager.context)
        self.client.start_channels(stdin=False, hb=False)

    async def __aenter__(self) -> "Kernel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def execute(
        self, code: str, timeout: float, name: str = "", *, hidden: bool = False
    ) -> Execution:
        """Execute the code of the cell `name`, for at most `timeout` seconds.

        With `hidden` it is not counted: code of ours, unseen by the notebook.
        """
        begun = time.monotonic()
        request = self.client.execute(
            code,
            store_history=not hidden,
            allow_stdin=False,
            stop_on_error=False,
        )
        exchange = Exchange([request], OutputArea(self.displays))
        self.busy = True
        await self.follow(exchange, begun + timeout)
        late = await self.stop(exchange)
        reply, failure = exchange.reply, None
        self.busy = reply is None
        if reply is not None:
            if not hidden:
                self.cells[reply.get("execution_count", 0)] = name
            failure = judge(reply, exchange.area, self.cells)
        status = Status.FAILED if failure else Status.PASSED
        if late:
            status = Status.TIMED_OUT
            failure = describe_timeout(timeout, failure, killed=reply is None)
        elif reply is None:
            status, failure = Status.DIED, await self.examine()
        seconds = time.monotonic() - begun
        return Execution(status, exchange.area.finish(), failure, seconds)

    async def follow(self, exchange: Exchange, deadline: float) -> None:
        """Take in messages until the exchange is done, late, or the kernel dead."""
        while not exchange.done and time.monotonic() < deadline:
            if await receive(self.client, exchange):
                continue
            if not await self.manager.is_alive() or len(exchange.requests) > PATIENCE:
                return
            if exchange.reply is not None:
                exchange.requests.append(self.client.kernel_info())

    async def stop(self, exchange: Exchange) -> bool:
        """Interrupt a cell that was not answered; False if there is nothing to stop."""
        answered = exchange.reply is not None or exchange.broken
        if answered or not await self.manager.is_alive():
            return False
        await self.manager.interrupt_kernel()
        await self.follow(exchange, time.monotonic() + GRACE)
        return True

    async def examine(self) -> Failure:
        """Say how the process ended, or that it has lost its mind."""
        process = self.manager.provisioner
        code = await process.poll() if process else None
        if code is None:
            return Failure("KernelBroken", "it sent a message that cannot be read")
        return describe_death(code, self.home / "log")

    async def close(self) -> None:
        """End the process and everything in its group; a second call does nothing."""
        try:
            if not self.busy and await self.manager.is_alive():
                await self.manager.request_shutdown()
                end = time.monotonic() + GRACE
                while await self.manager.is_alive() and time.monotonic() < end:
                    await asyncio.sleep(0.01)
        finally:
            self.kill()
            self.client.stop_channels()
            await self.manager.shutdown_kernel(now=True)
            shutil.rmtree(self.home, ignore_errors=True)

    def kill(self) -> None:
        """Kill the kernel's process group at once, where there are such groups."""
        atexit.unregister(self.kill)
        if self.group is not None and self.group != os.getpgrp():
            with suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGKILL)
        self.group = None


# %% start_kernel
async def start_kernel(
    folder: Path,
    name: str = "python3",
    paths: Sequence[Path] = (),
    startup: float = 60.0,
) -> Kernel:
    """Start a kernel that works in `folder` and can import from `paths`.

    Raises `KernelError` if it is not installed or not ready in `startup` seconds.
    """
    home = make_home()
    try:
        manager = make_manager(name, home)
        await launch(manager, folder, kernel_env(os.environ, paths))
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    kernel = Kernel(manager, home)
    try:
        await wait_until_ready(kernel, startup)
    except BaseException:
        await kernel.close()
        raise
    return kernel


# %% wait_until_ready
async def wait_until_ready(kernel: Kernel, startup: float) -> None:
    """Wait until the kernel answers; raises `KernelError` if it does not."""
    deadline = time.monotonic() + startup
    while await kernel.manager.is_alive():
        exchange = Exchange([kernel.client.kernel_info()], OutputArea())
        # What it publishes before we are connected is lost: ask again.
        await kernel.follow(exchange, min(time.monotonic() + 0.5, deadline))
        if exchange.done:
            kernel.busy = False
            return
        if time.monotonic() >= deadline:
            message = f"the kernel did not get ready within {startup:g} s"
            raise KernelError(message, hint=read_tail(kernel.home / "log") or None)
    dead = await kernel.examine()
    message = f"the kernel did not start: {dead.value}"
    raise KernelError(message, hint=dead.traceback or None)


# %% launch
async def launch(
    manager: "AsyncKernelManager", folder: Path, env: dict[str, str]
) -> None:
    """Start the process; its own output goes to a log beside the sockets."""
    spec = manager.kernel_spec
    python = spec is not None and any("ipykernel" in word for word in spec.argv)
    # What a test types is not the user's history.
    extra = ["--HistoryManager.hist_file=:memory:"] if python else []
    log = Path(manager.connection_file).with_name("log")
    try:
        with log.open("wb") as out:
            await manager.start_kernel(
                cwd=str(folder), env=env, stdout=out, stderr=out, extra_arguments=extra
            )
    except OSError as error:
        message = f"the kernel `{manager.kernel_name}` cannot be started: {error}"
        raise KernelError(message) from error
    except BaseException:
        await manager.shutdown_kernel(now=True)
        raise


# ## Without `await`
# %% Loop
T = TypeVar("T")


class Loop:
    """An event loop in a thread; a context manager."""

    def __init__(self) -> None:
        # Of Windows's two loops this is the one that ZeroMQ can use.
        self.loop = asyncio.SelectorEventLoop()
        self.thread = Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def __enter__(self) -> "Loop":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end and return what it returns."""
        ended = Event()

        async def watched() -> T:
            try:
                return await work
            finally:
                ended.set()

        future: Future[T] = asyncio.run_coroutine_threadsafe(watched(), self.loop)
        try:
            while not future.done():
                wait([future], timeout=0.5)  # without it Windows hears no Ctrl-C
            return future.result()
        except BaseException:
            if future.cancel():
                ended.wait(timeout=10)
            raise

    def close(self) -> None:
        """Stop the loop and its thread; a second call does nothing."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()
