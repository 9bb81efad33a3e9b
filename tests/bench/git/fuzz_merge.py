"""Merge random edits of real notebooks, and count conflicts and damage.

    python fuzz_merge.py FOLDER... [--number N] [--cells N] [--nbdime BIN] [--nbdev BIN]

Each side of a merge does one to five things to a notebook found below the folders:
inserts a line (three in seven), inserts, deletes or moves a cell, runs it all again.
Every inserted line is unique, so that a lost or a doubled one is seen. BIN is the
`bin` folder of an environment that holds the peer, which merges `--peers` of them.
"""

import argparse
import copy
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from real_merges import make_tools, run_all

from litml.canonical import OddFile, load_tree
from litml.driver import merge_bytes

Tree = dict[str, Any]
LARGEST = 500_000
MARKERS = ("<<<<<<<", "=======", ">>>>>>>", "`<<<<", "`====", "`>>>>", "<span style")


def find_notebooks(folders: list[Path], smallest: int) -> Iterator[Path]:
    """Yield the notebooks below folders that can be merged by cells."""
    for folder in folders:
        for path in sorted(folder.rglob("*.ipynb")):
            if 0 < path.stat().st_size < LARGEST:
                try:
                    tree = load_tree(path.read_bytes())
                except OddFile:
                    continue
                ids = [cell.get("id") for cell in tree["cells"]]
                if len(ids) >= smallest and (
                    len(set(ids)) == len(ids) or set(ids) == {None}
                ):
                    yield path


class Author:
    """Somebody who does random things, and never writes the same line twice."""

    def __init__(self, name: str, rng: random.Random) -> None:
        self.name, self.rng, self.count = name, rng, 0

    def line(self) -> str:
        self.count += 1
        return f"{self.name}_{self.count} = {self.rng.random()}"

    def act(self, tree: Tree) -> None:
        cells = tree["cells"]
        act = self.rng.choice(["line"] * 3 + ["insert", "delete", "move", "run"])
        at = self.rng.randrange(len(cells))
        if act == "line":
            lines = "".join(cells[at]["source"]).split("\n")
            lines.insert(self.rng.randint(0, len(lines)), self.line())
            cells[at]["source"] = "\n".join(lines).splitlines(True)
        elif act == "insert":
            cells.insert(at, self.cell(tree))
        elif act == "delete" and len(cells) > 1:
            del cells[at]
        elif act == "move":
            cells.insert(self.rng.randint(0, len(cells) - 1), cells.pop(at))
        elif act == "run":
            self.run(cells)

    def cell(self, tree: Tree) -> Tree:
        data: Tree = {"cell_type": "code", "execution_count": None, "metadata": {}}
        if tree.get("nbformat_minor", 0) >= 5:
            data["id"] = f"{self.rng.getrandbits(32):08x}"
        return {**data, "outputs": [], "source": [self.line()]}

    def run(self, cells: list[Tree]) -> None:
        for i, cell in enumerate(cells):
            if cell["cell_type"] == "code":
                cell["execution_count"] = self.count * 100 + i
                for output in cell.get("outputs", []):
                    if "text" in output:
                        output["text"] = [f"{self.name} {self.rng.random()}\n"]


