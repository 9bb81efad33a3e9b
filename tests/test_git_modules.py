"""Modules after merges, rebases and cherry-picks are what their notebooks export to."""

from pathlib import Path

import pytest
from conftest import code
from gitbox import NAME, Clone, copy_clone, open_clone, ran

MODULE = "mylib/data.py"


def define(*names: str) -> list[dict[str, object]]:
    """Return cells that define functions, and one that has printed something."""
    cells = [code(name, f"#| export\ndef {name}():\n    return 1") for name in names]
    return [*cells, ran("show", "load()", "3 rows\n")]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clone = Clone(tmp_path_factory.mktemp("installed") / "mylib")
    (clone.root / "mylib").mkdir()
    (clone.root / "mylib/by_hand.py").write_text("one = 1\ntwo = 2\n")
    clone.install()
    step(clone, "load")
    return clone.root


@pytest.fixture
def clone(installed: Path, tmp_path: Path) -> Clone:
    """A clone with a notebook and its module."""
    return copy_clone(installed, tmp_path / "mylib")


def step(clone: Clone, *names: str) -> None:
    """Commit a notebook with these functions, and its module."""
    clone.save(*define(*names))
    clone.export()
    clone.commit()


def part_ways(clone: Clone) -> None:
    """Add another function at the same place on two branches."""
    clone.git("checkout", "-q", "-b", "theirs")
    step(clone, "load", "save")
    clone.git("checkout", "-q", "main")
    step(clone, "load", "dump")


def is_exported(clone: Clone) -> bool:
    """Is the work tree as an export would leave it, and nothing modified?"""
    return clone.litml("export", "--check").returncode == 0 and not clone.status()


def test_edits_of_different_functions_need_nobody(clone: Clone) -> None:
    step(clone, "load", "save", "dump")
    clone.git("checkout", "-q", "-b", "theirs")
    step(clone, "load", "save", "dump", "read")
    clone.git("checkout", "-q", "main")
    path = clone.root / NAME
    path.write_text(path.read_text().replace("return 1", "return 2", 1))
    clone.export()
    clone.git("commit", "-q", "-a", "-m", "load returns 2")
    clone.git("merge", "-q", "theirs")
    module = (clone.root / MODULE).read_text()
    assert "return 2" in module and "def read" in module and is_exported(clone)


def test_functions_at_the_same_place(clone: Clone) -> None:
    part_ways(clone)
    done = clone.run("git", "merge", "theirs")
    assert done.returncode == 1 and f"staged: {MODULE}" in done.stderr
    clone.git("commit", "-q", "--no-edit")
    module = clone.blob(MODULE, where="HEAD").decode()
    assert "def dump" in module and "def save" in module and is_exported(clone)
    assert len(clone.git("rev-list", "--parents", "-1", "HEAD").split()) == 3


def test_a_conflict_that_was_resolved(clone: Clone) -> None:
    clone.git("checkout", "-q", "-b", "theirs")
    clone.save(code("load", "#| export\ndef load():\n    return 'theirs'"))
    clone.export()
    clone.git("commit", "-q", "-a", "-m", "theirs")
    clone.git("checkout", "-q", "main")
    clone.save(code("load", "#| export\ndef load():\n    return 'ours'"))
    clone.export()
    clone.git("commit", "-q", "-a", "-m", "ours")
    done = clone.run("git", "merge", "theirs")
    assert done.returncode == 1
    assert b"<<<<<<<" not in (clone.root / MODULE).read_bytes()
    clone.git("add", "--all")
    done = clone.run("git", "commit", "-m", "too early")
    assert done.returncode == 1 and "conflict" in done.stderr
    clone.save(code("load", "#| export\ndef load():\n    return 'both'"))
    clone.git("add", "--all")
    done = clone.run("git", "commit", "-m", "merge")
    assert done.returncode == 0 and f"staged: {MODULE}" in done.stderr
    assert b"'both'" in clone.blob(MODULE, where="HEAD") and is_exported(clone)


