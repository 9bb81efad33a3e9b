# Exported from nbs/10b_forkserver.ipynb. Edit either side, then run `litml sync`.
"""A process that has imported what kernels need, and hands out copies of itself as
kernels.
"""

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import threading
import time
import traceback
import weakref
from pathlib import Path
from types import CodeType
from typing import Any

from litml.forked import (
    LARGEST,
    Basis,
    be_nanny,
    find_children,
    finish,
    is_gone,
    send,
)
from litml.shell import list_files, make_shell, rehearse

__all__ = [
    "BASE",
    "import_base",
    "sing",
    "CANARY",
    "find_fault",
    "await_canary",
    "PATIENCE",
    "TooLong",
    "give_up",
    "preload",
    "receive_request",
    "FROZEN",
    "FREE",
    "find_other",
    "find_shadow",
    "find_peer",
    "Server",
    "main",
    "hear_wishes",
    "prepare",
    "keep_finalizers",
    "warm_up",
    "compile_watch",
    "reap",
    "open_socket",
    "again",
    "leave",
]


# ## Before the first fork
# %% import_base
BASE = """
ipykernel.kernelapp ipykernel.ipkernel ipykernel.zmqshell ipykernel.debugger
IPython.extensions.storemagic
IPython.core.completer IPython.core.history IPython.core.magics IPython.core.debugger
IPython.core.logger sqlite3 asyncio pdb faulthandler tornado.platform.asyncio
""".split()


def import_base() -> None:
    """Import what every kernel does."""
    for name in BASE:
        with contextlib.suppress(ImportError):  # another version of ipykernel
            importlib.import_module(name)


# %% sing
def sing() -> None:
    """Use what has been imported, as a notebook would."""
    if numpy := sys.modules.get("numpy"):
        matrix = numpy.ones((200, 200))
        assert (matrix @ matrix)[0, 0] == 200
    if torch := sys.modules.get("torch"):
        weights = torch.ones(200, 200, requires_grad=True)
        (weights @ weights).sum().backward()
        assert weights.grad is not None


CANARY = 5  # seconds


def find_fault() -> str:
    """Return why forks of this process would not be safe; nothing if they are."""
    if threading.active_count() > 1:
        names = [thread.name for thread in threading.enumerate()[1:]]
        return f"it starts threads: {', '.join(names)}"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return "it initialises CUDA"
    child = os.fork()
    if not child:
        try:
            sing()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    # OpenBLAS and others stop their threads before a fork; who does not is unsafe.
    threads = len(os.listdir("/proc/self/task"))
    if fault := await_canary(child):
        return fault
    return f"it starts {threads - 1} threads" if threads > 1 else ""


def await_canary(child: int) -> str:
    """Return what is wrong with the canary, if it does not end well and in time."""
    end = time.monotonic() + CANARY
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "a forked process fails" if status else ""
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "a forked process hangs"


# %% preload
PATIENCE = 50  # seconds for an import


class TooLong(Exception):
    """An import that does not end."""


def give_up(*_: object) -> None:
    """End an import; a handler of signals."""
    raise TooLong


def preload(names: list[str], careful: bool) -> tuple[str, str]:
    """Import modules; return the name of a bad one, and why it is bad.

    The name is `*` if one of them is, without `careful`, which looks after each.
    """
    signal.signal(signal.SIGALRM, give_up)
    for name in names:
        signal.alarm(PATIENCE)
        try:
            importlib.import_module(name)
        except TooLong:
            return name, "its import does not end"
        except BaseException as error:
            return name, f"it cannot be imported: {error!r}"
        finally:
            signal.alarm(0)
        if careful and (fault := find_fault()):
            return name, fault
    return ("*", fault) if names and (fault := find_fault()) else ("", "")


# ## A request
# %% receive_request
def receive_request(line: socket.socket) -> tuple[bytes, list[int]]:
    """Return what a client asks for, and the descriptors that came with it."""
    line.settimeout(10)
    message, files, _, _ = socket.recv_fds(line, LARGEST, 2)
    line.settimeout(None)
    return message, files


# %% find_other
FROZEN = """
PYTHON LD_ MALLOC_ LC_ LANG LANGUAGE TZ OMP_ GOMP_ KMP_ MKL_ OPENBLAS_ BLIS_ VECLIB_
NUMEXPR_ NUMBA_ TORCH PYTORCH_ TRITON_ CUBLAS_ CUDNN_ CUDA_ NCCL_ JAX_ XLA_ TF_ KERAS_
HF_ TRANSFORMERS_ MPLBACKEND MPLCONFIGDIR IPYTHON JUPYTER_ COVERAGE_ QT_ DISPLAY
""".split()
FREE = ("PYTHONPATH", "CUDA_VISIBLE_DEVICES", "COVERAGE_PROCESS_START")


