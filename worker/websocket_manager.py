"""The one object that applications talk to: connections here, messages everywhere."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import msgspec
from msgspec import Raw, Struct

from wsd.worker import wire
from wsd.worker.contract import BROADCAST, channel_key, worker_channel
from wsd.worker.link import RedisError
from wsd.worker.message_broker import MessageBroker, Receive
from wsd.worker.payload import PayloadFilter
from wsd.worker.session_keeper import SessionKeeper
from wsd.worker.session_store import SessionChanged, SessionInfo, SessionState, SessionStore

logger = logging.getLogger(__name__)

MAX_QUEUED_MESSAGES = 1000
"""A client that has this many messages waiting reads too slowly and is closed with 1013."""

STORE_SECONDS = 2.0
"""How long a client that connects waits for its session to be stored."""

TOUCH_SECONDS = 30.0
"""How often sessions are kept alive, at most."""

MAX_CHANNELS = 100
"""Channels that one connection may be in."""

BROADCAST_KEY = channel_key(BROADCAST)

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
        self.channels: set[str] = set()
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
        self,
        worker_id: str,
        node_id: str,
        *,
        make_broker: Callable[[Receive], MessageBroker],
        sessions: SessionStore,
        payload_filter: PayloadFilter,
    ) -> None:
        self.worker_id = worker_id
        self.node_id = node_id
        self.broker = make_broker(self._deliver)
        self.sessions = sessions
        self._filter = payload_filter
        interval = min(TOUCH_SECONDS, sessions.ttl / 4)
        self.keeper = SessionKeeper(sessions, interval=interval, timeout=STORE_SECONDS, on_ended=self._session_ended)
        self.messages_in = 0
        self.messages_out = 0
        self._connections: dict[str, Connection] = {}
        self._of_user: dict[str, set[Connection]] = {}
        self._members: dict[str, set[Connection]] = {}

    async def run(self) -> None:
        """Hear the other workers, and keep the sessions, until cancelled."""
        await self.broker.subscribe(BROADCAST_KEY)
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
        try:
            await self.keeper.open(session)
        except asyncio.CancelledError:
            self.keeper.close(connection.session_id, goodbye=True)
            raise
        self._connections[connection.session_id] = connection
        self._of_user.setdefault(user_id, set()).add(connection)
        welcome = wire.Welcome(connection.session_id, user_id, username, self.worker_id, self.node_id)
        self.reply(connection, welcome)
        return connection

    async def disconnect(self, connection: Connection, *, goodbye: bool = False) -> None:
        """The connection ended: with a `goodbye` its session, too; otherwise the client may come back to it."""
        if self._connections.pop(connection.session_id, None) is None:
            return
        _discard(self._of_user, connection.user_id, connection)
        self.keeper.close(connection.session_id, goodbye=goodbye)
        channels, connection.channels = connection.channels, set()
        for channel in channels:
            _discard(self._members, channel_key(channel), connection)
        for channel in channels:
            await self._unsubscribe_if_empty(channel)

    async def join(self, connection: Connection, channel: str) -> None:
        """Make a connection a member of a channel: from the return on it hears what is published there."""
        key = channel_key(channel)
        connection.channels.add(channel)
        self._members.setdefault(key, set()).add(connection)
        await self.broker.subscribe(key)
        if channel not in connection.channels:  # it left while we waited
            await self.leave(connection, channel)

    async def leave(self, connection: Connection, channel: str) -> None:
        connection.channels.discard(channel)
        _discard(self._members, channel_key(channel), connection)
        await self._unsubscribe_if_empty(channel)

    async def _unsubscribe_if_empty(self, channel: str) -> None:
        key = channel_key(channel)
        if key not in self._members:
            await self.broker.unsubscribe(key)

    async def publish(self, channel: str, data: Raw, sender: Connection) -> bool:
        """Send to all members of a channel on all workers; False when only this worker's members got it."""
        payload = wire.encode(wire.Message(channel=channel, data=data, sender=self._sender(sender)))
        return await self.broker.publish(channel_key(channel), payload)

    async def send_to_user(self, user_id: str, data: Raw, sender: Connection) -> bool:
        """Send to all connections of a user on all workers; False when only this worker's got it."""
        text = wire.encode(wire.Message(data=data, sender=self._sender(sender))).decode()
        self._send_here(user_id, text)
        try:
            sessions = await self.sessions.list_by_user(user_id)
        except (RedisError, OSError) as exc:
            logger.warning("cannot look for a user on other workers: %s", exc)
            return False
        workers = {s.worker_id for s in sessions if s.state is SessionState.CONNECTED} - {self.worker_id}
        told = wire.encode(ToUser(user_id, text))
        reached = [await self.broker.publish(worker_channel(worker), told) for worker in workers]
        return all(reached)

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
            await self._carry_out(connection, wire.decode(text))
        except wire.WireError as exc:
            self.reply(connection, wire.Error(exc.code, str(exc), exc.request_id))

    async def _carry_out(self, connection: Connection, request: wire.Request) -> None:
        """Raises WireError."""
        match request:
            case wire.Ping(id=request_id):
                self.reply(connection, wire.Pong(request_id))
                return
            case wire.Broadcast(data=data, id=request_id):
                await self.broadcast(self._filter(data, request_id), connection)
            case wire.Direct(user_id=user_id, data=data, id=request_id):
                await self.send_to_user(user_id, self._filter(data, request_id), connection)
            case wire.Subscribe(channel=channel, id=request_id):
                wire.check_channel(channel, request_id)
                if len(connection.channels | {channel}) > MAX_CHANNELS:
                    problem = f"a connection may be in {MAX_CHANNELS} channels, {channel} is one too many"
                    raise wire.WireError("too_many_channels", problem, request_id)
                await self.join(connection, channel)
            case wire.Unsubscribe(channel=channel, id=request_id):
                wire.check_channel(channel, request_id)
                await self.leave(connection, channel)
            case wire.Publish(channel=channel, data=data, id=request_id):
                wire.check_channel(channel, request_id)
                await self.publish(channel, self._filter(data, request_id), connection)
        if request_id is not None:
            self.reply(connection, wire.Ack(request_id))

    def _sender(self, connection: Connection) -> wire.Sender:
        return wire.Sender(connection.user_id, connection.username, self.worker_id)

    async def broadcast(self, data: Raw, sender: Connection) -> bool:
        """Send to every client of every worker; False when only this worker's clients got it."""
        return await self.publish(BROADCAST, data, sender)

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
        if channel == BROADCAST_KEY:
            self._send_all(self._connections.values(), text)
        else:
            self._send_all(self._members.get(channel, ()), text)

    def _send_here(self, user_id: str, text: str) -> None:
        self._send_all(self._of_user.get(user_id, ()), text)

    def _send_all(self, connections: Collection[Connection], text: str) -> None:
        for connection in connections:
            connection.send(text)
        self.messages_out += len(connections)

    def _hear_worker(self, payload: bytes) -> None:
        """What other workers tell this one alone."""
        try:
            told = _worker_message.decode(payload)
        except msgspec.DecodeError as exc:
            logger.warning("dropped a message to this worker: %s", exc)
            return
        match told:
            case SessionChanged(session_id=session_id):
                self.keeper.changed(session_id)
            case ToUser(user_id=user_id, text=text):
                self._send_here(user_id, text)


class ToUser(Struct, frozen=True, tag="to_user"):
    """From worker to worker: a message, as its clients get it, for a user who is connected there."""

    user_id: str
    text: str


_worker_message: msgspec.json.Decoder[SessionChanged | ToUser] = msgspec.json.Decoder(SessionChanged | ToUser)


def _discard(index: dict[str, set[Connection]], key: str, connection: Connection) -> None:
    """Take a connection out of its set, and the set away when it is empty."""
    if (found := index.get(key)) is not None:
        found.discard(connection)
        if not found:
            del index[key]
