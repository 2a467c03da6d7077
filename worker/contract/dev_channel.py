"""The channel between `wsd dev` and a process that it starts: a pair of connected sockets, with messages of bytes.

A process is started before it is known what it is to serve, since it takes most of its time to import wsd.
"""

import asyncio
import json
import socket
import struct
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import NamedTuple

CHANNEL_FD = "WSD_DEV_CHANNEL_FD"
"""The environment variable with the descriptor of the channel."""

_HEADER = struct.Struct("!BQ")


class Kind(IntEnum):
    """The kinds of messages. A process loads, serves once it is told to, and ends by RELEASE or STOP."""

    # to the process
    LOAD = 1  # import the application; the body is a Task, and the listener is sent before it
    SERVE = 2  # serve clients; the body is the STATE of the process before, or nothing
    RELEASE = 3  # send the clients away, answer with STATE, and end
    STOP = 4  # send the clients away and end

    # from the process
    LOADED = 5  # the application is imported
    FAILED = 6  # the application cannot be imported or started; the body is a Failure
    SERVING = 7  # clients are served
    STATE = 8  # what the process had in memory


@dataclass(frozen=True)
class Task:
    """The application that a process is to serve, and its settings."""

    environ: dict[str, str]  # the variables of WorkerEnv
    here: str  # the directory to run in
    workers: int
    sources: list[str]  # the directories of the application's code

    def encode(self) -> bytes:
        """Return the task as the body of a message."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, body: bytes) -> "Task":
        """Read the body of a message."""
        return cls(**json.loads(body))


class Failure(NamedTuple):
    """The reason why an application cannot be imported or started: one line, and a traceback or nothing."""

    reason: str
    traceback: str

    def encode(self) -> bytes:
        """Return the failure as the body of a message."""
        return json.dumps(self).encode()

    @classmethod
    def decode(cls, body: bytes) -> "Failure":
        """Read the body of a message."""
        return cls(*json.loads(body))


def packed(kind: Kind, body: bytes = b"") -> bytes:
    """Return a message as it is sent."""
    return _HEADER.pack(kind, len(body)) + body


async def receive(reader: asyncio.StreamReader) -> tuple[Kind, bytes] | None:
    """Return the next message, or None at the end of the channel."""
    try:
        kind, length = _HEADER.unpack(await reader.readexactly(_HEADER.size))
        return Kind(kind), await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return None


def send_listener(channel: socket.socket, listener: socket.socket) -> None:
    """Send the socket that clients connect to. Raises OSError."""
    socket.send_fds(channel, [b"\0"], [listener.fileno()])


def receive_task(channel: socket.socket) -> tuple[socket.socket, Task] | None:
    """Wait for the listener and the task, before the event loop runs. Return None at the end of the channel."""
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    if not descriptors:
        return None
    _, length = _HEADER.unpack(_read(channel, _HEADER.size))
    listener = socket.socket(fileno=descriptors[0])
    listener.set_inheritable(False)
    return listener, Task.decode(_read(channel, length))


def _read(channel: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        part = channel.recv(length - len(data))
        if not part:
            raise EOFError("the channel has ended within a message")
        data += part
    return data
