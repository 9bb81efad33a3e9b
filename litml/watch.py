# Exported from nbs/10_watch.ipynb. Edit either side, then run `litml sync`.
"""Notice, from inside a Python kernel, what fails without failing a cell."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import source_from_cache
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

__all__ = [
    "CELL_FILE",
    "name_cells",
    "describe_error",
    "OWN",
    "find_cell",
    "describe_stack",
    "Watch",
    "Ending",
    "is_leaving",
    "do_nothing",
    "check_commands",
    "PROGRAMS",
    "MAKERS",
    "LOCAL",
    "LISTS",
    "FINDERS",
    "Reader",
    "count_children",
    "start_watch",
    "list_loaded",
    "die_with_parent",
]


# ## Reports
# %% name_cells
CELL_FILE = re.compile(r'File "([^"\n]+)", line')


def name_cells(text: str, counts: Mapping[str, int]) -> str:
    """Return a traceback in which the cells among the files have their numbers."""
    return CELL_FILE.sub(
        lambda match: (
            f"Cell In[{counts[match[1]]}], line" if match[1] in counts else match[0]
        ),
        text,
    )


# %% describe_error
def describe_error(error: BaseException, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return what a report says of an error; `counts` numbers the cells' files."""
    kind, trace = type(error), error.__traceback__
    said = "".join(traceback.format_exception_only(kind, error)).strip()
    text = "".join(traceback.format_exception(kind, error, trace))
    return {
        "name": kind.__name__,
        "value": said.partition(": ")[2][:1000],
        "traceback": name_cells(text, counts)[-20_000:],
        **find_cell(traceback.extract_tb(trace), counts),
    }


OWN = f"{os.sep}ipykernel{os.sep}"  # in the names of the kernel's own files


def find_cell(
    frames: Sequence[traceback.FrameSummary], counts: Mapping[str, int]
) -> dict[str, Any]:
    """Return the count of the cell to which some frames belong, and the line in it."""
    cells = [(counts.get(frame.filename), frame.lineno) for frame in frames]
    first = next((count for count, _ in cells if count is not None), None)
    lines = [line for count, line in cells if count == first]
    return {"count": first, "line": lines[-1] if first is not None else None}


# %% describe_stack
def describe_stack(
    frame: FrameType | None, counts: Mapping[str, int]
) -> dict[str, Any]:
    """Return what a report says of running code: its stack, outermost call first."""
    stack = traceback.extract_stack(frame) if frame else []
    text = name_cells("".join(traceback.format_list(stack)), counts)
    return {"traceback": text[-20_000:], **find_cell(stack, counts)}


# ## What is watched
# %% Watch
class Watch:
    """Writes reports to the file at `path` about what goes on in a kernel."""

    def __init__(self, kernel: Any, path: str) -> None:
        self.kernel = kernel
        self.path = path
        self.reader: Reader | None = None
        self.room = 20  # reports; after so many nobody needs more
        self.makers: WeakKeyDictionary[asyncio.Task[Any], str] = WeakKeyDictionary()

    @property
    def counts(self) -> dict[str, int]:
        """The execution counts of the cells, by the names of their files."""
        return dict(getattr(self.kernel.shell.compile, "_filename_map", {}))

    @property
    def request(self) -> str:
        """The id of the request that is being executed, or nothing."""
        header = self.kernel.get_parent().get("header", {})
        asked = header.get("msg_type") == "execute_request"
        return str(header["msg_id"]) if asked else ""

    def report(self, where: str, error: BaseException | None, **more: Any) -> None:
        """Write a report on an error, or on whatever `more` says."""
        with suppress(Exception):
            told = describe_error(error, self.counts) if error else {}
            line = json.dumps({"where": where, "request": "", **told, **more}) + "\n"
            self.room -= 1
            if self.room >= 0:
                place = os.open(self.path, os.O_WRONLY | os.O_APPEND)
                os.write(place, line.encode())
                os.close(place)

    def on_thread(self, hook: Any) -> Callable[[Any], None]:
        """Return a hook for errors in threads, which calls another one first."""

        def report(told: Any) -> None:
            hook(told)
            if told.exc_type is not SystemExit:
                name = told.thread.name if told.thread else "?"
                self.report(f"in thread `{name}`", told.exc_value)

        return report

    def on_unraisable(self, hook: Any) -> Callable[[Any], None]:
        """Return a hook for errors that cannot be raised, which calls another first."""

        def report(told: Any) -> None:
            hook(told)
            name = getattr(told.object, "__qualname__", type(told.object).__qualname__)
            self.report(f"ignored in `{name}`", told.exc_value)

        return report

    def on_log(self, record: logging.LogRecord) -> bool:
        """Report what the event loop logs as an error; a filter that lets all pass."""
        if record.levelno >= logging.ERROR and record.exc_info:
            self.report("in the event loop", record.exc_info[1])
        elif str(record.msg).startswith("Task was destroyed") and OWN not in str(
            record.msg
        ):
            about = {"name": "PendingTask", "value": str(record.msg)}
            self.report("in the event loop", None, **about)
        return True

    def make_task(self, loop: Any, work: Any, **more: Any) -> asyncio.Task[Any]:
        """Make a task as the loop would, and remember it if a cell wanted it."""
        task = asyncio.Task(work, loop=loop, **more)
        with suppress(Exception):
            file = getattr(getattr(work, "cr_code", None), "co_filename", "")
            if self.request and OWN not in file:
                self.makers[task] = self.request
        return task

    def on_fork(self) -> None:
        """Have a forked child leave at the end of the cell."""
        self.kernel.shell.events.register("post_run_cell", self.leave)

    def leave(self, result: Any = None) -> None:
        """End a forked child; an error in its copy of the cell is reported."""
        error = getattr(result, "error_before_exec", None)
        error = error or getattr(result, "error_in_exec", None)
        if error:
            self.report("in a forked process", error)
        with suppress(Exception):
            sys.stdout.flush()
        os._exit(1 if error else 0)


