"""Notebooks that fail, hang, die or lie: each gets the verdict it deserves.

Most are run by one pytest, one after the other and with good ones in between, as a
project would; the rest needs kernels that are looked at more closely.
"""

import json
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Sandbox, code

linux = pytest.mark.skipif(
    sys.platform != "linux", reason="finds processes and memory in /proc"
)

THREAD = "import threading\ndef work():\n    1 / 0\nt = threading.Thread(target=work)\n"
TASK = "import asyncio\nasync def check():\n    assert 1 > 2, 'no'\n"
GOOD = "assert 1 + 1 == 2"


@dataclass(frozen=True)
class Row:
    """The cells a, b, … of a notebook; which has to fail, or one of which, and why.

    `place` is the cell and line that the report names, if not the failing one.
    """

    cells: list[str]
    failing: str | None = None
    says: str = ""
    place: str = ""


def fails(source: str, says: str, **more: str) -> Row:
    """Return a notebook whose middle cell has to fail."""
    return Row([GOOD, source, GOOD], "b", says, **more)


ROWS = {
    # The process goes.
    "os_exit": fails("import os\nos._exit(3)", "exit code 3"),
    "os_exit_0": fails("import os\nos._exit(0)", "exit code 0"),
    "segfault": fails("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
    "kill_9": fails("import os\nos.kill(os.getpid(), 9)", "SIGKILL"),
    "exit": fails("exit", "ends its kernel"),
    "quit": fails("quit()", "ends its kernel"),
    "sys_exit": fails("import sys\nsys.exit()", "SystemExit"),
    "out_of_memory": fails(
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))\n"
        "much = bytearray(2**33)",
        "MemoryError",
    ),
    # It does not end.
    "endless": fails("#| timeout: 0.5\nwhile True: pass", "still running after 0.5 s"),
    "holds_the_lock": fails("#| timeout: 0.5\nsum(range(10**13))", "was killed"),
    "ignores_sigint": fails(
        "#| timeout: 0.5\nimport signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "while True: pass",
        "was killed",
    ),
    "swallows_the_interrupt": fails(
        "#| timeout: 0.5\ntry:\n    while True: pass\nexcept BaseException: pass",
        "still running after 0.5 s",
    ),
    "closes_sockets": fails(
        "#| timeout: 1\nimport gc, zmq\n"
        "for one in gc.get_objects():\n    if isinstance(one, zmq.Socket): one.close(0)",
        "",
    ),
    # Output.
    "endless_output": fails(
        "#| timeout: 2\nwhile True:\n    print('all work and no play' * 500)",
        "still running after 2 s",
    ),
    "huge_display": Row(["from IPython.display import HTML\nHTML('x' * 10**8)", GOOD]),
    "closed_stdout": Row(["import sys\nsys.stdout.close()", GOOD]),
    "closed_files": Row(["import os\nos.close(1); os.close(2)", GOOD]),
    # Errors that others take for none.
    "input": fails("input('who? ')", "StdinNotImplementedError"),
    "rich": fails(
        "import rich.traceback\n_ = rich.traceback.install()\n1 / 0", "ZeroDivision"
    ),
    "custom_handler": fails(
        "ip = get_ipython()\nip.set_custom_exc((Exception,), lambda *_, **__: None)\n"
        "1 / 0",
        "ZeroDivisionError",
    ),
    "unknown_magic": fails("%nosuchmagic", "UsageError"),
    "unknown_cell_magic": fails("%%nosuchmagic\nx", "UsageError"),
    "no_traceback": fails(
        "class E(MemoryError):\n    __traceback__ = property(lambda e: 1 / 0)\nraise E",
        "",
    ),
    "run_script": fails("%run bad.py", "LookupError: in a script"),
    "capture": fails("%%capture\nprint(1)\n1 / 0", "ZeroDivisionError"),
    "failing_hook": fails(
        "def hook(*_):\n    raise LookupError('in a hook')\n"
        "get_ipython().events.register('post_run_cell', hook)",
        "LookupError: in a hook",
    ),
    "bash_fails": fails("%%bash\nexit 3", "CalledProcessError"),
    "patches_json": fails("import json\njson.dumps = lambda *_, **__: '{'", "KernelBr"),
    # Errors beside the cell.
    "thread": Row(
        [f"{THREAD}t.start(); t.join()", GOOD],
        "a",
        "ZeroDivisionError: division by zero (in thread `",
        "cell a, line 3",
    ),
    "late_thread": Row(
        [f"import time\n{THREAD.replace('1 / 0', 'time.sleep(0.5); 1 / 0')}t.start()"],
        "a",
        "ZeroDivisionError: division by zero (in thread `",
    ),
    "thread_of_an_earlier_cell": Row(
        [THREAD, GOOD, "t.start(); t.join()", GOOD], "c", "Zero", "cell a, line 3"
    ),
    "kept_task": Row(
        [f"{TASK}t = asyncio.create_task(check())", GOOD, GOOD],
        "c",
        "AssertionError: no (in task `check`)",
        "cell a, line 3",
    ),
    "lost_task": Row(
        [f"{TASK}asyncio.create_task(check());", "await asyncio.sleep(0.01)", GOOD],
        "ab",
        "AssertionError: no (in the event loop)",
        "cell a, line 3",
    ),
    "task_of_a_library": Row(
        ["import asyncio\nt = asyncio.create_task(asyncio.sleep('x'))", GOOD],
        "b",
        "TypeError",
        "cell a",
    ),
    "slow_task": Row(
        [f"{TASK.replace('    assert', '    await asyncio.sleep(0.3); assert')}"]
        + ["t = asyncio.create_task(check())"],
        "b",
        "AssertionError: no (in task `check`)",
        "cell a, line 3",
    ),
    "pending_task": Row(
        ["import asyncio\nt = asyncio.create_task(asyncio.sleep(99))", GOOD],
        "b",
        "PendingTask: still pending after the last cell (in task `sleep`)",
        "cell a",
    ),
    "callback": Row(
        ["import asyncio\nasyncio.get_running_loop().call_soon(int, 'x');", GOOD],
        "ab",
        "ValueError",
    ),
    "unraisable": Row(
        ["class A:\n    def __del__(self):\n        1 / 0\na = A()", "del a", GOOD],
        "b",
        "(ignored in `A.__del__`)",
        "cell a, line 3",
    ),
    "forked_child_fails": Row(
        ["import os\npid = os.fork()\nif not pid:\n    1 / 0\n_ = os.waitpid(pid, 0)"],
        "a",
        "ZeroDivisionError: division by zero (in a forked process)",
    ),
    "hanging_thread": Row(
        [
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(99,), name='worker').start()",
            GOOD,
        ],
        "b",
        "NeverEnds: the process does not end (in thread `worker`)",
    ),
    "hanging_atexit": Row(
        [
            "import atexit, time\ndef stay():\n    time.sleep(99)\n"
            "_ = atexit.register(stay)",
            GOOD,
        ],
        "b",
        "NeverEnds: the process does not end (in `atexit`)",
        "cell a, line 3",
    ),
    # What is in order, and stays so.
    "forked_child": Row(["import os\npid = os.fork()", "assert pid", "assert pid"]),
    "finished_work": Row(
        [
            f"{TASK}t = asyncio.create_task(check())",
            "try:\n    await t\nexcept AssertionError: pass",
            "from concurrent.futures import ThreadPoolExecutor\n"
            "pool = ThreadPoolExecutor()\nassert pool.submit(int, '1').result() == 1",
            "c = asyncio.create_task(asyncio.sleep(99))\nc.cancel()",
            "import subprocess\np = subprocess.Popen(['sleep', '99'])",
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
        ]
    ),
    "own_hooks": Row(
        [f"threading = None\n{THREAD}threading.excepthook = lambda told: None"]
        + ["t.start(); t.join()"]
    ),
    "shell": Row(["!false"]),
    # Directives mask none of it.
    "raises_and_dies": fails("#| raises: OSError\nimport os\nos._exit(0)", "exit code"),
    "raises_and_exits": fails("#| raises: Exit\nexit()", "ends its kernel"),
    "raises_in_thread": Row(
        [f"#| raises: ZeroDivisionError\n{THREAD}t.start(); t.join()\n1 / 0"],
        "a",
        "(in thread",
    ),
    "raises_too_late": fails(
        "#| raises: KeyboardInterrupt\n#| timeout: 0.5\nwhile True: pass", "Timeout"
    ),
    "flaky_thread": Row([f"#| flaky: 2\n{THREAD}t.start(); t.join()"], "a", "thread"),
    "flaky_death": fails("#| flaky: 2\nimport os\nos._exit(1)", "exit code 1"),
    "skip_at_the_end": Row(
        [f"{TASK}t = asyncio.create_task(check())", "#| skip: later\n1", "# none"],
        "a",
        "in task `check`",
    ),
    "needs_at_the_end": Row(
        [f"{TASK}t = asyncio.create_task(check())", "#| needs: network\n1"],
        "a",
        "in task `check`",
    ),
}
PYPROJECT = """
[project]
name = "mylib"

[tool.litml]
timeout = 20

[tool.litml.run]
end-timeout = 1.0
"""
CONFTEST = """
import json, resource

def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        with open("verdicts", "a") as file:
            told = [report.nodeid, report.outcome, str(report.longrepr or "")]
            file.write(json.dumps(told) + "\\n")

def pytest_unconfigure(config):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    open("peak", "w").write(str(peak * 1024))
"""