def find_other(asked: dict[str, str], ours: dict[str, str]) -> str:
    """Return a variable that was read already and should be another; or nothing."""
    names = [name for name in {*asked, *ours} if asked.get(name) != ours.get(name)]
    fixed = [name for name in names if name.startswith(tuple(FROZEN))]
    return min((name for name in fixed if name not in FREE), default="")


# %% find_shadow
def find_shadow(folder: str, names: set[str]) -> str:
    """Return a file in a folder that would be imported instead of ours; or nothing."""
    try:
        inside = sorted(os.listdir(folder or "."))
    except OSError:
        return ""
    for one in inside:
        name, _, ending = one.partition(".")
        package = os.path.join(folder, name, "__init__.py")
        if name in names and (
            ending in ("py", "pyc") or ending.endswith("so") or os.path.exists(package)
        ):
            return one
    return ""


# ## The server
# %% find_peer
def find_peer(line: socket.socket) -> int:
    """Return the id of the process that opened a connection, or made its two ends.

    It is 0 if that process is where we cannot see it, outside a container say.
    """
    size = struct.calcsize("3i")
    told = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", told)[0])


# %% Server
class Server:
    """Hands out kernels until nobody holds a line to it any more."""

    def __init__(self, listener: socket.socket, life: socket.socket) -> None:
        self.listener = listener
        self.lines: dict[int, socket.socket] = {}
        self.owners: dict[int, int] = {}  # lines by what tells the end of a process
        self.nannies: dict[int, socket.socket] = {}
        self.free: list[socket.socket] = []  # to nannies who have no kernel
        self.watch = select.poll()
        self.environment = dict(os.environ)
        self.basis = Basis(())
        self.base: set[str] = set()  # names of modules that any kernel has
        self.named: set[str] = set()  # and of those that came with the preload
        self.finalizers: list[weakref.finalize[Any, Any]] = []
        self.watch.register(listener, select.POLLIN)
        self.hold(life)

    def hold(self, line: socket.socket) -> None:
        """Go on as long as a line is open, and the process lives that opened it."""
        self.lines[line.fileno()] = line
        self.watch.register(line, select.POLLIN)
        with contextlib.suppress(OSError):  # it is in a place that we do not see
            owner = os.pidfd_open(find_peer(line))
            self.owners[owner] = line.fileno()
            self.watch.register(owner, select.POLLIN)

    def serve(self) -> None:
        """Answer requests until the last line is closed."""
        while self.lines:
            # One thing at a time, since it may end another; requests come last.
            file = self.watch.poll()[-1][0]
            if file == self.listener.fileno():
                self.admit(self.listener.accept()[0])
            elif file in self.owners:
                self.drop(self.owners[file])
            elif is_gone(line := self.lines.get(file) or self.nannies[file]):
                self.drop(file)
            elif file in self.nannies:
                self.free.append(line)
        for nanny in self.nannies.values():
            nanny.close()

    def admit(self, line: socket.socket) -> None:
        """Answer one request, and hold its line if that is what it wants."""
        if self.answer(line):
            self.hold(line)
        else:
            line.close()

    def drop(self, file: int) -> None:
        """Forget a line whose other end is closed."""
        self.watch.unregister(file)
        for owner in [one for one, line in self.owners.items() if line == file]:
            self.watch.unregister(owner)
            os.close(owner)
            del self.owners[owner]
        self.free = [nanny for nanny in self.free if nanny.fileno() != file]
        for lines in (self.lines, self.nannies):
            if line := lines.pop(file, None):
                line.close()

    def answer(self, line: socket.socket) -> bool:
        """Answer one request; is its line to be held?"""
        files: list[int] = []
        try:
            message, files = receive_request(line)
            request = json.loads(message)
            if request.get("hold"):
                send(line, held=True)
                return True
            if reason := self.refuse(request):
                send(line, refused=reason)
            else:
                self.hand_over(message, [line.fileno(), *files])
        except (OSError, ValueError, KeyError) as error:
            send(line, refused=f"the server cannot: {error}")
        finally:
            for file in files:
                os.close(file)
        return False

    def refuse(self, request: dict[str, Any]) -> str:
        """Return why a kernel has to be started cold; or nothing."""
        if name := find_other(request["env"], self.environment):
            return f"`{name}` has been read already"
        if name := find_shadow(request["cwd"], self.named):
            return f"its folder has a `{name}`"
        for place in request["env"].get("PYTHONPATH", "").split(os.pathsep):
            if place and (name := find_shadow(place, self.base | self.named)):
                return f"a folder on PYTHONPATH has a `{name}`"
        return ""

    def hand_over(self, message: bytes, files: list[int]) -> None:
        """Give a request to a nanny who is free, or to a new one."""
        if not self.free:
            self.free.append(self.hire(files))
        try:
            socket.send_fds(self.free[-1], [message], files)
        except ConnectionError:  # she has been killed
            self.free.pop()
            return self.hand_over(message, files)
        self.free.pop()

    def hire(self, files: list[int]) -> socket.socket:
        """Make a nanny, who shall not hold `files`; return the line to her."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server = os.getpid()
        if os.fork():
            theirs.close()
            self.watch.register(ours, select.POLLIN)
            self.nannies[ours.fileno()] = ours
            return ours
        code = 1
        try:
            for line in (*self.lines.values(), *self.nannies.values()):
                line.close()
            kept = (ours.detach(), self.listener.detach())
            for file in (*kept, *self.owners, *files):
                os.close(file)
            be_nanny(theirs, server, self.basis)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)


# %% main
def main(text: str) -> None:
    """Be the server that is described by `text`."""
    told = json.loads(text)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    del sys.path[0]  # where we are imported from
    for name in [name for name in sys.modules if name.partition(".")[0] == "litml"]:
        del sys.modules[name]
    life = open_socket(told["life"])
    server = Server(open_socket(told["listener"]), life)
    import_base()
    server.base = {name.partition(".")[0] for name in sys.modules}
    if told["preload"] is None:
        told |= hear_wishes(life)
    if told["preload"] is not None:
        prepare(server, told)
        signal.signal(signal.SIGCHLD, reap)
        send(life, ready=True, dropped=told["dropped"])
        server.serve()
    leave(told["home"])
    for finalizer in server.finalizers:
        finalizer.atexit = True
    finish()
    os._exit(0)


def hear_wishes(life: socket.socket) -> dict[str, Any]:
    """Wait to be told what to import; nothing is told if nobody wants a server."""
    with contextlib.suppress(OSError):
        if message := life.recv(LARGEST):
            return dict(json.loads(message))
    return {}


def prepare(server: Server, told: dict[str, Any]) -> None:
    """Import what is wished, and note what kernels will need to know of it."""
    # As ipykernel does, but before there is a kernel.
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    names = [name for name in told["preload"] if name not in told["dropped"]]
    bad, reason = preload(names, told["careful"])
    if bad:
        dropped = told["dropped"] | ({} if bad == "*" else {bad: reason})
        again(told | {"dropped": dropped, "careful": True}, server.environment)
    server.named = {name.partition(".")[0] for name in sys.modules} - server.base
    places = server.environment.get("PYTHONPATH", "").split(os.pathsep)
    found = importlib.util.find_spec("ipykernel_launcher")
    server.basis = Basis(
        tuple(place for place in sys.path if place not in places),
        str(found.origin if found else "ipykernel_launcher"),
        dict(os.environ.items() - server.environment.items()),
        compile_watch(),
        "\n".join(list_files()),
        server.environment.get("HOME", ""),
    )
    warm_up()
    server.finalizers = keep_finalizers()


def keep_finalizers() -> list["weakref.finalize[Any, Any]"]:
    """Have no kernel clear up what was there before it; return who is to do it."""
    registry = getattr(weakref.finalize, "_registry", {})
    found = [finalizer for finalizer in registry if finalizer.atexit]
    for finalizer in found:
        finalizer.atexit = False
    return found


def warm_up() -> None:
    """Do once what every copy of this process would have to do."""
    # The first time it imports a module, for what it returns.
    os.wait4(os.fork() or os._exit(0), 0)
    sys.modules.pop("resource", None)
    try:
        rehearse()
        make_shell()
    except Exception:  # of some other version; kernels make their own
        traceback.print_exc()
    gc.freeze()  # whose looking for garbage would write to all there is


def compile_watch() -> CodeType:
    """Return the program of `10_watch`, which is run in every kernel."""
    path = Path(__file__).with_name("watch.py")
    return compile(path.read_bytes(), "<litml>", "exec", dont_inherit=True)


def reap(*_: object) -> None:
    """Forget the nannies that have ended; a handler of signals."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def open_socket(file: int) -> socket.socket:
    """Return an inherited socket; processes that a kernel starts do not inherit it."""
    os.set_inheritable(file, False)
    return socket.socket(fileno=file)


def again(told: dict[str, Any], environment: dict[str, str]) -> None:
    """Start this program anew, in this process."""
    for name in ("listener", "life"):
        os.set_inheritable(told[name], True)
    words = [*sys.orig_argv[:-1], json.dumps(told)]
    os.execve(sys.executable, words, environment)


def leave(home: str) -> None:
    """End the kernels, wait for their nannies, and remove the server's folder."""
    end = time.monotonic() + 5
    while (nannies := find_children()) and time.monotonic() < end:
        for nanny in nannies:
            with contextlib.suppress(ProcessLookupError):
                os.kill(nanny, signal.SIGTERM)
        time.sleep(0.02)
    shutil.rmtree(home, ignore_errors=True)
