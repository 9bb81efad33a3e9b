"""What an export costs, side by side with nbdev's: CPU seconds and peak memory.

    python tests/bench/export/bench_export.py [--rounds N] [PROJECT ...]

PROJECT is a clone of a project that is configured for nbdev. Without one the notebooks
of litml itself are measured, made into an nbdev project. Costs are those of the whole
process and its children (user + system); commands take turns, and the median of the
rounds counts. The first run makes a virtual environment for nbdev in the cache folder.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

OWN_NOTEBOOKS = Path(__file__).parents[3] / "nbs"
LITML = Path(sys.executable).with_name("litml")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "litml-bench"
NBDEV = ("nbdev==3.3.26", "fastcore==2.2.39", "execnb==0.3.4")
NBDEV_2 = (
    *("nbdev==2.4.14", "fastcore<1.13", "execnb<0.2", "ghapi<2", "setuptools<81"),
    "black>=24,<27",  # for projects that ask for it
)

Command = Sequence[str | Path]
Prepare = Callable[[], None]


# Measuring ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds (user + system, children too) and peak resident memory in MB."""

    cpu: float
    memory: float


# A process begins with the peak of the one that starts it, so a small one starts it.
STARTER = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
cpu = usage.ru_utime + usage.ru_stime
print(f"\\n{os.waitstatus_to_exitcode(status)} {cpu} {usage.ru_maxrss}")
"""


def measure(command: Command, folder: Path) -> Cost:
    """Run a command, which must succeed, and return what it cost."""
    words = [str(word) for word in command]
    starter = [sys.executable, "-S", "-c", STARTER, *words]
    done = subprocess.run(
        starter, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    output, _, numbers = done.stdout.rstrip().rpartition("\n")
    code, cpu, peak = numbers.split()
    if code != "0":
        sys.exit(f"{' '.join(words)}\n{output}")
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes or kilobytes
    return Cost(float(cpu), int(peak) * unit / 1e6)


@dataclass(frozen=True, slots=True)
class Trial:
    """One thing to measure: `prepare` is run before it, and is not measured."""

    name: str
    command: Command
    folder: Path
    prepare: Prepare = lambda: None


def take_turns(trials: Sequence[Trial], rounds: int) -> dict[str, Cost]:
    """Measure every trial `rounds` times, in turns, after one round to warm up."""
    costs: dict[str, list[Cost]] = {trial.name: [] for trial in trials}
    for turn in range(rounds + 1):
        for trial in trials:
            trial.prepare()
            cost = measure(trial.command, trial.folder)
            if turn:
                costs[trial.name].append(cost)
    return {name: middle(found) for name, found in costs.items()}


def middle(costs: Sequence[Cost]) -> Cost:
    """Return the median CPU time and the median memory."""
    cpu = statistics.median(cost.cpu for cost in costs)
    return Cost(cpu, statistics.median(cost.memory for cost in costs))


def row(name: str, cost: Cost, note: str = "") -> None:
    """Print one line of the table."""
    print(f"  {name:<34}{cost.cpu:>8.3f} s{cost.memory:>8.1f} MB   {note}", flush=True)


# Projects and the peer ---------------------------------------------------------------


def install(packages: Sequence[str], command: str) -> Path:
    """Return a command of a pinned environment, which is made when it is missing."""
    folder = CACHE / re.sub(r"\W+", "-", packages[0])
    if not (folder / "bin" / command).exists():
        print(f"making {folder} with {', '.join(packages)}", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", *packages]
        subprocess.run(pip, check=True)
    return folder / "bin" / command


def nbdev_for(project: Path) -> Path:
    """Return the export command of the nbdev that understands `project`."""
    if (project / "settings.ini").exists():
        return install(NBDEV_2, "nbdev_export")
    return install(NBDEV, "nbdev-export")


def read_exporting(folder: Path) -> Iterator[tuple[str, dict]]:
    """Yield name and JSON of every notebook in `folder` that exports something."""
    for path in sorted(folder.rglob("*.ipynb")):
        if not path.name.startswith(("_", ".")):
            data = json.loads(path.read_text(encoding="utf-8"))
            sources = ["".join(cell["source"]) for cell in data.get("cells", [])]
            if any(re.match(r"#\s*\|\s*export", source) for source in sources):
                yield path.stem, data


def retarget(data: dict, module: str) -> dict:
    """Return a notebook whose every exported cell goes to `module`."""
    target = re.compile(r"^(#\s*\|\s*(?:export[is]?|default_exp))\b.*", re.MULTILINE)
    first = {
        "cell_type": "code",
        "execution_count": None,
        "id": "target",
        "metadata": {},
        "outputs": [],
        "source": f"#| default_exp {module}",
    }
    cells = [first]
    for cell in data["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and "default_exp" not in source:
            source = target.sub(r"\1", source)
        if "default_exp" not in source:
            cells.append(cell | {"source": source.splitlines(True)})
    return data | {"cells": cells}


def make_project(folder: Path, notebooks: Path, count: int = 0) -> Path:
    """Make an nbdev project of `count` notebooks out of real ones, repeated."""
    (folder / "nbs").mkdir(parents=True)
    config = '[project]\nname = "many"\nversion = "1"\n\n[tool.nbdev]\n'
    (folder / "pyproject.toml").write_text(config)
    found = read_exporting(notebooks)
    if count:
        found = islice(cycle(list(found)), count)
    for number, (stem, data) in enumerate(found):
        module = f"part{number // 100}.m{number:04}"
        path = folder / "nbs" / f"{number:04}_{stem}.ipynb"
        text = json.dumps(retarget(data, module), indent=1, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")
    return folder


def add_picture(notebook: Path, megabytes: int) -> None:
    """Make a notebook large, as an embedded picture would."""
    data = json.loads(notebook.read_text(encoding="utf-8"))
    picture = {"image/png": "iVBORw0KGgo" + "A" * megabytes * 1_000_000}
    output = {"output_type": "display_data", "metadata": {}, "data": picture}
    data["cells"][-1] = data["cells"][0] | {"id": "picture", "outputs": [output]}
    notebook.write_text(json.dumps(data, indent=1), encoding="utf-8")


# The tables --------------------------------------------------------------------------


def compare(title: str, project: Path, scratch: Path, rounds: int) -> None:
    """Print what nbdev and litml pay for the same project: cold, then unchanged."""
    theirs, out = scratch / "theirs", scratch / "out"
    nbdev = nbdev_for(project)

    def fresh_clone() -> None:
        shutil.rmtree(theirs, ignore_errors=True)
        shutil.copytree(project, theirs, symlinks=True)

    def no_output() -> None:
        shutil.rmtree(out, ignore_errors=True)

    export = [LITML, "export", "--out", out]
    trials = [
        Trial("nbdev, cold", [nbdev], theirs, fresh_clone),
        Trial("litml, cold", export, project, no_output),
        Trial("nbdev, nothing changed", [nbdev], theirs),
        Trial("litml, nothing changed", export, project),
    ]
    print(f"\n{title}: {len(list(project.rglob('*.ipynb')))} notebooks")
    costs = take_turns(trials, rounds)
    for name, cost in costs.items():
        peer = costs[name.replace("litml", "nbdev")].cpu
        row(name, cost, f"{peer / cost.cpu:.1f}x less" if "litml" in name else "")


def show_growth(notebooks: Path, scratch: Path, rounds: int) -> None:
    """Print how litml's costs grow with the number of notebooks."""
    print("\nlitml, many notebooks")
    for count in (100, 250, 500, 1000):
        project = make_project(scratch / str(count), notebooks, count)
        out = project / "out"
        export = [LITML, "export", "--out", out]
        cold = Trial("cold", export, project, lambda o=out: shutil.rmtree(o, True))
        costs = take_turns([cold, Trial("unchanged", export, project)], rounds)
        for name, cost in costs.items():
            each = f"{cost.cpu / count * 1e3:.2f} ms a notebook"
            row(f"{count} notebooks, {name}", cost, each)
    edited = next((scratch / "1000" / "nbs").iterdir())
    text = edited.read_text(encoding="utf-8").replace("default_exp", "default_exp ", 1)
    edited.write_text(text, encoding="utf-8")
    last = scratch / "1000"
    row("1000 notebooks, one changed", measure([LITML, "export", "--out", "out"], last))


