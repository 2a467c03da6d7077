"""The middleware that puts the cluster around an application.

It puts the manager into the application's state, decides who may connect, serves the worker's HTTP API (/health and
the like), and adds headers.
"""

from collections.abc import Collection

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.contract.http_paths import CENTRIFUGE_PATH
from wsd.worker.delivery.handle import handle_of
from wsd.worker.endpoints import http_api, hub
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.manager_name import AmbiguousNameError, check_names
from wsd.worker.process_workers import choose_worker, serving_worker
from wsd.worker.security.admission import (
    Admission,
    expiry_spread,
    let_tokens_come_later,
    refuse,
    run_admitted,
    tokens_may_come_later,
)
from wsd.worker.security.authentication import Authenticate, without_secrets
from wsd.worker.server.lifespan import Lifespan
from wsd.worker.worker import Worker

STATE_KEY = "websocket_manager"

PASSED_KEY = "wsd.middleware"
"""The key in the scope of a request that has passed such a middleware already."""

HEADERS = (
    "X-WebSocket-Local-Connections",
    "X-WebSocket-Worker-ID",
    "X-WebSocket-Total-Sessions",
    "X-WebSocket-Total-Workers",
)
"""Headers that are added to HTTP responses."""


class WebSocketMiddleware:
    """ASGI middleware that connects an application to the cluster.

    `wsd start` wraps the application with it. An application may also add it itself
    (`app.add_middleware(WebSocketMiddleware)`), and then run under any server that sends lifespan events.

    The manager is `scope["state"]["websocket_manager"]`, in Starlette `request.state.websocket_manager`.
    """

    def __init__(
        self,
        app: ASGIApp,
        env: WorkerEnv | None = None,
        headers: Collection[str] = HEADERS,
        authenticate: Authenticate | None = None,
        *,
        worker: Worker | None = None,
    ) -> None:
        """`app`: the application. `env`: the settings, by default from the environment of the process. `headers`: those
        of HEADERS to add. `authenticate`: returns the identity of a client from its scope, or None to refuse it;
        replaces the authentication of the settings. `worker`: the one to serve, where several workers share an event
        loop.

        Raises ValueError for a wrong value in the environment, such as REDIS_URL.
        """
        self.app = app
        self.startup_failure: str | None = None
        self._env = env
        self._worker = worker
        self._headers = frozenset(headers)
        self._own_authentication = authenticate is not None
        self._admission = Admission(self.worker.env, authenticate)
        if app is hub.app:
            let_tokens_come_later()

    @property
    def worker(self) -> Worker:
        """The worker of the running event loop."""
        return self._worker or serving_worker(self._env)

    @property
    def manager(self) -> DistributedWebSocketManager:
        """The manager of the running event loop's worker."""
        return self.worker.manager

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if PASSED_KEY in scope:
            # The application has the middleware itself, and runs under `wsd start`. The outer middleware does
            # everything, except for an authentication that only this one knows.
            if scope["type"] == "websocket" and self._own_authentication:
                await self._admit(scope, receive, send, authentication_only=True)
            else:
                await self.app(scope, receive, send)
            return
        scope[PASSED_KEY] = True
        if self._worker is not None:
            choose_worker(self._worker)
        scope.setdefault("state", {})[STATE_KEY] = self.manager
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
            return
        await self.worker.start()  # returns at once, unless the server sends no lifespan events
        if scope["type"] == "http":
            app = self._api if http_api.answers(scope["path"]) else self.app
            await app(scope, receive, self._with_headers(send) if self._headers else send)
        else:
            inner = {**scope}
            # uvicorn's own protocol logs the path and the query of its scope once the application accepts.
            scope["query_string"] = without_secrets(scope.get("query_string", b""))
            await self._admit(inner, receive, send)

    async def _api(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await http_api.answer(self.worker, Request(scope, receive))
        await response(scope, receive, send)

    async def _admit(self, scope: Scope, receive: Receive, send: Send, *, authentication_only: bool = False) -> None:
        # Clients come back together. Those that are connected already must not wait for all of them.
        await self.worker.parts.sessions.turns()
        deferred = scope["path"].endswith(CENTRIFUGE_PATH) and tokens_may_come_later()
        refusal = await self._admission.refusal(scope, authentication_only=authentication_only, deferred=deferred)
        if refusal is not None:
            self.manager.counts.refusals[refusal.reason] += 1
            await refuse(refusal, scope, receive, send)
            return
        handle = handle_of(scope)
        await run_admitted(
            self.app,
            scope,
            receive,
            send,
            spread_seconds=expiry_spread(self.manager.connection_count),
            close_in=handle.outbox.close_in if handle is not None else None,
        )

    def _with_headers(self, send: Send) -> Send:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                totals = self.worker.heartbeat.totals  # from the last heartbeat: no request waits for Redis
                values: dict[str, object] = {
                    "X-WebSocket-Local-Connections": self.manager.connection_count,
                    "X-WebSocket-Worker-ID": self.manager.worker_id,
                    "X-WebSocket-Total-Sessions": totals.sessions,
                    "X-WebSocket-Total-Workers": totals.workers,
                }
                added = [(k.lower().encode(), str(v).encode()) for k, v in values.items() if k in self._headers]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        return send_with_headers

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start the worker before the application's startup, and stop the worker after the application's shutdown."""
        try:
            check_names()
        except AmbiguousNameError as exc:
            self.startup_failure = str(exc)
            await receive()
            await send({"type": "lifespan.startup.failed", "message": str(exc)})
            return
        worker = self.worker
        await worker.start(ready=False)
        lifespan = Lifespan(self.app, on_started=worker.ready, on_stopped=worker.stop)
        try:
            await lifespan.run(scope, receive, send)
        finally:
            self.startup_failure = lifespan.startup_failure
