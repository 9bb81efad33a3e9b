# Exported from nbs/10b_forked.ipynb. Edit either side, then run `litml sync`.
"""What becomes of a copy of the fork server: a kernel, and the nanny that watches
it.
"""

import atexit
import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType
from typing import Any, cast

from litml.shell import start_app

__all__ = [
    "DEATH_SIGNAL",
    "SUBREAPER",
    "LIBRARY",
    "set_flag",
    "find_children",
    "describe_process",
    "Basis",
    "send",
    "become",
    "set_environment",
    "reseed",
    "run_kernel",
    "finish",
    "watch",
    "nurse",
    "is_gone",
    "kill_group",
    "sweep",
    "LARGEST",
    "be_nanny",
    "start_kernel",
]


# ## What a process inherits
# %% set_flag
DEATH_SIGNAL, SUBREAPER = 1, 36  # names in <linux/prctl.h>
LIBRARY = ctypes.CDLL(None, use_errno=True)


def set_flag(flag: int, value: int) -> None:
    """Set one of the kernel's flags of this process. Raises `OSError`."""
    if LIBRARY.prctl(flag, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# %% find_children
def find_children() -> list[int]:
    """Return the processes whose parent is this one."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(word) for word in file.read().split()]


def describe_process(process: int) -> str:
    """Return a process's number and command, for a report."""
    try:
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        command = b" ".join(words).decode(errors="replace").strip()
    except OSError:
        command = ""
    return f"{process} {command[:200]}".strip()


# ## What a kernel begins with
# %% Basis
@dataclass(frozen=True, slots=True)
class Basis:
    """What all kernels of a server have in common.

    `path` is where modules are found, without `PYTHONPATH`; `launcher` is the program
    that a cold kernel runs; `environment` holds variables that imports have set;
    `watch` is the compiled program that watches a kernel, see `10_watch`, and the lines
    of `loaded` are the files of all modules; `home` is whose configuration of IPython
    has been read.
    """

    path: tuple[str, ...]
    launcher: str = "ipykernel_launcher"
    environment: Mapping[str, str] = field(default_factory=dict)
    watch: CodeType | None = None
    loaded: str = ""
    home: str = ""


def send(line: socket.socket, **said: object) -> None:
    """Tell the other end something, if it still listens."""
    with contextlib.suppress(OSError):
        line.send(json.dumps(said).encode())


# ## The kernel
# %% become
def become(request: dict[str, Any], files: Sequence[int], basis: Basis) -> None:
    """Make this process what a new one would be."""
    null = os.open(os.devnull, os.O_RDONLY)
    for number, file in enumerate((null, *files)):
        os.dup2(file, number)
    for number in range(1, signal.NSIG):
        if signal.getsignal(number) not in (signal.SIG_DFL, signal.SIG_IGN, None):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(-1)
    # Some programs know by this variable that they are in a notebook.
    env = {**request["env"], "JPY_PARENT_PID": str(os.getppid())}
    set_environment({**basis.environment, **env})
    os.chdir(request["cwd"])
    time.tzset()
    places = request["env"].get("PYTHONPATH", "").split(os.pathsep)
    rest = [place for place in basis.path if place not in places]
    sys.path[:] = [*filter(None, places), *rest]
    sys.argv = [basis.launcher, *request["argv"]]
    reseed()


def set_environment(env: Mapping[str, str]) -> None:
    """Have these variables and no others."""
    for name in os.environ.keys() - env.keys():
        del os.environ[name]
    for name, value in env.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def reseed() -> None:
    """Seed the generators that do not do so themselves in a forked process."""
    if random := sys.modules.get("numpy.random"):
        random.seed()
    if torch := sys.modules.get("torch"):
        torch.seed()


# %% run_kernel
def run_kernel(line: socket.socket, request: dict[str, Any], basis: Basis) -> int:
    """Run the kernel in this process; return its exit code."""
    app: Any = None
    code = 0
    try:
        app = start_app(request["argv"], os.environ.get("HOME") == basis.home)
        if request.get("watch") and basis.watch:
            watch(app.kernel, basis, *request["watch"])
        send(line, ready=True)
        line.close()
        app.start()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
        code = 1
    if app:
        # Its way to close sockets joins a thread that may wait for one it has stopped.
        atexit.unregister(app.close)
    finish()
    return code


def finish() -> None:
    """Do what Python does at its end, which this process leaves by another door."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(Exception):
            stream.flush()  # type: ignore[union-attr]


def watch(kernel: Any, basis: Basis, reports: str, commands: bool, root: str) -> None:
    """Have the kernel be watched as soon as its event loop runs."""
    from tornado.ioloop import IOLoop

    names: dict[str, Any] = {"__name__": "litml.watch"}
    exec(cast(CodeType, basis.watch), names)
    begin = names["start_watch"]
    told = (reports, os.getppid(), commands, root, basis.loaded)
    IOLoop.current().add_callback(begin, kernel, *told)


# ## The nanny
# %% nurse
def nurse(line: socket.socket, kernel: int, home: str) -> None:
    """Watch a kernel until it ends, or the client is gone; clear up and report."""
    watched, gone = os.pidfd_open(kernel), False
    watch = select.poll()
    watch.register(line, select.POLLIN)
    watch.register(watched, select.POLLIN)
    while not any(file == watched for file, _ in watch.poll()):
        if not gone and is_gone(line):
            gone = True
            watch.unregister(line)
            kill_group(kernel)
    os.close(watched)
    _, status, used = os.wait4(kernel, 0)
    left = sweep(0.0 if gone else 0.2)
    code, cpu = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
    send(line, exit=code, left=left, cpu=cpu, memory=used.ru_maxrss * 1024)
    while not gone and not is_gone(line):
        pass
    if home:
        shutil.rmtree(home, ignore_errors=True)


def is_gone(line: socket.socket) -> bool:
    """Wait for what comes next; is it the end of the line?"""
    try:
        return not line.recv(1)
    except OSError:
        return True


def kill_group(kernel: int) -> None:
    """Kill a kernel and its process group, which it may not have made yet."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            kill(kernel, signal.SIGKILL)


def sweep(patience: float) -> list[str]:
    """Kill what the kernel left behind; return what did not end by itself soon."""
    end = time.monotonic() + patience
    while find_children() and time.monotonic() < end:
        if not os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG):
            time.sleep(0.01)
    left = []
    while children := find_children():
        for child in children:
            left.append(describe_process(child))
            os.kill(child, signal.SIGKILL)
        for child in children:
            os.waitpid(child, 0)
    return left


