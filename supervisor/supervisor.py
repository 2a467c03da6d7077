"""The supervisor of one node: it brings the cluster up, watches it, and brings it down or hands it over.

`run` is the story. The processes themselves are in `processes.children`, the watch over them in `monitoring`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.deploys.operations import Operations
from wsd.supervisor.deploys.takeover import Takeover
from wsd.supervisor.errors import CommandError, StartError
from wsd.supervisor.processes.children import Child
from wsd.supervisor.processes.service import Service
from wsd.supervisor.processes.slot import KILL_AFTER_SECONDS, Start, Stop
from wsd.supervisor.redis_startup import connect_redis
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.services.relay import RelayService
from wsd.supervisor.state_dir.records import SavedState
from wsd.supervisor.watches import Watches
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)


class Supervisor:
    """The lifetime of a cluster: from `run` until `stop` or `hand_over` is called."""

    def __init__(self, cluster: Cluster, operations: Operations, saved: SavedState, say: Callable[[str], None]) -> None:
        """`saved` is what the previous supervisor left running. `say` shows a line of progress to the operator."""
        self.cluster = cluster
        self.operations = operations
        self._takeover = Takeover(cluster, saved)
        self._say = say
        self._stop_patience: float | None = None
        self._ending: list[Child[Service]] = []
        self._watches: Watches

    async def run(self, on_ready: Callable[[], None], restore_control: Callable[[], Awaitable[bool]]) -> None:
        """Bring the cluster up, call `on_ready`, and keep it up until `stop` is called; then bring it down.

        After `hand_over` the processes of the cluster keep running. `restore_control` binds the control socket anew if
        its file was removed, and returns whether that was so.

        Raises StartError, with nothing left running, when the cluster does not come up.
        """
        cluster = self.cluster
        failure: CommandError | None = None
        async with asyncio.TaskGroup() as tasks:
            self._watches = Watches(cluster, self.operations, tasks)
            children = tasks.create_task(cluster.children.run(), name="children")
            await asyncio.sleep(0)  # `children.run` has begun
            try:
                await self._come_up(restore_control)
                if not cluster.stopping:
                    self.operations.open(tasks)
                    cluster.up = True
                    on_ready()
                    self._takeover.restart_outdated(self.operations)
                    self._watches.start(self._takeover.end_valkey(), "unwanted-valkey")
                    self._watches.watch_load()
                await cluster.children.until(lambda: cluster.is_ending)
            except (CommandError, OSError) as exc:
                failure = exc if isinstance(exc, CommandError) else StartError(f"cannot start: {exc}")
                if self._takeover.is_empty:
                    self.stop(patience=0)
                else:
                    self.hand_over()  # its processes served before this supervisor came
            await self.operations.close()
            await self._come_down()
            children.cancel()
        if failure is not None:
            raise failure

    def stop(self, patience: float | None = None) -> float:
        """Begin to end the cluster, and return how long its drain may take, in seconds.

        `patience` is how long the processes may drain, in seconds: None means as configured, 0 at once. `stop` may be
        called again with less patience.
        """
        cluster = self.cluster
        self._stop_patience = patience
        if not cluster.stopping:
            logger.info("stopping, asked for by %s", asked_by.get(), extra=EVENT)
            cluster.stopping = True
            cluster.children.wake()
        elif patience is not None:
            for child in self._ending:
                cluster.children.post(child, Stop(patience))
        return max((self._patience(child.service) for child in cluster.children), default=0.0)

    def hand_over(self) -> None:
        """Let `run` end and the processes of the cluster keep running: the next supervisor finds them in state.json."""
        self.cluster.children.record()
        self.cluster.handing_over = True
        self.cluster.children.wake()

    # Up

    async def _come_up(self, restore_control: Callable[[], Awaitable[bool]]) -> None:
        """Start what is missing, each part after those that it needs. Raises CommandError or OSError."""
        cluster = self.cluster
        self._watches.watch_logs()
        for notice in cluster.notices:
            self._say(notice)
            logger.warning(notice)
        services = cluster.worker_services()
        programs = [program for program in (cluster.programs.valkey, cluster.programs.nginx) if program is not None]
        relays = cluster.relay_services()
        self._takeover.adopt([*programs, *services, *relays])
        self._watches.watch_files(restore_control)
        # The workers take over the port of an nginx that is not wanted any more; nothing waits for the other leftovers.
        await self._takeover.end_nginx()
        self._watches.start(self._takeover.end_workers(), "unwanted-workers")
        if cluster.programs.valkey is not None:
            await self._bring_up([cluster.programs.valkey])
        if cluster.redis_url:
            await connect_redis(cluster, self._say)
        self._watches.watch_health()
        await self._bring_up([*services, *relays])
        if cluster.programs.nginx is not None:
            await self._bring_up_nginx(cluster.programs.nginx)

    async def _bring_up_nginx(self, service: NginxService) -> None:
        """Start nginx or reload the one that was adopted, and watch its configuration and its certificate."""
        cluster = self.cluster
        has_changed = await service.prepare(cluster.config)
        await self._bring_up([service])
        if has_changed and self._takeover.has_left(service):
            assert cluster.nginx is not None
            await service.reload(cluster.nginx.process)
        self._watches.watch_nginx(service)

    async def _bring_up(self, services: Sequence[Service]) -> None:
        """Start the services side by side, and wait until all are ready or the cluster is to stop.

        Raises StartError with the reason of the first that fails.
        """
        cluster = self.cluster
        if cluster.stopping:
            return
        children = [cluster.children.get(service.name) or self._start(service) for service in services]

        def serves(child: Child[Service]) -> bool:
            if child.start_failure is not None and not child.slot.ever_ready:
                for line in child.start_failure.output:
                    self._say(line)
                raise StartError(child.start_failure.reason)
            return cluster.stopping or child.slot.ready

        def show(child: Child[Service]) -> None:
            if child.process is not None and child.slot.ready:
                what = "adopted" if self._takeover.has_left(child.service) else "ready"
                self._say(f"{child.slot.name:<9} {what}, pid {child.process.pid}")

        wanted = [child for child in children if child.slot.name not in cluster.children.drained]
        await cluster.children.until_each(wanted, serves, show)

    def _start(self, service: Service) -> Child[Service]:
        children = self.cluster.children
        child = children.add(service)
        if service.name not in children.drained:
            children.post(child, Start())
        return child

    # Down

    async def _come_down(self) -> None:
        """End the watches and, unless the cluster is handed over, its processes."""
        cluster = self.cluster
        if not cluster.handing_over:
            # Workers first, while clients still reach them through nginx; Valkey last, which keeps their sessions.
            await self._bring_down(cluster.workers)
            await self._bring_down(cluster.children.of(NginxService))
            await self._bring_down(cluster.children.of(RelayService))
        self._watches.cancel()
        if cluster.redis_watch is not None:
            await cluster.redis_watch.close(keep_lease=cluster.handing_over)
        if not cluster.handing_over:
            await self._bring_down(list(cluster.children))

    async def _bring_down(self, children: Sequence[Child[Service]]) -> None:
        cluster = self.cluster
        self._ending += children
        for child in children:
            unready = min(KILL_AFTER_SECONDS, cluster.config.cluster.drain_seconds)
            cluster.children.post(child, Stop(self._patience(child.service), unready))
        await cluster.children.until(lambda: not any(child.processes for child in children))

    def _patience(self, service: Service) -> float:
        return service.patience if self._stop_patience is None else min(service.patience, self._stop_patience)
