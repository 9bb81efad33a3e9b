# Exported from nbs/11_run.ipynb. Edit either side, then run `litml sync`.
"""Run a notebook from its first cell to its last, and say what became of each."""

import ast
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from litml.cells import COMMENTS, NEEDS, Directive, read_directives, split_words
from litml.devices import parse_memory
from litml.front import Front, read_front
from litml.notebook import Cell, LitmlError, Location, Notebook, suggest
from litml.outcome import Execution, Failure, Output, Status
from litml.project import Project
from litml.spares import Order, Supply
from litml.strict import Strict, read_strict
from litml.warmth import Warmth, fit_warmth, read_warmth
from litml.written import Lookout, Written, describe_written

if TYPE_CHECKING:
    from litml.kernel import Kernel

__all__ = [
    "Policy",
    "make_policy",
    "has_gpu",
    "Step",
    "plan_notebook",
    "has_code",
    "add_front",
    "plan_cell",
    "reason_to_skip",
    "SWITCH",
    "read_switches",
    "CellRun",
    "NotebookRun",
    "weigh",
    "SOON",
    "Runner",
    "run_async",
    "run_notebook",
    "describe_failure",
    "list_source",
]


# ## What a cell asks for
# %% Policy
@dataclass(frozen=True, slots=True)
class Policy:
    """How notebooks are run; times in seconds.

    Notebooks' names are relative to `root`; kernels can import from `paths`. A cell
    with a directive among `flags` is skipped unless that is among `asked`. The code in
    `opening` and `closing` is run in every Python kernel, unseen. `sources` are the
    folders into which notebooks should not write. With `observe` kernels note which
    files below the root they read.
    """

    root: Path
    timeout: float = 600.0
    startup: float = 60.0
    flags: tuple[str, ...] = ()
    asked: frozenset[str] = frozenset()
    paths: tuple[Path, ...] = ()
    opening: tuple[str, ...] = ()
    closing: tuple[str, ...] = ()
    strict: Strict = field(default_factory=Strict)
    warmth: Warmth = field(default_factory=Warmth)
    sources: tuple[Path, ...] = ()
    observe: bool = False


# %% make_policy
def make_policy(project: Project, asked: Iterable[str] = ()) -> Policy:
    """Return a project's policy. Raises `LitmlError` for an unknown word in `asked`."""
    flags = project.config.test_flags
    known = [*NEEDS, *flags]
    for word in asked:
        if word not in known:
            hint = suggest(word, known) or f"there are {', '.join(known)}"
            raise LitmlError(f"neither a need nor a test flag: `{word}`", hint=hint)
    return Policy(
        root=project.root,
        timeout=project.config.timeout,
        flags=flags,
        asked=frozenset(asked),
        paths=(project.package_dir.parent,),
        strict=read_strict(project),
        warmth=read_warmth(project),
        sources=(project.notebooks_dir, project.package_dir),
    )


# %% has_gpu
@cache
def has_gpu() -> bool:
    """Is there a graphics card of NVIDIA's that programs of this process may use?"""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return True
    if not (tool := shutil.which("nvidia-smi")):
        return False
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and b"GPU" in listed.stdout


# ## Steps
# %% Step
@dataclass(frozen=True, slots=True)
class Step:
    """A code cell to run, unless `skip` says why not.

    `raises` holds the errors of which one is expected; an empty tuple allows any
    or none. It may be tried `flaky` times. `checked` is the value of `check-output`,
    if it has that. `notebook` is where it is from, if not from the one that is run.
    """

    cell: str
    source: str
    timeout: float
    skip: str = ""
    raises: tuple[str, ...] | None = None
    may_raise: tuple[str, ...] = ()
    flaky: int = 1
    gpu: int | None = None
    checked: str | None = None
    notebook: str = ""


# %% plan_notebook
def plan_notebook(notebook: Notebook, policy: Policy) -> tuple[Step, ...]:
    """Return the notebook's steps in order.

    Raises `LitmlError` for a wrong directive, and for an id that is used twice.
    """
    whole, front = read_switches(notebook), read_front(notebook)
    found = read_directives(notebook, policy.flags)
    steps = [
        plan_cell(cell, add_front(directives, front), whole, policy)
        for cell, directives in zip(notebook.cells, found, strict=True)
        if cell.kind == "code" and has_code(cell.source, notebook.language)
    ]
    names = [step.cell for step in steps]
    for name in names:
        if names.count(name) > 1:
            at = Location(notebook.name, name)
            hint = "open and save it in Jupyter once"
            raise LitmlError("two cells have this id", at=at, hint=hint)
    return tuple(replace(step, may_raise=front.may_raise) for step in steps)


