"""Send clients away from full nodes, whose load balancer lets them come back on others."""

import asyncio
import time
from collections.abc import Sequence

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.counts import count as counted
from wsd.supervisor.deploys.operations import Operations, Say
from wsd.supervisor.deploys.rebalancing import LOOK_SECONDS, RETURN_SECONDS, ROUNDS, count_connections
from wsd.supervisor.deploys.rebalancing import send_away as send_away_from_worker
from wsd.supervisor.errors import CommandError
from wsd.supervisor.monitoring.health_watch import SURVEY_INTERVALS
from wsd.supervisor.peers.joining import JoinWatch
from wsd.supervisor.peers.node_loads import NodeLoad, loads, parts, surplus
from wsd.supervisor.peers.sender import ask_node, demand_key, read_nodes
from wsd.supervisor.processes.children import Child
from wsd.supervisor.services.worker import WorkerService

SEND_AWAY = "send-away"
"""The action that one node asks another for."""

STALE_INTERVALS = 3
"""After how many heartbeat intervals the record of a node shows what has happened to its connections."""


async def send_away(workers: Sequence[Child[WorkerService]], count: int, say: Say) -> None:
    """Let the workers of this node close `count` connections over their drain time. Returns when they are closed.

    Raises CommandError when a worker does not answer.
    """
    services = {child.service.name: child.service for child in workers if child.slot.ready}
    closes = parts(await count_connections(services), count)
    shown = ", ".join(f"{name} {number}" for name, number in closes.items())
    say(f"closes {counted(sum(closes.values()), 'connection')}: {shown}")
    seconds = [await send_away_from_worker(services[name], number) for name, number in closes.items()]
    await asyncio.sleep(max(seconds, default=0.0) + LOOK_SECONDS)


async def rebalance_nodes(cluster: Cluster, say: Say) -> None:
    """Let nodes with more than their share of the connections send the rest away, in rounds. Raises CommandError."""
    demand_key(cluster)
    say(f"before: {_shown(await _read_loads(cluster))}")
    for _ in range(ROUNDS):
        nodes = await _read_loads(cluster)
        too_many = surplus(nodes)
        if not too_many:
            break
        say("; ".join(f"{node_id} sends away {count}" for node_id, count in too_many.items()))
        results = await asyncio.gather(
            *(_let_send_away(cluster, node_id, count, say) for node_id, count in too_many.items()),
            return_exceptions=True,
        )
        for failure in results:
            if failure is not None:
                raise failure
        await _until_back(cluster, sum(node.connections for node in nodes))
    say(f"after: {_shown(await _read_loads(cluster))}")


async def _let_send_away(cluster: Cluster, node_id: str, count: int, say: Say) -> None:
    """Let a node, which may be this one, send clients away. Raises CommandError."""

    def say_of_node(text: str) -> None:
        say(f"{node_id}: {text}")

    if node_id == cluster.loaded.node_id:
        await send_away(cluster.workers, count, say_of_node)
    else:
        await ask_node(cluster, node_id, SEND_AWAY, {"connections": count}, say_of_node)


async def _until_back(cluster: Cluster, before: int) -> None:
    """Wait until the nodes tell of as many connections as before, for RETURN_SECONDS at most."""
    await asyncio.sleep(STALE_INTERVALS * cluster.config.health.heartbeat_interval)
    gives_up_at = time.monotonic() + RETURN_SECONDS
    while sum(node.connections for node in await _read_loads(cluster)) < before:
        if time.monotonic() > gives_up_at:
            return
        await asyncio.sleep(cluster.config.health.heartbeat_interval)


async def _read_loads(cluster: Cluster) -> list[NodeLoad]:
    """Return the nodes that take clients. Raises CommandError."""
    return loads(await read_nodes(cluster))


def _shown(nodes: Sequence[NodeLoad]) -> str:
    return ", ".join(f"{node.node_id} {node.connections}" for node in nodes)


async def follow_joins(cluster: Cluster, operations: Operations) -> None:
    """Send this node's surplus away after another node has joined, while scale.rebalance says so. Never returns.

    Every node decides for itself from the records of all, so that no requests and no key are needed.
    """
    joins = JoinWatch(cluster.loaded.node_id)
    while True:
        await asyncio.sleep(cluster.config.health.heartbeat_interval * SURVEY_INTERVALS)
        watch, operation = cluster.redis_watch, operations.current
        is_busy = operation is not None and not operation.done
        if watch is None or watch.error is not None or not watch.nodes or is_busy:
            continue
        count = joins.step(time.monotonic(), loads(watch.nodes), cluster.config.cluster.drain_seconds)
        if count and cluster.config.scale.rebalance:
            _begin_sending_away(cluster, operations, count)


def _begin_sending_away(cluster: Cluster, operations: Operations, count: int) -> None:
    try:
        operations.begin("rebalance after a node has joined", lambda say: send_away(cluster.workers, count, say))
    except CommandError:
        return  # the cluster is stopping
