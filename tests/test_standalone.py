"""`jupyter nbconvert` with litml's exporters, as a user calls it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import code, prose
from sitebox import ADD, SiteBox

standalone = pytest.importorskip("litml.standalone", reason="needs nbconvert")


@pytest.fixture
def box(tmp_path: Path) -> SiteBox:
    return SiteBox(tmp_path)


def convert(box: SiteBox, kind: str, notebook: str, ending: str = "html") -> str:
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", kind, notebook]
    env = {**os.environ, "JUPYTER_PLATFORM_DIRS": "1"}
    done = subprocess.run(
        command, cwd=box.root, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return (box.root / notebook).with_suffix(f".{ending}").read_text()


def test_a_page_is_one_file_with_the_cards_of_its_module(box: SiteBox) -> None:
    html = convert(box, "litml", "nbs/01_add.ipynb")
    assert "Add two numbers." in html and 'id="add"' in html
    loaded = re.findall(
        r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="([^"]*)', html
    )
    assert not [one for one in loaded if not one.startswith("data:")]


def test_a_notebook_of_no_project_is_a_page_too(box: SiteBox) -> None:
    (box.root / "pyproject.toml").unlink()
    html = convert(box, "litml", "nbs/01_add.ipynb")
    assert "Adding" in html and "zebra" in html


def test_a_page_runs_no_script_of_the_notebook(box: SiteBox) -> None:
    shown = {"output_type": "display_data", "metadata": {}}
    shown["data"] = {"text/html": "<b onclick='x()'>bold</b><script>x()</script>"}
    box.write(
        "bad.ipynb",
        prose("title", "# </title><script>x()</script>\n\n<img src=x onerror=x()>"),
        code("show", "show()", outputs=[shown]),
    )
    html = convert(box, "litml", "nbs/bad.ipynb")
    assert "bold" in html
    assert "<script" not in html and "onclick" not in html
    assert not re.search(r"<img[^>]*onerror", html)


def test_a_frame_has_its_script_inside() -> None:
    frame = b'<script src="./b.js"></script>'
    assets = {"_out/a.html": frame, "_out/b.js": b"x = '</script>'"}
    html = standalone.inline_assets('<iframe src="_out/a.html"></iframe>', assets)
    assert html == "<iframe srcdoc=\"<script>x = '<\\/script>'</script>\"></iframe>"


def test_slides_obey_the_directives(box: SiteBox) -> None:
    box.write(
        "talk.ipynb",
        prose("title", "# Talk"),
        code("secret", "#| hide\nhidden_word = 1"),
        code("echo", "#| echo: false\nunseen_word = 2", outputs=[]),
        code("add", f"#| export\n{ADD}"),
    )
    html = convert(box, "litml-slides", "nbs/talk.ipynb", "slides.html")
    assert "reveal" in html and "Talk" in html
    assert "hidden_word" not in html and "unseen_word" not in html
    assert "#| export" not in html and "def" in html
