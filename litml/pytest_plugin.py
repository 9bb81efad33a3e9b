# Exported from nbs/13_pytest_plugin.ipynb. Edit either side, then run `litml sync`.
"""Let pytest collect notebooks, each cell a test, with failures at cell and line."""

import re
import tomllib
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from litml.kernel import Loop
    from litml.project import Project
    from litml.run import CellRun, Policy, Runner, Step

__all__ = [
    "find_root",
    "Opened",
    "Shared",
    "SHARED",
    "choose_policy",
    "pytest_addoption",
    "pytest_configure",
    "pytest_unconfigure",
    "SUFFIXES",
    "Files",
    "pytest_collect_file",
    "collect_notebook",
    "NotebookFile",
    "NotebookItem",
    "BrokenItem",
    "ID_LINE",
    "locate_cells",
    "MUCH",
    "CellItem",
    "skip",
    "pytest_runtest_makereport",
    "pytest_make_collect_report",
    "pytest_xdist_make_scheduler",
    "split_scope",
]


# ## Which files
# %% find_root
@cache
def find_root(folder: Path) -> Path | None:
    """Return the nearest folder above with a table `[tool.litml]`, or None."""
    for root in [folder, *folder.parents]:
        try:
            text = (root / "pyproject.toml").read_text("utf-8")
            if "litml" in text and "litml" in tomllib.loads(text).get("tool", {}):
                return root
        except (OSError, ValueError):
            continue
    return None


# %% Opened
@dataclass(frozen=True, slots=True)
class Opened:
    """A project, its policy, and which files are its notebooks."""

    project: "Project"
    policy: "Policy"
    notebooks: frozenset[Path]


# %% Shared
class Shared:
    """What belongs to one session of pytest."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.projects: dict[Path, Opened] = {}
        self.loop: Loop | None = None

    def open_project(self, root: Path) -> Opened:
        """Return the project at `root`. Raises `LitmlError` if its table is wrong."""
        from litml.project import find_project, list_notebooks

        if root not in self.projects:
            project = find_project(root)
            policy = choose_policy(self.config, project)
            notebooks = frozenset(list_notebooks(project))
            self.projects[root] = Opened(project, policy, notebooks)
        return self.projects[root]

    def open_loop(self) -> "Loop":
        """Return the event loop, which runs in a thread from now on."""
        from litml.kernel import Loop

        self.loop = self.loop or Loop()
        return self.loop


SHARED = pytest.StashKey[Shared]()


# %% choose_policy
def choose_policy(config: pytest.Config, project: "Project") -> "Policy":
    """Return the project's policy with what the command line says."""
    from litml.cells import split_words
    from litml.run import make_policy

    policy = make_policy(project, split_words(config.getoption("--litml-needs")))
    timeout = config.getoption("--litml-timeout")
    return policy if timeout is None else replace(policy, timeout=timeout)


# ## Hooks
# %% pytest_addoption
def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options; pytest calls this."""
    group = parser.getgroup("litml", "notebooks")
    group.addoption(
        "--litml-needs",
        metavar="WORDS",
        default="",
        help="also run the cells that need these, or have these test flags: "
        "network, slow, gpu, … (separated by commas)",
    )
    group.addoption(
        "--litml-timeout",
        metavar="SECONDS",
        type=float,
        help="how long a cell may run that does not say so itself",
    )


# %% pytest_configure
def pytest_configure(config: pytest.Config) -> None:
    """Announce our marker; pytest calls this."""
    config.stash[SHARED] = Shared(config)
    config.addinivalue_line("markers", "notebook: a cell of a notebook (litml)")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the event loop; pytest calls this at the end."""
    shared = config.stash.get(SHARED, None)
    if shared and shared.loop:
        shared.loop.close()


# %% pytest_collect_file
SUFFIXES = (".ipynb", ".py", ".md")
Files = list[pytest.Collector]


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, Files, Files]:
    """Collect a notebook if it is ours; pytest calls this for every file."""
    others = yield
    notebook = collect_notebook(file_path, parent)
    return [notebook] if notebook else others


def collect_notebook(
    file_path: Path, parent: pytest.Collector
) -> pytest.Collector | None:
    """Return the collector of a notebook; None if the file is not one of ours."""
    if file_path.suffix not in SUFFIXES or not (root := find_root(file_path.parent)):
        return None
    from litml.notebook import LitmlError

    try:
        opened = parent.config.stash[SHARED].open_project(root)
    except LitmlError as error:
        raise parent.CollectError(str(error)) from error
    path = file_path.parent.resolve() / file_path.name
    asked = path.suffix == ".ipynb" and parent.session.isinitpath(file_path)
    if path not in opened.notebooks and not asked:
        return None
    return NotebookFile.from_parent(parent, path=file_path, opened=opened)


# ## A file
# %% NotebookFile
class NotebookFile(pytest.File):
    """A notebook: its cells are the items, and they share its kernel."""

    def __init__(self, *, opened: Opened, **more: Any) -> None:
        super().__init__(**more)
        self.opened = opened
        self.runner: Runner | None = None
        self.told: dict[str, int] = {}  # cells reported as failed, and their rows
        self.broken = ""

    def collect(self) -> Iterator[pytest.Item]:
        """Read the notebook and yield an item for each step."""
        from litml.notebook import LitmlError
        from litml.run import Runner
        from litml.text import read_source

        try:
            path = self.path.parent.resolve() / self.path.name
            notebook = read_source(path, self.opened.project.name_of(path))
            self.runner = Runner(notebook, self.opened.policy)
        except LitmlError as error:
            yield BrokenItem.from_parent(self, name="broken", message=str(error))
            return
        places = locate_cells(notebook.raw)
        for index, step in enumerate(self.runner.steps):
            yield CellItem.from_parent(
                self, name=step.cell, index=index, row=places.get(step.cell, 0)
            )

    def advance(self, index: int) -> "Runner":
        """Run the steps up to that index, or up to a failure; start a kernel first."""
        from litml.notebook import LitmlError

        assert self.runner is not None, "items exist only after `collect`"
        if self.broken:
            skip(self.broken)
        run = self.config.stash[SHARED].open_loop().run
        try:
            run(self.runner.open())
            run(self.runner.run_to(index))
        except LitmlError as error:
            self.broken = f"there is no kernel: {error.message}"
            pytest.fail(str(error), pytrace=False)
        return self.runner

    def teardown(self) -> None:
        """End the kernel; pytest calls this after the last item."""
        if self.runner:
            self.config.stash[SHARED].open_loop().run(self.runner.close())
        self.told.clear()


