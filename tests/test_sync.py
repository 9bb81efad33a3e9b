"""Edits of modules come home: case by case, by law, at random, and under every fault.

After each sync that succeeds it is checked that the notebook's other cells have not
changed by a byte, that the module says what was edited, and that nothing is left to do.
After each that fails, no file has changed.
"""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import Sandbox, code, prose
from hypothesis import given
from hypothesis import strategies as st
from test_export import Exported, drawn_cells
from test_export_faults import Saboteur, posix_only

import litml.files
import litml.sync
from litml.cli import main
from litml.package import export_project
from litml.project import find_project
from litml.sync import SyncReport, sync_project

sys.path.insert(0, str(Path(__file__).parent / "bench/sync"))
from fuzz_sync import OWN, Table, cells_of, fuzz, make_trial, meaning

# What there is before the edit -------------------------------------------------------

UTILS = code("u", "#| export\ndef first(): ...\n\n\ndef second(): ...")
IMPORTS = "import json\nfrom mylib.utils import (\n    first,\n    second,\n)"
LOAD = "def load(path):\n    text = open(path)\n\n    return json.load(text)"
SAVE = 'def save(path, data):\n    """Write it."""\n    json.dump(data, open(path))'
PRIV = "def _priv():\n    return first() or second()"
OUTPUT = {"output_type": "stream", "name": "stdout", "text": ["1"]}
CORE = [
    prose("c0", "# Core\n\n> The heart of it."),
    code("c2", f"#| export\n{IMPORTS}"),
    code("c3", f"#| export\n{LOAD}"),
    code("c4", 'load("1")', outputs=[OUTPUT]),
    prose("p1", "## Writing\n\n`load` has a counterpart."),
    code("c5", f"#| export\n{SAVE}"),
    code("c6", f"#| exporti\n{PRIV}"),
]


def odd_bytes(cells: Iterable[dict[str, Any]] = CORE) -> bytes:
    """Return a notebook in an odd form: indent 2, no last newline, a key `my_`."""
    metadata = {"my_": {"b": 1, "a": 2}, "kernelspec": {"name": "python3"}}
    tree = {"metadata": metadata, "nbformat": 4, "nbformat_minor": 5, "cells": [*cells]}
    return json.dumps(tree, indent=2).encode()


@dataclass(frozen=True)
class Outcome:
    """What a command said, and the cells that the notebook has after it."""

    code: int
    out: str
    err: str
    cells: dict[str, str]
    order: list[str]

    def source(self, cell: str) -> str:
        return "".join(json.loads(self.cells[cell])["source"])


class Core:
    """The project of the cases: a module with six cells, and one that it imports."""

    def __init__(self, project: Sandbox, notebook: bytes) -> None:
        self.project = project
        self.notebook = project.write_bytes("00_core.ipynb", notebook)
        self.module = project.root / "mylib/core.py"
        project.write("01_utils.ipynb", UTILS)
        assert self.run("export").code == 0

    def run(self, *words: str) -> SimpleNamespace:
        """Run the command line, in this process."""
        out, err, here = io.StringIO(), io.StringIO(), Path.cwd()
        os.chdir(self.project.root)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                exit_code = main(list(words))
        finally:
            os.chdir(here)
        return SimpleNamespace(code=exit_code, out=out.getvalue(), err=err.getvalue())

    @property
    def text(self) -> str:
        return self.module.read_bytes().decode()

    def edit(self, *pairs: tuple[str, str]) -> None:
        """Replace parts of the module, each of which is there once."""
        text = self.text
        for old, new in pairs:
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        self.module.write_bytes(text.encode())

    def edit_notebook(self, cell: str, *pairs: tuple[str, str]) -> None:
        """Replace parts of a cell, as its author would."""
        data = json.loads(self.notebook.read_bytes())
        for one in data["cells"]:
            source = "".join(one["source"])
            for old, new in pairs if one["id"] == cell else ():
                assert source.count(old) == 1, old
                source = source.replace(old, new)
            one["source"] = source.splitlines(True)
        self.notebook.write_bytes(odd_bytes(data["cells"]))

    def delete(self, cell: str) -> None:
        """Delete a cell of the notebook."""
        cells = json.loads(self.notebook.read_bytes())["cells"]
        self.notebook.write_bytes(odd_bytes(c for c in cells if c["id"] != cell))

    def chunk(self, cell: str) -> str:
        """Return a marker of the module with what stands below it."""
        match = re.search(rf"(?ms)^# %% {cell}\n.*?(?=^# %% |^# ## |\Z)", self.text)
        assert match
        return match[0]

    def sync(
        self,
        *words: str,
        touched: str = "",
        new: int = 0,
        gone: str = "",
        exact: bool = True,
    ) -> Outcome:
        """Sync, which must succeed, change only some cells, and leave nothing to do.

        Unless the notebook was edited too, the module has to stay `exact`ly as it is.
        """
        wanted = meaning(self.text.replace("\r\n", "\n"))
        before, frame = cells_of(self.notebook.read_bytes())
        said = self.run("sync", *words)
        assert said.code == 0, said.err
        after, frame_now = cells_of(self.notebook.read_bytes())
        changed = {name for name in before if after.get(name) != before[name]}
        assert changed == {*touched.split(), *gone.split()}
        assert before.keys() - after.keys() == set(gone.split())
        assert len(after.keys() - before.keys()) == new
        assert frame_now == frame
        assert not exact or meaning(self.text) == wanted
        self.check_idle()
        return Outcome(said.code, said.out, said.err, after, list(after))

    def check_idle(self) -> None:
        """Nothing is left to do, for sync or export, and both say so."""
        before = self.project.files("nbs") | self.project.modules()
        nothing = SimpleNamespace(code=0, out="", err="")
        for words in (["sync"], ["sync", "--check"], ["export", "--check"]):
            assert self.run(*words) == nothing, words
        assert self.project.files("nbs") | self.project.modules() == before

    def refuse(self, *words: str, command: str = "sync") -> str:
        """Run a command, which must fail and change nothing; return what it says."""
        before = self.project.files()
        for check in (["--check"], []):
            said = self.run(command, *words, *check)
            assert said.code == 1 and said.err.startswith("error: "), said
            assert self.project.files() == before
        return said.err + said.out


@pytest.fixture
def core(project: Sandbox) -> Core:
    """Return the project of the cases."""
    return Core(project, odd_bytes())


# The cases, numbered as in the notes on sync -----------------------------------------


def test_01_no_edit(core: Core) -> None:
    files = core.notebook, core.module
    before = [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files]
    core.check_idle()
    assert [(file.stat().st_ino, file.stat().st_mtime_ns) for file in files] == before


def test_02_a_line_in_a_cell(core: Core) -> None:
    raw = core.notebook.read_bytes()
    core.edit(("    text = open(path)\n", "    text = open(path, encoding='utf-8')\n"))
    said = core.sync(touched="c3")
    assert said.out.startswith("updated: nbs/00_core.ipynb, cell c3\n")
    old, new = raw.split(b"\n"), core.notebook.read_bytes().split(b"\n")
    assert [a for a, b in zip(old, new, strict=True) if a != b] == [
        b'        "    text = open(path)\\n",'
    ]


def test_03_a_new_function_without_a_marker(core: Core) -> None:
    new = "\n\n\n# Twice.\ndef load_two(a, b):\n    return load(a), load(b)\n"
    core.edit(("    return json.load(text)\n", f"    return json.load(text)\n{new}"))
    said = core.sync(new=1)
    assert said.order == ["c0", "c2", "c3", "c4", "load-two", "p1", "c5", "c6"]
    assert said.source("load-two") == f"#| export\n{new.strip()}"
    assert '"load_two"' in core.text


def test_04_all_edited(core: Core) -> None:
    core.edit(('"load", ', ""))
    said = core.refuse()
    assert "`__all__` is derived, and was edited\n  at mylib/core.py, line 10" in said


def test_05_a_chunk_deleted(core: Core) -> None:
    core.edit((core.chunk("c3"), ""))
    said = core.sync(gone="c3")
    assert said.out.startswith("deleted: nbs/00_core.ipynb, cell c3\n")
    places = "nbs/00_core.ipynb, cell c4; nbs/00_core.ipynb, cell p1"
    assert f"`load` has gone, but is still used at {places}" in said.err


