"""`litml diff` in real repositories, from the outside."""

import json
import os
import pty
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, Sandbox, code, notebook_bytes, prose
from hypothesis import given
from hypothesis import strategies as st

from litml.diff import File, diff_files, diff_lines
from litml.diff_page import write_page
from litml.show_diff import show_diffs, show_stat, to_json

TITLE = prose("title", "# Fit\n\nFit a line.")
FIT = code("fit", "#| export\ndef fit(x):\n    a = 1\n    return a * x")
TRY = code("try-fit", "fit(3)")
PLOT = code("plot", "plot(fit)")


def says(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text.splitlines(True)}


def edited(cell: dict[str, Any], old: str, new: str) -> dict[str, Any]:
    """Return a cell with a text in its source replaced."""
    source = "".join(cell["source"])
    assert old in source
    return {**cell, "source": source.replace(old, new).splitlines(True)}


BETTER = edited(FIT, "a * x", "a * x + 1")


@pytest.fixture
def repository(project: Sandbox) -> Sandbox:
    """A repository with one notebook in its only commit."""
    project.write("fit.ipynb", TITLE, FIT, TRY, PLOT)
    project.commit()
    return project


def diff(project: Sandbox, *words: object, **more: Any) -> list[str]:
    """Return what `litml diff` prints, which must succeed."""
    done = project.litml("diff", *words, **more)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.splitlines()


# What is shown ------------------------------------------------------------------------


def test_nothing(repository: Sandbox) -> None:
    assert (
        diff(repository)
        == diff(repository, "--cached")
        == diff(repository, "HEAD")
        == []
    )
    assert repository.litml("diff", "--exit-code").returncode == 0


def test_a_changed_cell_is_shown_as_source(repository: Sandbox) -> None:
    repository.write("fit.ipynb", TITLE, BETTER, TRY, PLOT)
    assert diff(repository) == [
        "notebook nbs/fit.ipynb",
        "@@ cell 2 fit: def fit(x): @@ changed",
        " #| export",
        " def fit(x):",
        "     a = 1",
        "-    return a * x",
        "+    return a * x + 1",
    ]
    assert repository.litml("diff", "--exit-code").returncode == 1


def test_added_removed_and_moved_cells(repository: Sandbox) -> None:
    repository.write("fit.ipynb", PLOT, TITLE, FIT, code("new", "x = 1"))
    told = [line for line in diff(repository) if line.startswith("@@")]
    assert told == [
        "@@ cell 4 → 1 plot: plot(fit) @@ moved",
        "@@ old cell 3 try-fit: fit(3) @@ removed",
        "@@ cell 4 new: x = 1 @@ added",
    ]
    repository.write("fit.ipynb", BETTER, TITLE, TRY, PLOT)
    told = [line for line in diff(repository) if line.startswith("@@")]
    assert told == ["@@ cell 2 → 1 fit: def fit(x): @@ moved and changed"]


def test_outputs_and_metadata_are_a_line_each(repository: Sandbox) -> None:
    ran = {**TRY, "outputs": [says("x" * 10**6)], "execution_count": 3}
    tagged = {**FIT, "metadata": {"tags": ["slow"], "collapsed": True}}
    kernel = {"name": "py", "language": "python", "display_name": "Py"}
    cells = TITLE, tagged, ran, PLOT
    repository.write("fit.ipynb", *cells, metadata={"kernelspec": kernel})
    told = diff(repository)
    assert told[1].startswith('~ metadata: kernelspec {"display_name": "Py"')
    assert told[2:] == [
        "~ execution counts: 1 cell",
        "@@ cell 2 fit: def fit(x): @@ changed",
        "~ metadata: collapsed true added",
        '~ metadata: tags ["slow"] added',
        "@@ cell 3 try-fit: fit(3) @@ changed",
        "~ outputs added: stdout 1 line",
    ]


def test_outputs_on_request_and_huge_ones_never_whole(repository: Sandbox) -> None:
    png = {"output_type": "display_data", "data": {"image/png": "iVBO" * 10**6}}
    ran = {**TRY, "outputs": [says("1\n" * 50_000), png]}
    repository.write("fit.ipynb", TITLE, FIT, ran, PLOT)
    told = diff(repository)
    assert told[-1] == "~ outputs added: stdout 50000 lines, image/png 4000 kB"
    told = diff(repository, "--outputs")
    assert "> +1" in told and len(told) < 300 and max(map(len, told)) < 500
    repository.commit()
    ran = {**TRY, "outputs": [says("1\n" * 49_999 + "2\n"), png]}
    repository.write("fit.ipynb", TITLE, FIT, ran, PLOT)
    assert diff(repository, "--outputs")[-2:] == ["> +2", ">  <image/png, 3000 kB>"]


