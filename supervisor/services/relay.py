"""The service of the relay, which publishes the outbox of PostgreSQL: its command, its environment and its status."""

import asyncio
import http.client
import importlib.util
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import msgspec
import psutil

from wsd.supervisor.config.settings import Config
from wsd.supervisor.errors import ConfigError
from wsd.supervisor.processes.service import Command, Service
from wsd.supervisor.services.worker_settings import settings_for
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import ProcessRecord
from wsd.supervisor.state_dir.sockets import BoundSocket
from wsd.supervisor.unix_http import request
from wsd.worker.contract.relay_environment import RELAY_NAMES, RelayEnv
from wsd.worker.contract.relay_status import STATUS_PATH, RelayStatus


def check_asyncpg(config: Config) -> None:
    """Check that asyncpg is installed where the settings name a PostgreSQL. Raises ConfigError."""
    if config.postgres.url and importlib.util.find_spec("asyncpg") is None:
        raise ConfigError('postgres.url needs asyncpg, which is not installed: pip install "wsd-cluster[postgres]"')


class RelayService(Service):
    """The relay of a node, as the supervisor starts it and asks it.

    `status` is what the relay said last, None before.
    """

    name = "relay"
    patience = 5.0
    can_overlap = True  # the new one stands by until the old one has ended

    def __init__(self, config: Config, state_dir: StateDir, redis_url: str) -> None:
        self.status: RelayStatus | None = None
        self._config = config
        self._state_dir = state_dir
        self._redis_url = redis_url
        self._environments: dict[int, Mapping[str, str]] = {}  # what each incarnation was started with
        self._sockets: dict[int, BoundSocket] = {}

    def configure(self, config: Config) -> None:
        """Set the configuration of processes that start from now on."""
        self._config = config

    def is_outdated(self, incarnation: int) -> bool:
        return self._environments.get(incarnation) != self._environment(incarnation)

    def command(self, incarnation: int) -> Command:
        environment = self._environments[incarnation] = self._environment(incarnation)
        return Command((sys.executable, "-P", "-m", "wsd.worker.relay"), {**os.environ, **environment})

    def _environment(self, incarnation: int) -> dict[str, str]:
        return environment(
            self._config,
            redis_url=self._redis_url,
            bind_path=str(self._state_dir.relay_socket(incarnation)),
            events_path=str(self._state_dir.events),
        )

    def adopt(self, record: ProcessRecord) -> bool:
        with suppress(psutil.Error):
            environ = psutil.Process(record.pid).environ()
            self._environments[record.incarnation] = {name: environ[name] for name in RELAY_NAMES if name in environ}
        own = self._state_dir.relay_socket(record.incarnation)
        is_promoted = not own.exists()
        if not record.draining:
            self._sockets[record.incarnation] = BoundSocket.at(self._state_dir.relay_socket() if is_promoted else own)
        return is_promoted

    async def is_ready(self, incarnation: int) -> bool:
        return await self._ask(incarnation, 1.0) is not None

    async def answers(self, timeout: float) -> bool:
        """Ask the relay for its status, and tell whether it answers. Its silence about PostgreSQL is no failure."""
        status = await self._ask(None, timeout)
        if status is not None:
            self.status = status
        return status is not None

    def promote(self, incarnation: int) -> None:
        public = self._state_dir.relay_socket()
        self._state_dir.relay_socket(incarnation).rename(public)
        self._sockets = {incarnation: BoundSocket.at(public)}

    def has_lost_socket(self, incarnation: int) -> bool:
        bound = self._sockets.get(incarnation)
        return bound is not None and not bound.is_there

    async def _ask(self, incarnation: int | None, timeout: float) -> RelayStatus | None:
        path = self._state_dir.relay_socket(incarnation)
        try:
            _, body = await asyncio.to_thread(request, path, "GET", STATUS_PATH, timeout)
            return RelayStatus.from_json(body)
        except (OSError, http.client.HTTPException, ValueError):
            return None


def environment(config: Config, *, redis_url: str, bind_path: str = "", events_path: str = "") -> dict[str, str]:
    """Return the environment variables of a relay with these settings."""
    env = RelayEnv(
        bind_path=bind_path,
        events_path=events_path,
        redis_url=redis_url,
        channels=msgspec.json.encode(config.channels).decode(),
    )
    return replace(env, **settings_for(RelayEnv, config)).to_env()
