"""One worker process alone: it serves, sends heartbeats and drains."""

import asyncio
import json
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.support.apps import copy_app
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import eventually
from tests.support.worker import worker
from wsd.worker.contract.heartbeat import Heartbeat
from wsd.worker.contract.redis_keys import heartbeat_key
from wsd.worker.redis_client import open_redis

pytestmark = pytest.mark.anyio


async def test_a_worker_without_redis_stands_alone_and_is_healthy(tmp_path: Path) -> None:
    with worker(tmp_path) as alone:
        one, two = await alone.connect(), await alone.connect()
        await one.send('{"text": "hi"}')
        assert json.loads(await two.recv())["data"] == {"text": "hi"}
        code, health = alone.health()
        assert (code, health["status"]) == (200, "healthy")
        assert health["websocket"] == {
            "worker_id": "worker-1-test",
            "session_store_healthy": True,
            "message_broker_healthy": True,
            "local_connections": 2,
            "total_sessions": 2,
            "total_workers": 1,
            "mode": "memory",
            "breaker": "closed",
            "loop_lag": health["heartbeat"]["loop_lag"],
        }
        await one.close()
        await two.close()


@pytest.mark.parametrize("framing", ["Content-Length: 20000000", "Transfer-Encoding: chunked"])
def test_an_answer_before_the_body_was_read_does_not_reset_the_connection(tmp_path: Path, framing: str) -> None:
    rest = b"x" * 20_000_000
    if "chunked" in framing:
        rest = b"%x\r\n%b\r\n0\r\n\r\n" % (len(rest), rest)
    with worker(tmp_path) as alone, socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(alone.path))
        client.sendall(f"POST /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{framing}\r\n\r\n".encode())
        answer = client.recv(100_000)
        assert answer.startswith(b"HTTP/1.1 404")
        client.sendall(rest)
        while more := client.recv(100_000):  # then the worker closes
            answer += more
        assert b"connection: close" in answer.lower()


async def test_sigterm_drains_with_1012_and_ends_with_0(tmp_path: Path) -> None:
    with worker(tmp_path) as draining:
        connections = [await draining.connect() for _ in range(20)]
        draining.process.send_signal(signal.SIGTERM)
        for connection in connections:
            await connection.wait_closed()
            assert connection.close_code == 1012
        assert await eventually(lambda: draining.process.poll() is not None)
        assert draining.process.returncode == 0
        assert not draining.path.exists()


async def test_a_drain_takes_its_time_and_a_second_signal_cuts_it_short(tmp_path: Path) -> None:
    with worker(tmp_path, drain_seconds=3600.0) as draining:
        connections = [await draining.connect() for _ in range(300)]  # 3 s at the pace of the drain
        draining.process.send_signal(signal.SIGTERM)
        await eventually(lambda: any(connection.close_code for connection in connections))
        assert not all(connection.close_code for connection in connections)
        draining.process.send_signal(signal.SIGTERM)
        for connection in connections:
            await connection.wait_closed()
            assert connection.close_code == 1012
        await eventually(lambda: draining.process.poll() is not None)
        assert draining.process.returncode == 0


async def test_requests_under_way_have_until_the_end_of_the_drain(tmp_path: Path) -> None:
    app = copy_app("slow_requests", tmp_path)
    with worker(tmp_path, app=app, drain_seconds=30.0) as draining:
        # Longer than uvicorn's own limit was here.
        asking = [asyncio.create_task(asyncio.to_thread(draining.request, "POST", f"/{n}?6.5")) for n in range(2)]
        await eventually(lambda: (tmp_path / "0").exists() and (tmp_path / "1").exists())
        draining.process.send_signal(signal.SIGTERM)
        assert await asyncio.gather(*asking) == [(200, "done")] * 2
        await eventually(lambda: draining.process.poll() is not None)
        assert draining.process.returncode == 0


