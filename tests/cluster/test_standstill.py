"""After a supervisor, or a whole node, was stopped, it keeps the processes and the clients that it had."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.cluster import FAST_HEALTH, Cluster
from tests.support.signals import stopped
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

HEARTBEAT_TIMEOUT = 1.0  # of FAST_HEALTH


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("standstill"), "--workers", "2", config=FAST_HEALTH) as running:
        yield running


@contextmanager
def all_stopped(pids: Iterable[int]) -> Iterator[None]:
    """Stop processes in this order, and let them continue in the same order at the end of the block."""
    pids = list(pids)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def served(cluster: Cluster) -> dict[str, int | None]:
    status = cluster.status()
    return {process.name: process.pid for process in (*status.workers, status.nginx, status.valkey) if process}


def standstills(cluster: Cluster) -> int:
    return cluster.log("supervisor").count("the supervisor was stopped for")


async def goes_on(cluster: Cluster, noticed: int) -> None:
    """Wait until the supervisor has noticed one more standstill, and has had the time to make up its mind."""
    await eventually(lambda: standstills(cluster) > noticed)
    woke = time.monotonic()
    await eventually(lambda: time.monotonic() - woke > 2 * HEARTBEAT_TIMEOUT and cluster.is_healthy())


async def test_a_supervisor_that_was_stopped_kills_no_worker(cluster: Cluster) -> None:
    before, noticed = served(cluster), standstills(cluster)
    clients = [await cluster.client_of(slot) for slot in (1, 2)]
    assert cluster.process is not None
    with stopped(cluster.process.pid):
        await asyncio.sleep(2.5)
    await goes_on(cluster, noticed)
    assert served(cluster) == before
    for client in clients:
        assert (await client.ask(type="ping"))["type"] == "pong"
        await client.close()
    assert "hangs" not in cluster.log("supervisor")


@pytest.mark.parametrize("supervisor_first", [True, False])
async def test_a_node_that_was_stopped_goes_on_with_all_it_had(cluster: Cluster, supervisor_first: bool) -> None:
    before, noticed = served(cluster), standstills(cluster)
    clients = [await cluster.client_of(slot) for slot in (1, 2)]
    pids = cluster.pids()
    with all_stopped(pids if supervisor_first else reversed(pids)):
        await asyncio.sleep(2.5)
    await goes_on(cluster, noticed)
    assert served(cluster) == before
    for client in clients:
        assert (await client.ask(type="ping"))["type"] == "pong"
        await client.close()
    assert "hangs" not in cluster.log("supervisor")


async def test_a_supervisor_that_woke_up_still_finds_workers_that_hang(cluster: Cluster) -> None:
    pid = served(cluster)["worker-1"]
    assert pid is not None
    assert cluster.process is not None
    with stopped(pid):
        with stopped(cluster.process.pid):
            await asyncio.sleep(1.5)
        await eventually(lambda: cluster.replaced(1, pid))
    assert "worker-1 hangs, no sign of life for" in cluster.log("supervisor")
