# Exported from nbs/13i_pytest_plugin.ipynb. Edit either side, then run `litml sync`.
"""Let pytest collect notebooks, each cell a test, with failures at cell and line."""

import os
import sys
import time
import tomllib
from collections.abc import Generator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from litml.ahead import Ahead
    from litml.items import CellItem
    from litml.report import Entry
    from litml.run import Runner

__all__ = [
    "find_root",
    "OPTIONS",
    "pytest_addoption",
    "pytest_configure",
    "pytest_unconfigure",
    "SUFFIXES",
    "Files",
    "pytest_collect_file",
    "collect_notebook",
    "pytest_collection_finish",
    "pytest_runtestloop",
    "plan_ahead",
    "Next",
    "pytest_runtest_makereport",
    "pytest_make_collect_report",
    "pytest_terminal_summary",
    "Page",
    "Debugger",
    "write_terminal",
    "pytest_xdist_make_scheduler",
    "split_scope",
]


# ## Which files
# %% find_root
@cache
def find_root(folder: Path) -> Path | None:
    """Return the nearest folder above with a table `[tool.litml]`, or None."""
    asked = os.environ.get("LITML_PROJECT")
    for root in [folder, *folder.parents]:
        if str(root) == asked:
            return root
        try:
            text = (root / "pyproject.toml").read_text("utf-8")
            if "litml" in text and "litml" in tomllib.loads(text).get("tool", {}):
                return root
        except (OSError, ValueError):
            continue
    return None


# ## Hooks
# %% pytest_addoption
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("--litml-needs", {"metavar": "WORDS", "default": "", "help": (
        "also run the cells that need these, or have these test flags: "
        "network, slow, gpu, … (separated by commas)")}),
    ("--litml-timeout", {"metavar": "SECONDS", "type": float, "help":
        "how long a cell may run that does not say so itself"}),
    ("--litml-param", {"metavar": "NAME=VALUE", "action": "append", "default": [],
        "help": "a value for a parameter of notebooks; may be given again"}),
    ("--litml-artifacts", {"metavar": "DIR", "help":
        "keep executed copies of notebooks that fail"}),
    ("--litml-html", {"metavar": "FILE", "help": "write a page about the run"}),
    ("--litml-outputs", {"action": "store_true", "help":
        "compare the outputs of all cells with those in the notebooks"}),
    ("--update-outputs", {"action": "store_true", "help":
        "store the outputs that differ in the notebooks, and compare no more"}),
    ("--litml-changed", {"action": "store_true", "help":
        "do not run notebooks again that have passed and depend on nothing new"}),
    ("--litml-remember", {"action": "store_true", "help":
        "run everything, and remember it for `--litml-changed`"}),
    ("--litml-since", {"metavar": "REV", "help":
        "only notebooks that the changes since that commit can affect"}),
    ("--litml-shard", {"metavar": "K/N", "help":
        "only the K-th of N equal shares of the tests"}),
    ("--litml-store", {"metavar": "DIR", "help":
        "where results are kept; a CI can carry it from run to run"}),
    ("--litml-jobs", {"metavar": "N", "type": int, "default": 1, "help":
        "run so many notebooks at the same time"}),
    ("--litml-progress", {"action": "store_true", "help":
        "show on a terminal what is running"}),
]  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add our options; pytest calls this."""
    group = parser.getgroup("litml", "notebooks")
    for name, about in OPTIONS:
        group.addoption(name, **about)


# %% pytest_configure
@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Announce our marker, and add what was asked for; pytest calls this."""
    config.addinivalue_line("markers", "notebook: a cell of a notebook (litml)")
    plugins = config.pluginmanager
    writer = getattr(plugins.getplugin("terminalreporter"), "_tw", None)
    is_worker = hasattr(config, "workerinput")
    if config.getoption("--litml-progress") and writer:
        from litml.progress import Live, can_draw

        if can_draw(writer, config.option.capture, config.option.usepdb):
            plugins.register(Live(writer), "litml-progress")
    wishes = ("changed", "remember", "since", "shard", "store")
    if any(config.getoption(f"--litml-{name}") for name in wishes):
        from litml.unchanged import Chooser, read_wanted

        chooser = Chooser(read_wanted(config), config.invocation_params.dir)
        plugins.register(chooser, "litml-chooser")
    if (page := config.getoption("--litml-html")) and not is_worker:
        plugins.register(Page(Path(config.invocation_params.dir, page)), "litml-page")
    if config.option.usepdb and (inner := plugins.unregister(name="pdbinvoke")):
        plugins.register(Debugger(inner), "litml-debugger")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the event loop; pytest calls this at the end."""
    if "litml.session" in sys.modules:
        from litml.session import shared_of

        if loop := shared_of(config).loop:
            loop.close()


# %% pytest_collect_file
SUFFIXES = (".ipynb", ".py", ".md")
Files = list[pytest.Collector]


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, Files, Files]:
    """Collect a notebook if it is ours; pytest calls this for every file."""
    others = yield
    return collect_notebook(file_path, parent) or others


def collect_notebook(file_path: Path, parent: pytest.Collector) -> Files:
    """Return collectors of a notebook, one for each set of values it is tested with.

    There are none if the file is not one of ours.
    """
    if file_path.suffix not in SUFFIXES or not (root := find_root(file_path.parent)):
        return []
    from litml.notebook import LitmlError
    from litml.session import shared_of

    shared = shared_of(parent.config)
    try:
        opened = shared.open_project(root)
    except LitmlError as error:
        raise parent.CollectError(str(error)) from error
    path = file_path.parent.resolve() / file_path.name
    asked = path.suffix == ".ipynb" and parent.session.isinitpath(file_path)
    if path not in opened.notebooks and not asked:
        return []
    from litml.items import make_files

    return [*make_files(file_path, parent, opened)]


# %% pytest_collection_finish
def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse parameters that no notebook has; pytest calls this."""
    words = session.config.getoption("--litml-param")
    if not words or (session.config.option.collectonly and not session.items):
        return
    if session.config.pluginmanager.hasplugin("dsession"):
        return  # the workers know
    from litml.session import refuse_words, shared_of

    refuse_words(words, shared_of(session.config).params)


