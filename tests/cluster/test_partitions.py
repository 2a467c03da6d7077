"""What clients and operators see when the network between two nodes and their Redis fails.

`WSD_LONG_TESTS=1 pytest -s tests/cluster/test_partitions.py` prints the times and figures of docs/reliability.md.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.namespaces import Machine
from tests.support.two_nodes import Load, TwoNodes
from tests.support.waiting import long_run, until
from wsd.supervisor.percentile import percentile

LEASE_SECONDS = 10.0
"""After this time without a sign of life, Redis has forgotten a node; it has forgotten a worker after 5 s."""

NOTICED_SECONDS = 20.0

MENDED_SECONDS = 15.0


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    with TwoNodes(tmp_path_factory.mktemp("nodes")) as running:
        yield running


@pytest.fixture
def load(nodes: TwoNodes) -> Iterator[Load]:
    until(nodes.is_whole, "both nodes")
    with nodes.load() as running:
        yield running


def say(case: str, load: Load, failing: "Watch | None" = None, mending: "Watch | None" = None) -> None:
    """Print the figures of a case: seconds since the fault began, and since it ended."""
    for watch, since in ((failing, "noticed"), (mending, "mended")):
        if watch is not None:
            case += f"; {since}: " + ", ".join(f"{what} {seconds:.1f} s" for what, seconds in watch.seconds.items())
    print(f"\n{case}; {load.figures()}")


def assert_nothing_is_lost(load: Load) -> None:
    ledger = load.ledger
    assert sum(map(len, ledger.acked.values())) > 20
    assert (ledger.missing, ledger.duplicated, ledger.out_of_order, ledger.holes) == (0, 0, 0, 0), load.figures()


def processes(node: Cluster) -> dict[str, int | None]:
    status = node.status()
    return {process.name: process.pid for process in (*status.workers, status.nginx, status.valkey) if process}


def reader_of(load: Load, node: str) -> str:
    return next(user for user in load.readers if f"-{node}-" in user)


def talker_of(load: Load, node: str) -> str:
    return next(one.user_id for one in load.publishers if one.user_id.endswith(f"-{node}-talk"))


def goes_on(load: Load, node: str) -> None:
    """Wait until a reader of a node has ten more messages of the talker on this node."""
    reader, talker = reader_of(load, node), talker_of(load, node)
    before = load.arrived(reader, talker)
    until(lambda: load.arrived(reader, talker) > before + 10, f"messages among the clients of {node}")


def is_present(nodes: TwoNodes, load: Load, user: str) -> bool:
    return user in load.call(nodes.members(load.channels[0], seen_by="n1"))


def test_messages_cross_between_two_machines(nodes: TwoNodes, load: Load) -> None:
    for node in ("n1", "n2"):
        goes_on(load, node)
    load.settle()
    assert_nothing_is_lost(load)
    assert load.ledger.reconnects == 0


def cut(machine: Machine) -> AbstractContextManager[None]:
    return machine.cut()


def from_redis(machine: Machine) -> AbstractContextManager[None]:
    return machine.losing("input")


def to_redis(machine: Machine) -> AbstractContextManager[None]:
    return machine.losing("output")


class Watch:
    """The seconds from a moment until each of several things was noticed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.monotonic()

    def until(self, condition: Callable[[], object], what: str) -> None:
        until(condition, what, 60)
        self.seconds[what] = time.monotonic() - self._began

    def until_passed(self, seconds: float) -> None:
        """Wait until this time has passed, where the time itself is what is tried."""
        until(lambda: time.monotonic() - self._began > seconds, patience=seconds + 1)


