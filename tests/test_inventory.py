"""`objects.inv`: what is written is read, by others too, and damage is an error."""

import importlib
import re
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litml.inventory import (
    BUNDLED,
    Entry,
    Inventory,
    InventoryError,
    Resolver,
    list_entries,
    load_bundled,
    load_inventories,
    open_inventory,
    read_inventory,
    write_inventory,
)
from litml.page import Symbol

WORD = st.text("abcXYZ_.é", min_size=1, max_size=12)
ENTRIES = st.builds(
    Entry,
    name=st.lists(WORD, min_size=1, max_size=3).map(" ".join),
    role=st.tuples(st.sampled_from(["py", "std", "c"]), WORD).map(":".join),
    place=WORD,
    title=st.just("-") | st.lists(WORD, min_size=1, max_size=3).map(" ".join),
    priority=st.integers(-1, 3),
)


@given(st.lists(ENTRIES, max_size=12))
def test_what_is_written_is_read(entries: list[Entry]) -> None:
    raw = write_inventory(entries, "Zoo", "1")
    found = read_inventory(raw, "zoo.inv")
    key = lambda one: (one.name, one.role, one.url, one.title, one.priority)  # noqa: E731
    assert sorted(map(key, found)) == sorted(map(key, entries))
    assert write_inventory(reversed(entries), "Zoo", "1") == raw


def test_the_file_is_as_the_format_says() -> None:
    """Taken apart by hand, line by line."""
    entries = [
        Entry("zoo.Cat", "py:class", "cats.html#zoo.Cat"),
        Entry("feed the cat", "std:label", "care.html#feed", "How to feed"),
    ]
    raw = write_inventory(entries, "Zoo\nof Rome", "1.2")
    lines = raw.split(b"\n", 4)
    assert lines[:4] == [
        b"# Sphinx inventory version 2",
        b"# Project: Zoo of Rome",
        b"# Version: 1.2",
        b"# The remainder of this file is compressed using zlib.",
    ]
    assert zlib.decompress(lines[4]).decode().splitlines() == [
        "feed the cat std:label 1 care.html#feed How to feed",
        "zoo.Cat py:class 1 cats.html#$ -",
    ]


RAW = write_inventory([Entry("a.b", "py:class", "a.html#$")], "A", "1")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\n" * 9,
        b"<html>Not found</html>",
        RAW.replace(b"version 2", b"version 1"),
        RAW[:-1],
        RAW[: RAW.index(b"zlib.") + 6],
        RAW[:-6] + b"\0\0\0\0\0\0",
        RAW[: RAW.index(b"zlib.") + 6] + zlib.compress(b"\xff\xfe\xfa"),
        RAW[: RAW.index(b"zlib.") + 6] + zlib.compress(b"\0" * 60_000_000),
    ],
)
def test_a_damaged_file_is_an_error(raw: bytes) -> None:
    with pytest.raises(InventoryError) as caught:
        read_inventory(raw, "inventories/a.inv")
    assert "inventories/a.inv" in str(caught.value) and caught.value.hint


@given(st.binary(max_size=80))
def test_no_bytes_are_another_error(raw: bytes) -> None:
    for data in (raw, RAW[:110] + raw):
        with suppress(InventoryError):
            read_inventory(data, "a.inv")


def test_lines_that_say_nothing_are_passed_over() -> None:
    text = "odd\na.b py:class 1 a.html#$ -\n\n x y\na b:c d e f\n"
    head = RAW[: RAW.index(b"zlib.") + 6]
    found = read_inventory(head + zlib.compress(text.encode()), "a.inv")
    assert [one.url for one in found] == ["a.html#a.b"]


# What litml brings along --------------------------------------------------------------


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_places_are_places(name: str) -> None:
    inventory = load_bundled(name)
    assert len(inventory.places) > 1000
    for path, place in inventory.places.items():
        assert re.fullmatch(r"[\w./-]+\.html(#[\w.:-]+)?", place), (path, place)
    url = {
        "python": "docs.python.org",
        "numpy": "numpy.org",
        "torch": "docs.pytorch.org",
    }
    assert inventory.url.startswith(f"https://{url[name]}/")


def test_bundled_names_of_python_exist() -> None:
    """Of the modules that are imported here anyway; newer Pythons have a few more."""
    known, there = 0, 0
    for path in load_bundled("python").places:
        module, _, name = path.rpartition(".")
        if module in sys.modules and module not in ("sys", "__main__"):
            known += 1
            there += hasattr(sys.modules[module], name)
    assert known > 500 and there > 0.9 * known


