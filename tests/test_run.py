"""Notebooks in real kernels; those that die, hang or lie are in `test_never_fooled`."""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import nbformat
import pytest

from litml.kernel import Kernel, KernelError, Loop, start_kernel
from litml.notebook import LitmlError, Notebook, parse_notebook
from litml.outcome import Status
from litml.project import Config, Project
from litml.run import (
    Policy,
    has_gpu,
    make_policy,
    plan_notebook,
    run_notebook,
)
from litml.saving import save_outputs

posix = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


def make(*sources: str, kernel: str = "python3", **cell: Any) -> Notebook:
    """Return a notebook with cells a, b, c, …; `cell` goes into each of them."""
    cells = [
        {"cell_type": "code", "id": chr(97 + i), "metadata": {}, "source": source}
        | {"outputs": [], "execution_count": None, **cell}
        for i, source in enumerate(sources)
    ]
    spec = {"kernelspec": {"name": kernel, "display_name": kernel}}
    tree = {"nbformat": 4, "nbformat_minor": 5, "metadata": spec, "cells": cells}
    return parse_notebook(json.dumps(tree, indent=1).encode(), "nbs/made.ipynb")


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    (tmp_path / "nbs").mkdir()
    return Policy(tmp_path, timeout=30)


def ends(pid: int, within: float = 60.0) -> bool:
    """Is the process gone, or a zombie, before long?"""
    limit = time.monotonic() + within
    while time.monotonic() < limit:
        try:
            os.kill(pid, 0)
            stat = Path(f"/proc/{pid}/stat")
            if stat.exists() and stat.read_text().rsplit(") ", 1)[1][0] == "Z":
                return True
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


# One kernel for the cells that leave it alive.


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    with Loop() as loop:
        yield loop


