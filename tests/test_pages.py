"""What of a notebook is on its page, and what is wrong with some notebooks."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from litml.notebook import LitmlError, Notebook, parse_notebook, read_notebook
from litml.page import ApiCard, Callout, Code, Page, PageError, Prose, Shown
from litml.pages import make_page

ROOT = Path(__file__).parents[1]


def cell(kind: str, source: str, **more: Any) -> dict[str, Any]:
    return {"cell_type": kind, "source": source, "metadata": {}, **more}


def notebook(*cells: Mapping[str, Any], **metadata: Any) -> Notebook:
    made = [{"id": f"c{i}", **one} for i, one in enumerate(cells)]
    for one in made:
        if one["cell_type"] == "code":
            one.setdefault("outputs", [])
    tree = {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return parse_notebook(json.dumps(tree).encode(), "nbs/00_core.ipynb")


def page_of(*cells: Mapping[str, Any], module: str = "", **metadata: Any) -> Page:
    return make_page(notebook(*cells, **metadata), "core", "sums.core", module)


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def image(**data: Any) -> dict[str, Any]:
    return {"output_type": "display_data", "metadata": {}, "data": data}


def kinds(page: Page) -> list[str]:
    return [type(block).__name__ for block in page.blocks]


def code(source: str, *outputs: Any, **more: Any) -> dict[str, Any]:
    return cell("code", source, outputs=list(outputs), **more)


# Title and front matter --------------------------------------------------------------


def test_the_title_and_nothing_of_it_twice() -> None:
    text = "# The `core` of *it*\n\n> One,\n> two.\n\n- order: 3\n"
    text += "- skip_exec: true\n\nMore."
    page = page_of(cell("code", "#| default_exp core"), cell("markdown", text))
    assert (page.title, page.summary) == ("The core of it", "One, two.")
    assert page.blocks == (Prose("c1", "More."),)
    assert page.front == {"order": "3", "skip_exec": "true"}


def test_a_list_that_is_no_front_matter_stays() -> None:
    page = page_of(cell("markdown", "# T\n\n- Note: this stays\n- order: 1"))
    assert page.blocks == (Prose("c0", "- Note: this stays\n- order: 1"),)


def test_front_matter_in_yaml() -> None:
    raw = "---\ntitle: From YAML\ndescription: Said.\ncategories: [a]\n---"
    page = page_of(cell("raw", raw), cell("markdown", "# Heading\n\nText"))
    assert (page.title, page.summary) == ("From YAML", "Said.")
    assert page.front["categories"] == ["a"]
    with pytest.raises(LitmlError, match="c0") as caught:
        page_of(cell("raw", "---\na: [\n---"))
    assert caught.value.at and caught.value.at.cell == "c0"


def test_without_a_title_the_notebook_has_a_name() -> None:
    assert make_page(notebook(), "gallery/01_first_steps").title == "First steps"
    assert make_page(notebook(), "00").title


BADGE = "<a href='x'><img src='y'></a> [![b](c)](d)"


@pytest.mark.parametrize(
    ("above", "below", "title"),
    [
        ("**Chapter 2**", "# Results", "Core"),
        ("**Chapter 2**", "Text", "Setup"),
        (BADGE, "# Results", "Setup"),
        ("", "# Results", "Setup"),
    ],
)
def test_a_part_is_not_the_title(above: str, below: str, title: str) -> None:
    """Below other prose, one of several headings is not that of the page."""
    cells = [cell("markdown", one) for one in (above, "# Setup", below)]
    assert page_of(*cells).title == title


# Directives --------------------------------------------------------------------------

OUT = stream("2\n")
SHOWN = {
    "x = 1": ["Code", "Shown"],
    "#| hide\nx": [],
    "#|hide\n#|export\nx": [],
    "#| include: false\nx": [],
    "#| echo: false\nx": ["Shown"],
    "#| output: false\nx": ["Code"],
    "#| eval: false\nx": ["Code", "Shown"],
    "#| hide_input\nx": ["Shown"],
    "#| hide_output\nx": ["Code"],
    "#| default_exp core": [],
    "%load_ext autoreload\n%autoreload 2": [],
    "%matplotlib inline\nx": ["Code", "Shown"],
    "import nbdev; nbdev.nbdev_export()": [],
    "": [],
}


@pytest.mark.parametrize("source", SHOWN)
def test_what_directives_show(source: str) -> None:
    assert kinds(page_of(code(source, OUT))) == SHOWN[source]


@pytest.mark.parametrize(
    ("tag", "shown"),
    [
        ("remove-cell", []),
        ("remove-input", ["Shown"]),
        ("remove-output", ["Code"]),
        ("other", ["Code", "Shown"]),
    ],
)
def test_what_tags_show(tag: str, shown: list[str]) -> None:
    assert kinds(page_of(code("x", OUT, metadata={"tags": [tag]}))) == shown


def only_code(source: str, **more: Any) -> Code:
    (block,) = page_of(code(source, **more)).blocks
    assert isinstance(block, Code)
    return block


def test_folding() -> None:
    plain = only_code("x")
    assert (plain.folded, plain.summary) == (False, "")
    folded = only_code('#| code-fold: true\n#| code-summary: "See"\nx')
    assert (folded.folded, folded.summary) == (True, "See")
    shown = only_code("#| code-fold: show\nx")
    assert (shown.folded, shown.summary) == (False, "Code")
    lab = only_code("x", metadata={"jupyter": {"source_hidden": True}})
    assert lab.folded
    (_, out) = page_of(code("#| collapse-output\nx", OUT)).blocks
    assert isinstance(out, Shown) and out.folded


def test_exported_code_is_folded_and_exports_is_open() -> None:
    for name in ("export", "exporti", "export other.module"):
        block = only_code(f"#| {name}\nx = 1")
        assert block.folded and block.exported and block.source == "x = 1"
    assert not only_code("#| exports\nx = 1").folded
    assert only_code("#| export\nimport a").summary == "Imports"


def test_lines_that_are_not_for_readers() -> None:
    assert only_code("a\nb = 1 #| hide_line\nc").source == "a\nc"
    said = "#| filter_stream Warn Error\nx"
    (_, out) = page_of(code(said, stream("a\nWarning\nb\nan Error"))).blocks
    assert isinstance(out, Shown) and out.output["text"] == "a\nb\n"
    with pytest.raises(PageError, match="filter_stream"):
        page_of(code("#| filter_stream *\nx", stream("a")))


def test_streams_and_errors() -> None:
    error = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
    both = (stream("warned", "stderr"), error, OUT)
    assert len(page_of(code("x", *both)).blocks) == 4
    assert (
        len(page_of(code("#| warning: false\n#| error: false\nx", *both)).blocks) == 2
    )
    (_, out) = page_of(code("#| output: asis\nx", stream("*a*"))).blocks
    assert isinstance(out, Shown)
    assert out.output["data"] == {"text/markdown": "*a*"}


def test_captions_are_for_the_first_figure() -> None:
    said = '#| fig-cap: "Loss: falls"\n#| fig-alt: A line\n#| label: fig-loss\nplot()'
    plots = [stream("done"), image(**{"image/png": "AAAA"})] * 2
    shown = [b for b in page_of(code(said, *plots)).blocks if isinstance(b, Shown)]
    assert [one.caption for one in shown] == ["", "Loss: falls", "", ""]
    assert [one.alt for one in shown] == ["", "A line", "", "A line"]
    assert shown[1].label == "fig-loss"


@pytest.mark.parametrize(
    ("source", "language"),
    [
        ("%%bash\nls", "bash"),
        ("!pip list\n!ls", "bash"),
        ("%%time\nx", "python"),
        ("%%html\n<b>", "html"),
        ("x", "python"),
    ],
)
def test_languages(source: str, language: str) -> None:
    block = only_code(source)
    assert (block.language, block.source) == (language, source)


def test_notebooks_of_other_languages() -> None:
    kernel = {"language": "R", "name": "ir"}
    page = page_of(code("#| hide\nx <- 1"), code("x <- 1"), kernelspec=kernel)
    assert [(b.language, b.source) for b in page.blocks] == [("r", "x <- 1")]  # type: ignore[union-attr]


# Prose -------------------------------------------------------------------------------


def test_prose_cells() -> None:
    page = page_of(
        cell("markdown", "#| export\nSaid twice."),
        cell("markdown", "## Export -"),
        cell("markdown", "a\n\n::: {.callout-note}\nb\n:::\n\nc"),
        cell("raw", "secret"),
        cell("raw", "<b>x</b>", metadata={"format": "text/html"}),
        cell("markdown", "![](attachment:a.png)", attachments={"a.png": {}}),
    )
    assert page.blocks == (
        Prose("c0", "Said twice."),
        Prose("c2", "a"),
        Callout("note", "", "b", "c2"),
        Prose("c2", "c"),
        Prose("c4", "<b>x</b>"),
        Prose("c5", "![](attachment:a.png)", {"a.png": {}}),
    )


# Cards -------------------------------------------------------------------------------

MODULE = '''# %% c0
class A:
    """An A."""

    def f(self):
        """Do f."""

    def g(self): ...


# %% c1
def use(a: A):
    """Use it."""

SIZE = 3
'''


def cards(page: Page) -> list[str]:
    return [b.symbol.name for b in page.blocks if isinstance(b, ApiCard)]


def test_cards_stand_where_things_are_defined() -> None:
    page = page_of(
        code("#| export\nclass A: ..."), code("#| export\nuse"), module=MODULE
    )
    assert kinds(page) == ["ApiCard", "ApiCard", "Code", "ApiCard", "Code"]
    assert cards(page) == ["A", "A.f", "use"]
    assert {symbol.name for symbol in page.symbols} >= {
        "A",
        "A.f",
        "A.g",
        "use",
        "SIZE",
    }


def test_show_doc_places_a_card() -> None:
    page = page_of(
        code("#| export\nclass A: ..."),
        code("#| export\nuse"),
        code("show_doc(core.A.g)\nshow_doc(use, title_level=4)", OUT),
        code("show_doc(other.thing)", OUT),
        module=MODULE,
    )
    assert cards(page) == ["A", "A.f", "A.g", "use"]
    assert kinds(page)[-3:] == ["ApiCard", "ApiCard", "Shown"]


def test_hidden_cells_have_no_cards() -> None:
    page = page_of(code("#| export\n#| hide\nclass A: ..."), module=MODULE)
    assert not page.blocks and page.symbols


# What is wrong -----------------------------------------------------------------------

WRONG = [
    {"output_type": "stream", "name": "stdout", "text": 3},
    {"output_type": "stream", "name": "stdout"},
    {"output_type": "stream", "text": ["a", None]},
    {"output_type": "display_data"},
    {"output_type": "display_data", "data": []},
    {"output_type": "execute_result", "data": {"text/plain": {"a": 1}}},
    {"output_type": "pyout"},
    {},
]


@pytest.mark.parametrize("output", WRONG)
def test_an_output_that_is_none_names_its_cell(output: dict[str, Any]) -> None:
    with pytest.raises(PageError) as caught:
        page_of(code("x"), code("y", output))
    assert str(caught.value.at) == "nbs/00_core.ipynb, cell c1"


def test_a_hidden_output_may_be_anything() -> None:
    assert page_of(code("#| hide\nx", {})).blocks == ()


def test_odd_metadata_is_no_matter() -> None:
    odd = {"tags": 3, "jupyter": [], "hide_input": "x", "nbdev": {"a": 1}}
    page = page_of(
        code("x", metadata=odd), cell("markdown", "a", attachments=[1]), title=3
    )
    assert kinds(page) == ["Code", "Prose"]


# Ours --------------------------------------------------------------------------------


def test_a_chapter_of_ours() -> None:
    path = ROOT / "nbs" / "01_notebook.ipynb"
    text = (ROOT / "litml" / "notebook.py").read_text("utf-8")
    found = read_notebook(path, "nbs/01_notebook.ipynb")
    page = make_page(found, "01_notebook", "litml.notebook", text)
    assert page.title == "Notebook" and page.summary
    assert {"Cell", "Cell.source", "read_notebook"} <= set(cards(page))
    sources = {b.source for b in page.blocks if isinstance(b, Code) and b.exported}
    assert all(source in text for source in sources)
