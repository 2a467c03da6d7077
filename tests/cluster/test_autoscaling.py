"""Autoscaling on real processes: workers come with the clients and go after them, and no client misses a message."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.waiting import eventually, long_run
from wsd.client import WsdClient

pytestmark = [pytest.mark.anyio, long_run]

CONFIG = """
[cluster]
workers = 1
drain_seconds = 2.0
[scale]
max = 3
connections_per_worker = 5
down_after = 3.0
"""


async def test_workers_follow_the_clients_and_nothing_is_lost(tmp_path: Path) -> None:
    with Cluster(tmp_path, config=CONFIG) as cluster:
        url = f"ws://127.0.0.1:{cluster.port}/ws"
        async with AsyncExitStack() as staying:
            stay = [await staying.enter_async_context(WsdClient(url, f"stays{n}")) for n in range(3)]
            for client in stay:
                await client.subscribe("news")
            over = asyncio.Event()
            publishing = asyncio.create_task(publish(stay[0], over))
            async with AsyncExitStack() as leaving:
                for number in range(9):
                    await leaving.enter_async_context(WsdClient(url, f"leaves{number}"))
                await eventually(lambda: len(cluster.status().workers) == 3, "three workers")
                await eventually(lambda: max(connections(cluster)) <= 5, "connections to move to the new workers", 60)
                assert cluster.wsd("scale", "4").returncode == 1
            await eventually(lambda: len(cluster.status().workers) == 1, "one worker", 60)
            await eventually(lambda: sum(connections(cluster)) == 3, "the clients to be back")
            over.set()
            published = await publishing
            for client in stay:
                heard = []
                async with asyncio.timeout(20):
                    async for message in client:
                        heard.append(message["data"])
                        if len(heard) == published:
                            break
                assert heard == list(range(published))
        events = cluster.wsd("events").stdout
        assert "connections each, scale.connections_per_worker is 5" in events
        assert "autoscaling from 3 to 2 workers: 2 workers would have been enough for 3 s" in events
        assert "autoscaling from 2 to 1 worker: 1 worker would have been enough for 3 s" in events
        assert "asked for by the supervisor, by [scale]" in events
        assert 'wsd_node_workers{node="' in cluster.get("/metrics")[1].decode()
        assert cluster.is_healthy()


def connections(cluster: Cluster) -> list[int]:
    return [worker.connections or 0 for worker in cluster.status().workers]


async def publish(client: WsdClient, over: asyncio.Event) -> int:
    """Publish numbers until `over` is set, and return how many were published."""
    number = 0
    while not over.is_set():
        await client.publish("news", number)
        number += 1
        await asyncio.sleep(0.05)
    return number
