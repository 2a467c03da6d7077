"""The small connection manager of many tutorials, for all workers: an application changes one import.

    from wsd import ConnectionManager

    manager = ConnectionManager()

It has the same methods with the same signatures. A broadcast reaches the clients of every worker.
"""

import asyncio
import itertools
import json
import time
import weakref
from typing import Any

from starlette.exceptions import WebSocketException
from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from wsd.worker.channels.options import UNNUMBERED_PREFIX
from wsd.worker.delivery.handle import handle_of
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.errors import WorkerError
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.websocket_manager import DistributedWebSocketManager
from wsd.worker.origin import Origin
from wsd.worker.process_workers import current_worker, live_workers, serving_worker
from wsd.worker.security.admission import IDENTITY_KEY
from wsd.worker.security.authentication import Identity
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.names import name_problem
from wsd.worker.worker import Worker

_managers: "weakref.WeakSet[ConnectionManager]" = weakref.WeakSet()
_claims: "weakref.WeakKeyDictionary[Worker, dict[str, weakref.ref[ConnectionManager]]]" = weakref.WeakKeyDictionary()
"""The manager that has the name of a place in the code, by worker and name."""


def get_websocket_manager() -> DistributedWebSocketManager:
    """Return the manager of this process. Its environment says whether it is distributed or keeps everything in memory.

    Without a `WebSocketMiddleware` around the application, its background work begins with the first connection of a
    ConnectionManager.

    Raises ValueError for a wrong value in the environment.
    """
    return current_worker().manager


