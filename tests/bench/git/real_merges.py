"""Replay merges from public histories through litml, nbdime and nbdev-merge.

    python real_merges.py collect GITDIR... > cases.jsonl
    python real_merges.py replay cases.jsonl --nbdime BIN --nbdev BIN

`collect` finds merge commits in which both sides changed one notebook, and git's own
text merge of it would not be trivial. `replay` gives base, ours and theirs of each to
the merge drivers, as git would, and compares what comes out with what a person
committed: the kind and the text of the cells in their order, nothing else. BIN is the
`bin` folder of an environment that holds the tool.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Case = dict[str, str]
Content = list[tuple[str, str]]


# Collecting --------------------------------------------------------------------------


def git(folder: str, *words: str) -> bytes:
    command = ["git", "-C", folder, *words]
    return subprocess.run(command, capture_output=True).stdout


def changed(folder: str, old: str, new: str) -> dict[str, tuple[str, str]]:
    """Return the notebooks that changed, with their old and new blobs."""
    words = ["diff-tree", "-r", "-z", "--no-renames", old, new, "--", "*.ipynb"]
    parts = git(folder, *words).decode("utf-8", "replace").split("\0")
    found = {}
    for about, path in zip(parts[::2], parts[1::2], strict=False):
        old_blob, new_blob, kind = about.split()[2:5]
        if kind in ("M", "A"):
            found[path] = (old_blob, new_blob)
    return found


def collect(folder: str) -> Iterator[Case]:
    """Yield every notebook that both parents of a merge changed in different ways."""
    log = git(folder, "rev-list", "--merges", "--all", "--parents").decode()
    for line in log.splitlines():
        merge, *parents = line.split()
        if len(parents) != 2:
            continue
        bases = git(folder, "merge-base", "--all", *parents).decode().split()
        if len(bases) != 1:
            continue
        ours = changed(folder, bases[0], parents[0])
        theirs = changed(folder, bases[0], parents[1]) if ours else {}
        for path in sorted(set(ours) & set(theirs)):
            if ours[path] == theirs[path]:
                continue
            words = ("rev-parse", "-q", "--verify", f"{merge}:{path}")
            result = git(folder, *words).decode().strip()
            if result:
                blobs = {"base": ours[path][0], "ours": ours[path][1]}
                blobs |= {"theirs": theirs[path][1], "result": result}
                yield {"folder": folder, "merge": merge, "path": path, **blobs}


# Replaying ---------------------------------------------------------------------------


def content(raw: bytes) -> Content:
    """Return what of a notebook a person wrote; raises `ValueError` if it is none."""
    tree = json.loads(raw)
    if not isinstance(tree, dict) or tree.get("nbformat") != 4:
        raise ValueError("not a notebook of format 4")
    cells = [(c["cell_type"], "".join(c["source"]).rstrip()) for c in tree["cells"]]
    return [cell for cell in cells if cell[1]]


@dataclass
class Tool:
    """A merge driver: its command, and what its process does once it has started.

    Some take seconds to start. For the outcomes they are started once, and forked for
    each notebook; the time is taken of whole processes.
    """

    name: str
    command: list[str]
    call: str = ""


NBDIME = """
from nbdime.vcs.git.mergedriver import main
def call(): return main(["merge", "O", "A", "B", "7", "x.ipynb"])
"""
NBDEV = """
from nbdev.merge import nbdev_merge
def call(): return nbdev_merge.__wrapped__("O", "A", "B", "x.ipynb")
"""
WORKER = """
import os, resource, sys
for folder in sys.stdin.read().split("\\n"):
    pid = os.fork()
    if not pid:
        status = 255
        try:
            os.chdir(folder)
            resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.dup2(2, 1)
            status = int(call() or 0)
        finally:
            os._exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def make_tools(nbdime: str | None, nbdev: str | None) -> list[Tool]:
    driver = [sys.executable, "-P", "-m", "litml.driver", "O", "A", "B", "7", "x.ipynb"]
    found = [Tool("git text", ["git", "merge-file", "-q", "A", "O", "B"])]
    found.append(Tool("litml", driver))
    if nbdime:
        words = ["merge", "O", "A", "B", "7", "x.ipynb"]
        found.append(Tool("nbdime", [f"{nbdime}/git-nbmergedriver", *words], NBDIME))
    if nbdev:
        words = ["O", "A", "B", "x.ipynb"]
        found.append(Tool("nbdev", [f"{nbdev}/nbdev-merge", *words], NBDEV))
    return found


