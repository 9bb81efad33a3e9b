# Exported from nbs/19d_run_commands.ipynb. Edit either side, then run `litml sync`.
"""The commands that execute notebooks: test and run."""

from __future__ import annotations

import os
import sys
from math import inf
from pathlib import Path
from signal import SIGINT
from typing import TYPE_CHECKING

from litml.console import FAULT, FINE, PROBLEMS, Progress

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from pytest import Config, ExceptionInfo

    from litml.early import Early
    from litml.jobs import Job
    from litml.notebook import Notebook
    from litml.project import Project
    from litml.run import CellRun, Policy

__all__ = []


# ## test, run
# %% add_test
def add_test(parser: ArgumentParser) -> None:
    """Add the arguments of `litml test`."""
    parser.add_argument(
        "--needs", metavar="WORDS", help="run cells that need network, slow, or a flag"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="time limit of a cell"
    )
    parser.add_argument(
        "--jobs",
        default="",
        metavar="N",
        help="run N notebooks at once; `auto` for one a core",
    )
    parser.add_argument(
        "--artifacts", metavar="DIR", help="keep executed copies of what fails"
    )
    parser.add_argument(
        "--all", action="store_true", help="run also what has passed and not changed"
    )
    parser.add_argument(
        "--since", default="", metavar="REV", help="only what changes since REV affect"
    )
    parser.add_argument(
        "--shard", default="", metavar="K/N", help="only the K-th of N equal shares"
    )
    parser.add_argument(
        "--store", default="", metavar="DIR", help="where results are kept"
    )
    parser.add_argument(
        "-p",
        dest="short",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a parameter of notebooks; without `=` it is pytest's own -p",
    )
    parser.epilog = "All else is handed to pytest: paths, ids and its own options."


# %% run_test
def run_test(arguments: Namespace) -> int:
    """Run the project's tests, notebooks included, with pytest."""
    from litml.project import find_project
    from litml.testing import Wishes, is_due, pytest_words, read_testing

    project, copies = find_project(), arguments.artifacts
    wishes = Wishes(
        needs=arguments.needs or "",
        timeout=arguments.timeout,
        jobs=arguments.jobs,
        artifacts=str(Path(copies).absolute()) if copies else "",
        everything=arguments.all,
        since=arguments.since,
        shard=arguments.shard,
        store=str(Path(arguments.store).absolute()) if arguments.store else "",
        short=tuple(arguments.short),
        rest=tuple(arguments.rest),
    )
    testing = read_testing(project)
    words = pytest_words(testing, wishes)
    os.environ["LITML_PROJECT"] = str(project.root)
    start = find_start(arguments.rest, project.root)
    early = start_early(project) if is_due(project, testing, wishes, start) else None
    try:
        code = run_pytest(words, start, early)
    finally:
        if early:
            early.close()
    return {0: FINE, 1: PROBLEMS, 5: PROBLEMS, -SIGINT: 130}.get(code, FAULT)


def start_early(project: Project) -> Early | None:
    """Have a fork server import while pytest does, where the project wants one."""
    from litml.early import Early, can_fork

    is_wanted = project.config.tables.get("kernel", {}).get("warm", True)
    try:
        return Early(os.environ) if can_fork() and is_wanted else None
    except OSError:  # then somebody else will say why there is none
        return None


# %% find_start
def find_start(words: list[str], root: Path) -> Path:
    """Return the folder to start pytest in: this one if a word is a path in it."""
    from litml.testing import list_paths

    return Path.cwd() if list_paths(words) else root


# %% run_pytest
class GoBetween:
    """A plug-in: pytest is told of a server, and tells who has ended the run."""

    def __init__(self, early: Early | None) -> None:
        self.early = early
        self.interrupted = False  # by a person, and not by pytest

    def pytest_configure(self, config: Config) -> None:
        """Hand over the server that was started early; pytest calls this."""
        if self.early:
            config.pluginmanager.register(self.early, "litml-early")

    def pytest_keyboard_interrupt(self, excinfo: ExceptionInfo[BaseException]) -> None:
        """Note why pytest stops; pytest calls this."""
        self.interrupted = isinstance(excinfo.value, KeyboardInterrupt)


def run_pytest(words: list[str], folder: Path, early: Early | None) -> int:
    """Run pytest in a folder, to its end, and return its exit code."""
    import gc

    import pytest

    os.chdir(folder)
    sys.path[0] = str(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "litml"]:
        del sys.modules[name]
    gc.freeze()  # for pytest looks for garbage five times at its end; not in itself
    between = GoBetween(early)
    code = pytest.main(words, plugins=[between])
    return -SIGINT if between.interrupted else int(code)


