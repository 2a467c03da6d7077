"""An external Redis goes away for ten seconds under load: nobody is disconnected, and nothing is lost on the node."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.hub_client import HubClient
from tests.support.ports import unused_port
from tests.support.proxy import Proxy
from tests.support.valkey import server
from tests.support.waiting import eventually, long_run

pytestmark = pytest.mark.anyio

OUTAGE_SECONDS = 10.0
RETURN_SECONDS = 4.0  # 2 s are promised; a machine that runs other tests, too, may stand still for a moment
CONFIG = "[health]\nheartbeat_interval = 0.5\n"
ALONE = CONFIG + "[redis]\nstand_in = false\n"


async def publish(client: HubClient, stop: asyncio.Event) -> int:
    """Publish numbers from 0 on to the channel `room`, and return how many there were."""
    number = 0
    while not stop.is_set():
        await client.send({"type": "publish", "channel": "room", "data": number})
        number += 1
        await asyncio.sleep(0.02)
    return number


async def collect(client: HubClient, heard: list[int]) -> None:
    async for text in client.connection:
        message = json.loads(text)
        if message["type"] == "message":
            heard.append(message["data"])


@pytest.mark.parametrize(
    ("fault", "stand_in"),
    [
        pytest.param("kill", True, marks=long_run),
        ("freeze", False),
        pytest.param("freeze", True, marks=long_run),
        pytest.param("kill", False, marks=long_run),
    ],
)
async def test_ten_seconds_without_redis_under_load(tmp_path: Path, fault: str, stand_in: bool) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        Cluster(tmp_path, "--workers", "2", "--redis-url", redis.url, config=CONFIG if stand_in else ALONE) as cluster,
    ):
        publisher = await cluster.client_of(1, "publisher")
        listeners = [await cluster.client_of(slot, f"listener-{slot}") for slot in (1, 2)]
        heard: list[list[int]] = [[] for _ in listeners]
        for listener in listeners:
            await listener.ask(type="subscribe", channel="room")
        collecting = [asyncio.create_task(collect(*pair)) for pair in zip(listeners, heard, strict=True)]
        stop = asyncio.Event()
        load = asyncio.create_task(publish(publisher, stop))
        await eventually(lambda: all(len(numbers) > 50 for numbers in heard))
        if fault == "freeze":
            redis.freeze()
        else:
            redis.kill()
        await asyncio.sleep(OUTAGE_SECONDS)
        reached = heard if stand_in else heard[:1]
        for numbers in reached:
            assert numbers == list(range(len(numbers)))
            assert len(numbers) > 300, "messages arrive while Redis is away"
        assert cluster.health()[1]["status"] == "degraded"
        if fault == "freeze":
            redis.thaw()
        else:
            redis.start()
        back = time.monotonic()
        await eventually(lambda: all(health["websocket"]["mode"] == "distributed" for health in all_health(cluster)))
        assert time.monotonic() - back < RETURN_SECONDS
        await eventually(cluster.is_healthy)
        stop.set()
        count = await load
        for numbers in heard:
            await eventually(lambda numbers=numbers: len(numbers) >= count)  # type: ignore[misc]
            assert numbers == list(range(count)), "each once, in order"
        assert [worker.restarts for worker in cluster.status().workers] == [0, 0]
        for client in [publisher, *listeners]:
            assert client.connection.close_code is None, "nobody was disconnected"
            await client.close()
        await asyncio.gather(*collecting)


def all_health(cluster: Cluster) -> list[dict[str, dict[str, str]]]:
    return [cluster.worker_health(slot) for slot in (1, 2)]


async def test_a_deaf_worker_is_replaced_and_the_others_are_not(tmp_path: Path) -> None:
    with server(tmp_path / "redis", unused_port()) as redis:
        async with Proxy(redis.url) as proxy:
            cluster = Cluster(tmp_path, "--workers", "2", "--redis-url", proxy.url, "--no-nginx", config=CONFIG)
            cluster.launch()
            try:
                await eventually(lambda: "wsd is up" in cluster.output)
                first, second = cluster.status().workers
                assert first.worker_id is not None
                proxy.deaf_to = first.worker_id.encode()
                await eventually(lambda: cluster.replaced(1, first.pid), patience=60)
                assert "can talk to Redis, but receives no messages from it" in cluster.log("supervisor")
                assert cluster.worker(2).pid == second.pid
                await eventually(cluster.is_healthy)
            finally:
                await asyncio.to_thread(cluster.__exit__, None, None, None)
