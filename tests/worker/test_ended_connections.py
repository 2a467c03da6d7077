"""The records of ended connections, in a real Valkey: bounded by number, time and rate."""

from collections.abc import AsyncIterator

import pytest

from wsd.worker.contract.redis_keys import trace_key, user_traces_key
from wsd.worker.delivery.connection_record import ConnectionRecord
from wsd.worker.redis_client import Redis, open_redis
from wsd.worker.sessions.ended_connections import MAX_RECORDS, RECORD_BURST, EndedConnections

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = open_redis(redis_url, connect_timeout=1, timeout=4)
    await client.flushall()
    yield client
    await client.aclose()


def record(session: str = "s", user: str = "ann", at: float = 1.0) -> ConnectionRecord:
    events = [(at, "connected", ""), (at + 1, "closed", "1000 by the client")]
    return ConnectionRecord(session_id=session, user_id=user, worker_id="worker-1-ab", node_id="n", events=events)


async def test_ended_connections_are_read_oldest_first(redis: Redis) -> None:
    ended = EndedConnections(redis, 60)
    await ended.write([])
    await ended.write([record(at=1), record("t", at=2), record("u", "bob")])
    await ended.write([record(at=3)])
    assert await ended.of_session("s") == [record(at=1), record(at=3)]
    assert await ended.sessions_of("ann") == ["s", "t"]  # the one that ended last, first
    assert await ended.sessions_of("bob") == ["u"]
    assert await ended.of_session("nobody") == []
    assert await ended.sessions_of("nobody") == []
    for key in (trace_key("s"), user_traces_key("ann")):
        assert 0 < await redis.pttl(key) <= 60_000


async def test_only_the_newest_records_are_kept(redis: Redis) -> None:
    ended = EndedConnections(redis, 60)
    await ended.write([record(at=number) for number in range(2 * MAX_RECORDS)])
    kept = await ended.of_session("s")
    assert [each.events[0][0] for each in kept] == list(range(MAX_RECORDS, 2 * MAX_RECORDS))
    await ended.write([record(f"s{number}", at=number) for number in range(2 * MAX_RECORDS)])
    assert (await ended.sessions_of("ann"))[0] == f"s{2 * MAX_RECORDS - 1}"
    assert len(await ended.sessions_of("ann")) == MAX_RECORDS


async def test_a_storm_does_not_fill_redis(redis: Redis) -> None:
    ended = EndedConnections(redis, 60)
    taken = sum(ended.takes_one() for _ in range(2 * RECORD_BURST))
    assert RECORD_BURST <= taken < RECORD_BURST + 100


@pytest.mark.parametrize("ttl", [0, 60])
async def test_without_records_none_are_found(ttl: float, redis: Redis) -> None:
    ended = EndedConnections(redis if not ttl else None, ttl)
    assert not ended.takes_one()
    await ended.write([record()])
    assert await ended.of_session("s") == []
    assert await ended.sessions_of("ann") == []
