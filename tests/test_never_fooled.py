"""Notebooks that fail, hang, die or lie: each gets the verdict it deserves.

Most are run by one pytest, one after the other and with good ones in between, as a
project would; the rest needs kernels that are looked at more closely.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Sandbox, code, notebook_bytes

from litml.kernel import Kernel, Loop, start_kernel
from litml.notebook import parse_notebook
from litml.outcome import Execution, Status
from litml.run import NotebookRun, Policy, run_notebook
from litml.strict import Strict
from litml.warmth import Warmth
from litml.written import Written

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
    "kills_its_parent": fails(
        "import os, time\nos.kill(os.getppid(), 9)\ntime.sleep(9)", "SIGKILL"
    ),
    "kills_its_group": fails("import os\nos.killpg(0, 9)", "SIGKILL"),
    "closes_everything": fails("import os\nos.closerange(3, 256)", "KernelDied"),
    "stops_the_loop": Row(
        ["import asyncio\nasyncio.get_running_loop().stop()", GOOD], "b", "KernelDied"
    ),
    # It does not end.
    "endless": fails("#| timeout: 0.5\nwhile True: pass", "still running after 0.5 s"),
    "holds_the_lock": fails("#| timeout: 0.5\nsum(range(10**13))", "was killed"),
    "ignores_sigint": fails(
        "#| timeout: 0.5\nimport signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "while True: pass",
        "was killed",
    ),
    "busy_task": Row(
        [
            "import asyncio\nasync def work():\n    while True: pass\n"
            "task = asyncio.create_task(work())",
            f"#| timeout: 0.5\n{GOOD}",
        ],
        "b",
        "still running after 0.5 s",
    ),
    "swallows_the_interrupt": fails(
        "#| timeout: 0.5\ntry:\n    while True: pass\nexcept BaseException: pass",
        "still running after 0.5 s",
    ),
    "closes_sockets": fails(
        "#| timeout: 1\nimport gc, zmq\n"
        "for one in gc.get_objects():\n"
        "    if isinstance(one, zmq.Socket): one.close(0)",
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
    "failing_display": fails(
        "class A:\n    def _repr_html_(self): raise ValueError('no html')\nA()",
        "ValueError: no html",
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
        [
            TASK.replace("assert", "await asyncio.sleep(0.3); assert"),
            "t = asyncio.create_task(check())",
        ],
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
    "hanging_process": Row(
        [
            "import multiprocessing, time\n"
            "multiprocessing.Process(target=time.sleep, args=(99,)).start()"
        ],
        "a",
        "NeverEnds: the process does not end (in `atexit`)",
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
            "import multiprocessing\nworkers = multiprocessing.Pool(2)\n"
            "assert workers.map(abs, [1, -2]) == [1, 2]",
            "import threading, time\n"
            "threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
        ]
    ),
    "new_session": Row(
        [
            "import subprocess\n"
            "p = subprocess.Popen(['sleep', '99'], start_new_session=True)\n"
            "d = subprocess.run('(setsid sleep 98 &) &', shell=True)"
        ]
    ),
    "own_hooks": Row(
        [f"{THREAD}threading.excepthook = lambda told: None", "t.start(); t.join()"]
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
if find_spec("matplotlib"):
    ROWS["plot"] = fails(
        "import matplotlib.pyplot as plt\nplt.title(r'$\\frac{$')\nNone", "ValueError"
    )
PYPROJECT = """
[project]
name = "mylib"

[tool.litml]
timeout = 20

[tool.litml.run]
end-timeout = 1.0
"""
CONFTEST = """
import json, re

def pytest_runtest_logreport(report):
    if report.when == "call" or not report.passed:
        with open("verdicts", "a") as file:
            told = [report.nodeid, report.outcome, str(report.longrepr or "")]
            file.write(json.dumps(told) + "\\n")

def pytest_unconfigure(config):
    # Not `ru_maxrss`, which counts the process that this one was forked from
    peak = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
    open("peak", "w").write(str(int(peak) * 1024))
