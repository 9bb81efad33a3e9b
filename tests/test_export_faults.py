"""Everything that can go wrong with an export, made to happen.

Each refusal is asked for through the command line; it must name the place, and leave
every file of the project as it was.
"""

import ctypes
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Sandbox, code, notebook_bytes, prose

from litml.__main__ import main
from litml.package import export_project
from litml.project import find_project

posix_only = pytest.mark.skipif(os.name == "nt", reason="needs signals and ulimit")


@pytest.fixture(scope="module")
def template(new_project: Callable[[], Sandbox]) -> Sandbox:
    """Return an exported project with one notebook that has changed since."""
    project = new_project()
    project.write("00_core.ipynb", code("x", "#| export\nx = 1"))
    project.export()
    project.write("00_core.ipynb", code("x", "#| export\nx = 2"))
    return project


@pytest.fixture
def exported(template: Sandbox, project: Sandbox) -> Sandbox:
    """Return a copy of the template."""
    project.replace_by(template.root)
    return project


def refuse(project: Sandbox, *, exit_code: int = 1, **more: object) -> str:
    """Run an export that must fail and change nothing; return its message."""
    before = project.files()
    done = project.litml("export", **more)
    assert (done.returncode, done.stdout) == (exit_code, ""), done
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr
    assert project.files() == before
    return done.stderr


# Files that are no notebooks ---------------------------------------------------------

GOOD = notebook_bytes(code("good", "#| export\ngood = 1"), code("free", "good"))
CONFLICT = GOOD.replace(
    b'    "good"', b'<<<<<<< HEAD\n    "good"\n=======\n    "better"\n>>>>>>> theirs'
)
UNREADABLE = {
    "truncated": (GOOD[:-30], "cut off: the JSON stops at line"),
    "truncated in a string": (GOOD[:100], "cut off: the JSON stops at line"),
    "conflict markers": (CONFLICT, "conflict markers of a git merge, from line 18 "),
    "text": (b"print('hello')\n", "not JSON"),
    "a list": (b"[1, 2]", "not a notebook"),
    "another object": (b'{"name": "x", "version": 4}', "not a notebook"),
    "cells of a wrong kind": (b'{"nbformat": 4, "cells": {}}', "not a notebook"),
    "a cell of a wrong kind": (b'{"nbformat": 4, "cells": [1]}', "without `cell_type`"),
    "a later format": (b'{"nbformat": 5, "cells": []}', "nbformat 5 is not known"),
    "Latin-1": (GOOD.replace(b"good = 1", b"'\xe9'"), "not UTF-8: byte 101, line 8 "),
    "UTF-16": (GOOD.decode().encode("utf-16"), "not UTF-8: byte 0, line 1 "),
    "zeros after a crash": (bytes(4096), "not JSON"),
    "empty": (b"", "the file is empty"),
    "blank": (b" \n", "the file is empty"),
    "too deep": (b'{"nbformat": 4, "cells": ' + b"[" * 10**5, "nested too deeply"),
}


