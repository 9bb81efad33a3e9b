# Exported from nbs/17_trial.ipynb. Edit either side, then run `litml sync`.
"""Run a project's notebooks with the package that is installed, and not with the one
that lies beside them.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from litml.notebook import LitmlError, Location, Notebook
from litml.project import Project, list_notebooks
from litml.run import Policy, make_policy, run_notebook
from litml.text import read_source
from litml.warmth import Warmth

__all__ = ["TrialError", "try_notebooks", "try_notebook"]


# %% TrialError
class TrialError(LitmlError):
    """A notebook that does not run with the installed package."""


# %% find_packages
def find_packages(python: Path) -> Path:
    """Return the folder into which packages are installed for a Python."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    command = [str(python), "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


# %% copy_notebooks
def copy_notebooks(project: Project, root: Path) -> None:
    """Copy the folder of the notebooks to its place below `root`."""
    apart = {project.package_dir.resolve(), (project.root / "dist").resolve()}

    def leave_out(folder: str, names: list[str]) -> list[str]:
        return [
            name
            for name in names
            if name.startswith(".") or (Path(folder) / name).resolve() in apart
        ]

    place = root / project.notebooks_dir.relative_to(project.root)
    shutil.copytree(project.notebooks_dir, place, ignore=leave_out, dirs_exist_ok=True)


# %% try_notebooks
def try_notebooks(
    python: Path, project: Project, report: Callable[[str], None] = lambda line: None
) -> int:
    """Run all notebooks with what is installed for `python`; return how many.

    Raises `TrialError` at the first cell that fails.
    """
    notebooks = list_notebooks(project)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        root = Path(temporary).resolve()
        copy_notebooks(project, root)
        places = (find_packages(python),)
        policy = replace(
            make_policy(project),
            root=root,
            paths=places,
            sources=(),
            warmth=Warmth(warm=False),  # one may have imported the package already
        )
        for path in notebooks:
            name = project.name_of(path)
            report(f"running {name} with the installed wheel")
            try_notebook(read_source(path, name), policy)
    return len(notebooks)


def try_notebook(notebook: Notebook, policy: Policy) -> None:
    """Run one notebook; raises `TrialError` with the cell and the line."""
    failed = run_notebook(notebook, policy).failed
    if failed and failed.failure:
        line = None if failed.failure.cell else failed.failure.line
        at = Location(notebook.name, failed.failure.cell or failed.cell, line)
        hint = "it is run from another folder, with what the wheel holds"
        message = f"fails with the installed wheel: {failed.failure}"
        raise TrialError(message, at=at, hint=hint)
