"""Laws of the export: what a module is made of, and that the way to it does not matter.

Modules are taken apart with `ast` alone; what belongs into them is known because the
tests made the cells.
"""

import ast
import os
import random
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Sandbox, code, notebook_bytes, prose
from hypothesis import given, settings
from hypothesis import strategies as st

from litml.notebook import read_notebook
from litml.package import ExportReport, export_project
from litml.project import find_project

MakeProject = Callable[[], Sandbox]

# Exported cells ----------------------------------------------------------------------

# Each binds the public names NAME, and NAME_b where that stands, at its top level.
TEMPLATES = [
    "NAME = 1",
    "NAME: int = 1  # a # comment",
    "NAME, (NAME_b, *_rest) = 1, (2, 3)",
    "NAME = NAME_b = 'é \\u2028'\n_hidden_NAME = NAME",
    "def NAME(x):\n    'Doc.'\n\n    return x\n\n\n# a closing comment",
    "# an opening comment\n\nasync def NAME():\n    await other()",
    "@decorate\nclass NAME:\n    attribute = '''\n# %% not-a-cell\n#| export\n'''",
    "if True:\n    inner_NAME = 1\nNAME = [y for y in ()]",
    'NAME = f"{1!r:>{2}}" ; NAME_b = (\n    1,\n)   ',
    "NAME = 1\nNAME += 1\nprint(NAME, file=None)",
    "import os as _os\nfor _i in ():\n    pass\nNAME = '''\n\n\n'''",
]
MARKS = ["#| export", "#|export", "# | export", "#| exports", "#|  export  "]


@dataclass(frozen=True)
class Exported:
    """A cell, what it says above its code, and the public names of its code."""

    mark: str
    body: str
    names: tuple[str, ...]

    def cell(self, id: str) -> dict[str, object]:
        return code(id, f"{self.mark}\n\n{self.body}")


@st.composite
def drawn_cells(draw: st.DrawFn) -> list[Exported]:
    """Draw some cells that export, each with names of its own."""
    cells = []
    for i, template in enumerate(
        draw(st.lists(st.sampled_from(TEMPLATES), min_size=1))
    ):
        name = f"name_{i}"
        names = [name, f"{name}_b"] if "NAME_b" in template else [name]
        is_public = draw(st.integers(0, 5)) > 0
        mark = draw(st.sampled_from(MARKS)) if is_public else "#| exporti"
        body = template.replace("NAME", name)
        cells.append(Exported(mark, body, tuple(names) if is_public else ()))
    return cells


def is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"


def dumps(nodes: list[ast.stmt]) -> list[str]:
    return [ast.dump(node) for node in nodes]


# A module is its cells ---------------------------------------------------------------


@given(drawn_cells(), st.booleans())
def test_a_module_is_its_cells_verbatim(
    new_project: MakeProject, cells: list[Exported], has_title: bool
) -> None:
    project = new_project()
    title = [prose("title", "# Things\n\n> What they are.\n")] if has_title else []
    examples = [code("example", "1 + 1"), prose("more", "## More\n\nprose")]
    exported = [cell.cell(f"cell-{i}") for i, cell in enumerate(cells)]
    project.write("00_core.ipynb", *title, exported[0], *examples, *exported[1:])
    export(project.root)

    text = (project.root / "mylib/core.py").read_bytes().decode()
    tree = ast.parse(text)
    assert ast.get_docstring(tree) == ("What they are." if has_title else None)
    body = tree.body[1:] if has_title else tree.body
    [names] = [ast.literal_eval(node.value) for node in body if is_all(node)]
    assert names == [name for cell in cells for name in cell.names]
    parsed = [node for cell in cells for node in ast.parse(cell.body).body]
    assert dumps([node for node in body if not is_all(node)]) == dumps(parsed)
    end = 0
    for i, cell in enumerate(cells):
        marker = f"\n# %% cell-{i}\n{cell.body.rstrip()}\n"
        end = text.index(marker, end) + len(marker) - 1


