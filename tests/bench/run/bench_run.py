"""What it costs to run notebooks as tests, side by side with nbmake and nbdev-test.

    python tests/bench/run/bench_run.py [--rounds N] [--torch | --unchanged] [--count N]

Runs the same small notebooks, two at a time, with each tool in an environment of its
own, which the first run makes in the cache folder; commands take turns, and the median
of the rounds counts. CPU is user + system of every process that came of a command, also
of those that outlive it; wall time ends with the command itself. `--torch` measures
notebooks that import torch instead, and needs torch in all environments. `--unchanged`
measures `litml test` where all notebooks have passed before.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "litml-bench"
KERNEL = ("ipykernel==7.4.0", "jupyter_client==8.10.0", "pytest-xdist==3.8.0")
PEERS = {
    "nbmake": ("nbmake==1.5.5", *KERNEL),
    "nbdev": ("nbdev==3.3.26", "fastcore==2.2.39", "execnb==0.3.4"),
    "litml": (f"-e{ROOT}", *KERNEL),
    "both": ("nbmake==1.5.5", f"-e{ROOT}", *KERNEL),
}
TRIVIAL = ("x = {number}\nx", "print('cell', x)", "assert x + 1 == {number} + 1")
TORCH = (
    "import torch\nx = torch.ones({number} + 1, 3)",
    "(x @ x.T).shape",
    "assert x.sum() == 3 * ({number} + 1)",
)


# Measuring ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds: those that passed, and those of processors; and did all go well?"""

    wall: float
    cpu: float
    fine: bool = True


# It adopts whatever the command leaves running, and waits for it to count its time.
STARTER = """
import ctypes, os, resource, sys, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
begun = time.monotonic()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status = os.waitpid(child, 0)
wall = time.monotonic() - begun
try:
    while True:
        os.wait()
except ChildProcessError:
    pass
used = resource.getrusage(resource.RUSAGE_CHILDREN)
code = os.waitstatus_to_exitcode(status)
print(f"\\n{code} {wall} {used.ru_utime + used.ru_stime}")
"""


@dataclass(frozen=True, slots=True)
class Trial:
    """A command in a folder."""

    name: str
    command: Sequence[str | Path]
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def measure(self) -> Cost:
        """Run it once and return what it cost."""
        words = [sys.executable, "-S", "-c", STARTER, *map(str, self.command)]
        # Compiled modules are kept, as they are where nobody forbids it.
        odd = ("PYTEST", "PYTHONDONTWRITEBYTECODE")
        env = {k: v for k, v in os.environ.items() if not k.startswith(odd)}
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=env | dict(self.env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output, _, numbers = done.stdout.rstrip().rpartition("\n")
        code, wall, cpu = numbers.split()
        if code != "0":
            print(f"{self.name} failed: {output[-200:]}", file=sys.stderr)
        return Cost(float(wall), float(cpu), code == "0")


def take_turns(trials: Sequence[Trial], rounds: int) -> dict[str, list[Cost]]:
    """Measure every trial `rounds` times, in turns, after one round to warm up."""
    costs: dict[str, list[Cost]] = {trial.name: [] for trial in trials}
    for turn in range(rounds + 1):
        for trial in trials:
            cost = trial.measure()
            if turn or not rounds:
                costs[trial.name].append(cost)
    return costs


# The notebooks -----------------------------------------------------------------------


def write_notebook(path: Path, sources: Sequence[str], number: int) -> None:
    """Write a notebook of code cells."""
    cells = [
        {"cell_type": "code", "id": f"cell-{place}", "metadata": {}, "outputs": []}
        | {"execution_count": None, "source": source.format(number=number)}
        for place, source in enumerate(sources)
    ]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": spec}
    tree = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(tree, indent=1))


def make_project(folder: Path, count: int, torch: bool) -> Path:
    """Make a project that litml and nbdev understand, of `count` notebooks."""
    (folder / "nbs").mkdir(parents=True)
    (folder / "lib").mkdir()
    (folder / "lib" / "__init__.py").write_text('__version__ = "1"\n')
    preload = '\n[tool.litml.kernel]\npreload = ["torch"]\n' if torch else ""
    text = '[project]\nname = "lib"\nversion = "1"\n\n[tool.nbdev]\n\n[tool.litml]\n'
    (folder / "pyproject.toml").write_text(text + preload)
    for number in range(count):
        path = folder / "nbs" / f"{number:02}_example.ipynb"
        write_notebook(path, TORCH if torch else TRIVIAL, number)
    return folder


