"""The interface of session stores, in memory and over Redis, which must hold when workers die suddenly."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from wsd.worker.broker.message_format import UNNUMBERED
from wsd.worker.contract.redis_keys import (
    CLEANUP_KEY,
    SESSION_WORKERS_KEY,
    SESSIONS_KEY,
    heartbeat_key,
    session_key,
    user_sessions_key,
    worker_channel,
    worker_sessions_key,
)
from wsd.worker.redis_client import Redis, open_redis
from wsd.worker.security.channel_access import BY_APPLICATION, Grant
from wsd.worker.sessions.memory_store import InMemorySessionStore
from wsd.worker.sessions.redis_store import BATCH, RedisSessionStore
from wsd.worker.sessions.session_store import Claim, SessionInfo, SessionState, SessionStore

pytestmark = pytest.mark.anyio

TTL = 100.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def session(number: int = 1, **changes: Any) -> SessionInfo:
    fields: dict[str, Any] = {
        "session_id": f"session-{number}",
        "user_id": "ann",
        "username": "Ann Other",
        "node_id": "node",
        "worker_id": "worker-a",
        "connected_at": 1_800_000_000.0 + number,
        "last_seen": 1_800_000_000.0,
        "metadata": {},
    }
    return SessionInfo(**{**fields, **changes})


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of an empty database, on a server that this module started."""
    client = open_redis(redis_url, connect_timeout=1, timeout=4)
    await client.flushall()
    yield client
    await client.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest, clock: Clock) -> SessionStore:
    """The store of worker-a."""
    if request.param == "memory":
        return InMemorySessionStore(TTL, clock)
    return RedisSessionStore(request.getfixturevalue("redis"), "worker-a", TTL, clock)


@pytest.fixture
def store_of_b(redis: Redis, clock: Clock) -> RedisSessionStore:
    return RedisSessionStore(redis, "worker-b", TTL, clock)


@pytest.fixture
def store_of_a(redis: Redis, clock: Clock) -> RedisSessionStore:
    return RedisSessionStore(redis, "worker-a", TTL, clock)


def test_a_session_survives_json() -> None:
    original = session(metadata={"a": [1, {"b": None}], "ü": "x"}, state=SessionState.DETACHED)
    assert SessionInfo.from_json(original.to_json()) == original
    assert json.loads(original.to_json())["state"] == "detached"
    with pytest.raises(ValueError, match="unlimited"):
        SessionInfo.from_json(original.to_json().replace(b'"detached"', b'"unlimited"'))
    with pytest.raises(AttributeError):
        original.user_id = "bob"  # type: ignore[misc]


async def test_a_created_session_is_found_by_id_user_and_worker(store: SessionStore) -> None:
    one, two = session(1, metadata={"k": [1, "ü"]}), session(2, user_id="bob")
    await store.create(one)
    await store.create(two)
    assert await store.get("session-1") == one
    assert await store.get("session-9") is None
    assert await store.list_by_user("ann") == [one]
    assert await store.list_by_user("nobody") == []
    assert await store.list_by_worker("worker-a") == [one, two]
    assert await store.list_by_worker("worker-z") == []
    assert await store.count() == 2


async def test_sessions_are_listed_by_page(store: SessionStore) -> None:
    assert await store.list_all(0, 10) == []
    sessions = [session(number) for number in range(5)]
    await store.create_many(sessions)
    pages = [await store.list_all(offset, 2) for offset in (0, 2, 4, 6)]
    assert [len(page) for page in pages] == [2, 2, 1, 0]
    by_id = {found.session_id: found for page in pages for found in page}
    assert by_id == {each.session_id: each for each in sessions}


async def test_creating_a_session_again_replaces_it_whole(store: SessionStore) -> None:
    await store.create(session(1, metadata={"old": 1}))
    replacement = session(1, metadata={"new": 2})
    await store.create(replacement)
    assert await store.get("session-1") == replacement
    assert await store.list_by_user("ann") == [replacement]
    assert await store.count() == 1
    of_bob = session(1, user_id="bob")
    await store.create(of_bob)
    assert await store.list_by_user("ann") == []
    assert await store.list_by_user("bob") == [of_bob]


async def test_many_are_created_detached_and_deleted_at_once(store: SessionStore) -> None:
    sessions = [session(number, user_id=f"user-{number % 3}") for number in range(BATCH + 50)]
    await store.create_many(sessions)
    assert await store.count() == len(sessions)
    assert len(await store.list_by_worker("worker-a")) == len(sessions)
    ids = [s.session_id for s in sessions]
    await store.detach_many(ids[:-1])
    states = [s.state for s in await store.list_by_worker("worker-a")]
    assert states == [SessionState.DETACHED] * (len(ids) - 1) + [SessionState.CONNECTED]
    await store.delete_many(ids)
    assert await store.count() == 0
    assert await store.list_by_user("user-1") == []
    assert await store.list_by_worker("worker-a") == []


