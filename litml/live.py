# Exported from nbs/14b_live.ipynb. Edit either side, then run `litml sync`.
"""Keep the package up to date while a notebook is being worked in: `%load_ext
litml`.
"""

from __future__ import annotations

import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from importlib import reload
from pathlib import Path
from threading import Event, Thread
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any

from litml.files import forget_compiled
from litml.notebook import LitmlError
from litml.package import export_project
from litml.project import ConfigError, Project, find_project
from litml.record import look
from litml.stamps import YOUNG
from litml.trace import annotate

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["start_live", "LIVE", "stop_live"]


# ## Exporting
# %% export_now
def export_now(project: Project) -> str:
    """Export what changed; return what stands against it in one line, or nothing."""
    try:
        problems = export_project(project).problems
    except LitmlError as error:
        problems = (error,)
    if not problems:
        return ""
    first = problems[0]
    at = f" ({first.at})" if first.at else ""
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    return f"not exported: {first.message}{at}{more}"


# ## Loading again
# %% list_modules
def list_modules(package: Path) -> dict[str, Path]:
    """Return the loaded modules in a package's folder, by name, with their files."""
    found = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == package.name:
            file = Path(getattr(module, "__file__", None) or "").resolve()
            if package in file.parents and file.suffix == ".py":
                found[name] = file
    return found


# %% Reloader
class Reloader:
    """Loads modules of a package again whose files have changed.

    `seen` is how the files looked, in size and time, before they were loaded.
    """

    def __init__(self, package: Path) -> None:
        self.package = package
        self.seen = look_around(package)
        self.in_use: dict[Any, Any] = {}  # IPython's, of objects to be brought along

    def refresh(self) -> str:
        """Load what has changed; return what went wrong in one line, or nothing."""
        seen, problems = look_around(self.package), []
        for name, file in list_modules(self.package).items():
            now = look(file)
            if now is None or now == self.seen.get(file):
                continue
            if now[0] == 0:
                seen.pop(file, None)
            else:
                problems.append(self.load(name, file))
        self.seen = seen
        return next(filter(None, problems), "")

    def load(self, name: str, file: Path) -> str:
        """Load a module again; return what went wrong in one line, or nothing."""
        from IPython.extensions.autoreload import superreload

        # Python goes by the second of a file's time, which is too coarse here.
        forget_compiled(file)
        try:
            # IPython's functions have no types.
            superreload(sys.modules[name], reload, self.in_use)  # type: ignore[no-untyped-call]
        except (Exception, SystemExit) as error:
            reason = format_exception_only(error)[-1].strip()
            return f"not loaded again: {name}: {reason}"
        return ""


def look_around(package: Path) -> dict[Path, tuple[int, int]]:
    """Return how the modules of a package look, but for those written just now."""
    looks = {file: look(file) for file in package.rglob("*.py")}
    now = time.time_ns()
    return {
        file: one for file, one in looks.items() if one and abs(now - one[1]) > YOUNG
    }


# ## Naming cells
# %% name_cells
def name_cells(shell: InteractiveShell) -> Callable[[], None]:
    """Let the shell's tracebacks name cells; return what undoes it."""
    formatter: Any = shell.InteractiveTB
    original = formatter.structured_traceback

    def structured_traceback(*args: Any, **more: Any) -> list[str]:
        lines: list[str] = original(*args, **more)
        try:
            return [annotate(line) for line in lines]
        except Exception:  # whatever it is, a traceback without cells is better
            return lines

    formatter.structured_traceback = structured_traceback

    def undo() -> None:
        if vars(formatter).get("structured_traceback") is structured_traceback:
            del formatter.structured_traceback

    return undo


# ## A live session
# %% Live
class Live:
    """A session that is kept up to date: a shell, and the project it works in."""

    def __init__(self, shell: InteractiveShell, project: Project) -> None:
        self.shell = shell
        self.project = project
        self.reloader = Reloader(project.package_dir)
        self.told = ""
        self.trouble = ""
        self.stop = Event()
        shell.events.register("pre_run_cell", self.before_cell)
        shell.events.register("post_run_cell", self.after_cell)
        Thread(target=self.watch, name="litml", daemon=True).start()

    def close(self) -> None:
        """Undo everything."""
        self.stop.set()
        self.shell.events.unregister("pre_run_cell", self.before_cell)
        self.shell.events.unregister("post_run_cell", self.after_cell)

    def before_cell(self, info: object) -> None:
        """Bring the package up to date, on disk and in memory; IPython calls this."""
        self.tell(lambda: export_now(self.project), self.reloader.refresh)

    def after_cell(self, result: object) -> None:
        """Bring the package up to date on disk; IPython calls this."""
        self.tell(lambda: export_now(self.project))

    def tell(self, *work: Callable[[], str]) -> None:
        """Do some work and print what came of it, unless it was the last thing said."""
        try:
            said = next(filter(None, [do() for do in work]), self.trouble)
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        if said and said != self.told:
            print(f"litml: {said}", file=sys.stderr)
        self.told = said

    def watch(self) -> None:
        """Export after each save, until stopped; this runs in a thread of its own."""
        try:
            for _ in watch_notebooks(self.project, self.stop):
                export_now(self.project)  # problems are told beside the next cell
        except Exception as error:
            self.trouble = f"does not export on save: {error}"


# %% watch_notebooks
def watch_notebooks(
    project: Project, stop: Event, every: int = 3000
) -> Iterator[object]:
    """Yield when a notebook may have changed, until `stop` is set.

    That is after a change, and when there has been none for `every` milliseconds.
    """
    from watchfiles import watch

    return watch(
        project.notebooks_dir,
        watch_filter=lambda _, path: path.endswith((".ipynb", ".py", ".md")),
        stop_event=stop,
        rust_timeout=every,
        yield_on_timeout=True,
        raise_interrupt=False,
    )


# ### Beginning and ending
# %% start_live
def start_live(shell: InteractiveShell) -> None:
    """Begin to keep a session up to date; `%load_ext litml` calls this."""
    stop_live(shell)
    LIVE[shell] = [name_cells(shell)]
    try:
        project = find_project(Path(os.getcwd()))
        if project.nbdev:
            raise ConfigError("this project is configured for nbdev")
        LIVE[shell].append(Live(shell, project).close)
    except ConfigError as error:
        print(f"litml: nothing is exported: {error.message}", file=sys.stderr)


# What is to be done when a session ends.
LIVE: weakref.WeakKeyDictionary[InteractiveShell, list[Callable[[], None]]]
LIVE = weakref.WeakKeyDictionary()


# %% stop_live
def stop_live(shell: InteractiveShell) -> None:
    """Leave a session as it was before; `%unload_ext litml` calls this."""
    for undo in LIVE.pop(shell, []):
        undo()