# %% has_code
def has_code(source: str, language: str) -> bool:
    """Is there anything in the cell to execute, be it a magic?"""
    comment = COMMENTS.get(language, "#")
    lines = [line.strip() for line in source.splitlines()]
    return any(line and not line.startswith(comment) for line in lines)


# %% add_front
def add_front(said: dict[str, Directive], front: Front) -> dict[str, Directive]:
    """Return a cell's directives with those that its notebook has for all cells."""
    if "needs" in said and "needs" in front.said:
        both = f"{front.said['needs'].value}, {said['needs'].value}"
        said = said | {"needs": replace(said["needs"], value=both)}
    return {**front.said, **said}


# %% plan_cell
def plan_cell(
    cell: Cell, said: dict[str, Directive], whole: dict[str, bool], policy: Policy
) -> Step:
    """Return one cell's step; `whole` holds what the notebook says for all of them."""
    tags = cell.metadata.get("tags") or []
    raises = tuple(split_words(said["raises"].value)) if "raises" in said else None
    skip = reason_to_skip(said, tags, whole, policy)
    if not skip and calls_export(cell.source):
        skip = "it exports, which is no test"
    return Step(
        cell=cell.id,
        source=cell.source,
        timeout=float(said["timeout"].value) if "timeout" in said else policy.timeout,
        skip=skip,
        raises=() if "raises-exception" in tags and raises is None else raises,
        flaky=int(said["flaky"].value) if "flaky" in said else 1,
        gpu=None if skip else demand_gpu(said),
        checked=said["check-output"].value if "check-output" in said else None,
    )


# %% calls_export
def calls_export(source: str) -> bool:
    """Is a call of `nbdev_export` one of the cell's statements?"""
    if "nbdev_export(" not in source:
        return False
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic, perhaps
        return True
    calls = [
        node.value.func
        for node in body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ]
    return any(ast.unparse(one).split(".")[-1] == "nbdev_export" for one in calls)


# %% demand_gpu
def demand_gpu(said: dict[str, Directive]) -> int | None:
    """Return the bytes of a GPU that a cell needs, 0 for all of it, None for none."""
    if "needs" not in said or "gpu" not in split_words(said["needs"].value):
        return None
    return parse_memory(said["gpu-memory"].value) if "gpu-memory" in said else 0


# %% reason_to_skip
def reason_to_skip(
    said: dict[str, Directive], tags: list[str], whole: dict[str, bool], policy: Policy
) -> str:
    """Return why a cell is not to be run, or nothing."""
    if "skip" in said:
        return said["skip"].value or "marked `skip`"
    if "skip-execution" in tags:
        return "tagged `skip-execution`"
    if whole.get("skip_exec"):
        return "the notebook says `skip_exec`"
    if "eval" in said and said["eval"].value == "false":
        return "marked `eval: false`"
    if "eval" not in said and not whole.get("eval", True):
        return "the notebook says `eval: false`"
    for flag in policy.flags:
        if flag in said and flag not in policy.asked:
            return f"`{flag}` was not asked for"
    needs = split_words(said["needs"].value) if "needs" in said else []
    for need in needs:
        if need not in policy.asked and not (need == "gpu" and has_gpu()):
            return "needs a GPU" if need == "gpu" else f"`{need}` was not asked for"
    return ""


# %% read_switches
SWITCH = re.compile(r"^(?:[-*] +)?(skip_exec|eval):\s*(\w+)\s*$", re.MULTILINE)


def read_switches(notebook: Notebook) -> dict[str, bool]:
    """Return `skip_exec` and `eval` of the front matter, where they stand."""
    shared = notebook.metadata.get("nbdev")
    pairs = list(shared.items()) if isinstance(shared, dict) else []
    texts = {"raw": "", "markdown": ""}
    for cell in notebook.cells:
        if cell.kind in texts and not texts[cell.kind]:
            texts[cell.kind] = cell.source
    for kind, opening in [("markdown", "# "), ("raw", "---")]:
        if texts[kind].lstrip().startswith(opening):
            pairs += SWITCH.findall(texts[kind])
    yes = ("true", "yes", "on", "1")
    switches = {key: str(value).lower() in yes for key, value in pairs}
    return {key: on for key, on in switches.items() if key in ("skip_exec", "eval")}


# ## The run
# %% CellRun
@dataclass(frozen=True, slots=True)
class CellRun:
    """What became of one cell; `reason` says why it was skipped or not run.

    `tries` is how often it was run, which is once unless it is flaky.
    """

    cell: str
    status: Status
    outputs: tuple[Output, ...] = ()
    seconds: float = 0.0
    failure: Failure | None = None
    reason: str = ""
    tries: int = 1


