# Exported from nbs/20_cli.ipynb. Edit either side, then run `litml sync`.
"""Turn what a person types into a call, and what comes back into lines and an exit
code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import litml
from litml.console import (
    FAULT,
    FINE,
    PROBLEMS,
    Command,
    Progress,
    add_json,
    exit_code,
    print_error,
)
from litml.edit_commands import (
    add_apply,
    add_cell,
    add_show,
    add_sync,
    run_apply,
    run_cell,
    run_show,
    run_sync,
)
from litml.notebook import LitmlError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from litml.package import ExportReport
    from litml.project import Project
    from litml.run import Policy

__all__ = ["add_new", "run_new", "add_build", "run_build", "main"]


# ## export, watch
# %% add_export
def add_export(parser: ArgumentParser) -> None:
    """Add the arguments of `litml export`."""
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if something would"
    )
    parser.add_argument(
        "--force", action="store_true", help="overwrite modules that were edited"
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="write the modules below DIR instead"
    )
    parser.add_argument(
        "--watch", action="store_true", help="export again after every save"
    )
    add_json(parser)


# %% run_export
def run_export(arguments: Namespace) -> int:
    """Export the project's notebooks to its package."""
    from litml.package import export_project
    from litml.project import ConfigError, find_project

    project = find_project()
    if project.nbdev and not arguments.out:
        hint = "`litml export --out DIR` writes the modules elsewhere"
        raise ConfigError("this project is configured for nbdev", hint=hint)
    if arguments.watch:
        return run_watch(arguments)
    progress = Progress("export")
    report = export_project(
        project,
        target=arguments.out,
        check=arguments.check,
        force=arguments.force,
        progress=progress,
    )
    progress.clear()
    return show_report(report, check=arguments.check, as_json=arguments.json)


# %% show_report
def show_report(report: ExportReport, *, check: bool, as_json: bool) -> int:
    """Print what an export did and return its exit code."""
    errors = [*report.problems, *report.stale]
    written = [] if report.problems else report.written
    if as_json:
        import json

        key = "outdated" if check else "written"
        found = [str(error) for error in errors]
        print(json.dumps({key: list(written), "problems": found}))
    else:
        for note in report.notes:
            print(f"note: {note}", file=sys.stderr)
        for error in errors:
            print_error(error)
        for name in written:
            print(f"{'out of date' if check else 'wrote'}: {name}")
        if check and written:
            print("hint: run `litml export`", file=sys.stderr)
    return PROBLEMS if errors or (check and written) else FINE


# %% run_watch
def run_watch(arguments: Namespace) -> int:
    """Export after every save of a notebook, until interrupted."""
    from litml.package import watch_project
    from litml.project import find_project

    project = find_project()
    print(f"watching {project.config.notebooks}/ (Ctrl-C ends it)", flush=True)
    for report in watch_project(project):
        show_report(report, check=False, as_json=False)
        sys.stdout.flush()
    return FINE


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


# ## check
# %% add_check
def add_check(parser: ArgumentParser) -> None:
    """Add the arguments of `litml check`."""
    from argparse import BooleanOptionalAction

    parser.add_argument(
        "--examples",
        action=BooleanOptionalAction,
        default=True,
        help="type-check cells that are not exported, too",
    )
    add_json(parser)


def run_check(arguments: Namespace) -> int:
    """Check the export, and run the linters that the project has configured."""
    from litml.check import check_project
    from litml.project import find_project

    progress = Progress("check")
    report = check_project(
        find_project(), examples=arguments.examples, tell=progress.say
    )
    progress.clear()
    if arguments.json:
        import json

        found = [
            {"tool": one.tool, "code": one.code, "message": one.message}
            | {"at": str(one.at), "severity": one.severity}
            for one in report.findings
        ]
        print(json.dumps({"findings": found, "tools": list(report.tools)}))
    else:
        for one in report.findings:
            print(one)
    return PROBLEMS if report.failed else FINE


# ## adopt
# %% add_adopt
def add_adopt(parser: ArgumentParser) -> None:
    """Add the arguments of `litml adopt`."""
    parser.add_argument(
        "package", nargs="?", default="", help="its folder; default: by the project"
    )
    parser.add_argument(
        "--tests", default="", metavar="DIR", help="place tests found there as examples"
    )
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN", help="leave alone"
    )
    parser.add_argument("--dry-run", action="store_true", help="write nothing")
    parser.add_argument(
        "--from-nbdev", action="store_true", help="take over a project made with nbdev"
    )
    parser.add_argument(
        "--force", action="store_true", help="with --from-nbdev: drop edits of modules"
    )


# %% run_adopt
def run_adopt(arguments: Namespace) -> int:
    """Make notebooks of a package."""
    if arguments.from_nbdev:
        return run_take_over(arguments)
    from litml.adopt import adopt_package

    report = adopt_package(
        Path.cwd(),
        arguments.package,
        tests=arguments.tests,
        exclude=arguments.exclude,
        dry_run=arguments.dry_run,
    )
    for name in report.notebooks:
        print(f"{'would write' if arguments.dry_run else 'wrote'}: {name}")
    for name, reason in report.left:
        print(f"left alone: {name}, {reason}")
    for name, note in report.notes:
        print(f"note: {name}, {note}", file=sys.stderr)
    return FINE


