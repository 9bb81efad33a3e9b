"""A page as HTML: nothing hostile survives, every link has its place."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litml.page import (
    ApiCard,
    Block,
    Callout,
    Code,
    Page,
    PageError,
    Parameter,
    Prose,
    Rendered,
    Shown,
    Symbol,
)
from litml.render import Sources, render_page
from litml.safe import answer, read_inside, sanitize

KNOWN = {"add": "core.html#add", "nbs/core.ipynb": "core.html"}


def page_of(*blocks: Block, name: str = "core", **more: Any) -> Page:
    about = (name, f"nbs/{name}.ipynb", "sums.core", more.pop("title", "Core"), "")
    return Page(*about, blocks, **more)


def resolve(name: str, module: str) -> str | None:
    return KNOWN.get(name)


def render(*blocks: Block, **more: Any) -> Rendered:
    return render_page(page_of(*blocks, **more), resolve, {})


# Nothing hostile survives ------------------------------------------------------------


class Judge(HTMLParser):
    """Parses as HTML, by no code of ours, and notes whatever could run or load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        is_frame = tag == "iframe" and said.get("sandbox") == "allow-scripts"
        if tag in DANGEROUS and not (is_frame and "srcdoc" not in said):
            self.found.append(tag)
        for name, value in said.items():
            address = re.sub(r"[\s\0]", "", value).lower()
            runs = address.startswith(("javascript:", "vbscript:", "data:text"))
            runs = runs and name not in ("id", "alt", "title", "aria-label", "class")
            if name.startswith("on") or runs or "expression(" in address:
                self.found.append(f"{tag} {name}={value}")
            if name == "style" and re.search(r"url\(|position|@import", address):
                self.found.append(f"{tag} {name}={value}")


DANGEROUS = frozenset(
    "script iframe object embed applet base form link meta style svg frame frameset"
    " template noscript input button textarea select foreignobject animate".split()
)


def judge(html: str) -> list[str]:
    judge = Judge()
    judge.feed(html)
    judge.close()
    return judge.found


def test_the_judge_sees_what_is_there() -> None:
    for bad in ("<script>x</script>", "<img src=x onerror=x>", "<svg/onload=x>"):
        assert judge(bad)
    assert judge('<a href=" java\nscript:x">') and judge("<iframe srcdoc=x>")


def shown(form: str, value: Any) -> Shown:
    return Shown("out", {"output_type": "display_data", "data": {form: value}})


SVG = "<svg xmlns='http://www.w3.org/2000/svg' onload='x()'><script>x()</script></svg>"
PAYLOADS = {
    "script in a markdown cell": Prose("c", "a\n\n<script>x()</script>"),
    "image in a markdown cell": Prose("c", "a <img src=x onerror=x()>"),
    "link in a markdown cell": Prose(
        "c", "[a](javascript:x()) <a href='javascript:x()'>b</a>"
    ),
    "script in html": shown("text/html", "a<script>x()</script>"),
    "image in html": shown("text/html", "a<img src=x onerror=x()>"),
    "svg in html": shown("text/html", "a<svg onload=x()></svg>"),
    "frame in html": shown(
        "text/html", "a<iframe srcdoc='<script>x()</script>'></iframe>"
    ),
    "svg that loads": shown("image/svg+xml", SVG),
    "svg with a script": shown("image/svg+xml", "<svg><script>x()</script></svg>"),
    "markdown output": shown("text/markdown", "a <b onclick=x()>b</b>"),
    "latex output": shown("text/latex", r"$\text{<img src=x onerror=x()>}$"),
    "text output": shown("text/plain", "<img src=x onerror=x()>"),
    "javascript output": shown("application/javascript", "x()"),
    "code that closes its block": Code("c", "'</code></pre><script>x()</script>'"),
}


@pytest.mark.parametrize("payload", PAYLOADS)
def test_none_of_fourteen_payloads_survives(payload: str) -> None:
    assert len(PAYLOADS) == 14
    assets: dict[str, bytes] = {}
    rendered = render_page(page_of(PAYLOADS[payload]), resolve, assets)
    assert judge(rendered.html) == []
    for name in assets:
        is_image = f'<img src="{name}"' in rendered.html
        is_framed = f'sandbox="allow-scripts" src="{name}"' in rendered.html
        assert is_image or is_framed


