"""A site is built whole or in part, and is the same either way."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import code, prose
from sitebox import ADD, SiteBox

from litml.inventory import read_inventory
from litml.notebook import Location
from litml.project import ConfigError
from litml.rounds import MODULES
from litml.search import search
from litml.theme import ThemeError


@pytest.fixture
def box(tmp_path: Path) -> SiteBox:
    return SiteBox(tmp_path)


# What is there -----------------------------------------------------------------------


class Addresses(HTMLParser):
    """All addresses that a page refers to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [v for k, v in attrs if k in ("href", "src") and v]


def test_everything_a_page_refers_to_is_there(box: SiteBox) -> None:
    box.build()
    files = box.files()
    pages = [name for name in files if name.endswith(".html") and name != "404.html"]
    assert {"index.html", "add.html", "guide/start.html", "guide/next.html"} == {*pages}
    for page in pages:
        for url in Addresses(files[page].decode()).found:
            path = url.partition("#")[0].partition("?")[0]
            if path and "://" not in path:
                base = (box.root / "_site" / page).parent
                assert (base / path).is_file(), (page, url)
    for page in (name for name in files if name.endswith(".md")):
        for path in re.findall(r"\]\(([^)#:]+)", files[page].decode()):
            assert (box.root / "_site" / page / ".." / path).resolve().is_file(), page


def test_no_page_asks_another_host_for_anything(box: SiteBox) -> None:
    """Links may lead elsewhere; nothing is loaded from there."""
    box.build()
    for name, data in box.files().items():
        text = data.decode("utf-8", "replace")
        if name.endswith(".html"):
            loaded = re.findall(
                r'<(?:script|link|img|iframe)\b[^>]*(?:src|href)="([^"]+)', text
            )
            loaded = [
                url for url in loaded if not url.startswith("https://example.org")
            ]
            assert not [url for url in loaded if "://" in url]
        elif name.endswith((".css", ".js")):
            assert "http" not in re.sub(
                r"http://www\.w3\.org|startsWith\(\"http\"\)", "", text
            )


def test_the_policy_allows_the_site_alone(box: SiteBox) -> None:
    box.build()
    page = box.page("add.html")
    assert "Content-Security-Policy" in page and "script-src 'self'" in page.replace(
        "&#39;", "'"
    )
    assert not re.findall(r"<script(?![^>]* src=)", page), "a script inside the page"
    assert not re.findall(r"\son\w+=", page)
    box.build(offline=True)
    assert "Content-Security-Policy" not in box.page("add.html")


def test_twins_and_lists(box: SiteBox) -> None:
    box.configure('url = "https://sums.example.org/docs"')
    box.build()
    files = box.files()
    assert files["add.md"].decode().startswith("# Adding\n\n> One and one.\n")
    llms = files["llms.txt"].decode()
    assert "- [Adding](https://sums.example.org/docs/add.md): One and one." in llms
    assert b"zebra" in files["llms-full.txt"]
    tree = ElementTree.fromstring(files["sitemap.xml"])
    locations = [one.text for one in tree.iter() if one.tag.endswith("loc")]
    assert locations[0] == "https://sums.example.org/docs/"
    assert "https://sums.example.org/docs/guide/start.html" in locations
    entries = {one.name: one.url for one in read_inventory(files["objects.inv"], "o")}
    assert (
        entries["sums.add.add"] == "add.html#sums.add.add"
        or entries["sums.add.add"] == "add.html#add"
    )
    assert entries["sums.add"] == "add.html"
    assert b'href="/docs/_static/site.css' in files["404.html"]
    found = {
        k.partition("/")[2]: v for k, v in files.items() if k.startswith("_search/")
    }
    assert search(found, "add")[0] == "add.html#add"
    assert search(found, "zebra") == ["add.html#more"]


def test_without_an_address_there_is_no_site_map(box: SiteBox) -> None:
    box.build()
    assert "sitemap.xml" not in box.files()
    assert "canonical" not in box.page("add.html")


def test_a_card_says_who_uses_and_tests_it(box: SiteBox) -> None:
    user = code("use", "from sums.add import add\n\nadd(2)")
    box.write("03_user.ipynb", prose("title", "# User"), user)
    box.build()
    page = box.page("add.html")
    assert '<a href="user.html#cell-use">User</a>' in page
    assert "Tested by" in page and "#cell-use" in page


def test_a_name_has_a_glance(box: SiteBox) -> None:
    box.build()
    data = box.page("_search/g/add.js")
    assert data.startswith('litmlData("g/add",')
    assert "add(a: int, b: int = 1) -> int" in data and "Add two numbers." in data


def test_a_release_gives_a_page_of_changes(box: SiteBox) -> None:
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", "1"],
        ["tag", "v1.0"],
    ):
        assert box.run("git", *words).returncode == 0
    box.write_package("add.py", f"# %% add\n{ADD.replace('b: int = 1', 'b: int')}")
    report = box.build()
    page = box.page("api-changes.html")
    assert "API changes since v1.0" in page and "parameter" in page
    assert not report.findings and "api-changes" in box.page("add.html")
    assert box.build().rendered == 0
    box.configure("changes = false")
    assert "api-changes.html" in box.build().removed


