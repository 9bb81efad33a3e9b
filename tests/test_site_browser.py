"""The site in a real Chromium: with mouse, keyboard, phone, and without scripts."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import serve
from conftest import code, prose
from sitebox import SiteBox

from litml.search import search
from litml.widgets import STATE, VIEW

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
TABLE = "<table><thead><tr><th>a</th></tr></thead><tr><td>1</td></tr></table>"
SCRIPT = "<script>document.body.innerHTML = '<p>made by a script</p>'</script>"
KINDS = """Prose with `add`, *stress*, a formula $a^2$ and a note[^1].

$$\\sum_i x_i$$

> [!WARNING]
> Careful with this.

::: {.callout-tip collapse="true" title="More"}
Hidden first.
:::

| name | value |
|---|---|
| a | 1 |

```python
x = [1, 2]  # a comment
```

- a list
- of things

> A quotation.

[^1]: Small print."""
METHODS = '''class Counter:
    """Count things.

    It never counts down.
    """

    def count(self, things: list[str], *, start: int = 0) -> int:  # how many
        """Return how many there are."""
        return start + len(things)
'''
ERROR = {
    "output_type": "error",
    "ename": "ValueError",
    "evalue": "no",
    "traceback": ["a", "b"],
}


def output(**forms: str) -> dict[str, Any]:
    data = {name.replace("_", "/"): text for name, text in forms.items()}
    return {"output_type": "display_data", "data": data, "metadata": {}}


def model(name: str, **state: Any) -> dict[str, Any]:
    return {"model_name": f"{name}Model", "state": state}


BAR, CHOICE = (
    {**output(text_plain="widget"), "data": {VIEW: {"model_id": id}}}
    for id in ("bar", "choice")
)
MODELS = {
    "bar": model("HBox", children=["IPY_MODEL_words", "IPY_MODEL_done"]),
    "words": model("HTML", value="epoch 3"),
    "done": model("FloatProgress", min=0, max=8, value=6),
    "choice": model("IntSlider", description="degree", min=0, max=9, value=3),
}


def write_kinds(box: SiteBox) -> None:
    """Add a notebook with everything that a page can show."""
    text = {
        "output_type": "stream",
        "name": "stdout",
        "text": "\x1b[31mred\x1b[0m plain " * 30,
    }
    warning = {"output_type": "stream", "name": "stderr", "text": "careful"}
    box.write_package("kinds.py", f"# %% counter\n{METHODS}")
    box.write(
        "02_kinds.ipynb",
        prose("title", "# All kinds\n\n> Whatever a page can show."),
        prose("prose", f"## Prose\n\n{KINDS}"),
        prose("code", "## Code"),
        code("counter", f"#| export\n{METHODS}"),
        code("run", "print(1)", outputs=[text, warning]),
        code("table", "#| fig-cap: A table\nframe", outputs=[output(text_html=TABLE)]),
        code("fail", "raise ValueError", outputs=[ERROR]),
        code("fold", "#| code-fold: true\nlong = 1"),
        code(
            "script",
            "show()",
            outputs=[output(text_html=SCRIPT)],
        ),
        code("widget", "train()", outputs=[BAR, CHOICE]),
        prose("end", "## End\n\n### Deeper\n\nThe end."),
        metadata={"widgets": {STATE: {"state": MODELS}}},
    )


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> SiteBox:
    """A site of two versions; `/offline` is one to be opened from the disk."""
    box = SiteBox(tmp_path_factory.mktemp("site"))
    box.build(version="1.0.0", folder="1.0")
    box.commit()
    box.git("tag", "v1.0.0")
    write_kinds(box)
    box.build(version="1.1.0", folder="1.1")
    box.build(out="_disk", offline=True)
    return box


@pytest.fixture(scope="module")
def address(box: SiteBox) -> Iterator[str]:
    with serve(box.root / "_site") as address:
        yield address


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page at 1440 pixels; at its end, nothing was refused and nobody else asked."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert [text for text in told if "404" not in text] == []
    assert [url for url in asked if not url.startswith((address, "file:"))] == []


PAGES = ("index", "add", "kinds", "guide/start", "api-changes", "404")


# Search ------------------------------------------------------------------------------


def find(page: Any, query: str) -> list[str]:
    """Type a query and return the addresses of what is found."""
    page.keyboard.press("/")
    page.fill("#query", query)
    results = page.locator("#results")
    sync_api.expect(results).to_have_attribute("data-query", query, timeout=15_000)
    links = page.locator("#results a")
    found = [links.nth(i).get_attribute("href") for i in range(links.count())]
    page.keyboard.press("Escape")
    return [url.removeprefix("../") for url in found]


def test_search_finds_what_its_description_finds(
    page: Any, address: str, box: SiteBox
) -> None:
    page.goto(f"{address}/1.1/guide/start.html")
    files = box.files()
    index = {
        k.rpartition("/")[2]: v for k, v in files.items() if k.startswith("1.1/_search")
    }
    for query in (
        "add",
        "count",
        "Counter.count",
        "zebra",
        "a page",
        "prose",
        "elephant",
    ):
        assert find(page, query) == search(index, query), query


def test_a_result_is_reached_with_the_keyboard(page: Any, address: str) -> None:
    page.goto(f"{address}/1.1/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("count")
    page.wait_for_selector("#results a")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    page.wait_for_url("**/kinds.html#Counter*")
    assert not page.locator("dialog[open]").count()


def test_one_key_closes_the_search(page: Any, address: str) -> None:
    page.goto(f"{address}/1.1/index.html")
    page.keyboard.press("/")
    page.keyboard.type("count")
    page.wait_for_selector("#results a")
    page.keyboard.press("Escape")
    assert not page.locator("dialog[open]").count()
    page.keyboard.press("/")
    page.keyboard.type("zebra")
    assert page.locator("#query").input_value() == "zebra", "what was there is replaced"


def test_search_works_from_the_disk(page: Any, box: SiteBox) -> None:
    page.goto((box.root / "_disk/guide/start.html").as_uri())
    assert "add.html#add" in find(page, "add")
    assert page.locator("html.js").count() == 1


def test_results_are_text(page: Any, address: str) -> None:
    page.goto(f"{address}/1.1/index.html")
    assert find(page, "<img src=x onerror=alert(1)>") == []


def test_what_is_not_there_can_be_searched_for(page: Any, address: str) -> None:
    page.goto(f"{address}/1.1/404.html")
    assert page.locator("h1").inner_text() == "This page is not here"
    page.keyboard.press("/")
    assert page.locator("#query").input_value() == "404"


# Themes ------------------------------------------------------------------------------


def background(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_the_theme_is_the_systems_until_one_chooses(page: Any, address: str) -> None:
    page.emulate_media(color_scheme="dark")
    page.goto(f"{address}/1.1/add.html")
    dark = background(page)
    switch = page.get_by_role("button", name="Dark theme")
    assert switch.get_attribute("aria-pressed") == "true"
    switch.click()
    light = background(page)
    assert light != dark and switch.get_attribute("aria-pressed") == "false"
    page.goto(f"{address}/1.1/guide/next.html")
    assert background(page) == light, "it is remembered"
    page.get_by_role("button", name="Dark theme").click()
    page.emulate_media(color_scheme="light")
    page.reload()
    assert background(page) == light, "and forgotten when it is the system's again"


def test_paper_is_light(page: Any, address: str) -> None:
    """Text for a dark screen would not be seen on it."""
    page.goto(f"{address}/1.1/add.html")
    light = page.evaluate("getComputedStyle(document.body).color")
    page.emulate_media(color_scheme="dark", media="print")
    assert page.evaluate("getComputedStyle(document.body).color") == light
    assert not page.locator(".bar, .side, .turn").first.is_visible()


# Phones ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wider_than_the_screen(page: Any, address: str, name: str) -> None:
    page.goto(f"{address}/1.1/{name}.html")
    for width in (320, 390, 768, 1024, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_menu_of_a_phone(page: Any, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/1.1/add.html")
    menu, side = page.get_by_role("button", name="Menu"), page.locator(".side")
    assert not side.is_visible() and menu.get_attribute("aria-expanded") == "false"
    menu.click()
    sync_api.expect(side).to_be_visible()
    box, bar = side.bounding_box(), page.locator(".bar").bounding_box()
    assert box["y"] >= bar["height"] and box["y"] + box["height"] <= 844
    assert menu.get_attribute("aria-expanded") == "true"
    page.keyboard.press("Escape")
    sync_api.expect(side).not_to_be_visible()
    menu.click()
    page.locator(".side").get_by_text("Guide").click()
    page.wait_for_url("**/guide/start.html")


def test_contents_are_folded_on_a_phone(page: Any, address: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/1.1/kinds.html")
    link = page.locator(".toc").get_by_role("link", name="End")
    assert not link.is_visible()
    page.get_by_role("button", name="On this page").click()
    link.click()
    page.wait_for_url("**#end")


# Keyboard ----------------------------------------------------------------------------


def test_the_first_key_skips_to_the_content(page: Any, address: str) -> None:
    page.goto(f"{address}/1.1/add.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_everything_is_reached_by_keyboard_and_seen(page: Any, address: str) -> None:
    """Each stop shows its focus, and they come in the order of the page."""
    page.goto(f"{address}/1.1/kinds.html")
    stops = []
    for _ in range(80):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
                const one = document.activeElement, style = getComputedStyle(one);
                const width = parseFloat(style.outlineWidth);
                return [one.tagName, one.textContent.trim(), width];
            }"""
        )
        if stop[0] == "BODY":
            break
        stops.append(stop)
    names = [text for _, text, _ in stops]
    for text in (
        "Skip to content",
        "Adding",
        "Prose",
        "Implementation",
        "More",
        "llms.txt",
    ):
        assert any(text in name for name in names), text
    assert all(width >= 1 for _, _, width in stops), stops
    assert names.index("Skip to content") == 0 and "objects.inv" in names[-1]


