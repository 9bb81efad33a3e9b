"""Kernels from a fork server: like cold ones, each alone, and none left behind."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from conftest import code, notebook_bytes

from litml import warm
from litml.kernel import Kernel, KernelError, Loop, start_kernel
from litml.notebook import parse_notebook
from litml.outcome import Status
from litml.run import Policy, run_async
from litml.warm import Forked, open_kernel
from litml.warmth import Warmth

if not sys.platform.startswith("linux"):
    pytest.skip("forking is for Linux", allow_module_level=True)


PLAIN = Warmth()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers of these tests are odd, and not to be shared with other workers."""
    monkeypatch.delenv("PYTEST_XDIST_TESTRUNUID", raising=False)


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


async def ask(kernel: Kernel, code: str) -> Any:
    """Return what `code` prints as JSON."""
    done = await kernel.execute(f"import json\n{code}", timeout=30)
    assert done.failure is None, done.failure.traceback
    return json.loads(done.outputs[0]["text"])


async def ask_new(folder: Path, code: str, warmth: Warmth = PLAIN) -> Any:
    """Return what `code` prints as JSON in a new forked kernel."""
    async with await open_kernel(folder, "python3", [], warmth=warmth) as kernel:
        assert isinstance(kernel.process, Forked)
        return await ask(kernel, code)


def is_gone(pid: int, within: float = 60.0) -> bool:
    """Is there no such process, before long?"""
    limit = time.monotonic() + within
    while time.monotonic() < limit:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


# Like a cold one ---------------------------------------------------------------------

PROBE = """
import os, random, signal, sys, threading
print(json.dumps({
    "modules": sorted(sys.modules),
    "argv": [sys.argv[0], *sys.argv[3:]],
    "path": sys.path,
    "folder": os.getcwd(),
    "environment": {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JPY_", "LITML_KERNEL"))  # a guard's mark
    },
    "leader": os.getsid(0) == os.getpid() == os.getpgrp(),
    "threads": sorted(type(thread).__name__ for thread in threading.enumerate()),
    "signals": {n: str(signal.getsignal(n)) for n in (1, 2, 13, 14, 15, 17)},
    "magics": sum(map(len, get_ipython().magics_manager.magics.values())),
    "main": sorted(vars(sys.modules["__main__"]))[:5],
    "stdin": sys.stdin.readline(),
    "flags": str(sys.flags),
    **look_at(get_ipython()),
}))
"""
# The shell of a forked kernel is older than the kernel; nobody shall be able to tell.
LOOK = """
def look_at(shell):
    import sys
    app, hooks = shell.kernel.parent, (sys.displayhook, sys.excepthook)
    return {
        "shell": type(shell).__name__,
        "names": sorted(shell.user_ns),
        "config": {name: sorted(one) for name, one in shell.config.items()},
        "file": app.connection_file == app.config.IPKernelApp.connection_file,
        "parents": [type(shell.parent).__name__, type(app).__name__, str(app.argv[2:])],
        "folders": [shell.starting_dir, *map(str, shell.user_ns["_dh"])],
        "hooks": [getattr(one, "__qualname__", type(one).__name__) for one in hooks],
        "profile": shell.profile_dir.location,
        "count": [shell.execution_count, len(shell.history_manager.input_hist_raw)],
        "configurables": [type(one).__name__ for one in shell.configurables],
        "events": {name: len(all) for name, all in shell.events.callbacks.items()},
        "streams": type(shell._orig_sys_module_state["stdout"]).__name__,
        "sender": shell.display_pub.session is shell.kernel.session,
        "main": sys.modules["__main__"] is shell.user_module,
        "history": shell.history_manager.hist_file,
    }
"""


def test_a_forked_kernel_is_like_a_cold_one(loop: Loop, tmp_path: Path) -> None:
    async def work() -> list[Any]:
        async with await start_kernel(tmp_path) as cold:
            probe = LOOK + PROBE
            return [await ask(cold, probe), await ask_new(tmp_path, probe)]

    cold, forked = loop.run(work())
    modules = {*cold.pop("modules")} ^ {*forked.pop("modules")}
    assert modules <= {"runpy", "gc"}, "what the server itself uses is not seen"
    cold["threads"].remove("ParentPollerUnix")  # the nanny does its work
    assert forked == cold


def test_interrupts_and_exits_are_those_of_a_cold_one(
    loop: Loop, tmp_path: Path
) -> None:
    async def work(code: str) -> Any:
        async with await open_kernel(tmp_path, "python3", []) as kernel:
            return await kernel.execute(code, timeout=1)

    late = loop.run(work("import time\ntime.sleep(60)"))
    assert late.status is Status.TIMED_OUT and late.failure.line == 2
    left = loop.run(work("import os\nos._exit(7)"))
    assert left.status is Status.DIED and left.failure.value == "exit code 7"
    crashed = loop.run(work("import os\nos.kill(os.getpid(), 11)"))
    assert crashed.failure.value == "killed by SIGSEGV"


