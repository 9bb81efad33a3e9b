"""`litml show`, `apply` and `cell`, and notebooks written as text, from the outside."""

import json
import os
from pathlib import Path

import pytest
from conftest import Sandbox, code, prose

TITLE = prose("title", "# Fit\n\n> Fit a line.")
FIT = code("fit", "#| export\ndef fit(x):\n    return x")
TRY = code("try-fit", "print(fit(3))", outputs=[{"output_type": "stream", "text": "3"}])


@pytest.fixture
def path(project: Sandbox) -> Path:
    return project.write("fit.ipynb", TITLE, FIT, TRY)


def source(path: Path, id: str) -> str:
    """Return the source of a cell, from the file's JSON."""
    cells = json.loads(path.read_bytes())["cells"]
    return next("".join(cell["source"]) for cell in cells if cell["id"] == id)


def ids(path: Path) -> list[str]:
    return [cell["id"] for cell in json.loads(path.read_bytes())["cells"]]


def test_show_and_apply(project: Sandbox, path: Path) -> None:
    shown = project.litml("show", "nbs/fit.ipynb")
    assert shown.returncode == 0 and "#> 3" in shown.stdout
    assert "#> 3" not in project.litml("show", "--out=0", path).stdout
    again = project.litml("apply", input=shown.stdout)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    text = shown.stdout.replace("return x", "return 2 * x") + "# %%\nfit(é)\n"
    checked = project.litml("apply", "--check", input=text)
    assert checked.returncode == 1 and "would be updated" in checked.stdout
    assert source(path, "fit").endswith("return x")
    done = project.litml("apply", "nbs/fit.ipynb", input=text)
    said = ["updated: nbs/fit.ipynb, cell fit", "new: nbs/fit.ipynb, cell fit-2"]
    assert done.stdout.splitlines() == said
    assert source(path, "fit").endswith("2 * x")


def test_a_file_of_a_view_is_brought_up_to_date(project: Sandbox, path: Path) -> None:
    view = project.root / "fit.view"
    view.write_text(project.litml("show", path).stdout.replace("return x", "return 1"))
    for number in (1, 2, 3):  # the same line again and again
        view.write_text(
            view.read_text().replace(f"return {number}", f"return {number + 1}")
        )
        done = project.litml("apply", "--from", view)
        assert done.returncode == 0, done.stderr
        assert source(path, "fit").endswith(f"return {number + 1}")
    assert view.read_text() == project.litml("show", path).stdout


def test_the_view_afterwards_is_all_that_is_printed(
    project: Sandbox, path: Path
) -> None:
    text = project.litml("show", path).stdout.replace("return x", "return 1")
    done = project.litml("apply", "--show", input=text)
    assert done.stdout == project.litml("show", path).stdout
    assert "updated: " in done.stderr


def test_conflicts(project: Sandbox, path: Path) -> None:
    text = project.litml("show", path).stdout.replace("return x", "return 1")
    project.write("fit.ipynb", TITLE, code("fit", "def fit(x): pass"), TRY)
    before = path.read_bytes()
    done = project.litml("apply", input=text)
    assert done.returncode == 1 and path.read_bytes() == before
    assert (
        "at nbs/fit.ipynb, cell fit" in done.stderr
        and "`--take fit=text`" in done.stderr
    )
    assert "--- notebook\ndef fit(x): pass\n--- text\n" in done.stdout
    as_json = json.loads(project.litml("apply", "--json", input=text).stdout)
    (clash,) = as_json["conflicts"]
    assert clash["cell"] == "fit" and clash["notebook"] == "def fit(x): pass"
    assert project.litml("apply", "--take", "fit=module", input=text).returncode == 2
    assert project.litml("apply", "--take", "fit=text", input=text).returncode == 0
    assert source(path, "fit").endswith("return 1")


@pytest.mark.parametrize("text", ["", "x = 1\n", "# notebook nbs/fit.ipynb @12\n"])
def test_what_is_no_view_is_refused(project: Sandbox, path: Path, text: str) -> None:
    done = project.litml("apply", input=text)
    assert done.returncode == 1 and "no token" in done.stderr
    assert "Traceback" not in done.stderr


def test_bytes_that_are_no_text(project: Sandbox, path: Path) -> None:
    done = project.litml("apply", input="\udcff", errors="surrogateescape")
    assert done.returncode == 2 and "stdin is not UTF-8" in done.stderr
    assert project.litml("apply", "--from", "absent").returncode == 2
    assert project.litml("show", "nbs/absent.ipynb").returncode == 1


def test_any_terminal(project: Sandbox) -> None:
    path = project.write("a.ipynb", code("a", "é = '😀'"))
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = project.litml("show", path, encoding="utf-8", env=env)
    text = done.stdout.replace("é = '😀'", "ü = '😀'")
    done = project.litml("apply", input=text, encoding="utf-8", env=env)
    assert done.returncode == 0, done.stderr
    assert source(path, "a") == "ü = '😀'"


