"""Warm kernels in other hands: any Jupyter client's, and pytest's, several at once."""

import asyncio
import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import Sandbox, code
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory

from litml import warm

if not sys.platform.startswith("linux"):
    pytest.skip("forking is for Linux", allow_module_level=True)

# What jupyter_client has chosen once in a process it keeps.
fresh = pytest.mark.skipif(
    not os.environ.get("LITML_FRESH"), reason="run by test_clients_in_a_new_process"
)


def test_clients_in_a_new_process() -> None:
    names = "knows_nothing or nbclient"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-k", names]
    environ = {**os.environ, "LITML_FRESH": "1"}
    environ.pop("PYTEST_XDIST_TESTRUNUID", None)
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", __file__],
        env=environ,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


CALLS = "import os\nprint(os.getpid(), open(f'/proc/{os.getppid()}/cmdline').read())"


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of these tests are odd, and not to be shared with other workers."""
    monkeypatch.delenv("PYTEST_XDIST_TESTRUNUID", raising=False)


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("JUPYTER_DEFAULT_PROVISIONER_NAME", "litml")
    KernelProvisionerFactory.clear_instance()  # which reads that only once
    yield
    KernelProvisionerFactory.clear_instance()


def talk(work: Callable[[AsyncKernelManager, Any], Any], **start: Any) -> Any:
    """Start a kernel as any client would, do some work with it, and end it."""

    async def whole() -> Any:
        manager = AsyncKernelManager()
        await manager.start_kernel(**start)
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=60)
            return await work(manager, client)
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)

    return asyncio.run(whole())


async def run(client: Any, source: str) -> tuple[str, str]:
    """Return the status of a cell and what it has printed."""
    texts = []

    def hook(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            texts.append(message["content"]["text"])

    reply = await client.execute_interactive(source, output_hook=hook, timeout=60)
    return reply["content"]["status"], "".join(texts)


@fresh
@pytest.mark.usefixtures("chosen")
def test_a_client_that_knows_nothing_of_litml(tmp_path: Path) -> None:
    async def work(manager: AsyncKernelManager, client: Any) -> None:
        status, said = await run(client, CALLS)
        assert status == "ok" and "litml.forkserver" in said
        status, said = await run(client, "print(os.getcwd())")
        assert said.strip() == str(tmp_path)
        late = asyncio.create_task(run(client, "import time\ntime.sleep(60)"))
        await asyncio.sleep(0.5)
        await manager.interrupt_kernel()
        assert (await late)[0] == "error"
        await manager.restart_kernel(now=True)
        await client.wait_for_ready(timeout=60)
        assert (await run(client, "print(1 + 1)"))[1] == "2\n"
        assert await manager.is_alive()

    talk(work, cwd=str(tmp_path))


@pytest.mark.usefixtures("chosen")
def test_a_kernel_that_dies_is_seen_to_be_dead() -> None:
    async def work(manager: AsyncKernelManager, client: Any) -> float:
        client.execute("import os\nos._exit(3)")
        begun = time.monotonic()
        while await manager.is_alive() and time.monotonic() < begun + 30:
            await asyncio.sleep(0.01)
        assert not await manager.is_alive()
        process = manager.provisioner.process  # type: ignore[union-attr]
        assert process.poll() == 3
        return time.monotonic() - begun

    talk(work)


@pytest.mark.usefixtures("chosen")
def test_no_other_kernel_is_given_the_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by a client that tries only those which this one has chosen."""
    taken: list[OSError] = []
    fork = warm.ForkServer.fork

    def compete(server: warm.ForkServer, words: list[str], *rest: Any) -> Any:
        told = json.loads(Path(words[1]).read_text())
        for name in ("shell_port", "iopub_port", "stdin_port", "hb_port"):
            with socket.socket() as other, pytest.raises(OSError) as error:
                other.bind((told["ip"], told[name]))
            taken.append(error.value)
        return fork(server, words, *rest)

    monkeypatch.setattr(warm.ForkServer, "fork", compete)

    async def work(manager: AsyncKernelManager, client: Any) -> tuple[str, str]:
        assert manager.provisioner.held == ()  # type: ignore[union-attr]
        return await run(client, "print(6 * 7)")

    assert talk(work) == ("ok", "42\n")
    assert [error.errno for error in taken] == [errno.EADDRINUSE] * 4


@pytest.mark.usefixtures("chosen")
def test_where_there_is_no_server_an_ordinary_kernel_is_launched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise warm.ForkError("there is none")

    monkeypatch.setattr("litml.provisioner.get_server", refuse)

    async def work(manager: AsyncKernelManager, client: Any) -> tuple[str, str]:
        return await run(client, CALLS)

    status, said = talk(work)
    assert status == "ok" and "litml.forkserver" not in said