def test_exit_functions_run_and_files_are_closed(loop: Loop, tmp_path: Path) -> None:
    code = "\n".join(
        [
            "import atexit, pathlib",
            "atexit.register(lambda: pathlib.Path('left').write_text('atexit'))",
            "file = open('unclosed', 'w')",
            "count = file.write('flushed')",
            "print(count)",
        ]
    )
    loop.run(ask_new(tmp_path, code))
    assert (tmp_path / "left").read_text() == "atexit"
    assert (tmp_path / "unclosed").read_text() == "flushed"


# Each alone --------------------------------------------------------------------------


def test_kernels_share_nothing(loop: Loop, tmp_path: Path) -> None:
    spoil = "import os, string\nstring.digits = os.environ['SPOILT'] = 'x'\nprint(0)"
    look = (
        "import os, string\nprint(json.dumps([string.digits, 'SPOILT' in os.environ]))"
    )
    (tmp_path / "other").mkdir()

    async def work() -> Any:
        await ask_new(tmp_path, spoil)
        return await ask_new(tmp_path / "other", look)

    assert loop.run(work()) == ["0123456789", False]


@pytest.mark.parametrize(
    ("preload", "draw"),
    [
        (
            (),
            "import random\nprint(random.random())",
        ),
        (("numpy",), "import numpy\nprint(numpy.random.rand())"),
        (("torch",), "import torch\nprint(torch.rand(1).item())"),
    ],
)
def test_two_kernels_draw_different_numbers(
    preload: tuple[str, ...], draw: str, loop: Loop, tmp_path: Path
) -> None:
    for name in preload:
        pytest.importorskip(name, reason=f"{name} is not installed")
    warmth = Warmth(preload=preload)

    async def work() -> list[Any]:
        return [await ask_new(tmp_path, draw, warmth) for _ in range(2)]

    first, second = loop.run(work())
    assert first != second


def test_several_at_once(loop: Loop, tmp_path: Path) -> None:
    async def work() -> Any:
        jobs = (ask_new(tmp_path, "import os\nprint(os.getpid())") for _ in range(4))
        return await asyncio.gather(*jobs)

    assert len({*loop.run(work())}) == 4


# Warm only where that changes nothing -------------------------------------------------


def opened(loop: Loop, folder: Path, **more: Any) -> tuple[bool, Any]:
    """Return whether a kernel was forked, and that it works."""

    async def work() -> tuple[bool, Any]:
        kernel = await open_kernel(folder, more.pop("name", "python3"), [], **more)
        async with kernel:
            return isinstance(kernel.process, Forked), await ask(kernel, "print(1 + 1)")

    return loop.run(work())


def test_a_project_may_want_cold_kernels(loop: Loop, tmp_path: Path) -> None:
    assert opened(loop, tmp_path) == (True, 2)
    assert opened(loop, tmp_path, warmth=Warmth(warm=False)) == (False, 2)


def test_settings_that_were_read_already(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert opened(loop, tmp_path) == (True, 2)
    with monkeypatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "7")
        assert opened(loop, tmp_path) == (False, 2)
    text = "import os\nos.environ['OMP_NUM_THREADS'] = '1'"
    assert opened(loop, tmp_path, text=text) == (True, 2), "nothing was preloaded"
    warmth = Warmth(preload=("fractions",))
    assert opened(loop, tmp_path, text=text, warmth=warmth) == (False, 2)
    assert opened(loop, tmp_path, text="pass", warmth=warmth) == (True, 2)


def test_another_home_has_its_own_settings_of_ipython(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = "print(json.dumps(get_ipython().profile_dir.location))"
    assert str(tmp_path) not in loop.run(ask_new(tmp_path, ask))
    startup = tmp_path / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "mine.py").write_text("mine = 3")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(tmp_path) in loop.run(ask_new(tmp_path, ask))
    assert loop.run(ask_new(tmp_path, "print(json.dumps(mine))")) == 3


def test_a_library_is_preloaded_for_those_who_import_it(
    loop: Loop, tmp_path: Path
) -> None:
    look = "import sys\nassert ('colorsys' in sys.modules) is {}\n"
    (tmp_path / "paint.py").write_text("def mix():\n    import colorsys\n")
    sources = {
        "direct": look.format(True) + "from colorsys import hsv_to_rgb",
        "through": look.format(True) + "import paint",
        "neither": look.format(False) + "# import colorsys",
    }
    policy = Policy(tmp_path, warmth=Warmth(preload=("colorsys",)))
    for name, source in sources.items():
        raw = notebook_bytes(code("one", source))
        run = loop.run(run_async(parse_notebook(raw, f"{name}.ipynb"), policy))
        assert run.passed, run.failed


