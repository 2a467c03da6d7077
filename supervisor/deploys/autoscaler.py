"""Have as many workers as the load demands: observe it, ask `monitoring.scaling`, and carry the decision out."""

import asyncio
import logging

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.deploys.asker import asked_by
from wsd.supervisor.deploys.operations import Operation, Operations
from wsd.supervisor.deploys.rebalancing import rebalance, refusal
from wsd.supervisor.deploys.scaling import scale
from wsd.supervisor.errors import CommandError
from wsd.supervisor.monitoring.scaling import Load, Resize, Spread
from wsd.supervisor.processes.children import Child
from wsd.supervisor.processes.slot import SlotState
from wsd.supervisor.services.worker import WorkerService
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)


async def autoscale(cluster: Cluster, operations: Operations) -> None:
    """Keep the number of workers between scale.min and scale.max, until cancelled. Nothing happens while max is 0."""
    asked_by.set("the supervisor, by [scale]")
    while True:
        await asyncio.sleep(cluster.config.health.heartbeat_interval)
        if not cluster.config.scale.max:
            cluster.scaling.wait("scale.max is 0")
            continue
        reason = _operation_under_way(operations) or uncertainty(cluster)
        if reason is not None:
            cluster.scaling.wait(reason)
        else:
            await _step(cluster, operations)


async def _step(cluster: Cluster, operations: Operations) -> None:
    """Decide once, and carry the decision out."""
    policy, load = cluster.scaling, load_of(cluster.workers)
    decision = policy.decide(load, cluster.config.scale, cluster.clock.now())
    if decision is None:
        return
    try:
        operation = _begin(cluster, operations, decision)
    except CommandError:  # the cluster stops
        return
    failed = False
    if operation is not None:
        async for progress in operation.follow():
            failed = bool(progress.error)
    policy.ended(decision, load, cluster.clock.now(), failed=failed)


def _begin(cluster: Cluster, operations: Operations, decision: Resize | Spread) -> Operation | None:
    """Begin what was decided. Return None where connections do not move. Raises CommandError."""
    match decision:
        case Resize(workers):
            operation = operations.begin("scale", lambda say: scale(cluster, workers, say))
            logger.info("autoscaling %s", cluster.scaling.last, extra=EVENT)
            return operation
        case Spread():
            if refusal(cluster) is not None:
                return None
            return operations.begin("rebalance", lambda say: rebalance(cluster.workers, say))


def load_of(workers: list[Child[WorkerService]]) -> Load:
    """Return what these workers carry, as far as it was observed."""
    beats = [child.pulse.beat for child in workers if child.pulse is not None]
    connections = [beat.connections for beat in beats if beat is not None]
    cpu = sum(child.cpu_percent or 0.0 for child in workers) / 100
    return Load(len(workers), sum(connections), max(connections, default=0), cpu)


def _operation_under_way(operations: Operations) -> str | None:
    operation = operations.current
    return f"{operation.name} is under way" if operation is not None and not operation.done else None


def uncertainty(cluster: Cluster) -> str | None:
    """Say why it is unknown what the workers can carry, or return None.

    Clients of a worker that goes could not resume while Redis is away.
    """
    watch = cluster.redis_watch
    if watch is None or watch.error is not None:
        return "there is no Redis" if watch is None else "Redis cannot be used"
    for child in cluster.workers:
        name, slot, pulse = child.slot.name, child.slot, child.pulse
        if name in cluster.children.drained:
            return f"{name} is drained"
        if slot.state is not SlotState.RUNNING or not slot.ready or pulse is None:
            return f"{name} does not serve"
        if slot.replacing:
            return f"{name} is being replaced"
        if pulse.beat is None or cluster.clock.now() - pulse.seen_at > cluster.config.health.heartbeat_timeout:
            return f"there is no heartbeat of {name}"
        if child.cpu_percent is None and cluster.config.scale.cpu:
            return f"the CPU use of {name} is not measured yet"
    return None
