"""A message to many clients is encoded once and written once. A client that does not read delays no other."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.support.ports import unused_port
from tests.support.raw_websocket import CLOSE, TEXT, Frame, RawSocket, close, frame
from tests.support.waiting import until
from tests.support.worker import Worker, worker

pytestmark = pytest.mark.anyio


def said(kind: str, **fields: Any) -> bytes:
    return frame(TEXT, json.dumps({"type": kind, **fields}).encode())


def joined(client: RawSocket, user_id: str, channel: str = "room") -> None:
    assert client.request(f"/ws?user_id={user_id}") == 101
    client.send(said("subscribe", channel=channel))
    while (found := client.receive()) is not None:
        if b'"subscribed"' in found.payload:
            return


@pytest.fixture
def port() -> int:
    return unused_port()


@pytest.fixture
def running(tmp_path: Path, port: int) -> Iterator[Worker]:
    with worker(
        tmp_path, listen=f"127.0.0.1:{port}", protocol="wsd", messages_per_second=0.0, bytes_per_second=0.0
    ) as serving:
        yield serving


async def test_messages_that_arrive_together_are_written_at_once_to_each_client(running: Worker, port: int) -> None:
    with RawSocket(port) as source, RawSocket(port) as first, RawSocket(port) as second:
        for name, client in (("a", source), ("b", first), ("c", second)):
            joined(client, name)
        source.send(b"".join(said("publish", channel="room", data=number) for number in range(16)))
        for client in (source, first, second):
            numbers = []
            for _ in range(16):
                found = client.receive()
                assert found is not None
                numbers.append(json.loads(found.payload)["data"])
            assert numbers == list(range(16))
            assert client.segments[-1] > 16 * 50, "all that came together was read at once, as it was written"


async def test_requests_before_a_close_are_answered_before_it(running: Worker, port: int) -> None:
    with RawSocket(port) as client:
        joined(client, "a")
        client.send(
            said("publish", channel="room", data=1, id=7) + said("presence", channel="room", id=8) + close(1000)
        )
        found = client.receive_all()
    assert found[-1] == Frame(CLOSE, (1000).to_bytes(2))
    kinds = [json.loads(each.payload)["type"] for each in found[:-1]]
    assert sorted(kinds) == ["ack", "message", "presence"]


async def test_a_client_that_does_not_read_is_closed_and_the_others_get_everything(tmp_path: Path, port: int) -> None:
    limits = {"max_buffer_bytes": 100_000, "messages_per_second": 0.0, "bytes_per_second": 0.0, "protocol": "wsd"}
    with worker(tmp_path, listen=f"127.0.0.1:{port}", **limits) as serving:
        with RawSocket(port) as source, RawSocket(port) as reader, RawSocket(port, receive_buffer=4096) as sleeper:
            for name, client in (("a", source), ("b", reader), ("c", sleeper)):
                joined(client, name)
            got = 0
            while serving.request("GET", "/api/websocket/stats?scope=worker")[1]["closes"] == {}:
                source.send(said("publish", channel="room", data="x" * 50_000))
                for client in (source, reader):
                    found = client.receive()
                    assert found is not None
                    assert len(found.payload) > 50_000
                got += 1
                assert got < 1000, "nobody is closed"
        until(lambda: serving.request("GET", "/api/websocket/stats?scope=worker")[1]["connections"] == 0)
        assert serving.request("GET", "/api/websocket/stats?scope=worker")[1]["closes"]["slow_reader"] == 1


async def test_compression_is_for_clients_that_ask_for_it(tmp_path: Path) -> None:
    with worker(tmp_path, compression=True, protocol="wsd") as serving:
        uri = "ws://localhost/ws?user_id=a"
        async with (
            connect(uri, unix=True, path=str(serving.path), compression="deflate") as small,
            connect(uri, unix=True, path=str(serving.path), compression=None) as plain,
        ):
            for client in (small, plain):
                await client.recv()
            assert small.response is not None
            assert "permessage-deflate" in small.response.headers["Sec-WebSocket-Extensions"]
            await small.send(json.dumps({"text": "much of the same " * 1000}))
            for client in (small, plain):
                assert json.loads(await client.recv())["data"]["text"].startswith("much of the same ")


async def test_the_hub_works_over_another_websocket_protocol(tmp_path: Path) -> None:
    with worker(tmp_path, protocol="uvicorn") as serving:
        connection, _ = await serving.join()
        await connection.send(json.dumps({"type": "ping", "id": 1}))
        assert json.loads(await connection.recv()) == {"type": "pong", "id": 1}
        await connection.close()
        until(lambda: serving.request("GET", "/api/websocket/stats?scope=worker")[1]["closes"] == {"goodbye": 1})
