"""The workflows of this repository and of its templates: pinned, small, and real."""

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import ENVIRONMENT

from litml.answers import Answers
from litml.cli import COMMANDS, load_command
from litml.from_tag import read_promise
from litml.new import (
    list_templates,
    new_project,
    read_template,
    render_template,
    write_tree,
)
from litml.publish import make_signed_tag, make_tag

ROOT = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent
ADA = Answers("my-lib", "A small library.", "Ada", "ada@example.org", 1843)
PUBLISHER = "pypa/gh-action-pypi-publish"
BASH = shutil.which("bash")


@pytest.fixture(scope="module", params=["litml", *list_templates()])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with workflows: this repository's files, or a template's."""
    folder = tmp_path_factory.mktemp("place") / request.param
    if request.param != "litml":
        write_tree(folder, render_template(read_template(request.param), ADA))
        return folder
    shutil.copytree(ROOT / ".github", folder / ".github")
    for name in ("action.yml", ".pre-commit-hooks.yaml"):
        shutil.copy(ROOT / name, folder)
    return folder


def workflows(place: Path) -> dict[str, dict[str, Any]]:
    paths = sorted((place / ".github/workflows").glob("*.yml"))
    return {path.name: yaml.safe_load(path.read_text("utf-8")) for path in paths}


def jobs(place: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file, workflow in workflows(place).items():
        for name, job in workflow["jobs"].items():
            yield f"{file}, {name}", job


def steps(place: Path) -> Iterator[dict[str, Any]]:
    for _, job in jobs(place):
        yield from job["steps"]
    if (place / "action.yml").exists():
        yield from yaml.safe_load((place / "action.yml").read_text())["runs"]["steps"]


def find_step(file: str, job: str, name: str | None = None) -> str:
    """Return the script of a step of this repository; by default the only one."""
    found = workflows(ROOT)[file]["jobs"][job]["steps"]
    return str(next(one["run"] for one in found if name in (None, one.get("name"))))


# What others say ---------------------------------------------------------------------


def run_tool(*words: object) -> str:
    """Run a tool of the environment, which must be content."""
    command = [str(TOOLS / str(words[0])), *map(str, words[1:])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_zizmor_finds_nothing(place: Path) -> None:
    said = run_tool("zizmor", "--offline", "--collect=all", "--no-progress", place)
    assert "No findings" in said


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [
        ("github-workflows", ".github/workflows/*.yml"),
        ("github-actions", "action.yml"),
        ("dependabot", ".github/dependabot.yml"),
    ],
)
def test_files_keep_to_their_schema(place: Path, schema: str, pattern: str) -> None:
    files = sorted(place.glob(pattern))
    if files:
        run_tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)
    else:
        assert pattern == "action.yml" and place.name != "litml"


def test_the_file_for_gitlab_keeps_to_its_schema() -> None:
    file = ROOT / "templates/gitlab-ci.yml"
    run_tool("check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", file)


# What we ask of ourselves ------------------------------------------------------------


def test_every_action_is_a_commit(place: Path) -> None:
    """With its version in a comment, which is what dependabot reads and updates."""
    pinned = r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"
    found = 0
    for path in place.rglob("*.yml"):
        for used in re.findall(r"(?m)^\s*(?:- )?uses: (.+)$", path.read_text()):
            found += 1
            assert re.fullmatch(pinned, used) or used.startswith("./ "), used
    assert found > 5


def test_all_places_use_the_same_commits() -> None:
    files = [*ROOT.glob(".github/**/*.yml"), *ROOT.glob("templates/**/*.yml")]
    versions: dict[str, set[str]] = {}
    for path in [*files, ROOT / "action.yml"]:
        for name, commit in re.findall(r"uses: ([\w/-]+)@(\S+)", path.read_text()):
            versions.setdefault(name, set()).add(commit)
    assert {name for name, commits in versions.items() if len(commits) > 1} == set()


def test_nobody_may_do_more_than_needed(place: Path) -> None:
    for workflow in workflows(place).values():
        assert workflow["permissions"] == {}
        assert set(workflow["concurrency"]) == {"group", "cancel-in-progress"}
    for name, job in jobs(place):
        assert "permissions" in job and 0 < job["timeout-minutes"] <= 30, name
    for step in steps(place):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False
        assert "${{" not in step.get("run", ""), "inputs reach a shell through env"


def test_the_job_that_publishes_can_do_nothing_else(place: Path) -> None:
    found = [
        job
        for _, job in jobs(place)
        if any(step.get("uses", "").startswith(PUBLISHER) for step in job["steps"])
    ]
    assert len(found) == 1
    assert found[0]["permissions"] == {"id-token": "write"}
    assert found[0]["environment"] == "pypi"
    assert not any("run" in step for step in found[0]["steps"])
    publisher = found[0]["steps"][-1]
    assert publisher["with"] == {"attestations": True, "skip-existing": True}
    release = (place / ".github/workflows/release.yml").read_text()
    assert "cache" not in release, "a cache could be poisoned"


def test_a_release_has_a_page_only_when_its_files_are_served(place: Path) -> None:
    release = workflows(place)["release.yml"]["jobs"]
    needs = {name: job.get("needs") for name, job in release.items()}
    assert needs == {
        "build": None,
        "publish": "build",
        "confirm": "publish",
        "github": "confirm",
    }


def test_the_last_job_needs_all_others(place: Path) -> None:
    found = dict(workflows(place)["ci.yml"]["jobs"])
    last = found.pop("ci-ok")
    assert set(last["needs"]) == set(found)
    assert last["if"] == "${{ always() }}"


def test_our_release_is_the_one_of_new_projects() -> None:
    answers = Answers("my-litml", "A description.", "Ada", "", 1843)
    made = render_template(read_template("package"), answers)
    for name in ("workflows/release.yml", "dependabot.yml"):
        ours = (ROOT / ".github" / name).read_text()
        assert ours == made[f".github/{name}"].decode().replace("my-litml", "litml")


def test_every_template_is_tried() -> None:
    job = workflows(ROOT)["ci.yml"]["jobs"]["template"]
    assert job["strategy"]["matrix"]["template"] == list_templates()
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    for step in job["steps"]:
        if step.get("uses") == "./":
            assert step["with"].keys() <= action["inputs"].keys()


def test_hooks_of_new_projects_are_those_we_offer(tmp_path: Path) -> None:
    offered = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    files = render_template(read_template("package"), ADA)
    config = yaml.safe_load(files[".pre-commit-config.yaml"])
    hooks = {one["id"]: one for one in config["repos"][0]["hooks"]}
    for hook in offered:
        del hook["description"]
        assert hooks[hook["id"]] == {**hook, "language": "system"}


# Every command exists ----------------------------------------------------------------


@cache
def options(name: str) -> frozenset[str]:
    """Return the options of a command of litml, with pytest's for `litml test`."""
    parser = ArgumentParser()
    load_command(name)[0](parser)
    known = {word for action in parser._actions for word in action.option_strings}
    if name == "test":
        command = [sys.executable, "-m", "pytest", "--help", "-p", "no:cacheprovider"]
        told = subprocess.run(command, capture_output=True, text=True, check=True)
        known |= set(re.findall(r"(?<![\w-])--[a-z][\w-]*", told.stdout))
    return frozenset(known)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words after `litml` in each line of a script."""
    for line in text.splitlines():
        for found in re.findall(r"(?:^|[\s)&|;])litml ([a-z-]+ ?[^;&|#]*)", line):
            yield shlex.split(re.sub(r"\$\{[^}]*\}", "", found))


def unknown(words: list[str]) -> list[str]:
    """Return the words that are no command or no option of litml."""
    if words[0] not in COMMANDS:
        return words[:1]
    given = [word.partition("=")[0] for word in words if word.startswith("-")]
    return [word for word in given if word not in options(words[0])]


def scripts(place: Path) -> Iterator[str]:
    yield from (str(step["run"]) for step in steps(place) if "run" in step)
    for path in place.rglob("*.y*ml"):
        yield from re.findall(r"(?m)^ *entry: (.+)$", path.read_text())
    for path in place.rglob("devcontainer.json"):
        yield yaml.safe_load(path.read_text())["postCreateCommand"]


def test_every_command_that_is_named_exists(place: Path) -> None:
    found = [words for text in scripts(place) for words in commands(text)]
    assert {"export", "clean", "test", "build"} <= {words[0] for words in found}
    assert [words for words in found if unknown(words)] == []


def test_every_command_for_gitlab_exists() -> None:
    tree = yaml.safe_load((ROOT / "templates/gitlab-ci.yml").read_text())
    lines = [
        line
        for job in tree.values()
        if isinstance(job, Mapping)
        for line in job.get("script", [])
    ]
    found = [words for line in lines for words in commands(line)]
    assert {"export", "clean", "test", "build"} <= {words[0] for words in found}
    assert [words for words in found if unknown(words)] == []


def test_a_command_that_does_not_exist_is_found() -> None:
    text = "litml tset --all\nX=1 litml export --chek && litml build --fast\n"
    found = [words for words in commands(text) if unknown(words)]
    assert found == [["tset", "--all"], ["export", "--chek"], ["build", "--fast"]]
    assert unknown(["test", "--junit-xml=a.xml", "--sharp"]) == ["--sharp"]


# The scripts, run --------------------------------------------------------------------


def run_script(text: str, cwd: Path, **more: str) -> int:
    assert BASH
    command = [BASH, "--noprofile", "--norc", "-eo", "pipefail", "-c", text]
    environment = {**ENVIRONMENT, **more}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True)
    return done.returncode


@pytest.mark.skipif(not BASH, reason="the runners have bash, this machine has not")
@pytest.mark.parametrize(
    ("results", "code"),
    [("success success", 0), ("success skipped", 1), ("failure success", 1)],
)
def test_the_last_job_fails_unless_all_succeed(
    tmp_path: Path, results: str, code: int
) -> None:
    script = find_step("ci.yml", "ci-ok")
    assert run_script(script, tmp_path, RESULTS=results) == code


def make_release(folder: Path, notes: str, signed: bool = False) -> dict[str, str]:
    """Make a repository with a tag as `litml release` makes it."""
    folder.mkdir()
    names = ("x-1.0.tar.gz", "x-1.0-py3-none-any.whl")
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}

    def git(*words: str) -> str:
        command = ["git", *words]
        done = subprocess.run(
            command, cwd=folder, env=ENVIRONMENT, capture_output=True, check=True
        )
        return done.stdout.decode().strip()

    git("init", "--quiet")
    git("config", "user.name", "A")
    git("config", "user.email", "a@example.org")
    git("commit", "--quiet", "--allow-empty", "--message", "x")
    plan = SimpleNamespace(
        tag="v1.0", project="x", version="1.0", notes=notes, when=10**9
    )
    release: Any = SimpleNamespace(
        plan=plan,
        project=SimpleNamespace(root=folder),
        commit=git("rev-parse", "HEAD"),
        digests=digests,
    )
    if signed:
        key = folder.with_name("key")
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
        subprocess.run(words, check=True)
        git("config", "gpg.format", "ssh")
        git("config", "user.signingKey", str(key))
    made = make_signed_tag(release) if signed else make_tag(release)
    git("update-ref", "refs/tags/v1.0", made)
    return {"TAG": "v1.0"}


@pytest.mark.skipif(not BASH, reason="the runners have bash, this machine has not")
@pytest.mark.parametrize("signed", [False, True])
def test_the_notes_are_those_of_the_tag(tmp_path: Path, signed: bool) -> None:
    notes = "### Added\n\n- Nets, at last.\n\n- A second line."
    if signed and shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen makes the key")
    environment = make_release(tmp_path / "work", notes, signed)
    script = find_step("release.yml", "build", "The notes, which the tag holds as well")
    assert not run_script(
        script, tmp_path / "work", RUNNER_TEMP=str(tmp_path), **environment
    )
    assert (tmp_path / "notes.md").read_text().strip() == notes


@contextmanager
def empty_index(folder: Path) -> Iterator[str]:
    """Serve a folder with nothing in it; yield its address."""
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.mark.skipif(not BASH, reason="the runners have bash, this machine has not")
def test_the_workflow_builds_what_the_release_has_promised(tmp_path: Path) -> None:
    """A new project, its release up to the tag, and the workflow in another clone."""
    root, clone, remote = (tmp_path / one for one in ("my-lib", "clone", "remote"))
    (tmp_path / "www").mkdir()
    new_project(root, ADA)

    def git(folder: Path, *words: object) -> None:
        command = ["git", *map(str, words)]
        subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True)

    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", remote)
    git(root, "init", "--quiet", "--initial-branch=main")
    git(root, "config", "user.name", "A")
    git(root, "config", "user.email", "a@example.org")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "made")
    git(root, "remote", "add", "origin", remote)
    git(root, "push", "--quiet", "--set-upstream", "origin", "main")
    with empty_index(tmp_path / "www") as index:
        command = [sys.executable, "-P", "-m", "litml", "release", "0.1.0", "--first"]
        with subprocess.Popen(
            [*command, "--no-test", "--index", index],
            cwd=root,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        ) as release:
            assert release.stdout
            said = list(takewhile(lambda line: "upload " not in line, release.stdout))
            release.kill()
    assert said[-1].startswith("push"), said
    git(tmp_path, "clone", "--quiet", "--branch", "v0.1.0", remote, clone)
    build = find_step(
        "release.yml", "build", "Build what the tag promises, and prove it"
    )
    more = {"TAG": "v0.1.0", "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}"}
    assert run_script(build, clone, **more) == 0
    files = {path.name: path.read_bytes() for path in (clone / "dist").iterdir()}
    promise = read_promise(clone, "v0.1.0")
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    assert digests == promise.files
    assert "logistic regression" in promise.notes


FAKE_GH = """#!/bin/sh
echo "$@" >> "$LOG"
case "$1 $2 $*" in
  *--json*) cat "$STATE" ;;
  "release view"*) test -e "$STATE" ;;
  "release create"*) echo true > "$STATE" ;;
  "release edit"*) echo false > "$STATE" ;;
esac
"""


@pytest.mark.skipif(not BASH, reason="the runners have bash, this machine has not")
@pytest.mark.parametrize("state", ["none", "draft", "published"])
def test_files_come_before_the_release_is_published(tmp_path: Path, state: str) -> None:
    """A release may be immutable once it is public."""
    (tmp_path / "gh").write_text(FAKE_GH)
    (tmp_path / "gh").chmod(0o755)
    log, kept = tmp_path / "log", tmp_path / "state"
    if state != "none":
        kept.write_text("true\n" if state == "draft" else "false\n")
    code = run_script(
        find_step("release.yml", "github", "Draft, files, release"),
        tmp_path,
        PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        TAG="v1.0",
        LOG=str(log),
        STATE=str(kept),
    )
    assert code == 0
    done = [line.split()[1] for line in log.read_text().splitlines()]
    acts = [word for word in done if word != "view"]
    expected = {"none": ["create", "upload", "edit"], "draft": ["upload", "edit"]}
    assert acts == expected.get(state, [])
    assert kept.read_text() == "false\n"
