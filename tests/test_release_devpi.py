"""Releases to a devpi-server: the other kind of index.

It answers in JSON (PEP 691), takes a file with the same bytes twice, refuses other
bytes under a name with 409, and wrong credentials with 401; pypiserver does none of
that. To run these, put `devpi-init` and `devpi-server` on the path, from an
environment of their own.
"""

import base64
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT
from releasing import (
    FAST,
    PASSWORD,
    TOKEN,
    USER,
    Fault,
    Project,
    Proxy,
    free_port,
    new_name,
    quick,
    wait_for,
)

from litml.indexes import Index, fetch, list_files, send_file
from litml.journal import ReleaseError
from litml.release import Events

pytestmark = [
    pytest.mark.slow,  # the server takes many seconds to start
    pytest.mark.skipif(
        not (shutil.which("devpi-init") and shutil.which("devpi-server")),
        reason="devpi-server, in an environment of its own, is not on the path",
    ),
]
PLACE = f"/{USER}/prod"


@pytest.fixture(scope="module")
def devpi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a devpi-server with an index in which no file can change."""
    folder, port = tmp_path_factory.mktemp("devpi"), free_port()
    where = ["--serverdir", str(folder)]
    subprocess.run(
        ["devpi-init", *where, "--no-root-pypi"], check=True, capture_output=True
    )
    address = f"http://127.0.0.1:{port}"
    command = ["devpi-server", *where, "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        [*command, "--offline-mode"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            wait_for(f"{address}/+api", within=120)
            make_index(address)
            yield address
        finally:
            server.terminate()


def make_index(address: str) -> None:
    """Make a user, log in, and make an index of theirs."""
    about = {"password": PASSWORD, "email": "a@example.org"}
    call("PUT", f"{address}/{USER}", about)
    login = {"user": USER, "password": PASSWORD}
    token = call("POST", f"{address}/+login", login)["result"]["password"]
    key = base64.b64encode(f"{USER}:{token}".encode()).decode()
    call("PUT", address + PLACE, {"type": "stage", "volatile": False}, key)


def call(method: str, address: str, values: dict[str, Any], key: str = "") -> Any:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    headers |= {"X-Devpi-Auth": key} if key else {}
    data = json.dumps(values).encode()
    request = urllib.request.Request(address, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.fixture
def proxy(devpi: str) -> Iterator[Proxy]:
    with Proxy(devpi).running() as proxy:
        yield proxy


@pytest.fixture
def project(
    tmp_path: Path,
    proxy: Proxy,
    devpi: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Project]:
    """A project whose files go through the proxy, and whose pages do not."""
    monkeypatch.setenv("LITML_RELEASE_PAUSE", "0.01")
    name = new_name(request.node.nodeid)
    made = Project(tmp_path, name, proxy.address + PLACE)
    path = made.root / "pyproject.toml"
    simple = f'test = false\nsimple = "{devpi}{PLACE}/+simple/"\n'
    path.write_text(path.read_text().replace("test = false\n", simple))
    made.commit()
    made.git("push", "--quiet", "origin", "main")
    yield made
    assert made.leaks() == []


def index_of(project: Project) -> Index:
    settings = project.look().settings
    return Index(settings.index, settings.simple)


def real(**replaced: Any) -> Any:
    """Replace the build, which is the same for every index, and nothing else."""
    kept = {name: FAST[name] for name in ("build", "verify", "smoke")}
    return quick(**{**kept, **replaced})


def test_the_whole_way(project: Project, proxy: Proxy) -> None:
    """Nothing is replaced: twine sends it, and pip fetches it by its hash."""
    done = project.litml("release", "minor", "--first")
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    page = fetch(index_of(project).page(project.name))
    assert page and page[1].startswith("application/vnd.pypi.simple.v1+json")
    assert len(list_files(index_of(project), project.name)) == 2


def test_stopped_between_the_files(project: Project, proxy: Proxy) -> None:
    """Scenario 26: the second run sends the other one."""
    proxy.faults.append(Fault("POST", PLACE, "status:403", skip=2))
    with real(), pytest.raises(ReleaseError, match="E_AUTH"):
        project.release()
    assert len(list_files(index_of(project), project.name)) == 1
    proxy.faults.clear()
    proxy.requests.clear()
    with real():
        release = project.release()
    assert len(proxy.posts()) == 1
    assert list_files(index_of(project), project.name) == release.digests


def test_an_answer_that_is_lost(project: Project, proxy: Proxy) -> None:
    """Scenario 37: what is stored is recognised by its hash."""
    proxy.faults.append(Fault("POST", PLACE, "drop-response", times=2, skip=1))
    with real():
        release = project.release()
    assert len(proxy.posts()) == 3, "the probe and each file once"
    assert list_files(index_of(project), project.name) == release.digests


def test_other_bytes_under_a_name(project: Project, tmp_path: Path) -> None:
    """Scenario 42: the same ones are taken twice, others are refused."""
    environ = {**ENVIRONMENT, **TOKEN}

    def take_the_name(name: str, state: str, text: str) -> None:
        if (name, state) != ("push", "done"):
            return
        dist = next((project.root / ".git/litml/release").glob("*/dist"))
        mine = min(dist.iterdir())
        other = tmp_path / mine.name
        shutil.copyfile(mine, other)
        with other.open("ab") as file:
            file.write(b"\0" * 10)
        for _ in range(2):
            assert send_file(index_of(project), other, environ).accepted
        assert send_file(index_of(project), mine, environ).status == 409

    with real(), pytest.raises(ReleaseError, match="E_CONFLICT"):
        project.release(events=Events(stage=take_the_name))


def test_a_wrong_password(project: Project) -> None:
    """Scenario 14: a 401, before anything is done."""
    done = project.litml("release", "minor", "--first", TWINE_PASSWORD="wrong-one")
    assert done.returncode == 1 and "(E_AUTH)" in done.stderr
    assert " 401 " in done.stderr and "wrong-one" not in done.stderr
    assert "refs/tags/v0.2.0" not in project.remote_refs()
