# Exported from nbs/10_protocol.ipynb. Edit either side, then run `litml sync`.
"""A request to a kernel, and what comes back for it."""

from dataclasses import dataclass
from typing import Any

from litml.channels import Channels, Session
from litml.outcome import LIMIT, OutputArea

__all__ = ["Exchange", "unpack", "TICK", "receive"]


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
