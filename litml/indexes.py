# Exported from nbs/18c_indexes.ipynb. Edit either side, then run `litml sync`.
"""Ask an index which files of a version it serves, and send it one."""

import hashlib
import html.parser
import http.client
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from litml.journal import ReleaseError, redact

__all__ = [
    "Index",
    "normalize",
    "choose_index",
    "guess_simple",
    "known_repositories",
    "parse_simple",
    "Links",
    "read_link",
    "ACCEPT",
    "list_files",
    "fetch",
    "digest_at",
    "RETRIED",
    "pause",
    "Answer",
    "send_file",
    "Event",
    "publish_file",
    "check_artifact",
    "is_served",
    "refuse",
]


# %% Index
@dataclass(frozen=True, slots=True)
class Index:
    """A package index: where files are sent, and where its simple pages are.

    `name` is what twine calls it, for an index that twine knows by name.
    """

    upload: str
    simple: str
    name: str = ""

    def page(self, project: str) -> str:
        """Return the address of a project's simple page."""
        return f"{self.simple.rstrip('/')}/{normalize(project)}/"


def normalize(project: str) -> str:
    """Return a project's name as it stands in addresses (PEP 503)."""
    return re.sub(r"[-_.]+", "-", project).lower()


# ## Which index
# %% choose_index
def choose_index(name: str, repositories: Mapping[str, str], simple: str = "") -> Index:
    """Return the index of a name, or of the address where it takes files.

    `repositories` are the upload addresses by name, as twine's configuration has
    them. Raises `ReleaseError` for a name that is not among them.
    """
    if re.search(r"://[^/]*@", name):
        hint = "put them into TWINE_USERNAME and TWINE_PASSWORD, or into .pypirc"
        raise ReleaseError("E_INDEX", "the address holds credentials", hint=hint)
    upload = name if "://" in name else repositories.get(name, "")
    if not upload:
        known = ", ".join(sorted(repositories))
        hint = f"there are {known}; or give its address"
        raise ReleaseError("E_INDEX", f"no index is called `{name}`", hint=hint)
    return Index(upload, simple or guess_simple(upload), "" if "://" in name else name)


def guess_simple(upload: str) -> str:
    """Return where the simple pages of an index are likely to be."""
    parts = urllib.parse.urlsplit(upload)
    if parts.path.rstrip("/").endswith("/legacy"):  # the two indexes of the PyPA
        host = parts.netloc.removeprefix("upload.")
        return urllib.parse.urlunsplit((parts.scheme, host, "/simple", "", ""))
    return f"{upload.rstrip('/')}/simple"


def known_repositories() -> dict[str, str]:
    """Return the upload addresses that twine knows, by name."""
    from twine.utils import get_config

    config = get_config("~/.pypirc")
    return {name: str(table.get("repository", "")) for name, table in config.items()}


# ## What it serves
# %% parse_simple
def parse_simple(body: bytes, kind: str, page: str) -> dict[str, str]:
    """Return the files of a simple page: SHA-256 by name, or "@" and the address.

    `kind` is the content type, `page` the address that links are relative to.
    """
    if "json" in kind:
        found = {}
        for file in json.loads(body)["files"]:
            address = urllib.parse.urljoin(page, file["url"])
            found[file["filename"]] = file["hashes"].get("sha256") or f"@{address}"
        return found
    links = Links()
    links.feed(body.decode("utf-8", errors="replace"))
    return dict(read_link(urllib.parse.urljoin(page, href)) for href in links.found)


class Links(html.parser.HTMLParser):
    """Collects where the links of a page lead."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take in one tag; the parser calls this."""
        href = dict(attrs).get("href") if tag == "a" else None
        if href:
            self.found.append(href)


def read_link(address: str) -> tuple[str, str]:
    """Return the name of the file at an address, and its digest if that is given."""
    parts = urllib.parse.urlsplit(address)
    name = urllib.parse.unquote(parts.path.rsplit("/", 1)[-1])
    _, given, digest = parts.fragment.partition("sha256=")
    return name, digest if given else f"@{address}"


