"""Plain edits come home by a short way, which does just what the long one does.

Every edit is brought home both ways, from the same files with the same times. Where the
short way declines, no file has changed.
"""

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import Sandbox, code, prose
from test_cli import HOT, imported
from test_export_faults import Saboteur, posix_only

import litml.plain
from litml.__main__ import has_synced
from litml.files import Transaction
from litml.plain import sync_plain_edits
from litml.project import find_project
from litml.stamps import find_changed, notes_folder
from litml.sync import sync_project

sys.path.insert(0, str(Path(__file__).parent / "bench/sync"))
from fuzz_sync import EDITS, OWN, edit_module, make_trial

Files = dict[Path, tuple[bytes, int]]
PAST = 1_600_000_000 * 10**9  # ns; long ago enough for every clock


def look(root: Path) -> Files:
    """Return bytes and time of change of all files, litml's notes included."""
    paths = (path for path in root.rglob("*") if path.is_file())
    kept = (path for path in paths if path.name != "lock" and path.suffix != ".pyc")
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in kept}


def put_back(root: Path, files: Files) -> None:
    """Make the files what they were, at the time they were."""
    for path in look(root).keys() - files.keys():
        path.unlink()
    for path, (data, changed) in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(changed, changed))


def settle(root: Path) -> None:
    """Let all files be old, and leave stamps of them."""
    for path in look(root):
        os.utime(path, ns=(PAST, PAST))
    time.sleep(0.06)
    project = find_project(root)
    assert not sync_project(project).problems
    assert not sync_project(project).problems
    assert find_changed(f"{notes_folder(str(root))}/stamps", str(root)) == []


def save(path: Path, text: str) -> None:
    """Write a file, so that its time is new but not too young."""
    path.write_text(text, "utf-8", newline="")
    os.utime(path, ns=(PAST + 10**9, PAST + 10**9))


def essence(root: Path, files: Files) -> dict[str, object]:
    """Return what two ways have to agree on: all but the times of what was written."""
    found: dict[str, object] = {}
    for path, (data, _) in files.items():
        name = path.relative_to(root).as_posix()
        if path.name == "export.json":
            record = json.loads(data)
            record["time"] = None
            for row in record["notebooks"].values():
                row[1] = None
            found[name] = record
        elif path.name == "stamps":
            found[name] = sorted(re.sub(r" \d+ ", " ", data.decode()).split("\n"))
        else:
            found[name] = data
    return found


def both_ways(root: Path) -> list[str] | None:
    """Bring an edit home both ways; return the cells of the short one, or None."""
    here = look(root)
    cells = sync_plain_edits(str(root))
    after = look(root)
    if cells is None:
        assert after == here
        return None
    put_back(root, here)
    report = sync_project(find_project(root))
    assert not (report.problems or report.conflicts or report.notes)
    assert {one.what for one in report.changes} <= {"updated"}
    assert [str(one.at) for one in report.changes] == [str(cell) for cell in cells]
    assert essence(root, after) == essence(root, look(root))
    put_back(root, after)
    assert find_changed(f"{notes_folder(str(root))}/stamps", str(root)) == []
    assert sync_project(find_project(root)).changes == ()
    return [str(cell) for cell in cells]


# One law -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """Return a project of some of litml's own notebooks, and its modules."""
    some = tmp_path_factory.mktemp("own") / "own"
    (some / "nbs").mkdir(parents=True)
    shutil.copy(OWN / "pyproject.toml", some)
    for path in sorted((OWN / "nbs").glob("0[1-3]*.ipynb")):
        shutil.copy(path, some / "nbs")
    trial = make_trial(some, tmp_path_factory.mktemp("trial"))
    settle(trial.project.root)
    return trial.project.root, [module for module, _ in trial.pairs]


