"""`%load_ext litml` in real kernels, and tracebacks that name cells in real reports."""

import importlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, Sandbox, code
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

from litml.live import Reloader
from litml.trace import annotate

CELL = "→ nbs/01_data.ipynb, cell half, line 4"


def half(text: str) -> dict[str, Any]:
    """Return the exported cell `half`, of which line 4 is `return` and the text."""
    return code("half", f"#| export\n\ndef half(n):\n    return {text}")


def save(project: Sandbox, text: str, *more: dict[str, Any]) -> None:
    project.write("01_data.ipynb", half(text), *more)


def read_module(project: Sandbox) -> str:
    return (project.root / "mylib/data.py").read_text()


# A kernel ----------------------------------------------------------------------------


@dataclass
class Ran:
    """What became of a cell: the reply's status, and every output by its kind."""

    status: str
    result: str = ""
    stderr: str = ""
    error: str = ""
    kinds: list[str] = field(default_factory=list)


def wait_for(is_done: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < limit
        time.sleep(0.1)


class Session:
    """A kernel in a project's folder of notebooks."""

    def __init__(self, project: Sandbox) -> None:
        env = {**ENVIRONMENT, "PYTHONPATH": str(project.root)}
        self.manager: KernelManager
        self.client: BlockingKernelClient
        self.manager, self.client = start_new_kernel(
            cwd=str(project.root / "nbs"), env=env
        )

    def run(self, source: str) -> Ran:
        ran = Ran("")

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            kind = message["msg_type"]
            if kind == "execute_result":
                ran.result = content["data"]["text/plain"]
            elif kind == "stream" and content["name"] == "stderr":
                ran.stderr += content["text"]
            elif kind == "error":
                text = "\n".join(content["traceback"])
                ran.error = re.sub(r"\x1b\[[0-9;]*m", "", text)
            ran.kinds.append(kind)

        reply = self.client.execute_interactive(source, output_hook=take, timeout=30)
        ran.status = reply["content"]["status"]
        return ran

    def close(self) -> int | None:
        """Ask the kernel to leave, and return its exit code."""
        provisioner: Any = self.manager.provisioner
        process: subprocess.Popen[bytes] = provisioner.process
        self.client.shutdown()
        for _ in range(100):
            if process.poll() is not None:
                break
            time.sleep(0.05)
        found = process.poll()
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        return found


@pytest.fixture(scope="module")
def opened(new_project: Callable[[], Sandbox]) -> Iterator[tuple[Sandbox, Session]]:
    """Return a project and a kernel in it, which these tests share."""
    project = new_project()
    save(project, "n / 2")
    session = Session(project)
    yield project, session
    session.close()


@pytest.fixture
def project(opened: tuple[Sandbox, Session]) -> Sandbox:
    """Return the project, exported anew."""
    save(opened[0], "n / 2")
    opened[0].export("--force")
    return opened[0]


FORGET = "import sys\nfor name in list(sys.modules):\n    if 'mylib' in name:\n"


@pytest.fixture
def kernel(opened: tuple[Sandbox, Session], project: Sandbox) -> Session:
    """Return the kernel, with the extension just loaded and nothing imported."""
    session = opened[1]
    session.run(f"{FORGET}        del sys.modules[name]")
    session.run("%xmode Context\n%reload_ext litml")
    return session


def test_the_next_cell_sees_what_was_saved(project: Sandbox, kernel: Session) -> None:
    cls = "#| export\nclass Box:\n    def size(self):\n        return {}"
    save(project, "n / 2", code("Box", cls.format(1)))
    kernel.run("from mylib.data import Box, half\nbox = Box()")
    assert kernel.run("half(8), box.size()").result == "(4.0, 1)"
    save(project, "n / 4", code("Box", cls.format(2)))
    assert kernel.run("half(8), box.size()").result == "(2.0, 2)"
    assert "n / 4" in read_module(project)


def test_two_edits_within_a_second(project: Sandbox, kernel: Session) -> None:
    """Of one size, and one time but for a fraction; by export, and by hand."""
    kernel.run("from mylib.data import half")
    module = project.root / "mylib/data.py"
    for number in range(2, 8):
        save(project, f"n / {number}")
        assert kernel.run(f"half(8) == 8 / {number}").result == "True"
    for number in range(2, 8):
        module.write_text(re.sub("n / .", f"n / {number}", read_module(project)))
        time_ns = 2**31 * 10**9 + number * 10**6
        os.utime(module, ns=(time_ns, time_ns))
        assert kernel.run(f"half(8) == 8 / {number}").result == "True"


def test_an_edit_while_the_cell_runs_that_imports(
    project: Sandbox, kernel: Session
) -> None:
    """Python has loaded the module as it was before; IPython looks at it after."""
    kernel.run(
        "import pathlib, mylib.data\n"
        "from mylib.data import half\n"
        "file = pathlib.Path(mylib.data.__file__)\n"
        "_ = file.write_text(file.read_text().replace('n / 2', 'n / 8'))"
    )
    assert kernel.run("half(8)").result == "1.0"


def test_a_file_that_is_older_than_before(project: Sandbox, kernel: Session) -> None:
    """As one that is brought back from a copy, or moved into place."""
    kernel.run("from mylib.data import half")
    module = project.root / "mylib/data.py"
    for number in (4, 5, 8):
        module.write_text(re.sub("n / .", f"n / {number}", read_module(project)))
        os.utime(module, (2**30 - number, 2**30 - number))
        assert kernel.run(f"half(8) == 8 / {number}").result == "True"


def test_a_module_seen_between_its_emptying_and_its_writing(
    project: Sandbox, kernel: Session
) -> None:
    """Cells run, and exports, while an editor is at it; nothing is lost of either."""
    kernel.run("from mylib.data import half")
    module = project.root / "mylib/data.py"
    edited = read_module(project).replace("n / 2", "n / 8")
    with module.open("w") as editor:
        ran = kernel.run("from mylib.data import half; half(8)")
        assert ran.result == "4.0" and "edited since the last export" in ran.stderr
        editor.write(edited)
    assert kernel.run("half(8)").result == "1.0" and read_module(project) == edited


def test_two_writes_within_a_tick_of_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second looks like the first, which was loaded just after it was written."""
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "ticking" / "clock.py"
    module.parent.mkdir()
    tick = 2**60

    def write(text: str) -> None:
        module.write_text(text)
        os.utime(module, ns=(tick, tick))

    write("x = 1")
    monkeypatch.setattr("litml.live.time.time_ns", lambda: tick + 1000)
    reloader = Reloader(module.parent)
    clock = importlib.import_module("ticking.clock")
    for number in (2, 3):
        write(f"x = {number}")
        assert reloader.refresh() == "" and clock.x == number


def test_a_save_is_exported_without_a_cell(project: Sandbox, kernel: Session) -> None:
    save(project, "n / 16")
    wait_for(lambda: "n / 16" in read_module(project))


@pytest.mark.parametrize("mode", ["Context", "Plain", "Verbose"])
def test_a_failure_stays_one_and_names_the_cell(kernel: Session, mode: str) -> None:
    """The reply says `error` and there is an `error` output, as without litml."""
    kernel.run(f"%xmode {mode}\nfrom mylib.data import half")
    ran = kernel.run("half(None)")
    assert ran.status == "error" and ran.kinds.count("error") == 1
    assert "data.py:" in ran.error and CELL in ran.error
    assert "TypeError" in ran.error


@pytest.mark.parametrize("source", ["1/0", "def f(:", "%nothing", "import nothing"])
def test_other_failures_stay_as_they_are(kernel: Session, source: str) -> None:
    loaded = kernel.run(source)
    kernel.run("%unload_ext litml")
    plain = kernel.run(source)

    def steady(ran: Ran) -> tuple[str, str, str, list[str]]:
        error = re.sub(r"In ?\[\d+\]|ipykernel_\d+/\d+", "", ran.error)
        # A kernel sends a stream in as many messages as it likes.
        kinds = [kind for kind in ran.kinds if kind != "stream"]
        return ran.status, ran.stderr, error, kinds

    assert steady(loaded) == steady(plain)


def test_what_stands_against_an_export_is_said_once(
    project: Sandbox, kernel: Session
) -> None:
    project.write("01_data.ipynb", code("half", "#| export\ndef half(n:"))
    ran = kernel.run("1 + 1")
    assert (ran.status, ran.result) == ("ok", "2")
    assert ran.stderr == (
        "litml: not exported: '(' was never closed"
        " (nbs/01_data.ipynb, cell half, line 2)\n"
    )
    assert kernel.run("2 + 2").stderr == ""
    save(project, "n / 32")
    assert kernel.run("3 + 3").stderr == "" and "n / 32" in read_module(project)


def test_an_edit_of_the_module_is_kept_and_loaded(
    project: Sandbox, kernel: Session
) -> None:
    kernel.run("from mylib.data import half")
    edited = read_module(project).replace("n / 2", "n / 8")
    (project.root / "mylib/data.py").write_text(edited)
    save(project, "n / 64")
    ran = kernel.run("half(8)")
    assert "edited since the last export" in ran.stderr and ran.result == "1.0"
    assert read_module(project) == edited


def test_a_module_that_fails_to_load_again(project: Sandbox, kernel: Session) -> None:
    kernel.run("from mylib.data import half")
    save(project, "n / 4", code("zero", "#| export\n1 / 0"))
    ran = kernel.run("half(8)")
    assert ran.status == "ok" and ran.kinds.count("error") == 0
    assert ran.stderr == (
        "litml: not loaded again: mylib.data: ZeroDivisionError: division by zero\n"
    )


def test_unloading_leaves_nothing_behind(project: Sandbox, kernel: Session) -> None:
    look = (
        "import threading\n"
        "shell = get_ipython()\n"
        "calls = [repr(call) for calls in shell.events.callbacks.values()"
        " for call in calls]\n"
        "names = [one.name for one in threading.enumerate()]\n"
        "'litml' in repr(calls), 'litml' in names, vars(shell.InteractiveTB).keys()"
        " & {'structured_traceback'}, shell.custom_exceptions"
    )
    assert kernel.run(look).result == "(True, True, {'structured_traceback'}, ())"
    kernel.run("%reload_ext litml")
    # The thread of before ends when it next wakes up.
    again = look + "\nnames.count('litml')"
    wait_for(lambda: kernel.run(again).result == "1")
    kernel.run("%unload_ext litml")
    wait_for(lambda: kernel.run(look).result == "(False, False, set(), ())")
    kernel.run("from mylib.data import half")
    ran = kernel.run("half(None)")
    assert ran.status == "error" and "→" not in ran.error
    save(project, "n / 4")
    assert kernel.run("half(8)").result == "4.0" and "n / 2" in read_module(project)


def test_the_users_autoreload_keeps_its_settings(kernel: Session) -> None:
    kernel.run("%load_ext autoreload\n%autoreload 1\n%reload_ext litml")
    kernel.run("%unload_ext litml")
    look = (
        "magics = get_ipython().magics_manager.registry['AutoreloadMagics']\n"
        "magics._reloader.check_all, magics._reloader.enabled"
    )
    assert kernel.run(look).result == "(False, True)"


def test_a_kernel_leaves_quietly_while_watching(project: Sandbox) -> None:
    session = Session(project)
    session.run("%load_ext litml")
    assert session.close() == 0


def test_without_a_project(kernel: Session, tmp_path: Path) -> None:
    kernel.run("import os\nbefore = os.getcwd()")
    kernel.run(f"os.chdir({str(tmp_path)!r})")
    ran = kernel.run("%reload_ext litml")
    kernel.run("os.chdir(before)")
    assert ran.status == "ok"
    assert ran.stderr.startswith("litml: nothing is exported: no project")
    assert kernel.run("1 + 1").result == "2"


def test_importing_litml_costs_nothing() -> None:
    script = (
        "import sys, litml\n"
        "heavy = {'IPython', 'litml.live', 'litml.package', 'watchfiles'}\n"
        "assert callable(litml.load_ipython_extension)\n"
        "sys.exit(bool(heavy & set(sys.modules)))\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


# pytest ------------------------------------------------------------------------------


@pytest.fixture
def tested(new_project: Callable[[], Sandbox]) -> Sandbox:
    """Return a project with an ordinary test that fails inside the package."""
    project = new_project()
    save(project, "n / 2", code("use", "half(None)"))
    project.export()
    (project.root / "tests").mkdir()
    (project.root / "tests/test_half.py").write_text(
        "from mylib.data import half\n\n\ndef test_half():\n"
        "    try:\n        half(None)\n"
        "    except TypeError as error:\n        raise ValueError from error\n"
    )
    return project


def run_pytest(project: Sandbox, *words: str) -> str:
    env = {**ENVIRONMENT, "PYTHONPATH": str(project.root)}
    plugins = ["-p", "litml.pytest_plugin"]
    if "-n" in words:
        plugins += ["-p", "xdist"]
    env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    done = project.run(sys.executable, "-m", "pytest", *plugins, *words, env=env)
    assert done.returncode in (1, 2), done.stderr
    return done.stdout


@pytest.mark.parametrize("style", ["auto", "long", "short", "native"])
def test_pytest_names_the_cell(tested: Sandbox, style: str) -> None:
    """In every style, in a failure that was caused by another."""
    said = run_pytest(tested, "tests", f"--tb={style}")
    [line] = [one for one in said.splitlines() if CELL in one]
    assert "data.py" in line and "test_half.py" not in line


def test_pytest_names_the_cell_across_processes(tested: Sandbox) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    said = run_pytest(tested, "tests", "-n", "2")
    assert said.count(CELL) == 1
    xml = run_pytest(tested, "tests", "--junit-xml=out.xml") and "out.xml"
    assert CELL in (tested.root / xml).read_text()


def test_pytest_names_the_cell_when_a_file_cannot_be_imported(tested: Sandbox) -> None:
    (tested.root / "tests/test_half.py").write_text(
        "from mylib.data import half\n\nhalf(None)\n"
    )
    assert CELL in run_pytest(tested, "tests")


def test_pytest_names_the_cell_of_what_a_notebook_calls(tested: Sandbox) -> None:
    """The example's own failure, and the place in the package that it came from."""
    tested.write(
        "02_use.ipynb", code("call", "from mylib.data import half\n\nhalf(None)")
    )
    said = run_pytest(tested, "nbs/02_use.ipynb")
    assert "at nbs/02_use.ipynb, cell call, line 3" in said and CELL in said


# Texts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        'File "{file}", line {line}, in half',
        '  |   File "{file}", line {line}, in half',
        'File \x1b[35m"{file}"\x1b[0m, line \x1b[35m{line}\x1b[0m, in half',
        "File {file}:{line}, in half(n)",
        "File {file}:{line}",
        "\x1b[1m\x1b[31m{file}\x1b[0m:{line}: in half",
    ],
)
def test_every_form_of_a_frame(tested: Sandbox, form: str) -> None:
    number = read_module(tested).split("\n").index("def half(n):") + 2
    line = form.format(file=tested.root / "mylib/data.py", line=number)
    assert annotate(line) == f"{line} {CELL}"
    assert annotate(annotate(line)) == annotate(line)


def test_a_frame_below_the_home_folder(
    tested: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tested.root))
    monkeypatch.setenv("USERPROFILE", str(tested.root))
    number = read_module(tested).split("\n").index("def half(n):") + 2
    line = f"File ~/mylib/data.py:{number}, in half(n)"
    assert annotate(line) == f"{line} {CELL}"


@pytest.mark.parametrize(
    "line",
    [
        'File "<stdin>", line 1, in <module>',
        f'File "{os.__file__}", line 7, in f',
        'File "/no/such/place.py", line 7, in f',
        "File is not a frame.py",
        "a.py:7: not ours",
        "",
    ],
)
def test_other_lines_stay_as_they_are(line: str) -> None:
    assert annotate(line) == line


def test_a_module_whose_notebook_is_gone(tested: Sandbox) -> None:
    (tested.root / "nbs/01_data.ipynb").unlink()
    line = f'File "{tested.root / "mylib/data.py"}", line 7, in half'
    assert annotate(line) == line