ODD = st.text(st.sampled_from("ab \t\r\n\f\0\u2028\x85\ud83d\\'\"`#%>é{}"), max_size=9)


@settings(max_examples=150)
@given(ODD, ODD, ODD)
def test_prose_never_becomes_code(
    new_project: MakeProject, summary: str, heading: str, more: str
) -> None:
    """Whatever the prose holds, the statements of the module are those of the cells."""
    project = new_project()
    title = prose("title", f"# T\n\n> {summary}x = 1{more}\n\n## {heading}x = 2{more}")
    doc = prose("doc", f"#| export\n{more}\nx = 3{summary}")
    project.write("00_core.ipynb", title, doc, code("y", "#| export\ny = 1"))
    if export(project.root).problems:
        assert not project.modules()
        return
    text = (project.root / "mylib/core.py").read_bytes()
    [docstring, names, assignment] = ast.parse(text).body
    assert ast.unparse([names, assignment]) == "__all__ = ['y']\ny = 1"
    assert isinstance(docstring, ast.Expr)
    assert isinstance(ast.literal_eval(docstring.value), str)


def test_what_each_form_of_export_gives(project: Sandbox) -> None:
    project.write(
        "01_models/02_linear-one.ipynb",
        prose("title", "# Linear\n\n> Fit lines."),
        code("all", "#| export\nfrom __future__ import annotations\nimport math"),
        code("fit", "#| export\n_all_ = ['math', 'late']\ndef fit(): ..."),
        code("other", "#| export deep.er.tools\ndef tool(): ..."),
        code("inner", "#| exporti\ndef inner(): ..."),
        code("shown", "#| exports\ndef shown(): ..."),
        prose("doc", '#| export\nMore, with \\ and """ in it.'),
        code("example", "fit()"),
    )
    project.write("03_free.ipynb", code("d", "#| default_exp models.free"))
    project.write("04_more.ipynb", code("more", "#|export: models.free\nx = 1"))
    project.write("index.ipynb", code("version", '#| export\n__version__ = "1"'))
    project.export()
    trees = {
        name: ast.parse(data)
        for name, data in project.modules().items()
        if data.strip()
    }
    public = {
        name: ast.literal_eval(node.value)
        for name, tree in trees.items()
        for node in tree.body
        if is_all(node)
    }
    assert public == {
        "mylib/__init__.py": [],
        "mylib/models/free.py": ["x"],
        "mylib/models/linear_one.py": ["math", "late", "fit", "shown"],
        "mylib/deep/er/tools.py": ["tool"],
    }
    for name in ["deep", "deep/er", "models"]:
        assert (project.root / "mylib" / name / "__init__.py").read_bytes() == b""
    linear = trees["mylib/models/linear_one.py"]
    doc = ast.get_docstring(linear)
    assert doc == 'Fit lines.\n\nMore, with \\ and """ in it.'
    assert "tool" not in ast.dump(linear) and "inner" in ast.dump(linear)


def test_line_ends_of_windows_inside_a_cell(project: Sandbox) -> None:
    """The module has none, and an edit of it finds its way home."""
    source = "#| export\r\ndef f():\r\n    return 1\r\n"
    notebook = project.write("00_core.ipynb", code("f", source))
    project.export()
    module = project.root / "mylib/core.py"
    text = module.read_bytes()
    assert b"\r" not in text
    module.write_bytes(text.replace(b"return 1", b"return 2"))
    assert project.litml("sync").stdout == "updated: nbs/00_core.ipynb, cell f\n"
    assert "return 2" in read_notebook(notebook).cells[0].source
    assert project.litml("export", "--check").returncode == 0


def test_two_notebooks_may_export_into_each_other(project: Sandbox) -> None:
    """Circular targets are legal; chunks stand in reading order, whatever they join."""
    project.write(
        "00_a.ipynb", code("a", "#| export\na = 1"), code("a2", "#| export b\na2 = 1")
    )
    project.write(
        "01_b.ipynb", code("b2", "#| export a\nb2 = 1"), code("b", "#| export\nb = 1")
    )
    project.export()
    modules = project.modules()
    assert b'["a", "b2"]' in modules["mylib/a.py"]
    assert b'["a2", "b"]' in modules["mylib/b.py"]
    project.write("00_a.ipynb", code("a", "#| export\na = 2"))
    project.export()
    assert b'["b"]' in project.modules()["mylib/b.py"]


