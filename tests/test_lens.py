"""Laws of the text view of a notebook: exact both ways, and no edit of anyone lost.

The other side of the comparisons is the notebook's JSON, read with `json`.
"""

import copy
import json
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, Sandbox, code, notebook_bytes, prose
from hypothesis import given
from hypothesis import strategies as st

from litml.files import WriteError, state_dir
from litml.lens import (
    apply,
    find_cell,
    hash_source,
    insert_cell,
    merge_view,
    move_cell,
    remove_cell,
    set_cell,
    show_notebook,
    write_notebook,
)
from litml.notebook import LitmlError, Notebook, parse_notebook, read_notebook
from litml.view import LensError, read_lines, read_view, show, write_cells

Cells = list[dict[str, Any]]

# Sources that are hard to show -------------------------------------------------------

NASTY = [
    *("# %%", "#%% x", "# %% [markdown] a", "# %%time", "%%time", "%% x", "# %% [end]"),
    *("#> 3", "#>", "#\\", "#\\ x", "#\\u0041", "\\u000d \\\\", "# notebook a @0123"),
    *("", " ", "\t", "\x0c", "\r", "x\r", "\x85", "\u2028", "\xa0", "\ud800", "\x00"),
    *("#", "##", "# ", "#x", "'''", '"""', "<<<<<<< HEAD", ">>>>>>> main", "\ufeff"),
    *("x = 1  ", "é 😀"),
]
lines = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(exclude_characters="\n", exclude_categories=()), max_size=8),
)
sources = st.lists(lines, max_size=6).map("\n".join)
kinds = st.sampled_from(["code", "markdown", "raw"])
ids = st.from_regex(r"[a-zA-Z0-9_-]{1,8}", fullmatch=True)
outputs = st.lists(
    st.one_of(
        st.fixed_dictionaries({"output_type": st.just("stream"), "text": sources}),
        st.fixed_dictionaries({"data": st.dictionaries(lines, sources, max_size=2)}),
        st.fixed_dictionaries({"output_type": st.just("error"), "ename": sources}),
    ),
    max_size=2,
)


@st.composite
def drawn_cells(draw: st.DrawFn) -> Cells:
    """Draw the cells of a notebook: any sources under different ids."""
    cells = []
    for id in draw(st.lists(ids, max_size=5, unique=True)):
        cell = make(id, draw(kinds), draw(sources))
        if cell["cell_type"] == "code":
            cell["outputs"] = draw(outputs)
        cells.append(cell)
    return cells


def make(id: str, kind: str, source: str) -> dict[str, Any]:
    """Return a cell."""
    cell = code(id, source) if kind == "code" else prose(id, source)
    return {**cell, "cell_type": kind}


def notebook_of(cells: Cells, **more: object) -> Notebook:
    """Return the notebook with some cells."""
    return parse_notebook(notebook_bytes(*cells, **more), "nbs/a.ipynb")


def rows(cells: Cells) -> list[tuple[str, str, str]]:
    """Return what a view shows of cells."""
    return [(c["id"], c["cell_type"], "".join(c["source"])) for c in cells]


def read_rows(text: str) -> list[tuple[str, str, str]]:
    """Return what stands in a view."""
    view = read_view(text)
    at = LitmlError("").at
    return [
        (one.id, one.kind, read_lines(one.lines, one.kind, at))  # type: ignore[arg-type]
        for one in view.sections
    ]


def now(notebook: Notebook) -> Cells:
    """Return a notebook's cells, as JSON has them."""
    cells: Cells = json.loads(notebook.to_bytes())["cells"]
    return cells


def view_of(cells: Cells, base: Notebook) -> str:
    """Return the view that shows `cells`, as an edit of the view of `base`."""
    first, _, _ = show(base).partition("\n")
    return first + "\n" + show(notebook_of(cells)).partition("\n")[2]


def merge(notebook: Notebook, base: Notebook, cells: Cells, **more: Any) -> Any:
    """Bring the edits of the view of `base` to `cells` into a notebook."""
    sections = read_view(view_of(cells, base)).sections
    return merge_view(notebook, sections, write_cells(base), **more)