class AmbiguousNameError(WorkerError, ValueError):
    """Two ConnectionManagers cannot be told apart: neither has a name, nor a variable of its own."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} makes more than one ConnectionManager: assign each to a variable of its module, or name each, "
            'as in ConnectionManager("lobby"), in the same way on all workers'
        )


class ConnectionManager:
    """The clients of one chat, on all workers. Managers with the same name share their clients."""

    def __init__(self, name: str = "") -> None:
        """`name`: by default the module and the variable, or the class and the attribute, that hold this manager.

        A manager that is in no such variable has the name of the function that makes it. Such a function may make only
        one manager in each worker: otherwise AmbiguousNameError is raised when the worker starts, or when the second
        manager is used.
        """
        self._name = name
        self._origin = None if name else Origin(self)
        self._is_place = False  # whether its name is only that of a place in the code
        self._connections: weakref.WeakKeyDictionary[WebSocket, Connection] = weakref.WeakKeyDictionary()
        self._senders: dict[str, asyncio.Task[None]] = {}  # by session id
        _managers.add(self)

    def __set_name__(self, owner: type, attribute: str) -> None:
        if self._origin is not None and not self._name:
            module = self._origin.module if owner.__module__ == "__main__" else owner.__module__
            self._name = f"{module}:{owner.__qualname__}.{attribute}"

    @property
    def name(self) -> str:
        """The name that the manager shares with those on other workers. It is found when it is first used."""
        if not self._name and self._origin is not None:
            variable = self._origin.variable(self)
            self._name = variable or self._origin.place
            self._is_place = variable is None
        return self._name

    def _channel(self, worker: Worker) -> str:
        """Return the channel of all clients. Raises AmbiguousNameError."""
        name = self.name
        if self._is_place:
            holder = _claims.setdefault(worker, {}).setdefault(name, weakref.ref(self))
            if holder() is not self:
                raise AmbiguousNameError(name)
        return UNNUMBERED_PREFIX + name

    @property
    def active_connections(self) -> list[WebSocket]:
        """The WebSockets of this worker."""
        return list(self._connections)

    async def connect(
        self,
        websocket: WebSocket,
        *,
        user_id: str | int | None = None,
        username: str = "",
        identity: Identity | None = None,
    ) -> None:
        """Register a client and accept its WebSocket. Once it is accepted, it receives all broadcasts.

        `user_id` and `username`, or `identity`: who the client is, if the application authenticates clients itself.
        Otherwise it is the user that wsd's or Starlette's authentication has found. Without any authentication, the
        query says it (`?user_id=`, `?username=`). A client that nothing identifies is a guest.

        Raises Starlette's WebSocketException for a user id or name that nobody may have: Starlette and FastAPI then
        close the WebSocket with 1008. Raises AmbiguousNameError.
        """
        worker = serving_worker()
        channel = self._channel(worker)
        await worker.start()
        if identity is None:
            identity = _identity(websocket, worker) if user_id is None else Identity(str(user_id), username)
        for field, name in (("user_id", identity.user_id), ("username", identity.username)):
            if name and (problem := name_problem(name)):
                worker.manager.counts.refusals["name"] += 1
                await websocket.accept()
                raise WebSocketException(CloseCode.POLICY, f"{field} {problem}")
        handle = handle_of(websocket.scope)
        connection = await worker.manager.connect(
            identity.user_id or worker.manager.guest_name(),
            identity.username or username,
            welcome=False,
            outbox=handle.outbox if handle is not None else None,
        )
        await worker.manager.join(connection, channel)
        await websocket.accept()
        self._connections[websocket] = connection
        if handle is not None:
            connection.outbox.release()
            return
        _note_messages(websocket, connection.outbox)
        sender = asyncio.create_task(_send(weakref.ref(websocket), connection.outbox))
        self._senders[connection.session_id] = sender
        sender.add_done_callback(lambda _, key=connection.session_id: self._senders.pop(key, None))  # type: ignore[misc]

    def disconnect(self, websocket: WebSocket) -> None:
        """Take out a client that is gone. A client that is not taken out goes when its WebSocket is collected."""
        connection = self._connections.pop(websocket, None)
        if connection is not None:
            get_websocket_manager().disconnect(connection, CloseCode.NORMAL)
            if (sender := self._senders.get(connection.session_id)) is not None:
                sender.cancel()

    async def send_personal_message(self, message: str | dict[str, Any], websocket: WebSocket) -> None:
        """Send a message to this client alone: a text as it is, anything else as JSON."""
        if (connection := self._connections.get(websocket)) is not None:
            connection.send(_text(message))

    async def broadcast(self, message: str | dict[str, Any]) -> None:
        """Send a message to all clients of this manager, on all workers: a text as it is, anything else as JSON."""
        text = _text(message)
        here = current_worker()
        channel = self._channel(here)
        await here.manager.publish_text(channel, text)
        for other in live_workers():  # only in tests: they may serve each client on an event loop of its own
            if other is not here and not other.distributed and other.loop is not None:
                asyncio.run_coroutine_threadsafe(other.manager.publish_text(channel, text), other.loop)


def check_names() -> None:
    """Check that the managers of the application can be told apart.

    Raises AmbiguousNameError if two of them never can.

    Two managers that one function made in two calls are no such case: the function may be an application factory that
    tests call. Only one of the two may then be used.
    """
    for one, other in itertools.combinations(list(_managers), 2):
        if one.name == other.name and one._is_place and other._is_place:
            origin, another = one._origin, other._origin
            if origin is not None and another is not None and (origin.line != another.line or ":" not in origin.place):
                raise AmbiguousNameError(one.name)


def _identity(websocket: WebSocket, worker: Worker) -> Identity:
    """Return the identity of a client, if the application does not say it. A guest has no user id."""
    found: Identity | None = getattr(websocket.state, IDENTITY_KEY, None)
    if found is not None:
        return found
    if "user" in websocket.scope:  # set by Starlette's AuthenticationMiddleware
        user = websocket.scope["user"]
        if not getattr(user, "is_authenticated", False):
            return GUEST
        name = _text_of(user, "display_name")
        return Identity(_text_of(user, "identity") or name, name)
    if worker.env.authenticates:
        return GUEST
    query = websocket.query_params
    return Identity(query.get("user_id", ""), query.get("username", ""))


def _text_of(user: object, attribute: str) -> str:
    """Return an attribute of Starlette's user as text, "" if it has none."""
    try:
        return str(getattr(user, attribute))
    except (AttributeError, NotImplementedError):  # Starlette's own SimpleUser has no identity
        return ""


GUEST = Identity("")


def _note_messages(websocket: WebSocket, outbox: Outbox) -> None:
    """Note when the client sends something, for the idle timeout.

    Under a server with another protocol than ours, only the application receives what its clients send.
    """
    receive = websocket._receive

    async def receive_and_note() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive":
            outbox.heard_at = time.monotonic()
        return message

    outbox.heard_at = time.monotonic()
    websocket._receive = receive_and_note


async def _send(websocket: "weakref.ref[WebSocket]", outbox: Outbox) -> None:
    """Send what is queued until the connection ends, then close the WebSocket if the server ended it.

    The WebSocket is only referenced weakly between two sends, so that it can be collected.
    """

    async def send_text(text: str) -> None:
        if (target := websocket()) is not None:
            await target.send_text(text)

    pump = asyncio.create_task(outbox.pump(send_text))
    ends: set[asyncio.Future[Any]] = {pump, outbox.closing}
    try:
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        pump.cancel()
        await asyncio.gather(pump, return_exceptions=True)
    target = websocket()
    if target is not None and outbox.closing.done():
        code, reason = outbox.closing.result()
        try:
            await target.close(code, reason)
        except (RuntimeError, WebSocketDisconnect):
            return  # the client closed it first


def _text(message: str | dict[str, Any]) -> str:
    return message if isinstance(message, str) else json.dumps(message)