async def test_what_a_member_was_given_is_kept_with_its_channel(store: SessionStore) -> None:
    by_token = Grant(actions=("subscribe", "publish"), expires_at=1e10)
    await store.create(session(1, channels=frozenset({"a", "b"}), grants={"a": by_token}))
    await store.update_channels({"session-1": {"b": BY_APPLICATION, "c": True, "d": by_token, "e": False}})
    found = (await store.list_by_user("ann"))[0]
    assert found.channels == {"a", "b", "c", "d"}
    assert found.grants == {"a": by_token, "b": BY_APPLICATION, "d": by_token}
    await store.update_channels({"session-1": {"a": False, "b": True, "d": BY_APPLICATION}})
    found = (await store.list_by_user("ann"))[0]
    assert found.channels == {"b", "c", "d"}
    assert found.grants == {"d": BY_APPLICATION}


async def test_metadata_is_merged(store: SessionStore) -> None:
    await store.create(session(1, metadata={"keep": 1, "change": 1, "drop": 1}))
    assert await store.update_metadata("session-1", {"change": {"x": 2}, "drop": None, "add": "ü"}) is True
    found = await store.get("session-1")
    assert found is not None
    assert found.metadata == {"keep": 1, "change": {"x": 2}, "add": "ü"}
    assert (await store.list_by_user("ann"))[0].metadata == found.metadata
    assert await store.update_metadata("session-9", {"a": 1}) is False
    assert await store.get("session-9") is None


async def test_a_detached_session_waits_for_its_client(store: SessionStore, clock: Clock) -> None:
    await store.create(session(1))
    clock.now += 50
    await store.detach("session-1")
    await store.detach("session-9")
    store.touch("session-1")
    await store.flush()
    found = await store.get("session-1")
    assert found is not None
    assert (found.state, found.last_seen) == (SessionState.DETACHED, clock.now)
    assert await store.count() == 1


async def test_a_session_that_was_left_early_is_kept_for_a_moment(store: SessionStore, clock: Clock) -> None:
    sessions = [session(1, token="t"), session(2, token="t"), session(3), session(4, user_id="bob")]
    await store.create_many(sessions)
    await store.detach_many(["session-1", "session-2", "session-4", "session-9"], keep_seconds=30)
    assert await store.count() == 4
    assert [each.session_id for each in await store.list_by_user("bob")] == ["session-4"]
    clock.now += 29
    fields = {"token": "t", "new_token": "new", "worker_id": "worker-a", "node_id": "node", "username": "Ann"}
    taken = await store.claim(Claim(session_id="session-2", user_id="ann", **fields))
    assert taken is not None
    clock.now += 2
    assert await store.count() == 2
    assert [each.session_id for each in await store.list_by_user("ann")] == ["session-2", "session-3"]
    assert await store.list_by_user("bob") == []
    clock.now += 40
    await store.detach("session-2")
    clock.now += 40
    assert await store.count() == 1, "whoever came back has all the time of a session again"


async def test_an_expired_session_leaves_nothing_in_redis(store_of_a: RedisSessionStore, redis: Redis) -> None:
    await store_of_a.create_many([session(1, user_id="mallory"), session(2)])
    await store_of_a.detach_many(["session-1"], keep_seconds=0.3)
    async with asyncio.timeout(10):
        while await redis.exists(session_key("session-1"), user_sessions_key("mallory")):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await redis.exists(session_key("session-2"), user_sessions_key("ann")) == 2
    assert await redis.pttl(worker_sessions_key("worker-a")) > 10_000
    assert await redis.pttl(SESSIONS_KEY) == -1, "it is for all workers"


async def test_a_deleted_session_is_gone_and_may_be_deleted_again(store: SessionStore) -> None:
    await store.create(session(1))
    await store.create(session(2))
    for _ in range(2):
        await store.delete("session-1")
        assert await store.get("session-1") is None
        assert [s.session_id for s in await store.list_by_user("ann")] == ["session-2"]
        assert await store.count() == 1


async def test_a_touched_session_lives_on(store: SessionStore, clock: Clock) -> None:
    await store.create(session(1))
    clock.now += 60
    store.touch("session-1")
    store.touch("session-9")
    await store.flush()
    found = await store.get("session-1")
    assert found is not None
    assert found.last_seen == clock.now
    clock.now += 60
    assert await store.count() == 1
    assert len(await store.list_by_user("ann")) == 1