def test_06_two_chunks_swapped(core: Core) -> None:
    save, priv = core.chunk("c5"), core.chunk("c6")
    core.edit((save + priv, f"{priv}\n\n{save.rstrip()}\n"))
    said = core.sync()
    assert said.out.startswith("moved: ") and said.out.count("moved") == 1
    assert said.order.index("c6") < said.order.index("c5")
    assert [one for one in said.order if one != "c6"] == [
        "c0",
        "c2",
        "c3",
        "c4",
        "p1",
        "c5",
    ]


def test_06_a_cell_with_an_example(core: Core) -> None:
    load = core.chunk("c3")
    core.edit((load, ""))
    core.module.write_text(f"{core.text}\n\n{load.rstrip()}\n")
    said = core.sync()
    assert said.order[-1] == "c3"
    assert "cell c3: moved, its examples were not: c4" in said.err


def test_07_a_marker_deleted(core: Core) -> None:
    raw = core.notebook.read_bytes()
    core.edit(("# %% c5\n", ""))
    assert "c5: its marker was lost" in core.sync().err
    core.edit(("# ## Writing\n# %% c5\n", "\n\n"))
    core.sync()
    assert core.notebook.read_bytes() == raw


def test_08_both_sides_in_different_cells(core: Core) -> None:
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    core.edit_notebook("c5", ("open(path)", "open(path, 'w')"))
    core.sync(touched="c3", exact=False)
    assert "open(path, 'rb')" in core.text and "open(path, 'w')" in core.text


def test_09_both_sides_in_lines_that_touch(core: Core) -> None:
    core.edit(('"""Write it."""', '"""Write."""'))
    core.edit_notebook("c5", ("open(path)", "open(path, 'w')"))
    said = core.refuse()
    assert "both sides changed the same lines\n  at nbs/00_core.ipynb, cell c5" in said
    for side in ("base", "notebook", "module"):
        assert f"--- {side}\ndef save" in said


def test_10_both_sides_in_the_same_line(core: Core) -> None:
    core.edit(("json.dump(data", "json.dump(dict(data)"))
    core.edit_notebook("c5", ("json.dump(data", "json.dump(list(data)"))
    assert "cell c5\n  hint: decide with `--take c5=notebook`" in core.refuse()


@pytest.mark.parametrize("side", ["module", "notebook", "c5=module", "c5=notebook"])
def test_10_and_a_decision(core: Core, side: str) -> None:
    core.edit(
        ("dump(data", "dump(dict(data)"), ("open(path)\n\n", "open(path, 'r')\n\n")
    )
    core.edit_notebook("c5", ("dump(data", "dump(list(data)"))
    touched = "c3 c5" if "module" in side else "c3"
    core.sync("--take", side, touched=touched, exact=False)
    assert ("dict(data)" in core.text) == ("module" in side)
    assert ("list(data)" in core.text) == ("notebook" in side)
    assert "open(path, 'r')" in core.text


def test_10_and_a_decision_about_nothing(core: Core) -> None:
    core.edit(("json.dump(data", "json.dump(dict(data)"))
    assert (
        "no conflict in a cell `c3`"
        in core.sync("--take", "c3=module", touched="c5").err
    )


def test_11_a_marker_mistyped(core: Core) -> None:
    core.edit(("# %% c5\n", "# %% c55\n"))
    said = core.sync()
    assert "c5: its marker had become `c55`" in said.err
    core.edit(("# %% c5\n", "# %% c5 5\n"))
    core.sync()


def test_12_a_name_in_a_long_import(core: Core) -> None:
    core.edit(("    second,\n", "    second,\n    third,\n"))
    assert core.sync(touched="c2").source("c2").endswith("second,\n    third,\n)")


def test_13_a_marker_in_a_string(core: Core) -> None:
    text = "    return '''\n# %% not-a-marker\n#| export\n# %% c9\n'''\n"
    core.edit(("    json.dump(data, open(path))\n", f"    json.dump(data, 1)\n{text}"))
    core.sync(touched="c5")


@pytest.mark.parametrize("blank", ["\n\n\n\n\n", "\n\n", "\n"])
def test_14_blank_lines(core: Core, blank: str) -> None:
    raw, text = core.notebook.read_bytes(), core.text
    core.module.write_text(re.sub(r"\n{2,}(?=#|@|def|__all__|import)", blank, text))
    core.sync()
    assert core.notebook.read_bytes() == raw and core.text == text


@pytest.mark.parametrize(("line_length", "touched"), [(88, ""), (30, "c5")])
def test_14_a_formatter(core: Core, line_length: int, touched: str) -> None:
    words = ["format", "--isolated", f"--line-length={line_length}", core.module]
    core.module.write_text(core.text.replace("\n\n\n", "\n\n\n\n"))
    core.project.run(sys.executable, "-m", "ruff", *words)
    core.sync(touched=touched)


def test_15_a_rename(core: Core) -> None:
    core.edit(("def load(", "def read("), ('"load"', '"read"'))
    core.run("sync", "--check")
    said = core.sync(touched="c3")
    places = "nbs/00_core.ipynb, cell c4; nbs/00_core.ipynb, cell p1"
    assert f"`load` is now `read`, but is still used at {places}" in said.err


def test_15_a_rename_everywhere(core: Core) -> None:
    far = core.project.write(
        "02_more.ipynb",
        code("m", "#| export\nfrom mylib.core import load, save"),
        code(
            "n",
            "#| export\ndef all_of(paths):\n    return [load(one) for one in paths]",
        ),
        code("o", "json.load(load('1')), 'load', reload(1)"),
    )
    assert core.run("export").code == 0
    core.edit(("def load(", "def read("), ('"load"', '"read"'))
    said = core.sync("--rename", touched="c3 c4 p1")
    assert said.source("c4") == 'read("1")' and "still used" not in said.err
    assert said.source("p1") == "## Writing\n\n`read` has a counterpart."
    cells = [
        json.loads(cell)["source"] for cell in cells_of(far.read_bytes())[0].values()
    ]
    assert "".join(cells[0]).endswith("import read, save")
    assert "".join(cells[2]) == "json.load(read('1')), 'load', reload(1)"
    assert "[read(one) for" in (core.project.root / "mylib/more.py").read_text()


def test_15_a_rename_through_the_package(core: Core) -> None:
    """What the package hands on is used by the name of the package."""
    core.project.write(
        "index.ipynb", code("i", "#| export\nfrom mylib.core import load")
    )
    core.project.write(
        "03_use.ipynb",
        code("u", "from mylib import load\n\nload('1')"),
        code("v", "import mylib\n\nmylib.load('1')"),
        code("w", "from other import load as mine\n\nmine('1')"),
    )
    assert core.run("export").code == 0
    core.edit(("def load(", "def read("), ('"load"', '"read"'))
    assert core.run("sync", "--rename").code == 0
    used = (core.project.root / "nbs/03_use.ipynb").read_text()
    assert "from mylib import read" in used and "mylib.read('1')" in used
    assert "from other import load as mine" in used
    assert "import read" in (core.project.root / "nbs/index.ipynb").read_text()


def test_16_an_import_from_an_editor(core: Core) -> None:
    core.edit(("import json\n", "import json\nfrom .utils import first as one\n"))
    said = core.sync(touched="c2")
    assert "\nimport json\nfrom .utils import first as one\nfrom" in said.source("c2")


def test_17_a_syntax_error(core: Core) -> None:
    core.edit(("def save(path, data):", "def save(path, data:"))
    said = core.refuse()
    assert "does not parse" in said and "at nbs/00_core.ipynb, cell c5, line 2" in said
    line = core.text.split("\n").index("def save(path, data:") + 1
    assert f"hint: it stands in line {line} of mylib/core.py" in said


@pytest.mark.parametrize("inside", ["", '"""'])
def test_18_conflict_markers(core: Core, inside: str) -> None:
    merge = "<<<<<<< HEAD\n    text = 1\n=======\n    text = 2\n>>>>>>> theirs\n"
    core.edit(("    text = open(path)\n", f"{inside}\n{merge}{inside}\n"))
    if inside:
        core.edit(
            ("def load(path):\n", "def load(path):\n    text = 1\n\n"),
            ('"""\n<', '"""\n<'),
        )
    assert "conflict markers of a git merge" in core.refuse()


def test_18_a_line_of_equals_signs(core: Core) -> None:
    core.edit(('"""Write it."""', '"""Write it.\n\nReturns\n=======\nNothing\n"""'))
    core.sync(touched="c5")


