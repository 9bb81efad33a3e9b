"""Versions of a site: side by side, none touched by another one's build."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sitebox import SiteBox

from litml.versions import (
    VersionsError,
    folder_of,
    is_newest,
    is_release,
    order_versions,
    read_versions,
    version_files,
)

releases = st.tuples(st.integers(0, 12), st.integers(0, 12)).map("{0[0]}.{0[1]}".format)


@given(st.lists(releases | st.sampled_from(["dev", "next"]), min_size=1))
def test_the_list_holds_every_version_once_the_newest_first(built: list[str]) -> None:
    known = b""
    for folder in built:
        newest = is_newest(known, folder)
        known = version_files(known, folder, "A")["versions.json"]
        found = [one.path for one in read_versions(known)]
        own = [path for path in found if is_release(path)]
        assert newest == (own[:1] == [folder])
    assert len(found) == len(set(found)) and set(found) - {"stable"} == set(built)
    assert own == sorted(own, key=lambda p: [*map(int, p.split("."))], reverse=True)
    assert ("stable" in found) == bool(own)


@given(
    st.binary()
    | st.sampled_from([b"[]", b"{}", b"[1]", b'[{"path":"../a","title":""}]'])
)
def test_a_damaged_list_begins_anew(data: bytes) -> None:
    assert read_versions(data) == []
    files = version_files(data, "1.0", "A")
    assert [one.path for one in read_versions(files["versions.json"])] == [
        "stable",
        "1.0",
    ]


@pytest.mark.parametrize("name", ["", "..", "../a", "a/b", ".git", "-x", "a b"])
def test_what_cannot_be_a_folder_is_refused(name: str) -> None:
    with pytest.raises(VersionsError):
        folder_of(name)


def test_patches_share_a_folder() -> None:
    assert {folder_of(v) for v in ("1.2", "1.2.0", "v1.2.9", "1.2.3.4")} == {"1.2"}
    assert folder_of("1.2rc1") == "1.2rc1" and not is_release("1.2rc1")
    assert order_versions([]) == []


def test_each_version_is_whole_and_stays_as_it_is(tmp_path: Path) -> None:
    box = SiteBox(tmp_path)
    box.build(version="1.0.0", folder="1.0")
    first = {k: v for k, v in box.files().items() if k.startswith("1.0/")}
    box.write_bytes("03_new.ipynb", (box.root / "nbs/guide/02_next.ipynb").read_bytes())
    box.build(version="1.1.0", folder="1.1")
    box.build(version="dev", folder="dev")
    files = box.files()
    assert {k: v for k, v in files.items() if k.startswith("1.0/")} == first
    assert "1.1/new.html" in files and "1.0/new.html" not in files
    of = {
        f: {k.partition("/")[2]: v for k, v in files.items() if k.startswith(f"{f}/")}
        for f in ("1.1", "stable")
    }
    assert of["stable"] == of["1.1"]
    rows = json.loads(files["versions.json"])
    assert [row["path"] for row in rows] == ["stable", "1.1", "1.0", "dev"]
    assert b"stable/index.html" in files["index.html"]


def test_links_to_the_source_are_of_the_tag(tmp_path: Path) -> None:
    box = SiteBox(tmp_path)
    box.build(version="1.0.3", folder="1.0")
    page = box.page("1.0/add.html")
    assert "/blob/v1.0.3/sums/add.py#L2-L4" in page
    box.build(version="dev", folder="dev")
    assert "/blob/main/sums/add.py#L2-L4" in box.page("dev/add.html")
    assert "../versions.js" in page


def test_an_old_patch_is_not_the_stable_version(tmp_path: Path) -> None:
    box = SiteBox(tmp_path)
    box.build(version="2.0.0", folder="2.0")
    before = box.page("stable/index.html")
    box.write(
        "index.ipynb",
        json.loads((box.root / "nbs/index.ipynb").read_text())["cells"][0]
        | {"source": "# Old"},
    )
    box.build(version="1.9.9", folder="1.9")
    assert box.page("stable/index.html") == before
    assert "<h1>Old</h1>" in box.page("1.9/index.html")
