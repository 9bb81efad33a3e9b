# Exported from nbs/10_warmth.ipynb. Edit either side, then run `litml sync`.
"""What a project says of its kernels: warm or cold, how much memory, which libraries
are imported beforehand, and for whom.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from litml.imports import find_imports, trace_imports
from litml.notebook import Location
from litml.project import ConfigError, Kind, Project, check_table

__all__ = [
    "Warmth",
    "USUAL",
    "TABLE",
    "SIZE",
    "UNITS",
    "read_warmth",
    "fit_warmth",
]


# ## What a project says
# %% Warmth
@dataclass(frozen=True, slots=True)
class Warmth:
    """The table `[tool.litml.kernel]`; `memory` in bytes, 0 for no limit."""

    warm: bool = True
    preload: tuple[str, ...] = ()
    memory: int = 0


USUAL = Warmth()  # where a project says nothing
TABLE: dict[str, Kind] = {
    "warm": (bool, "true or false"),
    "preload": (list, "a list of names of modules"),
    "memory": (str, 'a size such as "8 GB"'),
}
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([MGT]B)")
UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def read_warmth(project: Project) -> Warmth:
    """Return the project's table. Raises `ConfigError` at the first wrong key."""
    table = project.config.tables.get("kernel", {})
    check_table(table, TABLE, "tool.litml.kernel")
    at = Location("pyproject.toml")
    for name in table.get("preload", []):
        if not all(part.isidentifier() for part in name.split(".")):
            message = f"`preload` in [tool.litml.kernel] names no module: {name!r}"
            raise ConfigError(message, at=at)
    size = SIZE.fullmatch(table.get("memory", "0 MB"))
    if size is None:
        message = f"`memory` in [tool.litml.kernel] is no size: {table['memory']!r}"
        raise ConfigError(message, at=at, hint='a size is a text such as "8 GB"')
    memory = int(float(size[1]) * UNITS[size[2]])
    return Warmth(table.get("warm", True), tuple(table.get("preload", ())), memory)


# ## For whom
# %% fit_warmth
def fit_warmth(
    warmth: Warmth, sources: Iterable[str], places: Sequence[Path]
) -> Warmth:
    """Return what of a project's wishes is for a notebook with these cells.

    `places` are the folders where the project's modules are looked for.
    """
    if not warmth.preload:
        return warmth
    said = {name for source in sources for name in find_imports(source)}
    found = {name.split(".")[0] for name in trace_imports(said, places).names}
    wanted = [name for name in warmth.preload if name.split(".")[0] in found]
    return replace(warmth, preload=tuple(wanted))
