"""The merge driver in git's hands: every command that merges, and every way to fail."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from conftest import ENVIRONMENT, code
from merging import (
    DRIVER,
    PATH,
    Edited,
    Repository,
    Tree,
    base_notebook,
    flags,
    sources,
    to_bytes,
)

BASE = base_notebook()


def changed(number: int, old: str, new: str, tree: Tree = BASE) -> bytes:
    return to_bytes(Edited(tree).edit(number, old, new).tree)


LOADED = changed(4, "x = f.read()", "x = f.read().strip()")
SAVED = changed(7, "return n", "return n or None")
CLASHING = changed(4, "x = f.read()", "x = f.readline()")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


def assert_merged(tree: Tree) -> None:
    text = "\n".join(sources(tree))
    assert "strip()" in text and "or None" in text and not flags(tree)
    nbformat.validate(tree)


def assert_marked(tree: Tree) -> None:
    assert flags(tree) == ["source"]
    assert "strip()" in sources(tree)[3] and "readline()" in sources(tree)[3]
    nbformat.validate(tree)


def unmerged(repository: Repository) -> bool:
    return bool(repository.git("ls-files", "--unmerged"))


# Commands that merge -----------------------------------------------------------------


@pytest.mark.parametrize("command", ["merge", "rebase", "cherry-pick"])
@pytest.mark.parametrize("theirs", [SAVED, CLASHING], ids=["clean", "conflict"])
def test_commands_that_merge(
    repository: Repository, command: str, theirs: bytes
) -> None:
    repository.fork(to_bytes(BASE), LOADED, theirs, PATH)
    done = repository.run(command, "theirs")
    assert done.returncode == (theirs == CLASHING)
    assert unmerged(repository) == (theirs == CLASHING)
    (assert_marked if done.returncode else assert_merged)(repository.tree())


def test_a_rebase_of_many_commits(repository: Repository) -> None:
    repository.fork(to_bytes(BASE), LOADED, SAVED, PATH)
    repository.git("checkout", "-q", "theirs")
    author = Edited(json.loads(SAVED))
    for i in range(12):
        author.insert(9 + i, code(f"new{i}", f"x{i} = {i}")).run("a" * i)
        repository.commit(PATH, to_bytes(author.tree))
    repository.git("rebase", "main")
    assert_merged(repository.tree())
    assert len(repository.tree()["cells"]) == 9 + 12


@pytest.mark.parametrize("mine", [SAVED, CLASHING], ids=["clean", "conflict"])
def test_stash_pop(repository: Repository, mine: bytes) -> None:
    repository.commit(PATH, to_bytes(BASE))
    repository.write(PATH, mine)
    repository.git("stash")
    repository.commit(PATH, LOADED)
    done = repository.run("stash", "pop")
    assert done.returncode == (mine == CLASHING)
    (assert_marked if done.returncode else assert_merged)(repository.tree())


def test_a_revert_in_the_middle(repository: Repository) -> None:
    repository.commit(PATH, to_bytes(BASE))
    repository.commit(PATH, LOADED)
    repository.commit(
        PATH, changed(7, "return n", "return n or None", json.loads(LOADED))
    )
    repository.git("revert", "--no-edit", "HEAD~1")
    assert repository.tree() == json.loads(SAVED)


def test_in_a_subfolder(repository: Repository) -> None:
    repository.fork(to_bytes(BASE), LOADED, SAVED, PATH)
    repository.git("merge", "theirs", cwd=repository.root / "nbs")
    assert_merged(repository.tree())


def test_in_a_linked_work_tree(repository: Repository, tmp_path: Path) -> None:
    repository.fork(to_bytes(BASE), LOADED, CLASHING, PATH)
    repository.git("worktree", "add", "-q", "-b", "linked", tmp_path / "linked")
    done = repository.run("merge", "theirs", cwd=tmp_path / "linked")
    assert done.returncode == 1
    assert_marked(json.loads((tmp_path / "linked" / PATH).read_bytes()))


def cross(repository: Repository, one: bytes, other: bytes) -> None:
    """Make a history that crosses itself: two merges of the same two commits."""
    repository.fork(to_bytes(BASE), LOADED, CLASHING, PATH)
    repository.git("branch", "main0")
    repository.git("branch", "theirs0", "theirs")
    for branch, merged, raw in (("main", "theirs0", one), ("theirs", "main0", other)):
        repository.git("checkout", "-q", branch)
        assert repository.run("merge", merged).returncode == 1
        repository.write(PATH, raw)
        repository.git("add", "-A")
        repository.git("commit", "-q", "-m", "merged")
    repository.git("checkout", "-q", "main")


def test_a_history_that_crosses_itself(repository: Repository) -> None:
    """Git merges the two bases first: the base has markers, and a flag."""
    settled = changed(4, "x = f.read()", "x = f.readline().strip()")
    also_saved = changed(7, "return n", "return n or None", json.loads(settled))
    cross(repository, settled, also_saved)
    repository.git("merge", "theirs")
    assert repository.tree() == json.loads(also_saved)


def test_a_history_that_crosses_itself_and_was_settled_in_two_ways(
    repository: Repository,
) -> None:
    cross(repository, LOADED, CLASHING)
    assert repository.run("merge", "theirs").returncode == 1
    assert_marked(repository.tree())
    text = sources(repository.tree())[3]
    assert text.count("<<<<<<<") == 1 and "<<<<<<<<" not in text


def test_deleted_in_one_base_and_kept_in_the_end(repository: Repository) -> None:
    """A cell that was in conflict in the base is not deleted in silence."""
    deleted = to_bytes(Edited(BASE).delete(4).tree)
    repository.fork(to_bytes(BASE), LOADED, deleted, PATH)
    repository.git("branch", "main0")
    repository.git("branch", "theirs0", "theirs")
    for branch, merged, raw in (
        ("main", "theirs0", LOADED),
        ("theirs", "main0", deleted),
    ):
        repository.git("checkout", "-q", branch)
        assert repository.run("merge", merged).returncode == 1
        assert flags(repository.tree())[0].startswith("deleted by")
        repository.write(PATH, raw)
        repository.git("add", "-A")
        repository.git("commit", "-q", "-m", "merged")
    assert repository.run("merge", "main").returncode == 1
    assert flags(repository.tree()) == ["deleted by ours"]


# Files -------------------------------------------------------------------------------


def windows(raw: bytes) -> bytes:
    return raw.replace(b"\n", b"\r\n")


def narrow(raw: bytes) -> bytes:
    return json.dumps(json.loads(raw), indent=2).encode()


def one_line(raw: bytes) -> bytes:
    return json.dumps(json.loads(raw)).encode()


def marked(raw: bytes) -> bytes:
    return b"\xef\xbb\xbf" + raw


@pytest.mark.parametrize("style", [windows, narrow, one_line, marked])
@pytest.mark.parametrize("of_theirs", [False, True])
def test_the_result_has_the_style_of_ours(
    repository: Repository, style: Callable[[bytes], bytes], of_theirs: bool
) -> None:
    ours, theirs = (LOADED, style(SAVED)) if of_theirs else (style(LOADED), SAVED)
    base = to_bytes(BASE)
    repository.fork(base if of_theirs else style(base), ours, theirs, PATH)
    repository.git("merge", "theirs")
    raw = (repository.root / PATH).read_bytes()
    tree = json.loads(raw.decode("utf-8-sig"))
    assert_merged(tree)
    assert raw == (to_bytes(tree) if of_theirs else style(to_bytes(tree)))


def test_cells_nobody_touched_keep_their_bytes(repository: Repository) -> None:
    repository.fork(to_bytes(BASE), LOADED, SAVED, PATH)
    repository.git("merge", "theirs")
    merged = (repository.root / PATH).read_text().splitlines()
    wanted = to_bytes(BASE).decode().splitlines()
    assert len([line for line in merged if line not in wanted]) == 2
    assert len(merged) == len(wanted)


OLD = {
    "metadata": {"name": ""},
    "nbformat": 3,
    "nbformat_minor": 0,
    "worksheets": [{"cells": [], "metadata": {}}],
}
HALF = to_bytes(BASE)[:-400]
DOUBLE = to_bytes(BASE).replace(b'"nbformat": 4,', b'"nbformat": 4,\n "nbformat": 4,')
ODD = {
    "conflict markers": b"<<<<<<< ours\n" + to_bytes(BASE),
    "cut off": HALF,
    "nbformat 3": (json.dumps(OLD, indent=1) + "\n").encode(),
    "no JSON": b"hello\nworld\n",
    "another JSON": b'[\n "a"\n]\n',
    "not UTF-8": to_bytes(BASE).replace(b"Core", b"C\xff\xferf"),
    "keys that stand twice": DOUBLE,
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_notebook_is_merged_as_text(
    repository: Repository, name: str
) -> None:
    odd = ODD[name]
    ours, theirs = b"// ours\n" + odd, odd + b"// theirs\n"
    repository.fork(odd, ours, theirs, PATH)
    done = repository.run("merge", "theirs")
    assert f"{PATH}: merged as text, not by cells: " in done.stdout + done.stderr
    assert done.returncode == 0
    raw = (repository.root / PATH).read_bytes()
    assert raw == b"// ours\n" + odd + b"// theirs\n"


def test_one_side_is_no_notebook(repository: Repository) -> None:
    repository.fork(to_bytes(BASE), LOADED, HALF, PATH)
    done = repository.run("merge", "theirs")
    said = done.stdout + done.stderr
    assert "merged as text, not by cells: cut off" in said
    raw = (repository.root / PATH).read_bytes()
    assert b"strip()" in raw and (done.returncode == 0 or unmerged(repository))


def test_what_is_no_text_is_written_down_whole(repository: Repository) -> None:
    repository.fork(b"\0a\n", b"\0b\n", b"\0c", PATH)
    assert repository.run("merge", "theirs").returncode == 1
    raw = (repository.root / PATH).read_bytes()
    assert raw == b"<<<<<<< ours\n\0b\n=======\n\0c\n>>>>>>> theirs\n"
    assert unmerged(repository)


def test_an_empty_file_on_one_side(repository: Repository) -> None:
    repository.fork(to_bytes(BASE), LOADED, b"", PATH)
    assert repository.run("merge", "theirs").returncode == 1
    assert b"strip()" in (repository.root / PATH).read_bytes()
    assert unmerged(repository)


# Failures ----------------------------------------------------------------------------

FAULTY = """
import os, signal, sys
import litml.driver as driver
import litml.merge as merge
def fail(*words, **more):
    {fault}
{module}.{name} = fail
sys.exit(driver.main(sys.argv[1:]))
"""
KILL = "os.kill(os.getpid(), signal.SIGKILL)"
FAULTS = {
    "a mistake in the merge": ("driver", "merge_notebooks", "raise KeyError('oh')"),
    "a line is lost": ("merge", "merge_cells", "return [], []"),
    "no memory": ("driver", "merge_notebooks", "raise MemoryError"),
    "too deep": ("driver", "load_notebook", "raise RecursionError"),
    "the disk is full": ("driver", "replace_file", "raise OSError(28, 'full')"),
}


def faulty(repository: Repository, module: str, name: str, fault: str) -> None:
    script = repository.root.parent / "faulty.py"
    script.write_text(FAULTY.format(module=module, name=name, fault=fault))
    driver = f"{sys.executable} -P {script} %O %A %B %L %P"
    repository.git("config", "merge.litml.driver", driver)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_leads_to_a_merge_as_text(repository: Repository, name: str) -> None:
    faulty(repository, *FAULTS[name])
    repository.fork(to_bytes(BASE), LOADED, SAVED, PATH)
    done = repository.run("merge", "theirs")
    assert done.returncode == 0
    assert "merged as text, not by cells" in done.stdout + done.stderr
    assert_merged(repository.tree())


def test_a_fault_and_a_conflict(repository: Repository) -> None:
    faulty(repository, *FAULTS["a mistake in the merge"])
    repository.fork(to_bytes(BASE), LOADED, CLASHING, PATH)
    assert repository.run("merge", "theirs").returncode == 1
    raw = (repository.root / PATH).read_bytes()
    assert b"<<<<<<< ours\n" in raw and b"strip()" in raw and b"readline()" in raw
    assert unmerged(repository)


@pytest.mark.parametrize("name", ["load_notebook", "replace_file"])
def test_killed_in_the_middle(repository: Repository, name: str) -> None:
    """Git does not take it for a merge, and no side is lost."""
    faulty(repository, "driver", name, KILL)
    repository.fork(to_bytes(BASE), LOADED, SAVED, PATH)
    before = repository.git("rev-parse", "HEAD")
    done = repository.run("merge", "theirs")
    assert done.returncode != 0
    assert repository.git("rev-parse", "HEAD") == before
    assert repository.tree() == json.loads(LOADED), "whole"
    repository.run("merge", "--abort")
    repository.git("config", "merge.litml.driver", DRIVER)
    repository.git("merge", "theirs")
    assert_merged(repository.tree())


def test_without_git_in_the_path(tmp_path: Path) -> None:
    """Both sides are in the file even if git cannot be asked to merge the text."""
    for name, raw in (("O", b"x"), ("A", b"ours"), ("B", b"theirs")):
        (tmp_path / name).write_bytes(raw)
    command = [sys.executable, "-P", "-m", "litml.driver", *"OAB", "7", "x.ipynb"]
    environment = {**ENVIRONMENT, "PATH": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 1
    raw = (tmp_path / "A").read_bytes()
    assert raw == b"<<<<<<< ours\nours\n=======\ntheirs\n>>>>>>> theirs\n"


def test_a_folder_called_litml_in_the_work_tree(repository: Repository) -> None:
    for name in ("litml", "json", "dataclasses"):
        repository.write(f"{name}/__init__.py", b"raise SystemExit('the wrong one')\n")
    repository.fork(to_bytes(BASE), LOADED, SAVED, PATH)
    repository.git("merge", "theirs")
    assert_merged(repository.tree())


def test_it_imports_the_standard_library_only() -> None:
    """So it starts with no site packages at all, and does not pay for them."""
    folder = Path(__file__).parents[1]
    script = f"import sys; sys.path.append({str(folder)!r}); import litml.driver"
    script += "; print(*sys.modules)"
    command = [sys.executable, "-I", "-S", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    names = {name.split(".")[0] for name in done.stdout.split()}
    assert names <= sys.stdlib_module_names | {"litml", "__main__"}
    slow = {"difflib", "subprocess", "argparse", "tomllib", "nbformat", "asyncio"}
    assert not names & slow


def test_a_large_notebook(repository: Repository) -> None:
    """Outputs of many megabytes go through untouched."""
    image = {"output_type": "display_data", "metadata": {}}
    image["data"] = {"image/png": "iVBORw0KGgo" * 1_500_000}  # type: ignore[assignment]
    tree = Edited(BASE).set(9, outputs=[image]).tree
    ours = changed(4, "x = f.read()", "x = f.read().strip()", tree)
    theirs = changed(7, "return n", "return n or None", tree)
    repository.fork(to_bytes(tree), ours, theirs, PATH)
    repository.git("merge", "theirs")
    assert_merged(repository.tree())
    assert repository.tree()["cells"][8]["outputs"] == [image]
