"""Histories of both brokers: offsets without gaps, pages, epochs, and a retry that counts once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.support.brokers import Received, running_broker
from tests.support.ports import unused_port
from tests.support.valkey import Valkey, server
from tests.support.waiting import eventually
from wsd.worker.broker.history import EMPTY_SECONDS, META_LIFETIMES, Entry, HistoryQuery, Page, Retention, offset_of
from wsd.worker.broker.memory_broker import InMemoryMessageBroker
from wsd.worker.broker.message_broker import MessageBroker
from wsd.worker.broker.redis_broker import RedisMessageBroker
from wsd.worker.channels.catch_up import CHECK_SECONDS
from wsd.worker.contract.redis_keys import channel_key, history_key, history_meta_key
from wsd.worker.errors import NotStoredError
from wsd.worker.redis_client import open_redis
from wsd.worker.wire.position import Position

pytestmark = pytest.mark.anyio

KEEP = Retention(100, 60)
C = channel_key("c")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with server(tmp_path_factory.mktemp("valkey"), unused_port()) as running:
        yield running


@asynccontextmanager
async def redis_history(redis: Valkey) -> AsyncIterator[tuple[RedisMessageBroker, Received]]:
    """Run a broker on an empty server, and keep what it receives."""
    client = open_redis(redis.url, connect_timeout=1, timeout=2)
    await client.flushall()
    await client.aclose()
    async with running_broker("a", redis.url) as (made, received):
        await eventually(lambda: made.healthy)
        yield made, received


@pytest.fixture(params=["memory", "redis"])
async def running(request: pytest.FixtureRequest) -> AsyncIterator[tuple[MessageBroker, Received]]:
    async with AsyncExitStack() as stack:
        if request.param == "redis":
            yield await stack.enter_async_context(redis_history(request.getfixturevalue("redis")))
        else:
            memory, received = InMemoryMessageBroker(), Received()
            memory.listener = received
            task = asyncio.create_task(memory.run())
            stack.callback(task.cancel)
            await asyncio.sleep(0)  # it runs
            yield memory, received


@pytest.fixture
def broker(running: tuple[MessageBroker, Received]) -> MessageBroker:
    return running[0]


@pytest.fixture
async def entries(running: tuple[MessageBroker, Received]) -> list[Entry]:
    """Subscribe to C, and keep the entries that come."""
    broker, received = running
    await broker.subscribe(C)
    return received.entries


async def append(broker: MessageBroker, payload: bytes, keep: Retention = KEEP) -> Position:
    stored = await broker.append(C, payload, keep)
    assert stored is not None
    return stored.position


async def payloads(broker: MessageBroker, since: int, count: int = 500, *, reverse: bool = False) -> list[bytes]:
    [page] = await broker.read([HistoryQuery(C, KEEP, since, count, reverse)])
    return [entry.payload for entry in page.entries]


async def test_offsets_have_no_gaps_and_come_with_the_messages(broker: MessageBroker, entries: list[Entry]) -> None:
    positions = [await append(broker, b"%d" % number) for number in range(20)]
    assert [position.offset for position in positions] == list(range(1, 21))
    assert len({position.epoch for position in positions}) == 1
    await eventually(lambda: len(entries) == 20)
    assert [(entry.position, entry.payload) for entry in entries] == [(p, b"%d" % n) for n, p in enumerate(positions)]


async def test_a_channel_that_never_had_a_message_has_a_position(broker: MessageBroker) -> None:
    [page] = await broker.read([HistoryQuery(C, KEEP, follows=True)])
    assert page.top.offset == 0
    assert (await append(broker, b"first")) == Position(1, page.top.epoch)


async def test_a_history_is_read_in_pages(broker: MessageBroker) -> None:
    for number in range(1, 11):
        await append(broker, b"%d" % number)
    assert await payloads(broker, 7) == [b"8", b"9", b"10"]
    assert await payloads(broker, 0, 2) == [b"1", b"2"]
    assert await payloads(broker, 10) == []
    assert await payloads(broker, 0, 2, reverse=True) == [b"10", b"9"]
    assert await payloads(broker, 3, reverse=True) == [b"2", b"1"]
    [page] = await broker.read([HistoryQuery(C, KEEP, follows=True)])
    assert (page.top.offset, page.entries) == (10, ())


async def test_a_history_holds_the_newest_messages_only(broker: MessageBroker) -> None:
    for number in range(1, 11):
        await append(broker, b"%d" % number, Retention(3, 60))
    assert await payloads(broker, 0) == [b"8", b"9", b"10"]


async def test_a_history_that_expired_goes_on_counting(broker: MessageBroker) -> None:
    first = await append(broker, b"1", Retention(100, 0.05))

    async def is_empty() -> bool:
        return await payloads(broker, 0) == []

    async with asyncio.timeout(10):
        while not await is_empty():
            pass
    assert await append(broker, b"2") == Position(2, first.epoch)


async def test_an_idempotency_key_makes_a_second_try_count_once(broker: MessageBroker, entries: list[Entry]) -> None:
    keep = Retention(100, 60, "ann:1")
    first = await broker.append(C, b"a", keep)
    second = await broker.append(C, b"a", keep)
    assert first is not None and second is not None
    assert second.position == first.position
    assert first.entry is not None
    assert second.entry is None
    other = await append(broker, b"b", Retention(100, 60, "ann:2"))
    assert other.offset == first.position.offset + 1
    await eventually(lambda: len(entries) == 2)


async def test_many_at_once_keep_their_order(broker: MessageBroker, entries: list[Entry]) -> None:
    stored = await asyncio.gather(*(append(broker, b"%d" % number) for number in range(1000)))
    assert [position.offset for position in stored] == list(range(1, 1001))
    await eventually(lambda: len(entries) == 1000)
    assert [int(entry.payload) for entry in entries] == list(range(1000))


@pytest.fixture
async def redis_running(redis: Valkey) -> AsyncIterator[tuple[RedisMessageBroker, Received]]:
    """Run a broker as `running` does, for the tests that are about Redis."""
    async with redis_history(redis) as running:
        yield running


@pytest.fixture
def redis_broker(redis_running: tuple[RedisMessageBroker, Received]) -> RedisMessageBroker:
    return redis_running[0]


async def test_a_message_that_was_stored_by_a_try_without_an_answer_is_not_stored_again(
    redis_running: tuple[RedisMessageBroker, Received],
) -> None:
    redis_broker, received = redis_running
    await redis_broker.subscribe(C)
    await append(redis_broker, b"a")
    outgoing = redis_broker._numbered(C, b"b", KEEP)
    first = await redis_broker.primary.publisher.publish(outgoing)
    await append(redis_broker, b"c")
    second = await redis_broker.primary.publisher.publish(outgoing)
    assert first is not None and second is not None
    assert (first, second) == ((first[0], True), (first[0], False))
    await eventually(lambda: len(received.entries) == 3)
    assert await payloads(redis_broker, 0) == [b"a", b"b", b"c"]


@pytest.mark.parametrize("lost", [[history_meta_key("c")], [history_meta_key("c"), history_key("c")]])
async def test_a_history_that_was_lost_begins_a_new_epoch(redis_broker: RedisMessageBroker, lost: list[str]) -> None:
    before = await append(redis_broker, b"a")
    client = redis_broker.primary._client
    await client.delete(*lost)
    after = await append(redis_broker, b"b")
    assert after.offset == 1
    assert after.epoch != before.epoch
    assert await payloads(redis_broker, 0) == [b"b"]


async def test_a_stream_that_was_lost_alone_leaves_a_hole_that_shows(redis_broker: RedisMessageBroker) -> None:
    before = await append(redis_broker, b"a")
    await redis_broker.primary._client.delete(history_key("c"))
    assert await append(redis_broker, b"b") == Position(2, before.epoch)
    [page] = await redis_broker.read([HistoryQuery(C, KEEP, 0)])
    assert [offset_of(entry) for entry in page.entries] == [2]


async def test_an_epoch_is_renewed_once(redis_broker: RedisMessageBroker) -> None:
    first = await append(redis_broker, b"a")
    await redis_broker.renew_epoch(C, first.epoch)
    second = await append(redis_broker, b"b")
    await redis_broker.renew_epoch(C, first.epoch)
    assert second.epoch != first.epoch
    assert await append(redis_broker, b"c") == Position(second.offset + 1, second.epoch)


async def test_scripts_are_loaded_again_after_redis_forgot_them(redis_broker: RedisMessageBroker) -> None:
    await append(redis_broker, b"a")
    await redis_broker.primary._client.script_flush()
    stored = await asyncio.gather(*(append(redis_broker, b"%d" % number) for number in range(10)))
    assert [position.offset for position in stored] == list(range(2, 12))
    assert redis_broker.healthy


async def test_a_server_that_is_full_refuses_clearly(redis_broker: RedisMessageBroker) -> None:
    client = redis_broker.primary._client
    await client.config_set("maxmemory", 1)
    try:
        with pytest.raises(NotStoredError, match=r"^the message is not stored: the memory of Redis is full$"):
            await append(redis_broker, b"a")
        assert redis_broker.healthy
    finally:
        await client.config_set("maxmemory", 0)
    await append(redis_broker, b"b")


def test_the_meta_key_is_of_one_slot_with_the_stream() -> None:
    assert history_key("c").partition("{")[2] == history_meta_key("c").partition("{")[2] == "c}"


async def test_a_history_of_a_message_lives_as_long_as_it_says(
    tmp_path: Path, redis_broker: RedisMessageBroker
) -> None:
    await append(redis_broker, b"a", Retention(10, 30))
    client = redis_broker.primary._client
    assert 29_000 < await client.pttl(history_key("c")) <= 30_000
    assert 599_000 < await client.pttl(history_meta_key("c")) <= 600_000


async def test_reading_a_history_creates_nothing(request: pytest.FixtureRequest, broker: MessageBroker) -> None:
    questions = [
        HistoryQuery(C, KEEP),
        HistoryQuery(C, KEEP, 0),
        HistoryQuery(C, KEEP, 5, 10, reverse=True),
        HistoryQuery(C, KEEP, 2**53 - 1),
    ]
    assert await broker.read(questions) == [Page(Position(0, ""))] * len(questions)
    if isinstance(broker, InMemoryMessageBroker):
        assert broker._histories == {}
    else:
        redis: Valkey = request.getfixturevalue("redis")
        client = open_redis(redis.url, connect_timeout=1, timeout=2)
        assert await client.keys("*history*") == []
        await client.aclose()


@pytest.mark.parametrize(("history_ttl", "seconds"), [(0.5, EMPTY_SECONDS), (10, EMPTY_SECONDS), (100, 1000)])
async def test_an_epoch_outlives_the_checks_of_positions_however_short_the_history_is(
    redis: Valkey, history_ttl: float, seconds: float
) -> None:
    keep = Retention(10, history_ttl)
    async with redis_history(redis) as (broker, _):
        client = open_redis(redis.url, connect_timeout=1, timeout=2)
        await broker.append(C, b"first", keep)
        assert seconds > 3 * CHECK_SECONDS
        assert seconds - 5 <= await client.ttl(history_meta_key("c")) <= seconds
        await client.expire(history_meta_key("c"), 10)
        await broker.read([HistoryQuery(C, keep, follows=True)])
        assert seconds - 5 <= await client.ttl(history_meta_key("c")) <= seconds
        await client.aclose()


async def test_a_follower_misses_nothing_from_its_position_on(broker: MessageBroker) -> None:
    [page] = await broker.read([HistoryQuery(C, KEEP, follows=True)])
    assert page.top.offset == 0
    assert page.top.epoch
    assert await append(broker, b"first") == Position(1, page.top.epoch)
    assert await payloads(broker, 0) == [b"first"]


@pytest.mark.parametrize(
    ("name", "seconds"), [("room", EMPTY_SECONDS), ("broadcast", 1000), ("!ann", 1000), ("~room", EMPTY_SECONDS)]
)
async def test_the_epoch_of_a_channel_without_messages_is_soon_forgotten(
    redis: Valkey, name: str, seconds: float
) -> None:
    keep = Retention(10, 1000 / META_LIFETIMES)
    async with redis_history(redis) as (broker, _):
        client = open_redis(redis.url, connect_timeout=1, timeout=2)
        wanted = HistoryQuery(channel_key(name), keep, follows=True)
        await broker.read([wanted])
        assert seconds - 5 <= await client.ttl(history_meta_key(name)) <= seconds
        await broker.append(channel_key(name), b"first", keep)
        assert 995 <= await client.ttl(history_meta_key(name)) <= 1000
        await client.expire(history_meta_key(name), 10)
        await broker.read([HistoryQuery(channel_key(name), keep, 0)])
        assert await client.ttl(history_meta_key(name)) <= 10, "a stranger who reads keeps nothing alive"
        await broker.read([wanted])
        assert await client.ttl(history_meta_key(name)) > 10
        await client.aclose()
