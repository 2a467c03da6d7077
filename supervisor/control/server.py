"""The control API: HTTP and JSON on a unix socket that only this user can open, for those who have the operator's key.

curl can ask a running cluster what the `wsd` command can:
`curl --unix-socket .wsd/run/control.sock -H "X-WSD-Operator-Key: $(cat .wsd/operator.key)" http://wsd/v1/status`.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import msgspec
import uvicorn
from msgspec import Meta, Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route

from wsd.supervisor.control import commands
from wsd.supervisor.control.dashboard import Dashboard
from wsd.supervisor.control.gate import METRICS_PATH, ControlGate
from wsd.supervisor.deploys.asker import ASKED_BY_HEADER, asked_by
from wsd.supervisor.deploys.operations import Operation
from wsd.supervisor.errors import CommandError
from wsd.supervisor.services.nginx_config import DASHBOARD_PATH
from wsd.worker.contract.host_header import WRONG_HOST, is_own_host

if TYPE_CHECKING:
    from wsd.supervisor.supervisor import Supervisor


T = TypeVar("T")

MAX_HEAD_BYTES = 64 * 1024
"""Of a request's headers: nginx passes on what fits into its own four buffers."""


class StopRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`timeout`: seconds for the drain; absent: as configured."""

    timeout: Annotated[float, Meta(ge=0)] | None = None


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # the signals are the supervisor's


def _bind_private(path: Path) -> socket.socket:
    """Bind a socket that only this user can connect to, from its first moment on. Raises OSError."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(umask)
    return listener


class ControlServer:
    def __init__(self, supervisor: "Supervisor", path: Path) -> None:
        self._supervisor = supervisor
        self._path = path
        app = Starlette(
            routes=[
                Route("/v1/status", self._status),
                Route(METRICS_PATH, self._metrics),
                Route("/v1/stop", self._stop, methods=["POST"]),
                Route("/v1/upgrade", self._upgrade, methods=["POST"]),
                *(Route(f"/v1/{name}", self._operate, methods=["POST"]) for name in commands.OPERATIONS),
                *(
                    Route(f"/v1/{name}", self._of_a_worker, methods=[method])
                    for name, method in commands.WORKER_QUESTIONS.items()
                ),
                Mount(DASHBOARD_PATH.rstrip("/"), routes=Dashboard(supervisor).routes),
            ],
            exception_handlers={CommandError: _refuse, msgspec.MsgspecError: _refuse, RecursionError: _refuse},
        )
        self._config = uvicorn.Config(
            ControlGate(app, supervisor.state_dir.operator_key),
            http="h11",  # it limits the size of a head, httptools does not
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            lifespan="off",
            log_config=None,
            ws="none",
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        self._file: os.stat_result | None = None
        self._servers: list[tuple[_Server, asyncio.Task[None]]] = []
        self._collecting: asyncio.Task[str] | None = None

    async def start(self) -> None:
        """Return once the socket listens. Raises OSError."""
        listener = _bind_private(self._path)
        self._file = self._path.stat()
        server = _Server(self._config)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="control")
        self._servers.append((server, task))
        while not server.started:
            if task.done():
                await task
                raise CommandError(f"the control socket {self._path} cannot be opened")
            await asyncio.sleep(0.005)

    async def restore(self) -> bool:
        """Bind the socket anew if its file is not there any more, and tell whether that was so. Raises OSError."""
        if self._file is None or not self._servers:
            return False
        with contextlib.suppress(OSError):
            if os.path.samestat(self._path.stat(), self._file):
                return False
        for listener in self._servers[-1][0].servers:
            listener.close()  # nobody can find it; those who are connected stay
        await self.start()
        return True

    async def stop(self) -> None:
        for server, _ in self._servers:
            server.should_exit = True
        for _, task in self._servers:
            await task

    async def _status(self, request: Request) -> Response:
        return Response(msgspec.json.encode(self._supervisor.status()), media_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        hosts = self._supervisor.config.nginx.admin_hosts
        if "X-Real-IP" in request.headers and not is_own_host(request.headers.get("Host", ""), hosts):  # through nginx
            return Response(msgspec.json.encode({"error": WRONG_HOST}), 403, media_type="application/json")
        from wsd.supervisor.control import metrics  # noqa: PLC0415 - 2 MB that only who scrapes needs

        # Every worker is asked: several who scrape at the same time share one answer.
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.create_task(metrics.collect(self._supervisor), name="metrics")
        return Response(await asyncio.shield(self._collecting), media_type=metrics.CONTENT_TYPE)

    async def _stop(self, request: Request) -> Response:
        wanted = await _body(request, StopRequest)
        if self._supervisor.handing_over:
            signal.raise_signal(signal.SIGTERM)  # kept for the code that goes on as this process
        _note_who_asks(request)
        seconds = self._supervisor.stop(wanted.timeout)
        return Response(msgspec.json.encode({"seconds": seconds}), 202, media_type="application/json")

    async def _operate(self, request: Request) -> Response:
        name = request.scope["path"].removeprefix("/v1/")
        _note_who_asks(request)
        return _follow(commands.begin(self._supervisor, name, await request.body()))

    async def _of_a_worker(self, request: Request) -> Response:
        """What workers know, and do."""
        query = request.scope["query_string"].decode("latin-1")
        target = request.scope["path"].removeprefix("/v1/") + (f"?{query}" if query else "")
        body = msgspec.json.decode(await request.body()) if request.method == "POST" else None
        _note_who_asks(request)
        answer = await commands.ask_worker(self._supervisor, request.method, target, body)
        return Response(answer, media_type="application/json")

    async def _upgrade(self, request: Request) -> Response:
        await _body(request, commands.Nothing)
        _note_who_asks(request)
        async for progress in commands.upgrade(self._supervisor).follow():
            if progress.error:
                raise CommandError(progress.error)
        return Response(b"{}", 202, media_type="application/json")


def _note_who_asks(request: Request) -> None:
    """Keep for the events who asks. Only this user and root can, so what the client says is taken for true."""
    asked_by.set(request.headers.get(ASKED_BY_HEADER, "a request on the control socket"))


async def _body(request: Request, kind: type[T]) -> T:
    """Raises MsgspecError."""
    return msgspec.json.decode(await request.body() or b"{}", type=kind)


def _follow(operation: Operation) -> Response:
    """Its progress, a JSON object a line. Who goes away does not end it."""

    async def lines() -> AsyncIterator[bytes]:
        async for progress in operation.follow():
            yield msgspec.json.encode(progress) + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def _refuse(request: Request, exc: Exception) -> Response:
    return Response(msgspec.json.encode({"error": str(exc)}), 400, media_type="application/json")