@pytest.mark.parametrize("how", ["drain_seconds", "a second signal"])
async def test_a_request_that_is_longer_than_the_drain_is_ended_with_it(tmp_path: Path, how: str) -> None:
    app = copy_app("slow_requests", tmp_path)
    with worker(tmp_path, app=app, drain_seconds=0.5 if how == "drain_seconds" else 3600.0) as draining:
        asking = asyncio.create_task(asyncio.to_thread(draining.request, "GET", "/0?3600"))
        await eventually((tmp_path / "0").exists)
        draining.process.send_signal(signal.SIGTERM)
        await eventually(lambda: not draining.path.exists())
        if how == "a second signal":
            draining.process.send_signal(signal.SIGTERM)
        assert (await asking)[0] == 500
        await eventually(lambda: draining.process.poll() is not None)
        assert draining.process.returncode == 0


async def test_a_connection_that_was_open_before_the_drain_is_answered(tmp_path: Path) -> None:
    with worker(tmp_path) as draining:
        reader, writer = await asyncio.open_unix_connection(draining.path)
        draining.process.send_signal(signal.SIGTERM)
        await eventually(lambda: not draining.path.exists())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_the_socket_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    public = tmp_path / "public.sock"
    with worker(tmp_path, public_path=str(public)) as old:
        old.path.rename(public)
        (tmp_path / "next").mkdir()
        with worker(tmp_path / "next", public_path=str(public)) as new:
            new.path.rename(public)
            old.process.send_signal(signal.SIGTERM)
            await eventually(lambda: old.process.poll() is not None)
            assert public.exists()
            new.process.send_signal(signal.SIGTERM)
            await eventually(lambda: not public.exists())


async def test_a_heartbeat_in_redis_expires_and_is_removed_at_the_end_of_the_worker(tmp_path: Path) -> None:
    with valkey(tmp_path / "redis", unused_port()) as url:
        redis = open_redis(url, connect_timeout=1, timeout=4)
        try:
            settings = {"redis_url": url, "heartbeat_interval": 0.1, "heartbeat_ttl": 5.0}
            with worker(tmp_path, **settings) as beating:
                key = heartbeat_key("worker-1-test")

                async def beat_now() -> Heartbeat:
                    text = await redis.get(key)
                    assert text is not None
                    return Heartbeat.from_json(text)

                first = await beat_now()
                assert first.node_id == "n"
                assert first.pid == beating.process.pid
                assert first.redis
                assert 0 < await redis.pttl(key) <= 5000
                connection = await beating.connect()
                await eventually(lambda: beating.health()[1]["heartbeat"]["beat"] > first.beat + 1)
                beat = await beat_now()
                async with asyncio.timeout(20):
                    while beat.connections != 1:
                        await asyncio.sleep(0.05)
                        beat = await beat_now()
                assert beat.beat > first.beat
                assert beat.rss > 1_000_000
                await connection.close()
                beating.process.send_signal(signal.SIGTERM)
                await eventually(lambda: beating.process.poll() is not None)
                # What was said stays for those who come back.
                keys: list[Any] = await redis.keys("*")
                assert [
                    key for key in keys if not key.startswith((b"ws_history", b"ws_trace", b"ws_user_traces"))
                ] == []
        finally:
            await redis.aclose()


async def test_bytes_on_the_channel_that_are_not_text_harm_no_client(tmp_path: Path) -> None:
    with valkey(tmp_path / "redis", unused_port()) as url:
        redis = open_redis(url, connect_timeout=1, timeout=4)
        try:
            with worker(tmp_path, redis_url=url) as hearing:
                connection = await hearing.connect()
                assert await redis.publish("ws_channel:{broadcast}", b"\xff\xfe") == 1
                await connection.send(b'{"a": "\xff"}')
                assert json.loads(await connection.recv())["code"] == "invalid_json"
                await connection.send('{"text": "fine"}')
                assert json.loads(await connection.recv())["data"] == {"text": "fine"}
                await connection.close()
        finally:
            await redis.aclose()


async def test_a_slow_reader_is_closed_and_delays_no_others(tmp_path: Path) -> None:
    with worker(tmp_path, messages_per_second=0.0, bytes_per_second=0.0) as serving:
        reader, writer = await asyncio.open_unix_connection(serving.path)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 101")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        fast = await serving.connect()
        text = json.dumps({"text": "x" * 20_000})
        for _ in range(1500):
            await fast.send(text)
            await fast.recv()
        await eventually(lambda: serving.health()[1]["websocket"]["local_connections"] == 1)
        assert serving.request("GET", "/api/websocket/stats?scope=worker")[1]["closes"] == {"slow_reader": 1}
        await fast.close()
        writer.close()
