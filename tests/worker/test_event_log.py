"""The log of events, in memory and in Redis: each fact is written once, however often it is noted."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import pytest

from wsd.worker.contract.redis_keys import event_session_key, session_key
from wsd.worker.hooks.event_queue import EventQueue, Wanted
from wsd.worker.hooks.memory_events import MemoryEventLog
from wsd.worker.hooks.records import Event, SessionFacts
from wsd.worker.hooks.redis_events import RedisEventLog
from wsd.worker.redis_client import Redis, open_redis
from wsd.worker.sessions.redis_store import RedisSessionStore
from wsd.worker.sessions.session_store import SessionInfo

pytestmark = pytest.mark.anyio

ALL = ("connected", "disconnected", "subscribed", "unsubscribed")
MAX_WAITING = 6


def facts(session_id: str) -> SessionFacts:
    return SessionFacts(session_id=session_id, user_id="ann", username="Ann", connected_at=1.0)


class Log(Protocol):
    async def opened(self, session_id: str, *channels: str) -> None: ...
    async def moved(self, session_id: str, changes: Mapping[str, bool]) -> None: ...
    async def ended(self, session_id: str) -> None: ...
    def webhooks(self) -> EventQueue: ...


class InMemory:
    def __init__(self) -> None:
        self.log = MemoryEventLog(MAX_WAITING)
        self.log.wanted = Wanted(("connected",), ALL)

    async def opened(self, session_id: str, *channels: str) -> None:
        self.log.opened(facts(session_id), channels)

    async def moved(self, session_id: str, changes: Mapping[str, bool]) -> None:
        self.log.moved(session_id, changes)

    async def ended(self, session_id: str) -> None:
        self.log.ended(session_id)

    def webhooks(self) -> EventQueue:
        return self.log.queue("webhooks")


class InRedis:
    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.log = RedisEventLog(redis, 60, MAX_WAITING)
        self.log.wanted = Wanted(("connected",), ALL)

    async def opened(self, session_id: str, *channels: str) -> None:
        async with self.redis.pipeline(transaction=False) as pipe:
            self.log.opened(pipe, facts(session_id), channels)
            await pipe.execute()

    async def moved(self, session_id: str, changes: Mapping[str, bool]) -> None:
        async with self.redis.pipeline(transaction=False) as pipe:
            self.log.moved(pipe, session_id, changes)
            await pipe.execute()

    async def ended(self, session_id: str) -> None:
        async with self.redis.pipeline(transaction=False) as pipe:
            self.log.ended(pipe, [session_id])
            await pipe.execute()

    def webhooks(self) -> EventQueue:
        return self.log.queue("webhooks")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = open_redis(redis_url, connect_timeout=1, timeout=2)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture(params=["memory", "redis"])
async def log(request: pytest.FixtureRequest, redis: Redis) -> Log:
    return InMemory() if request.param == "memory" else InRedis(redis)


async def events(log: Log) -> list[Event]:
    return [entry.event for entry in await log.webhooks().read(100)]


def told(found: list[Event]) -> list[tuple[str, Any]]:
    return [(type(event).__name__, getattr(event, "channel", getattr(event, "channels", None))) for event in found]


async def test_what_is_noted_again_is_written_once(log: Log) -> None:
    for _ in range(2):
        await log.opened("s")
    for _ in range(2):
        await log.moved("s", {"a": True, "b": True})
    await log.moved("s", {"b": False})
    for _ in range(2):
        await log.ended("s")
    assert told(await events(log)) == [
        ("Connected", None),
        ("Subscribed", "a"),
        ("Subscribed", "b"),
        ("Unsubscribed", "b"),
        ("Disconnected", ("a",)),
    ]
    ids = [event.id for event in await events(log)]
    assert len(set(ids)) == len(ids)
    assert (ids[0], ids[-1]) == ("s:connected", "s:disconnected")


async def test_a_session_that_is_not_stored_has_no_events(log: Log) -> None:
    await log.moved("s", {"a": True})
    await log.ended("s")
    assert await events(log) == []


async def test_a_session_that_is_written_late_is_told_of_with_its_channels(log: Log) -> None:
    for _ in range(2):
        await log.opened("s", "a")
    await log.moved("s", {"a": True, "b": False})
    assert told(await events(log)) == [("Connected", None), ("Subscribed", "a")]


async def test_the_oldest_events_are_dropped_and_counted(log: Log) -> None:
    for number in range(MAX_WAITING + 3):
        await log.opened(f"s{number}")
    waiting = await log.webhooks().waiting()
    assert (waiting.count, waiting.dropped) == (MAX_WAITING, 3)
    assert [event.session_id for event in await events(log)] == [f"s{number}" for number in range(3, MAX_WAITING + 3)]


async def test_one_worker_at_a_time_reads(log: Log) -> None:
    first, second = log.webhooks(), log.webhooks()
    assert await first.take()
    assert not await second.take()
    assert await first.renew()
    assert not await second.renew()
    await second.release()
    assert await first.renew()
    await first.release()
    assert await second.take()
    assert not await first.renew()


async def test_events_wait_until_they_are_removed(log: Log) -> None:
    await log.opened("s", "a")
    queue = log.webhooks()
    first, second = await queue.read(10)
    assert await queue.read(1) == [first]
    await queue.remove([first])
    assert await queue.read(10) == [second]
    assert (await queue.waiting()).oldest_at == second.event.at
    await queue.remove([second])
    waiting = await queue.waiting()
    assert (waiting.count, waiting.oldest_at) == (0, None)


async def test_the_end_of_a_session_that_no_worker_deleted_is_found(redis: Redis) -> None:
    """A worker dies between the register of a session and its record; another one after it has deleted the record."""
    log = InRedis(redis)
    log.log = RedisEventLog(redis, 0.2, 100)
    log.log.wanted = Wanted((), ALL)
    store = RedisSessionStore(redis, "w", 0.2, events=log.log)
    await log.opened("never-stored")
    stored = SessionInfo(
        session_id="stored", user_id="u", username="u", node_id="n", worker_id="w", connected_at=0.0, last_seen=0.0
    )
    await store.create(stored)
    await redis.persist(session_key("stored"))
    ended: set[str] = set()

    async def look() -> None:
        await store.cleanup()
        ended.update(e.session_id for e in await events(log) if type(e).__name__ == "Disconnected")

    while not ended:
        await look()
    assert ended == {"never-stored"}
    assert await redis.exists(event_session_key("stored"))
    await redis.delete(session_key("stored"))
    while len(ended) < 2:
        await look()
    assert not await redis.exists(event_session_key("stored"))
    assert not [key async for key in redis.scan_iter("{wsd}:event_session*")]


async def test_without_anybody_who_wants_events_nothing_is_written(redis: Redis) -> None:
    log = InRedis(redis)
    log.log.wanted = Wanted()
    await log.opened("s", "a")
    await log.moved("s", {"b": True})
    await log.ended("s")
    assert await redis.dbsize() == 0


async def test_an_entry_that_is_no_event_holds_up_nothing(redis: Redis) -> None:
    log = InRedis(redis)
    await redis.xadd("{wsd}:events:webhooks", {"type": "nonsense"})
    await log.opened("s")
    found = await log.webhooks().waiting()  # as a reader looks before it reads
    assert (found.count, found.oldest_at) == (2, None)
    assert told(await events(log)) == [("Connected", None)]
    assert (await log.webhooks().waiting()).count == 1
