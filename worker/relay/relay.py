"""The relay: its jobs, side by side, and the socket where the supervisor asks how they are."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from wsd.worker.backend.redis_messages import RedisClients
from wsd.worker.background.containment import run_repeatedly
from wsd.worker.channels.options import ChannelRules
from wsd.worker.contract.relay_environment import RelayEnv
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
        self._clients = RedisClients(env)
        self._outbox = Outbox(
            env.session_url,
            env.table,
            OutboxTable(env.table, env.max_message_bytes),
            RowReader(env.table, ChannelRules(env.channels), env.max_message_bytes),
            RedisSender(self._clients.open(env.redis_url, None), env.redis_timeout),
        )
        self._jobs: dict[str, Callable[[], Awaitable[None]]] = {"outbox": self._outbox.run}
        if self._clients.sentinels is not None:  # a primary that was replaced must not be published to
            self._jobs["news of the Sentinels"] = self._clients.sentinels.follow

    async def run(self) -> None:
        """Work until SIGTERM or SIGINT. Raises OSError if the socket for the supervisor cannot be made."""
        stopping = asyncio.Event()
        for signum in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
        server = await serve_status(Path(self._env.bind_path), lambda: self._outbox.status)
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
