# Exported from nbs/20_cli.ipynb. Edit either side, then run `litml sync`.
"""Turn what a person types into a call, and what comes back into lines and an exit
code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import litml
from litml.console import FAULT, FINE, Command, exit_code, print_error
from litml.notebook import LitmlError

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

__all__ = ["main"]


# ## The commands
# %% COMMANDS
COMMANDS = {
    "export": Command("write the package from the notebooks", "export_commands"),
    "watch": Command("export after every save", "export_commands"),
    "sync": Command("bring edits of modules home to notebooks", "edit_commands"),
    "show": Command("print a notebook as text", "edit_commands"),
    "apply": Command("take an edited text view back", "edit_commands"),
    "cell": Command("show or edit one cell, by its id", "edit_commands"),
    "check": Command("all that a CI asks", "export_commands"),
    "clean": Command("bring notebooks into the form for git", "git_commands"),
    "diff": Command("compare notebooks of two versions, cell by cell", "git_commands"),
    "merge": Command("merge two versions of a notebook, cell by cell", "git_commands"),
    "resolve": Command("settle the conflicts of a merge", "git_commands"),
    "install-hooks": Command("tell git in this clone of notebooks", "git_commands"),
    "test": Command("run the tests, notebooks included", "run_commands"),
    "run": Command("execute notebooks", "run_commands"),
    "docs": Command("build the documentation", "docs_commands"),
    "preview": Command("show the documentation while you write", "docs_commands"),
    "adopt": Command("make notebooks of a package", "export_commands"),
    "new": Command("make a project from a template", "release_commands"),
    "build": Command("build sdist and wheel, and prove them", "release_commands"),
    "release": Command("bring a version to the package index", "release_commands"),
    "completion": Command("print a completion script", "cli"),
}


# %% load_command
def load_command(
    name: str,
) -> tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int]]:
    """Import a command; return what adds its arguments, and what runs it."""
    module = import_module(f"litml.{COMMANDS[name].module}")
    word = name.replace("-", "_")
    return getattr(module, f"add_{word}"), getattr(module, f"run_{word}")


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


# ## From words to a call
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
            add, run = load_command(name)
            add(inner)
            inner.set_defaults(run=run)
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
