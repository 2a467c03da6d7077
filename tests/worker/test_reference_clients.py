"""The clients treat all names alike, and identify a message by its channel and uid together."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from websockets.asyncio.client import connect

from tests.support.hub_client import ask
from tests.support.node_programs import node_program
from tests.support.ports import unused_port
from tests.support.waiting import eventually
from tests.support.worker import Worker, worker
from wsd.client import WsdClient

pytestmark = pytest.mark.anyio

NAMES = [
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "length",
    "valueOf",
    "__defineGetter__",
    "then",
    "room",
]
"""Channels; but for the last, every JavaScript object has such a property."""

CHANNELS = json.dumps({"*": {"history_size": 0}, "kept:*": {"history_size": 10}})
"""Without a history there is no position to come back to: a client has to subscribe to such a channel again."""


class Heard(list[dict[str, Any]]):
    def data(self, channel: str) -> list[Any]:
        return [each["data"] for each in self if each.get("type") == "message" and each["channel"] == channel]


class Reader(Protocol):
    def __call__(self, url: str, names: list[str], directory: Path) -> AsyncIterator[dict[str, Any]]: ...


async def python_reader(url: str, names: list[str], directory: Path) -> AsyncIterator[dict[str, Any]]:
    async with WsdClient(url, "constructor") as client:
        for name in names:
            await client.subscribe(name)
        yield {"state": "ready"}
        async for message in client:
            yield message


async def javascript_reader(url: str, names: list[str], directory: Path) -> AsyncIterator[dict[str, Any]]:
    command = [*node_program("channel_reader", directory), url, json.dumps(names)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async for line in process.stdout:
            yield json.loads(line)
    finally:
        process.kill()
        await process.wait()


def channels_of(serving: Worker) -> set[str]:
    """The channels with members."""
    _, stats = serving.request("GET", "/api/websocket/stats?limit=100")
    return {channel["name"] for channel in stats["channels"]}


@pytest.mark.parametrize("reader", [python_reader, javascript_reader])
async def test_all_names_are_alike_and_uids_are_of_a_channel(reader: Reader, tmp_path: Path) -> None:
    port = unused_port()
    url = f"ws://127.0.0.1:{port}/ws"
    names = [*NAMES, *(f"kept:{name}" for name in NAMES)]
    heard = Heard()

    async def read() -> None:
        async for message in reader(url, names, tmp_path):
            heard.append(message)

    async def say(data: object) -> None:
        async with connect(f"{url}?user_id=source") as source:
            for name in names:
                await ask(source, type="publish", channel=name, data=data, idempotency_key=f"{data} in all")

    with worker(tmp_path, listen=f"127.0.0.1:{port}", channels=CHANNELS):
        reading = asyncio.create_task(read())
        await eventually(lambda: {"state": "ready"} in heard)
        await say(1)
        await eventually(lambda: all(heard.data(name) == [1] for name in names))
    try:
        with worker(tmp_path, listen=f"127.0.0.1:{port}", channels=CHANNELS) as new:  # which knows no sessions
            await eventually(lambda: set(names) <= channels_of(new))
            await say(2)
            await eventually(lambda: all(heard.data(name) == [1, 2] for name in names))
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_channel_that_was_left_is_not_entered_again(tmp_path: Path) -> None:
    """The last messages of the channel arrive after the client has decided to leave it."""
    port = unused_port()
    url = f"ws://127.0.0.1:{port}/ws"
    with worker(tmp_path, listen=f"127.0.0.1:{port}") as serving:
        async with WsdClient(url, "ann") as client:
            await client.subscribe("left")
            await client.subscribe("kept")
            await asyncio.gather(client.publish("left", 1), client.unsubscribe("left"))
            first = client.welcome
            client.reconnect()
            await eventually(lambda: client.welcome is not first)
            assert sorted(client.welcome["channels"]) == ["broadcast", "direct", "kept"]
        command = node_program("leaving_client", tmp_path)
        process = await asyncio.create_subprocess_exec(*command, url, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        try:
            await process.stdout.readline()
            assert sorted(json.loads(await process.stdout.readline())) == ["broadcast", "direct", "kept"]
        finally:
            process.kill()
            await process.wait()
        assert "Traceback" not in serving.log.read_text()