def show_huge(notebooks: Path, scratch: Path) -> None:
    """Print what the size of the largest notebook does to memory."""
    print("\nlitml, one notebook of 50 MB")
    project = make_project(scratch / "huge", notebooks, 1)
    add_picture(next((project / "nbs").iterdir()), 50)
    export = [LITML, "export", "--out", "out"]
    row("cold", measure(export, project))
    row("unchanged", measure(export, project))


def show_start(scratch: Path, rounds: int) -> None:
    """Print what it costs to start, beside an empty Python."""
    print("\nstarting")
    nothing = Trial("python -c pass", [sys.executable, "-c", "pass"], scratch)
    version = Trial("litml --version", [LITML, "--version"], scratch)
    costs = take_turns([nothing, version], rounds * 5)
    for name, cost in costs.items():
        row(name, cost, f"{cost.cpu / costs[nothing.name].cpu:.2f}x")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("projects", nargs="*", type=Path, metavar="PROJECT")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="litml-bench-") as name:
        scratch = Path(name)
        for number, project in enumerate(arguments.projects):
            copy = scratch / f"project{number}" / project.resolve().name
            ignore = shutil.ignore_patterns(".git")
            shutil.copytree(project, copy, symlinks=True, ignore=ignore)
            compare(copy.name, copy, scratch / f"work{number}", arguments.rounds)
        own = make_project(scratch / "own", OWN_NOTEBOOKS)
        if not arguments.projects:
            compare("litml's own", own, scratch / "work", arguments.rounds)
        source = arguments.projects[0] if arguments.projects else OWN_NOTEBOOKS
        show_growth(source, scratch / "many", max(1, arguments.rounds // 2))
        show_huge(source, scratch / "many")
        show_start(scratch, arguments.rounds)


if __name__ == "__main__":
    main()