"""


def find_marked(mark: str) -> list[str]:
    """Return the commands of the processes that have a mark in their environment."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def run_pytest(project: Sandbox, names: Iterable[str], settings: str = "") -> None:
    """Run the notebooks of some rows; keep what was said, and what is left behind."""
    (project.root / "pyproject.toml").write_text(PYPROJECT + settings)
    (project.root / "conftest.py").write_text(CONFTEST)
    project.write_bytes("bad.py", b"x = 1\nraise LookupError('in a script')\n")
    for name in names:
        sources = enumerate(ROWS[name].cells)
        cells = [code(chr(97 + i), source) for i, source in sources]
        project.write(f"{name}.ipynb", *cells)
    place = tempfile.mkdtemp(prefix="never-")  # short, for sockets
    environment = {**ENVIRONMENT, "MARK": uuid.uuid4().hex, "TMPDIR": place}
    options = ("-q", "-p", "no:cacheprovider", "--litml-jobs=4")  # most of them wait
    command = (sys.executable, "-m", "pytest", *options, "nbs")
    done = project.run(*command, timeout=600, env=environment)
    (project.root / "said").write_text(done.stdout + done.stderr)
    left = [*find_marked(environment["MARK"]), *os.listdir(place)]
    (project.root / "left").write_text("\n".join(left))
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def evil(once: Callable[[str, Callable[[Path], object]], Path]) -> Sandbox:
    """Return a project with a notebook for each row, which have been run."""
    return Sandbox(once("evil", run_rows))


def run_rows(root: Path) -> None:
    """Make the project with a notebook for each row, and run them."""
    project = Sandbox(root)
    project.write("written.ipynb", code("a", "open('left.txt', 'w').close()"))
    project.write("zz_good.ipynb", code("a", GOOD), code("b", GOOD))
    project.write_bytes("corrupt.ipynb", b'{"cells": [')
    project.write_bytes("empty.ipynb", b"")
    named = {"kernelspec": {"name": "fortran-66", "display_name": "Fortran"}}
    project.write("no_kernel.ipynb", code("a", GOOD), metadata=named)
    run_pytest(project, ROWS)


def verdicts(project: Sandbox, notebook: str) -> dict[str, tuple[str, str]]:
    """Return outcome and report by cell."""
    lines = (project.root / "verdicts").read_text().splitlines()
    start = f"nbs/{notebook}.ipynb::"
    return {
        name.removeprefix(start): (outcome, report)
        for name, outcome, report in map(json.loads, lines)
        if name.startswith(start)
    }


def check_verdict(name: str, project: Sandbox) -> None:
    row, found = ROWS[name], verdicts(project, name)
    assert found, (project.root / "said").read_text()[-2000:]
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
@pytest.mark.parametrize("name", ROWS)
def test_each_notebook_gets_its_verdict(name: str, evil: Sandbox) -> None:
    check_verdict(name, evil)


COLD = """os_exit exit holds_the_lock closed_files thread kept_task pending_task
    unraisable forked_child forked_child_fails hanging_thread hanging_atexit
    finished_work"""


@linux
def test_a_kernel_of_its_own_gets_the_same_verdict(project: Sandbox) -> None:
    """Kernels that do not come from the fork server, as where there is none."""
    run_pytest(project, COLD.split(), "[tool.litml.kernel]\nwarm = false\n")
    for name in COLD.split():
        check_verdict(name, project)
    assert (project.root / "left").read_text() == ""


@linux
def test_the_others_are_unharmed(evil: Sandbox) -> None:
    assert verdicts(evil, "zz_good") == {"a": ("passed", ""), "b": ("passed", "")}
    assert verdicts(evil, "written") == {"a": ("passed", "")}
    said = (evil.root / "said").read_text()
    assert "cell a wrote nbs/left.txt" in said
    for name, says in [
        ("corrupt", "the JSON stops"),
        ("empty", "empty"),
        ("no_kernel", "the kernel `fortran-66` is not installed"),
    ]:
        (outcome, report) = next(iter(verdicts(evil, name).values()))
        assert outcome == "failed" and says in report
        assert f"nbs/{name}.ipynb" in report


@linux
def test_nothing_is_left_and_memory_is_bounded(evil: Sandbox) -> None:
    assert (evil.root / "left").read_text() == ""
    assert int((evil.root / "peak").read_text()) < 1_000_000_000


