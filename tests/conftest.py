"""A project in a temporary folder, and the command line run in it."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

if sys.platform != "win32":
    import fcntl

settings.register_profile("litml", deadline=None, max_examples=60)
settings.load_profile("litml")

PYPROJECT = '[project]\nname = "mylib"\n\n[tool.litml]\n'
# What programs of a CI service look at: pytest says more there, `litml` other things.
OF_CI = ("CI", "BUILD_NUMBER", "GITHUB_", "GITLAB_", "PYTEST_ADDOPTS")
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith(OF_CI)},
    # Plug-ins that take a second to load, and have nothing to do in these projects.
    "PYTEST_ADDOPTS": "-p no:hypothesispytest -p no:jaxtyping -p no:anyio",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.org",
}


def code(id: str | None, source: str, **more: object) -> dict[str, Any]:
    """Return a code cell; without `id`, one from before nbformat 4.5."""
    name = {} if id is None else {"id": id}
    cell = {"cell_type": "code", "metadata": {}, "source": source.splitlines(True)}
    return {**cell, **name, "execution_count": None, "outputs": [], **more}


def prose(id: str, source: str) -> dict[str, Any]:
    """Return a markdown cell."""
    lines = source.splitlines(True)
    return {"cell_type": "markdown", "id": id, "metadata": {}, "source": lines}


def notebook_bytes(*cells: Mapping[str, Any], **more: object) -> bytes:
    """Return the file of a notebook, laid out as Jupyter does."""
    tree = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    text = json.dumps({**tree, **more}, indent=1, ensure_ascii=False)
    # Half a character has no UTF-8; as a JSON escape it may stand in a file.
    return (text + "\n").encode("utf-8", "backslashreplace")


class Sandbox:
    """A project: its root folder, and what tests do with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "nbs").mkdir(parents=True, exist_ok=True)
        (root / "pyproject.toml").write_text(PYPROJECT)

    def write(self, name: str, *cells: Mapping[str, Any], **more: object) -> Path:
        """Write the notebook `name` below `nbs/`."""
        return self.write_bytes(name, notebook_bytes(*cells, **more))

    def write_bytes(self, name: str, data: bytes) -> Path:
        """Write any file below `nbs/`."""
        path = self.root / "nbs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def run(self, *command: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the root folder."""
        words = [str(word) for word in command]
        options = {"cwd": self.root, "env": ENVIRONMENT, "timeout": 60, **more}
        return subprocess.run(words, capture_output=True, text=True, **options)

    def litml(self, *words: object, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return self.run(sys.executable, "-m", "litml", *words, **more)

    def export(self, *words: object, **more: Any) -> str:
        """Export, which must succeed, and return what was printed."""
        done = self.litml("export", *words, **more)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def git(self, *words: object) -> str:
        """Run git, which must succeed."""
        done = self.run("git", *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def commit(self) -> None:
        """Commit everything, in a new repository if there is none."""
        if not (self.root / ".git").exists():
            self.git("init", "--quiet", "--initial-branch=main")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=all")

    def files(self, below: str = ".") -> dict[str, bytes]:
        """Return every file below a folder, hidden ones and litml's own included.

        Left out are two that hold nothing of their own: the lock, and `.gitignore`.
        """
        found = (path for path in (self.root / below).rglob("*") if path.is_file())
        names = {path.relative_to(self.root).as_posix(): path for path in found}
        empty = re.compile(r"(^|/)(\.git/litml/(.+/)?lock|\.litml/(lock|\.gitignore))$")
        return {
            name: path.read_bytes()
            for name, path in names.items()
            if not empty.search(name) and "__pycache__" not in path.parts
        }

    def modules(self) -> dict[str, bytes]:
        """Return the files of the package."""
        return self.files("mylib")

    def leftovers(self) -> list[str]:
        """Return temporary files of litml."""
        new = (path for path in self.files() if "litml-new" in path)
        return [*new, *(path for path in self.files() if path.endswith("pending.json"))]

    def replace_by(self, other: Path) -> None:
        """Make the folder a copy of another one, times of change included."""
        shutil.rmtree(self.root)
        shutil.copytree(other, self.root, symlinks=True)


@pytest.fixture(scope="session")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Sandbox]:
    """Return a function that makes an empty project."""
    return lambda: Sandbox(tmp_path_factory.mktemp("project") / "mylib")


@pytest.fixture(scope="session")
def once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], object]], Path]:
    """Return a function that has a folder filled by one worker, for all of them."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def fill(name: str, work: Callable[[Path], object]) -> Path:
        folder, done = base / name, base / f"{name}.done"
        with (base / f"{name}.lock").open("w") as lock:
            if sys.platform != "win32":
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                work(folder)
                done.touch()
        return folder

    return fill


@pytest.fixture
def project(new_project: Callable[[], Sandbox]) -> Sandbox:
    """Return an empty project."""
    return new_project()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Run a Chromium for one file of tests; its event loop would disturb others."""
    from browsing import open_browser

    with open_browser() as running:
        yield running