def test_19_deleted_in_the_module_edited_in_the_notebook(core: Core) -> None:
    core.edit((core.chunk("c6"), ""))
    core.edit_notebook("c6", ("first() or", "first() and"))
    assert "deleted on one side, changed in the notebook" in core.refuse()
    core.sync("--take", "c6=notebook", exact=False)
    assert "first() and" in core.text


def test_20_deleted_in_the_notebook_edited_in_the_module(core: Core) -> None:
    core.edit(("first() or", "first() and"))
    core.delete("c6")
    assert "deleted in the notebook, changed on the other side" in core.refuse()
    assert "c6" in core.sync("--take", "c6=module", new=1).cells


def test_20_deleted_on_both_sides(core: Core) -> None:
    core.edit((core.chunk("c6"), ""), ("open(path)\n\n", "open(path, 'r')\n\n"))
    core.delete("c6")
    core.sync(touched="c3")


@pytest.mark.parametrize("marker", ["", "# %% c5\n"], ids=["with it", "left behind"])
def test_21_a_function_moved_without_its_marker(core: Core, marker: str) -> None:
    save = core.chunk("c5")
    core.edit((save, marker))
    core.module.write_text(core.text.rstrip() + "\n\n\n" + save.partition("\n")[2])
    said = core.sync()
    assert said.order.index("c6") < said.order.index("c5")
    assert "c5: its marker was lost" in said.err


def test_21_a_function_moved_into_another_cell(core: Core) -> None:
    """Its cell could only be kept if the order of the code changed."""
    core.edit_notebook("c6", ("second()", "second()\n\n\nprint(_priv)"))
    assert core.run("export").code == 0
    save = core.chunk("c5")
    core.edit((save, ""), ("\n\n\nprint(_priv)", f"\n\n\n{SAVE}\n\n\nprint(_priv)"))
    assert SAVE in core.sync(touched="c6", gone="c5").source("c6")


def test_22_a_decorator_and_a_comment(core: Core) -> None:
    new = "# Kept.\n# For long.\n@cache\ndef _kept():\n    return 1\n"
    core.module.write_text(f"{core.text}\n\n{new}")
    said = core.sync(new=1)
    assert said.source("kept") == f"#| exporti\n{new.strip()}"
    assert said.order[-1] == "kept"


def test_22_all_there_is_commented_out(project: Sandbox) -> None:
    """A cell of comments is not exported, and here no other cell can take them."""
    only = code("only", "#| export\ndef only(): ...")
    core = Core(project, odd_bytes([only]))
    more = code("more", "#| export\ndef more(): ...")
    core.notebook.write_bytes(odd_bytes([only, more]))
    core.edit(("def only(): ...", "# def only(): ..."))
    assert "no place in the notebook: `# def only(): ...`" in core.refuse()


def test_23_a_function_before_the_first_of_a_cell(core: Core) -> None:
    core.edit(("# %% c3\n", "# %% c3\ndef before(): ...\n\n\n"))
    assert core.sync(touched="c3").source("c3").startswith("#| export\ndef before")


def test_24_a_notebook_renamed(core: Core) -> None:
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    core.notebook = core.notebook.rename(core.notebook.with_name("05_core.ipynb"))
    core.sync(touched="c3")
    assert core.text.startswith("# Exported from nbs/05_core.ipynb.")


def test_25_a_module_written_by_hand(core: Core) -> None:
    own = core.project.root / "mylib/own.py"
    own.write_text("# %% A title\nx = 1\n# %% c3\ny = 2\n")
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    core.sync(touched="c3")
    assert own.read_text().endswith("y = 2\n")


def test_26_a_marker_copied(core: Core) -> None:
    copy = core.chunk("c3").replace("load(path)", "load_copy(path)")
    core.module.write_text(f"{core.text}\n\n{copy.rstrip()}\n")
    said = core.sync(new=1)
    assert "c3: its marker was copied" in said.err
    assert said.source("load-copy").startswith("#| export\ndef load_copy(path)")


def test_27_a_marker_lost_and_the_body_edited(core: Core) -> None:
    core.edit(("# %% c6\n", ""), ("first() or", "first() and"))
    core.sync(touched="c6")


def test_28_a_chunk_that_begins_with_a_directive(core: Core) -> None:
    core.edit(("# %% c5\n", "# %% c5\n#| hide\n"))
    assert "begins with a directive\n  at mylib/core.py, cell c5" in core.refuse()


def test_29_the_docstring(core: Core) -> None:
    core.edit(("The heart of it.", "The very heart of it."))
    said = core.sync(touched="c0")
    assert said.source("c0") == "# Core\n\n> The very heart of it."


def test_29_a_docstring_where_there_was_none(project: Sandbox) -> None:
    core = Core(project, odd_bytes([prose("c0", "# Core\n\nProse."), *CORE[1:]]))
    core.edit(("`litml sync`.\n", '`litml sync`.\n"""The heart of it."""\n'))
    said = core.sync(touched="c0")
    assert said.source("c0") == "# Core\n\n> The heart of it.\n\nProse."


def test_29_a_docstring_edited_on_both_sides(core: Core) -> None:
    core.edit(("The heart of it.", "The heart of all."))
    core.edit_notebook("c0", ("The heart of it.", "The core of it."))
    assert "the same lines\n  at nbs/00_core.ipynb, cell c0" in core.refuse()
    said = core.sync("--take", "c0=module", touched="c0", exact=False)
    assert said.source("c0").endswith("> The heart of all.")


def test_29_a_docstring_laid_out_anew(core: Core) -> None:
    core.edit(('"""The heart of it."""', '"""\nThe heart\nof it.\n"""'))
    assert "layout of the docstring" in core.sync(exact=False).err


def test_29_a_docstring_without_a_home(core: Core) -> None:
    core.edit(("The heart of it.", "The heart of it.\n\nAnd more of it.\n"))
    assert "no single home" in core.refuse()
    core.edit(('"""The heart of it.\n\nAnd more of it.\n"""\n', ""))
    assert "delete the sentence in the title cell" in core.refuse()


def test_29_a_docstring_in_exported_prose(project: Sandbox) -> None:
    more = prose("more", "#| export\nSome more.\n\nAnd a list.")
    core = Core(project, odd_bytes([*CORE[:1], more, *CORE[1:]]))
    core.edit(("And a list.", "And a long list."))
    assert core.sync(touched="more").source("more").endswith("And a long list.")


def test_30_an_import_above(core: Core) -> None:
    core.edit(("import json\n", "import io\nimport json\n"))
    assert "\nimport io\nimport json\n" in core.sync(touched="c2").source("c2")


def test_30_an_import_where_there_was_none(project: Sandbox) -> None:
    core = Core(project, odd_bytes([CORE[0], *CORE[2:]]))
    core.edit(("\n__all__", "\nimport json\n\n__all__"))
    said = core.sync(new=1)
    assert (
        said.source("imports") == "#| export\nimport json"
        and said.order[1] == "imports"
    )


def test_31_both_edited_and_then_exported(core: Core) -> None:
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    core.edit_notebook("c5", ("open(path)", "open(path, 'w')"))
    said = core.refuse(command="export")
    assert "edited since the last export" in said and "`litml sync`" in said


def test_32_one_of_three_modules_conflicts(core: Core) -> None:
    for name in "ab":
        core.project.write(
            f"0{name}_{name}.ipynb", code(name, f"#| export\n{name} = 1")
        )
    assert core.run("export").code == 0
    for name in "ab":
        (path := core.project.root / f"mylib/{name}.py").write_text(
            path.read_text().replace("= 1", "= 2")
        )
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    core.edit_notebook("c3", ("open(path)", "open(path, 'rt')"))
    assert "cell c3" in core.refuse()


# 33 is below, with the other faults


def test_34_branch_switched(core: Core) -> None:
    """The copy of the last export is of the other branch."""
    core.project.commit()
    core.project.git("checkout", "-q", "-b", "other")
    core.edit_notebook("c6", ("first() or second()", "second() or first()"))
    assert core.run("export").code == 0
    core.project.commit()
    core.project.git("checkout", "-q", "main")
    core.edit(("first() or second()", "bool(first() or second())"))
    core.sync(touched="c6")
    core.project.git("checkout", "-q", "--", ".")
    core.project.git("checkout", "-q", "other")
    core.edit(("second() or first()", "bool(second() or first())"))
    core.sync(touched="c6")


