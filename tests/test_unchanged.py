"""What need not run, through pytest: the store must never hide a failure."""

import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Sandbox, code, notebook_bytes

from litml.observe import list_imported
from litml.select import digest_environment, find_packages


@pytest.fixture
def project(project: Sandbox) -> Sandbox:
    """Two notebooks, of which one depends on much."""
    files = {
        "mylib/__init__.py": "",
        "mylib/core.py": "from mylib.base import LIMIT\n",
        "mylib/base.py": "LIMIT = 3\n",
        "nbs/data.csv": "3",
        "nbs/more/a.csv": "",
        "script.py": "three = 3\n",
        "nbs/named.py": "three = 3\n",
    }
    for name, text in files.items():
        path = project.root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    source = (
        "import importlib, os\n"
        "from mylib.core import LIMIT\n"
        "assert len(os.listdir('more')) == 1\n"
        "named = importlib.import_module('na' + 'med')\n"
        "three = int(open('data.csv').read())"
    )
    check = "assert LIMIT == three == named.three == 3"
    project.write("01_much.ipynb", code("use", source), code("check", check))
    project.write("02_alone.ipynb", code("sum", "assert 1 + 1 == 2"))
    return project


def run(project: Sandbox, *words: str) -> str:
    """Run the tests; return the counts of the last line, sorted."""
    return summarize(start(project, "--litml-changed", *words).stdout)


def start(project: Sandbox, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-q", "--color=no", *words]
    return project.run(*command, timeout=120)


def summarize(output: str) -> str:
    last = output.strip().splitlines()[-1]
    kinds = "passed|failed|unchanged|skipped|deselected|error"
    found = re.findall(rf"(\d+) ({kinds})", last)
    return ", ".join(f"{number} {kind}" for number, kind in sorted(found)) or last


def test_the_code_that_changed_is_what_runs(project: Sandbox) -> None:
    """Also if size and time of a module are what they were."""
    module = project.root / "mylib/base.py"
    before = module.stat()
    assert run(project) == "3 passed"
    py_compile.compile(str(module))
    module.write_text("LIMIT = 4\n")
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "1 failed" in run(project)


def test_nothing_changed_nothing_runs(project: Sandbox) -> None:
    assert run(project) == "3 passed"
    done = start(project, "--litml-changed")
    assert summarize(done.stdout) == "3 unchanged"
    assert "2 notebooks have passed before" in done.stdout
    assert run(project, "-n", "2") == "3 unchanged"
    assert run(project, "-k", "check") == "1 unchanged, 2 deselected"
    assert summarize(start(project).stdout) == "3 passed", "a plain run runs all"


CHANGES = {
    "a module": ("mylib/core.py", "from mylib.base import LIMIT\n\n"),
    "a module of a module": ("mylib/base.py", "LIMIT = 4\n"),
    "a file that was opened": ("nbs/data.csv", "4"),
    "a file in a folder that was listed": ("nbs/more/b.csv", ""),
    "a module by a name made up": ("nbs/named.py", "three = 4  # no more\n"),
    "a module that hides another": ("nbs/importlib.py", "raise ValueError\n"),
    "a conftest that was not there": ("conftest.py", "import mylib\n"),
}


slow = pytest.mark.slow  # each runs pytest three or four times
QUICK = ("a module of a module", "a file in a folder that was listed")


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one in QUICK else slow) for one in CHANGES]
)
def test_what_a_notebook_depends_on(project: Sandbox, name: str) -> None:
    """Only the notebooks run that the change concerns, and a failure is seen."""
    run(project)
    path, text = CHANGES[name]
    (project.root / path).write_text(text)
    done = start(project, "--litml-changed", "-vv")
    ran = re.findall(r"^(\S+) ran: (.*)$", done.stdout, re.MULTILINE)
    assert ran[0][0] == "nbs/01_much.ipynb"
    assert path.removesuffix("/b.csv") in ran[0][1]
    assert (len(ran) == 1) is (path != "conftest.py")
    # importlib is imported before anything could hide it
    harmless = ("mylib/core.py", "conftest.py", "nbs/importlib.py")
    broken = path not in harmless
    assert done.returncode == int(broken), done.stdout
    if broken:
        assert "failed" in run(project), "a failure is not remembered"


