"""Projects made from templates: complete, or not there at all."""

import ast
import dataclasses
import json
import keyword
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import litml
from litml.answers import (
    Answers,
    NewError,
    find_answers,
    find_fault,
    package_name,
    suggest_name,
)
from litml.build import build_project
from litml.new import (
    export_files,
    list_templates,
    new_project,
    read_template,
    render_template,
    templates_dir,
)
from litml.notebook import Cell, read_notebook
from litml.package import ExportReport, export_project
from litml.preflight import read_settings
from litml.project import find_project, list_notebooks
from litml.run import make_policy, run_notebook
from litml.saving import save_outputs
from litml.version import read_notes, read_version, release_notes

ADA = Answers("my-lib", "A small library.", "Ada", "ada@example.org", 1843)
TOOLS = Path(sys.executable).parent

ODD_ANSWERS = [
    dataclasses.replace(ADA, name="x", email=""),
    dataclasses.replace(
        ADA,
        name="a-very-long-name-for-a-library-that-nobody-would-want-to-type-twice",
        description='Nets that say "hello" \\o/ and """quote""" – ’tis {{so}} long that'
        " it cannot stay on one line of any file, and has a # and a [link](x) in it",
        author='O\'Brien "Bob" Ünal, @@name@@ \\',
    ),
]


def run(root: Path, *command: str) -> str:
    """Run a command in the project; return what it printed, or fail with that."""
    env = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("new") / "my-lib"
    new_project(target, ADA)
    return target


def test_a_new_project_passes_its_own_checks(project: Path) -> None:
    check_project(project)
    run(project, "mypy")
    names = [one.path.name for one in build_project(find_project(project))]
    assert names == ["my_lib-0.0.1-py3-none-any.whl", "my_lib-0.0.1.tar.gz"]


@pytest.mark.parametrize(
    "template", [name for name in list_templates() if name != "package"]
)
def test_so_do_those_of_the_other_templates(tmp_path: Path, template: str) -> None:
    """Their types and their wheels are tried by the workflow: that takes minutes."""
    if template == "training":
        pytest.importorskip("torch")
    new_project(tmp_path / "my-lib", ADA, template)
    check_project(tmp_path / "my-lib")


def check_project(root: Path) -> None:
    """What a new project is checked with, tests and documentation included."""
    run(root, "litml", "export", "--check")
    run(root, "litml", "clean", "--check")
    run(root, "litml", "sync", "--check")
    run(root, "ruff", "check")
    run(root, "ruff", "format", "--check")
    passed = run(root, sys.executable, "-m", "pytest", "-q")
    assert "failed" not in passed and "passed" in passed
    run(root, "litml", "docs", "--strict")


@pytest.mark.slow  # mypy reads all of PyTorch
@pytest.mark.parametrize(
    "template", [name for name in list_templates() if name != "package"]
)
def test_types_of_the_other_templates(tmp_path: Path, template: str) -> None:
    if template == "training":
        pytest.importorskip("torch")
    new_project(tmp_path / "my-lib", ADA, template)
    run(tmp_path / "my-lib", "mypy")


def test_templates_import_what_litml_exports() -> None:
    """A name that a module only happens to have is none of it for a type checker."""
    package, found = Path(litml.__path__[0]), 0
    for path in templates_dir().glob("*/nbs/*.ipynb"):
        text = "\n".join(cell.source for cell in read_notebook(path).cells)
        for module, names in re.findall(r"from litml\.(\S+) import ([\w, ]+)", text):
            place = package / module.replace(".", "/")
            file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
            tree = ast.parse(file.read_text("utf-8"))
            public = {
                name
                for node in tree.body
                if isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "__all__"
                for name in ast.literal_eval(node.value)
            }
            assert set(names.split(", ")) <= public, f"{path.name}, litml.{module}"
            found += 1
    assert found > 5


@pytest.mark.parametrize("template", list_templates())
@pytest.mark.parametrize("answers", ODD_ANSWERS, ids=["short", "long"])
def test_checks_pass_whatever_the_answers(
    tmp_path: Path, answers: Answers, template: str
) -> None:
    target = tmp_path / answers.name
    new_project(target, answers, template)
    about = tomllib.loads((target / "pyproject.toml").read_text())["project"]
    assert about["description"] == answers.description
    assert about["authors"][0]["name"] == answers.author
    assert ("email" in about["authors"][0]) == bool(answers.email)
    assert answers.author in (target / "LICENSE").read_text()
    init = ast.parse((target / answers.package / "__init__.py").read_text())
    said = " ".join((ast.get_docstring(init) or "").split())
    assert said == " ".join(answers.description.split())
    run(target, "ruff", "check")
    run(target, "ruff", "format", "--check")


