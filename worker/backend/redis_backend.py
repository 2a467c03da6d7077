"""The backend of a worker in a cluster: everything in Redis."""

import time
from typing import TYPE_CHECKING

from wsd.worker.backend.backend import Backend
from wsd.worker.backend.redis_messages import RedisClients, open_broker
from wsd.worker.backend.roster import Roster
from wsd.worker.channels.options import ChannelRules
from wsd.worker.channels.presence import RedisPresence
from wsd.worker.channels.receipts import Receipts
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.hooks.redis_events import RedisEventLog
from wsd.worker.sessions.ended_connections import EndedConnections
from wsd.worker.sessions.redis_store import RedisSessionStore
from wsd.worker.sessions.user_connections import UserConnections

if TYPE_CHECKING:  # it imports asyncpg, which only an archive needs
    from wsd.worker.archive.reader import ArchiveReader


def redis_backend(env: WorkerEnv, roster: Roster) -> Backend:
    """Make a backend on the Redis of `env`. Nothing is connected yet. `roster`: the workers that live, as known here.

    Raises ValueError for a malformed URL.
    """
    clients = RedisClients(env)
    commands = clients.open(env.redis_url, env.redis_timeout)
    user_connections = None
    if env.max_connections_per_user:
        user_connections = UserConnections(commands, env.worker_id, lambda: roster.live)
    events = RedisEventLog(commands, env.session_ttl, env.webhook_max_waiting)
    return Backend(
        broker=open_broker(env, clients, expected_workers=lambda: len(roster.live)),
        sessions=RedisSessionStore(
            commands, env.worker_id, env.session_ttl, judges=lambda: roster.judges(time.monotonic()), events=events
        ),
        presence=RedisPresence(commands, env.worker_id),
        receipts=Receipts(commands),
        ended_connections=EndedConnections(commands, env.trace_ttl),
        events=events,
        user_connections=user_connections,
        heartbeat_redis=clients.open(env.redis_url, env.heartbeat_interval),
        clients=clients.opened,
        archive=_archive(env),
        sentinels=clients.sentinels,
    )


def _archive(env: WorkerEnv) -> "ArchiveReader | None":
    """Return the archive, if any channel has one. Raises ValueError for rules of channels that are none."""
    if not env.postgres_url or not ChannelRules(env.channels).archives:
        return None
    from wsd.worker.archive.reader import ArchiveReader  # noqa: PLC0415 - asyncpg is optional

    return ArchiveReader(env.postgres_url, env.archive_table)
