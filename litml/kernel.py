# Exported from nbs/10a_kernel.ipynb. Edit either side, then run `litml sync`.
"""Execute cells in a real Jupyter kernel, which ends when we say so."""

import asyncio
import atexit
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import litml.watch
from litml.channels import Channels
from litml.early import kernel_env, make_home
from litml.notebook import LitmlError
from litml.outcome import (
    COLORS,
    Execution,
    Failure,
    Output,
    OutputArea,
    Status,
    describe_report,
    find_line,
    judge,
)
from litml.protocol import TICK, Deadline, Exchange, receive
from litml.strict import Strict

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager

__all__ = [
    "KernelError",
    "make_manager",
    "Process",
    "ColdProcess",
    "watch_process",
    "describe_exit",
    "describe_death",
    "read_tail",
    "describe_timeout",
    "watch_code",
    "GRACE",
    "PATIENCE",
    "SLACK",
    "SILENCE",
    "Kernel",
    "start_kernel",
    "wait_until_ready",
    "launch",
    "T",
    "Loop",
]


# ## The process
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

    from litml.guarded import guard

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
    if spec:
        guard(manager, spec, home)
    return manager


# %% Process
class Process(Protocol):
    """A process in which a kernel runs, however it was started."""

    @property
    def language(self) -> str:
        """What the kernel speaks, in lower case."""

    @property
    def connection(self) -> Mapping[str, Any]:
        """What its connection file says."""

    @property
    def group(self) -> int | None:
        """Its process group, where there are such groups."""

    @property
    def ended(self) -> int | None:
        """A descriptor that is readable when it has ended."""

    async def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""

    async def interrupt(self) -> None:
        """Do what Ctrl-C does."""

    async def end(self) -> None:
        """Kill it if it still runs, and forget it; a second call does nothing."""


class ColdProcess:
    """A process that `jupyter_client` has started."""

    def __init__(self, manager: "AsyncKernelManager") -> None:
        self.manager = manager
        spec = manager.kernel_spec
        self.language = spec.language.lower() if spec else ""
        self.connection: Mapping[str, Any] = manager.get_connection_info()
        self.group: int | None = getattr(manager.provisioner, "pgid", None)
        pid = getattr(manager.provisioner, "pid", None)
        self.ended = watch_process(pid) if pid else None

    async def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""
        process = self.manager.provisioner
        return await process.poll() if process else 0

    async def interrupt(self) -> None:
        """Do what Ctrl-C does, or what the kernel wants instead."""
        await self.manager.interrupt_kernel()

    async def end(self) -> None:
        """Kill it if it still runs, and forget it; a second call does nothing."""
        await self.manager.shutdown_kernel(now=True)
        if self.ended is not None:
            os.close(self.ended)
        self.ended = None


def watch_process(pid: int) -> int | None:
    """Return a descriptor for a process, where the system has them: `pidfd_open(2)`."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


# %% describe_exit
def describe_exit(code: int) -> str:
    """Say what the exit code of a process means; negative ones are signals."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"
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


# %% watch_code
def watch_code(reports: Path, commands: bool, root: str = "") -> str:
    """Return code that watches the kernel it is executed in; see `start_watch`."""
    name, file = "litml.watch", str(Path(litml.watch.__file__).absolute())
    text = f"""
try:
    from importlib.machinery import SourceFileLoader
    names = {{"__name__": {name!r}}}
    exec(SourceFileLoader({name!r}, {file!r}).get_code({name!r}), names)
    kernel = get_ipython().kernel
    begin = names["start_watch"]
    begin(kernel, {str(reports)!r}, {os.getpid()}, {commands}, {root!r})
except Exception:
    pass
"""
    return f"exec({text!r}, {{}})"


# ## The kernel
# %% Kernel
GRACE = 2.0  # seconds a kernel has to heed an interrupt, or a request to leave
PATIENCE = 50  # ticks to wait for the last output of a cell that has been answered
SLACK = 8.0  # seconds more for one that may only be slow
SILENCE = 15.0  # seconds more for one that does not say what keeps it


