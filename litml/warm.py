# Exported from nbs/10c_warm.ipynb. Edit either side, then run `litml sync`.
"""Kernels from a fork server, and ordinary ones where that cannot be."""

import json
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any

from litml.channels import is_readable, make_connection, stir
from litml.early import Early, can_fork, kernel_env, launch, make_home
from litml.forkserver import FROZEN, find_other
from litml.kernel import Kernel, start_kernel, wait_until_ready
from litml.strict import Strict
from litml.warmth import USUAL, Warmth

__all__ = [
    "OPTIONS",
    "LAUNCH",
    "is_ours",
    "fits",
    "ForkError",
    "Forked",
    "ForkServer",
    "start_server",
    "take_over",
    "SERVERS",
    "LOCK",
    "get_server",
    "find_server",
    "join_server",
    "prepare",
    "start_warm",
    "greet",
    "limit_memory",
    "open_kernel",
    "SETTING",
    "sets_frozen",
    "is_forked",
]


# ## Which kernels
# %% is_ours
OPTIONS = {"-Xfrozen_modules=off"}  # for debuggers only
LAUNCH = (["-m", "ipykernel_launcher"], ["-m", "ipykernel"])


def is_ours(name: str) -> bool:
    """Does a kernel of that name run ipykernel in the Python that runs us?"""
    from jupyter_core.paths import jupyter_path

    for folder in jupyter_path("kernels"):
        with suppress(OSError, ValueError):
            spec = json.loads(
                (Path(folder) / name.lower() / "kernel.json").read_bytes()
            )
            if name == "python3":
                spec["argv"][0] = sys.executable
            return fits(spec)
    return name == "python3"


def fits(spec: Mapping[str, Any]) -> bool:
    """Is a kernel spec one that a fork server can stand for?"""
    python, *words = [word for word in spec["argv"] if word not in OPTIONS]
    special = spec.get("env") or spec.get("metadata", {}).get("kernel_provisioner")
    plain = words in [[*start, "-f", "{connection_file}"] for start in LAUNCH]
    return plain and not special and shutil.which(python) == sys.executable


# ## One kernel
# %% Forked
class ForkError(Exception):
    """A server that does not give a kernel; the message says why."""


class Forked:
    """A kernel's process that a server has forked."""

    language = "python"

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.connection: Mapping[str, Any] = {}
        self.group: int | None = None
        self.ready = False
        self.code: int | None = None
        self.left: tuple[str, ...] = ()  # processes it left behind
        self.cpu = 0.0  # seconds
        self.memory = 0  # bytes, at most

    @property
    def ended(self) -> int:
        """A descriptor that is readable when the process has ended."""
        return self.line.fileno()

    def hear(self) -> None:
        """Take in what the nanny has said."""
        while self.code is None and is_readable(self.ended):
            try:
                message = self.line.recv(1 << 20)
            except OSError:
                message = b""
            said: dict[str, Any] = {"exit": -int(signal.SIGKILL)}
            said = json.loads(message) if message else said
            if "refused" in said:
                raise ForkError(said["refused"])
            self.group = said.get("pid", self.group)
            self.ready = said.get("ready", self.ready)
            if "exit" in said:
                self.code, self.left = said["exit"], tuple(said.get("left", ()))
                self.cpu, self.memory = said.get("cpu", 0.0), said.get("memory", 0)

    async def get_ready(self, seconds: float) -> int:
        """Wait until the sockets are open, or the process has ended; return its id.

        Raises `ForkError` if the server makes none in that time.
        """
        end = monotonic() + seconds
        self.hear()
        while not self.ready and self.code is None and monotonic() < end:
            await stir([self.ended], end - monotonic())
            self.hear()
        if self.group is None:
            raise ForkError("the fork server does not answer")
        return self.group

    async def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        self.hear()
        return self.code

    async def interrupt(self) -> None:
        """Do what Ctrl-C does."""
        if self.group and await self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.group, signal.SIGINT)

    async def end(self) -> None:
        """Kill what still runs and wait for the nanny's report; then hang up."""
        if self.line.fileno() < 0:
            return
        with suppress(OSError):
            self.line.shutdown(socket.SHUT_WR)
        limit = monotonic() + 5
        while await self.poll() is None and monotonic() < limit:
            await stir([self.ended], limit - monotonic())
        self.line.close()


