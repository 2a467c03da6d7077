"""The connections of a worker to Redis, and the broker that carries its messages over them."""

from collections.abc import Callable

from wsd.worker.broker.circuit_breaker import BreakerPolicy, CircuitBreaker
from wsd.worker.broker.redis_broker import RedisMessageBroker
from wsd.worker.broker.redis_pubsub import RedisPubSub
from wsd.worker.broker.spool import Spool
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.redis_address import sentinel_address
from wsd.worker.contract.redis_keys import worker_channel
from wsd.worker.contract.relay_environment import RelayEnv
from wsd.worker.contract.sentinels.sentinels import Sentinels
from wsd.worker.redis_client import Redis, open_redis


class RedisClients:
    """Opens clients, and remembers them so that they can be closed.

    `sentinels` are those that the URL of the Redis names, or None.
    """

    def __init__(self, env: WorkerEnv | RelayEnv) -> None:
        """Open nothing yet. Raises ValueError for a malformed URL, OSError for files of TLS that cannot be read."""
        self.opened: list[Redis] = []
        self._connect_timeout = env.redis_connect_timeout
        address = sentinel_address(env.redis_url)
        self.sentinels = (
            Sentinels(
                address,
                username=env.redis_sentinel_username,
                password=env.redis_sentinel_password,
                timeout=env.redis_connect_timeout,
            )
            if address is not None
            else None
        )

    def open(self, url: str, timeout: float | None) -> Redis:
        """Make a client. `timeout`: seconds to wait for an answer, None for no limit. Raises ValueError."""
        client = open_redis(url, connect_timeout=self._connect_timeout, timeout=timeout, sentinels=self.sentinels)
        self.opened.append(client)
        return client


def open_broker(env: WorkerEnv, clients: RedisClients, expected_workers: Callable[[], int]) -> RedisMessageBroker:
    """Make the broker on the Redis of `env`, with the fallback Valkey of this node if there is one.

    `expected_workers`: returns how many workers subscribe to the messages of all.
    """
    return RedisMessageBroker(
        primary=_pubsub(env, clients, "Redis", env.redis_url),
        fallback=_pubsub(env, clients, "the fallback", env.fallback_url, stores=False) if env.fallback_url else None,
        breaker=CircuitBreaker(BreakerPolicy()),
        spool=Spool(env.spool_messages, env.spool_bytes),
        expected_workers=expected_workers,
    )


def _pubsub(env: WorkerEnv, clients: RedisClients, name: str, url: str, *, stores: bool = True) -> RedisPubSub:
    return RedisPubSub(
        name,
        publisher=clients.open(url, None),  # callers limit the time themselves: a limit for each answer costs 4 us
        listener=clients.open(url, None),
        own_channel=worker_channel(env.worker_id),
        timeout=env.redis_timeout / 2,  # a message may try Redis, then the fallback
        stores=stores,
    )
