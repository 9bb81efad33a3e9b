"""Releases against a real index, a real remote, and everything that can go wrong.

The index is pypiserver behind a proxy that fails on demand; the remote is a bare
repository with hooks. Most tests replace the build by two small files, for it is the
same every time; one test builds for real, and `test_build.py` is about building.
"""

import errno
import gzip
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ENVIRONMENT
from releasing import (
    FAST,
    PASSWORD,
    TOKEN,
    Fault,
    Pages,
    Project,
    Proxy,
    new_name,
    quick,
    run_index,
    send_here,
    skip_smoke,
)

from litml import github, publish, stages
from litml.build import make_environment
from litml.from_tag import read_promise, release_tag
from litml.indexes import Index, list_files, send_file
from litml.journal import ReleaseError
from litml.loopback import LoopbackIndex
from litml.notebook import LitmlError
from litml.project import ConfigError, find_project
from litml.release import (
    Events,
    abort_project,
    find_status,
    rehearse,
    release_project,
)

pytest.importorskip("pypiserver", reason="the index that is published to")
slow = pytest.mark.slow  # what builds for real, or is one more of the same kind
POST, PAGE = "^/$", "^/simple/"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an index."""
    with run_index(tmp_path_factory.mktemp("index")) as address:
        yield address


@pytest.fixture
def proxy(index: str) -> Iterator[Proxy]:
    """The index, behind a proxy."""
    with Proxy(index).running() as proxy:
        yield proxy


@pytest.fixture
def project(
    tmp_path: Path,
    proxy: Proxy,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Project]:
    """A project of a name that nobody has used; afterwards no file holds the token."""
    monkeypatch.setenv("LITML_RELEASE_PAUSE", "0.01")
    name = new_name(request.node.nodeid)
    made = Project(tmp_path, name, proxy.address)
    yield made
    assert made.leaks() == []


def served(project: Project, proxy: Proxy) -> list[str]:
    """The files that the index serves, past all faults of the proxy."""
    proxy.faults.clear()
    settings = project.look().settings
    address = settings.index.rstrip("/")
    return sorted(list_files(Index(f"{address}/", f"{address}/simple"), project.name))


def is_complete(project: Project, proxy: Proxy, version: str = "0.2.0") -> None:
    """Tag, branch and both files are there, and belong together."""
    refs = project.remote_refs()
    files = served(project, proxy)
    assert len(files) == 2
    assert all(version in name for name in files)
    peeled = project.git(
        "rev-parse", f"{refs[f'refs/tags/v{version}']}^{{}}", cwd=project.remote
    )
    assert refs["refs/heads/main"] == peeled
    message = project.git(
        "cat-file", "tag", refs[f"refs/tags/v{version}"], cwd=project.remote
    )
    assert all(name in message for name in files)
    assert find_status(project.look().project) is None


def is_untouched(project: Project, before: dict[str, str]) -> None:
    """The remote is what it was, and nothing is left behind."""
    assert project.remote_refs() == before
    assert project.git("worktree", "list").count("\n") == 0


def codes(project: Project, wanted: str = "minor") -> list[str]:
    """The codes of everything that the preflight has to say."""
    with quick(send_file=send_here), pytest.raises(ExceptionGroup) as caught:
        project.release(wanted)
    return sorted(error.code for error in caught.value.exceptions)  # type: ignore[attr-defined]


def stopped(project: Project, **replaced: Callable[..., Any]) -> str:
    """The code at which a release stops."""
    with quick(**{**FAST, **replaced}), pytest.raises(ReleaseError) as caught:
        project.release()
    return caught.value.code


def finish(project: Project) -> None:
    with quick(**FAST):
        project.release()


# The whole way -----------------------------------------------------------------------


def test_from_a_commit_to_pip_install(
    project: Project, proxy: Proxy, tmp_path: Path
) -> None:
    """Scenario 1: nothing is replaced; the work tree ends at the release."""
    done = project.litml("release", "minor", "--first")
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    stages = "preflight prepare build verify smoke push upload confirm ghrelease finish"
    assert [line.split()[0] for line in done.stdout.splitlines()[:-1]] == stages.split()
    is_complete(project, proxy)
    assert project.git("status", "--porcelain") == ""
    assert project.git("log", "-1", "--format=%s") == "Release 0.2.0"
    assert 'version = "0.2.0"' in (project.root / "pyproject.toml").read_text()
    changelog = (project.root / "CHANGELOG.md").read_text()
    assert "## Unreleased\n\n## 0.2.0 - " in changelog
    target = tmp_path / "installed"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
    ]
    where = ["--index-url", f"{proxy.address}/simple/", f"{project.name}==0.2.0"]
    environ = {**ENVIRONMENT, "PIP_CONFIG_FILE": os.devnull}
    subprocess.run([*command, str(target), *where], env=environ, check=True)
    code = "from tiny.core import double; print(double(21))"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=target,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "42\n"
    # A second release goes on from there.
    (project.root / "CHANGELOG.md").write_text(
        changelog.replace("## Unreleased\n", "## Unreleased\n\n- More.\n")
    )
    project.commit()
    project.git("push", "--quiet", "origin", "main")
    with quick(**FAST):
        assert project.release("patch").plan.version == "0.2.1"


@slow
def test_from_nothing_to_pip_install(proxy: Proxy, tmp_path: Path) -> None:
    """`litml new`, a remote, `litml release`, `pip install`, and a first example."""
    project = object.__new__(Project)
    project.name = f"numbers-{os.getpid()}"
    project.root, project.remote = tmp_path, tmp_path / "remote.git"
    begin = time.monotonic()
    about = ["--description", "Numbers.", "--author", "A", "--email", "a@example.org"]
    made = project.litml("new", project.name, *about, "--yes")
    assert made.returncode == 0, made.stderr
    project.root = tmp_path / project.name
    edit(project, "pyproject.toml", 'publish = "ci"', 'publish = "here"')
    project.write("CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n- Numbers.\n")
    project.git("init", "--quiet", "--bare", "-b", "main", str(project.remote))
    project.git("init", "--quiet", "-b", "main")
    for key, value in (("user.name", "A"), ("user.email", "a@example.org")):
        project.git("config", key, value)
    project.git("remote", "add", "origin", str(project.remote))
    push(project)
    index = ["--index", f"{proxy.address}/"]
    done = project.litml("release", "0.1.0", "--first", *index)
    assert done.returncode == 0, done.stderr
    target, module = tmp_path / "installed", project.name.replace("-", "_")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    source = ["--target", str(target), "--index-url", f"{proxy.address}/simple/"]
    environ = {**ENVIRONMENT, "PIP_CONFIG_FILE": os.devnull}
    subprocess.run([*pip, *source, project.name], env=environ, check=True)
    code = f"""
        from {module} import accuracy, fit, make_examples
        training = fit(make_examples(200, seed=0))
        print(accuracy(training.model, make_examples(1000, seed=1)) > 0.9)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    found = subprocess.run(command, cwd=target, capture_output=True, text=True)
    print(f"from nothing to an installed package: {time.monotonic() - begin:.0f} s")
    assert found.stdout == "True\n", found.stderr
    assert (target / f"{module}-0.1.0.dist-info").is_dir()
    assert PASSWORD not in done.stdout + done.stderr
    assert project.leaks() == []


def test_a_rehearsal_leaves_nothing(project: Project, proxy: Proxy) -> None:
    left = project.root / ".git/litml/release/rehearsal-1"
    (left / "dist").mkdir(parents=True)
    before, refs = project.snapshot(), project.remote_refs()
    head = project.git("rev-parse", "HEAD")
    with quick(smoke=skip_smoke):
        release = rehearse(project.look())
    assert release.plan.version == "0.2.0"
    assert not left.exists(), "nor what one that was killed has left"
    is_untouched(project, refs)
    assert project.snapshot() == before
    assert project.git("rev-parse", "HEAD") == head
    assert project.git("tag", "--list") == ""
    assert served(project, proxy) == []


