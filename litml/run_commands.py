# Exported from nbs/19d_run_commands.ipynb. Edit either side, then run `litml sync`.
"""The commands that execute notebooks: test and run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from litml.console import FAULT, FINE, PROBLEMS, Progress

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from litml.project import Project
    from litml.run import Policy

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
    parser.epilog = "All else is handed to pytest: paths, ids and its own options."


# %% run_test
def run_test(arguments: Namespace) -> int:
    """Run the project's tests, notebooks included, with pytest."""
    import subprocess

    from litml.project import find_project

    project = find_project()
    words = [sys.executable, "-m", "pytest", *arguments.rest]
    if arguments.needs:
        words.append(f"--litml-needs={arguments.needs}")
    if arguments.timeout:
        words.append(f"--litml-timeout={arguments.timeout}")
    code = subprocess.run(words, cwd=project.root, check=False).returncode
    return {0: FINE, 1: PROBLEMS, 5: PROBLEMS}.get(code, FAULT)


# %% add_run
def add_run(parser: ArgumentParser) -> None:
    """Add the arguments of `litml run`."""
    parser.add_argument("notebooks", nargs="+", type=Path, metavar="NOTEBOOK")
    parser.add_argument(
        "--inplace", action="store_true", help="write the outputs into the notebook"
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="write the executed copy to DIR"
    )
    parser.add_argument(
        "--needs", default="", metavar="WORDS", help="as for `litml test`"
    )


# %% run_run
def run_run(arguments: Namespace) -> int:
    """Execute notebooks in kernels of their own."""
    from litml.cells import split_words
    from litml.project import find_project
    from litml.run import make_policy

    project = find_project(arguments.notebooks[0].resolve().parent)
    policy = make_policy(project, split_words(arguments.needs))
    codes = [run_one(path, arguments, policy, project) for path in arguments.notebooks]
    return max(codes)


# %% run_one
def run_one(path: Path, arguments: Namespace, policy: Policy, project: Project) -> int:
    """Execute one notebook, print its verdict, and keep what was asked for."""
    from litml.files import Transaction, locked, state_dir
    from litml.notebook import read_notebook
    from litml.run import describe_failure, run_notebook, save_outputs

    notebook = read_notebook(path, project.name_of(path.resolve()))
    progress = Progress(notebook.name)
    run = run_notebook(notebook, policy, lambda done: progress.say(done.cell))
    progress.clear()
    target = path if arguments.inplace and run.passed else None
    if arguments.out:
        target = arguments.out / path.name
    if target:
        state = state_dir(project.root)
        with locked(state), Transaction(state) as transaction:
            transaction.stage(target, save_outputs(notebook, run).to_bytes())
            transaction.commit()
    if run.failed is None:
        print(f"passed: {notebook.name}, {len(run.cells)} cells")
        return FINE
    source = {cell.id: cell.source for cell in notebook.cells}[run.failed.cell]
    print(describe_failure(notebook.name, source, run.failed), file=sys.stderr)
    return PROBLEMS
