"""The small connection manager of many tutorials, for all workers.

An application changes one import, `from wsd import ConnectionManager`. The methods and their signatures stay the same,
and a broadcast reaches the clients of every worker.
"""

import asyncio
import json
import reprlib
import weakref
from typing import Any

from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocket, WebSocketDisconnect

from wsd.worker.application.client import Client, note_start, position_of
from wsd.worker.application.errors import InvalidPositionError
from wsd.worker.application.formats import Encode, data_format, format_of, frame_of
from wsd.worker.application.running import tell_others
from wsd.worker.application.servers import QueuedSocket
from wsd.worker.channels.joining import Joined
from wsd.worker.channels.options import NUMBERED_PREFIX, UNNUMBERED_PREFIX
from wsd.worker.delivery import batch
from wsd.worker.delivery.handle import handle_of
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.translation import TranslatingWriter, Translator
from wsd.worker.dialects.hub_dialect import HUB
from wsd.worker.manager.connection import Connection
from wsd.worker.manager_name import ManagerName
from wsd.worker.origin import Origin
from wsd.worker.process_workers import current_worker, serving_worker
from wsd.worker.security.admission import GUEST, identity_in
from wsd.worker.security.authentication import Identity
from wsd.worker.server.other_protocols import note_messages, write_to
from wsd.worker.wire import messages as wire
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.frames import close_reason
from wsd.worker.wire.names import name_problem
from wsd.worker.wire.position import Position
from wsd.worker.worker import Worker


