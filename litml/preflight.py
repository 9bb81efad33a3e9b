# Exported from nbs/18d_preflight.ipynb. Edit either side, then run `litml sync`.
"""Look at everything that could stop a release, before anything is done, and show
all of it at once.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litml.clean import parse_policy
from litml.git import GitError, find_repository, run_git
from litml.indexes import Index, choose_index, known_repositories, list_files, send_file
from litml.journal import ReleaseError, redact_values
from litml.notebook import Location
from litml.package import export_project
from litml.project import ConfigError, Kind, Project, check_table, read_toml
from litml.signing import is_signed, try_signature
from litml.tidy import clean_project
from litml.version import (
    VersionError,
    find_version_file,
    next_version,
    read_notes,
    read_version,
)

__all__ = [
    "Settings",
    "KINDS",
    "read_settings",
    "Plan",
    "Look",
    "Check",
    "CHECKS",
    "preflight",
    "make_plan",
    "check_secrets",
]


# ## What a project says
# %% Settings
@dataclass(frozen=True, slots=True)
class Settings:
    """The table `[tool.litml.release]`.

    `index` is a name that twine knows, or an address; `simple` is where its simple
    pages are, if that cannot be guessed. `also` are the names or addresses of more
    indexes that get the same files. With `publish = "ci"` a workflow publishes
    what the tag starts, and the release waits for it. `notebooks` asks for a run of
    all notebooks with the wheel before it is published, `sign` for a signed tag even
    if git's configuration does not ask for one.
    """

    branch: str = "main"
    remote: str = "origin"
    tag: str = "v{version}"
    changelog: str = "CHANGELOG.md"
    index: str = "pypi"
    simple: str = ""
    also: tuple[str, ...] = ()
    publish: str = "here"
    test: bool = True
    notebooks: bool = False
    github: bool = True
    sign: bool = False


KINDS: dict[str, Kind] = {
    "branch": (str, "a string"),
    "remote": (str, "a string"),
    "tag": (str, "a string with {version} in it"),
    "changelog": (str, "the path of a file"),
    "index": (str, "a name or an address"),
    "simple": (str, "an address"),
    "also": (list, "a list of names or addresses"),
    "publish": (str, '"here" or "ci"'),
    "test": (bool, "true or false"),
    "notebooks": (bool, "true or false"),
    "github": (bool, "true or false"),
    "sign": (bool, "true or false"),
}


def read_settings(project: Project) -> Settings:
    """Return the project's table. Raises `ConfigError` at the first wrong key."""
    table = project.config.tables.get("release", {})
    check_table(table, KINDS, "tool.litml.release")
    values = {**table, "also": tuple(table.get("also", ()))}
    settings, at = Settings(**values), Location("pyproject.toml")
    name = "in [tool.litml.release]"
    if re.findall(r"\{[^}]*\}?", settings.tag) != ["{version}"]:
        raise ConfigError(f"`tag` {name} is {KINDS['tag'][1]}, once", at=at)
    if not all(isinstance(one, str) for one in settings.also):
        raise ConfigError(f"`also` {name} is {KINDS['also'][1]}", at=at)
    if settings.publish not in ("here", "ci"):
        raise ConfigError(f"`publish` {name} is {KINDS['publish'][1]}", at=at)
    return settings


# %% Plan
@dataclass(frozen=True, slots=True)
class Plan:
    """What a release intends; everything in it is decided before anything is done.

    `base` is the commit that the release is made from, `when` its time in seconds.
    """

    project: str
    version: str
    tag: str
    base: str
    when: int
    branch: str
    remote: str
    index: Index
    notes: str
    changelog: str = "CHANGELOG.md"
    also: tuple[Index, ...] = ()

    @property
    def indexes(self) -> tuple[Index, ...]:
        """All indexes that get the files, in the order in which they do."""
        return (self.index, *self.also)


# ## What is looked at
# %% Look
@dataclass(slots=True)
class Look:
    """A project before its release, and what has been asked for."""

    project: Project
    settings: Settings
    wanted: str = "patch"
    first: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    version: str = ""
    indexes: tuple[Index, ...] = ()
    index_wanted: str = ""  # what was asked for, if not what the project says

    @property
    def root(self) -> Path:
        """The project's root."""
        return self.project.root

    @property
    def tag(self) -> str:
        """The name of the tag; known once the version is."""
        return self.settings.tag.format(version=self.version)

    def git(self, *words: str) -> str:
        """Return what git says, without the last line end; raises `GitError`."""
        return os.fsdecode(run_git(self.root, *words)).rstrip("\n")

    def asks(self, *words: str) -> str:
        """Return what git says, or nothing if it will not say anything."""
        try:
            return self.git(*words)
        except GitError:
            return ""

    def read(self, name: str) -> str:
        """Return the text of a file of the project, "" if there is none."""
        path = self.root / name
        return path.read_text("utf-8") if path.is_file() else ""

    @property
    def table(self) -> dict[str, Any]:
        """The table `[project]`."""
        import tomllib

        return dict(tomllib.loads(self.read("pyproject.toml")).get("project", {}))


