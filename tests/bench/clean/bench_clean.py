"""What cleaning does to real notebooks, and what it costs in CPU seconds.

    python tests/bench/clean/bench_clean.py FOLDER [--peers BIN] [--rounds N]

FOLDER holds real notebooks, below it at any depth; files with equal bytes count once.
The first table is about bytes: for how many notebooks the canonical form is the file's
own, how many Jupyter's save leaves as they are once they are clean, and on how many the
laws fail. The second is about time: all of them in this process, one of 100 MB, and 200
copies cleaned by one command each of litml and of the peers whose programs are in BIN
(`requirements.txt` of the benchmark of git names their versions).
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat

from litml.canonical import OddFile, load_tree, write_tree
from litml.clean import Policy, clean_notebook

DROP, KEEP = Policy(), Policy("keep")


def find_notebooks(folder: Path) -> list[bytes]:
    """Return the bytes of all different notebooks below a folder."""
    paths = sorted(folder.rglob("*.ipynb"))
    return list(dict.fromkeys(path.read_bytes() for path in paths))


# Bytes --------------------------------------------------------------------------------


def save_as_jupyter(raw: bytes) -> bytes:
    """Return what Jupyter writes for a notebook that it has just opened."""
    file = io.StringIO()
    node = nbformat.reads(raw.decode(), as_version=4)
    nbformat.write(node, file, version=nbformat.NO_CONVERT)
    return file.getvalue().encode()


def judge(raw: bytes) -> Iterator[str]:
    """Yield what is true of a notebook."""
    try:
        if write_tree(load_tree(raw)) == raw:
            yield "canonical form is the file's own"
    except OddFile:
        yield "odd, left alone"
        return
    for word, policy in (("outputs dropped", DROP), ("outputs kept", KEEP)):
        data = clean_notebook(raw, policy).data
        if clean_notebook(data, policy).data != data:
            yield f"{word}: NOT idempotent"
        if save_as_jupyter(data) == data:
            yield f"{word}: Jupyter saves it as it is"


def show_bytes(notebooks: Sequence[bytes]) -> None:
    """Print the first table."""
    warnings.simplefilter("ignore")  # of nbformat, about ids
    counts = Counter(word for raw in notebooks for word in judge(raw))
    print(f"{len(notebooks)} notebooks, {sum(map(len, notebooks)) / 1e6:.1f} MB")
    for word, count in sorted(counts.items()):
        print(f"  {word:42} {count:6}  {100 * count / len(notebooks):5.1f} %")


# Time ---------------------------------------------------------------------------------


def time_here(raw: Sequence[bytes], policy: Policy) -> float:
    """Return the CPU seconds of cleaning in this process."""
    start = time.process_time()
    for one in raw:
        clean_notebook(one, policy)
    return time.process_time() - start


def make_large() -> bytes:
    """Return a notebook of 100 MB: pictures, and a long table."""
    picture = {"image/png": "iVBORw0KGgo" * 45_000, "text/plain": ["<Figure>"]}
    table = {"text/html": [f"<td>{number}</td>\n" for number in range(20_000)]}
    cells = [
        {
            **{
                "cell_type": "code",
                "id": f"c{number}",
                "source": ["show()\n", "more()"],
            },
            **{"metadata": {}, "execution_count": number},
            "outputs": [
                {"output_type": "display_data", "metadata": {}, "data": data}
                for data in (picture, table)
            ],
        }
        for number in range(100)
    ]
    tree = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(tree, indent=1).encode()


def is_valid(raw: bytes) -> bool:
    """Has the notebook all that its format demands?"""
    try:
        nbformat.validate(load_tree(raw))
    except (OddFile, nbformat.ValidationError):
        return False
    return True


def measure(command: Sequence[str], folder: Path) -> float:
    """Run a command, which must succeed, and return the CPU seconds it took."""
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"failed: {command[:3]}")
    return usage.ru_utime + usage.ru_stime


def time_command(words: Sequence[str], notebooks: Sequence[bytes]) -> float:
    """Return the CPU seconds of a command on fresh copies of notebooks."""
    with tempfile.TemporaryDirectory() as folder:
        names = [f"nbs/{number:03}.ipynb" for number in range(len(notebooks))]
        Path(folder, "nbs").mkdir()
        text = '[project]\nname = "mylib"\n[tool.litml]\n'
        Path(folder, "pyproject.toml").write_text(text)
        for name, raw in zip(names, notebooks, strict=True):
            Path(folder, name).write_bytes(raw)
        return measure([*words, *names], Path(folder))


def show_time(notebooks: Sequence[bytes], peers: Path | None, rounds: int) -> None:
    """Print the second table."""
    for word, policy in (("outputs dropped", DROP), ("outputs kept", KEEP)):
        print(f"  in this process, {word:20} {time_here(notebooks, policy):8.2f} s")
    large = make_large()
    for word, policy in (("outputs dropped", DROP), ("outputs kept", KEEP)):
        seconds = time_here([large], policy)
        print(f"  one of {len(large) / 1e6:.0f} MB, {word:24} {seconds:8.2f} s")
    good = [raw for raw in notebooks if is_valid(raw)]  # peers refuse others
    some = good[:: max(len(good) // 200, 1)][:200]
    commands = {"litml clean": [str(Path(sys.executable).with_name("litml")), "clean"]}
    if peers:
        commands["nb-clean clean"] = [shutil.which("nb-clean", path=peers), "clean"]
        commands["nbstripout"] = [shutil.which("nbstripout", path=peers)]
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, words in commands.items():
            found[name].append(time_command(words, some))
    base = statistics.median(found["litml clean"])
    size = sum(map(len, some)) / 1e6
    print(f"{len(some)} notebooks, {size:.1f} MB, by one command, outputs dropped")
    for name, times in found.items():
        middle = statistics.median(times)
        print(f"  {name:38} {middle:8.2f} s  {middle / base:6.1f} x")


def main() -> None:
    """Measure what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peers", type=Path, metavar="BIN")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    notebooks = find_notebooks(arguments.folder)
    show_bytes(notebooks)
    print("CPU seconds")
    show_time(notebooks, arguments.peers, arguments.rounds)


if __name__ == "__main__":
    main()
