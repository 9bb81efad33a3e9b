"""Laws of reading and writing notebooks, whatever is in them and however laid out.

The other side of every comparison is `json` and `nbformat`.
"""

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nbformat
import pytest
from conftest import code, notebook_bytes
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from litml.cells import read_directives
from litml.notebook import LitmlError, Notebook, NotebookError, parse_notebook

# Notebooks of every kind -------------------------------------------------------------

ODD = '\0\x07\x0b\x0c\x1b\x1c\x7f\x85\u2028\u2029\ufeff\ud800\udfff\U0001f600é"\\/\r\n'
texts = st.text(
    st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=())), max_size=12
)
numbers = st.one_of(st.integers(), st.floats(), st.integers(10**30, 10**40))
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)
    ),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=3)
sources = st.one_of(texts, texts.map(lambda text: text.splitlines(True)))


@st.composite
def shuffled(draw: st.DrawFn, tree: st.SearchStrategy[dict[str, Any]]) -> Any:
    """Add keys that nobody knows, and draw an order for all of them."""
    items = list({**draw(objects), **draw(tree)}.items())
    return dict(draw(st.permutations(items)))


cells = shuffled(
    st.fixed_dictionaries(
        {
            "cell_type": st.sampled_from(["code", "markdown", "raw"]),
            "metadata": objects,
            "source": sources,
        },
        optional={
            "id": st.uuids().map(str),
            "outputs": st.lists(objects, max_size=2),
            "attachments": objects,
        },
    )
)
trees = shuffled(
    st.fixed_dictionaries(
        {
            "cells": st.lists(cells, max_size=4),
            "metadata": objects,
            "nbformat": st.just(4),
            "nbformat_minor": st.integers(0, 5),
        }
    )
)


@dataclass(frozen=True)
class Style:
    """One way to lay out a notebook's file, as the standard library would."""

    indent: int | str | None
    separators: tuple[str, str]
    ascii: bool
    newline: str
    end: str
    mark: bytes

    def dump(self, tree: object) -> bytes:
        """Return the bytes of the file."""
        text = json.dumps(
            tree,
            indent=self.indent,
            separators=self.separators,
            ensure_ascii=self.ascii,
        )
        text = text.replace("\n", self.newline) + self.end
        return self.mark + text.encode("utf-8", "backslashreplace")


@st.composite
def drawn_styles(draw: st.DrawFn) -> Style:
    """Draw any of the layouts in which editors and scripts save JSON."""
    indent = draw(st.sampled_from([None, 0, 1, 2, 4, "\t"]))
    compact = draw(st.booleans())
    return Style(
        indent,
        ("," if compact or indent is not None else ", ", ":" if compact else ": "),
        ascii=draw(st.booleans()),
        newline=draw(st.sampled_from(["\n", "\r\n"])),
        end=draw(st.sampled_from(["", "\n", "\r\n", "\n\n"])),
        mark=draw(st.sampled_from([b"", b"\xef\xbb\xbf"])),
    )


styles = drawn_styles()
JUPYTER = Style(1, (",", ": "), False, "\n", "\n", b"")


def look_at_everything(notebook: Notebook) -> None:
    """Use every view that litml has of a notebook."""
    _ = notebook.language, notebook.metadata
    for cell in notebook.cells:
        _ = cell.id, cell.kind, cell.source, cell.metadata, cell.outputs
    read_directives(notebook, strict=False)


# The laws ----------------------------------------------------------------------------


@given(trees, styles)
def test_an_untouched_notebook_keeps_its_bytes(tree: Any, style: Style) -> None:
    raw = style.dump(tree)
    notebook = parse_notebook(raw, "n.ipynb")
    for cell in notebook.cells:
        cell.source = "" + cell.source
    assert notebook.to_bytes() == raw


