"""The service of a worker: its command, environment and sockets, and the requests of the supervisor to it.

`processes.process` spawns the process.
"""

import asyncio
import http.client
import os
import secrets
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import psutil

from wsd.supervisor.config.settings import Config
from wsd.supervisor.processes.service import Command, LifeSign, Service
from wsd.supervisor.services.nginx_config import HEADER_BUFFERS
from wsd.supervisor.services.worker_settings import settings_for
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import ProcessRecord
from wsd.supervisor.state_dir.sockets import BoundSocket
from wsd.supervisor.unix_http import request
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.heartbeat import Heartbeat
from wsd.worker.contract.http_paths import HEALTH_PATH, METRICS_PATH, OPERATOR_KEY_HEADER, OPERATOR_PREFIX
from wsd.worker.contract.lifecycle import ACCEPT_GRACE_SECONDS
from wsd.worker.contract.variables import variable_names

DRAIN_MARGIN_SECONDS = 10.0 + ACCEPT_GRACE_SECONDS
"""How long a stop may take beyond the drain: for requests under way, and for the shutdown of the application."""

OPERATOR_SECONDS = 5.0
"""How long a worker may take to answer the supervisor."""

ADDED_HEADER_BYTES = 8192
"""Space for the headers that nginx adds to a request."""

WORKER_NAMES = variable_names(WorkerEnv)
"""The environment variables of a worker."""


