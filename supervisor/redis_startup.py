"""The first contact with Redis when a cluster starts: what ends the start, and what the cluster does without."""

import asyncio
import logging
from collections.abc import Callable

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.errors import StartError
from wsd.supervisor.monitoring.redis_client import sentinels_of
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError
from wsd.supervisor.monitoring.redis_watch import RedisWatch
from wsd.worker.contract.redis_address import shown as place

logger = logging.getLogger(__name__)

LEASE_LOOK_SECONDS = 0.25


async def connect_redis(cluster: Cluster, say: Callable[[str], None]) -> None:
    """Begin to watch the Redis that the workers share, and take the lease of this node's id.

    A Redis that cannot be reached is no error: the workers do without it until it comes back.

    Raises StartError where waiting would not help: for a malformed URL, a server that cannot serve a cluster, a wrong
    password, or a node id that another supervisor holds.
    """
    config, shown = cluster.config, redacted(cluster.redis_url)
    try:
        watch = RedisWatch(
            cluster.redis_url,
            connect_timeout=config.redis.connect_timeout,
            timeout=config.redis.timeout,
            node_id=cluster.loaded.node_id,
            identity=cluster.identity,
            describe=cluster.describe,
            lease_ttl=2 * config.health.heartbeat_timeout,
            clock=cluster.clock,
            sentinels=sentinels_of(config.redis, cluster.redis_url),
        )
    except ValueError as exc:
        raise StartError(f"redis.url {shown} is malformed: {exc}") from None
    except OSError as exc:
        raise StartError(f"redis.url {shown} names files of TLS that cannot be read: {exc}") from None
    cluster.redis_watch = watch
    try:
        await watch.greet()
    except RedisUnusableError as exc:
        if exc.wrong_server is not None:
            raise StartError(f"REDIS_URL {shown} {exc.wrong_server}") from None
        if exc.is_auth_error and watch.sentinels is not None and watch.sentinels.current is None:
            raise StartError(
                f"{exc}; check redis.sentinel_username and redis.sentinel_password, "
                "which are those of the Sentinels, and not of REDIS_URL"
            ) from None
        if exc.is_auth_error:
            raise StartError(
                f"{shown} refuses us: {exc}; check the user of REDIS_URL, its password and its permissions"
            ) from None
        say(f"Redis {shown} is not reachable ({exc}): starting without it, until it comes back")
        logger.warning("cannot reach %s: %s", shown, exc)
        return
    if watch.other_holder is not None:
        await _wait_for_lease(cluster, watch, say)
    if watch.other_holder is not None:
        raise StartError(
            f'node id "{cluster.loaded.node_id}" is live on {watch.other_holder} already; '
            "give this one another with --node-id"
        )
    if config.redis.url:
        sentinels = watch.sentinels
        primary = f", primary {place(sentinels.current)}" if sentinels is not None and sentinels.current else ""
        say(f"{'Redis':<9} {shown}{primary}")


async def _wait_for_lease(cluster: Cluster, watch: RedisWatch, say: Callable[[str], None]) -> None:
    """Wait until the lease of the node id ends, unless its holder renews it.

    A pod that was moved to another machine has the name of its predecessor, whose lease may still be there when the
    predecessor was killed.
    """
    try:
        left = await watch.lease_left()
        held = f'node id "{cluster.loaded.node_id}" is held by {watch.other_holder}'
        say(f"{held}: waiting up to {left:.0f} s for its lease to end")
        while watch.other_holder is not None and not cluster.is_ending:
            await asyncio.sleep(LEASE_LOOK_SECONDS)
            before, left = left, await watch.lease_left()
            if left > before:
                return  # it lives, and has just renewed the lease
            await watch.take_lease()
    except RedisUnusableError as exc:
        logger.warning("cannot wait for the lease of the node id: %s", exc)