class Kernel:
    """A running kernel, made by `start_kernel`; an asynchronous context manager."""

    def __init__(self, process: Process, home: Path) -> None:
        self.process = process
        self.home = home
        self.cells: dict[int, str] = {}  # names by execution count
        self.requests: dict[str, str] = {}  # and by request
        self.strict = Strict()
        self.watched = False  # by whoever has started it
        self.heard = 0  # bytes of reports
        self.files = b""  # what it has read, as told at its end
        self.displays: dict[str, list[Output]] = {}
        self.area: OutputArea | None = None  # of the cell that is running
        self.busy = True
        self.group = process.group
        atexit.register(self.kill)
        self.client = Channels(process.connection, process.ended)

    async def is_alive(self) -> bool:
        """Does its process run?"""
        return await self.process.poll() is None

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
        request = self.client.execute(code, store_history=not hidden)
        exchange = Exchange([request], OutputArea(self.displays))
        self.busy, self.requests[request] = True, name
        self.area = None if hidden else exchange.area
        await self.follow(exchange, begun + timeout)
        late = await self.stop(exchange)
        if exchange.reply and not hidden:
            self.cells[exchange.reply.get("execution_count", 0)] = name
        status, failure = await self.decide(exchange, timeout if late else None)
        self.busy = exchange.reply is None or status is Status.DIED
        seconds, self.area = time.monotonic() - begun, None
        noticed = next(iter([] if hidden else self.read_reports()), None)
        return Execution(status, exchange.area.finish(), failure, seconds, noticed)

    async def decide(
        self, exchange: Exchange, stopped: float | None
    ) -> tuple[Status, Failure | None]:
        """Return what became of a cell; one that was `stopped`, after so long."""
        reply = exchange.reply
        failure = judge(reply, exchange.area, self.cells) if reply else None
        if stopped is not None:
            failure = describe_timeout(stopped, failure, killed=reply is None)
            return Status.TIMED_OUT, failure
        if reply is None:
            return Status.DIED, await self.examine()
        if failure and failure.name == "Exit":
            return Status.DIED, failure
        return Status.FAILED if failure else Status.PASSED, failure

    async def follow(self, exchange: Exchange, deadline: float) -> None:
        """Take in messages until the exchange is done, late, or the kernel dead."""
        while not exchange.done and time.monotonic() < deadline:
            if await receive(self.client, exchange):
                continue
            if not await self.is_alive() or len(exchange.requests) > PATIENCE:
                return
            if exchange.reply is not None:
                exchange.requests.append(self.client.kernel_info())

    async def stop(self, exchange: Exchange) -> bool:
        """Interrupt a cell that was not answered; False if there is nothing to stop."""
        answered = exchange.reply is not None or exchange.broken
        if answered or not await self.is_alive():
            return False
        early = not exchange.begun
        await self.process.interrupt()
        await self.indulge(exchange, GRACE)
        if early and exchange.begun and not exchange.done and await self.is_alive():
            await self.process.interrupt()  # nobody has heard the first one
            await self.indulge(exchange, GRACE)
        return True

    async def indulge(self, exchange: Exchange, seconds: float) -> None:
        """Follow an exchange for so long, or longer if busy, or until it begins."""
        deadline, begun = Deadline(seconds, SLACK, self.group), exchange.begun
        while not (exchange.done or deadline.is_over) and await self.is_alive():
            await self.follow(exchange, time.monotonic() + TICK)
            if exchange.begun > begun:
                return

    async def examine(self) -> Failure:
        """Say how the process ended, or that it has lost its mind."""
        code = await self.process.poll()
        if code is None:
            return Failure("KernelBroken", "it sent a message that cannot be read")
        return describe_death(code, self.home / "log")

    async def close(self, ending: float = GRACE) -> Failure | None:
        """End the process and everything in its group; a second call does nothing.

        Tasks have `ending` seconds to be done, and as many the process to end. Returns
        what was noticed meanwhile.
        """
        failure = None
        try:
            if not self.busy and await self.is_alive():
                failure = await self.finish(ending)
        finally:
            self.kill()
            self.client.close()
            await self.process.end()
            shutil.rmtree(self.home, ignore_errors=True)
        return failure

    def watch(self, strict: Strict, root: str = "") -> None:
        """Have a Python kernel report what fails beside its cells.

        It also notes which files below the folder `root` it reads.
        """
        self.strict = strict
        if self.process.language == "python" and not self.watched:
            code = watch_code(self.home / "noticed", strict.shell_errors, root)
            self.client.execute(code, silent=True, store_history=False)

    def read_reports(self) -> list[Failure]:
        """Return the failures that have been reported since the last look."""
        try:
            text = (self.home / "noticed").read_bytes()[self.heard :]
        except OSError:
            return []
        self.heard += len(text)
        found = [
            describe_report(json.loads(line), self.cells, self.requests)
            for line in text.splitlines()
        ]
        if not self.strict.pending_tasks:
            found = [failure for failure in found if failure.name != "PendingTask"]
        return found if self.strict.hidden_errors else []

    async def ask_tasks(self, ending: float) -> bool:
        """Wait for the notebook's tasks; False if the kernel does not answer."""
        if not (self.home / "noticed").exists():
            self.client.request_shutdown()
            return True
        waiting = ending if self.strict.pending_tasks else 0
        content = {"tasks": waiting, "seconds": ending * 0.9}
        request = self.client.send("litml_end_request", content)
        exchange = Exchange([request], OutputArea())
        await self.follow(exchange, time.monotonic() + waiting)
        await self.indulge(exchange, GRACE)
        return exchange.reply is not None

    async def finish(self, ending: float) -> Failure | None:
        """Have the process end; return what was noticed meanwhile."""
        if not await self.ask_tasks(ending) and await self.is_alive():
            return Failure("NeverEnds", "after the last cell the kernel is still busy")
        with suppress(OSError):
            self.files = (self.home / "files").read_bytes()
        end = time.monotonic() + ending
        noticed: list[Failure] = []
        while (alive := await self.is_alive()) and time.monotonic() < end + SILENCE:
            if time.monotonic() > end and (noticed := self.read_reports()):
                break
            await self.client.rest(TICK)
        noticed += self.read_reports()
        if alive and not noticed:
            return Failure("NeverEnds", "the process does not end")
        void = ["Leaving"] if alive else ["Leaving", "NeverEnds"]
        return next((one for one in noticed if one.name not in void), None)

    async def terminate(self) -> None:
        """Ask a kernel that does not answer to end, by a signal, and wait for it."""
        if self.group is not None and await self.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.group, signal.SIGTERM)
            deadline = Deadline(GRACE, SLACK, self.group)
            while await self.is_alive() and not deadline.is_over:
                await self.client.rest(TICK)

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
    extra: Mapping[str, str] | None = None,
) -> Kernel:
    """Start a kernel that works in `folder` and can import from `paths`.

    Its environment is ours, with what is in `extra`.
    Raises `KernelError` if it is not installed or not ready in `startup` seconds.
    """
    home, env = make_home(), {**kernel_env(os.environ, paths), **(extra or {})}
    try:
        manager = make_manager(name, home)
        await launch(manager, folder, env)
        process = ColdProcess(manager)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    kernel = Kernel(process, home)
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
    while await kernel.is_alive():
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