def test_the_wheel_has_them() -> None:
    folder = (
        Path(importlib.import_module("litml").__file__ or "").parent / "inventories"
    )
    files = sorted(folder.iterdir())
    assert [file.suffix for file in files] == [".inv"] * len(BUNDLED)
    assert sum(file.stat().st_size for file in files) < 150_000


# From a name to a link ----------------------------------------------------------------


def test_own_first_then_the_project_s_then_the_bundled(tmp_path: Path) -> None:
    (tmp_path / "inventories").mkdir()
    entries = [
        Entry(name, "py:class", "x.html#$") for name in ("torch.Tensor", "zoo.Cat")
    ]
    raw = write_inventory(
        [*entries, Entry("zoo.label", "std:label", "x.html")], "Z", ""
    )
    (tmp_path / "inventories/zoo.inv").write_bytes(raw)
    inventories = load_inventories(tmp_path, {"zoo": "https://zoo.test/docs/"})
    resolve = Resolver({"zoo.Cat": "cats.html#Cat"}, inventories)
    assert resolve("zoo.Cat") == "cats.html#Cat"
    assert resolve("torch.Tensor") == "https://zoo.test/docs/x.html#torch.Tensor"
    assert resolve("torch.nn.Module", "zoo").endswith("#torch.nn.Module")  # type: ignore[union-attr]
    assert resolve("zoo.label") is None


def test_a_project_can_replace_a_bundled_one(tmp_path: Path) -> None:
    (tmp_path / "inventories").mkdir()
    (tmp_path / "inventories/torch.inv").write_bytes(RAW)
    found = load_inventories(tmp_path, {"torch": "https://torch.test"})
    assert found[0].url == "https://torch.test"
    assert len(found) == len(BUNDLED)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "zoo.test", "file:///etc", ""])
def test_only_addresses_of_sites(url: str) -> None:
    with pytest.raises(InventoryError):
        open_inventory(RAW, url, "a.inv")


PLACES = {
    "zoo.cats.Cat": "cats.html#Cat",
    "zoo.cats.Cat.sleep": "cats.html#Cat.sleep",
    "zoo.cats.feed": "cats.html#feed",
    "zoo.cats.feed_all": "cats.html#feed_all",
    "zoo.dogs.Dog": "dogs.html#Dog",
    "zoo.dogs.Cat": "dogs.html#Cat",
}


@pytest.mark.parametrize(
    ("name", "module", "url"),
    [
        ("zoo.cats.feed", "", "cats.html#feed"),
        ("feed", "zoo.cats", "cats.html#feed"),
        ("feed", "zoo.dogs", None),  # a plain word may be just a word
        ("feed_all", "zoo.dogs", "cats.html#feed_all"),
        ("Dog", "zoo.cats", "dogs.html#Dog"),
        ("Cat", "zoo.dogs", "dogs.html#Cat"),
        ("Cat", "elsewhere", None),  # which of the two?
        ("Cat.sleep", "zoo.dogs", "cats.html#Cat.sleep"),
        ("zoo.Dog", "", "dogs.html#Dog"),  # passed on by the package
        ("zoo.nothing", "zoo.cats", None),
        ("os.Dog", "", None),
        ("np.float64", "", "https://n.test/f.html"),
        ("ValueError", "", "https://n.test/v.html"),
        ("print", "", None),
        ("__init__", "zoo.cats", None),
        ("", "zoo.cats", None),
    ],
)
def test_resolving(name: str, module: str, url: str | None) -> None:
    foreign = {"numpy.float64": "f.html", "ValueError": "v.html", "print": "p.html"}
    resolve = Resolver(PLACES, [Inventory("https://n.test", foreign)])
    assert resolve(name, module) == url


def test_entries_of_a_site() -> None:
    symbols = [
        Symbol("Cat", "zoo.cats", "class"),
        Symbol("hidden", "zoo.cats", "function"),
    ]
    found = list_entries(PLACES, symbols, {"zoo.cats": "cats.html"})
    raw = write_inventory(found, "Zoo", "1")
    other = open_inventory(raw, "https://zoo.test", "zoo.inv")
    assert other.find("zoo.cats.Cat") == "https://zoo.test/cats.html#Cat"
    assert other.find("zoo.cats") == "https://zoo.test/cats.html"
    assert other.find("zoo.cats.hidden") is None
