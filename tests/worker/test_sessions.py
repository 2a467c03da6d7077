"""Sessions of real clients on real workers: made, ended, left behind, and kept through the loss of Redis."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.hub_client import ask
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import eventually
from tests.support.worker import worker
from wsd.worker.contract.redis_keys import session_key, user_sessions_key
from wsd.worker.redis_client import open_redis
from wsd.worker.sessions.keeper import EARLY_KEEP_SECONDS
from wsd.worker.sessions.redis_store import RedisSessionStore
from wsd.worker.sessions.session_store import SessionInfo, SessionState

pytestmark = pytest.mark.anyio

TTL = 3600.0


@asynccontextmanager
async def observer(url: str) -> AsyncIterator[RedisSessionStore]:
    """The store as another worker sees it."""
    redis = open_redis(url, connect_timeout=1, timeout=4)
    try:
        yield RedisSessionStore(redis, "observer", TTL)
    finally:
        await redis.aclose()


async def wait_for(condition: Callable[[], Awaitable[bool]], patience: float = 30) -> None:
    async with asyncio.timeout(patience):
        while not await condition():  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)


async def state_of(store: RedisSessionStore, session_id: str) -> SessionState | None:
    session = await store.get(session_id)
    return session.state if session is not None else None


async def test_a_client_has_a_session_before_it_is_welcomed(tmp_path: Path) -> None:
    with valkey(tmp_path / "redis", unused_port()) as url, worker(tmp_path, redis_url=url) as serving:
        async with observer(url) as store:
            connection, session_id = await serving.join("ann")
            session = await store.get(session_id)
            assert session == SessionInfo(
                session_id=session_id,
                user_id="ann",
                username="ann",
                node_id="n",
                worker_id="worker-1-test",
                connected_at=session.connected_at if session else 0,
                last_seen=session.last_seen if session else 0,
                token=session.token if session else "",
            )
            assert await store.list_by_user("ann") == [session]
            await eventually(lambda: serving.health()[1]["websocket"]["total_sessions"] == 1)
            await connection.close()


async def test_a_clean_close_ends_the_session_and_a_lost_connection_does_not(tmp_path: Path) -> None:
    with valkey(tmp_path / "redis", unused_port()) as url, worker(tmp_path, redis_url=url) as serving:
        async with observer(url) as store:
            polite, ends = await serving.join()
            lost, stays = await serving.join()
            await polite.close(1000)
            lost.transport.abort()

            async def as_expected() -> bool:
                return await state_of(store, ends) is None and await state_of(store, stays) is SessionState.DETACHED

            await wait_for(as_expected)
            assert [s.session_id for s in await store.list_by_user("a")] == [stays]


async def test_the_session_of_a_short_visit_is_kept_for_a_short_time(tmp_path: Path) -> None:
    with valkey(tmp_path, unused_port()) as url:
        redis = open_redis(url, connect_timeout=1, timeout=4)

        async def kept_ms(session_id: str, state: bytes) -> int:
            while await redis.hget(session_key(session_id), "state") != state:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            return int(await redis.pttl(session_key(session_id)))

        with worker(tmp_path, redis_url=url) as serving:
            hasty, session_id = await serving.join("hasty")
            hasty.transport.abort()
            assert 0 < await kept_ms(session_id, b"detached") <= EARLY_KEEP_SECONDS * 1000
            async with asyncio.timeout(10):  # the index is changed a moment after the session
                while await redis.pttl(user_sessions_key("hasty")) > EARLY_KEEP_SECONDS * 1000:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            # Whoever comes back has a session like any other.
            first = await serving.open("user_id=ann")
            welcome = json.loads(await first.recv())
            first.transport.abort()
            await kept_ms(welcome["session_id"], b"detached")
            again = await serving.open(f"user_id=ann&session={welcome['resume_token']}")
            await again.send('{"type": "resume"}')
            assert json.loads(await again.recv())["resumed"] is True
            again.transport.abort()
            assert await kept_ms(welcome["session_id"], b"detached") > EARLY_KEEP_SECONDS * 1000
            # Neither does a worker's end cost anybody their session: a drain, and one without a word.
            _, drained = await serving.join("drained")
            serving.process.send_signal(signal.SIGTERM)
            assert await kept_ms(drained, b"detached") > EARLY_KEEP_SECONDS * 1000
            serving.process.wait(20)
        with worker(tmp_path, redis_url=url, worker_id="worker-2-test") as serving:
            _, killed = await serving.join("killed")
            serving.process.kill()
            assert await kept_ms(killed, b"connected") > EARLY_KEEP_SECONDS * 1000
        await redis.aclose()


async def test_a_drain_leaves_all_sessions_detached(tmp_path: Path) -> None:
    with valkey(tmp_path / "redis", unused_port()) as url, worker(tmp_path, redis_url=url) as serving:
        async with observer(url) as store:
            joined = [await serving.join() for _ in range(30)]
            serving.process.send_signal(signal.SIGTERM)
            await eventually(lambda: serving.process.poll() is not None)
            assert serving.process.returncode == 0
            states = [await state_of(store, session_id) for _, session_id in joined]
            assert states == [SessionState.DETACHED] * 30
            for connection, _ in joined:
                await connection.close()


async def test_the_sessions_of_a_killed_worker_are_detached_by_another(tmp_path: Path) -> None:
    settings = {"heartbeat_interval": 0.2, "heartbeat_ttl": 1.0, "session_ttl": 8.0}
    (tmp_path / "two").mkdir()
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        worker(tmp_path, redis_url=url, **settings) as killed,
        worker(tmp_path / "two", redis_url=url, worker_id="worker-2-test", **settings) as other,
    ):
        async with observer(url) as store:
            connection, session_id = await killed.join("ann")
            kept, kept_id = await other.join("bob")
            killed.process.kill()

            async def detached() -> bool:
                return await state_of(store, session_id) is SessionState.DETACHED

            await wait_for(detached)
            session = await store.get(session_id)
            assert session is not None
            assert (session.user_id, session.worker_id) == ("ann", "worker-1-test")
            assert await state_of(store, kept_id) is SessionState.CONNECTED
            await kept.close()
            await connection.close()


async def test_a_connected_session_outlives_its_ttl(tmp_path: Path) -> None:
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        worker(tmp_path, redis_url=url, session_ttl=0.8) as serving,
    ):
        async with observer(url) as store:
            connection, session_id = await serving.join()
            first = await store.get(session_id)
            assert first is not None

            async def touched_often() -> bool:
                session = await store.get(session_id)
                assert session is not None, "it expired under a connected client"
                return session.last_seen > first.last_seen + 1.6

            await wait_for(touched_often)
            await connection.close()


async def test_a_session_that_somebody_deletes_closes_its_connection(tmp_path: Path) -> None:
    with valkey(tmp_path / "redis", unused_port()) as url, worker(tmp_path, redis_url=url) as serving:
        async with observer(url) as store:
            ended, session_id = await serving.join("ann")
            other, other_id = await serving.join("bob")
            await store.delete(session_id)
            await ended.wait_closed()
            assert ended.close_code == 4500
            await store.update_metadata(other_id, {"role": "admin"})
            await other.send('{"type":"ping"}')
            assert await other.recv() == '{"type":"pong"}'
            await other.close()


async def test_sessions_made_and_lost_while_redis_is_away_are_right_once_it_is_back(tmp_path: Path) -> None:
    port = unused_port()
    with worker(tmp_path, redis_url=f"redis://127.0.0.1:{port}", session_ttl=4.0) as serving:
        connected, session_id = await serving.join("early")
        gone, gone_id = await serving.join("gone")
        await gone.close(1000)
        assert serving.health()[1]["websocket"]["session_store_healthy"] is False
        with valkey(tmp_path / "redis", port) as url:
            async with observer(url) as store:

                async def written() -> bool:
                    return await state_of(store, session_id) is SessionState.CONNECTED

                await wait_for(written)
                assert await state_of(store, gone_id) is None
                await eventually(lambda: serving.health()[1]["websocket"]["session_store_healthy"])
        assert (await ask(connected, type="ping"))["type"] == "pong"
        await connected.close()


async def test_many_clients_at_once_are_all_stored(tmp_path: Path) -> None:
    with valkey(tmp_path / "redis", unused_port()) as url, worker(tmp_path, redis_url=url) as serving:
        async with observer(url) as store:
            joined = await asyncio.gather(*(serving.join(f"user-{number % 10}") for number in range(200)))
            assert await store.count() == 200
            assert len(await store.list_by_user("user-3")) == 20
            await asyncio.gather(*(connection.close() for connection, _ in joined))

            async def all_gone() -> bool:
                return await store.count() == 0

            await wait_for(all_gone)
