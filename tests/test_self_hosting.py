"""litml is made by litml, out of notebooks that keep the rules they ask for."""

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ENVIRONMENT

from litml.project import default_module, find_project, list_notebooks
from litml.record import exporter_files

ROOT = Path(__file__).parents[1]
PROJECT = find_project(ROOT)


@dataclass(frozen=True)
class Cell:
    """A cell of a chapter: prose, exported code, or an example."""

    id: str
    kind: str
    text: str

    @property
    def is_definition(self) -> bool:
        kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        is_code = self.kind == "exported"
        return is_code and any(isinstance(n, kinds) for n in ast.parse(self.text).body)


@dataclass(frozen=True)
class Chapter:
    """A notebook, read with `json` alone, and its module."""

    path: Path
    module: Path

    @property
    def tree(self) -> dict[str, object]:
        return json.loads(self.path.read_bytes())  # type: ignore[no-any-return]

    @property
    def cells(self) -> list[Cell]:
        return [make_cell(data) for data in self.tree["cells"]]  # type: ignore[attr-defined]

    @property
    def sections(self) -> Iterator[list[Cell]]:
        """The cells between two headings of the second level."""
        section: list[Cell] = []
        for cell in self.cells:
            if cell.kind == "prose" and re.search(r"(?m)^## ", cell.text):
                yield section
                section = []
            section.append(cell)
        yield section


def make_cell(data: dict[str, object]) -> Cell:
    text = "".join(data["source"])  # type: ignore[arg-type]
    is_exported = re.match(r"#\| export(i|s)?$", text.partition("\n")[0])
    kind = "exported" if is_exported else "example"
    return Cell(str(data["id"]), kind if data["cell_type"] == "code" else "prose", text)


NO_CHAPTERS = ("gallery", "guide")  # folders of notebooks that export nothing


def reading_order(path: Path) -> tuple[bool, str, bool, str]:
    """The index, which all may use, comes first; a folder's, which gathers, last."""
    is_index, folder = path.name == "index.ipynb", path.parent.name
    is_first = is_index and path.parent == PROJECT.notebooks_dir
    return not is_first, folder, is_index, path.name


def find_chapters() -> Iterator[Chapter]:
    """Yield the chapters in their order."""
    paths = list_notebooks(PROJECT)
    paths = [path for path in paths if path.parent.name not in NO_CHAPTERS]
    for path in sorted(paths, key=reading_order):
        module = default_module(PROJECT, path).replace(".", "/") + ".py"
        for cell in make_cells(path):
            if found := re.match(r"#\| default_exp:? (\S+)", cell.text):
                module = found[1].replace(".", "/") + ".py"
        yield Chapter(path, PROJECT.package_dir / module)


def make_cells(path: Path) -> list[Cell]:
    return [make_cell(data) for data in json.loads(path.read_bytes())["cells"]]


CHAPTERS = list(find_chapters())
every_chapter = pytest.mark.parametrize(
    "chapter",
    CHAPTERS,
    ids=[str(one.path.relative_to(PROJECT.notebooks_dir))[:-6] for one in CHAPTERS],
)
PAGES = [path for path in list_notebooks(PROJECT) if path.parent.name in NO_CHAPTERS]


# Made by itself ----------------------------------------------------------------------


def modules(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*.py")
    }


def export_copy(folder: Path, **more: str) -> dict[str, bytes]:
    """Export a copy of the notebooks into `folder`, which holds nothing else."""
    shutil.copytree(ROOT / "nbs", folder / "nbs")
    shutil.copy(ROOT / "pyproject.toml", folder)
    command = [sys.executable, "-P", "-m", "litml", "export"]
    environment = {**ENVIRONMENT, **more}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert (folder / "README.md").read_bytes() == (ROOT / "README.md").read_bytes()
    return modules(folder / "litml")


def test_litml_exports_itself(tmp_path: Path) -> None:
    """The copy that litml writes of itself is litml, and writes the same again."""
    committed = modules(PROJECT.package_dir)
    first = export_copy(tmp_path / "first")
    assert first == committed
    second = export_copy(tmp_path / "second", PYTHONPATH=str(tmp_path / "first"))
    assert second == committed
    script = "import litml.package; print(litml.package.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path / "first")},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith(str(tmp_path / "first")), "the copy was in use"


def test_every_module_has_its_chapter() -> None:
    written = {chapter.module for chapter in CHAPTERS}
    assert set(PROJECT.package_dir.rglob("*.py")) == written
    assert len(written) == len(CHAPTERS)


# The layers --------------------------------------------------------------------------


def imported(module: Path) -> Iterator[str]:
    """Yield the modules of litml that a module imports anywhere in its code."""
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{name.name}" for name in node.names)