def test_a_notebook_that_cannot_be_exported(clone: Clone) -> None:
    part_ways(clone)
    (clone.root / "nbs/02_broken.ipynb").write_text("{")
    done = clone.run("git", "merge", "theirs")
    assert done.returncode == 1 and "02_broken" in done.stderr
    clone.git("merge", "--abort")
    (clone.root / "nbs/02_broken.ipynb").unlink()
    assert is_exported(clone)


def test_a_rebase(clone: Clone) -> None:
    part_ways(clone)
    clone.git("checkout", "-q", "theirs")
    done = clone.run("git", "rebase", "main")
    assert done.returncode == 0 and f"not committed yet: {MODULE}" in done.stderr
    assert clone.status() == f" M {MODULE}\n"
    clone.git("commit", "-q", "-a", "--amend", "--no-edit")
    module = clone.blob(MODULE, where="HEAD")
    assert b"def dump" in module and b"def save" in module and is_exported(clone)


def test_a_rebase_of_many(clone: Clone) -> None:
    """No hook gets in the way of the next step."""
    clone.git("checkout", "-q", "-b", "theirs")
    for number in range(4):
        step(clone, "load", *(f"step{i}" for i in range(number + 1)))
    clone.git("checkout", "-q", "main")
    step(clone, "load", "dump")
    clone.git("checkout", "-q", "theirs")
    done = clone.run("git", "rebase", "main")
    assert done.returncode == 0, done.stderr
    if clone.status():
        clone.git("commit", "-q", "-a", "-m", "exported again")
    module = clone.blob(MODULE, where="HEAD")
    assert all(f"def {name}(".encode() in module for name in ("dump", "step0", "step3"))
    assert is_exported(clone)


def test_a_cherry_pick(clone: Clone) -> None:
    part_ways(clone)
    done = clone.run("git", "cherry-pick", "theirs")
    assert done.returncode == 0 and f"not committed yet: {MODULE}" in done.stderr
    clone.git("commit", "-q", "-a", "--amend", "--no-edit")
    assert b"def save" in clone.blob(MODULE, where="HEAD") and is_exported(clone)


def test_a_squashed_merge(clone: Clone) -> None:
    part_ways(clone)
    done = clone.run("git", "merge", "--squash", "theirs")
    assert done.returncode == 0 and MODULE in done.stderr
    clone.git("commit", "-q", "-a", "-m", "squashed")
    assert b"def save" in clone.blob(MODULE, where="HEAD") and is_exported(clone)


def test_without_the_hooks_it_is_made_up_for(clone: Clone) -> None:
    part_ways(clone)
    clone.git("merge", "-q", "--no-verify", "theirs")
    assert clone.litml("export", "--check").returncode == 1 or clone.status()
    clone.git("commit", "-q", "-a", "-m", "next")
    assert is_exported(clone)


def test_a_module_that_is_written_by_hand(clone: Clone) -> None:
    path = clone.root / "mylib/by_hand.py"
    clone.git("checkout", "-q", "-b", "side")
    path.write_text("one = 1.5\n")
    clone.git("commit", "-q", "-a", "-m", "side")
    clone.git("checkout", "-q", "main")
    path.write_text("one = 1.7\n")
    clone.git("commit", "-q", "-a", "-m", "main")
    done = clone.run("git", "merge", "side")
    assert done.returncode == 1 and "<<<<<<< " in path.read_text()


def test_an_edit_that_never_came_home(clone: Clone) -> None:
    part_ways(clone)
    clone.git("checkout", "-q", "theirs")
    path = clone.root / MODULE
    path.write_text(path.read_text() + "\nLIMIT = 3\n")
    clone.git("commit", "-q", "-a", "-m", "in the module alone")
    clone.git("checkout", "-q", "main")
    done = clone.run("git", "merge", "theirs")
    assert done.returncode == 1 and "no notebook has the edit" in done.stderr
    again = clone.run("git", "commit", "--no-edit")
    assert again.returncode == 1 and "--no-verify" in again.stderr
    clone.git("merge", "--abort")
    assert is_exported(clone)


