"""`litml merge` and `litml resolve`, by hand and as git's merge tool."""

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
from conftest import ENVIRONMENT
from merging import PATH, Edited, Repository, base_notebook, flags, sources, to_bytes

BASE = base_notebook()
LITML = [sys.executable, "-P", "-m", "litml"]
OURS = Edited(BASE).edit(4, "f.read()", "f.ours()").delete(8).edit(1, "all", "ours")
THEIRS = Edited(BASE).edit(4, "f.read()", "f.theirs()").edit(8, "{}", "[]")
THEIRS.edit(1, "all", "theirs").move(9, 2)
OURS.move(8, 1)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository in the middle of a merge with four conflicts."""
    repository = Repository(tmp_path / "repository")
    three = (to_bytes(tree) for tree in (BASE, OURS.tree, THEIRS.tree))
    repository.fork(*three, PATH)
    assert repository.run("merge", "theirs").returncode == 1
    kinds = {flag.split()[0] for flag in flags(repository.tree())}
    assert kinds == {"source", "deleted", "moved"}
    assert len(flags(repository.tree())) == 4
    return repository


def litml(
    repository: Repository, *words: object, **more: object
) -> subprocess.CompletedProcess[str]:
    command = [*LITML, *map(str, words)]
    options = {"cwd": repository.root, "env": ENVIRONMENT, "stdin": subprocess.DEVNULL}
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        **{**options, **more},  # type: ignore[call-overload]
    )


def test_conflicts_are_listed(repository: Repository) -> None:
    before = (repository.root / PATH).read_bytes()
    done = litml(repository, "resolve", PATH)
    assert done.returncode == 1
    assert f"{PATH}, cell aaaa0004: both sides changed the same lines" in done.stdout
    assert "cell aaaa0008: deleted in ours, changed in theirs" in done.stdout
    assert "cell aaaa0009: both sides moved it" in done.stdout
    assert len(done.stdout.splitlines()) == 4
    assert (repository.root / PATH).read_bytes() == before
    told = json.loads(litml(repository, "resolve", PATH, "--json").stdout)
    assert told["conflicts"]["aaaa0008"] == "deleted by ours"


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_one_side_for_all(repository: Repository, side: str) -> None:
    done = litml(repository, "resolve", PATH, "--take", side)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wanted = {"ours": OURS.tree, "theirs": THEIRS.tree}[side]
    assert sources(repository.tree()) == sources(wanted)
    assert not flags(repository.tree())
    assert (repository.root / PATH).read_bytes() == to_bytes(repository.tree())


def test_both_and_a_side_for_one_cell(repository: Repository) -> None:
    words = ["--take", "aaaa0004=theirs", "--take", "both"]
    assert litml(repository, "resolve", PATH, *words).returncode == 0
    text = "\n".join(sources(repository.tree()))
    assert "f.theirs()" in text and "f.ours()" not in text
    assert "That is ours." in text and "That is theirs." in text
    nbformat.validate(repository.tree())
    repository.git("add", "-A")
    repository.git("commit", "-q", "--no-edit")


def test_some_are_left(repository: Repository) -> None:
    done = litml(repository, "resolve", PATH, "--take", "aaaa0004=ours")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 3
    assert len(flags(repository.tree())) == 3


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("mine", "take ours, theirs, both, not 'mine'"),
        ("aaaa0004=hours", "did you mean `ours`?"),
        ("aaaa0003=ours", "no conflict in a cell 'aaaa0003'"),
    ],
)
def test_words_that_mean_nothing(repository: Repository, word: str, said: str) -> None:
    before = (repository.root / PATH).read_bytes()
    done = litml(repository, "resolve", PATH, "--take", "ours", "--take", word)
    assert done.returncode == 1 and said in done.stderr
    assert (repository.root / PATH).read_bytes() == before


@pytest.mark.parametrize("end", [b"q\n", b"\x04"])
def test_asked_at_a_terminal(repository: Repository, end: bytes) -> None:
    """Until one quits, or ends the input by Ctrl-D; what was answered is done."""
    asking, answering = pty.openpty()
    os.write(asking, b"t\ns\nhm\nb\n" + end)
    options = {"stdin": answering, "stdout": answering, "stderr": answering}
    done = subprocess.run(
        [*LITML, "resolve", PATH],
        cwd=repository.root,
        env={**ENVIRONMENT, "TERM": "dumb"},
        timeout=60,
        **options,  # type: ignore[call-overload]
    )
    os.close(answering)
    assert done.returncode == 1
    said = b""
    with suppress(OSError):  # which is how a terminal says that there is no more
        while some := os.read(asking, 100_000):
            said += some
    assert "take [o]urs, [t]heirs, [b]oth; [s]kip, [q]uit?" in said.decode()
    assert len(flags(repository.tree())) == 2
    os.close(asking)


def test_as_git_s_merge_tool(repository: Repository) -> None:
    tool = " ".join([*LITML, "resolve", '"$MERGED"', "--take", "theirs"])
    repository.git("config", "mergetool.litml.cmd", tool)
    repository.git("config", "mergetool.litml.trustExitCode", "true")
    repository.git("mergetool", "--no-prompt", "--tool=litml")
    assert sources(repository.tree()) == sources(THEIRS.tree)
    assert not repository.git("ls-files", "--unmerged")
    repository.git("commit", "-q", "--no-edit")


def test_a_merge_that_git_made_of_the_text(tmp_path: Path) -> None:
    """The driver was not there, and the file does not open: it is merged again."""
    repository = Repository(tmp_path / "repository")
    repository.git("config", "--remove-section", "merge.litml")
    run = [
        Edited(tree).run(mark).tree
        for tree, mark in zip((BASE, BASE), "ab", strict=True)
    ]
    ours = Edited(run[0]).edit(4, "f.read()", "f.ours()").tree
    theirs = Edited(run[1]).edit(7, "return n", "return n or None").tree
    repository.fork(to_bytes(BASE), to_bytes(ours), to_bytes(theirs), PATH)
    assert repository.run("merge", "theirs").returncode == 1
    assert b"<<<<<<< " in (repository.root / PATH).read_bytes()
    done = litml(repository, "resolve", Path(PATH).name, cwd=repository.root / "nbs")
    assert (done.returncode, done.stderr) == (0, "")
    text = "\n".join(sources(repository.tree()))
    assert "f.ours()" in text and "or None" in text and "<<<<<<<" not in text
    nbformat.validate(repository.tree())


def test_nothing_to_resolve(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    repository.commit(PATH, to_bytes(BASE))
    assert litml(repository, "resolve", PATH).returncode == 0
    repository.write("x.ipynb", b"{")
    done = litml(repository, "resolve", "x.ipynb")
    assert done.returncode == 1 and "cut off" in done.stderr
    done = litml(repository, "resolve", "gone.ipynb")
    assert done.returncode == 1 and "No such file" in done.stderr


def test_three_files(tmp_path: Path) -> None:
    repository = Repository(tmp_path / "repository")
    for name, tree in (("base", BASE), ("ours", OURS.tree), ("theirs", THEIRS.tree)):
        repository.write(f"{name}.ipynb", to_bytes(tree))
    three = ["base.ipynb", "ours.ipynb", "theirs.ipynb"]
    done = litml(repository, "merge", *three)
    assert done.returncode == 1
    assert len(flags(json.loads(done.stdout))) == 4
    assert "conflict in cell aaaa0008: deleted in ours" in done.stderr
    again = litml(repository, "merge", *three, "--out", "new.ipynb")
    assert (again.returncode, again.stdout) == (1, "")
    assert (repository.root / "new.ipynb").read_text() == done.stdout
    link = repository.root / "link.ipynb"
    link.symlink_to("ours.ipynb")
    litml(repository, "merge", "base.ipynb", "link.ipynb", "base.ipynb", "-o", link)
    assert link.is_symlink(), "as /dev/stdout is"
    assert litml(repository, "merge", *three[:2], three[0]).stdout.encode() == to_bytes(
        OURS.tree
    )
    added = litml(repository, "merge", "-", "ours.ipynb", "ours.ipynb")
    assert added.returncode == 0
    for words in (["base.ipynb", "gone", "gone"], ["/dev/null", "/dev/null", three[0]]):
        done = litml(repository, "merge", *words)
        assert done.returncode == 1 and done.stderr.startswith("error: ")
    done = litml(repository, "merge", *three, "-o", "no/such/folder.ipynb")
    assert done.returncode == 2 and "cannot write" in done.stderr
