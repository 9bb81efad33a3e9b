"""Clean bytes: the laws, Jupyter's own save, odd files, the policy's three levels."""

import io
import json
import os
import random
import re
import subprocess
import sys
from typing import Any

import nbformat
import pytest
from conftest import code, notebook_bytes, prose
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from litml.canonical import OddFile, load_tree, split_text, write_tree
from litml.cells import read_directives
from litml.clean import (
    CELL_KEYS,
    NOTEBOOK_KEYS,
    WIDGET,
    Cleaned,
    Policy,
    choose_outputs,
    clean_bytes,
    clean_notebook,
    load_policy,
    parse_policy,
)
from litml.notebook import NotebookError, parse_notebook
from litml.project import ConfigError

EVERYTHING = Policy("keep", 0, frozenset("*"), frozenset("*"))
POLICIES = [
    Policy(),
    Policy("keep"),
    Policy("small", 120),
    EVERYTHING,
    parse_policy({"notebook-metadata": ["widgets", "mine"], "cell-metadata": ["mine"]}),
]

# Notebooks ----------------------------------------------------------------------------

BITS = [
    "a",
    "é",
    "\n",
    "\n",
    "\r",
    "\r\n",
    "\f",
    "\u2028",
    " at 0x7f3a5c0b2d90",
    "\ud800",
]
text = st.lists(
    st.sampled_from([*BITS, " 0x", '"', "\\", "<<<<<<< ", "#| "]), max_size=9
)
text = text.map("".join)
stored = text | text.map(str.splitlines) | text.map(lambda one: one.splitlines(True))
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3)
    ),
    max_leaves=6,
)
words = st.sampled_from(["keep", "drop", "small", "kept", None, 3])
own = st.fixed_dictionaries(
    {},
    optional={
        "outputs": words,
        "conflict": st.sampled_from(["source", "deleted", 1]),
        "more": anything,
    },
)
metadata = st.fixed_dictionaries(
    {},
    optional={
        "tags": st.lists(st.sampled_from(["keep_output", "a"])) | anything,
        "litml": own | anything,
        "trusted": st.booleans(),
        "signature": text,
        "language_info": st.fixed_dictionaries({}, optional={"version": text})
        | anything,
        "widgets": anything,
        "mine": anything,
        "keep_output": st.booleans(),
    },
)
mimes = [
    "text/plain",
    "text/html",
    "image/png",
    "image/svg+xml",
    WIDGET,
    "application/json",
]
outputs = st.fixed_dictionaries(
    {
        "output_type": st.sampled_from(
            ["stream", "display_data", "execute_result", "error"]
        )
    },
    optional={
        "name": st.sampled_from(["stdout", "stderr"]),
        "text": stored,
        "data": st.dictionaries(st.sampled_from(mimes), stored | anything, max_size=2),
        "metadata": st.dictionaries(st.sampled_from(["image/png", "tags"]), anything),
        "execution_count": st.integers(0, 9),
        "traceback": st.lists(text, max_size=2),
        "transient": anything,
    },
)
cells = st.fixed_dictionaries(
    {"cell_type": st.sampled_from(["code", "markdown", "raw"]), "source": stored},
    optional={
        "id": st.sampled_from(["a", "b", "c", "00000000"]) | st.just(""),
        "metadata": metadata,
        "outputs": st.lists(outputs, max_size=3),
        "execution_count": st.none() | st.integers(0, 9),
        "attachments": st.dictionaries(
            text, st.dictionaries(st.just("text/x"), stored)
        ),
        "unknown": anything,
    },
)
notebooks = st.fixed_dictionaries(
    {
        "nbformat": st.just(4),
        "cells": st.lists(cells, max_size=4),
        "metadata": metadata,
    },
    optional={"nbformat_minor": st.integers(0, 6), "unknown": anything},
)


def dump(tree: object, **layout: Any) -> bytes:
    return json.dumps(tree, **layout).encode("utf-8", "backslashreplace")