Check = Callable[[Look], Iterator[ReleaseError]]


# ### The work tree
# %% check_tree
def check_tree(look: Look) -> Iterator[ReleaseError]:
    """Is the right branch checked out, and nothing else going on?"""
    branch, wanted = look.asks("symbolic-ref", "--short", "HEAD"), look.settings.branch
    if branch != wanted:
        where = f"on branch `{branch}`" if branch else "not on a branch"
        hint = f"`git switch {wanted}`, or `branch` in [tool.litml.release]"
        yield ReleaseError("E_BRANCH", f"you are {where}, not on `{wanted}`", hint=hint)
    if what := find_operation(find_repository(look.root).git_dir):
        message = f"git is in the middle of a {what}"
        yield ReleaseError("E_MIDOP", message, hint="end it first")
    changed = look.git("status", "--porcelain", "--untracked-files=normal").splitlines()
    if changed:
        names = ", ".join(line[3:] for line in changed[:10])
        hint = "commit them, ignore them, or put them away"
        yield ReleaseError("E_DIRTY", f"not committed: {names}", hint=hint)
    if look.git("rev-parse", "--is-shallow-repository") == "true":
        hint = "`git fetch --unshallow`"
        yield ReleaseError("E_SHALLOW", "the clone is shallow", hint=hint)


OPERATIONS = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
}


def find_operation(git_dir: Path) -> str:
    """Return what git is in the middle of, "" if it is in the middle of nothing."""
    found = (OPERATIONS[name] for name in OPERATIONS if (git_dir / name).exists())
    return next(found, "")


# %% check_identity
def check_identity(look: Look) -> Iterator[ReleaseError]:
    """Does git know who releases, and can it sign for them if it is to?"""
    for key in ("user.name", "user.email"):
        if not look.asks("config", key) and not look.environ.get("GIT_AUTHOR_NAME"):
            hint = f"`git config --global {key} …`"
            yield ReleaseError("E_IDENTITY", f"git does not know your {key}", hint=hint)
            return
    keys = ("tag.gpgSign", "commit.gpgSign")
    if look.settings.sign or any(is_signed(look.root, key) for key in keys):
        try:
            try_signature(look.root)
        except ReleaseError as error:
            yield error


# ### The remote
# %% check_remote
def check_remote(look: Look) -> Iterator[ReleaseError]:
    """Does the remote have the commit that is checked out, and nothing newer?"""
    remote, branch = look.settings.remote, look.settings.branch
    try:
        look.git("fetch", "--quiet", "--no-tags", remote, branch)
    except GitError as error:
        hint = f"`git remote -v` shows where `{remote}` is"
        yield ReleaseError(
            "E_REMOTE", f"the remote does not answer: {error.message}", hint=hint
        )
        return
    ours = int(look.git("rev-list", "--count", "FETCH_HEAD..HEAD"))
    theirs = int(look.git("rev-list", "--count", "HEAD..FETCH_HEAD"))
    if ours and theirs:
        message = f"your branch and `{remote}/{branch}` have diverged"
        yield ReleaseError(
            "E_DIVERGED", message, hint="`git pull --rebase`, then `git push`"
        )
    elif ours:
        message = f"{ours} commits are not on `{remote}/{branch}` yet"
        yield ReleaseError("E_AHEAD", message, hint=f"`git push {remote} {branch}`")
    elif theirs:
        message = f"`{remote}/{branch}` has {theirs} commits that you have not"
        yield ReleaseError("E_BEHIND", message, hint="`git pull`")


# ### The notebooks
# %% check_notebooks
def check_notebooks(look: Look) -> Iterator[ReleaseError]:
    """Is the package what the notebooks export, and are these clean?"""
    found = export_project(look.project, check=True)
    wrong = [str(error.message) for error in (*found.problems, *found.stale)]
    if wrong or found.written:
        names = "; ".join([*wrong, *found.written])
        hint = "`litml export`, or `litml sync` if a module was edited; then commit"
        yield ReleaseError(
            "E_SYNC", f"not what the notebooks export: {names}", hint=hint
        )
    policy = parse_policy(look.project.config.tables.get("clean", {}))
    report = clean_project(look.project, policy, check=True)
    dirty = [change.name for change in report.changed]
    dirty += [str(error.at) for error in report.problems]
    dirty += [str(finding.at) for finding in report.findings]
    if dirty:
        hint = "`litml clean`, then commit"
        yield ReleaseError("E_CLEAN", f"not clean: {', '.join(dirty)}", hint=hint)


