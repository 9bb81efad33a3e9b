"""Adopting a package, and taking over an nbdev project: nothing is lost.

Two laws, each checked here by means of its own, independent of litml's:

- Exporting what was adopted gives the same syntax trees, docstrings included. `__all__`
  may stand elsewhere and in another order if the module had a plain list of it. No
  comment is lost: it is in the module or in the prose.
- A project taken over exports what nbdev wrote (`golden/`), or it is refused and every
  file is as it was.
"""

import ast
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tokenize
import tomllib
from importlib.util import decode_source, find_spec
from pathlib import Path

import nbformat
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from litml import adopt, takeover
from litml.adopt import AdoptReport, adopt_package
from litml.dissect import Source, dissect
from litml.files import locked, state_dir
from litml.notebook import LitmlError
from litml.package import export_project
from litml.patch import ungrow
from litml.project import Config, Project, find_project, open_project
from litml.settings import Facts, merge_settings
from litml.takeover import take_over

HERE = Path(__file__).parent


# The comparison ----------------------------------------------------------------------


def take_names(tree: ast.Module) -> set[str] | None:
    """Take a plain `__all__ = [...]` out of a tree; return its names."""
    names = None
    for node in list(tree.body):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets) == "__all__":
            try:
                names = set(ast.literal_eval(node.value))
            except (ValueError, TypeError):
                return None
            tree.body.remove(node)
    return names


def assert_same(before: str, after: str) -> None:
    """Assert that two texts are one module."""
    left, right = ast.parse(before), ast.parse(after)
    if ast.dump(left) != ast.dump(right):
        assert take_names(left) == take_names(right) is not None
        assert ast.dump(left) == ast.dump(right)


def comments_in(text: str) -> set[str]:
    """Return the comments of a text without what surrounds their words."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found = [one.string for one in tokens if one.type == tokenize.COMMENT]
    return {comment.strip("# -=*~+\t") for comment in found}


def prose_in(notebook: Path) -> str:
    cells = json.loads(notebook.read_bytes())["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] != "code")


def snapshot(root: Path) -> dict[str, bytes]:
    """Return every file of a project, without git's and litml's own notes."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not {".git", ".litml"} & set(path.parts)
    }


def make_package(root: Path, **modules: str) -> Path:
    """Write a package `demo` of the modules' texts, and its `pyproject.toml`."""
    root.mkdir(exist_ok=True)
    (root / "pyproject.toml").write_text('[project]\nname = "demo"\n')
    for name, text in {"__init__": "", **modules}.items():
        path = root / "demo" / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# Packages ----------------------------------------------------------------------------

INSTALLED = ["pluggy", "packaging", "nbformat", "build"]


@pytest.mark.parametrize("name", INSTALLED)
def test_installed_package_comes_back(name: str, tmp_path: Path) -> None:
    spec = find_spec(name)
    assert spec and spec.origin
    source = Path(spec.origin).parent
    skip = shutil.ignore_patterns("__pycache__", "tests")
    shutil.copytree(source, tmp_path / name, ignore=skip)
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "{name}"\n')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.py")}

    report = adopt_package(tmp_path)
    assert len(report.notebooks) + len(report.left) == len(before)
    for reason in (reason for _, reason in report.left):
        assert reason in ("there is no code in it", "it says that it is generated")
    for notebook in report.notebooks:
        nbformat.validate(nbformat.read(tmp_path / notebook, 4))
    prose = "\n".join(prose_in(tmp_path / notebook) for notebook in report.notebooks)
    for path, raw in before.items():
        text, after = decode_source(raw), path.read_text("utf-8")
        assert_same(text, after)
        lost = comments_in(text) - comments_in(after)
        assert not [comment for comment in lost if comment not in prose]

    project = find_project(tmp_path)
    check = export_project(project, check=True)
    assert (check.written, check.problems, check.stale) == ((), (), ())
    assert adopt_package(tmp_path).notebooks == ()


