# Exported from nbs/18_build.ipynb. Edit either side, then run `litml sync`.
"""Build a project's sdist and wheel, and prove that the wheel is whole before
anybody installs it.
"""

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

from litml.files import Transaction, locked, state_dir
from litml.notebook import LitmlError, Location
from litml.package import export_project
from litml.parts import locate
from litml.project import Project, read_toml
from litml.record import find_generated
from litml.trial import try_notebooks

__all__ = [
    "Artifact",
    "BuildError",
    "build_project",
    "check_exported",
    "build_artifacts",
    "describe",
    "run_quietly",
    "missing_requirements",
    "TELLING",
    "build_failure",
    "place",
    "Exported",
    "list_exported",
    "prove_wheel",
    "check_contents",
    "check_metadata",
    "read_metadata",
    "is_same",
    "make_environment",
    "install",
    "PROBE",
    "Failure",
    "try_import",
    "check_imports",
    "import_hint",
    "find_cell",
]


# %% Artifact
@dataclass(frozen=True, slots=True)
class Artifact:
    """A file for the package index, and the SHA-256 of its bytes in hexadecimal."""

    path: Path
    sha256: str

    @property
    def is_wheel(self) -> bool:
        """Is it the wheel, and not the sdist?"""
        return self.path.suffix == ".whl"


# %% BuildError
class BuildError(LitmlError):
    """A project that cannot be built, or a wheel that is not whole."""


# ## Building
# %% build_project
def build_project(
    project: Project,
    isolated: bool | None = None,
    report: Callable[[str], None] = lambda line: None,
    notebooks: bool = False,
) -> tuple[Artifact, ...]:
    """Build the project's sdist and wheel, prove the wheel, and put both in `dist/`.

    `isolated` says whether the build back end gets an environment of its own; by
    default it does if this one lacks what the project asks for. With `notebooks` these
    are run with the wheel as well. Raises `BuildError`, or `TrialError`.
    """
    check_exported(project)
    with tempfile.TemporaryDirectory(prefix="litml-build-") as temporary:
        built = build_artifacts(project.root, Path(temporary), isolated, report)
        wheel = next(one.path for one in built if one.is_wheel)
        prove_wheel(wheel, project, report, notebooks)
        return place(built, project.root / "dist", state_dir(project.root))


# %% check_exported
def check_exported(project: Project) -> None:
    """Raise unless the package is exactly what the notebooks export."""
    found = export_project(project, check=True)
    for error in (*found.problems, *found.stale):
        raise error
    if found.written:
        names = ", ".join(found.written)
        hint = "run `litml export`"
        raise BuildError(f"not what the notebooks export: {names}", hint=hint)


# %% build_artifacts
def build_artifacts(
    source: Path,
    out: Path,
    isolated: bool | None,
    report: Callable[[str], None],
    environ: Mapping[str, str] | None = None,
) -> tuple[Artifact, ...]:
    """Build the sdist, and from it the wheel, of the project at `source` into `out`."""
    if isolated is None:
        isolated = bool(missing_requirements(source))
    where = "an environment of its own" if isolated else "this environment"
    report(f"building sdist and wheel in {where}")
    options = [] if isolated else ["--no-isolation"]
    # -P: a folder called `build` must not be taken for the program
    command = [sys.executable, "-P", "-m", "build", *options, "--outdir", str(out)]
    done = run_quietly([*command, str(source)], cwd=source, environ=environ)
    if done.returncode:
        raise build_failure(done.stdout)
    return tuple(describe(path) for path in sorted(out.iterdir()))


# %% describe
def describe(path: Path) -> Artifact:
    """Return the artifact at `path`."""
    return Artifact(path, hashlib.sha256(path.read_bytes()).hexdigest())


