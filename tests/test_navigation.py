"""Navigation: every page has a place, an address and neighbours."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from litml.navigation import (
    NEAREST,
    Place,
    make_parts,
    name_pages,
    surround,
)

stems = st.text(alphabet="ab01_-é ", min_size=1, max_size=6).map(str.strip)
paths = st.lists(
    st.lists(stems.filter(bool), min_size=1, max_size=3).map("/".join),
    max_size=12,
    unique=True,
).map(lambda found: [f"{path}.ipynb" for path in found])


@given(paths)
def test_addresses_are_different_and_fit_for_a_server(found: list[str]) -> None:
    names = name_pages(found)
    assert list(names) == found
    by_stem = {path.replace(" ", "-").lower() for path in found}
    if len(by_stem) == len(found):  # else two files differ in blanks or case only
        assert len({name.lower() for name in names.values()}) == len(found)
    assert not any(" " in name for name in names.values())


def test_numbers_stay_where_a_name_would_be_lost() -> None:
    names = name_pages(["01_a.ipynb", "02_a.ipynb", "03_B.ipynb", "2024.ipynb"])
    assert list(names.values()) == ["01_a", "02_a", "B", "2024"]


@given(paths, st.lists(st.sampled_from(["*a*", "0*", "*/*"]), max_size=2, unique=True))
def test_every_page_is_in_one_section(found: list[str], patterns: list[str]) -> None:
    places = {path: Place(path, path) for path in found}
    sections = {pattern: [pattern] for pattern in patterns}
    parts = make_parts(places, sections)
    listed = [place.name for part in parts for place in part.places]
    assert sorted(listed) == sorted(found)
    around = surround(None, parts)
    assert set(around) == set(found)
    assert [around[name].previous for name in listed[:1]] in ([], [None])
    for name, after in pairwise(listed):
        assert around[name].next and around[name].next.name == after
        assert around[after].previous and around[after].previous.name == name


def test_the_order_is_that_of_reading() -> None:
    found = ["02_b.ipynb", "10_c.ipynb", "train/index.ipynb", "train/01_loop.ipynb"]
    names = name_pages(found)
    places = {path: Place(names[path], path) for path in reversed(found)}
    parts = make_parts(places, {"Training": ["train/*"]})
    assert [part.title for part in parts] == ["Training", "Pages"]
    assert [place.name for place in parts[0].places] == ["train/index", "train/loop"]
    assert [place.name for place in parts[1].places] == ["b", "c"]


def test_a_folder_keeps_its_capitals() -> None:
    places = {name: Place(name, "") for name in ("API/a", "how_to/b")}
    assert [part.title for part in make_parts(places, {})] == ["API", "How to"]


def test_a_page_does_not_grow_with_its_section() -> None:
    long = make_parts(
        {f"a/{i:04}.ipynb": Place(f"a/{i:04}", "") for i in range(500)}, {}
    )
    around = surround(None, long)
    assert max(len(one.listed) for one in around.values()) == NEAREST
    for name, one in around.items():
        assert name in {place.name for place in one.listed}
