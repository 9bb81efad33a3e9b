"""Batches that come when it is one's turn, and tell how long the steps took."""

import sys
import time
from collections.abc import Iterator

from torch.utils.data import Sampler

WARM = 20  # steps after an epoch's beginning that are not counted


class Gate(Sampler[list[int]]):
    """The numbers of each batch's samples; between epochs it waits for a line."""

    def __init__(self, count: int, batch: int) -> None:
        self.batch_size, self.drop_last = batch, True
        self.sampler = range(count)
        self.steps = count // batch
        self.turns = 0

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        begun = 0.0
        for step in range(self.steps):
            if step == WARM:
                begun = time.process_time()
            if step == self.steps - 1:
                self.report((time.process_time() - begun) / (step - WARM))
            first = step * self.batch_size
            yield list(range(first, first + self.batch_size))

    def report(self, seconds: float) -> None:
        """Tell what an epoch's step took, and wait for the next turn."""
        print(f"step {seconds * 1e6:.2f}", file=sys.__stdout__, flush=True)
        if not sys.stdin.readline():
            sys.exit(0)
