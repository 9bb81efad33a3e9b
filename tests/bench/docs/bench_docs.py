"""What a site costs, side by side with two others: CPU seconds and peak memory.

    python bench_docs.py --mkdocs ENV --sphinx ENV [--rounds N] [--many N] PROJECT ...

PROJECT is a clone of a project with notebooks in `nbs/` and a package beside it; all of
them become one project. ENV is an environment with a line of `requirements.txt`. Costs
are those of the whole process and its children (user + system); commands take turns,
and the median of the rounds counts. Notebooks are shown as they are: nobody executes
them. With `--many` only litml is measured, on so many copies of the projects.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LITML = Path(sys.executable).with_name("litml")
PYPROJECT = """[project]
name = "many"
description = "All of them"
[tool.litml]
package = "many"
[tool.litml.docs]
repository = "https://github.com/me/many"
"""
MKDOCS = """site_name: many
theme: {name: material, font: false}
docs_dir: nbs
plugins:
  - search
  - mkdocs-jupyter: {execute: false}
"""
SPHINX = """project = "many"
extensions = ["myst_nb"]
nb_execution_mode = "off"
html_theme = "furo"
suppress_warnings = ["*"]
"""
INDEX = "# Many\n\n```{toctree}\n:glob:\n\n**\n```\n"

Prepare = Callable[[], None]


# The notebooks -----------------------------------------------------------------------


def make_project(root: Path, projects: Sequence[Path], copies: int) -> Path:
    """Make one project out of some, so many times: each becomes a part of a package."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "mkdocs.yml").write_text(MKDOCS)
    (root / "many").mkdir()
    (root / "many" / "__init__.py").write_text("")
    for number in range(copies):
        for project in projects:
            add_project(root, project, f"{project.name}{number:02}" if number else "")
    return root


def add_project(root: Path, project: Path, name: str) -> None:
    """Add the notebooks of a project and its package, by another name."""
    name = name or project.name
    package, nbs = project / project.name, project / "nbs"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, root / "many" / name, ignore=ignored)
    for path in sorted(nbs.rglob("*")):
        inner = path.relative_to(nbs)
        hidden = any(part.startswith((".", "_")) for part in inner.parts)
        if hidden or not path.is_file() or path.suffix not in (".ipynb", ".png"):
            continue
        target = root / "nbs" / name / inner
        target.parent.mkdir(parents=True, exist_ok=True)
        data = path.read_bytes()
        if path.suffix == ".ipynb":
            data = re.sub(
                rb"(#\s*\|\s*default_exp\s+)", rb"\1%b." % name.encode(), data
            )
        target.write_bytes(data)


def edit(notebook: Path) -> None:
    """Change a word of the first title in a notebook."""
    text = notebook.read_text("utf-8")
    notebook.write_text(re.sub(r'"# (\w)', r'"# Edited \1', text, count=1), "utf-8")


