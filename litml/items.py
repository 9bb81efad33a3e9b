# Exported from nbs/13h_items.ipynb. Edit either side, then run `litml sync`.
"""Notebooks and cells as pytest sees them: what is run when, what a report says, and
what is kept.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from _pytest.fixtures import TopRequest

from litml.cells import DirectiveError
from litml.front import read_front
from litml.notebook import LitmlError, Location, Notebook
from litml.outcome import Output, Status
from litml.params import inject_values, label, read_params
from litml.run import CellRun, Runner, Step, describe_failure
from litml.session import Opened, list_rows, plan_before, shared_of
from litml.text import read_source
from litml.written import describe_written

if TYPE_CHECKING:
    from litml.compare import Rule

__all__ = [
    "ID_LINE",
    "locate_cells",
    "keep_copy",
    "store_updates",
    "FAULT",
    "shorten",
    "NotebookItem",
    "BrokenItem",
    "skip",
    "WAIT",
    "ask_kernel",
    "NotebookFile",
    "make_files",
    "MUCH",
    "CellItem",
]


# ## Where a cell stands
# %% locate_cells
ID_LINE = re.compile(rb'^\s*"id": ?"([^"]+)"', re.MULTILINE)


def locate_cells(raw: bytes) -> dict[str, int]:
    """Return the line of the file, from 0, where each cell's id stands."""
    return {
        match[1].decode(errors="replace"): raw.count(b"\n", 0, match.end())
        for match in ID_LINE.finditer(raw)
    }


# ## What is kept
# %% keep_copy
def keep_copy(runner: Runner, path: Path, failed: bool) -> None:
    """Write the executed copy of a notebook that failed; raises `LitmlError`."""
    if failed:
        from litml.report import execute_copy, write_whole

        write_whole(path, execute_copy(runner.notebook, runner.steps, runner.runs))
    elif runner.is_complete:
        path.unlink(missing_ok=True)


# %% store_updates
def store_updates(
    path: Path,
    notebook: Notebook,
    updates: Mapping[str, tuple[Output, ...]],
    root: Path,
) -> None:
    """Store the fresh outputs of some cells in the notebook's file.

    Raises `LitmlError` if the file is not what was tested any more.
    """
    if not updates:
        return
    from litml.files import Transaction, locked, state_dir
    from litml.saving import store_output

    state = state_dir(root)
    with locked(state):
        if path.read_bytes() != notebook.raw:
            at = Location(notebook.name)
            hint = "run the tests again"
            message = "it was changed while it was tested; no outputs were stored"
            raise LitmlError(message, at=at, hint=hint)
        for cell in notebook.cells:
            if cell.id in updates:
                fresh = [store_output(output) for output in updates[cell.id]]
                cell.data["outputs"] = fresh
        with Transaction(state) as transaction:
            transaction.stage(path, notebook.to_bytes())
            transaction.commit({path: notebook.raw})


# ## What is left out
# %% shorten
FAULT = re.compile(r"(\x1b\[[\d;]*m)*(cell |file |-+> *\d)", re.IGNORECASE)


def shorten(run: CellRun) -> CellRun:
    """Return a run with a shorter traceback of its failure."""
    if run.failure is None:
        return run
    lines = [one for one in run.failure.traceback.split("\n") if FAULT.match(one)]
    return replace(run, failure=replace(run.failure, traceback="\n".join(lines)))


# ## Two kinds of item
# %% NotebookItem
class NotebookItem(pytest.Item):
    """An item at some row of a notebook's file, counted from 0."""

    is_of_notebook = True

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
            crash.message = str(excinfo.value).partition("\n\n")[0]
            trace = getattr(shown, "reprtraceback", None)
            if trace and self.config.option.tbstyle == "line":
                crash.message = " ".join(crash.message.split("\n  ", 1))
                trace.reprentries = []
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

    def find_error(self) -> None:
        """There is nothing to debug."""


# %% skip
def skip(reason: str) -> None:
    """Skip the item that is running; the report names the item's own place."""
    raise pytest.skip.Exception(reason, _use_item_location=True)


# %% ask_kernel
WAIT = 10.0  # seconds for the kernel to show the variables


async def ask_kernel(runner: Runner, error: str, everything: bool) -> str:
    """Return the variables at an error of that type in a runner's kernel."""
    kernel = runner.kernel
    if (
        kernel is None
        or kernel.busy
        or not error
        or runner.notebook.language != "python"
    ):
        return ""
    from litml.variables import describe_variables, make_probe

    code = make_probe(error, runner.policy.root, everything)
    return describe_variables((await kernel.execute(code, WAIT, hidden=True)).outputs)