@slow
def test_two_clones_build_the_same_bytes(project: Project, tmp_path: Path) -> None:
    """Nor does an untracked file, or an ignored one, get into them."""
    (project.root / ".git/info/exclude").write_text(".env\n")
    project.write(".env", "KEY=1")
    first = build_in_rehearsal(project)
    clone = tmp_path / "clone"
    project.git("clone", "--quiet", str(project.remote), str(clone))
    project.root = clone
    for key, value in (("user.name", "B"), ("user.email", "b@example.org")):
        project.git("config", key, value)
    kept = os.umask(0o077)
    try:
        second = build_in_rehearsal(project)
    finally:
        os.umask(kept)
    assert len(first) == 2
    assert first == second


def build_in_rehearsal(project: Project) -> dict[str, bytes]:
    """Return the artifacts that a rehearsal has built."""
    built: dict[str, bytes] = {}

    def keep(name: str, state: str, text: str) -> None:
        if (name, state) == ("smoke", "start"):
            releases = project.root / ".git/litml/release"
            for path in next(releases.glob("rehearsal-*/dist")).iterdir():
                built[path.name] = path.read_bytes()

    with quick(smoke=skip_smoke):
        rehearse(project.look(), Events(stage=keep))
    for name, data in built.items():
        if name.endswith(".tar.gz"):
            data = gzip.decompress(data)
        assert b".env" not in data
    return built


# The preflight -----------------------------------------------------------------------


def change_notebook(project: Project) -> None:
    path = project.root / "nbs/01_core.ipynb"
    path.write_text(path.read_text().replace("x + x", "2 * x"))
    project.commit()
    project.git("push", "--quiet", "origin", "main")


def push(project: Project) -> None:
    project.commit()
    project.git("push", "--quiet", "origin", "main")


def edit(project: Project, name: str, old: str, new: str) -> None:
    path = project.root / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def empty_notes(project: Project) -> None:
    edit(project, "CHANGELOG.md", "- Doubling.\n", "### Added\n")
    push(project)


def direct_url(project: Project) -> None:
    new = 'license = "MIT"\ndependencies = ["a @ https://example.org/a.whl"]'
    edit(project, "pyproject.toml", 'license = "MIT"', new)
    push(project)


def lacks_metadata(project: Project) -> None:
    edit(project, "pyproject.toml", 'description = "Numbers."\n', "")
    push(project)


def ahead(project: Project) -> None:
    project.write("notes.txt", "more")
    project.commit()


def behind(project: Project) -> None:
    ahead(project)
    project.git("push", "--quiet", "origin", "main")
    project.git("reset", "--quiet", "--hard", "HEAD~1")


def diverged(project: Project) -> None:
    behind(project)
    project.write("other.txt", "other")
    project.commit()


def merging(project: Project) -> None:
    project.git("switch", "--quiet", "--create", "side")
    ahead(project)
    project.git("switch", "--quiet", "main")
    project.git("merge", "--quiet", "--no-ff", "--no-commit", "side")


def shallow(project: Project) -> None:
    ahead(project)
    project.git("push", "--quiet", "origin", "main")
    clone = project.root.with_name("shallow")
    project.git("clone", "--quiet", "--depth=1", f"file://{project.remote}", str(clone))
    project.root = clone
    for key, value in (("user.name", "A"), ("user.email", "a@example.org")):
        project.git("config", key, value)


def picking(project: Project) -> None:
    """Stop a cherry-pick in the middle."""
    project.git("switch", "--quiet", "--create", "side")
    edit(project, "README.md", "#", "##")
    project.commit()
    project.git("switch", "--quiet", "main")
    edit(project, "README.md", "#", "###")
    push(project)
    command = ["git", "cherry-pick", "side"]
    subprocess.run(command, cwd=project.root, env=ENVIRONMENT, capture_output=True)


def unclean(project: Project) -> None:
    path = project.root / "nbs/01_core.ipynb"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=4))
    push(project)


def lose_remote(project: Project) -> None:
    project.git("remote", "set-url", "origin", str(project.root / "nowhere"))


def publish_in_ci(project: Project) -> None:
    edit(project, "pyproject.toml", '"hatchling<2"', '"hatchling"')
    edit(project, "pyproject.toml", "test = false\n", 'test = false\npublish = "ci"\n')
    push(project)