def cells_of(raw: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(raw)["cells"]
    return found


# The laws -----------------------------------------------------------------------------


@given(notebooks, st.sampled_from(POLICIES))
@settings(max_examples=400)
def test_clean_once_is_clean_for_good(tree: dict[str, Any], policy: Policy) -> None:
    once = clean_notebook(dump(tree), policy)
    assert once.left == ""
    assert clean_notebook(once.data, policy)[:2] == (once.data, "")


@given(notebooks, st.sampled_from(POLICIES), st.integers(0, 4), st.randoms())
@settings(max_examples=150)
def test_the_layout_does_not_matter(
    tree: dict[str, Any], policy: Policy, indent: int, chance: random.Random
) -> None:
    def shuffle(value: Any) -> Any:
        if isinstance(value, dict):
            keys = list(value)
            chance.shuffle(keys)
            return {key: shuffle(value[key]) for key in keys}
        return list(map(shuffle, value)) if isinstance(value, list) else value

    other = dump(shuffle(tree), indent=indent, ensure_ascii=bool(indent % 2))
    for raw in (other, b"\xef\xbb\xbf" + other.replace(b"\n", b"\r\n") + b"\r\n"):
        assert clean_bytes(raw, policy) == clean_bytes(dump(tree), policy)


@given(notebooks, st.sampled_from(POLICIES))
def test_the_bytes_are_those_of_json(tree: dict[str, Any], policy: Policy) -> None:
    data = clean_bytes(dump(tree), policy)
    shown = json.dumps(json.loads(data), ensure_ascii=False, indent=1, sort_keys=True)
    assert data == f"{shown}\n".encode("utf-8", "backslashreplace")


@given(notebooks, st.sampled_from(POLICIES))
def test_nothing_an_author_wrote_is_lost(tree: dict[str, Any], policy: Policy) -> None:
    data = json.loads(clean_bytes(dump(tree), policy))
    before = json.loads(dump(tree))
    assert data.keys() == before.keys()
    seen: set[str] = set()
    for old, new in zip(before["cells"], data["cells"], strict=True):
        assert "".join(new["source"]) == "".join(old["source"])
        added = {"id", "metadata"} | ({"outputs", "execution_count"} - old.keys())
        assert new.keys() - added == old.keys() - added
        same = [json.dumps(one.get("unknown"), sort_keys=True) for one in (old, new)]
        assert same[0] == same[1]
        if old.get("id") and old["id"] not in seen:
            assert new["id"] == old["id"], "the first one keeps its id"
        seen.add(old.get("id", ""))
    if data.get("nbformat_minor", 0) >= 5:
        assert len({cell["id"] for cell in data["cells"]}) == len(data["cells"])
    else:
        ids = [[cell.get("id") for cell in one["cells"]] for one in (before, data)]
        assert ids[0] == ids[1], "no ids before format 4.5"


@given(notebooks)
@settings(max_examples=50)
def test_dropped_outputs_leave_nothing(tree: dict[str, Any]) -> None:
    for cell in tree["cells"]:
        cell["source"], cell["metadata"] = "", {}
    tree["metadata"] = {}
    for cell in cells_of(clean_bytes(dump(tree), Policy())):
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None


def test_every_machine_gives_the_same_bytes() -> None:
    tree = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"b": 1, "a": {}, "title": ""},
    }
    outputs = [{"output_type": "stream", "text": "x at 0x123456\n"}]
    tree["cells"] = [{**code(None, f"x = {n}"), "outputs": outputs} for n in range(20)]
    script = (
        "import sys; from litml.clean import *; from litml.clean import Policy;"
        "sys.stdout.buffer.write(clean_bytes(sys.stdin.buffer.read(), Policy('keep')))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            input=dump(tree),
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in "012"
    }
    assert found == {clean_bytes(dump(tree), Policy("keep"))}


# Jupyter's own save -------------------------------------------------------------------


def save_as_jupyter(raw: bytes) -> bytes:
    """Return what Jupyter's contents manager writes for a file it has just opened."""
    file = io.StringIO()
    node = nbformat.reads(raw.decode(), as_version=4)  # type: ignore[no-untyped-call]
    nbformat.write(node, file, version=nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]
    return file.getvalue().encode()


