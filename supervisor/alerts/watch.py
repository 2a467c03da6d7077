"""Look at the problems of a cluster every second, and send the alerts that follow."""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator

import msgspec

from wsd.supervisor.alerts.ledger import Alert, Ledger, OpenProblem
from wsd.supervisor.alerts.open_problems import read_open, write_open
from wsd.supervisor.alerts.sender import Sender
from wsd.supervisor.cluster import Cluster
from wsd.supervisor.control.problems import Problem, problems, unknown, warnings
from wsd.supervisor.deploys.operations import Operations

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0

BEGIN_SECONDS = 0.1
"""How often the watch looks whether the cluster is up. A process that ends before that is not noticed as a crash."""

SETTLE_SECONDS = 3.0
"""How long a new supervisor takes to see what the previous one saw, beside health.heartbeat_timeout."""


class AlertWatch:
    """The watch over the problems of a cluster, from its start until `close`."""

    def __init__(self, cluster: Cluster, operations: Operations) -> None:
        self._cluster = cluster
        self._operations = operations
        self._ledger = Ledger()
        self._kept: list[OpenProblem] = []  # what the file holds
        self._is_kept = True  # False while the file cannot be written
        self._inherited: set[str] = set()  # problems of the previous supervisor
        self._settled_at = 0.0  # until then, those problems are not judged
        self._sender = Sender(lambda: cluster.config.alerts, cluster.children.helpers)
        self._restarts: dict[str, int] = {}
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._sender.run())]

    async def close(self) -> None:
        """Stop looking, and wait a few seconds for alerts under way. A cluster that was stopped has no problems."""
        cluster = self._cluster
        self._tasks[0].cancel()
        if cluster.stopping and not cluster.handing_over:
            self._send(self._ledger.close(cluster.clock.now()))
            self._keep()
        await self._sender.flush()
        self._tasks[1].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self) -> None:
        cluster = self._cluster
        has_begun = False
        while not cluster.is_ending:
            if cluster.up:  # before, a cluster that is coming up reports what fails to its operator directly
                if not has_begun:
                    self._inherit()
                    has_begun = True
                self._look()
                self._keep()
            await asyncio.sleep(LOOK_SECONDS if has_begun else BEGIN_SECONDS)

    def _inherit(self) -> None:
        """Go on with the open problems of the previous supervisor."""
        cluster = self._cluster
        now = cluster.clock.now()
        self._kept = read_open(cluster.state_dir.open_alerts, now)
        self._ledger = Ledger(self._kept, now)
        self._inherited = {each.problem for each in self._kept}
        self._settled_at = now + cluster.config.health.heartbeat_timeout + SETTLE_SECONDS

    def _look(self) -> None:
        cluster, settings = self._cluster, self._cluster.config.alerts
        if not (settings.command or settings.url):  # nobody is told, so that nothing counts as announced
            self._ledger, self._restarts = Ledger(), {}
            return
        now = cluster.clock.now()
        operation = self._operations.current
        is_busy = operation is not None and not operation.done
        not_known = set(unknown(cluster, is_busy=is_busy))
        if now < self._settled_at:
            not_known |= self._inherited
        self._send(self._ledger.look(list(self._found()), now, settings.delay_seconds, not_known))

    def _send(self, alerts: Iterable[Alert]) -> None:
        node_id = self._cluster.loaded.node_id
        for alert in alerts:
            self._sender.send(msgspec.structs.replace(alert, node_id=node_id, at=time.time()))

    def _keep(self) -> None:
        """Write the open problems to their file, if they have changed."""
        found = self._ledger.open
        if found == self._kept:
            return
        try:
            write_open(self._cluster.state_dir.open_alerts, found, self._cluster.clock.now())
        except OSError as exc:  # e.g. a full disk; the next look tries again
            if self._is_kept:
                logger.warning("the open problems cannot be kept, another supervisor may announce them again: %s", exc)
            self._is_kept = False
        else:
            self._kept, self._is_kept = found, True

    def _found(self) -> Iterator[Problem]:
        yield from problems(self._cluster)
        yield from warnings(self._cluster)
        for child in self._cluster.children:
            slot = child.slot
            crashes = slot.restarts - self._restarts.get(slot.name, slot.restarts)
            self._restarts[slot.name] = slot.restarts
            if crashes > 0:
                yield Problem(slot.name, f"{slot.name} ended: {slot.last_exit}", crashes=crashes)