def test_a_link_into_a_fold_opens_it(page: Any, address: str) -> None:
    page.goto(f"{address}/1.1/kinds.html")
    fold = page.locator("details.code-fold").first
    assert fold.get_attribute("open") is None
    fold.evaluate("one => one.querySelector('pre').id = 'inside'")
    page.evaluate("location.hash = 'inside'")
    sync_api.expect(fold).to_have_attribute("open", "")


def test_a_name_is_told_before_it_is_followed(page: Any, address: str) -> None:
    page.goto(f"{address}/1.1/guide/start.html")
    tip = page.get_by_role("tooltip")
    page.locator("main a.symbol").hover()
    sync_api.expect(tip).to_contain_text("Add two numbers.")
    page.keyboard.press("Escape")
    sync_api.expect(tip).not_to_be_visible()
    page.locator("main a.symbol").focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    sync_api.expect(tip).to_contain_text("add(a: int, b: int = 1)")


def test_a_page_is_copied_as_markdown(page: Any, address: str, box: SiteBox) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"{address}/1.1/guide/start.html")
    page.get_by_role("button", name="Copy as Markdown").click()
    for _ in range(150):
        if copied := page.evaluate("navigator.clipboard.readText()"):
            break
        page.wait_for_timeout(100)
    assert copied == box.page("1.1/guide/start.md")


