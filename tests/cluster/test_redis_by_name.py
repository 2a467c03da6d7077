"""A Redis that has a name: the resolver answers nothing, or something else than before."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.cluster import FAST_HEALTH, Cluster
from tests.support.namespaces import BACK, Machine, machines
from tests.support.valkey import server
from tests.support.waiting import long_run, until

pytestmark = long_run

CONFIGURATION = Path("/etc/netns")
"""`ip netns exec` shows the files in a folder here, named after the namespace, as if they were in /etc."""

NO_MACHINE = f"{BACK}.200"


@contextmanager
def files(machine: Machine, **texts: str) -> Iterator[Path]:
    """Have the machine see these files in /etc. Yield the folder that they are in."""
    folder = CONFIGURATION / machine.namespace
    folder.mkdir(parents=True)
    try:
        for name, text in texts.items():
            (folder / name.replace("_", ".")).write_text(text)
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def machine() -> Iterator[Machine]:
    with machines("node") as made:
        node = made["node"]
        # Packets to a machine that is not there are lost without an error, as in a broken network.
        node.knows_neighbour(NO_MACHINE)
        with files(node, resolv_conf=f"nameserver {NO_MACHINE}\n"):
            yield node


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


def test_a_redis_that_moves_behind_its_name_is_followed(tmp_path: Path) -> None:
    anywhere = ("--bind", "0.0.0.0", "--protected-mode", "no")
    with machines("node", "redis", "redis2") as made, ExitStack() as stack:
        for name in ("redis", "redis2"):
            with made[name].inside():
                stack.enter_context(server(tmp_path / name, 6379, *anywhere))
        hosts = stack.enter_context(files(made["node"], hosts=f"{made['redis'].back} redis.example\n")) / "hosts"
        cluster = Cluster(tmp_path, "--workers", "2", "--redis-url", "redis://redis.example:6379", config=FAST_HEALTH)
        cluster.command = ["ip", "netns", "exec", made["node"].namespace, *cluster.command]
        with cluster, made["redis"].cut():
            until(lambda: cluster.status().state == "degraded")
            hosts.write_text(f"{made['redis2'].back} redis.example\n")
            until(cluster.is_healthy)
            assert [worker.restarts for worker in cluster.status().workers] == [0, 0]
