"""Building and proving, with real wheels, environments and failures."""

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from litml.build import (
    BuildError,
    build_project,
    list_exported,
    make_environment,
    missing_requirements,
    try_import,
)
from litml.notebook import LitmlError
from litml.package import export_project
from litml.project import Project, find_project
from litml.trial import TrialError

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "tiny-nets"
version = "0.2.0"
requires-python = ">=3.11"

[tool.litml]
"""


def write_notebook(root: Path, name: str, **cells: str) -> None:
    code: list[dict[str, object]] = [
        {
            "cell_type": "code",
            "id": cell,
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": f"#| export\n{source}",
        }
        for cell, source in cells.items()
    ]
    path = root / "nbs" / f"{name}.ipynb"
    path.parent.mkdir(exist_ok=True)
    tree = {"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(tree))


def make_project(root: Path, more: str = "", **nets: str) -> Project:
    """Make a project of two modules, `layers` and `nets`, and export it."""
    root.mkdir(exist_ok=True)
    (root / "pyproject.toml").write_text(PYPROJECT + more)
    write_notebook(root, "00_layers", double="def double(x):\n    return 2 * x")
    nets = nets or {"net": "def net(x):\n    return x + 1"}
    imports = "from tiny_nets.layers import double"
    write_notebook(root, "01_nets", imports=imports, **nets)
    project = find_project(root)
    assert not export_project(project).problems
    return project


def refuse_build(project: Project, isolated: bool | None = None) -> BuildError:
    """Build, expect a `BuildError`, and check that nothing was left."""
    with pytest.raises(BuildError) as caught:
        build_project(project, isolated)
    assert not (project.root / "dist").exists()
    return caught.value


def test_both_artifacts_hold_the_modules_and_the_wheel_works(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    said: list[str] = []
    wheel, sdist = build_project(project, report=said.append)
    assert [wheel.path.name, sdist.path.name] == [
        "tiny_nets-0.2.0-py3-none-any.whl",
        "tiny_nets-0.2.0.tar.gz",
    ]
    assert said[-1] == "importing 2 modules from it"
    with tarfile.open(sdist.path) as archive:
        assert "tiny_nets-0.2.0/tiny_nets/nets.py" in archive.getnames()
    code = "from tiny_nets.nets import double, net; print(net(double(3)))"
    env = {**os.environ, "PYTHONPATH": str(wheel.path)}
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, env=env, cwd=tmp_path.parent) == b"7\n"
    assert not list(tmp_path.glob("*build*")), "the work tree is left alone"


@pytest.mark.parametrize(
    ("table", "ignored"),
    [
        ('[tool.hatch.build.targets.wheel]\nexclude = ["nets.py"]', ""),
        ('[tool.hatch.build.targets.sdist]\nexclude = ["nets.py"]', ""),
        ("", "nets.py\n"),
    ],
    ids=["wheel", "sdist", "gitignore"],
)
def test_a_wheel_without_a_module_is_refused(
    tmp_path: Path, table: str, ignored: str
) -> None:
    project = make_project(tmp_path, table)
    (tmp_path / ".gitignore").write_text(ignored)
    error = refuse_build(project)
    assert error.message == "the wheel lacks `tiny_nets.nets` (nbs/01_nets.ipynb)"
    assert "[tool.hatch.build.targets.wheel]" in (error.hint or "")


def test_a_wheel_with_another_text_is_refused(tmp_path: Path) -> None:
    table = """
[tool.hatch.build.targets.wheel]
exclude = ["nets.py"]
[tool.hatch.build.targets.wheel.force-include]
"other.txt" = "tiny_nets/nets.py"
"""
    project = make_project(tmp_path, table)
    (tmp_path / "other.txt").write_text("net = None")
    error = refuse_build(project)
    assert error.message == "the wheel has another `tiny_nets.nets`"


def test_a_wheel_with_another_version_is_refused(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    text = (tmp_path / "pyproject.toml").read_text()
    backend = 'requires = []\nbuild-backend = "odd"\nbackend-path = ["."]\n[project]'
    head, tail = text.split("[project]")
    head = head.split("requires")[0]
    (tmp_path / "pyproject.toml").write_text(head + backend + tail)
    odd = """
from hatchling.build import *
from hatchling import build
from pathlib import Path

def build_wheel(directory, config_settings=None, metadata_directory=None):
    path = Path("pyproject.toml")
    path.write_text(path.read_text().replace("0.2.0", "0.3.0"))
    return build.build_wheel(directory, config_settings, metadata_directory)
