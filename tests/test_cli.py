"""The command line as a person, a shell and a script meet it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Sandbox, code

import litml

HOT = ["nbformat", "jupyter_client", "IPython", "zmq", "pytest", "build", "jinja2"]
HOT += ["watchfiles", "hatchling", "asyncio", "difflib", "subprocess", "hashlib"]


@pytest.fixture
def exported(project: Sandbox) -> Sandbox:
    """Return an exported project."""
    project.write("00_core.ipynb", code("x", "#| export\nx = 1"))
    project.export()
    return project


def change(project: Sandbox) -> None:
    project.write("00_core.ipynb", code("x", "#| export\nx = 2"))


# What it says of itself --------------------------------------------------------------


def test_the_version(project: Sandbox) -> None:
    for words in (["--version"], ["export", "--version"][1:]):
        done = project.litml(*words)
        assert (done.returncode, done.stdout) == (0, f"{litml.__version__}\n")
    script = shutil.which("litml", path=str(Path(sys.executable).parent))
    assert script, "the console script is installed beside Python"
    assert project.run(script, "--version").stdout == f"{litml.__version__}\n"


def test_usage(project: Sandbox) -> None:
    nothing = project.litml()
    assert nothing.returncode == 2 and nothing.stdout == ""
    assert "export" in nothing.stderr and "usage: litml" in nothing.stderr
    help = project.litml("--help")
    assert help.returncode == 0 and help.stdout == nothing.stderr
    for words in (["exprot"], ["export", "--chek"], ["export", "extra"]):
        wrong = project.litml(*words)
        assert wrong.returncode == 2 and wrong.stdout == ""
        assert "usage: litml" in wrong.stderr and "Traceback" not in wrong.stderr
    assert "exprot" in project.litml("exprot").stderr


def test_every_command_explains_itself(project: Sandbox) -> None:
    commands = re.findall(r"(?m)^    (\w[\w-]*)(?: |$)", project.litml("--help").stdout)
    assert {"export", "watch", "sync", "new", "build", "completion"} <= set(commands)
    for command in commands:
        done = project.litml(command, "--help")
        assert done.returncode == 0 and f"usage: litml {command}" in done.stdout


def test_the_project_is_found_from_inside_only(project: Sandbox) -> None:
    path = project.write("deep/00_core.ipynb", code("x", "#| export\nx = 1"))
    project.export(cwd=path.parent)
    assert (project.root / "mylib/deep/core.py").exists()
    done = project.litml("export", cwd=project.root.parent)
    assert done.returncode == 2 and done.stderr.startswith("error: no project at")
    assert "\n  hint: " in done.stderr
    (project.root / "pyproject.toml").write_text("[tool.litml]\nnotebook = 'x'\n")
    done = project.litml("export")
    assert done.returncode == 2 and "did you mean `notebooks`?" in done.stderr


NAMED = '[project]\nname = "mylib"\n[tool.litml]\n'
SENSELESS = {
    "not TOML": "a = [",
    "tool is a number": "tool = 3",
    "litml is a number": "[tool]\nlitml = 3",
    "project is a number": "project = 3\n[tool.litml]",
    "no name": "[tool.litml]",
    "a name that is a path": '[project]\nname = "../evil"\n[tool.litml]',
    "an unknown key": f"{NAMED}time-out = 3",
    "a wrong type": f"{NAMED}timeout = 'long'",
    "a wrong item": f"{NAMED}exclude = ['a', 1]",
    "a package outside": f"{NAMED}package = '../evil'",
    "a package elsewhere": f"{NAMED}package = '/tmp/evil'",
    "notebooks outside": f"{NAMED}notebooks = '..'",
    "a README outside": f"{NAMED}readme = '../evil.md'",
}


@pytest.mark.parametrize("text", SENSELESS.values(), ids=SENSELESS)
def test_configuration_that_makes_no_sense(exported: Sandbox, text: str) -> None:
    (exported.root / "pyproject.toml").write_text(text)
    before = exported.files(), list(exported.root.parent.iterdir())
    done = exported.litml("export")
    assert done.returncode == 2 and done.stderr.startswith("error: "), done
    assert "\n  at pyproject.toml" in done.stderr
    assert (exported.files(), list(exported.root.parent.iterdir())) == before


def test_watch_needs_a_folder(project: Sandbox) -> None:
    (project.root / "nbs").rmdir()
    done = project.litml("watch", timeout=20)
    assert done.returncode == 2 and "error: " in done.stderr and "nbs" in done.stderr


# For scripts and CI ------------------------------------------------------------------


def test_check_tells_and_writes_nothing(exported: Sandbox) -> None:
    """Without a record, as in CI, and with one."""
    exported.commit()
    for _ in range(2):
        assert exported.litml("export", "--check").returncode == 0
        change(exported)
        exported.write("01_new.ipynb", code("y", "#| export\ny = 1"))
        before = exported.files()
        done = exported.litml("export", "--check")
        assert done.returncode == 1
        expected = "out of date: mylib/core.py\nout of date: mylib/new.py\n"
        assert done.stdout == expected and "litml export" in done.stderr
        assert exported.files() == before
        exported.git("stash", "--quiet", "--include-untracked")
        exported.export()


def test_check_sees_edits_and_what_nobody_exports(exported: Sandbox) -> None:
    module = exported.root / "mylib/core.py"
    module.write_text(module.read_text() + "edited = 1\n")
    done = exported.litml("export", "--check")
    assert done.returncode == 1 and "edited since the last export" in done.stderr
    exported.export("--force")
    (exported.root / "nbs/00_core.ipynb").unlink()
    for words in (["export", "--check"], ["export"], ["export", "--check"]):
        done = exported.litml(*words)
        assert done.returncode == 1 and "at mylib/core.py" in done.stderr
    assert module.exists()


def test_json(exported: Sandbox) -> None:
    assert json.loads(exported.export("--json")) == {"written": [], "problems": []}
    change(exported)
    done = exported.litml("export", "--json", "--check")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found == {"outdated": ["mylib/core.py"], "problems": []}
    exported.write("01_bad.ipynb", code("bad", "#| exprot"))
    done = exported.litml("export", "--json")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["written"] == [] and "cell bad, line 1" in found["problems"][0]


def test_another_folder(exported: Sandbox, tmp_path: Path) -> None:
    """`--out` writes there, has its record there, and leaves the package alone."""
    change(exported)
    before = exported.files()
    assert "core.py" in exported.export("--out", tmp_path / "out")
    assert b"x = 2" in (tmp_path / "out/core.py").read_bytes()
    assert exported.export("--out", tmp_path / "out") == ""
    assert exported.files() == before


def test_a_reader_who_has_had_enough(exported: Sandbox) -> None:
    """A closed pipe, as after `| head`, is no reason for a traceback."""
    command = [sys.executable, "-m", "litml", "completion", "bash"]
    process = subprocess.Popen(
        command, cwd=exported.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout and process.stderr
    process.stdout.close()
    said = process.stderr.read().decode()
    process.wait(timeout=60)
    assert "Traceback" not in said and "BrokenPipe" not in said, said


def imported(project: Sandbox, *words: str) -> set[str]:
    """Return the modules that a command imports."""
    done = project.run(sys.executable, "-X", "importtime", "-m", "litml", *words)
    assert done.returncode in (0, 1), done.stderr
    return set(re.findall(r"(?m)^import time:.*\| +([\w.]+)$", done.stderr))


def test_a_hot_command_loads_only_what_it_uses(exported: Sandbox) -> None:
    time.sleep(0.1)  # until then the notebook is too young for the stamps
    exported.export("--json")
    for words in (["--version"], ["export"], ["export", "--check"]):
        found = imported(exported, *words)
        mine = {name for name in found if name.startswith("litml.")}
        assert mine <= {"litml.stamps"} and not found & {*HOT, "argparse", "json"}
    unstamped = imported(exported, "export", "--json")
    parsers = {f"litml.{name}" for name in ("cells", "export", "nbdev", "readme")}
    assert "litml.package" in unstamped and not unstamped & {*parsers, *HOT}
    change(exported)
    changed = imported(exported, "export")
    assert "litml.export" in changed and not changed & (set(HOT) - {"hashlib"})


# For shells --------------------------------------------------------------------------


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["litml", "ex"], ["export"]),
        (["litml", "export", "--ch"], ["--check"]),
        (["litml", "completion", "b"], ["bash"]),
    ],
)
def test_bash_completes(
    project: Sandbox, words: list[str], expected: list[str]
) -> None:
    (project.root / "litml.bash").write_text(project.litml("completion", "bash").stdout)
    script = f"""
        source litml.bash
        COMP_WORDS=({" ".join(words)}) COMP_CWORD={len(words) - 1}
        $(complete -p litml | sed 's/.*-F \\([^ ]*\\).*/\\1/') litml {words[-1]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = project.run("bash", "--norc", "-c", script)
    assert done.stdout.split() == expected, done.stderr


# For people who write ----------------------------------------------------------------


def wait_until(is_done: Callable[[], bool], again: Callable[[], object]) -> None:
    """Do `again` every now and then until `is_done`, for at most half a minute."""
    for _ in range(60):
        again()
        for _ in range(10):
            time.sleep(0.05)
            if is_done():
                return
    raise AssertionError("it did not happen")


@pytest.mark.skipif(os.name == "nt", reason="needs SIGINT")
def test_watch(exported: Sandbox) -> None:
    """Saving is exporting; a mistake is reported and does not end it; Ctrl-C does."""
    output = (exported.root / "output").open("w")
    command = [sys.executable, "-m", "litml", "watch"]
    process = subprocess.Popen(
        command, cwd=exported.root, env=ENVIRONMENT, stdout=output, stderr=output
    )
    said = (exported.root / "output").read_text
    module = exported.root / "mylib/core.py"
    try:
        wait_until(lambda: "x = 2" in module.read_text(), lambda: change(exported))
        mistake = code("bad", "#| exprot")
        wait_until(
            lambda: "cell bad" in said(),
            lambda: exported.write("01_bad.ipynb", mistake),
        )
        exported.write("01_bad.ipynb", code("bad", "1"))
        late = code("x", "#| export\nx = 3")
        wait_until(
            lambda: "x = 3" in module.read_text(),
            lambda: exported.write("00_core.ipynb", late),
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) in (0, 130)
    finally:
        process.kill()
        process.wait()
        output.close()
    assert "wrote: mylib/core.py" in said() and "Traceback" not in said(), said()
