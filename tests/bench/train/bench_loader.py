"""What a batch of tensors in memory costs: python bench_loader.py.

CPU time, one thread, the loaders in turns.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from litml.train import make_loader

ROUNDS = 15
CASES = {"64 rows of 64 numbers": (64, (64,)), "256 pictures": (256, (3, 32, 32))}


class OneByOne(TensorDataset):
    """Tensors of which `make_loader` does not know that they are in memory."""


def by_hand(x: Tensor, y: Tensor, size: int) -> Iterator[list[Tensor]]:
    for chosen in torch.randperm(len(x)).split(size):
        yield [x[chosen], y[chosen]]


def make_readers(x: Tensor, y: Tensor, size: int) -> dict[str, Callable[[], Any]]:
    return {
        "by hand": lambda: by_hand(x, y, size),
        "litml": lambda: make_loader(TensorDataset(x, y), size, shuffle=True),
        "litml, sample by sample": lambda: make_loader(
            OneByOne(x, y), size, shuffle=True
        ),
        "DataLoader": lambda: DataLoader(TensorDataset(x, y), size, shuffle=True),
    }


def measure(loader: Iterable[Any]) -> float:
    """Return the microseconds a batch, the first of an epoch included."""
    begun = time.process_time()
    count = sum(1 for _ in loader)
    return (time.process_time() - begun) / count * 1e6


def main() -> None:
    torch.set_num_threads(1)
    for name, (size, shape) in CASES.items():
        x, y = torch.randn(20_000, *shape), torch.randint(10, (20_000,))
        readers = make_readers(x, y, size)
        found: dict[str, list[float]] = {one: [] for one in readers}
        for _ in range(ROUNDS):
            for one, make in readers.items():
                found[one].append(measure(make()))
        print(name)
        for one, taken in found.items():
            share = median(taken) / median(found["DataLoader"])
            print(f"  {one:24} {median(taken):7.0f} µs a batch  {share:5.2f}")


if __name__ == "__main__":
    main()
