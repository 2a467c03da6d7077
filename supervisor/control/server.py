"""The control API: HTTP and JSON on a unix socket that only this user can open.

Nearly all of it needs the operator's key. With it, curl can do what the `wsd` command does:
`curl --unix-socket .wsd/run/control.sock -H "X-WSD-Operator-Key: $(cat .wsd/operator.key)" http://wsd/v1/status`.
"""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from typing import Annotated, Protocol, Self, TypeVar

import msgspec
import uvicorn
from msgspec import Meta, Struct
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.control import commands
from wsd.supervisor.control.dashboard import Dashboard
from wsd.supervisor.control.gate import METRICS_PATH, ControlGate
from wsd.supervisor.control.status_report import report
from wsd.supervisor.control.worker_questions import ARCHIVE_QUESTIONS, WORKER_QUESTIONS, pass_on
from wsd.supervisor.deploys.asker import ASKED_BY_HEADER, asked_by
from wsd.supervisor.deploys.operations import Operation, Operations
from wsd.supervisor.errors import CommandError, StartError
from wsd.supervisor.services.nginx_config import DASHBOARD_PATH
from wsd.worker.contract.host_header import WRONG_HOST, is_own_host

T = TypeVar("T")

MAX_HEAD_BYTES = 64 * 1024
"""The largest head of a request, in bytes. nginx passes on any head that fits into its own four buffers."""


class StopRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """A request to stop. `timeout` is how long the processes may drain, in seconds; None means as configured."""

    timeout: Annotated[float, Meta(ge=0)] | None = None


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield  # launch.signals handles the signals of this process


def _bind_private(path: Path) -> socket.socket:
    """Bind a socket to which no other user can connect, not even for a moment. Raises OSError."""
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


class Lifetime(Protocol):
    """The end of a cluster, as far as requests may ask for it."""

    def stop(self, patience: float | None) -> float:
        """Begin to end the cluster; return how long its drain may take. Seconds, None means as configured."""

    def hand_over(self) -> None:
        """Let the supervisor end and the processes of the cluster keep running."""


class ControlServer:
    """The server of the control API, which listens from the beginning of its `async with` block to the end."""

    def __init__(self, cluster: Cluster, operations: Operations, lifetime: Lifetime) -> None:
        self._cluster = cluster
        self._operations = operations
        self._lifetime = lifetime
        self._path = cluster.state_dir.control_socket
        app = Starlette(
            routes=[
                Route("/v1/status", self._status),
                Route("/v1/live", self._live),
                Route(METRICS_PATH, self._metrics),
                Route("/v1/stop", self._stop, methods=["POST"]),
                Route("/v1/upgrade", self._upgrade, methods=["POST"]),
                *(Route(f"/v1/{name}", self._operate, methods=["POST"]) for name in commands.OPERATIONS),
                *(
                    Route(f"/v1/{name}", self._ask_worker, methods=[method])
                    for name, method in (WORKER_QUESTIONS | ARCHIVE_QUESTIONS).items()
                ),
                Mount(DASHBOARD_PATH.rstrip("/"), routes=Dashboard(cluster, operations).routes),
            ],
            exception_handlers={CommandError: _refuse, msgspec.MsgspecError: _refuse, RecursionError: _refuse},
        )
        self._config = uvicorn.Config(
            ControlGate(app, cluster.state_dir.operator_key),
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

    async def __aenter__(self) -> Self:
        """Return once the socket listens. Raises StartError when that is not possible."""
        try:
            await self._listen()
        except OSError as exc:
            raise StartError(f"cannot open the control socket {self._path}: {exc.strerror or exc}") from None
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for server, _ in self._servers:
            server.should_exit = True
        for _, task in self._servers:
            await task

    async def _listen(self) -> None:
        """Bind the socket and serve it, together with those that were bound before. Raises OSError or StartError."""
        listener = _bind_private(self._path)
        self._file = self._path.stat()
        server = _Server(self._config)
        task = asyncio.create_task(server.serve(sockets=[listener]), name="control")
        self._servers.append((server, task))
        while not server.started:
            if task.done():
                await task
                raise StartError(f"cannot open the control socket {self._path}; see the log of the supervisor")
            await asyncio.sleep(0.005)

    async def restore(self) -> bool:
        """Bind the socket anew if its file was removed or replaced, and return whether that was so.

        Raises OSError or StartError.
        """
        if self._file is None or not self._servers:
            return False
        with contextlib.suppress(OSError):
            if os.path.samestat(self._path.stat(), self._file):
                return False
        for listener in self._servers[-1][0].servers:
            listener.close()  # no client can find it any more; open connections stay
        await self._listen()
        return True

    async def _status(self, request: Request) -> Response:
        return Response(msgspec.json.encode(report(self._cluster, self._operations)), media_type="application/json")

    async def _live(self, request: Request) -> Response:
        return Response(b"{}", media_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        hosts = self._cluster.config.nginx.admin_hosts
        if "X-Real-IP" in request.headers and not is_own_host(request.headers.get("Host", ""), hosts):  # through nginx
            return Response(msgspec.json.encode({"error": WRONG_HOST}), 403, media_type="application/json")
        from wsd.supervisor.control import metrics  # noqa: PLC0415 - 2 MB that only Prometheus needs

        # Every worker is asked, so simultaneous scrapes share one answer.
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.create_task(metrics.collect(self._cluster, self._operations), name="metrics")
        return Response(await asyncio.shield(self._collecting), media_type=metrics.CONTENT_TYPE)

    async def _stop(self, request: Request) -> Response:
        wanted = await _body(request, StopRequest)
        if self._cluster.handing_over:
            signal.raise_signal(signal.SIGTERM)  # launch.signals keeps it for the next supervisor
        _name_sender(request)
        seconds = self._lifetime.stop(wanted.timeout)
        return Response(msgspec.json.encode({"seconds": seconds}), 202, media_type="application/json")

    async def _operate(self, request: Request) -> Response:
        name = request.scope["path"].removeprefix("/v1/")
        _name_sender(request)
        return _follow(commands.begin(self._cluster, self._operations, name, await request.body()))

    async def _ask_worker(self, request: Request) -> Response:
        """Pass the request on to a worker, which knows the whole cluster."""
        _name_sender(request)
        return Response(await pass_on(self._cluster, request), media_type="application/json")

    async def _upgrade(self, request: Request) -> Response:
        await _body(request, commands.Nothing)
        _name_sender(request)
        operation = commands.begin_upgrade(self._cluster, self._operations, self._lifetime.hand_over)
        async for progress in operation.follow():
            if progress.error:
                raise CommandError(progress.error)
        return Response(b"{}", 202, media_type="application/json")


def _name_sender(request: Request) -> None:
    """Let the events say that the sender asked for it, by the name that the sender gives itself.

    Only this user and root can send requests, so the header is trusted.
    """
    asked_by.set(request.headers.get(ASKED_BY_HEADER, "a request on the control socket"))


async def _body(request: Request, kind: type[T]) -> T:
    """Decode the body of a request. Raises MsgspecError."""
    return msgspec.json.decode(await request.body() or b"{}", type=kind)


def _follow(operation: Operation) -> Response:
    """Stream the progress of an operation, one JSON object per line. The operation goes on when the client leaves."""

    async def lines() -> AsyncIterator[bytes]:
        async for progress in operation.follow():
            yield msgspec.json.encode(progress) + b"\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def _refuse(request: Request, exc: Exception) -> Response:
    return Response(msgspec.json.encode({"error": str(exc)}), 400, media_type="application/json")
