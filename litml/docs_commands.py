# Exported from nbs/19g_docs_commands.ipynb. Edit either side, then run `litml sync`.
"""`litml docs` and `litml preview`: the site of a project, from its notebooks."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

from litml.console import FAULT, FINE, PROBLEMS, Progress, add_json, print_error

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterable
    from pathlib import Path

    from litml.links import Finding
    from litml.project import Project
    from litml.site import Plan, SiteReport

__all__ = [
    "add_docs",
    "run_docs",
    "is_installed",
    "make_plan",
    "current_version",
    "tell",
    "list_findings",
    "as_tree",
    "add_preview",
    "run_preview",
    "preview_plan",
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
    from litml.project import find_project

    project = find_project()
    if not is_installed():
        return FAULT
    from litml.site import build_site

    gc.set_threshold(50_000, 20, 50)
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


def is_installed() -> bool:
    """Is there all that renders pages? If not, that is told."""
    from importlib.util import find_spec

    from litml.notebook import LitmlError

    needed = ("markdown_it", "mdit_py_plugins", "pygments", "nh3", "griffe")
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        hint = "install the extra: pip install 'litml[docs]'"
        print_error(LitmlError(f"`{missing[0]}` is not installed", hint=hint))
    return not missing


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
    for text in list_findings(report.findings):
        print(f"{label}: {text}", file=sys.stderr)
    changed = f"{len(report.written)} files written, {len(report.removed)} removed"
    print(f"{report.pages} pages, {report.rendered} rendered; {changed}")
    return PROBLEMS if wrong else FINE


def list_findings(findings: Iterable[Finding]) -> list[str]:
    """Return what to tell of findings: each once, with all the places it is at."""
    places: dict[tuple[str, str], str] = {}
    for one in findings:
        key = one.message, f"\n  hint: {one.hint}" if one.hint else ""
        places[key] = f"{places.get(key, '')}\n  at {one.at}"
    return [f"{message}{where}{hint}" for (message, hint), where in places.items()]


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


# ## preview
# %% run_preview
def add_preview(parser: ArgumentParser) -> None:
    """Add the arguments of `litml preview`."""
    parser.add_argument(
        "--port", type=int, default=0, metavar="N", help="default: any that is free"
    )
    parser.add_argument(
        "--open", action="store_true", help="open the front page in a browser"
    )
    parser.add_argument(
        "--no-export",
        action="store_true",
        help="leave the package as it is; cards then follow `litml export`",
    )


def run_preview(arguments: Namespace) -> int:
    """Show the documentation until interrupted."""
    from litml.project import find_project

    root = find_project().root
    if not is_installed():
        return FAULT
    from litml.preview import preview

    def ready(url: str) -> None:
        print(f"{url}\n(Ctrl-C ends it)", flush=True)
        if arguments.open:
            import webbrowser

            webbrowser.open(url)

    try:
        preview(
            lambda: preview_plan(root),
            port=arguments.port,
            exports=not arguments.no_export,
            ready=ready,
        )
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return FINE


def preview_plan(root: Path) -> Plan:
    """Return what is to be shown; raises `ConfigError` if the settings are wrong."""
    from litml.docs_settings import read_docs_settings
    from litml.project import ConfigError, find_project
    from litml.site import Plan

    project = find_project(root)
    if project.root != root:
        raise ConfigError("there is no `[tool.litml]` in pyproject.toml any more")
    settings = read_docs_settings(project)
    return Plan(project, settings, root / settings.out, current_version(project))
