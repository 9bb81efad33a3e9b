"""What the tests of releases need: an index behind a proxy that fails on demand, a
remote, and a project that can be released."""

import hashlib
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ENVIRONMENT, code, notebook_bytes

from litml import github, indexes, preflight, publish
from litml.package import export_project
from litml.preflight import Look, read_settings
from litml.project import find_project
from litml.release import STAGES, Events, Release, release_project

USER, PASSWORD = "ada", "correct-horse-1815"
TOKEN = {"TWINE_USERNAME": USER, "TWINE_PASSWORD": PASSWORD}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def run_index(folder: Path) -> Iterator[str]:
    """Run pypiserver with a password; yield its address."""
    from passlib.apache import HtpasswdFile

    accounts = HtpasswdFile(
        str(folder / "accounts"), new=True, default_scheme="apr_md5_crypt"
    )
    accounts.set_password(USER, PASSWORD)
    accounts.save()
    (folder / "files").mkdir()
    port = free_port()
    options = ["-i", "127.0.0.1", "-p", str(port), "-P", str(folder / "accounts")]
    more = ["-a", "update", "--disable-fallback", str(folder / "files")]
    command = [sys.executable, "-m", "pypiserver", "run", *options, *more]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as one:
        try:
            wait_for(f"http://127.0.0.1:{port}/simple/")
            yield f"http://127.0.0.1:{port}"
        finally:
            one.terminate()


def wait_for(address: str, within: float = 60) -> None:
    limit = time.monotonic() + within
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            assert time.monotonic() < limit, f"nobody answers at {address}"
            time.sleep(0.1)
        else:
            return


@dataclass
class Fault:
    """What to do to requests of a method whose path matches; `times` counts down."""

    method: str
    path: str
    action: str
    times: int = 10**6
    skip: int = 0

    def applies(self, method: str, path: str) -> bool:
        if method != self.method or not re.search(self.path, path) or self.times <= 0:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass
class Proxy:
    """A proxy before an index; what it does wrong is in `faults`."""

    target: str
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, bytes]] = field(default_factory=list)
    kept: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    on_request: Callable[[str, str], None] = lambda method, path: None
    address: str = ""

    @contextmanager
    def running(self) -> Iterator["Proxy"]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                proxy.handle(self, "GET")

            def do_POST(self) -> None:
                proxy.handle(self, "POST")

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def handle(self, one: BaseHTTPRequestHandler, method: str) -> None:
        self.on_request(method, one.path)
        fault = next((f for f in self.faults if f.applies(method, one.path)), None)
        action = fault.action if fault else "pass"
        if action == "reset-mid":
            one.rfile.read(200)
            return reset(one)
        body = one.rfile.read(int(one.headers.get("Content-Length") or 0))
        self.requests.append((method, one.path, body))
        if action.startswith("status:"):
            status, _, after = action.removeprefix("status:").partition(":")
            return answer(
                one, int(status), {"Retry-After": after} if after else {}, b"no"
            )
        if action == "reset":
            return reset(one)
        if action.startswith("hang:"):
            time.sleep(float(action.removeprefix("hang:")))
            return reset(one)
        if action == "stale" and one.path in self.kept:
            return answer(one, *self.kept[one.path])
        status, headers, data = self.forward(one, method, body)
        if method == "GET" and (action == "stale" or one.path not in self.kept):
            self.kept[one.path] = (status, headers, data)
        if action == "drop-response":
            return reset(one)
        if action == "truncate-response":
            headers = {**headers, "Content-Length": str(len(data) + 10)}
            one.close_connection = True
        return answer(one, status, headers, data)

    def forward(self, one: BaseHTTPRequestHandler, method: str, body: bytes) -> Any:
        passed = ("Content-Type", "Authorization", "Accept", "User-Agent")
        headers = {name: one.headers[name] for name in passed if one.headers[name]}
        data = body if method == "POST" else None
        request = urllib.request.Request(
            self.target + one.path, data, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as got:
                kind = {"Content-Type": got.headers.get("Content-Type", "text/plain")}
                return got.status, kind, got.read()
        except urllib.error.HTTPError as error:
            kind = {"Content-Type": error.headers.get("Content-Type", "text/plain")}
            return error.code, kind, error.read()

    def posts(self) -> list[str]:
        """The names of the files that were sent, "" for a form without one."""
        bodies = [body for method, _, body in self.requests if method == "POST"]
        found = [re.search(rb'filename="([^"]+)"', body) for body in bodies]
        return [match[1].decode() if match else "" for match in found]


def answer(
    one: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes
) -> None:
    one.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **headers}.items():
        one.send_header(name, value)
    one.end_headers()
    one.wfile.write(body)


