# Exported from nbs/19b_edit_commands.ipynb. Edit either side, then run `litml sync`.
"""The commands that take an edit home: sync, show, apply and cell."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from litml.console import FINE, PROBLEMS, add_json, print_error

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from litml.edit import Conflict
    from litml.lens import LensReport
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
    cell = f"{clash.id}=" if clash.id else ""
    hint = f"decide with `--take {cell}notebook` or `--take {cell}{other}`"
    print_error(f"{clash.reason}\n  at {at}\n  hint: {hint}")
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


# ## Text
# %% use_utf8
def use_utf8() -> None:
    """Let stdin and stdout be UTF-8 with plain line ends, whatever the terminal is."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", newline="")


def write_bytes(path: Path, raw: bytes) -> None:
    """Write a file as a whole, or not at all; raises `WriteError`.

    A link stays one, and what is no file, as /dev/stdout, is written to.
    """
    from litml.files import failed, replace_file

    is_plain = not path.is_symlink() and (path.is_file() or not path.exists())
    try:
        if is_plain and path.parent.is_dir():
            replace_file(path, raw)
        else:
            path.write_bytes(raw)
    except OSError as error:
        raise failed(path, error) from error


def read_text(path: Path | None = None) -> str:
    """Read a text from a file or from stdin; raises `ConfigError` if it is not one."""
    from litml.project import ConfigError

    try:
        text = path.read_text("utf-8") if path else sys.stdin.read()
        return text.removeprefix("\ufeff").replace("\r\n", "\n")
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path or 'stdin'} is not UTF-8") from error


# ## show, apply
# %% add_show
def add_show(parser: ArgumentParser) -> None:
    """Add the arguments of `litml show`."""
    parser.add_argument("notebook", type=Path, metavar="NOTEBOOK", help="its file")
    parser.add_argument(
        "--out",
        type=int,
        default=300,
        metavar="N",
        help="characters of a cell's outputs",
    )


def run_show(arguments: Namespace) -> int:
    """Print a notebook as text."""
    from litml.lens import show_notebook

    root = root_of(arguments.notebook)
    use_utf8()
    sys.stdout.write(show_notebook(root, arguments.notebook, arguments.out))
    return FINE


def root_of(path: Path | None) -> Path:
    """Return the root of the project that a notebook is in, or the current folder."""
    from litml.project import find_project

    return find_project(path.resolve().parent if path else None).root


# %% add_apply
def add_apply(parser: ArgumentParser) -> None:
    """Add the arguments of `litml apply`."""
    parser.add_argument(
        "notebook", type=Path, nargs="?", metavar="NOTEBOOK", help="default: as shown"
    )
    parser.add_argument(
        "--from",
        type=Path,
        dest="file",
        metavar="FILE",
        help="the view, kept up to date",
    )
    parser.add_argument(
        "--take",
        action="append",
        default=[],
        metavar="[CELL=]SIDE",
        help="decide conflicts: SIDE is notebook or text",
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if something would"
    )
    parser.add_argument("--show", action="store_true", help="print the view afterwards")
    add_json(parser)


def run_apply(arguments: Namespace) -> int:
    """Take an edited view of a notebook back into the notebook."""
    from litml.lens import apply

    use_utf8()
    report = apply(
        root_of(arguments.notebook),
        read_text(arguments.file),
        arguments.notebook,
        parse_take(arguments.take, "text"),
        check=arguments.check,
    )
    if arguments.file and report.view and not arguments.check:
        write_bytes(arguments.file, report.view.encode())
    if arguments.json:
        print_apply_json(report)
    else:
        show_apply(
            report, arguments.check, sys.stderr if arguments.show else sys.stdout
        )
        sys.stdout.write(report.view if arguments.show else "")
    failed = report.conflicts or (arguments.check and report.edits)
    return PROBLEMS if failed else FINE


# %% show_apply
WORDS = {"change": "updated", "insert": "new", "delete": "deleted", "move": "moved"}


def show_apply(report: LensReport, check: bool, file: TextIO) -> None:
    """Print what an edited view did, cell by cell."""
    for clash in report.conflicts:
        show_conflict(clash, f"{report.notebook}, cell {clash.id}", "text")
    for edit in () if report.conflicts else report.edits:
        what = f"{'would be ' if check else ''}{WORDS[edit.action]}"
        print(f"{what}: {report.notebook}, cell {edit.piece.id}", file=file)
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)


