"""Signals to a supervisor, and what each makes it do.

SIGINT, SIGTERM  stop the cluster; the second one, without a drain
SIGQUIT          stop the cluster without a drain
SIGHUP           read the settings again; stop the cluster if its terminal is gone
SIGCHLD          wait for processes that became our children because their own parent ended
"""

import asyncio
import logging
import os
import signal
from collections.abc import Callable

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.control.commands import begin_reload
from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.deploys.operations import Operations
from wsd.supervisor.deploys.upgrade import SIGNALS
from wsd.supervisor.errors import CommandError
from wsd.supervisor.machine.systemd import Systemd

logger = logging.getLogger(__name__)

HANGUP_SECONDS = 0.1
"""Pause before the terminal is looked at after a SIGHUP: the kernel sends the signal before it takes it away."""


class Signals:
    """The signals of this process, from `handle` on. A supervisor that hands over keeps them for the next one."""

    def __init__(
        self, cluster: Cluster, operations: Operations, stop: Callable[[float | None], float], systemd: Systemd
    ) -> None:
        """`stop` ends the cluster. It takes the seconds that its processes may drain, or None for as configured."""
        self._cluster = cluster
        self._operations = operations
        self._stop_cluster = stop
        self._systemd = systemd
        self._had_terminal = _has_terminal()
        self._kept: set[signal.Signals] = set()
        self._reload_wanted = asyncio.Event()

    def handle(self) -> None:
        """Handle the signals from now on, those that were kept for us by the previous supervisor among them."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            loop.add_signal_handler(signum, self._stop, signum)
        for signum in (signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(signum, logger.warning, "%s is ignored: wsd gives it no meaning", signum.name)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1) ignores it for us
            loop.add_signal_handler(signal.SIGHUP, loop.call_later, HANGUP_SECONDS, self._hang_up)
        loop.add_signal_handler(signal.SIGCHLD, self._cluster.children.reap_orphans)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    async def reload_on_hangup(self) -> None:
        """Read the settings again whenever SIGHUP asks for it, after the operation under way, until cancelled."""
        while True:
            await self._reload_wanted.wait()
            await self._operations.until_free()
            self._reload_wanted.clear()
            asked_by.set("SIGHUP")
            try:
                operation = begin_reload(self._cluster, self._operations)
            except CommandError as exc:
                logger.warning("SIGHUP: %s", exc)
                continue
            self._systemd.reloading()
            async for _ in operation.follow():
                pass
            self._systemd.notify("READY=1")

    def leave_to_next(self) -> None:
        """Block the signals, and send ourselves those that were not handled: they wait for the next supervisor."""
        if self._reload_wanted.is_set():
            self._kept.add(signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for signum in self._kept:
            os.kill(os.getpid(), signum)

    def _stop(self, signum: signal.Signals) -> None:
        if self._cluster.handing_over:
            self._kept.add(signum)
            return
        self._systemd.notify("STOPPING=1")
        asked_by.set(signum.name)
        self._stop_cluster(0 if self._cluster.stopping or signum is signal.SIGQUIT else None)

    def _hang_up(self) -> None:
        if self._had_terminal and not _has_terminal():
            self._stop(signal.SIGHUP)
            return
        current = self._operations.current
        if current is not None and not current.done:
            logger.info("SIGHUP: the settings are read again after the %s", current.name)
        self._reload_wanted.set()


def _has_terminal() -> bool:
    """Tell whether a terminal controls this process, see tty(4)."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