# ## A file
# %% NotebookFile
class NotebookFile(pytest.Module):
    """A notebook with values for its parameters; its cells are the items."""

    obj = None

    def __init__(
        self,
        *,
        opened: Opened,
        notebook: Notebook,
        values: Mapping[str, Any],
        broken: str = "",
        **more: Any,
    ) -> None:
        super().__init__(**more)
        self.opened = opened
        self.notebook = notebook
        self.values = values
        self.broken = broken
        self.runner: Runner | None = None
        self.told: dict[int, int] = {}  # steps reported as failed, and their rows
        self.failed = False
        self.updates: dict[str, tuple[Output, ...]] = {}

    def collect(self) -> Iterator[pytest.Item]:
        """Yield an item for each step."""
        try:
            steps = self.prepare()
        except LitmlError as error:
            self.broken = self.broken or str(error)
        suffix = f"[{label(self.values)}]" if self.values else ""
        if self.broken:
            name = f"broken{suffix}"
            more = {"name": name, "nodeid": f"{self.nodeid}::{name}"}
            yield BrokenItem.from_parent(self, message=self.broken, **more)
            return
        places = locate_cells(self.notebook.raw)
        for index, step in steps:
            name = f"{step.cell}{suffix}"
            # Said in full, so that pytest takes the brackets for what they are.
            more = {"name": name, "nodeid": f"{self.nodeid}::{name}"}
            row = places.get(step.cell, 0)
            yield CellItem.from_parent(self, index=index, row=row, **more)

    def prepare(self) -> list[tuple[int, Step]]:
        """Make the runner; return the steps that are items, with their indexes."""
        path = self.path.parent.resolve() / self.path.name
        for fixture in read_front(self.notebook).fixtures:
            self.add_marker(pytest.mark.usefixtures(fixture))
        own = {cell.id for cell in self.notebook.cells}
        before = list(plan_before(path, self.opened))
        given = inject_values(self.notebook, self.values)
        self.runner = Runner(given, self.opened.policy, before)
        found = enumerate(self.runner.steps)
        steps = [(i, one) for i, one in found if one.cell in own and not one.notebook]
        self.rules = {step.cell: self.rule_of(step) for _, step in steps}
        if not self.config.getoption("--litml-changed"):
            shared_of(self.config).warm_up(self.runner)
        return steps

    def rule_of(self, step: Step) -> "Rule | None":
        """Return how a cell's outputs are compared; None if they are not."""
        said = step.checked
        stores = self.path.suffix == ".ipynb"
        if self.values or said == "false" or (said is None and not self.opened.outputs):
            return None
        at = Location(self.notebook.name, step.cell)
        if said is not None and not stores:
            hint = "make it a Jupyter notebook, or drop `check-output`"
            message = "a text file stores no outputs to compare with"
            raise DirectiveError(message, at=at, hint=hint)
        from litml.compare import make_rule

        return make_rule(self.opened.testing, said or "", at) if stores else None

    def advance(self, index: int) -> Runner:
        """Run the steps up to that index, or up to a failure; start a kernel first."""
        assert self.runner is not None, "items exist only after `collect`"
        if self.broken:
            skip(self.broken)
        try:
            shared_of(self.config).reach(self.runner, index)
        except LitmlError as error:
            self.broken = f"there is no kernel: {error.message}"
            pytest.fail(str(error), pytrace=False)
        return self.runner

    def ask_variables(self, run: CellRun) -> str:
        """Return the variables where a cell has just failed, if there are any."""
        option, runner = self.config.option, self.runner
        if runner is None or option.tbstyle in ("short", "line", "no"):
            return ""
        name = "KeyboardInterrupt" if run.status is Status.TIMED_OUT else None
        error = next((o for o in run.outputs if o["output_type"] == "error"), {})
        work = ask_kernel(
            runner, name or error.get("ename", ""), bool(option.showlocals)
        )
        return shared_of(self.config).open_loop().run(work)

    def teardown(self) -> None:
        """Keep what is to be kept and end the kernel, after the last item."""
        super().teardown()
        if self.runner is None:
            return
        if written := describe_written(self.runner.written):
            self.warn(pytest.PytestWarning(written))
        path = self.path.parent.resolve() / self.path.name
        try:
            if copy := self.copy_path():
                keep_copy(self.runner, copy, self.failed)
            store_updates(path, self.notebook, self.updates, self.opened.project.root)
        except LitmlError as error:
            pytest.fail(str(error), pytrace=False)
        finally:
            shared_of(self.config).release(self.runner)
            self.told.clear()
            self.updates.clear()
            self.failed = False  # with `--failed-first` there is a second time

    def copy_path(self) -> Path | None:
        """Return where the executed copy goes, if copies are wanted."""
        if not (folder := self.opened.artifacts):
            return None
        from litml.report import artifact_path

        return artifact_path(folder, self.notebook.name, label(self.values))


# %% make_files
def make_files(
    path: Path, parent: pytest.Collector, opened: Opened
) -> Iterator[NotebookFile]:
    """Yield a file for each set of values that the notebook is tested with."""
    shared = shared_of(parent.config)
    place = path.parent.resolve() / path.name
    name = opened.project.name_of(place)
    more: dict[str, Any] = {"path": path, "opened": opened}
    try:
        notebook = read_source(place, name)
        shared.params.update(read_params(notebook))
        rows = list_rows(notebook, opened, parent.config.getoption("--litml-param"))
    except LitmlError as error:
        nothing = Notebook(name, {"cells": [], "metadata": {}}, [], b"")
        more |= {"notebook": nothing, "values": {}, "broken": str(error)}
        yield NotebookFile.from_parent(parent, **more)
        return
    for values in rows:
        more |= {"notebook": notebook, "values": values}
        yield NotebookFile.from_parent(parent, **more)


