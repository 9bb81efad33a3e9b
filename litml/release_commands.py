# Exported from nbs/19f_release_commands.ipynb. Edit either side, then run `litml sync`.
"""The commands at the two ends of a project's life: new, build and release."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from litml.console import FAULT, FINE, PROBLEMS, Progress, print_error
from litml.notebook import LitmlError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

    from litml.preflight import Look
    from litml.project import Project
    from litml.release import Events
    from litml.stages import Release

__all__ = [
    "add_new",
    "run_new",
    "begin_git",
    "update_here",
    "add_build",
    "run_build",
    "add_release",
    "run_release",
    "choose_run",
    "said",
]


# ## new, build
# %% add_new
def add_new(parser: ArgumentParser) -> None:
    """Add the arguments of `litml new`."""
    parser.add_argument(
        "name",
        nargs="?",
        default="",
        metavar="NAME",
        help="such as my-lib; also the folder",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="bring the project you are in to the newest template",
    )
    parser.add_argument(
        "--template",
        default="package",
        metavar="TEMPLATE",
        help="package (default), course or training",
    )
    parser.add_argument("--description", default="", metavar="TEXT", help="a sentence")
    parser.add_argument("--author", default="", help="default: as in git")
    parser.add_argument("--email", default="", help="default: as in git")
    parser.add_argument(
        "--yes", action="store_true", help="for scripts; nothing is asked anyway"
    )


# %% run_new
def run_new(arguments: Namespace) -> int:
    """Make a project from a template in a folder of its name, or update one."""
    from litml.answers import NewError, find_answers
    from litml.new import new_project

    if arguments.update == bool(arguments.name):
        message = "a new project needs a name, an update is of the project you are in"
        print_error(NewError(message, hint="`litml new NAME`, or `litml new --update`"))
        return FAULT
    if arguments.update:
        return update_here()
    name, description = arguments.name, arguments.description
    answers = find_answers(name, description, arguments.author, arguments.email)
    files = new_project(Path(name), answers, arguments.template)
    print(f"made {name}: {len(files)} files, by {answers.author}")
    print(f"next: cd {name}; {begin_git(Path(name))}pip install -e '.[dev]'; pytest")
    return FINE


def begin_git(folder: Path) -> str:
    """Return the command that makes a repository, "" within one."""
    from litml.git import GitError, find_repository

    try:
        find_repository(folder)
    except GitError:
        return "git init -b main; "
    return ""


# %% update_here
def update_here() -> int:
    """Bring the project of this folder to the newest template."""
    from litml.project import find_project
    from litml.update import update_project

    steps = [one for one in update_project(find_project()) if one.content is not None]
    for step in steps:
        path = f"{step.path}.template-new" if step.action == "offered" else step.path
        more = f", conflicts: {step.conflicts}" if step.conflicts else ""
        print(f"{step.action}: {path}{more}")
    if not steps:
        print("nothing to do: the template has nothing new")
        return FINE
    print("next: git diff; litml export; litml test")
    left = any(step.conflicts or step.action == "offered" for step in steps)
    return PROBLEMS if left else FINE


# %% add_build
def add_build(parser: ArgumentParser) -> None:
    """Add the arguments of `litml build`."""
    from argparse import BooleanOptionalAction

    parser.add_argument(
        "--isolation",
        action=BooleanOptionalAction,
        help="give the build back end an environment of its own; default: if needed",
    )
    parser.add_argument(
        "--notebooks", action="store_true", help="run the notebooks with the wheel too"
    )


# %% run_build
def run_build(arguments: Namespace) -> int:
    """Build sdist and wheel into `dist/`, once the wheel is proven."""
    from litml.build import build_project
    from litml.project import find_project

    project = find_project()
    progress = Progress("build")
    try:
        isolation, notebooks = arguments.isolation, arguments.notebooks
        artifacts = build_project(project, isolation, progress.say, notebooks)
    finally:
        progress.clear()
    for one in artifacts:
        print(f"built {project.name_of(one.path)}, sha256 {one.sha256}")
    return FINE


# ## release
# %% add_release
def add_release(parser: ArgumentParser) -> None:
    """Add the arguments of `litml release`."""
    parser.add_argument(
        "version",
        nargs="?",
        default="patch",
        metavar="VERSION",
        help="patch (default), minor, major, rc, or a version such as 1.4.0",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--dry-run", action="store_true", help="rehearse all of it, in private"
    )
    what.add_argument("--status", action="store_true", help="tell where it stands")
    what.add_argument(
        "--abort", action="store_true", help="give it up, if still possible"
    )
    what.add_argument(
        "--from-tag", default="", metavar="TAG", help="finish what a tag has begun"
    )
    parser.add_argument(
        "--stage",
        default="",
        choices=("build", "upload", "confirm"),
        help="with --from-tag: only this, as a job of a workflow does",
    )
    parser.add_argument(
        "--first", action="store_true", help="the index does not know the project yet"
    )
    parser.add_argument("--no-test", action="store_true", help="do not run the tests")
    parser.add_argument(
        "--index",
        default="",
        metavar="NAME",
        help="a name that twine knows, or an address",
    )


# %% run_release
def run_release(arguments: Namespace) -> int:
    """Release the project, or say or undo how far it has come."""
    from litml.project import find_project
    from litml.release import abort_project

    if arguments.stage and not arguments.from_tag:
        message = "a stage alone is only done for a tag"
        print_error(LitmlError(message, hint="`--from-tag TAG --stage NAME`"))
        return FAULT
    project = find_project()
    if arguments.status:
        return show_status(project)
    if arguments.abort:
        print(abort_project(project))
        return FINE
    release = run_showing(choose_run(arguments), make_look(project, arguments))
    if release is None:
        return PROBLEMS
    print(f"{said(arguments)} {release.plan.project} {release.plan.version}")
    return FINE


def choose_run(arguments: Namespace) -> Callable[[Look, Events], Release]:
    """Return what is asked for: a release, a rehearsal, or what a tag needs."""
    from litml.from_tag import release_tag
    from litml.release import rehearse, release_project

    if arguments.from_tag:
        tag, stage = arguments.from_tag, arguments.stage
        return lambda look, events: release_tag(look, tag, stage, events)
    return rehearse if arguments.dry_run else release_project


def said(arguments: Namespace) -> str:
    """Return what has been done, in a word."""
    stages = {"build": "built", "upload": "uploaded", "confirm": "confirmed"}
    return "rehearsed" if arguments.dry_run else stages.get(arguments.stage, "released")


# %% run_showing
def run_showing(run: Callable[[Look, Events], Release], look: Look) -> Release | None:
    """Run a release; None if it cannot begin, which is said with every reason."""
    from litml.release import Events

    progress = Progress("release")

    def show(name: str, state: str, text: str) -> None:
        progress.clear()
        if state == "start":
            progress.say(name)
        elif state != "stop":
            print(f"{name:10} {text}", flush=True)

    try:
        return run(look, Events(show, progress.say))
    except ExceptionGroup as problems:
        progress.clear()
        for error in problems.exceptions:
            print_error(error)
        return None
    finally:
        progress.clear()


def make_look(project: Project, arguments: Namespace) -> Look:
    """Return what the preflight begins with."""
    from dataclasses import replace

    from litml.preflight import Look, read_settings

    settings = read_settings(project)
    if arguments.no_test:
        settings = replace(settings, test=False)
    if arguments.index:
        settings = replace(settings, index=arguments.index, simple="", also=())
    wanted, first = arguments.version, arguments.first
    return Look(project, settings, wanted, first, index_wanted=arguments.index)


def show_status(project: Project) -> int:
    """Print where the release under way stands."""
    from litml.release import find_status

    state = find_status(project)
    if state is None:
        print("no release is under way")
        return FINE
    print(f"the release of {state.version} is under way")
    print(f"done: {', '.join(state.done) or 'nothing yet'}")
    print(f"tag: {'pushed' if state.tag else 'not pushed'}")
    print(f"public: {', '.join(state.public) or 'nothing'}")
    if state.stopped:
        print(f"stopped: {state.stopped}")
    print(
        "`litml release` goes on, `litml release --abort` gives it up", file=sys.stderr
    )
    return PROBLEMS