# %% run_quietly
def run_quietly(
    command: Sequence[str],
    cwd: Path,
    timeout: float | None = None,
    environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command without input; both its outputs come back as `stdout`."""
    return subprocess.run(
        command,
        cwd=cwd,
        timeout=timeout,
        env=environ,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


# %% missing_requirements
def missing_requirements(source: Path) -> list[str]:
    """Return what `[build-system]` requires and this environment has not."""
    from build import check_dependency

    table = read_toml(source / "pyproject.toml").get("build-system", {})
    requires = table.get("requires", ["setuptools", "wheel"])  # PEP 518's default
    return [one for one in requires if any(check_dependency(one))]


# %% build_failure
TELLING = (
    re.compile(r"^< ERROR: (.+)", re.MULTILINE),  # pip
    re.compile(r"^(?!\S*CalledProcess)([\w.]*(?:Error|Exception): .+)", re.MULTILINE),
    re.compile(r"^ERROR (.+)", re.MULTILINE | re.DOTALL),  # build
)


def build_failure(output: str) -> BuildError:
    """Make an error of what `build` printed before it stopped."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    matches = (pattern.findall(plain) for pattern in TELLING)
    found = next(filter(None, matches), [plain[-500:]])
    hint = "look at [project], [build-system] and the back end's table"
    at = Location("pyproject.toml")
    return BuildError(f"cannot be built: {found[-1].strip()}", at=at, hint=hint)


# %% place
def place(built: Sequence[Artifact], dist: Path, state: Path) -> tuple[Artifact, ...]:
    """Write the artifacts into `dist`, all or none; return them where they are now."""
    with locked(state), Transaction(state) as files:
        for one in built:
            files.stage(dist / one.path.name, one.path.read_bytes())
        files.commit()
    return tuple(Artifact(dist / one.path.name, one.sha256) for one in built)


# ## Proving: is everything inside?
# %% Exported
@dataclass(frozen=True, slots=True)
class Exported:
    """A module that notebooks export.

    `name` is what Python imports, `inside` the file's path in the wheel, and
    `notebooks` are named as in messages.
    """

    name: str
    file: Path
    inside: str
    notebooks: str


# %% list_exported
def list_exported(project: Project) -> list[Exported]:
    """Return the modules of the package that come from notebooks."""
    modules = []
    folder = re.sub("^src/", "", Path(project.config.package).as_posix())
    for target in sorted(find_generated(project.package_dir)):
        file = project.package_dir / target
        first = file.read_text("utf-8").partition("\n")[0]
        notebooks = first.removeprefix("# Exported from ").partition(". Edit")[0]
        inside = f"{folder}/{target}"
        name = re.sub(r"(/__init__)?\.py$", "", inside).replace("/", ".")
        modules.append(Exported(name, file, inside, notebooks))
    return modules


# %% prove_wheel
def prove_wheel(
    wheel: Path,
    project: Project,
    report: Callable[[str], None] = lambda line: None,
    notebooks: bool = False,
) -> None:
    """Raise `BuildError` unless the wheel is whole.

    Every exported module is inside, byte for byte; name and version are the
    project's; and each module imports in a fresh environment. On request the
    notebooks run with it (`17_trial`).
    """
    modules = list_exported(project)
    if not modules:
        hint = "begin a cell with `#| export`, then run `litml export`"
        raise BuildError("no notebook exports anything", hint=hint)
    with zipfile.ZipFile(wheel) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    check_contents(inside, modules)
    check_metadata(inside, read_toml(project.root / "pyproject.toml"))
    # A program that was just installed may still be open, which Windows minds
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        report("installing the wheel in a fresh environment")
        python = make_environment(Path(temporary) / "venv")
        install(python, wheel)
        report(f"importing {len(modules)} modules from it")
        check_imports(python, modules, project.root)
        if notebooks:
            try_notebooks(python, project, report)


# %% check_contents
def check_contents(inside: Mapping[str, bytes], modules: Sequence[Exported]) -> None:
    """Raise `BuildError` for the modules that the wheel lacks, or has otherwise."""
    lacking = [one for one in modules if one.inside not in inside]
    if lacking:
        names = ", ".join(f"`{one.name}` ({one.notebooks})" for one in lacking)
        hint = (
            "see [tool.hatch.build.targets.wheel] and [tool.hatch.build.targets.sdist]"
            " in pyproject.toml, and .gitignore: hatchling leaves out what git ignores"
        )
        raise BuildError(
            f"the wheel lacks {names}", at=Location("pyproject.toml"), hint=hint
        )
    for one in modules:
        if inside[one.inside] != one.file.read_bytes():
            hint = "a file changed during the build, or a build hook rewrites it"
            at = Location(one.notebooks)
            raise BuildError(f"the wheel has another `{one.name}`", at=at, hint=hint)


# %% check_metadata
def check_metadata(
    inside: Mapping[str, bytes], pyproject: Mapping[str, object]
) -> None:
    """Raise `BuildError` unless the wheel says the project's name and version."""
    found = read_metadata(inside)
    declared = pyproject.get("project")
    for key in ("name", "version"):
        wanted = declared.get(key) if isinstance(declared, dict) else None
        said = str(found[key] or "")
        if wanted is not None and not is_same(key, str(wanted), said):
            message = f"the wheel's {key} is `{said}`, the project's `{wanted}`"
            raise BuildError(message, at=Location("pyproject.toml"))


# %% read_metadata
def read_metadata(inside: Mapping[str, bytes]) -> Message:
    """Return the wheel's metadata, whose keys ignore case."""
    for name, content in inside.items():
        if re.fullmatch(r"[^/]+\.dist-info/METADATA", name):
            return BytesParser().parsebytes(content)
    raise BuildError("the wheel has no metadata")


# %% is_same
def is_same(key: str, left: str, right: str) -> bool:
    """Are two names, or two versions, spellings of the same one?"""
    from packaging.utils import canonicalize_name, canonicalize_version

    if key == "name":
        return canonicalize_name(left) == canonicalize_name(right)
    return canonicalize_version(left) == canonicalize_version(right)


# ## Proving: does it import?
# %% make_environment
def make_environment(folder: Path) -> Path:
    """Create an empty virtual environment and return the path of its Python."""
    own_pip = importlib.util.find_spec("pip") is None
    windows = os.name == "nt"
    try:
        venv.EnvBuilder(with_pip=own_pip, symlinks=not windows).create(folder)
    except subprocess.CalledProcessError as error:
        hint = "install pip: `python -m ensurepip`, or `uv pip install pip`"
        raise BuildError("no pip to install the wheel with", hint=hint) from error
    return folder / ("Scripts/python.exe" if windows else "bin/python")


# %% install
def install(python: Path, wheel: Path) -> None:
    """Install the wheel and its dependencies for `python`; raises `BuildError`."""
    if importlib.util.find_spec("pip") is None:
        command = [str(python), "-m", "pip", "install"]
    else:
        command = [sys.executable, "-m", "pip", "--python", str(python), "install"]
    options = ["--quiet", "--no-input", "--disable-pip-version-check"]
    done = run_quietly([*command, *options, str(wheel)], cwd=wheel.parent)
    if done.returncode:
        lines = [line for line in done.stdout.splitlines() if line.startswith("ERROR")]
        reason = "\n  ".join(lines or done.stdout.splitlines()[-3:])
        hint = "every entry of `dependencies` must be on the package index"
        at = Location("pyproject.toml")
        raise BuildError(f"the wheel cannot be installed\n  {reason}", at=at, hint=hint)


# %% PROBE
PROBE = """
import importlib, json, sys, traceback
try:
    importlib.import_module(sys.argv[1])
except BaseException as error:
    frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError):
        frames.append((error.filename, error.lineno))
    absent = error.name if isinstance(error, ModuleNotFoundError) else ""
    said = [f"{type(error).__name__}: {error}", frames, absent or ""]
    print("\\n" + json.dumps(said))
    sys.exit(1)
"""


# %% Failure
@dataclass(frozen=True, slots=True)
class Failure:
    """Why a module did not import.

    `frames` are the file and line of each call, the innermost last; `absent` is the
    module that was not found, if that was it.
    """

    reason: str
    frames: Sequence[tuple[str, int]] = ()
    absent: str = ""


# %% try_import
def try_import(python: Path, name: str, timeout: float = 300) -> Failure | None:
    """Import a module in a process of its own; return why that failed, if it did."""
    command = [str(python), "-I", "-c", PROBE, name]
    try:
        done = run_quietly(command, cwd=python.parent, timeout=timeout)
    except subprocess.TimeoutExpired:
        return Failure(f"no end within {timeout:g} seconds")
    if done.returncode == 0:
        return None
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        reason, frames, absent = json.loads(last)
    except (ValueError, TypeError):
        return Failure(f"exit status {done.returncode}. {last}".strip())
    return Failure(reason, frames, absent)


# %% check_imports
def check_imports(python: Path, modules: Sequence[Exported], root: Path) -> None:
    """Raise `BuildError` for the first module that `python` cannot import."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = list(pool.map(lambda one: try_import(python, one.name), modules))
    for module, failure in zip(modules, failures, strict=True):
        if failure:
            message = (
                f"`{module.name}` does not import from the wheel: {failure.reason}"
            )
            at = find_cell(failure.frames, modules, root)
            hint = import_hint(failure.absent, module)
            raise BuildError(message, at=at or Location(module.notebooks), hint=hint)


# %% import_hint
def import_hint(absent: str, module: Exported) -> str | None:
    """Say what to do about a module that was not found."""
    top = absent.partition(".")[0]
    if not absent:
        return None
    if top == module.name.partition(".")[0]:
        return f"no notebook exports `{absent}`, or the wheel lacks it"
    return f"add the project that `{top}` comes from to `dependencies`"


# %% find_cell
def find_cell(
    frames: Sequence[tuple[str, int]], modules: Sequence[Exported], root: Path
) -> Location | None:
    """Return the cell and line of the innermost frame that lies in a module."""
    for file, line in reversed(frames):
        for module in modules:
            if Path(file).as_posix().endswith(f"/{module.inside}"):
                return locate(root, module.file, line)
    return None