class ConnectionManager:
    """The clients of one chat, on all workers. Managers with the same name share their clients.

    Clients may be in rooms. A message to a room reaches the clients in it, a message without a room reaches all clients
    of the manager.

    While Redis is away, a broadcast reaches the clients of this worker at once (with `redis.stand_in`: of this node),
    and the others when Redis is back.
    """

    def __init__(self, name: str = "", *, history: bool = False, encode: Encode = data_format) -> None:
        """`name`: by default the module and the variable, or the class and the attribute, that hold this manager.
        `history`: whether messages are kept, so that `connect` can send a client earlier ones. How many are kept, and
        for how long, say the options of channels (`[channels."pattern"]` in wsd.toml) for the manager's name. `encode`:
        with a history, a function that makes what clients are sent of a message, see `Cluster.serve`. It may put the
        position of the message in, with which a client comes back.

        A manager that is in no such variable has the name of the function that makes it. Such a function may make only
        one manager in each worker. Otherwise the worker does not start, or AmbiguousNameError (a ValueError) is raised
        when the second manager is used.
        """
        self._name = ManagerName(self, None if name else Origin(self), name)
        self._history = history
        self._encode = encode
        # Neither holds a WebSocket, so that one that the application has let go of can be collected.
        self._connections: weakref.WeakKeyDictionary[WebSocket, Connection] = weakref.WeakKeyDictionary()
        self._senders: dict[str, asyncio.Task[None]] = {}  # by session id

    def __set_name__(self, owner: type, attribute: str) -> None:
        self._name.assigned(owner, attribute)

    @property
    def name(self) -> str:
        """The name that the manager shares with those on other workers. It is found when it is first used."""
        return str(self._name)

    def _channel(self, worker: Worker, room: str | int = "") -> str:
        """Return the channel of all clients, or of those in a room.

        Raises AmbiguousNameError; TypeError for a room that is no text and no number.
        """
        if not isinstance(room, str | int):
            raise TypeError(
                f"a room is a str or an int, not {type(room).__name__}: {reprlib.repr(room)}; "
                "a message stands before its room, as in manager.broadcast(message, room)"
            )
        prefix = NUMBERED_PREFIX if self._history else UNNUMBERED_PREFIX
        name = self._name.claim(worker)
        return f"{prefix}{name}/{room}" if room != "" else prefix + name

    @property
    def active_connections(self) -> list[WebSocket]:
        """The WebSockets of this worker."""
        return list(self._connections)

    # Clients

    async def connect(
        self,
        websocket: WebSocket,
        room: str | int = "",
        *,
        user_id: str | int | None = None,
        username: str = "",
        identity: Identity | None = None,
        accept: bool = True,
        subprotocol: str | None = None,
        since: Position | str | None = None,
        last: int | None = None,
    ) -> Client:
        """Register a client and accept its WebSocket. Once it is accepted, it receives all broadcasts.

        `room`: the room that the client enters. `user_id` and `username`, or `identity`: who the client is, if the
        application authenticates clients itself. Otherwise the client is the user that wsd's or Starlette's
        authentication has found, or a guest. `accept`: False if the application has accepted the WebSocket already, for
        an authentication by the first message for example; `subprotocol`: the one to accept.

        With a history: `last` is how many of the newest messages the client is sent first, and `since` the position
        that it has reached, after which it gets all messages. Both are about the room, if there is one. A position may
        be the text that `str(position)` made, as a client sends it back; an empty text is none. If the history does not
        have all messages after `since`, `encode` gets a Gap.

        Return the client: `client.positions` has the position that it has reached, by channel.

        Raises TooManyConnectionsError, before the WebSocket is accepted; ValueError for `since` or `last` without a
        history, and for both; Starlette's WebSocketException for a user id or name that nobody may have, and for a
        `since` that is no position: Starlette and FastAPI then close the WebSocket with 1008; TypeError for a room that
        is no text and no number; AmbiguousNameError, see `__init__`.
        """
        if not self._history and (since is not None or last is not None):
            raise ValueError("since and last need a history: ConnectionManager(history=True)")
        worker = serving_worker()
        channel = self._channel(worker)
        channel_of_room = self._channel(worker, room)
        await worker.start()
        try:
            reached = position_of(since)
        except InvalidPositionError as exc:
            if accept:
                await websocket.accept(subprotocol)
            raise WebSocketException(CloseCode.POLICY, close_reason(str(exc))) from exc
        if identity is None:
            found = identity_in(websocket.scope) or GUEST
            identity = Identity(str(user_id), username) if user_id is not None else found
        for field, name in (("user_id", identity.user_id), ("username", identity.username)):
            if name and (problem := name_problem(name)):
                worker.manager.counts.refusals["name"] += 1
                if accept:
                    await websocket.accept(subprotocol)
                raise WebSocketException(CloseCode.POLICY, f"{field} {problem}")
        welcomes: list[wire.Welcome] = []
        handle = handle_of(websocket.scope)
        connection = await worker.manager.connect(
            identity.user_id or worker.manager.guest_name(),
            identity.username or username,
            identity=identity if identity.user_id else None,
            welcome=welcomes.append,
            outbox=handle.outbox if handle is not None else None,
        )
        translator = Translator(format_of(self._encode))
        if channel_of_room != channel:
            await self._join(worker, connection, channel, translator)
        await self._join(worker, connection, channel_of_room, translator, since=reached, last=last)
        if accept:
            await websocket.accept(subprotocol)
        self._connections[websocket] = connection
        self._start_sending(websocket, connection, translator if self._history else None)
        socket = QueuedSocket(websocket, connection.outbox)
        return Client(websocket, worker, connection, identity, welcomes[0], translator, socket)

    async def _join(
        self,
        worker: Worker,
        connection: Connection,
        channel: str,
        translator: Translator,
        *,
        since: Position | None = None,
        last: int | None = None,
    ) -> None:
        def announce(joined: Joined) -> None:
            note_start(translator, channel, joined.state(), since)
            if since is not None and joined.loss is not None:
                at = joined.position or since  # without Redis nobody knows the newest: it asks for the same next time
                connection.outbox.send(HUB.gap(channel, joined.loss.value, at))  # which the format translates

        await worker.manager.join(connection, channel, since, announce, last=last)

    def _start_sending(self, websocket: WebSocket, connection: Connection, translator: Translator | None) -> None:
        outbox = connection.outbox
        if handle_of(websocket.scope) is not None:
            if translator is not None:
                outbox.write_through(lambda writer: TranslatingWriter(writer, translator))
            outbox.release()
            return
        note_messages(websocket, outbox)
        sender = asyncio.create_task(_send(weakref.ref(websocket), outbox, translator))
        self._senders[connection.session_id] = sender
        sender.add_done_callback(lambda _, key=connection.session_id: self._senders.pop(key, None))  # type: ignore[misc]

    def disconnect(self, websocket: WebSocket, room: str | int = "") -> None:
        """Take out a client that is gone. One that was not connected, or is out already, is ignored.

        The client leaves all its rooms: `room` is for code that passes it along, and changes nothing. A client that is
        never taken out goes when its WebSocket is garbage collected.
        """
        connection = self._connections.pop(websocket, None)
        if connection is not None:
            current_worker().manager.disconnect(connection, CloseCode.NORMAL)
            if (sender := self._senders.get(connection.session_id)) is not None:
                sender.cancel()

    async def join(self, websocket: WebSocket, room: str | int) -> None:
        """Let a client enter a room. It stays in its other rooms. Does nothing if it is gone."""
        if (connection := self._connections.get(websocket)) is not None:
            worker = current_worker()
            await worker.manager.join(connection, self._channel(worker, room))

    async def leave(self, websocket: WebSocket, room: str | int) -> None:
        """Let a client leave a room. Does nothing if it is not in the room, or gone."""
        if (connection := self._connections.get(websocket)) is not None:
            worker = current_worker()
            await worker.manager.leave(connection, self._channel(worker, room))

    # Messages

    async def send_personal_message(self, message: Any, websocket: WebSocket) -> None:
        """Send a message to this client alone: bytes as a binary message, a text as it is, anything else as JSON.

        Does nothing if the client is gone.
        """
        if (connection := self._connections.get(websocket)) is not None:
            frame = frame_of(message if isinstance(message, bytes) else _text(message))
            assert frame is not None
            connection.outbox.put(frame)

    async def broadcast(self, message: Any, room: str | int = "", *, exclude: WebSocket | None = None) -> None:
        """Send a message to all clients of this manager, on all workers, or to those in a room.

        `exclude`: the client that does not get it, such as the one that the message came from. One that is gone changes
        nothing.

        Bytes are sent as a binary message, which a manager with a history cannot do. A text is sent as it is, anything
        else as JSON.

        May be called on any event loop. Raises AmbiguousNameError, see `__init__`; TypeError or ValueError for data
        that JSON cannot express, and for bytes where there is a history; TypeError for a room that is no text and no
        number.
        """
        if self._history and isinstance(message, bytes):
            raise TypeError("a manager with a history sends text and JSON, not bytes")
        content = message if isinstance(message, bytes) else _text(message)
        here = current_worker()
        channel = self._channel(here, room)
        excluded = self._connections.get(exclude) if exclude is not None else None
        session_id = excluded.session_id if excluded is not None else ""

        async def publish(worker: Worker) -> None:
            if self._history:
                await worker.manager.publish(channel, message, exclude=session_id)
            else:
                await worker.manager.publish_text(channel, content, exclude=session_id)

        await publish(here)
        tell_others(here, publish)


async def _send(websocket: "weakref.ref[WebSocket]", outbox: Outbox, translator: Translator | None) -> None:
    """Send what is queued until the connection ends, then close the WebSocket if the server ended it.

    The WebSocket is only referenced weakly between two sends, so that it can be collected.
    """

    async def send(message: batch.Message) -> None:
        item = translator(message) if translator is not None else message
        target = websocket()
        if target is not None and isinstance(item, batch.Message):
            await write_to(target, item)

    pump = asyncio.create_task(outbox.pump_messages(send))
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


def _text(message: Any) -> str:
    return message if isinstance(message, str) else json.dumps(message)
