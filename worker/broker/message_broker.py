"""How messages reach the other workers: the interface that all brokers have."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from wsd.worker.broker.circuit_breaker import BreakerState
from wsd.worker.broker.history import AppendResult, Entry, HistoryQuery, Page, Retention
from wsd.worker.errors import NotStoredError
from wsd.worker.wire.position import Position

Receive = Callable[[str, bytes], None]
"""Called with channel and payload for every message heard; must not block."""

OnEntry = Callable[[str, Entry], None]
"""Called with channel and entry; must not block."""

UNNUMBERED = b"- - 0 "
"""What a message begins with that is published by something that is no broker (a script, say)."""


Told = Callable[[bool], None]
"""Called with whether a message went to all workers; otherwise those out of reach get it later, if ever."""

HISTORY_UNAVAILABLE = "the history cannot be read now: ask again later"
"""What a client is told when Redis does not answer; Redis' own words are for the log."""


OnAppended = Callable[[AppendResult | NotStoredError | None], None]
"""Called with what became of an entry: None when it could not be stored yet."""


T = TypeVar("T")


def resolve_into(answer: "asyncio.Future[T]") -> Callable[[T | Exception], None]:
    """What to call with an outcome, for one who waits instead; if he still does."""

    def told(outcome: T | Exception) -> None:
        if answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    return told


class Mode(StrEnum):
    """How far a message gets now."""

    MEMORY = "memory"  # this worker is all there is
    DISTRIBUTED = "distributed"  # to all workers
    FALLBACK = "stand-in"  # to this node's workers now, to the others once Redis is back
    LOCAL = "local"  # to this worker now, to the others once Redis is back


@dataclass(frozen=True)
class BrokerHealth:
    mode: Mode
    breaker: BreakerState = BreakerState.CLOSED
    reason: str = ""  # why messages do not cross workers
    deaf: bool = False  # connected, but hears nothing, not even itself: only a new process may help


@dataclass(frozen=True)
class BrokerStatistics:
    """Counters start at 0."""

    channels: int = 0  # subscribed now
    published: int = 0
    heard: int = 0
    duplicates: int = 0  # heard again, not delivered again
    reconnects: int = 0  # of the listening connection, the first connection included
    spooled: int = 0  # waiting for Redis now
    spool_bytes: int = 0
    dropped: int = 0  # could never be sent, refused ones included
    refused: int = 0  # Redis was there, and did not take them
    breaker_opened: int = 0
    hearing_failures: int = 0


class MessageBroker(ABC):
    """Publish and subscribe between workers.

    Promise: a payload published to a channel reaches `receive` of every healthy broker subscribed to it,
    the publisher's own included, at most once, and in the order in which one publisher sent them.

    What is appended to a channel's history comes to `on_entry` instead: with its position, in the order of offsets, and
    with holes where something was lost on the way, which `read` fills.
    """

    def __init__(self, receive: Receive) -> None:
        self.receive = receive
        self.on_entry: OnEntry = lambda channel, entry: None
        self.on_return: Callable[[], None] = lambda: None  # called whenever messages cross workers again
        self.on_hearing: Callable[[], None] = lambda: None  # called when it hears again, and may have missed something

    @abstractmethod
    async def run(self) -> None:
        """Hear messages until cancelled, connecting and reconnecting as needed."""

    @abstractmethod
    async def wait_until_ready(self) -> None:
        """Wait until `run` hears, or has seen that it cannot for now: before that, messages would be missed."""

    @abstractmethod
    async def subscribe(self, *channels: str) -> None:
        """From its return on, what is published to the channels is heard; without a server, once it is back."""

    @abstractmethod
    async def unsubscribe(self, channel: str) -> None: ...

    @abstractmethod
    def publish_soon(self, channel: str, payload: bytes, told: Told) -> None:
        """Send; `told` may be called before it returns. Messages keep the order of the calls."""

    async def publish(self, channel: str, payload: bytes) -> bool:
        """`publish_soon`, and wait for what `told` is told."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.publish_soon(channel, payload, resolve_into(answer))
        return await answer

    @abstractmethod
    def append_soon(
        self,
        channel: str,
        payload: bytes,
        keep: Retention,
        told: OnAppended,
        on_stored: Callable[[Position], None] | None = None,
    ) -> None:
        """Store a message in the channel's history and send it, in one step.

        `told` gets None when it could not be stored yet: who can be reached has it, without a position, and once it is
        stored, everybody has it with one; then `on_stored` is called. It gets a NotStoredError when nobody has the
        message, nor will.
        """

    async def append(
        self, channel: str, payload: bytes, keep: Retention, on_stored: Callable[[Position], None] | None = None
    ) -> AppendResult | None:
        """`append_soon`, and wait for what `told` is told. Raises NotStoredError."""
        answer: asyncio.Future[AppendResult | None] = asyncio.get_running_loop().create_future()
        self.append_soon(channel, payload, keep, resolve_into(answer), on_stored)
        return await answer

    @abstractmethod
    async def read(self, wanted: Sequence[HistoryQuery]) -> list[Page]:
        """Read parts of histories, all in one round trip. Raises one of LOST."""

    @abstractmethod
    async def renew_epoch(self, channel: str, epoch: str) -> None:
        """The history lost something that had been sent: end this epoch. Raises one of LOST."""

    def suspect(self, reason: str) -> None:  # noqa: B027 - for who depends on no server
        """Somebody else found that the server does not answer."""

    @property
    @abstractmethod
    def health(self) -> BrokerHealth: ...

    @property
    @abstractmethod
    def statistics(self) -> BrokerStatistics: ...

    @property
    def healthy(self) -> bool:
        """Whether a message reaches all whom it should now."""
        return self.health.mode in (Mode.MEMORY, Mode.DISTRIBUTED)