# %% add_run
def add_run(parser: ArgumentParser) -> None:
    """Add the arguments of `litml run`."""
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument(
        "--inplace", action="store_true", help="write the outputs into the notebook"
    )
    parser.add_argument(
        "-p",
        dest="params",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a parameter; with -o it may be given several values, for a sweep",
    )
    parser.add_argument(
        "-o",
        "--out",
        type=Path,
        metavar="DIR",
        help="keep executed copies, reported metrics and the environment in DIR",
    )
    parser.add_argument(
        "-j", "--jobs", type=int, default=1, metavar="N", help="run N at the same time"
    )
    parser.add_argument(
        "--resume", action="store_true", help="with -o: only what has not passed yet"
    )
    parser.add_argument(
        "--force", action="store_true", help="with -o: replace results that are there"
    )
    parser.add_argument(
        "--needs", default="", metavar="WORDS", help="as for `litml test`"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="time limit of a cell; with -o there is none by itself",
    )


# %% run_run
def run_run(arguments: Namespace) -> int:
    """Execute notebooks in kernels of their own."""
    if arguments.out:
        return run_jobs(arguments)
    from litml.cells import split_words
    from litml.project import find_project
    from litml.run import make_policy

    project = find_project(arguments.notebooks[0].resolve().parent)
    policy = make_policy(project, split_words(arguments.needs))
    if arguments.timeout is not None:
        from dataclasses import replace

        policy = replace(policy, timeout=arguments.timeout)
    codes = [run_one(path, arguments, policy, project) for path in arguments.notebooks]
    return max(codes)


# %% run_one
def run_one(path: Path, arguments: Namespace, policy: Policy, project: Project) -> int:
    """Execute one notebook, print its verdict, and keep what was asked for."""
    from litml.files import Transaction, locked, state_dir
    from litml.git import settle
    from litml.run import describe_failure, run_notebook
    from litml.saving import save_outputs
    from litml.written import describe_written

    notebook = open_notebook(path, project)
    if arguments.params:
        notebook = fill_notebook(notebook, arguments)
    progress = Progress(notebook.name)
    run = run_notebook(notebook, policy, lambda done: progress.say(done.cell))
    progress.clear()
    if run.written:
        print(f"{notebook.name}: {describe_written(run.written)}", file=sys.stderr)
    if arguments.inplace and run.passed:
        state = state_dir(project.root)
        with locked(state), Transaction(state) as transaction:
            transaction.stage(path, save_outputs(notebook, run).to_bytes())
            transaction.commit({path: notebook.raw})
        settle(project.root, [path.resolve()])
    if run.failed is None:
        print(f"passed: {notebook.name}, {len(run.cells)} cells")
        return FINE
    source = {cell.id: cell.source for cell in notebook.cells}[run.failed.cell]
    print(describe_failure(notebook.name, source, run.failed), file=sys.stderr)
    return PROBLEMS


# %% open_notebook
def open_notebook(path: Path, project: Project) -> Notebook:
    """Read a notebook of any form."""
    from litml.text import read_source

    return read_source(path, project.name_of(path.resolve()))


def fill_notebook(notebook: Notebook, arguments: Namespace) -> Notebook:
    """Return the notebook with the parameters of the command line."""
    from litml.params import check_words, inject_values
    from litml.project import ConfigError

    if arguments.inplace:
        hint = "keep a copy instead, with `-o DIR`"
        raise ConfigError("`-p` does not go with `--inplace`", hint=hint)
    return inject_values(notebook, check_words(notebook, arguments.params))


# %% run_jobs
def run_jobs(arguments: Namespace) -> int:
    """Run notebooks as jobs, and show the table of their results."""
    from dataclasses import replace

    from litml.cells import split_words
    from litml.jobs import choose_jobs, plan_jobs, run_sweep
    from litml.kernel import Loop
    from litml.project import find_project
    from litml.run import make_policy

    project = find_project(arguments.notebooks[0].resolve().parent)
    policy = make_policy(project, split_words(arguments.needs))
    limit = inf if arguments.timeout is None else arguments.timeout
    policy = replace(policy, timeout=limit)
    notebooks = [open_notebook(path, project) for path in arguments.notebooks]
    out, words = arguments.out, arguments.params
    jobs = [job for one in notebooks for job in plan_jobs(one, words, out)]
    done = choose_jobs(jobs, resume=arguments.resume, force=arguments.force)
    progress = Progress("run")

    def tell(job: Job, run: CellRun) -> None:
        progress.say(f"{job.folder.relative_to(out)}: {run.cell}")

    left = [job for job in jobs if job.folder not in done]
    try:
        with Loop() as loop:
            loop.run(run_sweep(left, policy, tell, arguments.jobs))
    finally:
        progress.clear()
        passed = show_jobs(jobs, out)
    return FINE if passed else PROBLEMS


def show_jobs(jobs: list[Job], out: Path) -> bool:
    """Print the table of all jobs, and the reports on those that failed."""
    from litml.jobs import JobResult, align_table, make_table, read_result, write_table

    results = [
        read_result(job) or JobResult(job.values, status="not run") for job in jobs
    ]
    for result in results:
        if result.reason:
            print(result.reason, end="\n\n", file=sys.stderr)
    table = make_table(jobs, results)
    write_table(table, out / "results.csv")
    print(align_table(table))
    return all(result.status == "passed" for result in results)