@pytest.mark.parametrize("template", ["package", "course"])  # training varies a little
def test_the_outputs_shown_are_those_of_the_code(tmp_path: Path, template: str) -> None:
    new_project(tmp_path / "my-lib", ADA, template)
    opened = find_project(tmp_path / "my-lib")
    for path in list_notebooks(opened):
        notebook = read_notebook(path, opened.name_of(path))
        again = save_outputs(notebook, run_notebook(notebook, make_policy(opened)))
        for shown, made in zip(notebook.cells, again.cells, strict=True):
            texts = [plain_text(shown), plain_text(made)]
            assert texts[0] == texts[1], f"{path.name}, cell {shown.id}"


def plain_text(cell: Cell) -> str:
    """Return what a cell put out, as plain text."""
    parts = []
    for output in cell.outputs:
        text = output.get("text") or output["data"]["text/plain"]
        parts.append(text if isinstance(text, str) else "".join(text))
    return "".join(parts)


def test_files_that_are_there(project: Path) -> None:
    names = {path.relative_to(project).as_posix() for path in project.rglob("*")}
    wanted = {"README.md", "LICENSE", "CHANGELOG.md", ".gitignore", "my_lib/py.typed"}
    assert wanted | {".github/workflows/ci.yml", "my_lib/core.py"} <= names
    assert {".pre-commit-config.yaml", ".devcontainer/devcontainer.json"} <= names
    assert "1843 Ada" in (project / "LICENSE").read_text()
    assert export_project(find_project(project), check=True) == ExportReport()
    if os.name != "nt":
        umask = os.umask(0)
        os.umask(umask)
        assert project.stat().st_mode & 0o777 == 0o777 & ~umask


def test_a_new_project_can_be_released(project: Path) -> None:
    """Its settings and its changelog are what `litml release` asks for."""
    settings = read_settings(find_project(project))
    assert settings.publish == "ci"
    changelog = (project / settings.changelog).read_text()
    assert not read_notes(changelog).empty
    assert "## 0.1.0 - 1843-12-10" in release_notes(changelog, "0.1.0", "1843-12-10")
    assert read_version((project / "pyproject.toml").read_text(), "pyproject.toml")


@pytest.mark.parametrize("there", ["file", "folder", "link", "dangling"])
def test_what_is_there_is_left_alone(tmp_path: Path, there: str) -> None:
    target, other = tmp_path / "my-lib", tmp_path / "other"
    if there == "file":
        target.write_text("mine")
    elif there == "folder":
        target.mkdir()
        (target / "notes.txt").write_text("mine")
    else:
        target.symlink_to(other)
        if there == "link":
            other.mkdir()
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(NewError, match="exists and is not an empty folder"):
        new_project(target, ADA)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "my-lib").mkdir()
    new_project(tmp_path / "my-lib", ADA)
    assert (tmp_path / "my-lib" / "README.md").exists()


def test_a_folder_that_fills_up_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "my-lib"
    files = {"a.txt": b"a"}

    def fill(_: object) -> dict[str, bytes]:
        target.mkdir()
        (target / "theirs.txt").write_text("theirs")
        return files

    monkeypatch.setattr("litml.new.export_files", fill)
    with pytest.raises(NewError):
        new_project(target, ADA)
    assert [path.name for path in tmp_path.rglob("*")] == ["my-lib", "theirs.txt"]


BREAK = """
import os, resource, signal, sys
from pathlib import Path
from litml import new

def kill_at(owner, name, number, kind):
    whole, calls = getattr(owner, name), []
    def broken(*arguments, **more):
        calls.append(1)
        if len(calls) == number:
            os.kill(os.getpid(), kind)
        return whole(*arguments, **more)
    setattr(owner, name, broken)

answers = new.Answers("my-lib", "A small library.", "Ada", "", 1843)
exec(sys.argv[1])
new.new_project(Path("my-lib"), answers)
"""


