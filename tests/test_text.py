"""Notebooks written as text: read as jupytext reads them, changed only where edited."""

import difflib
import subprocess
import sys
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from conftest import ENVIRONMENT, notebook_bytes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from litml.notebook import Cell, Notebook, NotebookError, parse_notebook
from litml.text import is_notebook, parse_source, read_source, refuse_pairs

FORMS = {
    "a.py": ["py:percent", "py:light"],
    "a.md": ["md:markdown", "md:myst"],
}
words = st.text("ab #%>-'\"`\\\té😀", max_size=12).map(str.rstrip)
code_lines = st.sampled_from(
    [
        *("#| export", "import os", "def f():\n    return 1", "x = 1", "# %%time"),
        *("%%bash", "%matplotlib inline", "!ls", "# a comment", "", "f(1)"),
        "x = '''\n# %%\n'''",
    ]
)
sources = {
    "code": st.lists(code_lines, min_size=1, max_size=4).map("\n".join),
    "markdown": st.lists(words, min_size=1, max_size=4).map("\n".join),
}


@st.composite
def drawn_notebook(draw: st.DrawFn) -> Any:
    """Draw a notebook, as nbformat has it, some of whose cells have a name."""
    notebook = nbformat.v4.new_notebook()  # type: ignore[no-untyped-call]
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    for i in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["code", "markdown"]))
        source = draw(sources[kind]).strip("\n")
        new = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
        cell = new[kind == "markdown"](source)
        if draw(st.booleans()):
            cell.metadata["id"] = f"cell-{i}"
        notebook.cells.append(cell)
    return notebook


def rows(notebook: Any) -> list[tuple[str, str]]:
    """Return what every form of a notebook keeps of its cells."""
    return [
        (cell.get("cell_type"), "".join(cell.get("source")))
        for cell in (getattr(one, "data", one) for one in notebook.cells)
    ]


