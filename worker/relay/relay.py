"""The relay: its jobs, side by side, and the socket where the supervisor asks how they are."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from wsd.worker.archive.archiver import Archiver
from wsd.worker.backend.redis_messages import RedisClients
from wsd.worker.background.containment import run_repeatedly
from wsd.worker.channels.options import ChannelRules
from wsd.worker.contract.relay_environment import RelayEnv
from wsd.worker.contract.relay_status import RelayStatus
from wsd.worker.relay.outbox import Outbox
from wsd.worker.relay.outbox_table import OutboxTable
from wsd.worker.relay.redis_sender import RedisSender
from wsd.worker.relay.rows import RowReader
from wsd.worker.relay.status_server import serve_status


class Relay:
    """The jobs of a relay process."""

    def __init__(self, env: RelayEnv) -> None:
        """Build the jobs. Nothing is connected yet.

        Raises ValueError for a malformed URL of Redis, and for rules of channels that are none.
        Raises OSError for files of TLS that cannot be read.
        """
        self._env = env
        rules = ChannelRules(env.channels)
        self._clients = RedisClients(env)
        self._outbox = Outbox(
            env.session_url,
            env.table,
            OutboxTable(env.table, env.max_message_bytes),
            RowReader(env.table, rules, env.max_message_bytes),
            RedisSender(self._clients.open(env.redis_url, None), env.redis_timeout),
        )
        self._jobs: dict[str, Callable[[], Awaitable[None]]] = {"outbox": self._outbox.run}
        self._archiver: Archiver | None = None
        if rules.archives:
            redis = self._clients.open(env.redis_url, None)
            self._archiver = Archiver(env.session_url, env.archive_table, redis, env.redis_timeout)
            self._jobs["archive"] = self._archiver.run
        if self._clients.sentinels is not None:  # a primary that was replaced must not be published to
            self._jobs["news of the Sentinels"] = self._clients.sentinels.follow

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT. Raises OSError if the socket for the supervisor cannot be made."""
        stopping = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
        server = await serve_status(Path(self._env.bind_path), self._status)
        jobs = [asyncio.create_task(run_repeatedly(job, name), name=name) for name, job in self._jobs.items()]
        try:
            await stopping.wait()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.wait(jobs)
            server.close()
            for client in self._clients.opened:
                await client.aclose()

    def _status(self) -> RelayStatus:
        outbox = self._outbox.status
        if self._archiver is None:
            return outbox
        archive = self._archiver.status
        return replace(
            outbox,
            archive=True,
            archive_active=archive.archive_active,
            archive_problem=archive.archive_problem,
            archive_waiting=archive.archive_waiting,
            archive_oldest_seconds=archive.archive_oldest_seconds,
            archived=archive.archived,
            archive_lost=archive.archive_lost,
        )