def to_bytes(tree: Tree) -> bytes:
    return (
        json.dumps(tree, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    ).encode()


def make_fork(path: Path, rng: random.Random) -> tuple[Tree, Tree, Tree]:
    base = load_tree(path.read_bytes())
    sides = []
    for name in ("ours", "theirs"):
        side = copy.deepcopy(base)
        author = Author(name, rng)
        for _ in range(rng.randint(1, 5)):
            author.act(side)
        sides.append(side)
    return base, sides[0], sides[1]


def lines(tree: Tree) -> Counter[str]:
    found = (
        line for cell in tree["cells"] for line in "".join(cell["source"]).split("\n")
    )
    return Counter(line for line in found if line.strip())


def examine(fork: tuple[Tree, Tree, Tree], raw: bytes, status: int) -> list[str]:
    """Say what is wrong with a result."""
    try:
        result = load_tree(raw)
    except (OddFile, UnicodeDecodeError):
        return ["conflict", "does not open"]
    found = ["conflict"] if status else []
    base, *sides = fork
    have = lines(result)
    if any(line not in have for side in sides for line in lines(side) - lines(base)):
        found.append("a line lost")
    limits = [lines(tree) for tree in fork]
    twice = {line for line, n in have.items() if n > max(one[line] for one in limits)}
    if any(not line.startswith(MARKERS) for line in twice):
        found.append("a line twice")
    ids = [cell["id"] for cell in result["cells"] if "id" in cell]
    if len(ids) > len(set(ids)):
        found.append("an id twice")
    if result.get("nbformat_minor", 0) < 5 and ids:
        found.append("not valid")
    return found


def merge_here(files: tuple[bytes, bytes, bytes]) -> tuple[bytes, int]:
    raw, merged = merge_bytes(*files, "x.ipynb")
    return raw, len(merged.conflicts)


def merge_there(
    tool: Any, forks: list[tuple[Tree, Tree, Tree]]
) -> Iterator[tuple[bytes, int]]:
    with tempfile.TemporaryDirectory() as top:
        folders = [Path(top, str(i)) for i in range(len(forks))]
        for folder, fork in zip(folders, forks, strict=True):
            folder.mkdir()
            for name, tree in zip("OAB", fork, strict=True):
                (folder / name).write_bytes(to_bytes(tree))
        for folder, status in zip(folders, run_all(tool, folders), strict=True):
            yield (folder / "A").read_bytes(), status


def check_swapped(fork: tuple[Tree, Tree, Tree]) -> bool:
    """Does it make no difference whose side is whose?"""
    base, ours, theirs = map(to_bytes, fork)
    one, other = (
        merge_bytes(base, ours, theirs, "x"),
        merge_bytes(base, theirs, ours, "x"),
    )
    same = lines(load_tree(one[0])) == lines(load_tree(other[0]))
    return same and len(one[1].conflicts) == len(other[1].conflicts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cells", type=int, default=3, help="fewest in a notebook")
    parser.add_argument("--nbdime")
    parser.add_argument("--nbdev")
    parser.add_argument("--peers", type=int, default=100, help="merges for the peers")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    paths = sorted(find_notebooks(arguments.folders, arguments.cells))
    rng.shuffle(paths)
    forks = [make_fork(paths[i % len(paths)], rng) for i in range(arguments.number)]
    start = time.process_time()
    done = [merge_here(tuple(map(to_bytes, fork))) for fork in forks]  # type: ignore[arg-type]
    spent = (time.process_time() - start) / len(forks)
    print(f"{len(forks)} merges of {min(len(paths), len(forks))} notebooks,", end=" ")
    print(f"{spent * 1000:.0f} ms CPU each without the start\n")
    kinds = ["conflict", "does not open", "a line lost", "a line twice", "an id twice"]
    kinds.append("not valid")
    print(f"| | merges | {' | '.join(kinds)} |\n|---{'|---' * len(kinds)}|---|")
    show("litml", forks, done, kinds)
    few = forks[: arguments.peers]
    for tool in make_tools(arguments.nbdime, arguments.nbdev)[2:]:
        show(tool.name, few, list(merge_there(tool, few)), kinds)
    odd = sum(not check_swapped(fork) for fork in forks)
    print(f"\nother lines or conflicts with the sides swapped: {odd}")
    sys.exit(bool(odd))


def show(
    name: str,
    forks: list[tuple[Tree, Tree, Tree]],
    done: list[tuple[bytes, int]],
    kinds: list[str],
) -> None:
    count = Counter(
        what
        for fork, (raw, status) in zip(forks, done, strict=True)
        for what in examine(fork, raw, status)
    )
    share = f"{count['conflict']} ({100 * count['conflict'] / len(forks):.0f} %)"
    numbers = [share, *(str(count[kind]) for kind in kinds[1:])]
    print(f"| {name} | {len(forks)} | {' | '.join(numbers)} |", flush=True)


if __name__ == "__main__":
    main()
