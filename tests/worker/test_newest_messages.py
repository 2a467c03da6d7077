"""Clients that join a channel with its newest messages get them and then what is new, without a gap."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.apps import copy_app
from tests.support.hub_client import HubClient, ask, hub_client
from tests.support.ports import unused_port
from tests.support.valkey import Valkey, server
from tests.support.waiting import eventually, long_run
from tests.support.worker import Worker, close_opened, worker, workers
from wsd.worker.contract.redis_keys import history_key
from wsd.worker.redis_client import open_redis

pytestmark = pytest.mark.anyio

SETTINGS: dict[str, Any] = {
    "channels": json.dumps(
        {
            "short": {"history_size": 3},
            "brief": {"history_ttl_seconds": 0.2},
            "plain": {"history_size": 0},
            "long*": {"history_size": 5000},
            "busy": {"history_size": 20},
        }
    ),
    "messages_per_second": 0.0,
    "bytes_per_second": 0.0,
}
PAGE = 500
"""How many messages the hub reads of a history at once."""

_numbers = count(1)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with server(tmp_path_factory.mktemp("valkey"), unused_port()) as running:
        yield running


@pytest.fixture(scope="module", params=["memory", "redis"])
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    """Two workers of a cluster. In memory there is only one, which comes twice."""
    directory = tmp_path_factory.mktemp("workers")
    if request.param == "memory":
        with worker(directory, **SETTINGS) as alone:
            yield [alone, alone]
    else:
        redis: Valkey = request.getfixturevalue("redis")
        with workers(directory, 2, redis_url=redis.url, **SETTINGS) as both:
            yield both


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


async def member(to: Worker) -> HubClient:
    return await hub_client(f"ann-{next(_numbers)}", to)


async def publish(to: Worker, channel: str, data: Any) -> None:
    """Publish messages in their order, and wait until all are stored."""
    connection = await to.connect("source")
    await _publish(connection, channel, data)
    await connection.close()


async def _publish(connection: ClientConnection, channel: str, data: Any) -> None:
    requests = [json.dumps({"type": "publish", "channel": channel, "data": each, "id": "p"}) for each in data]
    for request in requests:
        await connection.send(request)
    for _ in requests:
        assert json.loads(await connection.recv())["durable"]


@pytest.mark.parametrize(
    ("channel", "published", "last", "expected"),
    [
        ("newest", 10, 3, [7, 8, 9]),
        ("one", 10, 1, [9]),
        ("all", 10, 10, list(range(10))),
        ("fewer", 10, 50, list(range(10))),
        ("fresh", 0, 5, []),
        ("short", 10, 5, [7, 8, 9]),  # the history keeps three
        ("short", 10, 100_000, [7, 8, 9]),
        ("page", PAGE + 200, PAGE, list(range(200, PAGE + 200))),
        ("long", 3 * PAGE + 100, 2 * PAGE + 50, list(range(PAGE + 50, 3 * PAGE + 100))),
        ("pages-of-all", PAGE + 400, 2 * PAGE, list(range(PAGE + 400))),
    ],
)
async def test_a_member_gets_the_newest_messages_and_then_what_is_new(
    serving: list[Worker], channel: str, published: int, last: int, expected: list[int]
) -> None:
    await publish(serving[1], channel, range(published))
    ann = await member(serving[0])
    state = await ann.subscribe(channel, last=last)
    assert (state["recovered"], state["count"]) == (True, len(expected))
    assert state["epoch"]
    assert await ann.read(len(expected)) == expected
    await ann.nothing_arrives()
    await publish(serving[1], channel, ["new"])
    assert await ann.read(1) == ["new"]


async def test_large_messages_that_are_more_than_a_page_all_come(serving: list[Worker]) -> None:
    texts = [f"{number}" + "x" * 30_000 for number in range(40)]  # a page has 256 KB
    await publish(serving[1], "large", texts)
    ann = await member(serving[0])
    assert (await ann.subscribe("large", last=30))["count"] == 30
    assert await ann.read(30) == texts[10:]


async def test_a_history_that_is_over_is_no_failure(serving: list[Worker]) -> None:
    await publish(serving[1], "brief", range(5))
    reader = await serving[1].connect("reader")

    async def messages() -> int:
        return len((await ask(reader, type="history", channel="brief"))["messages"])

    while await messages():
        pass
    ann = await member(serving[0])
    state = await ann.subscribe("brief", last=3)
    assert (state["recovered"], state["count"], state["offset"] >= 5) == (True, 0, True)
    await publish(serving[1], "brief", ["new"])
    assert await ann.read(1) == ["new"]


async def test_a_channel_without_history_has_nothing_that_a_member_could_miss(serving: list[Worker]) -> None:
    await publish_unstored(serving[1], "plain", "earlier")
    ann = await member(serving[0])
    assert await ann.subscribe("plain", last=3) == {"type": "subscribed", "channel": "plain"}
    await publish_unstored(serving[1], "plain", "new")
    assert (await ann.next_message())["data"] == "new"


async def publish_unstored(to: Worker, channel: str, data: object) -> None:
    connection = await to.connect("source")
    assert (await ask(connection, type="publish", channel=channel, data=data))["type"] == "ack"
    await connection.close()


@pytest.mark.parametrize(
    ("channel", "last"),
    [
        ("talk", 30),
        ("busy", 15),
        pytest.param("busy", 200, marks=long_run),
        pytest.param("long-talk", 700, marks=long_run),
    ],
)
async def test_members_who_join_while_others_talk_miss_nothing_and_get_nothing_twice(
    serving: list[Worker], channel: str, last: int
) -> None:
    """`busy` is trimmed while it is read, and `last` is more than it keeps, or more than a page."""
    first, total = last + 100, last + 1300
    await publish(serving[1], channel, range(first))
    talker = await serving[1].connect("talker")
    talking = asyncio.create_task(_publish_slowly(talker, channel, range(first, total)))

    async def join(number: int) -> list[int]:
        ann = await member(serving[number % 2])
        state = await ann.subscribe(channel, last=last)
        assert state["recovered"] is True
        assert state["count"] <= last
        heard: list[int] = await ann.read(1)
        while heard[-1] != total - 1:
            heard += await ann.read(1)  # each has the offset after the last
        assert heard == list(range(heard[0], total))
        await ann.close()
        return heard

    joining = []
    for number in range(30):
        joining.append(asyncio.create_task(join(number)))
        if number % 5 == 4:  # five come together
            await asyncio.sleep(0.02)
    heard = await asyncio.gather(*joining)
    await talking
    assert min(len(each) for each in heard) < max(len(each) for each in heard), "they came at different times"


async def _publish_slowly(connection: ClientConnection, channel: str, numbers: range) -> None:
    for start in range(0, len(numbers), 10):
        await _publish(connection, channel, numbers[start : start + 10])


async def test_a_member_who_still_reads_older_messages_misses_none_of_them(serving: list[Worker]) -> None:
    texts = [f"{number}" + "x" * 20_000 for number in range(300)]  # far more than a client that does not read takes
    await publish(serving[1], "behind", texts)
    ann = await member(serving[0])
    epoch = (await ask(ann.connection, type="history", channel="behind", limit=1))["epoch"]
    offset = (await ann.subscribe("behind", since={"offset": 0, "epoch": epoch}))["offset"]
    await ann.send({"type": "subscribe", "channel": "behind", "last": 2})
    reached, again = 0, None
    while again is None or reached < offset:
        message = await ann.receive()
        if message["type"] == "subscribed":
            again = message["offset"] - message["count"]
            assert again <= reached
        else:
            assert message["offset"] <= reached + 1, "none is left out"
            reached = max(reached, message["offset"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"last": 0},
        {"last": -1},
        {"last": 100_001},
        {"last": "3"},
        {"last": 1.5},
        {"last": 3, "since": {"offset": 0, "epoch": "x"}},
    ],
)
async def test_a_request_for_something_else_is_refused(serving: list[Worker], wrong: dict[str, Any]) -> None:
    ann = await member(serving[0])
    answer = await ann.ask(type="subscribe", channel="wrong", **wrong)
    assert (answer["type"], answer["code"]) == ("error", "invalid_request")
    await publish(serving[1], "wrong", ["to members"])
    await ann.nothing_arrives()


async def test_the_newest_messages_need_the_right_to_subscribe(tmp_path: Path) -> None:
    copy_app("hooks", tmp_path)
    with worker(tmp_path, authorize="hooks:authorize") as alone:
        await publish(alone, "room", [1, 2])
        ann = await member(alone)
        assert (await ann.ask(type="subscribe", channel="secret", last=2))["code"] == "forbidden"
        assert (await ann.ask(type="history", channel="room"))["code"] == "forbidden", "this is another right"
        await ann.subscribe("room", last=1)
        assert await ann.read(1) == [2]


async def test_messages_that_somebody_removed_are_left_out(tmp_path: Path, redis: Valkey) -> None:
    client = open_redis(redis.url, connect_timeout=1, timeout=2)
    with worker(tmp_path, redis_url=redis.url) as alone:
        await publish(alone, "removed", range(1, 11))
        await client.xdel(history_key("removed"), "5-0")
        ann = await member(alone)
        assert (await ann.subscribe("removed", last=8))["count"] == 5
        assert await ann.read(5) == [6, 7, 8, 9, 10]
    await client.aclose()


@long_run
async def test_a_member_is_told_when_redis_is_away(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        worker(tmp_path, redis_url=redis.url, **SETTINGS) as alone,
    ):
        await publish(alone, "room", range(5))
        early, late = await member(alone), await member(alone)
        redis.freeze()
        await eventually(lambda: alone.health()[1]["websocket"]["mode"] != "distributed")
        await early.send({"type": "subscribe", "channel": "room", "last": 2})
        await asyncio.sleep(1)
        redis.thaw()
        state = await early.receive()
        assert (state["recovered"], state["count"]) == (True, 2)
        assert [(await early.receive())["data"] for _ in range(2)] == [3, 4]
        redis.freeze()
        await late.send({"type": "subscribe", "channel": "other", "last": 2})
        async with asyncio.timeout(40):
            state = json.loads(await late.connection.recv())
        assert (state["recovered"], state["reason"]) == (False, "unavailable")
        redis.thaw()
