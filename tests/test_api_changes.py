"""What breaks callers between two revisions, and what is new."""

import re
from pathlib import Path

import pytest

from litml.api_changes import (
    ApiChangesError,
    compare_folders,
    compare_revision,
    make_changes_page,
)
from litml.git import GitError, run_git

OLD = """
from dataclasses import dataclass

def same(a, b=1): ...
def gone(): ...
def fewer(a, b): ...
def more(a): ...
def moved(a, b): ...
def renamed(old): ...
def default(a=1): ...
def _private(a): ...
LIMIT = 3

class Base: ...
class Kind(Base):
    def run(self, a): ...

@dataclass
class Data:
    x: int
"""
NEW = """
from dataclasses import dataclass

def same(a, b=1): ...
def fewer(a): ...
def more(a, b): ...
def moved(b, a): ...
def renamed(new): ...
def default(a=2): ...
def _private(): ...
LIMIT = 4

class Base: ...
class Kind:
    def run(self): ...
    def later(self): "A new method."

@dataclass
class Data:
    y: str
    x: int

class Fresh:
    "All new."
    def member(self): ...

@patch
def added(self: Base, n: int = 1): "Added later."
"""


def write(folder: Path, text: str) -> None:
    (folder / "zoo").mkdir(parents=True, exist_ok=True)
    (folder / "zoo/__init__.py").write_text('"""Zoo."""\n')
    (folder / "zoo/cats.py").write_text(text)


def test_every_kind_of_break(tmp_path: Path) -> None:
    write(tmp_path / "old", OLD)
    write(tmp_path / "new", NEW)
    changes = compare_folders(tmp_path / "old", tmp_path / "new", "zoo")
    broken = {one.path.removeprefix("zoo.cats.") for one in changes.breaks}
    functions = {"gone", "fewer", "more", "moved", "renamed", "default"}
    assert broken == {*functions, "Kind", "Kind.run", "Data"}
    added = {one.name for one in changes.added}
    assert added == {"Kind.later", "Data.y", "Fresh", "Fresh.member", "Base.added"}
    (block,) = make_changes_page(changes, "v1").blocks
    text = block.source
    assert "- `fewer`: parameter `b` was removed" in text
    assert "- `more`: parameter `b` was added as required" in text
    assert "- `Kind`: base class was removed: `Base` → nothing" in text
    assert "- `Fresh()` All new." in text and "member" not in text
    assert "- `Base.added(n: int = 1)` Added later." in text


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a revision v1, in the current folder, and changed since."""
    run_git(tmp_path, "init", "-q")
    write(tmp_path, OLD)
    (tmp_path / "zoo/link.py").symlink_to("/etc/hostname")
    run_git(tmp_path, "add", ".")
    who = ("-c", "user.name=a", "-c", "user.email=a@b.test")
    run_git(tmp_path, *who, "commit", "-q", "-m", "First")
    run_git(tmp_path, "tag", "v1")
    write(tmp_path, NEW)
    monkeypatch.chdir(tmp_path)  # where a package of that name lies
    return tmp_path


def test_a_revision_with_the_files_as_they_are(project: Path) -> None:
    status = run_git(project, "status", "--porcelain")
    changes = compare_revision(project, "zoo", "v1")
    assert "zoo.cats.gone" in [one.path for one in changes.breaks]
    assert run_git(project, "status", "--porcelain") == status
    assert run_git(project, "worktree", "list").count(b"\n") == 1


@pytest.mark.parametrize("revision", ["v2", "", "--help", "v1:zoo", "HEAD~9"])
def test_a_revision_that_is_none(project: Path, revision: str) -> None:
    with pytest.raises(ApiChangesError, match="no revision"):
        compare_revision(project, "zoo", revision)


@pytest.mark.parametrize("package", ["bar", "zoo/cats", "../zoo"])
def test_a_package_that_is_not_there(project: Path, package: str) -> None:
    with pytest.raises((ApiChangesError, GitError), match=re.escape(package)):
        compare_revision(project, package, "v1")


def test_a_new_module_and_one_that_does_not_compile(project: Path) -> None:
    (project / "zoo/dogs.py").write_text("def bark(): 'Bark.'")
    (project / "zoo/wrong.py").write_text("def (")
    changes = compare_revision(project, "zoo", "v1")
    assert "zoo.dogs.bark" in [one.path for one in changes.added]


def test_a_package_below_src(tmp_path: Path) -> None:
    write(tmp_path / "old/src", OLD)
    write(tmp_path / "new/src", NEW)
    changes = compare_folders(tmp_path / "old", tmp_path / "new", "src/zoo")
    assert "zoo.cats.gone" in [one.path for one in changes.breaks]
    assert "zoo.cats.Fresh" in [one.path for one in changes.added]
