"""Helper processes of an application: what ends them, or outlives the worker, is nothing to the worker's clients."""

import asyncio
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support.waiting import eventually
from tests.support.worker import Worker, worker

pytestmark = pytest.mark.anyio

FORKING = """
import asyncio
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import time
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute

fork = multiprocessing.get_context("fork")

def begun(event):
    event.set()
    time.sleep(60)

def gone(pid):
    for _ in range(500):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return -os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return "did not end"

def process(signum):
    event = fork.Event()
    helper = fork.Process(target=begun, args=(event,))
    helper.start()
    event.wait()
    os.kill(helper.pid, signum)
    helper.join(5)
    helper.kill()
    return -helper.exitcode

def terminate():
    return process(signal.SIGTERM)

def interrupt():
    code = process(signal.SIGINT)
    return signal.SIGINT if code == -1 else code  # as KeyboardInterrupt ends a process of multiprocessing

def pool():
    with fork.Pool(2) as workers:
        assert workers.map(abs, [-1, -2]) == [1, 2]
    return signal.SIGTERM

def broken_executor():
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as executor:
        try:
            executor.submit(os._exit, 1).result(10)
        except concurrent.futures.process.BrokenProcessPool:
            return signal.SIGTERM

def plain_fork():
    pid = os.fork()
    if not pid:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    return gone(pid)

def fork_and_exec():
    pid = os.fork()
    if not pid:
        os.execlp("sleep", "sleep", "60")
    os.kill(pid, signal.SIGTERM)
    return gone(pid)

def preexec():
    helper = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: os.kill(os.getpid(), 0))
    helper.terminate()
    return -helper.wait(5)

def own_handler():
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    try:
        pid = os.fork()
        if not pid:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        return signal.SIGTERM if gone(pid) == -7 else "the application's handler was taken away"
    finally:
        signal.signal(signal.SIGTERM, before)

KINDS = dict(terminate=terminate, interrupt=interrupt, pool=pool, broken_executor=broken_executor,
             plain_fork=plain_fork, fork_and_exec=fork_and_exec, preexec=preexec, own_handler=own_handler)

async def here(request):
    return JSONResponse(KINDS[request.path_params["kind"]]())

async def in_a_thread(request):
    return JSONResponse(await asyncio.to_thread(KINDS[request.path_params["kind"]]))

async def stays(request):
    pid = os.fork()
    if not pid:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    return JSONResponse(pid)

async def ws(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "fork":
            await websocket.send_json((await stays(None)).body.decode())
            await websocket.close()

app = Starlette(routes=[
    Route("/here/{kind}", here), Route("/thread/{kind}", in_a_thread), Route("/stays", stays), WebSocketRoute("/ws", ws)
])
"""


async def test_what_ends_a_helper_leaves_its_worker_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FORKING)
    with worker(tmp_path, app="mine:app") as serving:
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
        serving.process.send_signal(signal.SIGTERM)  # and the worker still hears its own
        await eventually(lambda: serving.process.poll() is not None)
        assert serving.process.returncode == 0


async def connected(serving: Worker) -> "asyncio.Task[bytes]":
    """A WebSocket whose task ends when the server says anything, or closes it."""
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


async def test_a_helper_that_outlives_the_worker_holds_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FORKING)
    helper = 0
    with worker(tmp_path, app="mine:app") as serving:
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
