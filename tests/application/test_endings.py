"""How a block of `Cluster.serve` ends: by the application, by an exception, by the client, and by the worker."""

import asyncio
import json
from collections.abc import Iterator

import pytest
from websockets.asyncio.client import ClientConnection, connect, unix_connect

from tests.support.apps import copy_app
from tests.support.hub_client import close_of
from tests.support.waiting import eventually
from tests.support.worker import Worker, worker

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["wsd", "uvicorn"])
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker with wsd's own WebSocket protocol, and one with uvicorn's."""
    directory = tmp_path_factory.mktemp("endings")
    limits = {"max_connections_per_user": 2, "channels": json.dumps({"full": {"max_members": 1}})}
    with worker(directory, app=copy_app("endings", directory), protocol=request.param, **limits) as running:
        yield running


def open_at(serving: Worker, path: str) -> connect:
    return connect(f"ws://localhost/{path}", unix=True, path=str(serving.path), max_size=None)


async def received(connection: ClientConnection) -> str:
    return str(await connection.recv())


async def test_a_block_that_is_done_closes_behind_all_that_was_sent(serving: Worker) -> None:
    async with open_at(serving, "returns") as connection:
        assert [await received(connection), await received(connection)] == ["x" * 100_000, "last"]
        assert await close_of(connection) == (1000, "")


async def test_a_client_has_some_seconds_to_read_what_was_sent_last(serving: Worker) -> None:
    async with open_at(serving, "returns-much") as connection:
        connection.transport.pause_reading()
        await asyncio.sleep(1.5)  # the server's protocol alone gives it one second
        connection.transport.resume_reading()
        assert len(await received(connection)) == 4_000_000
        assert await close_of(connection) == (1000, "")


@pytest.mark.parametrize(
    ("what", "code", "reason"),
    [
        ("bug", 1011, ""),
        ("websocket-exception", 4123, "not today"),
        ("bad-code", 1011, ""),
        ("channel", 1008, "'no such\\nname': a channel name has 1 to 255 characters of A-Z a-z 0-9 _ . : @ / # -"),
        ("binary", 1007, "channels carry text and JSON"),
        ("surrogate", 1007, "UTF-8 cannot encode a text in the data"),
        ("closed", 4321, "enough"),
    ],
)
async def test_an_exception_closes_with_its_code(serving: Worker, what: str, code: int, reason: str) -> None:
    before = serving.log.read_text().count("Traceback")
    async with open_at(serving, f"raises/{what}") as connection:
        closed = await close_of(connection)
        assert closed[0] == code
        assert closed[1] is not None
        assert closed[1].startswith(reason)
    await eventually(lambda: serving.health()[1]["websocket"]["local_connections"] == 0)
    logged = serving.log.read_text().count("Traceback") - before
    assert logged == (1 if what == "bug" else 0), "only a fault of the application is logged as one"


@pytest.mark.parametrize("how", ["iterates", "receives", "group"])
async def test_a_client_that_leaves_ends_the_block_without_an_error(serving: Worker, how: str) -> None:
    async with open_at(serving, f"until-the-end/{how}") as connection:
        assert await received(connection) == "here"
        if how != "group":
            await connection.send("[1]")
            assert json.loads(await received(connection)) == [1]
    await eventually(lambda: serving.request("GET", "/left")[1][-2:] == [how, f"after {how}"])
    await eventually(lambda: serving.health()[1]["websocket"]["local_connections"] == 0)


async def test_one_connection_too_many_is_closed_with_4429(serving: Worker) -> None:
    async with (
        open_at(serving, "until-the-end/iterates?name=many") as one,
        open_at(serving, "until-the-end/iterates?name=many") as two,
        open_at(serving, "until-the-end/iterates?name=many") as three,
    ):
        assert (await received(one), await received(two)) == ("here", "here")
        assert (await close_of(three))[0] == 4429


async def test_a_name_that_nobody_may_have_is_refused(serving: Worker) -> None:
    async with open_at(serving, "until-the-end/iterates?name=%0A") as connection:
        code, reason = await close_of(connection)
        assert (code, str(reason).startswith("user_id must ")) == (1008, True)


async def test_a_client_may_say_who_it_is_in_its_first_message(serving: Worker) -> None:
    path = str(serving.path)
    async with unix_connect(path, "ws://localhost/by-first-message", subprotocols=["chat.v1"]) as connection:
        assert connection.subprotocol == "chat.v1"
        await connection.send("bob")
        assert json.loads(await received(connection)) == ["bob", "Ann", "bob"]
        await connection.send(b"\x00\xff")
        assert await connection.recv() == b"\x00\xff"


async def test_a_subprotocol_is_chosen(serving: Worker) -> None:
    path = str(serving.path)
    async with unix_connect(path, "ws://localhost/named?name=bob", subprotocols=["x", "chat.v1"]) as connection:
        assert connection.subprotocol == "chat.v1"


async def test_no_traceback_was_logged_but_that_of_the_bug(serving: Worker) -> None:
    log = serving.log.read_text()
    assert log.count("Traceback") == log.count("KeyError: 'a bug of the application'"), log