def test_the_front_page_is_no_place_for_code(box: SiteBox) -> None:
    title = prose("title", "# Sums\n\n> Adding up.")
    box.write("index.ipynb", title, code("version", '#| export\n__version__ = "1"'))
    box.write_package("__init__.py", '# %% version\n__version__ = "1"\n')
    box.build()
    page = box.page("index.html")
    assert "__version__" not in re.sub(r'id="[^"]*"', "", page)
    assert "Start" in page and "Begin here." in page, "an overview of all pages"


def test_there_is_a_front_page_anyway(box: SiteBox) -> None:
    (box.root / "nbs/index.ipynb").unlink()
    assert box.build().findings == ()
    page = box.page("index.html")
    assert "<h1>sums</h1>" in page and 'href="guide/start.html"' in page
    assert box.build().written == ()


def test_redirects(box: SiteBox) -> None:
    box.configure('redirects = { "old/add.html" = "add#add", "/plus/" = "add" }')
    aliases = code("x", "1")
    title = prose("title", "# Next\n\n- aliases: [before.html, /once.html]\n")
    box.write("guide/02_next.ipynb", title, aliases)
    box.build()
    assert "url=../add.html#add" in box.page("old/add.html")
    assert "url=../add.html" in box.page("plus/index.html")
    assert "url=next.html" in box.page("guide/before.html")
    assert "url=guide/next.html" in box.page("once.html")
    box.configure('redirects = { "add.html" = "index" }')
    with pytest.raises(ConfigError):
        box.build()


# What changed ------------------------------------------------------------------------


def test_a_second_build_writes_nothing(box: SiteBox) -> None:
    first = box.build()
    assert first.pages == 4 and first.rendered == 4
    before = box.files()
    times = {p: p.stat().st_mtime_ns for p in (box.root / "_site").rglob("*")}
    second = box.build()
    assert (second.rendered, second.written, second.removed) == (0, (), ())
    assert box.files() == before
    assert times == {p: p.stat().st_mtime_ns for p in (box.root / "_site").rglob("*")}


EDITS = {
    "prose": lambda box: box.write("guide/02_next.ipynb", prose("title", "# Next 2")),
    "module": lambda box: box.write_package("add.py", f"# %% add\n\n{ADD}"),
    "new page": lambda box: box.write("00_new.ipynb", prose("t", "# New")),
    "gone": lambda box: (box.root / "nbs/guide/02_next.ipynb").unlink(),
    "renamed": lambda box: (box.root / "nbs/01_add.ipynb").rename(
        box.root / "nbs/05_plus.ipynb"
    ),
    "symbol gone": lambda box: box.write_package("add.py", "# %% add\ny = 1\n"),
    "title": lambda box: box.configure('title = "All sums"'),
    "url": lambda box: box.configure('url = "https://example.org"'),
    "sections": lambda box: box.configure('sections = { Basics = ["0*"] }'),
    "source": lambda box: box.configure('branch = "dev"'),
    "exclude": lambda box: box.configure('exclude = ["guide/*"]'),
    "redirect": lambda box: box.configure('redirects = { "a.html" = "add" }'),
}


@pytest.mark.parametrize("name", EDITS)
def test_building_what_changed_gives_what_building_all_gives(
    box: SiteBox, tmp_path: Path, name: str
) -> None:
    box.build()
    EDITS[name](box)  # type: ignore[no-untyped-call]
    box.build()
    in_part = box.files()
    import shutil

    shutil.rmtree(box.root / "_site")
    shutil.rmtree(box.root / ".litml")
    box.build()
    assert in_part == box.files()


def test_a_page_is_rendered_again_only_if_it_can_differ(box: SiteBox) -> None:
    """A new symbol renders those that mention it, and no others."""
    box.write(
        "03_wish.ipynb", prose("title", "# Wish"), prose("a", "I want `sums.mul.mul`.")
    )
    box.build()
    box.write_package("mul.py", "# %% mul\ndef mul(): ...\n")
    box.write(
        "02_mul.ipynb", prose("t", "# Times"), code("mul", "#| export\ndef mul(): ...")
    )
    report = box.build()
    assert report.rendered == 2
    assert 'href="mul.html#mul"' in box.page("wish.html")
    assert box.build().rendered == 0


def test_an_inherited_field_is_one_of_the_page(box: SiteBox) -> None:
    """What a module needs of another one is known, though it is not its own text."""
    head = "from dataclasses import dataclass"
    text = f"{head}\n\n@dataclass\nclass Base:\n    a: int\n"
    head = f"{head}\nfrom sums.base import Base"
    child = f"{head}\n\n# %% child\n@dataclass\nclass Child(Base):\n    b: int\n"
    box.write_package("base.py", text)
    box.write_package("child.py", child)
    box.write(
        "02_child.ipynb",
        prose("t", "# Child"),
        code("child", "#| export\nclass Child: ..."),
    )
    box.build()
    assert "b" in box.page("child.html") and "colour" not in box.page("child.html")
    box.write_package("base.py", text.replace("a: int", "colour: int"))
    assert box.build().rendered == 1
    assert "colour" in box.page("child.html")


