# Exported from nbs/21_main.ipynb. Edit either side, then run `litml sync`.
"""Start the program."""

import gc
import os
import sys

import litml
from litml.stamps import find_changed, find_root, is_settled, notes_folder

__all__ = ["has_nothing_to_export", "has_synced", "main"]


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


# %% has_synced
def has_synced() -> bool:
    """Bring plain edits home; is that, or was there, all there is to do?"""
    if (root := find_root(os.getcwd())) is None:
        return False
    changed = find_changed(os.path.join(notes_folder(root), "stamps"), root)
    if not changed or not all(path.endswith(".py") for path in changed):
        return changed == []
    from litml.plain import sync_plain_edits

    cells = sync_plain_edits(root)
    for cell in cells or ():
        print(f"updated: {cell}")
    return cells is not None


# %% main
def main() -> int:
    """Run `litml` with the words of the command line and return its exit code."""
    words = sys.argv[1:]
    if words == ["--version"]:
        print(litml.__version__)
        return 0
    if words[:1] == ["export"] and has_nothing_to_export(words[1:]):
        return 0
    if words[:1] == ["sync"]:
        gc.disable()  # there is nothing to collect in so short a time
    if words == ["sync"] and has_synced():
        code = 0
    else:
        from litml.cli import main as run

        code = run()
    gc.freeze()  # at the end it need not look through all of it
    return code


# %% start
if __name__ == "__main__":
    sys.exit(main())