# %% list_files
ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"


def list_files(index: Index, project: str, tries: int = 4) -> dict[str, str]:
    """Return the files that an index serves for a project, SHA-256 by name.

    Raises `ReleaseError` (E_INDEX_UNREACHABLE, or E_INDEX for an answer that makes
    no sense).
    """
    page = index.page(project)
    answer = fetch(page, tries)
    if answer is None:
        return {}
    body, kind, address = answer
    try:
        found = parse_simple(body, kind, address)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"the index answers with something else than a page: {error}"
        raise ReleaseError("E_INDEX", message) from error
    digests = {
        name: digest_at(digest[1:], tries) if digest.startswith("@") else digest
        for name, digest in found.items()
    }
    return {name: digest for name, digest in digests.items() if digest}


def fetch(address: str, tries: int = 4) -> tuple[bytes, str, str] | None:
    """Return body, content type and final address; None if there is no such page."""
    lost = (OSError, ValueError, http.client.HTTPException)  # ValueError: no address
    headers = {"Accept": ACCEPT, "Cache-Control": "max-age=0", "User-Agent": "litml"}
    reason = ""
    for attempt in range(tries):
        time.sleep(pause(attempt) if attempt else 0)
        request = urllib.request.Request(address, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                kind = str(answer.headers.get("Content-Type", ""))
                return answer.read(), kind, str(answer.geturl())
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            reason = f"HTTP {error.code}"
            if error.code not in RETRIED:
                break
        except lost as error:
            reason = str(getattr(error, "reason", error))
    hint = "try again later: the same command goes on"
    if "CERTIFICATE" in reason:
        hint = "SSL_CERT_FILE names the file of the certificates that you trust"
    message = f"the index cannot be asked at {address}: {reason}"
    raise ReleaseError("E_INDEX_UNREACHABLE", message, hint=hint)


def digest_at(address: str, tries: int) -> str:
    """Return the SHA-256 of the file at an address."""
    answer = fetch(address, tries)
    return hashlib.sha256(answer[0]).hexdigest() if answer else ""


RETRIED = (408, 425, 429, 500, 502, 503, 504)


def pause(attempt: int, asked: float = 0.0) -> float:
    """Return how many seconds to wait before a try; `asked` is what the index wants."""
    unit = float(os.environ.get("LITML_RELEASE_PAUSE", "1"))
    return min(max(unit * 2.0 ** (attempt - 1), asked), 120.0)


# ## Sending a file
# %% SENDER
SENDER = """
import argparse, json, sys
from twine.exceptions import TwineException
from twine.package import PackageFile
from twine.settings import Settings

path, options = sys.argv[1], sys.argv[2:]
parser = argparse.ArgumentParser()
Settings.register_argparse_arguments(parser)
said = {"status": 0, "reason": "", "wait": 0.0}
try:
    fixed = ["--non-interactive", "--disable-progress-bar"]
    settings = Settings.from_argparse(parser.parse_args([*fixed, *options]))
    settings.check_repository_url()
    repository = settings.create_repository()
    if path:
        package = PackageFile.from_filename(path, None)
        answer = repository.upload(package, max_redirects=1)
    else:
        form = {":action": "file_upload", "protocol_version": "1"}
        answer = repository.session.post(
            repository.url, data=form, allow_redirects=False, timeout=60
        )
    wait = answer.headers.get("Retry-After", "0")
    said["status"] = answer.status_code
    page = "<html" in answer.text.lower()
    text = "" if page else f": {answer.text[:300].strip()}"
    said["reason"] = f"{answer.status_code} {answer.reason}{text}"
    said["wait"] = float(wait) if wait.isdecimal() else 0.0
except TwineException as error:
    said["status"], said["reason"] = 400, f"{type(error).__name__}: {error}"
    if "credential" in said["reason"].lower():
        said["status"] = 401
except Exception as error:
    said["reason"] = f"{type(error).__name__}: {error}"
print("\\n" + json.dumps(said))
"""


# %% Answer
@dataclass(frozen=True, slots=True)
class Answer:
    """What an index said to a file: the HTTP status, 0 if there was no answer.

    `wait` is how many seconds it wants to be left alone.
    """

    status: int
    reason: str = ""
    wait: float = 0.0

    @property
    def accepted(self) -> bool:
        """Was the file taken?"""
        return 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """Would the same file get the same answer again?"""
        return 300 <= self.status < 500 and self.status not in RETRIED


def send_file(
    index: Index, path: Path | None, environ: Mapping[str, str], timeout: float = 900
) -> Answer:
    """Send one file once, or, without one, only the credentials.

    These are in `environ`, or where else twine finds them.
    """
    where = ["--repository-url", index.upload]
    options = ["--repository", index.name] if index.name else where
    command = [sys.executable, "-P", "-c", SENDER, str(path or ""), *options]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            env={**environ, "NO_COLOR": "1", "COLUMNS": "1000"},
            stdin=subprocess.DEVNULL,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return Answer(0, f"no end within {timeout:g} seconds")
    last = (done.stdout.strip().splitlines() or [""])[-1]
    try:
        answer = Answer(**json.loads(last))
    except (ValueError, TypeError):
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        answer = Answer(0, f"twine failed: {lines[-1]}")
    return replace(answer, reason=redact(answer.reason, environ))


# %% publish_file
Event = Callable[..., None]


def publish_file(
    index: Index,
    project: str,
    path: Path,
    digest: str,
    environ: Mapping[str, str] = os.environ,
    tell: Event = lambda event, **values: None,
    tries: int = 5,
) -> None:
    """Send a file until the index serves it; `digest` is its SHA-256.

    Raises `ReleaseError`: E_ARTIFACT_CHANGED, E_CONFLICT, E_AUTH, E_REJECTED, or
    E_UPLOAD; after the last one the same command goes on.
    """
    for attempt in range(1, tries + 1):
        check_artifact(path, digest)
        if is_served(index, project, path.name, digest):
            tell("file-present", file=path.name)
            return
        tell("attempt", file=path.name, number=attempt)
        answer = send_file(index, path, environ)
        if answer.accepted:
            tell("file-sent", file=path.name)
            return
        tell("refused", file=path.name, status=answer.status, reason=answer.reason)
        if answer.final and not is_served(index, project, path.name, digest):
            raise refuse(answer, path.name)
        if attempt < tries:
            time.sleep(pause(attempt, answer.wait))
    if not is_served(index, project, path.name, digest):
        raise refuse(answer, path.name)


def check_artifact(path: Path, digest: str) -> None:
    """Raise `ReleaseError` unless a file is the one that was built."""
    if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
        message = f"{path.name} is not what was built and tested"
        hint = "the same command builds it again"
        raise ReleaseError("E_ARTIFACT_CHANGED", message, hint=hint)


def is_served(index: Index, project: str, name: str, digest: str) -> bool:
    """Does the index serve this file? Raises `ReleaseError` if it serves another."""
    served = list_files(index, project).get(name)
    if served and served != digest:
        message = f"the index has another {name}, and that name is taken for ever"
        hint = "`litml release --abort`, and release the next patch"
        raise ReleaseError("E_CONFLICT", message, hint=hint)
    return bool(served)


def refuse(answer: Answer, name: str) -> ReleaseError:
    """Return the error for a file that the index did not take."""
    if not answer.final:
        hint = "the same command goes on with this file"
        message = f"{name} was not taken, again and again: {answer.reason}"
        return ReleaseError("E_UPLOAD", message, hint=hint)
    if answer.status in (401, 403):
        hint = (
            "set TWINE_USERNAME=__token__ and TWINE_PASSWORD, then the same command;"
            " if the name is another project's, `--abort` and choose one"
        )
        message = f"the credentials will not do: {answer.reason}"
        return ReleaseError("E_AUTH", message, hint=hint)
    message = f"the index refuses {name}: {answer.reason}"
    hint = "if it will not change its mind: `litml release --abort`, and the next patch"
    return ReleaseError("E_REJECTED", message, hint=hint)
