# Exported from nbs/train/02_batches.ipynb. Edit either side, then run `litml sync`.
"""Take batches from a loader, and know where in them a training stands."""

import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    get_worker_info,
)
from torchdata.stateful_dataloader import StatefulDataLoader

from litml.train.device import Generators, TrainError, move, seed_everything

__all__ = [
    "find_generators",
    "Batches",
    "Seeded",
    "Rows",
    "make_loader",
    "can_pin",
    "ignore_interrupts",
]


# ## The place
# %% find-generators
def find_generators(loader: object) -> list[torch.Generator]:
    """Return the generators that a loader and its samplers own."""
    sampler = getattr(loader, "sampler", None)
    batch_sampler = getattr(loader, "batch_sampler", None)
    inner = getattr(batch_sampler, "sampler", None)
    owners = (loader, sampler, batch_sampler, inner)
    found = [getattr(owner, "generator", None) for owner in owners]
    own = {id(one): one for one in found if isinstance(one, torch.Generator)}
    return list(own.values())


# %% batches
class Batches:
    """The batches of a loader, epoch after epoch, and the place in them."""

    def __init__(self, loader: Iterable[Any], device: torch.device) -> None:
        self.loader: Any = loader
        self.taken = 0  # batches of this epoch that have been used
        self._is_over = False  # there are no more of them
        self._random = Generators(device, find_generators(loader))
        self._start: dict[str, Any] = {}  # their states when the epoch began
        self._saved: dict[str, Any] | None = None
        self._iterator: Iterator[Any] = iter(())

    def begin(self, epoch: int) -> None:
        """Start an epoch, or go back to the place that was loaded."""
        sampler: Any = getattr(self.loader, "sampler", None)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        saved, self._saved = self._saved, None
        if saved is None:
            self._start = self._random.state_dict()
            self._iterator = iter(self.loader)
        elif not self._is_over:
            self._return_to(saved)

    def take(self, count: int) -> list[Any]:
        """Return the next batches: fewer than `count` at the end, then none."""
        try:
            batches = list(islice(self._iterator, count))
        except Exception as error:
            error.add_note(f"while batch {self.taken} of the epoch was fetched")
            raise
        self.taken += len(batches)
        self._is_over = len(batches) < count
        return batches

    def end(self) -> None:
        """Say that the epoch is over."""
        self.taken, self._is_over, self._iterator = 0, False, iter(())

    def state_dict(self) -> dict[str, Any]:
        """Return the place, and the states of all generators."""
        now = self._random.state_dict()
        state = {"taken": self.taken, "is_over": self._is_over, "now": now}
        if self.taken and hasattr(self.loader, "state_dict"):
            return {**state, "loader": self.loader.state_dict()}
        return {**state, "start": self._start if self.taken else {}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a place: the next epoch begun is that one."""
        self.taken, self._is_over = state["taken"], state["is_over"]
        self._random.load_state_dict(state["now"])
        self._saved = state if self.taken else None

    def _return_to(self, place: dict[str, Any]) -> None:
        """Make the iterator stand where it stood, and leave no other trace."""
        now = self._random.state_dict()
        if "loader" in place:
            self.loader.load_state_dict(place["loader"])
            self._iterator = iter(self.loader)
        else:
            self._start = place["start"]
            self._random.load_state_dict(self._start)
            self._iterator = iter(self.loader)
            skipped = sum(1 for _ in islice(self._iterator, self.taken))
            if skipped < self.taken:
                message = f"{self.taken} batches were used, the loader has {skipped}"
                raise TrainError(message, "go on with the data it was begun with")
        self._random.load_state_dict(now)


# ## A loader
# %% seeded
class Seeded(Dataset[Any]):
    """Data whose random numbers, in a worker, depend on epoch and batch alone."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.data[index]

    def __getitems__(self, indices: list[int]) -> list[Any]:
        if worker := get_worker_info():
            epoch = worker.seed - worker.id
            seed_everything(hash((epoch, *indices)) % 2**63)
        if hasattr(self.data, "__getitems__"):
            return list(self.data.__getitems__(indices))
        return [self.data[index] for index in indices]


# %% rows
class Rows(TensorDataset):
    """Tensors in memory: the rows of a batch are taken at once, not one by one."""

    def __getitems__(self, indices: list[int]) -> list[Tensor]:
        rows = torch.tensor(indices)
        return [one[move(rows, one.device)] for one in self.tensors]


# %% make-loader
def make_loader(
    dataset: Dataset[Any],
    batch_size: int,
    *,
    shuffle: bool = False,
    seed: int = 0,
    workers: int = 0,
    drop_last: bool = False,
    collate: Callable[[list[Any]], Any] | None = None,
) -> StatefulDataLoader[Any]:
    """Return a loader that knows its place; batches go to pinned memory for a GPU.

    Raises `TrainError` for data without a sample.
    """
    if isinstance(dataset, Sized) and not len(dataset):
        raise TrainError("the data set is empty", "is it the right folder, or split?")
    if type(dataset) is TensorDataset and collate is None:
        dataset, collate = Rows(*dataset.tensors), list
    has_place = isinstance(dataset, IterableDataset) or hasattr(dataset, "state_dict")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'set_vital' is deprecated")
        return StatefulDataLoader(
            dataset if has_place else Seeded(dataset),
            batch_size,
            shuffle=shuffle,
            num_workers=workers,
            drop_last=drop_last,
            collate_fn=collate,
            worker_init_fn=ignore_interrupts,
            generator=torch.Generator().manual_seed(seed),
            pin_memory=can_pin(dataset),
        )


def can_pin(dataset: Dataset[Any]) -> bool:
    """Is there a GPU that this process may use, and the data not there already?"""
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    tensors = dataset.tensors if isinstance(dataset, TensorDataset) else ()
    if any(one.device.type != "cpu" for one in tensors) or torch.mps.is_available():
        return False
    # A fork of a process that has used a GPU cannot, not even to pin memory.
    is_forked = getattr(torch.get_device_module(), "_is_in_bad_fork", lambda: False)
    return torch.accelerator.is_available() and not is_forked()


def ignore_interrupts(worker: int) -> None:
    """Let the main process decide what Ctrl-C means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
