"""The record of a node in Redis: the lease of its node id, and what the node tells the others about itself."""

import json
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Self

from wsd.worker.contract.json_records import check_types, decode

GONE_SECONDS = 600
"""How long a node that vanished without a word is still listed."""


@dataclass(frozen=True, kw_only=True)
class NodeState:
    """The part of the record of a node that changes while the node runs. `state` is that of `wsd status`."""

    state: str = "unknown"
    workers: int = 0
    ready: int = 0  # of those workers, how many serve
    connections: int = 0
    problems: str = ""  # why the node is degraded, one line each
    websocket_url: str = ""  # where clients and other nodes reach this node


@dataclass(frozen=True, kw_only=True)
class NodeIdentity:
    """The part of the record of a node that stays the same while its supervisor runs.

    `owner` identifies the state directory on its machine since the last boot: a supervisor that starts there again is
    the same owner.
    """

    owner: str
    host: str
    pid: int
    boot_id: str = ""
    state_dir: str = ""
    version: str = ""
    inbox: str = ""  # names the list in Redis where this supervisor takes requests of other nodes, "" for none


@dataclass(frozen=True, kw_only=True)
class NodeRecord(NodeIdentity, NodeState):
    """The record of a node, as it stands in the lease of its id.

    Supervisors of version 0.1 wrote only owner, host and pid.
    """

    lease_ms: int = 0  # the whole time of the lease, of which Redis tells how much is left

    @classmethod
    def of(cls, identity: NodeIdentity, state: NodeState, lease_ms: int) -> Self:
        return cls(**asdict(identity), **asdict(state), lease_ms=lease_ms)

    def to_json(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a record from Redis. Fields that only newer supervisors know are ignored.

        Raises ValueError if the text is not a record.
        """
        raw = decode(text)
        if not isinstance(raw, dict):
            raise ValueError("not a record of a node")  # noqa: TRY004 - as for all other texts that are none
        known = {f.name: raw[f.name] for f in fields(cls) if f.name in raw}
        if missing := [f.name for f in fields(cls) if f.default is MISSING and f.name not in known]:
            raise ValueError(f"the record of a node lacks {', '.join(missing)}")
        check_types(cls, known)
        return cls(**known)


@dataclass(frozen=True)
class SeenNode:
    """A node as Redis shows it."""

    node_id: str
    record: NodeRecord | None  # None: its lease is over, or is no record that this version can read
    age: float  # seconds since the node wrote its record; for a node that is gone, since its lease ended
    is_gone: bool = False


def seen_nodes(
    now_ms: float, expiries: Iterable[tuple[str, float]], leases: Iterable[tuple[bytes | None, int]]
) -> list[SeenNode]:
    """Say what the index and the leases tell about the nodes, in the order of their ids. Pure.

    `expiries` are node ids with the time when the lease of each ends, `leases` the value and the milliseconds left of
    the lease of each, in the same order. All times are by the clock of Redis.
    """
    found = []
    for (node_id, expires_ms), (text, left_ms) in zip(expiries, leases, strict=True):
        if text is None:
            gone_for = max(0.0, (now_ms - expires_ms) / 1000)
            found.append(SeenNode(node_id, None, gone_for, is_gone=True))
            continue
        try:
            record = NodeRecord.from_json(text)
        except ValueError:
            found.append(SeenNode(node_id, None, 0.0))
            continue
        found.append(SeenNode(node_id, record, max(0, record.lease_ms - left_ms) / 1000))
    return sorted(found, key=lambda node: node.node_id)
