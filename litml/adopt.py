# Exported from nbs/06c_adopt.ipynb. Edit either side, then run `litml sync`.
"""Turn an existing package into notebooks that export it unchanged."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from itertools import count
from pathlib import Path

from litml.cells import parse_code
from litml.dissect import Source, dissect, is_same_code
from litml.examples import find_examples
from litml.export import is_import, read_share
from litml.files import Transaction, locked, state_dir
from litml.notebook import LitmlError, Location
from litml.package import export_project
from litml.patch import ungrow
from litml.project import (
    NUMBER,
    Config,
    ConfigError,
    Project,
    find_package,
    find_project,
    list_notebooks,
    open_project,
    read_toml,
)
from litml.text import read_source

__all__ = ["AdoptReport", "rehearse", "adopt_package"]


# %% AdoptError
class AdoptError(LitmlError):
    """A package that cannot be adopted."""


# ## A file's text
# %% ModuleFile
@dataclass(frozen=True, slots=True)
class ModuleFile:
    """A module's file: its path below the package, its bytes and its text.

    `left` says why it is left alone, if it is; `notes` what changes besides.
    """

    path: str
    raw: bytes
    text: str = ""
    left: str = ""
    notes: tuple[str, ...] = ()


# %% is_utf8
def is_utf8(line: str) -> bool:
    """Does the line do no more than name the encoding that files have anyway?"""
    return not line.startswith("#!") and bool(re.search(r"coding[:=]\s*utf-?8", line))


# %% read_module
def read_module(path: str, raw: bytes, executable: bool = False) -> ModuleFile:
    """Read a module's file, and decide whether it can become a notebook."""
    file = ModuleFile(path, raw)
    if not Path(path).stem.isidentifier():
        return replace(file, left="its name cannot be imported")
    try:
        text = importlib.util.decode_source(raw)
        body = parse_code(text).body
    except (SyntaxError, ValueError, RecursionError) as error:
        return replace(file, left=f"not Python: {error}")
    if text.startswith("#!") and executable:
        return replace(file, left="a script: `#!` cannot be a module's first line")
    if GENERATED.search(text[:1000]):
        return replace(file, left="it says that it is generated")
    if not body:
        return replace(file, left="there is no code in it")
    notes = ["its line ends are now LF"] if b"\r" in raw else []
    head = FIRST_LINES.match(text)[0]  # type: ignore[index]
    gone = [line for line in head.splitlines() if not is_utf8(line)]
    notes += [f"its line `{line}` is gone" for line in gone]
    return replace(file, text=text[len(head) :], notes=tuple(notes))


FIRST_LINES = re.compile(r"(?:#!.*\n)?(?:#.*?coding[:=]\s*[-\w.]+.*\n)?")


GENERATED = re.compile(
    r"^# .*(?:\bgenerated (?:by|from|file)|do(?: no|n')t (?:edit|change|modify)"
    r"|Exported from)",
    re.MULTILINE | re.IGNORECASE,
)


# ## Which files
# %% find_modules
def find_modules(package: Path, exclude: Iterable[str] = ()) -> Iterator[ModuleFile]:
    """Yield every module of a package; `exclude` are patterns of paths below it."""
    for folder, inner, names in os.walk(package):
        inner[:] = sorted(name for name in inner if not name.startswith((".", "__pyc")))
        for name in sorted(name for name in names if name.endswith(".py")):
            file = Path(folder, name)
            path = file.relative_to(package).as_posix()
            if any(fnmatch(path, pattern) for pattern in exclude):
                continue
            if file.is_symlink():
                yield ModuleFile(path, b"", left="a link to another file")
                continue
            found = read_module(path, file.read_bytes(), os.access(file, os.X_OK))
            if "__init__.py" not in names and not found.left:
                found = replace(found, left="its folder has no `__init__.py`")
            yield found