def test_no_notebook_is_forgotten(project: Sandbox) -> None:
    """One for nbdev alone is run by `litml test`, and left alone by a mere pytest."""
    (project.root / "mylib").mkdir()
    (project.root / "mylib" / "__init__.py").write_text("__version__ = '1'\n")
    text = '[project]\nname = "mylib"\ndynamic = ["version"]\n\n[tool.nbdev]\n'
    (project.root / "pyproject.toml").write_text(text)
    export = code("b", "#| hide\nimport nbdev; nbdev.nbdev_export()")
    last = code("c", "#| hide\nfrom nbdev import nbdev_export\nnbdev_export()")
    note = code("d", "#| eval: False # not now\n1 / 0")
    project.write("core.ipynb", code("a", GOOD), export, last, note)
    project.write("core.ipynb", code("a", GOOD), export, last, note)
    done = project.litml("test", "-rs")
    assert done.returncode == 0 and "1 passed, 3 skipped" in done.stdout, done.stdout
    assert "it exports, which is no test" in done.stdout
    assert project.run(sys.executable, "-m", "pytest", "nbs").returncode == 4 + 1


# What a project decides.


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    (tmp_path / "nbs").mkdir()
    strict = Strict(end_timeout=1)
    return Policy(tmp_path, timeout=20, strict=strict, sources=(tmp_path / "nbs",))


def run(policy: Policy, *sources: str, **strict: bool) -> NotebookRun:
    """Run a notebook with cells a, b, …, under a stricter or milder policy."""
    raw = notebook_bytes(*(code(chr(97 + i), text) for i, text in enumerate(sources)))
    policy = replace(policy, strict=replace(policy.strict, **strict))
    return run_notebook(parse_notebook(raw, "nbs/made.ipynb"), policy)


def test_a_failing_command_fails_its_cell_if_asked(policy: Policy) -> None:
    sources = ["!true", "!exit 3", "1"]
    assert run(policy, *sources).passed
    failed = run(policy, *sources, shell_errors=True).failed
    assert failed is not None and failed.cell == "b"
    assert "CalledProcessError: Command 'exit 3'" in str(failed.failure)
    assert failed.failure is not None and failed.failure.line == 1
    failed = run(policy, "lines = !exit 3", shell_errors=True).failed
    assert failed is not None and "exit 3" in str(failed.failure)


def test_written_files_are_told_and_fail_if_asked(policy: Policy) -> None:
    write = "import time\nopen('model.pt', 'w').write('weights')\ntime.sleep(0.1)"
    sources = ["x = 1", write, "open('model.pt')"]  # the clock of files is coarse
    found = run(policy, *sources)
    assert found.passed and found.written == {"nbs/model.pt": Written("b", sure=True)}
    failed = run(policy, *sources, written_files=True).failed
    assert failed is not None and failed.failure is not None
    assert "wrote nbs/model.pt" in str(failed.failure)
    assert failed.failure.cell == "b"
    assert run(policy, "open('model.pt').read()", written_files=True).passed


def test_a_project_may_leave_tasks_and_hidden_errors_be(policy: Policy) -> None:
    pending = f"{TASK.replace('assert', 'await asyncio.sleep(99); assert')}"
    pending += "t = asyncio.create_task(check())"
    assert not run(policy, pending).passed
    assert run(policy, pending, pending_tasks=False).passed
    thread = f"{THREAD}t.start(); t.join()"
    assert run(policy, thread, hidden_errors=False).passed


