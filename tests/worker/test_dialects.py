"""Clients of another dialect beside those of the hub: they share channels, and each is told in its own format."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, unix_connect

from tests.support.apps import copy_app
from tests.support.hub_client import HubClient, close_of, hub_client
from tests.support.worker import Worker, close_opened, worker, workers

pytestmark = pytest.mark.anyio

KEY = {"X-API-Key": "0123456789abcdef0123456789abcdef"}
CHANNELS = {"lobby": {"presence": "events"}, "plain": {"history_size": 0}, "closed": {"allow_publish": "server"}}


class LineClient:
    """A client of `tests.apps.line_dialect`."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self.session_id = ""

    async def next(self) -> str:
        async with asyncio.timeout(10):
            line = await self._connection.recv()
        assert isinstance(line, bytes)
        return line.decode()

    async def ask(self, line: str) -> str:
        await self._connection.send(line)
        return await self.next()

    async def close(self) -> None:
        await self._connection.close()

    async def closed(self) -> tuple[int | None, str | None]:
        return await close_of(self._connection)


_opened: list[LineClient] = []


async def line_client(user_id: str, to: Worker) -> LineClient:
    connection = await unix_connect(str(to.path), f"ws://localhost/lines?user_id={user_id}", ping_interval=None)
    client = LineClient(connection)
    _opened.append(client)
    hello, name, client.session_id = (await client.next()).split()
    assert (hello, name) == ("hello", user_id)
    return client


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()
    while _opened:
        await _opened.pop().close()


@pytest.fixture(scope="module", params=["memory", "redis"])
def serving(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Worker, Worker]]:
    """Two workers of a cluster. In memory there is only one, which comes twice."""
    directory = tmp_path_factory.mktemp("workers")
    app = copy_app("line_dialect", directory)
    settings = {"app": app, "app_directory": str(directory), "channels": json.dumps(CHANNELS)}
    settings["api_key"] = KEY["X-API-Key"]
    if request.param == "memory":
        with worker(directory, **settings) as alone:
            yield alone, alone
    else:
        with workers(directory, 2, redis_url=request.getfixturevalue("redis_url"), **settings) as (one, other):
            yield one, other


@pytest.fixture
async def ann(serving: tuple[Worker, Worker]) -> HubClient:
    """A client of the hub, on the worker that `bob` is on."""
    return await hub_client("ann", serving[0])


@pytest.fixture
async def bob(serving: tuple[Worker, Worker]) -> LineClient:
    """A client of the other dialect."""
    return await line_client("bob", serving[0])


def post(to: Worker, what: str, **body: Any) -> None:
    """Ask for something over HTTP."""
    status, answer = to.request("POST", f"/api/websocket/{what}", body, KEY)
    assert status == 200, answer


async def test_both_get_what_either_publishes(ann: HubClient, bob: LineClient) -> None:
    await ann.subscribe("both")
    assert await bob.ask("join both") == "joined both @0"
    await ann.ask(type="publish", channel="both", data=["a"])
    assert await bob.next() == 'both @1 ["a"]'
    assert {await bob.ask("say both hi"), await bob.next()} == {'both @2 "hi"', "said @2"}
    assert [(await ann.next_message())["data"] for _ in range(2)] == [["a"], "hi"]
    assert await bob.ask("leave both") == "left both"


async def test_what_reaches_a_client_elsewhere_than_in_channels_with_history(
    ann: HubClient, bob: LineClient, serving: tuple[Worker, Worker]
) -> None:
    await ann.subscribe("plain")
    assert await bob.ask("join plain") == "joined plain @"
    for message in ({"channel": "plain"}, {"broadcast": True}, {"user_id": "bob"}, {"user_id": "ann"}):
        post(serving[1], "publish", data=[*message], **message)
    lines = [await bob.next() for _ in range(3)]
    assert lines[0] == 'plain ["channel"]'
    assert [line.split("@")[0] for line in lines[1:]] == ["broadcast ", "!bob "], (
        "a dialect names the channel of a user as it likes"
    )
    assert [(await ann.next_message())["channel"] for _ in range(3)] == ["plain", "broadcast", "direct"]


