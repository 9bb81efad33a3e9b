"""What a release costs, beside the commands that only build and upload.

    python tests/bench/release/bench_release.py [--hatch PROGRAM] [--rounds N]

Each round makes a project with `litml new`, gives it a remote that is a folder, and
publishes it to an index on this machine: once with `litml release`, once with
`hatch build` and `hatch publish` (`requirements.txt` names its version). What was
published is installed with pip into an empty environment each time. Seconds of the
wall, and of the processor in all child processes.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from litml.loopback import LoopbackIndex

Times = dict[str, list[tuple[float, float]]]
LITML = [sys.executable, "-m", "litml"]
QUIET = {"NO_COLOR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def timed(command: Sequence[str], folder: Path, environ: Mapping[str, str]) -> float:
    """Run a command that has to work, and return the seconds on the wall."""
    begin = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **QUIET, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - begin


def measure(
    times: Times, what: str, command: Sequence[str], folder: Path, **environ: str
) -> None:
    """Run a command and add what it took under a name."""
    before = os.times()
    wall = timed(command, folder, environ)
    after = os.times()
    spent = after.children_user + after.children_system
    spent -= before.children_user + before.children_system
    times[what].append((wall, spent))


def make_project(times: Times, folder: Path, name: str) -> Path:
    """Make a project from the template, and a remote that has its first commit."""
    about = ["--description", "Numbers.", "--author", "A", "--email", "a@example.org"]
    measure(times, "litml new", [*LITML, "new", name, *about, "--yes"], folder)
    root, remote = folder / name, folder / f"{name}.git"
    settings = root / "pyproject.toml"
    text = settings.read_text().replace('publish = "ci"', 'publish = "here"')
    settings.write_text(text)
    changelog = root / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n## Unreleased\n\n- Numbers.\n")
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@example.org"]
    for words in (
        [*git, "init", "--quiet", "--bare", "--initial-branch=main", str(remote)],
        [*git, "init", "--quiet", "--initial-branch=main"],
        [*git, "config", "user.name", "A"],
        [*git, "config", "user.email", "a@example.org"],
        [*git, "remote", "add", "origin", str(remote)],
        [*LITML, "clean"],
        [*LITML, "export"],
        [*git, "add", "--all"],
        [*git, "commit", "--quiet", "--message", "begin"],
        [*git, "push", "--quiet", "origin", "main"],
    ):
        timed(words, root, {})
    return root


def install(times: Times, what: str, name: str, folder: Path, simple: str) -> None:
    """Install a project from the index into an empty environment."""
    place = folder / f"{name}-environment"
    venv.create(place, symlinks=os.name != "nt")
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    source = ["--no-cache-dir", "--index-url", simple, name]
    apart = {"PIP_CONFIG_FILE": os.devnull, "PIP_EXTRA_INDEX_URL": ""}
    measure(times, what, [*pip, *source], folder, **apart)
    module = name.replace("-", "_")
    timed([str(python), "-I", "-c", f"import {module}"], folder, {})


def release(times: Times, folder: Path, number: int, tested: bool) -> None:
    """Publish a new project with litml."""
    kind = "tested" if tested else "plain"
    name = f"{kind}-numbers-{number}"
    root = make_project(times, folder, name)
    with LoopbackIndex() as shelf:
        words = ["release", "minor", "--first", "--index", shelf.index.upload]
        words += [] if tested else ["--no-test"]
        token = {"TWINE_USERNAME": "a", "TWINE_PASSWORD": "bench-only"}
        what = f"litml release{'' if tested else ' --no-test'}"
        measure(times, what, [*LITML, *words], root, **token)
        install(times, "pip install", name, folder, shelf.index.simple)


def publish(times: Times, folder: Path, number: int, hatch: str) -> None:
    """Publish a new project with hatch."""
    name = f"hatched-numbers-{number}"
    root = make_project(times, folder, name)
    with LoopbackIndex() as shelf:
        measure(times, "hatch build", [hatch, "build"], root)
        words = ["publish", "--no-prompt", "--repo", shelf.index.upload]
        token = {"HATCH_INDEX_USER": "a", "HATCH_INDEX_AUTH": "bench-only"}
        measure(times, "hatch publish", [hatch, *words], root, **token)
        install(times, "pip install", name, folder, shelf.index.simple)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hatch", default="", help="the program to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    times: Times = defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        for number in range(arguments.rounds):
            release(times, Path(temporary), number, tested=True)
            release(times, Path(temporary), number, tested=False)
            if arguments.hatch:
                publish(times, Path(temporary), number, arguments.hatch)
    print("| step | wall s | CPU s |\n|---|---|---|")
    for what, seconds in times.items():
        wall, spent = (statistics.median(one) for one in zip(*seconds, strict=True))
        print(f"| `{what}` | {wall:.1f} | {spent:.1f} |")


if __name__ == "__main__":
    main()
