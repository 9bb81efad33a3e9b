# Exported from nbs/19f_release_commands.ipynb. Edit either side, then run `litml sync`.
"""The commands at the two ends of a project's life: new and build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from litml.console import FINE, Progress

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["add_new", "run_new", "add_build", "run_build"]


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
    from litml.build import build_project

    project = find_project()
    progress = Progress("build")
    try:
        artifacts = build_project(project, arguments.isolation, progress.say)
    finally:
        progress.clear()
    for one in artifacts:
        print(f"built {project.name_of(one.path)}, sha256 {one.sha256}")
    return FINE
