# Exported from nbs/14a_check.ipynb. Edit either side, then run `litml sync`.
"""Run the project's own linters and type checker, and say of each finding which cell
it means.
"""

import configparser
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litml.clean import parse_policy
from litml.files import locked, state_dir
from litml.git import GitError, list_index
from litml.modules import find_faults
from litml.notebook import LitmlError, Location
from litml.package import export_project
from litml.parts import locate
from litml.probe import find_gap
from litml.project import Project, list_notebooks, read_toml, subtable
from litml.sheet import Sheet, make_sheet
from litml.text import read_source
from litml.tidy import list_doubts

__all__ = ["Finding", "find_tools", "CheckReport", "check_project"]


# %% Finding
@dataclass(frozen=True, slots=True)
class Finding:
    """What a tool found: its own code for it, a message, and the place.

    A finding is an `error` or a `warning`; only errors make a check fail.
    """

    tool: str
    code: str
    message: str
    at: Location
    severity: str = "error"

    def __str__(self) -> str:
        said = f"{self.tool}: {self.code}" if self.code else self.tool
        return f"{self.at}: {self.message} ({said})"


# ## Which tools
# %% TOOLS
TOOLS = ("ruff", "format", "mypy", "pyright")
OWN_FILES = {
    "ruff": ("ruff.toml", ".ruff.toml"),
    "mypy": ("mypy.ini", ".mypy.ini"),
    "pyright": ("pyrightconfig.json",),
}
FORMATTERS = ("black", "yapf", "autopep8")


# %% find_tools
def find_tools(root: Path) -> dict[str, str]:
    """Return the configured tools, each with the name of the file that says so."""
    tables = read_tables(root)
    found = {
        tool: name
        for tool, names in OWN_FILES.items()
        for name in names
        if (root / name).is_file()
    }
    found |= {tool: "pyproject.toml" for tool in OWN_FILES if tool in tables}
    if "mypy" not in found and "mypy" in read_ini(root / "setup.cfg"):
        found["mypy"] = "setup.cfg"
    if "ruff" in found and not tables.keys() & set(FORMATTERS):
        found["format"] = found["ruff"]
    return {tool: found[tool] for tool in TOOLS if tool in found}


# %% read_tables
def read_tables(root: Path) -> dict[str, Any]:
    """Return the tables below `[tool]` of the project's `pyproject.toml`."""
    return subtable(read_toml(root / "pyproject.toml"), "tool")


def read_ini(path: Path) -> dict[str, Mapping[str, str]]:
    """Return the sections of a file such as `setup.cfg`; none if it is not there."""
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(path, "utf-8")
    except (configparser.Error, ValueError, OSError):
        return {}
    return {name: parser[name] for name in parser.sections()}


# %% find_command
def find_command(tool: str) -> list[str]:
    """Return the words that start a tool; none if it is not installed."""
    name = "ruff" if tool == "format" else tool
    if importlib.util.find_spec(name):
        return [sys.executable, "-m", name]
    found = shutil.which(name)
    return [found] if found else []


# ## What they say
# %% Remark
@dataclass(frozen=True, slots=True)
class Remark:
    """What a tool says of a line of a file, or of the cell with that number.

    Lines and cells count from 1; line 0 is the file as a whole.
    """

    tool: str
    code: str
    message: str
    file: str
    line: int = 0
    cell: int | None = None
    severity: str = "error"


# %% read_ruff
def read_ruff(text: str) -> Iterator[Remark]:
    """Read what `ruff check --output-format json` says."""
    for one in json.loads(text):
        line, cell = one["location"]["row"], one.get("cell")
        code = one["code"] or "invalid-syntax"
        yield Remark("ruff", code, one["message"], one["filename"], line, cell)


# %% read_format
DIFF_FILE = re.compile(r"--- (.+?)(?::cell (\d+))?$")


def read_format(text: str) -> Iterator[Remark]:
    """Read what `ruff format --diff` says: one remark a file, or a cell."""
    file, cell, line = "", None, 0
    for row in text.splitlines():
        if match := DIFF_FILE.match(row):
            file, cell = match[1], int(match[2]) if match[2] else None
        elif match := re.match(r"@@ -(\d+)", row):
            line = int(match[1])
        elif row.startswith(("-", "+")) and line and not row.startswith("+++"):
            message = "not formatted as `ruff format` would"
            yield Remark("format", "", message, file, line, cell)
            line = 0
        elif line:
            line += 1


# %% read_mypy
def read_mypy(text: str) -> Iterator[Remark]:
    """Read what `mypy --output json` says; notes belong to an error beside them."""
    for row in text.splitlines():
        one = json.loads(row) if row.startswith("{") else {}
        if one.get("severity") == "error":
            hint = f"; {one['hint']}" if one.get("hint") else ""
            message = one["message"] + hint
            yield Remark("mypy", one["code"] or "", message, one["file"], one["line"])


