"""The connections of the supervisor to Redis. All of them are opened here.

The worker has a `redis_client`, too; the supervisor may import only the contract from there.
"""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from wsd.supervisor.config.settings import RedisConfig
from wsd.worker.contract.host_names import looking_up_names
from wsd.worker.contract.redis_address import sentinel_address
from wsd.worker.contract.sentinels.primary_connection import leading_to_primary
from wsd.worker.contract.sentinels.sentinels import Sentinels


def sentinels_of(settings: RedisConfig, url: str) -> Sentinels | None:
    """Return the Sentinels that a URL names, or None.

    Raises ValueError for a malformed URL, OSError for files of TLS that cannot be read.
    """
    address = sentinel_address(url)
    if address is None:
        return None
    return Sentinels(
        address,
        username=settings.sentinel_username,
        password=settings.sentinel_password,
        timeout=settings.connect_timeout,
    )


def open_redis(url: str, sentinels: Sentinels | None, *, connect_timeout: float, timeout: float) -> Redis:
    """Make a client. Nothing is connected yet, and no command is ever repeated. The timeouts are in seconds.

    `sentinels` are those of the URL, see `sentinels_of`.

    Raises ValueError for a malformed URL.
    """
    address = sentinel_address(url)
    if address is not None:
        url = address.server_url(address.sentinels[0])  # in the place of the primary, which each connection asks for
    redis: Redis = Redis.from_url(
        url, socket_connect_timeout=connect_timeout, socket_timeout=timeout, retry=Retry(NoBackoff(), 0)
    )
    pool = redis.connection_pool
    pool.connection_class = looking_up_names(pool.connection_class)
    if address is not None and sentinels is not None:
        pool.connection_class = leading_to_primary(pool.connection_class, sentinels)
    return redis


async def server_url(settings: RedisConfig, url: str) -> str:
    """Return the URL of the server that a URL leads to now: that of the primary, where it names Sentinels.

    Raises ValueError for a malformed URL, SentinelError, and OSError for files of TLS that cannot be read.
    """
    address, sentinels = sentinel_address(url), sentinels_of(settings, url)
    return url if address is None or sentinels is None else address.server_url(await sentinels.primary())