@fresh
@pytest.mark.usefixtures("chosen")
def test_nbclient_runs_a_notebook(tmp_path: Path) -> None:
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    cell = nbformat.v4.new_code_cell(CALLS)
    notebook = nbformat.v4.new_notebook(cells=[cell])
    nbclient.NotebookClient(
        notebook, resources={"metadata": {"path": tmp_path}}
    ).execute()
    assert "litml.forkserver" in notebook.cells[0].outputs[0].text


# pytest, several notebooks at once ---------------------------------------------------

JOBS = ("-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "no:xdist", "nbs")


def write_some(project: Sandbox) -> None:
    """Write notebooks that pass, fail and crash, in this order, twice."""
    for turn in (1, 2):
        slow = f"import time\ntime.sleep(0.3)\nx = {turn}"
        project.write(f"{turn}a_passes.ipynb", code("one", slow), code("two", "x + 1"))
        project.write(f"{turn}b_fails.ipynb", code("one", "y = 7\n1 / 0"))
        project.write(f"{turn}c_dies.ipynb", code("one", "import os\nos._exit(9)"))
        project.write(f"{turn}d_skips.ipynb", code("one", "#| skip\n1"))


def verdicts(text: str) -> list[str]:
    """Return the lines of a report that say what became of a test, without times."""
    lines = [line.partition(" [")[0] for line in text.splitlines()]
    return [line for line in lines if line.startswith("nbs/") and "::" in line]


def test_what_runs_ahead_is_reported_as_if_it_did_not(project: Sandbox) -> None:
    write_some(project)
    one = project.run(sys.executable, *JOBS, timeout=120)
    two = project.run(sys.executable, *JOBS, "--litml-jobs=2", timeout=120)
    assert verdicts(two.stdout) == verdicts(one.stdout)
    assert len(verdicts(two.stdout)) == 10
    for report in (one.stdout, two.stdout):
        assert "y = 7" in report, "a failed kernel waits to be asked for its variables"
        assert "exit code 9" in report


def test_stopping_at_the_first_failure_ends_what_runs_ahead(project: Sandbox) -> None:
    project.write("a.ipynb", code("one", "1 / 0"))
    for name in "bcd":
        source = f"open('began-{name}', 'w').close()\nimport time\ntime.sleep(60)"
        project.write(f"{name}.ipynb", code("one", source))
    begun = time.monotonic()
    done = project.run(sys.executable, *JOBS, "-x", "--litml-jobs=2", timeout=50)
    assert done.returncode == 1 and time.monotonic() - begun < 45
    assert not (project.root / "nbs" / "began-d").exists()


CONFTEST = """
import pytest

@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item):
    report = yield
    if report.when == "call":
        assert report.duration == item.parent.runner.runs[item.index].seconds
    return report
"""


def test_no_more_kernels_than_jobs(project: Sandbox) -> None:
    (project.root / "conftest.py").write_text(CONFTEST)  # a cell's time is its own
    count = "import os, pathlib, time\n"
    count += "mark = pathlib.Path(f'alive-{os.getpid()}')\nmark.touch()\n"
    count += "time.sleep(0.3)\nalive = len(list(pathlib.Path().glob('alive-*')))\n"
    count += "mark.unlink()\nassert alive <= 2, alive"
    for number in range(6):
        project.write(f"n{number}.ipynb", code("one", count))
    done = project.run(sys.executable, *JOBS, "--litml-jobs=2", timeout=120)
    assert done.returncode == 0, done.stdout


def test_an_interrupted_run_leaves_nothing(project: Sandbox) -> None:
    tell = (
        "import os, time\nopen('pids', 'a').write(f'{os.getpid()}\\n')\ntime.sleep(60)"
    )
    for name in "ab":
        project.write(f"{name}.ipynb", code("one", tell))
    pids = project.root / "nbs" / "pids"
    words = [sys.executable, *JOBS, "--litml-jobs=2"]
    with subprocess.Popen(
        words, cwd=project.root, stdout=subprocess.DEVNULL
    ) as pytest_:
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            if pids.exists() and pids.read_text().count("\n") == 2:
                break
            time.sleep(0.05)
        pytest_.send_signal(signal.SIGINT)
        assert pytest_.wait(timeout=60) == 2
    for pid in pids.read_text().split():
        limit = time.monotonic() + 60
        while os.path.exists(f"/proc/{pid}") and time.monotonic() < limit:
            time.sleep(0.02)
        assert not os.path.exists(f"/proc/{pid}")
