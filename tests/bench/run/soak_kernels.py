"""Start forked kernels one after the other, and count what goes wrong.

    python tests/bench/run/soak_kernels.py [--count 2000] [--jobs 2]

Each kernel is started, executes a cell, is asked to leave, and has to be gone with all
its files. Prints how many failed, and how long a start took, from the request to the
kernel's first word.
"""

import argparse
import asyncio
import statistics
import time
from pathlib import Path

from litml.outcome import Status
from litml.strict import Strict
from litml.warm import SERVERS, Forked, open_kernel


async def start_one(folder: Path) -> float:
    """Return how long a start took. Raises `AssertionError`."""
    begun = time.monotonic()
    kernel = await open_kernel(folder, "python3", [], strict=Strict())
    seconds = time.monotonic() - begun
    try:
        assert isinstance(kernel.process, Forked), "it is a cold one"
        kernel.watch(Strict())
        done = await kernel.execute("x = 20 + 1\nx * 2", timeout=60)
        assert done.status is Status.PASSED, done
        assert done.outputs[0]["data"]["text/plain"] == "42"
    finally:
        left = await kernel.close()
    assert left is None, left
    assert kernel.process.code == 0 and not kernel.process.left
    assert not kernel.home.exists()
    return seconds


async def soak(count: int, jobs: int) -> tuple[list[float], list[str]]:
    """Start `count` kernels, `jobs` at a time; return times and failures."""
    times: list[float] = []
    failures: list[str] = []
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            try:
                times.append(await start_one(Path.cwd()))
            except Exception as error:
                failures.append(f"{number}: {error!r}"[:300])
            if number % 100 == 99:
                print(f"{number + 1} kernels, {len(failures)} failed", flush=True)

    await asyncio.gather(*(work() for _ in range(jobs)))
    return times, failures


def main() -> None:
    """Soak and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    times, failures = asyncio.run(soak(asked.count, asked.jobs))
    print(*failures, sep="\n")
    middle, late = statistics.median(times), statistics.quantiles(times, n=100)[-1]
    print(f"{asked.count} kernels, {len(failures)} failed, {len(SERVERS)} server")
    print(f"ready after {middle:.3f} s (median), {late:.3f} s (99 of 100)")


if __name__ == "__main__":
    main()