def test_adopted_package_runs_and_its_notebooks_are_tests(tmp_path: Path) -> None:
    root = make_package(
        tmp_path,
        __init__='"""Demo."""\nfrom .core import *\nfrom . import core as _core\n',
        core="from .inner.tools import twice\n\n__all__ = ['four']\n\n\n"
        "def four():\n    return twice(2)\n\n\ndef _two():\n    return 2\n",
        __main__="from demo import four\n\nif __name__ == '__main__':\n"
        "    print(four())\n",
        **{
            "inner.__init__": "",
            "inner.tools": "def twice(x):\n    return 2 * x\n",
        },
    )
    (root / "tests").mkdir()
    (root / "tests/test_core.py").write_text(
        "import demo\nfrom demo.core import four\n\n\ndef test_four():\n"
        "    assert four() == demo.four() == 4\n"
    )
    adopt_package(root, tests="tests")

    def run(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(root)}
        done = subprocess.run(
            [sys.executable, *words],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("-m", "demo") == "4\n"
    assert (
        run("-c", "from demo import *; print(four(), 'twice' in dir())") == "4 False\n"
    )
    notebook = next(root.glob("nbs/*_core.ipynb"))
    assert "four-example" in notebook.read_text()
    where = ("tests", notebook.relative_to(root).as_posix())
    assert "failed" not in run("-m", "pytest", "-q", "-p", "no:cacheprovider", *where)


# Modules -----------------------------------------------------------------------------

ODD = {
    "docstring with a line break": '"""\nText.\n\nMore.\n"""\nx = 1\n',
    "docstring without an end": '"""Text.\n\nMore."""\nx = 1\n',
    "docstring of one long line": f'"""{"word " * 30}"""\nx = 1\n',
    "docstring with quotes": '"""A \\"\\"\\" and a \\\\ and "this\\""""\nx = 1\n',
    "raw docstring": 'r"""A \\d."""\nx = 1\n',
    "docstring with a quote sign": '"""> Not a quote.\n\n#| export\n"""\nx = 1\n',
    "docstring and more on its line": '"""Text."""; x = 1\n',
    "docstring that is not one": "x = 1\n'''Text.'''\n",
    "docstring with a comment": '"""Text."""  # noqa: D400\nx = 1\n',
    "only a docstring": '"""Text."""\n',
    "only words around names": "# Words.\n\n'''Doc.'''\n\n__all__ = ['f']\n",
    "f-string first": 'f"{1}"\nx = 1\n',
    "future": '"""T."""\nfrom __future__ import annotations\n\nimport os\nx: y = 1\n',
    "future with more": "from __future__ import annotations; import os\nx = 1\n",
    "imports in between": "import b\nx = b.x\nimport a\nfrom c import *\ny = a.x\n",
    "guarded imports": "from typing import TYPE_CHECKING\n"
    "if TYPE_CHECKING:\n    import a\n",
    "tried imports": "try:\n    import a\nexcept ImportError:\n    a = None\nx = a\n",
    "overloads": "@overload\n"
    "def f(x: int): ...\n@overload\ndef f(x: str): ...\ndef f(x): 1\n",
    "defined twice": "def f(): 1\nx = f()\ndef f(): 2\ndef g(): 3\nf = g\n",
    "either definition": "if x:\n    def f(): 1\nelse:\n    def f(): 2\n",
    "dunders": "__version__ = '1'\n__author__ = 'A'\n__getattr__ = None\n",
    "no public names": "_x = 1\ndef _f(): ...\n",
    "all of it": "__all__ = ['f', 'x']\nx = 1\ndef f(): ...\n",
    "all at the end": "x = 1\ndef f(): ...\n__all__ = ('x', 'f')\n",
    "all of a part": "__all__ = ['x']\nx = 1\ny = 2\nz, x2 = 1, 2\n",
    "all of imports": "from a import b\n__all__ = ['b']\n",
    "all with private": "__all__ = ['_x', 'y']\n_x = y = 1\n",
    "all with comments": "__all__ = [\n    'x',  # the first\n]\nx = 1\n",
    "all that grows": "__all__ = ['x']\n__all__ += ['y']\nx = y = 1\n",
    "all of others": "import a\n__all__ = a.__all__ + ['x']\nx = 1\n",
    "all empty": "__all__ = []\nx = 1\n",
    "all conditional": "if 1:\n    __all__ = ['x']\nx = 1\n",
    "semicolons": "a = 1; b = 2; import c\nd = 3;\n",
    "tabs": "def f():\n\tif 1:\n\t\treturn 2\n",
    "form feed": "x = 1\n\f\ndef f(): ...\n\f\nclass C: ...\n",
    "continued lines": "x = 1 + \\\n    2\ny = (\n    3\n)\n",
    "marker in a string": "x = '''\n# %% x\n#| export\n%time\n'''\n",
    "marker in a comment": "# %% x\nx = 1\n# %% imports\nimport a\n",
    "letters": "π = 'ä€😀'\ndef größe(): ...\n",
    "comment at the end": "def f():\n    pass\n    # inside\n\n# outside\n",
    "comments at the top": "# Copyright 2020\n"
    "# mypy: strict\n\n# Some words.\n\nimport a\n",
    "comment in a column": "    # odd\nx = 1\n",
    "script": "def f(): ...\n"
    "\n\nif __name__ == '__main__':\n    raise SystemExit(f())\n",
    "decorated": "@a\n# why\n@b(\n    1\n)\n# and\nclass C(D): ...\n",
    "statement below": "def f(): ...\nf.x = 1\n\ng = f\ndel f\n",
    "top level code": "for i in range(3):\n    print(i)\nwith open('x') as f: pass\n",
    "no end of line": "x = 1",
    "escapes": "x = '\\ud800\\x00\\N{BULLET}'\n",
    "match": "match 1:\n    case 1:\n        x = 1\n",
}


@pytest.mark.parametrize("what", ODD)
def test_odd_module_comes_back(what: str, tmp_path: Path) -> None:
    root = make_package(tmp_path, odd=ODD[what])
    report = adopt_package(root)
    assert report.notebooks == ("nbs/01_odd.ipynb",), report.left
    after = (root / "demo/odd.py").read_text("utf-8")
    assert_same(ODD[what], after)
    lost = comments_in(ODD[what]) - comments_in(after)
    assert all(one in prose_in(root / report.notebooks[0]) for one in lost)
    assert ("__all__" in after) == ("__all__" in ODD[what])


BYTES = {
    "bom": b"\xef\xbb\xbfx = '\xc3\xa4'\n",
    "latin-1": b"# -*- coding: latin-1 -*-\nx = '\xe4'\n",
    "windows line ends": b'"""A.\r\n\r\nB.\r\n"""\r\nx = """a\r\nb"""\r\n',
    "old mac line ends": b"x = 1\ry = 2\r",
    "shebang": b"#!/usr/bin/env python3\nx = 1\n",
    "shebang and cookie": b"#! python\n# vim: set fileencoding=utf-8 :\nx = 1\n",
}


@pytest.mark.parametrize("what", BYTES)
def test_any_encoding_comes_back(what: str, tmp_path: Path) -> None:
    root = make_package(tmp_path)
    (root / "demo/odd.py").write_bytes(BYTES[what])
    report = adopt_package(root)
    assert report.notebooks == ("nbs/01_odd.ipynb",), report.left
    after = (root / "demo/odd.py").read_bytes()
    assert_same(decode_source(BYTES[what]), after.decode("utf-8"))
    assert b"\r" not in after


PARTS = [
    "import os",
    "from . import tools",
    "from a import *",
    "x = 1",
    "_y: int = 2",
    "a, b = 1, 2; c = 3",
    "def f(): ...",
    "def f(x):\n    pass\n    # inside",
    "@deco\nclass C:\n    '''Doc.'''",
    "if x:\n    def g(): ...\nelse:\n    g = None",
    "try:\n    import q\nexcept ImportError:\n    q = None",
    "__all__ = ['f', 'x']",
    "__all__ += ['C']",
    "z = '''\n# %% f\n#| export\n'''",
    "x += 1",
    "async def h(): ...",
    "if __name__ == '__main__':\n    f()",
    "'''A string.'''",
    "λ = 1",
    "f = deco(f)",
]
GAPS = [
    "\n",
    "\n\n",
    "\n\n\n",
    "\n# a note\n",
    "\n\n# Words for a reader.\n\n",
    "\n\n# ---- A title ----\n\n# More words,\n# on two lines.\n\n",
    "\n    # indented\n",
    "\n# %% f\n",
    "\n\n# x = 1\n\n",
    "\n\f\n",
    "  # noqa\n",
]
TOPS = [
    "",
    '"""Doc."""\n',
    '"""\nDoc\n\nMore.\n"""\n',
    "r'''A \\d'''\n",
    "# SPDX-License-Identifier: MIT\n\n",
    "# Words.\n\n'''Doc.'''\n\n",
    "from __future__ import annotations\n",
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(TOPS),
    st.lists(st.tuples(st.sampled_from(PARTS), st.sampled_from(GAPS)), min_size=1),
)
def test_any_module_comes_back(top: str, parts: list[tuple[str, str]]) -> None:
    text = top + "".join(part + gap for part, gap in parts)
    project = Project(Path("/proj"), Config(package="demo"))
    raw, after = dissect(Source(text, "odd.py", "nbs/01_odd.ipynb"), project)
    assert_same(text, after)
    cells = json.loads(raw)["cells"]
    prose = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] != "code")
    assert all(one in prose for one in comments_in(text) - comments_in(after))
    nbformat.validate(nbformat.reads(raw.decode(), 4))


