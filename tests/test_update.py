"""`litml new --update`: each row of its table, in a project with a real history."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import ENVIRONMENT
from hypothesis import given, settings
from hypothesis import strategies as st

import litml.new
import litml.update
from litml.answers import Answers, NewError
from litml.new import RECORD, Template, new_project, read_template
from litml.notebook import parse_notebook
from litml.package import ExportReport, export_project
from litml.project import find_project
from litml.update import Step, decide, read_record, update_project

ADA = Answers("my-lib", "A small library.", "Ada", "ada@example.org", 1843)
CI = ".github/workflows/ci.yml"
PACKAGE = read_template("package")


class Made:
    """A project, committed, and a template that can be changed under it."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.patch = root, patch
        new_project(root, ADA)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=self.root, env=ENVIRONMENT, capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "x")

    def template(self, **changes: tuple[str, str] | str | None) -> None:
        """Let the template be another: texts replaced, files added or taken away."""
        files = dict(PACKAGE.files)
        for name, change in changes.items():
            if isinstance(change, tuple):
                old, new = (part.encode() for part in change)
                assert old in files[name], f"{old!r} is not in the template"
                files[name] = files[name].replace(old, new)
            elif change is None:
                del files[name]
            else:
                files[name] = change.encode()
        found = Template("package", files)
        self.patch.setattr(litml.update, "read_template", lambda name: found)

    def change(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        (self.root / name).write_text(text.replace(old, new))

    def update(self) -> dict[str, Step]:
        steps = update_project(find_project(self.root))
        return {step.path: step for step in steps if step.action != "same"}

    def actions(self) -> dict[str, str]:
        return {path: step.action for path, step in self.update().items()}

    def files(self) -> Mapping[str, bytes]:
        names = self.git("ls-files", "-co", "--exclude-standard").splitlines()
        paths = {name: self.root / name for name in names}
        return {
            name: path.read_bytes() for name, path in paths.items() if path.exists()
        }

    def read(self, name: str) -> str:
        return (self.root / name).read_text()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    return Made(tmp_path / "my-lib", monkeypatch)


# Each row ----------------------------------------------------------------------------


def test_nothing_new_changes_nothing(made: Made) -> None:
    before = made.files()
    assert made.update() == {}
    assert made.files() == before
    assert made.git("status", "--porcelain") == ""


def test_ids_are_those_of_git(made: Made) -> None:
    listed = made.git("ls-files", "--stage").splitlines()
    ids = {line.split("\t")[1]: line.split()[1] for line in listed}
    record = json.loads(made.read(RECORD))["files"]
    assert record.items() <= ids.items()
    assert {CI, "pyproject.toml", "nbs/index.ipynb"} <= record.keys()
    assert not {"my_lib/core.py", "README.md"} & record.keys(), "made by the export"


def test_a_file_nobody_touched_is_replaced(made: Made) -> None:
    made.template(**{"dot_gitignore": ("build/", "wheels/")})
    assert made.actions() == {".gitignore": "replaced"}
    assert "wheels/" in made.read(".gitignore") and "build/" not in made.read(
        ".gitignore"
    )
    assert made.update() == {}


def test_a_file_only_the_user_changed_is_kept(made: Made) -> None:
    made.change("pyproject.toml", "dependencies = []", 'dependencies = ["attrs"]')
    before = made.read("pyproject.toml")
    assert made.actions() == {"pyproject.toml": "kept"}
    assert made.read("pyproject.toml") == before


def test_a_deleted_file_stays_deleted(made: Made) -> None:
    (made.root / CI).unlink()
    made.template(**{"dot_github/workflows/ci.yml": ("name: ci", "name: checks")})
    for _ in range(2):
        assert made.actions() == {CI: "deleted"}
        assert not (made.root / CI).exists()


def test_a_new_file_is_added(made: Made) -> None:
    made.template(**{"dot_vscode/settings.json": "{}\n"})
    assert made.actions() == {".vscode/settings.json": "added"}
    assert made.read(".vscode/settings.json") == "{}\n"
    (made.root / ".vscode/settings.json").unlink()
    assert made.actions() == {".vscode/settings.json": "deleted"}


def test_what_both_changed_is_merged(made: Made) -> None:
    made.change("pyproject.toml", "dependencies = []", 'dependencies = ["attrs"]')
    made.template(**{"pyproject.toml.tmpl": ("strict = true", "strict = false")})
    assert made.update() == {
        "pyproject.toml": Step("pyproject.toml", "merged", made_of(made), 0)
    }
    text = made.read("pyproject.toml")
    assert 'dependencies = ["attrs"]' in text and "strict = false" in text


def made_of(made: Made) -> bytes:
    return (made.root / "pyproject.toml").read_bytes()


def test_a_conflict_is_counted_and_both_sides_stand(made: Made) -> None:
    made.change("pyproject.toml", "strict = true", "strict = 1")
    made.template(**{"pyproject.toml.tmpl": ("strict = true", "strict = false")})
    step = made.update()["pyproject.toml"]
    assert (step.action, step.conflicts) == ("merged", 1)
    text = made.read("pyproject.toml")
    for line in ("<<<<<<< yours", "strict = 1", "strict = true", "strict = false"):
        assert line in text


def test_notebooks_are_merged_by_cells(made: Made) -> None:
    """And open, with a conflict in them, too."""
    name = "nbs/00_core.ipynb"
    made.change(name, "A score can be any number", "A score is any number")
    made.template(
        **{name: ("Together they answer the question", "They answer the question")}
    )
    assert made.actions() == {name: "merged"}
    texts = [one.source for one in parse_notebook(made.files()[name], name).cells]
    assert any(text.startswith("A score is any number") for text in texts)
    assert any(text.startswith("They answer the question") for text in texts)
    assert not export_project(find_project(made.root)).problems
    made.commit()
    made.change(name, "They answer the question", "This answers the question")
    made.template(
        **{name: ("Together they answer the question", "That is the question")}
    )
    assert made.update()[name].conflicts == 1
    parse_notebook(made.files()[name], name)


@pytest.mark.parametrize("why", ["no repository", "not committed", "no commit of it"])
def test_without_a_base_the_new_text_is_offered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    made = Made(tmp_path / "my-lib", monkeypatch)
    made.change("pyproject.toml", "strict = true", "strict = 1")
    git = made.root / ".git"
    if why == "not committed":
        subprocess.run(["rm", "-rf", git], check=True)
        made.git("init", "--quiet")
    elif why == "no repository":
        subprocess.run(["rm", "-rf", git], check=True)
    else:
        made.commit()
        shallow = tmp_path / "shallow"
        words = ["clone", "--quiet", "--depth=1", made.root.as_uri(), str(shallow)]
        made.git(*words)
        made.root = shallow
    mine = made.read("pyproject.toml")
    record = json.loads(made.read(RECORD))["files"]["pyproject.toml"]
    made.template(**{"pyproject.toml.tmpl": ("strict = true", "strict = false")})
    for _ in range(2):
        assert made.actions() == {"pyproject.toml": "offered"}
        assert made.read("pyproject.toml") == mine
        assert "strict = false" in made.read("pyproject.toml.template-new")
        assert json.loads(made.read(RECORD))["files"]["pyproject.toml"] == record


def test_a_file_the_user_made_first_is_his(made: Made) -> None:
    (made.root / "Makefile").write_text("all:\n\ttrue\n")
    made.template(Makefile="test:\n\tpytest\n")
    assert made.actions() == {"Makefile": "offered"}
    assert made.read("Makefile") == "all:\n\ttrue\n"
    assert made.read("Makefile.template-new") == "test:\n\tpytest\n"


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_took_the_place_of_a_file_is_kept(made: Made, kind: str) -> None:
    place, other = made.root / "LICENSE", made.root / "other.txt"
    place.unlink()
    other.write_text("mine\n")
    place.mkdir() if kind == "folder" else place.symlink_to("other.txt")
    made.template(LICENSE="new\n")
    assert made.actions() == {"LICENSE": "kept"}
    assert place.is_dir() if kind == "folder" else place.is_symlink()
    assert other.read_text() == "mine\n"


def test_a_file_the_template_gave_up_is_left(made: Made) -> None:
    made.template(LICENSE=None)
    assert made.actions() == {}
    assert "1843 Ada" in made.read("LICENSE")
    assert "LICENSE" not in json.loads(made.read(RECORD))["files"]


# One after the other -----------------------------------------------------------------


def test_three_updates_of_a_file_that_was_merged(made: Made) -> None:
    """The base of the second merge was never a file; the record has it."""
    name, source = "pyproject.toml", "pyproject.toml.tmpl"
    made.change(name, "dependencies = []", 'dependencies = ["attrs"]')
    made.commit()
    for number, line in enumerate(["strict = 2", "strict = 3", "strict = 4"]):
        made.template(**{source: ("strict = true", line)})
        step = made.update()[name]
        assert (step.action, step.conflicts) == ("merged", 0)
        assert line in made.read(name) and '"attrs"' in made.read(name)
        assert made.actions() == {name: "kept"}
        if number:  # also where the history has been cut off
            made.commit()
            other = made.root.with_name(f"clone-{number}")
            uri = made.root.as_uri()
            made.git("clone", "--quiet", "--depth=1", uri, str(other))
            made.root = other


def test_a_new_version_moves_the_requirement(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("litml.__version__", "7.1.0")
    assert made.actions() == {"pyproject.toml": "replaced"}
    assert "litml[docs,release]>=7.1.0,<8" in made.read("pyproject.toml")
    assert read_record(made.root).litml == "7.1.0"
    monkeypatch.setattr("litml.__version__", "7.0.0")
    with pytest.raises(NewError, match="newer litml"):
        made.update()


TEXT = st.lists(st.sampled_from("abcdef"), max_size=6).map(
    lambda lines: "".join(f"{line}\n" for line in lines).encode()
)


@settings(max_examples=60, deadline=None)
@given(TEXT, TEXT, TEXT)
def test_no_line_of_the_user_is_lost(base: bytes, mine: bytes, new: bytes) -> None:
    """Unless the template took it away, and the user had left it as it was."""
    step = decide("x", mine, new, litml.new.blob_id(base), lambda: base)
    after = mine if step.content is None else step.content
    added = set(mine.split()) - set(base.split())
    assert added <= set(after.split())


# What goes wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b"null", b'{"template": 1}'],
)
def test_a_record_that_is_none(made: Made, content: bytes) -> None:
    (made.root / RECORD).write_bytes(content)
    before = made.files()
    with pytest.raises(NewError, match="not a record") as caught:
        made.update()
    assert caught.value.hint and RECORD in caught.value.hint
    assert made.files() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("template", "no-such"),
        ("litml", "x"),
        ("litml", None),
        ("answers", {**dataclasses.asdict(ADA), "name": "../evil"}),
        ("answers", {**dataclasses.asdict(ADA), "year": "now"}),
        ("answers", {}),
        ("answers", []),
        ("files", []),
        ("files", {"LICENSE": "--batch"}),
        ("files", {"LICENSE": 1}),
        ("texts", {"LICENSE": 1}),
        ("more", 1),
    ],
)
def test_a_record_that_somebody_has_edited(made: Made, key: str, value: object) -> None:
    tree = {**json.loads(made.read(RECORD)), key: value}
    (made.root / RECORD).write_text(json.dumps(tree))
    before = made.files()
    with pytest.raises(NewError):
        made.update()
    assert made.files() == before