# ### Version and notes
# %% check_version
def check_version(look: Look) -> Iterator[ReleaseError]:
    """Is there a next version, which nobody has used, and something to say of it?"""
    try:
        file = find_version_file(look.read("pyproject.toml"))
        look.version = next_version(read_version(look.read(file), file), look.wanted)
    except VersionError as error:
        code = (
            "E_LOCAL_VERSION" if "local label" in error.message else "E_VERSION_ORDER"
        )
        yield ReleaseError(code, error.message, hint=error.hint)
        return
    if look.asks("rev-parse", "--verify", "--quiet", f"refs/tags/{look.tag}"):
        hint = f"`git tag -d {look.tag}` if it is a leftover"
        yield ReleaseError(
            "E_TAG_LOCAL", f"there is a tag `{look.tag}` here", hint=hint
        )
    if look.asks("ls-remote", look.settings.remote, f"refs/tags/{look.tag}"):
        hint = "choose the next version"
        yield ReleaseError(
            "E_TAG_REMOTE", f"the remote has a tag `{look.tag}`", hint=hint
        )
    yield from check_notes(look)


def check_notes(look: Look) -> Iterator[ReleaseError]:
    """Does the changelog say what is new?"""
    name = look.settings.changelog
    try:
        empty = read_notes(look.read(name)).empty
    except VersionError as error:
        yield ReleaseError("E_NOTES", error.message, hint=error.hint)
        return
    if empty:
        hint = f"write what has changed below `Unreleased` in {name}"
        yield ReleaseError("E_NOTES", "there are no notes for this release", hint=hint)


# ### The project's own data
# %% check_metadata
def check_metadata(look: Look) -> Iterator[ReleaseError]:
    """Is what the project says of itself complete, and allowed on an index?"""
    table = look.table
    for key in ("name", "description", "requires-python", "readme", "license"):
        if key not in table and key not in table.get("dynamic", []):
            hint = f"write `{key} = …` in [project]"
            yield ReleaseError("E_METADATA", f"[project] has no `{key}`", hint=hint)
    extras = table.get("optional-dependencies", {}).values()
    every = [
        *table.get("dependencies", []),
        *(one for extra in extras for one in extra),
    ]
    if direct := [one for one in every if re.search(r"\s@\s|://", one)]:
        hint = "an index takes only names and versions"
        message = f"a dependency is an address: {', '.join(direct)}"
        yield ReleaseError("E_DIRECT_URL", message, hint=hint)


# ### The build
# %% check_build
def check_build(look: Look) -> Iterator[ReleaseError]:
    """Is there room for a build, and would a workflow build the same bytes?"""
    if shutil.disk_usage(find_repository(look.root).common_dir).free < 200 << 20:
        hint = "make room for 200 MB"
        yield ReleaseError("E_DISK", "the disk is nearly full", hint=hint)
    table = read_toml(look.root / "pyproject.toml").get("build-system", {})
    loose = find_loose(table.get("requires", ["setuptools"]))  # PEP 518's default
    if loose and look.settings.publish == "ci":
        hint = 'in [build-system], such as `requires = ["hatchling>=1.33,<1.34"]`'
        message = f"the workflow may build with another {', '.join(loose)}: limit it"
        yield ReleaseError("E_BACKEND", message, hint=hint)


def find_loose(requires: list[str]) -> list[str]:
    """Return the requirements that any later version meets."""
    limited = re.compile("==|~=|<")
    return [one for one in requires if not limited.search(one.partition(";")[0])]


# ### The index
# %% check_index
def check_index(look: Look) -> Iterator[ReleaseError]:
    """Can each index be asked, is the version free on it, and are we let in?"""
    if find_spec("twine") is None:
        hint = "`pip install 'litml[release]'`"
        yield ReleaseError("E_TOOLS", "twine, which uploads, is not here", hint=hint)
        return
    try:
        look.indexes = choose_indexes(look.settings)
    except ReleaseError as error:
        yield error
        return
    for index in look.indexes:
        yield from check_one_index(look, index)


def choose_indexes(settings: Settings) -> tuple[Index, ...]:
    """Return all indexes that get the files; raises `ReleaseError` (E_INDEX)."""
    known = known_repositories()
    first = choose_index(settings.index, known, settings.simple)
    return (first, *(choose_index(name, known) for name in settings.also))


def check_one_index(look: Look, index: Index) -> Iterator[ReleaseError]:
    """Can this index be asked, is the version free on it, and are we let in?"""
    try:
        files = list_files(index, look.table["name"])
    except ReleaseError as error:
        yield error
        return
    if not files and not look.first:
        hint = "`--first` says that the name is right and this is its first release"
        message = f"{index.upload} does not know `{look.table['name']}`"
        yield ReleaseError("E_FIRST", message, hint=hint)
    if taken := [name for name in files if look.version and is_of(name, look.version)]:
        message = f"{index.upload} has files of {look.version}: {', '.join(taken)}"
        yield ReleaseError("E_VERSION_EXISTS", message, hint="choose the next version")
    if look.settings.publish == "here":
        yield from check_credentials(look, index)


