"""A message with an idempotency key is stored once; only another attempt of the same user and channel is a repeat."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.hub_client import ask, receive
from tests.support.ports import unused_port
from tests.support.valkey import server
from tests.support.waiting import eventually
from tests.support.worker import Worker, close_opened, worker, workers

pytestmark = pytest.mark.anyio

KEY = {"X-API-Key": "sesame"}

SENDERS_AND_KEYS = [
    ("a", "b:1"),
    ("a:b", "1"),
    ("a", "b"),
    ("a:b", ":"),
    ("a:", "b:"),
    ("a}", "1"),
    ("a", "}1"),
    ("4:user", "1"),
    ("user", "4:1"),
    ("server", "k"),
    ("é", "1\x00"),
    ("é1", "\x00"),
    ("-", "1"),
    (None, "a:b:1"),
    (None, ":b:1"),
    (None, "k"),
    (None, "1"),
]
"""None is somebody who publishes over HTTP."""


@pytest.fixture(scope="module", params=["memory", "redis"])
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    directory = tmp_path_factory.mktemp("worker")
    if request.param == "memory":
        with worker(directory, api_key="sesame") as alone:
            yield alone
    else:
        with (
            server(tmp_path_factory.mktemp("valkey"), unused_port()) as redis,
            worker(directory, api_key="sesame", redis_url=redis.url) as connected,
        ):
            yield connected


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


async def publish(serving: Worker, sender: str | None, **message: Any) -> None:
    """Publish, and check that the message is stored."""
    if sender is None:
        status, answer = serving.request("POST", "/api/websocket/publish", message, KEY)
        assert (status, answer["published"]) == (200, 1)
        return
    connection = await serving.connect(quote(sender))
    kind = "publish" if "channel" in message else "direct" if "user_id" in message else "broadcast"
    answer = await ask(connection, type=kind, **{name: message[name] for name in message if name != "broadcast"})
    assert answer["durable"] is True


@pytest.mark.parametrize("target", [{"channel": "room"}, {"user_id": "reader"}, {"broadcast": True}])
async def test_different_senders_and_keys_are_different_messages(serving: Worker, target: dict[str, Any]) -> None:
    reader = await serving.connect("reader")
    await ask(reader, type="subscribe", channel="room")
    messages = [f"{sender!r} {key!r}" for sender, key in SENDERS_AND_KEYS]
    for _ in range(2):  # the second try of each counts for nothing
        for (sender, key), data in zip(SENDERS_AND_KEYS, messages, strict=True):
            await publish(serving, sender, **target, data=data, idempotency_key=key)
    await publish(serving, None, **target, data="end")
    heard = [await receive(reader) for _ in range(len(messages) + 1)]
    assert [message["data"] for message in heard] == [*messages, "end"]
    uids = [message["uid"] for message in heard]
    assert len(set(uids)) == len(uids)
    assert not any(key in uid for _, key in SENDERS_AND_KEYS if len(key) > 1 for uid in uids), "keys are not for others"


async def test_one_key_in_several_channels_is_several_messages(serving: Worker) -> None:
    """The channels of users and named channels differ by a character."""
    reader, friend = await serving.connect("one"), await serving.connect("one:")
    for channel in ("one", "one:", "One"):
        await ask(reader, type="subscribe", channel=channel)
    source = await serving.connect("source")
    for target in ({"channel": "one"}, {"channel": "one:"}, {"channel": "One"}):
        answer = await ask(source, type="publish", **target, data=target, idempotency_key="k")
        assert answer["durable"] is True
    for user_id in ("one", "one:"):
        answer = await ask(source, type="direct", user_id=user_id, data=user_id, idempotency_key="k")
        assert answer["durable"] is True
    heard = [await receive(reader) for _ in range(4)]
    assert [message["data"] for message in heard[3:]] == ["one"]
    heard.append(await receive(friend))
    assert heard[-1]["data"] == "one:"
    assert len({message["uid"] for message in heard}) == 5
    assert "source" not in json.dumps([message["uid"] for message in heard])


async def test_a_retry_on_another_worker_while_redis_is_away_is_one_message(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port(), "--appendonly", "yes", "--appendfsync", "always") as redis,
        server(tmp_path / "near", unused_port()) as near,
        workers(tmp_path, 2, redis_url=redis.url, fallback_url=near.url) as both,
    ):
        readers = [await one.connect(f"reader-{number}") for number, one in enumerate(both)]
        for reader in readers:
            await ask(reader, type="subscribe", channel="room")
        sources = [await one.connect("source") for one in both]
        said = {"type": "publish", "channel": "room", "data": "said before", "idempotency_key": "before"}
        assert (await ask(sources[0], **said))["durable"] is True
        redis.kill()
        await eventually(lambda: all(one.health()[1]["websocket"]["mode"] == "stand-in" for one in both))
        again = {**said, "data": "said meanwhile", "idempotency_key": "meanwhile"}
        for source in (*sources, *sources):
            assert (await ask(source, **said))["durable"] is False
            assert (await ask(source, **again))["durable"] is False
        redis.start()
        await eventually(lambda: all(one.health()[1]["status"] == "healthy" for one in both))
        assert (await ask(sources[1], type="publish", channel="room", data="end"))["type"] == "ack"
        for reader in readers:
            heard = []
            while "end" not in heard:
                message = await receive(reader)
                heard += [message["data"]] if message["type"] == "message" else []
            assert heard == ["said before", "said meanwhile", "end"]
        kept: list[Any] = []
        async with asyncio.timeout(10):
            while "end" not in kept:  # what was said while Redis was away is stored a moment after its return
                page = await ask(readers[0], type="history", channel="room")
                kept = [message["data"] for message in page.get("messages", ())]  # it may be unavailable for a moment
        assert kept == ["said before", "said meanwhile", "end"]