# Measuring ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds (user + system, children too) and peak resident memory in MB.

    The memory is that of the largest process.
    """

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


def measure(command: Sequence[str | Path], folder: Path) -> Cost:
    """Run a command, which must succeed, and return what it cost."""
    words = [str(word) for word in command]
    done = subprocess.run(
        [sys.executable, "-S", "-c", STARTER, *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output, _, numbers = done.stdout.rstrip().rpartition("\n")
    code, cpu, peak = numbers.split()
    if code != "0":
        sys.exit(f"{' '.join(words)}\n{output}")
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes or kilobytes
    return Cost(float(cpu), int(peak) * unit / 1e6)


@dataclass(frozen=True, slots=True)
class Builder:
    """A command that builds a site in its copy of the project; `made` is its doing."""

    name: str
    command: tuple[str | Path, ...]
    folder: Path
    made: tuple[str, ...]

    def forget(self) -> None:
        """Remove all that it made."""
        for name in self.made:
            shutil.rmtree(self.folder / name, ignore_errors=True)

    def size(self) -> float:
        """Return how large the site is, in MB."""
        files = (self.folder / self.made[0]).rglob("*")
        return sum(path.stat().st_size for path in files if path.is_file()) / 1e6


def run_round(builder: Builder) -> dict[str, Cost]:
    """Return what a site costs: cold, again, and after an edit."""
    notebooks = sorted((builder.folder / "nbs").rglob("*.ipynb"))
    builder.forget()
    cold = measure(builder.command, builder.folder)
    same = measure(builder.command, builder.folder)
    edit(notebooks[len(notebooks) // 2])
    return {
        "cold": cold,
        "unchanged": same,
        "one edit": measure(builder.command, builder.folder),
    }


def middle(rounds: Sequence[dict[str, Cost]], kind: str) -> float:
    """Return the median CPU time of a kind of build."""
    return statistics.median(costs[kind].cpu for costs in rounds)


# The tables --------------------------------------------------------------------------


def make_builders(
    scratch: Path, projects: Sequence[Path], mkdocs: Path, sphinx: Path
) -> list[Builder]:
    """Return those that are compared, each with a copy of the project."""
    names = ("litml", "mkdocs", "sphinx")
    roots = {name: make_project(scratch / name, projects, 1) for name in names}
    (roots["mkdocs"] / "nbs" / "index.md").write_text("# Many\n")
    (roots["sphinx"] / "nbs" / "conf.py").write_text(SPHINX)
    (roots["sphinx"] / "nbs" / "index.md").write_text(INDEX)
    material = (mkdocs / "bin" / "mkdocs", "build", "-q")
    furo = (sphinx / "bin" / "sphinx-build", "-q", "nbs", "out")
    return [
        Builder("litml", (LITML, "docs"), roots["litml"], ("_site", ".litml")),
        Builder("mkdocs-jupyter", material, roots["mkdocs"], ("site", ".cache")),
        Builder("Sphinx + myst-nb", furo, roots["sphinx"], ("out",)),
    ]


def compare(builders: Sequence[Builder], rounds: int) -> None:
    """Print a line for each builder; they take turns."""
    found: dict[str, list[dict[str, Cost]]] = {one.name: [] for one in builders}
    for _ in range(rounds):
        for one in builders:
            found[one.name].append(run_round(one))
    print("| | cold | × litml | unchanged | one edit | peak MB | site MB |")
    print("|---|---|---|---|---|---|---|")
    for one in builders:
        costs = found[one.name]
        ratio = middle(costs, "cold") / middle(found[builders[0].name], "cold")
        peak = max(cost["cold"].memory for cost in costs)
        print(
            f"| {one.name} | {middle(costs, 'cold'):.1f} | {ratio:.1f} |"
            f" {middle(costs, 'unchanged'):.2f} | {middle(costs, 'one edit'):.2f} |"
            f" {peak:.0f} | {one.size():.0f} |"
        )


def show_growth(scratch: Path, projects: Sequence[Path], most: int) -> None:
    """Print how litml's costs grow with the number of notebooks."""
    print("| notebooks | cold | ms each | unchanged | one edit | peak MB | site MB |")
    print("|---|---|---|---|---|---|---|")
    one = len([*make_project(scratch / "one", projects, 1).rglob("*.ipynb")])
    for share in (4, 2, 1):
        root = make_project(scratch / "many", projects, round(most / one / share))
        count = len([*root.rglob("*.ipynb")])
        builder = Builder("litml", (LITML, "docs"), root, ("_site", ".litml"))
        found = run_round(builder)
        cold, same, edited = (found[k] for k in ("cold", "unchanged", "one edit"))
        peak = max(cost.memory for cost in found.values())
        print(
            f"| {count} | {cold.cpu:.1f} | {cold.cpu / count * 1e3:.0f} |"
            f" {same.cpu:.2f} | {edited.cpu:.2f} | {peak:.0f} | {builder.size():.0f} |",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("projects", nargs="+", type=Path, metavar="PROJECT")
    parser.add_argument("--mkdocs", type=Path, metavar="ENV")
    parser.add_argument("--sphinx", type=Path, metavar="ENV")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="litml-bench-") as name:
        if options.many:
            show_growth(Path(name), options.projects, options.many)
        else:
            peers = (options.mkdocs, options.sphinx)
            builders = make_builders(Path(name), options.projects, *peers)
            compare(builders, options.rounds)


if __name__ == "__main__":
    main()
