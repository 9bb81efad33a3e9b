# Exported from nbs/19g_docs_commands.ipynb. Edit either side, then run `litml sync`.
"""`litml docs`: the site of a project, from its notebooks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from litml.console import FAULT, FINE, PROBLEMS, Progress, add_json, print_error

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from litml.project import Project
    from litml.site import Plan, SiteReport

__all__ = [
    "add_docs",
    "run_docs",
    "make_plan",
    "current_version",
    "tell",
    "as_tree",
]


# ## docs
# %% add_docs
def add_docs(parser: ArgumentParser) -> None:
    """Add the arguments of `litml docs`."""
    parser.add_argument(
        "--out", default="", metavar="FOLDER", help="default: _site, or as configured"
    )
    parser.add_argument(
        "--to",
        choices=["mkdocs", "sphinx", "quarto"],
        help="write sources for another engine instead, into _mkdocs and so on",
    )
    parser.add_argument(
        "--version",
        default="",
        metavar="VERSION",
        help="build this version into a folder of its own, as 1.2, or dev",
    )
    parser.add_argument(
        "--offline", action="store_true", help="for pages opened from a disk"
    )
    parser.add_argument(
        "--strict", action="store_true", help="a dead link is an error, too"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=0,
        metavar="N",
        help="processes; default: one a core",
    )
    add_json(parser)


# %% run_docs
def run_docs(arguments: Namespace) -> int:
    """Build the site; say what is wrong with the notebooks."""
    from importlib.util import find_spec

    from litml.notebook import LitmlError
    from litml.project import find_project
    from litml.site import build_site

    project = find_project()
    needed = ("markdown_it", "mdit_py_plugins", "pygments", "nh3", "griffe")
    if missing := [name for name in needed if find_spec(name) is None]:
        hint = "install the extra: pip install 'litml[docs]'"
        print_error(LitmlError(f"`{missing[0]}` is not installed", hint=hint))
        return FAULT
    progress = Progress("docs")
    plan = make_plan(project, arguments)
    try:
        if arguments.to:
            from litml.trees import write_tree

            report = write_tree(plan, arguments.to, progress)
        else:
            report = build_site(plan, progress)
    finally:
        progress.clear()
    return tell(report, arguments)


def make_plan(project: Project, arguments: Namespace) -> Plan:
    """Return what is to be built."""
    from litml.docs_settings import read_docs_settings
    from litml.site import Plan
    from litml.versions import folder_of

    settings = read_docs_settings(project)
    version = arguments.version
    default = f"_{arguments.to}" if arguments.to else settings.out
    return Plan(
        project,
        settings,
        project.root / (arguments.out or default),
        version or current_version(project),
        folder_of(version) if version else "",
        arguments.offline,
        arguments.jobs,
    )


def current_version(project: Project) -> str:
    """Return the version that the project has now; empty if it tells none."""
    from litml.version import VersionError, find_version_file, read_version

    try:
        file = find_version_file((project.root / "pyproject.toml").read_text("utf-8"))
        return read_version((project.root / file).read_text("utf-8"), file)
    except (OSError, VersionError):
        return ""


# %% tell
def tell(report: SiteReport, arguments: Namespace) -> int:
    """Print what a build did and found; return the exit code."""
    wrong = [*report.problems, *(report.findings if arguments.strict else ())]
    if arguments.json:
        import json

        print(json.dumps(as_tree(report)))
        return PROBLEMS if wrong else FINE
    for problem in report.problems:
        print_error(problem)
    label = "error" if arguments.strict else "warning"
    for finding in report.findings:
        print(f"{label}: {finding}", file=sys.stderr)
    changed = f"{len(report.written)} files written, {len(report.removed)} removed"
    print(f"{report.pages} pages, {report.rendered} rendered; {changed}")
    return PROBLEMS if wrong else FINE


def as_tree(report: SiteReport) -> dict[str, object]:
    """Return a report for `--json`."""
    problems = [(one.message, one.at) for one in report.problems]
    findings = [(one.message, one.at) for one in report.findings]
    return {
        "pages": report.pages,
        "rendered": report.rendered,
        "written": report.written,
        "removed": report.removed,
        "problems": [{"message": m, "at": str(at)} for m, at in problems],
        "findings": [{"message": m, "at": str(at)} for m, at in findings],
    }
