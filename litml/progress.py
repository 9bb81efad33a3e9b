# Exported from nbs/13f_progress.ipynb. Edit either side, then run `litml sync`.
"""Show on a terminal what is running right now, behind whatever pytest has printed."""

import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TextIO

__all__ = [
    "KEEP",
    "BACK",
    "WIPE",
    "Stream",
    "Shadow",
    "open_screen",
    "State",
    "EVERY",
    "Live",
    "can_draw",
]


# ## A shadow
# %% Shadow
KEEP, BACK, WIPE = "\x1b7", "\x1b8", "\x1b[K"


class Stream(Protocol):
    """What text is written to."""

    def write(self, text: str, /) -> Any:
        """Write text."""

    def flush(self) -> Any:
        """Write now."""


class Shadow:
    """A stream in front of another, and a text behind the cursor that comes, goes."""

    def __init__(self, stream: Stream, screen: Stream | None = None) -> None:
        self.stream = stream
        self.screen = screen or stream
        self.lock = threading.RLock()
        self.drawn = ""

    def __getattr__(self, name: str) -> Any:
        """Be the other stream in every other way."""
        return getattr(self.stream, name)

    def write(self, text: str, /) -> Any:
        """Wipe out the shadow and write text."""
        with self.lock:
            self.draw("")
            written = self.stream.write(text)
            self.stream.flush()
            return written

    def draw(self, text: str) -> None:
        """Draw the shadow, in place of the one that was."""
        with self.lock:
            if text != self.drawn:
                self.screen.write(f"{WIPE}{KEEP}{text}{BACK}" if text else WIPE)
                self.screen.flush()
            self.drawn = text


# %% open_screen
def open_screen(stream: Any) -> TextIO | None:
    """Return another way to the terminal that a stream writes to, if it is a file."""
    try:
        file = os.dup(stream.fileno())
    except (OSError, ValueError, AttributeError):
        return None
    return open(file, "w", encoding=stream.encoding, errors="replace")


# ## What is running
# %% State
class State:
    """What has been run and what is running; `now` tells seconds."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.total = 0
        self.done = 0
        self.failed = 0
        self.running: dict[str, float] = {}

    def describe(self, width: int) -> str:
        """Return all of it in at most `width` columns; nothing if nothing runs."""
        if not self.running:
            return ""
        node, begun = min(self.running.items(), key=lambda pair: pair[1])
        file, _, cell = node.partition("::")
        more = f" (+{len(self.running) - 1})" if len(self.running) > 1 else ""
        if not self.total:  # with many workers pytest does not write the file either
            cell = f"{file} {cell}"
        facts = [f"{cell or file} {self.now() - begun:.0f} s{more}"]
        facts += [f"{self.done}/{self.total}"] if self.total else []
        facts += [f"{self.failed} failed"] if self.failed else []
        text = "  " + ", ".join(facts)
        return text if len(text) < width else text[: max(width - 2, 0)] + "…"


# ## The plugin
# %% Live
EVERY = 0.25  # seconds between two looks


class Live:
    """Draws the state of the run behind what pytest's writer has written."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self.state = State()
        self.screen = open_screen(writer._file)
        self.shadow = Shadow(writer._file, self.screen)
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        writer._file = self.shadow
        self.thread.start()

    def watch(self) -> None:
        """Draw again and again, until it is over."""
        while not self.over.wait(EVERY):
            self.draw()

    def draw(self) -> None:
        """Draw what is running now."""
        with self.shadow.lock:
            room = self.writer.fullwidth - self.writer.width_of_current_line
            self.shadow.draw(self.state.describe(room))

    def close(self) -> None:
        """Stop, and leave no trace."""
        self.over.set()
        self.thread.join()
        self.shadow.draw("")
        self.writer._file = self.shadow.stream
        if self.screen:
            self.screen.close()

    def pytest_collection_finish(self, session: Any) -> None:
        """Note how many tests there are."""
        self.state.total = len(session.items)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test begins."""
        self.state.running[nodeid] = self.state.now()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Note a failure."""
        self.state.failed += report.failed

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note that a test is over."""
        self.state.running.pop(nodeid, None)
        self.state.done += 1

    def pytest_unconfigure(self) -> None:
        """Stop; pytest calls this at the end."""
        self.close()


# %% can_draw
def can_draw(writer: Any, capture: str, usepdb: bool) -> bool:
    """Is the writer's file a terminal that can show it, and is it ours alone?"""
    terminal = getattr(writer._file, "isatty", lambda: False)()
    able = os.environ.get("TERM", "") not in ("", "dumb")
    return bool(terminal and able and capture != "no" and not usepdb)
