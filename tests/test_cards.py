"""An API card is sound HTML, says all that is known, and lets nothing through."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from litml.cards import (
    WIDTH,
    card_markdown,
    glance,
    link_names,
    render_card,
    write_signature,
)
from litml.page import ApiCard, Parameter, Symbol
from litml.symbols import read_symbols

VOID = {"br", "hr", "img", "wbr"}


class Reader(HTMLParser):
    """The elements of some HTML, each with its attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def resolve(name: str, module: str = "") -> str | None:
    return f"https://torch.test/{name}" if name.startswith("torch.") else None


def read(text: str, name: str) -> Symbol:
    return next(one for one in read_symbols(text, "zoo.cats") if one.name == name)


TEXT = '''
from torch import Tensor, nn

class Net(nn.Module):
    """A net."""
    def __init__(
        self,
        size: int,  # how many
        bias: bool = True,  # add one?
    ): ...

    def forward(self, x: Tensor, *more: Tensor, deep=False, **rest) -> Tensor:
        """Run it."""

    @property
    def last(self) -> list[Tensor]: ...
'''


def test_a_class() -> None:
    card = ApiCard(read(TEXT, "Net"), ("a.html#x A page",), ("b.html Tests",))
    html = render_card(card, resolve, "https://code.test/cats.py", level=2)
    page = Reader(html)
    assert page.all("h2") == [{"id": "Net"}]
    links = [one["href"] for one in page.all("a") if one.get("class") == "symbol"]
    assert links == ["https://torch.test/torch.nn.Module"]
    urls = [one["href"] for one in page.all("a")]
    assert "https://code.test/cats.py#L4-L16" in urls
    assert {"a.html#x", "b.html", "#Net"} <= set(urls)
    assert "Used in: A page" in page.text and "Tested by: Tests" in page.text
    assert "Net(size: int, bias: bool = True)" in page.text and "required" in page.text


def test_a_method_and_a_property() -> None:
    method = read(TEXT, "Net.forward")
    html = render_card(ApiCard(method), resolve)
    page = Reader(html)
    assert page.all("h3") == [{"id": "Net.forward"}]
    signature = "forward(x: Tensor, *more: Tensor, deep=False, **rest) → Tensor"
    assert signature in page.text and not page.all("table")
    assert html.count("torch.test/torch.Tensor") == 3
    page = Reader(render_card(ApiCard(read(TEXT, "Net.last")), resolve))
    assert "last: list[Tensor]" in page.text and "property" in page.text


def test_the_table_can_be_heard() -> None:
    page = Reader(render_card(ApiCard(read(TEXT, "Net")), resolve))
    scopes = [one["scope"] for one in page.all("th")]
    assert scopes == ["col"] * 4 + ["row"] * 2
    regions = [one for _, one in page.elements if "tabindex" in one]
    assert len(regions) == 2
    assert all(one["role"] == "group" and one["aria-label"] for one in regions)
    assert all(one["data-label"] for one in page.all("td"))


@pytest.mark.parametrize(
    ("definition", "signature"),
    [
        ("def f(a, /, b, *, c): ...", "f(a, /, b, *, c)"),
        ("def f(a, /): ...", "f(a, /)"),
        ("def f(*a, b=1): ...", "f(*a, b=1)"),
        ("def f(*, b: int = 1, **c): ...", "f(*, b: int = 1, **c)"),
        ("def f(a: 'X' = None) -> 'Y[X]': ...", "f(a: X = None) -> Y[X]"),
        ("def f(a=(1,\n 2), b='x'): ...", "f(a=(1, 2), b='x')"),
        ("def f(a=1e-3, b=0xFF): ...", "f(a=1e-3, b=0xFF)"),
        ("def f(é: int, a='→ü'): ...", "f(é: int, a='→ü')"),
    ],
)
def test_signatures_are_as_they_are_written(definition: str, signature: str) -> None:
    assert write_signature(read(definition, "f")) == signature


