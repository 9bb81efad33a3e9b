"""`litml check`: the real linters and type checkers, and what is made of their words.

Each finding has to be at the cell and line that a person would point at.
"""

import dataclasses
import errno
import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import ENVIRONMENT, Sandbox, code, prose

import litml.check
from litml.check import CheckReport, Finding, check_project, find_tools
from litml.cli import main
from litml.project import find_project

RUFF = "\n[tool.ruff]\n\n[tool.ruff.lint]\nselect = ['E', 'F', 'I']\n"
MYPY = "\n[tool.mypy]\nstrict = true\n"


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which mypy keeps what it knows of the standard library."""
    return tmp_path_factory.mktemp("mypy")


@pytest.fixture(autouse=True)
def use_cache(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYPY_CACHE_DIR", str(shared_cache))
    monkeypatch.setitem(ENVIRONMENT, "MYPY_CACHE_DIR", str(shared_cache))


def configure(project: Sandbox, text: str) -> None:
    with (project.root / "pyproject.toml").open("a") as file:
        file.write(text)


def check(project: Sandbox, **more: bool) -> CheckReport:
    return check_project(find_project(project.root), **more)


def show(findings: tuple[Finding, ...]) -> list[str]:
    """Return findings without their messages."""
    shown = []
    for one in findings:
        place = one.at.cell or one.at.notebook
        shown.append(f"{one.tool} {one.code} {place} {one.at.line}".replace("  ", " "))
    return shown


# A finding of every tool -------------------------------------------------------------


@pytest.fixture
def faulty(project: Sandbox) -> Sandbox:
    """Return an exported project with a fault for every tool."""
    configure(project, RUFF + MYPY)
    project.write(
        "01_data.ipynb",
        prose("title", "# Data\n\n> Read data."),
        code("imports", "#| export\nimport os\nfrom pathlib import Path"),
        code("heading", "print( 'not formatted' )"),
        code(
            "read",
            "#| export\n#| timeout: 5\n\ndef read(path: Path) -> str:\n"
            "    text = path.read_bytes( )\n    return text",
        ),
        code("example", "%matplotlib inline\nfiles = !ls\nread(Path())\nread(3)"),
        code("fails", "#| raises: TypeError\nread()"),
        code("shell", "%%bash\nls -l | wc"),
        code("wait", "import asyncio\n\nawait asyncio.sleep(0)\ndisplay(files)"),
    )
    (project.root / "tests").mkdir()
    (project.root / "tests/test_hand.py").write_text("import os\n\nx: int = 1\n")
    project.export()
    (project.root / "mylib/by_hand.py").write_text('import sys\n\nx: int = "a"\n')
    return project


def test_every_finding_is_at_its_cell_and_line(faulty: Sandbox) -> None:
    """What is in the package and in its cell is reported once, at the cell."""
    report = check(faulty)
    assert report.tools == ("litml", "ruff", "format", "mypy")
    assert show(report.findings) == [
        "ruff F401 mylib/by_hand.py 1",
        "mypy assignment mylib/by_hand.py 3",
        "ruff F401 imports 2",
        "format heading 1",
        "format read 5",
        "mypy return-value read 6",
        "mypy arg-type example 4",
        "ruff F401 tests/test_hand.py 1",
    ]
    assert {one.at.notebook for one in report.findings if one.at.cell} == {
        "nbs/01_data.ipynb"
    }


def test_without_examples(faulty: Sandbox) -> None:
    found = show(check(faulty, examples=False).findings)
    assert "mypy return-value read 6" in found
    assert not any("example" in one for one in found)
    config = faulty.root / "pyproject.toml"
    said = config.read_text().replace(
        "[tool.litml]", "[tool.litml]\ncheck-examples = false"
    )
    config.write_text(said)
    assert show(check(faulty).findings) == found
    assert "mypy arg-type example 4" in show(check(faulty, examples=True).findings)


def test_the_command_line(
    faulty: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(faulty.root)
    assert main(["check"]) == 1
    said = capsys.readouterr().out.splitlines()
    assert "nbs/01_data.ipynb, cell read, line 6: Incompatible return" in said[5]
    assert main(["check", "--json", "--no-examples"]) == 1
    assert len(json.loads(capsys.readouterr().out)["findings"]) == 7


def test_nothing_is_changed(faulty: Sandbox) -> None:
    """Not even by a linter that is configured to mend what it finds."""
    configure(faulty, "")
    text = (faulty.root / "pyproject.toml").read_text()
    (faulty.root / "pyproject.toml").write_text(
        text.replace("[tool.ruff]", "[tool.ruff]\nfix = true\nunsafe-fixes = true")
    )
    before = {**faulty.files("nbs"), **faulty.modules(), **faulty.files("tests")}
    assert len(check(faulty).findings) == 8
    assert before == {
        **faulty.files("nbs"),
        **faulty.modules(),
        **faulty.files("tests"),
    }


def test_a_clean_project_passes_quietly(project: Sandbox) -> None:
    configure(project, RUFF + MYPY)
    project.write(
        "01_data.ipynb",
        code("half", "#| export\ndef half(n: int) -> float:\n    return n / 2"),
        code("example", "def try_it(n):\n    return half(n)\n\n\ntry_it(3)"),
        code("rebound", 'result = half(3)\nresult = "three"\nresult'),
        code("maybe", 'import re\n\nre.match("a", "b").group()'),
        code("helper", "def opened(): ..."),
        code("async", "async with opened() as file:\n    file"),
    )
    project.export()
    done = project.litml("check")
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_finding_names_other_lines_by_their_cell(project: Sandbox) -> None:
    configure(project, MYPY)
    project.write(
        "01_a.ipynb",
        code("first", "#| export\n\nx: int = 1"),
        code("second", "#| exporti\nx: str = ''"),
    )
    project.export()
    [found] = [one for one in check(project).findings if one.code == "no-redef"]
    assert "line 3 of cell first" in found.message
    assert show((found,)) == ["mypy no-redef second 2"]


def test_a_class_that_grows_is_whole(project: Sandbox) -> None:
    """In the package and in the notebook: only the misuse is found."""
    configure(project, "\n[tool.mypy]\nignore_missing_imports = true\n")
    project.write(
        "01_a.ipynb",
        code("imports", "#| export\nfrom fastcore.basics import patch"),
        code("A", "#| export\nclass A:\n    x = 1"),
        code("f", "#| export\n@patch\ndef f(self: A, n: int) -> int:\n    return n"),
        code("use", "A().f(1)\nA().f('one')\nA().g()"),
    )
    project.write(
        "02_b.ipynb", code("use-b", "from mylib.a import A\n\nA().f(None, 1)")
    )
    project.export()
    assert show(check(project).findings) == [
        "mypy arg-type use 2",
        "mypy attr-defined use 3",
        "mypy call-arg use-b 3",
    ]


def test_a_signature_that_is_wrong_is_found_once(project: Sandbox) -> None:
    """It stands twice in the module: in the block, and where the method is."""
    configure(project, "\n[tool.mypy]\nignore_missing_imports = true\n")
    project.write(
        "01_a.ipynb",
        code("imports", "#| export\nfrom fastcore.basics import patch"),
        code("A", "#| export\nclass A:\n    x = 1"),
        code("f", "#| export\n@patch\ndef f(self: A, n: Nope) -> int:\n    return 1"),
    )
    project.export()
    assert show(check(project).findings) == ["mypy name-defined f 3"]


def test_a_package_in_src(project: Sandbox) -> None:
    (project.root / "src").mkdir()
    configure(project, MYPY)
    project.write(
        "01_a.ipynb", code("f", "#| export\ndef f(n: int) -> str:\n    return n")
    )
    project.write("02_b.ipynb", code("use", "from mylib.a import f\n\nf('a')"))
    project.export()
    assert show(check(project).findings) == [
        "mypy return-value f 3",
        "mypy arg-type use 3",
    ]


def test_targets_that_the_project_names(project: Sandbox) -> None:
    configure(project, MYPY + "files = ['mylib', 'more']\n")
    (project.root / "more").mkdir()
    (project.root / "more/a.py").write_text("x: int = ''\n")
    project.write("01_a.ipynb", code("y", "#| export\ny: int = ''"))
    project.export()
    assert show(check(project).findings) == [
        "mypy assignment more/a.py 1",
        "mypy assignment y 2",
    ]


def test_pyright_finds_the_same_places(faulty: Sandbox) -> None:
    if not (importlib.util.find_spec("pyright") or shutil.which("pyright")):
        pytest.skip("pyright is not installed")
    configure(faulty, "\n[tool.pyright]\ninclude = ['mylib']\n")
    found = show(tuple(one for one in check(faulty).findings if one.tool == "pyright"))
    assert found == [
        "pyright reportAssignmentType mylib/by_hand.py 3",
        "pyright reportReturnType read 6",
        "pyright reportArgumentType example 4",
    ]


# What stands against a check ---------------------------------------------------------


def test_a_tool_that_is_not_installed(
    project: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(project, "\n[tool.pyright]\n" + MYPY)
    project.write("01_a.ipynb", prose("title", "# A"))
    missing = {"pyright"}
    found = litml.check.find_command
    monkeypatch.setattr(
        "litml.check.find_command", lambda tool: [] if tool in missing else found(tool)
    )
    report = check(project)
    assert report.failed
    assert [str(one) for one in report.findings] == [
        "pyproject.toml: configured in pyproject.toml, but not installed"
        " (pyright: not-installed)"
    ]


@pytest.mark.parametrize(
    ("file", "text", "tools"),
    [
        ("ruff.toml", "no-such-key = 1\n", ["format", "ruff"]),
        ("mypy.ini", "[mypy]\npython_version = 1.5\nplugins = no_such\n", ["mypy"]),
    ],
)
def test_a_tool_that_does_not_run(
    project: Sandbox, file: str, text: str, tools: list[str]
) -> None:
    project.write("01_a.ipynb", code("x", "#| export\nx: int = 1"))
    project.export()
    (project.root / file).write_text(text)
    report = check(project)
    assert sorted({one.tool for one in report.findings}) == tools and report.failed
    for one in report.findings:
        assert one.at.notebook == file and one.message.startswith("did not run: ")


def test_what_is_out_of_date_or_wrong(project: Sandbox) -> None:
    project.write("01_a.ipynb", code("x", "#| export\nx = 1"))
    project.write("02_b.ipynb", code("y", "#| export\ny = 1"))
    project.export()
    (project.root / "nbs/02_b.ipynb").unlink()
    project.write("01_a.ipynb", code("x", "#| export\nx = 2"))
    assert show(check(project).findings) == [
        "litml outdated mylib/a.py None",
        "litml stale mylib/b.py None",
    ]
    project.write("01_a.ipynb", code("x", "#| exprot\nx = 2"))
    [found] = check(project).findings
    assert show((found,)) == ["litml export x 1"] and "did you mean" in found.message


def test_a_cell_that_does_not_parse(project: Sandbox) -> None:
    """The linter says so; the other cells are still checked."""
    configure(project, "\n[tool.ruff]\n" + MYPY)
    project.write(
        "01_a.ipynb",
        code("broken", "def f(:\n    pass"),
        code("wrong", "len(3)"),
    )
    found = check(project).findings
    assert {one.at.cell for one in found if one.tool == "ruff"} == {"broken"}
    assert show(tuple(one for one in found if one.tool == "mypy")) == [
        "mypy arg-type wrong 1"
    ]


def test_a_conflict_is_not_formatted(project: Sandbox) -> None:
    """The formatter has nothing to say but that; the linter names the cell."""
    configure(project, "\n[tool.ruff]\n")
    project.write("01_a.ipynb", code("both", "<<<<<<< ours\nx = 1\n=======\nx = 2\n"))
    found = check(project).findings
    assert {one.at.cell for one in found if one.tool == "ruff"} == {"both"}
    [one] = [one for one in found if one.tool == "format"]
    assert "some code does not parse" in one.message


def test_an_import_from_the_future_below_another_cell(project: Sandbox) -> None:
    """Ruff reads a notebook as one module; a kernel compiles each cell by itself."""
    configure(project, "\n[tool.ruff]\n")
    future = code("imports", "#| export\nfrom __future__ import annotations")
    project.write("01_both.ipynb", code("above", "x = 1"), future)
    project.export()
    found = check_project(find_project(project.root)).findings
    assert [one for one in found if one.tool == "ruff"] == []


def test_a_notebook_that_cannot_be_read(project: Sandbox) -> None:
    configure(project, MYPY)
    project.write_bytes("01_a.ipynb", b"{")
    project.write("02_b.ipynb", code("wrong", "len(3)"))
    found = check(project).findings
    assert [(one.tool, one.at.notebook) for one in found] == [
        ("litml", "nbs/01_a.ipynb"),
        ("mypy", "nbs/02_b.ipynb"),
    ]


def test_a_notebook_that_is_no_file(project: Sandbox) -> None:
    (project.root / "nbs/00_folder.ipynb").mkdir()
    (project.root / "nbs/01_link.ipynb").symlink_to("nowhere")
    [folder, link] = check(project).findings
    assert folder.at.notebook == "nbs/00_folder.ipynb"
    assert link.message == os.strerror(errno.ENOENT)


def test_a_repository_that_git_does_not_trust(
    project: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(project).findings == ()
    project.commit()
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    [found] = check(project).findings
    assert (found.at.notebook, found.severity) == (".git", "warning")
    assert "; git config --global --add safe.directory" in found.message


def test_a_notebook_of_another_language(project: Sandbox) -> None:
    configure(project, MYPY)
    metadata = {"kernelspec": {"name": "julia", "language": "julia"}}
    project.write("01_a.ipynb", code("x", "function f end"), metadata=metadata)
    assert check(project).findings == ()


def test_a_notebook_written_as_text(project: Sandbox) -> None:
    """What is in its file, and in the module made of it, is reported once."""
    configure(project, RUFF + MYPY)
    text = (
        "# %% [markdown]\n# # Data\n\n"
        "# %%\n#| export\nimport os\n\n"
        "# %%\n#| export\n\ndef half(n: int) -> str:\n    return n / 2\n\n\n"
        '# %%\nhalf("a")\n'
    )
    project.write_bytes("01_data.py", text.encode())
    project.export()
    found = [one for one in check(project).findings if one.tool != "format"]
    assert [(one.code, one.at.line) for one in found] == [
        ("F401", 2),
        ("return-value", 4),
        ("arg-type", 1),
    ]
    assert {one.at.notebook for one in found} == {"nbs/01_data.py"}
    assert len({one.at.cell for one in found} - {None}) == 3


def test_a_project_of_nbdev(project: Sandbox) -> None:
    """Its package is nbdev's; its notebooks can be checked all the same."""
    (project.root / "pyproject.toml").write_text(
        '[project]\nname = "mylib"\n\n[tool.nbdev]\n' + MYPY
    )
    project.write("01_a.ipynb", code("wrong", "len(3)"))
    assert show(check(project).findings) == ["mypy arg-type wrong 1"]


