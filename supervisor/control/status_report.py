"""The state of the cluster as the records of `control.status`."""

import os
import time
from collections.abc import Iterable
from typing import Any

from wsd.supervisor import quoting
from wsd.supervisor.cluster import Cluster
from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.control.access import dashboard_url
from wsd.supervisor.control.problems import connections_possible_now, problems, warnings
from wsd.supervisor.control.status import ClusterStatus, NodeStatus, ProcessStatus, RedisStatus, WorkerStatus
from wsd.supervisor.counts import count
from wsd.supervisor.deploys.operations import Operations
from wsd.supervisor.processes.children import Child
from wsd.supervisor.processes.service import Service
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.services.valkey import ValkeyService
from wsd.supervisor.services.worker import WorkerService
from wsd.worker.contract.heartbeat import Heartbeat


def report(cluster: Cluster, operations: Operations) -> ClusterStatus:
    """Return the state of the cluster as `wsd status` shows it."""
    found = [problem.text for problem in problems(cluster)]
    if cluster.stopping:
        state = "stopping"
    elif not cluster.up:
        state = "starting"
    else:
        state = "degraded" if found else "healthy"
    watch = cluster.redis_watch
    health = cluster.health_watch
    operation = operations.current
    now = cluster.clock.now()
    return ClusterStatus(
        state=state,
        problems=found,
        warnings=[problem.text for problem in warnings(cluster)],
        operation=f"{operation.name}: {operation.last}" if operation is not None and not operation.done else None,
        node_id=cluster.loaded.node_id,
        url=cluster.url,
        websocket_url=cluster.websocket_url,
        dashboard_url=dashboard_url(cluster),
        state_dir=quoting.encodable(cluster.state_dir.root),
        supervisor=ProcessStatus(
            name="supervisor",
            state="running",
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - cluster.started_at,
            cpu_percent=health.cpu_percent if health else None,
            rss_bytes=health.usage.rss if health and health.usage else None,
        ),
        workers=[_worker(child, now, drained=child.slot.name in cluster.children.drained) for child in cluster.workers],
        nginx=_process(cluster.children.get(NginxService.name)),
        valkey=_process(cluster.children.get(ValkeyService.name)),
        redis=RedisStatus(
            url=redacted(cluster.redis_url) or None,
            embedded=bool(cluster.redis_url) and not cluster.config.redis.url,
            reachable=watch is not None and watch.error is None,
            error=str(watch.error) if watch is not None and watch.error is not None else None,
        ),
        nodes=_nodes(watch.beats) if watch is not None else [],
        connections_possible=connections_possible_now(cluster),
    )


def summary(status: ClusterStatus) -> str:
    """Return the state of the cluster on one line."""
    serving = sum(worker.state == "ready" for worker in status.workers)
    connections = sum(worker.connections or 0 for worker in status.workers)
    parts = [status.state, f"{serving} of {count(len(status.workers), 'worker')}", count(connections, "connection")]
    return ", ".join([*parts, *status.problems, *status.warnings])


def _nodes(beats: Iterable[Heartbeat]) -> list[NodeStatus]:
    of_node: dict[str, list[Heartbeat]] = {}
    for beat in beats:
        of_node.setdefault(beat.node_id, []).append(beat)
    return [
        NodeStatus(node_id=node_id, workers=len(own), connections=sum(beat.connections for beat in own))
        for node_id, own in sorted(of_node.items())
    ]


def _process(child: Child[Service] | None) -> ProcessStatus | None:
    return ProcessStatus(**_common(child, child.slot.display_state)) if child is not None else None


def _worker(child: Child[WorkerService], now: float, *, drained: bool) -> WorkerStatus:
    pulse, current = child.pulse, child.slot.current
    beat = pulse.beat if pulse is not None else None
    return WorkerStatus(
        **_common(child, "drained" if drained and not child.processes else child.slot.display_state),
        slot=child.service.slot,
        worker_id=child.service.worker_id(current.number) if current is not None else None,
        connections=beat.connections if beat is not None else None,
        messages_in_per_second=pulse.messages_in_rate if pulse is not None else None,
        messages_out_per_second=pulse.messages_out_rate if pulse is not None else None,
        heartbeat_age_seconds=now - pulse.seen_at if pulse is not None else None,
        loop_lag_seconds=beat.loop_lag if beat is not None else None,
    )


def _common(child: Child[Service], state: str) -> dict[str, Any]:
    process = child.process
    return {
        "name": child.slot.name,
        "state": state,
        "pid": process.pid if process else None,
        "uptime_seconds": time.monotonic() - process.started_at if process else None,
        "restarts": child.slot.restarts,
        "cpu_percent": child.cpu_percent,
        "rss_bytes": child.usage.rss if child.usage else None,
        "last_exit": child.slot.last_exit or None,
    }
