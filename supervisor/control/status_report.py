"""The state of the cluster as the records of `control.status`."""

import os
import time
from dataclasses import asdict
from typing import Any

import msgspec

from wsd.supervisor import quoting
from wsd.supervisor.cluster import Cluster
from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.control.access import dashboard_url
from wsd.supervisor.control.node_list import listed_nodes
from wsd.supervisor.control.problems import connections_possible_now, problems, warnings
from wsd.supervisor.control.status import (
    AutoscalingStatus,
    ClusterStatus,
    ProcessStatus,
    RedisStatus,
    RelayProcessStatus,
    WorkerStatus,
)
from wsd.supervisor.counts import count
from wsd.supervisor.deploys.operations import Operations
from wsd.supervisor.monitoring.redis_watch import RedisWatch
from wsd.supervisor.nodes.records import NodeState
from wsd.supervisor.processes.children import Child
from wsd.supervisor.processes.service import Service
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.services.relay import RelayService
from wsd.supervisor.services.valkey import ValkeyService
from wsd.supervisor.services.worker import WorkerService
from wsd.worker.contract.redis_address import shown

MAX_PROBLEMS_LENGTH = 2000
"""The most text about its problems that a node tells the others, in characters."""


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
    status = ClusterStatus(
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
        relay=_relay(cluster.relay),
        redis=RedisStatus(
            url=redacted(cluster.redis_url) or None,
            embedded=bool(cluster.redis_url) and not cluster.config.redis.url,
            reachable=watch is not None and watch.error is None,
            error=str(watch.error) if watch is not None and watch.error is not None else None,
            primary=_primary(watch),
        ),
        connections_possible=connections_possible_now(cluster),
        autoscaling=_autoscaling(cluster),
    )
    if watch is not None and watch.error is None:
        own = node_state(status, cluster.advertised_url)
        nodes = listed_nodes(watch.nodes, watch.beats, status.node_id, cluster.identity, own)
        return msgspec.structs.replace(status, nodes=nodes)
    return status


def node_state(status: ClusterStatus, websocket_url: str) -> NodeState:
    """Return what this node tells the others about its state. `websocket_url` is where they reach it."""
    return NodeState(
        state=status.state,
        workers=len(status.workers),
        ready=_serving(status),
        connections=_connections(status),
        problems="\n".join(status.problems)[:MAX_PROBLEMS_LENGTH],
        websocket_url=websocket_url,
    )


def _primary(watch: RedisWatch | None) -> str | None:
    current = watch.sentinels.current if watch is not None and watch.sentinels is not None else None
    return shown(current) if current is not None else None


def summary(status: ClusterStatus) -> str:
    """Return the state of the cluster on one line."""
    serving = f"{_serving(status)} of {count(len(status.workers), 'worker')}"
    parts = [status.state, serving, count(_connections(status), "connection")]
    return ", ".join([*parts, *status.problems, *status.warnings])


def _serving(status: ClusterStatus) -> int:
    return sum(worker.state == "ready" for worker in status.workers)


def _connections(status: ClusterStatus) -> int:
    return sum(worker.connections or 0 for worker in status.workers)


def _autoscaling(cluster: Cluster) -> AutoscalingStatus | None:
    scale, policy = cluster.config.scale, cluster.scaling
    if not scale.max:
        return None
    return AutoscalingStatus(
        min=scale.min,
        max=scale.max,
        connections_per_worker=scale.connections_per_worker or None,
        cpu=scale.cpu or None,
        waits_for=policy.waits_for,
        last=policy.last,
    )


def _process(child: Child[Service] | None) -> ProcessStatus | None:
    return ProcessStatus(**_common(child, child.slot.display_state)) if child is not None else None


def _relay(child: Child[RelayService] | None) -> RelayProcessStatus | None:
    if child is None:
        return None
    found = asdict(child.service.status) if child.service.status is not None else {}
    return RelayProcessStatus(**_common(child, child.slot.display_state), **found)


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
