"""The number of workers: a new one is known at once, and none is forgotten when all heartbeats expire together."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import unused_port
from tests.support.valkey import Valkey, server
from tests.support.waiting import eventually
from tests.support.worker import worker, workers
from wsd.worker.contract.redis_keys import heartbeat_key, session_key
from wsd.worker.redis_client import open_redis

pytestmark = pytest.mark.anyio


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Valkey]:
    with server(tmp_path / "far", unused_port()) as running:
        yield running


async def test_a_worker_that_comes_is_counted_before_the_next_beat(tmp_path: Path, far: Valkey) -> None:
    # The next beat of the first one is too far away to help.
    settings = {"redis_url": far.url, "heartbeat_interval": 3600.0, "heartbeat_ttl": 7200.0}
    (tmp_path / "second").mkdir()
    with (
        worker(tmp_path, **settings) as first,
        worker(tmp_path / "second", **settings, worker_id="worker-2-test") as second,
    ):
        assert second.health()[1]["websocket"]["total_workers"] == 2
        await eventually(lambda: first.health()[1]["websocket"]["total_workers"] == 2)


@pytest.mark.parametrize("how", ["frozen", "emptied"])
async def test_workers_whose_heartbeats_expired_together_stay_members(tmp_path: Path, far: Valkey, how: str) -> None:
    names = [f"worker-{number}" for number in range(1, 4)]
    redis = open_redis(far.url, connect_timeout=1, timeout=4)
    try:
        settings = {"redis_url": far.url, "heartbeat_interval": 0.3, "heartbeat_ttl": 2.0}
        with workers(tmp_path, 3, **settings) as running:
            sessions = [(await one.join(f"user-{number}"))[1] for number, one in enumerate(running)]
            if how == "frozen":
                far.freeze()
                await asyncio.sleep(2.5)  # what is awaited is that time passes: the heartbeats' own
                far.thaw()
            else:
                await redis.flushall()
            seen: set[bytes | str | None] = set()
            counted: set[int] = set()
            # Until all are back, and have had the time to bury each other.
            back_at = 0.0
            while not back_at or time.monotonic() < back_at + 2.0:
                for session_id in sessions:
                    seen.add(await redis.hget(session_key(session_id), "state"))
                counted |= {one.health()[1]["websocket"]["total_workers"] for one in running}
                if not back_at and await redis.exists(*map(heartbeat_key, names)) == len(names):
                    back_at = time.monotonic()
                await asyncio.sleep(0.02)
            assert seen <= {b"connected", None}  # None: not yet written again
            assert counted <= {1, 3} if how == "frozen" else counted == {3}
            assert b"connected" in seen
    finally:
        await redis.aclose()
