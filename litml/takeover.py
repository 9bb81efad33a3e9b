# Exported from nbs/06h_takeover.ipynb. Edit either side, then run `litml sync`.
"""Make a litml project of an nbdev project, in place: the same modules, and nothing
lost.
"""

from __future__ import annotations

import ast
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from litml.adopt import rehearse
from litml.cells import read_directives
from litml.convert import Change, convert_doubles, convert_notebook, rename_cells
from litml.export import Share, quote, read_share
from litml.files import Transaction, locked, state_dir
from litml.git import GitError, run_git
from litml.nbdev import docstring_rule, variable_docstring
from litml.notebook import (
    Cell,
    LitmlError,
    Location,
    Notebook,
    free_name,
    parse_notebook,
)
from litml.package import export_project
from litml.project import Config, Project, list_notebooks, open_project, scan
from litml.settings import (
    Facts,
    find_version,
    flags_of,
    merge_settings,
    read_settings,
)
from litml.shape import compare_modules, read_shape
from litml.tooling import (
    convert_git_hook,
    convert_manifest,
    converter_of,
    find_mentions,
)

__all__ = ["take_over"]


# %% TakeOverError
class TakeOverError(LitmlError):
    """An nbdev project that cannot be taken over as it is."""


# %% TakeOverReport
@dataclass(frozen=True, slots=True)
class TakeOverReport:
    """What taking a project over did, or would do.

    `changes` are those in notebooks. `notes` say what a person should know or look at.
    """

    written: tuple[str, ...]
    removed: tuple[str, ...]
    changes: tuple[Change, ...]
    notes: tuple[str, ...]


# %% Plan
@dataclass(slots=True)
class Plan:
    """A take-over in the making: files by path, what to remove, and what to report."""

    project: Project
    files: dict[Path, bytes] = field(default_factory=dict)
    removed: list[Path] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    imports_nbdev: bool = False


# ## What the notebooks say
# %% export_as_nbdev
def export_as_nbdev(project: Project) -> dict[str, str]:
    """Return the modules that the project's notebooks make, as nbdev exports them.

    Raises the first problem of the export.
    """
    nbdev = replace(project.nbdev, black=False) if project.nbdev else None
    with tempfile.TemporaryDirectory(prefix="litml-") as folder:
        base = Path(folder).resolve()
        report = export_project(replace(project, nbdev=nbdev), target=base)
        for problem in report.problems:
            raise problem
        texts = {
            Path(name).relative_to(base).as_posix(): Path(name).read_text("utf-8")
            for name in report.written
        }
        return {path: text for path, text in texts.items() if text}


# %% find_edited
def find_edited(project: Project, modules: Mapping[str, str]) -> list[str]:
    """Return the modules whose file does something else than its notebooks say."""
    edited = []
    for path, text in modules.items():
        file = project.package_dir / path
        if file.is_file():
            package = project.package_dir.name
            try:
                there = read_shape(file.read_text("utf-8"), path, package)
            except (SyntaxError, UnicodeDecodeError):
                there = None
            if not there or there.code != read_shape(text, path, package).code:
                edited.append(path)
    return edited


# %% again
def again(notebook: Notebook) -> Notebook:
    """Return a notebook as it will be read when it has been written."""
    return parse_notebook(notebook.to_bytes(), notebook.name)


# %% read_shares
def read_shares(
    project: Project, flags: tuple[str, ...], notebooks: Mapping[str, Notebook]
) -> list[Share]:
    """Read what converted notebooks contribute, by litml's rules."""
    config = Config(project.config.notebooks, project.config.package, test_flags=flags)
    plain = Project(project.root, config)
    return [read_share(notebook, plain) for notebook in notebooks.values()]


# %% separate_ids
def separate_ids(
    shares: Iterable[Share], notebooks: Mapping[str, Notebook]
) -> Iterator[Change]:
    """Give cells new ids where two notebooks use one in the same module."""
    taken: dict[str, set[str]] = {}
    for share in shares:
        modules = {chunk.module for chunk in share.chunks}
        others = {one for module in modules for one in taken.get(module, ())}
        if others & {chunk.cell for chunk in share.chunks}:
            yield from rename_cells(notebooks[share.notebook], others)
        for chunk in share.chunks:
            taken.setdefault(chunk.module, set()).add(chunk.cell)


# %% imports_nbdev
def imports_nbdev(notebook: Notebook) -> bool:
    """Does code of the notebook import nbdev?"""
    pattern = re.compile(r"^\s*(?:from|import)\s+nbdev\b", re.MULTILINE)
    return any(
        cell.kind == "code" and pattern.search(cell.source) for cell in notebook.cells
    )