WRONG: dict[str, tuple[Callable[[Project], object], list[str]]] = {
    "a modified file": (lambda p: p.write("README.md", "# new\n"), ["E_DIRTY"]),
    "an untracked file": (lambda p: p.write(".env", "KEY=1"), ["E_DIRTY"]),
    "another branch": (lambda p: p.git("switch", "-q", "-c", "work"), ["E_BRANCH"]),
    "a detached head": (lambda p: p.git("switch", "-q", "--detach"), ["E_BRANCH"]),
    "a commit that is not pushed": (ahead, ["E_AHEAD"]),
    "a commit that is not pulled": (behind, ["E_BEHIND"]),
    "both": (diverged, ["E_DIVERGED"]),
    "in the middle of a merge": (merging, ["E_DIRTY", "E_MIDOP"]),
    "in the middle of a cherry-pick": (picking, ["E_DIRTY", "E_MIDOP"]),
    "no remote": (lose_remote, ["E_REMOTE"]),
    "notebooks that are not clean": (unclean, ["E_CLEAN"]),
    "a back end that changes": (publish_in_ci, ["E_BACKEND"]),
    "a shallow clone": (shallow, ["E_SHALLOW"]),
    "a forgotten export": (change_notebook, ["E_SYNC"]),
    "a stale local tag": (lambda p: p.git("tag", "v0.2.0"), ["E_TAG_LOCAL"]),
    "empty notes": (empty_notes, ["E_NOTES"]),
    "a dependency by address": (direct_url, ["E_DIRECT_URL"]),
    "metadata that is missing": (lacks_metadata, ["E_METADATA"]),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_the_preflight_says_what_is_wrong(
    name: str, project: Project, proxy: Proxy
) -> None:
    prepare, expected = WRONG[name]
    prepare(project)
    before, refs = project.snapshot(), project.remote_refs()
    assert codes(project) == expected
    assert project.snapshot() == before
    assert project.remote_refs() == refs
    assert served(project, proxy) == []


def test_a_tag_at_the_remote(project: Project) -> None:
    project.git("tag", "v0.2.0")
    project.git("push", "--quiet", "origin", "v0.2.0")
    assert codes(project) == ["E_TAG_LOCAL", "E_TAG_REMOTE"]


@pytest.mark.parametrize(
    ("wanted", "code"),
    [("0.0.9", "E_VERSION_ORDER"), ("0.2.0+mine", "E_LOCAL_VERSION")],
)
def test_a_version_that_cannot_be(project: Project, wanted: str, code: str) -> None:
    assert codes(project, wanted) == [code]


def test_a_version_that_is_taken(project: Project, proxy: Proxy) -> None:
    finish(project)
    project.git("push", "--quiet", "origin", ":refs/tags/v0.2.0")
    project.git("tag", "-d", "v0.2.0")
    edit(project, "pyproject.toml", '"0.2.0"', '"0.1.0"')
    edit(project, "CHANGELOG.md", "## Unreleased\n", "## Unreleased\n\n- Again.\n")
    push(project)
    assert codes(project) == ["E_VERSION_EXISTS"]


def test_an_unknown_name_needs_to_be_confirmed(project: Project) -> None:
    look = project.look()
    look.first = False
    with pytest.raises(ExceptionGroup) as caught:
        release_project(look)
    assert [error.code for error in caught.value.exceptions] == ["E_FIRST"]  # type: ignore[attr-defined]


def test_credentials_are_tried_before_anything_is_done(
    project: Project, tmp_path: Path
) -> None:
    nothing = {"HOME": str(tmp_path), "TWINE_USERNAME": "", "TWINE_PASSWORD": ""}
    none = {**nothing, "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    for environ, code in (
        ({"TWINE_PASSWORD": "wrong-one"}, "E_AUTH"),
        (none, "E_NO_TOKEN"),
    ):
        done = project.litml("release", "minor", "--first", **environ)
        assert done.returncode == 1
        assert code in done.stderr
        assert "wrong-one" not in done.stdout + done.stderr
    assert "refs/tags/v0.2.0" not in project.remote_refs()


@pytest.mark.parametrize("action", ["status:503", "reset"])
def test_an_index_that_is_down(project: Project, proxy: Proxy, action: str) -> None:
    proxy.faults.append(Fault("GET", PAGE, action))
    assert codes(project) == ["E_INDEX_UNREACHABLE"]


def test_an_index_that_nobody_knows(project: Project) -> None:
    edit(project, "pyproject.toml", 'index = "http', 'index = "nowhere"\n# "http')
    push(project)
    assert codes(project) == ["E_INDEX"]


def test_nobody_releases(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    project.git("config", "--unset", "user.email")
    look = project.look(GIT_AUTHOR_NAME="")
    with quick(send_file=send_here), pytest.raises(ExceptionGroup) as caught:
        release_project(look)
    assert [error.code for error in caught.value.exceptions] == ["E_IDENTITY"]  # type: ignore[attr-defined]  # all are of ours


def test_an_index_that_talks_nonsense(project: Project) -> None:
    kind = "application/vnd.pypi.simple.v1+json"
    with quick(fetch=lambda page, tries: (b"[]", kind, page)):
        assert codes(project) == ["E_INDEX"]


def test_what_a_release_needs_here(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room on the disk, and twine."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=9))
    with quick(find_spec=lambda name: None):
        assert codes(project) == ["E_DISK", "E_TOOLS"]


def test_outside_of_a_repository(project: Project) -> None:
    shutil.rmtree(project.root / ".git")
    done = project.litml("release", "minor")
    assert done.returncode == 2
    assert "not a git repository" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_name_that_is_somebody_elses(project: Project, proxy: Proxy) -> None:
    """An index says so when it is sent a file; nothing is public then."""
    proxy.faults.append(Fault("POST", POST, "status:403", skip=1))
    with quick(**FAST), pytest.raises(ReleaseError, match="E_AUTH") as caught:
        project.release()
    assert "another project's" in str(caught.value.hint)
    assert served(project, proxy) == []
    assert "tag was removed" in abort_project(project.look().project)


def test_a_secret_in_the_notes(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "Doubling")
    assert codes(project) == ["E_SECRET"]


def test_a_commit_that_is_made_meanwhile(project: Project) -> None:
    """What was looked at is not what would be released."""

    def commit(*_: object) -> dict[str, str]:
        project.git("commit", "--quiet", "--allow-empty", "--message", "more")
        return {}

    with quick(list_files=commit):
        assert codes(project) == ["E_MOVED"]


def test_a_certificate_that_nobody_knows(project: Project, tmp_path: Path) -> None:
    """Scenario 61."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    kind = ["-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1", "-days", "2"]
    command = ["openssl", "req", "-x509", *kind, *files]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"https://127.0.0.1:{server.server_port}"
    with pytest.raises(ReleaseError, match="E_INDEX_UNREACHABLE") as caught:
        list_files(Index(address, f"{address}/simple"), "tiny", tries=1)
    server.shutdown()
    server.server_close()
    assert "self-signed certificate" in str(caught.value)
    assert "SSL_CERT_FILE" in str(caught.value)


@slow
def test_failing_tests_are_asked_last_and_once(project: Project) -> None:
    edit(project, "pyproject.toml", "test = false\n", "")
    project.write("tests/test_it.py", "def test_it():\n    assert False\n")
    push(project)
    assert codes(project) == ["E_TEST"]
    edit(project, "tests/test_it.py", "False", "True")
    push(project)
    finish(project)


# Building and proving ----------------------------------------------------------------


@slow
def test_a_build_that_fails_can_be_given_up(project: Project, proxy: Proxy) -> None:
    """Scenario 19, with the real build."""
    edit(project, "pyproject.toml", '"hatchling.build"', '"hatchling.bild"')
    push(project)
    refs, before = project.remote_refs(), project.snapshot()
    with pytest.raises(ReleaseError, match="E_BUILD"):
        project.release()
    assert project.remote_refs() == refs
    assert "given up" in abort_project(project.look().project)
    is_untouched(project, refs)
    assert project.snapshot() == before
    edit(project, "pyproject.toml", '"hatchling.bild"', '"hatchling.build"')
    push(project)
    with quick(smoke=skip_smoke):
        project.release()
    is_complete(project, proxy)


@slow
def test_a_wheel_without_a_module_is_not_pushed(project: Project) -> None:
    """Scenario 20."""
    new = 'packages = ["tiny"]\nexclude = ["core.py"]'
    edit(project, "pyproject.toml", 'packages = ["tiny"]', new)
    push(project)
    refs = project.remote_refs()
    with pytest.raises(ReleaseError, match="E_WHEEL_CONTENT"):
        project.release()
    assert project.remote_refs() == refs


def test_a_wheel_that_does_not_import_is_not_pushed(project: Project) -> None:
    """Scenario 21."""
    path = project.root / "nbs/01_core.ipynb"
    path.write_text(
        path.read_text().replace("def double", "import not_there\\n\\n\\ndef double")
    )
    for command in ("clean", "export"):
        done = project.litml(command)
        assert done.returncode == 0, done.stderr
    push(project)
    refs, before = project.remote_refs(), project.snapshot()
    with pytest.raises(ReleaseError, match="E_SMOKE"):
        project.release()
    abort_project(project.look().project)
    is_untouched(project, refs)
    assert project.snapshot() == before


HOOK = """
from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from pathlib import Path

class CustomBuildHook(BuildHookInterface):
    def initialize(self, version, build_data):
        Path(self.root, "tiny/when.txt").write_text("now")
"""


def add_hook(project: Project) -> None:
    project.write("hatch_build.py", HOOK)
    add_to_pyproject(project, "[tool.hatch.build.hooks.custom]\n")


def add_script(project: Project) -> None:
    add_to_pyproject(project, '[project.scripts]\ntiny = "tiny.core:main"\n')


def add_bad_readme(project: Project) -> None:
    project.git("mv", "README.md", "README.rst")
    project.write("README.rst", "Tiny\n====\n\n.. nothing:: of the kind\n")
    edit(project, "pyproject.toml", "README.md", "README.rst")


def add_to_pyproject(project: Project, text: str) -> None:
    path = project.root / "pyproject.toml"
    path.write_text(f"{path.read_text()}\n{text}")


@slow
@pytest.mark.parametrize(
    ("spoil", "code", "word"),
    [
        (add_hook, "E_WHEEL_CONTENT", "tiny/when.txt"),
        (add_bad_readme, "E_METADATA", "long_description"),
        (add_script, "E_SMOKE", "console_scripts `tiny`"),
    ],
)
def test_what_only_the_artifacts_show(
    project: Project, spoil: Callable[[Project], None], code: str, word: str
) -> None:
    """A hook that adds a file, a readme that cannot be shown, a script of nothing."""
    spoil(project)
    push(project)
    refs = project.remote_refs()
    with pytest.raises(ReleaseError) as caught:
        project.release()
    assert caught.value.code == code
    assert word in caught.value.message
    assert project.remote_refs() == refs


@pytest.mark.parametrize(
    ("text", "said"), [("import os; os._exit(3)", "exit status 3"), ("exit(0)", "Exit")]
)
def test_a_program_that_ends_while_it_loads(
    tmp_path: Path, text: str, said: str
) -> None:
    python = make_environment(tmp_path)
    site = next(tmp_path.glob("[lL]ib/**/site-packages"))
    (site / "quits.py").write_text(text)
    (site / "quits-1.dist-info").mkdir()
    (site / "quits-1.dist-info/METADATA").write_text("Name: quits\nVersion: 1\n")
    points = "[console_scripts]\nquits = quits:main\n"
    (site / "quits-1.dist-info/entry_points.txt").write_text(points)
    with pytest.raises(ReleaseError, match=said):
        stages.check_programs(python, "quits")


def test_an_artifact_that_is_too_large(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "LIMIT", 10)
    assert stopped(project, verify=stages.verify) == "E_WHEEL_CONTENT"


def test_a_version_that_breaks_the_export(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And any other error of the project itself: the stage stops, nothing is pushed."""
    found = SimpleNamespace(problems=[LitmlError("two of a name")], stale=[])
    refs = project.remote_refs()
    with monkeypatch.context() as patch:
        patch.setattr(stages, "export_project", lambda project: found)
        assert stopped(project) == "E_EXPORT"

    def fail(release: Any) -> dict[str, Any]:
        raise LitmlError("not a project")

    assert stopped(project, verify=fail) == "E_PROJECT"
    assert project.remote_refs() == refs


def test_an_artifact_that_was_changed_is_not_sent(
    project: Project, proxy: Proxy
) -> None:
    """Scenario 43."""

    def spoil(name: str, state: str, text: str) -> None:
        if (name, state) == ("push", "done"):
            dist = next((project.root / ".git/litml/release").glob("*/dist"))
            wheel = max(dist.iterdir())
            wheel.write_bytes(wheel.read_bytes() + b" ")

    with quick(**FAST), pytest.raises(ReleaseError, match="E_ARTIFACT_CHANGED"):
        project.release(events=Events(stage=spoil))
    assert not any("py3" in name for name in proxy.posts())


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def test_content_that_is_kept_elsewhere(project: Project, proxy: Proxy) -> None:
    """Scenario 56: a pointer in place of a file, and a submodule in the package."""
    project.write("tiny/weights.bin", LFS)
    push(project)
    refs = project.remote_refs()
    assert stopped(project) == "E_CONTENT"
    assert project.remote_refs() == refs
    abort_project(project.look().project)
    project.git("rm", "--quiet", "tiny/weights.bin")
    head = project.git("rev-parse", "HEAD")
    for place, code in (("docs/theme", ""), ("tiny/parts", "E_CONTENT")):
        entry = f"160000,{head},{place}"
        project.git("update-index", "--add", "--cacheinfo", entry)
        (project.root / place).mkdir(parents=True)
        project.git("commit", "--quiet", "--message", place)
        project.git("push", "--quiet", "origin", "main")
        if code:
            assert stopped(project) == code
            abort_project(project.look().project)
        else:
            finish(project)
            edit(project, "CHANGELOG.md", "## Unreleased\n", "## Unreleased\n\n- M.\n")
            project.git("add", "CHANGELOG.md")


def test_a_full_disk(project: Project, proxy: Proxy) -> None:
    """Scenario 54, for any stage and for the journal itself."""

    def fill(release: Any) -> dict[str, Any]:
        raise OSError(errno.ENOSPC, "No space left on device")

    refs = project.remote_refs()
    assert stopped(project, build=fill) == "E_DISK"
    assert project.remote_refs() == refs
    finish(project)
    is_complete(project, proxy)


@slow
@pytest.mark.skipif(os.name != "posix", reason="limits the size of files as POSIX does")
def test_a_disk_that_is_full_while_building(project: Project, proxy: Proxy) -> None:
    """Scenario 54, with the real build: no file may be larger than 64 kB."""
    import resource

    (project.root / "tiny/data.bin").write_bytes(os.urandom(300_000))
    push(project)
    refs = project.remote_refs()
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(name: str, state: str, text: str) -> None:
        if (name, state) == ("build", "start"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, kept[1]))

    try:
        with quick(smoke=skip_smoke), pytest.raises(ReleaseError) as caught:
            project.release(events=Events(stage=limit))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    assert caught.value.code in ("E_BUILD", "E_DISK")
    assert project.remote_refs() == refs
    assert not list((project.root / ".git/litml/release").glob("*/dist"))
    with quick(smoke=skip_smoke):
        project.release()
    is_complete(project, proxy)


def test_the_clock_has_no_say(project: Project, proxy: Proxy) -> None:
    """Scenario 55: every date is that of the commit, or a second later."""
    when = "1000000000 +0900"
    dated = {**ENVIRONMENT, "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    command = ["git", "commit", "--quiet", "--amend", "--no-edit"]
    subprocess.run(command, cwd=project.root, env=dated, check=True)
    project.git("push", "--quiet", "--force", "origin", "main")
    finish(project)
    assert "## 0.2.0 - 2001-09-09\n" in (project.root / "CHANGELOG.md").read_text()
    said = project.git("log", "-1", "--format=%at %ct %ad", "--date=format:%z")
    assert said == "1000000001 1000000001 +0000"
    assert " 1000000001 +0000\n" in project.git("cat-file", "tag", "v0.2.0")


# Killed ------------------------------------------------------------------------------

KILLED = """
    import os, signal, sys
    sys.path.insert(0, sys.argv[1])
    from pathlib import Path
    from releasing import FAST, quick
    from litml.preflight import Look, read_settings
    from litml.project import find_project
    from litml.release import Events, release_project

    where = sys.argv[2]

    def die(name, state, text):
        if f"{state} {name}" == where:
            os.kill(os.getpid(), signal.SIGKILL)

    project = find_project()
    settings, environ = read_settings(project), dict(os.environ)
    look = Look(project, settings, "minor", first=True, environ=environ)
    with quick(**FAST):
        if where == "mid upload":
            from litml import journal
            kept = journal.Journal.add
            def add(self, event, **values):
                kept(self, event, **values)
                if event == "file-sent":
                    os.kill(os.getpid(), signal.SIGKILL)
            journal.Journal.add = add
        release_project(look, Events(stage=die))
"""
BOUNDARIES = [
    *[f"start {name}" for name in ("prepare", "build", "push", "upload")],
    *[
        f"done {name}"
        for name in ("prepare", "build", "smoke", "push", "upload", "confirm")
    ],
    "mid upload",
    "done ghrelease",
]
posix = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


@posix
@pytest.mark.parametrize(
    "where",
    [
        pytest.param(one, marks=() if one == "mid upload" else slow)
        for one in BOUNDARIES
    ],
)
def test_killed_anywhere_a_second_run_finishes(
    where: str, project: Project, proxy: Proxy
) -> None:
    """Scenarios 22 to 28: nothing is sent twice, and nothing half is left."""
    before = project.snapshot()
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(KILLED),
        str(Path(__file__).parent),
        where,
    ]
    environ = {**ENVIRONMENT, **TOKEN, "LITML_RELEASE_PAUSE": "0.01"}
    done = subprocess.run(
        command, cwd=project.root, env=environ, capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert project.snapshot() == before, "the work tree is not touched"
    early = where.split()[-1] in ("prepare", "build", "smoke") or where == "start push"
    tagged = "refs/tags/v0.2.0" in project.remote_refs()
    assert tagged is not early
    finish(project)
    is_complete(project, proxy)
    sent = [name for name in proxy.posts() if name]
    assert sorted(sent) == sorted(set(sent)), "nothing is sent twice"


def test_a_torn_line_of_the_journal_is_cut_off(project: Project, proxy: Proxy) -> None:
    """Scenarios 33 and 47."""
    project.git("remote", "set-url", "origin", str(project.remote))

    def tear(name: str, state: str, text: str) -> None:
        if (name, state) == ("push", "start"):
            project.remote.rename(project.remote.with_name("away"))

    with quick(**FAST), pytest.raises(ReleaseError, match="E_REMOTE"):
        project.release(events=Events(stage=tear))
    project.remote.with_name("away").rename(project.remote)
    [journal] = (project.root / ".git/litml/release").glob("*/journal.jsonl")
    with journal.open("ab") as file:
        file.write(b'{"event": "done", "stage": "pu')
    finish(project)
    is_complete(project, proxy)
    assert all(json.loads(line) for line in journal.read_text().splitlines())


def test_a_damaged_journal(project: Project) -> None:
    """It is not guessed what was done; and without one there is nothing to undo."""
    done = project.litml("release", "--abort")
    assert done.returncode == 1 and "(E_NONE)" in done.stderr
    assert stopped(project, smoke=lambda release: stop_here()) == "E_SYSTEM"
    [journal] = (project.root / ".git/litml/release").glob("*/journal.jsonl")
    journal.write_text("{half\n" + journal.read_text())
    for go_on in (project.release, partial(find_status, find_project(project.root))):
        with pytest.raises(ReleaseError, match="E_JOURNAL"):
            go_on()


def stop_here() -> dict[str, Any]:
    raise OSError(errno.EIO, "Input/output error")


# The remote --------------------------------------------------------------------------


def install_hook(project: Project, name: str, text: str) -> Path:
    hook = project.remote / "hooks" / name
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\n{text}\n")
    hook.chmod(0o755)
    return hook


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        ("pre-receive", "echo protected >&2; exit 1"),
        ("update", 'case "$1" in refs/tags/*) exit 1;; esac'),
    ],
)
def test_a_push_that_is_refused(
    project: Project, proxy: Proxy, hook: str, text: str
) -> None:
    """Scenarios 29 and 30: all or nothing is pushed."""
    refs = project.remote_refs()
    path = install_hook(project, hook, text)
    assert stopped(project) == "E_PUSH"
    assert project.remote_refs() == refs
    assert project.git("tag", "--list") == ""
    path.unlink()
    finish(project)
    is_complete(project, proxy)


def test_a_push_whose_answer_is_lost(project: Project, proxy: Proxy) -> None:
    install_hook(project, "post-receive", "kill -9 $PPID")
    finish(project)
    is_complete(project, proxy)


def push_from_elsewhere(project: Project, tag: bool) -> None:
    clone = project.root.with_name("elsewhere")
    project.git("clone", "--quiet", str(project.remote), str(clone))
    for key, value in (("user.name", "B"), ("user.email", "b@example.org")):
        project.git("config", key, value, cwd=clone)
    project.git("commit", "--quiet", "--allow-empty", "-m", "other", cwd=clone)
    if tag:
        project.git("tag", "-a", "-m", "mine", "v0.2.0", cwd=clone)
        project.git("push", "--quiet", "origin", "v0.2.0", cwd=clone)
    else:
        project.git("push", "--quiet", "origin", "main", cwd=clone)


@pytest.mark.parametrize(("tag", "code"), [(False, "E_MOVED"), (True, "E_TAG_MOVED")])
def test_somebody_pushes_meanwhile(
    project: Project, proxy: Proxy, tag: bool, code: str
) -> None:
    """Scenarios 31 and 32."""

    def interfere(release: Any) -> dict[str, Any]:
        push_from_elsewhere(project, tag)
        return {"modules": 0}

    assert stopped(project, smoke=interfere) == code
    assert served(project, proxy) == []
    abort_project(project.look().project)
    project.git("pull", "--quiet", "--tags", "origin", "main")
    with quick(**FAST):
        release = project.release("0.3.0" if tag else "minor")
    is_complete(project, proxy, release.plan.version)


# The index ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        Fault("POST", POST, "status:503", times=2, skip=1),
        Fault("POST", POST, "reset-mid", times=2, skip=1),
        Fault("POST", POST, "status:429:1", times=1, skip=1),
        Fault("POST", POST, "drop-response", times=2, skip=1),
        Fault("GET", PAGE, "status:502", times=2, skip=2),
        Fault("GET", PAGE, "stale", times=4, skip=1),
        Fault("GET", PAGE, "truncate-response", times=2, skip=1),
        Fault("POST", POST, "hang:0.5", times=1, skip=1),
    ],
    ids=lambda fault: f"{fault.method}-{fault.action}",
)
def test_what_passes_is_waited_out(
    project: Project, proxy: Proxy, fault: Fault
) -> None:
    """Scenarios 34, 36, 37, 38 and 41."""
    proxy.faults.append(Fault(**vars(fault)))
    finish(project)
    is_complete(project, proxy)
    if fault.action == "drop-response":
        assert len(proxy.posts()) == 3, "the probe and each file once"