def break_new(folder: Path, how: str) -> subprocess.CompletedProcess[str]:
    """Run `new_project` in a process that meets with an accident."""
    command = [sys.executable, "-c", BREAK, how]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    "moment",
    ["Path, 'write_bytes', 3", "Path, 'write_bytes', 18", "Path, 'rename', 1"],
    ids=["export", "writing", "rename"],
)
def test_killed_it_leaves_no_project(tmp_path: Path, moment: str) -> None:
    done = break_new(tmp_path, f"kill_at({moment}, signal.SIGKILL)")
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "my-lib").exists()
    new_project(tmp_path / "my-lib", ADA)
    project = find_project(tmp_path / "my-lib")
    assert export_project(project, check=True) == ExportReport()


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    done = break_new(tmp_path, "kill_at(Path, 'write_bytes', 18, signal.SIGINT)")
    assert "KeyboardInterrupt" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("place", ["export_files", "write_folder"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, place: str) -> None:
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (900, 900))"
    how = f"""
whole = new.{place}
def full(*arguments):
    {limit}
    return whole(*arguments)
new.{place} = full
"""
    done = break_new(tmp_path, how)
    assert "NewError: cannot make `my-lib`: File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("my lib", "my-lib"),
        ("it's", "its"),
        ('say "x"', "say-x"),
        ("../../evil", "evil"),
        ("/etc/passwd", "passwd"),
        ("a\\b", "b"),
        ("..", "library"),
        ("", "library"),
        ("class", "my-class"),
        ("3d-nets", "my-3d-nets"),
        ("json", "my-json"),
        ("Random", "my-random"),
        ("litml", "my-litml"),
        ("my\nlib", "my-lib"),
        ("-rf", "rf"),
        ("naïve", "naive"),
    ],
)
def test_a_bad_name_is_refused_with_a_better_one(
    tmp_path: Path, name: str, better: str
) -> None:
    with pytest.raises(NewError) as caught:
        new_project(tmp_path / "target", dataclasses.replace(ADA, name=name))
    assert caught.value.hint == f"what about `{better}`?"
    assert list(tmp_path.iterdir()) == []


@given(st.text())
def test_every_suggested_name_will_do(text: str) -> None:
    assert find_fault(suggest_name(text)) is None


@given(st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True))
def test_a_name_without_fault_can_be_imported(name: str) -> None:
    package = package_name(name)
    if find_fault(name) is None:
        assert package.isidentifier() and not keyword.iskeyword(package)
        assert package not in sys.stdlib_module_names
        assert suggest_name(name).replace("-", "") == name.lower().translate(
            {ord(mark): None for mark in "-_."}
        )


PRINTABLE = st.text(min_size=1, max_size=80).filter(str.isprintable)


@settings(max_examples=15, deadline=None)
@given(PRINTABLE.filter(lambda text: text.strip()), PRINTABLE)
def test_any_answer_gives_files_that_can_be_read(description: str, author: str) -> None:
    answers = dataclasses.replace(ADA, description=description, author=author)
    files = export_files(render_template(read_template("package"), answers))
    about = tomllib.loads(files["pyproject.toml"].decode())["project"]
    assert about["description"] == description
    assert about["authors"][0]["name"] == author
    assert json.loads(files["nbs/index.ipynb"])["nbformat"] == 4
    ast.parse(files["my_lib/__init__.py"])


def test_answers_that_make_no_sense() -> None:
    for more in ({"description": "a\nb"}, {"author": "\x1b[31m"}, {"email": "a b@c"}):
        with pytest.raises(NewError):
            find_answers("my-lib", **more)


def test_answers_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    answers = find_answers("my-lib")
    assert (answers.author, answers.email) == ("The my-lib authors", "")
    assert answers.year >= 2026


def test_answers_from_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.chdir(tmp_path)
    config.write_text("[user]\nname = Ada L\nemail = ada@example.org\n")
    answers = find_answers("my-lib")
    assert (answers.author, answers.email) == ("Ada L", "ada@example.org")
    config.write_text("[user]\nname = Ada L\nemail = nobody at all\n")
    assert find_answers("my-lib").email == ""


def test_the_templates_travel_in_the_wheel() -> None:
    """The wheel's table puts `templates/` where `templates_dir` looks first."""
    path = Path(__file__).parents[1] / "pyproject.toml"
    hatch = tomllib.loads(path.read_text())["tool"]["hatch"]["build"]["targets"]
    assert hatch["wheel"]["force-include"] == {"templates": "litml/templates"}
    assert "/templates" in hatch["sdist"]["include"]
    assert "package" in list_templates()


def test_the_first_edit_is_exported(tmp_path: Path) -> None:
    """Whether the project comes into a repository before or after it."""
    for name, git in (("with-git", True), ("without", False)):
        root = tmp_path / name
        new_project(root, find_answers(name, "", "Ada", "ada@example.org"))
        if git:
            subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        path = root / "nbs/00_core.ipynb"
        path.write_text(path.read_text().replace("def ", "def also_", 1))
        report = export_project(find_project(root))
        assert not report.stale
        assert report.written
        assert (root / ".litml").exists() is not git
