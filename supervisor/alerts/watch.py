"""Look at the problems of a cluster every second, and send the alerts that follow."""

import asyncio
import time
from collections.abc import Iterator

import msgspec

from wsd.supervisor.alerts.ledger import Ledger
from wsd.supervisor.alerts.sender import Sender
from wsd.supervisor.cluster import Cluster
from wsd.supervisor.control.problems import Problem, problems, warnings
from wsd.supervisor.deploys.operations import Operations

LOOK_SECONDS = 1.0


class AlertWatch:
    """The watch over the problems of a cluster, from its start until `close`."""

    def __init__(self, cluster: Cluster, operations: Operations) -> None:
        self._cluster = cluster
        self._operations = operations
        self._ledger = Ledger()
        self._sender = Sender(lambda: cluster.config.alerts, cluster.children.helpers)
        self._restarts: dict[str, int] = {}
        self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._sender.run())]

    async def close(self) -> None:
        """Stop looking, and wait a few seconds for alerts under way."""
        self._tasks[0].cancel()
        await self._sender.flush()
        self._tasks[1].cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look(self) -> None:
        cluster = self._cluster
        while not cluster.is_ending:
            # A cluster that is coming up reports what fails to its operator directly.
            if cluster.up:
                found = list(self._found())
                for alert in self._ledger.look(found, cluster.clock.now(), cluster.config.alerts.delay_seconds):
                    node_id = cluster.loaded.node_id
                    self._sender.send(msgspec.structs.replace(alert, node_id=node_id, at=time.time()))
            await asyncio.sleep(LOOK_SECONDS)

    def _found(self) -> Iterator[Problem]:
        operation = self._operations.current
        is_busy = operation is not None and not operation.done
        for problem in (*problems(self._cluster), *warnings(self._cluster)):
            # Deploys leave slots unready on purpose.
            if not (is_busy and problem.is_planned_in_operations):
                yield problem
        for child in self._cluster.children:
            slot = child.slot
            crashes = slot.restarts - self._restarts.get(slot.name, slot.restarts)
            self._restarts[slot.name] = slot.restarts
            if crashes > 0:
                yield Problem(slot.name, f"{slot.name} ended: {slot.last_exit}", crashes=crashes)