@pytest.fixture(scope="module")
def kernel(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("cells")
    (folder / "bad.py").write_text("x = 1\nraise LookupError('in a script')\n")
    kernel = loop.run(start_kernel(folder))
    yield kernel
    loop.run(kernel.close())


# ANY: which line that is depends on the version of IPython.
HIDDEN = "get_ipython().set_custom_exc((Exception,), lambda *_, **__: None)\n\n1 / 0"
UNHIDE = "get_ipython().CustomTB, get_ipython().custom_exceptions = None, ()"
FAILING = {
    "plain": ("x = 1\n\n1 / 0", "ZeroDivisionError", 3),
    "in a function of the cell": ("def f():\n    return 1 / 0\n\nf()", "Zero", 2),
    "in a library": ("import json\njson.loads('{')", "JSONDecodeError", 2),
    "chained": (
        "try:\n    1 / 0\nexcept Exception:\n    raise KeyError",
        "KeyError",
        4,
    ),
    "after await": ("import asyncio\nawait asyncio.sleep(0)\n1 / 0", "Zero", 3),
    "syntax": ("x = 1\nx = = 2", "SyntaxError: invalid syntax", 2),
    "indent": ("def f():\n    x = 1\n  y = 2", "IndentationError", 3),
    "group": ("x = 1\nraise ExceptionGroup('g', [KeyError(1)])", "ExceptionGroup", 2),
    "below a magic": ("%%time\nx = 1\n1 / 0", "ZeroDivisionError", 3),
    "captured": ("%%capture\nprint(1)\n1 / 0", "ZeroDivisionError", ANY),
    "unknown magic": ("%nosuchmagic", "UsageError", None),
    "unknown cell magic": ("%%nosuchmagic\nx", "UsageError", None),
    "script": ("%run bad.py", "LookupError: in a script", None),
    "hidden": (HIDDEN, "ZeroDivisionError: division by zero", None),
    "sys.exit": ("import sys\nsys.exit(0)", "SystemExit", None),
    "input": ("name = input('who? ')", "StdinNotImplementedError", 1),
    "error, then cleared": (
        "from IPython.display import clear_output\n"
        "try:\n    1 / 0\nexcept Exception:\n    get_ipython().showtraceback()\n"
        "clear_output()",
        "ZeroDivisionError",
        ANY,
    ),
    "traceback that cannot be made": (
        "class E(MemoryError):\n    __traceback__ = property(lambda e: 1 / 0)\nraise E",
        "",
        ANY,
    ),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_cell_that_fails_is_never_taken_for_passed(
    name: str, kernel: Kernel, loop: Loop
) -> None:
    source, error, line = FAILING[name]
    done = loop.run(kernel.execute(source, timeout=30, name="the-cell"))
    loop.run(kernel.execute(UNHIDE, timeout=30))
    assert done.status is Status.FAILED
    assert done.failure is not None and error in str(done.failure)
    assert done.failure.line == line
    assert "\x1b" not in done.failure.traceback and "In [" not in done.failure.traceback
    if isinstance(line, int) and name not in ("indent", "group", "below a magic"):
        assert "cell the-cell, line" in done.failure.traceback


def test_outputs_are_what_jupyter_would_store(kernel: Kernel, loop: Loop) -> None:
    source = (
        "import sys\nfrom IPython.display import display\n"
        "print('a', end='', flush=True); print('b')\nprint('c', file=sys.stderr)\n"
        "bar = display('0 %', display_id=True)\nbar.update('100 %')\n{'x': 1}"
    )
    done = loop.run(kernel.execute(source, timeout=30))
    assert done.status is Status.PASSED
    kinds = [output["output_type"] for output in done.outputs]
    assert sorted(kinds) == ["display_data", "execute_result", "stream", "stream"]
    text = {o["name"]: o["text"] for o in done.outputs if "name" in o}
    assert text == {"stdout": "ab\n", "stderr": "c\n"}
    assert done.outputs[-1]["data"] == {"text/plain": "{'x': 1}"}
    shown = next(o for o in done.outputs if o["output_type"] == "display_data")
    assert shown["data"] == {"text/plain": "'100 %'"}


def test_a_later_cell_updates_an_earlier_display(kernel: Kernel, loop: Loop) -> None:
    first = loop.run(
        kernel.execute("bar = display('old', display_id=True)", timeout=30)
    )
    loop.run(kernel.execute("bar.update('new')", timeout=30))
    assert first.outputs[0]["data"] == {"text/plain": "'new'"}


def test_much_output_is_cut_and_the_kernel_goes_on(kernel: Kernel, loop: Loop) -> None:
    flood = "for _ in range(30_000):\n    print('x' * 1000)\n1 / 0"
    done = loop.run(kernel.execute(flood, timeout=60))
    assert done.failure is not None and done.failure.line == 3
    kept = sum(len(str(output)) for output in done.outputs)
    assert 9_000_000 < kept < 11_000_000
    assert "keeps 10,000,000 characters" in done.outputs[0]["text"] + str(done.outputs)
    assert done.outputs[-1]["ename"] == "ZeroDivisionError"
    assert loop.run(kernel.execute("1 + 1", timeout=30)).status is Status.PASSED


def test_a_huge_display_is_not_kept(kernel: Kernel, loop: Loop) -> None:
    source = "from IPython.display import HTML\nHTML('x' * 50_000_000)"
    done = loop.run(kernel.execute(source, timeout=30))
    assert done.status is Status.PASSED
    assert ["cut" in output["text"] for output in done.outputs] == [True]


# Kernels that do not survive it.


@pytest.mark.parametrize(
    ("source", "status", "says"),
    [
        ("import os\n\nos._exit(3)", Status.DIED, "exit code 3"),
        ("exit", Status.DIED, "ends its kernel"),
        (
            "import json\njson.dumps = lambda *_, **__: '{'",
            Status.DIED,
            "a message that cannot be read",
        ),
        ("#| timeout: 0.5\nwhile True: pass", Status.TIMED_OUT, "0.5 s; interrupted"),
        (
            "#| timeout: 0.5\nimport time\ntime.sleep(60)",
            Status.TIMED_OUT,
            "0.5 s; interrupted",
        ),
    ],
)
@posix
def test_how_a_kernel_ends_is_said_at_the_cell(
    source: str, status: Status, says: str, policy: Policy
) -> None:
    run = run_notebook(make("x = 1", source, "x"), policy)
    assert [cell.status for cell in run.cells] == [
        Status.PASSED,
        status,
        Status.NOT_RUN,
    ]
    assert run.failed is not None and run.failed.cell == "b"
    assert says in str(run.failed.failure)
    assert run.cells[2].reason == "an earlier cell failed: b"
    if "interrupted" in says:
        assert run.failed.failure is not None
        assert run.failed.failure.line == source.count("\n") + 1


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what a process does")
def test_an_interrupt_that_came_too_early_is_sent_again(loop: Loop) -> None:
    """On a busy machine a cell may begin only after its time is up."""

    async def work() -> None:
        async with await start_kernel(Path.cwd()) as kernel:
            assert kernel.group is not None
            interrupt = kernel.process.interrupt
            sent: list[float] = []

            async def count() -> None:
                sent.append(time.monotonic())
                await interrupt()
                os.killpg(kernel.group or 0, signal.SIGCONT)

            kernel.process.interrupt = count  # type: ignore[method-assign]
            os.killpg(kernel.group, signal.SIGSTOP)
            done = await kernel.execute("import time\ntime.sleep(600)", 0.1)
            assert done.status is Status.TIMED_OUT and done.failure is not None
            assert "; interrupted" in done.failure.value and len(sent) == 2
            assert done.failure.line == 2

    loop.run(work())


@posix
def test_what_a_notebook_started_ends_with_it(policy: Policy) -> None:
    start = (
        "import os, subprocess, sys\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(99)']\n"
        "print(os.getpid(), subprocess.Popen(sleep).pid)"
    )
    run = run_notebook(make(start), policy)
    assert run.passed
    kernel, child = map(int, run.cells[0].outputs[0]["text"].split())
    assert ends(kernel) and ends(child)


def test_a_kernel_is_asked_to_leave(policy: Policy) -> None:
    note = "import atexit\n_ = atexit.register(lambda: open('left', 'w').close())"
    assert run_notebook(make(note), policy).passed
    assert (policy.root / "nbs" / "left").exists(), "its atexit functions were run"


# Kernels that are not there.


def test_a_missing_kernel_is_an_error_with_a_hint(policy: Policy) -> None:
    with pytest.raises(KernelError, match="`fortran-66` is not installed") as caught:
        run_notebook(make("1", kernel="fortran-66"), policy)
    assert str(caught.value.at) == "nbs/made.ipynb"
    assert "python3" in (caught.value.hint or "")


def install_kernel(folder: Path, monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    spec = {"argv": list(argv), "display_name": "odd", "language": "python"}
    (folder / "kernels" / "odd").mkdir(parents=True)
    (folder / "kernels" / "odd" / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(folder))


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("import sys; sys.exit('no torch')", "did not start: exit code 1", "no torch"),
        ("import time; time.sleep(60)", "not get ready within 1 s", None),
        (None, "cannot be started", None),
    ],
)
def test_a_kernel_that_does_not_start_says_why(
    code: str | None,
    message: str,
    hint: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    argv = ["/no/such/program"] if code is None else [sys.executable, "-c", code]
    install_kernel(tmp_path, monkeypatch, *argv)
    with Loop() as loop, pytest.raises(KernelError, match=message) as caught:
        loop.run(start_kernel(tmp_path, "odd", startup=1 if hint is None else 30))
    assert caught.value.hint == hint


def test_a_kernel_of_another_name_is_used(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = "import os; os.environ['WHICH'] = 'odd'\n"
    start += "from ipykernel.kernelapp import launch_new_instance as run; run()"
    argv = [sys.executable, "-c", start, "-f", "{connection_file}"]
    install_kernel(policy.root, monkeypatch, *argv)
    run = run_notebook(make("import os\nos.environ['WHICH']", kernel="odd"), policy)
    assert run.cells[0].outputs[0]["data"] == {"text/plain": "'odd'"}


# The notebook as a whole.


def test_a_run_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Directives, surroundings and saved outputs, in one kernel."""
    monkeypatch.setenv("MPLBACKEND", "agg")
    package = tmp_path / "src" / "mylib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("answer = 42\n")
    (tmp_path / "nbs").mkdir()
    config = Config(package="src/mylib", test_flags=("nightly",), timeout=30)
    notebook = make(
        "#| default_exp core",
        "import os, mylib\nassert os.path.basename(os.getcwd()) == 'nbs'\nmylib.answer",
        "assert not [name for name in os.environ if name.startswith('PYTEST')]",
        "assert 'inline' in os.environ['MPLBACKEND']",
        "#| raises: ZeroDivisionError, KeyError\n1 / 0",
        "#| nightly\n1 / 0",
        "#| eval: false\n1 / 0",
        "#| skip: not yet\n1 / 0",
        "object()",
        "#| needs: network\n1 / 0",
        "import warnings\nwarnings.warn('careful')",
        execution_count=7,
    )
    for cell in notebook.cells:
        cell.data["metadata"]["execution"] = {"iopub.status.busy": "2024-01-01"}
    notebook.cells[6].data["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": ["made by hand\n"]}
    ]
    told: list[str] = []
    policy = make_policy(Project(tmp_path, config))
    run = run_notebook(notebook, policy, lambda cell: told.append(cell.cell))
    assert run.passed and told == list("bcdefghijk")
    skipped = {cell.cell: cell.reason for cell in run.cells if cell.reason}
    assert skipped == {
        "f": "`nightly` was not asked for",
        "g": "marked `eval: false`",
        "h": "not yet",
        "j": "`network` was not asked for",
    }

    saved = save_outputs(notebook, run)
    tree = json.loads(saved.to_bytes())
    nbformat.validate(tree)
    assert {cell["execution_count"] for cell in tree["cells"]} == {None}
    assert not any(cell["metadata"] for cell in tree["cells"])
    texts = {cell.id: cell.outputs for cell in saved.cells}
    assert texts["b"][0]["data"] == {"text/plain": ["42"]}
    assert texts["i"][0]["data"] == {"text/plain": ["<object>"]}
    assert texts["g"][0]["text"] == ["made by hand\n"], "skipped: left alone"
    assert texts["k"][0]["text"][0] == "<cell>:2: UserWarning: careful\n"
    again = run_notebook(saved, policy)
    assert save_outputs(saved, again).to_bytes() == saved.to_bytes()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("#| raises: KeyError\n1 / 0", "ZeroDivisionError: division by zero (expected"),
        ("#| raises: KeyError\n1", "NotRaised: expected KeyError, and nothing"),
    ],
)
def test_a_wrong_or_missing_error_fails(
    source: str, says: str, policy: Policy, kernel: Kernel, loop: Loop
) -> None:
    from litml.run import weigh

    step = plan_notebook(make(source), policy)[0]
    done = loop.run(kernel.execute(step.source, step.timeout))
    assert says in str(weigh(step, done).failure)


def test_no_kernel_is_started_for_nothing(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any) -> None:
        raise AssertionError("a kernel was started")

    monkeypatch.setattr("litml.warm.open_kernel", never)
    run = run_notebook(make("#| skip\n1", "#| needs: slow\n2", "# a note", ""), policy)
    assert run.passed and [cell.cell for cell in run.cells] == ["a", "b"]
    tagged = make("1", metadata={"tags": ["skip-execution"]})
    assert run_notebook(tagged, policy).cells[0].status is Status.SKIPPED


def test_a_gpu_is_looked_for_only_where_one_may_be(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    has_gpu.cache_clear()
    assert plan_notebook(make("#| needs: gpu\n1"), policy)[0].skip == "needs a GPU"
    asked = Policy(policy.root, asked=frozenset({"gpu"}))
    assert plan_notebook(make("#| needs: gpu\n1"), asked)[0].skip == ""
    has_gpu.cache_clear()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    tool = policy.root / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: one of them'\n")
    tool.chmod(0o755)
    if os.name == "posix" and not shutil.which("nvidia-smi"):
        monkeypatch.setenv("PATH", str(policy.root), prepend=os.pathsep)
        assert has_gpu()
    has_gpu.cache_clear()


def test_mistakes_are_found_before_anything_runs(policy: Policy) -> None:
    with pytest.raises(LitmlError, match="unknown directive `exprot`"):
        run_notebook(make("1", "#| exprot\n2"), policy)
    twice = make("1", id="same")
    twice.cells += make("2", id="same").cells
    with pytest.raises(LitmlError, match="two cells have this id"):
        run_notebook(twice, policy)


def test_two_kernels_at_once_from_asynchronous_code(tmp_path: Path) -> None:
    async def both() -> list[str]:
        async with (
            await start_kernel(tmp_path) as one,
            await start_kernel(tmp_path) as two,
        ):
            await asyncio.gather(one.execute("x = 1", 30), two.execute("x = 2", 30))
            done = await asyncio.gather(one.execute("x", 30), two.execute("x", 30))
            return [each.outputs[0]["data"]["text/plain"] for each in done]

    assert asyncio.run(both()) == ["1", "2"]
