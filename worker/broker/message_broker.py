"""The interface of all brokers: how messages reach the other workers."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from wsd.worker.broker.circuit_breaker import BreakerState
from wsd.worker.broker.history import AppendResult, Entry, HistoryQuery, Page, Retention
from wsd.worker.errors import NotStoredError
from wsd.worker.wire.position import Position

OnPublished = Callable[[bool], None]
"""Called with whether a message went to all workers. Otherwise the workers out of reach get it later, if ever."""

OnAppended = Callable[[AppendResult | NotStoredError | None], None]
"""Called with the outcome of `MessageBroker.append_soon`."""

OnStored = Callable[[Position], None]
"""Called with the position of a message that was spooled, once Redis has stored it."""

HISTORY_UNAVAILABLE = "the history cannot be read now: ask again later"
"""The answer to a client while Redis is away. The words of Redis itself are for the log."""

T = TypeVar("T")


def resolve_into(answer: "asyncio.Future[T]") -> Callable[[T | Exception], None]:
    """Return a callback that sets the result of a future, or its exception, unless the future is done already."""

    def resolve(outcome: T | Exception) -> None:
        if answer.done():
            return
        if isinstance(outcome, Exception):
            answer.set_exception(outcome)
        else:
            answer.set_result(outcome)

    return resolve


class Mode(StrEnum):
    """The reach of a message now."""

    MEMORY = "memory"  # to this worker, which is the only one
    DISTRIBUTED = "distributed"  # to all workers
    FALLBACK = "stand-in"  # to this node's workers now, to the others once Redis is back
    LOCAL = "local"  # to this worker now, to the others once Redis is back


@dataclass(frozen=True)
class BrokerHealth:
    """The state of a broker, as /health shows it."""

    mode: Mode
    breaker: BreakerState = BreakerState.CLOSED
    reason: str = ""  # why messages do not cross workers
    deaf: bool = False  # messages can be published and are not received, not even our own: only a new process may help


@dataclass(frozen=True)
class BrokerStatistics:
    """Counts of a broker. Counters start at 0."""

    channels: int = 0
    """Channels that are subscribed now."""

    published: int = 0
    """Messages published to other workers."""

    heard: int = 0
    """Messages received."""

    duplicates: int = 0
    """Messages received again, and not delivered again."""

    reconnects: int = 0
    """Listening connections made to Redis, the first included."""

    spooled: int = 0
    """Messages that wait for Redis now."""

    spool_bytes: int = 0
    """Bytes of the messages that wait for Redis now."""

    dropped: int = 0
    """Messages that could never be sent, rejected ones included."""

    refused: int = 0
    """Messages that Redis rejected."""

    breaker_opened: int = 0
    """Times that the circuit breaker opened."""

    hearing_failures: int = 0
    """Probes to its own channel that were not received."""


class BrokerListener(Protocol):
    """The object that a broker reports to. Its methods must not block."""

    def message_received(self, channel: str, payload: bytes, /) -> None:
        """Handle a message of a channel without a history."""

    def entry_received(self, channel: str, entry: Entry, /) -> None:
        """Handle a message of a channel with a history."""

    def subscriptions_restored(self) -> None:
        """Handle a new connection to Redis. Messages may have been missed: compare positions."""

    def redis_restored(self) -> None:
        """Handle that Redis is back and messages cross workers again. Redis may have lost data: write it again."""


class MessageBroker(ABC):
    """Publish and subscribe between workers, and a history for each channel that is to have one.

    Promise: a payload that is published to a channel reaches `message_received` of every healthy broker that is
    subscribed to the channel, the publisher's own included, at most once, and in the order in which one publisher sent
    them.

    A payload that is appended to a channel's history reaches `entry_received` instead: with its position, in the order
    of offsets, and with holes where something was lost on the way. `read` fills the holes.
    """

    listener: BrokerListener
    """The object that messages are reported to. It must be set before a channel is subscribed."""

    @abstractmethod
    async def run(self) -> None:
        """Receive messages until cancelled, connecting and reconnecting as needed."""

    @abstractmethod
    async def wait_until_ready(self) -> None:
        """Wait until `run` receives messages, or has seen that it cannot for now.

        Messages that are published before that are missed.
        """

    @abstractmethod
    async def subscribe(self, *channels: str) -> None:
        """Subscribe to channels: messages that are published after the return are received.

        While the server is away, this returns at once, and the channels are subscribed when it is back.
        """

    @abstractmethod
    async def unsubscribe(self, channel: str) -> None: ...

    @abstractmethod
    def publish_soon(self, channel: str, payload: bytes, on_result: OnPublished) -> None:
        """Publish a message after those of earlier calls. Does not block.

        `on_result` is called exactly once, possibly before this returns.
        """

    async def publish(self, channel: str, payload: bytes) -> bool:
        """Publish a message, and return whether it went to all workers."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.publish_soon(channel, payload, resolve_into(answer))
        return await answer

    @abstractmethod
    def append_soon(
        self,
        channel: str,
        payload: bytes,
        retention: Retention,
        on_result: OnAppended,
        on_stored: OnStored | None = None,
    ) -> None:
        """Append a message to the channel's history and publish it, atomically. Does not block.

        `on_result` is called exactly once, possibly before this returns, with

        - an AppendResult: the message is stored, and every subscriber will receive it with its position;
        - None: Redis is away. The members within reach (on this node, or on this worker) have received the message
          without a position. It waits in the spool. Once Redis has stored it, every subscriber receives it with its
          position, and `on_stored` is called with that;
        - a NotStoredError: Redis rejected the message. Nobody received it, and it is not sent again.
        """

    async def append(
        self, channel: str, payload: bytes, retention: Retention, on_stored: OnStored | None = None
    ) -> AppendResult | None:
        """Append a message as `append_soon` does, and return the result.

        Raises NotStoredError.
        """
        answer: asyncio.Future[AppendResult | None] = asyncio.get_running_loop().create_future()
        self.append_soon(channel, payload, retention, resolve_into(answer), on_stored)
        return await answer

    @abstractmethod
    async def read(self, queries: Sequence[HistoryQuery]) -> list[Page]:
        """Read a page of a history for each query, all in one round trip.

        Raises RedisUnavailableError.
        """

    @abstractmethod
    async def renew_epoch(self, channel: str, epoch: str) -> None:
        """End an epoch of a channel, because its history lost something that had been sent.

        Raises RedisUnavailableError.
        """

    @abstractmethod
    async def delete_history(self, channel: str, up_to: int | None = None) -> None:
        """Delete the messages of a channel, or those up to an offset. Its epoch and its offsets go on.

        Raises RedisUnavailableError.
        """

    def suspect(self, reason: str) -> None:  # noqa: B027 - a broker without a server has nothing to suspect
        """Note that another part of the worker found that the server does not answer."""

    def server_replaced(self, reason: str) -> None:  # noqa: B027 - see above
        """Note that another server has taken the place of the one in use, and may lack what that took last."""

    @property
    @abstractmethod
    def health(self) -> BrokerHealth: ...

    @property
    @abstractmethod
    def statistics(self) -> BrokerStatistics: ...

    @property
    def healthy(self) -> bool:
        """True while a message reaches all workers that it should reach."""
        return self.health.mode in (Mode.MEMORY, Mode.DISTRIBUTED)
