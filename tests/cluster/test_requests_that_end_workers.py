"""A request that ends its worker is not sent to another one, and ends no other worker."""

import http.client
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.support.apps import copy_app
from tests.support.cluster import Cluster
from tests.support.waiting import eventually, until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    app = copy_app("ending", directory)
    config = "[nginx]\nhttp_timeout = 1\n[restart]\nmax_restarts = 100\nbackoff_max = 0.5\n"
    with Cluster(directory, "--workers", "3", "--app", app, config=config) as cluster:
        yield cluster


def ask(cluster: Cluster, method: str, path: str, body: bytes | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=20)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    finally:
        connection.close()


async def handshake(cluster: Cluster, path: str) -> int:
    try:
        async with connect(f"ws://127.0.0.1:{cluster.port}{path}", open_timeout=20):
            return 101
    except InvalidStatus as exc:
        return exc.response.status_code


def calls(cluster: Cluster, path: str) -> int:
    return (cluster.directory / "calls.txt").read_text().split().count(path)


@contextmanager
def one_worker_ends(cluster: Cluster) -> Iterator[None]:
    """Wait after the block until the worker that ended in it is replaced.

    A cluster is still called healthy in the moment before its supervisor notices that a process has ended.
    """
    before = {worker.pid for worker in cluster.status().workers}
    yield
    until(
        lambda: before != {worker.pid for worker in cluster.status().workers} and cluster.is_healthy(),
        "the worker that ended to be replaced",
    )


@pytest.mark.parametrize(("method", "end"), [("GET", "exit"), ("GET", "kill"), ("PUT", "exit")])
def test_a_request_that_ends_its_worker_is_carried_out_once(running: Cluster, method: str, end: str) -> None:
    path = f"/{method}-{end}"
    with one_worker_ends(running):
        assert ask(running, method, path, b"x" * 100_000 if method in ("POST", "PUT") else None) == 502
        assert calls(running, path) == 1
        assert ask(running, "GET", "/next") == 200  # by another worker, until the first is replaced


@pytest.mark.parametrize("end", ["exit"])
async def test_a_handshake_that_ends_its_worker_is_carried_out_once(running: Cluster, end: str) -> None:
    path = f"/handshake-{end}"
    with one_worker_ends(running):
        assert await handshake(running, path) == 502
        assert calls(running, path) == 1
        assert await handshake(running, "/fine") == 101


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_request_that_takes_too_long_is_carried_out_once(running: Cluster, method: str) -> None:
    path = f"/{method}-slow"
    assert ask(running, method, path) == 504
    assert calls(running, path) == 1


async def test_a_killed_worker_fails_no_later_request(running: Cluster) -> None:
    pid = running.worker(1).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: not psutil.pid_exists(pid))  # until then it may take a connection, and end with it
    for number in range(20):
        assert ask(running, "POST", f"/after-{number}", b"x" * 1000) == 200
        assert await handshake(running, "/after") == 101
    await eventually(lambda: running.replaced(1, pid) is not None)