# What is left alone, and what is refused ----------------------------------------------


def test_what_cannot_be_represented_is_left_alone(tmp_path: Path) -> None:
    root = make_package(tmp_path, fine="x = 1\n")
    left = {
        "broken.py": b"def f(:\n",
        "two.py": b"print 'python 2'\n",
        "binary.py": b"x = '\xff'\n",
        "zero.py": b"x = '\0'\n",
        "cookie.py": b"# coding: no-such-codec\nx = 1\n",
        "late.py": b"x = 1\nfrom __future__ import annotations\n",
        "waits.py": b"await x\n",
        "directive.py": b"#| hide\ndef f(): ...\n",
        "_version.py": b"# file generated by a tool; don't change\nversion = '1'\n",
        "my-script.py": b"x = 1\n",
        "script.py": b"#!/usr/bin/env python3\nx = 1\n",
        "namespace/inside.py": b"x = 1\n",
        "empty/__init__.py": b"",
        "comments/__init__.py": b"# nothing\n",
    }
    for name, raw in left.items():
        (root / "demo" / name).parent.mkdir(exist_ok=True)
        (root / "demo" / name).write_bytes(raw)
    (root / "demo/script.py").chmod(0o755)
    (root / "demo/link.py").symlink_to(root / "demo/fine.py")

    report = adopt_package(root)
    (notebook,) = report.notebooks
    assert notebook.endswith("_fine.ipynb")
    reasons = dict(report.left)
    for name, raw in left.items():
        assert (root / "demo" / name).read_bytes() == raw
        assert reasons[f"demo/{name}"]
    assert (root / "demo/link.py").is_symlink()
    assert len(reasons) == len(left) + 2  # the link, and the package's own __init__.py
    assert not export_project(find_project(root), check=True).problems