# ## An item
# %% CellItem
MUCH = 20_000  # characters of a stream that a report shows


class CellItem(NotebookItem):
    """A code cell."""

    parent: NotebookFile
    obj = None  # what other items test is a function

    def __init__(self, *, index: int, **more: Any) -> None:
        super().__init__(**more)
        self.index = index
        if reason := self.step.skip:
            self.add_marker(pytest.mark.skip(reason=reason))
        self.user_properties.append(("notebook", self.parent.notebook.name))
        self.user_properties.append(("cell", self.step.cell))
        self.rule = self.parent.rules[self.step.cell]
        self.use_fixtures()

    def use_fixtures(self) -> None:
        """Ask for the fixtures that are for every test, as pytest's doctests do."""
        manager = self.session._fixturemanager
        self._fixtureinfo = manager.getfixtureinfo(node=self, func=None, cls=None)
        self.fixturenames = self._fixtureinfo.names_closure
        self.funcargs: dict[str, object] = {}
        self._request = TopRequest(self, _ispytest=True)  # type: ignore[arg-type]

    @property
    def step(self) -> Step:
        """What the notebook says about running this cell."""
        assert self.parent.runner is not None
        return self.parent.runner.steps[self.index]

    def setup(self) -> None:
        """Set up fixtures, and run the cells above, as far as that was not done."""
        self._request._fillfixtures()
        self.refuse_failed(self.parent.advance(self.index - 1))

    def refuse_failed(self, runner: Runner) -> None:
        """Skip or fail if a cell above has failed."""
        if not runner.failed or len(runner.runs) > self.index:
            return
        place, name = len(runner.runs) - 1, runner.failed.cell
        if place in self.parent.told:
            self.row = self.parent.told[place]  # so pytest shows one line for all
            skip(f"an earlier cell failed: {name}")
        self.fail(f"cell {name}, which it needs, failed\n", runner, place)

    def runtest(self) -> None:
        """Run this cell."""
        runner = self.parent.advance(self.index)
        self.refuse_failed(runner)  # a flaky cell has all above it run again
        run = runner.runs[self.index]
        self.seconds = run.seconds
        if run.tries > 1:
            self.user_properties.append(("tries", run.tries))
        for output in run.outputs:
            if output["output_type"] == "stream":
                text = "".join(output["text"])[-MUCH:]
                self.add_report_section("call", output["name"], text)
        if run.failure:
            self.fail("", runner, self.index)
        if self.rule and run.status is Status.PASSED:
            self.compare(run, self.rule)

    def compare(self, run: CellRun, rule: "Rule") -> None:
        """Fail if the outputs are not the stored ones, or have them stored."""
        from litml.compare import compare_outputs

        cells = self.parent.notebook.cells
        stored = next(cell.outputs for cell in cells if cell.id == run.cell)
        if not (found := compare_outputs(stored, run.outputs, rule)):
            return
        if self.config.getoption("--update-outputs"):
            self.parent.updates[run.cell] = run.outputs
            self.user_properties.append(("outputs", "updated"))
            return
        self.parent.failed = True
        at = Location(self.parent.notebook.name, run.cell)
        hint = "if it was meant to change: pytest --update-outputs"
        message = f"OutputsDiffer from those in the notebook\n  at {at}\n\n{found}"
        pytest.fail(f"{message}\n\nhint: {hint}{self.note_copy()}", pytrace=False)

    def fail(self, prefix: str, runner: Runner, index: int) -> None:
        """Fail with the report on a cell, this one or one above it."""
        from litml.trace import annotate

        step, run = runner.steps[index], runner.runs[index]
        self.parent.told[index] = self.row
        self.parent.failed = True
        told = shorten(run) if self.config.option.tbstyle == "short" else run
        report = describe_failure(
            step.notebook or runner.notebook.name, step.source, told
        )
        parts = [prefix + annotate(report), self.parent.ask_variables(run)]
        if run.tries > 1:
            parts.append(f"it was tried {run.tries} times")
        text = "\n\n".join(part for part in parts if part)
        pytest.fail(text + self.note_copy(), pytrace=False)

    def note_copy(self) -> str:
        """Say where the executed copy will be, if it is kept."""
        if not (path := self.parent.copy_path()):
            return ""
        self.user_properties.append(("artifact", str(path)))
        return f"\n\nexecuted copy: {path}"

    def find_error(self) -> Mapping[str, Any] | None:
        """Return the connection to the kernel, if it has an error to look at."""
        runner = self.parent.runner
        if runner is None or runner.kernel is None or not runner.failed:
            return None
        kinds = [output["output_type"] for output in runner.failed.outputs]
        return runner.kernel.process.connection if "error" in kinds else None

    def has_kernel(self) -> bool:
        """Is the kernel alive?"""
        kernel = self.parent.runner.kernel if self.parent.runner else None
        run = shared_of(self.config).open_loop().run
        return kernel is not None and run(kernel.is_alive())
