# Exported from nbs/10_early.ipynb. Edit either side, then run `litml sync`.
"""Start the process of a fork server, if need be before it is known what for."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import litml

__all__ = [
    "OURS",
    "kernel_env",
    "make_home",
    "BOOT",
    "can_fork",
    "launch",
    "Early",
]


# ## Environment and folder
# %% kernel_env
OURS = ("MPLBACKEND", "LITML_PROJECT")


def kernel_env(base: Mapping[str, str], paths: Sequence[Path]) -> dict[str, str]:
    """Return the environment of a kernel that can import from `paths`."""
    env = {
        name: value
        for name, value in base.items()
        if name not in OURS and not name.startswith("PYTEST_")
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


# ## The process
# %% launch
BOOT = """
import sys
sys.path[0] = sys.argv[1]
from litml.forkserver import main
main(sys.argv[2])
"""


def can_fork() -> bool:
    """Has this system what a fork server needs?"""
    return sys.platform.startswith("linux") and hasattr(os, "pidfd_open")


def launch(
    home: Path, env: Mapping[str, str], preload: Sequence[str] | None
) -> socket.socket:
    """Start a server with its socket and its log in the folder `home`.

    Returns our end of its life line. With None as `preload` it imports what every
    kernel needs, and then waits to be told there what else.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, listener, (home / "log").open("ab") as log:
        listener.bind(str(home / "server"))
        listener.listen(128)
        files = {"listener": listener.fileno(), "life": theirs.fileno()}
        wishes = {"preload": preload, "dropped": dict[str, str](), "careful": False}
        told = json.dumps({**files, "home": str(home), **wishes})
        place = str(Path(litml.__file__).parents[1])
        process = subprocess.Popen(
            [sys.executable, "-c", BOOT, place, told],
            env=env,
            pass_fds=[*files.values()],
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
        )
        process.returncode = 0  # it may outlive us; that is no cause for a warning
        return ours.dup()


# ## Before it is known what for
# %% Early
class Early:
    """A server that waits to be told what else to import, and its environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.home = make_home()
        self.env = kernel_env(environ, [])
        self.life: socket.socket | None = launch(self.home, self.env, None)

    def close(self) -> None:
        """Let the server end, unless it has been taken."""
        if self.life:
            self.life.close()