def test_an_index_that_stays_down_is_finished_later(
    project: Project, proxy: Proxy
) -> None:
    """Scenario 35."""
    proxy.faults.append(Fault("POST", POST, "status:503", skip=2))
    assert stopped(project) == "E_UPLOAD"
    assert len(served(project, proxy)) == 1
    assert "refs/tags/v0.2.0" in project.remote_refs()
    with pytest.raises(ReleaseError, match="E_IRREVERSIBLE") as caught:
        abort_project(project.look().project)
    for word in ("`litml release` completes it", "yanked", "`litml release patch`"):
        assert word in str(caught.value), "scenario 64: what to do then"
    proxy.requests.clear()
    finish(project)
    is_complete(project, proxy)
    assert len(proxy.posts()) == 1, "only the missing file"


def test_a_token_that_is_revoked_between_the_files(
    project: Project, proxy: Proxy
) -> None:
    """Scenario 39."""
    proxy.faults.append(Fault("POST", POST, "status:403", skip=2))
    assert stopped(project) == "E_AUTH"
    assert len(served(project, proxy)) == 1
    finish(project)
    is_complete(project, proxy)


def test_a_file_that_is_refused_is_not_sent_again(
    project: Project, proxy: Proxy
) -> None:
    """Scenario 40."""
    proxy.faults.append(Fault("POST", POST, "status:413", skip=1))
    assert stopped(project) == "E_REJECTED"
    assert len(proxy.posts()) == 2
    assert served(project, proxy) == []
    assert "tag was removed" in abort_project(project.look().project)