# Nothing is written without need -----------------------------------------------------


def stamps(root: Path) -> dict[Path, tuple[int, int]]:
    found = {path: path.stat() for path in root.rglob("*") if path.is_file()}
    return {path: (stat.st_mtime_ns, stat.st_ino) for path, stat in found.items()}


def test_a_second_export_writes_nothing(project: Sandbox) -> None:
    project.write("00_core.ipynb", code("x", "#| export\nx = 1"))
    project.write("01_deep/00_more.ipynb", code("y", "#| export\ny = 1"))
    project.export()
    before = stamps(project.root / "mylib")
    assert project.export() == ""
    project.write("00_core.ipynb", prose("p", "more"), code("x", "#| export\nx = 1"))
    assert project.export() == ""
    shutil.rmtree(project.root / ".litml")
    assert project.export() == ""
    assert stamps(project.root / "mylib") == before
    project.write("00_core.ipynb", code("x", "#| export\nx = 2"))
    assert project.export() == "wrote: mylib/core.py\n"
    changed = stamps(project.root / "mylib").items() - before.items()
    assert [path.name for path, _ in changed] == ["core.py"]


@pytest.mark.parametrize("lost", ["core.py", "deep/__init__.py", "__init__.py"])
def test_a_file_that_was_deleted_comes_back(project: Sandbox, lost: str) -> None:
    project.write("00_core.ipynb", code("x", "#| export\nx = 1"))
    project.write("01_deep/00_more.ipynb", code("y", "#| export\ny = 1"))
    project.export()
    before = project.modules()
    (project.root / "mylib" / lost).unlink()
    assert project.litml("export", "--check").returncode == 1
    project.export()
    assert project.modules() == before


# The way to a package does not matter ------------------------------------------------


class Author:
    """Somebody who changes a project at random, often for the better."""

    def __init__(self, project: Sandbox, chance: random.Random) -> None:
        self.project = project
        self.chance = chance
        self.notebooks: dict[str, list[dict[str, object]]] = {}
        self.count = 0

    def act(self) -> None:
        """Do one thing to one notebook, then save what changed."""
        actions = [self.add_notebook, self.edit, self.edit, self.move_cell]
        actions += [self.add_cell, self.delete_cell, self.rename, self.delete]
        self.chance.choice(actions if self.notebooks else [self.add_notebook])()
        shutil.rmtree(self.project.root / "nbs")
        (self.project.root / "nbs").mkdir()
        for name, cells in self.notebooks.items():
            self.project.write(name, *cells)

    def pick(self) -> str:
        return self.chance.choice(sorted(self.notebooks))

    def new_name(self) -> str:
        folder = self.chance.choice(["", "", "sub/", "sub/01_deep/"])
        stem = self.chance.choice(["a", "b", "c", "d"])
        return f"{folder}{self.chance.randrange(10)}_{stem}.ipynb"

    def new_cell(self) -> dict[str, object]:
        self.count += 1
        targets = ["", "", "", " a", " sub.b", " free"]
        mark = self.chance.choice(["#| export", "#| export", "#| exporti", "#"])
        target = self.chance.choice(targets) if mark != "#" else ""
        return code(f"c{self.count}", f"{mark}{target}\nname_{self.count} = 0")

    def add_notebook(self) -> None:
        self.notebooks[self.new_name()] = [self.new_cell(), self.new_cell()]

    def add_cell(self) -> None:
        cells = self.notebooks[self.pick()]
        cells.insert(self.chance.randint(0, len(cells)), self.new_cell())

    def edit(self) -> None:
        if cells := self.notebooks[self.pick()]:
            cell = self.chance.choice(cells)
            [mark, line] = cell["source"]  # type: ignore[misc]
            value = self.chance.choice("0123")
            cell["source"] = [mark, line[: line.index("=") + 2] + value]

    def move_cell(self) -> None:
        source, target = self.notebooks[self.pick()], self.notebooks[self.pick()]
        if source:
            cell = source.pop(self.chance.randrange(len(source)))
            target.insert(self.chance.randint(0, len(target)), cell)

    def delete_cell(self) -> None:
        if cells := self.notebooks[self.pick()]:
            cells.pop()

    def rename(self) -> None:
        self.notebooks[self.new_name()] = self.notebooks.pop(self.pick())

    def delete(self) -> None:
        del self.notebooks[self.pick()]