def reset(one: BaseHTTPRequestHandler) -> None:
    """Drop the connection, so that the other side sees a reset."""
    linger = struct.pack("ii", 1, 0)
    one.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    one.connection.close()
    one.close_connection = True


PYPROJECT = """[build-system]
requires = ["hatchling<2"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "0.1.0"
description = "Numbers."
readme = "README.md"
requires-python = ">=3.11"
license = "MIT"

[tool.litml]
package = "tiny"

[tool.litml.release]
index = "{index}/"
test = false
github = false

[tool.hatch.build.targets.wheel]
packages = ["tiny"]
"""
DOUBLE = code("double", "#| export\ndef double(x):\n    return x + x\n")


def new_name(test: str) -> str:
    """Return a name for a project that no other test has used on its index."""
    return f"tiny-{abs(hash(test)):x}-{os.getpid()}"


class Project:
    """A project in a repository with a remote, ready to be released."""

    def __init__(self, folder: Path, name: str, index: str) -> None:
        self.name = name
        self.root = folder / "work"
        self.remote = folder / "remote.git"
        (self.root / "nbs").mkdir(parents=True)
        self.write("pyproject.toml", PYPROJECT.format(name=name, index=index))
        self.write("README.md", f"# {name}\n")
        self.write("CHANGELOG.md", "# Changelog\n\n## Unreleased\n\n- Doubling.\n")
        self.write(".gitignore", "__pycache__/\n")
        notebook = notebook_bytes(DOUBLE)
        tree = json.loads(notebook)
        text = json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False)
        self.write("nbs/01_core.ipynb", text + "\n")
        export_project(find_project(self.root))
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.remote))
        self.git("init", "--quiet", "--initial-branch=main")
        for key, value in (("user.name", "A"), ("user.email", "a@example.org")):
            self.git("config", key, value)
        self.git("remote", "add", "origin", str(self.remote))
        self.commit()
        self.git("push", "--quiet", "origin", "main")

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def git(self, *words: str, cwd: Path | None = None) -> str:
        command = ["git", *words]
        done = subprocess.run(
            command,
            cwd=cwd or self.root,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message: str = "work") -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def look(self, wanted: str = "minor", index: str = "", **environ: str) -> Look:
        project = find_project(self.root)
        settings = read_settings(project)
        settings = replace(settings, index=index or settings.index)
        known = {**ENVIRONMENT, **TOKEN, "LITML_RELEASE_PAUSE": "0.01", **environ}
        return Look(project, settings, wanted, True, known, index_wanted=index)

    def release(self, wanted: str = "minor", events: Events | None = None) -> Release:
        return release_project(self.look(wanted), events or Events())

    def litml(self, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        known = {**ENVIRONMENT, **TOKEN, "LITML_RELEASE_PAUSE": "0.01", **environ}
        known = {name: value for name, value in known.items() if value}
        command = [sys.executable, "-m", "litml", *words]
        return subprocess.run(
            command, cwd=self.root, env=known, capture_output=True, text=True
        )

    def remote_refs(self) -> dict[str, str]:
        lines = self.git("show-ref", cwd=self.remote).splitlines()
        return {name: id for id, name in (line.split() for line in lines)}

    def snapshot(self) -> dict[str, bytes]:
        """Every file of the work tree, git's own left out."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and not {".git", "__pycache__"} & set(path.parts)
        }

    def leaks(self) -> list[Path]:
        """Files below the project or its git folder that hold the password."""
        found = (path for path in self.root.rglob("*") if path.is_file())
        secrets = (PASSWORD.encode(), Pages.TOKEN.encode())
        return [path for path in found if any(s in path.read_bytes() for s in secrets)]


@contextmanager
def quick(**replaced: Callable[..., Any]) -> Iterator[None]:
    """Replace stages and other functions, so that a test waits only for its subject."""
    kept = dict(STAGES)
    with pytest.MonkeyPatch.context() as patch:
        for name, function in replaced.items():
            if name in STAGES:
                STAGES[name] = function
            for module in (indexes, preflight, github, publish):
                if name not in STAGES and hasattr(module, name):
                    patch.setattr(module, name, function)
        try:
            yield
        finally:
            STAGES.clear()
            STAGES.update(kept)


def send_here(
    index: indexes.Index, path: Path | None, environ: Any, timeout: float = 0
) -> indexes.Answer:
    """Do what `send_file` does in this process, which has twine at hand already."""
    where = ["--repository-url", index.upload]
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        for name in ("TWINE_USERNAME", "TWINE_PASSWORD"):
            patch.setenv(name, environ.get(name, ""))
        patch.setattr(sys, "argv", ["-c", str(path or ""), *where])
        exec(indexes.SENDER, {})
    return indexes.Answer(**json.loads(said.getvalue().strip().splitlines()[-1]))


def skip_smoke(release: Release) -> dict[str, Any]:
    return {"modules": 0}


def make_artifacts(release: Release) -> dict[str, Any]:
    """Stand in for the build: two small files, at once, the same every time."""
    import zipfile

    shutil.rmtree(release.dist, ignore_errors=True)
    release.dist.mkdir(parents=True)
    name, version = release.plan.project.replace("-", "_"), release.plan.version
    digests = {}
    for tag in ("py2", "py3"):
        path = release.dist / f"{name}-{version}-{tag}-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            info = f"{name}-{version}.dist-info"
            wheel = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}-none-any\n"
            metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            texts = {"METADATA": metadata, "WHEEL": wheel}
            for file, text in texts.items():
                archive.writestr(zipfile.ZipInfo(f"{info}/{file}"), text)
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"files": digests}


FAST = {
    "build": make_artifacts,
    "verify": lambda release: {"files": 0},
    "smoke": skip_smoke,
    "send_file": send_here,
    "try_download": lambda release, index: None,
}


class Pages:
    """The part of GitHub's API that is about releases; `address` is GITHUB_API_URL.

    A release that is published cannot be changed any more, as where releases are
    immutable.
    """

    TOKEN = "ghp_0123456789abcdefghij"

    def __init__(self) -> None:
        self.releases: list[dict[str, Any]] = []
        self.address = ""
        self.down = False

    @contextmanager
    def running(self) -> Iterator["Pages"]:
        pages = self

        class Handler(BaseHTTPRequestHandler):
            def handle_call(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                allowed = self.headers["Authorization"] == f"Bearer {pages.TOKEN}"
                path, _, query = self.path.partition("?")
                status, told = pages.reply(self.command, path, query, body)
                if pages.down or not allowed:
                    status, told = (503 if allowed else 401), {"message": "no"}
                kind = {"Content-Type": "application/json"}
                answer(self, status, kind, json.dumps(told).encode())

            do_GET = do_POST = do_PATCH = do_DELETE = handle_call

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()

    def reply(self, method: str, path: str, query: str, body: bytes) -> tuple[int, Any]:
        number = int(path.rpartition("/")[2]) if path[-1].isdigit() else -1
        if path.startswith("/upload/"):
            return self.attach(self.releases[number], query.removeprefix("name="), body)
        if not path.startswith("/repos/ada/tiny/releases"):
            return 404, {"message": "Not Found"}
        if method == "DELETE":
            return self.detach(number)
        if method == "POST":
            return 201, self.add(**json.loads(body))
        if method == "PATCH":
            self.releases[number].update(json.loads(body))
            return 200, self.releases[number]
        return 200, self.releases[::-1]

    def add(self, tag_name: str, draft: bool, **values: Any) -> dict[str, Any]:
        number = len(self.releases)
        addresses = {
            "html_url": f"https://github.com/ada/tiny/releases/{tag_name}",
            "upload_url": f"{self.address}/upload/{number}{{?name,label}}",
        }
        known = {"id": number, "tag_name": tag_name, "draft": draft, "assets": []}
        self.releases.append({**known, **addresses, **values})
        return self.releases[number]

    def attach(self, page: dict[str, Any], name: str, data: bytes) -> tuple[int, Any]:
        if not page["draft"]:
            return 422, {"message": "Cannot upload assets to an immutable release."}
        if any(asset["name"] == name for asset in page["assets"]):
            return 422, {"message": "already_exists"}
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        number = sum(len(one["assets"]) for one in self.releases) + 100
        asset = {"id": number, "name": name, "digest": digest, "state": "uploaded"}
        page["assets"].append(asset)
        return 201, asset

    def detach(self, number: int) -> tuple[int, Any]:
        for page in self.releases:
            kept = [one for one in page["assets"] if one["id"] != number]
            if len(kept) < len(page["assets"]):
                if not page["draft"]:
                    return 422, {"message": "an immutable release"}
                page["assets"] = kept
                return 204, None
        return 404, {"message": "Not Found"}

    def digests(self) -> list[dict[str, str]]:
        """The digests of the assets of each release, by name."""
        return [
            {
                one["name"]: one["digest"].removeprefix("sha256:")
                for one in page["assets"]
            }
            for page in self.releases
        ]
