"""Notebooks as pytest's tests: what is collected, selected, reported."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import litml.warm  # noqa: F401  `pytester` forgets what it imports, and zmq comes once

pytest_plugins = ["pytester"]

PYPROJECT = '[project]\nname = "demo"\n\n[tool.litml]\n'


def notebook_bytes(kernel: str = "python3", **cells: str) -> bytes:
    made: list[dict[str, Any]] = [
        {"cell_type": "code", "id": name, "metadata": {}, "source": source}
        | {"outputs": [], "execution_count": None}
        for name, source in cells.items()
    ]
    spec = {"kernelspec": {"name": kernel, "display_name": kernel}}
    tree = {"nbformat": 4, "nbformat_minor": 5, "metadata": spec, "cells": made}
    return json.dumps(tree, indent=1).encode()


Add = Callable[..., Path]


@pytest.fixture
def add(pytester: pytest.Pytester) -> Add:
    """Make a project; the function it returns adds a notebook."""
    (pytester.path / "pyproject.toml").write_text(PYPROJECT)

    def add(name: str, raw: bytes | None = None, **cells: str) -> Path:
        path = pytester.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(notebook_bytes(**cells) if raw is None else raw)
        return path

    return add


def test_cells_are_tests_and_a_failure_names_cell_and_line(
    pytester: pytest.Pytester, add: Add
) -> None:
    """One cause is one failure; what is broken does not keep the rest from running."""
    add(
        "nbs/00_core.ipynb",
        load="#| export\nrows = [3, 1, 2]",
        later="#| skip: not yet\nrows.sort()",
        best="best = max(rows)\nprint('seen:', best)\n\nassert best == 4",
        more="rows",
        most="rows",
    )
    add("nbs/01_cut.ipynb", b'{"cells": [')
    add("nbs/02_word.ipynb", one="1", two="#| exprot\n2")
    add("nbs/03_gone.ipynb", one="import os\nos._exit(3)", two="1")
    add("nbs/04_kernel.ipynb", kernel="fortran-66", one="1", two="2", three="3")
    add("nbs/05_fine.ipynb", one="#| raises: KeyError\n{}['x']", two="1")
    add("nbs/_draft.ipynb", one="1 / 0")
    add("other/06_other.ipynb", one="1 / 0")
    result = pytester.runpytest("-ra", "--strict-markers", "--junitxml=report.xml")
    result.assert_outcomes(passed=3, failed=4, skipped=6, errors=1)
    text = result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "nbs/00_core.ipynb .sFss*",
            "nbs/01_cut.ipynb F*",
            "nbs/02_word.ipynb F*",
            "nbs/03_gone.ipynb Fs*",
            "nbs/04_kernel.ipynb Ess*",
            "nbs/05_fine.ipynb ..*",
            "*ERROR at setup of 04_kernel.ipynb, cell one*",
            "the kernel `fortran-66` is not installed",
            "*hint: *python3*",
            "*00_core.ipynb, cell best*",
            "AssertionError",
            "  at nbs/00_core.ipynb, cell best, line 4",
            "    2  print('seen:', best)",
            ">   4  assert best == 4",
            "*cell best, line 4*",
            "*Captured stdout call*",
            "seen: 3",
            "cut off: the JSON stops at line 1 of the file",
            "  at nbs/01_cut.ipynb",
            "unknown directive `exprot`",
            "  at nbs/02_word.ipynb, cell two, line 1",
            "KernelDied: exit code 3",
            "  at nbs/03_gone.ipynb, cell one",
            "SKIPPED [[]1] nbs/00_core.ipynb*: not yet",
            "SKIPPED [[]2] nbs/00_core.ipynb:*: an earlier cell failed: best",
            "FAILED nbs/00_core.ipynb::best - AssertionError",
        ]
    )
    assert "Traceback (most recent call last)" in text and "litml/" not in text
    cases = ElementTree.parse(pytester.path / "report.xml").iter("testcase")
    verdicts = {
        (case.get("classname"), case.get("name")): [child.tag for child in case]
        for case in cases
    }
    assert verdicts["nbs.00_core.ipynb", "best"][:2] == ["properties", "failure"]
    assert verdicts["nbs.00_core.ipynb", "load"] == ["properties"]
    assert verdicts["nbs.04_kernel.ipynb", "one"] == ["properties", "error"]


def test_selecting_a_cell_runs_what_it_needs(
    pytester: pytest.Pytester, add: Add
) -> None:
    add("nbs/a.ipynb", one="x = 1", two="x += 1", three="assert x == 2", four="1 / 0")
    add("nbs/b.ipynb", one="x = 1", two="1 / 0", three="x", four="x")

    result = pytester.runpytest("nbs/a.ipynb::three")
    result.assert_outcomes(passed=1)

    result = pytester.runpytest("-k", "three or four", "nbs/b.ipynb", "--tb=line")
    result.assert_outcomes(errors=1, skipped=1, deselected=2)
    result.stdout.fnmatch_lines(["*b.ipynb:*: cell two, which it needs, failed*"])

    pytester.runpytest().assert_outcomes(passed=4, failed=2, skipped=2)
    result = pytester.runpytest("--lf", "-v")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["nbs/a.ipynb::four FAILED*", "nbs/b.ipynb::two FAIL*"])


def test_what_is_collected(pytester: pytest.Pytester, add: Add) -> None:
    with (pytester.path / "pyproject.toml").open("a") as file:
        file.write('notebooks = "book"\nexclude = ["old/*"]\n')
    add("book/00_in.ipynb", head="#| default_exp core", one="1", empty="# note")
    add("nbs/01_out.ipynb", one="1")
    (pytester.path / "book" / "old").mkdir()
    add("book/old/02_old.ipynb", one="1")

    def collected(*words: str) -> list[str]:
        lines = pytester.runpytest("--collect-only", "-q", *words).outlines
        return [line for line in lines if "::" in line]

    assert collected() == ["book/00_in.ipynb::one"]
    assert collected("-m", "not notebook", "--strict-markers") == []
    assert collected("nbs/01_out.ipynb") == ["nbs/01_out.ipynb::one"]
    assert collected("nbs") == []
    assert collected("book/old/02_old.ipynb") == ["book/old/02_old.ipynb::one"]
    assert collected("-p", "no:litml", "book/00_in.ipynb") == []
    os.chdir(pytester.path / "book")
    assert len(collected()) == 1, "pytest may be started anywhere"


def test_without_a_project_nobody_notices(pytester: pytest.Pytester) -> None:
    (pytester.path / "a.ipynb").write_bytes(notebook_bytes(one="1 / 0"))
    (pytester.path / "pyproject.toml").write_text("[tool.other]\nname = 'litml'\n")
    pytester.makepyfile(
        """
        import sys

        def test_light():
            heavy = {"litml.kernel", "litml.notebook", "jupyter_client", "asyncio"}
            assert not heavy & set(sys.modules)
        """
    )
    others = [
        w for name in ("anyio", "xdist", "jaxtyping") for w in ("-p", f"no:{name}")
    ]
    result = pytester.runpytest_subprocess(*others)
    result.assert_outcomes(passed=1)
    result = pytester.runpytest("a.ipynb")
    assert "1 / 0" not in result.stdout.str() and result.ret in (4, 5)


def test_needs_flags_and_limits_by_option(pytester: pytest.Pytester, add: Add) -> None:
    with (pytester.path / "pyproject.toml").open("a") as file:
        file.write('test-flags = ["nightly"]\n')
    cells = {
        "net": "#| needs: network\n1",
        "night": "#| nightly\n1",
        "slow": "#| needs: slow\nimport time\ntime.sleep(60)",
    }
    add("nbs/a.ipynb", **cells)
    result = pytester.runpytest("-rs")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["*`network` was not asked for", "*`nightly` was not*"])
    words = ["--litml-needs", "network, slow,nightly", "--litml-timeout", "0.5"]
    result = pytester.runpytest(*words)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["Timeout: still running after 0.5 s; interrupted"])
    result = pytester.runpytest("--litml-needs", "netwrok")
    result.stdout.fnmatch_lines(["*neither a need nor a test flag: `netwrok`"])
    assert result.ret == pytest.ExitCode.INTERRUPTED


def test_a_wrong_configuration_is_said_once(
    pytester: pytest.Pytester, add: Add
) -> None:
    with (pytester.path / "pyproject.toml").open("a") as file:
        file.write("timout = 5\n")
    add("nbs/a.ipynb", one="1")
    add("nbs/b.ipynb", one="1")
    result = pytester.runpytest()
    text = result.stdout.str()
    assert text.count("unknown key `timout`") == 1 and "Traceback" not in text
    assert result.ret != 0


def test_no_kernel_is_started_for_nothing(
    pytester: pytest.Pytester, add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("a kernel was started")

    monkeypatch.setattr("litml.warm.open_kernel", never)
    add("nbs/a.ipynb", one="#| skip\n1", two="#| needs: slow\n2")
    pytester.runpytest().assert_outcomes(skipped=2)


def test_two_workers_keep_a_notebook_together(
    pytester: pytest.Pytester, add: Add
) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    note = "import os\nopen('pids', 'a').write(f'{os.getpid()}\\n')"
    for name in "ab":
        add(f"nbs/{name}.ipynb", **{f"c{i}": f"x = {i}\n{note}" for i in range(4)})
    pytester.makepyfile("def test_one(): pass\ndef test_two(): pass")
    for distribution in ([], ["--dist", "loadfile"]):
        result = pytester.runpytest("-n", "2", "--strict-markers", *distribution)
        result.assert_outcomes(passed=10)
        pids = (pytester.path / "nbs" / "pids").read_text().split()
        assert len(pids) == 8 and len(set(pids)) == 2
        (pytester.path / "nbs" / "pids").unlink()


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_ctrl_c_leaves_no_kernel(pytester: pytest.Pytester, add: Add) -> None:
    note = pytester.path / "pid"
    source = f"import os\nopen({str(note)!r}, 'w').write(f'{{os.getpid()}} ')\n"
    add("nbs/a.ipynb", one=source + "while True: pass", two="1")
    command = [sys.executable, "-m", "pytest"]
    runner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    limit = time.monotonic() + 60
    while not (note.exists() and note.read_text().endswith(" ")):
        assert runner.poll() is None and time.monotonic() < limit
        time.sleep(0.05)
    runner.send_signal(signal.SIGINT)
    shown, _ = runner.communicate(timeout=20)
    assert runner.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in shown
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)