# ## Cells that nbdev did without
# %% insert_below
def insert_below(
    notebook: Notebook, at: Location, id: str, code: str, *, below: int = 0
) -> None:
    """Insert an exported cell `below` cells from the one at a location."""
    i = next(i for i, cell in enumerate(notebook.cells) if cell.id == at.cell)
    cell = Cell({**notebook.cells[i].data, "metadata": {}, "outputs": []})
    cell.source = f"#| export\n{code}"
    if "id" in cell.data:
        taken = {cell.id for cell in notebook.cells}
        cell.data["id"] = free_name(id, taken)
    notebook.cells.insert(i + below, cell)


# %% add_cells
def add_cells(
    project: Project, shares: Iterable[Share], notebooks: Mapping[str, Notebook]
) -> Iterator[Change]:
    """Add cells for what nbdev put into modules by itself."""
    old = docstring_rule(project) == "2.3"
    for share in (share for share in shares if share.module and share.chunks):
        at = Location(share.notebook, share.chunks[0].cell)
        version = find_version(project) if share.module == "__init__.py" else ""
        if version and not any("__version__" in chunk.code for chunk in share.chunks):
            insert_below(notebooks[share.notebook], at, "version", version, below=1)
            yield Change(at, f"a cell below it says `{version}` now")
        docstring = variable_docstring(list(share.chunks)) if old else ""
        if docstring:
            insert_below(notebooks[share.notebook], at, "docstring", quote(docstring))
            yield Change(at, "a cell above it holds the module's docstring now")


# %% convert_notebooks
def convert_notebooks(plan: Plan, flags: tuple[str, ...]) -> None:
    """Convert all notebooks, and plan to write them."""
    project = plan.project
    notebooks: dict[str, Notebook] = {}
    for path in list_notebooks(project):
        name = project.name_of(path)
        notebook = parse_notebook(path.read_bytes(), name)
        plan.changes += convert_notebook(notebook, project, flags)
        notebooks[name] = again(notebook)
        for said in read_directives(notebook, strict=False):
            plan.used |= said.keys()
    for convert in (convert_doubles, separate_ids, partial(add_cells, project)):
        plan.changes += convert(read_shares(project, flags, notebooks), notebooks)
        notebooks = {name: again(notebook) for name, notebook in notebooks.items()}
    for name, notebook in notebooks.items():
        plan.files[project.root / name] = notebook.to_bytes()
        plan.imports_nbdev |= imports_nbdev(notebook)


# ## The settings
# %% setup_call
def setup_call(node: ast.stmt) -> ast.Call | None:
    """Return the call of `setup` that a statement is, if it is one."""
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("setup"):
        return call
    return None


# %% is_stock_setup
def is_stock_setup(text: str) -> bool:
    """Is a `setup.py` the one of nbdev's template, which only reads `settings.ini`?"""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return False
    calls = [call for node in tree.body if (call := setup_call(node))]
    lines = [ast.unparse(node) for node in tree.body if not setup_call(node)]
    return (
        len(calls) == 1
        and all(
            re.fullmatch(
                STOCK.get(one.arg or "", r"(?s).*cfg.*"), ast.unparse(one.value)
            )
            for one in calls[0].keywords
        )
        and all(STOCK_LINE.match(line) for line in lines)
    )


STOCK = {
    "license": r"lic\[0\]",
    "packages": r"(?:setuptools\.)?find_packages\(\)",
    "include_package_data": "True",
    "install_requires": "requirements",
    "extras_require": r"\{'dev': dev_requirements\}",
    "long_description": r"open\('README.md'.*\)\.read\(\)",
    "long_description_content_type": "'text/markdown'",
    "zip_safe": "False",
    "project_urls": "project_urls",
    "": "setup_cfg",
}
STOCK_LINE = re.compile(
    r"from (?:pkg_resources|packaging\.version|configparser|setuptools) import"
    r" (?:parse_version|parse as parse_version|ConfigParser|find_packages)"
    r"|import (?:setuptools|shlex)(?:, shlex)?$|assert parse_version|for o in expected"
    r"|(?:config|cfg|cfg_keys|expected|setup_cfg|licenses|statuses|py_versions"
    r"|min_python|lic|package_data|pkg_data)(?: =|\.read\()"
    r"|if pkg_data:|setup_cfg\['package_data'\]|project_urls = \{\}"
    r"|(?:dev_)?requirements = (?:shlex\.split)?\(?cfg"
    r"|if cfg\.get\('(?:pip_req|doc_host)"
)