@long_run
@pytest.mark.parametrize(("how", "seconds"), [(cut, 8), (cut, 30), (from_redis, 15), (to_redis, 15)])
def test_a_node_without_its_network_serves_its_clients_and_loses_nothing(
    nodes: TwoNodes, load: Load, how: Callable[[Machine], AbstractContextManager[None]], seconds: int
) -> None:
    before = processes(nodes.nodes["n2"])
    user = reader_of(load, "n2")
    assert is_present(nodes, load, user)
    with how(nodes.machines["n2"]):
        failing = Watch()
        failing.until(lambda: nodes.nodes["n2"].status().state == "degraded", "degraded")
        failing.until(lambda: not is_present(nodes, load, user), "absent")
        goes_on(load, "n1")
        goes_on(load, "n2")
        if seconds > LEASE_SECONDS:
            failing.until(lambda: nodes.state_of("n2", seen_by="n1") == "gone", "gone")
        failing.until_passed(seconds)
        assert nodes.nodes["n1"].is_healthy()
    mending = Watch()
    mending.until(nodes.nodes["n2"].is_healthy, "healthy")
    mending.until(lambda: is_present(nodes, load, user), "present")
    mending.until(nodes.is_whole, "whole")
    load.settle()
    say(f"{how.__name__} for {seconds} s", load, failing, mending)
    assert_nothing_is_lost(load)
    assert (load.ledger.reconnects, load.ledger.told) == (0, 0)
    assert processes(nodes.nodes["n2"]) == before
    assert max(failing.seconds.values()) < NOTICED_SECONDS
    assert max(mending.seconds.values()) < MENDED_SECONDS


@long_run
def test_one_lost_packet_in_ten_makes_a_node_slower_and_nothing_else(nodes: TwoNodes, load: Load) -> None:
    n2 = nodes.nodes["n2"]
    before = processes(n2)
    with nodes.machines["n2"].losing("input", "numgen random mod 10 == 0"):
        states = set[str]()
        while len(load.ledger.acks) < 600:
            states.add(n2.status().state)
            time.sleep(0.2)
    load.settle()
    p50, p99 = (percentile(sorted(load.ledger.acks), share) for share in (0.5, 0.99))
    say(f"one packet in ten lost, {'/'.join(states)}, ack p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms", load)
    assert_nothing_is_lost(load)
    assert processes(n2) == before


@long_run
def test_a_node_that_was_frozen_for_a_minute_goes_on_with_all_it_had(nodes: TwoNodes, load: Load) -> None:
    n2 = nodes.nodes["n2"]
    before = processes(n2)
    user = reader_of(load, "n2")
    with nodes.machines["n2"].frozen():
        failing = Watch()
        load.readers[user].move(nodes.doors["n1"].url)
        failing.until(lambda: nodes.state_of("n2", seen_by="n1") == "gone", "gone")
        failing.until(lambda: is_present(nodes, load, user), "the user of n2 on n1")
        goes_on(load, "n1")
        failing.until_passed(60)
    mending = Watch()
    mending.until(n2.is_healthy, "healthy")
    mending.until(nodes.is_whole, "whole")
    load.settle()
    say("frozen for 60 s", load, failing, mending)
    assert_nothing_is_lost(load)
    assert processes(n2) == before
    assert "hangs" not in n2.log("supervisor")
    found = json.loads(nodes.nodes["n1"].wsd("sessions", "--user", user, "--json").stdout)
    assert (found["total"], [one["node_id"] for one in found["sessions"]]) == (1, ["n1"])


@long_run
@pytest.mark.parametrize("kind", ["replica", "empty"])
def test_a_redis_that_moves_behind_its_address_is_followed(tmp_path: Path, kind: str) -> None:
    with TwoNodes(tmp_path) as nodes, nodes.load() as load:
        old = nodes.machines["redis"].back
        other = nodes.start_redis("redis2", *(("--replicaof", f"{old} 6379") if kind == "replica" else ()))
        try:
            if kind == "replica":
                until(lambda: nodes.ask_redis("redis2", "ROLE")[3] == "connected", "a replica that has it all")
            for node in ("n1", "n2"):
                goes_on(load, node)
            with nodes.machines["redis"].cut():
                failing = Watch()
                failing.until(
                    lambda: all(node.status().state == "degraded" for node in nodes.nodes.values()), "degraded"
                )
                if kind == "replica":
                    nodes.ask_redis("redis2", "REPLICAOF", "NO", "ONE")
                nodes.machines.move_address(nodes.address, "redis", "redis2")
                mending = Watch()
                mending.until(lambda: all(node.is_healthy() for node in nodes.nodes.values()), "healthy")
                mending.until(nodes.is_whole, "whole")
                for node in ("n1", "n2"):
                    goes_on(load, node)
                told = load.ledger.told
                load.settle()
            say(f"Redis moved, {kind}", load, failing, mending)
            assert (load.ledger.duplicated, load.ledger.out_of_order, load.ledger.holes) == (0, 0, 0)
            if kind == "empty":
                assert told >= len(load.readers) * len(load.channels)
            else:
                assert_nothing_is_lost(load)
        finally:
            other.kill()
