"""Warnings come before a node or its Redis is full, and the status shows other nodes."""

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.support.cluster import Cluster
from tests.support.disk import fill, small_disk_at
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import eventually

pytestmark = pytest.mark.anyio

QUICK = "[health]\nheartbeat_interval = 0.2\n"


async def test_status_warns_when_few_connections_are_left(tmp_path: Path) -> None:
    config = QUICK + "[nginx]\nworkers = 1\nworker_connections = 64\n"
    with Cluster(tmp_path, "--workers", "2", config=config) as cluster:
        assert cluster.status().connections_possible == 32
        assert cluster.status().warnings == []
        async with AsyncExitStack() as stack:
            for _ in range(27):
                stack.push_async_callback((await cluster.client()).close)
            await eventually(lambda: cluster.status().warnings != [])
            assert (
                "27 of 32 connections possible are in use: raise nginx.worker_connections"
                in cluster.wsd("status").stdout
            )
            assert cluster.status().state == "healthy"
        await eventually(lambda: cluster.status().warnings == [])


async def test_status_warns_when_valkey_is_nearly_full(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1", config=QUICK + "[redis]\nmax_memory = 20000000\n") as cluster:
        async with Redis.from_url(f"unix://{cluster.state_dir.valkey_socket}") as redis:
            number = 0
            while (await redis.info("memory"))["used_memory"] < 19_000_000:  # some of it is freed again
                await redis.set(f"large-{number}", b"x" * 100_000)
                number += 1
            await eventually(lambda: any("of 20 MB in use" in text for text in cluster.status().warnings))
            assert "raise redis.max_memory" in cluster.wsd("status").stdout
            await redis.delete(*(f"large-{each}" for each in range(number)))
        await eventually(lambda: cluster.status().warnings == [])


async def test_status_warns_while_messages_are_refused(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1", config=QUICK) as cluster:
        client = await cluster.client()
        async with Redis.from_url(f"unix://{cluster.state_dir.valkey_socket}") as redis:
            assert (await client.ask(type="publish", channel="news", data=1))["type"] == "ack"
            # Something else stands where the history should be: the heartbeats go on.
            await redis.set("ws_history:{news}", "no stream")
            refused = await client.ask(type="publish", channel="news", data=1)
            assert (refused["code"], refused["message"]) == (
                "not_stored",
                "the message is not stored: something else stands in its place",
            )
            await eventually(lambda: any("refuses messages" in text for text in cluster.status().warnings))
            assert cluster.status().state == "healthy"
            result = cluster.wsd("status").stdout
            assert "Redis refuses messages of 1 worker, and nobody receives them" in result
            # Full: nothing can be written any more, heartbeats among it.
            await redis.config_set("maxmemory", 1)
            refused = await client.ask(type="publish", channel="another", data=1)
            assert refused["message"] == "the message is not stored: the memory of Redis is full"
            await redis.config_set("maxmemory", 0)
        await client.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return the directory in which Valkey keeps its data."""
    with small_disk_at(tmp_path / ".wsd" / "valkey") as directory:
        yield directory


async def test_status_warns_while_the_disk_of_valkey_is_full(tmp_path: Path, small_disk: Path) -> None:
    config = QUICK + "[security]\nbytes_per_second = 0\n"
    with Cluster(tmp_path, "--workers", "1", config=config) as cluster:
        client = await cluster.client()
        await client.ask(type="subscribe", channel="news")
        ballast = fill(small_disk)
        refused = {"type": "ack"}
        while refused["type"] == "ack":
            refused = await client.ask(type="publish", channel="news", data="x" * 10_000)
        assert refused["code"] == "not_stored"
        await eventually(lambda: any("cannot write to its disk" in text for text in cluster.status().warnings))
        assert "make room there" in cluster.wsd("status").stdout
        ballast.unlink()
        await eventually(lambda: cluster.status().warnings == [])
        assert (await client.ask(type="publish", channel="news", data="again"))["type"] == "ack"
        await client.close()


async def test_all_nodes_that_share_a_redis_are_seen(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        Cluster(tmp_path / "one", "--workers", "1", "--node-id", "one", "--redis-url", url, config=QUICK) as one,
        Cluster(tmp_path / "two", "--workers", "2", "--node-id", "two", "--redis-url", url, config=QUICK) as two,
    ):
        client = await two.client()
        expected = [("one", 1, 0), ("two", 2, 1)]
        await eventually(lambda: [(n.node_id, n.workers, n.connections) for n in one.status().nodes] == expected)
        assert "two: 2 workers, 1 connection" in one.wsd("status").stdout
        shown = one.wsd("status", "--nodes")
        assert (shown.returncode, shown.stdout.count("HEALTHY")) == (0, 2)
        assert "one (this one)" in shown.stdout
        assert two.status().websocket_url in shown.stdout
        listed = json.loads(one.wsd("status", "--nodes", "--json").stdout)
        assert [(node["node_id"], node["is_this_node"]) for node in listed] == [("one", True), ("two", False)]
        (tmp_path / "two" / "wsd.toml").write_text(QUICK + '[cluster]\nadvertise = "wss://two.example/ws"\n')
        await two.run("reload")
        await eventually(lambda: one.status().nodes[1].websocket_url == "wss://two.example/ws")
        await client.close()
        two.kill()
        await eventually(lambda: one.status().nodes[1].state == "gone")
        shown = one.wsd("status", "--nodes")
        assert (shown.returncode, shown.stdout.count("GONE")) == (1, 1)


async def test_a_node_of_the_same_name_waits_for_the_lease_of_one_that_is_gone(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    arguments = ("--workers", "1", "--node-id", "pod-1", "--redis-url")
    with valkey(tmp_path / "redis", unused_port()) as url:
        with Cluster(tmp_path / "first", *arguments, url, config=QUICK) as first:
            first.kill()
        with Cluster(tmp_path / "second", *arguments, url, config=QUICK) as second:
            assert "waiting up to" in second.output
            assert [node.node_id for node in second.status().nodes] == ["pod-1"]
