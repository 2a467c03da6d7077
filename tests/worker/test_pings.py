"""The request `ping` tells a client whether its connection works, whatever else the hub still does for the client."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from tests.support.apps import copy_app
from tests.support.hub_client import ask, receive
from tests.support.worker import Worker, close_opened, worker

pytestmark = pytest.mark.anyio

SLOW_SECONDS = 3.0
"""How long the application takes to decide about a channel that begins with `slow`."""


@pytest.fixture(params=["wsd", "uvicorn"])
def serving(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Worker]:
    copy_app("hooks", tmp_path)
    limits = {"messages_per_second": 1.0, "message_burst": 150.0}
    with worker(tmp_path, authorize="hooks:authorize", protocol=request.param, **limits) as running:
        yield running


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


async def say(connection: ClientConnection, **request: Any) -> None:
    await connection.send(json.dumps(request))


async def answers(connection: ClientConnection, count: int) -> list[Any]:
    """Return the ids of the next answers."""
    found: list[Any] = []
    while len(found) < count:
        message = await receive(connection)
        if "id" in message:
            assert message["type"] in ("ack", "pong", "error"), message
            found.append(message["id"])
    return found


@pytest.mark.parametrize(
    "awaited",
    [
        {"type": "subscribe", "channel": "slow"},
        {"type": "subscribe", "channel": "slow", "last": 3},
        {"type": "publish", "channel": "slow", "data": 1},
        {"type": "history", "channel": "slow"},
    ],
    ids=["subscribe", "newest", "publish", "history"],
)
async def test_a_ping_is_answered_while_another_request_is_awaited(serving: Worker, awaited: dict[str, Any]) -> None:
    connection = await serving.connect("ann")
    started = time.monotonic()
    await say(connection, **awaited, id="awaited")
    await say(connection, type="unsubscribe", channel="room", id="queued")
    for number in range(3):
        assert (await ask(connection, type="ping", padding="é"))["type"] == "pong", number
    await connection.send(json.dumps({"type": "ping", "id": "binary"}).encode())
    assert await answers(connection, 1) == ["binary"]
    assert time.monotonic() - started < SLOW_SECONDS - 1
    await connection.send('{"type": "ping", "id": "wrong", "positions": 3}')
    await say(connection, type="ping", id="read", positions={"slow": {"offset": 1, "epoch": "x"}})
    while (message := await receive(connection)).get("id") != "awaited":
        assert message["type"] == "subscribed"
    assert time.monotonic() - started > SLOW_SECONDS - 0.1
    assert await answers(connection, 3) == ["queued", "wrong", "read"], "these keep their order"


async def test_a_ping_is_answered_while_a_client_joins_all_its_channels(serving: Worker) -> None:
    connection = await serving.connect("ann")
    started = time.monotonic()
    for number in range(100):
        await say(connection, type="subscribe", channel=f"slow:{number}" if number < 2 else f"r:{number}", id=number)
    for number in range(5):
        await say(connection, type="ping", id=f"ping-{number}")
    assert await answers(connection, 5) == [f"ping-{number}" for number in range(5)]
    assert time.monotonic() - started < SLOW_SECONDS - 1
    assert await answers(connection, 100) == list(range(100))


async def test_pings_are_counted_while_another_request_is_awaited(serving: Worker) -> None:
    connection = await serving.connect("ann")
    await say(connection, type="subscribe", channel="slow", id="awaited")
    for _ in range(200):
        await say(connection, type="ping")
    kinds = [(await receive(connection))["type"] for _ in range(200)]
    assert 145 < kinds.count("pong") < 155
    assert kinds.count("error") == 200 - kinds.count("pong")