class WorkerService(Service):
    """The worker of one slot, as the supervisor starts it, watches it and asks it."""

    life_sign = LifeSign.HEARTBEAT
    can_overlap = True

    def __init__(
        self,
        slot: int,
        config: Config,
        state_dir: StateDir,
        *,
        node_id: str,
        here: Path,
        umask: int,
        app_directory: Path,
        redis_url: str,
        fallback_url: str,
        listen: str,
        public_key_digest: str = "",
    ) -> None:
        """Describe the worker of a slot.

        `here` is the directory to start in; its symbolic links are followed anew for each process. The application is
        imported from `app_directory`. `fallback_url` is the node's own Valkey beside another Redis, or "". `listen` is
        the host:port that all workers share, or "" behind nginx.
        """
        self.name = f"worker-{slot}"
        self.slot = slot
        self.configure(config, public_key_digest)
        self._state_dir = state_dir
        self._node_id = node_id
        self._here = here
        self._umask = umask
        self._app_directory = app_directory
        self._redis_url = redis_url
        self._fallback_url = fallback_url
        self._listen = listen
        self._worker_ids: dict[int, str] = {}
        self._environments: dict[int, Mapping[str, str]] = {}  # what each incarnation was started with
        self._sockets: dict[int, BoundSocket] = {}

    def configure(self, config: Config, public_key_digest: str) -> None:
        """Set the configuration of processes that start from now on.

        `public_key_digest` is that of the file security.jwt_public_key_file, which a worker reads only when it starts.
        """
        self._config = config
        self._public_key_digest = public_key_digest
        self.patience = config.cluster.drain_seconds + DRAIN_MARGIN_SECONDS

    def is_outdated(self, incarnation: int) -> bool:
        return self._environments.get(incarnation) != self._environment(incarnation)

    def worker_id(self, incarnation: int) -> str:
        """Return the id of an incarnation.

        It is unique over time, so that heartbeats and sessions of a process are not taken for those of its successor.
        """
        return self._worker_ids.setdefault(incarnation, f"worker-{self.slot}-{secrets.token_hex(2)}")

    def command(self, incarnation: int) -> Command:
        environment = self._environments[incarnation] = self._environment(incarnation)
        environ = {**os.environ, **environment, "PWD": str(self._here)}
        return Command((sys.executable, "-P", "-m", "wsd.worker"), environ, directory=self._here, umask=self._umask)

    def _environment(self, incarnation: int) -> dict[str, str]:
        config = self._config
        nginx = config.nginx
        # Behind nginx, nginx counts the handshakes. The environment must not depend on the number of workers then, or
        # `wsd scale` would make all workers outdated.
        share = config.cluster.workers if self._listen else 1
        handshakes = nginx.handshakes_per_second / share if self._listen else 0.0
        env = WorkerEnv(
            worker_id=self.worker_id(incarnation),
            node_id=self._node_id,
            redis_url=self._redis_url,
            distributed=bool(self._redis_url),
            slot=self.slot,
            bind_path=str(self._state_dir.worker_socket(self.slot, incarnation)),
            public_path=str(self._state_dir.worker_socket(self.slot)),
            listen=self._listen,
            app_directory=str(self._app_directory),
            fallback_url=self._fallback_url,
            max_head_bytes=HEADER_BUFFERS * nginx.max_header_bytes + ADDED_HEADER_BYTES,
            handshakes_per_second=handshakes,
            handshake_burst=nginx.handshake_burst / share,
            operator_key=self._state_dir.operator_key(),
            channels=msgspec.json.encode(config.channels).decode(),
            api_keys=msgspec.json.encode(config.api_keys).decode() if config.api_keys else "",
            jwt_public_key_digest=self._public_key_digest,
            events_path=str(self._state_dir.events),
        )
        return replace(env, **settings_for(WorkerEnv, config)).to_env()

    def adopt(self, record: ProcessRecord) -> bool:
        self._worker_ids[record.incarnation] = record.worker_id
        with suppress(psutil.Error):
            environ = psutil.Process(record.pid).environ()
            self._environments[record.incarnation] = {name: environ[name] for name in WORKER_NAMES if name in environ}
        own = self._state_dir.worker_socket(self.slot, record.incarnation)
        is_promoted = not own.exists()
        path = self._state_dir.worker_socket(self.slot) if is_promoted else own
        if not record.draining:
            self._sockets[record.incarnation] = BoundSocket.at(path)
        return is_promoted

    async def is_ready(self, incarnation: int) -> bool:
        path = self._state_dir.worker_socket(self.slot, incarnation)
        if not path.exists():
            return False
        self._sockets.setdefault(incarnation, BoundSocket.at(path))
        try:
            status, _ = await asyncio.to_thread(request, path, "GET", HEALTH_PATH, 1.0)
        except (OSError, http.client.HTTPException):
            return False
        return status == 200

    def promote(self, incarnation: int) -> None:
        """Rename the socket of an incarnation to the path that nginx knows. It replaces the old one atomically."""
        public = self._state_dir.worker_socket(self.slot)
        self._state_dir.worker_socket(self.slot, incarnation).rename(public)
        self._sockets = {incarnation: BoundSocket.at(public)}

    def has_lost_socket(self, incarnation: int) -> bool:
        bound = self._sockets.get(incarnation)  # None while the process has not bound its socket
        return bound is not None and not bound.is_there

    async def metrics(self, timeout: float) -> str:
        """Return the worker's metrics for Prometheus, or "" when it does not answer in time."""
        path = self._state_dir.worker_socket(self.slot)
        try:
            status, body = await asyncio.to_thread(request, path, "GET", METRICS_PATH, timeout)
        except (OSError, http.client.HTTPException):
            return ""
        return body.decode() if status == 200 else ""

    async def ask(self, method: str, target: str, body: object = None) -> tuple[int, bytes]:
        """Send a request to the worker's `operator_api`. Return the status and the body of the answer.

        Raises OSError or HTTPException.
        """
        path = self._state_dir.worker_socket(self.slot)
        headers = {OPERATOR_KEY_HEADER: self._state_dir.operator_key()}
        return await asyncio.to_thread(
            request, path, method, OPERATOR_PREFIX + target, OPERATOR_SECONDS, body, headers=headers
        )

    async def probe(self, timeout: float) -> Heartbeat | None:
        """Ask the worker for its heartbeat directly, without Redis. None when it does not answer in time."""
        path = self._state_dir.worker_socket(self.slot)
        try:
            _, body = await asyncio.to_thread(request, path, "GET", HEALTH_PATH, timeout)
            return Heartbeat.from_health(body)
        except (OSError, http.client.HTTPException, ValueError):
            return None
