# Exported from nbs/18f_stages.ipynb. Edit either side, then run `litml sync`.
"""Prepare, build, verify and try a release, in a work tree of its own, before
anybody can see it.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from litml.build import (
    BuildError,
    build_artifacts,
    check_contents,
    check_imports,
    check_metadata,
    install,
    list_exported,
    make_environment,
    run_quietly,
)
from litml.git import GitError, run_git
from litml.indexes import check_artifact
from litml.journal import SECRET_NAMES, Journal, ReleaseError, remove_folder
from litml.notebook import LitmlError
from litml.package import export_project
from litml.preflight import Plan, read_settings
from litml.project import Project, find_project, read_toml
from litml.text import read_source
from litml.trial import try_notebooks
from litml.version import find_line, find_version_file, release_notes, write_version

__all__ = [
    "Release",
    "Result",
    "prepare",
    "UNFILTERED",
    "has_commit",
    "remove_tree",
    "remove_work",
    "commit_all",
    "build",
    "without_secrets",
    "check_again",
    "LIMIT",
    "verify",
    "check_origin",
    "check_with_twine",
    "LOAD",
    "smoke",
    "check_programs",
]


# %% Release
@dataclass(frozen=True, slots=True)
class Release:
    """A release under way: its plan, its journal, and the project it is of.

    `remote` is where git pushes to; it differs from the plan's in a rehearsal.
    """

    project: Project
    plan: Plan
    journal: Journal
    remote: str
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    say: Callable[[str], None] = lambda line: None

    @property
    def rehearsal(self) -> bool:
        """Does it go to a stand-in for the remote?"""
        return self.remote != self.plan.remote

    @property
    def tree(self) -> Path:
        """The work tree of the release; the project's root in it may be below."""
        return self.journal.folder / "tree"

    @property
    def source(self) -> Path:
        """The project's root in that work tree."""
        top = Path(
            os.fsdecode(
                run_git(self.project.root, "rev-parse", "--show-prefix")
            ).strip()
        )
        return self.tree / top

    @property
    def dist(self) -> Path:
        """The folder of the artifacts."""
        return self.journal.folder / "dist"

    @property
    def digests(self) -> dict[str, str]:
        """The SHA-256 of the artifacts that were built, sdist first."""
        return dict((self.journal.result("build") or {}).get("files", {}))

    @property
    def commit(self) -> str:
        """The commit of the release."""
        return str((self.journal.result("prepare") or {}).get("commit", ""))


Result = dict[str, Any]