def test_a_second_file_that_is_refused_is_no_dead_end(
    project: Project, proxy: Proxy
) -> None:
    """It can neither be completed nor be undone, so it is let go with its tag."""
    proxy.faults.append(Fault("POST", POST, "status:413", skip=2))
    assert stopped(project) == "E_REJECTED"
    assert len(served(project, proxy)) == 1
    assert "tag was kept" in abort_project(project.look().project)
    assert "refs/tags/v0.2.0" in project.remote_refs()
    project.git("pull", "--quiet", "origin", "main")
    edit(project, "CHANGELOG.md", "## Unreleased\n", "## Unreleased\n\n- Again.\n")
    push(project)
    with quick(**FAST):
        project.release("patch")
    assert "refs/tags/v0.2.1" in project.remote_refs()


def test_files_that_are_lost_after_the_push_are_built_again(
    project: Project, proxy: Proxy
) -> None:
    proxy.faults.append(Fault("POST", POST, "status:503", skip=2))
    assert stopped(project) == "E_UPLOAD"
    first = served(project, proxy)
    [folder] = (project.root / ".git/litml/release").glob("0.2.0-*")
    for name in ("dist", "tree"):
        shutil.rmtree(folder / name)
    project.git("config", "user.name", "Somebody else")
    proxy.requests.clear()
    finish(project)
    is_complete(project, proxy)
    assert [name for name in proxy.posts() if name not in first] == proxy.posts()


def test_another_file_under_our_name(
    project: Project, proxy: Proxy, tmp_path: Path
) -> None:
    """Scenario 42."""

    def take_the_name(name: str, state: str, text: str) -> None:
        if (name, state) != ("push", "done"):
            return
        dist = next((project.root / ".git/litml/release").glob("*/dist"))
        mine = min(dist.iterdir())
        other = tmp_path / mine.name
        import zipfile

        with zipfile.ZipFile(mine) as old, zipfile.ZipFile(other, "w") as new:
            for item in old.namelist():
                new.writestr(item, old.read(item) + b"\n")
        address = proxy.target
        index = Index(f"{address}/", f"{address}/simple")
        sent = send_file(index, other, {**ENVIRONMENT, **TOKEN})
        assert sent.accepted, sent

    with quick(**FAST), pytest.raises(ReleaseError, match="E_CONFLICT"):
        project.release(events=Events(stage=take_the_name))
    assert "tag was removed" in abort_project(project.look().project)


def test_given_up_after_the_push(project: Project, proxy: Proxy) -> None:
    """Scenario 45."""
    proxy.faults.append(Fault("POST", POST, "status:503", skip=1))
    assert stopped(project) == "E_UPLOAD"
    project.git("rev-parse", "v0.2.0")
    proxy.faults.clear()
    told = abort_project(project.look().project)
    assert "tag was removed" in told
    assert "refs/tags/v0.2.0" not in project.remote_refs()
    assert project.git("tag", "--list") == ""
    assert served(project, proxy) == []
    # As it says, the same version can be tried again.
    project.git("pull", "--quiet", "origin", "main")
    revert = told.partition("`git revert ")[2].partition("`")[0]
    project.git("revert", "--no-edit", revert)
    project.git("push", "--quiet", "origin", "main")
    finish(project)
    is_complete(project, proxy)


def test_status_says_where_it_stands(project: Project, proxy: Proxy) -> None:
    proxy.faults.append(Fault("POST", POST, "status:503", skip=2))
    assert stopped(project) == "E_UPLOAD"
    proxy.faults.clear()
    done = project.litml("release", "--status")
    assert done.returncode == 1
    assert "tag: pushed" in done.stdout
    assert "public: tiny" in done.stdout
    assert "stopped: " in done.stdout
    done = project.litml("release", "0.9.0")
    assert "the release of 0.2.0 to " in done.stderr
    done = project.litml("release", "--index", "http://127.0.0.1:9/")
    assert "(E_LOCKED)" in done.stderr, "not to one index and then to another"


