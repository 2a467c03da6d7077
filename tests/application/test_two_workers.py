"""Clients of an application's own protocol on two workers: messages, histories, and sessions that they resume."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, unix_connect

from tests.support.apps import copy_app
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import eventually
from tests.support.worker import Worker, workers

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["wsd", "uvicorn"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    directory = tmp_path_factory.mktemp("two")
    rooms = json.dumps({"room:*": {"presence": "events"}, "room:short*": {"history_size": 2}})
    with (
        valkey(directory / "redis", unused_port()) as url,
        workers(directory, 2, app=app_in(directory), protocol=request.param, redis_url=url, channels=rooms) as running,
    ):
        yield running


def app_in(directory: Path) -> str:
    for number in (1, 2):
        (directory / f"worker-{number}").mkdir(exist_ok=True)
        copy_app("rooms", directory / f"worker-{number}")
    return "rooms:app"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def opened(stack: AsyncExitStack, at: Worker, path: str) -> tuple[ClientConnection, Any]:
    """Open a WebSocket, and return it with its first message that is no news of who comes."""
    connection = await stack.enter_async_context(unix_connect(str(at.path), f"ws://localhost/{path}"))
    return connection, await message(connection)


async def message(connection: ClientConnection) -> Any:
    """Return the next message that is no news of who comes."""
    async with asyncio.timeout(10):
        while True:
            content = await connection.recv()
            found = json.loads(content) if str(content).startswith("{") else content
            if not isinstance(found, dict) or "came" not in found:
                return found


async def test_members_on_both_workers_get_each_message_in_their_own_format(
    two: list[Worker], stack: AsyncExitStack
) -> None:
    plain, hello = await opened(stack, two[0], "rooms/mixed?name=ann")
    assert hello == {"you": "ann"}
    numbered, _ = await opened(stack, two[1], "numbered/mixed?name=bob")
    hub, _ = await opened(stack, two[1], "live/ws?user_id=eve")
    await hub.send(json.dumps({"type": "subscribe", "channel": "room:mixed"}))
    assert (await message(hub))["type"] == "subscribed"
    await plain.send("hi")
    assert await message(plain) == "hi"
    assert await message(numbered) == {"n": 1, "by": "ann", "data": "hi"}
    await numbered.send('{"text": "ho"}')
    assert await message(plain) == {"text": "ho"}
    seen: list[Any] = []
    while len(seen) < 2:
        seen += [found for found in [await message(hub)] if found["type"] == "message"]
    assert [(one["data"], one["from"]["user_id"], one["offset"]) for one in seen] == [
        ("hi", "ann", 1),
        ({"text": "ho"}, "bob", 2),
    ]


async def test_members_are_told_who_comes(two: list[Worker], stack: AsyncExitStack) -> None:
    numbered, _ = await opened(stack, two[0], "numbered/presence?name=ann")
    await opened(stack, two[1], "rooms/presence?name=bob")
    came: list[str] = []
    async with asyncio.timeout(10):
        while "bob" not in came:
            came += json.loads(await numbered.recv())["came"]


async def test_a_lost_client_resumes_on_another_worker_with_what_it_missed(
    two: list[Worker], stack: AsyncExitStack
) -> None:
    lost, hello = await opened(stack, two[0], "numbered/resume?name=bob")
    other, _ = await opened(stack, two[0], "rooms/resume?name=ann")
    await other.send("1")
    assert (await message(lost))["n"] == 1
    lost.transport.abort()
    for text in ("2", "3"):
        await other.send(text)
        await message(other)
    query = f"name=bob&token={hello['token']}&at=1:{hello['epoch']}"
    back, first = await opened(stack, two[1], f"numbered/resume?{query}")
    frames = [first, await message(back), await message(back)]
    greeting = next(one for one in frames if "token" in one)
    assert [one["n"] for one in frames if "n" in one] == [2, 3]
    assert (greeting["resumed"], greeting["token"] != hello["token"]) == (True, True)
    await other.send("4")
    assert (await message(back))["n"] == 4, "it is in its channel, once"


async def test_a_position_that_is_too_old_becomes_a_gap(two: list[Worker], stack: AsyncExitStack) -> None:
    other, _ = await opened(stack, two[0], "rooms/short?name=ann")
    watching, hello = await opened(stack, two[0], "numbered/short?name=bob")
    for text in "1234":
        await other.send(text)
        await message(watching)
    _, joined = await opened(stack, two[1], f"numbered/short?name=cem&since=1:{hello['epoch']}")
    assert (joined["recovered"], joined["reason"]) == (False, "trimmed")


async def test_positions_that_no_client_can_have_close_with_1008(two: list[Worker], stack: AsyncExitStack) -> None:
    for query in (f"since=1:{'x' * 100}", "token=a.b&at=-1:e"):
        connection = await stack.enter_async_context(
            unix_connect(str(two[0].path), f"ws://localhost/numbered/bad?name=bob&{query}")
        )
        await connection.wait_closed()
        assert connection.close_code == 1008


async def test_a_client_never_enters_channels_that_only_its_positions_name(
    two: list[Worker], stack: AsyncExitStack
) -> None:
    lost, hello = await opened(stack, two[0], "numbered/mine?name=bob")
    lost.transport.abort()
    back, _ = await opened(
        stack, two[1], f"numbered/mine?name=bob&token={hello['token']}&at=0:{hello['epoch']}&also=room:theirs"
    )
    await back.send('"channels?"')
    assert await message(back) == {"channels": ["room:mine"]}


async def test_the_statistics_count_what_clients_send_and_get(two: list[Worker], stack: AsyncExitStack) -> None:
    before = two[0].request("GET", "/stats")[1]["messages_in"]
    ann, _ = await opened(stack, two[0], "rooms/counted?name=ann")
    for number in range(5):
        await ann.send(f"text {number}")
        assert await message(ann) == f"text {number}"
    status, stats = two[0].request("GET", "/stats")
    assert status == 200
    assert stats["complete"]
    assert stats["messages_in"] == before + 5
    await stack.aclose()
    await eventually(lambda: two[0].request("GET", "/stats")[1]["connections"] == 0)