# The text ----------------------------------------------------------------------------


@given(drawn_cells(), st.integers(0, 400))
def test_a_view_says_exactly_what_the_notebook_says(cells: Cells, limit: int) -> None:
    text = show(notebook_of(cells), limit)
    assert read_rows(text) == rows(cells)
    assert read_rows(text.encode().decode()) == rows(cells)


@given(drawn_cells(), st.randoms())
def test_what_editors_do_to_lines_changes_nothing(
    cells: Cells, rng: random.Random
) -> None:
    text = show(notebook_of(cells))
    assert text.splitlines() == text.split("\n")[:-1], "one kind of line break only"
    assert read_rows(text.replace("\n", "\r\n")) == rows(cells)
    assert read_rows("\ufeff" + text) == rows(cells)
    assert read_rows(text.removesuffix("\n")) == rows(cells)
    spaced = [
        "\n" * rng.randint(1, 3) + line + "\n" * rng.randint(1, 3)
        if line.startswith("# %% ")
        else line
        for line in text.split("\n")
    ]
    assert read_rows("\n".join(spaced)) == rows(cells)


@given(drawn_cells())
def test_outputs_do_not_count(cells: Cells) -> None:
    notebook = notebook_of(cells)
    other = copy.deepcopy(cells)
    for cell in other:
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "text": ["other\n"]}]
    assert show(notebook).split("\n")[0] == show(notebook_of(other)).split("\n")[0]
    assert show(notebook, 0) == show(notebook_of(other), 0)


def test_a_view_is_small() -> None:
    image = {"output_type": "display_data", "data": {"image/png": "A" * 100_000}}
    stream = {"output_type": "stream", "text": ["line\n"] * 10_000}
    text = show(notebook_of([code("a", "plot()", outputs=[image, stream])]), 300)
    assert len(text) < 800
    assert "#> <image/png, 75 kB>\n#> line\n" in text and "characters more" in text


# Taking it back ----------------------------------------------------------------------


@given(drawn_cells(), st.integers(0, 400), st.sampled_from([1, 2, 4, "\t", None]))
def test_an_unchanged_view_changes_no_byte(
    cells: Cells, limit: int, indent: int | str | None
) -> None:
    tree = {"nbformat": 4, "metadata": {"z": 1e-7}, "cells": cells, "nbformat_minor": 5}
    raw = json.dumps(tree, indent=indent).encode()
    notebook = parse_notebook(raw, "nbs/a.ipynb")
    sections = read_view(show(notebook, limit)).sections
    report = merge_view(notebook, sections, write_cells(notebook))
    assert report.edits == report.conflicts == report.notes == ()
    assert notebook.to_bytes() == raw


class Editor:
    """Edits cells at random; every line it writes is written nowhere else."""

    def __init__(self, name: str, seed: int) -> None:
        self.name, self.random, self.count = name, random.Random(seed), 0

    def line(self) -> str:
        self.count += 1
        begin = self.random.choice(["", "x = ", "# %% ", "#> ", "%% ", "    ", "# "])
        return begin + sha256(f"{self.name} {self.count}".encode()).hexdigest()[:24]

    def edit(self, cells: Cells, times: int) -> Cells:
        cells = copy.deepcopy(cells)
        for _ in range(times):
            action = self.random.choice([self.change, self.insert, self.delete])
            self.random.choice([action, action, self.move])(cells)
        return cells

    def change(self, cells: Cells) -> None:
        if cells:
            cell = self.random.choice(cells)
            lines = "".join(cell["source"]).split("\n")
            place = self.random.randrange(len(lines))
            lines[place : place + self.random.randint(0, 1)] = [self.line()]
            cell["source"] = "\n".join(lines).splitlines(keepends=True)

    def insert(self, cells: Cells) -> None:
        kind = self.random.choice(["code", "markdown", "raw"])
        text = "\n".join(self.line() for _ in range(self.random.randint(1, 3)))
        cell = make(f"{self.name}-{self.count}", kind, text)
        cells.insert(self.random.randint(0, len(cells)), cell)

    def delete(self, cells: Cells) -> None:
        if cells:
            cells.pop(self.random.randrange(len(cells)))

    def move(self, cells: Cells) -> None:
        if cells:
            cell = cells.pop(self.random.randrange(len(cells)))
            cells.insert(self.random.randint(0, len(cells)), cell)