def test_34_exported_but_not_committed(core: Core) -> None:
    """Another commit moves `HEAD`; the base is still the copy of the last export."""
    core.project.commit()
    core.edit_notebook("c6", ("first() or second()", "second() or first()"))
    assert core.run("export").code == 0
    (core.project.root / "LICENSE").write_text("free")
    core.project.git("add", "LICENSE")
    core.project.git("commit", "-q", "-m", "other")
    core.edit(("second() or first()", "second() or bool(first())"))
    core.sync(touched="c6")


def clone_of(core: Core, folder: Path) -> Core:
    """Return a fresh clone, in which litml has never run."""
    core.project.commit()
    core.project.git("clone", "-q", core.project.root, folder)
    other = object.__new__(Core)
    other.project = object.__new__(Sandbox)
    other.project.root = folder
    other.notebook, other.module = (
        folder / "nbs/00_core.ipynb",
        folder / "mylib/core.py",
    )
    return other


def test_35_a_fresh_clone(core: Core, tmp_path: Path) -> None:
    other = clone_of(core, tmp_path / "clone")
    other.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    other.edit_notebook("c5", ("open(path)", "open(path, 'w')"))
    other.sync(touched="c3", exact=False)
    assert "open(path, 'w')" in other.text


def test_35_a_fresh_clone_of_a_pair_that_never_agreed(
    core: Core, tmp_path: Path
) -> None:
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    other = clone_of(core, tmp_path / "clone")
    other.edit(("json.dump(data", "json.dump(dict(data)"))
    assert "nobody knows what this module was like" in other.refuse()
    other.sync("--take", "module", touched="c3 c5")


def test_35_a_fresh_clone_of_a_pair_that_agreed_once(
    core: Core, tmp_path: Path
) -> None:
    """Somebody committed an edit of one side, and did not export or sync."""
    core.project.commit()
    core.edit_notebook("c5", ("open(path)", "open(path, 'w')"))
    core.project.commit()
    other = clone_of(core, tmp_path / "clone")
    other.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    other.sync(touched="c3", exact=False)
    assert "open(path, 'w')" in other.text and "open(path, 'rb')" in other.text


def test_35_and_the_notebook_wins(core: Core, tmp_path: Path) -> None:
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    other = clone_of(core, tmp_path / "clone")
    other.edit(("json.dump(data", "json.dump(dict(data)"))
    other.sync("--take", "notebook", exact=False)
    assert "'rb'" not in other.text and "dict(" not in other.text


def test_35_a_project_below_the_root_of_the_clone(
    project: Sandbox, tmp_path: Path
) -> None:
    """The copy of the last export counts there too, though nothing is committed."""
    below = Sandbox(project.root / "libs/one")
    core = Core(below, odd_bytes())
    project.commit()
    core.edit_notebook("c6", ("first() or second()", "second() or first()"))
    assert core.run("export").code == 0
    core.edit(("second() or first()", "second() or bool(first())"))
    core.sync(touched="c6")


def test_36_a_linked_work_tree(core: Core, tmp_path: Path) -> None:
    core.project.commit()
    core.project.git("worktree", "add", "-q", tmp_path / "linked", "-b", "linked")
    there = object.__new__(Core)
    there.project = object.__new__(Sandbox)
    there.project.root = tmp_path / "linked"
    there.notebook = there.project.root / "nbs/00_core.ipynb"
    there.module = there.project.root / "mylib/core.py"
    there.edit_notebook("c6", ("first() or second()", "second() or first()"))
    assert there.run("export").code == 0
    core.edit(("first() or second()", "first() or bool(second())"))
    there.edit(("second() or first()", "second() or bool(first())"))
    core.sync(touched="c6")
    there.sync(touched="c6")


@pytest.mark.parametrize("times", [(1, 1), (9, 1), (1, 9)])
def test_37_times_of_change(core: Core, times: tuple[int, int]) -> None:
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    core.edit_notebook("c5", ("open(path)", "open(path, 'w')"))
    for path, changed in zip((core.notebook, core.module), times, strict=True):
        os.utime(path, (changed, changed))
    core.sync(touched="c3", exact=False)
    assert "'rb'" in core.text and "'w'" in core.text


