"""Who sends how many clients away: by command over all nodes, and after a node has joined."""

import pytest

from wsd.supervisor.nodes.records import NodeIdentity, NodeRecord, NodeState, SeenNode
from wsd.supervisor.peers.joining import PAUSE_SECONDS, ROUNDS, SETTLE_SECONDS, JoinWatch
from wsd.supervisor.peers.node_loads import NodeLoad, loads, parts, surplus

IDENTITY = NodeIdentity(owner="o", host="h", pid=1)
DRAIN = 5.0


def nodes(*counts: tuple[int, int]) -> list[NodeLoad]:
    """Return nodes a, b, ... with these numbers of workers that serve and of connections."""
    return [NodeLoad(name, ready, held) for name, (ready, held) in zip("abcdef", counts, strict=False)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((), {}),
        (((2, 100),), {}),
        (((2, 0), (2, 0)), {}),
        (((2, 100), (2, 0)), {"a": 50}),
        (((2, 100), (2, 100)), {}),
        (((2, 52), (2, 48)), {}),  # within the tolerance
        (((2, 53), (2, 47)), {"a": 3}),
        (((1, 100), (3, 0)), {"a": 75}),  # three times as many workers get three times as many
        (((1, 25), (3, 75)), {}),
        (((1, 60), (1, 60), (1, 0)), {"a": 20, "b": 20}),
        (((1, 1), (1, 0)), {}),  # one client cannot be halved
        (((1, 2), (1, 0)), {"a": 1}),
    ],
)
def test_a_node_has_too_many_beyond_its_share(counts: tuple[tuple[int, int], ...], expected: dict[str, int]) -> None:
    assert surplus(nodes(*counts)) == expected


@pytest.mark.parametrize(
    ("state", "ready", "counts"),
    [
        ("healthy", 1, True),
        ("degraded", 2, True),
        ("starting", 1, False),
        ("stopping", 1, False),
        ("healthy", 0, False),
        ("unknown", 1, False),
    ],
)
def test_only_nodes_that_take_clients_count(state: str, ready: int, counts: bool) -> None:
    record = NodeRecord.of(IDENTITY, NodeState(state=state, workers=2, ready=ready, connections=7), 10_000)
    assert loads([SeenNode("a", record, 0.0)]) == ([NodeLoad("a", ready, 7)] if counts else [])


def test_nodes_that_are_gone_or_not_understood_do_not_count() -> None:
    assert loads([SeenNode("a", None, 5.0, is_gone=True), SeenNode("b", None, 0.0)]) == []


@pytest.mark.parametrize(
    ("connections", "count", "expected"),
    [
        ({}, 5, {}),
        ({"w1": 10}, 4, {"w1": 4}),
        ({"w1": 10}, 20, {"w1": 10}),
        ({"w1": 10, "w2": 10}, 10, {"w1": 5, "w2": 5}),
        ({"w1": 10, "w2": 10}, 5, {"w1": 2, "w2": 3}),
        ({"w1": 20, "w2": 10}, 10, {"w1": 10}),
        ({"w1": 20, "w2": 10}, 14, {"w1": 12, "w2": 2}),
        ({"w1": 0, "w2": 3}, 3, {"w2": 3}),
        ({"w1": 0, "w2": 0}, 3, {}),
    ],
)
def test_the_fullest_workers_close(connections: dict[str, int], count: int, expected: dict[str, int]) -> None:
    assert parts(connections, count) == expected


@pytest.mark.parametrize("count", range(0, 70, 3))
def test_as_many_are_closed_as_asked_for_and_what_stays_is_even(count: int) -> None:
    connections = {"w1": 40, "w2": 3, "w3": 17, "w4": 3}
    closes = parts(connections, count)
    assert sum(closes.values()) == min(count, 63)
    stays = [connections[name] - number for name, number in closes.items()]
    assert max(stays, default=0) - min(stays, default=0) <= 1
    assert all(connections[name] <= max(stays) for name in connections.keys() - closes.keys() if stays)


FULL_AND_EMPTY = nodes((2, 100), (2, 0))


def joined(watch: JoinWatch) -> float:
    """Let the node b join, and return the moment when it has settled."""
    assert watch.step(0.0, FULL_AND_EMPTY[:1], DRAIN) == 0
    assert watch.step(1.0, FULL_AND_EMPTY, DRAIN) == 0
    return 1.0 + SETTLE_SECONDS


def test_a_node_that_is_there_from_the_beginning_has_not_joined() -> None:
    watch = JoinWatch("a")
    assert [watch.step(float(now), FULL_AND_EMPTY, DRAIN) for now in range(100)] == [0] * 100


def test_the_surplus_is_sent_away_once_a_node_has_settled() -> None:
    watch = JoinWatch("a")
    settled = joined(watch)
    assert watch.step(settled - 0.1, FULL_AND_EMPTY, DRAIN) == 0
    assert watch.step(settled, FULL_AND_EMPTY, DRAIN) == 50


def test_only_nodes_above_their_share_act() -> None:
    watch = JoinWatch("b")
    settled = joined(watch)
    assert watch.step(settled, FULL_AND_EMPTY, DRAIN) == 0


def test_rounds_have_pauses_and_end() -> None:
    watch = JoinWatch("a")
    settled = joined(watch)
    sent = [after for after in range(1000) if watch.step(settled + after, FULL_AND_EMPTY, DRAIN)]
    assert sent == [number * (DRAIN + PAUSE_SECONDS) for number in range(ROUNDS)]


def test_a_small_surplus_ends_the_rounds() -> None:
    watch = JoinWatch("a")
    settled = joined(watch)
    assert watch.step(settled, nodes((2, 104), (2, 96)), DRAIN) == 0
    assert watch.step(settled + 1, FULL_AND_EMPTY, DRAIN) == 0


def test_few_connections_are_not_worth_a_round() -> None:
    watch = JoinWatch("a")
    settled = joined(watch)
    assert watch.step(settled, nodes((2, 12), (2, 0)), DRAIN) == 0


def test_a_node_that_does_not_stay_has_not_joined() -> None:
    watch = JoinWatch("a")
    joined(watch)
    for now in range(2, 200):
        present = FULL_AND_EMPTY if now % 9 else FULL_AND_EMPTY[:1]
        assert watch.step(float(now), present, DRAIN) == 0


def test_a_node_that_comes_back_has_joined_again_but_the_pause_holds() -> None:
    watch = JoinWatch("a")
    settled = joined(watch)
    assert watch.step(settled, FULL_AND_EMPTY, DRAIN) == 50
    assert watch.step(settled + 1, FULL_AND_EMPTY[:1], DRAIN) == 0  # ends the rounds: there is no surplus alone
    assert watch.step(settled + 2, FULL_AND_EMPTY, DRAIN) == 0
    assert watch.step(settled + 2 + SETTLE_SECONDS, FULL_AND_EMPTY, DRAIN) == 0
    assert watch.step(settled + DRAIN + PAUSE_SECONDS, FULL_AND_EMPTY, DRAIN) == 50
