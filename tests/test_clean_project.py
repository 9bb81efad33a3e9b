"""`litml clean` on a project: files, exit codes, readable ids, secrets in outputs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ENVIRONMENT, Sandbox, code, notebook_bytes, prose
from hypothesis import given, settings
from hypothesis import strategies as st
from test_export_faults import Saboteur, posix_only

from litml.__main__ import main
from litml.canonical import load_tree
from litml.clean import Policy, clean_bytes
from litml.ids import find_names, is_random
from litml.package import export_project
from litml.project import find_project
from litml.secrets import clean_safely, find_secrets, redact_text, scan_tree

STREAM = {"output_type": "stream", "name": "stdout", "text": ["1\n"]}
CONFIG = "\n[tool.litml.clean]\n"


def configure(project: Sandbox, text: str) -> None:
    path = project.root / "pyproject.toml"
    path.write_text(path.read_text() + CONFIG + text)


def run_again(project: Sandbox, name: str, count: int = 5) -> bytes:
    """Write a notebook as it is after a run, and return its bytes."""
    cell = code("a", "print(1)", outputs=[STREAM], execution_count=count)
    return project.write(name, prose("t", "# T\n\n> T."), cell).read_bytes()


def cells_of(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_bytes())["cells"]
    return found


# The command --------------------------------------------------------------------------


def test_it_cleans_what_is_not_clean(project: Sandbox) -> None:
    one = run_again(project, "00_one.ipynb")
    two = clean_bytes(run_again(project, "sub/01_two é.ipynb"), Policy())
    project.write_bytes("sub/01_two é.ipynb", two)
    project.write_bytes("02_text.md", b"---\njupyter: 1\n---\n\n# A text\n")
    same = project.root / "nbs/sub/01_two é.ipynb"
    before = same.stat()
    done = project.litml("clean")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("cleaned: nbs/00_one.ipynb: outputs of 1 cell, ")
    assert done.stdout.count("\n") == 1
    assert (project.root / "nbs/00_one.ipynb").read_bytes() == clean_bytes(
        one, Policy()
    )
    after = same.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert project.litml("clean").stdout == ""
    assert not project.leftovers()


def test_a_check_writes_nothing_and_says_why(project: Sandbox) -> None:
    raw = run_again(project, "00_one.ipynb")
    more = json.loads(raw)
    more["metadata"] = {"colab": {}, "language_info": {"version": "3"}}
    more["cells"][1]["metadata"] = {"scrolled": True}
    project.write_bytes("00_one.ipynb", json.dumps(more).encode())
    before = project.files()
    done = project.litml("clean", "--check")
    assert done.returncode == 1 and project.files() == before
    assert done.stdout == (
        "would clean: nbs/00_one.ipynb: outputs of 1 cell, execution count of 1 cell,"
        " metadata (colab, language_info), metadata of cells (scrolled)\n"
    )
    assert project.litml("clean").returncode == 0
    assert project.litml("clean", "--check").returncode == 0


def test_the_word_on_the_command_line(project: Sandbox) -> None:
    raw = run_again(project, "00_one.ipynb")
    configure(project, 'outputs = "keep"\n')
    project.litml("clean")
    (cell,) = cells_of(project.root / "nbs/00_one.ipynb")[1:]
    assert cell["outputs"] == [STREAM] and cell["execution_count"] is None
    project.litml("clean", "--outputs", "drop")
    assert (project.root / "nbs/00_one.ipynb").read_bytes() == clean_bytes(
        raw, Policy()
    )


def test_a_notebook_that_keeps_its_outputs_is_still_a_test(project: Sandbox) -> None:
    keep = {"litml": {"outputs": "keep", "timeout": 60}}
    cells = [code("a", "#| export\nx = 1"), code("b", "print(1)", outputs=[STREAM])]
    path = project.write("00_one.ipynb", *cells, metadata=keep)
    assert project.litml("clean").returncode == 0
    assert cells_of(path)[1]["outputs"] == [STREAM]
    project.export()
    assert project.litml("test", "nbs").returncode == 0


def test_only_the_paths_that_are_asked_for(project: Sandbox) -> None:
    for name in ("00_one.ipynb", "sub/01_two.ipynb", "sub/02_three.ipynb"):
        run_again(project, name)
    elsewhere = project.root / "notes.ipynb"
    elsewhere.write_bytes((project.root / "nbs/00_one.ipynb").read_bytes())
    done = project.litml("clean", "nbs/sub", "notes.ipynb")
    names = [line.split(": ")[1] for line in done.stdout.splitlines()]
    assert names == ["nbs/sub/01_two.ipynb", "nbs/sub/02_three.ipynb", "notes.ipynb"]
    done = project.litml("clean", "nbs/gone.ipynb")
    assert done.returncode == 1 and "No such file" in done.stderr
    assert "at nbs/gone.ipynb" in done.stderr


def test_what_cannot_be_read_is_named_and_the_rest_is_cleaned(project: Sandbox) -> None:
    raw = run_again(project, "00_one.ipynb")
    odd = {
        "01_merge.ipynb": b"<<<<<<< HEAD\n" + raw + b"=======\n" + raw + b">>>>>>> b\n",
        "02_old.ipynb": b'{"nbformat": 3, "worksheets": []}',
        "03_cut.ipynb": raw[:100],
        "04_empty.ipynb": b"",
        "05_twice.ipynb": raw.replace(b'"source"', b'"id": "b",\n   "source"', 1),
    }
    for name, data in odd.items():
        project.write_bytes(name, data)
    done = project.litml("clean")
    assert done.returncode == 1
    assert done.stdout.count("\n") == 1 and "00_one" in done.stdout
    for name, data in odd.items():
        assert f"at nbs/{name}" in done.stderr
        assert (project.root / "nbs" / name).read_bytes() == data
    for said in (
        "conflict markers",
        "nbformat 3",
        "cut off",
        "is empty",
        "stands twice",
    ):
        assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_configuration_is_exit_2(project: Sandbox) -> None:
    raw = run_again(project, "00_one.ipynb")
    configure(project, 'outputs = "some"\n')
    done = project.litml("clean")
    assert done.returncode == 2 and "`outputs` in [tool.litml.clean]" in done.stderr
    assert (project.root / "nbs/00_one.ipynb").read_bytes() == raw


def test_a_project_for_nbdev_has_to_say_what_to_keep(project: Sandbox) -> None:
    run_again(project, "00_one.ipynb")
    text = '[project]\nname = "mylib"\n\n[tool.nbdev]\n'
    (project.root / "pyproject.toml").write_text(text)
    done = project.litml("clean")
    assert done.returncode == 2 and "--outputs keep" in done.stderr
    assert project.litml("clean", "--outputs", "keep").returncode == 0
    assert cells_of(project.root / "nbs/00_one.ipynb")[1]["outputs"] == [STREAM]


def test_as_a_filter_it_hands_on_what_it_cannot_clean(project: Sandbox) -> None:
    raw = run_again(project, "00_one.ipynb")

    def through(data: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "litml", "clean", "--stdin"],
            input=data,
            capture_output=True,
            cwd=project.root,
            env=ENVIRONMENT,
        )

    done = through(raw)
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        clean_bytes(raw, Policy()),
        b"",
    )
    for odd in (b"", b"<<<<<<< HEAD\n{}", raw[:50], b"\xff\x00"):
        done = through(odd)
        assert (done.returncode, done.stdout) == (0, odd)
        assert done.stderr.startswith(b"warning: handed on as it is: ")


def test_json(project: Sandbox) -> None:
    run_again(project, "00_one.ipynb")
    project.write_bytes("01_bad.ipynb", b"{")
    said = json.loads(project.litml("clean", "--json", "--ids").stdout)
    assert said["problems"], "an unreadable notebook is in the way of the ids"
    (project.root / "nbs/01_bad.ipynb").unlink()
    said = json.loads(project.litml("clean", "--json", "--ids").stdout)
    assert [
        len(said[key]) for key in ("renamed", "cleaned", "problems", "secrets")
    ] == [*(0, 1, 0, 0)]


def test_windows_line_ends_and_a_mark(project: Sandbox) -> None:
    raw = run_again(project, "00_one.ipynb")
    windows = b"\xef\xbb\xbf" + raw.replace(b"\n", b"\r\n")
    path = project.write_bytes("00_one.ipynb", windows)
    done = project.litml("clean")
    assert done.returncode == 0 and path.read_bytes() == clean_bytes(raw, Policy())


def test_a_notebook_that_cannot_be_written(project: Sandbox) -> None:
    run_again(project, "00_one.ipynb")
    run_again(project, "sub/01_two.ipynb")
    before = project.files("nbs")
    if os.geteuid() == 0:
        subprocess.run(["chattr", "+i", project.root / "nbs/sub"], capture_output=True)
        try:
            (project.root / "nbs/sub/x").touch()
        except OSError:
            pass
        else:
            (project.root / "nbs/sub/x").unlink()
            pytest.skip("nothing is read-only for root here")
    else:
        (project.root / "nbs/sub").chmod(0o500)
    try:
        done = project.litml("clean")
    finally:
        subprocess.run(["chattr", "-i", project.root / "nbs/sub"], capture_output=True)
        (project.root / "nbs/sub").chmod(0o700)
    assert done.returncode == 2 and "cannot write" in done.stderr
    assert project.files("nbs") == before, "all of them or none"
    assert not project.leftovers()


# Readable ids -------------------------------------------------------------------------

RANDOM = ["3fa94b1c", "0b7d5e21", "9c1e77aa", "51d0c0de", "7e57ab1e"]


def library(project: Sandbox) -> None:
    project.write(
        "00_io.ipynb",
        prose("t", "# IO\n\n> Read."),
        code(RANDOM[0], "#| export\nimport os"),
        code(RANDOM[1], "#| export\ndef load(path): return os.path.exists(path)"),
        code("example", "load('x')"),
        code(RANDOM[2], "load('y')"),
        code("chosen", "#| export\ndef save(path): ..."),
    )
    project.write(
        "01_more.ipynb",
        prose("t", "# More\n\n> More."),
        code(RANDOM[0], "#| export\nimport re"),
        code(RANDOM[3], "#| export\nclass Reader: ..."),
        code(RANDOM[4], "#| export io\ndef check(): ..."),
    )


def ids_of(project: Sandbox, name: str) -> list[str]:
    return [cell["id"] for cell in cells_of(project.root / "nbs" / name)]


def test_exported_cells_are_called_what_they_define(project: Sandbox) -> None:
    library(project)
    project.export()
    before = project.files()
    check = project.litml("clean", "--ids", "--check")
    assert check.returncode == 1 and project.files() == before
    done = project.litml("clean", "--ids")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == check.stdout.count("\n") - 0
    expected = ["t", "imports", "load", "example", RANDOM[2], "chosen"]
    assert ids_of(project, "00_io.ipynb") == expected
    assert ids_of(project, "01_more.ipynb") == ["t", "imports-2", "Reader", "check"]
    module = project.modules()["mylib/io.py"].decode()
    assert [line for line in module.splitlines() if line.startswith("# %% ")] == [
        *("# %% load", "# %% chosen", "# %% check")
    ]
    assert project.litml("clean", "--ids", "--check").returncode == 0, "once"
    assert project.litml("export", "--check").returncode == 0


def test_an_edit_comes_home_after_renaming(project: Sandbox) -> None:
    library(project)
    project.export()
    project.litml("clean", "--ids")
    path = project.root / "mylib/io.py"
    path.write_text(
        path.read_text().replace("os.path.exists(path)", "os.path.isfile(path)")
    )
    done = project.litml("sync")
    assert done.returncode == 0, done.stderr
    cell = cells_of(project.root / "nbs/00_io.ipynb")[2]
    assert "isfile" in "".join(cell["source"]) and cell["id"] == "load"
    assert project.litml("export", "--check").returncode == 0


def test_an_edit_that_is_not_home_yet_is_in_the_way(project: Sandbox) -> None:
    library(project)
    project.export()
    path = project.root / "mylib/io.py"
    path.write_text(path.read_text().replace("exists", "isfile"))
    before = project.files()
    for words in (["--ids"], ["--ids", "--check"]):
        done = project.litml("clean", *words)
        assert done.returncode == 1 and "litml sync" in done.stderr
        assert project.files() == before
    project.litml("sync")
    assert project.litml("clean", "--ids").returncode == 0
    assert "isfile" in path.read_text() and "# %% load" in path.read_text()


def test_a_broken_notebook_is_in_the_way(project: Sandbox) -> None:
    library(project)
    project.write("02_bad.ipynb", code("a", "#| export\ndef f(:"))
    before = project.files("nbs")
    done = project.litml("clean", "--ids")
    assert done.returncode == 1 and "at nbs/02_bad.ipynb, cell a" in done.stderr
    assert project.files("nbs") == before and not project.modules()


def test_an_old_notebook_gets_ids_when_they_are_asked_for(project: Sandbox) -> None:
    cells = [code(None, "#| export\ndef load(): ..."), code(None, "load()")]
    path = project.write("00_io.ipynb", *cells, nbformat_minor=4)
    project.export()
    project.litml("clean")
    assert b'"id"' not in path.read_bytes(), "not before"
    done = project.litml("clean", "--ids")
    assert done.returncode == 0, done.stderr
    tree = json.loads(path.read_bytes())
    nbformat.validate(tree)
    assert tree["nbformat_minor"] == 5 and tree["cells"][0]["id"] == "load"
    assert is_random(tree["cells"][1]["id"])
    assert project.litml("export", "--check").returncode == 0


def clean_in_child(root: Path, how: str, moment: int) -> tuple[int, int]:
    """Run `litml clean --ids` with a fault; return exit code and changes left."""
    counted = root.with_name("counted")
    child = os.fork()
    if not child:
        exit_code = 70
        saboteur = Saboteur(root, how, moment)
        with counted.open("w") as output:
            sys.stdout = sys.stderr = output
            sys.argv[:] = ["litml", "clean", "--ids"]
            os.chdir(root)
            sys.addaudithook(saboteur)
            try:
                exit_code = main()
            except BaseException:
                traceback.print_exc()
            print(f"\n{saboteur.left}")
        os._exit(exit_code)
    exit_code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = counted.read_text()
    assert "Traceback" not in said, said
    return exit_code, int(said.split()[-1]) if exit_code >= 0 else 0


@posix_only
@pytest.mark.parametrize("how", ["kill", "fail"])
def test_a_fault_at_any_moment(project: Sandbox, tmp_path: Path, how: str) -> None:
    """Notebooks and modules have the same ids, before the renaming or after it."""
    library(project)
    project.export()
    start = tmp_path / "start"
    shutil.copytree(project.root, start)
    status, left = clean_in_child(project.root, "count", 0)
    assert status == 0 and left < -20
    done = project.files("nbs") | project.modules()
    for moment in range(0, -left, 2 if how == "kill" else 3):
        project.replace_by(start)
        status, _ = clean_in_child(project.root, how, moment)
        killed = status == -signal.SIGKILL
        assert killed if how == "kill" else status in (0, 1, 2), moment
        report = export_project(find_project(project.root))
        assert not report.problems and not project.leftovers(), moment
        assert clean_in_child(project.root, "count", 0)[0] == 0
        assert project.files("nbs") | project.modules() == done, moment
        assert export_project(find_project(project.root), check=True).written == ()


def test_ids_of_the_paths_that_are_asked_for(project: Sandbox) -> None:
    library(project)
    project.litml("clean", "--ids", "nbs/01_more.ipynb")
    assert ids_of(project, "00_io.ipynb")[1] == RANDOM[0]
    assert ids_of(project, "01_more.ipynb") == ["t", "imports", "Reader", "check"]


def test_two_branches_choose_the_same_ids(
    project: Sandbox, new_project: Callable[[], Sandbox]
) -> None:
    other = new_project()
    for one in (project, other):
        library(one)
    extra = code("aaaa0001", "#| export\ndef more(): ...")
    path = other.root / "nbs/00_io.ipynb"
    tree = json.loads(path.read_bytes())
    path.write_text(json.dumps({**tree, "cells": [*tree["cells"], extra]}))
    for one in (project, other):
        assert one.litml("clean", "--ids").returncode == 0
    names = [ids_of(one, "00_io.ipynb") for one in (project, other)]
    assert names[1] == [*names[0], "more"]


def test_a_name_that_is_taken_is_not_taken_again(project: Sandbox) -> None:
    project.write(
        "00_io.ipynb",
        code("load", "1 + 1"),
        code(RANDOM[0], "#| export\ndef load(): ...\ndef open_(): ..."),
        code(RANDOM[1], "#| export\nif True:\n    def save(): ..."),
        code(RANDOM[2], "#| export\nx = '''\n# %% y\n'''"),
        code(RANDOM[3], "#| export\ny = 1"),
    )
    done = project.litml("clean", "--ids")
    assert done.returncode == 0, done.stderr
    assert ids_of(project, "00_io.ipynb") == ["load", "open_", RANDOM[1], "x", "y-2"]


@given(st.text(st.sampled_from("ab_é019=:(){}@\n #'"), max_size=30))
@settings(max_examples=200)
def test_names_are_ids(source: str) -> None:
    try:
        compile(source, "", "exec")
    except (SyntaxError, ValueError):
        return
    for name in find_names(source):
        cell = nbformat.v4.new_code_cell(id=name)  # type: ignore[no-untyped-call]
        nbformat.validate(nbformat.v4.new_notebook(cells=[cell]))  # type: ignore[no-untyped-call]


# Secrets ------------------------------------------------------------------------------

# In two parts, or a host that looks for tokens would refuse this file.
BODY = "q1W2e3R4t5Y6u7I8o9P0a1S2d3F4g5H6j7K8l9Z0x1C2v3B4n5M6"
HEX = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"
PAYLOAD = "eyJzdWIiOiIxMjM0NTY3ODkwIn0"
TOKENS = {
    "AWS Access Key": "AKIA" + BODY.upper()[:16],
    "GitHub Token": "ghp" + "_" + BODY[:36],
    "GitHub fine-grained token": "github" + "_pat_" + BODY + BODY[:30],
    "GitLab Token": "glpat" + "-" + BODY[:20],
    "Slack Token": "xoxb" + "-123456789012-123456789012-" + BODY[:24],
    "Stripe Access Key": "sk_" + "live_" + BODY[:24],
    "SendGrid API Key": "SG" + "." + BODY[:22] + "." + BODY[:43],
    "PyPI Token": "pypi-" + "AgEIcHlwaS5vcmc" + BODY + BODY,
    "OpenAI Token": "sk-" + BODY[:20] + "T3Blbk" + "FJ" + BODY[20:40],
    "OpenAI project key": "sk-" + "proj-" + BODY,
    "Anthropic key": "sk-" + "ant-api03-" + BODY,
    "Hugging Face token": "hf" + "_" + BODY[:34],
    "Google API key": "AI" + "za" + BODY[:35],
    "JSON Web Token": "eyJhbGciOiJIUzI1NiJ9" + "." + PAYLOAD + "." + BODY[:43],
    "Basic Auth Credentials": "https://ann:" + BODY[:9] + "@example.org",
    "Password": "api_" + "key = '" + BODY[:20] + "'",
    "Azure Storage Account access key": "Account" + "Key=" + (BODY + BODY)[:86] + "==",
    "Twilio API Key": "SK" + HEX[:32],
}
KEY = (
    "-----BEGIN {0}PRIVATE KEY-----\n"
    + f"{BODY}\n{BODY}\n"
    + "-----END {0}PRIVATE KEY-----"
)
PLAIN = [
    *(
        "3fa94b1c-0c1e-4b8e-9a77-5d6c1b2f3a4d",
        HEX,
        f"sha256:{HEX}",
        "<M at 0x7f3a5c0b2d90>",
    ),
    *(
        "tensor([0.1234, 0.5678], device='cuda:0')",
        "epoch 1/10 loss: 0.3512",
        "10.0.0.1",
    ),
    *(
        "https://example.org/a?b=c#d",
        "user@example.org",
        "token: 512",
        "n_tokens=100000",
    ),
    *(
        "password:",
        "pwd='foo'",
        "max_tokens = 4096",
        "tokenizer('a b')",
        "key=lambda x: x",
    ),
    "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUg" * 80,
]


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_is_found_and_taken_out_whole(kind: str) -> None:
    token = TOKENS[kind]
    for text in (
        token,
        f"using {token}.\n",
        f"{{'t': '{token}', 'n': 1}}",
        f"\x1b[1m{token}",
    ):
        found = dict(find_secrets(text))
        assert found, text
        assert kind in [kind for _, kind in find_secrets(text)]
        clean = redact_text(text)
        secret = token.split(":")[-1].split("@")[0].split("'")[-2:][0]
        assert secret not in clean and BODY[:9] not in clean and "[redacted: " in clean
        assert redact_text(clean) == clean and not list(find_secrets(clean))


@pytest.mark.parametrize("kind", ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "])
def test_a_private_key_goes_from_its_first_line_to_its_last(kind: str) -> None:
    text = f"before\n{KEY.format(kind)}\nafter"
    assert (2, "Private Key") in list(find_secrets(text))
    assert redact_text(text) == "before\n[redacted: Private Key]\nafter"
    assert BODY not in redact_text(text[:90]), "also without its last line"


@pytest.mark.parametrize("text", PLAIN)
def test_what_is_no_secret_is_left_alone(text: str) -> None:
    assert list(find_secrets(text)) == [] and redact_text(text) == text


@given(
    st.lists(
        st.sampled_from([*TOKENS.values(), *PLAIN, "\n", " ", "x", "'"]), max_size=9
    )
)
@settings(max_examples=100)
def test_what_is_redacted_stays_redacted(parts: list[str]) -> None:
    once = redact_text(" ".join(parts))
    assert redact_text(once) == once and not list(find_secrets(once))


def leaky() -> bytes:
    """Return a notebook whose outputs hold a token in every place there is."""
    token = TOKENS["Hugging Face token"]
    rich = {
        "text/html": [f"<b>{token}</b>\n"],
        "application/json": {"a": [{"b": token}]},
        "image/png": "AAAA",
    }
    error = {"ename": "E", "evalue": token, "traceback": ["1", f"f('{token}')"]}
    cells = [
        code(
            "stream",
            "",
            outputs=[{**STREAM, "text": ["a\n", f"{token[:9]}", token[9:]]}],
        ),
        code(
            "rich",
            "",
            outputs=[{"output_type": "display_data", "data": rich, "metadata": {}}],
        ),
        code("error", "", outputs=[{"output_type": "error", **error}]),
        code("fine", "", outputs=[STREAM]),
    ]
    return notebook_bytes(*cells)


def test_no_place_of_an_output_is_forgotten() -> None:
    found = scan_tree(load_tree(leaky()), "n.ipynb")
    assert [(str(one.at), one.output, one.line) for one in found] == [
        ("n.ipynb, cell stream", 1, 2),
        *[("n.ipynb, cell rich", 1, 1)],
        *[("n.ipynb, cell error", 1, 1)],
    ]
    assert BODY[:9] not in str(found)
    data = clean_safely(leaky(), Policy("keep", secrets="redact")).data
    nbformat.validate(json.loads(data))
    assert BODY[9:20].encode() not in data and data.count(b"[redacted: ") == 5
    assert clean_safely(data, Policy("keep", secrets="redact")).data == data
    assert b'"image/png": "AAAA"' in data


def test_the_project_blocks_or_redacts(project: Sandbox) -> None:
    path = project.write_bytes("00_leak.ipynb", leaky())
    configure(project, 'outputs = "keep"\nsecrets = "block"\n')
    for words in ([], ["--check"]):
        done = project.litml("clean", *words)
        assert done.returncode == 1 and path.read_bytes() == leaky()
        said = "nbs/00_leak.ipynb, cell stream, output 1, line 2: Hugging Face token"
        assert said in done.stderr
        assert BODY[9:20] not in done.stderr + done.stdout
    assert project.litml("clean", "--outputs", "drop", "--check").returncode == 1
    assert "secret" not in project.litml("clean", "--outputs", "drop", "--check").stderr
    text = (project.root / "pyproject.toml").read_text()
    (project.root / "pyproject.toml").write_text(text.replace("block", "redact"))
    assert project.litml("clean").returncode == 0
    assert BODY[9:20].encode() not in path.read_bytes()
    assert project.litml("clean", "--check").returncode == 0


def test_without_the_library_nothing_passes_unseen(project: Sandbox) -> None:
    path = project.write_bytes("00_leak.ipynb", leaky())
    configure(project, 'outputs = "keep"\nsecrets = "redact"\n')
    hidden = project.root / "hidden"
    (hidden / "detect_secrets").mkdir(parents=True)
    (hidden / "detect_secrets/__init__.py").write_text("raise ImportError('none')\n")
    environment = {**ENVIRONMENT, "PYTHONPATH": str(hidden)}
    done = project.litml("clean", env=environment)
    assert done.returncode == 2 and 'pip install "litml[secrets]"' in done.stderr
    assert path.read_bytes() == leaky()


def test_git_redacts_what_goes_in(project: Sandbox) -> None:
    configure(project, 'outputs = "keep"\nsecrets = "redact"\n')
    project.git("init", "--quiet", "--initial-branch=main")
    assert project.litml("install-hooks").returncode == 0
    path = project.write_bytes("00_leak.ipynb", leaky())
    project.commit()
    blob = project.git("show", "HEAD:nbs/00_leak.ipynb").encode()
    assert blob == clean_safely(leaky(), Policy("keep", secrets="redact")).data
    assert BODY[9:20].encode() not in blob and path.read_bytes() == leaky()
    assert project.git("status", "--porcelain") == ""


def test_git_refuses_a_commit_of_a_secret(project: Sandbox) -> None:
    configure(project, 'outputs = "keep"\nsecrets = "block"\n')
    project.git("init", "--quiet", "--initial-branch=main")
    assert project.litml("install-hooks").returncode == 0
    project.write_bytes("00_leak.ipynb", leaky())
    project.git("add", "--all")
    done = project.run("git", "commit", "--quiet", "--message=all")
    assert done.returncode == 1 and "like a secret (Hugging Face token)" in done.stderr
    assert BODY[9:20] not in done.stderr


def test_litml_check_says_what_a_merge_left(project: Sandbox) -> None:
    marked = "1\n<<<<<<< ours\n2\n=======\n3\n>>>>>>> theirs\n"
    deleted = {"litml": {"conflict": "deleted by ours"}}
    project.write(
        "00_io.ipynb",
        prose("t", "# T\n\n> T."),
        code("twice", "1"),
        code("twice", "2"),
        code("kept", "3", metadata=deleted),
        prose("marked", marked),
        code("word", "4", metadata={"litml": {"outputs": "most"}}),
    )
    done = project.litml("check")
    assert done.returncode == 1
    for said in (
        "nbs/00_io.ipynb, cell twice: two cells have the id `twice`",
        "nbs/00_io.ipynb, cell kept: a merge left a conflict: deleted by ours",
        "nbs/00_io.ipynb, cell marked, line 2: conflict markers of a git merge",
        "nbs/00_io.ipynb, cell word: `outputs` in the metadata is one of drop,",
    ):
        assert said in done.stdout