def test_what_a_preloaded_library_has_made_is_there_for_all(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In an archive, since a file in a folder might be another one for each kernel.
    with ZipFile(tmp_path / "lib.zip", "w") as archive:
        text = "import tempfile\nfolder = tempfile.TemporaryDirectory()\n"
        archive.writestr("holder.py", text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib.zip"))
    monkeypatch.setattr(warm, "SERVERS", {})
    warmth = Warmth(preload=("holder",))
    look = "import holder, os\nname = holder.folder.name\n"
    look += "print(json.dumps([name, os.path.isdir(name)]))"
    name, _ = loop.run(ask_new(tmp_path, look, warmth))
    assert loop.run(ask_new(tmp_path, look, warmth)) == [name, True]
    warm.SERVERS.pop(warmth.preload).close()
    limit = time.monotonic() + 60
    while os.path.exists(name) and time.monotonic() < limit:
        time.sleep(0.02)
    assert not os.path.exists(name), "the server clears up at its end"


def test_files_that_hide_a_module(loop: Loop, tmp_path: Path) -> None:
    warmth = Warmth(preload=("fractions",))
    assert opened(loop, tmp_path, warmth=warmth) == (True, 2)
    (tmp_path / "fractions.py").write_text("mine = True\n")
    assert opened(loop, tmp_path, warmth=warmth) == (False, 2)


def test_another_kernel_is_started_cold(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "kernels" / "odd"
    spec.mkdir(parents=True)
    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    tree = {"argv": words, "display_name": "Odd", "language": "python"}
    (spec / "kernel.json").write_text(json.dumps(tree))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setattr(warm, "SERVERS", {})
    assert opened(loop, tmp_path, name="odd") == (True, 2), "another name for the same"
    (spec / "kernel.json").write_text(json.dumps(tree | {"env": {"ODD": "1"}}))
    assert opened(loop, tmp_path, name="odd") == (False, 2)
    with pytest.raises(KernelError, match="not installed"):
        opened(loop, tmp_path, name="fortran-66")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os, time\nos.register_at_fork(after_in_child=lambda: time.sleep(60))",
         "hangs"),
        ("import threading, time\n"
         "threading.Thread(target=time.sleep, args=[9], daemon=True).start()",
         "starts threads"),
        ("1 / 0", "cannot be imported"),
    ],
)  # fmt: skip
def test_a_bad_preload_is_dropped_and_the_rest_is_kept(
    code: str, reason: str, loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "bad.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    monkeypatch.setattr(warm, "SERVERS", {})
    warmth = Warmth(preload=("fractions", "bad", "colorsys"))
    look = "import sys\nprint(json.dumps([n in sys.modules for n in NAMES]))"
    look = look.replace("NAMES", repr(warmth.preload))
    with pytest.warns(UserWarning, match=f"`bad`.*{reason}"):
        assert loop.run(ask_new(tmp_path, look, warmth)) == [True, False, True]


def test_memory_is_limited(loop: Loop, tmp_path: Path) -> None:
    warmth = Warmth(memory=500_000_000)

    async def work() -> Any:
        async with await open_kernel(tmp_path, "python3", [], warmth=warmth) as kernel:
            return await kernel.execute("x = bytearray(10**9)", timeout=30)

    assert loop.run(work()).failure.name == "MemoryError"


# None left behind --------------------------------------------------------------------


def test_what_a_kernel_leaves_is_killed_and_named(loop: Loop, tmp_path: Path) -> None:
    code = """
import os, subprocess
print(subprocess.Popen(["sleep", "77"], start_new_session=True).pid)
"""

    async def work() -> tuple[int, Kernel]:
        kernel = await open_kernel(tmp_path, "python3", [])
        child = await ask(kernel, code)
        await kernel.close()
        return child, kernel

    child, kernel = loop.run(work())
    assert is_gone(child)
    assert isinstance(kernel.process, Forked)
    assert kernel.process.left == (f"{child} sleep 77",)
    assert not kernel.home.exists()


def test_a_nanny_has_one_kernel_after_the_other(loop: Loop, tmp_path: Path) -> None:
    code = """
import os, subprocess
sleeper = subprocess.Popen(["sleep", "76"], start_new_session=True)
os.environ["LEFT"] = "behind"
print(json.dumps([os.getppid(), sleeper.pid]))
"""
    look = """
import os, sys
left = [one for one in ("LEFT" in os.environ, os.path.exists("/proc/CHILD")) if one]
files = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
left += [file for file in files if "pidfd" in os.path.realpath(file)]
print(json.dumps([os.getppid(), left, sorted(sys.modules)]))
"""

    async def work() -> list[Any]:
        kernel = await open_kernel(tmp_path, "python3", [])
        modules = (await ask(kernel, look))[2]
        nanny, child = await ask(kernel, code)
        await kernel.close()
        said: list[Any] = []
        for _ in range(100):  # she is free a moment after we have hung up
            asked = look.replace("CHILD", str(child))
            both = (ask_new(tmp_path, asked) for _ in range(2))  # of all who are free
            said = min(await asyncio.gather(*both), key=lambda one: one[0] != nanny)
            if said[0] == nanny:
                break
        os.kill(nanny, signal.SIGKILL)
        assert is_gone(nanny)
        return [[nanny, [], modules], said, await ask_new(tmp_path, look)]

    first, again, later = loop.run(work())
    assert again == first, "nothing is left of the one before"
    assert later[0] != first[0], "who was killed is replaced"


RUNNER = """
import asyncio, os, sys, time
from pathlib import Path
from litml import warm

async def main():
    kernel = await warm.open_kernel(Path.cwd(), "python3", [])
    code = "from subprocess import Popen\\n"
    code += "print(Popen(['sleep', '78'], start_new_session=True).pid)"
    done = await kernel.execute(code, timeout=30)
    server = warm.SERVERS[()]
    child = done.outputs[0]["text"].strip()
    copy = 0 if sys.argv[1:] != ["copied"] else os.fork() or time.sleep(60)
    print(kernel.group, child, server.home, copy, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_the_runner(number: int, copied: bool, tmp_path: Path) -> None:
    """Also if a copy of it does, such as a worker of `multiprocessing`."""
    env = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    words = [sys.executable, "-c", RUNNER, *(["copied"] if copied else [])]
    with subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE) as run:
        assert run.stdout
        kernel, child, home, copy = run.stdout.readline().decode().split()
        run.send_signal(number)
    assert is_gone(int(kernel)) and is_gone(int(child))
    limit = time.monotonic() + 60
    while Path(home).exists() and time.monotonic() < limit:
        time.sleep(0.02)
    assert not Path(home).exists(), "its sockets and logs are gone as well"
    if copied:
        os.kill(int(copy), signal.SIGKILL)  # it is there, and held the lines to the end


def test_a_server_that_dies_takes_its_kernels_along_and_is_replaced(
    loop: Loop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "SERVERS", {})
    homes: list[Path] = []

    async def work() -> Any:
        kernel = await open_kernel(tmp_path, "python3", [])
        ids = "import os\nprint(json.dumps([os.getpid(), os.getppid()]))"
        kernel_id, nanny = await ask(kernel, ids)
        status = Path(f"/proc/{nanny}/status").read_text()
        server = int(re.search(r"PPid:\s+(\d+)", status)[1])  # type: ignore[index]
        os.kill(server, signal.SIGKILL)
        assert is_gone(kernel_id)
        done = await kernel.execute("1", timeout=30)
        await kernel.close()
        assert is_gone(nanny)
        homes.append(kernel.home.parent)
        return done, await ask_new(tmp_path, "print(1 + 1)")

    done, answer = loop.run(work())
    assert done.status is Status.DIED and answer == 2
    assert not homes[0].exists() or "PYTEST_XDIST_TESTRUNUID" in os.environ


SHARER = """
import asyncio, os, sys
from pathlib import Path
from litml import warm

async def main():
    async with await warm.open_kernel(Path.cwd(), "python3", []) as kernel:
        code = "import os; print(open(f'/proc/{os.getppid()}/stat').read().split()[3])"
        done = await kernel.execute(code, timeout=30)
        print(done.outputs[0]["text"].strip(), flush=True)
        sys.stdin.readline()
        done = await kernel.execute("1 + 1", timeout=30)
        print(done.status, flush=True)

asyncio.run(main())
"""


def test_the_workers_of_a_run_share_a_server(tmp_path: Path) -> None:
    env = os.environ | {"PYTEST_XDIST_TESTRUNUID": f"test-{os.getpid()}-{time.time()}"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    words = [sys.executable, "-c", SHARER]
    workers = [
        subprocess.Popen(words, cwd=tmp_path, env=env, text=True, **pipes)
        for _ in range(2)
    ]
    servers = {worker.stdout.readline().strip() for worker in workers}  # type: ignore[union-attr]
    assert len(servers) == 1
    for worker in workers:  # the second goes on after the first has ended
        assert "passed" in worker.communicate("\n", timeout=30)[0]
    assert is_gone(int(servers.pop()))