# ## Prepare
# %% prepare
def prepare(release: Release) -> Result:
    """Make the commit of the release, in a new work tree.

    Raises `ReleaseError` (E_EXPORT, E_CONTENT).
    """
    plan, root = release.plan, release.project.root
    remove_tree(release)
    known = release.commit if has_commit(root, release.commit) else ""
    words = ("worktree", "add", "--quiet", "--detach", str(release.tree))
    run_git(root, *UNFILTERED, *words, known or plan.base)
    if known:
        return {"commit": known}
    project = find_project(release.source)
    check_present(release.tree, project)
    write_release(project, plan)
    found = export_project(project)
    for error in (*found.problems, *found.stale):
        raise ReleaseError("E_EXPORT", error.message, hint=error.hint)
    when = f"{plan.when + 1} +0000"
    environ = {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    commit_all(release.tree, f"Release {plan.version}", environ)
    return {"commit": os.fsdecode(run_git(release.tree, "rev-parse", "HEAD")).strip()}


UNFILTERED = ("-c", "filter.litml.process=", "-c", "filter.litml.required=false")


def has_commit(root: Path, commit: str) -> bool:
    """Does the repository have this commit?"""
    try:
        run_git(root, "cat-file", "-e", f"{commit}^{{commit}}")
    except GitError:
        return False
    return True


def remove_tree(release: Release) -> None:
    """Remove the work tree of a release, also one that was left half-made."""
    remove_folder(release.tree)
    run_git(release.project.root, "worktree", "prune")


def remove_work(release: Release) -> None:
    """Remove all that a release has made in private, but for its journal."""
    remove_tree(release)
    for path in release.journal.folder.iterdir():
        if path.is_dir():
            remove_folder(path)


def commit_all(tree: Path, message: str, environ: Mapping[str, str]) -> None:
    """Commit what has changed in a work tree, without hooks; raises `GitError`."""
    names = [
        "git",
        *UNFILTERED,
        "commit",
        "--quiet",
        "--all",
        "--no-verify",
        "-m",
        message,
    ]
    done = subprocess.run(
        names, cwd=tree, capture_output=True, text=True, env={**os.environ, **environ}
    )
    if done.returncode:
        raise GitError(f"git commit: {done.stderr.strip() or done.stdout.strip()}")


# %% check_present
def check_present(tree: Path, project: Project) -> None:
    """Raise `ReleaseError` if files of the commit are kept somewhere else."""
    ours = (project.package_dir, project.notebooks_dir)
    listing = os.fsdecode(run_git(tree, "ls-files", "--stage", "-z"))
    for line in filter(None, listing.split("\0")):
        head, _, name = line.partition("\t")
        path = tree / name
        within = any(path.is_relative_to(one) for one in ours)
        if head.startswith("160000") and within:
            hint = "commit its files, or move it out of the package"
            raise ReleaseError("E_CONTENT", f"{name} is a submodule", hint=hint)
        small = path.is_file() and not path.is_symlink() and path.stat().st_size < 400
        if small and path.read_bytes().startswith(b"version https://git-lfs"):
            hint = "`git lfs pull`, with git-lfs installed"
            raise ReleaseError(
                "E_CONTENT", f"{name} is only a pointer of git-lfs", hint=hint
            )


# %% write_release
def write_release(project: Project, plan: Plan) -> None:
    """Write version and notes into a project's files."""
    file = find_version_file((project.root / "pyproject.toml").read_text("utf-8"))
    path = project.root / file
    text = path.read_text("utf-8")
    if text.startswith("# Exported from "):
        write_in_notebooks(project, text, file, plan.version)
    else:
        path.write_text(write_version(text, file, plan.version), "utf-8", newline="")
    changelog = project.root / plan.changelog
    date = datetime.fromtimestamp(plan.when, UTC).date().isoformat()
    notes = release_notes(changelog.read_text("utf-8"), plan.version, date)
    changelog.write_text(notes, "utf-8", newline="")


def write_in_notebooks(project: Project, text: str, file: str, version: str) -> None:
    """Write the version into the cell that a module has it from."""
    first = text.partition("\n")[0]
    names = first.removeprefix("# Exported from ").partition(". Edit")[0]
    for name in names.split(", "):
        notebook = read_source(project.root / name, name)
        for cell in notebook.cells:
            try:
                find_line(cell.source, file)
            except LitmlError:
                continue
            cell.source = write_version(cell.source, file, version)
            (project.root / name).write_bytes(notebook.to_bytes())
            return
    message = f"no cell of {names} holds the version of {file}"
    raise ReleaseError("E_EXPORT", message)


# ## Build
# %% build
def build(release: Release) -> Result:
    """Build sdist and wheel from the commit. Raises `ReleaseError` (E_BUILD)."""
    run_git(release.tree, *UNFILTERED, "reset", "--quiet", "--hard", release.commit)
    run_git(release.tree, "clean", "-ffdxq")
    fixed = {"SOURCE_DATE_EPOCH": str(release.plan.when + 1), "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory(
        dir=release.journal.folder, ignore_cleanup_errors=True
    ) as temporary:
        out = Path(temporary) / "dist"
        out.mkdir()
        try:
            environ = {**without_secrets(release.environ), **fixed}
            built = build_artifacts(release.source, out, None, release.say, environ)
        except BuildError as error:
            hint = "`--abort` gives it up; mend it, and release again"
            raise ReleaseError("E_BUILD", error.message, hint=hint) from error
        order = sorted(built, key=lambda one: one.is_wheel)
        digests = {one.path.name: one.sha256 for one in order}
        check_again(release, digests)
        remove_folder(release.dist)
        out.rename(release.dist)
    return {"files": digests}


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a build back end and its hooks may know."""
    return {
        name: value for name, value in environ.items() if not SECRET_NAMES.search(name)
    }


def check_again(release: Release, digests: Mapping[str, str]) -> None:
    """Raise `ReleaseError` if the tag that was pushed names other files than these."""
    if release.journal.result("push") and release.digests != digests:
        message = "built again, the files are not those that the tag names"
        hint = "use the same Python and back end; or `--abort`, and the next patch"
        raise ReleaseError("E_ARTIFACT_CHANGED", message, hint=hint)


# ## Verify
# %% verify
LIMIT = 100 << 20  # bytes; what indexes take without being asked


def verify(release: Release) -> Result:
    """Compare the artifacts with the commit.

    Raises `ReleaseError` (E_ARTIFACT_CHANGED, E_WHEEL_CONTENT, E_METADATA).
    """
    paths = [release.dist / name for name in release.digests]
    for path in paths:
        check_artifact(path, release.digests[path.name])
        if path.stat().st_size > LIMIT:
            message, hint = f"{path.name} is larger than 100 MB", "leave data out of it"
            raise ReleaseError("E_WHEEL_CONTENT", message, hint=hint)
    project = find_project(release.source)
    wheel = next(path for path in paths if path.suffix == ".whl")
    packed = dict(read_archive(wheel))
    with as_release_error("E_WHEEL_CONTENT"):
        check_contents(packed, list_exported(project))
    with as_release_error("E_METADATA"):
        check_metadata(packed, read_toml(project.root / "pyproject.toml"))
    known = list_known(release.tree)
    for path in paths:
        check_origin(path, known)
    check_with_twine(paths, release)
    return {"files": len(packed)}


def check_origin(path: Path, known: set[str]) -> None:
    """Raise `ReleaseError` if an artifact holds what is not in the commit."""
    inside = dict(read_archive(path))
    odd = [name for name, data in inside.items() if is_strange(name, data, known)]
    if odd:
        message = f"{path.name} holds what is not in the commit: {', '.join(odd[:10])}"
        hint = "commit it, or keep the build hook that writes it from doing so"
        raise ReleaseError("E_WHEEL_CONTENT", message, hint=hint)


def check_with_twine(paths: Sequence[Path], release: Release) -> None:
    """Let twine look at the metadata and the rendering of the readme."""
    command = [sys.executable, "-P", "-m", "twine", "check", "--strict"]
    environ = {**release.environ, "NO_COLOR": "1", "COLUMNS": "1000"}
    done = run_quietly([*command, *map(str, paths)], cwd=release.dist, environ=environ)
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        raise ReleaseError("E_METADATA", f"twine refuses it: {' '.join(lines[-3:])}")


# %% read_archive
def read_archive(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file in a wheel or an sdist."""
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                yield name, wheel.read(name)
        return
    with tarfile.open(path) as sdist:
        for member in sdist:
            file = sdist.extractfile(member) if member.isfile() else None
            if file:
                yield member.name.partition("/")[2], file.read()


def list_known(tree: Path) -> set[str]:
    """Return the digests of the files of a work tree that are as in its commit."""
    changed = set(run_git(tree, *UNFILTERED, "diff", "--name-only", "-z").split(b"\0"))
    names = set(run_git(tree, "ls-files", "-z").split(b"\0")) - changed
    paths = (tree / os.fsdecode(name) for name in names if name)
    return {digest_of(path.read_bytes()) for path in paths if path.is_file()}


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def is_strange(name: str, data: bytes, known: set[str]) -> bool:
    """Is a file inside an artifact neither from the commit nor from the back end?"""
    parts = Path(name).parts
    if any(part.endswith((".dist-info", ".egg-info")) for part in parts):
        return False
    if name in ("PKG-INFO", "setup.cfg") or not data:
        return False
    return digest_of(data) not in known


@contextmanager
def as_release_error(code: str) -> Iterator[None]:
    """Turn an error of another chapter into one of a release, with a code."""
    try:
        yield
    except ReleaseError:
        raise
    except LitmlError as error:
        where = f"{error.message} at {error.at}" if error.at else error.message
        raise ReleaseError(code, where, hint=error.hint) from error


# ## Try it
# %% smoke
LOAD = """
import sys
from importlib.metadata import distribution
for point in distribution(sys.argv[1]).entry_points:
    try:
        point.load()
    except BaseException as error:
        sys.exit(f"{point.group} `{point.name}`: {type(error).__name__}: {error}")
"""


def smoke(release: Release) -> Result:
    """Install the wheel and import all of it. Raises `ReleaseError` (E_SMOKE)."""
    project = find_project(release.source)
    modules = list_exported(project)
    wheel = next(release.dist.glob("*.whl"))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        with as_release_error("E_SMOKE"):
            python = make_environment(Path(temporary) / "venv")
            install(python, wheel)
            check_imports(python, modules, project.root)
            if read_settings(project).notebooks:
                try_notebooks(python, project, release.say)
        check_programs(python, release.plan.project)
    return {"modules": len(modules)}


def check_programs(python: Path, project: str) -> None:
    """Raise `ReleaseError` (E_SMOKE) if an entry point of a project does not load."""
    command = [str(python), "-I", "-c", LOAD, project]
    done = run_quietly(command, cwd=python.parent, timeout=300)
    if done.returncode:
        said = done.stdout.strip().splitlines() or [f"exit status {done.returncode}"]
        raise ReleaseError("E_SMOKE", f"an entry point does not load: {said[-1]}")
