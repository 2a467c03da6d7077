"""The one object that applications talk to: connections here, messages everywhere."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from msgspec import Raw

from wsd.worker import wire
from wsd.worker.contract import BROADCAST, channel_key, worker_channel
from wsd.worker.message_broker import MessageBroker, Receive
from wsd.worker.session_keeper import SessionKeeper
from wsd.worker.session_store import SessionChanged, SessionInfo, SessionStore

logger = logging.getLogger(__name__)

MAX_QUEUED_MESSAGES = 1000
"""A client that has this many messages waiting reads too slowly and is closed with 1013."""

STORE_SECONDS = 2.0
"""How long a client that connects waits for its session to be stored."""

TOUCH_SECONDS = 30.0
"""How often sessions are kept alive, at most."""

CLOSE_SESSION_ENDED = 4500
"""Close code: do not come back with this session."""

SendText = Callable[[str], Awaitable[None]]


class Connection:
    """One client: who it is, and what waits to be sent to it.

    Messages are queued, so that a slow reader never holds up the others; `pump` sends them in order.
    `closing` gets the close code and reason once the server wants the connection to end.
    """

    def __init__(self, user_id: str, username: str) -> None:
        self.session_id = secrets.token_hex(16)
        self.user_id = user_id
        self.username = username
        self.closing: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        self._queue: asyncio.Queue[str] = asyncio.Queue(MAX_QUEUED_MESSAGES)

    def send(self, text: str) -> None:
        try:
            self._queue.put_nowait(text)
        except asyncio.QueueFull:
            self.close(1013, "reading too slowly")

    def close(self, code: int, reason: str) -> None:
        if not self.closing.done():
            self.closing.set_result((code, reason))

    async def pump(self, send_text: SendText) -> None:
        """Send what is queued, until cancelled or `send_text` raises."""
        while True:
            await send_text(await self._queue.get())


class DistributedWebSocketManager:
    """Connections of this worker, and messages to those of all workers through the broker."""

    def __init__(
        self, worker_id: str, node_id: str, make_broker: Callable[[Receive], MessageBroker], sessions: SessionStore
    ) -> None:
        self.worker_id = worker_id
        self.node_id = node_id
        self.broker = make_broker(self._deliver)
        self.sessions = sessions
        interval = min(TOUCH_SECONDS, sessions.ttl / 4)
        self.keeper = SessionKeeper(sessions, interval=interval, timeout=STORE_SECONDS, on_ended=self._session_ended)
        self.messages_in = 0
        self.messages_out = 0
        self._connections: dict[str, Connection] = {}

    async def run(self) -> None:
        """Hear the other workers, and keep the sessions, until cancelled."""
        await self.broker.subscribe(channel_key(BROADCAST))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.broker.run(), name="broker")
            tasks.create_task(self.keeper.run(), name="sessions")

    async def connect(self, user_id: str, username: str) -> Connection:
        """Register a client, with a session of its own; its first message is the welcome."""
        connection = Connection(user_id, username)
        now = time.time()
        session = SessionInfo(
            session_id=connection.session_id,
            user_id=user_id,
            username=username,
            node_id=self.node_id,
            worker_id=self.worker_id,
            connected_at=now,
            last_seen=now,
        )
        await self.keeper.open(session)
        self._connections[connection.session_id] = connection
        welcome = wire.Welcome(connection.session_id, user_id, username, self.worker_id, self.node_id)
        self.reply(connection, welcome)
        return connection

    def disconnect(self, connection: Connection, *, goodbye: bool = False) -> None:
        """The connection ended: with a `goodbye` its session, too; otherwise the client may come back to it."""
        if self._connections.pop(connection.session_id, None) is not None:
            self.keeper.close(connection.session_id, goodbye=goodbye)

    @staticmethod
    def guest_name() -> str:
        return f"guest-{secrets.token_hex(3)}"

    @property
    def connection_count(self) -> int:
        return len(self._connections)

    async def handle(self, connection: Connection, text: str | bytes) -> None:
        """Carry out one message of a client and answer it."""
        self.messages_in += 1
        try:
            request = wire.decode(text)
        except wire.WireError as exc:
            self.reply(connection, wire.Error(exc.code, str(exc), exc.request_id))
            return
        match request:
            case wire.Ping(id=request_id):
                self.reply(connection, wire.Pong(request_id))
            case wire.Broadcast(data=data, id=request_id):
                await self.broadcast(data, connection)
                if request_id is not None:
                    self.reply(connection, wire.Ack(request_id))

    async def broadcast(self, data: Raw, sender: Connection) -> bool:
        """Send to every client of every worker; False when only this worker's clients got it."""
        who = wire.Sender(sender.user_id, sender.username, self.worker_id)
        payload = wire.encode(wire.Message(BROADCAST, data, who))
        return await self.broker.publish(channel_key(BROADCAST), payload)

    def reply(self, connection: Connection, message: Any) -> None:
        self.messages_out += 1
        connection.send(wire.encode(message).decode())

    def _session_ended(self, session_id: str) -> None:
        if (connection := self._connections.get(session_id)) is not None:
            connection.close(CLOSE_SESSION_ENDED, "session ended")

    def _deliver(self, channel: str, payload: bytes) -> None:
        if channel == worker_channel(self.worker_id):
            self._hear_worker(payload)
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            logger.warning("dropped a message on %s that is not UTF-8", channel)
            return
        for connection in self._connections.values():
            connection.send(text)
        self.messages_out += len(self._connections)

    def _hear_worker(self, payload: bytes) -> None:
        """What other workers tell this one alone."""
        try:
            told = msgspec.json.decode(payload, type=SessionChanged)
        except msgspec.DecodeError as exc:
            logger.warning("dropped a message to this worker: %s", exc)
        else:
            self.keeper.changed(told.session_id)