# Without scripts, and with them ------------------------------------------------------


def test_without_scripts_everything_is_read(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{address}/1.1/kinds.html")
    assert page.locator("h1").inner_text() == "All kinds"
    assert page.locator(".side").get_by_text("Adding").is_visible()
    assert page.locator(".toc").get_by_role("link", name="End").is_visible()
    assert not page.locator(".search-open, .theme-switch, .menu").first.is_visible()
    context.close()


def test_an_output_with_a_script_is_shut_in(page: Any, address: str) -> None:
    page.goto(f"{address}/1.1/kinds.html")
    page.locator("iframe").scroll_into_view_if_needed()
    frame = page.frame_locator("iframe")
    assert frame.get_by_text("made by a script").inner_text()
    assert page.locator("h1").inner_text() == "All kinds", "it is in its frame only"


def test_a_frame_is_as_wide_as_the_text_and_as_high_as_what_is_in_it(
    page: Any, address: str
) -> None:
    page.goto(f"{address}/1.1/kinds.html")
    frame = page.locator("iframe")
    frame.scroll_into_view_if_needed()
    sync_api.expect(frame).to_have_attribute("style", re.compile(r"height: \d\dpx"))
    code = page.locator("#cell-script pre").first
    assert frame.bounding_box()["width"] == code.bounding_box()["width"]


def test_a_widget_is_shown_as_it_was(page: Any, address: str) -> None:
    page.goto(f"{address}/1.1/kinds.html")
    bar = page.get_by_role("progressbar", name="Progress")
    assert bar.evaluate("one => one.position") == 0.75
    assert page.get_by_role("meter", name="degree").evaluate("one => one.value") == 3
    assert page.get_by_text("epoch 3").is_visible()


def test_a_plot_of_plotly_is_drawn_in_its_frame(
    page: Any, address: str, box: SiteBox
) -> None:
    """It is plotly's own script that draws; nobody else is asked for anything."""
    pytest.importorskip("plotly", reason="the script is in its package")
    bars = {"data": [{"type": "bar", "y": [1, 3]}], "layout": {"title": {"text": "A"}}}
    plot = {**output(), "data": {"application/vnd.plotly.v1+json": bars}}
    box.write("03_plot.ipynb", prose("t", "# Plot"), code("plot", "1", outputs=[plot]))
    box.build(out="_site/plot")
    box.build(out="_plot", offline=True)
    (box.root / "nbs/03_plot.ipynb").unlink()
    disk = (box.root / "_plot/plot.html").as_uri()
    for place in (f"{address}/plot/plot.html", disk):
        page.goto(place)
        bars_drawn = page.frame_locator("iframe").locator(".barlayer .point")
        sync_api.expect(bars_drawn).to_have_count(2, timeout=15_000)


def test_the_version_switch_keeps_the_page(page: Any, address: str) -> None:
    page.goto(f"{address}/1.1/guide/start.html")
    switch = page.get_by_label("Version of the documentation")
    assert switch.locator("option").all_inner_texts() == ["1.1 (stable)", "1.1", "1.0"]
    switch.select_option("1.0")
    page.wait_for_url("**/1.0/guide/start.html")
    assert page.get_by_label("Version of the documentation").input_value() == "1.0"
    page.goto(f"{address}/1.1/kinds.html")
    page.get_by_label("Version of the documentation").select_option("1.0")
    page.wait_for_url("**/1.0/index.html")
    page.goto(address)
    page.wait_for_url("**/stable/index.html")


# For everybody -----------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_nothing_keeps_anybody_out(browser: Any, address: str, name: str) -> None:
    """axe finds no violation, light and dark, on a wide screen and on a phone."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{address}/1.1/{name}.html")
        page.evaluate(
            "document.querySelectorAll('details').forEach(d => d.open = true)"
        )
        if name == "add":
            page.keyboard.press("/")
            page.keyboard.type("add")
            page.wait_for_selector("#results a")
        if width == 390 and name == "guide/start":
            page.get_by_role("button", name="Menu").click()
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            found = axe.Axe().run(page, options={"runOnly": RULES}).response
            told = [
                (one["id"], [node["html"] for node in one["nodes"]])
                for one in found["violations"]
            ]
            assert not told, (width, theme)
    context.close()


RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
