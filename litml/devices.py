# Exported from nbs/10e_devices.ipynb. Edit either side, then run `litml sync`.
"""Let notebooks that need a GPU take turns, one a device unless they say how much
memory they take.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from litml.files import try_lock
from litml.notebook import LitmlError

__all__ = [
    "Device",
    "parse_devices",
    "list_devices",
    "UNITS",
    "SIZE",
    "parse_memory",
    "Ticket",
    "choose_device",
    "Queue",
    "default_folder",
    "wait_for_device",
    "device_env",
]


# ## Which devices there are
# %% Device
@dataclass(frozen=True, slots=True)
class Device:
    """A GPU: how `CUDA_VISIBLE_DEVICES` calls it, and its memory in bytes."""

    name: str
    memory: int


def parse_devices(listing: str, visible: str | None = None) -> tuple[Device, ...]:
    """Return the devices in a listing of `index, uuid, memory in MiB` lines.

    `visible` is the value of `CUDA_VISIBLE_DEVICES`; its order is kept. As in CUDA,
    a name that does not exist hides all that come after it.
    """
    rows = [re.split(r",\s*", line.strip()) for line in listing.splitlines()]
    memories = {row[0]: int(row[2]) << 20 for row in rows if len(row) == 3}
    uuids = {row[1]: int(row[2]) << 20 for row in rows if len(row) == 3}
    if visible is None:
        return tuple(Device(name, memory) for name, memory in memories.items())
    found = []
    for name in filter(None, re.split(r"\s*,\s*", visible.strip())):
        match = [uuids[full] for full in uuids if full.startswith(name)]
        memory = memories.get(name, match[0] if len(match) == 1 else None)
        if memory is None:
            break
        found.append(Device(name, memory))
    return tuple(found)


# %% list_devices
@cache
def list_devices() -> tuple[Device, ...]:
    """Return the NVIDIA devices that programs started by this process may use."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return ()
    query = [
        tool,
        "--query-gpu=index,uuid,memory.total",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    listing = done.stdout if done.returncode == 0 else ""
    return parse_devices(listing, os.environ.get("CUDA_VISIBLE_DEVICES"))


# ## How much of it
# %% parse_memory
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)


def parse_memory(text: str) -> int:
    """Return a size such as `6 GB` or `512 MiB` in bytes; raises `LitmlError`."""
    match = SIZE.fullmatch(text.strip())
    if not match:
        hint = "write a number and a unit, such as `6 GB`"
        raise LitmlError(f"not a size of memory: `{text}`", hint=hint)
    number, unit, binary = match.groups()
    power = " kmgt".index(unit.lower() or " ")
    factor = 1024**power if binary else UNITS[unit.lower()]
    return int(float(number) * factor)


# ## The queue
# %% Ticket
@dataclass(frozen=True, slots=True)
class Ticket:
    """A wish for `memory` bytes of a device, 0 for all of it.

    `device` is the one it was given, empty while it waits.
    """

    number: int
    memory: int = 0
    device: str = ""


def choose_device(
    ticket: Ticket, others: Sequence[Ticket], devices: Sequence[Device]
) -> str:
    """Return the device whose turn it is for a ticket, or "" if it has to wait."""
    if any(not one.device and one.number < ticket.number for one in others):
        return ""
    for device in devices:
        here = [one.memory for one in others if one.device == device.name]
        if not here:
            return device.name
        full = 0 in here or not ticket.memory
        if not full and sum(here) + ticket.memory <= device.memory:
            return device.name
    return ""


# %% Queue
class Queue:
    """A place in the queue for one of `devices`; `folder` holds the tickets.

    Use it as a context manager that is left when the device is free again.
    """

    def __init__(
        self, memory: int, devices: Sequence[Device], folder: Path | None = None
    ) -> None:
        self.devices = devices
        self.folder = folder or default_folder()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.ticket = Ticket(time.time_ns(), memory)
        self.path = self.folder / f"{self.ticket.number}-{os.getpid()}-{id(self)}"
        unlocked = self.folder / f"new {self.path.name}"  # which nobody looks at
        self.file = unlocked.open("w", encoding="utf-8")
        try_lock(self.file)
        unlocked.rename(self.path)

    def __enter__(self) -> "Queue":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def step_up(self) -> str:
        """Return the device if it is our turn, else ""."""
        with (self.folder / "lock").open("a") as gate:
            if not self.ticket.device and try_lock(gate):
                device = choose_device(self.ticket, self.others(), self.devices)
                number, memory = self.ticket.number, self.ticket.memory
                self.ticket = Ticket(number, memory, device)
                self.file.seek(0)
                self.file.write(json.dumps([number, memory, device]))
                self.file.flush()
        return self.ticket.device

    def others(self) -> list[Ticket]:
        """Return the tickets of those who are alive; remove the others."""
        found = []
        for path in self.folder.glob("[0-9]*-*-*"):
            if path == self.path:
                continue
            with suppress(OSError), path.open("r+", encoding="utf-8") as file:
                if try_lock(file):
                    path.unlink()
                    continue
                text = file.read()
                number = int(path.name.partition("-")[0])
                found.append(Ticket(*json.loads(text)) if text else Ticket(number))
        return found

    def leave(self) -> None:
        """Give the device back, or stop waiting."""
        with suppress(OSError):
            self.path.unlink()
        self.file.close()


def default_folder() -> Path:
    """Return the folder of the queue of this user's programs on this machine."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    return Path(tempfile.gettempdir()) / f"litml-gpu-{user}"


# %% wait_for_device
async def wait_for_device(queue: Queue, pause: float = 0.2) -> str:
    """Wait until it is our turn and return the device."""
    while not (device := queue.step_up()):
        await asyncio.sleep(pause)
    return device


def device_env(base: Mapping[str, str], device: str) -> dict[str, str]:
    """Return an environment in which programs see that device only."""
    return {**base, "CUDA_VISIBLE_DEVICES": device}
