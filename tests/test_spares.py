"""Ordinary kernels that start before their notebook's turn, where none is forked."""

import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Sandbox, code, notebook_bytes

from litml.kernel import Loop
from litml.notebook import parse_notebook
from litml.run import Policy, Runner
from litml.warmth import Warmth

linux = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")

# As on a system where a process cannot be copied.
CONFTEST = "import litml.warm\nlitml.warm.can_fork = lambda: False\n"
COUNT = """
import os, time
from pathlib import Path

def kernels():
    mark, found = f"MARK={os.environ['MARK']}".encode(), 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            said = (folder / "environ").read_bytes().split(bytes(1))
        except OSError:
            continue
        found += b"ipykernel_launcher" in words and mark in said
    return found
"""
WAIT = """
limit = time.monotonic() + 30
while kernels() < {most} and time.monotonic() < limit:
    time.sleep(0.02)
assert kernels() == {most}, kernels()
"""


def find_marked(mark: str) -> list[str]:
    """Return the command lines of the processes with this mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"MARK={mark}".encode() in (folder / "environ").read_bytes().split(
                b"\0"
            ):
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.fixture
def cold(project: Sandbox) -> Sandbox:
    """Return a project whose kernels are not forked."""
    (project.root / "conftest.py").write_text(CONFTEST)
    return project


@linux
@pytest.mark.parametrize("jobs", [1, 2])
def test_one_kernel_waits_for_its_notebook_and_no_more(
    cold: Sandbox, jobs: int
) -> None:
    first = f"{WAIT.format(most=jobs + 1)}Path('seen').touch()"
    other = "while not Path('seen').exists():\n    time.sleep(0.02)"
    last = code("b", f"assert kernels() <= {jobs + 1}")
    for name in "klm":
        more = first if name == "k" else other
        cold.write(f"{name}.ipynb", code("a", f"{COUNT}\n{more}"), last)
    words = ["-m", "pytest", "-q", f"--litml-jobs={jobs}", "nbs"]
    mark = uuid.uuid4().hex
    done = cold.run(sys.executable, *words, env={**ENVIRONMENT, "MARK": mark})
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout and find_marked(mark) == []


def test_a_kernel_is_not_of_another_time_or_place(cold: Sandbox) -> None:
    """What comes before a notebook may change what its kernel has to be."""
    here = "import os\nassert os.path.basename(os.getcwd()) == {!r}, os.getcwd()\n"
    cold.write("a.ipynb", code("a", here.format("nbs") + "os.environ['FROM_A'] = '1'"))
    late = "assert os.environ['LATE'] == 'set' and 'FROM_A' not in os.environ"
    cold.write("sub/b.ipynb", code("b", here.format("sub") + late))
    cold.write("sub/c.ipynb", code("c", here.format("sub") + late))
    text = "import os\n\ndef test_environment():\n    os.environ['LATE'] = 'set'\n"
    (cold.root / "test_it.py").write_text(text)
    files = ["nbs/a.ipynb", "test_it.py", "nbs/sub/b.ipynb", "nbs/sub/c.ipynb"]
    done = cold.run(sys.executable, "-m", "pytest", "-q", *files)
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout


@linux
def test_a_worker_starts_the_next_kernel_early(cold: Sandbox) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is in the extra `test`")
    for name in "kl":
        more = WAIT.format(most=2) if name == "k" else ""
        cold.write(f"{name}.ipynb", code("a", COUNT), code("b", f"1\n{more}"))
    mark = uuid.uuid4().hex
    words = ["-m", "pytest", "-q", "-n1", "nbs"]
    done = cold.run(sys.executable, *words, env={**ENVIRONMENT, "MARK": mark})
    assert done.returncode == 0 and "4 passed" in done.stdout, done.stdout
    assert find_marked(mark) == []


@linux
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_no_spare_outlives_its_runner(signum: int, cold: Sandbox) -> None:
    wait = f"{COUNT}{WAIT.format(most=2)}Path('begun').touch()\ntime.sleep(600)"
    cold.write("a.ipynb", code("a", wait))
    cold.write("b.ipynb", code("b", "1"))
    mark = uuid.uuid4().hex
    runner = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "nbs"],
        cwd=cold.root,
        env={**ENVIRONMENT, "MARK": mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    limit = time.monotonic() + 40
    while not (cold.root / "nbs" / "begun").exists():
        assert time.monotonic() < limit and runner.poll() is None
        time.sleep(0.05)
    runner.send_signal(signum)
    assert runner.wait(timeout=30) != 0
    while (left := find_marked(mark)) and time.monotonic() < limit + 30:
        time.sleep(0.1)
    assert left == []


def test_a_spare_that_has_died_is_replaced(tmp_path: Path) -> None:
    raw = notebook_bytes(code("a", "x = 1"), code("b", "x"))
    notebook = parse_notebook(raw, "made.ipynb")
    policy = Policy(tmp_path, warmth=Warmth(warm=False))
    runner = Runner(notebook, policy)

    async def work() -> None:
        runner.prepare()
        assert runner.supply.spare is not None
        spare = await runner.supply.spare.task
        assert spare.group is not None
        os.killpg(spare.group, signal.SIGKILL)
        while await spare.is_alive():
            await spare.client.rest(0.1)
        await runner.run_to(1)
        assert runner.kernel is not spare and not spare.home.exists()

    with Loop() as loop:
        loop.run(work())
    assert not runner.failed and len(runner.runs) == 2
    assert Runner(notebook, replace(policy, warmth=Warmth())).supply.spare is None
