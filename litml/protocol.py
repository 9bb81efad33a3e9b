# Exported from nbs/10_protocol.ipynb. Edit either side, then run `litml sync`.
"""A request to a kernel, and what comes back for it."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from litml.channels import Channels, Session
from litml.outcome import LIMIT, OutputArea

__all__ = [
    "Exchange",
    "unpack",
    "TICK",
    "receive",
    "Deadline",
    "processor_time",
]


# ## A conversation
# %% Exchange
@dataclass(slots=True)
class Exchange:
    """A request and what has come back for it; `requests` are ids, the first first.

    It is `broken` when something came that cannot be read.
    """

    requests: list[str]
    area: OutputArea
    reply: dict[str, Any] | None = None
    begun: bool = False
    idle: bool = False
    broken: bool = False

    @property
    def done(self) -> bool:
        """Has everything come that will?"""
        return self.broken or (self.idle and self.reply is not None)

    def take(self, message: dict[str, Any]) -> None:
        """Take in one message of either channel."""
        kind, content = message["header"]["msg_type"], message["content"]
        parent = message["parent_header"].get("msg_id")
        if kind == "update_display_data" or parent not in self.requests:
            if kind == "update_display_data":
                self.area.add(kind, content)
        elif kind == "status":
            self.idle |= content["execution_state"] == "idle"
        elif kind.endswith("_reply"):
            if parent == self.requests[0]:
                self.reply = content
        else:
            self.begun |= kind == "execute_input"
            self.area.add(kind, content)


# ## Messages
# %% unpack
def unpack(session: Session, frames: list[bytes]) -> dict[str, Any]:
    """Return the message in some frames; raises `ValueError` if it cannot be read."""
    parts = session.feed_identities(frames)[1]
    if len(parts) > 4 and len(parts[4]) > 4 * LIMIT:
        header, parent = (session.unpack(part) for part in parts[1:3])
        if header["msg_type"] in ("stream", "display_data", "execute_result"):
            header["msg_type"] = "too_long"
            return {"header": header, "parent_header": parent, "content": {}}
    message: dict[str, Any] = session.deserialize(parts)
    return message


# %% receive
TICK = 0.1  # seconds between two looks at the process


async def receive(channels: Channels, exchange: Exchange) -> bool:
    """Take in some messages; False if none came within a tick."""
    batch = await channels.receive(TICK)
    for frames in batch:
        try:
            exchange.take(unpack(channels.session, frames))
        except (ValueError, TypeError, KeyError):
            exchange.broken = True
    return bool(batch)


# ## Time
# %% Deadline
class Deadline:
    """A time after so many `seconds`, or up to `more` later for a process in need."""

    def __init__(self, seconds: float, more: float, process: int | None) -> None:
        self.process = process
        self.soon = time.monotonic() + seconds
        self.late = self.soon + more
        self.enough = (processor_time(process) or 0.0) + seconds

    @property
    def is_over(self) -> bool:
        """Has it had the time it was given?"""
        if (now := time.monotonic()) < self.soon:
            return False
        used = processor_time(self.process)
        return used is None or used >= self.enough or now >= self.late


def processor_time(process: int | None) -> float | None:
    """Return how long a process has run on processors, in seconds; None if unknown."""
    try:
        text = Path(f"/proc/{process}/stat").read_text()
        user, system = text.rpartition(")")[2].split()[11:13]  # proc_pid_stat(5)
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return None
