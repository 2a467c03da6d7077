"""Helper processes of an application: neither their end nor their survival affects the clients of the worker."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support.apps import copy_app
from tests.support.waiting import eventually
from tests.support.worker import Worker, worker

pytestmark = pytest.mark.anyio


async def test_a_signal_for_a_helper_process_does_not_reach_its_worker(tmp_path: Path) -> None:
    with worker(tmp_path, app=copy_app("forking", tmp_path)) as serving:
        client = await connected(serving)
        for where in ("here", "thread"):
            for kind in (
                "terminate",
                "interrupt",
                "pool",
                "broken_executor",
                "plain_fork",
                "fork_and_exec",
                "preexec",
                *(["own_handler"] if where == "here" else []),  # only the main thread may set one
            ):
                status, ended_by = await asyncio.to_thread(serving.request, "GET", f"/{where}/{kind}")
                expected = signal.SIGINT if kind == "interrupt" else signal.SIGTERM
                assert (status, ended_by) == (200, str(int(expected))), f"{where} {kind}"
        assert serving.health()[0] == 200
        assert not client.done()
        client.cancel()
        serving.process.send_signal(signal.SIGTERM)  # the worker still handles its own
        await eventually(lambda: serving.process.poll() is not None)
        assert serving.process.returncode == 0


async def connected(serving: Worker) -> "asyncio.Task[bytes]":
    """Open a WebSocket. The task ends when the server sends anything, or closes the connection."""
    reader, writer = await asyncio.open_unix_connection(serving.path)
    writer.write(HANDSHAKE)
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    task = asyncio.create_task(reader.read(1))
    task.add_done_callback(lambda _: writer.close())
    return task


HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def test_a_helper_that_outlives_the_worker_holds_none_of_its_sockets(tmp_path: Path) -> None:
    helper = 0
    with worker(tmp_path, app=copy_app("forking", tmp_path)) as serving:
        try:
            client = await connected(serving)
            reader, writer = await asyncio.open_unix_connection(serving.path)
            writer.write(b"GET /stays HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            async with asyncio.timeout(10):
                helper = int((await reader.read()).rpartition(b"\r\n")[2])  # to the end: it is closed
            writer.close()
            serving.process.kill()
            serving.process.wait()
            async with asyncio.timeout(10):
                assert await client == b""
            with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as late:
                late.connect(str(serving.path))
            os.kill(helper, 0)
        finally:
            if helper:
                os.kill(helper, signal.SIGKILL)
