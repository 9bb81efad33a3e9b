"""`litml docs` as a person runs it."""

import json
from pathlib import Path

import pytest
from conftest import prose
from sitebox import SiteBox


@pytest.fixture
def box(tmp_path: Path) -> SiteBox:
    return SiteBox(tmp_path)


def test_a_site_is_built_and_told_in_a_line(box: SiteBox) -> None:
    done = box.litml("docs")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 pages, 4 rendered; ") and not done.stderr
    assert "<h1>Sums</h1>" in box.page("index.html")
    again = box.litml("docs")
    assert again.stdout == "4 pages, 0 rendered; 0 files written, 0 removed\n"


def test_findings_are_warnings_and_errors_if_one_asks(box: SiteBox) -> None:
    box.write("02_dead.ipynb", prose("t", "# Dead"), prose("here", "[x](none.html)"))
    done = box.litml("docs")
    assert done.returncode == 0
    assert "warning: a link to what is not there: none.html" in done.stderr
    assert "at nbs/02_dead.ipynb, cell here" in done.stderr
    strict = box.litml("docs", "--strict")
    assert strict.returncode == 1 and strict.stderr.startswith("error: a link")


def test_a_broken_notebook_is_exit_1_and_the_rest_is_there(box: SiteBox) -> None:
    box.write_bytes("02_broken.ipynb", b"{")
    done = box.litml("docs", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["pages"] == 4
    assert [one["at"] for one in report["problems"]] == ["nbs/02_broken.ipynb"]
    assert (box.root / "_site/add.html").exists()


@pytest.mark.parametrize(
    ("words", "docs", "message"),
    [
        (["--version", "../up"], "", "cannot be a folder"),
        ([], 'titel = "A"', "did you mean `title`?"),
        ([], 'redirects = { "a.html" = "nowhere" }', "a redirect to no page"),
        ([], 'theme = "none"', "there is no such folder"),
        ([], 'inventories = { pandas = "https://e.org" }', "pandas"),
    ],
)
def test_what_cannot_be_done_is_said(
    box: SiteBox, words: list[str], docs: str, message: str
) -> None:
    box.configure(docs)
    done = box.litml("docs", *words)
    assert done.returncode in (1, 2) and message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_version_has_a_folder_of_its_own(box: SiteBox) -> None:
    done = box.litml("docs", "--version", "1.2.3", "--out", "public")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (box.root / "public").iterdir()}
    assert {"1.2", "stable", "versions.json", "index.html"} <= names


def test_without_notebooks_there_is_an_error(box: SiteBox) -> None:
    import shutil

    shutil.rmtree(box.root / "nbs")
    done = box.litml("docs")
    assert done.returncode == 2 and "there is no folder `nbs`" in done.stderr


def test_the_package_is_not_imported(box: SiteBox) -> None:
    box.write_package(
        "add.py", "raise SystemExit('imported')\n\n# %% add\ndef add(): ...\n"
    )
    box.write_package("__init__.py", "raise SystemExit('imported')")
    assert box.litml("docs").returncode == 0
    assert 'id="add"' in box.page("add.html")
