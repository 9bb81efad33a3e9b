# Exported from nbs/10_strict.ipynb. Edit either side, then run `litml sync`.
"""Which troubles fail a notebook, besides an error in a cell."""

from dataclasses import dataclass

from litml.project import Kind, Project, check_table

__all__ = ["Strict", "KINDS", "read_strict"]


# ## The table
# %% Strict
@dataclass(frozen=True, slots=True)
class Strict:
    """Which troubles fail a notebook; `end_timeout` is in seconds."""

    hidden_errors: bool = True
    pending_tasks: bool = True
    shell_errors: bool = False
    written_files: bool = False
    end_timeout: float = 10.0


KINDS: dict[str, Kind] = {
    "hidden-errors": (bool, "true or false"),
    "pending-tasks": (bool, "true or false"),
    "shell-errors": (bool, "true or false"),
    "written-files": (bool, "true or false"),
    "end-timeout": ((int, float), "a number of seconds"),
}


def read_strict(project: Project) -> Strict:
    """Return what the project's table says. Raises `ConfigError` if it is wrong."""
    table = dict(project.config.tables.get("run", {}))
    check_table(table, KINDS, "tool.litml.run")
    return Strict(**{key.replace("-", "_"): value for key, value in table.items()})
