# Exported from nbs/10_guard.ipynb. Edit either side, then run `litml sync`.
"""A process that ends a kernel when the program that has started it is gone."""

import json
import os
import select
import signal
import sys
import time
from contextlib import suppress

__all__ = [
    "MARK",
    "find_marked",
    "read_marks",
    "kill_kernel",
    "open_process",
    "await_end",
    "read_request",
    "stand_guard",
    "main",
]


# ## Who is killed
# %% find_marked
MARK = "LITML_KERNEL"


def find_marked(mark: str) -> list[int]:
    """Return the processes with this mark in the environment they began with."""
    names = os.listdir("/proc") if sys.platform == "linux" else []
    processes = [int(name) for name in names if name.isdecimal()]
    return [process for process in processes if mark in read_marks(process)]


def read_marks(process: int) -> list[str]:
    """Return the marks of a process; none if it has ended, or is somebody else's."""
    start = f"{MARK}=".encode()
    with suppress(OSError), open(f"/proc/{process}/environ", "rb") as file:
        for entry in file.read().split(b"\0"):
            if entry.startswith(start):
                return entry[len(start) :].decode(errors="replace").split()
    return []


# %% kill_kernel
def kill_kernel(kernel: int, mark: str) -> None:
    """Kill a kernel's process group, and whatever has its mark."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(kernel, signal.SIGKILL)
    missed = 0
    for _ in range(200):
        found = find_marked(mark)
        missed = 0 if found else missed + 1
        if missed == 2:
            break
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.005)


# ## When
# %% open_process
def open_process(process: int) -> list[int]:
    """Return a descriptor that is readable when a process has ended, or none."""
    with suppress(AttributeError, OSError):
        return [os.pidfd_open(process)]
    return []


def await_end(kernel: int, files: list[int]) -> None:
    """Wait until one of the descriptors is readable, or the kernel has ended."""
    seconds = None if len(files) > 1 else 1.0
    while not select.select(files, [], [], seconds)[0]:
        try:
            os.kill(kernel, 0)
        except ProcessLookupError:
            return


# ## What it is told
# %% read_request
def read_request(line: int) -> list[str]:
    """Return what is asked for: a mark, a folder to remove, the words of a command.

    Nothing is started if nobody asks any more.
    """
    text = b""
    while not text.endswith(b"\n"):
        if not (part := os.read(line, 1 << 16)):
            sys.exit("nobody wants this kernel any more")
        text += part
    request: list[str] = json.loads(text)
    return request


# ## The program
# %% stand_guard
def stand_guard(kernel: int, line: int, mark: str, home: str) -> None:
    """Wait for the end of a kernel, or of who wants it; then see that all is ended."""
    files = [line, *open_process(kernel), *open_process(os.getppid())]
    if os.fork():
        return
    os.setsid()
    os.chdir("/")
    for output in (1, 2):
        os.dup2(0, output)
    if os.fork():
        os._exit(0)
    try:
        await_end(kernel, files)
        kill_kernel(kernel, mark)
        if home:
            import shutil

            select.select([line], [], [])
            shutil.rmtree(home, ignore_errors=True)
    finally:
        os._exit(0)


def main() -> None:
    """Become the kernel that is asked for, with a guard."""
    line = os.dup(0)
    mark, home, *words = read_request(line)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    stand_guard(os.getpid(), line, mark, home)
    os.wait()
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
        signal.signal(number, signal.SIG_DFL)
    os.environ[MARK] = f"{os.environ.get(MARK, '')} {mark}".strip()
    try:
        os.execvp(words[0], words)
    except OSError as error:
        sys.exit(f"{words[0]}: {error.strerror}")
