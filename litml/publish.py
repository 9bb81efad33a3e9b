# Exported from nbs/18g_publish.ipynb. Edit either side, then run `litml sync`.
"""Push, upload and confirm, so that a tag and its files are there together or a
second run brings them together.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from itertools import product
from pathlib import Path

from litml.git import GitError, run_git
from litml.indexes import Index, list_files, pause, publish_file
from litml.journal import ReleaseError
from litml.preflight import read_settings
from litml.signing import is_signed, sign_tag
from litml.stages import Release, Result, remove_work

__all__ = [
    "list_refs",
    "push",
    "send_refs",
    "upload",
    "confirm",
    "wait_for_files",
    "find_missing",
    "DOWNLOAD",
    "try_download",
    "FOREIGN",
    "without_other_sources",
    "finish",
    "move_branch",
    "abort",
    "find_public",
    "HOPELESS",
    "is_hopeless",
    "remove_tag",
    "local_tags",
]


# ## Push
# %% list_refs
def list_refs(release: Release) -> dict[str, str]:
    """Return what the remote's branch and tag point to, by `branch`, `tag`, `commit`.

    `tag` is the tag object, `commit` what it stands for. Raises `ReleaseError`.
    """
    plan = release.plan
    branch, tag = f"refs/heads/{plan.branch}", f"refs/tags/{plan.tag}"
    try:
        told = run_git(
            release.project.root,
            "ls-remote",
            release.remote,
            branch,
            tag,
            f"{tag}^{{}}",
        )
    except GitError as error:
        hint = "the same command goes on when it is back"
        message = f"the remote does not answer: {error.message}"
        raise ReleaseError("E_REMOTE", message, hint=hint) from error
    pairs = [line.split("\t") for line in os.fsdecode(told).splitlines()]
    names = {branch: "branch", tag: "tag", f"{tag}^{{}}": "commit"}
    return {names[name]: id for id, name in pairs if name in names}


# %% make_tag
def make_tag(release: Release) -> str:
    """Make the tag object and return its id."""
    plan = release.plan
    identity = os.fsdecode(run_git(release.project.root, "var", "GIT_COMMITTER_IDENT"))
    person = identity.strip().rpartition(" ")[0].rpartition(" ")[0]
    text = (
        f"object {release.commit}\ntype commit\ntag {plan.tag}\n"
        f"tagger {person} {plan.when + 1} +0000\n\n{write_message(release)}"
    )
    return os.fsdecode(
        run_git(release.project.root, "mktag", data=text.encode())
    ).strip()


def write_message(release: Release) -> str:
    """Return what the tag says: which release it is, its notes, and the digests."""
    plan = release.plan
    digests = "\n".join(f"{digest}  {name}" for name, digest in release.digests.items())
    return f"{plan.project} {plan.version}\n\n{plan.notes}\n\nSHA-256:\n{digests}\n"


def make_signed_tag(release: Release) -> str:
    """Make the tag object as git signs it, and return its id."""
    plan, root = release.plan, release.project.root
    for id in local_tags(release):  # by a run that was killed
        run_git(root, "update-ref", "-d", f"refs/tags/{plan.tag}", id)
    message = write_message(release)
    return sign_tag(root, plan.tag, release.commit, message, plan.when + 1)


# %% push
def push(release: Release) -> Result:
    """Push commit and tag, both or none.

    Raises `ReleaseError` (E_REMOTE, E_MOVED, E_TAG_MOVED, E_SIGN, E_PUSH).
    """
    plan, root = release.plan, release.project.root
    refs = list_refs(release)
    if "tag" in refs:
        if refs.get("commit") != release.commit:
            message = f"somebody else has pushed a tag `{plan.tag}`"
            hint = "`--abort`, and release the next version"
            raise ReleaseError("E_TAG_MOVED", message, hint=hint)
    else:
        if refs.get("branch") not in (plan.base, release.commit):
            message = f"`{plan.branch}` has moved on at the remote"
            hint = "`litml release --abort`, `git pull`, and release again"
            raise ReleaseError("E_MOVED", message, hint=hint)
        signed = read_settings(release.project).sign or is_signed(root, "tag.gpgSign")
        refs["tag"] = make_signed_tag(release) if signed else make_tag(release)
        send_refs(release, refs["tag"])
    if not release.rehearsal:  # which leaves no tag behind
        run_git(root, "update-ref", f"refs/tags/{plan.tag}", refs["tag"])
    return {"tag": refs["tag"]}


def send_refs(release: Release, tag: str) -> None:
    """Push the commit to its branch, and the tag; raises `ReleaseError`."""
    plan = release.plan
    ours = f"{release.commit}:refs/heads/{plan.branch}"
    words = ["push", "--quiet", "--atomic", "--no-verify", release.remote]
    command = ["git", *words, ours, f"{tag}:refs/tags/{plan.tag}"]
    done = subprocess.run(
        command,
        cwd=release.project.root,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode and list_refs(release).get("tag") != tag:
        lines = [
            line for line in done.stderr.splitlines() if not line.startswith("hint:")
        ]
        message = f"the remote refuses it: {' '.join(lines)[:600]}"
        hint = "nothing was pushed; the same command tries again"
        raise ReleaseError("E_PUSH", message, hint=hint)


# ## Upload and confirm
# %% upload
def upload(release: Release) -> Result:
    """Send the files to each index, one after the other; see `publish_file`."""
    plan, digests = release.plan, release.digests
    for index, name in product(plan.indexes, digests):
        release.say(f"uploading {name}")
        path, tell = release.dist / name, release.journal.add
        publish_file(index, plan.project, path, digests[name], release.environ, tell)
    return {"files": list(release.digests)}


# %% confirm
def confirm(release: Release, patience: float = 900.0) -> Result:
    """Wait until each index serves our files, for at most `patience` seconds.

    Raises `ReleaseError` (E_NOT_VISIBLE, E_CONFLICT).
    """
    deadline = time.monotonic() + patience
    for index in release.plan.indexes:
        wait_for_files(release, index, deadline)
        if find_spec("pip"):  # without it, what the page says has to do
            try_download(release, index)
    return {"index": release.plan.index.simple}


def wait_for_files(release: Release, index: Index, deadline: float) -> None:
    """Wait until an index serves our files, but not beyond `deadline`."""
    attempt = 0
    while missing := find_missing(release, index):
        if time.monotonic() > deadline:
            message = f"{index.simple} does not show {', '.join(missing)}"
            hint = "the same command looks again"
            if read_settings(release.project).publish == "ci":
                hint = f"run again what has failed of the workflow; {hint}"
            raise ReleaseError("E_NOT_VISIBLE", message, hint=hint)
        attempt = min(attempt + 1, 5)
        release.say(f"waiting for {', '.join(missing)}")
        time.sleep(pause(attempt))


def find_missing(release: Release, index: Index) -> list[str]:
    """Return the files that an index does not show yet; raises `ReleaseError`."""
    served = list_files(index, release.plan.project)
    for name, digest in release.digests.items():
        if served.get(name, digest) != digest:
            message = f"the index has another {name}, and that name is taken for ever"
            hint = "`litml release --abort`, and release the next patch"
            raise ReleaseError("E_CONFLICT", message, hint=hint)
    return [name for name in release.digests if name not in served]


DOWNLOAD = (
    "--no-deps",
    "--no-cache-dir",
    "--only-binary=:all:",
    "--require-hashes",
    "--quiet",
    "--disable-pip-version-check",
    "--no-input",
)


def try_download(release: Release, index: Index) -> None:
    """Let pip fetch the wheel by its digest, from one index alone."""
    plan = release.plan
    wheels = [one for name, one in release.digests.items() if name.endswith(".whl")]
    digests = " ".join(f"--hash=sha256:{digest}" for digest in wheels)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        wanted = Path(temporary) / "wanted.txt"
        wanted.write_text(f"{plan.project}=={plan.version} {digests}\n")
        source = ["--index-url", index.simple, "--dest", temporary, "-r", str(wanted)]
        command = [sys.executable, "-m", "pip", "download", *DOWNLOAD, *source]
        environ = without_other_sources(release.environ)
        done = subprocess.run(command, capture_output=True, text=True, env=environ)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it says nothing"]
        message, hint = (
            f"pip cannot fetch it: {lines[-1]}",
            "the same command looks again",
        )
        raise ReleaseError("E_NOT_VISIBLE", message, hint=hint)


FOREIGN = re.compile(
    "PIP_(EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|CONSTRAINT|ONLY_BINARY|NO_BINARY|PLATFORM)"
)


def without_other_sources(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those that let pip look elsewhere, or at less."""
    kept = {name: value for name, value in environ.items() if not FOREIGN.match(name)}
    return {**kept, "PIP_CONFIG_FILE": os.devnull, "NO_COLOR": "1"}