def environment(name: str, torch: bool) -> Path:
    """Return the folder of commands of a tool's environment, made if it is missing."""
    folder = CACHE / f"run-{name}"
    packages = [*PEERS[name], *(["torch==2.13.0", "numpy"] if torch else [])]
    mark = folder / ("with-torch" if torch else "ready")
    if not mark.exists() and not (folder / "with-torch").exists():
        print(f"making {folder} with {', '.join(packages)}", flush=True)
        if not (folder / "bin").exists():
            venv.create(folder, with_pip=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", *packages]
        subprocess.run(pip, check=True)
        mark.touch()
    return folder / "bin"


# The table ---------------------------------------------------------------------------


def plan_trials(project: Path, torch: bool) -> list[Trial]:
    """Return what is compared."""
    litml, nbmake, nbdev, both = (
        environment(name, torch) for name in ("litml", "nbmake", "nbdev", "both")
    )
    quiet = ("-q", "-p", "no:cacheprovider")
    make = (nbmake / "pytest", *quiet, "--nbmake", "-n2", "nbs")
    warm = {"JUPYTER_DEFAULT_PROVISIONER_NAME": "litml"}
    plain = Path(project.parent, "plain")
    return [
        Trial("nbmake -n2", make, plain),
        Trial("nbmake -n2, our provisioner", (both / "pytest", *make[1:]), plain, warm),
        Trial(
            "nbdev-test, 2 workers", (nbdev / "nbdev-test", "--n-workers", "2"), project
        ),
        Trial(
            "litml test, jobs 2",
            (litml / "litml", "test", "--jobs=2", "--all"),
            project,
        ),
        Trial("pytest -n 2", (litml / "pytest", *quiet, "-n2"), project),
        Trial("pytest", (litml / "pytest", *quiet), project),
    ]


def plan_unchanged(project: Path) -> list[Trial]:
    """Return the trial of a project whose notebooks have all passed before."""
    command = (environment("litml", torch=False) / "litml", "test", "-q", "--jobs=2")
    name = "litml test, nothing changed"
    return [Trial(name, command, project)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int)
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--unchanged", action="store_true")
    parser.add_argument("--only", default="", metavar="WORDS")
    asked = parser.parse_args()
    usual = 10 if asked.torch else 200 if asked.unchanged else 40
    count = asked.count or usual
    with tempfile.TemporaryDirectory(prefix="litml-bench-") as scratch:
        project = make_project(Path(scratch, "project"), count, asked.torch)
        plain = make_project(Path(scratch, "plain"), count, asked.torch)
        (plain / "pyproject.toml").unlink()  # nobody but nbmake shall collect them
        if asked.torch:
            (plain / "pyproject.toml").write_text(
                (project / "pyproject.toml").read_text()
            )
        trials = (
            plan_unchanged(project)
            if asked.unchanged
            else plan_trials(project, asked.torch)
        )
        trials = [trial for trial in trials if re.search(asked.only, trial.name)]
        costs = take_turns(trials, asked.rounds)
    print(f"\n{count} {'torch' if asked.torch else 'trivial'} notebooks")
    print(f"  {'':<30}{'wall s':>8}{'CPU s':>8}{'nbmake / it: wall, CPU':>26}")
    peer = middle(costs.get("nbmake -n2", [Cost(0, 0)]))
    for name, found in costs.items():
        cost = middle(found)
        ratio = f"{peer.wall / cost.wall:.1f}x {peer.cpu / cost.cpu:.1f}x"
        failed = sum(not cost.fine for cost in found)
        note = f"   {failed} of {len(found)} runs failed" if failed else ""
        print(f"  {name:<30}{cost.wall:>8.2f}{cost.cpu:>8.2f}{ratio:>26}{note}")


def middle(costs: Sequence[Cost]) -> Cost:
    """Return the medians."""
    cpu = statistics.median(cost.cpu for cost in costs)
    return Cost(statistics.median(cost.wall for cost in costs), cpu)


if __name__ == "__main__":
    main()