async def test_a_session_that_nobody_touches_is_not_counted_and_cleaned_up(store: SessionStore, clock: Clock) -> None:
    await store.create(session(1))
    clock.now += TTL + 1
    assert await store.count() == 0
    assert await store.list_by_user("ann") == []
    assert await store.list_by_worker("worker-a") == []
    assert await store.cleanup() == 1
    assert await store.cleanup() == 0


# Between workers, over Redis


async def test_another_worker_sees_it_all(store_of_a: RedisSessionStore, store_of_b: RedisSessionStore) -> None:
    one = session(1, metadata={"a": 1})
    await store_of_a.create(one)
    assert await store_of_b.get("session-1") == one
    assert await store_of_b.list_by_worker("worker-a") == [one]
    assert await store_of_b.count() == 1
    await store_of_a.detach("session-1")
    found = await store_of_b.get("session-1")
    assert found is not None
    assert found.state is SessionState.DETACHED


async def test_the_owner_of_a_session_is_notified_of_changes_by_another_worker(
    redis: Redis, store_of_a: RedisSessionStore, store_of_b: RedisSessionStore
) -> None:
    await store_of_a.create(session(1, metadata={"a": 1}))
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(worker_channel("worker-a"))
        assert (await pubsub.get_message(timeout=5) or {})["type"] == "subscribe"

        async def notification() -> Any:
            message = await pubsub.get_message(timeout=5)
            assert message is not None
            return json.loads(message["data"].removeprefix(UNNUMBERED))

        await store_of_a.update_metadata("session-1", {"own": 1})  # is no news to itself
        assert await store_of_b.update_metadata("session-1", {"b": 2}) is True
        assert await notification() == {"type": "session", "session_id": "session-1"}
        refreshed = await store_of_a.refresh("session-1")
        assert refreshed is not None
        assert refreshed.metadata == {"a": 1, "own": 1, "b": 2}
        assert await store_of_a.get("session-1") == refreshed
        await store_of_b.delete("session-1")
        assert await notification() == {"type": "session", "session_id": "session-1"}
        assert await store_of_a.refresh("session-1") is None
        assert await store_of_a.get("session-1") is None
        assert await store_of_a.list_by_worker("worker-a") == []


async def test_changes_of_two_workers_at_once_all_hold(
    store_of_a: RedisSessionStore, store_of_b: RedisSessionStore
) -> None:
    await store_of_a.create(session(1))
    await asyncio.gather(
        *(store_of_a.update_metadata("session-1", {f"a{n}": n}) for n in range(20)),
        *(store_of_b.update_metadata("session-1", {f"b{n}": n}) for n in range(20)),
    )
    found = await store_of_b.get("session-1")
    assert found is not None
    assert found.metadata == {**{f"a{n}": n for n in range(20)}, **{f"b{n}": n for n in range(20)}}


async def test_a_worker_that_died_without_a_word_leaves_detached_sessions(
    redis: Redis, store_of_a: RedisSessionStore, store_of_b: RedisSessionStore
) -> None:
    await store_of_a.create_many([session(1), session(2)])
    await store_of_b.create(session(3, worker_id="worker-b"))
    await redis.set(heartbeat_key("worker-a"), "{}")
    assert await store_of_b.cleanup() == 0  # it lives
    await redis.delete(heartbeat_key("worker-a"))
    assert await store_of_b.cleanup() == 2
    found = await store_of_b.list_by_user("ann")
    assert [(s.session_id, s.state.value) for s in found] == [
        ("session-1", "detached"),
        ("session-2", "detached"),
        ("session-3", "connected"),
    ]
    assert [s.last_seen for s in found] == [session().last_seen] * 3
    assert await store_of_b.cleanup() == 0


async def test_only_one_worker_cleans_up_at_a_time(
    redis: Redis, store_of_a: RedisSessionStore, store_of_b: RedisSessionStore
) -> None:
    await store_of_a.create_many([session(number) for number in range(2000)])
    results = await asyncio.gather(store_of_b.cleanup(), store_of_b.cleanup(), store_of_b.cleanup())
    assert sorted(results) == [0, 0, 2000]
    assert await redis.exists(CLEANUP_KEY) == 0