# %% be_nanny
LARGEST = 1 << 20  # bytes of a request, most of it the environment


def be_nanny(post: socket.socket, server: int, basis: Basis) -> None:
    """Start kernels and watch them, one after the other; the nanny's whole life.

    The requests come over `post`, from the process `server`.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    set_flag(SUBREAPER, 1)
    set_flag(DEATH_SIGNAL, signal.SIGTERM)
    while os.getppid() == server:
        message, files, _, _ = socket.recv_fds(post, LARGEST, 3)
        if not message:
            break
        request = json.loads(message)
        with socket.socket(fileno=files[0]) as line:
            kernel = start_kernel(post, line, request, files[1:], basis)
            signal.signal(signal.SIGTERM, lambda *_, kernel=kernel: kill_group(kernel))
            if os.getppid() != server:
                kill_group(kernel)
            send(line, pid=kernel)
            nurse(line, kernel, request.get("home", ""))
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        send(post, free=True)


def start_kernel(
    post: socket.socket,
    line: socket.socket,
    request: dict[str, Any],
    files: Sequence[int],
    basis: Basis,
) -> int:
    """Make a kernel, which gives the client its output; return its process."""
    nanny = os.getpid()
    kernel = os.fork()
    if not kernel:
        post.close()
        os.setsid()
        set_flag(DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != nanny:
            os._exit(1)
        sys.modules.pop("resource", None)  # the nanny has it: `wait4` imports it
        become(request, files, basis)
        os._exit(run_kernel(line, request, basis))
    for file in files:
        os.close(file)
    return kernel
