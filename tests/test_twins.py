"""Every page a second time, as Markdown."""

import re

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from litml.page import ApiCard, Callout, Code, Page, Parameter, Prose, Shown, Symbol
from litml.twins import fence, llms_full, llms_txt, page_markdown

ADD = Symbol(
    "add",
    "sums.core",
    "function",
    (Parameter("a", annotation="int", description="One number."),),
    doc="Add one.",
)


def page(*blocks: object, name: str = "deep/core") -> Page:
    about = (f"{name}", f"nbs/{name}.ipynb", "sums.core", "Core", "Sums.")
    return Page(*about, blocks)  # type: ignore[arg-type]


@given(st.text(st.sampled_from("`a\n ~")))
def test_no_text_gets_out_of_its_fence(text: str) -> None:
    """As another parser sees it."""
    (token,) = MarkdownIt().parse(fence(text, "text"))
    assert token.type == "fence" and token.content == f"{text}\n"


def test_a_page() -> None:
    made = page_markdown(
        asked={},
        page=page(
            Prose("a", "# One\n\n::: {.wide}\nText\n:::\n\n```\n# no heading\n```"),
            ApiCard(ADD),
            ApiCard(ADD),
            Code("b", "def add(a): ...", folded=True, summary="Implementation"),
            Callout("tip", "Title", "Two\n\nlines"),
            Code("c", "ls", "bash"),
            Shown("c", {"output_type": "stream", "text": ["\x1b[31ma\x1b[0m\n"]}),
            Shown("c", {"data": {"text/html": "<b>", "text/plain": "a table"}}),
            Shown("c", {"data": {"text/markdown": "**b**"}}),
            Shown("c", {"data": {"image/png": "AAAA"}}, alt="A plot"),
            Shown("c", {"output_type": "error", "ename": "E", "evalue": "no"}),
            Shown("c", {"data": {"application/x": "?"}}),
        ),
    )
    assert made.startswith("# Core\n\n> Sums.\n\nModule `sums.core`")
    assert "\n## One\n" in made and "\n# no heading\n" in made and ":::" not in made
    assert made.count("Add one.") == 1 and "add(a: int)" in made
    assert "One number." in made and "def add" not in made
    assert "> [!TIP]\n> **Title**\n>\n> Two\n>\n> lines" in made
    assert "```bash\nls\n```\n\n```text\na\n```\n\n```text\na table\n```" in made
    assert re.search(r"!\[A plot\]\(\.\./_assets/\w+\.png\)", made)
    assert "E: no" in made and "\n\n\n" not in made


def test_links_lead_to_other_twins() -> None:
    source = (
        "[a](../b.ipynb#x) ![c](c.png) ![d](attachment:my%20d.png) [e](e.ipynb) [f](#f)"
    )
    asked = {"nbs/b.ipynb": "b.html", "file:nbs/deep/c.png": "_assets/1.png"}
    prose = Prose("a", source, {"my d.png": {"image/png": "AAAA"}})
    made = page_markdown(page(prose), {**asked, "nbs/deep/e.ipynb": None})
    assert "[a](../b.md#x) ![c](../_assets/1.png)" in made
    assert re.search(
        r"!\[d\]\(\.\./_assets/\w+\.png\) \[e\]\(e\.ipynb\) \[f\]\(#f\)", made
    )


def test_lists_for_assistants() -> None:
    listed = llms_txt("Sums", "Small.", {"A": [page(name="a")], "B": []})
    assert listed.startswith("# Sums\n\n> Small.\n\n## A\n\n- [Core](a.md): Sums.\n")
    assert "https://x.example/a.md" in llms_txt(
        "Sums", "", {"A": [page(name="a")]}, "https://x.example/"
    )
    assert "".join(llms_full("Sums", "", iter(["# A\n", "# B\n"]))).count("---") == 2
