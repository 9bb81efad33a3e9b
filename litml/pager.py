# Exported from nbs/19a_pager.ipynb. Edit either side, then run `litml sync`.
"""Show a long text as git does: in colours if they are wanted, a page at a time."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["wants_colour", "find_pager", "show_text", "NOT_STARTED"]


# %% wants_colour
def wants_colour(
    choice: str, is_terminal: bool, environment: Mapping[str, str]
) -> bool:
    """Is a text to be coloured? `choice` is `always`, `never` or `auto`."""
    if choice != "auto":
        return choice == "always"
    dumb = environment.get("TERM") == "dumb"
    return is_terminal and not dumb and not environment.get("NO_COLOR")


# %% find_pager
def find_pager(folder: Path) -> str:
    """Return git's pager as a command for the shell; empty if there is none."""
    command = ["git", "var", "GIT_PAGER"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    pager = os.fsdecode(done.stdout).strip()
    return "" if pager == "cat" else pager


# %% show_text
def show_text(text: str, pager: str = "") -> None:
    """Show a text on stdout, by a pager if one is given."""
    if pager:
        before = signal.signal(signal.SIGINT, lambda *_: None)
        environment = {"LESS": "FRX", "LV": "-c", **os.environ}
        try:
            data = text.encode(errors="backslashreplace")
            done = subprocess.run(pager, shell=True, input=data, env=environment)
        finally:
            signal.signal(signal.SIGINT, before)
        if done.returncode not in NOT_STARTED:
            return
    sys.stdout.write(text)


NOT_STARTED = (126, 127)  # what a shell returns for a program that it cannot run