@pytest.mark.parametrize("seed", range(4))
def test_both_ways_do_the_same(own: tuple[Path, list[Path]], seed: int) -> None:
    root, modules = own
    start, rng = look(root), random.Random(seed)
    found = Counter[str]()
    while found.total() < 15:
        inner = rng.random() < 0.7
        kinds = rng.choices(INNER if inner else list(EDITS), k=rng.choice([1, 1, 2]))
        module = rng.choice(modules)
        edited = edit_module(module.read_text("utf-8"), rng, kinds)
        if edited is not None:
            save(module, edited)
            found["long" if both_ways(root) is None else "short"] += 1
            put_back(root, start)
    assert found["short"] > 2 and found["long"] > 2, found


INNER = ["insert", "change", "comment", "delete lines"]


# One by one --------------------------------------------------------------------------


@pytest.fixture
def small(project: Sandbox) -> Sandbox:
    """Return a settled project of two notebooks."""
    project.write(
        "00_core.ipynb",
        prose("t", "# Core\n\n> The heart of it."),
        code("load", "#| export\ndef load(path):\n    return path"),
        code("LIMIT", "#| export\nLIMIT = 3\n\n\nclass Few: ..."),
        code("odd", "#| export\n# %% foreign\nclass Odd: ..."),
        code("shown", "#| export\ndef show(): ...", outputs=[OUTPUT]),
    )
    project.write(
        "01_more.ipynb",
        code("more", "#| export\ndef more():\n    return 1"),
        code("other", "#| export other\ndef other():\n    return 1"),
    )
    project.export()
    settle(project.root)
    return project


OUTPUT = {"output_type": "stream", "name": "stdout", "text": ["1"]}


def edit(project: Sandbox, name: str, *pairs: tuple[str, str]) -> Path:
    """Replace parts of a module."""
    module = project.root / "mylib" / name
    text = module.read_bytes().decode()
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    save(module, text)
    return module


@pytest.mark.parametrize(
    ("pairs", "cells"),
    [
        ([("return path", "return 1")], ["load"]),
        (
            [("load(path)", "load(path, *more)"), ("Few: ...", "Few: x = 1")],
            ["load", "LIMIT"],
        ),
        ([("class Odd: ...", "class Odd: x = 1")], None),
        ([("    return path", '    """Say."""\n\n    return path')], ["load"]),
        ([("return path", 'return """\n\n\n# %% no marker\n"""')], None),
        ([("return path", "return (")], None),
        ([("return path\n", "return path\n\n\ndef new(): ...\n")], None),
        ([("return path\n", "return path\n# a note\n")], None),
        ([("return path\n", "return path\n\n")], None),
        ([("LIMIT = 3", "LIMIT = 4")], None),
        ([("The heart", "The soul")], None),
        ([("def show(): ...", "def show(): pass")], None),
        ([("\n", "\r\n")], None),
    ],
)
def test_what_is_plain(
    small: Sandbox, pairs: list[tuple[str, str]], cells: list[str] | None
) -> None:
    if pairs == [("\n", "\r\n")]:
        module = small.root / "mylib/core.py"
        save(module, module.read_text().replace("\n", "\r\n"))
    else:
        edit(small, "core.py", *pairs)
    wanted = cells and [f"nbs/00_core.ipynb, cell {name}" for name in cells]
    assert both_ways(small.root) == wanted


def test_only_the_time_has_changed(small: Sandbox) -> None:
    edit(small, "core.py")
    assert both_ways(small.root) == []


def test_too_young_to_be_believed(small: Sandbox) -> None:
    """An edit in the same tick of the clock as the last sync is seen all the same."""
    module = edit(small, "core.py", ("return path", "return 1"))
    soon = time.time_ns() + 60 * 10**9
    os.utime(module, ns=(soon, soon))
    assert sync_plain_edits(str(small.root))
    module.write_text(module.read_text().replace("return 1", "return 2"))
    os.utime(module, ns=(soon, soon))
    found = sync_plain_edits(str(small.root))
    assert found and "return 2" in (small.root / "nbs/00_core.ipynb").read_text()


