"""The one object that applications talk to: connections here, messages everywhere."""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct

from wsd.worker import wire
from wsd.worker.connection import Connection, ConnectionLimits, Outbox
from wsd.worker.contract import BROADCAST, EVERY_WORKER, channel_key, channel_of, worker_channel
from wsd.worker.fanout import Fanout
from wsd.worker.link import LOST, is_refusal, raise_if_cancelled
from wsd.worker.message_broker import MessageBroker, Mode, Receive
from wsd.worker.payload import PayloadFilter
from wsd.worker.presence import Presence
from wsd.worker.session_keeper import SessionKeeper
from wsd.worker.session_store import SessionChanged, SessionInfo, SessionState, SessionStore
from wsd.worker.statistics import (
    Answer,
    AskStatistics,
    ClusterStatistics,
    StatisticsExchange,
    WorkerStatistics,
    merge,
    top,
)
from wsd.worker.user_connections import UserConnections
from wsd.worker.wire import CloseCode

logger = logging.getLogger(__name__)

TOUCH_SECONDS = 30.0
"""How often sessions are kept alive, at most."""

MAX_LISTED_MEMBERS = 1000

BROADCAST_KEY = channel_key(BROADCAST)

GOODBYES = (CloseCode.GOODBYE, CloseCode.GOING_AWAY)
"""Close codes of a client that leaves on purpose: done, or its page is closed (RFC 6455, 7.4.1)."""


class TooManyConnectionsError(Exception):
    """The user has as many as allowed."""


NO_LIMITS = ConnectionLimits()


@dataclass(frozen=True)
class Parts:
    """What a manager works with."""

    make_broker: Callable[[Receive], MessageBroker]
    sessions: SessionStore
    presence: Presence
    payload_filter: PayloadFilter
    user_connections: UserConnections | None = None
    limits: ConnectionLimits = NO_LIMITS
    call_timeout: float = 2.0  # seconds that a call may wait for Redis


class ToUser(Struct, frozen=True, tag="to_user"):
    """From worker to worker: a message, as its clients get it, for a user who is connected there."""

    user_id: str
    text: str


WorkerMessage = SessionChanged | ToUser | AskStatistics | Answer

_worker_message: msgspec.json.Decoder[WorkerMessage] = msgspec.json.Decoder(WorkerMessage)


