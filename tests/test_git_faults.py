"""Interpreters that go away, filters and drivers that die: nothing is lost by it."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, code
from gitbox import NAME, Clone, clean, copy_clone, ran, script

from litml.cache import Cache, cell_keys
from litml.filter import write_content, write_packets

LOAD, FIT = ran("load", "load()", "3 rows\n"), ran("fit", "fit()", "0.93\n", 2)
EMERGENCY = "-c filter.litml.process= -c filter.litml.required=false".split()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clone = Clone(tmp_path_factory.mktemp("installed") / "mylib")
    clone.save(LOAD)
    clone.commit()
    return clone.root


@pytest.fixture
def clone(installed: Path, tmp_path: Path) -> Clone:
    """A clone with a notebook, in which hooks are installed."""
    return copy_clone(installed, tmp_path / "mylib")


# The interpreter is gone -------------------------------------------------------------


def break_python(kind: str, folder: Path) -> Path:
    """Return an interpreter that does not start."""
    program = folder / "bin" / "python"
    program.parent.mkdir(parents=True)
    if kind == "its base is gone":
        program.symlink_to(folder / "base/bin/python")
    elif kind == "for another machine":
        script(program, "exit 126")
    elif kind == "without its library":
        script(program, "echo Fatal Python error >&2; exit 1")
    return program


GONE = "deleted", "its base is gone", "for another machine", "without its library"


@pytest.mark.parametrize("kind", GONE)
def test_without_python_git_goes_on(clone: Clone, tmp_path: Path, kind: str) -> None:
    program = break_python(kind, tmp_path / "moved env")
    clone.set_python(program)
    path = clone.root / NAME
    path.unlink()
    done = clone.run("git", "checkout", "--", NAME)
    assert done.returncode == 0 and path.read_bytes() == clone.blob()
    assert f"litml: {program} does not start" in done.stderr
    assert "litml install-hooks" in done.stderr

    raw = clone.save(LOAD, FIT).read_bytes()
    done = clone.run("git", "add", NAME)
    assert done.returncode == 0 and "with their outputs" in done.stderr
    assert clone.blob() == raw
    done = clone.run("git", "commit", "-m", "outputs")
    assert done.returncode == 1 and "--no-verify" in done.stderr
    (clone.root / "notes.txt").write_text("x")
    clone.git("reset", "-q")
    clone.git("add", "notes.txt")
    clone.git("commit", "-q", "-m", "no notebook in it")

    clone.install()
    clone.commit()
    assert clone.blob(where="HEAD") == clean(raw)


def test_python_finds_litml_where_it_is_now(clone: Clone, tmp_path: Path) -> None:
    """A new version of Python has another folder for its packages."""
    clone.set_python(sys.executable, tmp_path / "lib/python3.9/site-packages")
    clone.save(LOAD, FIT)
    done = clone.run("git", "add", NAME)
    assert done.returncode == 0 and done.stderr == ""
    assert b"0.93" not in clone.blob()


def test_the_script_is_gone(clone: Clone) -> None:
    clone.starter.unlink()
    path = clone.root / NAME
    path.unlink()
    assert clone.run("git", "checkout", "--", NAME).returncode != 0
    clone.git(*EMERGENCY, "checkout", "--", NAME)
    assert path.read_bytes() == clone.blob()
    assert clone.git(*EMERGENCY, "status", "--porcelain") == ""
    done = clone.litml("install-hooks", "--check")
    assert done.returncode == 1 and "would set: .git/litml-git.sh" in done.stdout
    clone.install()
    path.unlink()
    clone.git("checkout", "--", NAME)
    assert b"3 rows" in path.read_bytes()


def test_a_repository_may_be_moved(clone: Clone, tmp_path: Path) -> None:
    clone.root.rename(tmp_path / "an other name")
    clone.root = tmp_path / "an other name"
    clone.save(LOAD, FIT)
    done = clone.run("git", "commit", "-a", "-m", "moved")
    assert done.returncode == 0 and "litml" not in done.stderr
    assert b"0.93" not in clone.blob()


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_every_shell_speaks_the_protocol(
    clone: Clone, tmp_path: Path, shell: str
) -> None:
    """Contents come back as they went in, also in pieces that fit no pipe."""
    program = shutil.which(shell)
    if not program:
        pytest.skip(f"{shell} is not installed")
    clone.set_python("/gone/python")
    raw = [b"", b"\0\n" * 3, os.urandom(1_000_000), b"0000"]
    asked = tmp_path / "asked"
    with asked.open("wb") as file:
        write_packets(file, b"git-filter-client\n", b"version=2\n")
        write_packets(file, b"capability=clean\n")
        for data in raw:
            write_packets(file, b"command=clean\n", b"pathname=a\n")
            write_content(file, data)
    words = [program, *(["sh"] if shell == "busybox" else []), clone.starter, "filter"]
    command = [
        "sh",
        "-c",
        f"cat '{asked}' | " + " ".join(f"'{word}'" for word in words),
    ]
    told = subprocess.run(command, capture_output=True, check=True).stdout
    with (tmp_path / "wanted").open("w+b") as file:
        write_packets(file, b"git-filter-server\n", b"version=2\n")
        write_packets(file, b"capability=clean\n", b"capability=smudge\n")
        for data in raw:
            write_packets(file, b"status=success\n")
            write_content(file, data)
            write_packets(file)
        file.seek(0)
        assert file.read() == told


# Killed in the middle ----------------------------------------------------------------

HELLO = (
    "printf '0016git-filter-server\\n000eversion=2\\n0000'\n"
    "printf '0015capability=clean\\n0016capability=smudge\\n0000'\n"
)


@pytest.mark.parametrize("answer", ["", "printf '0013status=success\\n0000'; ", "half"])
def test_a_filter_that_dies_leaves_all_as_it_was(
    clone: Clone, tmp_path: Path, answer: str
) -> None:
    if answer == "half":
        answer = "printf '0013status=success\\n00000100half'; "
    clone.set_python(script(tmp_path / "python", f"{HELLO}{answer}kill -9 $$"))
    raw = clone.save(LOAD, FIT).read_bytes()
    index = clone.git("ls-files", "--stage")
    assert clone.run("git", "add", NAME).returncode != 0
    assert clone.run("git", "commit", "-a", "-m", "x").returncode != 0
    assert clone.git("ls-files", "--stage") == index
    assert (clone.root / NAME).read_bytes() == raw

    (clone.root / NAME).unlink()
    assert clone.run("git", "checkout", "--", NAME).returncode != 0
    assert not (clone.root / NAME).exists(), "half a notebook is worse than none"
    clone.git(*EMERGENCY, "checkout", "--", NAME)
    clone.mend()
    assert (clone.root / NAME).read_bytes() == clone.blob()


def find_filter(root: Path) -> int:
    """Return the process that runs the filter in a work tree, once there is one."""
    for _ in range(3000):
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                is_ours = b"filter" in words and words[1:3] == [b"-I", b"-S"]
                if is_ours and (entry / "cwd").resolve() == root:
                    return int(entry.name)
            except OSError:
                continue
        time.sleep(0.002)
    raise AssertionError("no filter was started")


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="finds it in /proc")
def test_the_filter_is_killed_at_work(clone: Clone) -> None:
    index = clone.git("ls-files", "--stage")
    for number in range(30):
        clone.save(
            LOAD, ran("big", "big()", "x" * 3_000_000), name=f"nbs/{number}.ipynb"
        )
    command = ["git", "add", "--all"]
    adding = subprocess.Popen(command, cwd=clone.root, env=ENVIRONMENT, stderr=-3)
    os.kill(find_filter(clone.root.resolve()), signal.SIGKILL)
    assert adding.wait(60) != 0
    assert clone.git("ls-files", "--stage") == index
    clone.git("add", "--all")
    blobs = {clone.blob(f"nbs/{number}.ipynb") for number in range(30)}
    assert blobs == {clean((clone.root / "nbs/0.ipynb").read_bytes())}


def test_a_killed_writer_leaves_a_cache_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "outputs.sqlite"
    script = """