async def test_messages_are_rendered_only_in_the_dialects_of_their_members(ann: HubClient, bob: LineClient) -> None:
    await ann.subscribe("hub-only")
    before = await bob.ask("rendered")
    for number in range(3):
        await ann.ask(type="publish", channel="hub-only", data=number)
    assert await bob.ask("rendered") == before
    assert await bob.ask("join hub-only") == "joined hub-only @3"
    await ann.ask(type="publish", channel="hub-only", data=3)
    assert await bob.next() == "hub-only @4 3"
    assert await bob.ask("rendered") == f"rendered {int(before.split()[1]) + 1}"


async def test_a_message_is_rendered_once_for_all_members_of_a_dialect(
    ann: HubClient, bob: LineClient, serving: tuple[Worker, Worker]
) -> None:
    others = [await line_client(f"other-{number}", serving[0]) for number in range(5)]
    for client in (bob, *others):
        assert await client.ask("join once") == "joined once @0"
    before = await bob.ask("rendered")
    await ann.ask(type="publish", channel="once", data=1)
    assert [await client.next() for client in (bob, *others)] == ["once @1 1"] * 6
    assert await bob.ask("rendered") == f"rendered {int(before.split()[1]) + 1}"
    back = [await line_client(f"back-{number}", serving[0]) for number in range(3)]
    for client in back:
        assert await client.ask("last once 1") == "joined once @1"
        assert await client.next() == "once @1 1"
    assert await bob.ask("rendered") == f"rendered {int(before.split()[1]) + 2}", "they share what they missed"


async def test_the_newest_messages_and_a_history(ann: HubClient, bob: LineClient) -> None:
    for number in range(4):
        await ann.ask(type="publish", channel="older", data=number)
    assert await bob.ask("last older 2") == "joined older @4"
    assert [await bob.next(), await bob.next()] == ["older @3 2", "older @4 3"]
    assert await bob.ask("old older") == "4 of 4 in older"


async def test_members_of_both_dialects_see_each_other(
    ann: HubClient, bob: LineClient, serving: tuple[Worker, Worker]
) -> None:
    assert await bob.ask("join lobby") == "joined lobby @0"
    assert await bob.next() == "lobby +['bob'] -[]"
    await ann.subscribe("lobby")
    assert await bob.next() == "lobby +['ann'] -[]"
    assert await bob.ask("who lobby") == "2 in lobby: ['ann', 'bob']"
    carl = await line_client("carl", serving[1])
    assert await carl.ask("who lobby") == "2 in lobby: ['ann', 'bob']"


async def test_the_server_puts_a_client_into_a_channel_and_takes_it_out(
    bob: LineClient, serving: tuple[Worker, Worker]
) -> None:
    post(serving[1], "subscribe", user_id="bob", channel="given")
    assert await bob.next() == "in given"
    post(serving[1], "unsubscribe", user_id="bob", channel="given")
    assert await bob.next() == "out given server"


async def test_a_message_that_one_client_does_not_get(
    ann: HubClient, bob: LineClient, serving: tuple[Worker, Worker]
) -> None:
    await ann.subscribe("not-all")
    await bob.ask("join not-all")
    other = await line_client("other", serving[0])
    await other.ask("join not-all")
    post(serving[1], "publish", channel="not-all", data="not bob", exclude=bob.session_id)
    assert [await bob.next(), await other.next()] == ["not-all @1", 'not-all @1 "not bob"']
    assert (await ann.next_message())["data"] == "not bob"
    post(serving[1], "publish", channel="not-all", data="not ann", exclude=ann.welcome["session_id"])
    assert [await bob.next(), await other.next()] == ['not-all @2 "not ann"'] * 2
    position = await ann.receive()
    assert (position["type"], position["offset"]) == ("position", 2)


async def test_the_rules_are_the_same_and_refusals_are_said_in_the_dialect(bob: LineClient) -> None:
    assert await bob.ask("say closed hi") == "no forbidden"
    assert await bob.ask("say bad/name! hi") == "no invalid_channel"
    assert await bob.ask("join bad/name!") == "no invalid_channel"
    assert await bob.ask("to \u202e hi") == "no invalid_user"


async def test_a_close_frame_has_the_code_and_the_reason_of_the_dialect(
    bob: LineClient, serving: tuple[Worker, Worker]
) -> None:
    post(serving[1], "disconnect", session_id=bob.session_id)
    assert await bob.closed() == (3500, "session ended, in a line")
    closes = serving[0].request("GET", "/api/websocket/stats?scope=worker")[1]["closes"]
    assert closes["session_ended"] == 1, "the worker counts its own codes"
