"""Take over a cluster from the previous supervisor: adopt the processes that it left running, or end them."""

from collections.abc import Iterable, Sequence

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.deploys.leftovers import LeftoverService
from wsd.supervisor.deploys.operations import Operations
from wsd.supervisor.deploys.restart import restart_children
from wsd.supervisor.processes.children import Child
from wsd.supervisor.processes.service import Service
from wsd.supervisor.processes.slot import Stop
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.services.valkey import ValkeyService
from wsd.supervisor.services.worker import DRAIN_MARGIN_SECONDS
from wsd.supervisor.state_dir.records import SavedState


class Takeover:
    """The processes that the previous supervisor left running. `is_empty` when it left none."""

    def __init__(self, cluster: Cluster, saved: SavedState) -> None:
        self._cluster = cluster
        self._saved = saved
        self._unwanted: list[Child[Service]] = []
        self.is_empty = not saved.processes

    def has_left(self, service: Service) -> bool:
        """Tell whether the previous supervisor had a process of this service."""
        return any(record.name == service.name for record in self._saved.processes)

    def adopt(self, wanted: Iterable[Service]) -> None:
        """Adopt every process, before anything is started. Processes of services that are not `wanted` begin to drain.

        Valkey does not: the workers that were adopted may use it, see `end_valkey`.
        """
        cluster, children = self._cluster, self._cluster.children
        services = {service.name: service for service in wanted}
        for name in dict.fromkeys(record.name for record in self._saved.processes):
            records = [record for record in self._saved.processes if record.name == name]
            if (service := services.get(name)) is not None:
                children.adopt(service, records, drains=name in children.drained)
            else:
                leftover = LeftoverService(name, cluster.config.cluster.drain_seconds + DRAIN_MARGIN_SECONDS)
                self._unwanted.append(children.adopt(leftover, records, drains=name != ValkeyService.name))
        if not self.is_empty:
            children.record()
            children.reap_orphans()  # those that ended while no supervisor waited for them

    async def end_nginx(self) -> None:
        """Wait until an nginx that is not wanted any more has ended: the workers are to have its port."""
        await self._forget([child for child in self._unwanted if child.slot.name == NginxService.name])

    async def end_workers(self) -> None:
        """Wait until the workers, and the relay, that are not wanted any more have ended."""
        kept = (NginxService.name, ValkeyService.name)
        await self._forget([child for child in self._unwanted if child.slot.name not in kept])

    async def end_valkey(self) -> None:
        """End a Valkey that is not wanted any more, as soon as no worker uses it."""
        cluster = self._cluster
        leftovers = [child for child in self._unwanted if child.slot.name == ValkeyService.name]
        if not leftovers:
            return
        await cluster.children.until(
            lambda: not cluster.outdated() and not any(worker.slot.replacing for worker in cluster.workers)
        )
        for child in leftovers:
            cluster.children.post(child, Stop(child.service.patience))
        await self._forget(leftovers)

    def restart_outdated(self, operations: Operations) -> None:
        """Restart the workers that were adopted and that run with other settings than those of now."""
        children = self._cluster.children
        if outdated := self._cluster.outdated():
            operations.begin("restart", lambda say: restart_children(children, outdated, say))

    async def _forget(self, unwanted: Sequence[Child[Service]]) -> None:
        """Wait until the processes of these slots have ended, and forget the slots."""
        cluster = self._cluster
        await cluster.children.until(lambda: cluster.stopping or not any(child.processes for child in unwanted))
        if not cluster.stopping:
            for child in unwanted:
                cluster.children.remove(child)
