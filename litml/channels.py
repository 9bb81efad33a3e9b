# Exported from nbs/10_channels.ipynb. Edit either side, then run `litml sync`.
"""Jupyter's messages on their way to a kernel and back, signed and packed by us."""

import asyncio
import hmac
import json
import secrets
import select
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import zmq

__all__ = [
    "DELIMITER",
    "VERSION",
    "Session",
    "CHANNELS",
    "make_connection",
    "address",
    "BATCH",
    "MUCH",
    "LAST_WORDS",
    "Channels",
    "stir",
    "encode",
    "is_readable",
]


# ## A message
# %% Session
DELIMITER = b"<IDS|MSG>"
VERSION = "5.3"  # of the protocol


class Session:
    """Packs messages and unpacks them; `key` is the secret of a connection."""

    def __init__(self, key: bytes) -> None:
        self.name = uuid4().hex
        self.signer = hmac.new(key, digestmod="sha256") if key else None

    def sign(self, parts: Sequence[bytes]) -> bytes:
        """Return the signature of a message's four parts."""
        if self.signer is None:
            return b""
        signer = self.signer.copy()
        for part in parts:
            signer.update(part)
        return signer.hexdigest().encode()

    def pack(self, kind: str, content: Mapping[str, Any]) -> tuple[str, list[bytes]]:
        """Return the id of a new message, and its frames."""
        name = uuid4().hex
        header = {
            **{"msg_id": name, "msg_type": kind, "session": self.name},
            **{"username": "litml", "date": "", "version": VERSION},
        }
        parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
        return name, [DELIMITER, self.sign(parts), *parts]

    def feed_identities(self, frames: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """Return what stands before a message, and its parts from the signature on.

        Raises `ValueError` if there is no message.
        """
        middle = frames.index(DELIMITER)
        return frames[:middle], frames[middle + 1 :]

    def deserialize(self, parts: list[bytes]) -> dict[str, Any]:
        """Return a message. Raises `ValueError` if it cannot be read, or is forged."""
        if len(parts) < 5:
            raise ValueError("a message has a signature and four parts")
        if not hmac.compare_digest(parts[0], self.sign(parts[1:5])):
            raise ValueError("a message is not signed by who knows the key")
        names = ("header", "parent_header", "metadata", "content")
        values = (self.unpack(part) for part in parts[1:5])
        return dict(zip(names, values, strict=True))

    def unpack(self, part: bytes) -> Any:
        """Return what one part says. Raises `ValueError` if it is not JSON."""
        return json.loads(part)


# ## A connection
# %% make_connection
CHANNELS = ("shell", "iopub", "stdin", "hb", "control")


def make_connection(home: Path) -> dict[str, Any]:
    """Return what the connection file of a kernel says whose sockets are in `home`."""
    ports = {f"{name}_port": number for number, name in enumerate(CHANNELS, 1)}
    return {
        **{"transport": "ipc", "ip": str(home / "socket"), **ports},
        **{"key": secrets.token_hex(), "signature_scheme": "hmac-sha256"},
        "kernel_name": "python3",
    }


# %% address
def address(info: Mapping[str, Any], channel: str) -> str:
    """Return where ZeroMQ finds a channel of a kernel."""
    mark = "-" if info["transport"] == "ipc" else ":"
    return f"{info['transport']}://{info['ip']}{mark}{info[f'{channel}_port']}"


# ## Our end of the channels
# %% Channels
BATCH, MUCH = 40, 1_000_000  # messages and bytes taken before others get their turn
LAST_WORDS = 0.05  # seconds in which what a dead kernel has sent arrives


class Channels:
    """Our end of a kernel's channels; `ended` gets readable when the process ends."""

    def __init__(
        self,
        info: Mapping[str, Any],
        ended: int | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
    ) -> None:
        self.info = info
        self.ended = ended
        self.context = context or zmq.Context.instance()
        self.session = Session(encode(info.get("key", "")))
        self.shell = self.connect("shell", zmq.DEALER)
        self.iopub = self.connect("iopub", zmq.SUB)
        self.iopub.subscribe(b"")
        self.control: zmq.Socket[bytes] | None = None

    def connect(self, channel: str, kind: int) -> zmq.Socket[bytes]:
        """Return a socket to one of the kernel's channels."""
        socket = self.context.socket(kind)
        socket.linger = 0
        if public := self.info.get("curve_publickey"):
            keys = (public, public, self.info["curve_secretkey"])
            names = ("curve_serverkey", "curve_publickey", "curve_secretkey")
            for name, key in zip(names, keys, strict=True):
                setattr(socket, name, encode(key))
        socket.connect(address(self.info, channel))
        return socket

    def send(self, kind: str, content: Mapping[str, Any]) -> str:
        """Send a request on the shell channel and return its id."""
        name, frames = self.session.pack(kind, content)
        self.shell.send_multipart(frames)
        return name

    def execute(
        self, code: str, *, silent: bool = False, store_history: bool = True
    ) -> str:
        """Ask the kernel to execute code; if it fails, later requests still count."""
        more = {"silent": silent, "store_history": store_history}
        never = {"user_expressions": {}, "allow_stdin": False, "stop_on_error": False}
        return self.send("execute_request", {"code": code, **more, **never})

    def kernel_info(self) -> str:
        """Ask the kernel what it is."""
        return self.send("kernel_info_request", {})

    def request_shutdown(self) -> None:
        """Ask the kernel to leave."""
        self.control = self.control or self.connect("control", zmq.DEALER)
        frames = self.session.pack("shutdown_request", {"restart": False})[1]
        self.control.send_multipart(frames)

    async def receive(self, seconds: float) -> list[list[bytes]]:
        """Return messages of both channels, as frames; none if none came in time.

        None come, and soon, if the process has ended and said all it had to say.
        """
        end = monotonic() + seconds
        files = [int(socket.fd) for socket in (self.shell, self.iopub)]
        while not (batch := self.take()) and (left := end - monotonic()) > 0:
            await stir(files if self.ended is None else [*files, self.ended], left)
            if self.ended is not None and is_readable(self.ended):
                batch = self.take()
                if not batch:
                    await stir(files, LAST_WORDS)
                    batch = self.take()
                break
        return batch

    async def rest(self, seconds: float) -> None:
        """Wait for the end of the process, whatever it may say meanwhile."""
        if self.ended is None:
            await self.receive(seconds)
        else:
            await stir([self.ended], seconds)

    async def hears(self, seconds: float) -> bool:
        """Wait until something has been published, which is left to be received."""
        end = monotonic() + seconds
        while not self.iopub.poll(0) and (left := end - monotonic()) > 0:
            await stir([int(self.iopub.fd)], left)
        return bool(self.iopub.poll(0))

    def take(self) -> list[list[bytes]]:
        """Return what has come already; of iopub first, as a reply ends the wait."""
        batch: list[list[bytes]] = []
        size = 0
        for socket in (self.iopub, self.shell):
            try:
                while len(batch) < BATCH and size < MUCH:
                    batch.append(socket.recv_multipart(zmq.NOBLOCK))
                    size += sum(map(len, batch[-1]))
            except zmq.Again:
                continue
        return batch

    def close(self) -> None:
        """Close the sockets; a second call does nothing."""
        for socket in (self.shell, self.iopub, self.control):
            if socket is not None:
                socket.close()


# %% stir
async def stir(files: Sequence[int], seconds: float) -> None:
    """Wait until one of the descriptors is readable, or the time is over."""
    loop = asyncio.get_running_loop()
    stirred: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not stirred.done():
            stirred.set_result(None)

    for file in files:
        loop.add_reader(file, wake)
    timer = loop.call_later(seconds, wake)
    try:
        await stirred
    finally:
        timer.cancel()
        for file in files:
            loop.remove_reader(file)


def encode(key: str | bytes) -> bytes:
    """Return a key as bytes; in a file it is text, `jupyter_client` holds bytes."""
    return key if isinstance(key, bytes) else key.encode()


def is_readable(file: int) -> bool:
    """Has a descriptor something to read, or come to its end?"""
    watch = select.poll()
    watch.register(file, select.POLLIN)
    return bool(watch.poll(0))