def test_a_skipped_cell_is_no_reason_to_run_again(project: Sandbox) -> None:
    """Every notebook of an nbdev project ends with one."""
    last = code("end", "import nbdev; nbdev.nbdev_export()")
    skipped = code("rocket", "#| skip: not today\nlaunch()")
    project.write("02_alone.ipynb", skipped, code("sum", "1 + 1"), last)
    assert run(project) == "2 skipped, 3 passed"
    assert run(project) == "2 skipped, 3 unchanged"


def test_a_run_of_some_cells_takes_nothing_back(project: Sandbox) -> None:
    assert run(project) == "3 passed"
    (project.root / "nbs/data.csv").write_text("3 ")
    assert run(project, "nbs/01_much.ipynb::use") == "1 passed"
    (project.root / "nbs/data.csv").write_text("3")
    assert run(project) == "3 unchanged", "as it was when all of it passed"


def test_prose_and_times_are_no_changes(project: Sandbox) -> None:
    run(project)
    for path in project.root.rglob("*.py"):
        path.touch()
    path = project.root / "nbs/02_alone.ipynb"
    path.write_text(path.read_text().replace('"metadata": {}', '"metadata": {"a": 1}'))
    assert run(project) == "3 unchanged"


def test_code_is_a_change(project: Sandbox) -> None:
    run(project)
    project.write("02_alone.ipynb", code("sum", "assert 1 + 1 == 3"))
    assert run(project) == "1 failed, 2 unchanged"
    project.write("02_alone.ipynb", code("sum", "assert 1 + 1 == 2"))
    assert run(project) == "1 passed, 2 unchanged", "the failure took the evidence away"


UNSEEN = (
    "import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])",
    "import socket\nsocket.socket(type=2).connect(('192.0.2.1', 9))",
    "import multiprocessing\nmultiprocessing.get_context('spawn').Pool(1).close()",
)


@pytest.mark.parametrize(
    "source",
    [
        "!true",
        "import os\nos.fork() or os._exit(0)",
        *(pytest.param(one, marks=slow) for one in UNSEEN),
    ],
)
def test_what_cannot_be_seen_runs_every_time(project: Sandbox, source: str) -> None:
    """Unless the notebook says what it depends on."""
    project.write("02_alone.ipynb", code("start", source))
    run(project)
    assert run(project) == "1 passed, 2 unchanged"
    project.write("02_alone.ipynb", code("start", f"#| depends: *.py\n{source}"))
    run(project)
    assert run(project) == "3 unchanged"
    (project.root / "script.py").write_text("three = 4\n")
    assert run(project) == "1 passed, 2 unchanged"


def test_files_from_elsewhere(project: Sandbox, tmp_path: Path) -> None:
    """Data that is declared, and a module that is edited in a folder of its own."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a.csv").write_text("3")
    (tmp_path / "data/again").symlink_to(tmp_path / "data")
    (project.root / "linked").symlink_to(tmp_path / "data")
    (tmp_path / "other.py").write_text("import third\n")
    (tmp_path / "third.py").write_text("")
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "--litml-changed", "-vv"]

    def reason() -> str:
        done = project.run(*command, env=environment, timeout=120)
        return done.stdout.partition("02_alone.ipynb ran: ")[2].partition("\n")[0]

    declared = f"#| depends: {tmp_path}/data/*.csv linked\n!true\nimport other"
    project.write("02_alone.ipynb", code("read", declared))
    assert reason() == "it has not passed yet"
    assert reason() == ""
    (tmp_path / "data/a.csv").write_text("4")
    assert reason() == f"{tmp_path}/data/a.csv has changed"
    (tmp_path / "data/b.txt").touch()
    assert reason() == "linked/b.txt has appeared"
    (tmp_path / "third.py").write_text("1 / 0")
    assert reason() == f"{tmp_path}/third.py has changed"


def test_what_is_installed_to_a_folder_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version counts, and to read all of torch would take twenty seconds."""
    edited, target = tmp_path / "edited", tmp_path / "target"
    (target / "there-1.0.dist-info").mkdir(parents=True)
    edited.mkdir()
    monkeypatch.setattr(sys, "path", [str(edited), str(target)])
    found = list_imported(["import here, there"], tmp_path / "own", [tmp_path / "own"])
    assert edited / "here.py" in found
    assert not any(path.is_relative_to(target) for path in found)


