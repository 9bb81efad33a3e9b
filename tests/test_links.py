"""What is wrong with links, headings and images is found, at its cell."""

from pathlib import Path

import pytest
from conftest import code, prose
from sitebox import SiteBox

from litml.links import Outline, check_links
from litml.page import Heading, Link

PLOT = {
    "image/png": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
    "DwADhgGAWjR9awAAAABJRU5ErkJggg=="
}


@pytest.fixture
def box(tmp_path: Path) -> SiteBox:
    return SiteBox(tmp_path)


def test_a_sound_site_has_no_findings(box: SiteBox) -> None:
    assert box.build().findings == ()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("[x](nowhere.ipynb)", "what is not there: nowhere.ipynb"),
        ("[x](guide/01_start.ipynb#nothing)", "a place that is not there"),
        ("[x](#nothing)", "a place that is not there: #nothing"),
        ("[x](files/none.pdf)", "what is not there"),
        (
            "![](data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=)",
            "an image without",
        ),
        ("![a](https://example.org/a.png)", "not on the site, so a link"),
        ("![what](none.png)", "no image `none.png`"),
        ("| a | b |\n|---|---|\n| `#| hide` | c |", "a bar ends a cell"),
    ],
)
def test_what_is_wrong_is_said_with_its_cell(
    box: SiteBox, source: str, message: str
) -> None:
    box.write("02_wrong.ipynb", prose("t", "# Wrong"), prose("here", source))
    findings = box.build().findings
    assert len(findings) == 1 and message in findings[0].message
    at = findings[0].at
    assert (at.notebook, at.cell) == ("nbs/02_wrong.ipynb", "here")


@pytest.mark.parametrize(
    "source",
    [
        "[x](guide/01_start.ipynb)",
        "[x](01_add.ipynb#add)",
        "[x](01_add.ipynb#more)",
        "[x](https://example.org/nowhere)",
        "[x](mailto:a@example.org)",
        "[x](#add-1) and `sums.add.add`\n\n## Add {#add-1}",
        "![a cat](data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA=)",
    ],
)
def test_what_is_right_is_not(box: SiteBox, source: str) -> None:
    box.write("02_right.ipynb", prose("t", "# Right"), prose("here", source))
    assert box.build().findings == ()


def test_a_plot_needs_words(box: SiteBox) -> None:
    output = {"output_type": "display_data", "data": PLOT, "metadata": {}}
    box.write("02_a.ipynb", prose("t", "# A"), code("plot", "plot()", outputs=[output]))
    [finding] = box.build().findings
    assert finding.message == "an image without alt text"
    assert finding.at.cell == "plot" and "fig-alt" in (finding.hint or "")
    described = code("plot", "#| fig-alt: A red dot\nplot()", outputs=[output])
    box.write("02_a.ipynb", prose("t", "# A"), described)
    assert box.build().findings == ()
    assert 'alt="A red dot"' in box.page("a.html")


def test_headings_go_down_one_by_one() -> None:
    levels = (1, 2, 4, 3, 2, 3, 4, 6)
    headings = tuple(Heading(level, f"h{level}", "") for level in levels)
    found = check_links([Outline("a", "a.ipynb", headings=headings)], [])
    assert [finding.message.split()[4] for finding in found] == ["4", "6"]
    cards = (Heading(2, "A", "a"), Heading(4, "C.m", "C.m", is_symbol=True))
    assert check_links([Outline("a", "a.ipynb", headings=cards)], []) == []


def test_links_are_followed_as_a_browser_does() -> None:
    target = Outline("b/c", "c.ipynb", ids=("x y", "ü"))
    urls = ["c.html#x%20y", "../b/c.html#ü", "./c.html", "../f.txt", "../../1.0/", ""]
    links = tuple(Link(url, "cell") for url in urls)
    assert (
        check_links([target, Outline("b/a", "a.ipynb", links=links)], ["f.txt"]) == []
    )


def test_what_is_elsewhere_is_a_link_unless_prose_is_trusted(box: SiteBox) -> None:
    """A page asks no other host for anything; outputs are never trusted."""
    shown = {"output_type": "display_data", "metadata": {}}
    shown["data"] = {"text/html": '<img src="https://example.org/b.png" alt="b">'}
    box.write(
        "02_far.ipynb",
        prose("t", "# Far"),
        prose("here", "![a cat](https://example.org/a.png)"),
        code("show", "show()", outputs=[shown]),
    )
    box.build()
    html = box.page("far.html")
    far = 'src="https://example.org'
    assert far not in html and '<a href="https://example.org/a.png">a cat</a>' in html
    assert "data: https:" not in html
    box.configure("trusted = true")
    box.build()
    html = box.page("far.html")
    assert html.count(far) == 1 and 'src="https://example.org/a.png"' in html
    assert '<a href="https://example.org/b.png">b</a>' in html
    assert "data: https:" in html


def test_an_image_from_elsewhere_within_a_link_is_its_words(box: SiteBox) -> None:
    badge = "[![build](https://example.org/b.svg)](https://example.org/ci)"
    box.write("02_badge.ipynb", prose("t", f"# Badge\n\n{badge} and `x`"))
    box.build()
    assert '<a href="https://example.org/ci">build</a> and' in box.page("badge.html")


def test_the_name_of_a_notebook_leads_to_its_page(box: SiteBox) -> None:
    names = "`01_add`, `01_add.ipynb`, `nbs/01_add.ipynb` and `nbs/none.ipynb`"
    box.write("02_names.ipynb", prose("t", f"# Names\n\nSee {names}."))
    box.build()
    found = box.page("names.html")
    assert found.count('<a class="symbol" href="add.html"><code>') == 3
    assert "<code>nbs/none.ipynb</code>" in found
