"""The record of what a process keeps in memory for its workers, which another process can go on with."""

import msgspec
from msgspec import Struct

from wsd.worker.broker.memory_history import HistorySnapshot
from wsd.worker.channels.receipts import Reader
from wsd.worker.hooks.memory_events import EventsSnapshot
from wsd.worker.sessions.memory_store import SessionsSnapshot


class MemorySnapshot(Struct, frozen=True):
    """Histories, sessions, receipts, and the events that wait for hooks.

    The members of channels are not in it: they come back with their clients.
    """

    histories: dict[str, HistorySnapshot]  # by channel
    sessions: SessionsSnapshot
    receipts: list[tuple[Reader, int]]
    events: EventsSnapshot

    def encode(self) -> bytes:
        """Return the record as bytes. Raises TypeError if the metadata of a session cannot be encoded."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "MemorySnapshot":
        """Return the record in some bytes. Raises msgspec.DecodeError for bytes that are no record of this version."""
        return msgspec.msgpack.decode(data, type=cls)
