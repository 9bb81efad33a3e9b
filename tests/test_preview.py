"""`litml preview`: what is saved is shown, whatever is saved, and to nobody else."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, code, prose
from sitebox import SiteBox

from litml.docs_commands import preview_plan
from litml.live_pages import LivePages, fill_in, look, read_file, refresh, show
from litml.preview import list_events, open_preview, watch_project

EXPORTED = (
    "#| export\ndef add(a: int, b: int = 1) -> int:\n    '''{}'''\n    return a + b"
)


@pytest.fixture
def box(tmp_path: Path) -> SiteBox:
    box = SiteBox(tmp_path)
    (box.root / "sums/add.py").unlink()
    write_add(box, "Add two numbers.")
    return box


def write_add(box: SiteBox, says: str, more: str = "Prose.") -> None:
    box.write(
        "01_add.ipynb",
        prose("title", "# Adding\n\n> One and one."),
        code("add", EXPORTED.format(says)),
        prose("more", more),
    )


def open_pages(box: SiteBox, **more: Any) -> LivePages:
    return LivePages(lambda: preview_plan(box.root), **more)


def told(pages: LivePages, name: str = "add") -> list[tuple[str, str]]:
    return [(one["message"], one["at"]) for one in look(pages, name)["problems"]]


def html(pages: LivePages, name: str = "add") -> str:
    view = show(pages, name)
    return view.html if view else ""


# Pages -------------------------------------------------------------------------------


def test_only_what_is_asked_for_is_made_at_first(box: SiteBox) -> None:
    pages = open_pages(box)
    assert "Add two numbers." in html(pages)
    assert set(pages.build.state.results) == {"nbs/01_add.ipynb"}
    assert fill_in(pages)
    assert len(pages.build.state.results) == 4
    assert 'href="../add.html#add"' in html(pages, "guide/start")
    assert b"zebra" not in (read_file(pages, "_search/w-ad.js") or b"")
    again = open_pages(box)
    assert len(again.build.state.results) == 4, "the next preview knows all of it"


def test_a_page_is_what_the_site_would_have(box: SiteBox) -> None:
    pages = open_pages(box)
    fill_in(pages)
    box.build()
    for name in ("index", "add", "guide/start", "guide/next"):
        assert html(pages, name) == box.page(f"{name}.html")
        assert (read_file(pages, f"{name}.md") or b"").decode() == box.page(
            f"{name}.md"
        )
    for name in ("llms.txt", "_static/site.css", "_search/g/add.js", "_search/w-ad.js"):
        assert (read_file(pages, name) or b"").decode() == box.page(name)


def test_an_edit_changes_page_and_card_and_no_other_page(box: SiteBox) -> None:
    pages = open_pages(box)
    fill_in(pages)
    before = {name: look(pages, name)["key"] for name in pages.sources}
    write_add(box, "Add up.", "New prose.")
    refresh(pages)
    assert "Add up." in html(pages) and "New prose." in html(pages)
    fill_in(pages)
    after = {name: look(pages, name)["key"] for name in pages.sources}
    assert [name for name in before if before[name] != after[name]] == ["add"]
    assert "'''Add up.'''" in (box.root / "sums/add.py").read_text()


def test_without_export_the_package_is_left_alone(box: SiteBox) -> None:
    pages = open_pages(box, exports=False)
    assert not (box.root / "sums/add.py").exists() and told(pages) == []
    assert "def" in html(pages)


def test_what_is_inherited_is_never_of_before(box: SiteBox) -> None:
    base = "#| export\nclass Base:\n    '''A base.'''\n    {}: int = 1"
    child = (
        "#| export\nfrom dataclasses import dataclass\nfrom sums.base import Base\n\n"
    )
    child += "@dataclass\nclass Child(Base):\n    '''A child.'''\n    own: int = 2"
    base = base.replace(
        "class", "from dataclasses import dataclass\n\n@dataclass\nclass", 1
    )
    box.write("02_base.ipynb", prose("t", "# Base"), code("base", base.format("first")))
    box.write("03_child.ipynb", prose("t", "# Child"), code("child", child))
    pages = open_pages(box)
    assert "first" in html(pages, "child")
    box.write(
        "02_base.ipynb", prose("t", "# Base"), code("base", base.format("second"))
    )
    refresh(pages)
    assert "second" in html(pages, "child") and "first" not in html(pages, "child")


# What can be wrong -------------------------------------------------------------------


def test_a_notebook_that_does_not_parse_keeps_its_page(box: SiteBox) -> None:
    pages = open_pages(box)
    fill_in(pages)
    good = html(pages)
    whole = (box.root / "nbs/01_add.ipynb").read_bytes()
    box.write_bytes("01_add.ipynb", whole[:200])
    refresh(pages)
    assert html(pages) == good
    ((message, at),) = told(pages)
    assert "JSON" in message and at.startswith("nbs/01_add.ipynb")
    assert told(pages, "guide/start") == [(message, at)], "and it is told everywhere"
    box.write_bytes("01_add.ipynb", whole)
    refresh(pages)
    assert html(pages) == good and told(pages) == []


def test_a_wrong_cell_is_named_with_its_line(box: SiteBox) -> None:
    pages = open_pages(box)
    box.write(
        "01_add.ipynb", prose("t", "# A"), code("use", "#| echo: true\n#| exprot")
    )
    refresh(pages)
    assert "nbs/01_add.ipynb, cell use, line 2" in [at for _, at in told(pages)]
    box.write("01_add.ipynb", prose("t", "# A"), code("use", "#| export\ndef f(:"))
    refresh(pages)
    assert any("cell use, line 2" in at for _, at in told(pages))


def test_a_notebook_that_was_never_good_is_no_page_yet(box: SiteBox) -> None:
    box.write_bytes("02_new.ipynb", b"{")
    pages = open_pages(box)
    assert show(pages, "new") is not None and look(pages, "new")["key"] == ""
    box.write("02_new.ipynb", prose("t", "# New"))
    refresh(pages)
    assert "<h1>New</h1>" in html(pages, "new") and told(pages) == []


def test_a_notebook_is_removed_renamed_and_comes_back(box: SiteBox) -> None:
    pages = open_pages(box)
    fill_in(pages)
    path = box.root / "nbs/guide/02_next.ipynb"
    path.rename(path.with_name("02_later.ipynb"))
    refresh(pages)
    assert show(pages, "guide/next") is None
    assert ("this page has no notebook", "") in told(pages, "guide/next")
    assert told(pages, "guide/later") == []
    fill_in(pages)
    assert 'href="../guide/later.html"' in html(pages, "guide/start")
    path.with_name("02_later.ipynb").rename(path)
    refresh(pages)
    assert told(pages, "guide/next") == []


def test_broken_settings_keep_the_old_ones(box: SiteBox) -> None:
    pages = open_pages(box)
    good, file = html(pages), box.root / "pyproject.toml"
    text = file.read_text()
    for broken in ("[project", text + "\ntitel = 1\n", "[project]\nname = 'sums'\n"):
        file.write_text(broken)
        refresh(pages)
        assert html(pages) == good
        assert len(told(pages)) == 1
    file.write_text(text + '\ntitle = "Other"\n')
    refresh(pages)
    assert "Other</title>" in html(pages) and told(pages) == []


def test_a_template_is_edited_and_broken_and_mended(box: SiteBox) -> None:
    box.configure('theme = "theme"')
    (box.root / "theme").mkdir()
    template = box.root / "theme/page.html"
    frame = '{% extends "default/page.html" %}{% block head %}<!-- @ -->{% endblock %}'
    template.write_text(frame.replace("@", "mine"))
    pages = open_pages(box)
    assert "<!-- mine -->" in html(pages)
    template.write_text(frame + "{% if %}")
    refresh(pages)
    assert "<!-- mine -->" in html(pages), "the last good page stays"
    assert [at for _, at in told(pages)] == ["page.html, line 1"]
    assert "Start" in html(pages, "guide/start"), "a page that was not shown before"
    template.write_text(frame.replace("@", "again"))
    refresh(pages)
    assert "<!-- again -->" in html(pages) and told(pages) == []
    template.unlink()
    template.parent.rmdir()
    refresh(pages)
    assert "again" not in html(pages, "guide/next")
    assert "there is no such folder" in [message for message, _ in told(pages)]


def test_inventories_that_are_wrong_are_told(box: SiteBox) -> None:
    pages = open_pages(box)
    fill_in(pages)
    good = html(pages)
    box.configure('inventories = { pandas = "https://pandas.example" }')
    refresh(pages)
    fill_in(pages)
    assert any("pandas" in message for message, _ in told(pages))
    assert html(pages) == good
    box.configure()
    refresh(pages)
    fill_in(pages)
    assert told(pages) == [] and html(pages) == good


def test_an_edited_module_is_told_and_not_overwritten(box: SiteBox) -> None:
    pages = open_pages(box)
    module = box.root / "sums/add.py"
    module.write_text(module.read_text().replace("a + b", "b + a"))
    write_add(box, "Another.")
    refresh(pages)
    assert "b + a" in module.read_text()
    assert told(pages)[0][1] == "sums/add.py"


def test_images_that_are_gone_are_removed(box: SiteBox) -> None:
    def write(data: str) -> None:
        shown = {"output_type": "display_data", "data": {"image/svg+xml": data}}
        cell = code("plot", "plot()", outputs=[{**shown, "metadata": {}}])
        box.write("02_plot.ipynb", prose("t", "# Plot"), cell)

    write("<svg xmlns='http://www.w3.org/2000/svg'/>")
    pages = open_pages(box)
    fill_in(pages)
    folder = pages.build.plan.target
    (first,) = [path for path in folder.rglob("*") if path.is_file()]
    name = first.relative_to(folder).as_posix()
    assert name in html(pages, "plot") and read_file(pages, name)
    write("<svg xmlns='http://www.w3.org/2000/svg'><g/></svg>")
    refresh(pages)
    fill_in(pages)
    assert not first.exists() and read_file(pages, name) is None


# The server --------------------------------------------------------------------------


@pytest.fixture
def server(box: SiteBox) -> Iterator[Any]:
    with open_preview(open_pages(box)) as server:
        yield server


def ask(server: Any, path: str, method: str = "GET", **headers: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    answer.text = answer.read().decode()  # type: ignore[attr-defined]
    connection.close()
    return answer


def test_pages_are_for_who_knows_the_word(server: Any) -> None:
    word = server.token
    page = ask(server, f"/{word}/add.html")
    assert page.status == 200 and "_preview/script.js" in page.text
    assert page.headers["Cache-Control"] == "no-store"
    assert ask(server, f"/{word}/add.html", "HEAD").text == ""
    assert "EventSource" in ask(server, f"/{word}/_preview/script.js").text
    for path in ("/", "/add.html", f"/{word}x/add.html", "/_preview/script.js"):
        assert ask(server, path).status == 404 and word not in ask(server, path).text
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", ""])
def test_a_name_that_was_made_to_lead_here_gets_nothing(server: Any, host: str) -> None:
    assert ask(server, f"/{server.token}/", Host=host).status == 403
    good = f"localhost:{server.server_port}"
    assert ask(server, f"/{server.token}/", Host=good).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "../pyproject.toml",
        "..%2f..%2fpyproject.toml",
        "%2e%2e/%2e%2e/docs",
        "_static/../site.py",
        "_static/_preview.js",
        "_static/base.html",
        "//etc/passwd",
        "/etc/passwd",
        "_search/g/../../../x.js",
        "%00",
        "..\\..\\pyproject.toml",
        "%ff",
    ],
)
def test_no_other_file_is_read(server: Any, path: str) -> None:
    assert ask(server, f"/{server.token}/{path}").status == 404


def test_other_methods_are_refused(server: Any) -> None:
    assert ask(server, f"/{server.token}/", "POST").status == 501


def test_old_addresses_lead_on_as_they_will(box: SiteBox, server: Any) -> None:
    """Those of the settings and those of front matter, before their page is made."""
    box.configure('redirects = { "old/" = "guide/start#top" }')
    front = {**prose("front", "---\naliases: [/was.html]\n---"), "cell_type": "raw"}
    box.write("02_moved.ipynb", front, prose("t", "# Moved"))
    refresh(server.pages)
    for path, target in {
        "old/": "../guide/start.html#top",
        "was.html": "moved.html",
    }.items():
        assert ask(server, f"/{server.token}/moved.html").status == 200
        answer = ask(server, f"/{server.token}/{path}")
        assert answer.status == 200 and f'url={target}"' in answer.text
    assert ask(server, f"/{server.token}/never.html").status == 404


def read_news(server: Any, page: str) -> Iterator[dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", f"/{server.token}/_preview/events?page={page}")
    answer = connection.getresponse()
    try:
        while line := answer.readline():
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))
    finally:
        answer.close()
        connection.close()


def test_news_are_told_to_the_pages_they_concern(box: SiteBox, server: Any) -> None:
    news = read_news(server, "add")
    first = next(news)
    assert first["problems"] == []
    write_add(box, "Add up.")
    refresh(server.pages)
    second = next(news)
    assert second["key"] != first["key"] and second["problems"] == []
    assert "Add up." in ask(server, f"/{server.token}/add.html").text
    news.close()  # type: ignore[attr-defined]


def test_who_goes_away_is_forgotten(server: Any) -> None:
    before = threading.active_count()
    many = [read_news(server, "add") for _ in range(5)]
    assert len([next(one) for one in many]) == 5
    for one in many:
        one.close()  # type: ignore[attr-defined]
    for _ in range(100):
        server.pages.tell()
        time.sleep(0.05)
        if threading.active_count() <= before:
            break
    assert threading.active_count() <= before


def test_nothing_new_is_said_shortly(box: SiteBox) -> None:
    pages = open_pages(box)
    events = list_events(pages, "add", threading.Event(), seconds=0.01)
    assert next(events).startswith("data: ") and next(events) == ": nothing new\n\n"


# The watcher -------------------------------------------------------------------------


@pytest.fixture
def watched(box: SiteBox) -> Iterator[LivePages]:
    """Pages that are renewed after every save."""
    pages, stop = open_pages(box), threading.Event()

    def follow() -> None:
        for _ in watch_project(pages, stop):
            refresh(pages)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    time.sleep(0.3)
    yield pages
    stop.set()
    thread.join(5)
    assert not thread.is_alive()


def until(is_so: Callable[[], bool], seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.02)
    return is_so()


def test_an_editor_that_writes_and_renames(box: SiteBox, watched: LivePages) -> None:
    for number in range(3):
        write_add(box, f"Round {number}.")
        path = box.root / "nbs/01_add.ipynb"
        beside = path.with_name(".01_add.ipynb.tmp")
        path.rename(beside)
        os.replace(beside, path)
        assert until(lambda n=number: f"Round {n}." in html(watched))  # type: ignore[misc]
    assert told(watched) == []


def test_what_was_saved_before_the_watch_began_is_seen(box: SiteBox) -> None:
    pages, stop = open_pages(box), threading.Event()
    write_add(box, "Saved too early.")
    signs = watch_project(pages, stop)
    next(signs)
    refresh(pages)
    assert "Saved too early." in html(pages)
    stop.set()
    assert list(signs) == []


def test_a_burst_of_saves_ends_with_the_last(box: SiteBox, watched: LivePages) -> None:
    rounds = watched.round
    for number in range(50):
        write_add(box, f"Save {number}.")
    assert until(lambda: "Save 49." in html(watched))
    assert watched.round - rounds < 40, "and not every one was a round"


def test_what_we_export_ourselves_is_no_news(box: SiteBox, watched: LivePages) -> None:
    time.sleep(0.6)
    rounds = watched.round
    write_add(box, "Written once.")
    assert until(lambda: "Written once." in html(watched))
    time.sleep(0.6)
    assert watched.round == rounds + 1
    module = box.root / "sums/add.py"
    module.write_text(module.read_text().replace("Written once", "Edited there"))
    assert until(lambda: "Edited there." in html(watched)), "others' edits are"


def test_settings_are_watched_and_renamed_into_place(
    box: SiteBox, watched: LivePages
) -> None:
    file = box.root / "pyproject.toml"
    for title in ("One", "Two"):
        beside = file.with_name("new.toml")
        beside.write_text(file.read_text().split("title")[0] + f'title = "{title}"\n')
        os.replace(beside, file)
        assert until(lambda t=title: f"{t}</title>" in html(watched))  # type: ignore[misc]


def test_a_folder_that_goes_and_comes_back(box: SiteBox, watched: LivePages) -> None:
    nbs = box.root / "nbs"
    nbs.rename(box.root / "away")
    assert until(lambda: show(watched, "add") is None)
    (box.root / "away").rename(nbs)
    assert until(lambda: show(watched, "add") is not None)
    write_add(box, "After that.")
    assert until(lambda: "After that." in html(watched))


# The command -------------------------------------------------------------------------


def start(box: SiteBox, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "litml", "preview", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=box.root, env=ENVIRONMENT, **pipes)  # type: ignore[call-overload, no-any-return]


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent in another way there")
def test_interrupting_it_is_how_it_ends(box: SiteBox) -> None:
    with start(box) as process:
        assert process.stdout and process.stdout.readline().startswith(
            "http://127.0.0.1"
        )
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr and "Traceback" not in process.stderr.read()


def test_a_port_that_is_taken(box: SiteBox, server: Any) -> None:
    with start(box, "--port", str(server.server_port)) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and "cannot listen at port" in err and not out
