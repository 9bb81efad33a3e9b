# Exported from nbs/18g_github.ipynb. Edit either side, then run `litml sync`.
"""Give a release its page at GitHub, with its files, without ever failing the
release.
"""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from litml.git import GitError, run_git
from litml.indexes import pause
from litml.journal import redact
from litml.preflight import read_settings
from litml.stages import Release, Result

__all__ = [
    "find_github",
    "LOST",
    "ghrelease",
    "wait_for_page",
    "find_address",
    "make_draft",
    "explain",
    "attach_files",
]


# ## Whose page
# %% find_github
def find_github(address: str) -> str:
    """Return `owner/name` of a repository at GitHub, "" for any other address."""
    host = r"(?:https://(?:[^/@]*@)?|ssh://git@|git@)github\.com[:/]"
    found = re.fullmatch(host + r"([\w.-]+/[\w.-]+?)(?:\.git)?/?", address)
    return found[1] if found else ""


# ## The interface
# %% GitHub
class GitHub:
    """The part of GitHub's REST API that is about releases (version 2022-11-28)."""

    def __init__(self, repository: str, environ: Mapping[str, str]) -> None:
        base = environ.get("GITHUB_API_URL", "https://api.github.com")
        self.base = f"{base.rstrip('/')}/repos/{repository}/releases"
        self.token = environ.get("GITHUB_TOKEN") or environ.get("GH_TOKEN") or ""

    def call(
        self,
        method: str,
        address: str,
        data: bytes = b"",
        kind: str = "application/json",
    ) -> Any:
        """Return the answer to a request; raises `OSError`."""
        headers = {
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "Content-Type": kind,
            "User-Agent": "litml",
        }
        request = urllib.request.Request(address, data or None, headers, method=method)
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = answer.read()
        return json.loads(body) if body else None

    def find(self, tag: str) -> dict[str, Any] | None:
        """Return the release of a tag, drafts included, or None."""
        found = self.call("GET", f"{self.base}?per_page=100")
        return next((one for one in found if one["tag_name"] == tag), None)

    def change(self, method: str, address: str, **values: Any) -> dict[str, Any]:
        """Create or change a release."""
        answer: dict[str, Any] = self.call(method, address, json.dumps(values).encode())
        return answer


# ## The stage
# %% ghrelease
LOST = (OSError, ValueError, LookupError, TypeError, http.client.HTTPException)


def ghrelease(release: Release, patience: float = 300.0) -> Result:
    """Give the release its page at GitHub, with its files; what fails is a warning.

    If a workflow publishes, wait at most `patience` seconds for the page it makes.
    """
    settings = read_settings(release.project)
    if not settings.github:
        return {"page": "", "note": "no page at GitHub is asked for"}
    repository = find_github(find_address(release))
    github = GitHub(repository, release.environ)
    if not repository or not github.token:
        return {"page": "", "note": "not at GitHub, or no GITHUB_TOKEN"}
    page: dict[str, Any] = {}
    try:
        if settings.publish == "ci":
            return {"page": wait_for_page(release, github, patience)}
        page = github.find(release.plan.tag) or make_draft(release, github)
        attach_files(release, github, page)
        if page["draft"]:
            page = github.change("PATCH", f"{github.base}/{page['id']}", draft=False)
        return {"page": page["html_url"]}
    except LOST as error:
        where = page.get("html_url") if isinstance(page, dict) else ""
        what = f"{where} is not complete" if where else "no page at GitHub"
        note = redact(f"{what}: {explain(error)}", release.environ)
        return {"page": "", "note": note}


def wait_for_page(release: Release, github: GitHub, patience: float) -> str:
    """Return the address of a page once others have published it; raises `OSError`."""
    deadline, attempt = time.monotonic() + patience, 0
    while (page := github.find(release.plan.tag)) is None or page["draft"]:
        if time.monotonic() > deadline:
            raise OSError(f"the workflow has published none within {patience:g} s")
        attempt = min(attempt + 1, 5)
        release.say("waiting for the page at GitHub")
        time.sleep(pause(attempt))
    return str(page["html_url"])


def find_address(release: Release) -> str:
    """Return the address that a release's remote stands for."""
    root = release.project.root
    try:
        return os.fsdecode(run_git(root, "remote", "get-url", release.remote)).strip()
    except GitError:  # a remote that has no name
        return release.remote


def make_draft(release: Release, github: GitHub) -> dict[str, Any]:
    """Make a page that nobody can see yet."""
    from packaging.version import Version

    plan = release.plan
    return github.change(
        "POST",
        github.base,
        tag_name=plan.tag,
        name=f"{plan.project} {plan.version}",
        body=plan.notes,
        draft=True,
        prerelease=Version(plan.version).is_prerelease,
    )


def explain(error: Exception) -> str:
    """Return what GitHub says of an error, or what it is called."""
    if not isinstance(error, urllib.error.HTTPError):
        return str(error)
    try:
        return f"{error.code} {json.loads(error.read())['message']}"
    except LOST:
        return str(error)


def attach_files(release: Release, github: GitHub, page: Mapping[str, Any]) -> None:
    """Upload the artifacts that a page lacks, or has otherwise; raises `OSError`."""
    there = {asset["name"]: asset for asset in page.get("assets", [])}
    lacking = []
    for name, digest in release.digests.items():
        asset = there.get(name, {})
        if asset.get("digest") == f"sha256:{digest}" and asset["state"] == "uploaded":
            continue
        try:
            if asset:
                github.call("DELETE", f"{github.base}/assets/{asset['id']}")
            address = page["upload_url"].partition("{")[0]
            query = urllib.parse.urlencode({"name": name})
            data = (release.dist / name).read_bytes()
            kind = "application/octet-stream"
            github.call("POST", f"{address}?{query}", data, kind)
        except urllib.error.HTTPError as error:
            lacking.append(f"{name} ({explain(error)})")
    if lacking:
        raise OSError(f"it lacks {', '.join(lacking)}")