def test_dry_run_and_exclude(tmp_path: Path) -> None:
    root = make_package(tmp_path, a="x = 1\n", **{"sub.__init__": "y = 1\n"})
    before = snapshot(root)
    report = adopt_package(root, exclude=["sub/*"], dry_run=True)
    assert report.notebooks == ("nbs/01_a.ipynb",) and snapshot(root) == before
    assert adopt_package(root, exclude=["sub/*"]) == report
    assert "sub" not in [path.name for path in (root / "nbs").iterdir()]


def test_readme_of_a_project_is_not_taken(tmp_path: Path) -> None:
    root = make_package(tmp_path, __init__="from .a import x\n", a="x = 1\n")
    (root / "README.md").write_text("# Mine\n")
    with (root / "pyproject.toml").open("a") as file:
        file.write('[tool.litml]\nreadme = "README.md"\n')
    assert adopt_package(root).notebooks == ("nbs/00_init.ipynb", "nbs/01_a.ipynb")
    assert (root / "README.md").read_text() == "# Mine\n"
    assert not export_project(find_project(root)).problems


def test_module_that_changes_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_package(tmp_path, a="x = 1\n")
    plan_package = adopt.plan_package

    def slow(plan: adopt.Plan) -> None:
        plan_package(plan)
        (root / "demo/a.py").write_text("x = 2\n")

    monkeypatch.setattr(adopt, "plan_package", slow)
    with pytest.raises(LitmlError, match="changed meanwhile"):
        adopt_package(root)
    assert (root / "demo/a.py").read_text() == "x = 2\n"
    assert not list(root.rglob("*.ipynb"))


