"""Thirty-five everyday merges, each made by git itself under its conflict styles.

The list covers what two people do to one notebook: run it, edit the same or other
cells, insert, delete, move, split and join cells, tag them, change the kernel, save
with another program. For each the best outcome is known; seven are true conflicts.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import nbformat
import pytest
from conftest import code, prose
from merging import (
    LOAD,
    PATH,
    SECOND,
    Edited,
    Repository,
    Tree,
    base_notebook,
    flags,
    sources,
    to_bytes,
)

Change = Callable[[Edited], object]
IMAGE = {"output_type": "display_data", "metadata": {}}


@dataclass(frozen=True)
class Scenario:
    """What each side does, how many cells and conflicts there are in the end.

    `once` are texts that the cells of the result hold exactly once, `never` ones that
    they do not hold.
    """

    name: str
    ours: Change
    theirs: Change
    cells: int = 9
    flags: tuple[str, ...] = ()
    once: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    prepare: Change = lambda e: None
    check: Callable[[Tree], object] = lambda tree: None
    save: Callable[[Tree], bytes] = to_bytes
    is_added: bool = False


def edit_load(e: Edited) -> Edited:
    return e.edit(4, "x = f.read()", "x = f.read().strip()")


def edit_save(e: Edited) -> Edited:
    return e.edit(7, "return n", "return n or None")


def same_line(mark: str) -> Change:
    return lambda e: e.edit(4, "y = len(x)", f"y = len(x) + {mark}")


def without_ids(e: Edited) -> None:
    e.tree["nbformat_minor"] = 4
    for cell in e.cells:
        cell.pop("id", None)


def with_ids(prefix: str) -> Change:
    def change(e: Edited) -> None:
        e.tree["nbformat_minor"] = 5
        for i, cell in enumerate(e.cells):
            cell["id"] = f"{prefix}{i}"

    return change


def set_version(version: str) -> Change:
    about = {"name": "python", "version": version}
    return lambda e: e.metadata("language_info", about)


def set_kernel(name: str) -> Change:
    spec = {"display_name": name, "language": "python", "name": name}
    return lambda e: e.metadata("kernelspec", spec)


def draw(mark: str) -> Change:
    image = {**IMAGE, "data": {"image/png": mark * 40, "text/plain": ["<Figure>"]}}
    return lambda e: e.set(5, outputs=[image])


def narrow(tree: Tree) -> bytes:
    """Save with two spaces and ASCII escapes, as some programs do."""
    return (json.dumps(tree, indent=2) + "\n").encode()


def outputs(tree: Tree, number: int) -> str:
    return str(tree["cells"][number - 1]["outputs"])


def is_(value: object) -> None:
    assert value


NEW = code("bbbb0001", "#| export\ndef check(x):\n    return bool(x)")
OTHER = code("cccc0001", "stats = [load(p) for p in paths]")
SOURCE, DELETED = ("source",), ("deleted by ours",)
SCENARIOS = [
    Scenario(
        "01 both ran",
        lambda e: e.run("a"),
        lambda e: e.run("bb"),
        check=lambda tree: is_("a 7" in outputs(tree, 8)),
    ),
    Scenario("02 two cells", edit_load, edit_save, once=("strip()", "or None")),
    Scenario(
        "03 two cells, both ran",
        lambda e: edit_load(e).run("a"),
        lambda e: edit_save(e).run("bb"),
        once=("strip()", "or None"),
        check=lambda tree: is_("a 7" in outputs(tree, 8)),
    ),
    Scenario(
        "04 neighbours, both ran",
        lambda e: edit_load(e).run("a"),
        lambda e: e.edit(5, "a.json", "b.json").run("bb"),
        once=("strip()", "b.json"),
        check=lambda tree: is_("bb 4" in outputs(tree, 5)),
    ),
    Scenario(
        "05 distant lines of a cell",
        lambda e: e.edit(4, "Read a file.", "Read a whole file."),
        lambda e: e.edit(4, "return x, y", "return y, x"),
        once=("whole file", "return y, x"),
    ),
    Scenario(
        "06 adjacent lines of a cell",
        lambda e: e.edit(4, "x = f.read()", "x = f.readline()"),
        lambda e: e.edit(4, "y = len(x)", "y = len(x) + 1"),
        flags=SOURCE,
        once=("readline()", "len(x) + 1"),
    ),
    Scenario(
        "07 function appended, docstring",
        lambda e: e.write(4, LOAD + "\n\ndef load_all(ps):\n    return map(load, ps)"),
        lambda e: e.edit(4, "Read a file.", "Read a whole file."),
        once=("whole file", "load_all"),
    ),
    Scenario(
        "08 same line",
        same_line("1"),
        same_line("2"),
        flags=SOURCE,
        once=("+ 1", "+ 2"),
    ),
    Scenario(
        "09 same line, both ran",
        lambda e: e.do(same_line("1")).run("a"),
        lambda e: edit_save(e.do(same_line("2"))).run("bb"),
        flags=SOURCE,
        once=("+ 1", "+ 2", "or None"),
    ),
    Scenario(
        "10 two new cells at one place",
        lambda e: e.insert(4, NEW),
        lambda e: e.insert(4, OTHER),
        cells=11,
        check=lambda tree: is_("check" in sources(tree)[4] and sources(tree)[5:6]),
    ),
    Scenario(
        "11 two new cells at the end",
        lambda e: e.insert(9, NEW),
        lambda e: e.insert(9, OTHER),
        cells=11,
        check=lambda tree: is_("check" in sources(tree)[9]),
    ),
    Scenario(
        "12 the same new cell",
        lambda e: e.insert(4, NEW),
        lambda e: e.insert(4, {**NEW, "id": "cccc0001"}),
        cells=10,
        once=("def check",),
    ),
    Scenario(
        "13 deleted, edited",
        lambda e: e.delete(4),
        edit_load,
        flags=DELETED,
        once=("strip()",),
    ),
    Scenario(
        "14 deleted, only run",
        lambda e: e.delete(8),
        lambda e: e.run("bb"),
        cells=8,
        never=("print(save",),
    ),
    Scenario(
        "15 deleted, neighbour edited",
        lambda e: e.delete(8),
        edit_save,
        cells=8,
        once=("or None",),
        never=("print(save",),
    ),
    Scenario(
        "16 moved, edited",
        lambda e: e.move(4, 9),
        edit_load,
        once=("strip()",),
        check=lambda tree: is_("def load" in sources(tree)[8]),
    ),
    Scenario(
        "17 moved to the end, to the top",
        lambda e: e.move(4, 9),
        lambda e: e.move(4, 1),
        flags=("moved by theirs to the top",),
        once=("def load",),
        check=lambda tree: is_("def load" in sources(tree)[8]),
    ),
    Scenario(
        "18 split, second half edited",
        lambda e: e.write(4, SECOND[0]).insert(4, code("bbbb0001", SECOND[1])),
        lambda e: e.write(4, f"{SECOND[0]}\n{SECOND[1]}, None"),
        cells=10,
        once=("return x, y, None", "f.read()"),
        prepare=lambda e: e.write(4, "\n".join(SECOND)),
    ),
    Scenario(
        "19 joined, second edited",
        lambda e: e.write(4, "\n".join(SECOND)).delete(5),
        lambda e: e.edit(5, "return x, y", "return x, y, None"),
        cells=9,
        once=("return x, y, None", "f.read()"),
        prepare=lambda e: e.write(4, SECOND[0]).insert(4, code("b1", SECOND[1])),
    ),
    Scenario(
        "20 two tags",
        lambda e: e.set(4, metadata={"tags": ["slow"]}),
        lambda e: e.set(4, metadata={"tags": ["gpu"]}),
        check=lambda t: is_(t["cells"][3]["metadata"] == {"tags": ["slow", "gpu"]}),
    ),
    Scenario(
        "21 two kernels",
        lambda e: edit_load(e).do(set_kernel("conda")),
        lambda e: edit_save(e).do(set_kernel("venv")),
        once=("strip()", "or None"),
        check=lambda t: is_(t["metadata"]["kernelspec"]["display_name"] == "conda"),
    ),
    Scenario(
        "22 two versions of Python",
        lambda e: edit_load(e).do(set_version("3.11.2")),
        lambda e: edit_save(e).do(set_version("3.12.0")),
        once=("strip()", "or None"),
    ),
    Scenario(
        "23 doubled ids",
        edit_load,
        edit_save,
        once=("strip()", "or None"),
        prepare=lambda e: e.set(7, id="aaaa0004"),
    ),
    Scenario(
        "24 a copy with its model's id",
        lambda e: e.insert(4, code("aaaa0004", LOAD.replace("load", "load2"))),
        edit_load,
        cells=10,
        once=("def load(", "def load2(", "strip()"),
    ),
    Scenario(
        "25 no ids",
        lambda e: e.insert(4, code(None, NEW["source"][0])).run("a"),
        lambda e: edit_load(e).run("bb"),
        cells=10,
        once=("strip()",),
        prepare=without_ids,
        check=lambda tree: is_(
            tree["nbformat_minor"] == 4 and not any("id" in c for c in tree["cells"])
        ),
    ),
    Scenario(
        "26 upgraded and edited, edited",
        lambda e: edit_load(e).do(with_ids("a")),
        edit_save,
        once=("strip()", "or None"),
        prepare=without_ids,
        check=lambda tree: is_(tree["nbformat_minor"] == 5),
    ),
    Scenario(
        "27 both upgraded",
        lambda e: edit_load(e).do(with_ids("a")),
        lambda e: edit_save(e).do(with_ids("b")),
        once=("strip()", "or None"),
        prepare=without_ids,
        check=lambda tree: is_([c["id"] for c in tree["cells"]][:2] == ["a0", "a1"]),
    ),
    Scenario(
        "28 code made prose, code edited",
        lambda e: e.do(lambda e: e.cells.__setitem__(8, prose("aaaa0009", e.text(9)))),
        lambda e: e.edit(9, "done", "all done"),
        once=("all done",),
        check=lambda tree: is_(tree["cells"][8]["cell_type"] == "markdown"),
    ),
    Scenario(
        "29 two images, the cell edited",
        draw("aaaa"),
        lambda e: e.edit(5, "a.json", "b.json").do(draw("bbbb")),
        once=("b.json",),
        check=lambda tree: is_("bbbb" in outputs(tree, 5)),
    ),
    Scenario(
        "30 both added the file",
        edit_load,
        edit_save,
        flags=SOURCE * 2,
        is_added=True,
    ),
    Scenario(
        "31 cleared, run and edited",
        lambda e: [c.update(outputs=[]) for c in e.cells if "outputs" in c],
        lambda e: e.edit(8, "{}", "[]").run("bb"),
        once=("[]",),
        check=lambda tree: is_("bb 7" in outputs(tree, 8)),
    ),
    Scenario(
        "32 the same edit, both ran",
        lambda e: edit_load(e).run("a"),
        lambda e: edit_load(e).run("bb"),
        once=("strip()",),
        check=lambda tree: is_("a 4" in outputs(tree, 5)),
    ),
    Scenario(
        "33 inserted beside, edited, both ran",
        lambda e: e.insert(3, NEW).run("a"),
        lambda e: edit_load(e).run("bb"),
        cells=10,
        once=("strip()", "def check"),
    ),
    Scenario(
        "34 same line of prose",
        lambda e: e.edit(1, "That is all.", "Enough."),
        lambda e: e.edit(1, "That is all.", "No more."),
        flags=SOURCE,
        once=("Enough.", "No more."),
    ),
    Scenario(
        "35 saved in another style",
        edit_load,
        edit_save,
        once=("strip()", "or None", "ü"),
        prepare=lambda e: e.edit(1, "things", "things, ü"),
        save=narrow,
    ),
]


def versions(scenario: Scenario) -> dict[str, bytes | None]:
    base = Edited(base_notebook()).do(scenario.prepare).tree
    ours, theirs = (Edited(base).do(side) for side in (scenario.ours, scenario.theirs))
    found = {"ours": scenario.save(ours.tree), "theirs": scenario.save(theirs.tree)}
    return {"base": None if scenario.is_added else scenario.save(base), **found}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    """All scenarios, each as two branches, swapped ones as two more."""
    repository = Repository(tmp_path_factory.mktemp("merges"))
    forks = {s.name.replace(" ", "-").replace(",", ""): versions(s) for s in SCENARIOS}
    repository.import_versions(forks)
    yield repository


def merge(repository: Repository, name: str, style: str) -> tuple[int, str]:
    branch = name.replace(" ", "-").replace(",", "")
    repository.git("checkout", "-q", "-f", "--detach", f"{branch}-ours")
    done = repository.run(
        "-c", f"merge.conflictStyle={style}", "merge", f"{branch}-theirs"
    )
    repository.run("merge", "--quit")
    return done.returncode, done.stdout + done.stderr


# The same 35 merges again, with other markers: a minute each.
OTHERS = [pytest.param(one, marks=pytest.mark.slow) for one in ("diff3", "zdiff3")]


@pytest.mark.parametrize("style", ["merge", *OTHERS])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_the_outcome_is_the_best_one(
    repository: Repository, scenario: Scenario, style: str
) -> None:
    status, said = merge(repository, scenario.name, style)
    raw = (repository.root / PATH).read_bytes()
    tree = repository.tree()
    assert (status, flags(tree)) == (bool(scenario.flags), list(scenario.flags)), said
    assert len(tree["cells"]) == scenario.cells
    nbformat.validate(tree)
    ids = [cell["id"] for cell in tree["cells"] if "id" in cell]
    assert len(ids) == len(set(ids))
    text = "\n".join(sources(tree))
    for word in scenario.once:
        assert text.count(word) == 1, text
    for word in scenario.never:
        assert word not in text
    assert ("<<<<<<<" in text) == ("source" in scenario.flags)
    assert ("|||||||" in text) == ("source" in scenario.flags and style != "merge")
    assert raw == scenario.save(tree), "in the style of ours"
    scenario.check(tree)


def test_exactly_seven_are_conflicts() -> None:
    numbers = [scenario.name[:2] for scenario in SCENARIOS]
    assert numbers == [f"{i:02}" for i in range(1, 36)]
    clashing = [int(s.name[:2]) for s in SCENARIOS if s.flags]
    assert clashing == [6, 8, 9, 13, 17, 30, 34]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_the_sides_may_be_swapped(scenario: Scenario) -> None:
    """The same lines and the same cells in conflict, whoever merges whom."""
    from litml.driver import merge_bytes

    three = {name: raw or b"" for name, raw in versions(scenario).items()}
    base, ours, theirs = three["base"], three["ours"], three["theirs"]
    one = merge_bytes(base, ours, theirs, "x.ipynb")[1]
    other = merge_bytes(base, theirs, ours, "x.ipynb")[1]
    lines = [
        Counter(
            line for cell in merged.notebook.cells for line in cell.source.split("\n")
        )
        for merged in (one, other)
    ]
    assert lines[0] == lines[1]
    reasons = [sorted(c.id for c in merged.conflicts) for merged in (one, other)]
    assert scenario.name[:2] == "27" or reasons[0] == reasons[1]


def test_notes_say_what_was_decided(repository: Repository) -> None:
    status, said = merge(repository, "21 two kernels", "merge")
    assert status == 0
    assert f"litml: {PATH}: metadata.kernelspec differs on both sides" in said


def test_a_conflict_is_named_with_its_cell(repository: Repository) -> None:
    status, said = merge(repository, "08 same line", "merge")
    assert status == 1
    assert f"{PATH}: conflict in cell aaaa0004: both sides changed the same" in said
