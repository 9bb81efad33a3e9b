# Exported from nbs/11c_jobs.ipynb. Edit either side, then run `litml sync`.
"""Execute a notebook with parameters and keep the executed copy, its metrics and the
environment; sweep a grid of them.
"""

import asyncio
import itertools
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import litml
from litml.files import replace_file
from litml.git import GitError, run_git
from litml.metrics import find_metrics
from litml.notebook import LitmlError, Location, Notebook
from litml.outcome import Status
from litml.params import check_words, inject_values, label
from litml.run import (
    CellRun,
    NotebookRun,
    Policy,
    Runner,
    describe_failure,
)
from litml.saving import save_outputs

__all__ = [
    "expand_grid",
    "Job",
    "plan_jobs",
    "JobResult",
    "write_result",
    "read_result",
    "write_whole",
    "describe_environment",
    "ask_git",
    "Tell",
    "EVERY",
    "run_job",
    "judge_job",
    "list_runs",
    "keep_saving",
    "save_copy",
    "choose_jobs",
    "run_sweep",
    "make_table",
    "show_number",
    "align_table",
    "write_table",
]


# ## The grid
# %% expand_grid
def expand_grid(words: Sequence[str]) -> list[list[str]]:
    """Return the words of each job, given words such as `lr=0.1`, names repeated."""
    choices: dict[str, list[str]] = {}
    for word in words:
        choices.setdefault(word.partition("=")[0].strip(), []).append(word)
    return [list(one) for one in itertools.product(*choices.values())]


# ## A job
# %% Job
@dataclass(frozen=True, slots=True)
class Job:
    """A notebook to run with these values; what comes of it goes into `folder`."""

    notebook: Notebook
    values: Mapping[str, Any]
    folder: Path

    @property
    def copy(self) -> Path:
        """The path of the executed copy."""
        return self.folder / Path(self.notebook.name).name

    @property
    def code(self) -> list[str]:
        """The code of all cells: what has to be the same for a job to be done."""
        return [cell.source for cell in self.notebook.cells if cell.kind == "code"]


def plan_jobs(notebook: Notebook, words: Sequence[str], out: Path) -> list[Job]:
    """Return the jobs of a sweep, in order, each with a folder of its own below `out`.

    Raises `ParamsError` for a parameter that the notebook does not have, or a value
    that does not fit.
    """
    jobs: dict[Path, Job] = {}
    for chosen in expand_grid(words):
        values = check_words(notebook, chosen)
        folder = out / Path(notebook.name).stem / (label(values) or "defaults")
        same = itertools.count(2)
        while folder in jobs:
            folder = folder.with_name(f"{label(values)}-{next(same)}")
        jobs[folder] = Job(inject_values(notebook, values), values, folder)
    return list(jobs.values())


# ## Its result
# %% JobResult
@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of a job; `status` is running, passed, failed or interrupted."""

    values: Mapping[str, Any]
    status: str = "running"
    seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    code: Sequence[str] = ()


def write_result(job: Job, result: JobResult) -> None:
    """Write a job's result into its folder."""
    text = json.dumps(asdict(result), indent=1, ensure_ascii=False, default=repr)
    write_whole(job.folder / "result.json", f"{text}\n".encode())