def test_a_note_that_many_cells_share_is_said_once(project: Sandbox) -> None:
    cells = [code(f"c{i}", f"f({i})") for i in range(30)]
    project.write("fit.ipynb", *cells)
    project.commit()
    project.write("fit.ipynb", *({**one, "metadata": {"a": 1}} for one in cells))
    assert diff(project)[1:] == ["~ metadata: a 1 added (30 cells)"]


def test_a_new_layout_alone_is_a_line(repository: Sandbox) -> None:
    path = repository.root / "nbs/fit.ipynb"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4))
    assert diff(repository)[1:] == ["~ only the layout of the JSON changed"]


# Which versions -----------------------------------------------------------------------


def test_staged_and_not(repository: Sandbox) -> None:
    repository.write("fit.ipynb", TITLE, BETTER, TRY, PLOT)
    repository.git("add", "nbs")
    repository.write("fit.ipynb", TITLE, BETTER, TRY, edited(PLOT, "fit", "fit, 3"))
    places = [
        [line for line in diff(repository, *words) if line[:2] == "@@"]
        for words in ((), ("--cached",), ("--staged",), ("HEAD",))
    ]
    assert [len(place) for place in places] == [1, 1, 1, 2]
    assert "plot" in places[0][0] and "fit" in places[1][0]


def test_revisions_as_git_reads_them(repository: Sandbox) -> None:
    repository.git("switch", "--quiet", "--create=other")
    repository.write("fit.ipynb", TITLE, BETTER, TRY, PLOT)
    repository.commit()
    repository.git("switch", "--quiet", "main")
    repository.write("fit.ipynb", TITLE, FIT, edited(TRY, "3", "4"), PLOT)
    repository.commit()
    counts = {
        words: sum(line[:2] == "@@" for line in diff(repository, *words.split()))
        for words in (
            "main other",
            "main..other",
            "main...other",
            "HEAD~1",
            "other^ HEAD",
        )
    }
    assert counts == {
        "main other": 2,
        "main..other": 2,
        "main...other": 1,
        "HEAD~1": 1,
        "other^ HEAD": 1,
    }


def test_files_that_were_renamed_added_and_deleted(repository: Sandbox) -> None:
    repository.write("gone.ipynb", code("a", "x = 1"), code("b", "y = 2"))
    repository.commit()
    (repository.root / "nbs/gone.ipynb").unlink()
    repository.git("mv", "nbs/fit.ipynb", "nbs/line.ipynb")
    repository.write("line.ipynb", TITLE, BETTER, TRY, PLOT)
    repository.write("new.ipynb", code("n", "print('new')\nprint('news')"))
    repository.git("add", "--all")
    told = diff(repository, "--cached")
    heads = [line for line in told if line.startswith("notebook")]
    assert sorted(heads) == [
        "notebook nbs/fit.ipynb → nbs/line.ipynb (renamed)",
        "notebook nbs/gone.ipynb (deleted)",
        "notebook nbs/new.ipynb (new)",
    ]
    assert (
        "-y = 2" in told and "+print('new')" in told and "+    return a * x + 1" in told
    )
    assert diff(repository, "--cached", "nbs/gone.ipynb")[0].endswith("(deleted)")


def test_an_empty_repository_and_one_without_a_commit(project: Sandbox) -> None:
    project.git("init", "--quiet")
    assert diff(project) == diff(project, "--cached") == []
    project.write("fit.ipynb", FIT)
    assert diff(project) == []
    project.git("add", "nbs")
    assert diff(project, "--cached")[0] == "notebook nbs/fit.ipynb (new)"
    failed = project.litml("diff", "HEAD")
    assert failed.returncode == 2 and "neither a revision nor a file" in failed.stderr