def find_marked(mark: str) -> list[str]:
    """Return the command lines of the processes that have a mark in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def evil(new_project: Callable[[], Sandbox]) -> Sandbox:
    """Return a project with a notebook for each row, which have been run."""
    project = new_project()
    (project.root / "pyproject.toml").write_text(PYPROJECT)
    (project.root / "conftest.py").write_text(CONFTEST)
    project.write_bytes("bad.py", b"x = 1\nraise LookupError('in a script')\n")
    for name, row in ROWS.items():
        cells = [code(chr(97 + i), source) for i, source in enumerate(row.cells)]
        project.write(f"{name}.ipynb", *cells)
    project.write("written.ipynb", code("a", "open('left.txt', 'w').close()"))
    project.write("zz_good.ipynb", code("a", GOOD), code("b", GOOD))
    project.write_bytes("corrupt.ipynb", b'{"cells": [')
    project.write_bytes("empty.ipynb", b"")
    named = {"kernelspec": {"name": "fortran-66", "display_name": "Fortran"}}
    project.write("no_kernel.ipynb", code("a", GOOD), metadata=named)
    environment = {**ENVIRONMENT, "MARK": uuid.uuid4().hex}
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "nbs")
    done = project.run(*command, timeout=600, env=environment)
    (project.root / "said").write_text(done.stdout + done.stderr)
    left = find_marked(environment["MARK"])
    (project.root / "left").write_text("\n".join(left))
    return project


def verdicts(project: Sandbox, notebook: str) -> dict[str, tuple[str, str]]:
    """Return outcome and report by cell."""
    lines = (project.root / "verdicts").read_text().splitlines()
    start = f"nbs/{notebook}.ipynb::"
    return {
        name.removeprefix(start): (outcome, report)
        for name, outcome, report in map(json.loads, lines)
        if name.startswith(start)
    }


@linux
@pytest.mark.parametrize("name", ROWS)
def test_each_notebook_gets_its_verdict(name: str, evil: Sandbox) -> None:
    row, found = ROWS[name], verdicts(evil, name)
    assert found, (evil.root / "said").read_text()[-2000:]
    failed = [cell for cell, (outcome, _) in found.items() if outcome == "failed"]
    assert len(failed) == bool(row.failing), found
    assert not failed or failed[0] in str(row.failing), found
    for cell, (outcome, report) in found.items():
        if cell in failed:
            assert row.says in report
            assert f"nbs/{name}.ipynb, {row.place or f'cell {cell}'}" in report
        elif outcome == "skipped" and "at_the_end" not in name:
            assert f"an earlier cell failed: {failed[0]}" in report


@linux
def test_the_others_are_unharmed(evil: Sandbox) -> None:
    assert verdicts(evil, "zz_good") == {"a": ("passed", ""), "b": ("passed", "")}
    assert verdicts(evil, "written") == {"a": ("passed", "")}
    for name, says in [
        ("corrupt", "the JSON stops"),
        ("empty", "empty"),
        ("no_kernel", "the kernel `fortran-66` is not installed"),
    ]:
        (outcome, report) = next(iter(verdicts(evil, name).values()))
        assert outcome == "failed" and says in report
        assert f"nbs/{name}.ipynb" in report


@linux
def test_no_process_is_left_and_memory_is_bounded(evil: Sandbox) -> None:
    assert (evil.root / "left").read_text() == ""
    assert int((evil.root / "peak").read_text()) < 700_000_000
    homes = Path("/tmp").glob("litml-*/connection.json")
    assert not [home for home in homes if home.stat().st_mtime > time.time() - 1]