# ## Finish, or give up
# %% finish
def finish(release: Release) -> Result:
    """Bring the user's branch up to the release if its tree is clean; tidy up."""
    moved = not release.rehearsal and move_branch(release)
    remove_work(release)
    return {"moved": moved}


def move_branch(release: Release) -> bool:
    """Fast-forward the checked-out branch; False if it is not the time for it."""
    root, plan = release.project.root, release.plan
    try:
        head = os.fsdecode(run_git(root, "symbolic-ref", "--short", "HEAD")).strip()
        clean = not run_git(root, "status", "--porcelain", "--untracked-files=no")
        if head != plan.branch or not clean:
            return False
        run_git(root, "merge", "--quiet", "--ff-only", release.commit)
    except GitError:
        return False
    return True


# %% abort
def abort(release: Release) -> Result:
    """Undo what can be undone. Raises `ReleaseError` (E_IRREVERSIBLE, E_REMOTE)."""
    refs = list_refs(release) if release.commit else {}
    pushed = bool(release.commit) and refs.get("commit") == release.commit
    tried = any(event["event"] == "attempt" for event in release.journal.events)
    public = find_public(release) if pushed or tried else []
    if public and not is_hopeless(release):
        hint = (
            "`litml release` completes it; what nobody should use is yanked on the"
            " index then, and `litml release patch` brings the next"
        )
        raise ReleaseError("E_IRREVERSIBLE", f"{public[0]} is public", hint=hint)
    if not public:
        remove_tag(release, refs["tag"] if pushed else "")
    remove_work(release)
    return {"tag": "kept" if public else "removed" if pushed else "never pushed"}


