# Exported from nbs/21_main.ipynb. Edit either side, then run `litml sync`.
"""Start the program."""

import os
import sys

import litml
from litml.stamps import find_root, is_settled, notes_folder

__all__ = ["has_nothing_to_export", "main"]


# %% has_nothing_to_export
def has_nothing_to_export(options: list[str]) -> bool:
    """Do the stamps of the last export say that nothing has changed since?"""
    root = find_root(os.getcwd())
    if root is None:
        return False
    if options in ([], ["--check"]):
        notes = notes_folder(root)
    elif len(options) == 2 and options[0] == "--out":
        notes = os.path.join(os.path.realpath(options[1]), ".litml")
    else:
        return False
    return is_settled(os.path.join(notes, "stamps"), root)


# %% main
def main() -> int:
    """Run `litml` with the words of the command line and return its exit code."""
    words = sys.argv[1:]
    if words == ["--version"]:
        print(litml.__version__)
        return 0
    if words[:1] == ["export"] and has_nothing_to_export(words[1:]):
        return 0
    from litml.cli import main as run

    return run()


# %% start
if __name__ == "__main__":
    sys.exit(main())
