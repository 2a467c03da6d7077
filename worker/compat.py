"""The small connection manager that most applications start with, for all workers: change one import.

    from wsd.worker.compat import ConnectionManager

    manager = ConnectionManager()

Same methods, same signatures; what it broadcasts reaches the clients of every worker.
"""

import asyncio
import json
import sys
import weakref
from typing import Any

from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocket, WebSocketDisconnect

from wsd.worker.admission import IDENTITY_KEY
from wsd.worker.connection import Connection
from wsd.worker.names import name_problem
from wsd.worker.outbox import Outbox, handle_of
from wsd.worker.websocket_manager import DistributedWebSocketManager
from wsd.worker.wire import CloseCode
from wsd.worker.worker import current_worker, live_workers, serving_worker

CHANNEL_PREFIX = "~"
"""No client of the hub can name such a channel."""

_names: "weakref.WeakValueDictionary[str, ConnectionManager]" = weakref.WeakValueDictionary()


def get_websocket_manager() -> DistributedWebSocketManager:
    """This process's manager, in memory or distributed as its environment says.

    Without a `WebSocketMiddleware` around the application its background work begins with the first connection that
    a ConnectionManager gets. Raises ValueError when a value of the environment is wrong.
    """
    return current_worker().manager


class ConnectionManager:
    def __init__(self, name: str = "") -> None:
        """`name` says which managers of different workers are one; by default the line of code that makes it.

        Raises ValueError when that line makes a second one: then which is which must be said.
        """
        if not name:
            caller = sys._getframe(1)
            name = f"{caller.f_globals.get('__name__', '')}:{caller.f_lineno}"
            if name in _names:
                raise ValueError(
                    f"{name} makes more than one ConnectionManager: give each a name, the same on all workers"
                )
            _names[name] = self
        self.name = name
        self._channel = CHANNEL_PREFIX + name
        self._connections: weakref.WeakKeyDictionary[WebSocket, Connection] = weakref.WeakKeyDictionary()
        self._senders: dict[str, asyncio.Task[None]] = {}  # by session id

    @property
    def active_connections(self) -> list[WebSocket]:
        """Those of this worker."""
        return list(self._connections)

    async def connect(self, websocket: WebSocket) -> None:
        """Accept it once it hears the others. Its user is the authenticated one, else `?user_id=` or a guest.

        Raises Starlette's WebSocketException, by which Starlette and FastAPI close it with 1008, when the client calls
        itself what nobody may be called.
        """
        worker = serving_worker()
        await worker.start()
        identity = getattr(websocket.state, IDENTITY_KEY, None)
        user_id = identity.user_id if identity else websocket.query_params.get("user_id")
        username = identity.username if identity else websocket.query_params.get("username", "")
        for field, name in (("user_id", user_id), ("username", username)):
            if name and (problem := name_problem(name)):
                worker.manager.refusals["name"] += 1
                await websocket.accept()
                raise WebSocketException(CloseCode.POLICY, f"{field} {problem}")
        handle = handle_of(websocket.scope)
        connection = await worker.manager.connect(
            user_id or worker.manager.guest_name(),
            username,
            welcome=False,
            outbox=handle.outbox if handle is not None else None,
        )
        await worker.manager.join(connection, self._channel)
        await websocket.accept()
        self._connections[websocket] = connection
        if handle is not None:
            connection.outbox.release()
            return
        sender = asyncio.create_task(_send(weakref.ref(websocket), connection.outbox))
        self._senders[connection.session_id] = sender
        sender.add_done_callback(lambda _, key=connection.session_id: self._senders.pop(key, None))  # type: ignore[misc]

    def disconnect(self, websocket: WebSocket) -> None:
        """The client is gone. One that is forgotten without this is noticed when its WebSocket is collected."""
        connection = self._connections.pop(websocket, None)
        if connection is not None:
            get_websocket_manager().disconnect(connection, CloseCode.GOODBYE)
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
        await here.manager.publish_text(self._channel, text)
        for other in live_workers():  # there are none but in tests, which may serve each client on a loop of its own
            if other is not here and not other.distributed and other.loop is not None:
                asyncio.run_coroutine_threadsafe(other.manager.publish_text(self._channel, text), other.loop)


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
