"""What people see of a supervisor: its state as the records of `status`, and what is wrong, in words."""

import os
import resource
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from wsd.supervisor import quoting
from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.control.status import ClusterStatus, NodeStatus, ProcessStatus, RedisStatus, WorkerStatus
from wsd.supervisor.logs.follow import tail
from wsd.supervisor.monitoring.capacity import (
    connections_possible,
    connections_warning,
    redis_warning,
    refusals_warning,
)
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError
from wsd.supervisor.processes.children import Child
from wsd.supervisor.processes.service import LifeSign, Service
from wsd.supervisor.processes.slot import SlotState
from wsd.supervisor.services.nginx import NginxService
from wsd.supervisor.services.nginx_config import worker_processes
from wsd.supervisor.services.valkey import ValkeyService
from wsd.supervisor.services.worker import WorkerService
from wsd.worker.contract.heartbeat import Heartbeat

if TYPE_CHECKING:
    from wsd.supervisor.supervisor import Supervisor


def report(supervisor: "Supervisor") -> ClusterStatus:
    found = list(problems(supervisor))
    if supervisor.stopping:
        state = "stopping"
    elif not supervisor.up:
        state = "starting"
    else:
        state = "degraded" if found else "healthy"
    watch = supervisor.redis_watch
    health = supervisor.health_watch
    operation = supervisor.operations.current
    now = supervisor.clock.now()
    return ClusterStatus(
        state=state,
        problems=found,
        warnings=list(warnings(supervisor)),
        operation=f"{operation.name}: {operation.last}" if operation is not None and not operation.done else None,
        node_id=supervisor.loaded.node_id,
        url=supervisor.url,
        websocket_url=supervisor.websocket_url,
        dashboard_url=supervisor.dashboard_url,
        state_dir=quoting.encodable(supervisor.state_dir.root),
        supervisor=ProcessStatus(
            name="supervisor",
            state="running",
            pid=os.getpid(),
            uptime_seconds=time.monotonic() - supervisor.started_at,
            cpu_percent=health.cpu_percent if health else None,
            rss_bytes=health.usage.rss if health and health.usage else None,
        ),
        workers=[
            _worker(child, now, drained=child.slot.name in supervisor.children.drained) for child in supervisor.workers
        ],
        nginx=_process(supervisor.children.get(NginxService.name)),
        valkey=_process(supervisor.children.get(ValkeyService.name)),
        redis=RedisStatus(
            url=redacted(supervisor.redis_url) or None,
            embedded=bool(supervisor.redis_url) and not supervisor.config.redis.url,
            reachable=watch is not None and watch.error is None,
            error=str(watch.error) if watch is not None and watch.error is not None else None,
        ),
        nodes=_nodes(watch.beats) if watch is not None else [],
        connections_possible=_connections_possible(supervisor),
    )


def summary(status: ClusterStatus) -> str:
    """On one line."""
    serving = sum(worker.state == "ready" for worker in status.workers)
    connections = sum(worker.connections or 0 for worker in status.workers)
    parts = [status.state, f"{serving} of {len(status.workers)} workers", f"{connections} connections"]
    return ", ".join([*parts, *status.problems, *status.warnings])


def problems(supervisor: "Supervisor") -> Iterator[str]:
    """Why the cluster is not healthy, one line each."""
    yield from supervisor.notices
    watch = supervisor.redis_watch
    if watch is not None and watch.error is not None:
        yield redis_problem(watch.error, has_fallback=bool(supervisor.fallback_url))
    if watch is not None and watch.other_holder is not None:
        yield f'node id "{supervisor.loaded.node_id}" is live on {watch.other_holder}, too'
    for child in supervisor.children:
        slot = child.slot
        beat = child.pulse.beat if child.pulse is not None else None
        if slot.state is SlotState.STOPPED and slot.name in supervisor.children.drained:
            continue  # as somebody wants it
        if not slot.ready:
            text = f"{slot.name} is {slot.display_state}"
            if slot.last_exit:
                text += f", last end: {slot.last_exit}"
            if slot.state is SlotState.FAILED:
                lines = tail(supervisor.state_dir.log(slot.name), child.log_start, 1)
                text += f"; its log ends with: {lines[0]}" if lines else ""
            yield text
        elif (silence := _silence(child, supervisor)) is not None:
            yield f"{slot.name} has sent no heartbeat for {silence:.0f} s: `wsd restart {slot.name.partition('-')[2]}`"
        elif watch is not None and watch.error is None and beat is not None and not beat.redis:
            yield f"{slot.name} cannot reach Redis"


def redis_problem(error: RedisUnusableError, *, has_fallback: bool) -> str:
    """Say why Redis cannot be used, and what becomes of messages meanwhile."""
    if error.stores_nothing:
        return f"{error.summary}; messages that it is to store reach nobody: {error}"
    return f"{error.summary}, messages stay on {'this node' if has_fallback else 'their worker'}: {error}"


def _silence(child: Child[Service], supervisor: "Supervisor") -> float | None:
    """For how many seconds a worker has sent no heartbeat; None if they are no more than it may be silent."""
    if child.pulse is None or child.service.life_sign is not LifeSign.HEARTBEAT:
        return None
    silence = supervisor.clock.now() - child.pulse.seen_at
    return silence if silence > supervisor.config.health.heartbeat_timeout else None


def warnings(supervisor: "Supervisor") -> Iterator[str]:
    """What will go wrong, if nobody does something about it."""
    beats = [child.pulse.beat for child in supervisor.workers if child.pulse is not None]
    connections = sum(beat.connections for beat in beats if beat is not None)
    if supervisor.up and (text := connections_warning(connections, _connections_possible(supervisor))):
        yield text
    pulses = [child.pulse for child in supervisor.workers if child.pulse is not None]
    if text := refusals_warning((pulse.refused_at for pulse in pulses), supervisor.clock.now()):
        yield text
    if supervisor.certificates is not None:
        yield from supervisor.certificates.warnings()
    watch = supervisor.redis_watch
    if watch is not None and (text := redis_warning(watch.info, embedded=not supervisor.config.redis.url)):
        yield text


def _connections_possible(supervisor: "Supervisor") -> int:
    workers = sum(child.slot.ready for child in supervisor.workers)
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # its processes have what we have
    config = supervisor.config
    processes = worker_processes(config) if supervisor.nginx is not None else 0
    return connections_possible(workers, files, processes, config.nginx.worker_connections)


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
