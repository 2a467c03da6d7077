"""A real broker for a test."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from wsd.worker.broker.circuit_breaker import BreakerPolicy, CircuitBreaker
from wsd.worker.broker.redis_broker import RedisMessageBroker
from wsd.worker.broker.redis_pubsub import RedisPubSub
from wsd.worker.broker.spool import Spool
from wsd.worker.redis_client import open_redis

Heard = list[tuple[str, bytes]]

DEFAULT_POLICY = BreakerPolicy(pause=0.3)


@asynccontextmanager
async def running_broker(
    name: str,
    url: str,
    stand_in: str = "",
    *,
    policy: BreakerPolicy = DEFAULT_POLICY,
    spool_messages: int = 10_000,
    workers: Callable[[], int] = lambda: 0,
) -> AsyncIterator[tuple[RedisMessageBroker, Heard]]:
    """A broker, and the list of what it hears. `workers`: how many there are, as its heartbeat would know."""
    heard: Heard = []
    clients = []

    def way(url: str, *, stores: bool = True) -> RedisPubSub:
        publisher = open_redis(url, connect_timeout=1, timeout=2)
        listener = open_redis(url, connect_timeout=1, timeout=None)
        clients.extend([publisher, listener])
        return RedisPubSub(url, publisher, listener, f"own-{name}", timeout=1.0, stores=stores)

    broker = RedisMessageBroker(
        lambda channel, payload: heard.append((channel, payload)),
        way(url),
        way(stand_in, stores=False) if stand_in else None,
        CircuitBreaker(policy),
        Spool(spool_messages, 1_000_000),
        expected_workers=workers,
    )
    running = asyncio.create_task(broker.run())
    await broker.wait_until_ready()
    try:
        yield broker, heard
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        for client in clients:
            await client.aclose()
