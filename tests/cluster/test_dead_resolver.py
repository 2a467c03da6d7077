"""A Redis that has a name, while the resolver of the machine answers nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import FAST_HEALTH, Cluster
from tests.support.namespaces import BACK, Machine, machines
from tests.support.waiting import long_run, until

pytestmark = long_run

CONFIGURATION = Path("/etc/netns")
"""`ip netns exec` shows the files in a folder here, named after the namespace, as if they were in /etc."""

NO_MACHINE = f"{BACK}.200"


@pytest.fixture
def machine() -> Iterator[Machine]:
    with machines("node") as made:
        node = made["node"]
        folder = CONFIGURATION / node.namespace
        folder.mkdir(parents=True)
        try:
            (folder / "resolv.conf").write_text(f"nameserver {NO_MACHINE}\n")
            # Packets to a machine that is not there are lost without an error, as in a broken network.
            node.knows_neighbour(NO_MACHINE)
            yield node
        finally:
            shutil.rmtree(folder)


def test_a_dead_resolver_costs_a_process_one_thread_and_no_line_in_the_log(machine: Machine, tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "--workers", "2", "--redis-url", "redis://redis.example:6379", config=FAST_HEALTH)
    cluster.command = ["ip", "netns", "exec", machine.namespace, *cluster.command]
    with cluster:
        until(lambda: cluster.log("worker-1").count("sessions cannot be written") > 0, patience=60)
        status = cluster.status()
        assert status.state == "degraded"
        assert any("Redis does not answer" in problem for problem in status.problems)
        assert [worker.restarts for worker in status.workers] == [0, 0]
        for worker in status.workers:
            assert psutil.Process(worker.pid).num_threads() <= 2  # with the one that looks up
            assert "never retrieved" not in cluster.log(worker.name)
        assert "never retrieved" not in cluster.log("supervisor")
        assert cluster.wsd("restart").returncode == 0
        with machine.inside():
            assert cluster.health()[1]["websocket"]["mode"] == "stand-in"
