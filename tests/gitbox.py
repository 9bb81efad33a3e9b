"""A project in a git repository that knows litml, and notebooks that have been run."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conftest import ENVIRONMENT, Sandbox, code, notebook_bytes

from litml.canonical import write_tree
from litml.clean import Policy, clean_bytes
from litml.git import find_repository
from litml.starter import render_starter, starter_path

NAME = "nbs/01_data.ipynb"


def ran(id: str, source: str, text: str, number: int = 1) -> dict[str, Any]:
    """Return a code cell that has printed something."""
    output = {"name": "stdout", "output_type": "stream", "text": [text]}
    return code(id, source, execution_count=number, outputs=[output])


def clean(raw: bytes) -> bytes:
    """Return what git should hold of a notebook."""
    return clean_bytes(raw, Policy())


class Clone(Sandbox):
    """A repository with a project, in which `litml install-hooks` was run."""

    def __init__(self, root: Path, install: bool = True) -> None:
        super().__init__(root)
        self.git("init", "--quiet", "--initial-branch=main")
        if install:
            self.install()
            self.commit()

    def install(self, *words: object) -> str:
        """Run `litml install-hooks`, which must succeed."""
        done = self.litml("install-hooks", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def save(self, *cells: Mapping[str, Any], name: str = NAME, **more: object) -> Path:
        """Write a notebook, named from the root, in the layout of Jupyter."""
        tree = json.loads(notebook_bytes(*cells, **more))
        path = self.root / name
        path.write_bytes(write_tree(tree))
        return path

    def blob(self, name: str = NAME, where: str = "") -> bytes:
        """Return what git holds, by default in its index."""
        return self.git_bytes("cat-file", "blob", f"{where}:{name}")

    def git_bytes(self, *words: object) -> bytes:
        """Run git, which must succeed, and return its output as it is."""
        command = ["git", *map(str, words)]
        done = subprocess.run(
            command, cwd=self.root, env=ENVIRONMENT, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> str:
        """Return what git calls modified."""
        return self.git("status", "--porcelain")

    @property
    def starter(self) -> Path:
        """The script that git starts."""
        return starter_path(find_repository(self.root))

    def set_python(self, program: object, home: Path | None = None) -> None:
        """Let git's script start another interpreter."""
        home = home or Path(__file__).parents[1]
        self.starter.write_text(render_starter(str(program), home))

    def mend(self) -> None:
        """Let git's script start this interpreter again."""
        self.set_python(sys.executable)


def script(path: Path, text: str) -> Path:
    """Write a shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def open_clone(root: Path) -> Clone:
    """Return a repository that is there already."""
    clone = Clone.__new__(Clone)
    clone.root = root
    return clone


def copy_clone(source: Path, target: Path) -> Clone:
    """Copy a repository, times of change included."""
    return open_clone(Path(shutil.copytree(source, target, symlinks=True)))
