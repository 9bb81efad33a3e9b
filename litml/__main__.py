# Exported from nbs/21_main.ipynb. Edit either side, then run `litml sync`.
"""Start the program."""

import sys

import litml

__all__ = ["main"]


# %% main
def main() -> int:
    """Run `litml` with the words of the command line and return its exit code."""
    if sys.argv[1:] == ["--version"]:
        print(litml.__version__)
        return 0
    from litml.cli import main as run

    return run()


# %% start
if __name__ == "__main__":
    sys.exit(main())