@pytest.mark.parametrize("killed", ["worker-a", "worker-b"])
async def test_a_worker_that_was_killed_while_it_cleaned_up_holds_up_nobody(
    redis: Redis, store_of_a: RedisSessionStore, clock: Clock, killed: str
) -> None:
    await store_of_a.create(session(1))
    cleaning = RedisSessionStore(redis, killed, TTL, clock)
    assert await cleaning._take_cleanup_lease(), "the worker is killed now"
    await redis.set(heartbeat_key("worker-b"), "{}")
    store_of_b = RedisSessionStore(redis, "worker-b", TTL, clock)
    assert await store_of_b.cleanup() == 1


async def test_a_worker_that_cleans_up_is_left_alone(redis: Redis, clock: Clock) -> None:
    cleaning, other = (RedisSessionStore(redis, f"worker-{name}", TTL, clock) for name in "ab")
    await redis.set(heartbeat_key("worker-a"), "{}")
    assert await cleaning._take_cleanup_lease()
    assert not await other._take_cleanup_lease()
    await redis.delete(heartbeat_key("worker-a"))
    blind = RedisSessionStore(redis, "worker-b", TTL, clock, judges=lambda: False)
    assert not await blind._take_cleanup_lease(), "heartbeats say nothing at the moment"
    assert await other._take_cleanup_lease()


async def test_a_session_that_moved_is_not_taken_back(
    store_of_a: RedisSessionStore, store_of_b: RedisSessionStore
) -> None:
    await store_of_a.create(session(1))
    moved = session(1, worker_id="worker-b")
    await store_of_b.create(moved)
    await store_of_a.detach("session-1")  # the old worker notices the lost connection late
    store_of_a.touch("session-1")
    await store_of_a.flush()
    assert await store_of_b.get("session-1") == moved
    assert await store_of_a.get("session-1") == moved
    assert await store_of_a.list_by_worker("worker-a") == []


async def test_sessions_that_redis_lost_are_brought_back(redis: Redis, store_of_a: RedisSessionStore) -> None:
    sessions = [session(number) for number in range(20)]
    await store_of_a.create_many(sessions)
    await redis.flushall()
    for one in sessions:
        store_of_a.touch(one.session_id)
    await store_of_a.flush()
    assert len(await store_of_a.list_by_user("ann")) == 20
    assert await store_of_a.count() == 20


async def test_keys_that_no_worker_renews_expire_in_redis(redis: Redis, clock: Clock) -> None:
    brief = RedisSessionStore(redis, "worker-a", 0.2, clock)
    await brief.create(session(1))
    assert 0 < await redis.pttl(session_key("session-1")) <= 200

    async def rest() -> set[bytes | str]:
        return set(await redis.keys("*"))

    async with asyncio.timeout(10):
        while not await rest() <= {SESSIONS_KEY.encode(), SESSION_WORKERS_KEY.encode()}:  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.02)


async def test_each_operation_is_one_round_trip(redis: Redis, store_of_a: RedisSessionStore) -> None:
    async def round_trips() -> int:
        """Return how often the server has read from sockets of clients, including this question."""
        stats = await redis.info("stats")
        return int(stats["total_reads_processed"])

    start = await round_trips()
    own = await round_trips() - start
    sessions = [session(number) for number in range(100)]
    for operation in (
        store_of_a.create(session(1000)),
        store_of_a.create_many(sessions),
        store_of_a.detach_many([s.session_id for s in sessions[:50]]),
        store_of_a.delete_many([s.session_id for s in sessions[50:]]),
        store_of_a.update_metadata("session-1000", {"a": 1}),
    ):
        before = await round_trips()
        await operation
        # A pipeline larger than the server's read buffer (16 KB) takes several reads, still without waiting.
        assert await round_trips() - before - own <= 4


async def test_the_own_sessions_are_answered_from_memory(redis: Redis, store_of_a: RedisSessionStore) -> None:
    await store_of_a.create(session(1))
    await redis.flushall()
    assert await store_of_a.get("session-1") == session(1)


async def test_a_key_that_is_not_a_session_is_skipped(redis: Redis, store_of_a: RedisSessionStore) -> None:
    await redis.hset(session_key("junk"), mapping={"a": "b"})
    assert await store_of_a.get("junk") is None
    await redis.zadd("ws_user_sessions:ann", {"junk": 9e9, "gone": 9e9})
    await store_of_a.create(session(1))
    assert [s.session_id for s in await store_of_a.list_by_user("ann")] == ["session-1"]


def test_metadata_must_be_json() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode({"x": object()})


async def test_the_index_of_a_user_goes_with_its_last_session(redis: Redis, store_of_a: RedisSessionStore) -> None:
    await store_of_a.create(session(1))
    await store_of_a.delete("session-1")
    assert await redis.exists("ws_user_sessions:ann", "ws_worker_sessions:worker-a", SESSIONS_KEY) == 0
