"""Keys in Redis that no worker of ours wrote: a wrong value affects no more than its own channel or session."""

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support.hub_client import ask, receive
from tests.support.waiting import eventually
from tests.support.worker import Worker, worker
from wsd.worker.contract.redis_keys import LIVE_WORKERS_KEY, history_key, history_meta_key, idempotency_key
from wsd.worker.redis_client import Redis, open_redis

pytestmark = pytest.mark.anyio

MESSAGE = b'aaaa 5 {"type":"message","channel":"bad","data":5,"uid":"x"}'


@pytest.fixture(scope="module")
def serving(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with worker(tmp_path_factory.mktemp("worker"), redis_url=redis_url, heartbeat_interval=0.2) as running:
        yield running


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    connection = open_redis(redis_url, connect_timeout=1, timeout=4)
    try:
        yield connection
    finally:
        await connection.aclose()


@pytest.fixture(autouse=True)
def the_worker_is_unharmed(serving: Worker) -> Iterator[None]:
    yield
    serving.check_unharmed()


@asynccontextmanager
async def members(serving: Worker) -> AsyncIterator[tuple[Any, Any]]:
    """Connect two clients for the time of a block."""
    ann, bob = await serving.connect("ann"), await serving.connect("bob")
    yield ann, bob
    await ann.close()
    await bob.close()


Damage = Callable[[Redis, str], Any]

POSITIONS: dict[str, Damage] = {
    "another type": lambda redis, channel: redis.set(history_meta_key(channel), "x"),
    "no number": lambda redis, channel: redis.hset(history_meta_key(channel), mapping={"epoch": "e", "offset": "abc"}),
    "no text": lambda redis, channel: redis.hset(history_meta_key(channel), mapping={"epoch": b"\xff", "offset": "3"}),
    "no integer": lambda redis, channel: redis.hset(history_meta_key(channel), mapping={"epoch": "e", "offset": "1.5"}),
}


@pytest.mark.parametrize("what", POSITIONS)
async def test_a_position_that_no_worker_wrote_is_one_channels_alone(serving: Worker, redis: Redis, what: str) -> None:
    bad, good = secrets.token_hex(4), secrets.token_hex(4)
    async with members(serving) as (ann, bob):
        await POSITIONS[what](redis, bad)
        async with asyncio.timeout(15):
            await ask(ann, type="subscribe", channel=bad)
            # In one pipeline: what is wanted of the other channel is not lost with it.
            for channel in (bad, good):
                for number in range(5):
                    request = {"type": "publish", "channel": channel, "data": number, "id": f"{channel} {number}"}
                    await bob.send(json.dumps(request))
            answers: dict[str, Any] = {}
            while len(answers) < 10:
                answer = await receive(bob)
                if "id" in answer:
                    answers[answer["id"]] = answer
            assert [answers[f"{good} {number}"]["durable"] for number in range(5)] == [True] * 5
            for channel in (bad, good):
                await ask(ann, type="history", channel=channel)
            subscribed = await ask(ann, type="subscribe", channel=good)
            assert subscribed["type"] == "ack"
            await ask(bob, type="publish", channel=good, data="heard")
            assert (await receive(ann))["data"] == "heard"


@pytest.mark.parametrize(
    "entry",
    [
        {"m": b"junk"},
        {"m": b""},
        {"m": b"\xff\xfe\x00"},
        {"x": b"y"},
        {"m": b"aaaa " + b"9" * 5000 + b" {}"},
        {"m": b"aaaa 1 \xffjunk"},
        {"m": b"aaaa 1 \x80\x81"},
        {"m": b"aaaa 1 {}"},
        {"m": b"aaaa 1 }{"},
        {"m": b'aaaa 1 {"type":"message","data":"\xff"}'},
    ],
)
async def test_an_entry_that_no_worker_wrote_is_a_message_without_data(
    serving: Worker, redis: Redis, entry: dict[Any, Any]
) -> None:
    channel = secrets.token_hex(4)
    await redis.hset(history_meta_key(channel), mapping={"epoch": "e", "offset": "5"})
    await redis.xadd(history_key(channel), entry, id="4-0")
    await redis.xadd(history_key(channel), {"m": MESSAGE}, id="5-0")
    async with asyncio.timeout(15):
        ann = await serving.open("user_id=ann&resume=1")
        since = {channel: {"offset": 3, "epoch": "e"}}
        await ann.send(json.dumps({"type": "resume", "token": "", "since": since}))
        assert (await receive(ann))["channels"][channel]["recovered"] is True
        assert [(await receive(ann))["data"] for _ in range(2)] == [None, 5]
        page = await ask(ann, type="history", channel=channel)
        assert [(m["channel"], m["data"], m["offset"]) for m in page["messages"]] == [(channel, None, 4), ("bad", 5, 5)]
        await ann.close()


async def test_foreign_values_of_an_idempotency_key_and_the_list_of_workers_are_harmless(
    serving: Worker, redis: Redis
) -> None:
    async with members(serving) as (ann, bob), asyncio.timeout(15):
        await ask(ann, type="publish", channel="room", data=1, idempotency_key="k")
        [key] = await redis.keys(idempotency_key("room", "*").replace("{", "?").replace("}", "?"))
        await redis.set(key, b"\xff:junk")
        refused = await ask(ann, type="publish", channel="room", data=1, idempotency_key="k")
        assert (refused["type"], refused["code"]) == ("error", "not_stored")
        assert (await ask(bob, type="publish", channel="room", data=2))["durable"] is True
        await redis.zadd(LIVE_WORKERS_KEY, {b"\xff": 9e15})
        beat = serving.health()[1]["heartbeat"]["beat"]
        await eventually(lambda: serving.health()[1]["heartbeat"]["beat"] > beat + 2)