# %% NotebookRun
@dataclass(frozen=True, slots=True)
class NotebookRun:
    """What became of a notebook, cell by cell.

    `written` has the files among the project's sources that changed meanwhile.
    """

    notebook: str
    cells: tuple[CellRun, ...]
    written: Mapping[str, Written] = field(default_factory=dict)

    @property
    def failed(self) -> CellRun | None:
        """The cell that did not pass; there is at most one, for it ends the run."""
        return next((run for run in self.cells if run.failure), None)

    @property
    def passed(self) -> bool:
        """Did no cell fail?"""
        return self.failed is None

    @property
    def seconds(self) -> float:
        """The time spent in cells."""
        return sum(run.seconds for run in self.cells)


# %% weigh
def weigh(step: Step, done: Execution) -> CellRun:
    """Return the run of a step: what was executed against what was expected."""
    status, failure = done.status, done.failure
    if step.raises is not None and status is Status.FAILED and failure:
        if not step.raises or failure.name in step.raises:
            status, failure = Status.PASSED, None
        else:
            message = f"{failure.value} (expected: {' or '.join(step.raises)})"
            failure = Failure(failure.name, message, failure.traceback, failure.line)
    elif status is Status.FAILED and failure and failure.name in step.may_raise:
        status, failure = Status.PASSED, None
    elif step.raises and status is Status.PASSED:
        expected = " or ".join(step.raises)
        failure = Failure("NotRaised", f"expected {expected}, and nothing was raised")
        status = Status.FAILED
    if done.noticed and not failure:
        status, failure = Status.FAILED, done.noticed
    return CellRun(step.cell, status, done.outputs, done.seconds, failure)


# %% Runner
SOON = 2.0  # seconds a kernel has to end by itself when nobody asks what it left


class Runner:
    """Runs a notebook's steps in order, in one kernel, as far as it is asked."""

    def __init__(
        self, notebook: Notebook, policy: Policy, before: Sequence[Step] = ()
    ) -> None:
        self.notebook = notebook
        self.policy = policy
        self.steps = (*before, *plan_notebook(notebook, policy))
        asked = [step for step in self.steps if not step.skip]
        self.last = asked[-1] if asked else None
        self.runs: list[CellRun] = []
        self.failures: Counter[int] = Counter()  # of each step
        self.kernel: Kernel | None = None
        self.lookout: Lookout | None = None
        self.begun: dict[str, float] = {}
        self.written: dict[str, Written] = {}  # among the sources
        self.files = b""  # what the last kernel has read
        self.supply = Supply()

    @property
    def root(self) -> str:
        """The folder below which the kernel notes what it reads; or nothing."""
        return str(self.policy.root) if self.policy.observe else ""

    @property
    def folder(self) -> Path:
        """Where the kernel works: the notebook's folder."""
        return (self.policy.root / self.notebook.name).parent

    @cached_property
    def warmth(self) -> Warmth:
        """What of the project's wishes for kernels is for this notebook."""
        sources = [step.source for step in self.steps]
        places = [self.folder, *self.policy.paths]
        return fit_warmth(self.policy.warmth, sources, places)

    @property
    def failed(self) -> CellRun | None:
        """The cell that did not pass, if there has been one."""
        return self.runs[-1] if self.runs and self.runs[-1].failure else None

    @property
    def is_complete(self) -> bool:
        """Has every step been run, but for skipped ones that nobody asked for?"""
        return all(step.skip for step in self.steps[len(self.runs) :])

    async def run_to(self, index: int) -> None:
        """Run the steps up to that index and including it, or up to a failure.

        Raises `KernelError` if there is no kernel to run them in.
        """
        while len(self.runs) <= index and not self.failed:
            place = len(self.runs)
            run = await self.run_step(self.steps[place])
            self.failures[place] += bool(run.failure)
            if run.failure and self.failures[place] < self.steps[place].flaky:
                await self.restart()
            else:
                tries = self.failures[place] + (not run.failure)
                self.runs.append(replace(run, tries=tries))

    async def run_step(self, step: Step) -> CellRun:
        """Run one step in the kernel, which is started if it is the first."""
        if step.skip:
            return CellRun(step.cell, Status.SKIPPED, reason=step.skip)
        kernel = await self.open()
        self.begun[step.cell] = time.time()
        done = await kernel.execute(step.source, step.timeout, step.cell)
        run = weigh(step, done)
        if step is self.last and not run.failure:
            left = await self.end(self.policy.strict.end_timeout)
            run = replace(run, status=Status.FAILED, failure=left) if left else run
        return run

    async def open(self) -> "Kernel":
        """Return the kernel, which is started if there is none."""
        if self.kernel is None:
            try:
                self.kernel = await self.supply.get(self.order)
            except LitmlError as error:
                error.at = error.at or Location(self.notebook.name)
                raise
            where = self.policy.root, self.policy.sources, self.notebook.name
            self.lookout = Lookout(*where)
            if self.root:
                self.lookout.listen(self.kernel.home)
            await self.run_hidden(self.kernel, self.policy.opening)
        return self.kernel

    @property
    def order(self) -> Order:
        """What the kernel has to be: the one that the notebook names, in its folder."""
        asked = [step.gpu for step in self.steps if step.gpu is not None]
        return Order(
            self.folder,
            self.notebook.kernel,
            self.policy.paths,
            self.policy.startup,
            self.warmth,
            "\n".join(step.source for step in self.steps),
            self.policy.strict,
            self.root,
            (0 if 0 in asked else max(asked)) if asked else None,
        )

    def prepare(self) -> None:
        """Have a kernel started before it is needed, if it is one that takes time."""
        if self.kernel is None and self.last and not self.runs:
            self.supply.prepare(self.order)

    async def run_hidden(self, kernel: "Kernel", codes: Sequence[str]) -> None:
        """Run code of ours in the kernel, if it speaks Python; what fails is let be."""
        for code in codes:
            if self.notebook.language == "python" and not kernel.busy:
                await kernel.execute(code, self.policy.startup, hidden=True)

    async def restart(self) -> None:
        """End the kernel and begin again, but remember what has failed."""
        failures = self.failures
        await self.close()
        self.failures = failures

    async def end(self, ending: float = SOON) -> Failure | None:
        """End the kernel, within about `ending` seconds; return what it left undone."""
        kernel, self.kernel = self.kernel, None
        if kernel is None:
            return None
        try:
            await self.run_hidden(kernel, self.policy.closing)
            if kernel.busy and self.policy.closing:
                await kernel.terminate()
        finally:
            failure = await kernel.close(ending)
            self.files = kernel.files
            self.supply.leave()
            self.look_out()
        if self.written and not failure and self.policy.strict.written_files:
            cell = next(iter(self.written.values())).cell
            failure = Failure("WroteFiles", describe_written(self.written), cell=cell)
        return failure

    def look_out(self) -> None:
        """Note which files were written while the kernel ran."""
        lookout, self.lookout = self.lookout, None
        found = lookout.close(self.begun) if lookout else {}
        for path, one in found.items():
            self.written[path.relative_to(self.policy.root).as_posix()] = one

    async def close(self) -> None:
        """End the kernel if it has not ended, and forget what has been run."""
        try:
            await self.end()
            await self.supply.drop()
        finally:
            self.runs, self.failures = [], Counter()