# Two at once, and a user who works on ------------------------------------------------


def test_two_at_once(project: Project, proxy: Proxy) -> None:
    """Scenario 44."""
    seen: list[str] = []

    def second(name: str, state: str, text: str) -> None:
        if (name, state) == ("build", "start"):
            done = project.litml("release", "minor", "--first")
            seen.append(done.stderr)

    with quick(**FAST):
        project.release(events=Events(stage=second))
    assert "E_LOCKED" in seen[0]
    is_complete(project, proxy)


def test_the_user_works_on_meanwhile(project: Project, proxy: Proxy) -> None:
    """Scenario 48."""

    def work(name: str, state: str, text: str) -> None:
        if (name, state) == ("build", "start"):
            project.write("README.md", "# in the middle of something\n")
            project.git("clean", "-fdq")

    with quick(**FAST):
        release = project.release(events=Events(stage=work))
    is_complete(project, proxy)
    assert (project.root / "README.md").read_text() == "# in the middle of something\n"
    assert release.journal.result("finish") == {"moved": False}
    assert threading.active_count() < 20


# Files that are open, as Windows sees them --------------------------------------------


def hold_open(name: str, patch: pytest.MonkeyPatch) -> None:
    """Let no file of that name be removed, as if a virus scanner looked at it."""
    remove = os.unlink

    def unlink(path: Any, **more: Any) -> None:
        if Path(os.fsdecode(path)).name == name:
            raise PermissionError(errno.EACCES, "used by another process", path)
        remove(path, **more)

    patch.setattr(os, "unlink", unlink)


def test_a_work_tree_that_is_held_open(project: Project, proxy: Proxy) -> None:
    """Scenario 57: it is released all the same; the next one removes what is left."""
    with pytest.MonkeyPatch.context() as patch:
        hold_open("CHANGELOG.md", patch)
        finish(project)
    is_complete(project, proxy)
    [left] = (project.root / ".git/litml/release").glob("*/tree/CHANGELOG.md")
    edit(project, "CHANGELOG.md", "## Unreleased\n", "## Unreleased\n\n- More.\n")
    push(project)
    with quick(**FAST):
        project.release("patch")
    assert not left.parent.exists()
    is_untouched(project, project.remote_refs())


def test_a_work_tree_that_is_held_open_when_it_is_made_again(
    project: Project, proxy: Proxy
) -> None:
    """It stops, with nothing public, and the same command goes on later."""
    refs = project.remote_refs()
    assert stopped(project, smoke=lambda release: stop_here()) == "E_SYSTEM"
    [tree] = (project.root / ".git/litml/release").glob("*/tree")
    (tree / ".git").unlink()
    with pytest.MonkeyPatch.context() as patch:
        hold_open("CHANGELOG.md", patch)
        assert stopped(project) == "E_GIT"
    assert project.remote_refs() == refs
    finish(project)
    is_complete(project, proxy)


# Signed tags -------------------------------------------------------------------------


def make_key(project: Project) -> Path:
    """Make a key, and tell git to sign with it; skips where nothing makes one."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen makes the key")
    key = project.root.with_name("key")
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(command, check=True)
    project.git("config", "gpg.format", "ssh")
    project.git("config", "user.signingKey", f"{key}.pub")
    return key


def lose_gpg(project: Project) -> None:
    project.git("config", "gpg.program", "gpg-that-is-not-here")


def lose_agent(project: Project) -> None:
    make_key(project).unlink()


@pytest.mark.parametrize("lose", [lose_gpg, lose_agent])
@pytest.mark.parametrize("asked", ["tag.gpgSign", "commit.gpgSign", "project"])
def test_a_signature_that_cannot_be_made(
    project: Project,
    lose: Callable[[Project], None],
    asked: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Scenario 58: it is found out before anything is done."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    if asked == "project":
        edit(project, "pyproject.toml", "test = false\n", "test = false\nsign = true\n")
        push(project)
    lose(project)
    if asked != "project":
        project.git("config", asked, "true")
    refs = project.remote_refs()
    with quick(**FAST), pytest.raises(ExceptionGroup) as caught:
        project.release()
    [error] = caught.value.exceptions
    assert isinstance(error, ReleaseError) and error.code == "E_SIGN"
    assert "git cannot sign: " in error.message
    assert "user.signingKey" in str(error.hint) and "ssh-add" in str(error.hint)
    is_untouched(project, refs)


def test_a_signed_tag(project: Project, proxy: Proxy, tmp_path: Path) -> None:
    """It says what every tag says; a push that is refused leaves no tag behind."""
    key = make_key(project)
    project.git("config", "tag.gpgSign", "true")
    project.git("config", "commit.gpgSign", "true")
    hook = project.remote / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    assert stopped(project) == "E_PUSH"
    assert project.git("tag", "--list") == ""
    # As if killed while git had given it its name.
    commit = project.git("rev-list", "--all", "--reflog", "--grep=^Release", "-n1")
    project.git("tag", "--no-sign", "-m", "half", "v0.2.0", commit)
    hook.unlink()
    finish(project)
    is_complete(project, proxy)
    signers = tmp_path / "signers"
    signers.write_text(f"a@example.org {Path(f'{key}.pub').read_text()}")
    known = ("-c", f"gpg.ssh.allowedSignersFile={signers}")
    for command in ("verify-tag", "verify-commit"):
        project.git(*known, command, "v0.2.0^{}" if "commit" in command else "v0.2.0")
    body = project.git("tag", "--list", "--format=%(contents:body)", "v0.2.0")
    assert body.startswith("- Doubling.\n\nSHA-256:\n")
    assert len(body.splitlines()) == 5 and "SIGNATURE" not in body


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A keyring of GnuPG with one key and no passphrase, and an agent of its own."""
    if not (shutil.which("gpg") and shutil.which("gpgconf")):
        pytest.skip("GnuPG makes the key")
    # Not below `tmp_path`: the path of the agent's socket may have 107 bytes
    short = {"prefix": "gpg-", "dir": "/tmp", "ignore_cleanup_errors": True}
    with tempfile.TemporaryDirectory(**short) as folder:
        monkeypatch.setenv("GNUPGHOME", folder)
        quiet = ["gpg", "--batch", "--quiet", "--pinentry-mode=loopback"]
        key = ["--passphrase", "", "--quick-generate-key", "A <a@example.org>"]
        made = subprocess.run([*quiet, *key, "ed25519", "sign"], capture_output=True)
        if made.returncode:
            pytest.skip(f"GnuPG makes no key here: {made.stderr.decode()}")
        yield Path(folder)
        subprocess.run(["gpgconf", "--kill", "all"], capture_output=True)


@posix
def test_a_tag_signed_with_gnupg(
    project: Project, proxy: Proxy, keyring: Path, tmp_path: Path
) -> None:
    """`sign` asks for it, git's own check accepts it, and it names the files."""
    edit(project, "pyproject.toml", "test = false\n", "test = false\nsign = true\n")
    push(project)
    finish(project)
    is_complete(project, proxy)
    command = ["git", "verify-tag", "--raw", "v0.2.0"]
    done = subprocess.run(
        command, cwd=project.root, capture_output=True, text=True, check=True
    )
    assert "[GNUPG:] GOODSIG " in done.stderr
    assert "BEGIN PGP SIGNATURE" in project.git("cat-file", "tag", "v0.2.0")
    promise = read_promise(project.root, "v0.2.0")
    assert sorted(promise.files) == served(project, proxy)
    assert promise.notes == "- Doubling."


@posix
def test_a_key_that_the_keyring_has_not(
    project: Project, proxy: Proxy, keyring: Path
) -> None:
    """Scenario 58, with GnuPG: found out before anything is done."""
    project.git("config", "user.signingKey", "0123456789ABCDEF")
    project.git("config", "tag.gpgSign", "true")
    refs = project.remote_refs()
    assert codes(project) == ["E_SIGN"]
    is_untouched(project, refs)