def test_names_with_spaces_and_signs(project: Sandbox) -> None:
    names = ["01 größe.ipynb", "[draft].ipynb", "-x.ipynb", 'a"b.ipynb', "tab\tq.ipynb"]
    for name in names:
        project.write(name, FIT)
    project.commit()
    for name in names:
        project.write(name, BETTER)
    heads = [line for line in diff(project) if line.startswith("notebook")]
    assert len(heads) == 5 and "notebook nbs/01 größe.ipynb" in heads
    assert diff(project, "nbs/[draft].ipynb")[0] == "notebook nbs/[draft].ipynb"
    assert diff(project, "./-x.ipynb", cwd=project.root / "nbs")[0].endswith("-x.ipynb")


@pytest.mark.skipif(sys.platform == "darwin", reason="names are UTF-8 on macOS")
def test_a_name_that_is_not_utf8(project: Sandbox) -> None:
    path = os.fsencode(project.root / "nbs") + b"/caf\xe9.ipynb"
    Path(os.fsdecode(path)).write_bytes(notebook_bytes(FIT))
    project.commit()
    Path(os.fsdecode(path)).write_bytes(notebook_bytes(BETTER))
    assert diff(project)[0] == r"notebook nbs/caf\udce9.ipynb"
    assert (
        json.loads(diff(project, "--json")[0])["notebooks"][0]["new"][-9:-6]
        == "af\udce9"
    )
    assert "+    return" in Reader("\n".join(diff(project, "--html=-"))).text


def test_from_a_subfolder(repository: Sandbox) -> None:
    repository.write("fit.ipynb", TITLE, BETTER, TRY, PLOT)
    repository.write("deep/a.ipynb", FIT)
    repository.git("add", "--intent-to-add", "nbs/deep")
    folder = repository.root / "nbs/deep"
    heads = [line for line in diff(repository, cwd=folder) if line.startswith("note")]
    assert heads == ["notebook nbs/deep/a.ipynb (new)", "notebook nbs/fit.ipynb"]
    assert (
        len(
            [
                line
                for line in diff(repository, ".", cwd=folder)
                if line.startswith("note")
            ]
        )
        == 1
    )
    assert diff(repository, "../fit.ipynb", cwd=folder)[0] == "notebook nbs/fit.ipynb"
    repository.git("config", "diff.relative", "true")
    assert (
        len([line for line in diff(repository, cwd=folder) if line.startswith("note")])
        == 2
    )


def test_in_a_linked_work_tree_and_a_submodule(repository: Sandbox) -> None:
    repository.git("worktree", "add", "--quiet", "../linked")
    repository.git(
        *("-c", "protocol.file.allow=always", "submodule", "--quiet"),
        *("add", repository.root, "sub.ipynb"),
    )
    repository.commit()
    for folder in (repository.root.parent / "linked", repository.root / "sub.ipynb"):
        (folder / "nbs/fit.ipynb").write_bytes(notebook_bytes(TITLE, BETTER, TRY, PLOT))
        assert diff(repository, cwd=folder)[1].startswith("@@ cell 2 fit")
        subprocess.run(
            ["git", "commit", "-qam", "more"], cwd=folder, env=ENVIRONMENT, check=True
        )
    assert diff(repository) == diff(repository, "HEAD") == []


def test_inside_a_hook_of_another_index(repository: Sandbox) -> None:
    """`git commit PATHS` shows a hook another index than the repository's own."""
    hook = repository.root / ".git/hooks/pre-commit"
    hook.write_text(f"#!/bin/sh\n{sys.executable} -m litml diff --cached > told\n")
    hook.chmod(0o755)
    repository.write("fit.ipynb", TITLE, BETTER, TRY, PLOT)
    repository.git("commit", "--quiet", "--message=x", "nbs/fit.ipynb")
    assert "+    return a * x + 1" in (repository.root / "told").read_text()


def test_with_the_filter_a_run_is_no_change(repository: Sandbox) -> None:
    assert repository.litml("install-hooks", "--local").returncode == 0
    ran = {**TRY, "outputs": [says("3\n")], "execution_count": 1}
    repository.write("fit.ipynb", TITLE, FIT, ran, PLOT)
    assert repository.git("status", "--short", "nbs") == " M nbs/fit.ipynb\n"
    assert not any("outputs" in line for line in diff(repository))
    repository.git("add", "nbs")
    repository.git("commit", "--quiet", "--message=clean")
    assert diff(repository) == diff(repository, "HEAD") == []
    repository.write("fit.ipynb", TITLE, BETTER, ran, PLOT)
    told = [line for line in diff(repository) if line[:2] in ("@@", "~ ")]
    assert told == ["@@ cell 2 fit: def fit(x): @@ changed"]
    (repository.root / "pyproject.toml").write_text("[tool.litml.clean]\noutput = 1\n")
    assert "~ outputs added: stdout 1 line" in diff(repository)