@given(trees, styles, texts, st.data())
def test_a_changed_cell_changes_nothing_else(
    tree: Any, style: Style, text: str, data: st.DataObject
) -> None:
    assume(tree["cells"])
    i = data.draw(st.integers(0, len(tree["cells"]) - 1))
    beyond = {char for char in json.dumps(tree, ensure_ascii=False) if char > "~"}
    if all("\ud800" <= char <= "\udfff" for char in beyond):
        # The file looks the same with and without ASCII escapes.
        text = "".join(char for char in text if char <= "~")
    raw = style.dump(tree)
    notebook = parse_notebook(raw, "n.ipynb")
    notebook.cells[i].source = text

    expected = copy.deepcopy(tree)
    stored = expected["cells"][i]["source"]
    if (stored if isinstance(stored, str) else "".join(stored)) != text:
        is_string = isinstance(stored, str)
        expected["cells"][i]["source"] = text if is_string else text.splitlines(True)
    assert notebook.to_bytes() == style.dump(expected)


@given(st.lists(st.tuples(sources, objects), min_size=1, max_size=3), styles)
def test_a_notebook_without_metadata_stays_without(found: Any, style: Style) -> None:
    parts = [{"cell_type": "code", "source": text, **rest} for text, rest in found]
    raw = style.dump({"cells": parts, "nbformat": 4})
    notebook = parse_notebook(raw, "n.ipynb")
    look_at_everything(notebook)
    assert notebook.to_bytes() == raw


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("key", ['"', "\\", "a: ", ""])
def test_an_odd_first_key_does_not_hide_the_layout(
    key: str, indent: int | None
) -> None:
    tree = {key: 1, "cells": [code("a", "1")], "nbformat": 4}
    notebook = parse_notebook(json.dumps(tree, indent=indent).encode(), "n.ipynb")
    notebook.cells[0].source = "2"
    tree["cells"] = [code("a", "2")]
    assert notebook.to_bytes() == json.dumps(tree, indent=indent).encode()


def test_cells_may_come_and_go_and_move() -> None:
    parts = [code(name, f"{name} = 1\n") for name in "abc"]
    notebook = parse_notebook(notebook_bytes(*parts), "n.ipynb")
    notebook.cells = notebook.cells[2:0:-1]
    assert notebook.to_bytes() == notebook_bytes(parts[2], parts[1])


@pytest.mark.parametrize("text", ["\\usepackage", "\x1b[31m", "ordinary"])
def test_ascii_so_far_does_not_mean_ascii_for_ever(text: str) -> None:
    """A backslash before `u` and the escape of a control character are not a style."""
    raw = JUPYTER.dump({"cells": [code("a", text), code("b", "")], "nbformat": 4})
    notebook = parse_notebook(raw, "n.ipynb")
    notebook.cells[1].source = "é"
    assert '"é"' in notebook.to_bytes().decode()


@pytest.mark.parametrize("number", ["1e-7", "1E5", "2.50", "1e400"])
def test_a_number_keeps_its_spelling_when_a_cell_changes(number: str) -> None:
    """JavaScript spells numbers differently from Python, and `1e400` has no float."""
    raw = notebook_bytes(code("a", "1"), future="@").replace(b'"@"', number.encode())
    notebook = parse_notebook(raw, "n.ipynb")
    notebook.cells[0].source = "2"
    assert notebook.to_bytes() == raw.replace(b'"1"', b'"2"')


def test_a_key_that_stands_twice_is_never_lost() -> None:
    cell = b'{"cell_type": "raw", "source": "a"}'
    raw = b'{"nbformat": 4, "cells": [%s], "k": 1, "k": 2}' % cell
    notebook = parse_notebook(raw, "n.ipynb")
    assert notebook.to_bytes() == raw
    notebook.cells[0].source = "b"
    with pytest.raises(NotebookError, match="`k` stands twice"):
        notebook.to_bytes()