def run_take_over(arguments: Namespace) -> int:
    """Make a litml project of an nbdev project, in place."""
    from litml.takeover import take_over

    dry = arguments.dry_run
    report = take_over(Path.cwd(), dry_run=dry, force=arguments.force)
    for name in report.written:
        print(f"{'would write' if dry else 'wrote'}: {name}")
    for name in report.removed:
        print(f"{'would remove' if dry else 'removed'}: {name}")
    for change in report.changes:
        print(f"{'would change' if dry else 'changed'}: {change}")
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    return FINE


# ## new, build
# %% add_new
def add_new(parser: ArgumentParser) -> None:
    """Add the arguments of `litml new`."""
    parser.add_argument("name", metavar="NAME", help="such as my-lib; also the folder")
    parser.add_argument(
        "--template", default="package", metavar="TEMPLATE", help="default: package"
    )
    parser.add_argument("--description", default="", metavar="TEXT", help="a sentence")
    parser.add_argument("--author", default="", help="default: as in git")
    parser.add_argument("--email", default="", help="default: as in git")
    parser.add_argument("--yes", action="store_true", help="ask nothing")


# %% run_new
def run_new(arguments: Namespace) -> int:
    """Make a project from a template, in a folder of its name."""
    from litml.new import find_answers, new_project

    name, description = arguments.name, arguments.description
    answers = find_answers(name, description, arguments.author, arguments.email)
    files = new_project(Path(name), answers, arguments.template)
    print(f"made {name}: {len(files)} files, by {answers.author}")
    print(f"next: cd {name}; pip install -e '.[dev]'; pytest")
    return FINE


# %% add_build
def add_build(parser: ArgumentParser) -> None:
    """Add the arguments of `litml build`."""
    from argparse import BooleanOptionalAction

    parser.add_argument(
        "--isolation",
        action=BooleanOptionalAction,
        help="give the build back end an environment of its own; default: if needed",
    )


# %% run_build
def run_build(arguments: Namespace) -> int:
    """Build sdist and wheel into `dist/`, once the wheel is proven."""
    from litml.project import find_project
    from litml.release import build_project

    project = find_project()
    progress = Progress("build")
    try:
        artifacts = build_project(project, arguments.isolation, progress.say)
    finally:
        progress.clear()
    for one in artifacts:
        print(f"built {project.name_of(one.path)}, sha256 {one.sha256}")
    return FINE


# ## From words to a call
# %% add_completion
def add_completion(parser: ArgumentParser) -> None:
    """Add the arguments of `litml completion`."""
    parser.add_argument("shell", choices=["bash", "zsh", "tcsh"])


# %% run_completion
def run_completion(arguments: Namespace) -> int:
    """Print the completion script for a shell."""
    import shtab

    print(shtab.complete(make_parser(), shell=arguments.shell))
    return FINE


# %% COMMANDS
def add_nothing(parser: ArgumentParser) -> None:
    """Add no arguments."""


COMMANDS = {
    "export": Command("write the package from the notebooks", add_export, run_export),
    "watch": Command("export after every save", add_nothing, run_watch),
    "sync": Command("bring edits of modules home to notebooks", add_sync, run_sync),
    "show": Command("print a notebook as text", add_show, run_show),
    "apply": Command("take an edited text view back", add_apply, run_apply),
    "cell": Command("show or edit one cell, by its id", add_cell, run_cell),
    "check": Command("all that a CI asks", add_check, run_check),
    "test": Command("run the tests, notebooks included", add_test, run_test),
    "run": Command("execute notebooks", add_run, run_run),
    "adopt": Command("make notebooks of a package", add_adopt, run_adopt),
    "new": Command("make a project from a template", add_new, run_new),
    "build": Command("build sdist and wheel, and prove them", add_build, run_build),
    "completion": Command("print a completion script", add_completion, run_completion),
}


# %% make_parser
def make_parser(only: str | None = None) -> ArgumentParser:
    """Return the parser of all commands, or of `only` the one that was asked for."""
    from argparse import ArgumentParser

    parser = ArgumentParser(prog="litml", description=litml.__doc__)
    parser.add_argument("--version", action="version", version=litml.__version__)
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        if only in (None, name):
            inner = commands.add_parser(
                name, help=command.help, description=command.help
            )
            command.add(inner)
            inner.set_defaults(run=command.run)
    return parser


# %% main
def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = sys.argv[1:] if words is None else list(words)
    parser = make_parser(only=words[0] if words and words[0] in COMMANDS else None)
    if words[:1] == ["test"]:  # pytest's own options are not ours to check
        arguments, rest = parser.parse_known_args(words)
        arguments.rest = rest[1:] if rest[:1] == ["--"] else rest
    else:
        arguments = parser.parse_args(words)
    if not hasattr(arguments, "run"):
        parser.print_help(sys.stderr)
        return FAULT
    try:
        code = arguments.run(arguments)
        sys.stdout.flush()
        return int(code)
    except LitmlError as error:
        print_error(error)
        return exit_code(error)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever was reading has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