# %% pytest_runtestloop
@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Have notebooks run ahead while the tests are run; pytest calls this."""
    config = session.config
    if "litml.items" not in sys.modules:
        return (yield)  # there are no notebooks
    spread = config.pluginmanager.hasplugin("dsession")
    if spread or config.option.usepdb or config.option.collectonly:
        return (yield)
    if not (planned := plan_ahead(session)):
        return (yield)
    from litml.session import shared_of

    is_worker = hasattr(config, "workerinput")
    jobs = 1 if is_worker else config.getoption("--litml-jobs")
    ahead = shared_of(config).run_ahead(jobs)
    try:
        if is_worker:
            config.pluginmanager.register(Next(ahead, dict(planned)))
        else:
            ahead.expect(runner for runner, _ in planned)
        for runner, index in planned if jobs > 1 else ():
            ahead.plan(runner, index)
        return (yield)
    finally:
        ahead.stop()


def plan_ahead(session: pytest.Session) -> list[tuple["Runner", int]]:
    """Return what runs each notebook, with the last of the steps to be tested."""
    from litml.items import CellItem, NotebookFile

    chooser = session.config.pluginmanager.getplugin("litml-chooser")
    last: dict[NotebookFile, int] = {}
    waiting: set[NotebookFile] = set(chooser.known) if chooser else set()
    for item in session.items:
        if isinstance(item, CellItem) and not item.step.skip:
            last[item.parent] = max(item.index, last.get(item.parent, 0))
            if item.fixturenames:  # the kernel has to start after them
                waiting.add(item.parent)
    return [
        (file.runner, index)
        for file, index in last.items()
        if file.runner and file not in waiting
    ]


class Next:
    """Has the kernel of a worker's next notebook started, as soon as that is known."""

    def __init__(self, ahead: "Ahead", planned: Mapping["Runner", int]) -> None:
        self.ahead = ahead
        self.planned = planned

    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> None:
        """Look at the item that comes after this one; pytest calls this for each."""
        file = nextitem.parent if nextitem else None
        runner: Runner | None = getattr(file, "runner", None)
        if runner and runner in self.planned and file is not item.parent:
            self.ahead.expect([runner])


