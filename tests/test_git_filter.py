"""Notebooks go into git without outputs, and come back with them."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, code, notebook_bytes, prose
from gitbox import NAME, Clone, clean, copy_clone, open_clone, ran


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Clone(tmp_path_factory.mktemp("installed") / "mylib").root


@pytest.fixture
def clone(installed: Path, tmp_path: Path) -> Clone:
    """A clone in which hooks are installed."""
    return copy_clone(installed, tmp_path / "mylib")


LOAD, FIT = ran("load", "load()", "3 rows\n"), ran("fit", "fit()", "0.93\n", 2)


def test_outputs_stay_out_of_git_and_in_the_file(clone: Clone) -> None:
    path = clone.save(LOAD, FIT)
    before = path.read_bytes()
    clone.commit()
    assert clone.blob() == clean(before) and b"0.93" not in clone.blob()
    assert path.read_bytes() == before and clone.status() == ""


def test_switching_branches_keeps_outputs(clone: Clone) -> None:
    path = clone.save(LOAD, FIT)
    before = path.read_bytes()
    clone.commit()
    clone.git("checkout", "-q", "-b", "other")
    clone.save(ran("load", "load(2)", "2 rows\n"), FIT)
    other = path.read_bytes()
    clone.commit()
    for branch, raw in [("main", before), ("other", other), ("main", before)]:
        clone.git("checkout", "-q", branch)
        assert path.read_bytes() == raw and clone.status() == ""
    path.unlink()
    clone.git("checkout", "-q", ".")
    assert path.read_bytes() == before


def test_a_pull_takes_only_outputs_of_changed_cells(
    clone: Clone, tmp_path: Path
) -> None:
    path = clone.save(LOAD, FIT)
    clone.commit()
    clone.git("clone", "-q", clone.root, tmp_path / "theirs")
    theirs = open_clone(tmp_path / "theirs")
    theirs.install()
    assert b'outputs": []' in theirs.root.joinpath(NAME).read_bytes()
    theirs.save(code("load", "load()"), code("fit", "fit(x)"), prose("end", "End."))
    theirs.commit()
    clone.git("pull", "-q", theirs.root, "main")
    cells = json.loads(path.read_bytes())["cells"]
    assert cells[0] == {**LOAD, "source": ["load()"]}
    assert cells[1]["outputs"] == [] and cells[2]["id"] == "end"
    assert clone.status() == ""


def test_stash_brings_source_and_outputs_back(clone: Clone) -> None:
    path = clone.save(LOAD)
    clone.commit()
    clone.save(LOAD, FIT)
    edited = path.read_bytes()
    clone.git("stash", "-q")
    assert b"fit" not in path.read_bytes() and b"3 rows" in path.read_bytes()
    clone.git("stash", "pop", "-q")
    assert path.read_bytes() == edited
    assert clone.status() == f" M {NAME}\n"


def test_outputs_follow_a_renamed_notebook(clone: Clone) -> None:
    path = clone.save(LOAD)
    clone.commit()
    clone.git("checkout", "-q", "-b", "other")
    clone.git("mv", NAME, "nbs/02_renamed.ipynb")
    clone.git("commit", "-q", "-m", "renamed")
    clone.git("checkout", "-q", "main")
    assert b"3 rows" in path.read_bytes()
    clone.git("merge", "-q", "other")
    assert b"3 rows" in (clone.root / "nbs/02_renamed.ipynb").read_bytes()


def test_a_merge_leaves_outputs_where_they_are_true(clone: Clone) -> None:
    base = [LOAD, ran("plot", "plot()", "a plot\n"), FIT]
    path = clone.save(*base)
    clone.commit()
    clone.git("checkout", "-q", "-b", "other")
    clone.save(LOAD, base[1], ran("fit", "fit(1)", "0.95\n"))
    clone.commit()
    clone.git("checkout", "-q", "main")
    clone.save(ran("load", "load(0)", "0 rows\n"), *base[1:])
    clone.commit()
    clone.git("merge", "-q", "other")
    shown = [
        "".join(c["outputs"][0]["text"]) for c in json.loads(path.read_bytes())["cells"]
    ]
    assert shown == ["0 rows\n", "a plot\n", "0.95\n"]
    assert clone.status() == "" and b"rows" not in clone.blob(where="HEAD")


NAMES = ["with space", "größe 数据", "line\nbreak", 'quo"te', "[a-z]*", "%P $HOME `x`"]


@pytest.mark.parametrize("name", NAMES)
def test_names(clone: Clone, name: str) -> None:
    name = f"nbs/{name}.ipynb"
    path = clone.save(LOAD, name=name)
    before = path.read_bytes()
    clone.commit()
    assert clone.blob(name) == clean(before)
    clone.git("checkout", "-q", "-b", "other")
    clone.save(LOAD, FIT, name=name)
    clone.commit()
    clone.git("checkout", "-q", "main")
    assert path.read_bytes() == before and clone.status() == ""


ODD = {
    "empty": b"",
    "markers": b"<<<<<<< ours\n{}\n=======\n[]\n>>>>>>> theirs\n",
    "cut off": notebook_bytes(LOAD)[:-40],
    "format 3": b'{"nbformat": 3, "worksheets": []}\n',
    "doubled key": b'{"cells": [], "cells": [], "nbformat": 4}\n',
    "no notebook": b'{"a": 1}',
    "a list": b"[1, 2]",
    "half a character": b'{"cells": "\xff"}',
    "binary": bytes(range(256)) * 300,
    "deep": b'{"nbformat": 4, "cells": ' + b"[" * 100_000,
    "a large number": b'{"nbformat": ' + b"4" * 5000 + b"}",
    "mark only": b"\xef\xbb\xbf",
    "windows": b'{"nbformat": 3,\r\n "worksheets": []}\r\n',
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD)
def test_odd_files_pass_untouched_with_a_warning(clone: Clone, raw: bytes) -> None:
    path = clone.write_bytes("odd.ipynb", raw)
    done = clone.run("git", "add", "--all")
    assert done.returncode == 0 and "litml: 'nbs/odd.ipynb' is left" in done.stderr
    assert clone.blob("nbs/odd.ipynb") == raw == path.read_bytes()
    path.unlink()
    clone.git("checkout", ".")
    assert path.read_bytes() == raw


def test_a_file_of_another_kind_passes(clone: Clone) -> None:
    """Somebody's attributes give us files that are none of ours."""
    (clone.root / ".gitattributes").write_text("* filter=litml\n")
    texts = {"a.py": b"print(1)\n", "b.json": b'{"a": [1.0]}', "c": b"\0\1\2"}
    for name, raw in texts.items():
        (clone.root / name).write_bytes(raw)
    run = clone.root / "notebook.json"
    run.write_bytes(notebook_bytes(LOAD))
    clone.git("add", "--all")
    assert {name: clone.blob(name) for name in texts} == texts
    assert clone.blob("notebook.json") == clean(run.read_bytes())