def first_cells(seed: int) -> Cells:
    """Return some cells to begin with; the code has outputs and metadata."""
    editor = Editor("base", seed)
    cells: Cells = []
    for _ in range(editor.random.randint(0, 6)):
        editor.insert(cells)
    for cell in cells:
        cell["metadata"] = {"my_": [cell["id"]]}
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "text": ["out\n"]}]
    return cells


def all_lines(cells: Cells) -> set[str]:
    """Return the lines of all cells."""
    return {line for row in rows(cells) for line in row[2].split("\n")}


seeds = st.integers(0, 10**9)


@given(seeds, st.integers(0, 6))
def test_edits_of_the_view_alone_are_all_made(seed: int, times: int) -> None:
    cells = first_cells(seed)
    base = notebook_of(cells)
    edited = Editor("view", seed).edit(cells, times)
    notebook = notebook_of(cells)
    assert merge(notebook, base, edited).conflicts == ()
    assert rows(now(notebook)) == rows(edited)
    before = {cell["id"]: cell for cell in cells}
    for cell in now(notebook):
        old = before.get(cell["id"])
        if old and old["source"] == cell["source"]:
            assert cell == old, "a cell that was not edited"
        elif old and old.get("outputs"):
            assert cell["outputs"] == old["outputs"]
            assert cell["metadata"] == {**old["metadata"], "litml": {"stale": True}}


@given(seeds, st.integers(0, 5), st.integers(0, 5))
def test_edits_of_both_sides_survive_or_conflict(
    seed: int, here: int, there: int
) -> None:
    cells = first_cells(seed)
    base = notebook_of(cells)
    mine = Editor("notebook", seed).edit(cells, here)
    theirs = Editor("view", seed + 1).edit(cells, there)
    notebook = notebook_of(mine)
    report = merge(notebook, base, theirs)
    after = now(notebook)
    if report.conflicts:
        assert after == mine, "nothing is changed"
        return
    old, left, right = all_lines(cells), all_lines(mine), all_lines(theirs)
    assert all_lines(after) >= (left - old) | (right - old), "no new line is lost"
    gone = (old - left) | (old - right)
    assert not all_lines(after) & gone, "nothing comes back"
    untouched = {cell["id"]: cell for cell in cells if cell in mine}
    for cell in after:
        old_cell = untouched.get(cell["id"])
        if old_cell and rows([old_cell])[0] in rows(theirs):
            assert cell == old_cell, "a cell that nobody edited"
    twice = merge(notebook, base, theirs)
    assert twice.edits == twice.conflicts == (), "a second time"
    assert now(notebook) == after


@given(seeds, st.integers(1, 5), st.integers(1, 5), st.sampled_from(["ours", "theirs"]))
def test_taking_a_side_settles_every_conflict(
    seed: int, here: int, there: int, side: str
) -> None:
    cells = first_cells(seed)
    base = notebook_of(cells)
    mine = Editor("notebook", seed).edit(cells, here)
    theirs = Editor("view", seed + 1).edit(cells, there)
    clashes = merge(notebook_of(mine), base, theirs).conflicts
    notebook = notebook_of(mine)
    assert merge(notebook, base, theirs, take={"": side}).conflicts == ()
    wanted = {
        id: (kind, text) for id, kind, text in rows(mine if side == "ours" else theirs)
    }
    after = {id: (kind, text) for id, kind, text in rows(now(notebook))}
    for clash in clashes:
        if clash.theirs is clash.ours is None:
            continue  # of the cell's place, not its text
        assert after.get(clash.id) == wanted.get(clash.id)
    some = {clash.id: side for clash in clashes}
    assert merge(notebook_of(mine), base, theirs, take=some).conflicts == ()


