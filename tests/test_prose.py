"""Markdown as people write it in notebooks: formulas, boxes, headings, links."""

import re
from itertools import pairwise
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litml.formula import CHILDREN, TAGS, to_mathml
from litml.page import Page
from litml.prose import (
    find_definitions,
    place_headings,
    plain_text,
    render_prose,
    split_boxes,
)
from litml.safe import Context

KNOWN = {
    "core.add": "core.html#add",
    "nbs/01_core.ipynb": "core.html",
    "nbs/sub/two.ipynb": "sub/two.html",
    "torch.Tensor": "https://pytorch.org/tensor.html",
}


def context(name: str = "sub/page", **more: object) -> Context:
    page = Page(name, f"nbs/{name}.ipynb", "sums.core", "Page", "", ())
    return Context(page, lambda name, module: KNOWN.get(name), **more)  # type: ignore[arg-type]


def render(source: str) -> str:
    return render_prose(source, context())


# Formulas ----------------------------------------------------------------------------

FORMULAS = [
    r"x",
    r"\frac{a}{b} + \sqrt[3]{x}",
    r"\sum_{i=1}^{n} x_i^2",
    r"\begin{bmatrix} a & b \\ c & d \end{bmatrix}_i^T",
    r"\begin{align} a &= b \\ c &\le d \end{align}",
    r"\mathbb{E}_{x \sim p}\left[\log \hat{y}\right]",
    r"\underset{\theta}{\operatorname{argmin}}\; \mathcal{L}(\theta)",
    r"\begin{cases} 0 & x < 0 \\ 1 & \text{else} \end{cases}",
    r"p(x \mid y) \propto \exp\left(-\tfrac12 \|x - y\|^2\right)",
    r"a \label{eq:a}",
]


@pytest.mark.parametrize("latex", FORMULAS)
def test_a_formula_is_mathml_as_its_specification_wants_it(latex: str) -> None:
    """Well formed, of known elements, each with the children that it must have."""
    drawn = to_mathml(latex)
    assert drawn is not None
    for element in fromstring(drawn).iter():
        assert element.tag in TAGS
        assert len(element) == CHILDREN.get(element.tag, len(element)), drawn
        assert "&" not in (element.text or "") and "\\" not in (element.text or "")


@pytest.mark.parametrize("latex", ["{", r"\nosuch{x}", r"\frac{1}", r"\begin{x}", "^"])
def test_what_is_not_drawn_is_shown_and_told(latex: str) -> None:
    here = context()
    html = render_prose(f"See ${latex}$.", here)
    assert "<math" not in html
    assert '<code class="formula">' in html and len(here.remarks) == 1


def test_dollars_and_environments() -> None:
    assert render("$a$ and $$b$$").count("<math") == 2
    assert "$" not in render("probability:$$P(y)$$ of *y*")
    assert render("$$\na\n$$").count('display="block"') == 1
    assert render("\\begin{align}\na &= b\n\\end{align}").count("<math") == 1
    assert '<div class="formula" id="eq-a"' in render("$$a$$ {#eq-a}")
    prices = "It costs $5 and $6, 7 $ or $ 8."
    assert "<math" not in render(prices) and plain_text(render(prices)) == prices


# What else Markdown has here ---------------------------------------------------------


def test_plugins() -> None:
    assert "<s>no</s>" in render("~~no~~")
    assert "<dt>Term</dt>" in render("Term\n: What it is")
    assert '<span class="x">a</span>' in render("[a]{.x}")
    table = render("| a | b |\n|---|--:|\n| 1 | 2 |")
    assert 'tabindex="0"' in table and table.count('scope="col"') == 2
    assert "text-align:right" in table
    assert "pre" in render("    x = 1") and 'class="k"' in render(
        "```python\nif x\n```"
    )
    assert 'class="k"' in render("```{python}\nif x\n```")


def test_footnotes_have_ids_of_their_own() -> None:
    here = context()
    here.definitions = find_definitions(["[^1]: One.", "[a]: https://a.example"])
    both = render_prose("x[^1] [a]", here) + render_prose("y[^1]\n\n[^1]: Two.", here)
    ids = re.findall(r'id="([^"]+)"', both)
    assert len(ids) == len(set(ids)) == 4
    assert "One." in both and both.count("Two.") == 1
    assert 'href="https://a.example"' in both


def test_addresses_and_references_become_links() -> None:
    html = render("See https://a.example/b_c, (https://d.example/) `https://no` @fig-x")
    assert re.findall(r'href="([^"]+)"', html) == [
        "https://a.example/b_c",
        "https://d.example/",
        "#fig-x",
    ]
    assert ">Figure</a>" in html
    assert "<a" not in render("me@fig-leaves.example")
    assert render("[x https://a.example](https://b.example)").count("<a ") == 1


def test_an_image_with_a_label_is_a_figure() -> None:
    dot = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
    html = render(f'![It *falls*]({dot}){{#fig-loss fig-alt="A line"}}')
    assert '<figure id="fig-loss"><img alt="A line"' in html
    assert "<figcaption>It <em>falls</em></figcaption></figure>" in html
    assert "<p></p>" not in html
    assert '<img alt=""' in render(f"![]({dot})")
    plain = render(f"![Dot]({dot}){{width=5}}")
    assert "<figure" not in plain and 'alt="Dot" width="5"' in re.sub(
        ' (loading|src)="[^"]*"', "", plain
    )


