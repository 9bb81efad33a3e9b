# Exported from nbs/19e_git_commands.ipynb. Edit either side, then run `litml sync`.
"""The commands about notebooks in git."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from litml.console import FINE, PROBLEMS, Progress, add_json, print_error
from litml.edit_commands import use_utf8, write_bytes

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from litml.clean import Policy
    from litml.diff import NotebookDiff
    from litml.project import Project

__all__ = [
    "add_clean",
    "run_clean",
    "choose_paths",
    "name_exported",
    "clean_stdin",
    "Said",
    "add_diff",
    "run_diff",
    "diff_two",
    "show_diff_text",
    "write_diff_page",
    "add_install_hooks",
    "run_install_hooks",
    "report_filter",
    "add_merge",
    "run_merge",
    "add_resolve",
    "run_resolve",
    "ask",
]


# ## clean
# %% add_clean
def add_clean(parser: ArgumentParser) -> None:
    """Add the arguments of `litml clean`."""
    parser.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="default: all notebooks"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if something would"
    )
    parser.add_argument(
        "--ids", action="store_true", help="name exported cells after what they define"
    )
    parser.add_argument(
        "--outputs",
        choices=["drop", "keep", "small"],
        help="default: as the project is configured",
    )
    parser.add_argument(
        "--stdin", action="store_true", help="clean one notebook from stdin to stdout"
    )
    parser.add_argument(
        "--unless-filtered",
        action="store_true",
        help="leave out notebooks that git cleans in this clone",
    )
    add_json(parser)


# %% run_clean
def run_clean(arguments: Namespace) -> int:
    """Bring notebooks into the form that git should see."""
    from litml.git import settle
    from litml.project import find_project
    from litml.tidy import clean_project, project_policy

    near = arguments.paths[0].resolve().parent if arguments.paths else None
    project = find_project(near)
    policy = project_policy(project, arguments.outputs)
    if arguments.stdin:
        return clean_stdin(policy)
    paths = choose_paths(project, arguments)
    if paths is None:
        return FINE
    check, said = arguments.check, Said(arguments.json)
    if arguments.ids and not name_exported(project, arguments, said):
        return said.finish()
    progress = Progress("clean")
    report = clean_project(project, policy, paths, check=check, progress=progress)
    settle(project.root, [project.root / one.name for one in report.changed])
    progress.clear()
    said.tell("would clean" if check else "cleaned", report.changed, is_wrong=check)
    said.refuse("problems", report.problems)
    said.refuse("secrets", report.findings)
    return said.finish()


def choose_paths(project: Project, arguments: Namespace) -> list[Path] | None:
    """Return the paths to clean, none of them for all notebooks; None for nothing."""
    paths: list[Path] = arguments.paths
    if not arguments.unless_filtered:
        return paths
    from litml.modules import find_unfiltered
    from litml.tidy import find_files

    return find_unfiltered(project.root, list(find_files(project, paths))) or None


# %% name_exported
def name_exported(project: Project, arguments: Namespace, said: Said) -> bool:
    """Give exported cells readable ids; was nothing in the way?"""
    from litml.ids import name_cells
    from litml.tidy import find_files

    names = {project.name_of(path) for path in find_files(project, arguments.paths)}
    report = name_cells(project, names, check=arguments.check)
    word = "would rename" if arguments.check else "renamed"
    said.tell(word, report.renamed, is_wrong=arguments.check)
    said.refuse("problems", report.problems)
    return not report.problems


def clean_stdin(policy: Policy) -> int:
    """Clean one notebook on its way from stdin to stdout."""
    from litml.secrets import clean_safely

    cleaned = clean_safely(sys.stdin.buffer.read(), policy)
    sys.stdout.buffer.write(cleaned.data)
    if cleaned.left:
        print(f"warning: handed on as it is: {cleaned.left}", file=sys.stderr)
    return FINE


# %% Said
@dataclass(slots=True)
class Said:
    """What a command has to say: lines, or with `as_json` one object at the end."""

    as_json: bool
    code: int = FINE
    items: dict[str, list[str]] = field(default_factory=dict)

    def tell(self, what: str, items: Sequence[object], *, is_wrong: bool) -> None:
        """Say what was done."""
        self.items.setdefault(what, []).extend(map(str, items))
        for item in items if not self.as_json else ():
            print(f"{what}: {item}")
        if items and is_wrong:
            self.code = PROBLEMS

    def refuse(self, what: str, items: Sequence[object]) -> None:
        """Say what is wrong."""
        self.items.setdefault(what, []).extend(map(str, items))
        for item in items if not self.as_json else ():
            print_error(f"like a secret: {item}" if what == "secrets" else item)
        if items:
            self.code = PROBLEMS

    def finish(self) -> int:
        """Print the object, and return the exit code."""
        if self.as_json:
            import json

            print(json.dumps(self.items))
        return self.code


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


# ## install-hooks
# %% add_install_hooks
def add_install_hooks(parser: ArgumentParser) -> None:
    """Add the arguments of `litml install-hooks`."""
    mood = parser.add_mutually_exclusive_group()
    mood.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if something would"
    )
    mood.add_argument(
        "--remove", action="store_true", help="leave the clone as it was before"
    )
    parser.add_argument(
        "--local",
        action="store_true",
        help="write .git/info/attributes, and no file of the repository",
    )
    parser.add_argument(
        "--textconv",
        action="store_true",
        help="let `git diff` and `git log -p` show notebooks as text, which is slower",
    )


# %% run_install_hooks
def run_install_hooks(arguments: Namespace) -> int:
    """Tell git in this clone of litml, or have it forget."""
    from litml.hooks import carry_out, plan_install, plan_remove

    here = Path.cwd()
    if arguments.remove:
        plan = plan_remove(here)
    else:
        local, textconv = arguments.local, arguments.textconv
        plan = plan_install(here, local=local, textconv=textconv)
    changes = plan.changes()
    if not arguments.check:
        carry_out(plan)
    word = "would set" if arguments.check else "removed" if arguments.remove else "set"
    for change in changes:
        print(f"{word}: {change}")
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    failed = not arguments.remove and report_filter(here, bool(changes))
    return PROBLEMS if failed or (arguments.check and changes) else FINE


def report_filter(here: Path, told: bool) -> bool:
    """Try the filter and say how it went; return whether it fails."""
    from litml.probe import find_unclean, try_filter

    if problem := try_filter(here):
        if not told:
            print_error(problem)
        return True
    if unclean := len(find_unclean(here)):
        hint = "`git add --renormalize .` and a commit bring them into it"
        text = f"notebooks in git are not in the form of today ({unclean}): {hint}"
        print(f"note: {text}", file=sys.stderr)
    return False


# ## merge, resolve
# %% add_merge
def add_merge(parser: ArgumentParser) -> None:
    """Add the arguments of `litml merge`."""
    for name, text in (
        ("base", "the version that both began with; - if there is none"),
        ("ours", "one version; the result is written in its layout"),
        ("theirs", "the other version"),
    ):
        parser.add_argument(name, metavar=name.upper(), help=text)
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE", help="default: stdout"
    )


# %% run_merge
def run_merge(arguments: Namespace) -> int:
    """Merge three files; exit 1 if there are conflicts in the result."""
    from litml.resolve import merge_paths

    raw, merged = merge_paths(arguments.base, arguments.ours, arguments.theirs)
    if arguments.out:
        write_bytes(arguments.out, raw)
    else:
        sys.stdout.buffer.write(raw)
    for note in merged.notes:
        print(f"note: {note}", file=sys.stderr)
    for conflict in merged.conflicts:
        print(f"conflict in cell {conflict.id}: {conflict.reason}", file=sys.stderr)
    return PROBLEMS if merged.conflicts else FINE


# %% add_resolve
def add_resolve(parser: ArgumentParser) -> None:
    """Add the arguments of `litml resolve`."""
    parser.add_argument("notebook", type=Path, metavar="NOTEBOOK", help="its file")
    parser.add_argument(
        "--take",
        action="append",
        default=[],
        metavar="[CELL=]SIDE",
        help="ours, theirs or both: for one cell, or for all that are open",
    )
    add_json(parser)


# %% run_resolve
def run_resolve(arguments: Namespace) -> int:
    """Settle conflicts in a notebook; exit 1 if some are left."""
    from litml.resolve import explain_flag, find_open, open_merge, resolve_asking, take

    notebook = open_merge(arguments.notebook)
    if arguments.take:
        take(notebook, arguments.take)
    elif sys.stdin.isatty() and sys.stdout.isatty() and not arguments.json:
        resolve_asking(notebook, ask)
    raw = notebook.to_bytes()
    if raw != arguments.notebook.read_bytes():
        write_bytes(arguments.notebook, raw)
    left = find_open(notebook)
    if arguments.json:
        import json

        print(json.dumps({"conflicts": left}))
    else:
        for name, flag in left.items():
            print(f"{arguments.notebook}, cell {name}: {explain_flag(flag)}")
    return PROBLEMS if left else FINE


def ask(question: str) -> str:
    """Return what a person answers; an end of input, as by Ctrl-D, is `q`."""
    try:
        return input(question)
    except EOFError:
        return "q"
