"""The records of nodes, and the list of all nodes."""

import json

import pytest

from wsd.supervisor.control.node_list import listed_nodes
from wsd.supervisor.nodes.records import NodeIdentity, NodeRecord, NodeState, SeenNode, seen_nodes
from wsd.worker.contract.heartbeat import Heartbeat, WorkerState

IDENTITY = NodeIdentity(owner="h:b:/s", host="h", pid=7, boot_id="b", state_dir="/s", version="1")
STATE = NodeState(state="degraded", workers=2, ready=1, connections=5, problems="one\ntwo", websocket_url="ws://h/")
RECORD = NodeRecord.of(IDENTITY, STATE, 10_000)
OLD = {"owner": "h:b:/s", "host": "h", "pid": 7}


def beat(node_id: str, connections: int) -> Heartbeat:
    return Heartbeat(
        worker_id="w", node_id=node_id, slot=1, pid=1, beat=1, uptime=1.0, state=WorkerState.READY,
        connections=connections, messages_in=0, messages_out=0, loop_lag=0.0, rss=1, redis=True,
    )  # fmt: skip


def test_a_record_is_read_as_it_was_written() -> None:
    assert NodeRecord.from_json(RECORD.to_json()) == RECORD


def test_records_of_other_versions_are_read() -> None:
    assert NodeRecord.from_json(json.dumps(OLD)).version == ""
    newer = {**json.loads(RECORD.to_json()), "of a newer version": [1]}
    assert NodeRecord.from_json(json.dumps(newer)) == RECORD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "7",
        "{}",
        "[" * 100_000,
        json.dumps({"owner": "o", "host": "h"}),
        json.dumps({**OLD, "pid": "7"}),
        json.dumps({**OLD, "problems": ["a"]}),
        json.dumps({**OLD, "connections": 2**60}),
        b"\xff",
    ],
)
def test_a_text_that_is_no_record_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".*"):
        NodeRecord.from_json(text)


def test_the_index_and_the_leases_say_who_lives() -> None:
    now = 1_000_000.0
    expiries = [("lives", now + 8_000), ("gone", now - 90_000), ("foreign", now + 1), ("ending", now - 5)]
    leases = [(RECORD.to_json().encode(), 8_000), (None, -2), (b"who knows", -1), (None, -2)]
    assert seen_nodes(now, expiries, leases) == [
        SeenNode("ending", None, 0.005, is_gone=True),
        SeenNode("foreign", None, 0.0),
        SeenNode("gone", None, 90.0, is_gone=True),
        SeenNode("lives", RECORD, 2.0),
    ]


def test_all_nodes_are_listed_by_what_is_known_of_them() -> None:
    other = NodeRecord.of(NodeIdentity(owner="o", host="far", pid=1, boot_id="x", version="1"), STATE, 10_000)
    seen = [
        SeenNode("far", other, 1.0),
        SeenNode("gone", None, 30.0, is_gone=True),
        SeenNode("near", RECORD, 1.0),
        SeenNode("old", NodeRecord.from_json(json.dumps(OLD)), 0.0),
        SeenNode("own", None, 99.0, is_gone=True),
    ]
    beats = [beat("old", 3), beat("old", 4), beat("far", 1), beat("unindexed", 2)]
    far, gone, near, old, own, unindexed = listed_nodes(seen, beats, "own", IDENTITY, STATE)
    assert (far.node_id, far.connections, far.is_on_this_machine, far.age_seconds) == ("far", 5, False, 1.0)
    assert (gone.state, gone.age_seconds, gone.workers) == ("gone", 30.0, 0)
    assert (near.is_on_this_machine, near.is_this_node, near.problems) == (True, False, ["one", "two"])
    assert (old.state, old.workers, old.ready, old.connections) == ("unknown", 2, None, 7)
    assert (own.state, own.is_this_node, own.ready, own.age_seconds) == ("degraded", True, 1, 0.0)
    assert (unindexed.node_id, unindexed.connections) == ("unindexed", 2)


def test_no_machine_is_the_same_where_a_sandbox_hides_the_boot() -> None:
    hidden = NodeIdentity(owner="o", host="h", pid=1, version="1")
    near, own = listed_nodes([SeenNode("a", NodeRecord.of(hidden, STATE, 1), 0.0)], [], "b", hidden, STATE)
    assert (near.is_on_this_machine, own.is_on_this_machine) == (False, True)
