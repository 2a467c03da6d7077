"""The small connection manager that most applications start with, for all workers: change one import.

    from wsd import ConnectionManager

    manager = ConnectionManager()

Same methods, same signatures; what it broadcasts reaches the clients of every worker.
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
"""Which manager has the name of a place in the code, on a worker."""


def get_websocket_manager() -> DistributedWebSocketManager:
    """This process's manager, in memory or distributed as its environment says.

    Without a `WebSocketMiddleware` around the application its background work begins with the first connection that
    a ConnectionManager gets. Raises ValueError when a value of the environment is wrong.
    """
    return current_worker().manager


class AmbiguousNameError(ValueError):
    """Two managers that are not told apart by a variable of their own, nor by a name."""

    def __init__(self, place: str) -> None:
        super().__init__(
            f"{place} makes more than one ConnectionManager: assign each to a variable of its module, or name each, "
            'as in ConnectionManager("lobby"), in the same way on all workers'
        )


class ConnectionManager:
    """Clients of one chat, on all workers: managers with the same name are one."""

    def __init__(self, name: str = "") -> None:
        """`name`: by default the module and the variable, or the class and the attribute, that hold this manager.

        A manager that neither holds has the name of the function that makes it. The function may then make one for a
        worker, and no more: AmbiguousNameError says so when the worker starts, or when a second one is used.
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
        """Found when it is first asked for: while the manager is made, no variable holds it yet."""
        if not self._name and self._origin is not None:
            variable = self._origin.variable(self)
            self._name = variable or self._origin.place
            self._is_place = variable is None
        return self._name

    def _channel(self, worker: Worker) -> str:
        """Raises AmbiguousNameError."""
        name = self.name
        if self._is_place:
            holder = _claims.setdefault(worker, {}).setdefault(name, weakref.ref(self))
            if holder() is not self:
                raise AmbiguousNameError(name)
        return UNNUMBERED_PREFIX + name

    @property
    def active_connections(self) -> list[WebSocket]:
        """Those of this worker."""
        return list(self._connections)

    async def connect(
        self,
        websocket: WebSocket,
        *,
        user_id: str | int | None = None,
        username: str = "",
        identity: Identity | None = None,
    ) -> None:
        """Accept it once it hears the others.

        `user_id` and `username`, or `identity`: who the client is, by the application's own authentication. Without
        them it is whom wsd's or Starlette's authentication has found. `?user_id=` and `?username=` count only where
        there is neither; who is nobody by all of them is a guest.

        Raises Starlette's WebSocketException, by which Starlette and FastAPI close it with 1008, when the client calls
        itself what nobody may be called. Raises AmbiguousNameError.
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
        _note_when_heard(websocket, connection.outbox)
        sender = asyncio.create_task(_send(weakref.ref(websocket), connection.outbox))
        self._senders[connection.session_id] = sender
        sender.add_done_callback(lambda _, key=connection.session_id: self._senders.pop(key, None))  # type: ignore[misc]

    def disconnect(self, websocket: WebSocket) -> None:
        """The client is gone. One that is forgotten without this is noticed when its WebSocket is collected."""
        connection = self._connections.pop(websocket, None)
        if connection is not None:
            get_websocket_manager().disconnect(connection, CloseCode.NORMAL)
            if (sender := self._senders.get(connection.session_id)) is not None:
                sender.cancel()

    async def send_personal_message(self, message: str | dict[str, Any], websocket: WebSocket) -> None:
        """To this client alone. A text goes as it is, anything else as JSON."""
        if (connection := self._connections.get(websocket)) is not None:
            connection.send(_text(message))

    async def broadcast(self, message: str | dict[str, Any]) -> None:
        """To all clients of this manager, on all workers."""
        text = _text(message)
        here = current_worker()
        channel = self._channel(here)
        await here.manager.publish_text(channel, text)
        for other in live_workers():  # there are none but in tests, which may serve each client on a loop of its own
            if other is not here and not other.distributed and other.loop is not None:
                asyncio.run_coroutine_threadsafe(other.manager.publish_text(channel, text), other.loop)


def check_names() -> None:
    """Raise AmbiguousNameError when two managers that the application has made can never be told apart.

    A function that was called twice has made two as well: it may be an application's factory, in tests. Then only one
    of them may be used.
    """
    for one, other in itertools.combinations(list(_managers), 2):
        if one.name == other.name and one._is_place and other._is_place:
            origin, another = one._origin, other._origin
            if origin is not None and another is not None and (origin.line != another.line or ":" not in origin.place):
                raise AmbiguousNameError(one.name)


def _identity(websocket: WebSocket, worker: Worker) -> Identity:
    """Who a client is of whom the application says nothing; a guest has no user id."""
    found: Identity | None = getattr(websocket.state, IDENTITY_KEY, None)
    if found is not None:
        return found
    if "user" in websocket.scope:  # of Starlette's AuthenticationMiddleware
        user = websocket.scope["user"]
        if not getattr(user, "is_authenticated", False):
            return GUEST
        name = _said(user, "display_name")
        return Identity(_said(user, "identity") or name, name)
    if worker.env.authenticates:
        return GUEST
    query = websocket.query_params
    return Identity(query.get("user_id", ""), query.get("username", ""))


def _said(user: object, attribute: str) -> str:
    try:
        return str(getattr(user, attribute))
    except (AttributeError, NotImplementedError):  # Starlette's own SimpleUser has no identity
        return ""


GUEST = Identity("")


def _note_when_heard(websocket: WebSocket, outbox: Outbox) -> None:
    """Under a server without our protocol the application alone hears its clients: note when it does."""
    receive = websocket._receive

    async def noting() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive":
            outbox.heard_at = time.monotonic()
        return message

    outbox.heard_at = time.monotonic()
    websocket._receive = noting


async def _send(websocket: "weakref.ref[WebSocket]", outbox: Outbox) -> None:
    """Send what is queued until the connection ends. Holds the WebSocket only while it sends."""

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
            return  # the client was faster


def _text(message: str | dict[str, Any]) -> str:
    return message if isinstance(message, str) else json.dumps(message)