def test_a_kernel_of_another_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "env/lib/python3.12/site-packages"
    site.mkdir(parents=True)
    (tmp_path / "kernels/other").mkdir(parents=True)
    spec = {"argv": [f"{tmp_path}/env/bin/python"], "display_name": "Other"}
    (tmp_path / "kernels/other/kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    assert find_packages("other") == [str(site)]
    assert find_packages("python3") == find_packages("nobody") == []
    before = digest_environment(tmp_path, find_packages("other"))
    (site / "torch-2.13.dist-info").mkdir()
    assert before != digest_environment(tmp_path, find_packages("other"))


def test_what_a_test_has_just_written(project: Sandbox) -> None:
    """A notebook that was not to run does, if one before it writes what it reads."""
    write = "open('../made.csv', 'w').write('3')"
    project.write("00_write.ipynb", code("write", write))
    read = "assert open('../made.csv').read() == '3'"
    project.write("02_alone.ipynb", code("read", read))
    assert run(project) == "4 passed"
    assert run(project) == "4 unchanged"
    project.write("00_write.ipynb", code("write", write.replace("3", "4")))
    assert run(project) == "1 failed, 1 passed, 2 unchanged"


def test_a_second_try_is_not_remembered(project: Sandbox) -> None:
    source = (
        "#| flaky: 3\nfrom pathlib import Path\nseen = Path('seen')\n"
        "first = not seen.exists()\nseen.touch()\nassert not first"
    )
    project.write("02_alone.ipynb", code("flaky", source))
    run(project)
    assert run(project) == "1 passed, 2 unchanged"


def test_coverage_runs_everything(project: Sandbox) -> None:
    pytest.importorskip("pytest_cov", reason="measures coverage")
    run(project)
    done = start(project, "--litml-changed", "--cov=mylib")
    assert "unchanged" not in done.stdout


def test_since_a_commit(project: Sandbox) -> None:
    project.commit()
    words = ("--litml-since", "HEAD")
    assert "deselected" in start(project, *words).stdout
    (project.root / "mylib/base.py").write_text("LIMIT = 3  # again\n")
    done = start(project, *words)
    assert summarize(done.stdout) == "1 deselected, 2 passed"
    for name in ("nbs/data.csv", "nbs/_conftest.ipynb", "setup.py"):
        project.commit()
        (project.root / name).write_bytes(notebook_bytes(code("one", "1")))
        done = start(project, *words, "--collect-only")
        assert "01_much.ipynb::use" in done.stdout, name
    done = start(project, "--litml-since", "nowhere")
    assert done.returncode == 4
    assert "nowhere" in done.stderr


def test_shares_cover_everything_once(project: Sandbox) -> None:
    (project.root / "test_plain.py").write_text("def test_it():\n    pass\n")
    for number in range(5):
        project.write(f"1{number}_more.ipynb", code("one", f"assert {number} >= 0"))
    start(project, "--litml-store", "kept")  # now the times are known
    seen: list[str] = []
    for number in (1, 2, 3):
        words = ("--litml-store", "kept", "--litml-shard", f"{number}/3")
        done = start(project, *words, "--collect-only")
        seen += [line for line in done.stdout.splitlines() if "::" in line]
    whole = start(project, "--collect-only").stdout
    assert sorted(seen) == sorted(line for line in whole.splitlines() if "::" in line)
    assert start(project, "--litml-shard", "3/2").returncode == 4


def test_a_store_can_be_carried_to_another_machine(
    project: Sandbox, tmp_path: Path
) -> None:
    """Other times, another place, the same content."""
    run(project, "--litml-store", "kept")
    other = tmp_path / "elsewhere"
    shutil.copytree(project.root, other, copy_function=shutil.copy)
    command = [sys.executable, "-m", "pytest", "-q", "--litml-changed"]
    done = subprocess.run(
        [*command, "--litml-store", "kept"],
        cwd=other,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert "3 unchanged" in done.stdout


def test_a_store_that_is_broken_is_as_good_as_none(project: Sandbox) -> None:
    run(project, "--litml-store", "kept")
    for path in (project.root / "kept").glob("*.json"):
        path.write_bytes(path.read_bytes()[:-20])
    assert run(project, "--litml-store", "kept") == "3 passed"


def test_a_store_that_cannot_be_written_is_told(project: Sandbox) -> None:
    (project.root / "kept").touch()
    done = start(project, "--litml-changed", "--litml-store", "kept")
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("results are not kept") == 3


def test_litml_test_skips_what_is_known(project: Sandbox) -> None:
    done = project.litml("test", "-q", "--all", timeout=120)
    assert done.returncode == 0, "and it is remembered"
    assert "3 unchanged" in project.litml("test", "-q", timeout=120).stdout
    assert "3 passed" in project.litml("test", "-q", "--all", timeout=120).stdout
