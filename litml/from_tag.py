# Exported from nbs/18i_from_tag.ipynb. Edit either side, then run `litml sync`.
"""Do the part of a workflow in a release, or finish a release on another machine,
from nothing but its tag.
"""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from litml.build import describe, place
from litml.files import state_dir
from litml.git import GitError, run_git
from litml.journal import Journal, ReleaseError, Releases
from litml.preflight import Look, Plan, choose_indexes, release_folder
from litml.publish import list_refs
from litml.release import Events, holds, in_ci, passing_journal, run_stage
from litml.stages import Release

__all__ = [
    "Promise",
    "FILE",
    "parse_promise",
    "read_promise",
    "open_tag",
    "PRIVATE",
    "choose_stages",
    "check_public",
    "release_tag",
]


# ## What a tag promises
# %% Promise
@dataclass(frozen=True, slots=True)
class Promise:
    """What a tag says of its release; `files` are SHA-256 by name."""

    project: str
    version: str
    notes: str
    files: Mapping[str, str]


FILE = re.compile(r"^([0-9a-f]{64})  ([\w.+!-]+)$", re.M)


def parse_promise(message: str) -> Promise:
    """Return what the message of a tag says. Raises `ReleaseError` (E_TAG)."""
    about, _, listed = message.rpartition("\nSHA-256:\n")
    subject, _, notes = about.partition("\n")
    project, _, version = subject.rpartition(" ")
    files = {name: digest for digest, name in FILE.findall(listed)}
    if not project or not files:
        hint = "only a tag that `litml release` has made says which files belong to it"
        raise ReleaseError("E_TAG", "the tag promises no files", hint=hint)
    return Promise(project, version, notes.strip(), files)


# %% read_promise
def read_promise(root: Path, tag: str, remote: str = "origin") -> Promise:
    """Return what a repository's tag says. Raises `ReleaseError` (E_TAG)."""
    name = f"refs/tags/{tag}"
    try:
        whole = run_git(root, "cat-file", "tag", name)
    except GitError as error:
        hint = f"`git fetch --force {remote} {name}:{name}`"
        message = f"there is no tag `{tag}` with a message here"
        raise ReleaseError("E_TAG", message, hint=hint) from error
    return parse_promise(whole.decode("utf-8", "replace").partition("\n\n")[2])


# ## A release that has come that far
# %% open_tag
def open_tag(look: Look, tag: str, journal: Journal, events: Events) -> Release:
    """Return the release of a tag. Raises `ReleaseError` (E_TAG, E_INDEX)."""
    settings = look.settings
    promise = read_promise(look.root, tag, settings.remote)
    commit = look.git("rev-parse", f"refs/tags/{tag}^{{commit}}")
    parent = look.asks("rev-parse", "--verify", "--quiet", f"{commit}^")
    index, *also = choose_indexes(settings)
    plan = Plan(
        project=promise.project,
        version=promise.version,
        tag=tag,
        base=parent or commit,  # in a shallow clone it has none
        when=int(look.git("show", "-s", "--format=%ct", commit)) - 1,
        branch=settings.branch,
        remote=settings.remote,
        index=index,
        notes=promise.notes,
        changelog=settings.changelog,
        also=tuple(also),
    )
    journal.add("done", stage="prepare", result={"commit": commit})
    journal.add("done", stage="build", result={"files": dict(promise.files)})
    journal.add("done", stage="push", result={"tag": tag})
    return Release(look.project, plan, journal, plan.remote, look.environ, events.say)


# ## Which stages
# %% choose_stages
PRIVATE = ("prepare", "build", "verify", "smoke")


def choose_stages(release: Release, stage: str) -> tuple[str, ...]:
    """Return the stages that are to be done for one of them, or for all if it is ""."""
    if stage == "build":
        return PRIVATE
    if stage == "confirm":
        return ("confirm",)
    if not stage and in_ci(release):
        return ("confirm", "ghrelease")
    check_public(release)
    before = () if take_files(release) else PRIVATE
    return (*before, "upload", *(() if stage else ("confirm", "ghrelease")))


def check_public(release: Release) -> None:
    """Raise `ReleaseError` (E_TAG) unless the remote has the tag, too."""
    tag = release.plan.tag
    if list_refs(release).get("commit") != release.commit:
        message = f"`{release.plan.remote}` has no tag `{tag}` of this commit"
        raise ReleaseError("E_TAG", message, hint=f"compare it with `git show {tag}`")


# %% take_files
def take_files(release: Release) -> bool:
    """Take the files from the project's `dist/`, if all are there as promised."""
    dist, files = release.project.root / "dist", release.digests
    if not all(holds(dist / name, files[name]) for name in files):
        return False
    release.dist.mkdir(parents=True)
    for name in files:
        shutil.copyfile(dist / name, release.dist / name)
    return True


def give_files(release: Release) -> None:
    """Put the files into the project's `dist/`, all or none."""
    root = release.project.root
    built = [describe(release.dist / name) for name in release.digests]
    place(built, root / "dist", state_dir(root))


# ## All of it
# %% release_tag
def release_tag(look: Look, tag: str, stage: str, events: Events) -> Release:
    """Do one stage of the release of a tag, or finish it if that is "".

    Stages are `build`, `upload`, `confirm`; see `choose_stages`. Raises `ReleaseError`.
    """
    releases, root = Releases(release_folder(look.root)), look.root
    with releases.locked(), passing_journal(root, "from-tag") as journal:
        release = open_tag(look, tag, journal, events)
        for name in choose_stages(release, stage):
            run_stage(release, name, events)
        if stage == "build":
            give_files(release)
    return release