def test_files_outside_of_git(project: Sandbox, tmp_path: Path) -> None:
    for name, cell in (("one", FIT), ("two", BETTER)):
        (tmp_path / f"{name}.ipynb").write_bytes(notebook_bytes(cell))
    pair = "--no-index", "one.ipynb", "two.ipynb"
    told = diff(project, *pair, cwd=tmp_path)
    assert told[0] == "notebook one.ipynb → two.ipynb (renamed)"
    assert told[-1] == "+    return a * x + 1"
    done = project.litml("diff", *pair, "--exit-code", cwd=tmp_path)
    assert done.returncode == 1
    same = "--no-index", "one.ipynb", "one.ipynb", "--exit-code"
    assert project.litml("diff", *same, cwd=tmp_path).returncode == 0
    assert diff(project, "--no-index", os.devnull, "one.ipynb", cwd=tmp_path)
    for words in (["--no-index", "one.ipynb"], ["--no-index", "one.ipynb", "no"], []):
        failed = project.litml("diff", *words, cwd=tmp_path)
        assert failed.returncode == 2 and failed.stderr.startswith("error: ")


@pytest.mark.parametrize("word", ["mian", "nbs/no.ipynb", "HEAD~7", "pyproject.toml"])
def test_a_word_that_means_nothing(repository: Sandbox, word: str) -> None:
    failed = repository.litml("diff", word)
    assert (failed.returncode, failed.stdout) == (
        2,
        "",
    ) and f"`{word}`" in failed.stderr


def test_a_word_that_means_two_things(repository: Sandbox) -> None:
    repository.git("branch", "nbs")
    failed = repository.litml("diff", "nbs")
    assert failed.returncode == 2 and "./nbs" in failed.stderr
    assert diff(repository, "./nbs") == diff(repository, "heads/nbs") == []


# Broken files -------------------------------------------------------------------------

BROKEN = {
    "empty": b"",
    "markers": b"<<<<<<< ours\n{}\n=======\n{}\n>>>>>>> theirs\n",
    "cut": notebook_bytes(FIT)[:-40],
    "binary": b"\0\1\2" * 1000,
    "latin-1": b"caf\xe9",
    "list": b"[]",
    "nbformat 3": b'{"nbformat": 3}',
    "nbformat 5": b'{"nbformat": 5, "cells": []}',
    "deep": b"[" * 200_000,
    "odd cell": notebook_bytes({"cell_type": "code", "source": 3}),
    "one line": b'{"cells": "' + b"A" * 10**6 + b'"}',
}


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_a_broken_side_is_compared_as_text(repository: Sandbox, raw: bytes) -> None:
    path, good = repository.root / "nbs/fit.ipynb", notebook_bytes(TITLE, FIT)
    path.write_bytes(good)
    repository.commit()
    path.write_bytes(raw)
    told = diff(repository)
    assert told[1].startswith("! not compared by cells. the new version: ")
    assert max(map(len, told)) < 500
    for pair in [(good, raw), (raw, good), (raw, raw + b"x"), (raw, None)]:
        sides = [File("a.ipynb", one) if one is not None else None for one in pair]
        found = diff_files(*sides)
        assert found.problem and not found.cells
        assert "as text" in next(show_stat([found]))
        assert "Not compared by cells" in Reader(write_page([found], "x")).text


def test_a_conflict_shows_what_is_not_ours(repository: Sandbox) -> None:
    repository.git("switch", "--quiet", "--create=other")
    repository.write("fit.ipynb", TITLE, edited(FIT, "a * x", "a - x"), TRY, PLOT)
    repository.commit()
    repository.git("switch", "--quiet", "main")
    repository.write("fit.ipynb", TITLE, BETTER, TRY, PLOT)
    repository.commit()
    assert repository.run("git", "merge", "other").returncode == 1
    told = diff(repository)
    assert told[1].startswith("! not compared by cells. the new version: conflict mark")
    assert (
        told[2] == "~ not merged yet" and len([x for x in told if x[:4] == "note"]) == 1
    )
    assert diff(repository, "--cached") == [
        "notebook nbs/fit.ipynb",
        "~ not merged yet",
    ]


