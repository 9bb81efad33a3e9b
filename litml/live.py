# Exported from nbs/14b_live.ipynb. Edit either side, then run `litml sync`.
"""Keep the package up to date while a notebook is being worked in: `%load_ext
litml`.
"""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from litml.files import forget_compiled
from litml.notebook import LitmlError
from litml.package import export_project
from litml.project import ConfigError, Project, find_project
from litml.trace import annotate

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.extensions.autoreload import ModuleReloader

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
# %% make_reloader
def make_reloader(shell: InteractiveShell) -> ModuleReloader:
    """Return IPython's reloader; it knows how every module looks by now."""
    from IPython.extensions.autoreload import ModuleReloader

    reloader = ModuleReloader(shell)  # type: ignore[no-untyped-call]
    reloader.enabled, reloader.check_all = True, False
    if hasattr(reloader, "deduper_reloader"):
        reloader.deduper_reloader.enabled = False
    return reloader


# %% list_modules
def list_modules(package: Path) -> list[str]:
    """Return the names of the loaded modules that lie in a package's folder."""
    found = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == package.name:
            file = getattr(module, "__file__", None)
            if file and package in Path(file).resolve().parents:
                found.append(name)
    return found


# %% reload_changed
FAILED = re.compile(r"\[autoreload of (\S+) failed: .*?\n(\S[^\n]*)\n\]", re.DOTALL)


def reload_changed(reloader: ModuleReloader, package: Path) -> str:
    """Load changed modules again; return what went wrong in one line, or nothing."""
    reloader.modules = dict.fromkeys(list_modules(package), True)
    forget_changed(reloader)
    logger = logging.getLogger("autoreload")
    was_disabled, logger.disabled = logger.disabled, True
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            reloader.check()  # type: ignore[no-untyped-call]
    finally:
        logger.disabled = was_disabled
    if match := FAILED.search(said.getvalue()):
        return f"not loaded again: {match[1]}: {match[2]}"
    sys.stderr.write(said.getvalue())  # a module may say something as it is loaded
    return ""


def forget_changed(reloader: ModuleReloader) -> None:
    """Let Python compile changed modules anew, however quickly they changed."""
    for name in reloader.modules:
        # IPython has no types here.
        file, time = reloader.filename_and_mtime(sys.modules[name])  # type: ignore[no-untyped-call]
        if file and time != reloader.modules_mtimes.get(name):
            forget_compiled(Path(file))


def note_loaded(reloader: ModuleReloader, package: Path) -> None:
    """Tell the reloader how modules look that have just been loaded."""
    new = [
        name for name in list_modules(package) if name not in reloader.modules_mtimes
    ]
    reloader.modules = dict.fromkeys(new, True)
    reloader.check(do_reload=False)  # type: ignore[no-untyped-call]


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

    def __init__(self, shell: InteractiveShell, project: Project | None) -> None:
        self.shell = shell
        self.project = project
        self.reloader = make_reloader(shell)
        self.told = ""
        self.trouble = ""
        self.stop = Event()
        self.undo = name_cells(shell)
        if project:
            shell.events.register("pre_run_cell", self.before_cell)
            shell.events.register("post_run_cell", self.after_cell)
            Thread(target=self.watch, name="litml", daemon=True).start()

    def close(self) -> None:
        """Undo everything."""
        self.stop.set()
        self.undo()
        if self.project:
            self.shell.events.unregister("pre_run_cell", self.before_cell)
            self.shell.events.unregister("post_run_cell", self.after_cell)

    def before_cell(self, info: object) -> None:
        """Export and load again; IPython calls this."""
        self.tell(self.refresh)

    def after_cell(self, result: object) -> None:
        """Export, and take note of what was loaded; IPython calls this."""
        self.tell(self.settle)

    def refresh(self, project: Project) -> str:
        """Bring the package up to date, on disk and in memory."""
        problem = export_now(project)
        failure = reload_changed(self.reloader, project.package_dir)
        return problem or failure

    def settle(self, project: Project) -> str:
        """Bring the package up to date on disk."""
        note_loaded(self.reloader, project.package_dir)
        return export_now(project)

    def tell(self, work: Callable[[Project], str]) -> None:
        """Do some work and print what came of it, unless it was the last thing said."""
        if self.project is None:
            return
        try:
            said = work(self.project) or self.trouble
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        if said and said != self.told:
            print(f"litml: {said}", file=sys.stderr)
        self.told = said

    def watch(self) -> None:
        """Export after each save, until stopped; this runs in a thread of its own."""
        assert self.project is not None
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
    project, why = None, ""
    try:
        project = find_project(Path(os.getcwd()))
        if project.nbdev:
            project, why = None, "this project is configured for nbdev"
    except ConfigError as error:
        why = error.message
    if why:
        print(f"litml: nothing is exported: {why}", file=sys.stderr)
    LIVE[shell] = Live(shell, project)


LIVE: weakref.WeakKeyDictionary[InteractiveShell, Live] = weakref.WeakKeyDictionary()


# %% stop_live
def stop_live(shell: InteractiveShell) -> None:
    """Leave a session as it was before; `%unload_ext litml` calls this."""
    if live := LIVE.pop(shell, None):
        live.close()