# ## The end
# %% Ending
class Ending:
    """Answers the message that announces the end of a kernel."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    async def answer(self, stream: Any, sender: Any, message: dict[str, Any]) -> None:
        """Wait for tasks, report on them, answer, and leave the event loop."""
        seconds = message["content"]["seconds"]
        with suppress(Exception):
            await self.wait(time.monotonic() + message["content"]["tasks"])
            for task, request in list(self.watch.makers.items()):
                self.examine(task, request)
        with suppress(Exception):
            if self.watch.reader:
                place = os.path.dirname(self.watch.path)
                self.watch.reader.tell(os.path.join(place, "files"))
        self.watch.kernel._progressively_terminate_all_children = do_nothing
        look = threading.Thread(target=self.look, args=(seconds,), daemon=True)
        look.start()
        session = self.watch.kernel.session
        session.send(stream, "litml_end_reply", {}, message, sender)
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.stop)

    async def wait(self, end: float) -> None:
        """Wait until no task is pending, but no longer than to `end`."""
        while time.monotonic() < end:
            if all(task.done() for task in list(self.watch.makers)):
                break
            await asyncio.sleep(0.02)

    def examine(self, task: asyncio.Task[Any], request: str) -> None:
        """Report a task that failed and was not asked, or is not done."""
        where = f"in task `{getattr(task.get_coro(), '__qualname__', task.get_name())}`"
        if not task.done():
            stack = task.get_stack(limit=1)
            about = describe_stack(stack[0] if stack else None, self.watch.counts)
            value = "still pending after the last cell"
            about = {"name": "PendingTask", "value": value, "request": request, **about}
            self.watch.report(where, None, **about)
        elif not task.cancelled() and getattr(task, "_log_traceback", False):
            self.watch.report(where, task.exception(), request=request)

    def look(self, seconds: float) -> None:
        """Report, if the process is still there, what keeps it."""
        time.sleep(seconds)
        if is_leaving():
            return self.watch.report("in the kernel", None, name="Leaving")
        frames = sys._current_frames()
        main = threading.main_thread()
        rest = [thread for thread in threading.enumerate() if not thread.daemon]
        for thread in [one for one in rest if one is not main] or [main]:
            name = f"thread `{thread.name}`" if thread is not main else "`atexit`"
            about = describe_stack(frames.get(thread.ident or 0), self.watch.counts)
            value = "the process does not end"
            about = {"name": "NeverEnds", "value": value, **about}
            self.watch.report(f"in {name}", None, **about)


def is_leaving() -> bool:
    """Is the main thread still in the kernel's own code?"""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame and OWN not in frame.f_code.co_filename:
        frame = frame.f_back
    return frame is not None


async def do_nothing() -> None:
    """Leave child processes to those who made them, and to us."""


# ## Commands
# %% check_commands
def check_commands(shell: Any) -> None:
    """Have a failing `!command` be an error; `RuntimeError` if IPython cannot."""
    if not shell.has_trait("system_raise_on_error"):
        raise RuntimeError("`shell-errors` needs a newer IPython in the kernel")
    shell.system_raise_on_error = True


# ## What is read
# %% Reader
PROGRAMS = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec", "os.forkpty")
MAKERS = {"os.rename": 1, "os.link": 1, "os.symlink": 1, "sqlite3.connect": 0}
LOCAL = ("127.", "::1", "localhost")
LISTS = ("os.listdir", "os.scandir")
FINDERS = re.compile("importlib|pkg_resources")  # list folders to find modules