HOSTILE = [
    "<script>x()</script>",
    '"><img src=x onerror=x()>',
    "' onclick='x()",
    "</pre></code></details></summary>",
    "<svg/onload=x()>",
    "javascript:x()",
    "$\\href{javascript:x()}{a}$",
    "$\\text{</mtext></math><script>x()</script>}$",
    "<math><mtext><table><mglyph><style><img src onerror=x()>",
    "<style>@import 'x'</style>",
    "[a]: javascript:x()",
    '![a](x "onerror=x()")',
    "{onclick=x()}",
    ':::{.a onclick="x()"}\n:::',
    "> [!NOTE]\n> <script>x()",
    "`add`",
    "<!--",
    "]]>",
    "\0",
    "\x1b[31m<b>",
    "<a href=data:text/html,x>",
    "<form action=x><input autofocus onfocus=x()>",
    "\n\n",
]
hostile = st.lists(st.sampled_from(HOSTILE), min_size=1, max_size=4).map("".join)
forms = st.sampled_from(
    "text/html text/markdown text/latex text/plain image/svg+xml image/png"
    " application/json application/javascript application/x".split()
)
blocks = st.one_of(
    st.builds(Prose, hostile, hostile),
    st.builds(Callout, hostile, hostile, hostile, folded=st.booleans()),
    st.builds(Code, hostile, hostile, hostile, st.booleans(), hostile, caption=hostile),
    st.builds(
        lambda form, value, **more: Shown("c", {"data": {form: value}}, **more),
        *(forms, hostile),
        **dict.fromkeys(("caption", "alt", "label", "summary"), hostile),
    ),
    st.builds(
        lambda *texts: Shown(
            "c",
            dict(zip(("ename", "evalue"), texts, strict=True))
            | {"output_type": "error"},
        ),
        *(hostile, hostile),
    ),
    st.builds(lambda text: ApiCard(Symbol("f", "m", "function", doc=text)), hostile),
)


@given(st.lists(blocks, max_size=3), hostile)
@settings(max_examples=150)
def test_whatever_is_put_anywhere_nothing_runs(found: list[Block], title: str) -> None:
    """Fragments of attacks in every field of every block, put together as they come."""
    page = page_of(*found, title=title)
    assert judge(render_page(page, resolve, {}).html) == []


def test_styles_that_lay_something_over_the_page_go() -> None:
    html = sanitize("<p style='color: red; position: fixed; background: url(x)'>a</p>")
    assert "color" in html and judge(html) == []


# Files -------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    (root / "nbs" / "deep").mkdir(parents=True)
    (root / "nbs" / "plot.png").write_bytes(b"\x89PNG plot")
    (root / "nbs" / ".env").write_bytes(b"secret")
    (tmp_path / "out.png").write_bytes(b"secret")
    (root / "nbs" / "link.png").symlink_to(tmp_path / "out.png")
    return root


@pytest.mark.parametrize(
    "place", ["../plot.png", "/plot.png", "./../plot.png?raw=true"]
)
def test_images_of_the_project_become_files_of_the_site(
    project: Path, place: str
) -> None:
    page, assets = page_of(Prose("c", f"![A plot]({place})"), name="deep/page"), {}
    rendered = render_page(page, resolve, assets, read=read_inside(project))
    (name,) = assets
    assert assets[name] == b"\x89PNG plot" and f'src="../{name}"' in rendered.html
    assert rendered.asked == {"file:nbs/plot.png": name}
    read = read_inside(project)
    assert answer("file:nbs/plot.png", "", resolve, read) == name
    (project / "nbs" / "plot.png").write_bytes(b"new")
    assert answer("file:nbs/plot.png", "", resolve, read) not in (None, name)


@pytest.mark.parametrize(
    "place",
    [
        "../../out.png",
        "/../../out.png",
        "link.png",
        ".env",
        "gone.png",
        "%2e%2e/%2e%2e/out.png",
        "file:///etc/passwd.png",
        "attachment:none.png",
        "..",
        "a%00.png",
    ],
)
def test_no_other_file_is_shown(project: Path, place: str) -> None:
    assets: dict[str, bytes] = {}
    page = page_of(Prose("c", f"![Alt](<{place}>)\n\n<img src='{place}'>"))
    rendered = render_page(page, resolve, assets, read=read_inside(project))
    assert not assets and "Alt" in rendered.html
    assert {remark.cell for remark in rendered.remarks} == {"c"}


def test_a_link_to_an_image_leads_to_the_file_of_the_site(project: Path) -> None:
    assets: dict[str, bytes] = {}
    page = page_of(Prose("c", "[see](plot.png) [no](gone.png)"))
    html = render_page(page, resolve, assets, read=read_inside(project)).html
    assert f'href="{next(iter(assets))}"' in html and 'href="gone.png"' in html


def test_attachments_and_data_become_files() -> None:
    assets: dict[str, bytes] = {}
    prose = Prose(
        "c",
        "![a](attachment:my%20plot.png) <img src='data:image/png;base64,AAAA'>"
        " ![b](attachment:odd.png)",
        {"my plot.png": {"image/png": "AAAA"}, "odd.png": {"text/html": "x"}},
    )
    rendered = render_page(page_of(prose), resolve, assets)
    assert list(assets.values()) == [b"\0\0\0"]
    assert rendered.html.count(next(iter(assets))) == 2


# Places ------------------------------------------------------------------------------

