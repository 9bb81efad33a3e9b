"""Search: whatever is on a page is found, the named thing first."""

import json

from hypothesis import given
from hypothesis import strategies as st

from litml.page import Section
from litml.search import (
    CHUNK,
    LONGEST,
    SHORTEST,
    build_search,
    index_page,
    read_script,
    search,
    shard_of,
    split_words,
)

texts = st.text(alphabet=st.sampled_from("abcXYZ_ .019äß和機"), max_size=40)


@given(st.lists(st.tuples(texts, texts, st.booleans()), max_size=8))
def test_every_word_of_a_section_finds_it(
    rows: list[tuple[str, str, bool]],
) -> None:
    sections = [Section(f"s{i}", t, x, is_symbol=s) for i, (t, x, s) in enumerate(rows)]
    files = build_search(index_page("p.html", "P", sections))
    for section in sections:
        for word in split_words(f"{section.title} {section.text}"):
            assert SHORTEST <= len(word) <= LONGEST
            found = search(files, word, limit=100)
            assert f"p.html#{section.id}" in found


@given(st.lists(texts, max_size=6))
def test_the_order_of_files_does_not_depend_on_chance(words: list[str]) -> None:
    sections = [Section(f"s{i}", word, "") for i, word in enumerate(words)]
    first = build_search(index_page("p.html", "P", sections))
    assert first == build_search(index_page("p.html", "P", sections))
    for name, data in first.items():
        assert data.startswith(f'litmlData("{name[:-3]}",'.encode())
        assert name.isascii() and "/" not in name


def test_a_symbol_comes_before_prose_that_says_more_of_it() -> None:
    sections = [
        Section("about", "About reading", "read_notebook " * 60),
        Section("read_notebooks", "read_notebooks", "Read many.", is_symbol=True),
        Section("read_notebook", "read_notebook", "Read one.", is_symbol=True),
        Section("Cell.read", "Cell.read", "Read a cell.", is_symbol=True),
    ]
    files = build_search(index_page("p.html", "P", sections))
    assert search(files, "read_notebook")[:2] == [
        "p.html#read_notebook",
        "p.html#read_notebooks",
    ]
    assert search(files, "notebook")[-1] == "p.html#about"
    assert search(files, "read")[0] == "p.html#Cell.read"
    assert search(files, "read cell") == ["p.html#Cell.read"]
    assert search(files, "READ_NOTEB")[0] == "p.html#read_notebook"


def test_nothing_is_found_where_nothing_is() -> None:
    files = build_search(index_page("p.html", "P", [Section("", "Title", "Text.")]))
    for query in ("", " ", "x", "elephant", "title elephant", "../..", "<b>"):
        assert search(files, query) == []
    assert build_search([]) == {}


def test_a_section_is_where_its_number_says() -> None:
    sections = [Section(f"s{i}", f"part {i}", "") for i in range(2 * CHUNK + 3)]
    files = build_search(index_page("p.html", "P", sections))
    rows = [row for i in range(3) for row in read_script(files[f"s-{i}.js"])]
    assert [row[1] for row in rows] == [one.title for one in sections]
    assert search(files, f"part {CHUNK}")[0] == f"p.html#s{CHUNK}"


def test_scripts_hold_data_only() -> None:
    """A title cannot end the call that it is an argument of."""
    hostile = "</script>\u2028');alert(1);('"
    files = build_search(index_page("p.html", "P", [Section("a", hostile, hostile)]))
    for data in files.values():
        inner = data.decode().partition(",")[2].rstrip()
        assert inner.endswith(")") and json.loads(inner[:-1])


def test_names_of_shards_are_names_of_files() -> None:
    assert shard_of("re") == "re" and shard_of("_x") == "_x"
    for word in ("..", "和機", "c:", "a/", "é1"):
        assert all(one in "0123456789abcdef-" for one in shard_of(word))