# %% NotebookItem
class NotebookItem(pytest.Item):
    """An item at some row of a notebook's file, counted from 0."""

    def __init__(self, *, row: int, **more: Any) -> None:
        super().__init__(**more)
        self.row = row
        self.add_marker("notebook")

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None
    ) -> Any:
        """Return what is shown for a failure."""
        shown = super().repr_failure(excinfo, style)
        crash = getattr(shown, "reprcrash", None)
        if crash and isinstance(excinfo.value, pytest.fail.Exception):
            crash.path, crash.lineno = str(self.path), self.row + 1
            crash.message = str(excinfo.value)
        return shown

    def reportinfo(self) -> tuple[Path, int, str]:
        """Return file, line of the file, and title of the report."""
        return self.path, self.row, f"{self.path.name}, cell {self.name}"


# %% BrokenItem
class BrokenItem(NotebookItem):
    """The one item of a notebook that cannot be run: it fails and says why."""

    def __init__(self, *, message: str, **more: Any) -> None:
        super().__init__(row=0, **more)
        self.message = message

    def runtest(self) -> None:
        """Fail."""
        pytest.fail(self.message, pytrace=False)


# %% locate_cells
ID_LINE = re.compile(rb'^\s*"id": ?"([^"]+)"', re.MULTILINE)


def locate_cells(raw: bytes) -> dict[str, int]:
    """Return the line of the file, from 0, where each cell's id stands."""
    return {
        match[1].decode(errors="replace"): raw.count(b"\n", 0, match.end())
        for match in ID_LINE.finditer(raw)
    }


# ## An item
# %% CellItem
MUCH = 20_000  # characters of a stream that a report shows


class CellItem(NotebookItem):
    """A code cell."""

    parent: NotebookFile

    def __init__(self, *, index: int, **more: Any) -> None:
        super().__init__(**more)
        self.index = index
        if reason := self.step.skip:
            self.add_marker(pytest.mark.skip(reason=reason))

    @property
    def step(self) -> "Step":
        """What the notebook says about running this cell."""
        assert self.parent.runner is not None
        return self.parent.runner.steps[self.index]

    def setup(self) -> None:
        """Run the cells above, as far as that has not been done."""
        runner = self.parent.advance(self.index - 1)
        failed = runner.failed if len(runner.runs) <= self.index else None
        if failed and failed.cell in self.parent.told:
            self.row = self.parent.told[failed.cell]  # so pytest shows one line for all
            skip(f"an earlier cell failed: {failed.cell}")
        if failed:
            self.fail(f"cell {failed.cell}, which it needs, failed\n", failed)

    def runtest(self) -> None:
        """Run this cell."""
        run = self.parent.advance(self.index).runs[self.index]
        for output in run.outputs:
            if output["output_type"] == "stream":
                self.add_report_section("call", output["name"], output["text"][-MUCH:])
        if run.failure:
            self.fail("", run)

    def fail(self, prefix: str, run: "CellRun") -> None:
        """Fail with the report on a cell, this one or one above it."""
        from litml.run import describe_failure
        from litml.trace import annotate

        runner = self.parent.runner
        assert runner is not None
        self.parent.told[run.cell] = self.row
        source = next(step.source for step in runner.steps if step.cell == run.cell)
        report = describe_failure(runner.notebook.name, source, run)
        pytest.fail(prefix + annotate(report), pytrace=False)


# %% skip
def skip(reason: str) -> None:
    """Skip the item that is running; the report names the item's own place."""
    raise pytest.skip.Exception(reason, _use_item_location=True)


# ## Tracebacks
# %% pytest_runtest_makereport
@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[
    None, pytest.TestReport, pytest.TestReport
]:
    """Name the cells of our modules in a failure; pytest calls this for every test."""
    report = yield
    if report.failed:
        from litml.trace import annotate_report

        annotate_report(report.longrepr)
    return report


# %% pytest_make_collect_report
@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[
    None, pytest.CollectReport, pytest.CollectReport
]:
    """Do the same for files that cannot be imported; pytest calls this for each."""
    report = yield
    if report.failed:
        from litml.trace import annotate_report

        annotate_report(report.longrepr)
    return report


# ## Many workers
# %% pytest_xdist_make_scheduler
@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep the cells of a notebook in one worker; pytest-xdist calls this."""
    if config.getoption("dist") != "load" or not find_root(config.rootpath):
        return None
    # Imported by name because it need not be installed.
    scheduler = import_module("xdist.scheduler").LoadScopeScheduling(config, log)
    scheduler._split_scope = split_scope
    return scheduler


# %% split_scope
def split_scope(nodeid: str) -> str:
    """Return what is handed out together with an item: its notebook, or only itself."""
    file, *rest = nodeid.split("::")
    return file if rest and file.endswith((".ipynb", ".md")) else nodeid