@pytest.mark.parametrize("module", ["more.py", "other.py"])
def test_one_notebook_and_several_modules(small: Sandbox, module: str) -> None:
    edit(small, module, ("return 1", "return 2"))
    assert both_ways(small.root) is None


def test_another_file_has_changed(small: Sandbox) -> None:
    edit(small, "core.py", ("return path", "return 1"))
    start = look(small.root)
    for name in ("nbs/00_core.ipynb", "nbs/01_more.ipynb", "pyproject.toml"):
        os.utime(small.root / name)
        assert both_ways(small.root) is None, name
        put_back(small.root, start)
    (small.root / "nbs/02_new.ipynb").write_bytes(start[small.root / NOTEBOOK][0])
    assert both_ways(small.root) is None
    put_back(small.root, start)
    (small.root / "mylib/copy.py").write_bytes(start[small.root / "mylib/core.py"][0])
    assert both_ways(small.root) is None, "a module that nobody exports"
    put_back(small.root, start)
    (small.root / ".litml/base/core.py.txt").write_text("[]\nlost")
    assert both_ways(small.root) is None
    put_back(small.root, start)
    assert both_ways(small.root) == ["nbs/00_core.ipynb, cell load"]


NOTEBOOK = "nbs/00_core.ipynb"


def test_a_commit_since(small: Sandbox) -> None:
    small.commit()
    small.export()
    settle(small.root)
    edit(small, "core.py", ("return path", "return 1"))
    small.commit()
    assert sync_plain_edits(str(small.root)) is None


def test_restored_from_a_commit(small: Sandbox) -> None:
    """That undoes an export, and is no edit to be brought home."""
    small.commit()
    notebook = small.root / NOTEBOOK
    notebook.write_text(notebook.read_text().replace("return path", "return 1"))
    settle(small.root)
    small.git("checkout", "mylib/core.py")
    assert both_ways_in_git(small.root) is None
    assert "return 1" in (small.root / "mylib/core.py").read_text()
    settle(small.root)
    edit(small, "core.py", ("return 1", "return 2"))
    assert both_ways_in_git(small.root) == ["nbs/00_core.ipynb, cell load"]


def both_ways_in_git(root: Path) -> list[str] | None:
    """Bring an edit home the short way, and then the long one if there is more."""
    here = look(root)
    cells = sync_plain_edits(str(root))
    if cells is None:
        assert look(root) == here
    assert not sync_project(find_project(root)).changes
    return cells and [str(cell) for cell in cells]


def test_a_class_that_grows(project: Sandbox) -> None:
    """A method in the class hides one from a later cell; without it a block is due."""
    project.write(
        "00_core.ipynb",
        code("patch", "#| export\nfrom fastcore.basics import patch"),
        code("C", "#| export\nclass C:\n    x = 1\n\n    def f(self):\n        ..."),
        code("f", "#| export\n@patch\ndef f(self: C): ..."),
        code("g", "#| export\ndef g(): ..."),
    )
    project.export()
    settle(project.root)
    start = look(project.root)
    edit(project, "core.py", ("\n    def f(self):\n        ...\n", ""))
    assert both_ways(project.root) is None
    put_back(project.root, start)
    edit(project, "core.py", ("def f(self: C): ...", "def f(self: C, n=1): ..."))
    assert both_ways(project.root) is None
    put_back(project.root, start)
    edit(project, "core.py", ("def g(): ...", "def g(): pass"))
    assert both_ways(project.root) == ["nbs/00_core.ipynb, cell g"]


def test_notebooks_around_the_package(project: Sandbox) -> None:
    """The modules are files beside notebooks then, and stamped as such as well."""
    config = project.root / "pyproject.toml"
    table = '[tool.litml]\nnotebooks = "."'
    config.write_text(config.read_text().replace("[tool.litml]", table))
    project.write("00_core.ipynb", code("load", "#| export\ndef load(): ..."))
    project.export()
    settle(project.root)
    edit(project, "nbs/core.py", ("(): ...", "(): pass"))
    assert both_ways(project.root) == ["nbs/00_core.ipynb, cell load"]