def test_the_readme_is_a_module_in_this(clone: Clone) -> None:
    with (clone.root / "pyproject.toml").open("a") as file:
        file.write('readme = "README.md"\n')
    clone.install()
    index = "nbs/index.ipynb"
    prose = {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Title"]}
    clone.save(prose, name=index)
    clone.export()
    clone.commit()
    clone.git("checkout", "-q", "-B", "theirs")
    clone.save(prose, {**prose, "id": "b", "source": ["Theirs."]}, name=index)
    clone.export()
    clone.commit()
    clone.git("checkout", "-q", "main")
    clone.save(prose, {**prose, "id": "c", "source": ["Ours."]}, name=index)
    clone.export()
    clone.commit()
    done = clone.run("git", "merge", "theirs")
    assert "staged: README.md" in done.stderr
    clone.git("commit", "-q", "--no-edit")
    text = clone.blob("README.md", where="HEAD").decode()
    assert "Theirs." in text and "Ours." in text and is_exported(clone)


def test_a_series_of_cherry_picks(clone: Clone) -> None:
    clone.git("checkout", "-q", "-b", "theirs")
    step(clone, "load", "save")
    step(clone, "load", "save", "read")
    clone.git("checkout", "-q", "main")
    step(clone, "load", "dump")
    done = clone.run("git", "cherry-pick", "theirs~1", "theirs")
    assert done.returncode == 0 and f"not committed yet: {MODULE}" in done.stderr
    clone.git("commit", "-q", "-a", "-m", "exported again")
    module = clone.blob(MODULE, where="HEAD").decode()
    assert all(f"def {name}(" in module for name in ("load", "dump", "save", "read"))
    assert is_exported(clone)


def test_a_commit_in_the_middle_of_a_rebase(clone: Clone) -> None:
    """The commit before it holds a module of which only a part was exported."""
    clone.git("checkout", "-q", "-b", "theirs")
    step(clone, "load", "save")
    clone.save(*define("load", "save"), code("more", "#| export\nlimit = 'theirs'"))
    clone.export()
    clone.commit()
    clone.git("checkout", "-q", "main")
    step(clone, "load", "dump")
    clone.save(*define("load", "dump"), code("more", "#| export\nlimit = 'ours'"))
    clone.export()
    clone.commit()
    clone.git("checkout", "-q", "theirs")
    assert clone.run("git", "rebase", "main").returncode == 1
    clone.save(*define("load", "dump", "save"), code("more", "#| export\nlimit = 3"))
    clone.git("add", "--all")
    done = clone.run("git", "commit", "-m", "by hand")
    assert done.returncode == 0, done.stderr
    done = clone.run("git", "rebase", "--continue")
    assert done.returncode == 0, done.stderr
    assert b"limit = 3" in clone.blob(MODULE, where="HEAD") and is_exported(clone)


def test_work_of_others_is_not_staged(clone: Clone) -> None:
    """A notebook that somebody is at work on has nothing to do with the merge."""
    part_ways(clone)
    clone.save(*define("draft"), name="nbs/02_draft.ipynb")
    assert clone.run("git", "merge", "theirs").returncode == 1
    clone.git("commit", "-q", "--no-edit")
    assert "draft" not in clone.git("show", "--stat", "HEAD")
    assert clone.status().count("??") == 2


def test_a_merge_in_a_linked_work_tree(clone: Clone) -> None:
    part_ways(clone)
    clone.git("worktree", "add", "-q", "-b", "work", clone.root.parent / "linked")
    linked = open_clone(clone.root.parent / "linked")
    done = linked.run("git", "merge", "theirs")
    assert done.returncode == 1 and f"staged: {MODULE}" in done.stderr
    linked.git("commit", "-q", "--no-edit")
    module = linked.blob(MODULE, where="HEAD").decode()
    assert "def dump" in module and "def save" in module and is_exported(linked)
    assert is_exported(clone), "the other work tree has nothing to do with it"
