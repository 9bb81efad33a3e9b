# Exported from nbs/12a_trace.ipynb. Edit either side, then run `litml sync`.
"""Name the notebook's cell beside the module's line, wherever a traceback is shown."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from litml.notebook import LitmlError, Location
from litml.parts import locate
from litml.project import find_project

__all__ = [
    "find_cell",
    "COLORS",
    "FRAME",
    "annotate",
    "annotate_line",
    "ARROW",
    "annotate_report",
]


# ## The cell of a line
# %% find_cell
def find_cell(file: str, line: int) -> Location | None:
    """Return the place in a notebook of a line of a file, if it is one we exported."""
    try:
        path = Path(file).expanduser().resolve()
        if path.suffix != ".py":
            return None
        with path.open("rb") as module:
            if module.read(16) != b"# Exported from ":
                return None
    except (OSError, ValueError, RuntimeError):
        return None
    root = find_root(path.parent)
    return locate(root, path, line) if root else None


# %% find_root
@cache
def find_root(folder: Path) -> Path | None:
    """Return the root of the project around a folder, if there is one."""
    try:
        return find_project(folder).root
    except LitmlError:
        return None


# ## In a text
# %% annotate
COLORS = re.compile(r"\x1b\[[0-9;]*m")
FRAME = re.compile(
    r'\bFile "([^"]+)", line (\d+)'  # Python
    r"|\bFile (.+?\.py):(\d+)"  # IPython
    r"|^(\S+\.py):(\d+): "  # pytest
)


def annotate(text: str) -> str:
    """Return the text of a traceback with the cells of our modules' lines in it."""
    return "\n".join(annotate_line(line) for line in text.split("\n"))


def annotate_line(text: str) -> str:
    """Add the cell to a line of a traceback that names a line of our modules."""
    match = FRAME.search(COLORS.sub("", text)) if ".py" in text else None
    if match is None or ARROW in text:
        return text
    file, line = [found for found in match.groups() if found]
    place = find_cell(file, int(line))
    return f"{text}{ARROW}{place}" if place else text


ARROW = " → "


# ## In pytest's reports
# %% annotate_report
def annotate_report(shown: Any) -> None:
    """Write the cells into pytest's representation of a failure, whatever it is."""
    chain = getattr(shown, "chain", None)
    parts = [part[0] for part in chain] if chain else [shown]
    for part in parts:
        trace = getattr(part, "reprtraceback", part)
        for entry in getattr(trace, "reprentries", ()):
            place = getattr(entry, "reprfileloc", None)
            if place is None:
                entry.lines = [annotate(line) for line in entry.lines]
            elif (cell := find_cell(place.path, place.lineno)) and ARROW not in str(
                place.message
            ):
                place.message = f"{place.message}{ARROW}{cell}".lstrip()
    if isinstance(getattr(shown, "longrepr", None), str):
        shown.longrepr = annotate(shown.longrepr)
