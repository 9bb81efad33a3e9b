"""An nbdev project exports as it is: same modules, same syntax trees.

`projects/nbdev_*` are small nbdev projects, one for each family of rules; the folder
of the same name in `golden/` holds what nbdev itself wrote for it. To look at the
goldens again with a real nbdev, name its command:

    NBDEV_3=…/bin/nbdev-export NBDEV_23=…/bin/nbdev_export pytest tests

The number in a project's name is the nbdev that wrote its golden: 3 is 3.3.26, 23 is
2.3.25, 24 is 2.4.14.

Not compared, because they carry no meaning or are nbdev's own bookkeeping: comments and
layout, whether an import of the package is relative, the order of `__all__`, the symbol
index, and in `__init__.py` the version and the package's docstring.
"""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROJECTS = sorted(path.name for path in (HERE / "projects").glob("nbdev_*"))


# The comparison ----------------------------------------------------------------------


class AbsoluteImports(ast.NodeTransformer):
    """Spell every relative import from the top of the package."""

    def __init__(self, package: tuple[str, ...]) -> None:
        self.package = package

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.level:
            parents = self.package[: len(self.package) - node.level + 1]
            node.module = ".".join([*parents, *([node.module] if node.module else [])])
            node.level = 0
        return node


def is_assignment(node: ast.stmt, name: str) -> bool:
    """Is `node` the plain assignment `name = …`?"""
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == name
    )


def public_names(tree: ast.Module) -> list[str]:
    """Take every `__all__ = …` out of `tree` and return its names, sorted."""
    found = [node for node in tree.body if is_assignment(node, "__all__")]
    tree.body = [node for node in tree.body if node not in found]
    return sorted({n for node in found for n in ast.literal_eval(node.value)})


def drop_bookkeeping(tree: ast.Module) -> None:
    """Drop what nbdev itself adds to an `__init__.py`: version and docstring."""
    tree.body = [
        node
        for node in tree.body
        if not is_assignment(node, "__version__")
        and not (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        )
    ]


def meaning(source: str, module: Path) -> tuple[list[str], str]:
    """Return what counts of a module: its public names and its syntax tree.

    `module` is the file's path from the folder that holds the package.
    """
    tree = ast.parse(source, str(module))
    names = public_names(tree)
    if module.name == "__init__.py":
        drop_bookkeeping(tree)
    tree = AbsoluteImports(module.parent.parts).visit(tree)
    return names, ast.dump(tree, indent=1)


def read_modules(package: Path) -> dict[str, tuple[list[str], str]]:
    """Return the meaning of every module under `package`, empty ones left out."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        module = path.relative_to(package.parent)
        if path.name == "_modidx.py":
            continue
        found = meaning(path.read_text(encoding="utf-8"), module)
        if path.name != "__init__.py" or found != meaning("", module):
            modules[module.as_posix()] = found
    return modules


# The tests ---------------------------------------------------------------------------


def copy_project(name: str, folder: Path) -> Path:
    """Copy `projects/name` into `folder`."""
    return Path(shutil.copytree(HERE / "projects" / name, folder / name))


def find_package(folder: Path) -> Path:
    """Return the one package in a golden folder."""
    [package] = [path for path in folder.iterdir() if path.is_dir()]
    return package


def run(*command: object, cwd: Path) -> str:
    """Run a command, which must succeed, and return what it printed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def litml(*arguments: object, cwd: Path) -> str:
    """Run the litml command."""
    return run(sys.executable, "-m", "litml", *arguments, cwd=cwd)


@pytest.mark.parametrize("name", PROJECTS)
def test_export_means_what_nbdev_wrote(name: str, tmp_path: Path) -> None:
    if name.endswith("black"):
        pytest.importorskip("black", reason="nbdev formatted this golden with black")
    golden = find_package(HERE / "golden" / name)
    project = copy_project(name, tmp_path)
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}

    litml("export", "--out", tmp_path / "out" / golden.name, cwd=project)

    found, wanted = read_modules(tmp_path / "out" / golden.name), read_modules(golden)
    assert found.keys() == wanted.keys()
    for module in wanted:
        assert found[module] == wanted[module], module
    after = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    assert after == before, "an export to another folder leaves the project alone"


@pytest.mark.parametrize("name", PROJECTS)
def test_second_export_writes_nothing(name: str, tmp_path: Path) -> None:
    project, out = copy_project(name, tmp_path), tmp_path / "out"
    litml("export", "--out", out, cwd=project)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.py")}
    litml("export", "--out", out, cwd=project)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.py")}


def test_comparison_sees_a_difference() -> None:
    module = Path("lib/sub/a.py")
    same = meaning("from ..b import x\n__all__ = ['x', 'y']\n", module)
    assert same == meaning("from lib.b import x  # why\n__all__ = ['y', 'x']", module)
    assert same != meaning("from .b import x\n__all__ = ['x', 'y']\n", module)
    assert same != meaning("from ..b import x\n__all__ = ['x']\n", module)
    assert same != meaning("from ..b import z\n__all__ = ['x', 'y']\n", module)
    assert same != meaning("'''Doc.'''\nfrom lib.b import x\n__all__ = 'xy'", module)


@pytest.mark.parametrize("name", PROJECTS)
def test_golden_is_what_nbdev_writes(name: str, tmp_path: Path) -> None:
    variable = "NBDEV_" + name.split("_")[1]
    if variable not in os.environ:
        pytest.skip(f"the variable {variable} does not name nbdev's export command")
    golden = find_package(HERE / "golden" / name)
    project = copy_project(name, tmp_path)
    run(os.environ[variable], cwd=project)
    [package] = [path for path in project.rglob(golden.name) if path.is_dir()]
    assert read_modules(package) == read_modules(golden)