def test_deep_nesting_is_kept_or_refused() -> None:
    for depth in [100, *range(900, 1000, 15), 5000, 100_000]:
        deep = "[" * depth + "]" * depth
        raw = notebook_bytes(code("a", "1"), future="@").replace(b'"@"', deep.encode())
        try:
            notebook = parse_notebook(raw, "n.ipynb")
            notebook.cells[0].source = "2"
            assert b'"2"' in notebook.to_bytes()
        except NotebookError as error:
            assert depth > 100 and "nested too deeply" in error.message


# nbformat's own word -----------------------------------------------------------------


def old_notebook() -> bytes:
    """Return a notebook of nbformat 3, from before there were cell ids."""
    v3 = nbformat.v3
    parts = [
        v3.new_text_cell("markdown", source="# Old"),
        v3.new_code_cell(input="x = 1\nx", prompt_number=3),
    ]
    tree = v3.new_notebook(worksheets=[v3.new_worksheet(cells=parts)])
    return str(nbformat.v3.writes_json(tree)).encode()


def new_notebooks() -> Iterator[bytes]:
    """Yield a notebook of each minor version of nbformat 4."""
    v4 = nbformat.v4
    for minor in range(6):
        parts = [v4.new_markdown_cell("# New"), v4.new_code_cell("x = 1\nx")]
        for cell in parts if minor < 5 else []:
            del cell["id"]
        tree = v4.new_notebook(cells=parts, nbformat_minor=minor)
        yield str(v4.writes(tree)).encode()


@pytest.mark.parametrize("raw", [old_notebook(), *new_notebooks()])
def test_every_nbformat_is_read_and_stays_valid(raw: bytes) -> None:
    notebook = parse_notebook(raw, "n.ipynb")
    assert [cell.kind for cell in notebook.cells] == ["markdown", "code"]
    assert notebook.to_bytes() == raw
    notebook.cells[1].source = "y = 2\ny"
    written = json.loads(notebook.to_bytes())
    nbformat.validate(written)
    assert written["nbformat"] == 4
    before = json.loads(raw)
    if before["nbformat"] == 4:
        assert written["nbformat_minor"] == before["nbformat_minor"]
    assert nbformat.from_dict(written).cells[1].source == ["y = 2\n", "y"]


# What is not a notebook --------------------------------------------------------------


@given(trees, styles, st.data())
def test_a_part_of_a_file_is_never_a_notebook(
    tree: Any, style: Style, data: st.DataObject
) -> None:
    raw = style.dump(tree)
    end = data.draw(st.integers(0, len(raw.rstrip()) - 1))
    with pytest.raises(NotebookError, match=r"at some\.ipynb"):
        parse_notebook(raw[:end], "some.ipynb")


def wreck(draw: st.DrawFn, tree: Any) -> Any:
    """Return `tree` with one value in it replaced by anything."""
    if not isinstance(tree, dict | list) or not tree or draw(st.integers(0, 5)) == 0:
        return draw(values)
    copied = copy.copy(tree)
    keys = list(copied) if isinstance(copied, dict) else range(len(copied))
    key = draw(st.sampled_from(keys))
    copied[key] = wreck(draw, copied[key])
    return copied


@st.composite
def wrecks(draw: st.DrawFn) -> Any:
    about = {"kernelspec": {"language": "python"}, "nbdev": {"hide": "true"}}
    cell = code("a", "#| export\nx = 1", outputs=[{"output_type": "stream"}])
    tree = {"cells": [cell], "metadata": about, "nbformat": 4, "nbformat_minor": 5}
    return wreck(draw, tree)


@settings(max_examples=300)
@given(wrecks())
def test_a_wrong_value_anywhere_is_an_error_at_worst(tree: Any) -> None:
    """No file, however odd, makes a Python error that a user would have to read."""
    try:
        notebook = parse_notebook(JUPYTER.dump(tree), "n.ipynb")
        look_at_everything(notebook)
        notebook.to_bytes()
    except LitmlError as error:
        assert "n.ipynb" in str(error)