def test_many_notebooks_are_shared_among_processes(box: SiteBox) -> None:
    for i in range(12):
        box.write(
            f"many/{i:02}_page.ipynb", prose("t", f"# Page {i}"), prose("a", "`add`")
        )
    box.write_bytes("many/99_broken.ipynb", b"{")
    report = box.build(workers=2)
    assert report.pages == 16 and len(report.problems) == 1
    shared = box.files()
    assert box.build(workers=1).written == ()
    assert shared == box.files()


# What goes wrong ---------------------------------------------------------------------


def test_what_cannot_be_read_is_an_error_and_the_rest_is_built(box: SiteBox) -> None:
    (box.root / "nbs/02_folder.ipynb").mkdir()
    (box.root / "nbs/03_link.ipynb").symlink_to("nowhere")
    report = box.build()
    assert report.pages == 4
    assert [(str(one.at), one.message) for one in report.problems] == [
        ("nbs/02_folder.ipynb", "cannot be read: Is a directory"),
        ("nbs/03_link.ipynb", "cannot be read: No such file or directory"),
    ]


def test_a_broken_notebook_is_an_error_and_the_rest_is_built(box: SiteBox) -> None:
    box.write_bytes("02_broken.ipynb", b'{"cells": [')
    bad = {"output_type": "stream", "name": "stdout", "text": 3}
    box.write("03_bad.ipynb", prose("t", "# Bad"), code("c", "x", outputs=[bad]))
    report = box.build()
    assert report.pages == 4
    places = [problem.at for problem in report.problems]
    assert places == [
        Location("nbs/02_broken.ipynb"),
        Location("nbs/03_bad.ipynb", "c"),
    ]
    box.write("03_bad.ipynb", prose("t", "# Good"))
    assert [one.at for one in box.build().problems] == [Location("nbs/02_broken.ipynb")]
    assert "<h1>Good</h1>" in box.page("bad.html")


def test_a_crash_of_a_library_is_an_error_at_the_notebook(
    box: SiteBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litml.workshop

    def crash(*arguments: object, **more: object) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(litml.workshop, "render_page", crash)
    report = box.build()
    assert report.pages == 0 and len(report.problems) == 4
    assert all("ZeroDivisionError" in one.message for one in report.problems)


def test_a_template_that_is_wrong_is_an_error_at_its_line(box: SiteBox) -> None:
    box.configure('theme = "mine"')
    with pytest.raises(ThemeError):
        box.build()
    (box.root / "mine").mkdir()
    (box.root / "mine/page.html").write_text("\n{{ oops }}")
    with pytest.raises(ThemeError) as caught:
        box.build()
    assert str(caught.value.at) == "page.html, line 2" and "oops" in str(caught.value)


def test_a_theme_of_ones_own(box: SiteBox) -> None:
    box.configure('theme = "mine"')
    (box.root / "mine").mkdir()
    (box.root / "mine/mine.css").write_text("h1 { color: red }")
    (box.root / "mine/icon.svg").write_text("<svg/>")
    (box.root / "mine/page.html").write_text(
        '{% extends "default/page.html" %}'
        "{% block main %}<hr>{{ super() }}{% endblock %}"
    )
    box.build()
    page = box.page("guide/next.html")
    assert "<hr>" in page and 'href="../_static/mine.css' in page
    assert box.page("_static/icon.svg") == "<svg/>"
    assert "colour" not in page
    (box.root / "mine/mine.css").write_text("h1 { color: blue }")
    report = box.build()
    assert report.rendered == 0 and "guide/next.html" in report.written, "a new stamp"


def test_titles_are_text_wherever_they_stand(box: SiteBox) -> None:
    evil = "<script>alert(1)</script> & \"quotes'"
    box.configure('title = "<b>\'"')
    box.write("guide/01_start.ipynb", prose("t", f"# {evil}\n\n> {evil}"))
    box.build()
    for name, data in box.files().items():
        if name.endswith((".html", ".xml")):
            text = data.decode()
            assert "<script>alert" not in text and "<b>'" not in text, name


def test_the_key_of_the_program_knows_all_that_renders() -> None:
    """A change of any chapter that rendering uses makes all pages anew."""
    import ast

    folder = Path(__file__).parents[1] / "litml"
    todo, used = ["workshop"], set()
    while todo:
        name = todo.pop()
        if name in used:
            continue
        used.add(name)
        tree = ast.walk(ast.parse((folder / f"{name}.py").read_bytes()))
        found = [n.module for n in tree if isinstance(n, ast.ImportFrom) and n.module]
        todo += [m.partition(".")[2] for m in found if m.startswith("litml.")]
    neither = {"docs_settings", "export", "files", "git", "links", "navigation"}
    neither |= {"project", "sources", "stamps", "store", "workshop"}
    assert used - neither <= set(MODULES) - neither
