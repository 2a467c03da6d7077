"""The first contact with Redis when a cluster starts: what ends the start, and what the cluster does without."""

import logging
from collections.abc import Callable

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.errors import StartError
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError
from wsd.supervisor.monitoring.redis_watch import RedisWatch

logger = logging.getLogger(__name__)


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
            state_dir=cluster.state_dir.root,
            lease_ttl=2 * config.health.heartbeat_timeout,
            clock=cluster.clock,
        )
    except ValueError as exc:
        raise StartError(f"redis.url {shown} is malformed: {exc}") from None
    cluster.redis_watch = watch
    try:
        await watch.greet()
    except RedisUnusableError as exc:
        if exc.wrong_server is not None:
            raise StartError(f"REDIS_URL {shown} {exc.wrong_server}") from None
        if exc.is_auth_error:
            raise StartError(
                f"{shown} refuses us: {exc}; check the user of REDIS_URL, its password and its permissions"
            ) from None
        say(f"Redis {shown} is not reachable ({exc}): starting without it, until it comes back")
        logger.warning("cannot reach %s: %s", shown, exc)
        return
    if watch.other_holder is not None:
        raise StartError(
            f'node id "{cluster.loaded.node_id}" is live on {watch.other_holder} already; '
            "give this one another with --node-id"
        )
    if config.redis.url:
        say(f"{'Redis':<9} {shown}")
