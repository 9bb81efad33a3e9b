# Exported from nbs/19b_edit_commands.ipynb. Edit either side, then run `litml sync`.
"""The commands that take an edit home: sync, show, apply and cell."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from litml.console import FINE, PROBLEMS, add_json, print_error

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from litml.edit import Conflict
    from litml.notebook import Notebook
    from litml.sync import SyncReport

__all__ = []


# ## sync
# %% add_sync
def add_sync(parser: ArgumentParser) -> None:
    """Add the arguments of `litml sync`."""
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if something would"
    )
    parser.add_argument(
        "--diff", action="store_true", help="show what changes in each cell"
    )
    parser.add_argument(
        "--take",
        action="append",
        default=[],
        metavar="[CELL=]SIDE",
        help="decide conflicts: SIDE is notebook or module",
    )
    parser.add_argument(
        "--rename", action="store_true", help="rename in all notebooks what was renamed"
    )
    add_json(parser)


# %% parse_take
def parse_take(words: list[str], other: str = "module") -> dict[str, str]:
    """Read the values of `--take`; `other` is what stands beside the notebook."""
    from litml.project import ConfigError

    sides = {"notebook": "ours", other: "theirs"}
    taken = {}
    for word in words:
        cell, _, side = word.rpartition("=")
        if side not in sides:
            hint = f"write `--take {other}`, or `--take CELL=notebook`"
            raise ConfigError(f"`--take {word}` names no side", hint=hint)
        taken[cell] = sides[side]
    return taken


# %% run_sync
def run_sync(arguments: Namespace) -> int:
    """Bring edits of modules home to their notebooks."""
    from litml.project import find_project
    from litml.sync import sync_project

    take = parse_take(arguments.take)
    report = sync_project(
        find_project(), take=take, rename=arguments.rename, check=arguments.check
    )
    failed = bool(report.problems or report.conflicts)
    if arguments.json:
        print_sync_json(report)
    else:
        show_sync(report, arguments.check, arguments.diff)
    return PROBLEMS if failed or (arguments.check and report.changes) else FINE


# %% show_sync
def show_sync(report: SyncReport, check: bool, with_diff: bool) -> None:
    """Print what a sync did, cell by cell."""
    for error in report.problems:
        print_error(error)
    for at, clash in report.conflicts:
        show_conflict(clash, str(at), "module")
    for change in report.changes if not (report.problems or report.conflicts) else ():
        print(f"{'would be ' if check else ''}{change.what}: {change.at}")
        if with_diff:
            print_diff(change.before, change.after)
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)


def show_conflict(clash: Conflict, at: str, other: str) -> None:
    """Print a conflict as the three texts it is made of."""
    print_error(f"{clash.reason}\n  at {at}\n  hint: decide with `--take`")
    for side in ("base", "notebook", other):
        name = {"notebook": "ours", other: "theirs"}.get(side, side)
        text = getattr(clash, name)
        print(f"--- {side}\n{text if text is not None else '(no cell)'}")


def print_diff(before: str, after: str) -> None:
    """Print a cell's change as a unified diff without file names."""
    from difflib import unified_diff

    lines = unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2)
    print(*list(lines)[2:], sep="\n")


def print_sync_json(report: SyncReport) -> None:
    """Print a sync's report as one JSON object."""
    import json

    changes = [{"at": str(one.at), "what": one.what} for one in report.changes]
    conflicts = [{"at": str(at), "reason": one.reason} for at, one in report.conflicts]
    found = {"changes": changes, "conflicts": conflicts, "notes": list(report.notes)}
    found["problems"] = [str(error) for error in report.problems]
    print(json.dumps(found | {"written": list(report.written)}))


# ## show, apply
# %% add_show
def add_show(parser: ArgumentParser) -> None:
    """Add the arguments of `litml show`."""
    parser.add_argument("notebook", type=Path, metavar="NOTEBOOK")
    parser.add_argument(
        "--out", type=int, default=300, metavar="N", help="characters of an output"
    )


