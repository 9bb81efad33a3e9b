"""What holds for every merge, whatever two people did to a notebook."""

import copy
import json
from collections import Counter
from typing import Any

import nbformat
from hypothesis import given, settings
from hypothesis import strategies as st
from merging import Tree, flags, sources, stream, to_bytes

from litml.clean import Policy, clean_bytes
from litml.driver import merge_bytes

KINDS = st.sampled_from(["code", "code", "markdown", "raw"])
ACTS = [
    "line",
    "line",
    "line",
    "insert",
    "delete",
    "move",
    "run",
    "tag",
    "kind",
    "copy",
]
ACTS += ["rewrite", "blank", "append"]


def make_cell(kind: str, text: str, name: str | None) -> Tree:
    cell: Tree = {"cell_type": kind, "metadata": {}, "source": text.splitlines(True)}
    if name is not None:
        cell["id"] = name
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return cell


class Author:
    """Somebody who edits; everything they write is new."""

    def __init__(self, name: str, draw: st.DrawFn) -> None:
        self.name, self.draw, self.count = name, draw, 0

    def line(self) -> str:
        self.count += 1
        return f"{self.name} = {self.count}"

    def pick(self, size: int) -> int:
        return self.draw(st.integers(0, size))

    def act(self, tree: Tree) -> None:
        cells = tree["cells"]
        act = self.draw(st.sampled_from(ACTS))
        has_ids = tree["nbformat_minor"] >= 5
        name = f"{self.name}-{self.count}" if has_ids else None
        if act == "insert" or not cells:
            new = make_cell(self.draw(KINDS), f"{self.line()}\n{self.line()}", name)
            cells.insert(self.pick(len(cells)), new)
            return
        at = self.pick(len(cells) - 1)
        cell = cells[at]
        lines = "".join(cell["source"]).split("\n")
        if act in ("line", "append", "rewrite", "blank"):
            place = len(lines) if act == "append" else self.pick(len(lines) - 1)
            lines[place : place + self.pick(1)] = [self.line()]
            lines = {"rewrite": [self.line()], "blank": [""]}.get(act, lines)
            cell["source"] = "\n".join(lines).splitlines(True)
        elif act == "delete":
            del cells[at]
        elif act == "move":
            cells.insert(self.pick(len(cells) - 1), cells.pop(at))
        elif act == "run" and cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [stream(self.line())], at
        elif act == "tag":
            cell["metadata"] = {
                "tags": [*cell["metadata"].get("tags", []), self.line()]
            }
        elif act == "kind":
            old = "".join(cell["source"])
            cells[at] = make_cell(self.draw(KINDS), old, cell.get("id"))
        elif act == "copy":  # as some editors do, with its id
            cells.insert(at, copy.deepcopy(cell))
            cells[at]["source"] = [self.line()]


@st.composite
def forks(draw: st.DrawFn) -> tuple[Tree, Tree, Tree]:
    """A notebook, and what became of it on two sides."""
    author = Author("base", draw)
    minor = draw(st.sampled_from([4, 5, 5]))
    metadata = {"kernelspec": {"display_name": "Python", "name": "python3"}}
    base: Tree = {"cells": [], "metadata": metadata}
    base |= {"nbformat": 4, "nbformat_minor": minor}
    for i in range(draw(st.integers(0, 6))):
        text = "\n".join(author.line() for _ in range(draw(st.integers(1, 6))))
        cell = make_cell(draw(KINDS), text, f"c{i}" if minor == 5 else None)
        base["cells"].append(cell)
    sides = []
    for name in ("ours", "theirs"):
        side = copy.deepcopy(base)
        author = Author(name, draw)
        for _ in range(draw(st.integers(0, 4))):
            author.act(side)
        sides.append(side)
    return base, *sides  # type: ignore[return-value]


def merge(*trees: Tree) -> tuple[Tree, bytes, Any]:
    raw, merged = merge_bytes(*map(to_bytes, trees), "x.ipynb")
    return json.loads(raw), raw, merged


def count_lines(tree: Tree) -> Counter[str]:
    lines = (line for text in sources(tree) for line in text.split("\n"))
    return Counter(line for line in lines if line.strip())


@given(forks())
@settings(max_examples=150)
def test_the_result_is_a_notebook_and_nothing_is_lost(
    fork: tuple[Tree, Tree, Tree],
) -> None:
    base, ours, theirs = fork
    result, raw, merged = merge(*fork)
    ids = [cell["id"] for cell in result["cells"] if "id" in cell]
    if base not in (ours, theirs) and ours != theirs:
        assert len(ids) == len(set(ids))
        nbformat.validate(result)
    assert len(ids) in (0, len(result["cells"]))
    lines = count_lines(result)
    for side in (ours, theirs):
        assert not [
            line for line in count_lines(side) - count_lines(base) if line not in lines
        ]
    before = [count_lines(tree) for tree in fork]
    if not merged.conflicts:
        for line, count in lines.items():
            assert count <= max(found[line] for found in before)
    assert len(flags(result)) == len(merged.conflicts)
    assert merge(*fork)[1] == raw, "the same again"


@given(forks())
@settings(max_examples=100)
def test_if_one_side_did_nothing_the_result_is_the_other(
    fork: tuple[Tree, Tree, Tree],
) -> None:
    """Also if a program wrote the file anew, in another layout."""
    base, ours, theirs = fork
    narrow = json.dumps(base, indent=2).encode()
    for side in (ours, theirs):
        raw = to_bytes(side)
        assert merge_bytes(to_bytes(base), raw, to_bytes(base), "x")[0] == raw
        assert merge_bytes(to_bytes(base), to_bytes(base), raw, "x")[0] == raw
        assert merge_bytes(to_bytes(base), raw, raw, "x")[0] == raw
        for three in ((narrow, raw, to_bytes(base)), (narrow, to_bytes(base), raw)):
            found, merged = merge_bytes(*three, "x")
            assert not merged.conflicts
            again = json.loads(found)
            ids = [cell.get("id") for cell in side["cells"]]
            if side["nbformat_minor"] < 5 or len(set(ids)) == len(ids):
                assert again == side


@given(forks())
@settings(max_examples=100)
def test_the_sides_may_be_swapped(fork: tuple[Tree, Tree, Tree]) -> None:
    base, ours, theirs = fork
    one, _, merged = merge(base, ours, theirs)
    other, _, swapped = merge(base, theirs, ours)
    assert count_lines(one) == count_lines(other)
    assert len(merged.conflicts) == len(swapped.conflicts)


@given(forks())
@settings(max_examples=100)
def test_what_is_clean_stays_clean(fork: tuple[Tree, Tree, Tree]) -> None:
    three = [clean_bytes(to_bytes(tree), Policy()) for tree in fork]
    raw, _ = merge_bytes(*three, "x.ipynb")
    assert clean_bytes(raw, Policy()) == raw