import sys
from litml.cache import Cache, Shown, cell_keys
cache = Cache(sys.argv[1])
for number in range(10**6):
    [key] = cell_keys([{"source": str(number % 50)}])
    cache.remember("a.ipynb", {key: Shown(number, [{"text": "x" * 300_000}])})
    if number == 9:
        print("go", flush=True)
"""
    for _ in range(5):
        command = [sys.executable, "-c", script, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout and writer.stdout.readline()
            time.sleep(0.2)
            writer.kill()
        keys = cell_keys([{"source": str(number)} for number in range(50)])
        cache = Cache(str(path))
        found = cache.recall("a.ipynb", keys)
        assert found, "nothing came through"
        assert all(len(one.outputs[0]["text"]) == 300_000 for one in found.values())
        cache.close()
    check = sqlite3.connect(path).execute("pragma integrity_check").fetchone()
    assert check == ("ok",)


# Drivers -----------------------------------------------------------------------------


def part_ways(clone: Clone) -> None:
    """Let two branches change a notebook, in the same cell."""
    for branch, text in (("theirs", "load('theirs')"), ("main", "load('ours')")):
        clone.git("checkout", "-q", "-B", branch, "main")
        clone.save(code("load", text))
        clone.git("commit", "-q", "-a", "-m", branch)
        if branch == "theirs":
            clone.git("checkout", "-q", "main")


DYING = {
    "killed": "kill -9 $$",
    "gone": "exit 127",
    "failing": "echo Traceback >&2; exit 1",
}


@pytest.mark.parametrize("kind", DYING)
def test_a_merge_driver_that_dies_leaves_both_sides(
    clone: Clone, tmp_path: Path, kind: str
) -> None:
    part_ways(clone)
    program = script(
        tmp_path / "python",
        f'case "$*" in *driver*) {DYING[kind]} ;; esac\nexec {sys.executable} "$@"',
    )
    clone.set_python(program)
    done = clone.run("git", "merge", "theirs")
    assert done.returncode == 1
    text = (clone.root / NAME).read_text()
    assert "load('ours')" in text and "load('theirs')" in text and "<<<<<<< " in text
    assert clone.git("ls-files", "--unmerged").count(NAME) == 3


def test_a_merge_driver_that_works(clone: Clone) -> None:
    """For comparison: the same conflict, inside the cell."""
    part_ways(clone)
    done = clone.run("git", "merge", "theirs")
    assert done.returncode == 1
    text = (clone.root / NAME).read_text()
    assert "<<<<<<< ours" in text and not text.startswith("<<<<<<<")
    clone.git("add", NAME)
    done = clone.run("git", "commit", "-m", "with a conflict")
    assert done.returncode == 1 and "cell load" in done.stderr


def test_litml_s_notes_may_be_deleted(clone: Clone) -> None:
    shutil.rmtree(clone.root / ".git/litml")
    (clone.root / NAME).unlink()
    done = clone.run("git", "checkout", "--", NAME)
    assert done.returncode == 0 and "litml" not in done.stderr
    assert clone.status() == ""


def test_nothing_but_answers_is_written_to_git(clone: Clone) -> None:
    """Without a stderr, Python's `print` would write warnings to stdout."""
    clone.write_bytes("odd.ipynb", b"{")
    done = clone.run("sh", "-c", "exec 2>&-; git add --all")
    assert done.returncode == 0
    assert clone.blob("nbs/odd.ipynb") == b"{"


def test_a_cache_that_is_locked_holds_up_nobody_twice(clone: Clone) -> None:
    lock = sqlite3.connect(clone.root / ".git/litml/outputs.sqlite")
    lock.execute("begin exclusive")
    for number in range(3):
        clone.save(FIT, name=f"nbs/{number}.ipynb")
    done = clone.run("git", "add", "--all", timeout=59)
    assert done.returncode == 0 and done.stderr.count("cannot be noted") == 1
    assert b"0.93" not in clone.blob("nbs/2.ipynb")
    lock.close()
