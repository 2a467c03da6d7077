"""Ends of an application's clients that the worker brings about. Each ends the block of `Cluster.serve`, too."""

import asyncio
import json
import signal
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.support.apps import copy_app
from tests.support.hub_client import close_of
from tests.support.waiting import eventually
from tests.support.worker import Worker, worker

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("protocol", ["wsd", "uvicorn"])]

WAYS = ["iterates", "receives", "group"]


def open_at(serving: Worker, path: str) -> connect:
    return connect(f"ws://localhost/{path}", unix=True, path=str(serving.path), max_size=None)


async def opened(serving: Worker, path: str) -> ClientConnection:
    connection = await open_at(serving, path)
    assert await connection.recv() == "here"
    return connection


async def test_an_idle_client_is_closed_with_4000(tmp_path: Path, protocol: str) -> None:
    with worker(tmp_path, app=copy_app("endings", tmp_path), protocol=protocol, idle_timeout=0.5) as serving:
        connections = [await opened(serving, f"until-the-end/{way}") for way in WAYS]
        assert [(await close_of(one))[0] for one in connections] == [4000] * 3
        await eventually(lambda: sorted(serving.request("GET", "/left")[1]) == sorted([*WAYS, *after(WAYS)]))


def after(ways: list[str]) -> list[str]:
    return [f"after {way}" for way in ways]


async def test_a_drain_closes_with_1012_and_ends_the_blocks(tmp_path: Path, protocol: str) -> None:
    with worker(tmp_path, app=copy_app("endings", tmp_path), protocol=protocol) as serving:
        connections = [await opened(serving, f"until-the-end/{way}") for way in WAYS]
        serving.process.send_signal(signal.SIGTERM)
        assert [(await close_of(one))[0] for one in connections] == [1012] * 3
        assert await asyncio.to_thread(serving.process.wait, 10) == 0
        assert "Traceback" not in serving.log.read_text()


async def test_a_client_that_reads_nothing_is_closed_and_holds_up_nobody(tmp_path: Path, protocol: str) -> None:
    settings = {"max_buffer_bytes": 200_000, "messages_per_second": 0.0, "bytes_per_second": 0}
    with worker(tmp_path, app=copy_app("rooms", tmp_path), protocol=protocol, **settings) as serving:
        slow, quick = open_at(serving, "rooms/a?name=slow"), open_at(serving, "rooms/a?name=quick")
        async with await slow as reads_nothing, await quick as reads:
            await reads_nothing.recv()
            await reads.recv()
            reads_nothing.transport.pause_reading()
            for number in range(40):
                await reads.send(json.dumps([number, "x" * 60_000]))
                assert json.loads(str(await reads.recv()))[0] == number
            await eventually(lambda: serving.health()[1]["websocket"]["local_connections"] == 1)


async def test_a_client_that_sends_too_fast_is_read_more_slowly(tmp_path: Path, protocol: str) -> None:
    rates = {"messages_per_second": 20.0, "message_burst": 5.0}
    with worker(tmp_path, app=copy_app("rooms", tmp_path), protocol=protocol, **rates) as serving:
        async with open_at(serving, "rooms/a?name=ann") as ann:
            await ann.recv()
            began = asyncio.get_running_loop().time()
            for number in range(25):
                await ann.send(str(number))
            assert [await ann.recv() for _ in range(25)] == [str(number) for number in range(25)]
            assert asyncio.get_running_loop().time() - began > 0.9
