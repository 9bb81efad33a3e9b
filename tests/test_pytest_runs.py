"""Notebooks under pytest with parameters, fixtures, retries; and `litml test`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from conftest import ENVIRONMENT, Sandbox, code, prose

KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}


def save(project: Sandbox, name: str, front: object = None, **cells: str) -> Path:
    """Write a notebook; `front` is what it says for all its cells."""
    metadata = {**KERNEL, **({"litml": front} if front else {})}
    made = [code(key, source) for key, source in cells.items()]
    return project.write(name, *made, metadata=metadata)


def run(project: Sandbox, *words: str, **more: Any) -> list[str]:
    """Run pytest and return the lines of its output."""
    command = [sys.executable, "-m", "pytest", "--color=no", *words]
    done = project.run(*command, timeout=180, **more)
    assert "INTERNAL" not in done.stdout, done.stdout
    return (done.stdout + done.stderr).splitlines()


def verdicts(lines: list[str]) -> dict[str, str]:
    """Return the verdicts in the output of `pytest -v` by id."""
    split = (line.split() for line in lines if line.startswith("nbs/"))
    return {words[0]: words[1] for words in split if "::" in words[0] and words[1:]}


# Parameters --------------------------------------------------------------------------


def test_a_table_makes_a_test_of_each_row(project: Sandbox) -> None:
    rows = [{"lr": 0.1}, {"lr": 3, "name": "big one"}]
    cells = {
        "settings": "#| params\nlr = 0.1\nname = 'base'",
        "fit": "assert type(lr) is float\nprint(lr, name)\nassert lr < 1",
        "show": "name",
    }
    save(project, "04_train.ipynb", {"params": rows}, **cells)
    save(project, "05_plain.ipynb", one="lr = 1")
    lines = run(project, "-v")
    assert verdicts(lines) == {
        "nbs/04_train.ipynb::settings[lr=0.1]": "PASSED",
        "nbs/04_train.ipynb::fit[lr=0.1]": "PASSED",
        "nbs/04_train.ipynb::show[lr=0.1]": "PASSED",
        "nbs/04_train.ipynb::settings[lr=3,name=big_one]": "PASSED",
        "nbs/04_train.ipynb::fit[lr=3,name=big_one]": "FAILED",
        "nbs/04_train.ipynb::show[lr=3,name=big_one]": "SKIPPED",
        "nbs/05_plain.ipynb::one": "PASSED",
    }
    assert "3.0 big one" in lines, "the kind of the parameter is kept"
    assert len(verdicts(run(project, "-v", "nbs/04_train.ipynb::fit"))) == 2
    one = run(project, "-v", "nbs/04_train.ipynb::fit[lr=0.1]")
    assert verdicts(one) == {"nbs/04_train.ipynb::fit[lr=0.1]": "PASSED"}
    again = verdicts(run(project, "-v", "--lf"))
    assert again == {"nbs/04_train.ipynb::fit[lr=3,name=big_one]": "FAILED"}


def test_values_from_the_command_line_and_the_configuration(project: Sandbox) -> None:
    with (project.root / "pyproject.toml").open("a") as file:
        file.write('[tool.litml.test.params]\n"*train.ipynb" = { lr = [0.1, 0.2] }\n')
    settings = "#| params\nlr = 0.1\nepochs = 3"
    save(project, "a_train.ipynb", settings=settings, fit="assert epochs == 1")
    save(project, "b.ipynb", tagged="x = 1")
    done = project.litml("test", "-p", "epochs=1", "-p", "no:cov", "-v", timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(verdicts(done.stdout.splitlines())) == [
        "nbs/a_train.ipynb::settings[lr=0.1,epochs=1]",
        "nbs/a_train.ipynb::fit[lr=0.1,epochs=1]",
        "nbs/a_train.ipynb::settings[lr=0.2,epochs=1]",
        "nbs/a_train.ipynb::fit[lr=0.2,epochs=1]",
        "nbs/b.ipynb::tagged",
    ]
    lines = run(project, "--litml-param", "epoch=1")
    assert any("no notebook of these has a parameter `epoch`" in line for line in lines)
    assert any("did you mean `epochs`?" in line for line in lines)


def test_values_that_do_not_fit_are_told_and_hide_nothing(project: Sandbox) -> None:
    save(project, "a.ipynb", {"params": [{"lr": "fast"}]}, s="#| params\nlr = 0.1")
    save(project, "b.ipynb", {"params": [{"lrr": 1}]}, s="#| params\nlr = 0.1")
    save(project, "c.ipynb", {"params": 5}, s="#| params\nlr = 0.1")
    save(project, "d.ipynb", {"params": [{"lr": 1}]}, s="lr = 0.1")
    save(project, "e.ipynb", s="1")
    lines = run(project, "-q")
    assert lines[-1].startswith("4 failed, 1 passed")
    for words in (
        "`lr` is of type float, and 'fast' is not",
        "there is no parameter `lrr`",
        "`params` is not a table: 5",
        "there is no parameter `lr`",
    ):
        assert words in lines
    with (project.root / "pyproject.toml").open("a") as file:
        file.write('[tool.litml.test.params]\n"gone.ipynb" = [{ lr = 0.1 }]\n')
    assert any("no notebook `gone.ipynb`" in line for line in run(project))


# What is set up ----------------------------------------------------------------------


def test_fixtures_of_conftest_set_the_environment(project: Sandbox) -> None:
    (project.root / "conftest.py").write_text(
        "import os, pytest\n"
        "@pytest.fixture(scope='session', autouse=True)\n"
        "def everywhere():\n"
        "    with pytest.MonkeyPatch.context() as patch:\n"
        "        patch.setenv('EVERYWHERE', 'yes')\n"
        "        yield\n"
        "@pytest.fixture(scope='module')\n"
        "def server(request):\n"
        "    with pytest.MonkeyPatch.context() as patch:\n"
        "        patch.setenv('SERVER', request.node.name)\n"
        "        yield\n"
        "    print('server ended')\n"
    )
    look = "import os\nassert os.environ['EVERYWHERE'] == 'yes'\nprint(os.environ.get"
    save(project, "a.ipynb", {"fixtures": "server"}, one=f"{look}('SERVER'))", two="1")
    save(project, "b.ipynb", one=f"{look}('SERVER'))")
    save(project, "c.ipynb", {"fixtures": ["nobody"]}, one="1")
    for words in ([], ["--litml-jobs=2"]):
        lines = run(project, "-v", "-rA", *words)
        assert verdicts(lines)["nbs/a.ipynb::one"] == "PASSED"
        assert verdicts(lines)["nbs/b.ipynb::one"] == "PASSED"
        assert verdicts(lines)["nbs/c.ipynb::one"] == "ERROR"
        assert {"a.ipynb", "None", "server ended"} <= set(lines)
        assert any("fixture 'nobody' not found" in line for line in lines)


def test_a_conftest_notebook_runs_before_those_of_its_folder(project: Sandbox) -> None:
    save(project, "_conftest.ipynb", seed="seed = [7]", slow="#| needs: slow\n1 / 0")
    save(project, "deep/_conftest.ipynb", seed="seed.append(8)")
    save(project, "a.ipynb", seed="assert seed == [7]\nseed.append(9)")
    save(project, "deep/b.ipynb", one="assert seed == [7, 8]")
    lines = run(project, "-v")
    assert verdicts(lines) == {
        "nbs/a.ipynb::seed": "PASSED",
        "nbs/deep/b.ipynb::one": "PASSED",
    }
    lines = run(project, "-v", "--litml-needs", "slow")
    assert set(verdicts(lines).values()) == {"ERROR"}
    assert lines.count("  at nbs/_conftest.ipynb, cell slow, line 2") == 2


def test_front_matter_speaks_for_all_cells(project: Sandbox) -> None:
    front = "---\ntitle: x\nlitml:\n  needs: network\n---"
    raw = {"cell_type": "raw", "id": "front", "metadata": {}, "source": front}
    project.write("a.ipynb", raw, code("one", "1"), code("two", "2"))
    save(project, "b.ipynb", {"timeout": 0.5}, one="import time\ntime.sleep(60)")
    save(project, "c.ipynb", {"skip": "later"}, one="1 / 0")
    save(project, "d.ipynb", {"raises": "ValueError"}, one="int('x')", two="1")
    lines = run(project, "-q", "-rs")
    assert lines[-1].startswith("1 failed, 2 passed, 3 skipped")
    assert any("still running after 0.5 s" in line for line in lines)
    assert any(": later" in line for line in lines)


# Retries -----------------------------------------------------------------------------


def flaky(project: Sandbox, times: int) -> str:
    """Return a cell that fails so many times, each in another process."""
    return (
        "import os, pathlib\n"
        f"note = pathlib.Path({str(project.root / 'tries')!r})\n"
        "pids = note.read_text().split() if note.exists() else []\n"
        "assert str(os.getpid()) not in pids, 'a new kernel'\n"
        "note.write_text(' '.join([*pids, str(os.getpid())]))\n"
        f"assert len(pids) >= {times}, 'not yet'"
    )


def test_a_flaky_cell_is_tried_again_in_a_new_kernel(project: Sandbox) -> None:
    fetch = "#| flaky: 3\n" + flaky(project, 2)
    save(project, "a.ipynb", load="x = [1]", fetch=f"{fetch}\nx.append(2)", use="x[1]")
    lines = run(project, "-v", "--junitxml=report.xml")
    assert set(verdicts(lines).values()) == {"PASSED"}
    assert "FLAKY nbs/a.ipynb::fetch passed at try 3" in lines
    cases = ElementTree.parse(project.root / "report.xml").iter("testcase")
    found = {
        case.get("name"): {one.get("name"): one.get("value") for one in case.iter()}
        for case in cases
    }
    assert found["fetch"]["tries"] == "3" and "tries" not in found["load"]
    assert found["fetch"]["notebook"] == "nbs/a.ipynb"
    assert found["fetch"]["cell"] == "fetch"


def test_a_flaky_cell_that_never_passes_fails(project: Sandbox) -> None:
    save(project, "a.ipynb", {"flaky": 2}, load="1", fetch=flaky(project, 9), use="1")
    lines = run(project, "-v")
    assert list(verdicts(lines).values()) == ["PASSED", "FAILED", "SKIPPED"]
    assert "it was tried 2 times" in lines
    assert len((project.root / "tries").read_text().split()) == 2


def test_a_cell_above_may_fail_at_the_second_try(project: Sandbox) -> None:
    note = str(project.root / "seen")
    above = f"import os\nassert not os.path.exists({note!r}), 'only once'"
    below = f"#| flaky: 2\nopen({note!r}, 'w').close()\n1 / 0"
    save(project, "a.ipynb", above=above, below=below, last="1")
    lines = run(project, "-v")
    assert list(verdicts(lines).values()) == ["PASSED", "FAILED", "SKIPPED"]
    assert "cell above, which it needs, failed" in lines


# Workers, and the command ------------------------------------------------------------


def test_workers_share_rows_and_each_keeps_its_own_together(project: Sandbox) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    note = "import os\nopen('pids', 'a').write(f'{lr} {os.getpid()}\\n')"
    cells = {"settings": "#| params\nlr = 0.1", **{f"c{i}": note for i in range(3)}}
    save(project, "a.ipynb", {"params": {"lr": [1.0, 2.0]}}, **cells)
    save(project, "b.ipynb", fetch="#| flaky: 2\n" + flaky(project, 1))
    lines = run(project, "-n", "2", "--litml-html=page.html")
    assert any("9 passed" in line for line in lines), "\n".join(lines)
    assert "FLAKY nbs/b.ipynb::fetch passed at try 2" in lines
    pids = (project.root / "nbs" / "pids").read_text().splitlines()
    assert len(pids) == 6 and len(set(pids)) == 2
    assert "9 passed" in (project.root / "page.html").read_text()


def test_litml_test_obeys_its_table(project: Sandbox) -> None:
    with (project.root / "pyproject.toml").open("a") as file:
        file.write(
            '[tool.litml.test]\nargs = ["-v"]\njobs = 2\nneeds = ["slow"]\n'
            'artifacts = "failed"\n'
        )
    save(project, "a.ipynb", one="#| needs: slow\n1", two="1 / 0")
    done = project.litml("test", cwd=project.root / "nbs", timeout=180)
    assert done.returncode == 1
    assert "1 failed, 1 passed" in done.stdout
    assert (project.root / "failed" / "nbs" / "a.ipynb").exists()
    done = project.litml("test", "a.ipynb::one", cwd=project.root / "nbs", timeout=180)
    assert done.returncode == 0, done.stdout
    with (project.root / "pyproject.toml").open("a") as file:
        file.write("job = 3\n")
    done = project.litml("test")
    assert done.returncode == 2 and "did you mean `jobs`?" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
def test_ctrl_c_of_litml_test_ends_kernels_and_sums_up(project: Sandbox) -> None:
    note = project.root / "pid"
    source = f"import os\nopen({str(note)!r}, 'w').write(f'{{os.getpid()}} ')\n"
    save(project, "a.ipynb", one="1", two=source + "while True: pass")
    command = [sys.executable, "-m", "litml", "test", "-p", "no:cacheprovider"]
    process = subprocess.Popen(
        command,
        cwd=project.root,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    limit = time.monotonic() + 60
    while not (note.exists() and note.read_text().endswith(" ")):
        assert process.poll() is None and time.monotonic() < limit
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    shown, _ = process.communicate(timeout=90)
    assert process.returncode == 130 and "1 passed" in shown
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


# Failures ----------------------------------------------------------------------------


def test_a_failure_shows_the_way_into_the_package_and_values(project: Sandbox) -> None:
    mean = "#| export\ndef mean(values):\n    total = sum(values)\n"
    project.write(
        "00_stats.ipynb",
        prose("title", "# Stats\n\n> Means."),
        code("mean", mean + "    return total / len(values)"),
    )
    project.export()
    use = "from mylib.stats import mean\nrows = []\nmean(rows)"
    save(project, "01_use.ipynb", use=use)
    text = "\n".join(run(project, "nbs/01_use.ipynb"))
    assert "→ nbs/00_stats.ipynb, cell mean, line 4" in text
    assert (
        "with, in mean:\n  values = []\n  total  = 0" in text
        and "\n  rows = " not in text
    )
    text = "\n".join(run(project, "nbs/01_use.ipynb", "--showlocals"))
    assert "with:\n  rows = []\nwith, in mean:" in text
    assert "with" not in "\n".join(run(project, "nbs/01_use.ipynb", "--tb=short"))


def test_a_failure_may_be_told_in_short(project: Sandbox) -> None:
    source = "def f(a):\n    b = a\n    return b / 0\n\nf(3)"
    save(project, "a.ipynb", one="1", bad=source)
    lines = run(project, "--tb=line")
    place = "ZeroDivisionError: division by zero at nbs/a.ipynb, cell bad, line 3"
    assert len([line for line in lines if line.endswith(place)]) == 1, lines
    assert not any("Traceback" in line or "return b" in line for line in lines)
    lines = run(project, "--tb=short")
    assert "cell bad, line 3, in f(a)" in lines and "----> 3     return b / 0" in lines
    assert not any("Traceback" in line or line.startswith("      ") for line in lines)


def test_a_value_that_cannot_be_shown_costs_only_itself(project: Sandbox) -> None:
    odd = "class Odd:\n    def __repr__(self):\n        import time\n"
    odd += "        time.sleep(600)\n"
    save(project, "a.ipynb", one=f"{odd}x = Odd()\n[x, 1 / 0]")
    save(project, "b.ipynb", one="#| timeout: 1\nn = 41\nwhile n: pass")
    lines = run(project)
    assert "ZeroDivisionError: division by zero" in lines
    assert "  n = 41" in lines, "an interrupted cell is asked as well"


def test_the_copy_of_a_failed_notebook(project: Sandbox) -> None:
    stored = [{"output_type": "stream", "name": "stdout", "text": ["old\n"]}]
    flood = code("flood", "print('x' * 3_000_000)\nprint('next')")
    last = code("last", "print('never')", outputs=stored)
    project.write("a.ipynb", flood, code("bad", "1 / 0"), last, metadata=KERNEL)
    save(project, "b.ipynb", good="1")
    save(project, "c.ipynb", gone="import os\nos._exit(3)")
    words = ["--litml-artifacts", "failed", "--litml-html", "page.html"]
    lines = run(project, *words)
    folder = project.root / "failed"
    assert f"executed copy: {folder / 'nbs' / 'a.ipynb'}" in lines
    names = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert names == ["a.ipynb", "c.ipynb"], "no half-written files beside them"
    copy = json.loads((folder / "nbs" / "a.ipynb").read_bytes())
    outputs = {cell["id"]: cell["outputs"] for cell in copy["cells"]}
    assert len(json.dumps(outputs["flood"])) < 1_100_000
    assert outputs["bad"][0]["ename"] == "ZeroDivisionError" and not outputs["last"]
    assert "KernelDied: exit code 3" in (folder / "nbs" / "c.ipynb").read_text()
    page = (project.root / "page.html").read_text()
    assert (
        'href="failed/nbs/a.ipynb"' in page and "2 failed, 1 skipped, 2 passed" in page
    )
    for number in (1, 2):
        assert f'href="#failure-{number}"' in page and f'id="failure-{number}"' in page
    assert page.count("<details open>") == 2 and page.count("<details>") == 1
    assert 'id="failure-3"' not in page and page.count("<h1>") == 1
    assert (
        json.loads((project.root / "nbs/a.ipynb").read_bytes())["cells"][2]["outputs"]
        == stored
    ), "the notebook itself is left alone"
    save(project, "a.ipynb", good="1")
    run(project, *words, "nbs/a.ipynb")
    assert not (folder / "nbs" / "a.ipynb").exists(), "it is mended"


def test_a_copy_that_cannot_be_written_is_an_error(project: Sandbox) -> None:
    save(project, "a.ipynb", bad="1 / 0")
    (project.root / "failed").write_text("a file, where a folder should be")
    lines = run(project, "--litml-artifacts", "failed", "-q")
    assert lines[-1].startswith("1 failed, 1 error")
    assert any(line.startswith("cannot be written") for line in lines)


def test_what_failed_goes_first_and_is_right_again(project: Sandbox) -> None:
    """The cells of a notebook are torn apart, and each is still tested after others."""
    save(project, "a.ipynb", load="x = 1", bad="x += 1\n1 / 0", last="1")
    save(project, "b.ipynb", load="x = 1", bad="assert x == 2", last="1")
    first = ["--litml-artifacts", "failed", "-v"]
    run(project, *first)
    lines = run(project, *first, "--ff", "--durations=3", "--durations-min=0")
    assert verdicts(lines) == {
        "nbs/a.ipynb::bad": "FAILED",
        "nbs/b.ipynb::bad": "FAILED",
        "nbs/a.ipynb::load": "PASSED",
        "nbs/a.ipynb::last": "ERROR",
        "nbs/b.ipynb::load": "PASSED",
        "nbs/b.ipynb::last": "ERROR",
    }
    assert any("slowest 3 durations" in line for line in lines)
    copy = (project.root / "failed" / "nbs" / "a.ipynb").read_text()
    assert "ZeroDivisionError" in copy, "that of the failure, not of the second time"
    lines = run(project, "-v", "-x", "-k", "bad or load")
    assert verdicts(lines) == {
        "nbs/a.ipynb::load": "PASSED",
        "nbs/a.ipynb::bad": "FAILED",
    }
