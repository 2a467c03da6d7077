"""The events that wait for one reader, of whatever kind the log is."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from wsd.worker.hooks.records import Event

ReaderName = Literal["functions", "webhooks"]
"""Each reader has events of its own, so that a receiver of webhooks that is down holds up no function."""

READERS: tuple[ReaderName, ...] = ("functions", "webhooks")


class Wanted(NamedTuple):
    """The types of events that each reader wants."""

    functions: Collection[str] = ()
    webhooks: Collection[str] = ()

    def __bool__(self) -> bool:
        return bool(self.functions or self.webhooks)


class Entry(NamedTuple):
    """An event in a queue."""

    entry_id: str
    event: Event


@dataclass(frozen=True)
class Waiting:
    """The state of a queue: how many events wait in it, and for how long."""

    count: int = 0
    oldest_at: float | None = None
    """The time of the oldest event, in seconds since the epoch."""

    dropped: int = 0
    """How many events were dropped so far, because too many waited."""

    def age(self, now: float) -> float:
        """Return for how many seconds the oldest event has waited."""
        return max(0.0, now - self.oldest_at) if self.oldest_at is not None else 0.0


class EventQueue(ABC):
    """The events that wait for one reader, in their order. One worker at a time may read them: the one with the lease.

    An event stays in the queue until it is removed. A worker that dies leaves its events to the next one, which handles
    an event again that was handled and not removed.

    Every method raises RedisUnavailableError where the queue is in a Redis that does not answer.
    """

    @abstractmethod
    async def take(self) -> bool:
        """Take the lease. Return False if another worker has it."""

    @abstractmethod
    async def renew(self) -> bool:
        """Keep the lease. Return False if it is lost."""

    @abstractmethod
    async def release(self) -> None:
        """Give up the lease."""

    @abstractmethod
    async def read(self, limit: int) -> list[Entry]:
        """Return the oldest events, `limit` at most."""

    @abstractmethod
    async def remove(self, entries: Sequence[Entry]) -> None:
        """Remove events that were handled."""

    @abstractmethod
    async def waiting(self) -> Waiting: ...
