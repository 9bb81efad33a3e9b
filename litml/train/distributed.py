# Exported from nbs/train/20_distributed.ipynb. Edit either side, then run `litml sync`.
"""Train one model on several GPUs and machines: the notebook stays the same,
torchrun starts it more than once.
"""

import atexit
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, RandomSampler
from torchdata.stateful_dataloader import StatefulDataLoader

from litml.train.batches import find_generators
from litml.train.device import TrainError, choose_device
from litml.train.world import NOTHING, World

__all__ = [
    "join_last",
    "Share",
    "share_loader",
    "check_loader",
    "is_sharded",
    "shard",
    "find_blocks",
    "gather_weights",
    "scatter_weights",
    "Processes",
    "open_world",
    "choose_backend",
    "close_world",
]


# ## Shares of a batch
# %% join-last
def join_last(batches: Iterable[list[int]], size: int) -> Iterator[list[int]]:
    """Yield batches; one too small for `size` processes goes with the one before."""
    before: list[int] = []
    for batch in batches:
        if not before or len(batch) < size:
            before = before + batch
        else:
            yield before
            before = batch
    if before:
        yield before


# %% share
class Share:
    """The part of every batch of samples' numbers that is for one process."""

    def __init__(self, loader: DataLoader[Any], world: World) -> None:
        self.batches: Any = loader.batch_sampler
        self.generators = find_generators(loader)
        self.rank, self.size = world.rank, world.size
        self._start: list[Tensor] = []  # the generators' states at the beginning
        self._taken = self._skipped = 0

    def __len__(self) -> int:
        count: int = len(self.batches)
        last = len(self.batches.sampler) % self.batches.batch_size
        is_joined = 0 < last < self.size and not self.batches.drop_last
        return count - is_joined

    def __iter__(self) -> Iterator[list[int]]:
        self._taken, self._skipped = self._skipped, 0
        if self._taken:
            for generator, state in zip(self.generators, self._start, strict=True):
                generator.set_state(state)
        self._start = [one.get_state() for one in self.generators]
        batches = join_last(self.batches, self.size)
        first = list(islice(batches, 1))  # the order is drawn now
        return self._hand_out(islice(chain(first, batches), self._taken, None))

    def _hand_out(self, batches: Iterable[list[int]]) -> Iterator[list[int]]:
        for batch in batches:
            self._taken += 1
            yield batch[self.rank :: self.size]

    def state_dict(self) -> dict[str, Any]:
        """Return the place."""
        return {"start": self._start, "taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a place, when next iterated over."""
        self._start, self._skipped = state["start"], state["taken"]


# %% share-loader
def share_loader(loader: DataLoader[Any], world: World) -> DataLoader[Any]:
    """Return a loader of this process's part of every batch; raises `TrainError`.

    The loader is the one that a single process would use, `batch_size` included;
    with one from `make_loader` the order is that of a single process, too.
    """
    if world.size == 1:
        return loader
    check_loader(loader, world.size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'set_vital' is deprecated")
        shared: DataLoader[Any] = StatefulDataLoader(
            loader.dataset,
            batch_sampler=Share(loader, world),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            pin_memory=loader.pin_memory,
            worker_init_fn=loader.worker_init_fn,
            generator=loader.generator,
            persistent_workers=loader.persistent_workers,
            prefetch_factor=loader.prefetch_factor,
        )
    return shared


def check_loader(loader: DataLoader[Any], size: int) -> None:
    """Raise `TrainError` for a loader whose batches cannot be shared."""
    sampler: Any = getattr(loader, "batch_sampler", None)
    if not {"sampler", "batch_size", "drop_last"} <= set(dir(sampler)):
        hint = "iterable data divides itself, by `world.rank` and `world.size`"
        raise TrainError("only a loader that has a batch sampler is shared", hint)
    count = min(len(sampler.sampler), sampler.batch_size)
    if count < size:
        hint = "`batch_size` is that of all processes together"
        raise TrainError(f"{count} samples a batch for {size} processes", hint)
    is_shuffled = isinstance(sampler.sampler, RandomSampler)
    if is_shuffled and not find_generators(loader):
        hint = "use `make_loader`, or give the DataLoader a `generator`"
        raise TrainError("each process would shuffle in its own way", hint)


# ## Sharded weights
# %% is-sharded
def is_sharded(model: nn.Module) -> bool:
    """Return whether the weights are divided; this does not import what divides."""
    return hasattr(model, "set_requires_gradient_sync")


# %% shard
def shard(
    model: nn.Module,
    world: World,
    device: str | torch.device | None = None,
    blocks: Sequence[nn.Module] | None = None,
) -> nn.Module:
    """Divide the weights among the processes; make the optimizer after this.

    Without `blocks`, they are the members of the model's `ModuleList`s.
    """
    if world.size == 1:
        return model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(choose_device(device).type, (world.size,))
    for block in find_blocks(model) if blocks is None else blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def find_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the members of the module lists in a model, the innermost first."""
    lists = [one for one in model.modules() if isinstance(one, nn.ModuleList)]
    members = [one for group in reversed(lists) for one in group]
    return [one for one in members if not isinstance(one, nn.ModuleList)]


# %% gather-weights
def gather_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return the whole weights of a sharded model in rank 0, nothing in the others."""
    from torch.distributed.checkpoint import state_dict as common

    options = common.StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = common.get_model_state_dict(model, options=options)
    return state


def scatter_weights(model: nn.Module, state: dict[str, Any]) -> None:
    """Give each process its part of the weights that rank 0 has."""
    from torch.distributed.checkpoint import state_dict as common

    options = common.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    common.set_model_state_dict(model, state, options=options)


# ## A world of processes
# %% processes
class Processes(World):
    """The processes that torchrun has started; this is one of them."""

    def __init__(self, timeout: float) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.device = torch.device("cpu")  # until there is a model
        self._group = dist.new_group(timeout=timedelta(seconds=timeout), backend="gloo")
        self._asked: tuple[Any, Tensor] | None = None

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return the model that exchanges gradients."""
        self.device = device
        return model if is_sharded(model) else DistributedDataParallel(model)

    def scale(self, weight: float) -> float | Tensor:
        """Return the number of processes times the share of the whole weight."""
        whole = torch.full((), weight, device=self.device)
        return self.size * weight / self.total(whole)

    def hold(self, forward: nn.Module, last: bool) -> AbstractContextManager[object]:
        """Return what a batch is run in: gradients are exchanged with the last."""
        model: Any = getattr(forward, "_orig_mod", forward)  # below torch.compile
        if is_sharded(model):
            model.set_requires_gradient_sync(last)
            return NOTHING
        no_sync: AbstractContextManager[object] = model.no_sync()
        return NOTHING if last else no_sync

    def total(self, value: Tensor) -> Tensor:
        """Return the sum over all processes."""
        value = value.clone()
        dist.all_reduce(value)
        return value

    def agree(self, flag: bool) -> bool:
        """Return whether any process said yes when this was asked last."""
        answer = False
        if self._asked is not None:
            work, said = self._asked
            work.wait()
            answer = bool(said)
        said = torch.tensor(int(flag))
        work = dist.all_reduce(said, dist.ReduceOp.MAX, self._group, async_op=True)
        self._asked = work, said
        return answer

    def wait(self) -> None:
        """Wait until all processes are here."""
        dist.barrier(self._group)

    def save_weights(self, model: nn.Module, path: Path) -> None:
        """Write the whole model into one file; sharded weights are gathered."""
        if is_sharded(model):
            state = gather_weights(model)
            if self.rank == 0:
                save_file(state, path)
        elif self.rank == 0:
            save_model(model, str(path))

    def load_weights(self, model: nn.Module, path: Path) -> None:
        """Read what `save_weights`, of this world or of another, has written."""
        if is_sharded(model):
            scatter_weights(model, load_file(path) if self.rank == 0 else {})
        else:
            load_model(model, str(path))


# %% open-world
def open_world(
    device: str | torch.device | None = None, timeout: float = 600.0
) -> World:
    """Return the world that torchrun started this process in, or a world of one.

    `timeout` is in seconds; raises `TrainError`.
    """
    if not dist.is_initialized():
        if "WORLD_SIZE" not in os.environ:
            return World()
        backend = choose_backend(choose_device(device))
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
        atexit.register(close_world)
    return Processes(timeout)


def choose_backend(device: torch.device) -> str | None:
    """Take the device of this process, and return how processes talk."""
    if device.type == "cpu":
        return "gloo"
    index = int(os.environ.get("LOCAL_RANK", 0))
    count = torch.accelerator.device_count()
    if index >= count:
        message = f"process {index} of this machine has no device, there are {count}"
        raise TrainError(message, f"torchrun --nproc-per-node {count}")
    torch.accelerator.set_device_index(index)
    return None  # torch's own choice for each kind of device


def close_world() -> None:
    """Leave the world, if it is still open."""
    if dist.is_initialized():
        dist.destroy_process_group()