@st.composite
def valid_notebooks(draw: st.DrawFn) -> bytes:
    """Draw a notebook that nbformat's schema accepts, texts stored as strings."""
    printable = st.text('ab é😀\n\t\\"</>\f\u2028\x7f', max_size=12)
    lines = printable | printable.map(lambda one: one.splitlines(True))
    data = st.dictionaries(st.sampled_from(mimes[:4]), lines, min_size=1, max_size=2)
    shown = {"data": data, "metadata": st.just({})}
    result = {"output_type": st.just("execute_result"), "execution_count": st.just(1)}
    output = st.one_of(
        st.fixed_dictionaries(shown | {"output_type": st.just("display_data")}),
        st.fixed_dictionaries(shown | result),
        st.fixed_dictionaries(
            {"output_type": st.just("stream"), "name": st.just("stdout"), "text": lines}
        ),
    )
    made: list[dict[str, Any]] = []
    for number in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            shown_there = draw(st.lists(output, max_size=3))
            made.append(code(f"c{number}", "", outputs=shown_there, execution_count=2))
        else:
            attached = {"a.txt": {"text/plain": draw(lines), "image/png": "AA\n"}}
            made.append({**prose(f"p{number}", ""), "attachments": attached})
        made[-1]["source"] = draw(lines)
    minor = draw(st.sampled_from([4, 5]))
    if minor == 4:
        made = [{k: v for k, v in cell.items() if k != "id"} for cell in made]
    about = {"signature": "x", "orig_nbformat": 3, "title": draw(printable)}
    return notebook_bytes(*made, metadata=about, nbformat_minor=minor)


@given(valid_notebooks(), st.sampled_from(POLICIES))
def test_jupyter_saves_a_clean_notebook_as_it_is(raw: bytes, policy: Policy) -> None:
    data = clean_bytes(raw, policy)
    nbformat.validate(json.loads(data))
    assert save_as_jupyter(data) == data


@given(valid_notebooks())
def test_the_form_is_jupyters(raw: bytes) -> None:
    saved, data = (
        json.loads(save_as_jupyter(raw)),
        json.loads(clean_bytes(raw, EVERYTHING)),
    )
    for old, new in zip(saved["cells"], data["cells"], strict=True):
        assert new["source"] == old["source"]
        assert new.get("attachments") == old.get("attachments")
    assert write_tree(saved) == save_as_jupyter(raw)


def test_what_the_format_demands_is_added() -> None:
    bare = [{"cell_type": kind, "source": "x"} for kind in ("code", "markdown", "raw")]
    for minor in (2, 5):
        raw = dump({"nbformat": 4, "nbformat_minor": minor, "cells": bare})
        data = clean_bytes(raw, Policy())
        nbformat.validate(json.loads(data))
        assert save_as_jupyter(data) == data


def test_other_editors_lines_are_kept() -> None:
    plain = ["a\f", "b\u2028c\n", "d"]  # Python would cut at these as well
    vscode = ["a\fb\u2028c\n", "d"]
    assert split_text(vscode) == vscode
    assert split_text("".join(vscode)) == "".join(plain).splitlines(True)
    assert split_text(["a\nb", "c"]) == ["a\n", "bc"]


# Odd files ----------------------------------------------------------------------------

