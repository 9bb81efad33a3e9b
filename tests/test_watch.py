"""`litml watch --clean` does for other editors what the server does for Jupyter."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ENVIRONMENT
from gitbox import NAME, Clone, ran


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Clone]:
    """A clone that is being watched."""
    clone = Clone(tmp_path / "mylib")
    command = [sys.executable, "-m", "litml", "watch", "--clean"]
    watch = subprocess.Popen(
        command, cwd=clone.root, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    assert watch.stdout and "watching nbs/" in watch.stdout.readline()
    time.sleep(1)
    yield clone
    watch.terminate()
    watch.wait(20)
    watch.stdout.close()


def wait(is_done: Callable[[], object]) -> None:
    for _ in range(300):
        if is_done():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen")


def test_a_save_is_cleaned_exported_and_no_change(watched: Clone) -> None:
    cell = ran("fit", "#| export\ndef fit(): ...", "0.93\n", 7)
    path = watched.save(cell | {"metadata": {"scrolled": True}})
    module = watched.root / "mylib/data.py"
    wait(lambda: module.exists() and b"scrolled" not in path.read_bytes())
    assert json.loads(path.read_bytes())["cells"] == [cell]
    time.sleep(1.1)
    watched.commit()
    watched.save({**cell, "outputs": ran("a", "", "a longer text\n")["outputs"]})
    wait(lambda: not watched.status())
    assert "a longer text" in path.read_text() and NAME not in watched.git("diff")