# The page at GitHub ------------------------------------------------------------------


@pytest.fixture
def pages(project: Project) -> Iterator[Pages]:
    """GitHub's releases of the project."""
    edit(project, "pyproject.toml", "github = false\n", "")
    push(project)
    with Pages().running() as pages:
        yield pages


def release_with(pages: Pages, project: Project) -> tuple[Any, Any]:
    """Release, with a remote that is called as one at GitHub; return what was said."""
    told: list[str] = []
    address = "https://github.com/ada/tiny.git"
    look = project.look(GITHUB_API_URL=pages.address, GITHUB_TOKEN=Pages.TOKEN)
    with quick(**FAST, find_address=lambda release: address):
        release = release_project(look, Events(lambda *one: told.append(str(one))))
    assert Pages.TOKEN not in "".join(told)
    return release, release.journal.result("ghrelease")


def test_a_page_at_github(project: Project, proxy: Proxy, pages: Pages) -> None:
    release, result = release_with(pages, project)
    assert result == {"page": "https://github.com/ada/tiny/releases/v0.2.0"}
    [page] = pages.releases
    assert (page["draft"], page["prerelease"], page["body"]) == (
        False,
        False,
        "- Doubling.",
    )
    assert pages.digests() == [release.digests]
    is_complete(project, proxy)


def test_a_draft_is_used_again(project: Project, proxy: Proxy, pages: Pages) -> None:
    """Scenario 51: assets of an earlier attempt are replaced."""
    draft = pages.add("v0.2.0", draft=True)
    name = f"{project.name.replace('-', '_')}-0.2.0-py3-none-any.whl"
    pages.attach(draft, name, b"half of it")
    release, _ = release_with(pages, project)
    assert pages.digests() == [release.digests]
    assert pages.releases[0]["draft"] is False


@pytest.mark.parametrize("reason", ["immutable", "down"])
def test_a_page_that_fails_is_a_warning(
    project: Project, proxy: Proxy, pages: Pages, reason: str
) -> None:
    """Scenario 52: whether it is released is for the index to say."""
    pages.add("v0.2.0", draft=False)
    pages.down = reason == "down"
    release, result = release_with(pages, project)
    assert result["page"] == ""
    if reason == "immutable":
        assert all(f"{name} (422 " in result["note"] for name in release.digests)
        assert "releases/v0.2.0 is not complete" in result["note"]
    else:
        assert result["note"].startswith("no page at GitHub: ")
    is_complete(project, proxy)


# Where a workflow publishes -----------------------------------------------------------


@pytest.fixture
def in_ci(project: Project) -> Project:
    """The project, published by the workflow that the tag starts."""
    edit(project, "pyproject.toml", "test = false\n", 'test = false\npublish = "ci"\n')
    push(project)
    return project


EXISTS = (400, 409)  # what an index says to a name that it has


def run_publish_job(project: Project) -> list[int]:
    """Do what the action does with `skip-existing`; return what the index has said."""
    look, said = project.look(), [200]
    index = Index(look.settings.index, f"{look.settings.index}simple")
    for path in sorted((project.root / ".git/litml/release").glob("*/dist/*")):
        if said[-1] in (200, *EXISTS):
            said.append(send_here(index, path, look.environ).status)
    return said[1:]


def test_a_job_whose_token_expires_goes_on_when_it_is_run_again(
    in_ci: Project, proxy: Proxy
) -> None:
    """Scenario 53: it sends what is missing, and the command finds all of it."""
    proxy.faults.append(Fault("POST", POST, "status:403", skip=1))
    done: list[int] = []

    def publish_here(name: str, state: str, text: str) -> None:
        if (name, state) == ("upload", "left"):
            done.extend(run_publish_job(in_ci))

    soon = partial(publish.confirm, patience=0)
    with quick(**FAST, confirm=soon), pytest.raises(ReleaseError) as caught:
        in_ci.release(events=Events(stage=publish_here))
    assert done == [200, 403] and caught.value.code == "E_NOT_VISIBLE"
    assert "run again what has failed of the workflow" in str(caught.value.hint)
    [public] = served(in_ci, proxy)
    assert public not in caught.value.message
    [known, sent] = run_publish_job(in_ci)
    assert known in EXISTS and sent == 200
    with quick(**FAST, confirm=soon):
        in_ci.release()
    is_complete(in_ci, proxy)


@pytest.mark.parametrize("comes", [True, False])
def test_the_page_is_the_one_of_the_workflow(
    in_ci: Project, proxy: Proxy, pages: Pages, comes: bool
) -> None:
    """It comes as a draft while the command waits, and the command makes no other."""
    timer = threading.Timer(0.3, lambda: pages.releases[0].update(draft=False))

    def publish_here(name: str, state: str, text: str) -> None:
        if (name, state) == ("upload", "left"):
            assert run_publish_job(in_ci) == [200, 200]
        elif (name, state) == ("ghrelease", "start") and comes:
            pages.add("v0.2.0", draft=True)
            timer.start()

    known = {"GITHUB_API_URL": pages.address, "GITHUB_TOKEN": Pages.TOKEN}
    address = "https://github.com/ada/tiny.git"
    stage = partial(github.ghrelease, patience=30.0 if comes else 0.0)
    with quick(**FAST, find_address=lambda release: address, ghrelease=stage):
        release = release_project(in_ci.look(**known), Events(stage=publish_here))
    result = release.journal.result("ghrelease")
    if comes:
        assert result == {"page": "https://github.com/ada/tiny/releases/v0.2.0"}
        assert [(one["draft"], one["assets"]) for one in pages.releases] == [
            (False, [])
        ]
    else:
        assert "the workflow has published none" in result["note"]
        assert pages.releases == []
    is_complete(in_ci, proxy)


# From a tag --------------------------------------------------------------------------


@pytest.fixture
def lost(project: Project, proxy: Proxy) -> Project:
    """A release that stopped after its first file, seen from another machine."""
    proxy.faults.append(Fault("POST", POST, "status:503", skip=2))
    assert stopped(project) == "E_UPLOAD"
    proxy.faults.clear()
    proxy.requests.clear()
    return clone(project)


def clone(project: Project) -> Project:
    """Lose the folder of a project, and clone it anew."""
    shutil.rmtree(project.root)
    where = project.root.parent
    project.git("clone", "--quiet", str(project.remote), str(project.root), cwd=where)
    return project


def from_tag(
    project: Project, stage: str = "", index: str = "", **replaced: Callable[..., Any]
) -> list[str]:
    """Do what `--from-tag` does; return the stages that were done."""
    told: list[str] = []

    def tell(name: str, state: str, text: str) -> None:
        told.extend([name] if state == "done" else [])

    with quick(**{**FAST, **replaced}):
        look = project.look(index=index)
        release_tag(look, "v0.2.0", stage, Events(stage=tell))
    return told


def stopped_from_tag(project: Project, **more: Any) -> ReleaseError:
    with pytest.raises(ReleaseError) as caught:
        from_tag(project, **more)
    assert not list((project.root / ".git/litml/release").glob("from-tag-*"))
    return caught.value


PRIVATE = ["prepare", "build", "verify", "smoke"]


def test_a_release_is_finished_on_another_machine(lost: Project, proxy: Proxy) -> None:
    """Its journal is gone; the tag says which files belong to it."""
    left = lost.root / ".git/litml/release/from-tag-1/tree"
    left.mkdir(parents=True)
    before = lost.snapshot()
    assert from_tag(lost) == [*PRIVATE, "upload", "confirm", "ghrelease"]
    assert len(proxy.posts()) == 1, "only the missing file"
    is_complete(lost, proxy)
    is_untouched(lost, lost.remote_refs())
    assert lost.snapshot() == before
    assert not left.exists(), "nor what one that was killed has left"
    assert from_tag(lost)[-3:] == ["upload", "confirm", "ghrelease"]
    assert len(proxy.posts()) == 1, "there is nothing to do any more"


def test_a_job_for_each_stage(lost: Project, proxy: Proxy) -> None:
    """What one builds, another sends: the files travel in `dist/`."""
    assert from_tag(lost, "build") == PRIVATE
    dist = sorted(path.name for path in (lost.root / "dist").iterdir())
    assert from_tag(lost, "upload") == ["upload"]
    assert from_tag(lost, "confirm") == ["confirm"]
    assert served(lost, proxy) == dist