# %% find_readme
def find_readme(project: Project) -> str:
    """Return the README that is to be made from the index, or nothing."""
    index, readme = project.notebooks_dir / "index.ipynb", project.root / "README.md"
    if not index.is_file() or not readme.is_file():
        return ""
    text = readme.read_text("utf-8", errors="replace")
    made = "THIS FILE WAS AUTOGENERATED" in text and "index_files/" not in text
    named = read_settings(project).get("readme_nb") or "index.ipynb"
    cells = parse_notebook(index.read_bytes(), project.name_of(index)).cells
    prose = [cell.source for cell in cells if cell.kind == "markdown"]
    plain = not any(re.search(r"^:::|\{\{<|^#\|", one, re.MULTILINE) for one in prose)
    return "README.md" if made and plain and named == "index.ipynb" else ""


# %% reads_index
def reads_index(project: Project) -> bool:
    """Does a module of the package, or its own `setup.py`, name nbdev's index?"""
    setup = project.root / "setup.py"
    paths = [*project.package_dir.rglob("*.py"), *([setup] if setup.is_file() else [])]
    texts = {path: path.read_text("utf-8", errors="replace") for path in paths}
    return any(
        "_modidx" in text and not (path == setup and is_stock_setup(text))
        for path, text in texts.items()
        if path.name != "_modidx.py"
    )


# %% list_texts
def list_texts(project: Project) -> list[Path]:
    """Return the notebooks that litml would see, among them those written as text."""
    found = scan(project.notebooks_dir, text=True)
    return [project.notebooks_dir.joinpath(*parts) for parts in found]


# %% note_facts
def note_facts(facts: Facts) -> Iterator[str]:
    """Yield what a person should know of the facts."""
    if facts.own_setup:
        yield (
            "setup.py is this project's own: it and settings.ini were left alone; add"
            " litml to the requirements for development"
        )
    if facts.imports_nbdev:
        yield "notebooks import nbdev, which is still needed to run them"
    if facts.readme:
        yield "README.md is made by litml now, from the index; look at it"


# %% plan_settings
def plan_settings(plan: Plan) -> None:
    """Plan the new `pyproject.toml`, and what it makes superfluous."""
    project, root = plan.project, plan.project.root
    path, setup = root / "pyproject.toml", root / "setup.py"
    is_old = project.nbdev is not None and project.nbdev.major == 2
    own = is_old and setup.is_file() and not is_stock_setup(setup.read_text("utf-8"))
    facts = Facts(
        frozenset(plan.used),
        find_readme(project),
        has_texts=any(path.suffix != ".ipynb" for path in list_texts(project)),
        own_setup=own,
        imports_nbdev=plan.imports_nbdev,
        keeps_index=reads_index(project),
    )
    text = path.read_text("utf-8") if path.exists() else ""
    merged, notes = merge_settings(text, project, facts)
    plan.files[path] = merged.encode()
    plan.notes += [*notes, *note_facts(facts)]
    if is_old and not own:
        plan.removed += [root / "settings.ini", *([setup] if setup.exists() else [])]


# ## The files around
# %% plan_bookkeeping
def plan_bookkeeping(plan: Plan) -> None:
    """Plan to remove what nbdev keeps for itself, and note what is left of its site."""
    project = plan.project
    for name in ("_modidx.py", "_nbdev.py"):
        path = project.package_dir / name
        mine = (
            path.is_file() and "AUTOGENERATED" in path.read_text("utf-8")[:200].upper()
        )
        if mine and not (name == "_modidx.py" and reads_index(project)):
            plan.removed.append(path)
            plan.notes.append(
                f"{project.name_of(path)} was for the documentation of other nbdev"
                " projects, which no longer find names of this one by it"
            )
    names = ("_quarto.yml", "nbdev.yml", "sidebar.yml", "custom.yml")
    left = [name for name in names if (project.notebooks_dir / name).exists()]
    if left:
        plan.notes.append(f"nbdev's site was left alone: {', '.join(left)}")


# %% note_mentions
def note_mentions(plan: Plan, name: str, text: str) -> None:
    """Note the lines of a file that speak of nbdev's ways."""
    plan.notes += [
        f"{name}, line {number}: {line}" for number, line in find_mentions(text)
    ]


# %% plan_text
def plan_text(plan: Plan, path: Path, text: str) -> None:
    """Plan a file's new text, or to remove it if nothing is left of it."""
    if not text:
        plan.removed.append(path)
    elif text.encode() != path.read_bytes():
        plan.files[path] = text.encode()
    note_mentions(plan, plan.project.name_of(path), text)


# %% git
def git(root: Path, *words: str) -> str:
    """Return what git answers, or nothing if there is no git or no repository."""
    try:
        return os.fsdecode(run_git(root, *words)).strip()
    except GitError:
        return ""


