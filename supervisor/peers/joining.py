"""The decision to send clients away after a node has joined, which each node makes by itself. Pure."""

from collections.abc import Sequence

from wsd.supervisor.peers.node_loads import NodeLoad, share, surplus

SETTLE_SECONDS = 10.0
"""How long a node must have taken clients before the others send it some."""

PAUSE_SECONDS = 30.0
"""The pause after the clients of one round are sent away, in which they come back and are counted."""

ROUNDS = 5
"""The most rounds after a node has joined. A load balancer sends some clients back to where they were."""

LEAST_PART = 0.1
"""The part of its share by which a node must exceed it to act. It is more than an operator's command needs."""

LEAST_CONNECTIONS = 10
"""The fewest connections that are worth a round."""


class JoinWatch:
    """The memory of which nodes have joined, and the decision how many clients this node sends away.

    A node joins when it was not among those that take clients, and has been for SETTLE_SECONDS. Nodes that are there
    when the watch begins have not joined. All times are in seconds, by one clock.
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._known: set[str] | None = None
        self._new: dict[str, float] = {}  # since when each new node takes clients
        self._rounds_left = 0
        self._next_round_at = float("-inf")

    def step(self, now: float, nodes: Sequence[NodeLoad], drain_seconds: float) -> int:
        """Return how many clients to send away now, 0 for none. They are sent away over `drain_seconds`."""
        self._note_joins(now, {node.node_id for node in nodes})
        if not self._rounds_left or now < self._next_round_at:
            return 0
        own = next((node for node in nodes if node.node_id == self._node_id), None)
        count = surplus(nodes).get(self._node_id, 0)
        if own is None or count < max(LEAST_CONNECTIONS, share(own, nodes) * LEAST_PART):
            self._rounds_left = 0
            return 0
        self._rounds_left -= 1
        self._next_round_at = now + drain_seconds + PAUSE_SECONDS
        return count

    def _note_joins(self, now: float, serving: set[str]) -> None:
        if self._known is None:
            self._known = serving
            return
        self._known &= serving
        self._new = {node_id: self._new.get(node_id, now) for node_id in serving - self._known}
        joined = {node_id for node_id, since in self._new.items() if now - since >= SETTLE_SECONDS}
        self._known |= joined
        if joined:
            self._rounds_left = ROUNDS