KILLED = """\
import os, signal, sys
from pathlib import Path
from litml import files
from litml.adopt import adopt_package
root, replace, left = Path(sys.argv[1]), os.replace, [3]

def die(source, target):
    if root in Path(target).parents and Path(target).suffix != ".json":
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

files.os.replace = die
adopt_package(root)
"""


def test_kill_while_writing_is_finished_by_the_next(tmp_path: Path) -> None:
    modules = {name: f"{name} = 1\n" for name in "abc"}
    root = make_package(tmp_path / "killed", **modules)
    wanted = make_package(tmp_path / "whole", **modules)
    adopt_package(wanted)
    command = [sys.executable, "-c", KILLED, str(root)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert snapshot(root) != snapshot(wanted)
    with locked(state_dir(root)):
        pass
    assert snapshot(root) == snapshot(wanted)


# Taking over -------------------------------------------------------------------------


class Plain(ast.NodeTransformer):
    """Take out of a tree what nbdev and litml frame in different ways."""

    def __init__(self, package: list[str]) -> None:
        self.package = package

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.ImportFrom:
        if node.level:
            parents = self.package[: len(self.package) - node.level + 1]
            node.module = ".".join([*parents, *([node.module] if node.module else [])])
            node.level = 0
        return node

    def visit_Module(self, node: ast.Module) -> ast.Module:
        take_names(node)
        node.body = [
            one
            for one in node.body
            if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))
            and not (isinstance(one, ast.Assign) and "__version__" in ast.dump(one))
        ]
        self.generic_visit(node)
        return node


def plain(text: str, path: Path) -> str:
    tree = Plain(list(path.parts[:-1])).visit(ast.parse(text))
    for node in ast.walk(tree):  # black moves white space in docstrings
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = " ".join(node.value.split())
    return ast.dump(tree)


PROJECTS = sorted(path.name for path in (HERE / "projects").glob("nbdev_*"))
TAKEN = {"nbdev_23_black", "nbdev_3_docs", "nbdev_3_heads", "nbdev_3_scrub"}


@pytest.mark.parametrize("name", PROJECTS)
def test_taken_over_as_nbdev_wrote_it_or_refused(name: str, tmp_path: Path) -> None:
    root = tmp_path / name
    shutil.copytree(HERE / "projects" / name, root)
    before = snapshot(root)
    try:
        report = take_over(root)
    except LitmlError:
        assert name not in TAKEN and snapshot(root) == before
        return
    golden = HERE / "golden" / name
    modules = [one for one in report.written if one.endswith(".py")]
    assert modules
    for module in modules:
        path = (root / module).relative_to(find_project(root).package_dir.parent)
        expected = (golden / path).read_text("utf-8")
        after = ungrow((root / module).read_text("utf-8")).text
        assert plain(after, path) == plain(expected, path)
    project = find_project(root)
    assert project.nbdev is None
    assert export_project(project, check=True).written == ()
    with pytest.raises(LitmlError, match="no nbdev project"):
        take_over(root)