@every_chapter
def test_a_chapter_imports_from_earlier_ones_only(chapter: Chapter) -> None:
    """Also inside functions. The index is below all others, and a door to them.

    It is `litml/__init__.py`: importing it imports nothing, calling it may.
    """
    if chapter is CHAPTERS[0]:
        top = ast.parse(chapter.module.read_bytes()).body
        assert not [
            node for node in top if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        return
    names = {one.module: dotted(one.module) for one in CHAPTERS}
    earlier = CHAPTERS[: CHAPTERS.index(chapter)]
    allowed = {names[one.module] for one in earlier}
    used = set(imported(chapter.module)) & set(names.values())
    assert used <= allowed


def test_training_and_the_rest_do_not_know_each_other() -> None:
    for chapter in CHAPTERS:
        used = {name for name in imported(chapter.module) if name.startswith("litml")}
        of_training = {name for name in used if name.startswith("litml.train")}
        is_training = chapter.path.parent.name == "train"
        assert used == of_training if is_training else not of_training, chapter.path


def dotted(module: Path) -> str:
    name = module.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


def test_the_record_knows_what_decides_about_a_module() -> None:
    """A change of any chapter that an export uses makes the next one look again."""
    todo, used = ["litml.package"], set()
    paths = {dotted(one.module): one.module for one in CHAPTERS}
    while todo:
        name = todo.pop()
        used.add(name)
        todo += (set(imported(paths[name])) & set(paths)) - used - {"litml"}
    only_files = {"litml.files", "litml.git", "litml.stamps"}
    counted = {dotted(Path(path)) for path in exporter_files()}
    assert used - only_files <= counted


# The pages ---------------------------------------------------------------------------


@every_chapter
def test_a_chapter_explains_and_shows(chapter: Chapter) -> None:
    """Prose in its section before nearly every definition; an example after most.

    A chapter about a whole project may show its parts at work together, at its end.
    """
    if chapter.path.name == "index.ipynb":
        pytest.skip("an index defines nothing but the version")
    unexplained, unused, total = [], [], 0
    last = max(i for i, cell in enumerate(chapter.cells) if cell.kind == "example")
    place = 0
    for section in chapter.sections:
        for i, cell in enumerate(section):
            if cell.is_definition:
                total += 1
                if not any(
                    one.kind == "prose" and has_text(one) for one in section[:i]
                ):
                    unexplained.append(cell.id)
                if place > last:
                    unused.append(cell.id)
            place += 1
    assert total
    assert len(unexplained) <= 0.05 * total, unexplained
    assert len(unused) <= 0.3 * total, unused


def has_text(cell: Cell) -> bool:
    """Does it say something beside its headings?"""
    return bool(re.sub(r"(?m)^#+ .*$", "", cell.text).strip())


@every_chapter
def test_a_chapter_is_a_chapter(chapter: Chapter) -> None:
    title = chapter.cells[0]
    assert title.kind == "prose" and re.match(r"# .+\n\n?> .+", title.text)
    exported = [cell.text for cell in chapter.cells if cell.kind == "exported"]
    lines = [line for text in exported for line in text.split("\n")[1:] if line.strip()]
    assert len(lines) <= 440, "a long chapter is two chapters"
    first = ast.parse(exported[0]).body
    imports = (ast.Import, ast.ImportFrom, ast.If)
    if chapter.path.name != "index.ipynb":
        assert all(isinstance(node, imports) for node in first), "imports come first"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_exports_nothing_and_says_what_it_is(page: Path) -> None:
    cells = make_cells(page)
    assert not [cell.id for cell in cells if cell.kind == "exported"]
    assert cells[0].kind == "prose" and re.match(r"# .+\n\n?> .+", cells[0].text)


@every_chapter
def test_the_pages_are_the_same_on_every_machine(chapter: Chapter) -> None:
    """No output holds an address, a time, or a folder of somebody's machine."""
    outputs = [cell.get("outputs", []) for cell in chapter.tree["cells"]]  # type: ignore[attr-defined]
    for output in (one for some in outputs for one in some):
        assert output["output_type"] != "error"
        text = json.dumps(output, ensure_ascii=False)
        moment = r"\d\.\d\d+ ?s\b|\d ?(ms|µs|ns)\b|\d\d:\d\d:\d\d|20\d\d-\d\d-\d\d"
        assert not re.search(moment, text)
        folder = r"/(home|Users|tmp|root|var|work|private|opt)/|site-packages"
        assert not re.search(rf"{folder}|0x[0-9a-f]{{6,}}|:\\\\Users", text)
    text = chapter.path.read_text("utf-8")
    assert str(ROOT) not in text and f"{Path.home()}/" not in text