# ## The server
# %% ForkServer
class ForkServer:
    """A line to a server, which lives as long as somebody has one."""

    def __init__(
        self, home: Path, life: socket.socket, preload: tuple[str, ...]
    ) -> None:
        self.home = home
        self.life = life
        self.preload = preload
        self.dropped: dict[str, str] = {}  # modules that it did not import, and why

    def hear(self) -> bool:
        """Take in what the server has said; False if it has ended."""
        while is_readable(self.life.fileno()):
            try:
                message = self.life.recv(1 << 20)
            except OSError:
                return False
            if not message:
                return False
            self.dropped = json.loads(message).get("dropped", {})
            for name, reason in self.dropped.items():
                warnings.warn(f"`{name}` is not preloaded: {reason}", stacklevel=2)
        return True

    def fork(
        self,
        words: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        files: Sequence[int],
        more: Mapping[str, Any] | None = None,
    ) -> Forked:
        """Ask for a kernel with these arguments, and files for output and errors.

        At its end the folder `home` in `more` is removed. Raises `ForkError`.
        """
        request = {"argv": [*words], "cwd": str(folder), "env": dict(env)}
        message = json.dumps(request | dict(more or {})).encode()
        line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            line.connect(str(self.home / "server"))
            socket.send_fds(line, [message], files)
        except OSError as error:
            line.close()
            raise ForkError(f"there is no fork server: {error}") from error
        return Forked(line)

    def clear_up(self) -> None:
        """Remove what a server left that could not do so itself."""
        self.life.close()
        if not (self.home / "lock").exists():  # else another one may be there already
            shutil.rmtree(self.home, ignore_errors=True)

    def close(self) -> None:
        """Hang up."""
        self.life.close()