def test_a_cell_without_an_id(project: Sandbox) -> None:
    """Its marker is made from what it says, and so changes along with it."""
    cells = [code("load", "#| export\ndef load(path):\n    return path")]
    del cells[0]["id"]
    project.write("00_core.ipynb", *cells, nbformat_minor=4)
    project.export()
    settle(project.root)
    edit(project, "core.py", ("return path", "return 1"))
    assert both_ways(project.root) is None
    assert not sync_project(find_project(project.root)).problems
    assert "return 1" in (project.root / NOTEBOOK).read_text()


@pytest.mark.parametrize("which", [NOTEBOOK, "mylib/core.py"])
def test_saved_meanwhile(
    small: Sandbox, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(small, "core.py", ("return path", "return 1"))
    path, dump = small.root / which, litml.plain.dump_record
    start = look(small.root)
    saved = path.read_bytes() + b"\n"

    def save_and_dump(*words: Any) -> bytes:
        path.write_bytes(saved)
        return dump(*words)

    monkeypatch.setattr(litml.plain, "dump_record", save_and_dump)
    assert sync_plain_edits(str(small.root)) is None
    after = look(small.root)
    assert after.pop(path)[0] == saved and start.pop(path) and after == start


def test_a_disk_that_is_full(small: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    edit(small, "core.py", ("return path", "return 1"))
    monkeypatch.setattr(Transaction, "commit", fail)
    assert both_ways(small.root) is None


# The command -------------------------------------------------------------------------


def test_the_command_loads_next_to_nothing(small: Sandbox) -> None:
    edit(small, "core.py", ("return path", "return 1"))
    found = imported(small, "sync")
    mine = {name for name in found if name.startswith("litml.")}
    assert "litml.plain" in mine and not found & (set(HOT) | {"argparse", "tomllib"})
    assert not mine & {"litml.cli", "litml.export", "litml.package", "litml.sync"}
    found = imported(small, "sync")
    mine = {name for name in found if name.startswith("litml.")}
    assert mine == {"litml.stamps"} and "re" not in found


def test_the_command_says_the_same(small: Sandbox) -> None:
    start = look(small.root)
    said = []
    for words in (["sync"], ["sync", "--rename"]):  # the second is no short way
        put_back(small.root, start)
        edit(small, "core.py", ("return path", "return 1"))
        done = small.litml(*words)
        said.append((done.returncode, done.stdout, done.stderr))
    assert said[0] == said[1] == (0, f"updated: {NOTEBOOK}, cell load\n", "")


def sync_in_child(root: Path, saboteur: Saboteur) -> int:
    """Run the short way in a copy of this process; leave the changes it made."""
    child = os.fork()
    if not child:
        os.chdir(root)
        sys.addaudithook(saboteur)
        exit_code = 70
        with (
            contextlib.suppress(BaseException),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            exit_code = 0 if has_synced() else 1
        root.with_name("counted").write_text(str(saboteur.left))
        os._exit(exit_code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@posix_only
@pytest.mark.parametrize("how", ["kill", "fail"])
def test_stopped_at_any_moment(small: Sandbox, how: str) -> None:
    """The next sync finishes it: the edit is in both files, and nothing is left."""
    edit(small, "core.py", ("return path", "return 1"))
    start = look(small.root)
    assert sync_in_child(small.root, Saboteur(small.root, "count", 0)) == 0
    count = -int(small.root.with_name("counted").read_text())
    assert count > 8
    for moment in range(count):
        put_back(small.root, start)
        done = sync_in_child(small.root, Saboteur(small.root, how, moment))
        assert done == -signal.SIGKILL if how == "kill" else done in (0, 1)
        report = sync_project(find_project(small.root))
        assert not report.problems
        for name in (NOTEBOOK, "mylib/core.py"):
            assert "return 1" in (small.root / name).read_text()
        assert not small.leftovers()
