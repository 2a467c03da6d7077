"""Redis answers, but cannot be used: it is a replica, loads, lacks replicas, or belongs to a cluster."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.brokers import running_broker
from tests.support.hub_client import ask
from tests.support.ports import unused_port
from tests.support.valkey import Valkey, server
from tests.support.waiting import eventually
from tests.support.worker import worker
from wsd.worker.broker.history import HistoryQuery, Retention
from wsd.worker.broker.message_broker import Mode
from wsd.worker.redis_client import Redis, open_redis

pytestmark = pytest.mark.anyio

KEEP = Retention(100, 60.0)


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Valkey]:
    with server(tmp_path / "far", unused_port()) as running:
        yield running


@asynccontextmanager
async def administrator(url: str) -> AsyncIterator[Redis]:
    redis = open_redis(url, connect_timeout=1, timeout=4)
    try:
        yield redis
    finally:
        await redis.aclose()


async def become_unusable(redis: Redis, how: str, other: Valkey) -> None:
    match how:
        case "READONLY":
            await redis.replicaof("127.0.0.1", other.url.rpartition(":")[2])
        case "NOREPLICAS":
            await redis.config_set("min-replicas-to-write", 1)


async def become_usable(redis: Redis) -> None:
    await redis.replicaof("NO", "ONE")
    await redis.config_set("min-replicas-to-write", 0)


@pytest.mark.parametrize("how", ["READONLY", "NOREPLICAS"])
async def test_messages_published_without_redis_wait_and_are_stored_in_order(
    tmp_path: Path, far: Valkey, how: str
) -> None:
    with server(tmp_path / "other", unused_port()) as other:
        async with administrator(far.url) as redis, running_broker("a", far.url) as (broker, _):
            await eventually(lambda: broker.health.mode is Mode.DISTRIBUTED)
            assert await broker.append("{c}", b"0", KEEP)
            await become_unusable(redis, how, other)
            for number in range(1, 4):
                assert await broker.append("{c}", b"%d" % number, KEEP) is None  # not yet, and not refused
            assert broker.health.mode is Mode.LOCAL
            assert any(word in broker.health.reason for word in ("read only replica", "NOREPLICAS"))
            assert broker.statistics.dropped == 0
            await become_usable(redis)
            await eventually(lambda: broker.health.mode is Mode.DISTRIBUTED and not broker.statistics.spooled)
            assert await broker.append("{c}", b"4", KEEP)
            [page] = await broker.read([HistoryQuery("{c}", KEEP, 0)])
            stored = [int(entry.payload) for entry in page.entries]
            assert stored[-4:] == [1, 2, 3, 4]  # a replica forgets what it had before


async def test_an_idle_worker_notices_by_its_heartbeat_and_logs_why(tmp_path: Path, far: Valkey) -> None:
    with server(tmp_path / "other", unused_port()) as other, worker(tmp_path, redis_url=far.url) as serving:
        async with administrator(far.url) as redis:
            await redis.replicaof("127.0.0.1", other.url.rpartition(":")[2])

            def health() -> dict[str, Any]:
                found: dict[str, Any] = serving.health()[1]
                return found

            await eventually(lambda: health()["status"] == "degraded")
            assert health()["websocket"]["mode"] == "local"
            connection = await serving.connect()
            answer = await ask(connection, type="publish", channel="room", data=1)
            assert answer["type"] == "ack"
            assert answer["durable"] is False
            await redis.replicaof("NO", "ONE")
            await eventually(lambda: health()["status"] == "healthy")
            while (later := json.loads(await connection.recv()))["type"] != "ack":
                pass
            assert later["durable"] is True
            await connection.close()


async def test_a_server_of_a_cluster_is_away_and_says_why(tmp_path: Path) -> None:
    options = ("--cluster-enabled", "yes", "--cluster-port", str(unused_port()))
    with (
        server(tmp_path / "cluster", unused_port(), *options) as member,
        worker(tmp_path, redis_url=member.url) as serving,
    ):
        connection = await serving.connect()
        answer = await ask(connection, type="publish", channel="room", data=1)
        assert answer["type"] == "ack"
        assert answer["durable"] is False
        assert serving.health()[1]["status"] == "degraded"
        await connection.close()
