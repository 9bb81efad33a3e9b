# Exported from nbs/19e_git_commands.ipynb. Edit either side, then run `litml sync`.
"""The commands about notebooks in git."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from litml.console import FINE, PROBLEMS, add_json

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from litml.diff import NotebookDiff

__all__ = [
    "add_diff",
    "run_diff",
    "diff_two",
    "show_diff_text",
    "write_diff_page",
]


# ## diff
# %% add_diff
def add_diff(parser: ArgumentParser) -> None:
    """Add the arguments of `litml diff`."""
    parser.add_argument(
        "words", nargs="*", metavar="REVISION|PATH", help="as for `git diff`"
    )
    parser.add_argument(
        "--cached", "--staged", action="store_true", help="compare what is staged"
    )
    parser.add_argument(
        "--no-index", action="store_true", help="compare two files, in git or not"
    )
    parser.add_argument(
        "--outputs", action="store_true", help="show changed lines of outputs, too"
    )
    parser.add_argument("--stat", action="store_true", help="show only counts")
    parser.add_argument("--html", metavar="FILE", help="write a page; - is stdout")
    add_json(parser)
    parser.add_argument(
        "--exit-code", action="store_true", help="exit 1 if something changed"
    )
    parser.add_argument("--color", choices=["auto", "always", "never"], default="auto")
    parser.add_argument("--no-pager", action="store_true", help="print all at once")


# %% run_diff
def run_diff(arguments: Namespace) -> int:
    """Compare notebooks, cell by cell."""
    from litml.changes import diff_repository

    if arguments.no_index:
        diffs = diff_two(arguments)
    else:
        diffs = diff_repository(
            Path.cwd(),
            arguments.words,
            cached=arguments.cached,
            outputs=arguments.outputs,
        )
    if arguments.html:
        write_diff_page(diffs, arguments)
    elif arguments.json:
        import json

        from litml.show_diff import to_json

        print(json.dumps(to_json(diffs)))
    elif diffs:
        show_diff_text(diffs, arguments)
    return PROBLEMS if arguments.exit_code and diffs else FINE


def diff_two(arguments: Namespace) -> list[NotebookDiff]:
    """Compare two files."""
    from litml.changes import diff_paths
    from litml.project import ConfigError

    if len(arguments.words) != 2:
        raise ConfigError("`litml diff --no-index` compares two files")
    diff = diff_paths(*arguments.words, outputs=arguments.outputs)
    told = diff.cells or diff.notes or diff.lines or diff.problem
    return [diff] if told or None in (diff.old, diff.new) else []


# %% show_diff_text
def show_diff_text(diffs: list[NotebookDiff], arguments: Namespace) -> None:
    """Show comparisons in the terminal, or write them to wherever stdout goes."""
    from litml.edit_commands import use_utf8
    from litml.pager import find_pager, show_text, wants_colour
    from litml.show_diff import show_diffs, show_stat

    use_utf8()
    terminal = sys.stdout.isatty()
    colour = wants_colour(arguments.color, terminal, os.environ)
    lines = show_stat(diffs) if arguments.stat else show_diffs(diffs, colour=colour)
    paged = terminal and not arguments.no_pager
    show_text("\n".join([*lines, ""]), find_pager(Path.cwd()) if paged else "")


def write_diff_page(diffs: list[NotebookDiff], arguments: Namespace) -> None:
    """Write comparisons as a page."""
    from litml.changes import name_range
    from litml.diff_page import write_page
    from litml.edit_commands import use_utf8
    from litml.project import ConfigError

    words = [*arguments.words]
    title = (
        words if arguments.no_index else name_range(Path.cwd(), words, arguments.cached)
    )
    page = write_page(diffs, " → ".join(title))
    if arguments.html == "-":
        use_utf8()
        sys.stdout.write(page)
        return
    try:
        Path(arguments.html).write_text(page, "utf-8", newline="\n")
    except OSError as error:
        message = f"cannot write {arguments.html}: {error.strerror}"
        raise ConfigError(message) from error
    print(f"wrote: {arguments.html}")