@given(seeds, st.integers(0, 3), st.integers(0, 3))
def test_notebooks_without_ids(seed: int, here: int, there: int) -> None:
    def bare(cells: Cells) -> Notebook:
        short = [{k: v for k, v in cell.items() if k != "id"} for cell in cells]
        return notebook_of(short, nbformat_minor=4)

    cells = first_cells(seed)
    base = bare(cells)
    named = [
        {**cell, "id": one.id} for cell, one in zip(cells, base.cells, strict=True)
    ]
    mine = Editor("notebook", seed).edit(cells, here)
    theirs = Editor("view", seed + 1).edit(named, there)
    notebook = bare(mine)
    first, _, _ = show(base).partition("\n")
    text = first + "\n" + show(notebook_of(theirs)).partition("\n")[2]
    report = merge_view(notebook, read_view(text).sections, write_cells(base))
    after = now(notebook)
    assert not any("id" in cell for cell in after)
    if not report.conflicts:
        shown = {line for cell in after for line in "".join(cell["source"]).split("\n")}
        new = all_lines([{**c, "id": ""} for c in mine]) | all_lines(theirs)
        assert shown >= new - all_lines(named)
        again = parse_notebook(notebook.to_bytes(), "nbs/a.ipynb")
        twice = merge_view(again, read_view(text).sections, write_cells(base))
        assert not any(edit.action != "move" for edit in twice.edits)


def test_cells_without_ids_and_with_equal_texts_need_a_new_view() -> None:
    same = [code(None, text) for text in ("1", "2", "2")]
    base = notebook_of(same, nbformat_minor=4)
    text = show(base).replace("\n1\n", "\n3\n")
    fresh = notebook_of(same, nbformat_minor=4)
    assert merge_view(fresh, read_view(text).sections, write_cells(base)).edits
    stale = notebook_of([code(None, "0"), *same], nbformat_minor=4)
    with pytest.raises(LensError, match="equal texts"):
        merge_view(stale, read_view(text).sections, write_cells(base))


# Markers -----------------------------------------------------------------------------

TITLE = prose("title", "# Fit\n\n> Fit a line.")
IMPORTS = code("imports", "#| export\nimport math")
FIT = code("fit", "#| export\ndef fit(x):\n    return x")
TRY = code(
    "try-fit", "print(fit(3))", outputs=[{"output_type": "stream", "text": ["3\n"]}]
)
FOUR = [TITLE, IMPORTS, FIT, TRY]


def edit(*changes: tuple[str, str]) -> tuple[Cells, Any]:
    """Edit the view of four cells by replacing text; return the cells after it."""
    notebook = notebook_of(FOUR)
    text = show(notebook)
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    report = merge_view(notebook, read_view(text).sections, write_cells(notebook))
    return now(notebook), report


def drop(text: str) -> tuple[str, str]:
    return (text, "")


@pytest.mark.parametrize(
    "changes",
    [
        [drop("# %% [markdown] title\n")],
        [drop("# %% imports\n")],
        [drop("# %% fit\n")],
        [drop("# %% try-fit\n")],
        [drop("# %% fit\n"), drop("# %% try-fit\n")],
        [drop("# %% imports\n"), drop("# %% fit\n"), drop("# %% try-fit\n")],
        [("# %% fit\n", "# %% fitt\n")],
        [("# %% fit\n", "# %%\n")],
        [("# %% fit\n", "#%% fit\n")],
        [("# %% fit\n", "# %%   [code]   fit  \n")],
        [("# %% [markdown] title\n", "# %% title [md]\n")],
        [("\n# %% fit\n", "\n\n\n# %% fit\n\n")],
    ],
)
def test_lost_and_changed_markers_change_no_cell(
    changes: list[tuple[str, str]],
) -> None:
    cells, report = edit(*changes)
    assert cells == FOUR and report.edits == ()