def export(root: Path) -> ExportReport:
    """Export, and delete what the export says is stale, as it asks for."""
    report = export_project(find_project(root))
    for error in report.stale:
        assert error.at and error.hint and error.hint.startswith("delete it")
        (root / error.at.notebook).unlink()
    return export_project(find_project(root)) if report.stale else report


def contents(root: Path) -> dict[str, bytes]:
    """Return the modules of the package, without the empty ones."""
    found = {path: path.read_bytes() for path in (root / "mylib").rglob("*.py")}
    return {str(path.relative_to(root)): text for path, text in found.items() if text}


@pytest.mark.parametrize("seed", range(40))
def test_many_small_exports_equal_one(new_project: MakeProject, seed: int) -> None:
    project, fresh = new_project(), new_project()
    chance = random.Random(seed)
    author = Author(project, chance)
    for _ in range(2 + seed // 4):
        author.act()
        if chance.random() < 0.6:
            before = contents(project.root)
            if export(project.root).problems:
                assert contents(project.root) == before
    shutil.copytree(project.root / "nbs", fresh.root / "nbs", dirs_exist_ok=True)
    found, expected = export(project.root), export(fresh.root)
    assert list(map(str, found.problems)) == list(map(str, expected.problems))
    if not found.problems:
        assert contents(project.root) == contents(fresh.root)
        packages = {name.rpartition("/")[0] for name in contents(project.root)}
        for name in packages:
            assert (project.root / name / "__init__.py").exists()
        assert export_project(find_project(project.root)).written == ()


# An edit is never lost, and never imagined -------------------------------------------

REFUSED = "error: edited since the last export, so it was not overwritten\n  at {}\n"


def two_modules(project: Sandbox, version: int = 1) -> None:
    """Write two notebooks, one of which exports into the other's module too."""
    here, there = (f"#| export\nx = {version}", f"#| export core\ny = {version}")
    project.write("00_core.ipynb", code("x", here))
    project.write("01_more.ipynb", code("y", there), code("z", "#| export\nz = 1"))


def edit(project: Sandbox, name: str = "mylib/core.py") -> None:
    path = project.root / name
    path.write_text(path.read_text().replace("x = ", "x = 40 + "))


def refuse(project: Sandbox, name: str = "mylib/core.py") -> None:
    """Export, which must refuse the edited module and change nothing at all."""
    before = project.files()
    done = project.litml("export")
    assert done.returncode == 1 and done.stdout == ""
    assert REFUSED.format(name) in done.stderr and "litml sync" in done.stderr
    assert project.files() == before


def clone(project: Sandbox, new_project: MakeProject) -> Sandbox:
    """Return a fresh clone, which has no record of an export."""
    copy = new_project()
    shutil.rmtree(copy.root)
    project.git("clone", "--quiet", project.root, copy.root)
    assert not (copy.root / ".git/litml").exists()
    return copy


def test_an_edit_is_refused(project: Sandbox) -> None:
    """With a record of the export and without one; `--force` throws it away."""
    two_modules(project)
    project.export()
    edit(project)
    refuse(project)
    two_modules(project, 2)
    refuse(project)
    shutil.rmtree(project.root / ".litml")
    refuse(project)
    assert project.export("--force") == "wrote: mylib/core.py\n"
    assert b"40" not in project.modules()["mylib/core.py"]


def test_a_file_of_ones_own_is_not_overwritten(project: Sandbox) -> None:
    (project.root / "mylib").mkdir()
    (project.root / "mylib/core.py").write_text("mine = 1\n")
    two_modules(project)
    refuse(project)
    (project.root / "mylib/core.py").write_text("\n")
    project.export()


def test_an_edit_in_a_fresh_clone(project: Sandbox, new_project: MakeProject) -> None:
    two_modules(project)
    project.export()
    project.commit()
    copy = clone(project, new_project)
    edit(copy)
    refuse(copy)
    copy.commit()  # a committed edit is an edit as well
    refuse(copy)
    two_modules(copy, 2)
    refuse(copy)


CHANGES: dict[str, Callable[[Sandbox], object]] = {
    "an edited cell": lambda copy: two_modules(copy, 2),
    "a renamed notebook": lambda copy: copy.git(
        "mv", "nbs/00_core.ipynb", "nbs/07_core.ipynb"
    ),
    "another notebook joins": lambda copy: copy.write(
        "02_new.ipynb", code("new", "#| export core\nnew = 1")
    ),
    "a notebook leaves": lambda copy: (copy.root / "nbs/01_more.ipynb").write_bytes(
        notebook_bytes(code("z", "#| export\nz = 1"))
    ),
    "a notebook is gone": lambda copy: [
        (copy.root / "nbs/00_core.ipynb").unlink(),
        copy.write("01_more.ipynb", code("x", "#| export core\nx = 3")),
        (copy.root / "mylib/more.py").unlink(),
    ],
    "Windows line ends": lambda copy: [
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
        for path in [*copy.root.rglob("*.py"), *copy.root.rglob("*.ipynb")]
    ],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_fresh_clone_may_be_changed(
    project: Sandbox,
    new_project: MakeProject,
    change: Callable[[Sandbox], object],
) -> None:
    """There is no record, but the committed notebooks explain the committed modules."""
    inner = Sandbox(project.root / "deep/er")
    two_modules(inner)
    inner.export()
    project.commit()
    copy = Sandbox(clone(project, new_project).root / "deep/er")
    change(copy)
    copy.export()
    assert copy.litml("export", "--check").returncode == 0


def test_git_may_change_everything(project: Sandbox, new_project: MakeProject) -> None:
    """Switching, pulling, stashing and resetting are nobody's edit."""
    two_modules(project)
    project.export()
    project.commit()
    copy = clone(project, new_project)
    two_modules(copy, 2)
    copy.export()
    copy.git("switch", "--quiet", "--create", "other")
    copy.commit()
    for branch in ("main", "other", "main"):
        copy.git("switch", "--quiet", branch)
        assert copy.export() == ""
    two_modules(copy, 3)
    copy.export()
    copy.git("stash", "--quiet")
    assert copy.export() == ""
    copy.git("stash", "pop", "--quiet")
    assert copy.export() == ""
    copy.git("reset", "--quiet", "--hard", "other")
    two_modules(copy, 4)
    assert copy.export() == "wrote: mylib/core.py\n"

    copy.git("reset", "--quiet", "--hard", "origin/main")
    two_modules(project, 5)
    project.export()
    project.commit()
    copy.git("pull", "--quiet")
    two_modules(copy, 6)
    assert copy.export() == "wrote: mylib/core.py\n"
    edit(copy)
    refuse(copy)


def test_each_work_tree_has_its_own_record(project: Sandbox) -> None:
    two_modules(project)
    project.export()
    project.commit()
    linked = Sandbox(project.root.with_name("linked"))
    shutil.rmtree(linked.root)
    project.git("worktree", "add", "--quiet", linked.root)
    two_modules(linked, 2)
    assert linked.export() == "wrote: mylib/core.py\n"
    two_modules(project, 3)
    assert project.export() == "wrote: mylib/core.py\n"
    edit(linked)
    refuse(linked)
    for tree in (project, linked):
        status = tree.git("status", "--porcelain")
        assert not [
            line for line in status.splitlines() if "litml/" in line and "?" in line
        ]


def test_two_projects_of_one_repository(project: Sandbox) -> None:
    """Each has its record, and the records are in nobody's way."""
    one, two = Sandbox(project.root / "a"), Sandbox(project.root / "a/b")
    for inner in (one, two):
        two_modules(inner)
        inner.export()
    project.commit()
    for inner in (one, two):
        inner.export()  # its notes move into the repository
    edit(two)
    two_modules(one, 2)
    assert one.export() == "wrote: mylib/core.py\n"
    refuse(two)
    assert "?" not in project.git("status", "--porcelain")


def test_git_is_not_needed(project: Sandbox) -> None:
    """Without git the record is beside the project, where git would ignore it."""
    two_modules(project)
    project.export(env={**ENVIRONMENT, "PATH": ""})
    edit(project)
    before = project.files()
    done = project.litml("export", env={**ENVIRONMENT, "PATH": ""})
    assert done.returncode == 1 and "edited since" in done.stderr
    assert project.files() == before
    assert (project.root / ".litml/.gitignore").read_text() == "*\n"


# Memory -----------------------------------------------------------------------------


# Started from a small process: a process counts what it was before it was `exec`ed.
PEAK = """
import os, sys
child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, *sys.argv[1:]])
_, status, usage = os.wait4(child, 0)
print("peak", usage.ru_maxrss // (1 if sys.platform == "linux" else 1024))
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="nobody counts the memory here")
def test_memory_does_not_grow_with_the_number_of_notebooks(
    new_project: MakeProject,
) -> None:
    """It grows with the largest notebook; ten times as many cost next to nothing."""
    peaks = []
    for many in (30, 300):
        project = new_project()
        output = {"output_type": "stream", "name": "stdout", "text": "x" * 50_000}
        for i in range(many):
            cells = [code(f"c{j}", f"#| export\nx{j} = 1") for j in range(4)]
            project.write(f"{i}_m{i}.ipynb", *cells, code("out", "1", outputs=[output]))
        done = project.run(sys.executable, "-c", PEAK, "-m", "litml", "export")
        assert done.returncode == 0 and len(project.modules()) == many + 1
        peaks.append(int(done.stdout.split()[-1]))
    assert peaks[1] - peaks[0] < 8 * 1024, f"KiB: {peaks}"


# What other tools say ----------------------------------------------------------------

SAMPLE = [
    prose("title", "# Sample\n\n> Add numbers and remember them.\n"),
    code("imports", "#| export\nfrom dataclasses import dataclass, field"),
    prose("about", "## Adding\n\nOne number after another."),
    code(
        "Adder",
        '#| export\n@dataclass(slots=True)\nclass Adder:\n    """Adds."""\n\n'
        "    seen: list[int] = field(default_factory=list)\n\n"
        "    def add(self, number: int) -> int:\n"
        '        """Return the sum so far."""\n'
        "        self.seen.append(number)\n        return sum(self.seen)",
    ),
    code("example", "Adder().add(1)"),
    code("LIMIT", "#| export\nLIMIT = 10"),
    *(
        code(name, f'#| export\ndef {name}() -> int:\n    """Give 1."""\n    return 1')
        for name in ["some_function", "another_function", "yet_another_function"]
    ),
]


def test_ruff_and_mypy_have_nothing_to_say(project: Sandbox) -> None:
    """A tidy notebook gives a module that formatters, linters and checkers accept."""
    project.write("00_sample.ipynb", *SAMPLE)
    uses = "#| export\nfrom mylib.sample import Adder\n\nadder = Adder()"
    project.write("01_uses.ipynb", code("imports", uses))
    project.write("index.ipynb", code("version", '#| export\n__version__ = "1"'))
    project.export()
    python = [sys.executable, "-m"]
    for command in (
        ["ruff", "format", "--no-cache", "--check", "mylib"],
        ["ruff", "check", "--no-cache", "--select=E,F,I,B,UP,SIM,W", "mylib"],
        ["mypy", "--strict", "--no-error-summary", "mylib"],
    ):
        done = project.run(*python, *command)
        assert done.returncode == 0, done.stdout + done.stderr