# %% read_pyright
def read_pyright(text: str) -> Iterator[Remark]:
    """Read what `pyright --outputjson` says; its lines count from 0."""
    for one in json.loads(text)["generalDiagnostics"]:
        if one["severity"] in ("error", "warning"):
            line = one["range"]["start"]["line"] + 1
            message = re.sub(r"\s*\n\s*", ": ", one["message"])
            code, severity = one.get("rule", ""), one["severity"]
            yield Remark("pyright", code, message, one["file"], line, None, severity)


# ### Running one
# %% Job
@dataclass(frozen=True, slots=True)
class Job:
    """What a tool is asked, how its answer is read, and where it is configured."""

    tool: str
    words: tuple[str, ...]
    read: Callable[[str], Iterable[Remark]]
    config: str


def run_job(job: Job, root: Path, env: Mapping[str, str]) -> list[Remark]:
    """Run a tool at the project's root and return what it says."""
    done = subprocess.run(
        job.words,
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    try:
        remarks = list(job.read(done.stdout))
    except (ValueError, KeyError, TypeError):
        remarks = []
    if remarks or (done.returncode < 2 and not done.stderr.startswith("Traceback")):
        return remarks
    message = explain_failure(job, done.stderr + done.stdout)
    return [Remark(job.tool, "", message, job.config)]


def explain_failure(job: Job, said: str) -> str:
    """Return why a tool that has failed has found nothing."""
    rows = [row for row in said.splitlines() if row.strip()]
    if rows:
        return f"did not run: {rows[-1].strip()}"
    if job.tool == "format":  # being quiet, it does not even say this
        return "some code does not parse, so it is not formatted: ruff says where"
    return "did not run, and does not say why"


# ## Sheets on disk
# %% write_sheets
def write_sheets(project: Project) -> dict[Path, Sheet]:
    """Write the sheets of the project's Python notebooks; return them by their path."""
    folder = state_dir(project.root).resolve() / "check"
    sheets: dict[Path, Sheet] = {}
    for path in list_notebooks(project):
        try:
            notebook = read_source(path, project.name_of(path))
        except LitmlError:
            continue  # the export has said so
        if notebook.language == "python":
            below = path.relative_to(project.notebooks_dir).as_posix()
            name = re.sub(r"\W", lambda found: f"_{ord(found[0]):x}_", below)
            sheets[folder / f"cells_of_{name}.py"] = make_sheet(notebook)
    with locked(state_dir(project.root)):
        folder.mkdir(exist_ok=True)
        for old in set(folder.glob("*.py")) - sheets.keys():
            old.unlink()
        for path, sheet in sheets.items():
            data = sheet.text.encode()
            if not path.exists() or path.read_bytes() != data:
                path.write_bytes(data)
    return sheets


# ## What is asked
# %% plan_jobs
def plan_jobs(
    tool: str, config: str, project: Project, sheets: Mapping[Path, Sheet]
) -> list[Job]:
    """Return what a tool is to be asked, in order; nothing if it is not installed."""
    start = find_command(tool)
    if tool == "ruff":
        words: tuple[str, ...] = ("check", "--no-fix", "--output-format", "json")
        questions = [(*words, *WHERE)]
    elif tool == "format":
        questions = [("format", "--diff", *WHERE)]
    elif tool == "mypy":
        questions = ask_mypy(config, project, sheets)
    else:
        questions = ask_pyright(config, project, sheets)
    read = READERS[tool]
    return [Job(tool, (*start, *one), read, config) for one in questions if start]


WHERE = (".", "--extend-exclude", ".litml", "--quiet")
READERS: dict[str, Callable[[str], Iterable[Remark]]] = {
    "ruff": read_ruff,
    "format": read_format,
    "mypy": read_mypy,
    "pyright": read_pyright,
}


# %% ask_mypy
def ask_mypy(
    config: str, project: Project, sheets: Mapping[Path, Sheet]
) -> list[tuple[str, ...]]:
    """Return the words of the two questions to mypy."""
    table: Mapping[str, Any] = read_tables(project.root).get("mypy", {})
    if config != "pyproject.toml":
        table = read_ini(project.root / config).get("mypy", {})
    targets: tuple[str, ...] = ()
    if not table.keys() & {"files", "packages", "modules"}:
        targets = (str(project.package_dir),)
    words = ("--output", "json")
    package = [(*words, *targets)] if project.package_dir.is_dir() else []
    return [*package, (*words, *map(str, sheets))] if sheets else package


# %% ask_pyright
def ask_pyright(
    config: str, project: Project, sheets: Mapping[Path, Sheet]
) -> list[tuple[str, ...]]:
    """Return the words of the two questions to pyright."""
    said = read_pyright_config(project.root, config)
    words: tuple[str, ...] = ("--outputjson",)
    if not said.keys() & {"venv", "venvPath"}:
        words += ("--pythonpath", sys.executable)
    if not sheets:
        return [words]
    folder = next(iter(sheets)).parent
    own = {key: said[key] for key in PYRIGHT_KEYS if key in said}
    places = [project.root, project.package_dir.parent]
    extra = [*map(str, places), *said.get("extraPaths", [])]
    settings = {**PYRIGHT, **own, "extraPaths": list(dict.fromkeys(extra))}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    return [words, (*words, "--project", str(folder))]


PYRIGHT_KEYS = (
    *("pythonVersion", "pythonPlatform", "venv", "venvPath", "stubPath"),
    *("reportMissingImports", "reportMissingModuleSource"),
)
OPTIONAL = "MemberAccess Subscript Iterable Call Operand ContextManager".split()
PYRIGHT: dict[str, Any] = {
    "include": ["."],
    "exclude": [],
    "typeCheckingMode": "basic",
    "reportRedeclaration": False,
    "reportUnusedExpression": False,
    **{f"reportOptional{kind}": False for kind in OPTIONAL},
}


# %% read_pyright_config
def read_pyright_config(root: Path, config: str) -> dict[str, Any]:
    """Return what the project tells pyright; nothing if that cannot be read."""
    if config == "pyproject.toml":
        return dict(read_tables(root).get("pyright", {}))
    try:
        settings = json.loads((root / config).read_text("utf-8"))
    except (OSError, ValueError):  # it may have comments, which JSON has not
        return {}
    return settings if isinstance(settings, dict) else {}


# ## Which place is meant
# %% Finder
@dataclass(slots=True)
class Finder:
    """Turns remarks into findings; it reads each notebook once."""

    project: Project
    sheets: Mapping[Path, Sheet]
    ids: dict[Path, list[str]] = field(default_factory=dict)

    def read_ids(self, path: Path) -> list[str]:
        """Return the ids of a notebook's cells; none if it cannot be read."""
        if path not in self.ids:
            try:
                cells = read_source(path).cells
            except LitmlError:
                cells = []
            self.ids[path] = [cell.id for cell in cells]
        return self.ids[path]

    def place(self, file: str, line: int, cell: int | None = None) -> Location | None:
        """Return the place that a tool means; None for what is silent in a sheet."""
        path = (self.project.root / file).resolve()
        name = self.project.name_of(path)
        if path in self.sheets:
            return self.sheets[path].place(line)
        if cell is not None:
            ids = self.read_ids(path)
            known = cell <= len(ids)
            return Location(name, ids[cell - 1] if known else f"number {cell}", line)
        here = locate(self.project.root, path, line) if line else None
        if self.project.notebooks_dir in path.parents and path.suffix != ".ipynb":
            here = place_in_text(path, name, line)
        return here or Location(name, line=line or None)

    def find(self, remark: Remark) -> Finding | None:
        """Return the finding for a remark, or None if its place is silent."""
        at = self.place(remark.file, remark.line, remark.cell)
        if at is None or (remark.tool, remark.message) in NOISE:
            return None

        def say(match: re.Match[str]) -> str:
            other = self.place(remark.file, int(match[1]), remark.cell)
            if other is None or other.cell is None or remark.cell is not None:
                return match[0]
            return f"line {other.line} of cell {other.cell}"

        message = re.sub(r"\bline (\d+)\b", say, remark.message)
        return Finding(remark.tool, remark.code, message, at, remark.severity)

    def order(self, finding: Finding) -> tuple[object, ...]:
        """Return a key that sorts findings as a reader meets them."""
        at = finding.at
        ids = self.read_ids(self.project.root / at.notebook) if at.cell else []
        cell = ids.index(at.cell) if at.cell in ids else -1
        return at.notebook, cell, at.line or 0, finding.tool


FUTURE = "`from __future__` imports must occur at the beginning of the file"
NOISE = {  # what is right in a notebook
    ("ruff", FUTURE),  # each cell is compiled by itself; for modules the export knows
    ("mypy", '"async with" outside async function'),
    ("mypy", '"async for" outside async function'),
    ("pyright", '"await" allowed only within async function'),
    ("pyright", 'Use of "async" not allowed outside of async function'),
}


# %% place_in_text
def place_in_text(path: Path, name: str, line: int) -> Location | None:
    """Return the place of a line in a notebook that is written as text."""
    try:
        lines = path.read_text("utf-8").split("\n")
        cells = read_source(path, name).cells
    except (LitmlError, OSError, UnicodeDecodeError):
        return None
    below = 0
    for cell in cells:
        source = cell.source.split("\n")
        for start in range(below, len(lines) - len(source) + 1):
            if lines[start : start + len(source)] == source:
                below = start + len(source)
                if start < line <= below:
                    return Location(name, cell.id, line - start)
                break
    return None


# %% merge_findings
def merge_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings without those that were made twice."""
    kept: dict[object, Finding] = {}
    for one in findings:
        key: object = (one.tool, one.code, one.at, re.sub(r"\d+", "", one.message))
        if one.tool == "format":
            key = (one.tool, one.at.notebook, one.at.cell)
        kept.setdefault(key, one)
    return list(kept.values())


# ## What litml itself finds
# %% check_export
def check_export(project: Project) -> Iterator[Finding]:
    """Yield what is wrong with notebooks and modules; nothing if nbdev exports them."""
    if project.nbdev:
        return
    report = export_project(project, check=True)
    doubts = list(list_doubts(project))
    codes = {"export": report.problems, "stale": report.stale, "notebook": doubts}
    for code, errors in codes.items():
        for error in errors:
            message = f"{error.message}; {error.hint}" if error.hint else error.message
            yield Finding(
                "litml", code, message, error.at or Location("pyproject.toml")
            )
    for name in () if report.problems else report.written:
        message = "out of date; run `litml export`"
        yield Finding("litml", "outdated", message, Location(name))


# %% check_git
def check_git(project: Project) -> Iterator[Finding]:
    """Yield what is wrong with the notebooks in git, and with this clone."""
    policy = parse_policy(project.config.tables.get("clean", {}))
    if gap := find_gap(project.root):
        message = f"{gap}; run `litml install-hooks`"
        yield Finding("litml", "hooks", message, Location(".gitattributes"), "warning")
    try:
        names = [entry.path for entry in list_index(project.root)]
        faults = find_faults(project.root, names, lambda name: policy)
    except GitError as error:
        faults = []
        if state_dir(project.root).name != ".litml":  # there is a repository
            message = f"{error.message}; {error.hint}" if error.hint else error.message
            yield Finding("litml", "git", message, Location(".git"), "warning")
    for name, fault in faults:
        yield Finding("litml", "git", fault, Location(name))


# ## The check
# %% CheckReport
@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was found, as a reader meets it, and by which tools."""

    findings: tuple[Finding, ...]
    tools: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """Is any of the findings an error?"""
        return any(one.severity == "error" for one in self.findings)


# %% check_project
def check_project(
    project: Project,
    *,
    examples: bool | None = None,
    tell: Callable[[str], None] = lambda tool: None,
) -> CheckReport:
    """Run every tool that the project has configured, on package and notebooks.

    With `examples`, type checkers see the cells that are not exported as well; without
    a word about it the configuration decides. `tell` is called with the name of a tool
    that is done.
    """
    if examples is None:
        examples = project.config.check_examples
    tools = find_tools(project.root)
    has_types = not tools.keys().isdisjoint({"mypy", "pyright"})
    sheets = write_sheets(project) if examples and has_types else {}
    remarks = ask_tools(tools, project, sheets, tell)
    finder = Finder(project, sheets)
    found = [one for remark in remarks if (one := finder.find(remark))]
    own = [*check_export(project), *check_git(project)]
    merged = merge_findings([*own, *found])
    return CheckReport(tuple(sorted(merged, key=finder.order)), ("litml", *tools))


# %% ask_tools
def ask_tools(
    tools: Mapping[str, str],
    project: Project,
    sheets: Mapping[Path, Sheet],
    tell: Callable[[str], None],
) -> list[Remark]:
    """Ask the tools, all at once, and return all that they say."""
    remarks: list[Remark] = []
    with ThreadPoolExecutor() as pool:
        asked = {
            tool: pool.submit(ask_tool, tool, config, project, sheets)
            for tool, config in tools.items()
        }
        for tool, answer in asked.items():
            remarks += answer.result()
            tell(tool)
    return remarks


# %% ask_tool
def ask_tool(
    tool: str, config: str, project: Project, sheets: Mapping[Path, Sheet]
) -> list[Remark]:
    """Return all that one tool says; if it is not installed, that."""
    jobs = plan_jobs(tool, config, project, sheets)
    if not find_command(tool):
        message = f"configured in {config}, but not installed"
        return [Remark(tool, "not-installed", message, config)]
    env = tool_env(project, os.environ)
    return [remark for job in jobs for remark in run_job(job, project.root, env)]


def tool_env(project: Project, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the tools: no colours, and the package importable."""
    env = {key: value for key, value in base.items() if "FORCE" not in key}
    above = project.package_dir.parent
    if above != project.root:  # a package in `src`
        paths = [str(above), env.get("MYPYPATH", "")]
        env["MYPYPATH"] = os.pathsep.join(path for path in paths if path)
    return env | {"NO_COLOR": "1"}