@pytest.mark.parametrize(
    "marker",
    [drop("# %% fit\n"), ("# %% fit\n", "# %% fitt\n"), ("# %% fit\n", "# %%\n")],
)
def test_an_edit_below_a_lost_marker_is_made(marker: tuple[str, str]) -> None:
    cells, report = edit(marker, ("return x", "return 2 * x"))
    assert [edit.piece.id for edit in report.edits] == ["fit"]
    assert [cell["id"] for cell in cells] == [cell["id"] for cell in FOUR]
    assert "".join(cells[2]["source"]).endswith("return 2 * x") and report.notes


@pytest.mark.parametrize(
    "marker",
    [
        drop("# %% try-fit\n"),
        ("# %% try-fit\n", "# %% tri-fit\n"),
        ("# %% try-fit\n", "# %%\n"),
    ],
)
def test_an_example_keeps_its_outputs_without_its_marker(
    marker: tuple[str, str],
) -> None:
    cells, report = edit(marker, ("fit(3)", "fit(3) + fit(4)"))
    assert [edit.piece.id for edit in report.edits] == ["try-fit"] and report.notes
    assert cells[3]["outputs"] == TRY["outputs"]


def test_other_code_in_its_place_is_another_cell() -> None:
    cells, report = edit(
        ("# %% try-fit\nprint(fit(3))", "# %% sums\nsum(range(9)) == 36")
    )
    assert [edit.action for edit in report.edits] == ["delete", "insert"]
    assert [cell["id"] for cell in cells] == ["title", "imports", "fit", "sums"]


def test_a_copied_section_is_a_new_cell() -> None:
    copied = "# %% fit\n#| export\ndef fit(x):\n    return x\n\n# %% fit\n"
    cells, _ = edit(
        ("# %% fit\n", copied),
        ("    return x\n\n# %% try", "    return -x\n\n# %% try"),
    )
    assert [cell["id"] for cell in cells] == [
        "title",
        "imports",
        "fit",
        "fit-2",
        "try-fit",
    ]
    assert cells[2] == FIT and "".join(cells[3]["source"]).endswith("return -x")


def test_two_cells_are_joined_by_joining_their_lines() -> None:
    cells, _ = edit(drop("\n# %% fit\n"))
    assert [cell["id"] for cell in cells] == ["title", "imports", "try-fit"]
    assert "".join(cells[1]["source"]).endswith(
        "import math\n#| export\ndef fit(x):\n    return x"
    )


def test_a_cell_that_is_split_keeps_its_outputs_in_the_first_half() -> None:
    cells, _ = edit(("print(fit(3))", "y = fit(3)\n\n# %%\nprint(y)"))
    assert [cell["id"] for cell in cells[3:]] == ["try-fit", "print-y"]
    assert cells[3]["outputs"] == TRY["outputs"] and cells[4]["outputs"] == []


def test_a_cell_of_another_kind() -> None:
    cells, _ = edit(("# %% try-fit\nprint", "# %% [markdown] try-fit\n# print"))
    assert cells[3] == {**prose("try-fit", "print(fit(3))")}
    cells, _ = edit(("# %% [markdown] title", "# %% title"))
    assert cells[0] == code("title", "# # Fit\n#\n# > Fit a line.")


