"""The watches over a cluster: tasks that go on until the cluster comes down."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine

from wsd.supervisor.cluster import Cluster, limits
from wsd.supervisor.deploys.autoscaler import autoscale
from wsd.supervisor.deploys.operations import Operations
from wsd.supervisor.logs.rotation import rotate_logs
from wsd.supervisor.monitoring.certificate_watch import CertificateWatch
from wsd.supervisor.monitoring.file_guard import FileGuard
from wsd.supervisor.monitoring.health_watch import HealthWatch
from wsd.supervisor.monitoring.nginx_guard import NginxGuard
from wsd.supervisor.services.nginx import NginxService

logger = logging.getLogger(__name__)


class Watches:
    """The watches over a cluster, as tasks of one group. `cancel` ends them."""

    def __init__(self, cluster: Cluster, operations: Operations, tasks: asyncio.TaskGroup) -> None:
        self._cluster = cluster
        self._operations = operations
        self._group = tasks
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Coroutine[None, None, None], name: str) -> None:
        """Start work that goes on until `cancel`, or until it is done."""
        self._tasks.append(self._group.create_task(work, name=name))

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def watch_logs(self) -> None:
        """Rotate the log files."""
        cluster = self._cluster
        self.start(rotate_logs(cluster.log_files, lambda: cluster.config.log), "logs")

    def watch_files(self, restore_control: Callable[[], Awaitable[bool]]) -> None:
        """Restore what is removed from the state directory; `restore_control` does so for the control socket."""
        guard = FileGuard(self._cluster.state_dir, self._cluster.children, restore_control)
        self.start(guard.run(), "files")

    def watch_health(self) -> None:
        """Replace processes that are not well."""
        cluster = self._cluster
        interval = cluster.config.health.heartbeat_interval
        if cluster.redis_watch is not None and cluster.redis_watch.sentinels is not None:
            self.start(cluster.redis_watch.sentinels.follow(), "sentinels")
        cluster.health_watch = HealthWatch(cluster.children, cluster.redis_watch, limits(cluster.config), interval)
        self.start(cluster.health_watch.run(), "health")

    def watch_load(self) -> None:
        """Have as many workers as the load demands."""
        self.start(autoscale(self._cluster, self._operations), "autoscaler")

    def watch_nginx(self, service: NginxService) -> None:
        """Restore the configuration of an nginx that runs, and let it serve renewed certificates."""
        cluster = self._cluster
        guard = NginxGuard(service, lambda: cluster.update_nginx(logger.info), self._is_busy)
        self.start(guard.run(), "nginx-config")
        cluster.certificates = CertificateWatch(service, lambda: cluster.config, self._serve_new_certificate)
        cluster.certificates.served()
        self.start(cluster.certificates.run(), "certificates")

    async def _serve_new_certificate(self) -> None:
        """Let nginx read its files again, unless an operation is under way. Raises CommandError."""
        if not self._is_busy():
            await self._cluster.update_nginx(logger.info)

    def _is_busy(self) -> bool:
        """Tell whether an operation is under way."""
        operation = self._operations.current
        return operation is not None and not operation.done
