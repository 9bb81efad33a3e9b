# Exported from nbs/19c_export_commands.ipynb. Edit either side, then run `litml sync`.
"""The commands around the package: export, watch, check and adopt."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from litml.console import FINE, PROBLEMS, Progress, add_json, print_error

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from litml.package import ExportReport

__all__ = ["add_watch", "run_watch"]


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
def add_watch(parser: ArgumentParser) -> None:
    """Add the arguments of `litml watch`."""
    parser.add_argument(
        "--clean",
        action="store_true",
        help="clean notebooks, too, but for what their cells show",
    )


def run_watch(arguments: Namespace) -> int:
    """Export after every save of a notebook, until interrupted."""
    from litml.git import settle
    from litml.package import watch_project
    from litml.project import find_project
    from litml.server import clean_file

    project = find_project()
    cleans = getattr(arguments, "clean", False)  # `export --watch` has no such option

    def tend(paths: list[Path]) -> None:
        for path in paths if cleans else ():
            clean_file(path, project)
        settle(project.root, paths)

    print(f"watching {project.config.notebooks}/ (Ctrl-C ends it)", flush=True)
    for report in watch_project(project, saved=tend):
        show_report(report, check=False, as_json=False)
        sys.stdout.flush()
    return FINE


# ## check
# %% add_check
def add_check(parser: ArgumentParser) -> None:
    """Add the arguments of `litml check`."""
    from argparse import BooleanOptionalAction

    parser.add_argument(
        "--examples",
        action=BooleanOptionalAction,
        help="type-check cells that are not exported, too; default: as configured",
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
        "package",
        nargs="?",
        default="",
        metavar="PACKAGE",
        help="its folder; default: by the project",
    )
    parser.add_argument(
        "--tests", default="", metavar="DIR", help="place tests found there as examples"
    )
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave these be",
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