"""
    (tmp_path / "odd.py").write_text(odd)
    error = refuse_build(project)
    assert error.message == "the wheel's version is `0.3.0`, the project's `0.2.0`"


def test_a_module_that_does_not_import_is_named_at_its_line(tmp_path: Path) -> None:
    bad = "LIMIT = 3\n\n\ndef read():\n    return open('words.txt').read()"
    project = make_project(tmp_path, read=bad, words="\nWORDS = 1\n\nWORDS = read()")
    (tmp_path / "words.txt").write_text("only here")
    error = refuse_build(project)
    assert "`tiny_nets.nets` does not import from the wheel" in error.message
    assert "FileNotFoundError" in error.message
    assert str(error.at) == "nbs/01_nets.ipynb, cell read, line 6"


def test_a_src_layout_and_modules_in_folders(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "nbs" / "deep").mkdir(parents=True)
    write_notebook(tmp_path, "index", version="VERSION = 1")
    write_notebook(tmp_path, "deep/02_inner", fail="raise SystemExit('no')")
    project = make_project(tmp_path)
    names = [module.name for module in list_exported(project)]
    inner = "tiny_nets.deep.inner"
    assert names == ["tiny_nets", inner, "tiny_nets.layers", "tiny_nets.nets"]
    error = refuse_build(project)
    assert error.message == f"`{inner}` does not import from the wheel: SystemExit: no"
    assert str(error.at) == "nbs/deep/02_inner.ipynb, cell fail, line 2"


def test_a_dependency_that_is_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    project = make_project(tmp_path)
    text = (tmp_path / "pyproject.toml").read_text()
    more = '\ndependencies = ["litml-is-not-called-this>=3"]\n[tool.litml]'
    (tmp_path / "pyproject.toml").write_text(text.replace("\n[tool.litml]", more))
    error = refuse_build(project)
    assert error.message.startswith("the wheel cannot be installed")
    assert "litml-is-not-called-this>=3" in error.message


def test_a_back_end_that_is_not_here_gets_an_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    project = make_project(tmp_path)
    text = (tmp_path / "pyproject.toml").read_text()
    text = text.replace('["hatchling"]', '["hatchling>=999"]')
    (tmp_path / "pyproject.toml").write_text(text)
    assert missing_requirements(tmp_path) == ["hatchling>=999"]
    error = refuse_build(project)
    assert "No matching distribution found for hatchling>=999" in error.message
    error = refuse_build(project, isolated=False)
    assert "Unmet dependencies" in error.message


def test_a_forgotten_export_is_found_before_building(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    write_notebook(tmp_path, "02_more", more="MORE = 1")
    error = refuse_build(project)
    assert error.message == "not what the notebooks export: tiny_nets/more.py"
    (tmp_path / "nbs" / "02_more.ipynb").write_text("{")
    with pytest.raises(LitmlError, match="02_more"):
        build_project(project)


def test_a_project_that_exports_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "nbs").mkdir()
    (tmp_path / "tiny_nets").mkdir()
    (tmp_path / "tiny_nets" / "__init__.py").write_text("")
    assert (
        refuse_build(find_project(tmp_path)).message == "no notebook exports anything"
    )


def test_what_dist_held_survives_a_failure(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    before = build_project(project)
    write_notebook(tmp_path, "02_more", more="raise OSError(1)")
    export_project(project)
    with pytest.raises(BuildError):
        build_project(project)
    held = {path: path.read_bytes() for path in (tmp_path / "dist").iterdir()}
    assert sorted(held) == [one.path for one in before]
    wheel = zipfile.ZipFile(io.BytesIO(held[before[0].path]))
    assert "tiny_nets/more.py" not in wheel.namelist()


def test_every_way_an_import_can_end(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "venv")
    site = next((tmp_path / "venv").rglob("site-packages"))
    modules = {
        "fine": "print('noise')",
        "gone": "import os; os._exit(3)",
        "noisy": "print('half a line', end=''); raise ValueError('two\\nlines')",
        "wrong": "def f(:",
        "absent": "import fine.inner",
    }
    for name, text in modules.items():
        (site / f"{name}.py").write_text(text)
    assert try_import(python, "fine") is None
    results = {name: try_import(python, name) for name in modules}
    reasons = {name: one.reason for name, one in results.items() if one}
    assert reasons.pop("wrong").startswith("SyntaxError")
    assert reasons.pop("absent").startswith("ModuleNotFoundError")
    assert reasons == {
        "gone": "exit status 3.",
        "noisy": "ValueError: two\nlines",
    }
    assert results["wrong"] and results["wrong"].frames[-1][1] == 1
    (site / "stuck.py").write_text("import time; time.sleep(60)")
    stuck = try_import(python, "stuck", timeout=0.5)
    assert stuck and stuck.reason == "no end within 0.5 seconds"


@pytest.mark.slow  # builds three times
def test_a_notebook_that_needs_what_the_wheel_lacks(tmp_path: Path) -> None:
    """All is well beside the package, and every module imports from the wheel."""
    more = "\n[tool.hatch.build.targets.wheel]\nexclude = ['*.txt']\n"
    read = "from pathlib import Path\n\n\ndef net():\n"
    read += "    return Path(__file__).with_name('table.txt').read_text()"
    project = make_project(tmp_path, more, net=read)
    (project.package_dir / "table.txt").write_text("1 2 3")
    path = project.root / "nbs/02_use.ipynb"
    write_notebook(
        project.root, "02_use", use="from tiny_nets.nets import net\n\nnet()"
    )
    path.write_text(path.read_text().replace("#| export\\n", ""))
    assert len(build_project(project)) == 2
    before = path.read_bytes()
    with pytest.raises(TrialError) as caught:
        build_project(project, notebooks=True)
    assert str(caught.value.at) == "nbs/02_use.ipynb, cell use, line 3"
    assert "FileNotFoundError" in caught.value.message
    text = (project.root / "pyproject.toml").read_text()
    (project.root / "pyproject.toml").write_text(text.replace("*.txt", "*.csv"))
    said: list[str] = []
    build_project(project, None, said.append, notebooks=True)
    assert said[-1] == "running nbs/02_use.ipynb with the installed wheel"
    assert path.read_bytes() == before