@pytest.mark.parametrize("convert", ["true", "input", "false"])
def test_windows_line_ends(clone: Clone, convert: str) -> None:
    clone.git("config", "core.autocrlf", convert)
    raw = notebook_bytes(LOAD, FIT)
    path = clone.write_bytes("01_data.ipynb", raw.replace(b"\n", b"\r\n"))
    clone.commit()
    assert clone.blob() == clean(raw)
    path.unlink()
    clone.git("checkout", "-q", ".")
    assert json.loads(path.read_bytes()) == json.loads(raw)
    assert clone.status() == ""


def test_a_notebook_of_a_hundred_megabytes(clone: Clone) -> None:
    picture = {"output_type": "display_data", "metadata": {}}
    picture["data"] = {"image/png": "iVBORw0K" * (100_000_000 // 8)}
    path = clone.save(LOAD, code("plot", "plot()", outputs=[picture]))
    size = path.stat().st_size
    assert size > 100_000_000
    clone.commit()
    assert len(clone.blob()) < 2000
    path.unlink()
    clone.git("checkout", "-q", ".")
    assert path.stat().st_size == size and clone.status() == ""


def test_adding_a_part_of_a_notebook(clone: Clone) -> None:
    """`git add -p` works on the clean form; outputs do not get in its way."""
    path = clone.save(
        LOAD, prose("a", "One."), prose("b", "Two."), prose("c", "3."), FIT
    )
    clone.commit()
    clone.save(
        ran("load", "load(9)", "9 rows\n"),
        *(prose("a", "One."), prose("b", "Two."), prose("c", "3.")),
        ran("fit", "fit(9)", "0.99\n"),
    )
    before = path.read_bytes()
    done = clone.run("git", "add", "-p", input="y\nn\n")
    assert done.returncode == 0, done.stderr
    assert b"load(9)" in clone.blob() and b"fit(9)" not in clone.blob()
    assert b"rows" not in clone.blob() and path.read_bytes() == before
    clone.git("commit", "-q", "-m", "half")
    assert "fit(9)" in clone.git("diff") and "0.99" not in clone.git("diff")


def test_a_rebase_of_fifty_commits(clone: Clone) -> None:
    clone.save(LOAD, *(code(f"c{i}", f"step({i})") for i in range(50)), FIT)
    clone.commit()
    clone.git("checkout", "-q", "-b", "work")
    no_hooks = "-c", f"core.hooksPath={os.devnull}"  # they come with the rebase
    cells = [code(f"c{i}", f"step({i})") for i in range(50)]
    for number in range(50):
        cells[number] = ran(f"c{number}", f"step({number}, x)", f"{number}\n")
        path = clone.save(LOAD, *cells, FIT)
        clone.git(*no_hooks, "commit", "-q", "-a", "-m", f"step {number}")
    before = path.read_bytes()
    clone.git("checkout", "-q", "main")
    clone.save(
        ran("load", "load('b')", "5 rows\n"),
        *(code(f"c{i}", f"step({i})") for i in range(50)),
        FIT,
    )
    clone.git("commit", "-q", "-a", "-m", "load")
    clone.git("checkout", "-q", "work")
    done = clone.run("git", "rebase", "main", timeout=300)
    assert done.returncode == 0, done.stderr
    after = json.loads(path.read_bytes())["cells"]
    assert after[1:] == json.loads(before)["cells"][1:]
    assert after[0]["outputs"][0]["text"] == ["5 rows\n"] and clone.status() == ""
    assert clone.git("rev-list", "--count", "main..work") == "50\n"


def test_cherry_pick(clone: Clone) -> None:
    path = clone.save(LOAD, FIT)
    clone.commit()
    clone.git("checkout", "-q", "-b", "work")
    clone.save(LOAD, FIT, ran("end", "end()", "over\n"))
    clone.commit()
    clone.git("checkout", "-q", "main")
    clone.save(ran("load", "load(1)", "1 row\n"), FIT)
    clone.commit()
    clone.git("cherry-pick", "work")
    text = path.read_text()
    assert all(part in text for part in ("1 row", "0.93", "over"))
    assert clone.status() == ""


def archive(folder: Path, tree: str) -> bytes:
    """Return the archive of a commit or a tree."""
    command = ["git", "archive", tree]
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True
    ).stdout


def test_an_archive_without_outputs(clone: Clone) -> None:
    """Also one of a tree, of a linked work tree, and of another branch."""
    path = clone.save(LOAD)
    clone.commit()
    linked = clone.root.parent / "linked"
    clone.git("worktree", "add", "-q", "-b", "work", linked)
    for folder in (clone.root, linked):
        for tree in ("HEAD", "HEAD^{tree}", "work"):
            tar = archive(folder, tree)
            assert b"3 rows" not in tar and b"load()" in tar
    assert b"3 rows" in path.read_bytes() and b"3 rows" in (linked / NAME).read_bytes()


def test_a_checkout_without_outputs(clone: Clone) -> None:
    path = clone.save(LOAD)
    clone.commit()
    path.unlink()
    environment = {**ENVIRONMENT, "LITML_SMUDGE": "0"}
    command = ["git", "checkout", "HEAD", "."]
    subprocess.run(command, cwd=clone.root, env=environment, check=True)
    assert b"3 rows" not in path.read_bytes() and clone.status() == ""


def test_linked_work_trees_share_what_they_know(clone: Clone) -> None:
    clone.save(LOAD)
    clone.commit()
    clone.git("worktree", "add", "-q", "-b", "work", clone.root.parent / "linked tree")
    linked = open_clone(clone.root.parent / "linked tree")
    path = linked.root / NAME
    assert b"3 rows" in path.read_bytes() and linked.status() == ""
    linked.save(LOAD, FIT)
    before = path.read_bytes()
    linked.git("commit", "-q", "-a", "-m", "fit")
    assert linked.blob(where="HEAD") == clean(before) and linked.status() == ""
    clone.git("merge", "-q", "work")
    assert (clone.root / NAME).read_bytes() == before


def test_a_submodule_has_settings_of_its_own(clone: Clone, tmp_path: Path) -> None:
    clone.save(LOAD)
    clone.commit()
    outer = Clone(tmp_path / "outer", install=False)
    outer.git(
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "add",
        "-q",
        clone.root,
        "inner",
    )
    outer.commit()
    inner = open_clone(outer.root / "inner")
    inner.install()
    assert (inner.root / ".git").is_file()
    path = inner.save(LOAD, FIT)
    inner.commit()
    assert inner.blob(where="HEAD") == clean(path.read_bytes())
    assert inner.status() == "" and b"0.93" in path.read_bytes()
    path.unlink()
    inner.git("checkout", "-q", ".")
    assert b"0.93" in path.read_bytes()


def test_the_cache_may_be_deleted_or_damaged(clone: Clone) -> None:
    path = clone.save(LOAD)
    clone.commit()
    cache = clone.root / ".git/litml/outputs.sqlite"
    assert cache.exists()
    for damage in (cache.unlink, lambda: cache.write_bytes(b"x" * 5000)):
        damage()
        path.unlink()
        clone.git("checkout", "-q", ".")
        assert path.read_bytes() == clone.blob() and clone.status() == ""
        clone.save(LOAD)
        clone.git("add", NAME)
        path.unlink()
        clone.git("checkout", "-q", ".")
        assert b"3 rows" in path.read_bytes()


def test_a_cache_that_cannot_be_written_stops_nobody(clone: Clone) -> None:
    shutil.rmtree(clone.root / ".git/litml", ignore_errors=True)
    (clone.root / ".git/litml").write_text("a file")
    clone.save(LOAD)
    done = clone.run("git", "add", NAME)
    assert done.returncode == 0 and "cannot be noted" in done.stderr
    assert b"rows" not in clone.blob()


def test_many_at_once(clone: Clone) -> None:
    """Two dozen filters note outputs at the same time, and none of them is lost."""
    names = [f"nbs/{number:02}.ipynb" for number in range(24)]
    for name in names:
        clone.save(
            *(ran(f"c{i}", f"f({i})", f"{name} {i}\n") for i in range(20)), name=name
        )
    before = {name: (clone.root / name).read_bytes() for name in names}
    running = [
        subprocess.Popen(
            ["git", "hash-object", "-w", name],
            cwd=clone.root,
            env=ENVIRONMENT,
            stdout=-3,
        )
        for name in names
    ]
    assert [one.wait(60) for one in running] == [0] * len(names)
    clone.git("add", "--all")
    for name in names:
        (clone.root / name).unlink()
    clone.git("checkout", "-q", ".")
    assert {name: (clone.root / name).read_bytes() for name in names} == before


def test_the_policy_is_the_project_s(clone: Clone) -> None:
    configuration = clone.root / "pyproject.toml"
    text = configuration.read_text()
    configuration.write_text(f'{text}[tool.litml.clean]\noutputs = "keep"\n')
    path = clone.save(LOAD)
    clone.commit()
    assert b"3 rows" in clone.blob()
    before = path.read_bytes()
    path.unlink()
    clone.git("checkout", "-q", ".")
    assert path.read_bytes() == before and clone.status() == ""


def test_a_broken_configuration_breaks_no_checkout(clone: Clone) -> None:
    path = clone.save(LOAD)
    clone.commit()
    (clone.root / "pyproject.toml").write_text("[tool.litml.clean\n")
    path.unlink()
    done = clone.run("git", "checkout", "--", NAME)
    assert done.returncode == 0 and path.read_bytes() == clone.blob()
    done = clone.run("git", "add", NAME)
    assert done.returncode == 0


def test_conflict_markers_in_the_file_do_not_stop_git(clone: Clone) -> None:
    path = clone.save(LOAD)
    clone.commit()
    path.write_bytes(b"<<<<<<< ours\n" + path.read_bytes() + b">>>>>>> theirs\n")
    for words in (["status"], ["diff"], ["stash"], ["stash", "pop"], ["add", NAME]):
        done = clone.run("git", *words)
        assert done.returncode == 0, done.stderr
    assert path.read_bytes() == clone.blob()
    done = clone.run("git", "commit", "-m", "oops")
    assert done.returncode == 1 and "conflict markers" in done.stderr


def test_the_filter_loads_nothing_but_the_standard_library() -> None:
    script = """
import sys
import time
before = set(sys.modules)
sys.path.append(sys.argv[1])
import litml.filter
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(names - sys.stdlib_module_names))
print(sorted(name for name in sys.modules if name.startswith("litml.")))
"""
    home = Path(__file__).parents[1]
    command = [sys.executable, "-I", "-S", "-c", script, home]
    done = subprocess.run(command, capture_output=True, text=True)
    others, own = done.stdout.splitlines()
    assert others == "['litml']"
    assert own == "['litml.canonical', 'litml.clean', 'litml.filter']"


def test_the_id_of_the_cell_stands_above_a_change(clone: Clone) -> None:
    cells = [code(f"cell-{i}", f"f({i})\n" * 9) for i in range(3)]
    clone.save(*cells)
    clone.commit()
    cells[1]["source"][5] = "changed()\n"
    clone.save(*cells)
    assert "@@ cell-1" in clone.git("diff")


def test_no_output_is_in_any_blob(clone: Clone) -> None:
    """After all the ways in: add, commit with paths, stash, `commit -a`, intent."""
    secret = "SECRET-4711"
    cells = ran("a", "a()", secret), ran("b", "b()", secret)
    clone.save(cells[0])
    clone.git("add", "--intent-to-add", NAME)
    clone.git("commit", "-q", "-a", "-m", "one")
    clone.save(*cells)
    clone.git("stash", "-q", "--include-untracked")
    clone.git("stash", "pop", "-q")
    clone.git("commit", "-q", "-m", "two", NAME)
    clone.save(*cells, ran("c", "c()", secret), name="nbs/new.ipynb")
    clone.git("add", "--renormalize", ".")
    clone.git("add", "nbs")
    clone.git("commit", "-q", "-m", "three")
    ids = clone.git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    for id in ids.split():
        assert secret not in clone.git("cat-file", "-p", id), id
    assert os.path.getsize(clone.root / ".git/litml/outputs.sqlite")


def test_a_run_in_place_is_no_change(clone: Clone) -> None:
    path = clone.save(code("say", "print('a longer text' * 9)"))
    clone.commit()
    time.sleep(1.1)  # git looks twice at files younger than its index
    done = clone.litml("run", "--inplace", NAME, timeout=120)
    assert done.returncode == 0, done.stderr
    assert b"a longer text" in path.read_bytes() and clone.status() == ""
    clone.git("checkout", "-q", "-b", "other")
    path.write_bytes(path.read_bytes().replace(b"print(", b"print(1, "))
    done = clone.litml("run", "--inplace", NAME, timeout=120)
    assert clone.status() == f" M {NAME}\n" and not clone.git("diff", "--cached")


@pytest.mark.parametrize("name", NAMES)
def test_names_in_a_merge(clone: Clone, name: str) -> None:
    name = f"nbs/{name}.ipynb"
    clone.save(LOAD, FIT, name=name)
    clone.commit()
    clone.git("checkout", "-q", "-b", "theirs")
    clone.save(LOAD, ran("fit", "fit(1)", "1\n"), name=name)
    clone.git("commit", "-q", "-a", "-m", "theirs")
    clone.git("checkout", "-q", "main")
    path = clone.save(ran("load", "load(2)", "2\n"), FIT, name=name)
    clone.git("commit", "-q", "-a", "-m", "ours")
    clone.git("merge", "-q", "theirs")
    cells = json.loads(path.read_bytes())["cells"]
    assert [cell["source"] for cell in cells] == [["load(2)"], ["fit(1)"]]
    assert clone.status() == ""
