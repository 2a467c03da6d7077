"""The cluster, as a user's own application sees it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property
from typing import TypeVar

from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from wsd.worker.application.client import Client
from wsd.worker.application.formats import Encode, data_format
from wsd.worker.application.operations import Operations
from wsd.worker.application.serving import Terms, serve
from wsd.worker.application.sync import SyncOperations
from wsd.worker.centrifuge import endpoint as centrifuge
from wsd.worker.endpoints import hub
from wsd.worker.hooks.functions import Hook, register
from wsd.worker.process_workers import serving_worker
from wsd.worker.security.admission import let_tokens_come_later
from wsd.worker.security.authentication import Identity
from wsd.worker.websocket_middleware import WebSocketMiddleware
from wsd.worker.wire.position import Position

F = TypeVar("F", bound=Hook)


class Cluster(Operations):
    """The WebSocket cluster inside an application: clients of its own protocol, and messages to clients everywhere.

    All Cluster objects of a process share the worker of the process. The worker runs under `wsd start`, or with
    `lifespan` or `middleware`, under any ASGI server.

    Publishing and the like may be awaited on any event loop, and `sync` has the same for threads. In a process in which
    no worker runs they raise WorkerNotRunningError.
    """

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Run the worker for as long as the block runs, unless it runs already: `FastAPI(lifespan=cluster.lifespan)`.

        An application with a lifespan of its own has `async with cluster.lifespan(app):` around its `yield`. `app` is
        the application that a server passes, and changes nothing.

        Raises ValueError for a wrong value in the environment, such as REDIS_URL.
        """
        worker = serving_worker()
        if worker.running:
            yield
            return
        await worker.start()
        try:
            yield
        finally:
            await worker.stop()

    @property
    def middleware(self) -> type[WebSocketMiddleware]:
        """The middleware that puts the cluster around an application: `app.add_middleware(cluster.middleware)`.

        It runs the worker, admits all WebSockets, and serves the HTTP API.
        """
        return WebSocketMiddleware

    @cached_property
    def hub(self) -> ASGIApp:
        """The hub, to be mounted: `app.mount("/live", cluster.hub)`.

        It serves the endpoint /live/ws, the client /live/client.js, the page /live/, and clients of the Centrifuge
        protocol at /live/connection/websocket. Its clients are admitted as the settings say.
        """
        let_tokens_come_later()
        return Hub(hub.app)

    @cached_property
    def centrifuge(self) -> ASGIApp:
        """The endpoint for clients of the Centrifuge protocol alone, to be mounted: `app.mount("/live", ...)`.

        It is /live/connection/websocket then. Its clients are admitted as the settings say, by the token in their first
        message.
        """
        let_tokens_come_later()
        return Hub(Starlette(routes=[centrifuge.route]))

    @cached_property
    def sync(self) -> SyncOperations:
        """The methods of the cluster for threads other than that of the event loop."""
        return SyncOperations(self)

    # Hooks

    def on_connect(self, function: F) -> F:
        """Have `function` called with a Connected when a session has begun.

        `@cluster.on_connect` stands above the function, plain or async, in a module that is loaded before the worker
        starts. A process has one function for each hook. For each event, the function is called on one worker of the
        cluster, soon after the event; docs/hooks.md tells the rest.

        Raises ValueError if the application has another function for this hook.
        """
        register("on_connect", function)
        return function

    def on_disconnect(self, function: F) -> F:
        """Have `function` called with a Disconnected when a session is over for good. See `on_connect`."""
        register("on_disconnect", function)
        return function

    def on_subscribe(self, function: F) -> F:
        """Have `function` called with a Subscribed when a session has entered a channel. See `on_connect`."""
        register("on_subscribe", function)
        return function

    def on_unsubscribe(self, function: F) -> F:
        """Have `function` called with an Unsubscribed when a session has left a channel. See `on_connect`."""
        register("on_unsubscribe", function)
        return function

    def on_message(self, function: F) -> F:
        """Have `function` called with a ClientMessage before a message of a client of the hub is published.

        It returns None to let the message pass as it is, or `message.with_data(...)` to change what is published. It
        raises MessageRefusedError to refuse the message. It is called on the worker of the client. See `on_connect`.
        """
        register("on_message", function)
        return function

    def serve(
        self,
        websocket: WebSocket,
        *,
        user_id: str | int | None = None,
        username: str = "",
        identity: Identity | None = None,
        resume: str = "",
        since: Mapping[str, Position | str] | None = None,
        encode: Encode = data_format,
        accept: bool = True,
        subprotocol: str | None = None,
    ) -> AbstractAsyncContextManager[Client]:
        """Serve a client of the application's own protocol for as long as the block of `async with` runs.

        `user_id` and `username`, or `identity`: who the client is. Otherwise it is the user that wsd's or Starlette's
        authentication has found, or a guest; `username` alone is the name of either. `resume`: the resume token of an
        earlier connection of the same user. The client is then in the channels of that connection again. `since`: by
        channel, the positions that the client has reached in them, or the texts of these positions (`str(position)`);
        it is sent what it missed. `encode`: a function of a Message, Gap or PresenceChanged that returns what the
        client is sent: text, bytes, or None for nothing. `accept`: whether the WebSocket is to be accepted, with
        `subprotocol`; False if it is accepted already.

        At the end of the block the connection is closed: with 1000, or with 1011 if an exception leaves the block. The
        end of the connection is no error: WebSocketDisconnect does not leave the block. WebSocketException closes with
        its code, ChannelFullError with 4429, InvalidChannelError and InvalidPositionError with 1008, InvalidDataError
        with 1007. They do not leave the block either.

        Raises ClientRefusedError before the block begins, see there; ValueError for a wrong value in the environment.
        """
        if identity is None and user_id is not None:
            identity = Identity(str(user_id), username)
        terms = Terms(
            identity=identity,
            username=username,
            resume=resume,
            since=since or {},
            encode=encode,
            accept=accept,
            subprotocol=subprotocol,
        )
        return serve(websocket, terms)


class Hub:
    """The hub as an ASGI application. Without wsd's middleware in the stack it admits its clients itself.

    Nothing of the settings is read before the first request, so that `Cluster.hub` may be mounted at import.
    """

    def __init__(self, inner: ASGIApp) -> None:
        """`inner`: what the hub serves, the whole of it or a part."""
        self._inner = inner
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            self._app = WebSocketMiddleware(self._inner, headers=())
        await self._app(scope, receive, send)