@st.composite
def drawn_text(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw the name and the bytes of a text that jupytext wrote."""
    name = draw(st.sampled_from(sorted(FORMS)))
    form = draw(st.sampled_from(FORMS[name]))
    return name, jupytext.writes(draw(drawn_notebook()), form).encode()


@settings(max_examples=30)
@given(drawn_text())
def test_texts_are_read_as_jupytext_reads_them(drawn: tuple[str, bytes]) -> None:
    name, raw = drawn
    notebook = parse_source(raw, name)
    assert rows(notebook) == rows(jupytext.reads(raw.decode(), Path(name).suffix))
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)
    assert notebook.language == "python"
    assert notebook.to_bytes() == raw
    windows = raw.replace(b"\n", b"\r\n")
    assert rows(parse_source(windows, name)) == rows(notebook)
    assert parse_source(windows, name).to_bytes() == windows


@settings(max_examples=40)
@given(drawn_text(), st.integers(0, 4), st.sampled_from(["change", "delete", "insert"]))
def test_an_edit_changes_its_own_lines_only(
    drawn: tuple[str, bytes], place: int, action: str
) -> None:
    name, raw = drawn
    notebook = parse_source(raw, name)
    assume(notebook.cells)
    place = min(place, len(notebook.cells) - 1)
    if action == "change":
        notebook.cells[place].source = "changed = 1"
    elif action == "delete":
        del notebook.cells[place]
    else:
        data = {"cell_type": "code", "id": "new", "metadata": {}, "source": "new = 1"}
        notebook.cells.insert(place, Cell(data))
    wanted = [(cell.kind, cell.source) for cell in notebook.cells]
    try:
        after = notebook.to_bytes()
    except NotebookError as error:
        assert "cannot be written" in error.message
        return
    read = parse_source(after, name)
    assert [(cell.kind, cell.source) for cell in read.cells] == wanted
    if action == "insert":
        assert read.cells[place].id == "new"
        new = difflib.ndiff(raw.decode().split("\n"), after.decode().split("\n"))
        gone = {line[1:].strip() for line in new if line[:1] == "-"}
        assert gone <= {"", "+++"}  # which parts two cells of prose, and no others


HAND = """\
#!/usr/bin/env python
# A script that nobody's tool has formatted.

# %%   [markdown]   title
# # Fit
#
# > Fit a line.
# %% imports   tags=["a"]
#| export
import os,sys



# %%
os.getcwd( )
# %% Some words of a title
x = 1   # two spaces

"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_text_written_by_hand_stays_as_it_is(newline: str) -> None:
    raw = ("\ufeff" + HAND.replace("\n", newline)).encode()
    notebook = parse_source(raw, "nbs/fit.py")
    named = [cell.id for cell in notebook.cells if cell.data.get("id")]
    assert named == ["title", "imports"]
    assert notebook.to_bytes() == raw
    notebook.cells[-1].source = "x = 2   # two spaces"
    changed = HAND.replace("x = 1", "x = 2").replace("\n", newline)
    assert notebook.to_bytes().decode("utf-8-sig").rstrip() == changed.rstrip()


@pytest.mark.parametrize(
    "name, text, expected",
    [
        ("a.ipynb", "", True),
        ("a.py", "# %%\n1\n", True),
        ("a.py", "1\r\n# %%\r\n1\r\n", True),
        ("a.py", "# %% title\n", True),
        ("a.py", "# %%time\n", False),
        ("a.py", "x = '# %% x'\n    # %% y\n", False),
        ("a.py", "# ---\n# jupyter:\n#   kernelspec: {}\n# ---\n", True),
        ("a.py", "# ---\n# Copyright\n# ---\n", False),
        ("a.py", "# Exported from nbs/a.ipynb. Edit\n\n# %% a\n", False),
        ("a.py", "# AUTOGENERATED! DO NOT EDIT!\n\n# %% ../a.ipynb 1\n", False),
        ("a.py", "", False),
        ("conftest.py", "# %%\n", False),
        ("a.md", "# Title\n\n```python\n1\n```\n", False),
        ("a.md", "---\ntitle: x\n---\n\njupyter: no\n", False),
        ("a.md", "---\njupyter: {}\n---\n", True),
        ("a.md", "---\ntitle: x\njupytext:\n  formats: md:myst\n---\n", True),
        ("a.md", "text\n\n```{code-cell}\n1\n```\n", True),
        ("a.md", "a ```{code-cell} in a line\n", False),
        ("a.txt", "# %%\n", False),
    ],
)
def test_which_files_are_notebooks(
    tmp_path: Path, name: str, text: str, expected: bool
) -> None:
    path = tmp_path / name
    path.write_text(text, "utf-8", newline="")
    assert is_notebook(path) is expected


def test_files_that_cannot_be_looked_into_are_none(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "binary.py").write_bytes(bytes(range(256)))
    (tmp_path / "loop.py").symlink_to("loop.py")
    assert not any(is_notebook(path) for path in tmp_path.iterdir())


def test_one_notebook_in_two_forms_is_refused(tmp_path: Path) -> None:
    pair = [tmp_path / "nbs" / name for name in ("fit.ipynb", "load.py", "fit.md")]
    refuse_pairs(pair[:2], tmp_path)
    with pytest.raises(NotebookError) as error:
        refuse_pairs(pair, tmp_path)
    assert "nbs/fit.ipynb" in error.value.message
    assert str(error.value.at) == "nbs/fit.md"


@pytest.mark.parametrize(
    "name, raw, message",
    [
        ("a.py", b"# %%\n\xff\n", "not UTF-8: byte 5, line 2"),
        ("a.py", b"# %%\n<<<<<<< HEAD\n", "conflict markers"),
        ("a.md", b"---\njupyter: [\n", "jupytext cannot read it"),
        ("a.md", b"```{code-cell}\n---\nid: [\n---\n1\n", "jupytext cannot read it"),
        ("a.py", b"# ---\n# jupyter: 1\n# ---\n# %%\n", ""),
    ],
)
def test_broken_texts(name: str, raw: bytes, message: str) -> None:
    try:
        parse_source(raw, name)
    except NotebookError as error:
        assert message in error.message and error.at and error.at.notebook == name
    else:
        assert not message


def test_absent_files(tmp_path: Path) -> None:
    for name in ("a.py", "a.ipynb"):
        with pytest.raises(NotebookError, match="No such file"):
            read_source(tmp_path / name)


def test_without_jupytext(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupytext", None)
    with pytest.raises(NotebookError) as error:
        parse_source(b"# %%\n1\n", "a.py")
    assert error.value.hint == "pip install jupytext"
    raw = notebook_bytes({"cell_type": "code", "id": "a", "metadata": {}, "source": ""})
    assert parse_source(raw, "a.ipynb").to_bytes() == raw


def test_a_new_cell_has_a_name_where_no_other_has() -> None:
    raw = b"# %%\n1\n\n# %%\n2\n"
    notebook = parse_source(raw, "a.py")
    new = {"cell_type": "code", "id": "new", "metadata": {}, "source": "3"}
    notebook.cells.insert(1, Cell(new))
    assert notebook.to_bytes() == b"# %%\n1\n\n# %% new\n3\n\n# %%\n2\n"


def test_a_change_that_has_no_form_in_the_text() -> None:
    notebook: Notebook = parse_source(b"# %% a\n1\n", "a.py")
    notebook.cells[0].source = "x\n\n# %% b\ny"
    with pytest.raises(NotebookError, match="cannot be written"):
        notebook.to_bytes()


def test_notebooks_are_read_without_jupytext() -> None:
    script = """
import sys
from litml.text import parse_source
parse_source(b'{"cells": [], "nbformat": 4}', "a.ipynb")
print([name for name in ("jupytext", "nbformat", "yaml") if name in sys.modules])
"""
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stdout == "[]\n", done.stderr


def test_the_same_notebook_in_every_form() -> None:
    cells = [
        {"cell_type": "markdown", "id": "title", "metadata": {}, "source": "# Fit"},
        {"cell_type": "code", "id": "fit", "metadata": {}, "source": "x = 1"},
    ]
    for cell in cells[1:]:
        cell |= {"outputs": [], "execution_count": None}
    notebook = parse_notebook(notebook_bytes(*cells), "a.ipynb")
    percent = b"# %% [markdown] title\n# # Fit\n\n# %% fit\nx = 1\n"
    script = parse_source(percent, "a.py")
    assert [(c.id, c.kind, c.source) for c in script.cells] == [
        (c.id, c.kind, c.source) for c in notebook.cells
    ]