def test_one_side_changes_the_kind_and_the_other_the_text() -> None:
    base = notebook_of(FOUR)
    changed = notebook_of([TITLE, IMPORTS, FIT, code("try-fit", "print(fit(4))")])
    theirs = [TITLE, IMPORTS, FIT, prose("try-fit", "print(fit(3))")]
    (clash,) = merge(changed, base, theirs).conflicts
    assert (clash.ours, clash.theirs) == ("print(fit(4))", "print(fit(3))")
    assert clash.reason.endswith("(code or markdown)")


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            [("> Fit a line.", "> Fit a line.\n\n## Usage")],
            "a line of a markdown cell: `## Usage`",
        ),
        ([("# %% fit\n", "# %% the fit\n")], "not a marker: `# %% the fit`"),
        ([("# %% fit\n", "# %% [table] fit\n")], "not a marker"),
        (
            [("# %% [markdown] title\n", "import os\n\n# %% [markdown] title\n")],
            "above the first cell: `import os`",
        ),
        ([("    return x", "<<<<<<< HEAD")], "conflict markers"),
        ([("# %% [end]", "# %% [end]\nx = 1")], "below the end of the view"),
        ([drop("# %% [end]\n")], "the view is cut off"),
        ([("# notebook ", "# ")], "no token"),
    ],
)
def test_refused(changes: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(LensError) as error:
        edit(*changes)
    assert message in error.value.message


@given(drawn_cells(), st.integers(0, 2000))
def test_a_view_that_is_cut_off_is_refused(cells: Cells, length: int) -> None:
    text = show(notebook_of(cells))
    with pytest.raises(LensError):
        read_view(text[: min(length, len(text) - 2)])


# Files -------------------------------------------------------------------------------


@pytest.fixture
def path(project: Sandbox) -> Path:
    """Return the file of a notebook, laid out unlike Jupyter does."""
    tree = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": FOUR}
    return project.write_bytes("fit.ipynb", json.dumps(tree, indent=2).encode())


def changed_lines(before: bytes, after: bytes) -> int:
    """Return how many lines of a file differ, by git."""
    import difflib

    lines = difflib.ndiff(before.decode().split("\n"), after.decode().split("\n"))
    return sum(line[0] in "+-" for line in lines)


def test_only_the_edited_lines_of_the_file_change(project: Sandbox, path: Path) -> None:
    before = path.read_bytes()
    text = show_notebook(project.root, path)
    report = apply(project.root, text.replace("return x", "return 2 * x"))
    assert [one.action for one in report.edits] == ["change"]
    assert changed_lines(before, path.read_bytes()) == 2
    assert report.view == show_notebook(project.root, path)
    assert not project.leftovers()


@pytest.mark.parametrize("git", [True, False])
def test_a_view_of_an_earlier_state_is_merged(
    project: Sandbox, path: Path, git: bool
) -> None:
    if git:
        project.commit()
    text = show_notebook(project.root, path)
    notebook = read_notebook(path)
    set_cell(notebook, "imports", "#| export\nimport cmath")
    insert_cell(notebook, "fit(5)", after="try-fit", id="more")
    assert write_notebook(project.root, path, notebook)
    apply(project.root, text.replace("return x", "return 2 * x"))
    sources = [cell.source for cell in read_notebook(path).cells]
    assert sources[1].endswith("cmath") and sources[2].endswith("2 * x")
    assert sources[4] == "fit(5)"
    if git:
        assert project.git("status", "--porcelain").split() == ["M", "nbs/fit.ipynb"]


def test_a_conflict_writes_nothing(project: Sandbox, path: Path) -> None:
    text = show_notebook(project.root, path).replace("return x", "return 2 * x")
    notebook = read_notebook(path)
    set_cell(notebook, "fit", "def fit(x): ...")
    write_notebook(project.root, path, notebook)
    before = project.files("nbs")
    report = apply(project.root, text.replace("fit(3)", "fit(4)"))
    assert [one.id for one in report.conflicts] == ["fit"]
    assert report.conflicts[0].theirs != report.conflicts[0].ours == "def fit(x): ..."
    assert project.files("nbs") == before
    apply(project.root, text, take={"fit": "theirs"})
    assert find_cell(read_notebook(path), "fit").source.endswith("2 * x")


def test_a_check_writes_nothing(project: Sandbox, path: Path) -> None:
    text = show_notebook(project.root, path)
    before = project.files()
    report = apply(project.root, text.replace("x", "y"), check=True)
    assert report.edits and "return y" in report.view
    assert project.files("nbs") == {k: v for k, v in before.items() if k[:3] == "nbs"}


def test_an_unchanged_view_does_not_touch_the_file(
    project: Sandbox, path: Path
) -> None:
    text = show_notebook(project.root, path)
    os.utime(path, ns=(1, 1))
    apply(project.root, text)
    assert path.stat().st_mtime_ns == 1


def test_unknown_and_damaged_bases_are_refused(project: Sandbox, path: Path) -> None:
    text = show_notebook(project.root, path).replace("return x", "return 2 * x")
    notebook = read_notebook(path)
    set_cell(notebook, "try-fit", "fit(9)")
    write_notebook(project.root, path, notebook)
    before = path.read_bytes()
    (kept,) = (state_dir(project.root) / "views").iterdir()
    for damage in (b"", b"\xff", kept.read_bytes()[:-5], None):
        kept.write_bytes(damage) if damage is not None else kept.unlink()
        with pytest.raises(LensError, match="nothing is known of the view"):
            apply(project.root, text)
    assert path.read_bytes() == before


def test_old_views_are_forgotten(project: Sandbox, monkeypatch: Any) -> None:
    monkeypatch.setattr("litml.lens.KEPT", 5)
    for i in range(9):
        path = project.write("a.ipynb", code("a", str(i)))
        show_notebook(project.root, path)
        (newest,) = [
            one
            for one in (state_dir(project.root) / "views").iterdir()
            if f"\n{i}\n" in one.read_text()
        ]
        os.utime(newest, (i, i))
    kept = {one.read_text() for one in (state_dir(project.root) / "views").iterdir()}
    assert len(kept) == 5 and any("\n8\n" in text for text in kept)


def test_a_folder_of_notes_that_cannot_be_written(project: Sandbox, path: Path) -> None:
    (project.root / ".litml").write_text("in the way")
    before = path.read_bytes()
    text = show_notebook(project.root, path)
    assert read_rows(text) == rows(FOUR), "it can be read"
    with pytest.raises(WriteError):
        apply(project.root, text.replace("return x", "return y"))
    assert path.read_bytes() == before


def test_killed_while_writing(project: Sandbox, path: Path) -> None:
    before = path.read_bytes()
    text = show_notebook(project.root, path).replace("return x", "return 2 * x")
    script = """
import os, sys
from pathlib import Path
from litml.lens import apply
def die(*paths): os._exit(9)
for name in sys.argv[1].split(","):
    setattr(os, name, die)
apply(Path.cwd(), sys.stdin.read())
"""
    for name in ("replace", "chmod"):
        done = project.run(sys.executable, "-c", script, name, input=text)
        assert done.returncode == 9 and path.read_bytes() == before
    apply(project.root, text)
    assert b"2 * x" in path.read_bytes() and not project.leftovers()


def test_a_file_that_changes_meanwhile_is_not_overwritten(
    project: Sandbox, path: Path, monkeypatch: Any
) -> None:
    text = show_notebook(project.root, path).replace("return x", "return 2 * x")
    other = notebook_bytes(TITLE)
    to_bytes = Notebook.to_bytes

    def save_in_jupyter(self: Notebook) -> bytes:
        path.write_bytes(other)
        return to_bytes(self)

    with monkeypatch.context() as patch:
        patch.setattr(Notebook, "to_bytes", save_in_jupyter)
        with pytest.raises(LensError, match="changed by another program"):
            apply(project.root, text)
    assert path.read_bytes() == other and not project.leftovers()
    notebook = parse_notebook(notebook_bytes(*FOUR), "nbs/fit.ipynb")
    set_cell(notebook, "fit", "x")
    with pytest.raises(LensError, match="changed by another program"):
        write_notebook(project.root, path, notebook)


def test_permissions_and_links_stay(project: Sandbox, path: Path) -> None:
    path.chmod(0o640)
    link = path.with_name("link.ipynb")
    link.symlink_to(path.name)
    text = show_notebook(project.root, link)
    apply(project.root, text.replace("return x", "return 2 * x"))
    assert link.is_symlink() and b"2 * x" in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_view_is_of_one_notebook(project: Sandbox, path: Path) -> None:
    text = show_notebook(project.root, path)
    other = path.with_name("else where @1.ipynb")
    path.rename(other)
    with pytest.raises(LensError, match=r"view of nbs/fit\.ipynb"):
        apply(project.root, text, other)
    with pytest.raises(LitmlError, match="No such file"):
        apply(project.root, text)
    renamed = text.replace("nbs/fit.ipynb", "nbs/else where @1.ipynb")
    assert apply(project.root, renamed.replace("return x", "return 1"), other).edits


# One cell ----------------------------------------------------------------------------


def test_cells_are_edited_by_id(project: Sandbox, path: Path) -> None:
    notebook = read_notebook(path)
    set_cell(notebook, "try-fit", "fit(9)", expect=hash_source("print(fit(3))"))
    assert insert_cell(notebook, "## Usage", after="fit", kind="markdown") == "usage"
    assert insert_cell(notebook, "fit(0)") == "fit-0"
    move_cell(notebook, "imports", after="title")
    move_cell(notebook, "title", after=None)
    remove_cell(notebook, "fit", expect=hash_source("".join(FIT["source"])))
    write_notebook(project.root, path, notebook)
    cells = json.loads(path.read_bytes())["cells"]
    assert [cell["id"] for cell in cells] == [
        "title",
        "fit-0",
        "imports",
        "usage",
        "try-fit",
    ]
    assert cells[4] == {
        **TRY,
        "metadata": {"litml": {"stale": True}},
        "source": ["fit(9)"],
    }
    assert cells[3] == prose("usage", "## Usage") and cells[1] == code(
        "fit-0", "fit(0)"
    )


Change = Callable[[Notebook], object]


@pytest.mark.parametrize(
    "change, message, hint",
    [
        (lambda n: set_cell(n, "fitt", ""), "no cell `fitt`", "`fit`"),
        (lambda n: remove_cell(n, "zebra"), "no cell `zebra`", "litml show"),
        (lambda n: set_cell(n, "load", ""), "no cell `load`", "in cell `more`"),
        (lambda n: move_cell(n, "fit", "tri-fit"), "no cell `tri-fit`", "`try-fit`"),
        (lambda n: insert_cell(n, "", "imprts"), "no cell `imprts`", "`imports`"),
        (lambda n: set_cell(n, "fit", "", "0123"), "the cell has changed", "look"),
        (lambda n: remove_cell(n, "fit", "0123"), "the cell has changed", "look"),
        (lambda n: insert_cell(n, "", id="fit"), "a cell with this id", ""),
        (lambda n: insert_cell(n, "", id="ä"), "letters, digits", ""),
        (lambda n: insert_cell(n, "", kind="markdwn"), "no kind of cell", "`markdown`"),
    ],
)
def test_wrong_ids_and_stale_hashes(change: Change, message: str, hint: str) -> None:
    cells = [*FOUR, code("more", "@cache\nasync def load(): ...")]
    notebook = notebook_of(cells)
    with pytest.raises(LitmlError) as error:
        change(notebook)
    assert message in error.value.message and hint in (error.value.hint or "")
    assert now(notebook) == cells


def test_moving_a_cell_behind_itself_changes_nothing() -> None:
    notebook = notebook_of(FOUR)
    with pytest.raises(LensError):
        move_cell(notebook, "fit", after="fit")
    assert now(notebook) == FOUR


def test_two_cells_of_one_id_are_not_edited() -> None:
    notebook = notebook_of([FIT, FIT])
    with pytest.raises(LensError, match="several cells"):
        set_cell(notebook, "fit", "")
    with pytest.raises(LensError, match="two cells have this id"):
        merge_view(notebook, read_view(show(notebook)).sections, write_cells(notebook))


# Start-up ----------------------------------------------------------------------------


def test_the_lens_needs_the_standard_library_only() -> None:
    script = """
import sys
from litml.lens import apply
names = {name.partition(".")[0] for name in sys.modules}
other = {name for name in names if name not in sys.stdlib_module_names}
print(sorted(name for name in other if not name.startswith(("_", "sitecustomize"))))
print([name for name in ("export", "package") if f"litml.{name}" in sys.modules])
"""
    words = [sys.executable, "-I", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stdout == "['litml']\n[]\n", done.stdout + done.stderr