# The watch.


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture(scope="module")
def kernel(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    kernel = loop.run(start_kernel(tmp_path_factory.mktemp("cells")))
    kernel.watch(Strict())
    yield kernel
    loop.run(kernel.close())


def execute(kernel: Kernel, loop: Loop, source: str) -> Execution:
    return loop.run(kernel.execute(source, timeout=20, name="here"))


def test_the_notebook_does_not_see_the_watch(tmp_path: Path, loop: Loop) -> None:
    """A watched kernel and one that is not look alike from inside."""
    known = "sorted(name for name in globals() if not name.startswith('_'))"

    async def look(watched: bool) -> list[str]:
        async with await start_kernel(tmp_path) as kernel:
            if watched:
                kernel.watch(Strict())
            found = []
            for source in (
                f"{known}, In, Out, _, __, get_ipython().execution_count",
                "import sys; sorted(n for n in sys.modules if 'litml' in n)",
                "ip = get_ipython(); ip.events.callbacks.keys(), ip.ast_transformers",
                "import logging; logging.getLogger('asyncio').handlers",
            ):
                done = await kernel.execute(source, 20)
                assert done.status is Status.PASSED, done.failure
                found.append(done.outputs[0]["data"]["text/plain"])
            done = await kernel.execute("import asyncio\nasyncio.create_task(1)", 20)
            assert done.failure is not None
            return [*found, str(done.failure)]

    assert loop.run(look(watched=True)) == loop.run(look(watched=False))


def test_reports_have_an_end(kernel: Kernel, loop: Loop) -> None:
    source = f"{THREAD}for _ in range(200):\n    t = threading.Thread(target=work)\n"
    done = execute(kernel, loop, f"{source}    t.start(); t.join()")
    assert done.noticed is not None and done.noticed.cell == "here"
    assert (kernel.home / "noticed").stat().st_size < 100_000
    assert execute(kernel, loop, "1").noticed is None


def test_a_kernel_that_cannot_be_watched_is_run(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = replace(policy, warmth=Warmth(warm=False))
    for wrong in ("raise SystemError", "1 = 2"):
        monkeypatch.setattr("litml.kernel.watch_code", lambda *_, code=wrong: code)
        found = run(policy, "1", "assert In[-1] and len(In) == 3", f"{THREAD}t.start()")
        assert found.passed


def test_a_kernel_that_says_nothing_has_more_time(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = replace(policy, warmth=Warmth(warm=False))
    monkeypatch.setattr("litml.kernel.watch_code", lambda *_: "1 = 2")
    slow = "import atexit, time\n_ = atexit.register(time.sleep, 3)"
    assert run(policy, slow).passed
    monkeypatch.setattr("litml.kernel.SILENCE", 0.0)
    (cell,) = run(policy, slow).cells
    assert cell.failure and cell.failure.value == "the process does not end"


# The runner goes, or there are two.

SLEEPER = [
    code("a", "import os, subprocess, time"),
    code("b", "p = subprocess.Popen(['sleep', '60'])\ntime.sleep(60)"),
]


def start_pytest(project: Sandbox, mark: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "nbs"]
    return subprocess.Popen(
        command,
        cwd=project.root,
        env={**ENVIRONMENT, "MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_end(mark: str, within: float = 60.0) -> list[str]:
    """Return what is still running after a while."""
    limit = time.monotonic() + within
    while (left := find_marked(mark)) and time.monotonic() < limit:
        time.sleep(0.1)
    return left


@linux
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_no_kernel_outlives_its_runner(signum: int, project: Sandbox) -> None:
    """At whatever moment: while it starts, between two cells, within one."""
    project.write("made.ipynb", *SLEEPER)
    mark = uuid.uuid4().hex
    for moment in range(6):
        runner = start_pytest(project, mark)
        time.sleep(0.3 + 0.3 * moment)
        runner.send_signal(signum)
        runner.communicate(timeout=90)
        assert runner.returncode != 0
        assert wait_for_end(mark) == []


@linux
def test_a_kernel_that_holds_its_lock_dies_with_the_runner(project: Sandbox) -> None:
    source = (
        "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\n"
        "open('begun', 'w').close()\nsum(range(10**13))"
    )
    project.write("made.ipynb", code("a", source))
    mark = uuid.uuid4().hex
    runner = start_pytest(project, mark)
    limit = time.monotonic() + 30
    while not (project.root / "nbs" / "begun").exists():
        assert time.monotonic() < limit and runner.poll() is None
        time.sleep(0.05)
    runner.kill()
    runner.communicate()
    assert wait_for_end(mark) == []


def test_two_runners_at_once(project: Sandbox) -> None:
    for name in "pq":
        project.write(f"{name}.ipynb", code("a", "x = 1"), code("b", "assert x == 1"))
    runners = [start_pytest(project, "two") for _ in range(2)]
    for runner in runners:
        said, _ = runner.communicate(timeout=180)
        assert runner.returncode == 0 and "4 passed" in said