def test_line_ends_of_windows(repository: Sandbox) -> None:
    path = repository.root / "nbs/fit.ipynb"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert diff(repository)[1:] == ["~ only the layout of the JSON changed"]
    repository.git("config", "core.autocrlf", "true")
    better = notebook_bytes(TITLE, BETTER, TRY, PLOT)
    path.write_bytes(better.replace(b"\n", b"\r\n"))
    assert [line for line in diff(repository) if line[0] in "+-"] == [
        "-    return a * x",
        "+    return a * x + 1",
    ]
    path.write_bytes(notebook_bytes(TITLE, edited(FIT, "\n", "\r\n"), TRY, PLOT))
    assert r"+#| export\u000d" in diff(repository)


def test_modes_links_and_files_that_cannot_be_read(repository: Sandbox) -> None:
    path = repository.root / "nbs/fit.ipynb"
    path.chmod(0o755)
    assert diff(repository)[1:] == ["~ mode: 100644 → 100755"]
    path.unlink()
    path.symlink_to("elsewhere.ipynb")
    told = diff(repository)
    assert told[1].startswith("! ") and told[2] == "~ mode: 100644 → 120000"
    assert told[-1] == "+elsewhere.ipynb"
    path.unlink()
    path.mkdir()
    assert diff(repository)[0] == "notebook nbs/fit.ipynb (deleted)"


# Hostile notebooks --------------------------------------------------------------------

EVIL = "\x1b]0;owned\x07\x9b31m\u202eevil\r</pre><script>alert(1)</script>&lt;"
EVIL_CELL = {
    **code("evil", EVIL),
    "metadata": {EVIL: EVIL},
    "outputs": [
        says(EVIL),
        {"output_type": EVIL, "data": {EVIL: EVIL}},
        {"output_type": "display_data", "data": {"image/png": EVIL}},
        {"output_type": "display_data", "data": {"image/svg+xml": EVIL}},
    ],
}


def test_a_hostile_notebook_is_harmless(project: Sandbox) -> None:
    project.write("fit.ipynb", FIT)
    project.commit()
    project.write(f"{EVIL.replace('/', '')}.ipynb", {**EVIL_CELL, "id": EVIL})
    project.write("fit.ipynb", EVIL_CELL, metadata={EVIL: {EVIL: EVIL}})
    project.git("add", "--all")
    text = "\n".join(diff(project, "--cached", "--outputs"))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    assert r"\u001b]0;owned\u0007" in text
    page = Reader("\n".join(diff(project, "--cached", "--outputs", "--html=-")))
    assert not {"script", "iframe", "link"} & {tag for tag, _ in page.tags}
    sources = {str(about["src"]) for tag, about in page.tags if tag == "img"}
    assert len(sources) == 1, "what is not base64 is no picture"
    assert re.fullmatch(r"data:image/svg\+xml;base64,[A-Za-z0-9+/=]+", sources.pop())
    assert "<script>alert(1)</script>&lt;" in page.text and "\u202e" not in page.text


# Forms --------------------------------------------------------------------------------


