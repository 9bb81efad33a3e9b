"""Notebooks on two branches, and a repository whose git merges them with litml."""

import copy
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from conftest import ENVIRONMENT, code, prose

Tree = dict[str, Any]
PATH = "nbs/with space ü.ipynb"
DRIVER = f"{sys.executable} -P -m litml.driver %O %A %B %L %P"


def to_bytes(tree: Tree) -> bytes:
    """Return the file of a notebook as Jupyter saves it."""
    return (
        json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    ).encode()


def stream(text: str) -> Tree:
    return {"name": "stdout", "output_type": "stream", "text": text.splitlines(True)}


def result(text: str, count: int) -> Tree:
    kind = {"output_type": "execute_result", "execution_count": count, "metadata": {}}
    return {**kind, "data": {"text/plain": [text]}}


LOAD = """#| export
def load(p):
    "Read a file."
    with open(p) as f:
        x = f.read()
    y = len(x)
    return x, y"""
SAVE = """#| export
def save(p, o):
    with open(p, "w") as f:
        n = f.write(o)
    return n"""
SECOND = (
    LOAD.split("\n    y")[0],
    "y" + LOAD.split("\n    y")[1].replace("\n    ", "\n"),
)


def base_notebook() -> Tree:
    """Nine cells: a title, imports, two functions with examples, and an end."""
    cells = [
        prose("aaaa0001", "# Core\n\nLoad and save things.\nThat is all."),
        code("aaaa0002", "#| default_exp core"),
        code("aaaa0003", "#| export\nimport json"),
        code("aaaa0004", LOAD),
        code("aaaa0005", 'load("a.json")', execution_count=3),
        prose("aaaa0006", "## Save"),
        code("aaaa0007", SAVE),
        code("aaaa0008", 'print(save("a.json", "{}"))', execution_count=5),
        code("aaaa0009", '#| hide\nprint("done")', execution_count=6),
    ]
    cells[4]["outputs"] = [result("('{}', 2)", 3)]
    cells[7]["outputs"] = [stream("2\n")]
    cells[8]["outputs"] = [stream("done\n")]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    about = {"name": "python", "version": "3.10.1"}
    metadata = {"kernelspec": kernel, "language_info": about}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


class Edited:
    """A notebook, and what a person may do to it. Cells are counted from 1."""

    def __init__(self, tree: Tree) -> None:
        self.tree = copy.deepcopy(tree)
        self.cells: list[Tree] = self.tree["cells"]

    def text(self, number: int) -> str:
        return "".join(self.cells[number - 1]["source"])

    def edit(self, number: int, old: str, new: str) -> "Edited":
        text = self.text(number)
        assert text.count(old) == 1, (old, text)
        return self.write(number, text.replace(old, new))

    def write(self, number: int, text: str) -> "Edited":
        self.cells[number - 1]["source"] = text.splitlines(True)
        return self

    def run(self, mark: str) -> "Edited":
        """Run it again: all counts, and what was printed, are others."""
        for i, cell in enumerate(self.cells):
            if cell["cell_type"] == "code":
                cell["execution_count"] = len(mark) * 10 + i
                cell["outputs"] = cell["outputs"] and [stream(f"{mark} {i}\n")]
        return self

    def insert(self, behind: int, cell: Tree) -> "Edited":
        self.cells.insert(behind, cell)
        return self

    def delete(self, number: int) -> "Edited":
        del self.cells[number - 1]
        return self

    def move(self, number: int, place: int) -> "Edited":
        self.cells.insert(place - 1, self.cells.pop(number - 1))
        return self

    def set(self, number: int, **more: Any) -> "Edited":
        self.cells[number - 1] |= more
        return self

    def metadata(self, key: str, value: Any) -> "Edited":
        self.tree["metadata"][key] = value
        return self

    def do(self, change: Callable[["Edited"], Any]) -> "Edited":
        change(self)
        return self


class Repository:
    """A git repository that merges notebooks with litml's driver."""

    def __init__(self, root: Path, driver: str = DRIVER) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")
        self.git("config", "merge.litml.driver", driver)
        self.git("config", "core.quotepath", "false")
        self.write(".gitattributes", b"*.ipynb merge=litml\n")

    def run(self, *words: object, **more: Any) -> subprocess.CompletedProcess[str]:
        options = {"cwd": self.root, "env": ENVIRONMENT, "timeout": 60, **more}
        command = ["git", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, **options)

    def git(self, *words: object, **more: Any) -> str:
        done = self.run(*words, **more)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def write(self, name: str, raw: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
        return path

    def commit(self, name: str, raw: bytes | None) -> None:
        """Commit a file, or that it is gone."""
        if raw is None:
            self.git("rm", "-q", name)
        else:
            self.write(name, raw)
            self.git("add", "-A")
        self.git("commit", "-q", "-m", "change")

    def fork(self, base: bytes | None, ours: bytes, theirs: bytes, path: str) -> None:
        """Make branches `main` and `theirs` from one commit; `main` is checked out."""
        self.commit(*(("empty", b"") if base is None else (path, base)))
        self.git("checkout", "-q", "-b", "theirs")
        self.commit(path, theirs)
        self.git("checkout", "-q", "main")
        self.commit(path, ours)

    def import_versions(self, forks: Mapping[str, Mapping[str, bytes | None]]) -> None:
        """Make branches `NAME-ours` and `NAME-theirs` for each fork, all at once."""
        lines: list[bytes] = []
        for name, versions in forks.items():
            for branch, start in (("base", ""), ("ours", "base"), ("theirs", "base")):
                lines += [f"commit refs/heads/{name}-{branch}".encode()]
                lines += [
                    b"committer A <a@example.org> 1700000000 +0000",
                    b"data 1",
                    b"x",
                ]
                if start:
                    lines += [f"from refs/heads/{name}-{start}".encode()]
                files = {
                    ".gitattributes": b"*.ipynb merge=litml\n",
                    PATH: versions[branch],
                }
                for path, raw in files.items():
                    if raw is not None:
                        lines += [f"M 100644 inline {path}".encode()]
                        lines += [f"data {len(raw)}".encode(), raw]
        stdin = b"\n".join([*lines, b""])
        command = ["git", "fast-import", "--quiet"]
        subprocess.run(command, input=stdin, cwd=self.root, env=ENVIRONMENT, check=True)

    def tree(self, path: str = PATH) -> Tree:
        tree: Tree = json.loads((self.root / path).read_bytes())
        return tree


def sources(tree: Tree) -> list[str]:
    return ["".join(cell["source"]) for cell in tree["cells"]]


def flags(tree: Tree) -> list[str]:
    found = [
        cell["metadata"].get("litml", {}).get("conflict") for cell in tree["cells"]
    ]
    return [flag for flag in found if flag]
