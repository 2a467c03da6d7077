"""The decision which nodes have more than their share of the connections. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from wsd.supervisor.nodes.records import SeenNode

TOLERANCE = 0.05
"""The part of its share by which a node may exceed it."""

SERVING = ("healthy", "degraded")
"""The states of nodes that take clients."""


@dataclass(frozen=True)
class NodeLoad:
    """A node that takes clients."""

    node_id: str
    ready: int  # workers that serve
    connections: int


def loads(nodes: Iterable[SeenNode]) -> list[NodeLoad]:
    """Return the nodes that take clients. Those that start, stop or are gone are left out, as are old versions."""
    return [
        NodeLoad(node.node_id, node.record.ready, node.record.connections)
        for node in nodes
        if node.record is not None and node.record.state in SERVING and node.record.ready > 0
    ]


def share(node: NodeLoad, nodes: Sequence[NodeLoad]) -> int:
    """Return how many connections a node would have if each worker that serves had as many as any other."""
    total, workers = sum(each.connections for each in nodes), sum(each.ready for each in nodes)
    return math.ceil(total * node.ready / workers)


def surplus(nodes: Sequence[NodeLoad]) -> dict[str, int]:
    """Return how many connections each node has beyond its share, for nodes that clearly exceed it."""
    found = {}
    for node in nodes:
        fair = share(node, nodes)
        if node.connections > fair + math.floor(fair * TOLERANCE):
            found[node.node_id] = node.connections - fair
    return found


def parts(connections: Mapping[str, int], count: int) -> dict[str, int]:
    """Return how many of `count` connections each worker closes, so that those that stay are spread evenly.

    The fullest workers close down to one level. Workers that close none are left out.
    """
    fullest = sorted(connections, key=lambda name: (-connections[name], name))
    for taken in range(1, len(fullest) + 1):
        stay = max(0, sum(connections[name] for name in fullest[:taken]) - count)
        next_has = connections[fullest[taken]] if taken < len(fullest) else 0
        if stay < next_has * taken:
            continue  # the next worker would have more than these
        level, extra = divmod(stay, taken)
        closes = {name: connections[name] - level - (at < extra) for at, name in enumerate(fullest[:taken])}
        return {name: number for name, number in closes.items() if number > 0}
    return {}