def test_cells_by_id(project: Sandbox, path: Path) -> None:
    shown = project.litml("cell", "show", path, "fit")
    assert shown.stdout == "#| export\ndef fit(x):\n    return x\n"
    about = json.loads(project.litml("cell", "show", "--json", path, "fit").stdout)
    assert about["kind"] == "code" and about["source"] == shown.stdout[:-1]
    same = project.litml("cell", "set", path, "fit", input=shown.stdout)
    assert same.returncode == 0
    new = shown.stdout.replace("return x", "return -x")
    done = project.litml(
        "cell", "set", path, "fit", "--expect", about["hash"], input=new
    )
    assert done.stdout == "updated: nbs/fit.ipynb, cell fit\n"
    stale = project.litml(
        "cell", "set", path, "fit", "--expect", about["hash"], input=""
    )
    assert stale.returncode == 1 and "the cell has changed" in stale.stderr
    project.litml(
        "cell", "insert", path, "--after", "fit", "--kind=markdown", input="## Use\n"
    )
    project.litml("cell", "insert", path, "top", "--first", input="1\n2\n")
    project.litml("cell", "mv", path, "try-fit", "--after", "title")
    project.litml("cell", "rm", path, "title")
    assert ids(path) == ["top", "try-fit", "fit", "use"]
    assert source(path, "top") == "1\n2" and source(path, "fit").endswith("-x")
    wrong = project.litml("cell", "rm", path, "tri-fit")
    assert wrong.returncode == 1 and "did you mean `try-fit`?" in wrong.stderr
    assert project.litml("cell", "mv", path, "fit").returncode == 2
    assert project.litml("cell", "insert", path, input="").returncode == 2


# Notebooks written as text -----------------------------------------------------------

PERCENT = """\
# %% [markdown] title
# # Fit
#
# > Fit a line.

# %% fit
#| export
def fit(x):
    return x

# %% try-fit
print(fit(3))
"""


@pytest.mark.parametrize("name", ["01_fit.py", "01_fit.md"])
def test_text_exports_the_same_module(project: Sandbox, name: str) -> None:
    project.write("01_fit.ipynb", TITLE, FIT, TRY)
    project.export()
    expected = project.modules()["mylib/fit.py"].replace(b"01_fit.ipynb", name.encode())
    (project.root / "nbs/01_fit.ipynb").unlink()
    text = PERCENT
    if name.endswith(".md"):
        fence = "```{code-cell}\n:id: %s\n\n%s\n```\n"
        sources = ["".join(cell["source"]) for cell in (TITLE, FIT, TRY)]
        cells = [fence % ("fit", sources[1]), fence % ("try-fit", sources[2])]
        text = "\n\n".join([sources[0], *cells])
    project.write_bytes(name, text.encode())
    project.export()
    assert project.modules()["mylib/fit.py"] == expected
    assert project.export("--check") == ""
    changed = text.replace("return x", "return 2 * x")
    project.write_bytes(name, changed.encode())
    assert project.export() == "wrote: mylib/fit.py\n"


def test_an_edit_of_the_module_comes_home_to_the_text(project: Sandbox) -> None:
    path = project.write_bytes("fit.py", PERCENT.encode())
    project.export()
    module = project.root / "mylib/fit.py"
    module.write_text(module.read_text().replace("return x", "return 2 * x"))
    assert project.litml("export").returncode == 1
    assert project.litml("sync").returncode == 0
    assert path.read_text() == PERCENT.replace("return x", "return 2 * x")
    shown = project.litml("show", path)
    edited = shown.stdout.replace("fit(3)", "fit(4)")
    assert project.litml("apply", input=edited).returncode == 0
    assert "fit(4)" in path.read_text()


def test_what_is_no_notebook_is_left_alone(project: Sandbox) -> None:
    project.write("fit.ipynb", FIT)
    project.write_bytes("helper.py", b"def broken(:\n")
    project.write_bytes("conftest.py", b"# %% fixtures\n#| export\nx = 1\n")
    project.write_bytes("_draft.py", b"# %%\n#| export\nx = 1\n")
    project.write_bytes("README.md", b"```python\n#| export\nx = 1\n```\n")
    project.export()
    assert set(project.modules()) == {"mylib/__init__.py", "mylib/fit.py"}


def test_a_package_among_the_notebooks_is_no_notebook(project: Sandbox) -> None:
    (project.root / "pyproject.toml").write_text(
        '[project]\nname = "mylib"\n[tool.litml]\nnotebooks = "."\n'
    )
    (project.root / "fit.py").write_text(PERCENT)
    project.export()
    (project.root / "mylib/by_hand.py").write_text("# %% setup\nx = 1\n")
    assert project.export("--check") == ""
    assert set(project.modules()) == {
        *("mylib/__init__.py", "mylib/fit.py", "mylib/by_hand.py")
    }


def test_a_script_becomes_a_notebook_in_place(project: Sandbox) -> None:
    path = project.write_bytes("fit.py", b"x = 1\n")
    project.write("other.ipynb", code("a", "#| export\ny = 1"))
    project.export()
    with path.open("w") as file:
        file.write(PERCENT)
    assert project.export() == "wrote: mylib/fit.py\n"


def test_a_notebook_and_its_text_are_refused(project: Sandbox) -> None:
    project.write("fit.ipynb", FIT)
    project.write_bytes("fit.py", PERCENT.encode())
    done = project.litml("export")
    assert done.returncode == 1 and "in another form" in done.stderr
    pyproject = project.root / "pyproject.toml"
    pyproject.write_text(pyproject.read_text() + 'exclude = ["*.py"]\n')
    assert project.export() != ""