# %% start_server
def start_server(
    home: Path, env: Mapping[str, str], preload: tuple[str, ...] = ()
) -> ForkServer:
    """Start a server with its socket and its log in the folder `home`."""
    # What only some kernels import from, it must not look in.
    env = {**env, "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    return ForkServer(home, launch(home, env, preload), preload)


def take_over(
    early: Early, env: Mapping[str, str], preload: tuple[str, ...]
) -> ForkServer | None:
    """Take over a server that waits; None if it has another environment than `env`."""
    elsewhere = os.environ.get("PYTHONPATH", "") != early.env["PYTHONPATH"]
    if early.life is None or elsewhere or find_other(dict(env), early.env):
        return None
    server, early.life = ForkServer(early.home, early.life, preload), None
    try:
        server.life.send(json.dumps({"preload": preload}).encode())
    except OSError:  # it has ended
        server.clear_up()
        return None
    return server


# %% get_server
SERVERS: dict[tuple[str, ...], ForkServer] = {}
LOCK = Lock()


def get_server(
    env: Mapping[str, str], preload: tuple[str, ...] = (), early: Early | None = None
) -> ForkServer:
    """Return this process's server with these modules; start it if there is none.

    One that waits is taken first. Raises `ForkError` where there can be none.
    """
    if not can_fork():
        raise ForkError("forking is for Linux")
    with LOCK:
        server = SERVERS.get(preload)
        if server and not server.hear():
            server.clear_up()
            server = None
        if server is None:
            server = take_over(early, env, preload) if early else None
            server = SERVERS[preload] = server or find_server(env, preload)
        return server


def find_server(env: Mapping[str, str], preload: tuple[str, ...]) -> ForkServer:
    """Join the server of this run of pytest-xdist, or start a new one."""
    from fcntl import LOCK_EX, flock

    if not (run := os.environ.get("PYTEST_XDIST_TESTRUNUID")):
        return start_server(make_home(), env, preload)
    name = blake2b(f"{run} {preload}".encode(), digest_size=8).hexdigest()
    home = Path(tempfile.gettempdir(), f"litml-{os.getuid()}-{name}")
    home.mkdir(mode=0o700, exist_ok=True)
    if home.stat().st_uid != os.getuid() or home.is_symlink():
        raise ForkError(f"the folder {home} belongs to somebody else")
    with (home / "lock").open("w") as lock:
        flock(lock, LOCK_EX)
        try:
            return join_server(home, preload)
        except OSError:
            (home / "server").unlink(missing_ok=True)
            return start_server(home, env, preload)


def join_server(home: Path, preload: tuple[str, ...]) -> ForkServer:
    """Hold a server that somebody else has started. Raises `OSError`."""
    life = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        life.connect(str(home / "server"))
        life.send(json.dumps({"hold": True}).encode())
    except OSError:
        life.close()
        raise
    return ForkServer(home, life, preload)


# %% prepare
def prepare(paths: Sequence[Path], warmth: Warmth, early: Early | None = None) -> None:
    """Start the server for kernels that import from `paths`, and do not wait for it."""
    if warmth.warm:
        with suppress(ForkError, OSError):
            get_server(kernel_env(os.environ, paths), warmth.preload, early)


# ## Starting
# %% start_warm
async def start_warm(
    folder: Path,
    env: Mapping[str, str],
    warmth: Warmth,
    startup: float,
    strict: Strict | None = None,
    root: str = "",
) -> Kernel:
    """Start a forked kernel, watched if `strict` says what for; see `open_kernel`.

    Raises `ForkError` if it has to be a cold one.
    """
    server = get_server(env, warmth.preload)
    home = Path(tempfile.mkdtemp(prefix="k", dir=server.home))
    info = make_connection(home)
    words = ["-f", str(home / "connection.json"), "--HistoryManager.hist_file=:memory:"]
    (home / "connection.json").write_text(json.dumps(info))
    forked: Forked | None = None
    try:
        with (home / "log").open("wb") as log:
            files = [log.fileno(), log.fileno()]
            watch = [str(home / "noticed"), strict.shell_errors, root] if strict else []
            more = {"home": str(home), "watch": watch}
            forked = server.fork(words, folder, env, files, more)
        forked.connection = info
        limit_memory(await forked.get_ready(startup), warmth.memory)
        server.hear()
        kernel = Kernel(forked, home)
        kernel.watched = strict is not None
    except BaseException:
        if forked:
            await forked.end()
        shutil.rmtree(home, ignore_errors=True)
        raise
    try:
        await greet(kernel, startup)
    except BaseException:
        await kernel.close()
        raise
    return kernel


async def greet(kernel: Kernel, startup: float) -> None:
    """Wait until we hear what the kernel publishes. Raises `KernelError`."""
    for _ in range(10):
        # Since version 7 ipykernel welcomes who subscribes; older are asked.
        if await kernel.client.hears(0.02):
            kernel.busy = False
            return
        kernel.client.kernel_info()
    await wait_until_ready(kernel, startup)


def limit_memory(process: int, size: int) -> None:
    """Let a process have only so many bytes of its own; 0 for no limit."""
    if size and sys.platform.startswith("linux"):
        import resource

        with suppress(ProcessLookupError):
            resource.prlimit(process, resource.RLIMIT_DATA, (size, size))


# %% open_kernel
async def open_kernel(
    folder: Path,
    name: str,
    paths: Sequence[Path],
    startup: float = 60.0,
    warmth: Warmth = USUAL,
    text: str = "",
    extra: Mapping[str, str] | None = None,
    strict: Strict | None = None,
    root: str = "",
) -> Kernel:
    """Start a kernel, warm where that is possible and wise; `text` is what it will run.

    A warm one is watched from the beginning if `strict` says what for, and notes which
    files below `root` it reads. Variables in `extra` are in its environment, too.

    Raises `KernelError` if it is not installed or not ready in `startup` seconds.
    """
    env = {**kernel_env(os.environ, paths), **(extra or {})}
    with suppress(ForkError):
        if is_forked(name, warmth, text):
            return await start_warm(folder, env, warmth, startup, strict, root)
    kernel = await start_kernel(folder, name, paths, startup, extra)
    if kernel.group:
        limit_memory(kernel.group, warmth.memory)
    return kernel


SETTING = re.compile(
    rf"\b(?:{'|'.join(name for name in FROZEN if name.endswith('_'))})[A-Z]|MPLBACKEND"
)


def sets_frozen(text: str) -> bool:
    """Does some code speak of a variable that a preloaded module has read already?"""
    return bool(SETTING.search(text))


def is_forked(name: str, warmth: Warmth, text: str) -> bool:
    """Is a kernel of that name, which will run `text`, to be a forked one?"""
    if not (warmth.warm and can_fork() and is_ours(name)):
        return False
    return not (warmth.preload and sets_frozen(text))