def run_show(arguments: Namespace) -> int:
    """Print a notebook as text."""
    from litml.lens import show_notebook
    from litml.project import find_project

    path = arguments.notebook.resolve()
    sys.stdout.write(show_notebook(find_project(path.parent).root, path, arguments.out))
    return FINE


# %% add_apply
def add_apply(parser: ArgumentParser) -> None:
    """Add the arguments of `litml apply`."""
    parser.add_argument(
        "notebook", type=Path, nargs="?", metavar="NOTEBOOK", help="default: as shown"
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument(
        "--take",
        action="append",
        default=[],
        metavar="[CELL=]SIDE",
        help="decide conflicts: SIDE is notebook or text",
    )


def run_apply(arguments: Namespace) -> int:
    """Take an edited view of a notebook, from stdin, back into the notebook."""
    from litml.lens import apply
    from litml.project import find_project

    root = find_project().root
    path = arguments.notebook.resolve() if arguments.notebook else None
    take = parse_take(arguments.take, "text")
    text = sys.stdin.read()
    report = apply(root, text, path, take, check=arguments.check)
    for clash in report.conflicts:
        show_conflict(clash, f"{report.notebook}, cell {clash.id}", "text")
    for edit in report.edits if not report.conflicts else ():
        print(f"{edit.action}: {report.notebook}, cell {edit.piece.id}")
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    return PROBLEMS if report.conflicts else FINE


# ## cell
# %% add_cell
def add_cell(parser: ArgumentParser) -> None:
    """Add the arguments of `litml cell`."""
    actions = ["show", "set", "insert", "mv", "rm"]
    parser.add_argument("action", choices=actions, help="text is read from stdin")
    parser.add_argument("notebook", type=Path, metavar="NOTEBOOK")
    parser.add_argument("id", nargs="?", metavar="ID", help="of the cell")
    parser.add_argument("--after", metavar="ID", help="the cell to put it behind")
    parser.add_argument("--first", action="store_true", help="put it first")
    parser.add_argument("--kind", choices=["code", "markdown", "raw"], default="code")
    parser.add_argument(
        "--expect", metavar="HASH", help="refuse if the cell has another source now"
    )


# %% run_cell
def run_cell(arguments: Namespace) -> int:
    """Show or edit one cell of a notebook, by its id."""
    from litml import lens
    from litml.project import find_project
    from litml.text import read_source

    path = arguments.notebook.resolve()
    project = find_project(path.parent)
    notebook = read_source(path, project.name_of(path))
    refuse_vague(arguments)
    if arguments.action == "show":
        cell = lens.find_cell(notebook, arguments.id, arguments.expect)
        print(f"# {lens.hash_source(cell.source)}\n{cell.source}")
        return FINE
    edit_notebook(notebook, arguments)
    lens.write_notebook(project.root, path, notebook)
    return FINE


def refuse_vague(arguments: Namespace) -> None:
    """Raise if it is not said which cell is meant, or where it is to go."""
    from litml.project import ConfigError

    action = arguments.action
    if action != "insert" and not arguments.id:
        raise ConfigError(f"`litml cell {action}` needs the id of a cell")
    if action in ("insert", "mv") and bool(arguments.after) == arguments.first:
        raise ConfigError("say where it goes: `--after ID` or `--first`")


def edit_notebook(notebook: Notebook, arguments: Namespace) -> None:
    """Make the edit that was asked for."""
    from litml import lens

    name, after = arguments.id or "", arguments.after
    if arguments.action == "set":
        lens.set_cell(notebook, name, sys.stdin.read(), arguments.expect)
    elif arguments.action == "insert":
        text = sys.stdin.read()
        print(lens.insert_cell(notebook, text, after, arguments.kind, name))
    elif arguments.action == "mv":
        lens.move_cell(notebook, name, after)
    else:
        lens.remove_cell(notebook, name, arguments.expect)