class DistributedWebSocketManager:
    """Connections of this worker, and messages to those of all workers through the broker.

    Where a method sends and returns a bool, it is False when somebody could not be reached now: members on this worker
    (with a stand-in Valkey: on this node) have it, the others get it when Redis is back. No call waits for Redis longer
    than its timeout, and none fails because it is away.
    """

    def __init__(self, worker_id: str, node_id: str, parts: Parts) -> None:
        self.worker_id = worker_id
        self.node_id = node_id
        self.broker = parts.make_broker(self._deliver)
        self.broker.on_return = self._returned
        self.sessions = parts.sessions
        self.limits = parts.limits
        self._step_timeout = parts.call_timeout / 2  # a call asks twice at most: to find out, then to act
        self.payload_filter = parts.payload_filter
        self.messages_in = 0
        self.closes: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self._presence = parts.presence
        self._user_connections = parts.user_connections
        interval = min(TOUCH_SECONDS, self.sessions.ttl / 4)
        self.keeper = SessionKeeper(
            self.sessions, interval=interval, timeout=self._step_timeout, on_ended=self._session_ended
        )
        self._exchange = StatisticsExchange(worker_id, self._tell_all)
        self._fanout = Fanout()
        self._left_empty: asyncio.Queue[str] = asyncio.Queue()
        self._questions: asyncio.Queue[AskStatistics] = asyncio.Queue(100)

    async def run(self) -> None:
        """Hear the other workers, and keep the sessions, until cancelled."""
        for key in (worker_channel(self.worker_id), EVERY_WORKER, BROADCAST_KEY):
            await self.broker.subscribe(key)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.broker.run(), name="broker")
            tasks.create_task(self.keeper.run(), name="sessions")
            tasks.create_task(self._presence.run(), name="presence")
            tasks.create_task(self._unsubscribe_for_ever(), name="unsubscribe")
            tasks.create_task(self._answer_for_ever(), name="statistics")
            if self._user_connections is not None:
                tasks.create_task(self._user_connections.run(), name="user-connections")
            if self.limits.idle_timeout:
                tasks.create_task(self._close_idle(self.limits.idle_timeout), name="idle")

    # Connections

    async def connect(
        self, user_id: str, username: str = "", *, metadata: Mapping[str, Any] | None = None, welcome: bool = True
    ) -> Connection:
        """Register a client, with a session of its own; its first message is the welcome, if it gets one.

        Raises TooManyConnectionsError, and TypeError when `metadata` is not what JSON can say.
        """
        msgspec.json.encode(metadata)
        username = username or user_id
        outbox = Outbox(secrets.token_hex(16), user_id, username)
        now = time.time()
        session = SessionInfo(
            session_id=outbox.session_id,
            user_id=user_id,
            username=username,
            node_id=self.node_id,
            worker_id=self.worker_id,
            connected_at=now,
            last_seen=now,
            metadata=dict(metadata or {}),
        )
        await self._admit(outbox)
        try:
            await self.keeper.open(session)
        except asyncio.CancelledError:
            self._leave_user(outbox)
            self.keeper.close(outbox.session_id, goodbye=True)
            raise
        self._fanout.add(outbox)
        connection = Connection(outbox, self.limits.bucket(), self._forgotten)
        if welcome:
            self.reply(connection, wire.Welcome(outbox.session_id, user_id, username, self.worker_id, self.node_id))
        return connection

    async def _admit(self, outbox: Outbox) -> None:
        """Enter the connection with its user. Raises TooManyConnectionsError."""
        limit = self.limits.per_user
        here = self._fanout.add_to_user(outbox)  # at once: who connects next must count it
        try:
            admitted = not limit or (here <= limit and await self._admit_everywhere(outbox, limit))
        except asyncio.CancelledError:
            self._leave_user(outbox)
            raise
        if not admitted:
            self._leave_user(outbox)
            self.refusals["too_many_connections"] += 1
            raise TooManyConnectionsError(f"a user may have {limit} connections")

    async def _admit_everywhere(self, outbox: Outbox, limit: int) -> bool:
        """True as well where Redis is away: the limit then holds for each worker by itself."""
        if self._user_connections is None or not self.broker.healthy:
            return True
        try:
            async with asyncio.timeout(self._step_timeout):
                return await self._user_connections.enter(outbox.user_id, outbox.session_id, limit)
        except LOST as exc:
            self._not_answered("a user's connections were not counted", exc)
            return True

    def _leave_user(self, outbox: Outbox) -> None:
        self._fanout.remove_from_user(outbox)
        if self._user_connections is not None:
            self._user_connections.leave(outbox.session_id)

    def disconnect(self, connection: Connection, code: int = CloseCode.LOST) -> None:
        """The connection ended, with this close code: after a goodbye (1000, 1001) its session, too; otherwise the
        client may come back to it."""
        self._remove(connection.outbox, code)

    def _forgotten(self, outbox: Outbox) -> None:
        """The application let go of a connection; on whatever thread the garbage collector runs."""
        if outbox in self._fanout and not (loop := outbox.closing.get_loop()).is_closed():
            loop.call_soon_threadsafe(self._remove, outbox, CloseCode.LOST)
            loop.call_soon_threadsafe(outbox.close, CloseCode.LOST, "forgotten")

    def _remove(self, outbox: Outbox, code: int) -> None:
        if outbox not in self._fanout:
            return
        self._fanout.remove(outbox)
        self.closes[reason_of(code)] += 1
        self._leave_user(outbox)
        self.keeper.close(outbox.session_id, goodbye=code in GOODBYES)
        for channel in list(outbox.channels):
            self._leave(outbox, channel)

    @staticmethod
    def guest_name() -> str:
        return f"guest-{secrets.token_hex(3)}"

    @property
    def connection_count(self) -> int:
        return len(self._fanout)

    @property
    def messages_out(self) -> int:
        return self._fanout.sent

    # Channels

    async def join(self, connection: Connection, channel: str) -> None:
        """Make a connection a member of a channel: from the return on it hears what is published there."""
        outbox = connection.outbox
        if outbox not in self._fanout:
            return  # it ended meanwhile
        if channel not in outbox.channels:
            self._fanout.join(outbox, channel)
            self._presence.joined(channel, _presence_id(outbox), self._member(outbox))
        await self.broker.subscribe(channel_key(channel))

    def leave(self, connection: Connection, channel: str) -> None:
        self._leave(connection.outbox, channel)

    def _leave(self, outbox: Outbox, channel: str) -> None:
        if self._fanout.leave(outbox, channel):
            self._left_empty.put_nowait(channel)
        self._presence.left(channel, _presence_id(outbox))

    async def _unsubscribe_for_ever(self) -> None:
        """A worker hears only the channels that have members here."""
        while True:
            channel = await self._left_empty.get()
            if not self._fanout.members(channel):
                await self.broker.unsubscribe(channel_key(channel))

    async def presence(self, channel: str, limit: int = MAX_LISTED_MEMBERS) -> tuple[int, list[wire.Member]]:
        """How many connections are in a channel, on all workers, and `limit` of them at most.

        While Redis is away: those of this worker.
        """
        here = self._fanout.members(channel)
        members = [self._member(outbox) for outbox in islice(here, limit)]
        count, others = 0, list[wire.Member]()
        if self.broker.healthy:
            try:
                async with asyncio.timeout(self._step_timeout):
                    count, others = await self._presence.others(channel, limit)
            except LOST as exc:
                self._not_answered("presence was not answered", exc)
        return len(here) + count, [*members, *others][:limit]

    def _member(self, outbox: Outbox) -> wire.Member:
        return wire.Member(outbox.user_id, outbox.username, self.node_id, self.worker_id)

    # Messages

    async def broadcast(self, data: Any, sender: Connection | None = None) -> bool:
        """Send to every client of every worker. `data`: what JSON can say; without a `sender` it has no `from`."""
        return await self.publish(BROADCAST, data, sender)

    async def publish(self, channel: str, data: Any, sender: Connection | None = None) -> bool:
        """Send to all members of a channel on all workers."""
        message = wire.Message(channel=channel, data=data, sender=self._sender(sender))
        return await self.broker.publish(channel_key(channel), wire.encode(message))

    async def publish_text(self, channel: str, text: str) -> bool:
        """Send a text to all members of a channel as it is, not as a message of the hub's protocol."""
        return await self.broker.publish(channel_key(channel), text.encode())

    async def send_to_user(self, user_id: str, data: Any, sender: Connection | None = None) -> bool:
        """Send to all connections of a user, on whatever worker and node."""
        text = wire.encode(wire.Message(data=data, sender=self._sender(sender))).decode()
        told = wire.encode(ToUser(user_id, text))
        if self.broker.health.mode is not Mode.DISTRIBUTED:
            return await self.broker.publish(EVERY_WORKER, told)
        try:
            async with asyncio.timeout(self._step_timeout):
                sessions = await self.sessions.list_by_user(user_id)
        except LOST as exc:
            self._not_answered("a user's sessions were not found", exc)
            return await self.broker.publish(EVERY_WORKER, told)
        workers = {s.worker_id for s in sessions if s.state is SessionState.CONNECTED}
        if self._fanout.of_user(user_id):
            workers.add(self.worker_id)
        reached = await asyncio.gather(*(self.broker.publish(worker_channel(worker), told) for worker in workers))
        return all(reached)

    def send_to_connection(self, connection: Connection, data: Any, sender: Connection | None = None) -> None:
        """Send to one connection of this worker."""
        self.reply(connection, wire.Message(data=data, sender=self._sender(sender)))

    def reply(self, connection: Connection, message: Struct) -> None:
        self._fanout.send([connection.outbox], wire.encode(message).decode())

    def _sender(self, connection: Connection | None) -> wire.Sender | None:
        if connection is None:
            return None
        return wire.Sender(connection.user_id, connection.username, self.worker_id)

    def _not_answered(self, what: str, exc: Exception) -> None:
        raise_if_cancelled()
        reason = f"{what}: {exc or 'no answer in time'}"
        if is_refusal(exc):
            logger.warning(reason)
        else:
            self.broker.suspect(reason)

    # Statistics and time

    async def _close_idle(self, timeout: float) -> None:
        while True:
            await asyncio.sleep(timeout / 4)
            since = time.monotonic() - timeout
            for outbox in self._fanout:
                if outbox.heard_at < since:
                    outbox.close(CloseCode.IDLE, f"nothing heard for {timeout:g} s")

    def statistics(self, listed: int = 0) -> WorkerStatistics:
        """Of this worker, with as many of its largest users and channels."""
        return WorkerStatistics(
            worker_id=self.worker_id,
            node_id=self.node_id,
            mode=self.broker.health.mode,
            connections=len(self._fanout),
            messages_in=self.messages_in,
            messages_out=self.messages_out,
            users=self._fanout.users,
            channels=self._fanout.channels,
            closes=dict(self.closes),
            refusals=dict(self.refusals),
            broker=self.broker.statistics,
            top_users=top(self._fanout.user_sizes(), listed) if listed else [],
            top_channels=top(self._fanout.channel_sizes(), listed) if listed else [],
        )

    async def cluster_statistics(self, workers: int, *, offset: int = 0, limit: int = 10) -> ClusterStatistics:
        """Of all workers that answer within a second, of `workers` that should."""
        found, complete = await self._exchange.ask(workers, listed=offset + limit)
        return merge(found, complete=complete, offset=offset, limit=limit)

    async def _tell_all(self, message: Struct) -> bool:
        return await self.broker.publish(EVERY_WORKER, wire.encode(message))

    async def _answer_for_ever(self) -> None:
        while True:
            asked = await self._questions.get()
            answer = Answer(asked.question, self.statistics(asked.listed))
            await self.broker.publish(worker_channel(asked.asker), wire.encode(answer))

    # What is heard from the broker

    def _deliver(self, channel: str, payload: bytes) -> None:
        if channel in (worker_channel(self.worker_id), EVERY_WORKER):
            self._hear_worker(payload)
            return
        try:
            text = payload.decode()
        except UnicodeDecodeError:
            logger.warning("dropped a message on %s that is not UTF-8", channel)
            return
        if channel == BROADCAST_KEY:
            self._fanout.send(self._fanout, text)
        else:
            self._fanout.send(self._fanout.members(channel_of(channel)), text)

    def _hear_worker(self, payload: bytes) -> None:
        try:
            told = _worker_message.decode(payload)
        except msgspec.DecodeError as exc:
            logger.warning("dropped a message to this worker: %s", exc)
            return
        match told:
            case SessionChanged(session_id=session_id):
                self.keeper.changed(session_id)
            case ToUser(user_id=user_id, text=text):
                self._fanout.send(self._fanout.of_user(user_id), text)
            case AskStatistics() if not self._questions.full():
                self._questions.put_nowait(told)
            case Answer():
                self._exchange.answered(told)

    def _session_ended(self, session_id: str) -> None:
        if (outbox := self._fanout.get(session_id)) is not None:
            outbox.close(CloseCode.SESSION_ENDED, "session ended")

    def _returned(self) -> None:
        """Redis is back, and may have forgotten what we told it."""
        self.keeper.hurry()
        self._presence.refresh()


def reason_of(code: int) -> str:
    """A close code as it is counted: `restart` for 1012."""
    if code in GOODBYES:
        return "goodbye"
    try:
        return CloseCode(code).name.lower()
    except ValueError:
        return "other"


def _presence_id(outbox: Outbox) -> str:
    """Tells this worker's connections apart, and resumes nothing."""
    return outbox.session_id[:16]
