# Exported from nbs/19a_console.ipynb. Edit either side, then run `litml sync`.
"""Talk to the person at the terminal: errors, progress, exit codes."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from litml.notebook import LitmlError

if TYPE_CHECKING:
    from argparse import ArgumentParser

__all__ = ["FINE", "PROBLEMS", "FAULT"]


# ## Saying what went wrong
# %% exit-codes
FINE, PROBLEMS, FAULT = 0, 1, 2


# %% print_error
def print_error(error: object) -> None:
    """Print an error in its place, stderr."""
    print(f"error: {error}", file=sys.stderr)


# %% exit_code
def exit_code(error: LitmlError) -> int:
    """Return an error's exit code: 2 for configuration and environment, else 1."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return FAULT if names & {"ConfigError", "WriteError", "GitError"} else PROBLEMS


# ## Progress
# %% Progress
@dataclass(slots=True)
class Progress:
    """A counter on the terminal's last line; callable with (done, total)."""

    label: str
    started: float = field(default_factory=time.monotonic)
    shown: float = 0.0

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.started < 0.5 or now - self.shown < 0.1 or not is_terminal():
            return
        self.shown = now
        sys.stderr.write(f"\r\x1b[K{self.label} {done}/{total}")
        sys.stderr.flush()

    def say(self, text: str) -> None:
        """Show what is going on now, if somebody is watching."""
        if is_terminal():
            sys.stderr.write(f"\r\x1b[K{self.label}: {text}")
            sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line."""
        if is_terminal():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


# %% is_terminal
def is_terminal() -> bool:
    """Is somebody watching stderr?"""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


# ## Commands
# %% Command
@dataclass(frozen=True, slots=True)
class Command:
    """One command: its help, and the module of litml that it is in."""

    help: str
    module: str


# %% add_json
def add_json(parser: ArgumentParser) -> None:
    """Add the option `--json`."""
    parser.add_argument(
        "--json", action="store_true", help="print the result as one JSON object"
    )
