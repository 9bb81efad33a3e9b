"""Time per step in many training loops, in turns: python bench_train.py --help."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
CASES = ["tiny", "small"]
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    # glibc gives memory back to the system and takes it anew, or does not, by which
    # tensor happens to be freed last: up to a tenth of a step, and no loop's merit.
    "MALLOC_TRIM_THRESHOLD_": "1000000000",
    "MALLOC_MMAP_THRESHOLD_": "1000000000",
}


def start(name: str, case: str, python: str) -> subprocess.Popen[str]:
    command = [python, str(HERE / "one_loop.py"), name, case]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, **SETTINGS},
    )  # fmt: skip


def take_turn(process: subprocess.Popen[str]) -> float:
    """Let a loop run an epoch; return the microseconds of a step."""
    assert process.stdin and process.stdout and process.stderr
    for line in process.stdout:
        if line.startswith("step "):
            return float(line.split()[1])
    raise RuntimeError(process.stderr.read()[-2000:])


def measure(names: dict[str, str], case: str, rounds: int) -> dict[str, list[float]]:
    """Return for each loop the time of a step in each round."""
    loops = {}
    for name, python in names.items():
        loop = start(name, case, python)
        try:
            take_turn(loop)  # the first epoch warms up
        except RuntimeError as error:
            print(f"{name}: left out: {str(error).strip().splitlines()[-1]}")
            continue
        loops[name] = loop
    found: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            assert loop.stdin
            print("next", file=loop.stdin, flush=True)
            found[name].append(take_turn(loop))
    for loop in loops.values():
        loop.kill()
        loop.wait()
    return found


def show(found: dict[str, list[float]], case: str) -> None:
    base = found["by hand"]
    print(f"\n{case}: by hand {median(base):.0f} µs a step ({len(base)} rounds)")
    print("| loop | µs beyond the hand-written loop | of its time |\n|---|---|---|")
    for name, times in found.items():
        beyond = [one - other for one, other in zip(times, base, strict=True)]
        part = median(one / other for one, other in zip(times, base, strict=True))
        best = min(times) - min(base)
        print(f"| {name} | {median(beyond):+.0f} (best {best:+.0f}) | {part:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--case", choices=CASES, help="without it, each")
    parser.add_argument(
        "loops", nargs="*", metavar="NAME[=PYTHON]",
        default=["by hand", "litml", "litml, 4 callbacks"],
        help="a name in loops.py, and the Python of the environment it is in",
    )  # fmt: skip
    options = parser.parse_args()
    pairs = (one.partition("=")[::2] for one in options.loops)
    names = {name: python or sys.executable for name, python in pairs}
    for case in [options.case] if options.case else CASES:
        show(measure(names, case, options.rounds), case)


if __name__ == "__main__":
    main()