SETTINGS = """\
[DEFAULT]
repo = fast-words
lib_name = %(repo)s
lib_path = fast_words
nbs_path = nbs
version = 0.3.1
min_python = 3.9
license = apache2
status = 4
audience = Developers
language = English
user = ada
author = Ada L
author_email = ada@example.org
description = Counts "words"
keywords = nlp words
doc_host = https://%(user)s.github.io
doc_baseurl = /fast-words
git_url = https://github.com/%(user)s/%(repo)s
requirements = numpy>=1.2,<3 \\
\tpandas
pip_requirements = torch
conda_requirements = pytorch
dev_requirements = nbdev<3 pytest
plot_requirements = matplotlib seaborn>=0.12
data_requirements = git+https://example.org/d.git@v1#egg=dtool
console_scripts = count=fast_words.cli:count
\tstop=fast_words.cli:stop
package_data = *.json data/*.csv
tst_flags = slow cuda
jupyter_hooks = True
dep_links = https://example.org/simple
copyright = 2020 Ada
"""
STOCK_SETUP = """\
from pkg_resources import parse_version
from configparser import ConfigParser
import setuptools, shlex
config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
cfg = config['DEFAULT']
setup_cfg = {o:cfg[o] for o in cfg_keys}
requirements = shlex.split(cfg.get('requirements', ''))
setuptools.setup(
    name = cfg['lib_name'], packages = setuptools.find_packages(),
    install_requires = requirements, extras_require={ 'dev': dev_requirements },
    long_description = open('README.md').read(), **setup_cfg)
"""
PYPROJECT = """\
# Ours.
[tool.ruff]
line-length = 120  # wide

[tool.uv]
cache-keys = [{ file = "settings.ini" }]
"""


def make_notebook(path: Path, *cells: tuple[str, str], indent: int = 1) -> None:
    """Write a notebook of (kind, source) cells."""
    entries: list[dict[str, object]] = []
    for i, (kind, source) in enumerate(cells):
        cell = {"cell_type": kind, "id": f"c{i}", "metadata": {"keep_": 1}}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        entries.append({**cell, "source": source.splitlines(keepends=True)})
    tree = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": entries}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree, indent=indent))


def make_nbdev_project(root: Path) -> Path:
    """Write a project of nbdev 2, as it is after an export."""
    (root / "fast_words").mkdir(parents=True)
    (root / "fast_words/__init__.py").write_text('__version__ = "0.3.1"\n')
    (root / "fast_words/_modidx.py").write_text("# Autogenerated by nbdev\nd = {}\n")
    (root / "fast_words/core.py").write_text(
        "# AUTOGENERATED! DO NOT EDIT! File to edit: ../nbs/00_core.ipynb.\n\n"
        "# %% auto 0\n__all__ = ['count']\n\n# %% ../nbs/00_core.ipynb 3\n"
        "from .cli import stop\ndef count(text): return len(text.split())\n"
    )
    (root / "settings.ini").write_text(SETTINGS)
    (root / "setup.py").write_text(STOCK_SETUP)
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "README.md").write_text("# By hand\n")
    make_notebook(
        root / "nbs/00_core.ipynb",
        ("markdown", "# Core\n\n> Count.\n"),
        ("code", "#| default_exp core"),
        (
            "code",
            "#|export\n#|my_own 3\nfrom fast_words.cli import stop\n"
            "def count(text): return len(text.split())",
        ),
        ("code", "#|hide # why\ncount('a')"),
        ("code", "#| hide\nimport nbdev; nbdev.nbdev_export()"),
        indent=2,
    )
    make_notebook(root / "nbs/01_fine.ipynb", ("markdown", "# Nothing to change"))
    return root