def find_public(release: Release) -> list[str]:
    """Return the names of our files that an index serves already."""
    found = [list_files(one, release.plan.project) for one in release.plan.indexes]
    ours = release.digests.items()
    return [name for name, one in ours if one in [files.get(name) for files in found]]


HOPELESS = ("E_CONFLICT", "E_REJECTED", "E_ARTIFACT_CHANGED")


def is_hopeless(release: Release) -> bool:
    """Did it stop at something that no other attempt would change?"""
    last = release.journal.events[-1] if release.journal.events else {}
    return last.get("event") == "stop" and last.get("code") in HOPELESS


def remove_tag(release: Release, pushed: str) -> None:
    """Remove the tag here, and at the remote if it is there as the object `pushed`."""
    root, tag = release.project.root, f"refs/tags/{release.plan.tag}"
    if pushed:
        lease = f"--force-with-lease={tag}:{pushed}"
        words = ("push", "--quiet", "--no-verify", lease, release.remote, f":{tag}")
        try:
            run_git(root, *words)
        except GitError as error:
            hint = f"remove {release.plan.tag} there by hand, and `--abort` again"
            message = f"the remote keeps its tag: {error.message}"
            raise ReleaseError("E_PUSH", message, hint=hint) from error
    for id in local_tags(release):
        run_git(root, "update-ref", "-d", tag, id)


def local_tags(release: Release) -> Iterator[str]:
    """Yield the id of the local tag, if there is one and it is of this release."""
    tag = f"refs/tags/{release.plan.tag}"
    told = run_git(
        release.project.root,
        "for-each-ref",
        "--format=%(objectname) %(*objectname)",
        tag,
    )
    for line in os.fsdecode(told).splitlines():
        id, _, commit = line.partition(" ")
        if commit == release.commit:
            yield id
