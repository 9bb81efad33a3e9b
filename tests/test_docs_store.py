"""The store of a site: damage is a miss. Its folder: only what is ours is removed."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sitebox import SiteBox

from litml.files import WriteError, state_dir
from litml.store import LIST, Store, Target, make_key


@given(st.lists(st.text() | st.binary()), st.lists(st.text() | st.binary()))
def test_keys_are_the_same_for_the_same_parts_only(
    first: list[str | bytes], second: list[str | bytes]
) -> None:
    same = [p if isinstance(p, bytes) else p.encode() for p in first] == [
        p if isinstance(p, bytes) else p.encode() for p in second
    ]
    assert (make_key(*first) == make_key(*second)) == same


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(json_values.filter(lambda value: value is not None), st.data())
def test_what_is_kept_comes_back_or_not_at_all(
    value: object, data: st.DataObject
) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        store.write("a", "k", value)
        assert store.read("a", "k") == value
        assert store.read("a", "l") is None and store.read("b", "k") is None
        path = store.path_of("a")
        raw = path.read_bytes()
        at = data.draw(st.integers(0, len(raw) - 1))
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        assert store.read("a", "k") is None
        path.write_bytes(raw[:at])
        assert store.read("a", "k") is None


def test_an_entry_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "docs").write_text("a file where a folder should be")
    store = Store(tmp_path / "docs")
    store.write("a", "k", 1)
    assert store.read("a", "k") is None


@pytest.mark.parametrize("name", ["../a", "/etc/a", "a/../../b", "", "."])
def test_a_list_cannot_remove_what_is_outside(tmp_path: Path, name: str) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "a").write_text("mine")
    (site / LIST).write_text(f"{name}\n")
    Target(site).finish()
    assert (tmp_path / "a").read_text() == "mine"


def test_only_what_was_made_is_removed(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/mine.html").write_text("mine")
    first = Target(tmp_path)
    first.write("old/page.html", b"1")
    first.write("other/page.html", b"2")
    first.finish()
    second = Target(tmp_path)
    second.finish()
    assert second.removed == ["old/page.html", "other/page.html"]
    assert (tmp_path / "old/mine.html").exists() and not (tmp_path / "other").exists()


def test_a_disk_that_refuses_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a file")
    with pytest.raises(WriteError) as caught:
        Target(tmp_path).write("a/page.html", b"")
    assert caught.value.at and "page.html" in str(caught.value.at)


def test_whatever_happens_to_the_store_the_site_is_the_same(tmp_path: Path) -> None:
    box = SiteBox(tmp_path)
    box.build()
    whole = box.files()
    entries = sorted((state_dir(box.root) / "docs").glob("*.json"))
    assert len(entries) > 8
    for number, entry in enumerate(entries):
        raw = entry.read_bytes()
        head = raw.partition(b"\n")[0]
        # Cut off, empty, not UTF-8, and well-formed nonsense under a right digest
        sound = head.split()[0] + b" " + make_key(b'{"facts":3}').encode()
        damaged = [raw[: len(raw) // 2], b"", b"\xff\xfe", sound + b'\n{"facts":3}']
        entry.write_bytes(damaged[number % 4])
    (box.root / "_site/add.html").write_text("somebody was here")
    report = box.build()
    assert not report.problems
    assert box.files() == whole


def test_entries_are_data(tmp_path: Path) -> None:
    box = SiteBox(tmp_path)
    box.build()
    for entry in (state_dir(box.root) / "docs").glob("*"):
        json.loads(entry.read_bytes().partition(b"\n")[2])