def test_settings_of_nbdev_2_are_all_somewhere(tmp_path: Path) -> None:
    root = make_nbdev_project(tmp_path)
    report = take_over(root)
    text = (root / "pyproject.toml").read_text()
    assert "# Ours.\n" in text and "# wide\n" in text
    data = tomllib.loads(text)
    about = data["project"]
    assert about["name"] == "fast-words" and about["requires-python"] == ">=3.9"
    assert about["authors"] == [{"name": "Ada L", "email": "ada@example.org"}]
    assert about["license"] == "Apache-2.0" and about["description"] == 'Counts "words"'
    assert about["keywords"] == ["nlp", "words"] and about["dynamic"] == ["version"]
    assert "Development Status :: 4 - Beta" in about["classifiers"]
    assert about["dependencies"] == ["numpy>=1.2,<3", "pandas", "torch"]
    extras = about["optional-dependencies"]
    assert extras["plot"] == ["matplotlib", "seaborn>=0.12"]
    assert extras["data"] == ["dtool @ git+https://example.org/d.git@v1"]
    assert [one.split(">")[0] for one in extras["dev"]] == ["litml", "pytest"]
    assert about["scripts"] == {
        "count": "fast_words.cli:count",
        "stop": "fast_words.cli:stop",
    }
    assert about["urls"] == {
        "Repository": "https://github.com/ada/fast-words",
        "Documentation": "https://ada.github.io/fast-words/",
    }
    tool = data["tool"]
    assert tool["setuptools"]["package-data"] == {
        "fast_words": ["*.json", "data/*.csv"]
    }
    assert tool["setuptools"]["dynamic"]["version"] == {
        "attr": "fast_words.__version__"
    }
    assert tool["litml"] == {"test-flags": ["slow", "cuda"]}
    for lost in ("jupyter_hooks", "dep_links", "copyright", "conda_requirements"):
        assert f"# nbdev: {lost} = " in text
        assert any(f"`{lost}" in note for note in report.notes)
    assert (root / "README.md").read_text() == "# By hand\n"


def test_notebooks_change_only_where_needed(tmp_path: Path) -> None:
    root = make_nbdev_project(tmp_path)
    before = snapshot(root)
    report = take_over(root)
    after = snapshot(root)
    assert before["nbs/01_fine.ipynb"] == after["nbs/01_fine.ipynb"]
    old = json.loads(before["nbs/00_core.ipynb"])["cells"]
    new = json.loads(after["nbs/00_core.ipynb"])["cells"]
    assert new[:2] == old[:2] and len(new) == 4
    assert "".join(new[2]["source"]).startswith(
        "#|export\n# my_own: 3\nfrom fast_words"
    )
    assert "".join(new[3]["source"]) == "#|hide\n# why\ncount('a')"
    for cell, same in zip(new[2:], old[2:4], strict=True):
        assert {**cell, "source": 0} == {**same, "source": 0}
    text = after["nbs/00_core.ipynb"].decode()
    assert text == json.dumps(json.loads(text), indent=2)  # the file's own layout
    assert [str(change.at) for change in report.changes] == [
        "nbs/00_core.ipynb, cell c2, line 2",
        "nbs/00_core.ipynb, cell c3, line 1",
        "nbs/00_core.ipynb, cell c4",
    ]


def test_own_setup_is_left_alone(tmp_path: Path) -> None:
    root = make_nbdev_project(tmp_path)
    own = STOCK_SETUP.replace("= requirements,", "= requirements, ext_modules = [x],")
    (root / "setup.py").write_text(own)
    report = take_over(root)
    assert report.removed == ("fast_words/_modidx.py",)
    assert (root / "setup.py").read_text() == own
    assert (root / "settings.ini").read_text() == SETTINGS
    text = (root / "pyproject.toml").read_text()
    assert text.startswith(PYPROJECT) and "[project]" not in text
    assert find_project(root).config.package == "fast_words"


def test_settings_of_nbdev_3_keep_their_neighbours(tmp_path: Path) -> None:
    before = """\
[build-system]
requires = ["setuptools>=64"]  # as long as it works

[project]
name = "a.b-c"
dynamic = ["version"]
optional-dependencies.dev = [
    'nbdev>=3',  # for now
    "pytest",
]

[project.entry-points.nbdev]
abc = "abc._modidx:d"

[project.entry-points.other]
x = "y:z"

[tool.nbdev]
lib_path = "src/abc"
nbs_path = "."
recursive = false
cell_timeout = 60
branch = "dev"  # not main

[[tool.mypy.overrides]]
module = "x"
"""
    (tmp_path / "src/abc").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(before)
    project = open_project(tmp_path)
    assert project
    after, _ = merge_settings(before, project, Facts())
    gone = set(before.split("\n")) - set(after.split("\n"))
    assert gone == {
        "    'nbdev>=3',  # for now",
        "[project.entry-points.nbdev]",
        'abc = "abc._modidx:d"',
        "[tool.nbdev]",
        'lib_path = "src/abc"',
        'nbs_path = "."',
        "recursive = false",
        "cell_timeout = 60",
        'branch = "dev"  # not main',
    }
    assert "# nbdev: branch = dev" in after
    assert tomllib.loads(after)["tool"]["litml"] == {
        "notebooks": ".",
        "package": "src/abc",
        "exclude": ["*/*"],
        "timeout": 60.0,
    }
    kept, _ = merge_settings(before, project, Facts(keeps_index=True))
    assert "[project.entry-points.nbdev]" in kept