def test_sheets_do_not_stay(project: Sandbox) -> None:
    configure(project, MYPY)
    project.write("01_a.ipynb", code("wrong", "len(3)"))
    check(project)
    (project.root / "nbs/01_a.ipynb").unlink()
    assert check(project).findings == ()
    assert not list((project.root / ".litml/check").glob("*.py"))


# Which tools -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "tools"),
    [
        ("pyproject.toml", "[tool.ruff.lint]\n", ["ruff", "format"]),
        ("ruff.toml", "", ["ruff", "format"]),
        (".ruff.toml", "", ["ruff", "format"]),
        ("pyproject.toml", "[tool.ruff]\n[tool.black]\n", ["ruff"]),
        ("pyproject.toml", "[tool.mypy]\n", ["mypy"]),
        (".mypy.ini", "[mypy]\n", ["mypy"]),
        ("setup.cfg", "[mypy]\n", ["mypy"]),
        ("setup.cfg", "[metadata]\nname = %(x)s\n", []),
        ("pyproject.toml", "[tool.pyright]\n", ["pyright"]),
        ("pyrightconfig.json", "{}", ["pyright"]),
        ("setup.cfg", "no section\n", []),
        ("pyproject.toml", "", []),
    ],
)
def test_a_tool_is_run_if_it_is_configured(
    tmp_path: Path, file: str, text: str, tools: list[str]
) -> None:
    (tmp_path / file).write_text(text)
    assert find_tools(tmp_path) == dict.fromkeys(tools, file)


def test_colours_are_not_read_as_words(
    faulty: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE", "MYPY_FORCE_COLOR"):
        monkeypatch.setenv(name, "1")
    assert "FORCE_COLOR" in os.environ
    assert len(check(faulty).findings) == 8


def test_a_finding_is_plain_data(faulty: Sandbox) -> None:
    first = check(faulty, examples=False).findings[0]
    assert json.loads(json.dumps(dataclasses.asdict(first)))["at"]["line"] == 1
