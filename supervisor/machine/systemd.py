"""The protocol between systemd and a service: sd_notify(3) and socket activation, without systemd's library."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from wsd.supervisor.errors import ConfigError
from wsd.worker.contract.escaping import escape


class Systemd:
    """Notifications to systemd, which sets NOTIFY_SOCKET for a service of Type=notify. Without it nothing is sent."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_seconds = _watchdog_seconds(environ)

    def notify(self, *states: str) -> None:
        """Send states as sd_notify(3) defines them, e.g. `READY=1`, `STATUS=...` or `STOPPING=1`."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):
            lines = "\n".join(" ".join(state.splitlines()) for state in states)
            sender.sendto(lines.encode("utf-8", "backslashreplace"), self._address)

    def reloading(self) -> None:
        """Announce that the configuration is being read again. READY=1 must follow."""
        self.notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    async def keep_alive(self, status: Callable[[], str]) -> None:
        """Send the watchdog's keep-alive and the status, at twice the rate that systemd requires, until cancelled."""
        if not self._address:
            return
        while True:
            self.notify("WATCHDOG=1", f"STATUS={escape(status())}")
            await asyncio.sleep(self.watchdog_seconds / 2 if self.watchdog_seconds else 5.0)


FIRST_SOCKET = 3
"""The first descriptor that systemd passes, SD_LISTEN_FDS_START."""


def public_socket(environ: Mapping[str, str]) -> int | None:
    """Return the descriptor of the public port that systemd passes to this process (sd_listen_fds(3)), or None.

    Raises ConfigError when systemd passes several.
    """
    count = environ.get("LISTEN_FDS", "0")
    if environ.get("LISTEN_PID") != str(os.getpid()) or count == "0":
        return None
    if count != "1":
        raise ConfigError(
            f"systemd passes {count} sockets, but wsd takes one, the public port: name one ListenStream in wsd.socket"
        )
    return FIRST_SOCKET


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return the timeout of systemd's watchdog in seconds, 0 if it does not watch us (sd_watchdog_enabled(3))."""
    try:
        wanted = int(environ.get("WATCHDOG_USEC", "0")) / 1_000_000
        of = int(environ.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return 0.0
    return wanted if of == os.getpid() else 0.0