# %% plan_surroundings
def plan_surroundings(plan: Plan) -> None:
    """Plan the new texts of workflows, hooks and git's files."""
    project, root = plan.project, plan.project.root
    paths = [*root.glob(".github/workflows/*"), *root.glob(".*")]
    for path in sorted(path for path in paths if path.is_file()):
        name = project.name_of(path)
        if convert := converter_of(name, project.config.notebooks):
            plan_text(plan, path, convert(path.read_text("utf-8")))
    manifest = root / "MANIFEST.in"
    if manifest.is_file() and root / "settings.ini" in plan.removed:
        plan_text(plan, manifest, convert_manifest(manifest.read_text("utf-8")))
    hook = git(root, "rev-parse", "--git-path", "hooks/post-merge")
    if hook and (root / hook).is_file():
        plan_text(plan, root / hook, convert_git_hook((root / hook).read_text("utf-8")))
    for name in ("Makefile", "CONTRIBUTING.md", "Dockerfile", "justfile"):
        if (root / name).is_file():
            note_mentions(plan, name, (root / name).read_text("utf-8"))


# ## Proof and writing
# %% prove
def prove(plan: Plan, before: Mapping[str, str]) -> None:
    """Export the new project elsewhere, compare it, and plan to write its modules."""
    project = plan.project
    inside = [project.root / "pyproject.toml"]
    inside += [path for path in plan.files if path.suffix == ".ipynb"]
    sources = {project.name_of(path): plan.files[path] for path in inside}
    exported = rehearse(sources, project.config.package)
    folder = f"{project.config.package}/"
    after = {
        name.removeprefix(folder): raw.decode()
        for name, raw in exported.items()
        if name.startswith(folder)
    }
    found = compare_modules(before, after, project.package_dir.name)
    if found.wrong:
        message = f"litml would export something else: {', '.join(found.wrong)}"
        hint = "change the notebooks so that both agree, export, and try again"
        at = Location(project.config.package)
        raise TakeOverError(message, at=at, hint=hint)
    plan.notes += found.notes
    for name, raw in exported.items():
        if not (project.root / name).exists():
            plan.notes.append(f"{name} is new: it had a notebook, but no file")
        plan.files[project.root / name] = raw


# %% write_plan
def write_plan(plan: Plan, changed: Mapping[Path, bytes]) -> None:
    """Write and remove all files in one transaction; record the modules as exported."""
    root = plan.project.root
    state = state_dir(root)
    with locked(state), Transaction(state) as transaction:
        for path, raw in changed.items():
            transaction.stage(path, raw)
        for path in plan.removed:
            transaction.remove(path)
        transaction.commit()
    if root / ".gitconfig" in plan.removed:
        include = ("include.path", r"^\.\./\.gitconfig$")
        git(root, "config", "--local", "--unset-all", *include)
    if project := open_project(root):
        export_project(project)


# %% finish
def finish(plan: Plan, *, dry_run: bool) -> TakeOverReport:
    """Write what was planned, unless it is a dry run, and report it."""
    project = plan.project
    changed = {
        path: raw
        for path, raw in plan.files.items()
        if not path.is_file() or path.read_bytes() != raw
    }
    report = TakeOverReport(
        tuple(sorted(project.name_of(path) for path in changed)),
        tuple(sorted(project.name_of(path) for path in plan.removed)),
        tuple(plan.changes),
        tuple(plan.notes),
    )
    if not dry_run:
        write_plan(plan, changed)
    return report


# %% find_taken
def find_taken(root: Path) -> Project:
    """Return the nbdev project at `root`; raises `TakeOverError` if there is none."""
    project = open_project(root.resolve())
    if project is None or project.nbdev is None:
        hint = "`litml adopt` takes a package without notebooks"
        raise TakeOverError("this is no nbdev project", hint=hint)
    if not list_notebooks(project):
        raise TakeOverError(f"no notebooks in `{project.config.notebooks}`")
    return project


# %% take_over
def take_over(
    root: Path, *, dry_run: bool = False, force: bool = False
) -> TakeOverReport:
    """Make a litml project of the nbdev project at `root`.

    `force` throws away edits that were made in modules and never brought home to
    their notebooks. Raises a `LitmlError` if anything stands in the way.
    """
    plan = Plan(find_taken(root))
    before = export_as_nbdev(plan.project)
    edited = find_edited(plan.project, before)
    if edited and not force:
        message = f"not what its notebooks say: {', '.join(edited)}"
        hint = "`nbdev_update` or `nbdev_export` first; `--force` throws the edits away"
        raise TakeOverError(
            message, at=Location(plan.project.config.package), hint=hint
        )
    convert_notebooks(plan, flags_of(read_settings(plan.project)))
    plan_settings(plan)
    plan_bookkeeping(plan)
    plan_surroundings(plan)
    prove(plan, before)
    return finish(plan, dry_run=dry_run)