class Reader(HTMLParser):
    """A page as a parser sees it: tags with attributes, the text, and open tags."""

    VOID = ("meta", "link", "img", "br", "hr", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page(repository: Sandbox) -> None:
    repository.write("fit.ipynb", TITLE, BETTER, TRY, PLOT)
    repository.write("a <b>.ipynb", FIT)
    repository.git("add", "--intent-to-add", "nbs")
    assert diff(repository, "--html", "page.html") == ["wrote: page.html"]
    raw = (repository.root / "page.html").read_text()
    page = Reader(raw)
    tags = [tag for tag, _ in page.tags]
    assert raw.startswith("<!DOCTYPE html>") and not page.open
    assert "index → work tree" in page.text and "nbs/a <b>.ipynb (new)" in page.text
    assert tags.count("h1") == 1 and tags.count("h2") == 2 and tags.count("h3") == 2
    assert {"nav", "main", "header", "ins", "del", "mark"} <= {*tags}
    ids = [about["id"] for _, about in page.tags if "id" in about]
    links = [about["href"] for tag, about in page.tags if tag == "a"]
    assert len(ids) == len({*ids}) and links == [f"#{id}" for id in ids]
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert not re.search(r"https?:|url\(|@import|src=", raw), "asks nobody for anything"
    policy = [about for tag, about in page.tags if "http-equiv" in about]
    assert "default-src 'none'" in str(policy)
    again = diff(repository, "--html=-")
    assert "\n".join([*again, ""]) == raw, "the same again"


def test_pictures_are_on_the_page_on_request(repository: Sandbox) -> None:
    png = {"output_type": "display_data", "data": {"image/png": "iVBO\nRw0K\n"}}
    repository.write("fit.ipynb", TITLE, FIT, {**TRY, "outputs": [png]}, PLOT)
    page = Reader("\n".join(diff(repository, "--outputs", "--html=-")))
    [about] = [about for tag, about in page.tags if tag == "img"]
    expected = {"alt": "new picture", "src": "data:image/png;base64,iVBORw0K"}
    assert about == expected
    assert "img" not in dict(Reader("".join(diff(repository, "--html=-"))).tags)
    [found] = json.loads(diff(repository, "--outputs", "--json")[0])["notebooks"]
    assert found["cells"][0]["pictures"] == [{"sign": "+", "kind": "image/png"}]


def test_a_page_that_cannot_be_written(repository: Sandbox) -> None:
    failed = repository.litml("diff", "--html", "no/page.html")
    assert failed.returncode == 2 and "cannot write no/page.html" in failed.stderr


def test_json(repository: Sandbox) -> None:
    new = code("new", "x = 1")
    repository.write("fit.ipynb", PLOT, TITLE, BETTER, new)
    [line] = diff(repository, "--json")
    [found] = json.loads(line)["notebooks"]
    assert {*found} == {
        *("status", "old", "new", "cells", "notes", "same", "problem", "lines")
    }
    assert (found["status"], found["new"], found["same"]) == (
        "changed",
        "nbs/fit.ipynb",
        1,
    )
    cells = {cell["id"]: cell for cell in found["cells"]}
    assert {id: cell["status"] for id, cell in cells.items()} == {
        "plot": "moved",
        "fit": "changed",
        "try-fit": "removed",
        "new": "added",
    }
    keys = "status id kind title old new moved lines notes outputs pictures".split()
    assert list(cells["plot"]) == keys and cells["plot"]["moved"] is True
    assert (cells["plot"]["old"], cells["plot"]["new"]) == (4, 1)
    last = cells["fit"]["lines"][-1]
    assert last["sign"] == "+" and last["text"][slice(*last["marks"][0])] == " + 1"
    assert json.loads(diff(repository, "--json", "HEAD", "HEAD")[0]) == {
        "notebooks": []
    }


def test_counts(repository: Sandbox) -> None:
    repository.write("fit.ipynb", PLOT, TITLE, BETTER, code("new", "x = 1"))
    told = (
        " nbs/fit.ipynb | cells: 1 changed, 1 added, 1 removed, 1 moved; lines: +2 -2"
    )
    assert diff(repository, "--stat") == [told]


# In a terminal ------------------------------------------------------------------------


def in_a_terminal(project: Sandbox, *words: str, **variables: str) -> str:
    """Run `litml diff` with a terminal as stdout, and return what it shows."""
    outer, inner = pty.openpty()
    environment = {**ENVIRONMENT, "TERM": "xterm", **variables}
    environment.pop("NO_COLOR", None) if "NO_COLOR" not in variables else None
    command = [sys.executable, "-m", "litml", "diff", *words]
    process = subprocess.Popen(
        command, cwd=project.root, env=environment, stdout=inner, stdin=inner
    )
    os.close(inner)
    shown = b""
    try:
        while part := os.read(outer, 65536):
            shown += part
    except OSError:  # the other end was closed
        pass
    os.close(outer)
    assert process.wait(30) == 0
    return shown.decode().replace("\r\n", "\n")


@pytest.fixture
def changed(repository: Sandbox) -> Sandbox:
    repository.write("fit.ipynb", TITLE, BETTER, TRY, PLOT)
    return repository


def test_colours_in_a_terminal(changed: Sandbox) -> None:
    shown = in_a_terminal(changed, GIT_PAGER="cat")
    assert "\x1b[32m+    return a * x\x1b[7m + 1\x1b[27m\x1b[m" in shown
    assert "\x1b" not in in_a_terminal(changed, GIT_PAGER="cat", NO_COLOR="1")
    assert "\x1b" not in in_a_terminal(changed, GIT_PAGER="cat", TERM="dumb")
    assert "\x1b" not in in_a_terminal(changed, "--color=never", GIT_PAGER="cat")
    assert "\x1b[32m" in "".join(diff(changed, "--color=always"))


def test_the_pager_is_the_one_of_git(changed: Sandbox) -> None:
    changed.git("config", "core.pager", "sed 's/^/paged: /'")
    shown = in_a_terminal(changed)
    assert shown.startswith("paged: \x1b[1mnotebook nbs/fit.ipynb")
    assert "paged" not in in_a_terminal(changed, "--no-pager")
    assert "paged" not in in_a_terminal(changed, GIT_PAGER="cat")
    assert not any("paged" in line for line in diff(changed)), "no terminal, no pager"
    assert "return a * x" in in_a_terminal(changed, GIT_PAGER="no-such-pager 2>&-")
    assert in_a_terminal(changed, GIT_PAGER="head -n 1 > told; exit 3") == ""


def test_whoever_reads_may_stop(project: Sandbox) -> None:
    project.git("init", "--quiet")
    project.write("a.ipynb", *(code(f"c{i}", f"x = {i}\n" * 50) for i in range(999)))
    project.git("add", "nbs")
    command = f"{sys.executable} -m litml diff --cached | head -n 3"
    done = project.run("sh", "-c", command)
    assert len(done.stdout.splitlines()) == 3 and done.stderr == ""


# Laws ---------------------------------------------------------------------------------

texts = st.lists(st.sampled_from(["", "a", "b", "a b", "c d e", "a b\r"]), max_size=12)


@given(texts, texts)
def test_a_diff_of_lines_is_true(old: list[str], new: list[str]) -> None:
    lines = diff_lines(old, new, context=99)
    if old == new:
        assert lines == ()
    else:
        assert [line.text for line in lines if line.sign != "+"] == old
        assert [line.text for line in lines if line.sign != "-"] == new
    for line in diff_lines(old, new, context=1):
        assert line.old is None or old[line.old - 1] == line.text
        assert line.new is None or new[line.new - 1] == line.text
        for start, stop in line.marks:
            assert 0 <= start < stop <= len(line.text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)
outputs = st.lists(
    st.dictionaries(
        st.sampled_from(["output_type", "text", "data", "name", "ename"]), values
    ),
    max_size=2,
)
cells = st.fixed_dictionaries(
    {
        "cell_type": st.sampled_from(["code", "markdown", "raw", "odd"]),
        "source": st.text(max_size=9) | st.lists(st.text(max_size=4), max_size=3),
    },
    optional={
        "id": st.sampled_from(["a", "b", "c"]) | values,
        "metadata": st.dictionaries(st.text(max_size=3), values, max_size=2),
        "outputs": outputs,
        "execution_count": values,
        "attachments": values,
    },
)
files = st.binary(max_size=20) | st.lists(cells, max_size=5).map(
    lambda some: json.dumps(
        {"cells": some, "nbformat": 4, "nbformat_minor": 5}
    ).encode()
)


@given(files, files)
def test_any_two_files_can_be_compared(old: bytes, new: bytes) -> None:
    """No file makes it crash, no change goes unsaid, and every form can be written."""
    found = diff_files(File("a.ipynb", old), File("a.ipynb", new), outputs=True)
    assert found.is_empty == (old == new)
    "\n".join([*show_diffs([found], colour=True), *show_stat([found])]).encode()
    assert not Reader(write_page([found], "a → b")).open
    json.loads(json.dumps(to_json([found])))


# Git's own diff -----------------------------------------------------------------------


def test_git_shows_the_text_of_notebooks(changed: Sandbox) -> None:
    script = "import sys; from litml.textconv import main; sys.exit(main(sys.argv))"
    (changed.root / ".git/info/attributes").write_text("*.ipynb diff=litml\n")
    changed.git("config", "diff.litml.textconv", f"{sys.executable} -c '{script}'")
    told = changed.git("diff", "-U9").splitlines()
    assert "+    return a * x + 1" in told and " # %% fit" in told
    changed.write("fit.ipynb", {**EVIL_CELL, "source": [EVIL]})
    told = changed.git("diff", "--no-color").split("\n")
    assert r"+\u001b]0;owned" in "\n".join(told) and "\x1b" not in "".join(told)
    changed.write_bytes("fit.ipynb", b"<<<<<<< no notebook\n")
    assert "+<<<<<<< no notebook" in changed.git("diff").splitlines()
    changed.write("fit.ipynb", TITLE, BETTER, {**TRY, "outputs": [says("3")]}, PLOT)
    assert "outputs" not in changed.git("diff")
