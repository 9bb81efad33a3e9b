# Exported from nbs/10d_provisioner.ipynb. Edit either side, then run `litml sync`.
"""Warm kernels for every Jupyter client: nbmake, nbclient, papermill, a server."""

import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo

from litml.channels import CHANNELS, stir
from litml.guarded import GuardedProvisioner
from litml.notebook import LitmlError
from litml.project import find_project
from litml.warm import Forked, ForkError, fits, get_server
from litml.warmth import Warmth, read_warmth

__all__ = [
    "ForkedProcess",
    "choose_warmth",
    "hold_port",
    "WarmProvisioner",
    "find_file",
]


# ## A process that looks like one of ours
# %% ForkedProcess
class ForkedProcess:
    """A forked kernel with the face of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, forked: Forked) -> None:
        self.forked = forked
        self.pid = forked.group or 0

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        self.forked.hear()
        return self.forked.code

    def wait(self, timeout: float | None = None) -> int | None:
        """Hang up, which kills what still runs, and return the exit code."""
        self.forked.line.close()
        return self.forked.code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, if it still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask the process to end."""
        self.send_signal(signal.SIGTERM)


# ## What to import
# %% choose_warmth
def choose_warmth(folder: Path, env: Mapping[str, str]) -> Warmth:
    """Return how kernels of a folder are wanted."""
    if names := env.get("LITML_PRELOAD"):
        return Warmth(preload=tuple(name.strip() for name in names.split(",")))
    try:
        return read_warmth(find_project(folder))
    except LitmlError:
        return Warmth()


# ## Ports
# %% hold_port
def hold_port(address: str) -> socket.socket:
    """Return a socket on a free port, which a kernel can use, and nobody is given."""
    holder = socket.socket()
    try:
        holder.bind(("" if address == "*" else address, 0))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError:
        holder.close()
        raise
    return holder


# ## The class
# %% WarmProvisioner
class WarmProvisioner(GuardedProvisioner):
    """Launches kernels of our own Python by forking, and others as ever."""

    held: Sequence[socket.socket] = ()

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """Choose ports, and whatever else is to be done before."""
        manager = self.parent
        if manager and manager.cache_ports and not self.ports_cached:
            self.held = [hold_port(manager.ip) for _ in CHANNELS]
            for channel, port in zip(CHANNELS, self.held, strict=True):
                setattr(manager, f"{channel}_port", port.getsockname()[1])
            self.ports_cached = True
        return await super().pre_launch(**kwargs)

    def let_go(self) -> None:
        """Leave the ports to the kernel."""
        for port in self.held:
            port.close()
        self.held = ()

    async def launch_kernel(
        self, cmd: list[str], **kwargs: Any
    ) -> KernelConnectionInfo:
        """Launch a kernel with a command."""
        try:
            forked = await self.fork(cmd, **kwargs)
        except (ForkError, OSError):
            self.let_go()  # not every kernel could use them
            return await super().launch_kernel(cmd, **kwargs)
        self.let_go()
        self.process = ForkedProcess(forked)  # type: ignore[assignment]
        self.pid = self.pgid = forked.group
        self.cwd = kwargs.get("cwd", Path.cwd())
        return self.connection_info

    async def fork(self, cmd: list[str], **kwargs: Any) -> Forked:
        """Ask for a forked kernel. Raises `ForkError`."""
        # Jupyter has put its own Python in the place of a mere `python`.
        words = [cmd[0], *self.kernel_spec.argv[1:]]
        if not fits({"argv": words, "env": self.kernel_spec.env}) or "-f" not in cmd:
            raise ForkError("not a kernel of ours")
        folder = Path(kwargs.get("cwd") or os.getcwd())
        env = kwargs.get("env") or dict(os.environ)
        warmth = choose_warmth(folder, env)
        if not warmth.warm:
            raise ForkError("the project does not want it")
        files = (find_file(kwargs.get("stdout"), 1), find_file(kwargs.get("stderr"), 2))
        server = get_server(env, warmth.preload)
        forked = server.fork(cmd[cmd.index("-f") :], folder, env, files)
        try:
            await forked.get_ready(60)
        except BaseException:
            await forked.end()
            raise
        return forked

    async def wait(self) -> int | None:
        """Wait until the process has ended."""
        if isinstance(self.process, ForkedProcess):
            while self.process.poll() is None:
                await stir([self.process.forked.ended], 1)
        return await super().wait()


def find_file(asked: Any, default: int) -> int:
    """Return the descriptor that `Popen` would use. Raises `ForkError` for a pipe."""
    file = default if asked is None else asked
    number = file if isinstance(file, int) else int(file.fileno())
    if number < 0:
        raise ForkError("only `Popen` can make a pipe")
    return number
