"""Outputs held to their promise, coverage in kernels, a debugger, a live view."""

import base64
import io
import json
import os
import re
import select
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, Sandbox, code, notebook_bytes, prose
from test_pytest_runs import KERNEL, run, save, verdicts

# Outputs -----------------------------------------------------------------------------


def stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text.splitlines(True)}


def checked(name: str, source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return code(name, f"#| check-output\n{source}", outputs=list(outputs))


def test_outputs_are_compared_where_that_is_asked_for(project: Sandbox) -> None:
    loose = "#| check-output: rtol=0.1\nprint('loss', 0.52)"
    project.write(
        "a.ipynb",
        checked(
            "same",
            "print(object(), 1 / 3)",
            stream("<object object at 0x1> 0.3333333\n"),
        ),
        checked("other", "print('epoch 2\\nloss 0.5')", stream("epoch 1\nloss 0.5\n")),
        code("loose", loose, outputs=[stream("loss 0.5\n")]),
        checked("value", "x = 41\nx + 1", stream("42\n")),
        code("free", "print('new')", outputs=[stream("old\n")]),
        metadata=KERNEL,
    )
    lines = run(project, "-v")
    assert [*verdicts(lines).values()] == "PASSED FAILED PASSED FAILED PASSED".split()
    shown = lines[lines.index("--- stored stdout") :]
    assert shown[:5] == [
        "--- stored stdout",
        "+++ fresh stdout",
        "-epoch 1",
        "+epoch 2",
        " loss 0.5",
    ]
    assert "  at nbs/a.ipynb, cell other" in lines
    everything = verdicts(run(project, "-v", "--litml-outputs"))
    assert everything["nbs/a.ipynb::free"] == "FAILED"


def test_outputs_that_were_meant_to_change_are_stored(project: Sandbox) -> None:
    cells = [
        checked("print", "print('new')", stream("old\n")),
        checked("same", "print('took 3 s')", stream("took 4 s\n")),
        checked("fails", "#| raises: KeyError\n{}['x']"),
        code("free", "print('new')", outputs=[stream("old\n")]),
    ]
    tree = {"cells": cells, "metadata": KERNEL, "nbformat": 4, "nbformat_minor": 5}
    path = project.write_bytes("a.ipynb", json.dumps(tree, indent=3).encode())
    before = path.read_text()
    lines = run(project, "-v", "--update-outputs")
    assert set(verdicts(lines).values()) == {"PASSED"}
    assert "UPDATED the outputs of nbs/a.ipynb::print" in lines
    after = path.read_text()
    new = json.loads(after)["cells"]
    assert new[0]["outputs"] == [stream("new\n")]
    assert new[1]["outputs"] == [stream("took 4 s\n")], "it is the same"
    assert new[2]["outputs"][0]["ename"] == "KeyError"
    assert new[3]["outputs"] == [stream("old\n")], "nobody asked"
    assert after.split('"outputs"')[0] == before.split('"outputs"')[0], "its own style"
    assert set(verdicts(run(project, "-v")).values()) == {"PASSED"}


def test_a_notebook_saved_meanwhile_is_left_alone(project: Sandbox) -> None:
    path = project.root / "nbs" / "a.ipynb"
    source = f"open({str(path)!r}, 'a').write(' ')\nprint('new')"
    project.write("a.ipynb", checked("a", source), metadata=KERNEL)
    lines = run(project, "--update-outputs")
    assert "it was changed while it was tested; no outputs were stored" in lines
    assert json.loads(path.read_text())["cells"][0]["outputs"] == []


def test_tables_and_images_are_compared(project: Sandbox) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    file = io.BytesIO()
    image.new("RGB", (8, 8), "white").save(file, "png")
    png = base64.b64encode(file.getvalue()).decode()
    draw = (
        "from IPython.display import Image, HTML\nimport io, PIL.Image\n"
        "def draw(size, color):\n    file = io.BytesIO()\n"
        "    PIL.Image.new('RGB', size, color).save(file, 'png')\n"
        "    return Image(file.getvalue())\n"
    )
    plot = {"output_type": "display_data", "metadata": {}}
    shown = {**plot, "data": {"image/png": png, "text/plain": "<Image>"}}
    html = "<table><tr><td>a</td><td>0.5</td></tr></table>"
    table = {**plot, "data": {"text/html": [html], "text/plain": "<HTML>"}}
    project.write(
        "a.ipynb",
        checked("same", f"{draw}display(draw((8, 8), (250, 250, 250)))", shown),
        checked("size", "display(draw((9, 8), 'white'))", shown),
        checked("color", "display(draw((8, 8), 'black'))", shown),
        checked("table", f"display(HTML({html.replace('td', 'th')!r}))", table),
        checked("row", f"display(HTML({html.replace('0.5', '0.6')!r}))", table),
        metadata=KERNEL,
    )
    lines = run(project, "-v")
    assert [*verdicts(lines).values()] == "PASSED FAILED FAILED PASSED FAILED".split()
    assert "image/png: its size is 9×8, and was 8×8" in lines
    assert "image/png: 100.00% of its pixels differ, 0.00% may" in lines
    assert "+a | 0.6" in lines


def test_without_pillow_the_message_says_so(project: Sandbox) -> None:
    script = (
        "import sys\nsys.modules['PIL'] = None\n"
        "from litml.compare import Rule, compare_images\n"
        "assert compare_images(b'a', b'a', Rule()) == ''\n"
        "print(compare_images(b'a', b'b', Rule()))"
    )
    done = project.run(sys.executable, "-c", script)
    assert done.stdout.startswith("the bytes differ") and "need Pillow" in done.stdout


def test_what_cannot_be_compared_is_refused(project: Sandbox) -> None:
    save(project, "a.ipynb", one="#| check-output: rtl=1\n1")
    text = "# %% [markdown]\n# # Title\n\n# %%\n#| check-output\nprint(1)\n"
    project.write_bytes("b.py", text.encode())
    lines = run(project, "-q")
    assert lines[-1].startswith("2 failed")
    assert "  hint: did you mean `rtol`?" in lines
    assert "a text file stores no outputs to compare with" in lines


# Coverage ----------------------------------------------------------------------------


def test_what_notebooks_run_counts_for_coverage(project: Sandbox) -> None:
    pytest.importorskip("pytest_cov", reason="pytest-cov is not installed")
    source = "#| export\ndef {0}(x):\n    if x > 0:\n        return 1\n    return 2"
    project.write(
        "00_core.ipynb",
        prose("title", "# Core\n\n> One."),
        code("one", source.format("one")),
        code("two", source.format("two")),
        code("use", "from mylib.core import one as first\nfirst(1)"),
    )
    project.export()
    call = "from mylib.core import two\nassert two(-1) == 2"
    save(project, "01_more.ipynb", call=call, bad="#| raises: ZeroDivisionError\n1 / 0")
    loop = "#| timeout: 1\nfrom mylib.core import one\none(-1)\nwhile True: pass"
    save(project, "02_stopped.ipynb", loop=loop)
    (project.root / "tests").mkdir()
    test = "from mylib.core import two\n\ndef test_two():\n    assert two(1) == 1\n"
    (project.root / "tests/test_two.py").write_text(test)
    for words in ([], ["-n", "2"], ["--cov-branch"]):
        report = project.root / "coverage.json"
        cov = ["--cov=mylib", f"--cov-report=json:{report}", "--cov-report=term"]
        lines = run(project, *cov, *words)
        assert any(line.startswith("1 failed") or " 1 failed" in line for line in lines)
        found = json.loads(report.read_text())["files"]["mylib/core.py"]
        assert found["missing_lines"] == [], "each line is run in one place only"
        left = [path for path in project.files() if ".coverage." in path]
        assert not left, "all files of the kernels are combined"
        report.unlink()
    one = ["--cov=mylib", "--cov-report=json:only.json", "nbs/01_more.ipynb"]
    run(project, *one)
    found = json.loads((project.root / "only.json").read_text())
    assert found["files"]["mylib/core.py"]["missing_lines"]


def test_a_kernel_that_dies_leaves_its_coverage(project: Sandbox) -> None:
    pytest.importorskip("pytest_cov", reason="pytest-cov is not installed")
    names = ["killed", "left", "stopped", "hung"]
    cells = [code(name, f"#| export\ndef {name}():\n    return 1") for name in names]
    project.write("00_core.ipynb", prose("title", "# Core\n\n> One."), *cells)
    project.export()
    ends = {
        "killed": ["killed()", "import os\nos.kill(os.getpid(), 9)"],
        "left": ["import os\nleft()\nos._exit(0)"],
        "stopped": ["#| timeout: 3\nstopped()\nwhile True: pass"],
        "hung": [
            "#| timeout: 3\nhung()\nwhile True:\n    try:\n        while True: pass\n"
            "    except KeyboardInterrupt: pass"
        ],
    }
    for name, sources in ends.items():
        use = {f"c{i}": source for i, source in enumerate(sources)}
        save(project, f"{name}.ipynb", use=f"from mylib.core import {name}", **use)
    report = project.root / "coverage.json"
    lines = run(project, "--cov=mylib", f"--cov-report=json:{report}")
    assert any("4 failed" in line for line in lines), lines
    found = json.loads(report.read_text())["files"]["mylib/core.py"]
    assert found["missing_lines"] == []
    assert not [path for path in project.files() if ".coverage." in path]


# The debugger ------------------------------------------------------------------------


class Terminal:
    """A program that runs on a terminal, of which the other end is ours."""

    def __init__(self, project: Sandbox, *words: str) -> None:
        import pty

        self.text = ""
        self.pid, self.file = pty.fork()
        if self.pid == 0:
            os.chdir(project.root)
            more = {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
            os.execve(sys.executable, [sys.executable, *words], {**ENVIRONMENT, **more})

    def read(self, until: str = "", seconds: float = 90.0) -> str:
        """Return what is shown, up to a text or to the end."""
        limit, begun = time.monotonic() + seconds, len(self.text)
        while not until or until not in self.text[begun:]:
            if not select.select([self.file], [], [], max(0, limit - time.monotonic()))[
                0
            ]:
                raise AssertionError(f"no {until!r} in: {self.text}")
            try:
                data = os.read(self.file, 65536)
            except OSError:
                data = b""
            if not data:
                assert not until, f"it ended without {until!r}: {self.text}"
                break
            self.text += data.decode(errors="replace")
        return self.text[begun:]

    def type(self, text: str) -> None:
        """Type some text."""
        os.write(self.file, text.encode())

    def end(self) -> int:
        """Return the exit code."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.file)
        return code


needs_terminal = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX terminal")
FIT = "import os\nopen({!r}, 'w').write(str(os.getpid()))\n"
FIT += "def fit(rate):\n    scale = 2\n    return scale / rate\n\nfit(0)"


@needs_terminal
def test_pdb_stops_in_the_failed_cell(project: Sandbox) -> None:
    pid = project.root / "pid"
    save(project, "a.ipynb", fit=FIT.format(str(pid)), last="1")
    save(project, "b.ipynb", one="1")
    terminal = Terminal(project, "-m", "pytest", "--pdb", "--color=no", "-v")
    shown = terminal.read("ipdb> ")
    assert "ZeroDivisionError" in shown and "post mortem in the kernel" in shown
    for typed, expected in [
        ("p scale + 40", "42"),
        ("scale = 5", ""),
        ("p scale", "5"),
        ("up", "fit(0)"),
        ("p rate", "NameError"),
    ]:
        terminal.type(f"{typed}\n")
        shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.read("ipdb> "))
        assert expected in shown.partition("\n")[2]
    os.kill(int(pid.read_text()), 0)
    terminal.type("c\n")
    shown = terminal.read()
    assert terminal.end() == pytest.ExitCode.TESTS_FAILED
    assert "1 failed, 1 passed, 1 skipped" in shown
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@needs_terminal
def test_ctrl_c_in_the_debugger(project: Sandbox) -> None:
    """At the prompt it drops a line, and it ends a computation.

    Since Python 3.13 the debugger stays, and is told to go on here.
    """
    save(project, "a.ipynb", fit=FIT.format(os.devnull), last="1")
    terminal = Terminal(project, "-m", "pytest", "--pdb", "--color=no")
    terminal.read("ipdb> ")
    terminal.type("p 4")
    terminal.read("p 4")
    for _ in range(30):
        terminal.type("\x03")  # `readline` may miss one that comes between two keys
        with suppress(AssertionError):
            terminal.read("ipdb> ", seconds=3)
            break
    terminal.type("p 6 * 7\n")
    assert "42" in terminal.read("ipdb> ")
    terminal.type("print('in' + 'side'); exec('while True: pass')\n")
    terminal.read("inside")
    terminal.type("\x03")
    terminal.type("c\n")
    assert "1 failed, 1 skipped" in terminal.read()
    assert terminal.end() == pytest.ExitCode.TESTS_FAILED


@needs_terminal
def test_quitting_the_debugger_ends_the_tests(project: Sandbox) -> None:
    pid = project.root / "pid"
    save(project, "a.ipynb", fit=FIT.format(str(pid)))
    save(project, "b.ipynb", one="1")
    for typed in ("q\n", "\x04"):
        terminal = Terminal(project, "-m", "pytest", "--pdb", "--color=no")
        terminal.read("ipdb> ")
        terminal.type(typed)
        shown = terminal.read()
        assert terminal.end() == pytest.ExitCode.INTERRUPTED
        assert "Quitting debugger" in shown and "1 passed" not in shown
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


@needs_terminal
def test_where_there_is_nothing_to_debug_the_tests_go_on(project: Sandbox) -> None:
    save(project, "a.ipynb", gone="import os\nos._exit(3)")
    save(project, "b.ipynb", broken="#| exprot\n1")
    save(project, "c.ipynb", promise="#| raises: KeyError\n1")
    (project.root / "tests").mkdir()
    source = "def test_here():\n    here = 41\n    assert not here\n"
    (project.root / "tests/test_here.py").write_text(source)
    terminal = Terminal(project, "-m", "pytest", "--pdb", "--color=no")
    shown = terminal.read("(Pdb) ")
    assert shown.count("there is no error in a kernel") == 3
    terminal.type("p here + 1\n")
    assert "42" in terminal.read("(Pdb) "), "other tests have pytest's debugger"
    terminal.type("c\n")
    assert "4 failed" in terminal.read()
    assert terminal.end() == pytest.ExitCode.TESTS_FAILED


@needs_terminal
def test_a_kernel_that_dies_in_the_debugger(project: Sandbox) -> None:
    save(project, "a.ipynb", fit="def fit(x):\n    return 1 / x\nfit(0)")
    terminal = Terminal(project, "-m", "pytest", "--pdb", "--color=no")
    terminal.read("ipdb> ")
    terminal.type("import os; os._exit(1)\n")
    assert "1 failed" in terminal.read()
    assert terminal.end() == pytest.ExitCode.TESTS_FAILED


# What is running ---------------------------------------------------------------------


def plain(text: str) -> list[str]:
    """Return a text as a terminal shows it once all is over, without seconds."""
    text = re.sub(r"\x1b7.*?\x1b8", "", text.replace("\r", "")).replace("\x1b[K", "")
    text = re.sub(r"collecting .* collected", "collected", text)  # if that takes long
    return re.sub(r"\d+\.\d+s.*=|\(\d:.*", "", text).split("\n")


WAIT = """import os, time
while not os.path.exists("../{}"):
    time.sleep(0.02)"""


@needs_terminal
def test_what_is_running_is_shown_and_leaves_no_trace(project: Sandbox) -> None:
    marks = {name: project.root / f"go-{name}" for name in "ab"}
    fit = WAIT.format("go-a")
    save(project, "a.ipynb", load="1", fit=fit, bad="1 / 0", last="1")
    save(project, "b.ipynb", fit=WAIT.format("go-b"))
    words = ["-m", "pytest", "--color=no", "-p", "no:cacheprovider"]
    for mark in marks.values():
        mark.touch()
    without = Terminal(project, *words)
    expected = plain(without.read())
    without.end()
    for mark in marks.values():
        mark.unlink()
    live = Terminal(project, *words, "--litml-progress")
    for name, drawn in {"a": "s, 1/5\x1b8", "b": "s, 4/5, 1 failed\x1b8"}.items():
        live.read(drawn)
        marks[name].touch()
    live.read()
    live.end()
    shown = live.text
    assert re.search(r"\x1b7  fit \d s, 1/5\x1b8", shown)
    assert re.search(r"\x1b7  fit \d s, 4/5, 1 failed\x1b8", shown)
    assert plain(shown) == expected


def test_nothing_is_drawn_where_there_is_no_terminal(project: Sandbox) -> None:
    save(project, "a.ipynb", fit="import time\ntime.sleep(1)")
    done = project.litml("test", timeout=120)
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr


@needs_terminal
def test_the_live_view_with_workers(project: Sandbox) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    for name in "ab":
        save(project, f"{name}.ipynb", fit=WAIT.format("go"))
    words = ["-m", "pytest", "--color=no", "-n", "2", "--litml-progress"]
    terminal = Terminal(project, *words)
    terminal.read("s (+1)")
    (project.root / "go").touch()
    terminal.read()
    shown = terminal.text
    assert terminal.end() == 0 and "2 passed" in plain(shown)[-2]
    assert re.search(r"\x1b7  nbs/[ab].ipynb fit \d s \(\+1\)", shown)


def test_the_examples_here_are_notebooks(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    cell = checked("a", "1", stream("1\n"))
    raw = notebook_bytes(cell, metadata=KERNEL)
    nbformat.validate(json.loads(raw))
