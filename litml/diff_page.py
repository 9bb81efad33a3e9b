# Exported from nbs/08f_diff_page.ipynb. Edit either side, then run `litml sync`.
"""Write a comparison of notebooks as a page for a browser, in one file."""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from html import escape

from litml.diff import CellDiff, Line, NotebookDiff, Picture
from litml.show_diff import (
    count,
    head_cell,
    head_notebook,
    is_gap,
    make_visible,
    say_counts,
    say_status,
    split_line,
)

__all__ = ["write_page", "HEAD", "STYLE"]


# ## From text to HTML
# %% quote
def quote(text: str) -> str:
    """Return a text as HTML."""
    return escape(make_visible(text))


# %% write_lines
TAGS = {"-": "del", "+": "ins", " ": "span"}


def write_lines(lines: Iterable[Line], label: str) -> Iterator[str]:
    """Yield lines as one block of HTML; no lines are no block."""
    last, body = (0, 0), []
    for line in lines:
        if is_gap(last, line):
            body.append('<span class="far">⋮\n</span>')
        last = line.old or last[0], line.new or last[1]
        pieces = [
            f"<mark>{escape(text)}</mark>" if marked else escape(text)
            for text, marked in split_line(line)
        ]
        tag = TAGS[line.sign]
        sign = f'<span class="sign">{line.sign}</span>'
        body.append(f"<{tag}>{sign}{''.join(pieces)}\n</{tag}>")
    if body:
        yield f'<pre aria-label="{label}">{"".join(body)}</pre>'


# %% write_pictures
LARGEST = 3_000_000  # characters


def write_pictures(pictures: Iterable[Picture]) -> Iterator[str]:
    """Yield pictures as one block of HTML; no pictures are no block."""
    shown = [
        f'<img alt="{name}" src="data:{one.kind};base64,{data}">'
        for one in pictures
        for name in ["old picture" if one.sign == "-" else "new picture"]
        if len(one.data) <= LARGEST and (data := encode_picture(one))
    ]
    if shown:
        yield f'<p class="pictures">{" ".join(shown)}</p>'


def encode_picture(picture: Picture) -> str:
    """Return the content of a picture in base64; empty if it is none."""
    if picture.kind.endswith("+xml"):
        return b64encode(picture.data.encode(errors="replace")).decode()
    data = "".join(picture.data.split())
    return data if re.fullmatch(r"[A-Za-z0-9+/]+=*", data) else ""


# ## Cells and notebooks
# %% write_cell
def write_cell(cell: CellDiff) -> Iterator[str]:
    """Yield a cell as HTML."""
    yield f'<article class="{cell.status}"><h3>{escape(head_cell(cell))} '
    yield f'<span class="status">{say_status(cell)}</span></h3>'
    yield from write_lines(cell.lines, "source")
    yield from write_notes(cell.notes)
    yield from write_lines(cell.outputs, "outputs")
    yield from write_pictures(cell.pictures)
    yield "</article>"


def write_notes(notes: Iterable[str]) -> Iterator[str]:
    """Yield notes as a list; no notes are no list."""
    items = "".join(f"<li>{quote(note)}</li>" for note in notes)
    if items:
        yield f"<ul>{items}</ul>"


# %% write_notebook
LONG = 400  # lines


def write_notebook(diff: NotebookDiff, name: str) -> Iterator[str]:
    """Yield a notebook as HTML; `name` is its anchor on the page."""
    counts = count(diff)
    state = " open" if counts["+"] + counts["-"] <= LONG else ""
    yield f'<details{state} id="{name}"><summary><h2>'
    yield f"{escape(head_notebook(diff))}</h2> {escape(say_counts(counts))}</summary>"
    if diff.problem:
        yield f'<p class="problem">Not compared by cells. {quote(diff.problem)}</p>'
    yield from write_notes(diff.notes)
    yield from write_lines(diff.lines, "file")
    for cell in diff.cells:
        yield from write_cell(cell)
    yield "</details>"


# ## The page
# %% write_page
def write_page(diffs: Iterable[NotebookDiff], title: str) -> str:
    """Return a page that shows comparisons; `title` says of what with what."""
    named = [(f"n{i}", diff) for i, diff in enumerate(diffs, start=1)]
    links = [
        f'<li><a href="#{name}">{escape(head_notebook(diff))}</a> '
        f"{escape(say_counts(count(diff)))}</li>"
        for name, diff in named
    ]
    index = f'<nav aria-label="Notebooks"><ol>{"".join(links)}</ol></nav>'
    body = [line for name, diff in named for line in write_notebook(diff, name)]
    return "\n".join(
        [
            HEAD.format(title=quote(title), style=STYLE),
            index if len(named) > 1 else "",
            "<main>",
            *(body or ["<p>No differences.</p>"]),
            "</main></body></html>\n",
        ]
    )


HEAD = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>{style}</style></head>
<body><header><h1>{title}</h1></header>"""

STYLE = """
:root { --text: #1f2328; --soft: #59636e; --page: #fff; --head: #f1f3f5;
 --line: #d1d9e0; --link: #0550ae; --ins: #e4f8e9; --del: #ffecea;
 --ins-mark: #a4eab6; --del-mark: #ffc3bd; --note: #fff6d6 }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9da7b1;
 --page: #0d1117; --head: #1c222b; --line: #3a424c; --link: #79b8ff;
 --ins: #11291a; --del: #331719; --ins-mark: #1f6336; --del-mark: #81302e;
 --note: #332b0f } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 66rem; padding: 0 1rem 4rem;
 font: 1rem/1.5 system-ui, sans-serif; color: var(--text); background: var(--page) }
h1 { font-size: 1.4rem } h2 { display: inline; font-size: 1.1rem }
h3 { display: flow-root; font-size: .95rem; margin: 0; padding: .4rem .8rem;
 background: var(--head); border-radius: .4rem .4rem 0 0 }
h1, h2, h3, li, p { overflow-wrap: anywhere } a { color: var(--link) }
summary { cursor: pointer; padding: .6rem 0; color: var(--soft) }
summary h2 { color: var(--text) }
:is(a, summary):focus-visible { outline: 2px solid var(--link); outline-offset: 2px }
details { border-top: 1px solid var(--line); margin-top: 1rem }
article { border: 1px solid var(--line); border-radius: .4rem; margin: .8rem 0 }
.status { font-weight: normal; color: var(--soft); float: right }
pre { margin: 0; font: .85rem/1.5 ui-monospace, monospace; padding: .3rem 0 }
pre + pre { border-top: 1px solid var(--line) }
pre > * { display: block; padding: 0 .8rem 0 2.6rem; text-indent: -1.8rem;
 white-space: pre-wrap; overflow-wrap: anywhere; text-decoration: none }
.sign { display: inline-block; width: 1.4rem; text-indent: 0; color: var(--soft) }
ins { background: var(--ins) } del { background: var(--del) }
mark { color: inherit; border-radius: .2em }
ins mark { background: var(--ins-mark) } del mark { background: var(--del-mark) }
.far { color: var(--soft) }
ul { margin: 0; padding: .4rem .8rem .4rem 2rem; color: var(--soft) }
.pictures { margin: 0; padding: .4rem .8rem }
img { max-width: 48%; background: #fff; border: 1px solid var(--line) }
.problem { background: var(--note); padding: .4rem .8rem }
"""
