"""A real Redis broker, and a listener that records what it receives."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from wsd.worker.broker.circuit_breaker import BreakerPolicy, CircuitBreaker
from wsd.worker.broker.history import Entry
from wsd.worker.broker.redis_broker import RedisMessageBroker
from wsd.worker.broker.redis_pubsub import RedisPubSub
from wsd.worker.broker.spool import Spool
from wsd.worker.redis_client import open_redis


class Received:
    """A BrokerListener that keeps what it receives."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, bytes]] = []
        self.entries: list[Entry] = []

    def message_received(self, channel: str, payload: bytes, /) -> None:
        self.messages.append((channel, payload))

    def entry_received(self, channel: str, entry: Entry, /) -> None:
        self.entries.append(entry)

    def subscriptions_restored(self) -> None: ...

    def redis_restored(self) -> None: ...


DEFAULT_POLICY = BreakerPolicy(pause=0.3)


@asynccontextmanager
async def running_broker(
    name: str,
    url: str,
    fallback: str = "",
    *,
    policy: BreakerPolicy = DEFAULT_POLICY,
    spool_messages: int = 10_000,
    workers: Callable[[], int] = lambda: 0,
) -> AsyncIterator[tuple[RedisMessageBroker, Received]]:
    """Run a broker, and record what it receives. `workers` returns the number of workers in the cluster."""
    received = Received()
    clients = []

    def server(url: str, *, stores: bool = True) -> RedisPubSub:
        publisher = open_redis(url, connect_timeout=1, timeout=2)
        listener = open_redis(url, connect_timeout=1, timeout=None)
        clients.extend([publisher, listener])
        return RedisPubSub(url, publisher, listener, f"own-{name}", timeout=1.0, stores=stores)

    broker = RedisMessageBroker(
        server(url),
        server(fallback, stores=False) if fallback else None,
        CircuitBreaker(policy),
        Spool(spool_messages, 1_000_000),
        expected_workers=workers,
    )
    broker.listener = received
    running = asyncio.create_task(broker.run())
    await broker.wait_until_ready()
    try:
        yield broker, received
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        for client in clients:
            await client.aclose()