GOOD = notebook_bytes(code("a", "1 + 1"))
SMALL = '{"nbformat": 4, "metadata": {}, "cells": %s}'
ODD = {
    "nothing": (b"", "empty"),
    "blanks": (b" \n", "empty"),
    "conflict": (
        b"<<<<<<< HEAD\n" + GOOD + b"=======\n{}\n>>>>>>> b\n",
        "conflict markers",
    ),
    "cut off": (GOOD[:200], "cut off"),
    "two": (GOOD + GOOD, "not JSON"),
    "format 3": (b'{"nbformat": 3, "worksheets": []}', "nbformat 3"),
    "format 5": (b'{"nbformat": 5, "cells": []}', "nbformat 5"),
    "true": (b'{"nbformat": true, "cells": []}', "no notebook"),
    "list": (b"[]", "no notebook"),
    "number": (b"4", "no notebook"),
    "text": (b"# a markdown file\n", "not JSON"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "not UTF-8"),
    "Latin 1": (GOOD.replace(b"1 + 1", b"\xe9"), "not UTF-8"),
    "mark": (b"\xef\xbb\xbf" + b'{"nbformat"', "cut off"),
    "zeros": (b"\x00" * 9, "not JSON"),
    "double key": (
        GOOD.replace(b'"id"', b'"source": [], "id"'),
        "`source` stands twice",
    ),
    "deep": (b'{"nbformat": 4, "cells": %s' % (b"[" * 99_999), "nested too deeply"),
    "huge": (
        GOOD.replace(b'"metadata": {}', b'"metadata": {"title": 1e999}'),
        "too large",
    ),
    "digits": (GOOD.replace(b'"nbformat": 4', b'"nbformat": ' + b"4" * 5000), ""),
    "cells": ((SMALL % "{}").encode(), "not a notebook"),
    "no cells": (b'{"nbformat": 4}', "not a notebook"),
    "a cell": ((SMALL % "[1]").encode(), "cell that is none"),
    "no type": ((SMALL % '[{"source": ""}]').encode(), "cell that is none"),
    "source": ((SMALL % '[{"cell_type": "code", "source": [1]}]').encode(), "is none"),
    "outputs": (GOOD.replace(b'"outputs": []', b'"outputs": [{"text": 3}]'), "is none"),
    "null": (GOOD.replace(b'"outputs": []', b'"outputs": null'), "is none"),
    "metadata": (SMALL.replace("{}", "[]").encode() % b"[]", "its `metadata`"),
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_comes_back_as_it_was(name: str) -> None:
    raw, reason = ODD[name]
    for policy in POLICIES:
        cleaned = clean_notebook(raw, policy)
        assert cleaned.data == raw and reason in cleaned.left
        assert cleaned.left, "somebody has to be told"
        assert clean_bytes(raw, policy) == raw


@given(st.binary() | st.text().map(str.encode), st.sampled_from(POLICIES))
def test_whatever_comes_in_comes_out(raw: bytes, policy: Policy) -> None:
    assert clean_notebook(raw, policy)[0] == raw


@given(st.integers(0, 10_000), st.binary(max_size=3), st.sampled_from(POLICIES))
@settings(max_examples=150)
def test_a_damaged_notebook_is_not_made_worse(
    place: int, scratch: bytes, policy: Policy
) -> None:
    place %= len(GOOD)
    raw = GOOD[:place] + scratch + GOOD[place + 1 :]
    cleaned = clean_notebook(raw, policy)
    if cleaned.left:
        assert cleaned.data == raw
    else:
        assert len(cells_of(cleaned.data)) == len(cells_of(raw))


@given(notebooks)
@settings(max_examples=50)
def test_cleaned_or_refused_as_the_reader_does(tree: dict[str, Any]) -> None:
    data = clean_bytes(dump(tree), Policy())
    assume(b"\\ud800" not in data)  # half a character has no UTF-8
    try:
        notebook = parse_notebook(dump(tree), "n.ipynb")
    except NotebookError:
        return
    again = parse_notebook(data, "n.ipynb")
    assert [c.source for c in again.cells] == [c.source for c in notebook.cells]
    has_ids = tree.get("nbformat_minor", 0) >= 5
    own = [cell.data.get("id") for cell in notebook.cells]
    if has_ids and not any(own):
        names = [cell.id for cell in again.cells]
        assert names == [cell.id for cell in notebook.cells], (
            "the ids litml called them by"
        )


# Outputs that are kept ----------------------------------------------------------------


def show(text: str | list[str], name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def display(**data: Any) -> dict[str, Any]:
    named = {mime.replace("_", "/"): value for mime, value in data.items()}
    return {"output_type": "display_data", "data": named, "metadata": {}}


def kept(
    *outputs: dict[str, Any], policy: Policy = POLICIES[1]
) -> list[dict[str, Any]]:
    raw = notebook_bytes(code("a", "show()", outputs=list(outputs)))
    found: list[dict[str, Any]] = cells_of(clean_bytes(raw, policy))[0]["outputs"]
    return found


def test_a_progress_bar_ends_in_its_last_state() -> None:
    bar = [
        f"\r {percent:3}%|{'#' * (percent // 10):10}|" for percent in range(0, 101, 10)
    ]
    assert kept(*map(show, bar), show("\ndone\n")) == [
        show([" 100%|##########|\n", "done\n"])
    ]
    assert kept(show("a\r\nb\r\n")) == [show(["a\r\n", "b\r\n"])], "Windows' line ends"
    assert kept(show("50%\r"), show("100%\r")) == [show(["100%\r"])]


def test_long_lines_and_many_outputs() -> None:
    """Each takes minutes where a rule needs the square of the length."""
    line = "x" * 500_000
    assert kept(show(f"{line}\n1\r2")) == [show([f"{line}\n", "2"])]
    assert kept(*[show(f"\r{line[:1000]}{n}") for n in range(3000)]) == [
        show([f"{line[:1000]}2999"])
    ]
    assert kept(show(line + " at 0x" * 50_000)) == [show([line + " at 0x" * 50_000])]
    assert kept(show("\r" * 99_999)) == [show(["\r"] * 99_999)]


def test_two_runs_show_the_same() -> None:
    addresses = "0x7f3a5c0b2d90", "0x000001F2C0DE"
    runs = [
        kept(
            show(f"<M at {address}>"),
            display(
                text_plain=f"<M at {address}>", text_html=f"&lt;M at {address}&gt;"
            ),
            {
                "output_type": "error",
                "ename": "E",
                "evalue": f"<M at {address}>",
                "traceback": [f"<M at {address}>", "2"],
            },
        )
        for address in addresses
    ]
    assert runs[0] == runs[1]
    assert runs[0][0]["text"] == ["<M>"]


def test_what_looks_similar_is_kept() -> None:
    text = "mov at 0x10, meet me at 0x, byte 0x7f3a5c0b2d90"
    assert kept(show(text)) == [show([text])]
    address = {"application/json": {"a": [" at 0x7f3a5c0b2d90"]}}
    output = {"output_type": "display_data", "data": address, "metadata": {}}
    assert kept(output) == [output]


def test_metadata_of_outputs() -> None:
    told = {"image/png": {"width": 3}, "needs_background": "light", "tags": [], "x": 1}
    (output,) = kept(
        {**display(image_png="AA"), "metadata": told, "transient": {"a": 1}}
    )
    expected = {"image/png": {"width": 3}, "needs_background": "light"}
    assert output == {**display(image_png="AA"), "metadata": expected}


def test_a_widget_leaves_its_text_unless_the_models_are_kept() -> None:
    data = {WIDGET: {"model_id": "5f1c"}, "text/plain": ["Bar"]}
    bar = {**display(), "data": data}
    only = {**display(), "data": {WIDGET: {"model_id": "5f1c"}}}
    assert kept(bar, only) == [display(text_plain=["Bar"])]
    models = notebook_bytes(code("a", "", outputs=[bar]), metadata={"widgets": {}})
    policy = parse_policy({"outputs": "keep", "notebook-metadata": ["widgets"]})
    assert cells_of(clean_bytes(models, policy))[0]["outputs"] == [bar]


def test_small_outputs_are_measured_one_by_one() -> None:
    large, small = display(image_png="A" * 400), display(image_png="A" * 40)
    policy = Policy("small", 200)
    assert kept(large, small, policy=policy) == [small]
    parts = [show(["a" * 80]), large, show(["b" * 80])]
    assert kept(*parts, policy=policy) == [], "what is between them gone, they are one"
    assert kept(*parts, policy=Policy("small", 300)) == [show(["a" * 80 + "b" * 80])]


def test_images_are_left_alone() -> None:
    image = display(image_png="iVBOR at 0x7f3a5c0b2d90\r\n")
    assert kept(image) == [image]
    assert kept(display(image_png=["iV\n", "BO\n"])) == [display(image_png="iV\nBO\n")]


# The policy ---------------------------------------------------------------------------

LEVELS = [
    # project, notebook, cell's metadata, its directive -> kept?
    ("drop", {}, {}, "", False),
    ("keep", {}, {}, "", True),
    ("drop", {"litml": {"outputs": "keep"}}, {}, "", True),
    ("keep", {"litml": {"outputs": "drop"}}, {}, "", False),
    ("drop", {"keep_output": True}, {}, "", True),
    ("drop", {"litml": {"outputs": "drop"}}, {"tags": ["keep_output"]}, "", True),
    ("drop", {}, {"keep_output": True}, "", True),
    ("drop", {}, {"litml": {"outputs": "keep"}}, "", True),
    ("keep", {}, {"litml": {"outputs": "drop"}}, "", False),
    ("keep", {}, {"litml": {"outputs": "drop"}}, "#| outputs: keep", True),
    ("keep", {}, {"tags": ["keep_output"]}, "#| eval: false\n#|outputs: drop", False),
    ("drop", {}, {}, "#| outputs: small", True),
    ("drop", {}, {}, "%%time\n\n# | outputs: keep", True),
    ("drop", {}, {}, "#| outputs: kept", False),
    ("drop", {"litml": {"outputs": "kept"}}, {"litml": []}, "", False),
    ("drop", {"litml": 1}, {"tags": None}, "print('#| outputs: keep')", False),
    ("drop", {}, {}, "1\n#| outputs: keep", False),
]


@pytest.mark.parametrize("project, notebook, metadata, head, is_kept", LEVELS)
def test_the_nearest_word_counts(
    project: str, notebook: Any, metadata: Any, head: str, is_kept: bool
) -> None:
    cell = code("a", f"{head}\nprint(1)", outputs=[show(["1\n"])], metadata=metadata)
    raw = notebook_bytes(cell, metadata=notebook)
    outputs = cells_of(clean_bytes(raw, Policy(project)))[0]["outputs"]
    assert outputs == ([show(["1\n"])] if is_kept else [])


heads = st.lists(
    st.sampled_from(
        [
            *(
                "#| outputs: keep",
                "# | outputs:drop",
                "#|outputs small",
                "#| eval: false",
            ),
            *(
                "",
                "  ",
                "%%time",
                "# a comment",
                "x = 1",
                "#| outputs: kept",
                "#| output: keep",
            ),
            *(
                "  #| outputs: small",
                "#| outputs : keep",
                "#| outputs:",
            ),
        ]
    ),
    max_size=5,
)


@given(heads)
@settings(max_examples=300)
def test_a_directive_is_read_as_everywhere_else(lines: list[str]) -> None:
    cell = code("a", "\n".join(lines))
    notebook = parse_notebook(notebook_bytes(cell), "n.ipynb")
    (said,) = read_directives(notebook, strict=False)
    value = said["outputs"].value if "outputs" in said else ""
    expected = value if value in ("drop", "keep", "small") else ""
    assert choose_outputs(cell, "") == expected


def test_metadata_that_no_list_names_goes() -> None:
    about = {"kernelspec": {"name": "p"}, "colab": {}, "mine": 1, "language_info": {}}
    cell = code(
        "a", "", metadata={"tags": [], "scrolled": True, "mine": 2, "trusted": True}
    )
    raw = notebook_bytes(cell, metadata=about)
    tree = json.loads(clean_bytes(raw, Policy()))
    assert tree["metadata"] == {"kernelspec": {"name": "p"}, "language_info": {}}
    assert tree["cells"][0]["metadata"] == {"tags": []}
    more = parse_policy({"notebook-metadata": ["mine"], "cell-metadata": ["mine"]})
    tree = json.loads(clean_bytes(raw, more))
    assert tree["metadata"]["mine"] == 1
    assert tree["cells"][0]["metadata"] == {"tags": [], "mine": 2}
    tree = json.loads(clean_bytes(raw, EVERYTHING))
    assert tree["metadata"] == about
    assert "trusted" not in tree["cells"][0]["metadata"], "Jupyter drops that itself"


@pytest.mark.parametrize(
    "table, message",
    [
        (
            {"outputs": "none"},
            "`outputs` in [tool.litml.clean] is one of drop, keep, small",
        ),
        ({"outputs": True}, "`outputs`"),
        ({"output-limit": "10kB"}, "a number of bytes"),
        ({"output-limit": -1}, "a number of bytes"),
        ({"secrets": "redcat"}, "one of off, redact, block"),
        ({"cell-metadata": "tags"}, "a list of strings"),
        ({"notebook-metadata": [1]}, "a list of strings"),
        ({"keep": "all"}, "unknown key `keep`"),
    ],
)
def test_a_wrong_table_is_an_error(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_policy(table)


def test_the_table_of_a_file() -> None:
    text = (
        '[tool.litml.clean]\noutputs = "small"\noutput-limit = 5\nsecrets = "redact"\n'
    )
    expected = Policy("small", 5, NOTEBOOK_KEYS, CELL_KEYS, "redact")
    assert load_policy(text.encode()) == expected
    assert (
        load_policy(b'tool.litml = { clean = { outputs = "keep" } }').outputs == "keep"
    )
    assert load_policy(b"") == load_policy(b"[tool.litml]\n") == Policy()
    for broken in (b"[tool.litml.clean", b"\xff litml clean", b"tool.litml.clean = 3"):
        with pytest.raises(ConfigError):
            load_policy(broken)


# Ids, conflicts -----------------------------------------------------------------------


def test_two_branches_invent_the_same_ids() -> None:
    old = [code(None, "x"), code(None, "y"), code(None, "x")]
    one = [code(None, "new"), *old]
    other = [*old[:2], code("own", "z"), old[2]]
    ids = [
        {
            (cell["source"][0], cell["id"])
            for cell in cells_of(clean_bytes(notebook_bytes(*side), Policy()))
        }
        for side in (old, one, other)
    ]
    assert ids[0] < ids[1] and ids[0] < ids[2]


def test_a_copied_cell_gets_an_id_of_its_own() -> None:
    raw = notebook_bytes(code("load", "a"), code("load", "b"), code("load", "b"))
    names = [cell["id"] for cell in cells_of(clean_bytes(raw, Policy()))]
    assert names[0] == "load" and len(set(names)) == 3
    more = notebook_bytes(code("new", "n"), code("load", "a"), code("load", "b"))
    assert [c["id"] for c in cells_of(clean_bytes(more, Policy()))][1:] == names[:2]


def test_a_conflict_is_over_when_the_markers_are_gone() -> None:
    flag = {"litml": {"conflict": "source"}}
    marked = "x = 1\n<<<<<<< ours\ny = 2\n=======\ny = 3\n>>>>>>> theirs\n"

    def metadata_of(source: str, metadata: Any) -> Any:
        raw = notebook_bytes(code("a", source, metadata=metadata))
        return cells_of(clean_bytes(raw, Policy()))[0]["metadata"]

    assert metadata_of(marked, flag) == flag
    assert metadata_of(marked.replace("<" * 7, "<" * 9), flag) == flag, (
        "a longer marker"
    )
    assert metadata_of("x = 1\ny = 3\n", flag) == {}
    assert metadata_of("A title\n=======\n", flag) == {}, "Markdown, not a marker"
    more = {"litml": {"conflict": "source", "outputs": "keep"}}
    assert metadata_of("x = 1\n", more) == {"litml": {"outputs": "keep"}}
    deleted = {"litml": {"conflict": "deleted"}}
    assert metadata_of("x = 1\n", deleted) == deleted, "only somebody's word ends that"


# The hot path -------------------------------------------------------------------------


def test_it_starts_with_next_to_nothing() -> None:
    script = "import sys, litml.clean; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    heavy = {
        "dataclasses",
        "tomllib",
        "litml.notebook",
        "hashlib",
        "difflib",
        "nbformat",
    }
    assert not heavy & loaded
    assert {name for name in loaded if name.startswith("litml.")} == {
        "litml.canonical",
        "litml.clean",
    }


def test_a_reason_is_the_readers_own() -> None:
    for raw, _ in ODD.values():
        with pytest.raises(OddFile) as odd:
            write_tree(load_tree(raw))
            raise OddFile("its numbers show only in the result")
        assert str(odd.value)
    assert Cleaned(b"")[:2] == (b"", "")