def git(root: Path, *words: str) -> str:
    command = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(
        [*command, *words], capture_output=True, text=True, check=False
    )
    return done.stdout.strip()


def test_git_no_longer_looks_for_nbdev(tmp_path: Path) -> None:
    root = make_nbdev_project(tmp_path)
    git(root, "init", "-q")
    (root / ".gitattributes").write_text("*.ipynb merge=nbdev-merge\n*.png binary\n")
    (root / ".gitconfig").write_text(
        "# Generated by nbdev_install_hooks\n#\n# To restore: …\n"
        '[merge "nbdev-merge"]\n\tname = resolve\n\tdriver = nbdev_merge %O %A %B %P\n'
    )
    git(root, "config", "--local", "include.path", "../.gitconfig")
    hook = root / ".git/hooks/post-merge"
    hook.write_text("#!/bin/bash\nnbdev_trust")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "before")
    assert "nbdev_merge" in git(root, "config", "merge.nbdev-merge.driver")

    report = take_over(root)
    assert ".gitconfig" in report.removed and not hook.exists()
    assert git(root, "check-attr", "merge", "--", "nbs/00_core.ipynb").endswith(
        "unspecified"
    )
    assert git(root, "check-attr", "binary", "--", "a.png").endswith("set")
    assert git(root, "config", "merge.nbdev-merge.driver") == ""
    assert git(root, "config", "--local", "include.path") == ""


def test_edits_in_modules_are_not_thrown_away(tmp_path: Path) -> None:
    root = make_nbdev_project(tmp_path)
    with (root / "fast_words/core.py").open("a") as file:
        file.write("count.fast = True\n")
    before = snapshot(root)
    with pytest.raises(LitmlError, match=r"not what its notebooks say: core\.py"):
        take_over(root)
    assert snapshot(root) == before
    take_over(root, force=True)
    assert "count.fast" not in (root / "fast_words/core.py").read_text()


@pytest.mark.parametrize("broken", ["def f(:", "x = !ls", "await f()", "%time x = 1"])
def test_take_over_is_refused_as_a_whole(broken: str, tmp_path: Path) -> None:
    root = make_nbdev_project(tmp_path)
    cells = [("code", "#| default_exp late"), ("code", f"#| export\n{broken}")]
    make_notebook(root / "nbs/02_late.ipynb", *cells)
    before = snapshot(root)
    with pytest.raises(LitmlError) as caught:
        take_over(root)
    assert str(caught.value.at).startswith("nbs/02_late.ipynb, cell c1")
    assert snapshot(root) == before


def test_take_over_killed_while_writing_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_nbdev_project(tmp_path / "killed")
    wanted = make_nbdev_project(tmp_path / "whole")
    take_over(wanted)
    unlink = Path.unlink

    def fail(path: Path, missing_ok: bool = False) -> None:
        if path.name == "setup.py":
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(takeover.Path, "unlink", fail)
        with pytest.raises(KeyboardInterrupt):
            take_over(root)
    assert (root / "setup.py").exists()
    with locked(state_dir(root)):
        pass
    assert snapshot(root) == snapshot(wanted)


def test_report_of_a_dry_run_is_that_of_the_run(tmp_path: Path) -> None:
    root = make_nbdev_project(tmp_path)
    before = snapshot(root)
    report = take_over(root, dry_run=True)
    assert snapshot(root) == before
    assert take_over(root) == report
    gone = {*before} - {*snapshot(root)}
    assert gone == {*report.removed}
    assert isinstance(adopt_package(root), AdoptReport), "the rest can be adopted"
