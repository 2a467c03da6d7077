"""`wsd chaos --nodes`: two nodes that share a Redis with Sentinels, and faults of processes, nodes and the primary."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.sentinels import SentinelSet, sentinel_set
from tests.support.waiting import until

SECONDS = os.environ.get("WSD_CHAOS_SECONDS", "")
SEED = os.environ.get("WSD_CHAOS_SEED", "1")

LONGEST_ACK_SECONDS = 15.0
"""Far more than a failover takes. The measured times are in docs/reliability.md."""


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[SentinelSet]:
    # Two replicas, so that one is left, as min-replicas-to-write wants, while a killed server is away.
    with sentinel_set(tmp_path / "redis", down_after=1.5, replicas=2, min_replicas=1) as running:
        yield running


@pytest.fixture
def nodes(tmp_path: Path, sentinels: SentinelSet) -> Iterator[list[Cluster]]:
    with ExitStack() as stack:
        started = []
        for name in ("node-a", "node-b"):
            (tmp_path / name).mkdir()
            arguments = ("--workers", "2", "--node-id", name, "--redis-url", sentinels.url)
            started.append(stack.enter_context(Cluster(tmp_path / name, *arguments)))
        until(lambda: [node.state for node in started[0].status().nodes] == ["healthy"] * 2)
        try:
            yield started
        finally:
            for cluster in started:
                cluster.wsd("stop")  # also a supervisor that chaos has started again


# A killed primary and a killed worker at one moment may lose something, with notice: this is a measurement.
@pytest.mark.skipif(not SECONDS, reason="runs where WSD_CHAOS_SECONDS is set")
def test_two_nodes_and_a_primary_with_sentinels_lose_nothing(nodes: list[Cluster]) -> None:
    arguments = ["--nodes", "--duration", SECONDS, "--seed", SEED, "--subscribers", "20", "--rate", "15", "--json"]
    result = nodes[0].wsd("chaos", *arguments, timeout=float(SECONDS) + 240)
    assert result.stdout, result.stderr
    verdict = json.loads(result.stdout)
    shown = json.dumps(verdict, indent=1)
    print(shown)
    assert (verdict["lost"], verdict["duplicated"], verdict["out_of_order"], verdict["holes"]) == (0, 0, 0, 0), shown
    assert result.returncode == 0, shown
    assert verdict["ack_max"] < LONGEST_ACK_SECONDS
    assert verdict["expected"] == 20 * verdict["acked"] > 0
    assert verdict["faults"].keys() & {"redis-failover", "redis-kill", "redis-freeze"}


def test_faults_that_need_nodes_or_sentinels_are_refused_without(cluster: Cluster) -> None:
    for fault, need in (("node-kill", "needs --nodes"), ("redis-kill", "redis+sentinel://")):
        result = cluster.wsd("chaos", "--faults", fault)
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert need in result.stderr