def read_result(job: Job) -> JobResult | None:
    """Return the result that a job has left, or None if there is none to be read."""
    try:
        return JobResult(**json.loads((job.folder / "result.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one step. Raises `LitmlError` if the system does not let us."""
    try:
        replace_file(path, data)
    except OSError as error:
        message = f"cannot write: {error.strerror or error}"
        raise LitmlError(message, at=Location(str(path))) from error


# %% describe_environment
def describe_environment(root: Path) -> dict[str, Any]:
    """Return what this machine is, what is installed, and the commit of the project."""
    installed = {dist.metadata["Name"]: dist.version for dist in distributions()}
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "litml": litml.__version__,
        "commit": ask_git(root, "rev-parse", "HEAD"),
        "changed": bool(ask_git(root, "status", "--porcelain")),
        "packages": dict(sorted(installed.items(), key=lambda pair: pair[0].lower())),
    }


def ask_git(root: Path, *words: str) -> str:
    """Return what git answers, or nothing."""
    try:
        return os.fsdecode(run_git(root, *words)).strip()
    except GitError:
        return ""


# ## Running it
# %% run_job
Tell = Callable[[Job, CellRun], None]
EVERY = 2.0  # seconds between two savings of the copy


async def run_job(job: Job, policy: Policy, tell: Tell) -> JobResult:
    """Run a job and keep all that comes of it; `tell` is called after each cell.

    A failing cell is a result. Raises `LitmlError` if it cannot be run at all.
    """
    started = time.monotonic()
    result = JobResult(job.values, code=job.code)
    write_result(job, result)
    environment = json.dumps(describe_environment(policy.root), indent=1)
    write_whole(job.folder / "environment.json", f"{environment}\n".encode())
    runner = Runner(job.notebook, policy)
    saving = asyncio.create_task(keep_saving(job, runner))
    try:
        for index in range(len(runner.steps)):
            await runner.run_to(index)
            if len(runner.runs) > index:
                tell(job, runner.runs[index])
    except asyncio.CancelledError:
        result = replace(result, status="interrupted")
        raise
    else:
        result = judge_job(job, runner.runs, result)
    finally:
        saving.cancel()
        runs = list_runs(runner)
        await runner.close()
        save_copy(job, runs)
        outputs = (output for run in runs for output in run.outputs)
        seconds = round(time.monotonic() - started, 3)
        result = replace(result, seconds=seconds, metrics=find_metrics(outputs))
        write_result(job, result)
    return result


def judge_job(job: Job, runs: Sequence[CellRun], result: JobResult) -> JobResult:
    """Return the result with the verdict of the runs."""
    failed = next((run for run in runs if run.failure), None)
    if failed is None:
        return replace(result, status="passed")
    source = next(cell.source for cell in job.notebook.cells if cell.id == failed.cell)
    reason = describe_failure(job.notebook.name, source, failed)
    return replace(result, status="failed", reason=reason)


def list_runs(runner: Runner) -> list[CellRun]:
    """Return what was run, and the outputs so far of the cell that is running."""
    runs, kernel = list(runner.runs), runner.kernel
    if kernel and kernel.area and len(runs) < len(runner.steps):
        cell, outputs = runner.steps[len(runs)].cell, kernel.area.look()
        runs.append(CellRun(cell, Status.NOT_RUN, outputs, reason="it was running"))
    return runs


async def keep_saving(job: Job, runner: Runner) -> None:
    """Save the executed copy now and then; what goes wrong, the last save will say."""
    while True:
        await asyncio.sleep(EVERY)
        with suppress(LitmlError):
            save_copy(job, list_runs(runner))


def save_copy(job: Job, runs: Sequence[CellRun]) -> None:
    """Save the executed copy, as far as the job has come."""
    run = NotebookRun(job.notebook.name, tuple(runs))
    write_whole(job.copy, save_outputs(job.notebook, run).to_bytes())


# ## The sweep
# %% choose_jobs
def choose_jobs(
    jobs: Sequence[Job], *, resume: bool = False, force: bool = False
) -> dict[Path, JobResult]:
    """Return the results of the jobs that need not run, by their folders.

    Raises `LitmlError` if a job would replace the result of another run, unless
    `resume` allows it for what is not complete, or `force` for everything.
    """
    done: dict[Path, JobResult] = {}
    for job in jobs:
        known = read_result(job)
        if known is None or force:
            continue
        at = Location(str(job.folder))
        if not resume:
            hint = "`--resume` does what is missing, `--force` does all of it again"
            raise LitmlError("there is a result already", at=at, hint=hint)
        if known.status == "passed" and list(known.code) != job.code:
            hint = "choose another folder, or do it again with `--force`"
            raise LitmlError("the result is of other code", at=at, hint=hint)
        if known.status == "passed":
            done[job.folder] = known
    return done


async def run_sweep(
    jobs: Iterable[Job], policy: Policy, tell: Tell, at_once: int = 1
) -> list[JobResult]:
    """Run jobs, `at_once` of them at the same time, and return their results."""
    gate = asyncio.Semaphore(at_once)
    policy = replace(policy, observe=at_once > 1)  # to tell neighbours apart

    async def run_one(job: Job) -> JobResult:
        async with gate:
            return await run_job(job, policy, tell)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run_one(job)) for job in jobs]
    return [task.result() for task in tasks]


# ## The table
# %% make_table
def make_table(jobs: Sequence[Job], results: Sequence[JobResult]) -> list[list[str]]:
    """Return the rows of a table of results, the first of them its head."""
    names = list(dict.fromkeys(name for job in jobs for name in job.values))
    metrics = list(dict.fromkeys(name for one in results for name in one.metrics))
    head = [*names, "status", "seconds", *metrics]
    rows = [head]
    for job, result in zip(jobs, results, strict=True):
        values = [str(job.values.get(name, "")) for name in names]
        numbers = [show_number(result.metrics.get(name)) for name in metrics]
        rows.append([*values, result.status, f"{result.seconds:.1f}", *numbers])
    return rows


def show_number(value: float | None) -> str:
    """Return a metric in six digits, or nothing."""
    return "" if value is None else f"{value:.6g}"


def align_table(rows: Sequence[Sequence[str]]) -> str:
    """Return a table as lines of text, its columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in rows
    )


def write_table(rows: Sequence[Sequence[str]], path: Path) -> None:
    """Write a table as comma-separated values (RFC 4180)."""
    import csv
    import io

    text = io.StringIO()
    csv.writer(text).writerows(rows)
    write_whole(path, text.getvalue().encode())
