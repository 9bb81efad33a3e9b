"""The preview in a real Chromium: what is saved is seen, and the reader stays where."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import code, prose
from sitebox import SiteBox

from litml.docs_commands import preview_plan
from litml.live_pages import LivePages, fill_in, refresh
from litml.preview import open_preview, watch_project

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
LONG = "\n\n".join(f"Paragraph {number}: {'words ' * 60}" for number in range(12))
FOLDED = "#| code-fold: true\nlong = {}"


class Desk:
    """A project, its preview, and a page that shows a chapter of it."""

    def __init__(self, box: SiteBox, url: str, page: Any) -> None:
        self.box, self.url, self.page = box, url, page
        self.loads = 0
        page.on("load", lambda _: setattr(self, "loads", self.loads + 1))

    def save(self, *more: dict[str, Any], fold: int = 1, end: str = "The end.") -> None:
        """Save the chapter: long prose, a fold, more cells, and an end."""
        self.box.write(
            "02_long.ipynb",
            prose("title", "# Long"),
            prose("start", f"## Start\n\n{LONG}"),
            code("fold", FOLDED.format(fold)),
            code("other", FOLDED.format(0)),
            prose("middle", f"## Middle\n\nHere is `sums.add.add`.\n\n{LONG}"),
            *more,
            prose("end", f"## End\n\n{end}"),
        )

    def expect(self, query: str, text: str) -> None:
        """Wait for a text on the page."""
        sync_api.expect(self.page.locator(query)).to_contain_text(text, timeout=15_000)


@pytest.fixture
def desk(browser: Any, tmp_path: Path) -> Iterator[Desk]:
    """A page of a preview; at its end, nothing has been loaded twice or refused."""
    box = SiteBox(tmp_path)
    (box.root / "sums/add.py").unlink()
    size = {"width": 1200, "height": 800}
    context = browser.new_context(viewport=size, reduced_motion="reduce")
    page, told = context.new_page(), []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    pages = LivePages(lambda: preview_plan(box.root))
    with open_preview(pages) as server:
        desk = Desk(box, server.url, page)
        desk.save()

        def follow() -> None:
            for _ in watch_project(pages, server.stop):
                refresh(pages)

        refresh(pages)
        while not fill_in(pages):
            """What is made later would be news while a test looks at the page."""
        watcher = threading.Thread(target=follow, daemon=True)
        watcher.start()
        page.goto(f"{server.url}long.html")
        yield desk
        context.close()
    watcher.join(5)
    assert [text for text in told if "404" not in text] == []


def top_of(page: Any, query: str) -> float:
    top = f"document.querySelector({query!r}).getBoundingClientRect().top"
    return float(page.evaluate(top))


def test_the_reader_stays_where(desk: Desk) -> None:
    """Place, folds and focus are kept; nothing is loaded anew."""
    page = desk.page
    page.locator("#cell-fold summary").click()
    page.locator("#cell-other summary").click()
    page.evaluate("document.querySelector('#middle').scrollIntoView()")
    page.evaluate("scrollBy(0, 300)")
    page.locator("main a.symbol").focus()
    before = top_of(page, "#middle")
    page.evaluate("window.sameDocument = true")
    desk.save(code("new", "new = 'cell'"), fold=22, end="Quite another end.")
    desk.expect("main", "Quite another end.")
    assert abs(top_of(page, "#middle") - before) < 2
    assert page.locator("#cell-fold details").get_attribute("open") is not None
    assert page.locator("#cell-other details").get_attribute("open") is not None
    assert page.evaluate("document.activeElement.matches('main a.symbol')")
    assert page.evaluate("window.sameDocument") is True and desk.loads == 1
    assert "22" in page.locator("#cell-fold").inner_text()


def test_what_is_above_grows_and_the_reader_stays(desk: Desk) -> None:
    page = desk.page
    page.evaluate("document.querySelector('#middle').scrollIntoView()")
    before = top_of(page, "#middle")
    cells = "02_long.ipynb"
    text = (desk.box.root / "nbs" / cells).read_text("utf-8")
    more = text.replace("Paragraph 0:", "Paragraph 0: " + "and more " * 400, 1)
    desk.box.write_bytes(cells, more.encode())
    desk.expect("main", "and more and more")
    assert abs(top_of(page, "#middle") - before) < 2


def test_contents_and_navigation_follow(desk: Desk) -> None:
    page = desk.page
    desk.save(prose("new", "## Brand new"))
    desk.expect(".toc", "Brand new")
    desk.box.write("03_other.ipynb", prose("t", "# Another page"))
    desk.expect(".side", "Another page")
    page.locator(".side").get_by_text("Another page").click()
    desk.expect("h1", "Another page")
    desk.box.write("03_other.ipynb", prose("t", "# Renamed page"))
    desk.expect("h1", "Renamed page")
    desk.expect(".side", "Renamed page")
    page.wait_for_function("document.title.startsWith('Renamed page')")


def test_new_parts_are_as_able_as_old_ones(desk: Desk) -> None:
    page = desk.page
    page.locator("#cell-fold summary").click()
    desk.save(code("new", "new = 'cell'"), fold=3)
    desk.expect("#cell-new", "new")
    assert page.locator("#cell-fold button.copy").count() == 1
    assert page.locator("#cell-new button.copy").count() == 1
    assert page.locator(".toc button").count() == 1


def test_a_card_follows_its_cell(desk: Desk) -> None:
    desk.page.goto(f"{desk.url}add.html")
    source = '#| export\ndef add(a: int) -> int:\n    """Quite new."""\n    return a'
    desk.box.write("01_add.ipynb", prose("t", "# Adding"), code("add", source))
    desk.expect(".card", "Quite new.")


def test_what_needs_a_script_is_live_in_its_frame(desk: Desk) -> None:
    shown = {"output_type": "display_data", "metadata": {}}
    shown["data"] = {"text/html": "<script>document.write('by a script')</script>"}
    desk.save(code("frame", "show()", outputs=[shown]))
    frame = desk.page.frame_locator("#cell-frame iframe")
    text = frame.get_by_text("by a script")
    desk.page.locator("#cell-frame iframe").wait_for(timeout=15_000)
    desk.page.evaluate("document.querySelector('#cell-frame iframe').scrollIntoView()")
    sync_api.expect(text).to_be_visible(timeout=15_000)


def test_what_is_wrong_is_shown_and_goes(desk: Desk) -> None:
    page, path = desk.page, desk.box.root / "nbs/02_long.ipynb"
    whole = path.read_bytes()
    path.write_bytes(whole[:500])
    alert = page.get_by_role("alert")
    sync_api.expect(alert).to_contain_text("nbs/02_long.ipynb", timeout=15_000)
    assert page.locator("h1").inner_text() == "Long", "the last good page stays"
    path.write_bytes(whole)
    sync_api.expect(alert).not_to_contain_text("nbs/", timeout=15_000)
    desk.save(code("bad", "#| echo: false\n#| exprot\n1"))
    sync_api.expect(alert).to_contain_text("cell bad, line 2", timeout=15_000)
    desk.save()
    sync_api.expect(alert).not_to_contain_text("cell", timeout=15_000)


def test_a_page_that_comes_later_is_waited_for(desk: Desk) -> None:
    desk.box.write_bytes("03_soon.ipynb", b"{")
    desk.page.goto(f"{desk.url}soon.html")
    desk.box.write("03_soon.ipynb", prose("t", "# Soon"))
    desk.expect("h1", "Soon")
    desk.expect(".side", "Soon")


def test_nobody_is_kept_out_by_what_is_wrong(desk: Desk) -> None:
    """axe finds no violation on a page with an error on it."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    (desk.box.root / "pyproject.toml").write_text("[tool", "utf-8")
    alert = desk.page.get_by_role("alert")
    sync_api.expect(alert).to_contain_text("pyproject.toml", timeout=15_000)
    found = axe.Axe().run(desk.page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