A = Symbol("A", "sums.core", "class", cell="a", bases=("B",), names=(("B", "add"),))
FIELD = Symbol("A.x", "sums.core", "attribute", cell="a")
HIDDEN = Symbol("SIZE", "sums.core", "attribute", cell="hidden")
ADD = Symbol(
    *("add", "sums.core", "function", (Parameter("x", description="See `add`."),)),
    doc="Add, as :func:`~core.sub`.\n\nExamples\n--------\n>>> add(1)\n2",
    cell="b",
    line=3,
    end_line=4,
)


def ids(html: str) -> list[str]:
    return re.findall(r'\sid="([^"]+)"', html)


def test_every_symbol_and_every_cell_can_be_linked_to() -> None:
    blocks = [ApiCard(A), Code("a", "class A: ..."), Prose("p", "# add\n\n# main")]
    blocks += [ApiCard(ADD), Code("b", "def add(): ..."), ApiCard(ADD)]
    rendered = render(*blocks, symbols=(A, FIELD, HIDDEN, ADD))
    found = ids(rendered.html)
    assert {"A", "A.x", "SIZE", "add", "cell-a", "cell-b"} <= set(found)
    assert len(found) == len(set(found)), "the heading `add` has another id"
    assert found.index("SIZE") < found.index("cell-a") < found.index("A.x")
    assert [one.id for one in rendered.headings if one.is_symbol] == ["A", "add"]
    assert all(heading.id in found for heading in rendered.headings)


def test_cards_are_written_as_prose_is() -> None:
    sources = Sources("https://code.example/core.py", "https://code.example/core.ipynb")
    page = page_of(ApiCard(ADD, used_in=("core.html#cell-b Core",)), name="deep/page")
    html = render_page(page, resolve, {}, sources=sources).html
    assert 'href="https://code.example/core.py#L3-L4"' in html
    assert 'href="../core.html#cell-b"' in html
    assert html.count('<a class="symbol" href="../core.html#add">') == 1
    assert "pycon" in html or "Python console" in html
    assert "<blockquote" not in html
    assert "as <code>core.sub</code>." in html


def test_levels_step_down_by_one() -> None:
    method = Symbol("A.f", "sums.core", "method", cell="a")
    rendered = render(ApiCard(A), ApiCard(method), Prose("p", "###### Deep"))
    assert [heading.level for heading in rendered.headings] == [2, 3, 4]
    other = ApiCard(Symbol("g", "sums.core", "function", cell="b"))
    rendered = render(ApiCard(A), ApiCard(method), other)
    assert [heading.level for heading in rendered.headings] == [2, 3, 2]


def test_parts_of_a_notebook_keep_their_sections() -> None:
    rendered = render(Prose("a", "# One\n\n## Two"), ApiCard(A), Prose("b", "# Three"))
    assert [heading.level for heading in rendered.headings] == [2, 3, 4, 2]
    code = Prose("c", "## One\n\n```\n# no heading\n```")
    assert [one.level for one in render(code).headings] == [2]


def test_links_as_jupyter_makes_them_lead_to_headings() -> None:
    toc = "[a](#Load-the-Data!) [b](#load-the-data) [c](#A) [d](#Gone)"
    rendered = render(
        Prose("p", f"{toc}\n\n## Load the Data!"), ApiCard(A), symbols=(A,)
    )
    wanted = ["#load-the-data", "#load-the-data", "#A", "#Gone"]
    assert [link.url for link in rendered.links] == wanted
    assert re.findall('<a href="([^"]+)"', rendered.html) == wanted


def test_sections_are_what_search_finds() -> None:
    rendered = render(
        Prose("p", "Top $x$.\n\n## One\n\nFirst."),
        shown("text/markdown", "## Not searched\n\nOutput."),
        ApiCard(ADD),
        Code("b", "secret()", folded=True, exported=True),
        Code("c", "shown()"),
        title="Title",
    )
    texts = {one.id: one for one in rendered.texts}
    assert list(texts) == ["", "one", "add"], "not the heading of a docstring"
    assert [one.title for one in rendered.headings][-1] == "add"
    assert texts[""].title == "Title" and texts[""].text == "Top ."
    assert "First." in texts["one"].text and "Output" not in texts["one"].text
    assert texts["add"].is_symbol and "shown()" in texts["add"].text
    assert not [one for one in rendered.texts if "secret" in one.text]


def test_a_definition_of_another_cell_is_found() -> None:
    html = render(
        Prose("a", "See[^1] and [b]."), Prose("b", "[^1]: Note.\n\n[b]: /x")
    ).html
    assert "Note." in html and 'href="/x"' in html


def test_a_page_is_the_same_every_time() -> None:
    def make() -> Iterator[object]:
        assets: dict[str, bytes] = {}
        yield render_page(page_of(*PAYLOADS.values()), resolve, assets)
        yield assets

    assert list(make()) == list(make())


def test_what_is_nested_without_end_names_its_cell() -> None:
    with pytest.raises(PageError, match="cell deep"):
        render(Prose("deep", "::: {.a}\n" * 500))
    render(Prose("wide", ">" * 500 + "\n\n" + "[" * 500 + "*a_" * 500))
