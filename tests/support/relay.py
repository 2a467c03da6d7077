"""Relays of an outbox in a PostgreSQL, run as the supervisor runs them."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from redis import Redis

from tests.support.waiting import until
from wsd.supervisor.new_files import outbox_sql
from wsd.supervisor.unix_http import request
from wsd.worker.broker.message_format import parse_message
from wsd.worker.contract.redis_keys import history_key
from wsd.worker.contract.relay_environment import RelayEnv
from wsd.worker.contract.relay_status import STATUS_PATH, RelayStatus

SQL = outbox_sql("wsd_outbox")


class Relay:
    """A process that publishes. `log` is what it has written."""

    def __init__(self, directory: Path, name: str, env: RelayEnv) -> None:
        self._socket = directory / f"{name}.sock"
        self._log = directory / f"{name}.log"
        self._environ = {**os.environ, **env.to_env(), "WSD_RELAY_BIND_PATH": str(self._socket)}
        self.process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "wsd.worker.relay"], env=self._environ, stdout=log, stderr=log
            )

    def start_again(self) -> None:
        self.process = self._spawn()

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    def status(self) -> RelayStatus:
        """Return what the relay says. One that does not answer is not active."""
        try:
            return RelayStatus.from_json(request(self._socket, "GET", STATUS_PATH, 5)[1])
        except (OSError, http.client.HTTPException):
            return RelayStatus()

    def wait_until_active(self) -> None:
        until(lambda: self.status().active and not self.status().problem, f"an active relay: {self.log}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(10)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def relay(directory: Path, env: RelayEnv, name: str = "relay") -> Iterator[Relay]:
    running = Relay(directory, name, env)
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            running.thaw()
        running.kill()


def stored(redis: Redis, channel: str) -> list[bytes]:
    """Return the payloads in the history of a channel, the oldest first."""
    entries: Any = redis.xrange(history_key(channel))
    return [parse_message(fields[b"m"])[2] for _, fields in entries]


def environment(postgres_url: str, redis_url: str, **changes: object) -> RelayEnv:
    """Return the settings of a relay that logs all and counts often."""
    found: Mapping[str, object] = {"postgres_url": postgres_url, "redis_url": redis_url, **changes}
    return RelayEnv(**found)  # type: ignore[arg-type]