@pytest.mark.parametrize(("data", "message"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_is_no_notebook(
    exported: Sandbox, data: bytes, message: str
) -> None:
    exported.write_bytes("01_bad.ipynb", data)
    said = refuse(exported)
    assert message in said
    assert "\n  at nbs/01_bad.ipynb" in said


@posix_only
def test_a_link_to_nowhere_and_a_folder(exported: Sandbox) -> None:
    path = exported.root / "nbs/01_bad.ipynb"
    path.symlink_to("nowhere")
    assert "No such file or directory\n  at nbs/01_bad.ipynb\n" in refuse(exported)
    path.unlink()
    path.mkdir()
    assert "Is a directory\n  at nbs/01_bad.ipynb\n" in refuse(exported)


# Cells that cannot be exported -------------------------------------------------------

MAGIC = "a magic or shell line cannot be exported"
WRONG: dict[str, tuple[str, int | None, str]] = {
    "unknown directive": ("#| hide\n#| exprot\n1", 2, "unknown directive `exprot`"),
    "a value too much": ("#| hide: me\n1", 1, "`hide` takes no value"),
    "a value too little": ("\n#| default_exp", 2, "`default_exp` needs a value"),
    "not compiling": ("#| export\n\ndef f(:\n    pass", 3, "invalid syntax"),
    "an open bracket": ("#| export\nx = [1,\n", 2, "'[' was never closed"),
    "an open string": ('#| export\nx = """\n', 2, "unterminated"),
    "a bad indent": ("#| export\nx = 1\n  y = 2", 3, "unexpected indent"),
    "a return": ("#| export\nx = 1\nreturn x", 3, "'return' outside function"),
    "a magic": ("#| export\nx = 1\n%timeit x", 3, f"{MAGIC}: `%timeit x`"),
    "a cell magic": ("#| export\n%%time\nx = 1", 2, f"{MAGIC}: `%%time`"),
    "a shell line": ("#| export\nimport os\n!ls", 3, f"{MAGIC}: `!ls`"),
    "a shell value": ("#| export\nfiles = !ls", 2, f"{MAGIC}: `files = !ls`"),
    "a magic value": ("#| export\n\nhere = %pwd", 3, f"{MAGIC}: `here = %pwd`"),
    "a question": ("#| export\nimport os\nos.path?", 3, f"{MAGIC}: `os.path?`"),
    "top-level await": ("#| export\nx = 1\nawait x", 3, "top-level `await`"),
    "async with": ("#| export\nasync with x:\n    pass", 2, "top-level `await`"),
    "async for": ("#| export\nasync for x in y:\n    pass", 2, "top-level `await`"),
    "async list": ("#| export\nx = [y async for y in z]", 2, "asynchronous"),
    "a late future": (
        "#| export\nfrom __future__ import annotations",
        2,
        "a late `from __future__` import",
    ),
    "a later future": (
        "#| export other\nx = 1\nfrom __future__ import annotations",
        3,
        "a late `from __future__` import",
    ),
    "a name twice": ("#| export\n\nok = 2", 3, "`ok` is exported twice"),
    "a false marker": ("#| export\nx = 1\n# %% ok", 3, "the marker of cell `ok`"),
    "a null": ("#| export\nx = '\0'", None, "null"),
    "half a character": ("#| export\nx = '\ud83d'", None, "surrogate"),
    "too deep": ("#| export\nx = " + "-" * 10**5 + "1", None, "deep"),
}


@pytest.mark.parametrize(("source", "line", "message"), WRONG.values(), ids=WRONG)
def test_a_cell_that_cannot_be_exported(
    exported: Sandbox, source: str, line: int | None, message: str
) -> None:
    ok = code("ok", "#| export\nok = 1")
    exported.write("01_bad.ipynb", ok, code("bad", source), code("end", "ok"))
    said = refuse(exported)
    assert message in said
    place = "\n  at nbs/01_bad.ipynb, cell bad"
    assert (f"{place}, line {line}\n" if line else place) in said


TARGETS = ["../../evil", "/tmp/evil", "..evil", "a..b", "C:\\evil", "~/evil", "a/../b"]
TARGETS += ["class", "1st", "a-b", ".", "a.", "$HOME", "evil.py\u202e", "a/con:x"]


def test_a_target_outside_the_package(exported: Sandbox) -> None:
    for i, target in enumerate(TARGETS):
        exported.write(f"1{i}_a.ipynb", code("bad", f"\n#| default_exp {target}"))
        exported.write(f"2{i}_b.ipynb", code("bad", f"#| export {target}\nx = 1"))
    around = sorted(exported.root.parent.iterdir())
    said = refuse(exported)
    for i, target in enumerate(TARGETS):
        message = f"`{target}` is not a module inside the package\n  at nbs/"
        assert f"{message}1{i}_a.ipynb, cell bad, line 2\n" in said
        assert f"{message}2{i}_b.ipynb, cell bad, line 1\n" in said
    assert sorted(exported.root.parent.iterdir()) == around


def test_ids_that_cannot_be_markers(exported: Sandbox) -> None:
    one, two = code("same", "#| export\na = 1"), code("same", "b = 1")
    exported.write("01_bad.ipynb", one, two)
    said = refuse(exported)
    assert "two cells have the id `same`\n  at nbs/01_bad.ipynb, cell same" in said
    exported.write("01_bad.ipynb", {**one, "id": "a\nb"})
    assert "'a\\nb' cannot be the id of a cell" in refuse(exported)


def test_two_notebooks_that_claim_one_module(exported: Sandbox) -> None:
    claim = code("d", "#| default_exp core")
    exported.write("01_bad.ipynb", claim, code("y", "#| export\ny = 1"))
    said = refuse(exported)
    assert "`core.py` is claimed by nbs/00_core.ipynb and nbs/01_bad.ipynb" in said
    exported.write("01_bad.ipynb", code("x", "#| export core\ny = 1"))
    said = refuse(exported)
    assert "nbs/00_core.ipynb has a cell `x`" in said
    assert "\n  at nbs/01_bad.ipynb, cell x" in said


def test_every_problem_is_told_at_once(exported: Sandbox) -> None:
    exported.write("01_bad.ipynb", code("one", "#| exprot"))
    exported.write("02_bad.ipynb", code("two", "#| export\n1 +"))
    said = refuse(exported)
    assert said.count("error: ") == 2 and "cell one" in said and "cell two" in said


def test_a_notebook_that_is_away_for_a_while(project: Sandbox) -> None:
    """As while an editor or git writes it anew, and an export comes in between."""
    for text in ("x = 1", "x = 2"):
        path = project.write("01_away.ipynb", code("x", f"#| export\n{text}"))
        project.export()
        path.unlink()
        for _ in range(2):
            done = project.litml("export")
            assert (
                done.returncode == 1 and "exports this module any more" in done.stderr
            )
    project.write("01_away.ipynb", code("x", "#| export\nx = 3"))
    assert "mylib/away.py" in project.export()


# Odd, and accepted -------------------------------------------------------------------


def test_what_is_odd_and_yet_a_notebook(project: Sandbox) -> None:
    """A byte order mark, cells without ids, nbformat 3, ids twice among examples."""
    project.write_bytes("00_mark.ipynb", b"\xef\xbb\xbf" + GOOD)
    old = [code(None, "#| export\nx = 1"), code(None, "1"), code(None, "1")]
    project.write("01_no_ids.ipynb", *old, nbformat_minor=4)
    twice = [code("id", "1"), code("y", "#| export\ny = 1"), code("id", "2")]
    project.write("02_twice.ipynb", *twice)
    cell = {"cell_type": "code", "input": ["#| export\n", "z = 1"], "outputs": []}
    old_form = b'{"nbformat": 3, "metadata": {}, "worksheets": [{"cells": [%s]}]}'
    raw = old_form % str({**cell, "language": "python"}).replace("'", '"').encode()
    project.write_bytes("03_three.ipynb", raw)
    project.export()
    modules = project.modules()
    assert {"mark.py", "no_ids.py", "twice.py", "three.py"} == {
        Path(name).name for name in modules if not name.endswith("__init__.py")
    }
    shutil.rmtree(project.root / "mylib")
    project.write_bytes("00_mark.ipynb", GOOD)
    project.export()
    assert project.modules() == modules


def test_half_a_character_in_prose_is_no_traceback(project: Sandbox) -> None:
    """It can be in the file, as an escape, and has no UTF-8."""
    cells = [prose("t", "# T\n\n> One @.\n\n## Two @"), code("x", "#| export\nx = 1")]
    raw = notebook_bytes(*cells).replace(b"@", b"\\ud83d")
    project.write_bytes("00_core.ipynb", raw)
    assert "Traceback" not in project.litml("export").stderr


# A system that does not do what it is asked ------------------------------------------


def drop_powers() -> None:
    """Make the process that will be executed respect permissions, as users must."""
    if os.geteuid() == 0:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            if prctl(24, capability, 0, 0, 0):  # PR_CAPBSET_DROP
                raise OSError(ctypes.get_errno(), "prctl")


@pytest.fixture
def read_only() -> Iterator[Callable[[Path], None]]:
    """Return a function that makes a tree read-only until the test is over."""
    changed = []

    def protect(root: Path) -> None:
        for path in [root, *root.rglob("*")]:
            if not path.is_symlink():
                changed.append(path)
                path.chmod(path.stat().st_mode & ~0o222)
        try:
            words = [sys.executable, "-c", f"open({str(root / 'try')!r}, 'w')"]
            done = subprocess.run(words, preexec_fn=drop_powers, capture_output=True)
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(f"root cannot give up its powers here: {error}")
        if b"PermissionError" not in done.stderr:
            pytest.skip("permissions are not respected here")

    yield protect
    for path in changed:
        path.chmod(path.stat().st_mode | 0o700)


@posix_only
@pytest.mark.parametrize("folder", [".", "mylib", ".litml"])
def test_a_read_only_folder(
    exported: Sandbox, read_only: Callable[[Path], None], folder: str
) -> None:
    read_only(exported.root / folder)
    said = refuse(exported, exit_code=2, preexec_fn=drop_powers)
    assert "cannot write: Permission denied" in said


@posix_only
def test_a_read_only_checkout(
    exported: Sandbox, read_only: Callable[[Path], None]
) -> None:
    """Nothing needs to be written, so nothing is."""
    exported.export()
    (exported.root / ".litml/stamps").unlink(missing_ok=True)
    time.sleep(0.1)  # the record would be dated anew, and stamps left, if possible
    read_only(exported.root)
    before = exported.files()
    for words in (["export"], ["export", "--check"]):
        done = exported.litml(*words, preexec_fn=drop_powers)
        assert (done.returncode, done.stderr) == (0, ""), done
    assert exported.files() == before


@posix_only
def test_a_check_of_a_read_only_checkout_without_a_record(
    exported: Sandbox, read_only: Callable[[Path], None]
) -> None:
    exported.export()
    shutil.rmtree(exported.root / ".litml")
    read_only(exported.root)
    done = exported.litml("export", "--check", preexec_fn=drop_powers)
    assert (done.returncode, done.stderr) == (0, ""), done


@posix_only
def test_a_notebook_that_may_not_be_read(
    exported: Sandbox, read_only: Callable[[Path], None]
) -> None:
    read_only(exported.root / "mylib")
    (exported.root / "nbs/00_core.ipynb").chmod(0)
    said = refuse(exported, preexec_fn=drop_powers)
    assert "Permission denied\n  at nbs/00_core.ipynb" in said


def test_something_else_where_a_module_should_be(exported: Sandbox) -> None:
    (exported.root / "mylib/core.py").unlink()
    (exported.root / "mylib/core.py").mkdir()
    assert "mylib/core.py" in refuse(exported, exit_code=2)
    shutil.rmtree(exported.root / "mylib")
    (exported.root / "mylib").write_text("a file")
    assert "mylib" in refuse(exported, exit_code=2)


# A disk that is full, a process that is killed ---------------------------------------

NAMES = [f"m{i}" for i in range(3)]


@dataclass(frozen=True)
class Change:
    """A project with an export to be done: the tree, the old and the new modules."""

    project: Sandbox
    tree: Path
    old: dict[str, bytes]
    new: dict[str, bytes]

    def reset(self) -> Sandbox:
        """Bring the project back to the moment before the export."""
        self.project.replace_by(self.tree)
        return self.project


def write_version(project: Sandbox, version: int) -> None:
    """Write all notebooks so that each module changes with the version."""
    for i, name in enumerate(NAMES):
        here = code(f"{name}-a", f"#| export\n{name} = {version}")
        text = "x" * 500 * i
        both = code(f"{name}-b", f"#| export both\n{name}_b = {version}, '{text}'")
        project.write(f"0{i}_{name}.ipynb", here, both)


@pytest.fixture(scope="module")
def change(
    new_project: Callable[[], Sandbox], tmp_path_factory: pytest.TempPathFactory
) -> Change:
    project = new_project()
    write_version(project, 1)
    project.export()
    old = project.modules()
    write_version(project, 2)
    project.write("05_new/00_more.ipynb", code("more", "#| export\nmore = 2"))
    tree = tmp_path_factory.mktemp("tree") / "mylib"
    shutil.copytree(project.root, tree)
    project.export()
    return Change(project, tree, old, project.modules())


class Saboteur:
    """Does something at the N-th change of a file below `root`, or counts the changes.

    It is an audit hook: Python tells those of every change before it happens.
    """

    changes = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.utime")

    def __init__(self, root: Path, how: str, moment: int) -> None:
        self.root, self.how, self.left = str(root), how, moment

    def __call__(self, event: str, words: tuple[object, ...]) -> None:
        flags = words[2] if event == "open" else 0
        writes = isinstance(flags, int) and flags & os.O_ACCMODE
        if (writes or event in self.changes) and str(words[0]).startswith(self.root):
            self.left -= 1
            if self.left == -1:
                self.act()

    def act(self) -> None:
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "fail":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        elif self.how == "save":
            notebook = Path(self.root, "nbs/00_m0.ipynb")
            notebook.write_text(notebook.read_text().replace("m0 = 2", "m0 = 7"))
            time.sleep(0.06)  # long enough for a time stamp to be trusted


class Editor:
    """Edits the module `m0` at the N-th moment at which an export touches it.

    It may empty the file at that moment, and write it when the export has ended.
    """

    touches = ("open", "os.link", "os.rename", "os.remove", "os.chmod", "os.utime")

    def __init__(self, root: Path, how: str, moment: int) -> None:
        self.module, self.how, self.left = root / "mylib/m0.py", how, moment
        self.text = self.module.read_text().replace("m0 = 1", "m0 = 9")
        self.file = None

    def __call__(self, event: str, words: tuple[object, ...]) -> None:
        names = ("m0.py", "pending.json")
        if event in self.touches and any(one in str(words[0]) for one in names):
            self.left -= 1
            last = event == "os.rename" and words[1] == str(self.module)
            # A second renaming within ours would be seen by nobody.
            if self.left == -1 and not (last and self.how == "rename"):
                self.act()

    def act(self) -> None:
        if self.how == "empty":
            self.file = self.module.open("w")
        elif self.how == "write":
            self.module.write_text(self.text)
        elif self.how == "rename":
            copy = self.module.with_name("copy")
            copy.write_text(self.text)
            copy.replace(self.module)

    def finish(self) -> None:
        if self.file:
            self.file.write(self.text)
            self.file.close()


def export_in_child(
    root: Path, saboteur: Saboteur | Editor | None = None
) -> tuple[int, str]:
    """Run `litml export` in a copy of this process; return exit code and words."""
    words = root.with_name("words")
    child = os.fork()
    if not child:
        exit_code = 70
        with words.open("w") as output:
            sys.stdout = sys.stderr = output
            sys.argv[:] = ["litml", "export"]
            os.chdir(root)
            sys.addaudithook(saboteur or (lambda event, words: None))
            try:
                exit_code = main()
            except BaseException:
                traceback.print_exc()
            if isinstance(saboteur, Editor):
                saboteur.finish()
            print(saboteur and saboteur.left)
        os._exit(exit_code)
    exit_code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = words.read_text()
    assert "Traceback" not in said, said
    return exit_code, said


def sabotage(change: Change, how: str, moment: int) -> tuple[int, str]:
    """Export from the start with one fault; return the exit code and what was said."""
    root = change.reset().root
    return export_in_child(root, Saboteur(root, how, moment))


@pytest.fixture(scope="module")
def moments(change: Change) -> range:
    """Return the moments at which an export changes a file."""
    count = -int(sabotage(change, "count", 0)[1].split()[-1])
    assert count > 30
    return range(count)


def export_again(project: Sandbox) -> None:
    report = export_project(find_project(project.root))
    assert not report.problems, report.problems
    assert not project.leftovers()
    assert export_project(find_project(project.root), check=True).written == ()


def is_whole(project: Sandbox, package: dict[str, bytes]) -> bool:
    """Are the modules those of `package`, temporary and empty files aside?"""
    found = project.modules().items()
    modules = {name: data for name, data in found if data and "litml-new" not in name}
    return modules == {name: data for name, data in package.items() if data}


@posix_only
def test_a_kill_at_any_moment(change: Change, moments: range) -> None:
    """The next export makes the whole new package, and nothing stays behind.

    Also if the notebooks were changed again, or back, in between.
    """
    project = change.project
    stopped = project.root.with_name("stopped")
    for moment in moments:
        assert sabotage(change, "kill", moment)[0] == -signal.SIGKILL
        if not (project.root / ".litml/pending.json").exists():
            assert is_whole(project, change.old) or is_whole(project, change.new)
        shutil.rmtree(stopped, ignore_errors=True)
        shutil.copytree(project.root, stopped)

        export_again(project)
        assert project.modules() == change.new
        version = (3, 1)[moment % 2]
        project.replace_by(stopped)
        write_version(project, version)
        export_again(project)
        assert f"m0 = {version}" in project.modules()["mylib/m0.py"].decode()


@posix_only
def test_what_was_saved_after_a_kill_is_not_replaced(
    change: Change, moments: range
) -> None:
    """The next export says that it would be, and which file has the other text."""
    project = change.project
    pending = project.root / ".litml/pending.json"
    for moment in reversed(moments):
        assert sabotage(change, "kill", moment)[0] == -signal.SIGKILL
        module = project.root / "mylib/m2.py"
        new = module.with_name(".m2.py.litml-new")
        if pending.exists() and new.exists():
            break
    module.write_text("saved = 'meanwhile'\n")
    later = pending.stat().st_mtime_ns + 1
    os.utime(module, ns=(later, later))
    assert "changed since a command was killed" in refuse(project, exit_code=2)
    assert module.read_text() == "saved = 'meanwhile'\n" and new.exists()
    new.rename(module)
    export_again(project)
    assert project.modules() == change.new


@posix_only
@pytest.mark.parametrize("name", [b"caf\xe9", b"two\nlines"], ids=["latin-1", "lines"])
def test_a_folder_with_an_odd_name(
    exported: Sandbox, tmp_path: Path, name: bytes
) -> None:
    """A file system may know names that are not UTF-8, or have line breaks."""
    root = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
    try:
        shutil.move(exported.root, root)
    except OSError:
        pytest.skip("this file system knows no such name")
    project, linked = Sandbox(root), Sandbox(tmp_path / "linked")
    shutil.rmtree(linked.root)
    project.export()
    project.commit()
    project.git("worktree", "add", "--quiet", "--detach", linked.root)
    for one in (project, linked):
        core = one.root / "mylib/core.py"
        core.write_text(core.read_text().replace("x = 2", "x = 3"))
        assert one.litml("sync").stdout == "updated: nbs/00_core.ipynb, cell x\n"
        assert one.litml("install-hooks").returncode == 0
        one.commit()
        assert one.litml("install-hooks", "--check").returncode == 0
        assert one.git("status", "--short") == one.litml("diff").stdout == ""


@posix_only
def test_a_failure_at_any_moment(change: Change, moments: range) -> None:
    """One write, rename or other change fails; the next export works again."""
    codes = []
    for moment in moments:
        exit_code, said = sabotage(change, "fail", moment)
        codes.append(exit_code)
        if exit_code == 0:  # what failed was not needed
            assert change.project.modules() == change.new
        else:
            assert said.startswith("error: cannot ") and exit_code == 2, said
            kept = change.project.modules() == change.old
            assert kept or "finishes the rest" in said, (moment, said)
        export_again(change.project)
        assert change.project.modules() == change.new
    assert codes.count(2) > len(codes) / 2


@posix_only
def test_a_notebook_saved_at_any_moment_of_an_export(
    change: Change, moments: range
) -> None:
    """The next export knows that the last one may have read the notebook before."""
    for moment in moments[::3]:
        assert sabotage(change, "save", moment)[0] in (0, 1)
        assert export_in_child(change.project.root)[0] == 0
        assert b"m0 = 7" in change.project.modules()["mylib/m0.py"], moment


@posix_only
@pytest.mark.parametrize("how", ["write", "empty", "rename"])
def test_a_module_edited_at_any_moment_of_an_export(change: Change, how: str) -> None:
    """The edit is there in the end, and the next export knows it for one."""
    root = change.reset().root
    touches = -int(export_in_child(root, Editor(root, "count", 0))[1].split()[-1])
    assert touches > 10
    codes, left_out = set(), 0
    for moment in range(touches):
        root = change.reset().root
        codes.add(export_in_child(root, Editor(root, how, moment))[0])
        edited = (root / "mylib/m0.py").read_text()
        if "m0 = 9" not in edited:
            left_out += 1
            continue
        exit_code, said = export_in_child(root)
        assert exit_code == 1 and "m0.py" in said and "edited since" in said, moment
        assert (root / "mylib/m0.py").read_text() == edited
        assert not change.project.leftovers()
    assert left_out == (how == "rename")
    assert codes == {0, 1}, "before and after the export has made up its mind"


@posix_only
@pytest.mark.parametrize("is_killed", [False, True], ids=["full", "killed"])
def test_a_file_that_cannot_grow(change: Change, is_killed: bool) -> None:
    """A file stops growing at some size, as on a full disk, or a write is cut short."""
    import resource

    def limit(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    script = "from litml.__main__ import main; import sys; sys.exit(main())"
    if is_killed:
        default = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL);"
        script = default + script
    environment = {**ENVIRONMENT, "PYTHONDONTWRITEBYTECODE": "1"}
    codes = []
    for size in [0, 100, 500, 1000, 1500, 10**6]:
        project = change.reset()
        command = [sys.executable, "-c", script, "export"]
        done = project.run(*command, env=environment, preexec_fn=partial(limit, size))
        codes.append(done.returncode)
        assert "Traceback" not in done.stderr, done.stderr
        if done.returncode == 2:
            assert "cannot write: File too large" in done.stderr
            assert project.modules() == change.old and not project.leftovers()
        export_again(project)
        assert project.modules() == change.new
    assert codes[0] == codes[1] == (-signal.SIGXFSZ if is_killed else 2)
    assert codes[-1] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs a tmpfs")
def test_a_full_disk(change: Change, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("may not mount a file system here")
    try:
        project = Sandbox(disk / "mylib")
        project.replace_by(change.tree)
        # The record knows the old place: a first export makes it this one's.
        codes = [export_with_free_space(project, disk, n) for n in range(6)]
        assert codes[0] == 2
        export_again(project)
        assert project.modules() == change.new
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def export_with_free_space(project: Sandbox, disk: Path, pages: int) -> int:
    """Export with a few pages of 4096 bytes left; return the exit code."""
    before = project.modules()
    filler = disk / "filler"
    filler.write_bytes(b"")
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    filler.write_bytes(bytes(free - pages * 4096))
    done = project.litml("export")
    filler.unlink()
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode:
        assert "cannot write: No space left on device" in done.stderr
        assert project.modules() == before and not project.leftovers()
    return done.returncode


# Many at once ------------------------------------------------------------------------


def test_many_exports_at_once(new_project: Callable[[], Sandbox]) -> None:
    """Eight exports at a time of notebooks that change meanwhile: as good as one."""
    project, alone = new_project(), new_project()
    command = [sys.executable, "-m", "litml", "export"]
    for round in range(6):
        running = [
            subprocess.Popen(
                command, cwd=project.root, env=ENVIRONMENT, stderr=subprocess.PIPE
            )
            for _ in range(8)
        ]
        if round % 2:  # else nothing has changed, and all of them can see it
            write_version(project, round)
        for process in running:
            said = process.communicate(timeout=60)[1].decode()
            # A notebook may have been read while it was being written.
            assert process.returncode == 0 or "at nbs/" in said, said
            assert "Traceback" not in said and "edited" not in said, said
        if round % 2:
            project.export()
            time.sleep(0.06)
    write_version(alone, round)
    alone.export()
    assert project.modules() == alone.modules()
    assert not project.leftovers()
