"""Forks helper processes in every way that applications do: /here/KIND on the event loop, /thread/KIND beside it.

The answer is the number of the signal that ended the helper, or what went wrong.
"""

import asyncio
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.synchronize import Event

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

fork = multiprocessing.get_context("fork")


def begun(event: Event) -> None:
    event.set()
    time.sleep(60)


def end_of(pid: int) -> int | str:
    for _ in range(500):
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return -os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return "did not end"


def process(signum: signal.Signals) -> int:
    event = fork.Event()
    helper = fork.Process(target=begun, args=(event,))
    helper.start()
    event.wait()
    assert helper.pid is not None
    os.kill(helper.pid, signum)
    helper.join(5)
    helper.kill()
    assert helper.exitcode is not None
    return -helper.exitcode


def terminate() -> int:
    return process(signal.SIGTERM)


def interrupt() -> int:
    code = process(signal.SIGINT)
    return signal.SIGINT if code == -1 else code  # as KeyboardInterrupt ends a process of multiprocessing


def pool() -> int:
    with fork.Pool(2) as workers:
        assert workers.map(abs, [-1, -2]) == [1, 2]
    return signal.SIGTERM


def broken_executor() -> int | str:
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as executor:
        failure = executor.submit(os._exit, 1).exception(10)
    return signal.SIGTERM if isinstance(failure, BrokenProcessPool) else repr(failure)


def plain_fork() -> int | str:
    pid = os.fork()
    if not pid:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    return end_of(pid)


def fork_and_exec() -> int | str:
    pid = os.fork()
    if not pid:
        os.execlp("sleep", "sleep", "60")
    os.kill(pid, signal.SIGTERM)
    return end_of(pid)


def preexec() -> int:
    helper = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: os.kill(os.getpid(), 0))  # noqa: PLW1509
    helper.terminate()
    return -helper.wait(5)


def own_handler() -> int | str:
    before = signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    try:
        pid = os.fork()
        if not pid:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        return signal.SIGTERM if end_of(pid) == -7 else "the application's handler was taken away"
    finally:
        signal.signal(signal.SIGTERM, before)


KINDS: dict[str, Callable[[], int | str]] = {
    kind.__name__: kind
    for kind in (terminate, interrupt, pool, broken_executor, plain_fork, fork_and_exec, preexec, own_handler)
}


async def here(request: Request) -> JSONResponse:
    return JSONResponse(KINDS[request.path_params["kind"]]())


async def in_a_thread(request: Request) -> JSONResponse:
    return JSONResponse(await asyncio.to_thread(KINDS[request.path_params["kind"]]))


async def stays(request: Request) -> JSONResponse:
    """Fork a process that outlives the worker. The answer is its process id."""
    pid = os.fork()
    if not pid:
        os.setsid()
        time.sleep(60)  # noqa: ASYNC251
        os._exit(0)
    return JSONResponse(pid)


async def hold(websocket: WebSocket) -> None:
    await websocket.accept()
    async for _ in websocket.iter_text():
        pass


app = Starlette(
    routes=[
        Route("/here/{kind}", here),
        Route("/thread/{kind}", in_a_thread),
        Route("/stays", stays),
        WebSocketRoute("/ws", hold),
    ]
)