# ## Tracebacks
# %% pytest_runtest_makereport
@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say what a report cannot know; pytest calls this for every part of a test.

    That is which cells of our modules are in a failure, and how long a cell took that
    ran before its turn.
    """
    report = yield
    if report.when == "call":
        report.duration = getattr(item, "seconds", report.duration)
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


# ## What is worth a word
# %% pytest_terminal_summary
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell of cells that passed, but not just so; pytest calls this at the end."""
    lines = []
    for report in terminalreporter.getreports("passed"):
        said = dict(getattr(report, "user_properties", ()))
        if report.when == "call" and (tries := said.get("tries")):
            lines.append(f"FLAKY {report.nodeid} passed at try {tries}")
        if report.when == "call" and "outputs" in said:
            lines.append(f"UPDATED the outputs of {report.nodeid}")
    if lines:
        terminalreporter.section("notebooks")
        for line in lines:
            terminalreporter.line(line)


# %% Page
class Page:
    """Collects what is reported, and writes the page at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun = time.time()
        self.entries: list[Entry] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what is reported of a test; pytest calls this three times for each."""
        from litml.report import Entry

        if report.when != "call" and report.passed:
            return
        said = dict(report.user_properties)
        verdict = report.outcome if report.when == "call" else "error"
        verdict = "skipped" if report.skipped else verdict
        text = report.longreprtext if report.failed else ""
        if report.skipped and isinstance(report.longrepr, tuple):
            text = report.longrepr[2].removeprefix("Skipped: ")
        copy = said.get("artifact", "")
        link = os.path.relpath(str(copy), self.path.parent) if copy else ""
        file, _, name = report.nodeid.partition("::")
        tries = int(str(said.get("tries", 1)))
        self.entries.append(
            Entry(file, name, verdict, report.duration, text, link, tries)
        )

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the page; pytest calls this when all is done."""
        from litml.report import render_page, write_whole

        took = time.time() - self.begun
        title = session.config.rootpath.name
        write_whole(self.path, render_page(self.entries, title, took).encode())


# ## The debugger
# %% Debugger
class Debugger:
    """Opens a debugger where a test fails: in the kernel if it is a cell."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def pytest_exception_interact(
        self, node: Any, call: pytest.CallInfo[Any], report: pytest.TestReport
    ) -> None:
        """Debug a failure; pytest calls this for each."""
        if not hasattr(node, "is_of_notebook"):
            self.inner.pytest_exception_interact(node=node, call=call, report=report)
            return
        error = node.find_error() if report.when == "call" else None
        capture = node.config.pluginmanager.getplugin("capturemanager")
        if capture:
            capture.suspend_global_capture(in_=True)
        try:
            has_quit = self.talk(node, report, error)
        finally:
            if capture:
                capture.resume_global_capture()
        if has_quit:
            pytest.exit("Quitting debugger")

    def talk(
        self, node: "CellItem", report: Any, error: Mapping[str, Any] | None
    ) -> bool:
        """Show the failure and hand over the terminal; True if the person quits."""
        from litml.debug import debug_kernel

        writer: Any = node.config.get_terminal_writer()
        writer.line()
        report.toterminal(writer)
        if error is None:
            writer.sep(">", "there is no error in a kernel to look at")
            return False
        writer.sep(">", f"post mortem in the kernel of cell {node.name}")
        return debug_kernel(error, input, write_terminal, node.has_kernel)

    def pytest_internalerror(self, excrepr: Any, excinfo: Any) -> None:
        """Hand on what is no failure of a test."""
        self.inner.pytest_internalerror(excrepr=excrepr, excinfo=excinfo)


def write_terminal(text: str) -> None:
    """Write text of a debugger."""
    sys.stdout.write(text)
    sys.stdout.flush()


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
    if not rest or not file.endswith((".ipynb", ".md")):
        return nodeid
    values = rest[-1].partition("[")[2]
    return f"{file}[{values}" if values else file