# Boxes -------------------------------------------------------------------------------

BOXES = {
    "::: {.callout-note}\nText\n:::": ("note", "Note"),
    ":::{.callout-tip}\n## Do\nText\n:::": ("tip", "Do"),
    '::: {.callout-warning title="Mind"}\nText\n:::': ("warning", "Mind"),
    ":::: important\nText\n::::": None,
    "> [!CAUTION]\n> Text": ("caution", "Caution"),
    "!!! danger\n    Text": ("caution", "Danger"),
    '!!! note "Read"\n\n    Text': ("note", "Read"),
}


@pytest.mark.parametrize("source", BOXES)
def test_boxes_in_every_notation(source: str) -> None:
    html = render(f"Before\n\n{source}\n\nAfter")
    assert ":::" not in html and "Text" in html
    if wanted := BOXES[source]:
        assert f'<aside class="callout {wanted[0]}"' in html
        title = wanted[1] if wanted[1] != "Danger" else "Caution"
        assert f'<p class="callout-title">{title}</p>' in html
        assert html.count(title) == 2 if title.lower() == wanted[0] else 1


def test_a_folded_box_needs_no_script() -> None:
    html = render('::: {.callout-note collapse="true" title="More"}\nText\n:::')
    assert html.startswith('<details class="callout note"><summary>More</summary>')
    assert render('??? note "More"\n    Text').startswith("<details")


def test_boxes_nest_and_code_is_not_a_box() -> None:
    html = render("::: {.a #b}\n::: {.callout-tip}\nIn\n:::\n:::\n\n```\n::: {.c}\n```")
    assert html.count("<aside") == 1 and '<div class="a" id="b">' in html
    assert "::: {.c}" in plain_text(html)
    assert "Open" in render("::: {.callout-note}\nOpen")


@given(st.lists(st.sampled_from([":::", "::: {.a}", "> x", "a", "```", "", "!!! x"])))
def test_splitting_loses_no_text(lines: list[str]) -> None:
    source = "\n".join([*lines, "last"])
    assert "last" in "".join(map(str, split_boxes(source)))


# Headings ----------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["A", "b c", "A", "1"]))))
def test_headings_step_down_one_by_one_and_have_ids(
    found: list[tuple[int, str]],
) -> None:
    here = context()
    html = place_headings("".join(f"<h{n}>{t}</h{n}>" for n, t in found), here)
    levels = [heading.level for heading in here.headings]
    assert len(levels) == len(found)
    assert all(below <= above + 1 for above, below in pairwise([1, *levels]))
    assert all(level >= 2 for level in levels)
    ids = re.findall(r'<h\d id="([^"]+)"', html)
    assert ids == [heading.id for heading in here.headings]
    assert len(set(ids)) == len(ids)


def test_ids_of_headings() -> None:
    here = context()
    render_prose(
        "# Über `x_y` & *more*!\n\n## B {#own .unnumbered}\n\n## `add()`", here
    )
    assert [one.id for one in here.headings] == ["über-x_y-more", "own", "add"]
    render_prose("## 1.1 You're *here*: A/B\n\n## 2020", here)
    assert [one.id for one in here.headings[3:]] == ["youre-here-ab", "section"]
    titles = [one.title for one in here.headings]
    assert titles[:3] == ["Über x_y & more!", "B", "add()"]


# Links -------------------------------------------------------------------------------


def test_code_that_names_something_is_a_link() -> None:
    here = context()
    html = render_prose("`core.add()` `nobody` `a + b` [`core.add`](x.html)", here)
    assert re.findall(r'<a class="symbol" href="([^"]+)"', html) == ["../core.html#add"]
    assert here.asked["core.add"] == "core.html#add" and here.asked["nobody"] is None
    outside = render("`torch.Tensor`")
    assert 'href="https://pytorch.org/tensor.html"' in outside


def test_a_notebook_may_be_named_as_its_file_is() -> None:
    here = context("00_start")
    html = render_prose("`01_core` `02_gone` `3_14` `12`", here)
    assert re.findall('href="([^"]+)"', html) == ["core.html"]
    assert "nbs/02_gone.ipynb" in here.asked and "12" not in here.asked


def test_links_to_notebooks_lead_to_their_pages() -> None:
    here = context()
    html = render_prose(
        "[a](../01_core.ipynb#x) [b](two.ipynb) [c](/01_core.ipynb)", here
    )
    urls = ["../core.html#x", "../sub/two.html", "../core.html"]
    assert re.findall(r'href="([^"]+)"', html) == urls
    assert [link.url for link in here.links] == urls
    assert 'href="gone.ipynb"' in render("[x](gone.ipynb)"), "for the checker to find"
    assert 'href="#here"' in render("[x](#here)")


def test_prose_that_is_trusted_keeps_its_html() -> None:
    here = context(trusted=True)
    assert "<svg" in render_prose("<svg onload=x()></svg>", here)
    assert "<svg" not in render("<svg onload=x()></svg>")