def run(tool: Tool, folder: Path) -> tuple[int, float]:
    """Run a driver as git would; return its status and its CPU seconds."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(tool.command, cwd=folder, **quiet)  # type: ignore[call-overload]
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, usage.ru_utime + usage.ru_stime


def run_all(tool: Tool, folders: Sequence[Path]) -> list[int]:
    """Run a driver on many notebooks; return the statuses."""
    if not tool.call:
        return [run(tool, folder)[0] for folder in folders]
    python = str(Path(tool.command[0]).parent / "python")
    names = "\n".join(map(str, folders))
    code = tool.call + WORKER
    done = subprocess.run(
        [python, "-c", code], input=names, stdout=subprocess.PIPE, text=True, check=True
    )
    return [int(word) for word in done.stdout.split()]


def judge(status: int, raw: bytes, wanted: Content) -> str:
    """Say what came out: `same` as the human's, `other`, `conflict`, or `invalid`.

    The last is a file that does not open, or a driver that crashed or was stopped
    after a minute of CPU.
    """
    if status not in range(128):
        return "invalid"
    try:
        found = content(raw)
    except (ValueError, KeyError, TypeError):
        return "invalid"
    if status:
        return "conflict"
    return "same" if found == wanted else "other"


def doubled(raw: bytes) -> bool:
    """Does an id stand twice in the notebook?"""
    try:
        ids = [c["id"] for c in json.loads(raw)["cells"] if "id" in c]
    except (ValueError, KeyError, TypeError):
        return False
    return len(ids) > len(set(ids))


def read_case(case: Case) -> dict[str, bytes] | None:
    """Return the four versions, if all are notebooks and a person has merged them."""
    found = {}
    for name in ("base", "ours", "theirs", "result"):
        is_there = set(case[name]) != {"0"}
        found[name] = (
            git(case["folder"], "cat-file", "blob", case[name]) if is_there else b""
        )
        try:
            if is_there or name != "base":
                content(found[name])
        except (ValueError, KeyError, TypeError):
            return None
    return found if max(map(len, found.values())) < LARGEST else None


LARGEST = 3_000_000


def choose(path: Path, limit: int) -> list[tuple[Case, dict[str, bytes]]]:
    """Return a sample of cases, each of which is there once, spread over projects."""
    cases = [json.loads(line) for line in path.read_text().splitlines()]
    unique = {(c["base"], c["ours"], c["theirs"]): c for c in cases}
    groups = defaultdict(list)
    for case in sorted(unique.values(), key=lambda c: c["ours"] + c["theirs"]):
        groups[case["folder"]].append(case)
    found = []
    while groups and len(found) < limit:
        for folder in sorted(groups):
            if not groups[folder]:
                del groups[folder]
            elif len(found) < limit and (
                files := read_case(case := groups[folder].pop())
            ):
                found.append((case, files))
    return found


def replay(arguments: argparse.Namespace) -> None:
    chosen = choose(arguments.cases, arguments.limit)
    tools = make_tools(arguments.nbdime, arguments.nbdev)
    outcomes: dict[str, list[str]] = {}
    double = Counter()
    with tempfile.TemporaryDirectory() as top:
        folders = [Path(top, str(i)) for i in range(len(chosen))]
        for tool in tools:
            lay_out(folders, chosen)
            statuses = run_all(tool, folders)
            results = [(folder / "A").read_bytes() for folder in folders]
            outcomes[tool.name] = [
                judge(status, raw, content(files["result"]))
                for status, raw, (_, files) in zip(
                    statuses, results, chosen, strict=True
                )
            ]
            double[tool.name] = sum(map(doubled, results))
        projects = len({case["folder"] for case, _ in chosen})
        print(f"{len(chosen)} merges of {projects} projects\n")
        show(outcomes, double)
        show_times(tools, folders, chosen, arguments.time)


def lay_out(
    folders: Sequence[Path], chosen: list[tuple[Case, dict[str, bytes]]]
) -> None:
    for folder, (_, files) in zip(folders, chosen, strict=True):
        folder.mkdir(exist_ok=True)
        for name, key in (("O", "base"), ("A", "ours"), ("B", "theirs")):
            (folder / name).write_bytes(files[key])


def show(outcomes: dict[str, list[str]], double: Counter[str]) -> None:
    """Print the outcomes of all merges, and of those that git's text merge fails."""
    hard = [i for i, one in enumerate(outcomes["git text"]) if one != "same"]
    kinds = ("same", "other", "conflict", "invalid")
    print(
        "| | clean, as the human | clean, otherwise | conflict | unusable |",
        end="",
    )
    print(f" id twice | of the {len(hard)} that are hard for git: as the human |")
    print("|---|---|---|---|---|---|---|")
    for name, found in outcomes.items():
        count = Counter(found)
        numbers = [str(count[kind]) for kind in kinds] + [str(double[name])]
        solved = sum(found[i] == "same" for i in hard)
        print(f"| {name} | {' | '.join(numbers)} | {solved} |")


def show_times(
    tools: Sequence[Tool],
    folders: Sequence[Path],
    chosen: list[tuple[Case, dict[str, bytes]]],
    number: int,
) -> None:
    """Print the CPU of whole processes, over a few notebooks of middle size."""
    by_size = sorted(
        zip(folders, chosen, strict=True), key=lambda one: len(one[1][1]["ours"])
    )
    start = max(0, (len(by_size) - number) // 2)
    folders, chosen = map(list, zip(*by_size[start : start + number], strict=True))
    times = {}
    for tool in tools:
        lay_out(folders, chosen)
        times[tool.name] = sorted(run(tool, folder)[1] for folder in folders)
    middle = {name: found[len(found) // 2] for name, found in times.items() if found}
    for name, value in middle.items():
        ratio = value / middle["litml"]
        print(f"{name:10} {value * 1000:6.0f} ms CPU a merge, {ratio:5.1f}x litml")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    inner = commands.add_parser("collect")
    inner.add_argument("folders", nargs="+")
    inner = commands.add_parser("replay")
    inner.add_argument("cases", type=Path)
    inner.add_argument("--nbdime")
    inner.add_argument("--nbdev")
    inner.add_argument("--limit", type=int, default=200)
    inner.add_argument("--time", type=int, default=5, help="merges that are timed")
    arguments = parser.parse_args()
    if arguments.command == "replay":
        replay(arguments)
        return
    for folder in arguments.folders:
        for case in collect(folder):
            print(json.dumps(case), flush=True)


if __name__ == "__main__":
    main()