def test_a_folder_that_cannot_be_made(made: Made) -> None:
    made.template(**{"dot_gitignore/x": "x\n", "dot_gitignore": None})
    before = made.files()
    with pytest.raises(NewError, match="cannot write"):
        made.update()
    assert made.files() == before


KILL = """
import os, signal, sys
from pathlib import Path
from litml import files, new, update
from litml.project import find_project

whole, calls, number = os.replace, [], int(sys.argv[1])
def replace(*words):
    calls.append(1)
    if len(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(*words)
os.replace = replace
found = new.read_template("package")
changed = {name: data + b"\\n" for name, data in found.files.items() if b"on:" in data}
update.read_template = lambda name: new.Template(name, {**found.files, **changed})
print(len(update.update_project(find_project())))
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("number", [1, 2, 4])
def test_killed_it_is_finished_or_not_begun(made: Made, number: int) -> None:
    """The next command of litml finishes what was under way."""
    command = [sys.executable, "-c", KILL, str(number)]
    done = subprocess.run(command, cwd=made.root, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    export_project(find_project(made.root))
    changed = made.git("diff", "--name-only").split()
    assert changed == [] or (CI in changed and RECORD in changed)
    again = subprocess.run(
        [*command[:-1], "99"], cwd=made.root, capture_output=True, text=True
    )
    assert again.returncode == 0, again.stderr
    assert CI in made.git("diff", "--name-only").split()
    assert not list(made.root.rglob("*.litml-new"))


def test_the_export_follows(made: Made) -> None:
    made.template(**{"nbs/00_core.ipynb": ("overflows for a score", "fails for one")})
    assert made.actions() == {"nbs/00_core.ipynb": "replaced"}
    project = find_project(made.root)
    export_project(project)
    assert export_project(project, check=True) == ExportReport()


# The command -------------------------------------------------------------------------


def run_command(folder: Path, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-P", "-m", "litml", "new", *words]
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


def test_the_command(made: Made) -> None:
    assert run_command(made.root, "--update") == (
        0,
        "nothing to do: the template has nothing new\n",
    )
    record = json.loads(made.read(RECORD))
    made.change("LICENSE", "MIT License", "MIT")
    record["files"]["LICENSE"] = litml.new.blob_id(b"never committed")
    record["texts"]["CHANGELOG.md"] = made.read("CHANGELOG.md").replace(
        "A first", "The 1st"
    )
    made.change("CHANGELOG.md", "A first", "A second")
    text = record["texts"]["CHANGELOG.md"].encode()
    record["files"]["CHANGELOG.md"] = litml.new.blob_id(text)
    (made.root / RECORD).write_text(json.dumps(record))
    code, said = run_command(made.root, "--update")
    assert code == 1
    assert "offered: LICENSE.template-new\n" in said
    assert "merged: CHANGELOG.md, conflicts: 1\n" in said


@pytest.mark.parametrize("words", [[], ["my-lib", "--update"]])
def test_a_name_or_an_update(tmp_path: Path, words: list[str]) -> None:
    code, said = run_command(tmp_path, *words)
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "hint: `litml new NAME`, or `litml new --update`" in said