# %% run_async
async def run_async(
    notebook: Notebook,
    policy: Policy,
    tell: Callable[[CellRun], None] = lambda run: None,
) -> NotebookRun:
    """Run a whole notebook; `tell` is called after each cell.

    Raises `LitmlError` if it cannot be run at all; a failing cell is a result.
    """
    runner = Runner(notebook, policy)
    try:
        for index in range(len(runner.steps)):
            await runner.run_to(index)
            if len(runner.runs) > index:
                tell(runner.runs[index])
        runs, failed = list(runner.runs), runner.failed
    finally:
        await runner.close()
    for step in runner.steps[len(runs) :]:
        reason = f"an earlier cell failed: {failed.cell}" if failed else ""
        runs.append(CellRun(step.cell, Status.NOT_RUN, reason=reason))
    return NotebookRun(notebook.name, tuple(runs), runner.written)


# %% run_notebook
def run_notebook(
    notebook: Notebook,
    policy: Policy,
    tell: Callable[[CellRun], None] = lambda run: None,
) -> NotebookRun:
    """Do what `run_async` does, and wait for it."""
    from litml.kernel import Loop

    with Loop() as loop:
        return loop.run(run_async(notebook, policy, tell))


# ## Telling what went wrong
# %% describe_failure
def describe_failure(notebook: str, source: str, run: CellRun) -> str:
    """Return the report on a cell that failed, of which `source` is the text."""
    failure = run.failure
    if failure is None:
        raise ValueError(f"cell {run.cell} did not fail")
    elsewhere = failure.cell not in ("", run.cell)
    at = Location(notebook, failure.cell or run.cell, failure.line)
    listing = "" if elsewhere else list_source(source, failure.line)
    parts = [f"{failure}\n  at {at}", listing, failure.traceback]
    return "\n\n".join(part for part in parts if part)


# %% list_source
def list_source(source: str, line: int | None, around: int = 10) -> str:
    """Return numbered lines of a cell, the one at fault marked; long cells are cut."""
    lines = source.splitlines()
    middle = line or 1
    shown = range(max(1, middle - around), min(len(lines), middle + around) + 1)
    return "\n".join(
        f"{'>' if number == line else ' '} {number:3}  {lines[number - 1]}".rstrip()
        for number in shown
    )