def is_of(name: str, version: str) -> bool:
    """Is a file, by its name, one of that version?"""
    from packaging.utils import (
        InvalidSdistFilename,
        InvalidWheelFilename,
        parse_sdist_filename,
        parse_wheel_filename,
    )

    try:
        wheel = name.endswith(".whl")
        found = (
            parse_wheel_filename(name)[1] if wheel else parse_sdist_filename(name)[1]
        )
    except (InvalidWheelFilename, InvalidSdistFilename):
        return False
    return str(found) == version


def check_credentials(look: Look, index: Index) -> Iterator[ReleaseError]:
    """Does the index know who we are?"""
    answer = send_file(index, None, look.environ, timeout=90)
    if answer.status not in (401, 403):
        return
    hint = "set TWINE_USERNAME=__token__ and TWINE_PASSWORD, or use keyring or .pypirc"
    if "NonInteractive" in answer.reason:
        message = f"there are no credentials for {index.upload}"
        yield ReleaseError("E_NO_TOKEN", message, hint=hint)
    else:
        message = f"the credentials will not do for {index.upload}: {answer.reason}"
        yield ReleaseError("E_AUTH", message, hint=hint)


# ### The tests
# %% check_tests
def check_tests(look: Look) -> Iterator[ReleaseError]:
    """Do the project's tests pass? For a commit that is asked only once."""
    commit = look.git("rev-parse", "HEAD")
    known = release_folder(look.root) / f"tested-{commit}"
    if known.exists():
        return
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=look.root, capture_output=True, text=True)
    if done.returncode:
        lines = done.stdout.strip().splitlines() or [done.stderr.strip()]
        failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
        message = "the tests fail: " + "; ".join(failed[:5] or lines[-1:])
        hint = "mend them; `--no-test` releases without asking them"
        yield ReleaseError("E_TEST", message, hint=hint)
        return
    known.parent.mkdir(parents=True, exist_ok=True)
    known.touch()


def release_folder(root: Path) -> Path:
    """Return the folder of releases, in git's common directory."""
    return find_repository(root).common_dir / "litml" / "release"


# ## All at once
# %% preflight
CHECKS: tuple[Check, ...] = (
    check_tree,
    check_identity,
    check_remote,
    check_notebooks,
    check_version,
    check_metadata,
    check_build,
    check_index,
)


def preflight(look: Look, tell: Callable[[str], None] = lambda name: None) -> Plan:
    """Return the plan of a release that nothing speaks against.

    Raises an `ExceptionGroup` with a `ReleaseError` for each thing that does.
    """
    problems: list[ReleaseError] = []
    base = look.asks("rev-parse", "HEAD")
    tests = (check_tests,) if look.settings.test else ()
    for check in (*CHECKS, *tests):
        if check is check_tests and problems:
            break
        tell(check.__name__.replace("_", " "))
        try:
            problems += check(look)
        except GitError as error:
            problems.append(ReleaseError("E_GIT", error.message, hint=error.hint))
    if look.asks("rev-parse", "HEAD") != base:
        message = "there is another commit than when this began"
        hint = "the same command looks at that one"
        problems.append(ReleaseError("E_MOVED", message, hint=hint))
    if not problems:
        plan = make_plan(look, base)
        problems += check_secrets(plan)
    if problems:
        raise ExceptionGroup("this cannot be released yet", problems)
    return plan


def make_plan(look: Look, base: str) -> Plan:
    """Return the plan of a release from the commit `base`."""
    changelog = look.settings.changelog
    index, *also = look.indexes
    return Plan(
        project=look.table["name"],
        version=look.version,
        tag=look.tag,
        base=base,
        when=int(look.git("show", "-s", "--format=%ct", base)),
        branch=look.settings.branch,
        remote=look.settings.remote,
        index=index,
        notes=read_notes(look.git("show", f"{base}:./{changelog}")).text,
        changelog=changelog,
        also=tuple(also),
    )


def check_secrets(plan: Plan) -> Iterator[ReleaseError]:
    """Is there a secret in what will be public, or written down?"""
    known = {**asdict(plan), "also": [asdict(one) for one in plan.also]}  # as JSON
    if redact_values(known) != known:
        message = "the notes, or the address of remote or index, hold a secret"
        hint = (
            "take it out: what a variable called TOKEN, PASSWORD or SECRET holds,"
            " what looks like a token, or a name before the @ of an address"
        )
        yield ReleaseError("E_SECRET", message, hint=hint)
