"""The pages as sources for other engines, and the engines at work on them."""

import base64
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import code, prose
from sitebox import SiteBox

from litml.docs_settings import read_docs_settings
from litml.project import find_project
from litml.site import Plan, SiteReport
from litml.trees import ENGINES, write_tree

PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
        "0000000c4944415408d763f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
    )
).decode()


@pytest.fixture
def box(tmp_path: Path) -> SiteBox:
    made = SiteBox(tmp_path)
    note = "::: {.callout-tip}\n## Small: steps\nTry `add`.\n:::\n\n> A quotation."
    picture = {"output_type": "display_data", "metadata": {}}
    picture["data"] = {"image/png": PIXEL, "text/plain": "a plot"}
    made.write(
        "guide/03_boxes.ipynb",
        prose("title", "# Boxes: all 'kinds'\n\n> What stands apart."),
        prose("note", note),
        code("plot", "#| fig-alt: A dot\nplot()", outputs=[picture]),
    )
    return made


def write(box: SiteBox, engine: str) -> SiteReport:
    project = find_project(box.root)
    settings = read_docs_settings(project)
    return write_tree(
        Plan(project, settings, box.root / f"_{engine}", workers=1), engine
    )


def tree(box: SiteBox, engine: str) -> Path:
    return box.root / f"_{engine}" / ENGINES[engine].folder


@pytest.mark.parametrize("engine", ENGINES)
def test_a_tree_has_every_page_and_its_images(box: SiteBox, engine: str) -> None:
    report = write(box, engine)
    assert not report.problems and report.pages == 5
    folder = tree(box, engine)
    pages = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")}
    assert pages >= {"index.md", "add.md", "guide/start.md", "guide/boxes.md"}
    text = (folder / "guide/boxes.md").read_text()
    image = re.search(r"!\[A dot\]\(([^)]+)\)", text)
    assert image and (folder / "guide" / image[1]).is_file()
    assert "> A quotation." in text and "[!TIP]" not in text
    marks = {"mkdocs": "!!! tip", "sphinx": ":::{admonition}", "quarto": ".callout-tip"}
    assert marks[engine] in text


@pytest.mark.parametrize("engine", ENGINES)
def test_only_what_changed_is_written_again(box: SiteBox, engine: str) -> None:
    write(box, engine)
    again = write(box, engine)
    assert (again.rendered, again.written, again.removed) == (0, (), ())
    (box.root / "nbs/guide/03_boxes.ipynb").unlink()
    last = write(box, engine)
    assert "guide/boxes.md" in last.removed
    assert not (tree(box, engine) / "guide/boxes.md").exists()
    assert (tree(box, engine) / "guide/start.md").exists()


def test_what_cannot_be_rendered_is_told_and_the_rest_is_there(box: SiteBox) -> None:
    (box.root / "nbs/guide/04_torn.ipynb").write_text('{"cells": [')
    report = write(box, "mkdocs")
    assert [str(one.at) for one in report.problems] == ["nbs/guide/04_torn.ipynb"]
    assert (tree(box, "mkdocs") / "guide/boxes.md").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_there_is_a_first_page_in_any_case(box: SiteBox, engine: str) -> None:
    (box.root / "nbs/index.ipynb").unlink()
    write(box, engine)
    text = (tree(box, engine) / "index.md").read_text()
    assert "# sums\n\nAdding up.\n" in text and "- [Adding](add.md)\n" in text
    assert ("toctree" in text) == (engine == "sphinx")


COMMANDS = {
    "mkdocs": ["mkdocs", "build", "--strict", "--quiet", "--site-dir", "_built"],
    "sphinx": ["sphinx-build", "-q", "-W", ".", "_built"],
}


@pytest.mark.parametrize("has_front", [True, False])
@pytest.mark.parametrize("engine", COMMANDS)
def test_the_engine_builds_it(box: SiteBox, engine: str, has_front: bool) -> None:
    program = Path(sys.executable).parent / COMMANDS[engine][0]
    if not shutil.which(program):
        pytest.skip(f"{engine} is not installed; it is none of our dependencies")
    if not has_front:
        (box.root / "nbs/index.ipynb").unlink()
    write(box, engine)
    command = [program, *COMMANDS[engine][1:]]
    folder = box.root / f"_{engine}"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    built = "guide/boxes/index.html" if engine == "mkdocs" else "guide/boxes.html"
    html = (folder / "_built" / built).read_text()
    assert "Small: steps" in html and "[!TIP]" not in html
