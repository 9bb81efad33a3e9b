# Exported from nbs/10f_spares.ipynb. Edit either side, then run `litml sync`.
"""Start ordinary kernels before the notebooks that they are for."""

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from litml.devices import Queue, device_env, list_devices, wait_for_device
from litml.early import kernel_env
from litml.notebook import LitmlError
from litml.strict import Strict
from litml.warmth import USUAL, Warmth

if TYPE_CHECKING:
    from litml.kernel import Kernel

__all__ = ["Order", "Surroundings", "look_around", "Spare", "Supply"]


# ## What is wanted
# %% Order
@dataclass(frozen=True, slots=True)
class Order:
    """What a notebook's kernel is to be; see `open_kernel`."""

    folder: Path
    name: str = "python3"
    paths: tuple[Path, ...] = ()
    startup: float = 60.0
    warmth: Warmth = USUAL
    text: str = ""
    strict: Strict = field(default_factory=Strict)
    root: str = ""
    gpu: int | None = None

    @property
    def is_slow(self) -> bool:
        """Is it for an ordinary kernel, which does not wait for a GPU?"""
        from litml.warm import is_forked

        return self.gpu is None and not is_forked(self.name, self.warmth, self.text)


# %% look_around
Surroundings = tuple[dict[str, str], tuple[int, int]]


def look_around(order: Order) -> Surroundings:
    """Return what a kernel that is started now gets besides its order."""
    try:
        status = os.stat(order.folder)
    except OSError:
        return kernel_env(os.environ, order.paths), (0, 0)
    return kernel_env(os.environ, order.paths), (status.st_dev, status.st_ino)


# ## Who gets it
# %% Spare
@dataclass(frozen=True, slots=True)
class Spare:
    """A kernel that is started early, and what for."""

    order: Order
    around: Surroundings
    task: "asyncio.Task[Kernel]"

    def fits(self, order: Order) -> bool:
        """Would a kernel that is started now for that order be the same?"""
        return self.order == order and self.around == look_around(order)


# %% Supply
class Supply:
    """Gets one notebook its kernels, one after the other, and a GPU with them."""

    def __init__(self) -> None:
        self.queue: Queue | None = None
        self.spare: Spare | None = None

    def prepare(self, order: Order) -> None:
        """Start a kernel for later, where that is any use and was not done."""
        if self.spare is None and order.is_slow:
            task = asyncio.create_task(self.start(order))
            self.spare = Spare(order, look_around(order), task)

    async def get(self, order: Order) -> "Kernel":
        """Return a kernel. Raises `KernelError`."""
        if spare := self.spare:
            if spare.fits(order):
                kernel = await spare.task
                if await kernel.is_alive():
                    self.spare = None
                    return kernel
            await self.drop()
        return await self.start(order)

    async def start(self, order: Order) -> "Kernel":
        """Start a kernel, as soon as there is a GPU if it needs one."""
        from litml.warm import open_kernel

        given = order.folder, order.name, order.paths, order.startup, order.warmth
        try:
            extra = await self.claim_gpu(order.gpu)
            kernel = await open_kernel(
                *given, order.text, extra, order.strict, order.root
            )
        except BaseException:
            self.leave()
            raise
        kernel.watch(order.strict, order.root)
        return kernel

    async def claim_gpu(self, memory: int | None) -> dict[str, str]:
        """Wait for so much of a GPU; return what programs are told of it."""
        devices = list_devices() if memory is not None else ()
        if memory is None or not devices:
            return {}
        self.queue = Queue(memory, devices)
        return device_env({}, await wait_for_device(self.queue))

    def leave(self) -> None:
        """Let others have the GPU, if there is one."""
        if self.queue:
            self.queue.leave()

    async def drop(self) -> None:
        """End a kernel that nobody has taken."""
        spare, self.spare = self.spare, None
        if spare:
            spare.task.cancel()
            with suppress(asyncio.CancelledError, LitmlError):
                kernel = await spare.task
                kernel.kill()  # it has done nothing, so it need not take its leave
                await kernel.close()