# ## In which order
# %% run_at_import
def run_at_import(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when a module is imported, not for types only."""
    for node in body:
        yield node
        if is_import(node) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for part in ("body", "orelse", "handlers", "finalbody"):
            yield from run_at_import(getattr(node, part, []))


# %% names_of
def names_of(path: str) -> tuple[str, ...]:
    """Return the names of a module, from its file below the package."""
    return tuple(path.removesuffix(".py").split("/"))


# %% imported
def imported(file: ModuleFile, package: str) -> Iterator[tuple[str, ...]]:
    """Yield what each import of a module may mean, as names below the package."""
    here = names_of(file.path)[:-1]
    for node in run_at_import(parse_code(file.text).body):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first, *rest = alias.name.split(".")
                if first == package:
                    yield tuple(rest)
        elif isinstance(node, ast.ImportFrom):
            base = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                base = here[: len(here) - node.level + 1] + base
            if node.level or base[:1] == (package,):
                base = base if node.level else base[1:]
                yield from ((*base, alias.name) for alias in node.names)


# %% needed
def needed(
    inside: Mapping[str, list[ModuleFile]], name: str, package: str, depth: int
) -> set[str]:
    """Return which of the names in a folder are imported by the modules of one."""
    folder = names_of(inside[name][0].path)[:depth]
    targets = [target for file in inside[name] for target in imported(file, package)]
    below = [target for target in targets if target[:depth] == folder]
    return {target[depth] for target in below if len(target) > depth} & inside.keys()


# %% sort_names
def sort_names(needs: Mapping[str, set[str]]) -> list[str]:
    """Return names so that each comes after what it needs, alphabetically otherwise."""
    done: list[str] = []
    while rest := sorted(needs.keys() - set(done)):
        ready = [name for name in rest if not needs[name] - {name} - set(done)]
        done.append((ready or rest)[0])
    return sorted(done, key="__main__".__eq__)  # a script comes last


# %% look_around
def look_around(folder: Path) -> tuple[int, dict[str, str]]:
    """Return the number after all in a folder of notebooks, and its folders by name."""
    entries = list(folder.iterdir()) if folder.is_dir() else []
    numbers = [
        int(found[0]) for one in entries if (found := re.match(r"\d+", one.name))
    ]
    folders = {NUMBER.sub("", one.name): one.name for one in entries if one.is_dir()}
    return max(numbers, default=0) + 1, folders


# %% name_notebooks
def name_notebooks(
    files: Iterable[ModuleFile], package: str, folder: Path, depth: int = 0
) -> dict[str, str]:
    """Return each module's notebook-to-be, as a path below the folder of notebooks."""
    inside: dict[str, list[ModuleFile]] = {}
    for file in files:
        inside.setdefault(names_of(file.path)[depth], []).append(file)
    named = {file.path: "index.ipynb" for file in inside.pop("__init__", [])}
    needs = {name: needed(inside, name, package, depth) for name in inside}
    first, there = look_around(folder)
    width = len(str(max(10, first + len(needs))))
    numbers = count(first)
    for name in sort_names(needs):
        stem = there.get(name) or f"{next(numbers):0{width}}_{name}"
        deeper = [one for one in inside[name] if len(names_of(one.path)) > depth + 1]
        below = name_notebooks(deeper, package, folder / stem, depth + 1)
        named |= {path: f"{stem}/{notebook}" for path, notebook in below.items()}
        for file in inside[name]:
            named.setdefault(file.path, f"{stem}.ipynb")
    return named


# ## The plan
# %% AdoptReport
@dataclass(frozen=True, slots=True)
class AdoptReport:
    """What an adoption wrote, or would write.

    `left` are modules that were left alone, with the reason; `notes` say what in the
    others is not as it was.
    """

    notebooks: tuple[str, ...] = ()
    left: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()


# %% Plan
@dataclass(slots=True)
class Plan:
    """An adoption in the making: the bytes to write by path, and what to report."""

    project: Project
    files: dict[Path, bytes] = field(default_factory=dict)
    read: dict[Path, bytes] = field(default_factory=dict)
    notebooks: list[str] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


# %% name_of
def name_of(project: Project, file: ModuleFile) -> str:
    """Return how messages call a module's file."""
    return project.name_of(project.package_dir / file.path)


# %% plan_module
def plan_module(plan: Plan, file: ModuleFile, source: Source) -> None:
    """Plan one module's notebook and its new text, or note why it has none."""
    project = plan.project
    notebook, path = project.root / source.notebook, project.package_dir / file.path
    try:
        if notebook.exists():
            raise AdoptError(f"there is a {source.notebook} already")
        raw, _ = dissect(source, project)
    except LitmlError as error:
        plan.left.append((name_of(project, file), error.message))
        return
    plan.read[path] = file.raw
    plan.files[notebook] = raw
    plan.notebooks.append(source.notebook)
    plan.notes += [(name_of(project, file), note) for note in file.notes]


# %% exported_already
def exported_already(project: Project) -> set[str]:
    """Return the modules that the project's notebooks export."""
    found: set[str] = set()
    for path in list_notebooks(project):
        share = read_share(read_source(path, project.name_of(path)), project)
        found |= {chunk.module for chunk in share.chunks}
    return found


# %% plan_modules
def plan_modules(plan: Plan, tests: Path | None, exclude: Iterable[str]) -> None:
    """Plan a notebook for each module that can have one."""
    project = plan.project
    known = exported_already(project)
    found = [
        file
        for file in find_modules(project.package_dir, exclude)
        if file.path not in known
    ]
    plan.left += [(name_of(project, file), file.left) for file in found if file.left]
    files = [file for file in found if not file.left]
    package = project.package_dir.name
    names = name_notebooks(files, package, project.notebooks_dir)
    if project.config.readme and "__init__.py" in names:
        names["__init__.py"] = "00_init.ipynb"  # the index is the README's
    texts = {file.path: file.text for file in files}
    examples = find_examples(tests, texts) if tests else {}
    for file in sorted(files, key=lambda one: names[one.path]):
        name = f"{project.config.notebooks}/{names[file.path]}"
        source = Source(file.text, file.path, name, examples.get(file.path, {}))
        plan_module(plan, file, source)


# ## The rehearsal
# %% rehearse
def rehearse(files: Mapping[str, bytes], package: str) -> dict[str, bytes]:
    """Export a project that consists of `files`; return what it makes, by name.

    `package` is its folder. Raises the first problem of the export.
    """
    with tempfile.TemporaryDirectory(prefix="litml-") as folder:
        root = Path(folder).resolve()
        (root / package).mkdir(parents=True, exist_ok=True)
        for name, raw in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(raw)
        report = export_project(find_project(root))
        for problem in report.problems:
            raise problem
        return {
            name: raw for name in report.written if (raw := (root / name).read_bytes())
        }


# ## The project
# %% add_table
def add_table(text: str, project: Project) -> str:
    """Return the text of `pyproject.toml` with a table [tool.litml]."""
    data = tomllib.loads(text)
    if "litml" in data.get("tool", {}):
        return text
    table = "[tool.litml]\n"
    try:
        found = find_package(project.root, data)
    except ConfigError:
        found = ""
    if found != project.config.package:
        table += f"package = {json.dumps(project.config.package)}\n"
    return f"{text.rstrip()}\n\n{table}".lstrip()


# %% find_adopted
def find_adopted(root: Path, package: str) -> Project:
    """Return the project at `root` with the package to be adopted."""
    root = root.resolve()
    project = open_project(root)
    if package:
        package = Path(os.path.relpath(root / package, root)).as_posix()
    if package.startswith(".."):
        raise AdoptError(f"`{package}` is not inside the project")
    if project and project.nbdev:
        hint = "use `litml adopt --from-nbdev`"
        raise AdoptError("this project is configured for nbdev", hint=hint)
    if project is None:
        data = read_toml(root / "pyproject.toml")
        project = Project(root, Config(package=package or find_package(root, data)))
    elif package and Path(package) != Path(project.config.package):
        message = f"[tool.litml] names another package: `{project.config.package}`"
        raise AdoptError(message, at=Location("pyproject.toml"))
    if not (project.package_dir / "__init__.py").is_file():
        hint = "name its folder: `litml adopt src/mylib`"
        message = f"no package at `{project.config.package}`: no `__init__.py` there"
        raise AdoptError(message, hint=hint)
    return project


# ## Adopting
# %% plan_package
def plan_package(plan: Plan) -> None:
    """Plan the modules as the planned notebooks export them, if they are the same."""
    project = plan.project
    config = project.root / "pyproject.toml"
    text = config.read_text("utf-8") if config.exists() else ""
    plan.files[config] = add_table(text, project).encode()
    files = {project.name_of(path): raw for path, raw in plan.files.items()}
    exported = rehearse(files, project.config.package)
    for path, raw in plan.read.items():
        text = ungrow(exported[project.name_of(path)].decode()).text
        if not is_same_code(importlib.util.decode_source(raw), text):
            at = Location(project.name_of(path))
            raise AdoptError("it would not be the same module; nothing written", at=at)
        plan.files[path] = exported[project.name_of(path)]


# %% write_plan
def write_plan(plan: Plan) -> None:
    """Write all files of a plan in one transaction, and record them as exported."""
    state = state_dir(plan.project.root)
    with locked(state), Transaction(state) as transaction:
        for path, raw in plan.files.items():
            transaction.stage(path, raw)
        for path, raw in plan.read.items():
            if path.read_bytes() != raw:
                at = Location(plan.project.name_of(path))
                raise AdoptError("it changed meanwhile; nothing was written", at=at)
        transaction.commit()
    export_project(open_project(plan.project.root) or plan.project)


# %% adopt_package
def adopt_package(
    root: Path,
    package: str = "",
    *,
    tests: str = "",
    exclude: Iterable[str] = (),
    dry_run: bool = False,
) -> AdoptReport:
    """Turn the package of the project at `root` into notebooks that export it.

    `package` is its folder, found by the project's name if empty; `tests` a folder of
    tests to be placed as examples; `exclude` patterns of files below the package.
    Modules that cannot be shown to come back unchanged are left alone.
    """
    plan = Plan(find_adopted(root, package))
    if tests and not (root / tests).is_dir():
        raise AdoptError(f"there is no folder `{tests}`")
    plan_modules(plan, root / tests if tests else None, tuple(exclude))
    if plan.notebooks:
        plan_package(plan)
        if not dry_run:
            write_plan(plan)
    return AdoptReport(tuple(plan.notebooks), tuple(plan.left), tuple(plan.notes))
