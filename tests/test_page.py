"""A page is data: it goes to JSON and comes back, and nothing else does."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litml.page import (
    ApiCard,
    Callout,
    Code,
    Page,
    PageError,
    Parameter,
    Prose,
    Shown,
    Symbol,
    from_json,
    to_json,
)

text = st.text(max_size=8)
parameters = st.builds(Parameter, text, text, text, text, text)
symbols = st.builds(
    Symbol,
    *(text, text, text),
    signature_params=st.tuples(parameters, parameters),
    bases=st.tuples(text),
    names=st.tuples(st.tuples(text, text)),
    line=st.integers(0, 99),
    dynamic=st.booleans(),
)
bundles = st.dictionaries(text, st.dictionaries(text, text), max_size=2)
blocks = st.one_of(
    st.builds(Prose, text, text, bundles),
    st.builds(Code, text, text, text, st.booleans()),
    st.builds(Shown, text, bundles),
    st.builds(ApiCard, symbols, st.tuples(text), st.tuples()),
    st.builds(Callout, text, text, text, text, st.booleans(), bundles),
)
pages = st.builds(
    Page,
    *([text] * 5),
    st.lists(blocks, max_size=4).map(tuple),
    st.tuples(symbols),
    front=bundles,
)


@given(pages)
@settings(max_examples=50, deadline=None)
def test_a_page_comes_back_from_json(page: Page) -> None:
    assert from_json(json.loads(json.dumps(to_json(page)))) == page


def damage(tree: Any) -> list[Any]:
    """Return the tree without each of its keys, and with each value of another kind."""
    without = [{k: v for k, v in tree.items() if k != key} for key in tree]
    return [*without, *({**tree, key: 3} for key in ("blocks", "symbols"))]


SYMBOL = Symbol("add", "sums", "function", (Parameter("a"),))
WHOLE = Page(
    *("core", "core.ipynb", "sums", "Core", ""), (ApiCard(SYMBOL), Prose("", ""))
)


def test_what_was_kept_and_is_damaged_is_one_error() -> None:
    """Keys with a default may be absent: an older page has fewer."""
    optional = {"symbols", "module_file", "language", "front"}
    for tree in damage(to_json(WHOLE)):
        missing = to_json(WHOLE).keys() - tree.keys()
        if not missing & (optional - {"symbols"}):
            with pytest.raises(PageError):
                from_json(tree)
    for odd in ([], {}, 3, None, {"blocks": [{"type": "Page"}], "symbols": []}):
        with pytest.raises(PageError):
            from_json(odd)  # type: ignore[arg-type]
