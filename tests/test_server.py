"""A real Jupyter server saves notebooks: they are cleaned, exported, and not `M`."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, code
from gitbox import NAME, Clone, ran

pytest.importorskip("jupyter_server")
ROOT = Path(__file__).parents[1]


class Server:
    """A Jupyter server on this machine."""

    def __init__(self, clone: Clone, folder: Path) -> None:
        self.clone = clone
        settings = folder / "config/jupyter_server_config.d"
        settings.mkdir(parents=True)
        for file in (ROOT / "jupyter-config").iterdir():
            (settings / file.name).write_bytes(file.read_bytes())
        environment = {
            **ENVIRONMENT,
            "JUPYTER_CONFIG_PATH": str(folder / "config"),
            "JUPYTER_RUNTIME_DIR": str(folder / "run"),
            "JUPYTER_CONFIG_DIR": str(folder / "own"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "PYTHONPATH": str(ROOT),
        }
        options = [
            "--no-browser",
            "--allow-root",
            "--IdentityProvider.token=",
            "--port=0",
        ]
        command = [sys.executable, "-m", "jupyter_server", *options, "--ip=127.0.0.1"]
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [
                *command,
                f"--ServerApp.root_dir={clone.root}",
                "--ServerApp.disable_check_xsrf=True",
            ],
            env=environment,
            stderr=self.log.open("w"),
        )
        self.wait(lambda: list((folder / "run").glob("jpserver-*.json")))
        [about] = (folder / "run").glob("jpserver-*.json")
        self.url = json.loads(about.read_text())["url"]
        self.wait(self.answers)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}api/status", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def wait(self, is_done: Callable[[], object]) -> None:
        """Wait until something has happened."""
        for _ in range(600):
            if is_done():
                return
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def save(self, name: str, *cells: dict[str, Any]) -> dict[str, Any]:
        """Save a notebook as JupyterLab does, and return the server's answer."""
        tree = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        model = {"type": "notebook", "format": "json", "content": tree}
        request = urllib.request.Request(
            f"{self.url}api/contents/{name}",
            json.dumps(model).encode(),
            {"Content-Type": "application/json"},
            method="PUT",
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    one = Server(Clone(folder / "mylib"), folder)
    yield one
    one.process.terminate()
    one.process.wait(30)


def text_cell(source: str, **more: Any) -> dict[str, Any]:
    """Return a code cell as a front end sends it, its text as one string."""
    return {**code("fit", source), "source": source, **more}


def read_module(server: Server) -> str:
    """Return the text of the module, "" as long as there is none."""
    path = server.clone.root / "mylib/data.py"
    return path.read_text() if path.exists() else ""


def test_a_save_cleans_and_exports(server: Server) -> None:
    module = server.clone.root / "mylib/data.py"
    cell = ran("fit", "", "0.93\n") | text_cell("#| export\ndef fit(): ...")
    cell |= {"outputs": ran("a", "", "0.93\n")["outputs"], "execution_count": 7}
    answer = server.save(NAME, cell | {"metadata": {"scrolled": True}})
    path = server.clone.root / NAME
    saved = json.loads(path.read_bytes())["cells"][0]
    assert saved["metadata"] == {} and saved["execution_count"] == 7
    assert saved["outputs"][0]["text"] == ["0.93\n"]
    server.wait(lambda: module.exists() and "def fit" in module.read_text())
    with urllib.request.urlopen(f"{server.url}api/contents/{NAME}?content=0") as now:
        again = json.load(now)
    assert again["last_modified"] == answer["last_modified"], "or Jupyter will ask"


def test_a_run_alone_is_no_change(server: Server) -> None:
    cell = text_cell("#| export\ndef fit(): ...")
    server.save(NAME, cell)
    time.sleep(1.1)
    server.clone.commit()
    server.save(NAME, {**cell, "outputs": ran("a", "", "a longer text\n")["outputs"]})
    server.wait(lambda: not server.clone.status())
    assert "a longer text" in (server.clone.root / NAME).read_text()
    server.save(NAME, text_cell("#| export\ndef fit(x): ..."))
    server.wait(lambda: "fit(x)" in read_module(server))
    assert f" M {NAME}\n" in server.clone.status()


def test_a_mistake_is_told_and_the_file_is_saved(server: Server) -> None:
    server.save(NAME, text_cell("#| exprot\ndef fit(): ..."))
    assert "exprot" in (server.clone.root / NAME).read_text()
    server.wait(lambda: "unknown directive `exprot`" in server.log.read_text())
    configuration = server.clone.root / "pyproject.toml"
    text = configuration.read_text()
    configuration.write_text(text + "oops = [\n")
    server.save(NAME, text_cell("#| export\ndef fit(y): ..."))
    assert "fit(y)" in (server.clone.root / NAME).read_text()
    server.wait(lambda: "not TOML" in server.log.read_text())
    configuration.write_text(text)
    server.save(NAME, text_cell("#| export\ndef fit(z): ..."))
    server.wait(lambda: "fit(z)" in read_module(server))


def test_a_notebook_of_no_project_is_left_alone(server: Server) -> None:
    server.save("draft.ipynb", text_cell("1") | {"metadata": {"scrolled": True}})
    assert "scrolled" in (server.clone.root / "draft.ipynb").read_text()


def test_a_cell_without_id_gets_no_random_one(server: Server) -> None:
    cell = text_cell("x = 1")
    del cell["id"]
    ids = set()
    for _ in range(2):
        server.save("nbs/02_more.ipynb", cell)
        path = server.clone.root / "nbs/02_more.ipynb"
        ids.add(json.loads(path.read_bytes())["cells"][0]["id"])
        os.unlink(path)
    assert len(ids) == 1
