# Exported from nbs/18h_release.ipynb. Edit either side, then run `litml sync`.
"""Take a project from a commit to an index, with one command that is also the one to
run after every interruption.
"""

import errno
import hashlib
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from litml import github, publish, stages
from litml.git import GitError, run_git
from litml.indexes import Index
from litml.journal import Journal, ReleaseError, Releases, redact, remove_folder
from litml.loopback import LoopbackIndex
from litml.notebook import LitmlError
from litml.preflight import Look, Plan, preflight, read_settings, release_folder
from litml.project import Project
from litml.stages import Release, Result

__all__ = [
    "Stage",
    "STAGES",
    "Events",
    "run_stages",
    "run_stage",
    "FULL",
    "as_stop",
    "in_ci",
    "REHEARSED",
    "describe",
    "release_project",
    "check_same",
    "abort_project",
    "State",
    "find_status",
    "stand_ins",
    "rehearse",
    "passing_journal",
]


# ## The stages
# %% STAGES
Stage = Callable[[Release], Result]
STAGES: dict[str, Stage] = {
    "prepare": stages.prepare,
    "build": stages.build,
    "verify": stages.verify,
    "smoke": stages.smoke,
    "push": publish.push,
    "upload": publish.upload,
    "confirm": publish.confirm,
    "ghrelease": github.ghrelease,
    "finish": publish.finish,
}


# %% stands
def stands(release: Release, stage: str) -> bool:
    """Is a stage done, and what it left still there?"""
    done = release.journal.done
    if stage not in done:
        return False
    if "finish" in done:  # which removes what the others have left
        return True
    if stage == "prepare":
        return (release.tree / ".git").exists()
    if stage == "build":
        return all(
            holds(release.dist / name, one) for name, one in release.digests.items()
        )
    if stage in ("verify", "smoke"):
        return last(done, stage) > last(done, "build")
    return True


def holds(path: Path, digest: str) -> bool:
    """Is there a file with this SHA-256?"""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest


def last(names: list[str], name: str) -> int:
    """Return where a name stands for the last time, -1 if it does not."""
    return max((i for i, one in enumerate(names) if one == name), default=-1)


# %% Events
@dataclass(frozen=True, slots=True)
class Events:
    """Who is told what: `stage` when one begins, ends or stops, `say` in between."""

    stage: Callable[[str, str, str], None] = lambda name, state, text: None
    say: Callable[[str], None] = lambda line: None


# %% run_stages
def run_stages(release: Release, events: Events) -> None:
    """Do what is not done yet, in order. Raises `ReleaseError` where it stops."""
    for name in STAGES:
        if stands(release, name):
            continue
        if name == "upload" and in_ci(release):
            events.stage(name, "left", "to the workflow that the tag has started")
        else:
            run_stage(release, name, events)


def run_stage(release: Release, name: str, events: Events) -> None:
    """Do one stage, and write down when it begins and what it has come to.

    Raises `ReleaseError` if it stops.
    """
    try:
        release.journal.add("start", stage=name)
        events.stage(name, "start", "")
        result = STAGES[name](release)
        release.journal.add("done", stage=name, result=result)
    except (LitmlError, OSError, subprocess.SubprocessError) as caught:
        error = as_stop(caught)
        with suppress(OSError):  # the disk may be full
            told = {"code": error.code, "reason": error.message}
            release.journal.add("stop", stage=name, **told)
        events.stage(name, "stop", error.message)
        raise error from caught.__cause__
    events.stage(name, "done", redact(describe(name, result, release)))


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def as_stop(error: Exception) -> ReleaseError:
    """Return the error of a release that an error of any kind stands for."""
    if isinstance(error, ReleaseError):
        return error
    if isinstance(error, LitmlError):
        code = "E_GIT" if isinstance(error, GitError) else "E_PROJECT"
        return ReleaseError(code, error.message, hint=error.hint)
    if isinstance(error, OSError) and error.errno in FULL:
        return ReleaseError(
            "E_DISK", str(error), hint="make room; then the same command"
        )
    hint = "the same command tries it again"
    return ReleaseError("E_SYSTEM", f"{type(error).__name__}: {error}", hint=hint)


def in_ci(release: Release) -> bool:
    """Does a workflow publish, and not this command? A rehearsal does it itself."""
    return not release.rehearsal and read_settings(release.project).publish == "ci"


REHEARSED = {
    "ghrelease": "only for the real remote",
    "finish": "nothing of this is left",
}


def describe(stage: str, result: Result, release: Release) -> str:
    """Return what a stage has come to, in one line."""
    if release.rehearsal and stage in REHEARSED:
        return REHEARSED[stage]
    plan = release.plan
    lines = {
        "prepare": f"commit {release.commit[:10]}, from {plan.base[:10]}",
        "build": ", ".join(release.digests),
        "verify": f"{result.get('files')} files in the wheel, all from the commit",
        "smoke": f"installed, {result.get('modules')} modules import",
        "push": f"{plan.branch} and {plan.tag} at {release.remote}",
        "upload": f"{len(release.digests)} files",
        "confirm": " and ".join(one.page(plan.project) for one in plan.indexes)
        + f" serve{'' if plan.also else 's'} our files",
        "ghrelease": str(result.get("page") or result.get("note")),
        "finish": "your branch is at the release"
        if result.get("moved")
        else "run `git pull` when you like",
    }
    return lines[stage]


# ## Beginning, and going on
# %% open_release
def read_plan(journal: Journal) -> Plan | None:
    """Return the plan that a release was begun with."""
    known = journal.result("plan")
    if not known:
        return None
    also = tuple(Index(**one) for one in known.get("also", ()))
    return Plan(**{**known, "index": Index(**known["index"]), "also": also})