def print_apply_json(report: LensReport) -> None:
    """Print what an edited view did as one JSON object."""
    import json

    edits = [
        {"cell": edit.piece.id, "what": WORDS[edit.action], "after": edit.after}
        for edit in report.edits
    ]
    conflicts = [
        {"cell": one.id, "reason": one.reason, "base": one.base}
        | {"notebook": one.ours, "text": one.theirs}
        for one in report.conflicts
    ]
    found = {"notebook": report.notebook, "changes": edits, "conflicts": conflicts}
    print(json.dumps({**found, "notes": list(report.notes), "view": report.view}))


# ## cell
# %% add_cell
def add_cell(parser: ArgumentParser) -> None:
    """Add the arguments of `litml cell`."""
    actions = ["show", "set", "insert", "mv", "rm"]
    parser.add_argument(
        "action", choices=actions, help="`set` and `insert` read the text from stdin"
    )
    parser.add_argument("notebook", type=Path, metavar="NOTEBOOK", help="its file")
    parser.add_argument("id", nargs="?", metavar="ID", help="of the cell")
    parser.add_argument("--after", metavar="ID", help="the cell to put it behind")
    parser.add_argument("--first", action="store_true", help="put it first")
    kinds = ["code", "markdown", "raw"]
    parser.add_argument("--kind", choices=kinds, default="code", help="default: code")
    parser.add_argument(
        "--expect", metavar="HASH", help="refuse if the cell has another source now"
    )
    add_json(parser)


# %% run_cell
def run_cell(arguments: Namespace) -> int:
    """Show or edit one cell of a notebook, by its id."""
    from litml.lens import find_cell, name_of, write_notebook
    from litml.text import read_source

    use_utf8()
    refuse_vague(arguments)
    path, root = arguments.notebook, root_of(arguments.notebook)
    notebook = read_source(path, name_of(root, path))
    if arguments.action == "show":
        name = find_cell(notebook, arguments.id, arguments.expect).id
    else:
        name = edit_notebook(notebook, arguments)
        write_notebook(root, path, notebook)
    print_cell(notebook, name, arguments)
    return FINE


def refuse_vague(arguments: Namespace) -> None:
    """Raise if it is not said which cell is meant, or where it is to go."""
    from litml.project import ConfigError

    action = arguments.action
    if action != "insert" and not arguments.id:
        raise ConfigError(f"`litml cell {action}` needs the id of a cell")
    if action in ("insert", "mv") and bool(arguments.after) == arguments.first:
        raise ConfigError("say where it goes: `--after ID` or `--first`")


def edit_notebook(notebook: Notebook, arguments: Namespace) -> str:
    """Make the edit that was asked for, and return the id of the cell."""
    from litml import lens

    name, after = arguments.id or "", arguments.after
    if arguments.action in ("set", "insert"):
        text = read_text().removesuffix("\n")
    if arguments.action == "set":
        lens.set_cell(notebook, name, text, arguments.expect)
    elif arguments.action == "insert":
        name = lens.insert_cell(notebook, text, after, arguments.kind, name)
    elif arguments.action == "mv":
        lens.move_cell(notebook, name, after)
    else:
        lens.remove_cell(notebook, name, arguments.expect)
    return name


# %% print_cell
def print_cell(notebook: Notebook, name: str, arguments: Namespace) -> None:
    """Print a cell's source, or what was done to it."""
    import json

    from litml.lens import hash_source

    words = {"set": "updated", "insert": "new", "mv": "moved", "rm": "deleted"}
    cell = next((cell for cell in notebook.cells if cell.id == name), None)
    about = {"notebook": notebook.name, "cell": name}
    if cell:
        hashed = hash_source(cell.source)
        about |= {"kind": cell.kind, "hash": hashed, "source": cell.source}
    if arguments.json:
        print(json.dumps(about))
    elif arguments.action == "show":
        print(about["source"])
    else:
        print(f"{words[arguments.action]}: {notebook.name}, cell {name}")
