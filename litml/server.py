# Exported from nbs/09f_server.ipynb. Edit either side, then run `litml sync`.
"""A save in JupyterLab cleans the notebook and exports the package."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from litml.canonical import OddFile, load_tree, write_tree
from litml.clean import clean_tree, parse_policy
from litml.files import Overtaken, Transaction, locked, state_dir
from litml.git import settle
from litml.notebook import LitmlError
from litml.package import export_project
from litml.project import Project, find_project
from litml.text import is_notebook

__all__ = ["clean_content", "clean_file"]


# ## Before the save
# %% clean_content
def clean_content(content: dict[str, Any], project: Project) -> None:
    """Clean the tree of a notebook in place, but for what its cells show."""
    policy = parse_policy(project.config.tables.get("clean", {}))
    cells = content["cells"]
    shown = [
        {key: cell[key] for key in ("outputs", "execution_count") if key in cell}
        for cell in cells
    ]
    clean_tree(content, policy)
    for cell, values in zip(cells, shown, strict=True):
        cell.update(values)


# %% clean_file
def clean_file(path: Path, project: Project) -> bool:
    """Clean a notebook's file, but for what its cells show; return if it changed.

    Raises `WriteError` if it cannot be written.
    """
    try:
        raw = path.read_bytes() if path.suffix == ".ipynb" else b""
        tree = load_tree(raw)
    except (OSError, OddFile):
        return False
    clean_content(tree, project)
    state = state_dir(project.root)
    with locked(state), Transaction(state) as transaction:
        changed = transaction.stage(path, write_tree(tree))
        try:
            transaction.commit({path: raw})
        except Overtaken:
            return False  # a later save, which is cleaned in its turn
    return changed


# ## Which project
# %% project_of
def project_of(path: Path) -> Project | None:
    """Return the project whose notebook a file is; raises `ConfigError`."""
    if not has_configuration(path):
        return None
    project = find_project(path.parent)
    inside = path.resolve().is_relative_to(project.notebooks_dir.resolve())
    return project if inside and not project.nbdev and is_notebook(path) else None


def has_configuration(path: Path) -> bool:
    """Is there a project around a file whose configuration names litml?"""
    for folder in path.parents:
        if (folder / "pyproject.toml").is_file():
            return b"litml" in (folder / "pyproject.toml").read_bytes()
    return False


# ## The extension
# %% Saver
class Saver:
    """What happens at a save; `log` is the server's."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self.worker = ThreadPoolExecutor(1, "litml")

    def before(
        self, *, model: dict[str, Any], path: str, contents_manager: Any
    ) -> None:
        """Clean what is to be saved."""
        with self.logged(path):
            file = Path(contents_manager.root_dir, path.strip("/"))
            if model.get("type") == "notebook" and (project := project_of(file)):
                clean_content(model["content"], project)

    def after(self, *, os_path: str, **_: object) -> None:
        """Export, once the file is there."""
        self.worker.submit(self.export, Path(os_path))

    def export(self, path: Path) -> None:
        """Export the project that a notebook is in, and say what came of it."""
        with self.logged(str(path)):
            if not (project := project_of(path)):
                return
            report = export_project(project)
            for error in (*report.problems, *report.stale):
                self.log.warning("litml: %s", error)
            if report.written:
                self.log.info("litml: exported %s", ", ".join(report.written))
            settle(project.root, [path])

    @contextlib.contextmanager
    def logged(self, name: str) -> Iterator[None]:
        """Let nothing that goes wrong get through to the server."""
        try:
            yield
        except LitmlError as error:
            self.log.warning("litml: %s", error)
        except Exception:
            self.log.exception("litml: something went wrong after %s was saved", name)


# %% load_jupyter_server_extension
def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Tell Jupyter where the extension is."""
    return [{"module": "litml.server"}]


def _load_jupyter_server_extension(server: Any) -> None:
    """Start the extension in a server."""
    manager = server.contents_manager
    if hasattr(manager, "root_dir") and hasattr(manager, "register_post_save_hook"):
        saver = Saver(server.log)
        manager.register_pre_save_hook(saver.before)
        manager.register_post_save_hook(saver.after)