class Reader:
    """Notes which files below the folder `root` are opened, and what hides others.

    What it hears of being written it adds to the file `claims`, if there is one. The
    files in the lines of `loaded` were read before.
    """

    def __init__(self, root: str, claims: str = "", loaded: str = "") -> None:
        self.root = os.path.join(os.path.realpath(root), "")
        self.roots = (self.root, os.path.join(root, ""))
        self.claims = claims
        self.claimed: set[str] = set()
        places = "|".join(map(re.escape, self.roots))
        self.read = {*re.findall(f"^(?:{places}).*$", loaded, re.MULTILINE)}
        self.written: set[str] = set()
        self.other: set[str] = set()
        self.children = count_children()

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Take in an audit event."""
        if event == "open" and isinstance(args[0], (str, bytes)):
            with suppress(OSError, ValueError):
                self.note(os.path.abspath(os.fsdecode(args[0])), args[2])
        elif event in LISTS and isinstance(args[0], str | None):
            if not FINDERS.search(sys._getframe(1).f_code.co_filename):
                self.note(os.path.abspath(args[0] or "."), os.O_RDONLY)
        elif event == "import" and args[1]:  # of a compiled extension
            self.note(os.path.abspath(args[1]), os.O_RDONLY)
        elif event in MAKERS and isinstance(args[MAKERS[event]], (str, bytes)):
            with suppress(OSError, ValueError):
                path = os.path.abspath(os.fsdecode(args[MAKERS[event]]))
                self.claim(path)
                if event == "sqlite3.connect":
                    self.note(path, os.O_RDONLY)
        elif event in PROGRAMS:
            self.other.add("it starts other programs")
        elif event == "socket.connect" and isinstance(args[1], tuple):
            local = str(args[1][0]).startswith(LOCAL)
            self.other.update([] if local else ["it uses the network"])

    def note(self, path: str, flags: object) -> None:
        """Note that a file is opened with some flags."""
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        if writes:
            self.claim(path)
        if path.endswith(".pyc"):
            with suppress(ValueError, NotImplementedError):  # not from a `__pycache__`
                path = source_from_cache(path)
        if path.startswith(self.roots) and path not in self.written:
            (self.written if writes and path not in self.read else self.read).add(path)

    def claim(self, path: str) -> None:
        """Tell at once that we write a file; others may ask for it while we run."""
        path = os.path.realpath(path)
        if not path.startswith(self.root) or path in self.claimed:
            return
        self.claimed.add(path)
        with suppress(OSError):
            place = os.open(self.claims, os.O_WRONLY | os.O_APPEND)
            os.write(place, f"{json.dumps(path)}\n".encode())
            os.close(place)

    def tell(self, path: str) -> None:
        """Write all of it to the file at `path`."""
        if count_children() != self.children:
            self.other.add("it starts other programs")
        made = {os.path.dirname(one) for one in self.written}  # and what is in them
        said = [sorted(self.read - made), sorted(self.written), sorted(self.other)]
        with open(path, "w", encoding="utf-8") as file:
            json.dump(said, file)


def count_children() -> tuple[object, ...]:
    """Return what changes when this process has started another, over or not."""
    try:
        from resource import RUSAGE_CHILDREN, getrusage

        ended = tuple(getrusage(RUSAGE_CHILDREN))
    except ImportError:
        return ()
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (AttributeError, ChildProcessError):
        return ended
    return (*ended, "and more")


# ## How it gets in
# %% start_watch
def start_watch(
    kernel: Any,
    path: str,
    parent: int,
    commands: bool,
    root: str = "",
    loaded: str | None = None,
) -> None:
    """Watch a kernel from now on; that the file at `path` exists says that it is.

    `parent` is the process that is to outlive the kernel; if `commands`, failing ones
    are errors. Which files below `root` are read is written to `files` beside `path`,
    and those that are written are added to `claims`. The lines of `loaded` are the
    files of the modules that there are; if nobody has it, they are asked.
    """
    watch = Watch(kernel, path)
    threading.excepthook = watch.on_thread(threading.excepthook)
    sys.unraisablehook = watch.on_unraisable(sys.unraisablehook)
    logging.getLogger("asyncio").addFilter(watch.on_log)
    asyncio.get_running_loop().set_task_factory(watch.make_task)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=watch.on_fork)
    if sys.platform == "linux" and os.getppid() == parent:
        die_with_parent()
    kernel.shell_handlers["litml_end_request"] = Ending(watch).answer
    open(path, "x").close()
    if root:
        claims = os.path.join(os.path.dirname(path), "claims")
        loaded = list_loaded() if loaded is None else loaded
        watch.reader = Reader(root, claims, loaded)
        sys.addaudithook(watch.reader.hear)
    if commands:
        try:
            check_commands(kernel.shell)
        except RuntimeError as error:
            watch.report("in the kernel", error)


def list_loaded() -> str:
    """Return the files of all modules, a line each."""
    files = [getattr(one, "__file__", None) for one in list(sys.modules.values())]
    return "\n".join(file for file in files if isinstance(file, str))


def die_with_parent() -> None:
    """Have the system kill this process when the one that started it is gone."""
    from ctypes import CDLL

    CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
