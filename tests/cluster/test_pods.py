"""The life of a pod, with the settings of deploy/kubernetes: it is probed and scraped, and it drains in time."""

import asyncio
import http.client
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, clean_env
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import eventually, long_run

pytestmark = [pytest.mark.anyio, long_run]

SETTINGS = Path(__file__).parents[2] / "deploy" / "kubernetes" / "base" / "wsd.toml"

DRAIN_SECONDS = 3.0
"""In place of the 30 seconds of the manifests."""

REST_SECONDS = 10.0
"""What the manifests allow a pod beside its drain before it is killed."""


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Cluster]:
    with valkey(tmp_path / "redis", unused_port()) as url:
        env = clean_env(
            NODE_ID="wsd-5d8f7c9b6-x2x7k",
            WSD_ADVERTISE="ws://10.1.2.3:8000/ws",
            WSD_STATE_DIR=str(tmp_path / ".wsd"),
            WSD_DRAIN_SECONDS=str(DRAIN_SECONDS),
            REDIS_URL=url,
        )
        with Cluster(tmp_path, config=SETTINGS.read_text("utf-8"), env=env) as cluster:
            yield cluster


def scraped(port: int, host: str) -> tuple[int, str]:
    """Ask for the metrics as a scraper does, which names the pod by its address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics", headers={"Host": host})
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


async def test_a_pod_is_probed_and_scraped_and_drains_before_it_is_killed(pod: Cluster) -> None:
    assert pod.health()[0] == 200
    assert pod.wsd("status", "--live").returncode == 0
    status, metrics = scraped(pod.port, "10.1.2.3:8000")
    assert status == 200
    assert 'wsd_node_connections{node="wsd-5d8f7c9b6-x2x7k"} 0' in metrics
    lines = [line for line in pod.output.splitlines() if line.startswith("{")]
    assert lines
    assert all(json.loads(line) for line in lines)
    pids = pod.pids()
    clients = [await pod.client(f"user{number}") for number in range(60)]
    ends = [asyncio.create_task(client.connection.wait_closed()) for client in clients]
    began = time.monotonic()
    pod.signal(signal.SIGTERM)
    answer = await eventually(lambda: (status := pod.get("/health")[0]) != 200 and status, "a probe that fails", 5.0)
    assert answer in (502, 503)  # of nginx, or of a worker
    assert not all(end.done() for end in ends)  # the probe fails before the clients are gone
    async with asyncio.timeout(DRAIN_SECONDS + 2):
        await asyncio.gather(*ends)
    assert {client.connection.close_code for client in clients} == {1012}
    assert await asyncio.to_thread(pod.wait) == 0
    assert time.monotonic() - began < DRAIN_SECONDS + REST_SECONDS
    pod.assert_nothing_is_left(pids)
