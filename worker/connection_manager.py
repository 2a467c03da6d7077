"""The small connection manager of many tutorials, for all workers.

An application changes one import, `from wsd import ConnectionManager`. The methods and their signatures stay the same,
and a broadcast reaches the clients of every worker.
"""

import asyncio
import json
import weakref
from typing import Any

from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocket, WebSocketDisconnect

from wsd.worker.channels.options import UNNUMBERED_PREFIX
from wsd.worker.delivery.handle import handle_of
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.manager.connection import Connection
from wsd.worker.manager_name import ManagerName
from wsd.worker.origin import Origin
from wsd.worker.process_workers import current_worker, live_workers, serving_worker
from wsd.worker.security.admission import GUEST, identity_in
from wsd.worker.security.authentication import Identity
from wsd.worker.server.other_protocols import note_messages
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.names import name_problem
from wsd.worker.worker import Worker


class ConnectionManager:
    """The clients of one chat, on all workers. Managers with the same name share their clients.

    While Redis is away, a broadcast reaches the clients of this worker at once (with `redis.stand_in`: of this node),
    and the others when Redis is back.
    """

    def __init__(self, name: str = "") -> None:
        """`name`: by default the module and the variable, or the class and the attribute, that hold this manager.

        A manager that is in no such variable has the name of the function that makes it. Such a function may make only
        one manager in each worker. Otherwise the worker does not start, or AmbiguousNameError (a ValueError) is raised
        when the second manager is used.
        """
        self._name = ManagerName(self, None if name else Origin(self), name)
        self._connections: weakref.WeakKeyDictionary[WebSocket, Connection] = weakref.WeakKeyDictionary()
        self._senders: dict[str, asyncio.Task[None]] = {}  # by session id

    def __set_name__(self, owner: type, attribute: str) -> None:
        self._name.assigned(owner, attribute)

    @property
    def name(self) -> str:
        """The name that the manager shares with those on other workers. It is found when it is first used."""
        return str(self._name)

    def _channel(self, worker: Worker) -> str:
        """Return the channel of all clients. Raises AmbiguousNameError."""
        return UNNUMBERED_PREFIX + self._name.claim(worker)

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
        Otherwise the client is the user that wsd's or Starlette's authentication has found. Without any authentication,
        the query says it (`?user_id=`, `?username=`). A client that nothing identifies is a guest.

        Raises TooManyConnectionsError, before the WebSocket is accepted; Starlette's WebSocketException for a user id
        or name that nobody may have: Starlette and FastAPI then close the WebSocket with 1008; AmbiguousNameError, see
        `__init__`.
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
        note_messages(websocket, connection.outbox)
        sender = asyncio.create_task(_send(weakref.ref(websocket), connection.outbox))
        self._senders[connection.session_id] = sender
        sender.add_done_callback(lambda _, key=connection.session_id: self._senders.pop(key, None))  # type: ignore[misc]

    def disconnect(self, websocket: WebSocket) -> None:
        """Take out a client that is gone. One that was not connected, or is out already, is ignored.

        A client that is never taken out goes when its WebSocket is garbage collected.
        """
        connection = self._connections.pop(websocket, None)
        if connection is not None:
            current_worker().manager.disconnect(connection, CloseCode.NORMAL)
            if (sender := self._senders.get(connection.session_id)) is not None:
                sender.cancel()

    async def send_personal_message(self, message: str | dict[str, Any], websocket: WebSocket) -> None:
        """Send a message to this client alone: a text as it is, anything else as JSON. Does nothing if it is gone."""
        if (connection := self._connections.get(websocket)) is not None:
            connection.send(_text(message))

    async def broadcast(self, message: str | dict[str, Any]) -> None:
        """Send a message to all clients of this manager, on all workers: a text as it is, anything else as JSON.

        May be called on any event loop. Raises AmbiguousNameError, see `__init__`.
        """
        text = _text(message)
        here = current_worker()
        channel = self._channel(here)
        await here.manager.publish_text(channel, text)
        for other in live_workers():  # only in tests: they may serve each client on an event loop of its own
            reached = other is here or other.distributed or (other.memory is not None and other.memory is here.memory)
            if not reached and other.loop is not None:
                asyncio.run_coroutine_threadsafe(other.manager.publish_text(channel, text), other.loop)


def _identity(websocket: WebSocket, worker: Worker) -> Identity:
    """Return the identity of a client that the application has not named. A guest has no user id."""
    found = identity_in(websocket.scope)
    if found is not None:
        return found
    if worker.env.authenticates:
        return GUEST
    query = websocket.query_params
    return Identity(query.get("user_id", ""), query.get("username", ""))


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