def open_release(
    project: Project, environ: Mapping[str, str], say: Callable[[str], None]
) -> Release | None:
    """Return the release that is under way, or None."""
    journal = Releases(release_folder(project.root)).current()
    plan = read_plan(journal) if journal else None
    if journal is None or plan is None:
        return None
    return Release(project, plan, journal, plan.remote, environ, say)


def begin_release(look: Look, events: Events) -> Release:
    """Return a new release; raises an `ExceptionGroup` of what speaks against it."""
    plan = make_sure(look, events)
    journal = Releases(release_folder(look.root)).begin(plan.version)
    journal.add("done", stage="plan", result=asdict(plan))
    return Release(look.project, plan, journal, plan.remote, look.environ, events.say)


def make_sure(look: Look, events: Events) -> Plan:
    """Return the plan of the preflight, and tell of it."""
    events.stage("preflight", "start", "")
    plan = preflight(look, events.say)
    what = f"{plan.project} {plan.version}, from {plan.base[:10]}"
    events.stage("preflight", "done", what)
    return plan


# %% release_project
def release_project(look: Look, events: Events = Events()) -> Release:
    """Release a project, or go on with the release that is under way.

    Returns when the index serves exactly our files. Raises `ReleaseError` where it
    stops, or an `ExceptionGroup` of them if it cannot begin.
    """
    releases = Releases(release_folder(look.root))
    with releases.locked():
        release = open_release(look.project, look.environ, events.say)
        if release:
            check_same(release, look)
            events.stage("resume", "done", f"{release.plan.version}, begun before")
        else:
            release = begin_release(look, events)
        run_stages(release, events)
        releases.end()
    return release


def check_same(release: Release, look: Look) -> None:
    """Raise `ReleaseError` if another release is asked for than is under way."""
    version, index = release.plan.version, release.plan.index
    other = look.wanted[:1].isdigit() and look.wanted != version
    if other or look.index_wanted not in ("", index.name, index.upload):
        hint = f"complete {version} with `litml release`, or give it up with `--abort`"
        raise ReleaseError(
            "E_LOCKED",
            f"the release of {version} to {index.upload} is under way",
            hint=hint,
        )


# ## Giving up, and asking
# %% abort_project
def abort_project(project: Project, environ: Mapping[str, str] = os.environ) -> str:
    """Give up the release that is under way; return what became of it.

    Raises `ReleaseError` if there is none, or if a file is public already.
    """
    releases = Releases(release_folder(project.root))
    with releases.locked():
        release = open_release(project, environ, lambda line: None)
        if release is None:
            raise ReleaseError("E_NONE", "there is no release under way")
        result = publish.abort(release)
        release.journal.add("aborted", **result)
        releases.end()
    plan = release.plan
    told = f"{plan.version} is given up; its tag was {result['tag']}"
    if result["tag"] != "removed":
        return told
    return (
        f"{told}, its commit stays on `{plan.branch}`: after `git pull`,"
        f" `git revert {release.commit[:10]}` makes the version free again"
    )


# %% describe_status
@dataclass(frozen=True, slots=True)
class State:
    """Where a release stands: what it is, what is done, what is to be seen outside."""

    version: str
    done: list[str] = field(default_factory=list)
    stopped: str = ""
    tag: str = ""
    public: list[str] = field(default_factory=list)


def find_status(project: Project) -> State | None:
    """Return the state of the release under way as it is now, or None."""
    release = open_release(project, os.environ, lambda line: None)
    if release is None:
        return None
    plan, journal = release.plan, release.journal
    refs = publish.list_refs(release)
    public = publish.find_public(release) if release.digests else []
    done = [name for name in journal.done if name != "plan"]
    return State(plan.version, done, journal.stopped, refs.get("tag", ""), public)


# ## Rehearsal
# %% rehearse
@contextmanager
def stand_ins(look: Look, plan: Plan) -> Iterator[tuple[str, Plan]]:
    """Yield the address of a copy of the remote, and the plan with another index."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        remote = str(Path(temporary) / "remote.git")
        run_git(
            look.root, "clone", "--quiet", "--bare", "--no-tags", str(look.root), remote
        )
        run_git(Path(remote), "update-ref", f"refs/heads/{plan.branch}", plan.base)
        with LoopbackIndex() as shelf:
            yield remote, replace(plan, index=shelf.index, also=())


def rehearse(look: Look, events: Events = Events()) -> Release:
    """Do everything that a release does, with stand-ins for remote and index.

    Raises what `release_project` raises.
    """
    anybody = {"TWINE_USERNAME": "rehearsal", "TWINE_PASSWORD": "rehearsal"}
    environ = {**look.environ, **anybody}
    with Releases(release_folder(look.root)).locked():
        plan = make_sure(look, events)
        with (
            stand_ins(look, plan) as (remote, changed),
            passing_journal(look.root, "rehearsal") as journal,
        ):
            release = Release(
                look.project, changed, journal, remote, environ, events.say
            )
            run_stages(release, events)
    return release


@contextmanager
def passing_journal(root: Path, kind: str) -> Iterator[Journal]:
    """Yield a journal, and remove it with all that the release has made in private."""
    folder = release_folder(root)
    for left in folder.glob(f"{kind}-*"):  # by one that was killed
        remove_folder(left)
    journal = Journal(folder / f"{kind}-{time.time_ns()}")
    try:
        yield journal
    finally:
        remove_folder(journal.folder)
        run_git(root, "worktree", "prune")