def test_what_is_too_wide_has_a_parameter_a_line() -> None:
    for length in range(60, 90):
        name = "a" * (length - 3)
        shown = write_signature(Symbol("f", "m", "function", (Parameter(name),)))
        assert (len(f"f({name})") > WIDTH) == ("\n" in shown)
        assert ("\n" in shown) == shown.startswith("f(\n    a")


HOSTILE = st.text("<>&\"'`|\n ab*_[](){}:/#$\\", max_size=20)
SYMBOLS = st.builds(
    Symbol,
    name=HOSTILE,
    module=HOSTILE,
    kind=st.sampled_from(["function", "class", "method", "property", "attribute"]),
    signature_params=st.lists(
        st.builds(
            Parameter,
            name=HOSTILE,
            kind=st.sampled_from(["positional", "keyword", "var-positional"]),
            annotation=HOSTILE,
            default=HOSTILE,
            description=HOSTILE,
        ),
        max_size=3,
    ).map(tuple),
    returns=HOSTILE,
    doc=HOSTILE,
    bases=st.lists(HOSTILE, max_size=2).map(tuple),
    names=st.just((("a", "a.a"), ("b", "b.b"))),
)
TAGS = {
    *("div", "h3", "code", "span", "a", "p", "pre"),
    *("table", "thead", "tbody", "tr", "th", "td"),
}


@given(SYMBOLS, HOSTILE)
def test_nothing_gets_through(symbol: Symbol, url: str) -> None:
    html = render_card(ApiCard(symbol, (url,), (url,)), lambda n, m: url, url)
    page = Reader(html)
    assert {tag for tag, _ in page.elements} <= TAGS
    allowed = {
        *(
            "id",
            "class",
            "href",
            "aria-label",
            "tabindex",
            "role",
            "scope",
            "data-label",
        ),
    }
    assert all(attributes.keys() <= allowed for _, attributes in page.elements)
    if symbol.doc.strip():
        assert " ".join(symbol.doc.split()) in " ".join(page.text.split())
    card_markdown(symbol)
    glance(symbol)


def test_what_is_not_known_stays_code() -> None:
    symbol = Symbol(
        "f", "m", "function", returns="Nowhere", names=(("Nowhere", "x.N"),)
    )
    assert "<a" not in link_names("Nowhere | None", symbol, resolve)


def test_only_names_that_mean_something_are_asked_for() -> None:
    asked: list[tuple[str, str]] = []
    text = "import torch as t\ndef f(a: 't.Tensor | int', b: Literal['t.x', 3]): ..."
    symbol = read(text, "f")
    render_card(ApiCard(symbol), lambda name, module: asked.append((name, module)))
    assert set(asked) == {("torch.Tensor", "zoo.cats")}


def test_a_signature_in_doubt_says_so() -> None:
    symbol = read("import x\n@x.y\ndef f(a): ...", "f")
    assert "decorator" in Reader(render_card(ApiCard(symbol), resolve)).text


def test_markdown_is_read_as_it_is_meant() -> None:
    text = 'def f(a: "int | None" = 3, # one | two\n b=1): "Do.\\n\\n- this"'
    markdown = card_markdown(read(text, "f"))
    html = MarkdownIt("commonmark").enable("table").render(markdown)
    assert "<h3><code>f</code> (function)</h3>" in html
    assert '<code class="language-python">f(a: int | None = 3, b=1)' in html
    rows = re.findall(r"<tr>.*?</tr>", html, re.DOTALL)
    assert len(rows) == 3 and "one | two" in rows[1] and "<li>this</li>" in html
    assert rows[1].count("<td>") == 4 and "<code>int | None</code>" in rows[1]


def test_at_a_glance() -> None:
    symbol = read(
        f"def f({', '.join('a' * i for i in range(9, 20))}): 'Do. More.'", "f"
    )
    signature, sentence = glance(symbol).split("\n")
    assert signature.startswith("f(aaaaaaaaa, ") and signature.endswith("a)")
    assert sentence == "Do."


def test_what_a_property_returns_is_said() -> None:
    text = "class A:\n    @property\n    def p(self) -> int:  # how many\n        ..."
    page = Reader(render_card(ApiCard(read(text, "A.p")), resolve))
    assert "returns" in page.text and "how many" in page.text
