"""What bringing an edit home costs, side by side with nbdev: CPU seconds and memory.

    python tests/bench/sync/bench_sync.py [--rounds N] [--modules N] [PROJECT]

The same notebooks, litml's own or those of PROJECT, repeated, are exported by nbdev and
by litml. Before a run one module is edited: a line in a function is changed, or a
function is added at its end. Afterwards the notebook has to have the edit. Commands
take turns; the median of the rounds counts. Costs are those of the whole process and
its children (user + system).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))
from bench_export import (
    LITML,
    NBDEV,
    OWN_NOTEBOOKS,
    Trial,
    install,
    make_project,
    measure,
    row,
    take_turns,
)

NUMBERS = count(1)


def editor(project: Path) -> Callable[[], None]:
    """Return a function that edits a line of a module, and proves the last edit."""
    module = sorted((project / "many").rglob("m*.py"))[50]
    body = re.search(r"(?m)^def .*:\n(?: {4}.*\n)*?(    return .*)", module.read_text())
    assert body, f"{module.name} has no function that returns"
    line = body[1]
    mark = "  # edit {}"

    def edit() -> None:
        number = next(NUMBERS)
        text = re.sub(r"(?m)  # edit \d+$", "", module.read_text("utf-8"))
        assert line in text
        module.write_text(text.replace(line, line + mark.format(number), 1), "utf-8")

    return edit


def adder(project: Path) -> Callable[[], None]:
    """Return a function that adds a function to a module."""
    module = sorted((project / "many").rglob("m*.py"))[60]

    def add() -> None:
        text = module.read_text("utf-8").rstrip("\n")
        name = f"added_{next(NUMBERS)}"
        module.write_text(f"{text}\n\n\ndef {name}():\n    return 1\n", "utf-8")

    return add


def prove(project: Path, rounds: int) -> None:
    """Stop if an edit is not in a notebook: the last line, and all that was added."""
    notebooks = (path.read_text("utf-8") for path in (project / "nbs").glob("*.ipynb"))
    text = "\n".join(notebooks)
    lines, added = re.findall(r"  # edit \d+", text), re.findall(r"def added_\d+", text)
    if len(lines) != 1 or len(added) != rounds:
        sys.exit(f"{project}: an edit did not arrive: {lines} {added}")


def leave_out(notebooks: Path, copy: Path) -> Path:
    """Return a copy of a folder without the notebooks that litml refuses."""
    shutil.copytree(notebooks, copy, ignore=shutil.ignore_patterns(".git"))
    trial = copy.with_name("trial")
    for path in list(copy.rglob("*.ipynb")):
        shutil.rmtree(trial, ignore_errors=True)
        (alone := trial / "alone").mkdir(parents=True)
        shutil.copy(path, alone)
        config = make_project(trial / "project", alone) / "pyproject.toml"
        config.write_text(config.read_text().replace("tool.nbdev", "tool.litml"))
        done = subprocess.run([LITML, "export"], cwd=config.parent, capture_output=True)
        if done.returncode:
            path.unlink()
    return copy


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("project", nargs="?", type=Path, default=OWN_NOTEBOOKS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modules", type=int, default=100)
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # installed programs have theirs
    update = install(NBDEV, "nbdev-update")
    with tempfile.TemporaryDirectory(prefix="litml-bench-") as name:
        source = leave_out(arguments.project, Path(name) / "source")
        theirs = make_project(Path(name) / "theirs", source, arguments.modules)
        ours = Path(name) / "ours"
        shutil.copytree(theirs, ours)
        config = (ours / "pyproject.toml").read_text()
        (ours / "pyproject.toml").write_text(config.replace("tool.nbdev", "tool.litml"))
        measure([update.with_name("nbdev-export")], theirs)
        measure([LITML, "export"], ours)
        trials = [
            Trial("nbdev-update, a line changed", [update], theirs, editor(theirs)),
            Trial("litml sync, a line changed", [LITML, "sync"], ours, editor(ours)),
            Trial("nbdev-update, a function added", [update], theirs, adder(theirs)),
            Trial("litml sync, a function added", [LITML, "sync"], ours, adder(ours)),
            Trial("nbdev-update, nothing changed", [update], theirs),
            Trial("litml sync, nothing changed", [LITML, "sync"], ours),
        ]
        print(f"{arguments.modules} modules")
        costs = take_turns(trials, arguments.rounds)
        for title, cost in costs.items():
            peer = costs[title.replace("litml sync", "nbdev-update")].cpu
            is_ours = title.startswith("litml")
            row(title, cost, f"{peer / cost.cpu:.1f}x less" if is_ours else "")
        prove(theirs, arguments.rounds + 1)
        prove(ours, arguments.rounds + 1)


if __name__ == "__main__":
    main()