def frame_as_before(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    """Export as an older litml might have: with fewer blank lines, and another line."""
    import litml.export

    render = litml.export.render_module

    def older(module: litml.export.Module) -> Any:
        text, starts = render(module)
        return text.replace("\n\n\n", "\n\n"), [(s, c) for s, c in starts]

    monkeypatch.setattr(litml.export, "render_module", older)
    assert core.run("export", "--force").code == 0
    core.notebook.write_bytes(core.notebook.read_bytes() + b"\n")
    assert core.run("export").code == 0
    assert "\n\n\n" not in core.text
    monkeypatch.undo()


def test_38_a_module_of_an_older_litml(
    core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = core.text
    core.notebook.write_bytes(core.notebook.read_bytes() + b" ")
    frame_as_before(core, monkeypatch)
    other = clone_of(core, tmp_path / "clone")
    for one in (core, other):
        one.notebook.write_bytes(one.notebook.read_bytes() + b" ")
        one.sync()
        assert one.text == new
    third = clone_of(core, tmp_path / "third")
    third.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    third.sync(touched="c3")


def test_39_conflict_markers_in_a_cell(core: Core) -> None:
    merge = '"""\n<<<<<<< HEAD\nRead.\n=======\nLoad.\n>>>>>>> b\n"""\n'
    core.edit_notebook("c3", ("def load", f"{merge}\n\ndef load"))
    core.edit(("json.dump(data", "json.dump(dict(data)"))
    assert (
        "conflict markers of a git merge\n  at nbs/00_core.ipynb, cell c3"
        in core.refuse()
    )


def test_40_a_cell_split_by_a_new_marker(core: Core) -> None:
    core.edit_notebook("c6", ("second()", "second()\n\n\ndef _other():\n    return 2"))
    assert core.run("export").code == 0
    core.edit(("\n\n\ndef _other()", "\n\n\n# %% other\ndef _other()"))
    said = core.sync(touched="c6", new=1)
    assert said.source("other") == "#| exporti\ndef _other():\n    return 2"
    assert core.text.count("_other") == 1


@pytest.mark.parametrize("which", ["notebook", "module"])
def test_41_saved_meanwhile(
    core: Core, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody saves a file after it was read and before it is written."""
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    path = core.notebook if which == "notebook" else core.module
    export_all = litml.sync.export_all

    def save_and_export(*arguments: Any) -> Any:
        path.write_bytes(path.read_bytes() + b" ")
        return export_all(*arguments)

    monkeypatch.setattr(litml.sync, "export_all", save_and_export)
    raw, text = core.notebook.read_bytes(), core.text
    said = core.run("sync")
    assert said.code == 1 and "changed while sync was at work" in said.err
    saved = b" " if which == "notebook" else b""
    assert core.notebook.read_bytes() == raw + saved
    assert core.text == text + ("" if saved else " ")
    assert not core.project.leftovers()
    monkeypatch.undo()
    core.sync(touched="c3")


@pytest.mark.parametrize("words", ["sync", "clean"])
def test_a_notebook_saved_at_the_last_moment(
    core: Core, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything has been looked at once more, and the journal is being written."""
    if words == "sync":
        core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    else:
        core.project.write("00_core.ipynb", code("a1b2c3d4", "#| export\nx = 1"))
    write_journal = litml.files.write_journal

    def save_and_write(*arguments: Any) -> None:
        write_journal(*arguments)
        core.notebook.write_bytes(core.notebook.read_bytes() + b" ")

    monkeypatch.setattr(litml.files, "write_journal", save_and_write)
    raw = core.notebook.read_bytes()
    said = core.run(words)
    assert said.code and ": changed " in said.err
    assert core.notebook.read_bytes() == raw + b" " and not core.project.leftovers()


def test_41_saved_before_the_record_is_written(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was saved then is seen by the next sync, even if it is not young by then."""
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    next_record = litml.sync.next_record

    def save_first(*arguments: Any) -> Any:
        core.edit(('"""Write it."""', '"""Write."""'))
        a_second_ago = time.time_ns() - 10**9
        os.utime(core.module, ns=(a_second_ago, a_second_ago))
        return next_record(*arguments)

    monkeypatch.setattr(litml.sync, "next_record", save_first)
    assert core.run("sync").code == 0
    monkeypatch.undo()
    core.sync(touched="c5")


def test_42_two_modules_from_one_notebook(core: Core) -> None:
    cells = json.loads(core.notebook.read_bytes())["cells"]
    cells.append(code("x1", "#| export extra\ndef extra():\n    return 1"))
    core.notebook.write_bytes(odd_bytes(cells))
    assert core.run("export").code == 0
    extra = core.project.root / "mylib/extra.py"
    new = "return 2\n\n\ndef more():\n    return 3\n"
    extra.write_text(extra.read_text().replace("return 1\n", new))
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    said = core.sync(touched="c3 x1", new=1)
    assert said.source("more") == "#| export extra\ndef more():\n    return 3"
    assert "def more" in extra.read_text() and "def more" not in core.text


# Faults ------------------------------------------------------------------------------


def sync_in_child(core: Core, saboteur: Saboteur) -> int:
    """Run `litml sync` in a copy of this process; return exit code and changes left."""
    counted = core.project.root.with_name("counted")
    child = os.fork()
    if not child:
        exit_code = 70
        sys.addaudithook(saboteur)
        with contextlib.suppress(BaseException):
            exit_code = core.run("sync").code
        counted.write_text(str(saboteur.left))
        os._exit(exit_code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def edited(core: Core, tmp_path: Path) -> Core:
    """Return the project with two modules and a notebook edited, and a copy of it."""
    utils = core.project.root / "mylib/utils.py"
    utils.write_text(
        utils.read_text().replace("def second(): ...", "def second(x): ...")
    )
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    core.edit_notebook("c5", ("open(path)", "open(path, 'w')"))
    return core


def is_carried(core: Core) -> bool:
    """Are the edits of all sides in the notebooks and in the modules?"""
    texts = [*core.project.files("nbs").values(), *core.project.modules().values()]
    found = [sum(word in text for text in texts) for word in (b"'rb'", b"'w'", b"(x)")]
    return found == [2, 2, 2]


@posix_only
def test_33_a_kill_at_any_moment(edited: Core, tmp_path: Path) -> None:
    """The next sync finishes, and so does an export if nothing is left to carry."""
    core, start, stopped = edited, tmp_path / "start", tmp_path / "stopped"
    shutil.copytree(core.project.root, start)
    assert sync_in_child(core, Saboteur(core.project.root, "count", 0)) == 0
    count = -int(core.project.root.with_name("counted").read_text())
    assert count > 20
    before = [
        (start / name).read_bytes() for name in ("nbs/00_core.ipynb", "mylib/core.py")
    ]
    for moment in range(count):
        core.project.replace_by(start)
        saboteur = Saboteur(core.project.root, "kill", moment)
        assert sync_in_child(core, saboteur) == -signal.SIGKILL
        shutil.rmtree(stopped, ignore_errors=True)
        shutil.copytree(core.project.root, stopped)
        assert core.run("sync").code == 0
        core.check_idle()
        assert is_carried(core) and not core.project.leftovers()

        core.project.replace_by(stopped)
        if core.run("export").code == 0:
            core.check_idle()
            assert is_carried(core) and not core.project.leftovers()
        else:
            now = [core.notebook.read_bytes(), core.module.read_bytes()]
            assert now == before, "an export that refuses changes nothing"


@posix_only
def test_33_a_failure_at_any_moment(edited: Core, tmp_path: Path) -> None:
    """A disk that is full, a file that may not be written: the edit stays."""
    core, start = edited, tmp_path / "start"
    shutil.copytree(core.project.root, start)
    assert sync_in_child(core, Saboteur(core.project.root, "count", 0)) == 0
    count = -int(core.project.root.with_name("counted").read_text())
    for moment in range(0, count, 2):
        core.project.replace_by(start)
        saboteur = Saboteur(core.project.root, "fail", moment)
        assert sync_in_child(core, saboteur) in (0, 1, 2), moment
        assert core.run("sync").code == 0
        assert is_carried(core) and not core.project.leftovers()


@posix_only
def test_a_module_that_may_not_be_read(core: Core) -> None:
    core.module.unlink()
    core.module.mkdir()
    said = core.run("sync")
    assert said.code and "Traceback" not in said.err and "mylib/core.py" in said.err


def test_a_module_that_is_not_text(core: Core) -> None:
    text = core.module.read_bytes()
    for wrong, message in {
        text.replace(b"Write it", b"Write \xe9"): "save the file as UTF-8",
        text.replace(b"Write it", b"Write\rit"): "a lone carriage return",
        text.replace(b"Write it", b"Write\0it"): "does not parse",
        b"": "the module is empty",
        text.replace(b"# Exported", b"# Made"): "the first line was edited",
        text.replace(b"Edit either", b"Edit either way"): "the first line was edited",
        text.replace(b"00_core", b"00_cord"): "the first line was edited",
    }.items():
        core.module.write_bytes(wrong)
        assert message in core.refuse()
        core.module.write_bytes(text)


def test_a_readme_that_was_edited(core: Core) -> None:
    pyproject = core.project.root / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + 'readme = "README.md"\n')
    core.project.write("index.ipynb", prose("i", "# mylib\n\nA tour."))
    assert core.run("export").code == 0
    readme = core.project.root / "README.md"
    readme.write_text(readme.read_text() + "More.\n")
    said = core.refuse()
    assert "made from nbs/index.ipynb, and was edited\n  at README.md" in said


def test_a_project_of_nbdev_is_left_alone(core: Core) -> None:
    pyproject = core.project.root / "pyproject.toml"
    text = pyproject.read_text().replace("[tool.litml]", "[tool.nbdev]")
    pyproject.write_text(text)
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    before = core.project.files()
    said = core.run("sync")
    assert said.code == 2 and "configured for nbdev" in said.err
    assert core.project.files() == before


# Modules and notebooks of other forms ------------------------------------------------


def test_a_module_with_other_line_ends(core: Core) -> None:
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    core.module.write_bytes(
        b"\xef\xbb\xbf" + core.module.read_bytes().replace(b"\n", b"\r\n")
    )
    raw = core.notebook.read_bytes()
    said = core.run("sync")
    assert said.code == 0, said.err
    assert core.notebook.read_bytes().count(b"\r") == 0
    assert core.notebook.read_bytes() == raw.replace(
        b'open(path)\\n"', b"open(path, 'rb')\\n\"", 1
    )
    core.check_idle()


FORMS = {
    "one line": lambda raw: json.dumps(json.loads(raw), separators=(",", ":")).encode(),
    "indent 4": lambda raw: json.dumps(json.loads(raw), indent=4).encode() + b"\n\n",
    "tabs": lambda raw: json.dumps(json.loads(raw), indent="\t").encode(),
    "a mark and CRLF": lambda raw: b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n"),
    "numbers": lambda raw: raw.replace(b'"b": 1', b'"b": 1.50e+02,\n      "c": 1E400'),
    "sources in one string": lambda raw: json.dumps(
        {
            **json.loads(raw),
            "cells": [
                {**cell, "source": "".join(cell["source"])}
                for cell in json.loads(raw)["cells"]
            ],
        },
        indent=1,
    ).encode(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_notebook_in_an_odd_form(
    project: Sandbox, form: Callable[[bytes], bytes]
) -> None:
    core = Core(project, form(odd_bytes()))
    core.edit(
        ("open(path)\n\n", "open(path, 'rb')\n\n"),
        ("json.dump(data, open(path))\n", "json.dump(data, 1)\n\n\ndef more(): ...\n"),
    )
    core.sync(touched="c3 c5", new=1)


def test_a_notebook_that_cannot_be_written_as_it_was(project: Sandbox) -> None:
    twice = odd_bytes().replace(b'"b": 1', b'"b": 1, "b": 2')
    core = Core(project, twice)
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    before = core.project.files()
    said = core.run("sync")
    assert said.code == 1 and "the key `b` stands twice" in said.err
    assert core.project.files() == before


def test_cells_without_ids(project: Sandbox) -> None:
    """Their ids are made up from their text, and change with it."""
    cells = [{k: v for k, v in cell.items() if k != "id"} for cell in CORE]
    raw = odd_bytes(cells).replace(b'"nbformat_minor": 5', b'"nbformat_minor": 4')
    core = Core(project, raw)
    save = "json.dump(data, open(path))\n"
    core.edit(
        ("open(path)\n\n", "open(path, 'rb')\n\n"),
        (save, save + "\n\ndef more(): ...\n"),
    )
    core.sync(
        touched="number 2 number 6".replace("number ", "number\0").replace("\0", " ")
        and "",
        new=0,
    ) if False else None
    said = core.run("sync")
    assert said.code == 0, said.err
    core.check_idle()
    after = [
        json.loads(cell) for cell in cells_of(core.notebook.read_bytes())[0].values()
    ]
    assert not any("id" in cell for cell in after)
    assert [cell for cell in after if cell in cells] == [*cells[:2], *cells[3:]]
    assert len(after) == len(cells) + 1


def test_ids_that_were_changed_in_the_notebook(core: Core) -> None:
    """As `clean` does, which gives cells readable ids."""
    cells = json.loads(core.notebook.read_bytes())["cells"]
    for cell in cells:
        cell["id"] = {"c3": "load", "c5": "save"}.get(cell["id"], cell["id"])
    core.notebook.write_bytes(odd_bytes(cells))
    core.edit(
        ("open(path)\n\n", "open(path, 'rb')\n\n"), ('"""Write it."""', '"""Write."""')
    )
    core.sync(touched="load save")
    assert "# %% load\n" in core.text and "# %% c3" not in core.text


def test_directives_in_metadata(project: Sandbox) -> None:
    cells = [dict(cell) for cell in CORE]
    cells[2] |= {"source": [LOAD], "metadata": {"nbdev": {"export": "true"}}}
    core = Core(project, odd_bytes(cells))
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    core.edit((core.chunk("c6"), f"{core.chunk('c6')}\n\ndef new(): ...\n"))
    assert core.sync(touched="c3", new=1).source("c3") == LOAD.replace(
        "(path)\n\n", "(path, 'rb')\n\n"
    )


def test_a_notebook_written_as_text(project: Sandbox) -> None:
    pytest.importorskip("jupytext")
    text = (
        "# %% [markdown]\n# # Data\n#\n# > Rows.\n\n"
        "# %% imports\n#| export\nimport csv\n\n"
        "# %% load\n#| export\ndef load():\n    return 1\n\n# %%\nload()\n"
    )
    path = project.write_bytes("01_data.py", text.encode())
    project.export()
    module = project.root / "mylib/data.py"
    new = "return 2\n\n\ndef more():\n    return 3\n"
    module.write_text(
        module.read_text().replace("return 1\n", new).replace("csv", "csv, io")
    )
    wanted = meaning(module.read_text())
    assert sync_project(find_project(project.root)).problems == ()
    assert meaning(module.read_text()) == wanted
    found = path.read_text()
    assert found.startswith(
        text.replace("return 1", "return 2").replace("csv", "csv, io")
    )
    assert "def more():\n    return 3\n" in found


# Modules from several notebooks ------------------------------------------------------


@pytest.fixture
def shared(project: Sandbox) -> Sandbox:
    """Return a project in which two notebooks contribute to one module."""
    title = "# Title\n\n> The summary."
    project.write(
        "00_early.ipynb",
        prose("t0", "# Early"),
        code("imports", "#| export\nimport os"),
        code("a", "#| export data\ndef a(): ..."),
        code("own", "#| export\ndef own(): ..."),
    )
    project.write(
        "01_data.ipynb",
        prose("t1", title),
        code("imports", "#| export\nimport re"),
        code("b", "#| export\ndef b(): ..."),
        code("c", "#| export\ndef c(): ..."),
    )
    project.write(
        "02_late.ipynb",
        prose("t2", "# Late"),
        code("d", "#| export data\ndef d(): ..."),
        code("b2", "#| export\nlate = 1"),
    )
    project.export()
    return project


def edit_shared(
    shared: Sandbox, *pairs: tuple[str, str]
) -> tuple[dict[str, str], SyncReport]:
    """Edit the shared module and sync; return the sources that changed, by cell."""
    module = shared.root / "mylib/data.py"
    before = sources_of(shared)
    text = module.read_text()
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    module.write_text(text)
    report = sync_project(find_project(shared.root))
    if not report.problems and not report.conflicts:
        assert meaning(module.read_text()) == meaning(text)
        assert sync_project(find_project(shared.root)) == SyncReport()
    after = sources_of(shared)
    return {
        name: text for name, text in after.items() if before.get(name) != text
    }, report


def sources_of(project: Sandbox) -> dict[str, str]:
    """Return the source of every cell, by notebook and id."""
    return {
        f"{path.stem}/{cell['id']}": "".join(cell["source"])
        for path in sorted((project.root / "nbs").glob("*.ipynb"))
        for cell in json.loads(path.read_bytes())["cells"]
    }


def test_an_edit_goes_to_the_notebook_that_has_the_cell(shared: Sandbox) -> None:
    """Even if another has a cell with the same id."""
    changed, _ = edit_shared(
        shared,
        ("import re\n", "import re\nimport json\n"),
        ("def d(): ...\n", "def d(x): ...\n\n\ndef e(): ...\n\n\ndef f(): ...\n"),
        ("def a(): ...", "def a(x): ..."),
        ("The summary.", "The whole summary."),
    )
    assert changed == {
        "00_early/a": "#| export data\ndef a(x): ...",
        "01_data/t1": "# Title\n\n> The whole summary.",
        "01_data/imports": "#| export\nimport re\nimport json",
        "02_late/d": "#| export data\ndef d(x): ...",
        "02_late/e": "#| export data\ndef e(): ...",
        "02_late/f": "#| export data\ndef f(): ...",
    }


def test_cells_move_within_their_notebook_only(shared: Sandbox) -> None:
    b, c, d = (f"# %% {name}\ndef {name}(): ...\n\n\n" for name in "bcd")
    changed, report = edit_shared(shared, (b + c, c + b))
    assert not changed and [one.what for one in report.changes] == ["moved"]
    d = d.rstrip() + "\n"
    changed, report = edit_shared(
        shared, (c + b + d, d + "\n\n" + c + b.rstrip() + "\n")
    )
    assert not changed and "has no place in the notebook" in report.problems[0].message


def test_a_rename_where_an_id_stands_twice(shared: Sandbox) -> None:
    """`b2` of another module is looked at, `b` of this one is not."""
    changed, report = edit_shared(shared, ("def b()", "def bb()"))
    assert changed == {"01_data/b": "#| export\ndef bb(): ..."} and not report.notes


# Odd code ----------------------------------------------------------------------------


@given(cells=drawn_cells(), data=st.data())
def test_odd_code(
    new_project: Callable[[], Sandbox], cells: list[Exported], data: st.DataObject
) -> None:
    """Strings that look like markers, closing comments, semicolons, blanks at ends."""
    project = one_project(new_project)
    Small(project, 1)
    path = project.write(
        "01_small.ipynb", *(c.cell(f"c{i}") for i, c in enumerate(cells))
    )
    export_project(find_project(project.root), force=True)
    before, _ = cells_of(path.read_bytes())
    module = project.root / "mylib/small.py"
    head, *chunks = re.split(r"\n\n\n(?=# %% c\d+\n)", module.read_text())
    edits = ["keep", "below", "above", "delete", "comment"]
    kept = set(before)
    for i, chunk in enumerate(chunks):
        edit = data.draw(st.sampled_from(edits)) if len(kept) > 1 else "keep"
        first, _, rest = chunk.partition("\n")
        new = {
            "keep": chunk,
            "below": f"{chunk.rstrip()}\nlower_{i} = {i}",
            "above": f"{first}\nupper_{i} = {i}\n{rest}",
            "delete": "",
            "comment": f"{chunk.rstrip()}\n# {i}",
        }
        chunks[i] = new[edit]
        kept -= {first.removeprefix("# %% ")} if edit != "keep" else set()
    module.write_text("\n\n\n".join([head, *filter(None, chunks)]) + "\n")
    wanted = meaning(module.read_text())
    report = sync_project(find_project(project.root))
    assert not report.problems and not report.conflicts
    assert meaning(module.read_text()) == wanted
    after, _ = cells_of(path.read_bytes())
    assert all(after[name] == before[name] for name in kept)
    assert sync_project(find_project(project.root)) == SyncReport()


GROWN = [
    prose("t", "# Net\n\n> A net."),
    code("i", "#| export\nfrom fastcore.basics import patch"),
    code("Net", "#| export\nclass Net:\n    def __init__(self):\n        self.n = 0"),
    code(
        "fit",
        "#| export\n@patch\ndef fit(self: Net, n: int) -> int:\n"
        '    """Fit."""\n    return n',
    ),
]


@pytest.fixture
def grown(project: Sandbox) -> Core:
    """Return a project with a class that grows in a later cell."""
    core = Core(project, odd_bytes(GROWN))
    assert core.text.count("def fit(self") == 2, "in the class, for type checkers"
    return core


def test_a_method_of_a_grown_class(grown: Core) -> None:
    """What type checkers see of it in the class is made anew."""
    grown.edit(("def fit(self: Net, n: int)", "def fit(self: Net, n: float)"))
    grown.sync(touched="fit")
    assert grown.text.count("n: float") == 2
    grown.edit(("self.n = 0", "self.n = 1"), ("    return n", "    return n + 1"))
    grown.sync(touched="Net fit")


def test_a_signature_in_a_grown_class(grown: Core) -> None:
    grown.edit(("def fit(self, n: int)", "def fit(self, n: float)"))
    said = grown.refuse()
    assert "`def fit(self, n: float) -> int:`" in said
    assert "edit the method itself, which stands below" in said
    grown.edit(
        ("def fit(self, n: float) -> int:", "def fit(self, n: int) -> int:  # noqa")
    )
    assert "edit the method itself" in grown.refuse()


def test_a_method_renamed_in_its_class(grown: Core) -> None:
    """An editor takes what is in the class for all there is of the method."""
    grown.edit(("def fit(self, n: int)", "def train(self, n: int)"))
    said = grown.sync(touched="fit", exact=False)
    assert said.source("fit").startswith("#| export\n@patch\ndef train(self: Net, n: i")
    assert grown.text.count("def train(self") == 2 and "def fit" not in grown.text
    assert "`fit` is now `train` in its class, and so it is below" in said.err


def test_a_method_renamed_in_its_class_and_made_twice(project: Sandbox) -> None:
    again = code("again", "#| export\n@patch\ndef fit(self: list): ...")
    core = Core(project, odd_bytes([*GROWN, again]))
    core.edit(("def fit(self, n: int)", "def train(self, n: int)"))
    assert "edit the method itself" in core.refuse()


def test_a_formatter_over_a_grown_class(grown: Core) -> None:
    raw = grown.notebook.read_bytes()
    grown.edit(
        (
            "def fit(self, n: int) -> int:",
            "def fit(\n            self,\n            n: int,\n        ) -> int:",
        )
    )
    grown.sync()
    assert grown.notebook.read_bytes() == raw


def test_a_method_renamed_by_a_tool(grown: Core) -> None:
    text = grown.text.replace("def fit(", "def train(")
    grown.module.write_text(text)
    grown.sync(touched="fit")
    assert grown.text.count("def train(self") == 2


def test_a_module_that_makes_its_own_all(project: Sandbox) -> None:
    cells = [
        code("no", "#| no_all"),
        *CORE[1:],
        code("all", '#| export\n__all__ = ["load"]'),
    ]
    core = Core(project, odd_bytes(cells))
    core.edit(('__all__ = ["load"]', '__all__ = ["load", "save"]'))
    assert core.sync(touched="all").source("all").endswith('["load", "save"]')


def test_a_docstring_in_the_first_cell(project: Sandbox) -> None:
    first = code(
        "doc", '#| export\n"""The module."""\n\nfrom __future__ import annotations'
    )
    core = Core(project, odd_bytes([first, *CORE[1:]]))
    core.edit(('"""The module."""', '"""The whole module."""'))
    core.edit(("    second,\n", "    second,\n    third,\n"))
    assert '"""The whole module."""' in core.sync(touched="doc c2").source("doc")
    core.edit(("# %% doc\n", '"""Another."""\n\n# %% doc\n'))
    assert "no title cell to live in" in core.refuse()


def test_a_module_of_which_nothing_is_left(core: Core) -> None:
    core.module.write_text("\n".join(core.text.split("\n")[:2]) + "\n")
    said = core.refuse()
    assert "no cell of this module would be left\n  at mylib/core.py" in said


def test_a_notebook_that_is_broken(core: Core) -> None:
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    core.project.write_bytes("09_other.ipynb", b"{")
    assert "cut off" in core.refuse()


def test_a_module_whose_notebook_is_gone(core: Core) -> None:
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    text = core.text
    core.notebook.unlink()
    said = core.run("sync")
    assert said.code == 1
    assert "no notebook exports this module any more\n  at mylib/core.py" in said.err
    assert core.text == text


def test_a_function_moves_to_another_module(core: Core) -> None:
    utils = core.project.root / "mylib/utils.py"
    priv = core.chunk("c6")
    core.edit((priv, ""), ("    second,\n", "    second,\n    _priv,\n"))
    utils.write_text(f"{utils.read_text()}\n\n{PRIV}\n")
    said = core.sync(touched="c2", gone="c6")
    assert "_priv" not in said.err, "it is imported now"
    assert f"# %% priv\n{PRIV}\n" in utils.read_text()


def test_both_sides_add_imports(core: Core) -> None:
    """By lines they conflict; but they do not disagree."""
    core.edit(("import json\n", "import json\nimport io\n"))
    core.edit_notebook("c2", ("import json\n", "import json\nimport os\n"))
    core.sync(touched="c2", exact=False)
    assert "import io\n" in core.text and "import os\n" in core.text
    core.edit(("import json\n", "import json as j\n"))
    core.edit_notebook("c2", ("import json\n", "from json import load\n"))
    assert "nbs/00_core.ipynb, cell c2" in core.refuse()
    core.sync("--take", "c2=module", touched="c2")


def test_both_sides_add_the_same_function(core: Core) -> None:
    new = "\n\n\ndef count(rows):\n    return len(rows)"
    core.module.write_text(core.text.rstrip() + new + "\n")
    cells = json.loads(core.notebook.read_bytes())["cells"]
    cells.append(code("n1", f"#| export{new.rstrip()[2:]}"))
    core.notebook.write_bytes(odd_bytes(cells))
    core.sync()
    core.edit(("return len(rows)", "return len(list(rows))"))
    cells[-1]["id"] = "n2"
    core.notebook.write_bytes(odd_bytes(cells))
    core.sync(touched="n2")


def test_both_sides_add_a_function_of_one_name(core: Core) -> None:
    core.module.write_text(f"{core.text}\n\ndef count(rows):\n    return len(rows)\n")
    cells = json.loads(core.notebook.read_bytes())["cells"]
    cells.append(code("n1", "#| export\ndef count(rows):\n    return sum(rows)"))
    core.notebook.write_bytes(odd_bytes(cells))
    assert (
        "both sides changed the same lines\n  at nbs/00_core.ipynb, cell n1"
        in core.refuse()
    )


def test_a_diff_and_json(core: Core) -> None:
    core.edit(("open(path)\n\n", "open(path, 'rb')\n\n"))
    said = core.run("sync", "--check", "--diff")
    assert "would be updated: nbs/00_core.ipynb, cell c3\n" in said.out
    assert "-    text = open(path)\n+    text = open(path, 'rb')\n" in said.out
    found = json.loads(core.run("sync", "--json").out)
    assert found["changes"] == [{"at": "nbs/00_core.ipynb, cell c3", "what": "updated"}]
    assert found["written"] == ["nbs/00_core.ipynb"], "the module is as it should be"


# Laws --------------------------------------------------------------------------------

LINES = 4
Step = tuple[str, int, int]


@dataclass(frozen=True)
class Side:
    """What one side did to a module of small functions; each new line is there once.

    A step is what is done, to which cell, and to which line or to which place.
    """

    steps: tuple[Step, ...]
    sign: str

    def cells(self, count: int) -> list[tuple[str, list[str]]]:
        """Return the names and lines of the functions after the steps."""
        found = [(f"f{i}", function(i)) for i in range(count)]
        for number, (what, which, where) in enumerate(self.steps):
            line = f"    {self.sign}_{number} = {number}"
            here = next((one for one in found if one[0] == f"f{which % count}"), None)
            if here is None:
                continue
            at = 1 + where % max(len(here[1]) - 2, 1)
            if what == "insert":
                here[1].insert(at, line)
            elif what == "replace":
                here[1][at] = line
            elif what == "delete" and len(here[1]) > 3:
                del here[1][at]
            elif what == "drop":
                found.remove(here)
            elif what == "move":
                found.remove(here)
                found.insert(where % (len(found) + 1), here)
            elif what == "new":
                name = f"{self.sign}{number}"
                new = [f"def {name}():", line, "    return 1"]
                found.insert(found.index(here) + 1, (name, new))
        return found


def function(i: int) -> list[str]:
    """Return the lines of a function that has a few lines of its own."""
    body = [f"    a_{i}_{k} = {k}" for k in range(LINES)]
    return [f"def f{i}():", *body, "    return 0"]


def steps(words: str) -> st.SearchStrategy[tuple[Step, ...]]:
    """Draw a few steps of these kinds."""
    step = st.tuples(
        st.sampled_from(words.split()), st.integers(0, 9), st.integers(0, 9)
    )
    return st.lists(step, max_size=4).map(tuple)


IN_CELLS = "insert replace delete"
ALL = f"{IN_CELLS} drop move new"


class Small:
    """A project whose notebook and module are made of small functions."""

    def __init__(self, project: Sandbox, count: int) -> None:
        self.project, self.count = project, count
        shutil.rmtree(project.root / "nbs", ignore_errors=True)
        shutil.rmtree(project.root / "mylib", ignore_errors=True)
        shutil.rmtree(project.root / ".litml", ignore_errors=True)
        self.write(Side((), "n"))
        self.module = project.root / "mylib/small.py"
        self.notebook = project.root / "nbs/01_small.ipynb"
        self.export()

    def write(self, side: Side) -> None:
        """Write the notebook as its author left it, with an example to each cell."""
        cells = [
            prose("title", "# Small\n\n> Functions."),
            code("imports", "#| export\nimport os"),
        ]
        for name, lines in side.cells(self.count):
            cells.append(code(name, "\n".join(["#| export", *lines])))
            cells.append(code(f"try-{name}", f"{name}()"))
        self.project.write("01_small.ipynb", *cells)

    def write_module(self, side: Side, marked: bool = True) -> None:
        """Write the module as its editor left it; new functions may lack a marker."""
        text = self.module.read_text()
        head = text[: text.find("\n\n\n# %% ")]
        for name, lines in side.cells(self.count):
            marker = [f"# %% {name}"] if name[0] == "f" or marked else []
            head = "\n".join([head, "", "", *marker, *lines])
        self.module.write_text(head + "\n")

    def export(self) -> None:
        report = export_project(find_project(self.project.root))
        assert not report.problems, report.problems

    def sync(self, **options: Any) -> SyncReport:
        return sync_project(find_project(self.project.root), **options)

    def state(self) -> tuple[bytes, bytes]:
        return self.notebook.read_bytes(), self.module.read_bytes()

    def sources(self) -> dict[str, str]:
        cells, _ = cells_of(self.notebook.read_bytes())
        return {
            name: "".join(json.loads(cell)["source"]) for name, cell in cells.items()
        }


@given(theirs=steps(ALL), count=st.integers(1, 4), marked=st.booleans())
def test_what_only_the_module_says_comes_out_again(
    new_project: Callable[[], Sandbox],
    theirs: tuple[Step, ...],
    count: int,
    marked: bool,
) -> None:
    small = Small(one_project(new_project), count)
    before, _ = cells_of(small.notebook.read_bytes())
    small.write_module(Side(theirs, "p"), marked)
    wanted = meaning(small.module.read_text())
    report = small.sync()
    assert not report.problems and not report.conflicts
    assert meaning(small.module.read_text()) == wanted
    after, _ = cells_of(small.notebook.read_bytes())
    texts = {name: "\n".join(lines) for name, lines in Side(theirs, "p").cells(count)}
    for name, cell in before.items():
        if name[0] != "f" or texts.get(name) == "\n".join(function(int(name[1:]))):
            assert after[name] == cell
    assert (
        small.sources().items()
        >= {n: f"#| export\n{t}" for n, t in texts.items() if n[0] == "f"}.items()
    )
    state = small.state()
    assert small.sync() == SyncReport() and small.state() == state


@given(ours=steps(ALL), theirs=steps(ALL), count=st.integers(1, 4))
def test_no_line_of_either_side_is_lost(
    new_project: Callable[[], Sandbox],
    ours: tuple[Step, ...],
    theirs: tuple[Step, ...],
    count: int,
) -> None:
    small = Small(one_project(new_project), count)
    mine, others = Side(ours, "n"), Side(theirs, "p")
    small.write(mine)
    small.write_module(others)
    before = small.state()
    report = small.sync()
    if report.conflicts:
        assert small.state() == before and not report.problems
        sides = [dict(side.cells(count)) for side in (mine, others)]
        for _, clash in report.conflicts:
            base = function(int(clash.id[1:]))
            if clash.reason != "both sides moved it":
                assert all(side.get(clash.id) != base for side in sides), clash.id
        return
    assert not report.problems
    text = small.module.read_text().split("\n")
    source = "\n".join(small.sources().values()).split("\n")
    made = [
        {line for _, lines in side.cells(count) for line in lines}
        for side in (mine, others)
    ]
    base = {line for i in range(count) for line in function(i)}
    for line in {*made[0], *made[1], *base} - {"    return 0", "    return 1"}:
        is_kept = line not in base or (line in made[0] and line in made[1])
        assert text.count(line) == source.count(line) == is_kept, line
    state = small.state()
    assert small.sync() == SyncReport() and small.state() == state


@given(
    ours=steps(IN_CELLS),
    theirs=steps(IN_CELLS),
    side=st.sampled_from(["ours", "theirs"]),
    count=st.integers(1, 3),
)
def test_a_decision_settles_every_conflict(
    new_project: Callable[[], Sandbox],
    ours: tuple[Step, ...],
    theirs: tuple[Step, ...],
    side: str,
    count: int,
) -> None:
    small = Small(one_project(new_project), count)
    mine, others = Side(ours, "n"), Side(theirs, "p")
    small.write(mine)
    small.write_module(others)
    clashes = {clash.id for _, clash in small.sync(check=True).conflicts}
    report = small.sync(take={"": side})
    assert not report.problems and not report.conflicts
    wanted = dict((mine if side == "ours" else others).cells(count))
    for cell in clashes:
        assert small.sources()[cell] == "\n".join(["#| export", *wanted[cell]])


@given(ours=steps(IN_CELLS), theirs=steps(IN_CELLS))
def test_edits_of_different_cells_commute(
    new_project: Callable[[], Sandbox], ours: tuple[Step, ...], theirs: tuple[Step, ...]
) -> None:
    """Even cells are edited in the notebook, odd ones in the module."""
    small = Small(one_project(new_project), 4)
    mine = Side(tuple((what, which * 2, where) for what, which, where in ours), "n")
    others = Side(
        tuple((what, which * 2 + 1, where) for what, which, where in theirs), "p"
    )
    results = []
    for order in ("together", "module first", "notebook first"):
        small = Small(small.project, 4)
        if order == "module first":
            small.write_module(others)
            assert not small.sync().problems
            data = json.loads(small.notebook.read_bytes())
            texts = dict(mine.cells(4))
            for cell in data["cells"]:
                if cell["id"] in ("f0", "f2"):
                    source = "\n".join(["#| export", *texts[cell["id"]]])
                    cell["source"] = source.splitlines(True)
            small.notebook.write_text(json.dumps(data, indent=1) + "\n")
            assert not small.sync().problems
        elif order == "notebook first":
            small.write(mine)
            small.export()
            text = small.module.read_text()
            texts = dict(others.cells(4))
            for name in ("f1", "f3"):
                old = "\n".join(function(int(name[1:])))
                text = text.replace(old, "\n".join(texts[name]))
            small.module.write_text(text)
            assert not small.sync().problems
        else:
            small.write(mine)
            small.write_module(others)
            assert not small.sync().conflicts
        results.append((small.sources(), small.module.read_text()))
    assert results[0] == results[1] == results[2]


PROJECTS: list[Sandbox] = []


def one_project(new_project: Callable[[], Sandbox]) -> Sandbox:
    """Return one project for all examples of the laws."""
    if not PROJECTS:
        PROJECTS.append(new_project())
    return PROJECTS[0]


# At random ---------------------------------------------------------------------------


def test_random_edits_of_our_own_modules(tmp_path: Path) -> None:
    """A small share of what `bench/sync/fuzz_sync.py` does with other projects."""
    notebooks = tmp_path / "some"
    (notebooks / "nbs").mkdir(parents=True)
    (notebooks / "pyproject.toml").write_text("[tool.litml]\npackage = 'litml'\n")
    for name in ("02_cells", "04b_readme", "05_edit", "05c_uses"):
        shutil.copy(OWN / f"nbs/{name}.ipynb", notebooks / "nbs")
    table = Table()
    fuzz(make_trial(notebooks, tmp_path / "work"), 60, 7, table)
    assert not table.faults
    assert sum(table.refused.values()) <= 3, table.reasons
