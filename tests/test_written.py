"""Who wrote a file among the sources, when several notebooks run at the same time."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Sandbox, code, notebook_bytes

from litml.notebook import parse_notebook
from litml.run import Policy, run_notebook
from litml.strict import Strict
from litml.warmth import Warmth
from litml.written import Lookout, Presence, Written, find_register

STRICT = '[project]\nname = "mylib"\n\n[tool.litml.run]\nwritten-files = true\n'
# Each waits for the other, so that both run when the files are written.
MEET = """
import os, time
from pathlib import Path

def meet(name, other):
    Path("../meet", name).touch()
    limit = time.monotonic() + 30
    while not Path("../meet", other).exists():
        assert time.monotonic() < limit
        time.sleep(0.01)
"""
WRITER = "meet('a1', 'b1')\n{}\nmeet('a2', 'b2')"
NEIGHBOUR = "meet('b1', 'a1')\nmeet('b2', 'a2')"


@pytest.fixture
def pair(project: Sandbox) -> Sandbox:
    """Return a project of two notebooks, which have to run at the same time."""
    (project.root / "meet").mkdir()
    (project.root / "pyproject.toml").write_text(STRICT)
    project.write("b.ipynb", code("wait", MEET + NEIGHBOUR))
    return project


SIDE_BY_SIDE = [["--litml-jobs=2"], ["-n2"]]


@pytest.mark.parametrize("words", SIDE_BY_SIDE, ids=["jobs", "xdist"])
def test_a_neighbour_is_not_blamed(pair: Sandbox, words: list[str]) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is in the extra `test`")
    write = "Path('new.txt').write_text('x')\nos.replace('new.txt', 'model.pt')"
    pair.write("a.ipynb", code("make", MEET + WRITER.format(write)))
    done = pair.run(sys.executable, "-m", "pytest", "-q", *words, "nbs")
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "WroteFiles: cell make wrote nbs/model.pt" in done.stdout
    assert not find_register(pair.root).exists()


def test_what_nobody_claims_is_said_of_both(pair: Sandbox) -> None:
    write = "_ = os.system('echo x > log.txt')"
    pair.write("a.ipynb", code("make", MEET + WRITER.format(write)))
    done = pair.run(sys.executable, "-m", "pytest", "-q", "--litml-jobs=2", "nbs")
    assert "2 failed" in done.stdout, done.stdout
    said = "while cell {} and {} ran, something wrote nbs/log.txt"
    assert said.format("make", "nbs/b.ipynb") in done.stdout
    assert said.format("wait", "nbs/a.ipynb") in done.stdout


def test_a_file_of_an_editor_is_not_said_to_be_the_cells(tmp_path: Path) -> None:
    """The notebook waits for somebody else, who writes and has no part in the run."""
    (tmp_path / "nbs").mkdir()
    wait = "import time\nfrom pathlib import Path\nPath('../go').touch()\n"
    wait += "while not Path('note.txt').exists():\n    time.sleep(0.01)"
    editor = "import sys, time\nfrom pathlib import Path\nfolder = Path(sys.argv[1])\n"
    editor += "while not (folder / 'go').exists():\n    time.sleep(0.01)\n"
    editor += "(folder / 'nbs' / 'note.txt').write_text('x')"
    notebook = parse_notebook(notebook_bytes(code("a", wait)), "nbs/made.ipynb")
    policy = Policy(tmp_path, timeout=60, sources=(tmp_path / "nbs",), observe=True)
    with subprocess.Popen([sys.executable, "-c", editor, str(tmp_path)]):
        run = run_notebook(notebook, policy)
    assert run.passed and run.written == {"nbs/note.txt": Written("a")}


@pytest.mark.parametrize("warm", [True, False])
def test_a_kernel_that_dies_has_claimed_what_it_wrote(
    tmp_path: Path, warm: bool
) -> None:
    (tmp_path / "nbs").mkdir()
    write = "import os\nopen('model.pt', 'w').write('x')\nos._exit(1)"
    raw = notebook_bytes(code("a", "1"), code("b", write))
    notebook = parse_notebook(raw, "nbs/made.ipynb")
    policy = Policy(tmp_path, sources=(tmp_path / "nbs",), observe=True)
    policy = replace(policy, warmth=Warmth(warm=warm), strict=Strict(end_timeout=20))
    run = run_notebook(notebook, policy)
    assert run.failed and run.failed.cell == "b"
    assert run.written == {"nbs/model.pt": Written("b", sure=True)}


def test_a_runner_that_was_killed_is_no_neighbour(tmp_path: Path) -> None:
    text = (
        "import sys\nfrom pathlib import Path\nfrom litml.written import Presence\n"
        "one = Presence(Path(sys.argv[1]), 'nbs/b.ipynb')\nprint('ready', flush=True)\n"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", text, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as other:  # type: ignore[call-overload]
        assert other.stdout.readline() == "ready\n"
        mine = Presence(tmp_path, "nbs/a.ipynb")
        assert [one.notebook for one in mine.find_others()] == ["nbs/b.ipynb"]
        other.kill()
        other.wait()
    assert mine.find_others() == []
    mine.leave()
    assert not find_register(tmp_path).exists()


def test_without_a_register_a_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("litml.written.gettempdir", lambda: str(tmp_path / "file"))
    (tmp_path / "nbs").mkdir()
    lookout = Lookout(tmp_path, [tmp_path / "nbs"], "nbs/a.ipynb")
    lookout.listen(tmp_path)
    (tmp_path / "nbs" / "x.txt").touch()
    os.utime(tmp_path / "nbs" / "x.txt", (0, 0))  # as a copy with its old times
    found = lookout.close({"a": 0.0, "b": time.time() - 1})
    assert found == {tmp_path / "nbs" / "x.txt": Written("b", sure=True)}
