"""The list of all nodes, as `wsd status` shows it: from their records in Redis and the heartbeats of their workers."""

from collections.abc import Iterable, Sequence

from wsd.supervisor.control.status import NodeStatus
from wsd.supervisor.nodes.records import NodeIdentity, NodeRecord, NodeState, SeenNode
from wsd.worker.contract.heartbeat import Heartbeat


def listed_nodes(
    seen: Iterable[SeenNode], beats: Iterable[Heartbeat], own_id: str, identity: NodeIdentity, state: NodeState
) -> list[NodeStatus]:
    """Return all nodes in the order of their ids. Pure.

    `seen` and `beats` are what Redis has. This node, with `own_id`, is listed by its own `identity` and `state`, also
    before Redis was read.
    """
    workers: dict[str, list[Heartbeat]] = {}
    for beat in beats:
        workers.setdefault(beat.node_id, []).append(beat)
    nodes = {node_id: _of_heartbeats(node_id, found) for node_id, found in workers.items()}
    for node in seen:
        if node.is_gone:
            nodes[node.node_id] = NodeStatus(node_id=node.node_id, state="gone", age_seconds=node.age)
        elif node.record is not None and node.record.version:
            nodes[node.node_id] = _of_record(node.node_id, node.record, node.age, identity.boot_id)
    own = NodeRecord.of(identity, state, 0)
    nodes[own_id] = _of_record(own_id, own, 0.0, identity.boot_id, is_this_node=True)
    return [nodes[node_id] for node_id in sorted(nodes)]


def _of_heartbeats(node_id: str, beats: Sequence[Heartbeat]) -> NodeStatus:
    """Describe a node of a version that told nothing about itself."""
    return NodeStatus(node_id=node_id, workers=len(beats), connections=sum(beat.connections for beat in beats))


def _of_record(node_id: str, record: NodeRecord, age: float, boot_id: str, *, is_this_node: bool = False) -> NodeStatus:
    return NodeStatus(
        node_id=node_id,
        state=record.state,
        workers=record.workers,
        ready=record.ready,
        connections=record.connections,
        problems=record.problems.splitlines(),
        version=record.version,
        host=record.host,
        websocket_url=record.websocket_url,
        state_dir=record.state_dir,
        age_seconds=age,
        takes_requests=record.inbox != "",
        is_this_node=is_this_node,
        is_on_this_machine=is_this_node or record.boot_id == boot_id != "",
    )