def test_a_file_in_dist_that_is_not_the_promised_one(
    lost: Project, proxy: Proxy
) -> None:
    from_tag(lost, "build")
    spoilt = min((lost.root / "dist").iterdir())
    spoilt.write_bytes(b"other")
    assert from_tag(lost, "upload") == [*PRIVATE, "upload"]
    is_complete(lost, proxy)


def test_files_that_the_tag_does_not_promise(lost: Project, proxy: Proxy) -> None:
    """A build that differs is neither sent nor left in `dist/`."""

    def build(release: Any) -> dict[str, Any]:
        made: dict[str, Any] = FAST["build"](release)
        return stages.check_again(release, {**made["files"], "more.whl": "0"}) or made

    for stage in ("build", "upload"):
        error = stopped_from_tag(lost, stage=stage, build=build)
        assert error.code == "E_ARTIFACT_CHANGED"
    assert proxy.posts() == []
    assert not (lost.root / "dist").exists()


def test_a_tag_that_promises_nothing(project: Project, proxy: Proxy) -> None:
    """Without a message, with another one, or one that the remote has not."""
    project.git("tag", "v0.2.0")
    error = stopped_from_tag(project)
    assert "git fetch --force origin refs/tags/v0.2.0" in str(error.hint)
    project.git("tag", "--force", "--annotate", "--message", "Version 0.2.0", "v0.2.0")
    assert "promises no files" in stopped_from_tag(project).message
    message = f"{project.name} 0.2.0\n\nSHA-256:\n{'0' * 64}  a-0.2.0.tar.gz\n"
    project.git("tag", "--force", "--annotate", "--message", message, "v0.2.0")
    error = stopped_from_tag(project)
    assert error.code == "E_TAG" and "has no tag" in error.message
    assert proxy.posts() == []


def test_an_index_that_serves_something_else(lost: Project, proxy: Proxy) -> None:
    """What a job that skips files by their name would not see."""
    soon = partial(publish.confirm, patience=0)
    error = stopped_from_tag(lost, stage="confirm", confirm=soon)
    assert error.code == "E_NOT_VISIBLE"
    name = served(lost, proxy)[0]
    other = {"list_files": lambda index, project, tries=4: {name: "0" * 64}}
    assert stopped_from_tag(lost, stage="confirm", **other).code == "E_CONFLICT"


def test_a_second_index_gets_its_files_from_a_job_of_its_own(
    project: Project, proxy: Proxy
) -> None:
    """The action publishes to one; `--index` sends the same files to the other."""
    with LoopbackIndex() as shelf:
        second = shelf.index.upload
        new = f'test = false\npublish = "ci"\nalso = ["{second}"]\n'
        edit(project, "pyproject.toml", "test = false\n", new)
        push(project)
        soon = partial(publish.confirm, patience=0)

        def publish_first(name: str, state: str, text: str) -> None:
            if (name, state) == ("upload", "left"):
                assert run_publish_job(project) == [200, 200]

        with quick(**FAST, confirm=soon), pytest.raises(ReleaseError) as caught:
            project.release(events=Events(stage=publish_first))
        assert caught.value.code == "E_NOT_VISIBLE" and second in caught.value.message
        assert from_tag(project, "upload", index=second) == [*PRIVATE, "upload"]
        assert len(shelf.files) == 2
        assert from_tag(project, "confirm") == ["confirm"]
        assert from_tag(project) == ["confirm", "ghrelease"], "a workflow uploads"
        finish(project)
    is_complete(project, proxy)


def test_the_words_for_it(lost: Project) -> None:
    done = lost.litml("release", "--stage", "build")
    assert done.returncode == 2 and "`--from-tag TAG --stage NAME`" in done.stderr
    done = lost.litml("release", "--from-tag", "v9")
    assert done.returncode == 1 and "(E_TAG)" in done.stderr
    assert lost.litml("release", "--from-tag", "v9", "--abort").returncode == 2


# One index, then another -------------------------------------------------------------


def test_a_candidate_for_one_index_and_the_version_for_another(
    project: Project, proxy: Proxy
) -> None:
    """Scenarios 59, 60 and 63."""
    with LoopbackIndex() as trial, quick(**FAST):
        look = project.look("rc", index=trial.index.upload)
        candidate = release_project(look)
        assert candidate.plan.version == "0.1.1rc1"
        assert served(project, proxy) == []
        edit(project, "CHANGELOG.md", "## Unreleased\n", "## Unreleased\n\n- More.\n")
        push(project)
        final = project.release("patch")
        assert sorted(trial.files) == sorted(candidate.digests)
    assert final.plan.version == "0.1.1"
    assert final.plan.notes == "- More."
    assert served(project, proxy) == sorted(final.digests)
    assert not set(candidate.digests) & set(final.digests)


# Two indexes at once -----------------------------------------------------------------


def on_two(project: Project, shelf: LoopbackIndex) -> None:
    """Let the project be released to a shelf first, and to its index as well."""
    old = project.look().settings.index
    new = f'index = "{shelf.index.upload}"\nalso = ["{old}"]'
    edit(project, "pyproject.toml", f'index = "{old}"', new)
    push(project)


def test_two_indexes_get_the_same_files(project: Project, proxy: Proxy) -> None:
    """Scenario 62: what stops at the second goes on there, and with what it lacks."""
    public = Index(f"{proxy.address}/", f"{proxy.address}/simple")
    with LoopbackIndex() as shelf:
        on_two(project, shelf)
        proxy.faults.append(Fault("POST", POST, "status:403", skip=2))
        assert stopped(project) == "E_AUTH"
        assert len(shelf.files) == 2 and len(list_files(public, project.name)) == 1
        with pytest.raises(ReleaseError, match="E_IRREVERSIBLE"):
            abort_project(project.look().project)
        proxy.faults.clear()
        proxy.requests.clear()
        with quick(**{one: FAST[one] for one in FAST if one != "try_download"}):
            release = project.release()
        assert len(proxy.posts()) == 1, "only the missing file, only where it lacks"
        assert list_files(shelf.index, project.name) == release.digests
    assert list_files(public, project.name) == release.digests


@pytest.mark.parametrize("second", ["down", "knows the version", "another file"])
def test_a_second_index_is_looked_at_alike(
    project: Project, proxy: Proxy, second: str
) -> None:
    with LoopbackIndex() as shelf:
        name = f"{project.name.replace('-', '_')}-0.2.0-py3-none-any.whl"
        on_two(project, shelf)
        if second == "down":
            proxy.faults.append(Fault("GET", PAGE, "status:503"))
            assert codes(project) == ["E_INDEX_UNREACHABLE"]
        elif second == "knows the version":
            with quick(list_files=lambda one, name_: taken(one, proxy, name)):
                assert codes(project) == ["E_VERSION_EXISTS"]
        else:
            begun = publish.upload

            def upload(release: Any) -> dict[str, Any]:
                with quick(list_files=lambda one, name_: taken(one, proxy, name)):
                    return begun(release)

            assert stopped(project, upload=upload) == "E_CONFLICT"


def test_every_reason_to_stop_is_tried() -> None:
    """Each code that the chapters raise is expected by a test of this folder."""
    folder = Path(__file__).parent
    chapters = folder.parent.joinpath("litml").glob("*.py")
    raised = {
        code
        for path in chapters
        for code in re.findall(r"ReleaseError\(\s*\"(E_\w+)\"", path.read_text("utf-8"))
    }
    tests = "".join(path.read_text("utf-8") for path in folder.glob("test_release*.py"))
    expected = set(re.findall(r"E_[A-Z_]+", tests))
    assert len(raised) > 30
    assert raised - expected == set()


def test_a_second_index_is_a_text(project: Project) -> None:
    edit(project, "pyproject.toml", "test = false\n", "test = false\nalso = [1]\n")
    with pytest.raises(ConfigError, match=r"`also` .* is a list of names"):
        project.look()


def taken(index: Index, proxy: Proxy, name: str) -> dict[str, str]:
    """List files as if one name were taken on the index behind the proxy."""
    return {name: "0" * 64} if proxy.address in index.upload else {}
