"""The one object that applications talk to: connections here, messages everywhere."""

import asyncio
import hashlib
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import msgspec
from msgspec import Struct

from wsd.worker.broker.history import AppendResult
from wsd.worker.broker.idempotency import stored_key, uid_of
from wsd.worker.broker.message_broker import MessageBroker, Receive, resolve_into
from wsd.worker.broker.questions import Questions
from wsd.worker.channels.channels import PATIENCE_SECONDS, RETRY_SECONDS, Channels, Joined
from wsd.worker.channels.options import ChannelOptions, ChannelRules
from wsd.worker.channels.presence import Presence
from wsd.worker.channels.presence_events import PresenceEvents
from wsd.worker.channels.receipts import Receipts
from wsd.worker.containment import run_repeatedly
from wsd.worker.contract.redis_keys import (
    BROADCAST,
    DIRECT,
    EVERY_WORKER,
    USER_PREFIX,
    channel_key,
    channel_of,
    user_channel,
    worker_channel,
)
from wsd.worker.delivery.batch import Message
from wsd.worker.delivery.close_delays import close_delays
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox, Outlet
from wsd.worker.errors import NotStoredError
from wsd.worker.logs import get_logger
from wsd.worker.manager.connection import Connection, ConnectionLimits, Turns
from wsd.worker.manager.statistics import (
    MAX_LISTED,
    Answer,
    AskStatistics,
    ClusterStatistics,
    WorkerStatistics,
    merge,
    top,
)
from wsd.worker.redis_client import LOST, is_refusal
from wsd.worker.security.authentication import Identity
from wsd.worker.security.authorization import Authorize, is_allowed
from wsd.worker.sessions.connection_trace import AskFlight, FlightAnswer, Tracing
from wsd.worker.sessions.ended_connections import EndedConnections
from wsd.worker.sessions.keeper import SessionKeeper
from wsd.worker.sessions.session_store import Claim, SessionChanged, SessionInfo, SessionStore
from wsd.worker.sessions.user_connections import UserConnections
from wsd.worker.waiting import STALL_SECONDS, raise_if_cancelled
from wsd.worker.wire import frames
from wsd.worker.wire import messages as wire
from wsd.worker.wire.close_codes import CLEAN_CODES, CloseCode
from wsd.worker.wire.ending import Ending, Side
from wsd.worker.wire.names import name_problem
from wsd.worker.wire.position import Position
from wsd.worker.wire.redaction import PayloadFilter

logger = get_logger(__name__)

TOUCH_SECONDS = 30.0
"""How often sessions are kept alive, at most."""

FORGOTTEN_SECONDS = 5.0
"""How long after the end of a WebSocket its application may take to say that it is disconnected."""

MAX_LISTED_MEMBERS = 1000

MAX_HISTORY_BYTES = 524_288
"""Of one history page, or half of what may wait for a client, if that is less: it must be able to take the page."""

MAX_CHANNELS = 100
"""Channels that one connection may be in."""

COME_BACK = (CloseCode.INTERNAL_ERROR, CloseCode.RESTART, CloseCode.SLOW_READER, CloseCode.IDLE)
"""Close codes by which the server asks a client to come back, whatever the client did."""


class TooManyConnectionsError(Exception):
    """The user has as many as allowed."""


class ChannelFullError(Exception):
    """The channel has as many members as allowed."""


class Published(Struct, frozen=True):
    """What became of a message. `everywhere` is False when those out of reach get it later: once Redis is back."""

    everywhere: bool
    position: Position | None = None  # in a channel with history, once it is stored
    kept: bool = False  # whether the channel has a history


NO_LIMITS = ConnectionLimits()


@dataclass(frozen=True)
class Parts:
    """What a manager works with."""

    make_broker: Callable[[Receive], MessageBroker]
    sessions: SessionStore
    presence: Presence
    payload_filter: PayloadFilter
    rules: ChannelRules
    receipts: Receipts
    traces: EndedConnections
    authorize: Authorize | None = None
    user_connections: UserConnections | None = None
    limits: ConnectionLimits = NO_LIMITS
    outlet: Outlet = field(default_factory=Outlet)
    call_timeout: float = 2.0  # seconds that a call may wait for Redis


class WorkerCame(Struct, frozen=True, tag="came"):
    """The announcement to all workers that a worker beats for the first time, or again."""


WorkerMessage = SessionChanged | WorkerCame | AskStatistics | Answer | AskFlight | FlightAnswer

_worker_message: msgspec.json.Decoder[WorkerMessage] = msgspec.json.Decoder(WorkerMessage)


class DistributedWebSocketManager:
    """Connections of this worker, and messages to those of all workers through the broker.

    What is sent while Redis is away reaches members on this worker (with a stand-in Valkey: on this node) now, and the
    others when it is back. No call waits for Redis longer than its timeout, but those of a client that comes back for
    what it missed: they wait for a Redis that is about to be back. None but `history` fails because it is away.
    """

    def __init__(self, worker_id: str, node_id: str, parts: Parts) -> None:
        self.worker_id = worker_id
        self.node_id = node_id
        self.broker = parts.make_broker(self._deliver)
        self.broker.on_return = self.rewrite
        self.sessions = parts.sessions
        self.limits = parts.limits
        self._step_timeout = parts.call_timeout / 2  # a call asks twice at most: to find out, then to act
        self.payload_filter = parts.payload_filter
        self.messages_in = 0
        self.closes: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self.authorize = parts.authorize
        self._presence = parts.presence
        self._receipts = parts.receipts
        self._user_connections = parts.user_connections
        interval = min(TOUCH_SECONDS, self.sessions.ttl / 4)
        self.keeper = SessionKeeper(
            self.sessions,
            parts.traces,
            interval=interval,
            timeout=self._step_timeout,
            on_ended=self._session_ended,
            on_failed=self._session_failed,
        )
        self._asked_statistics: Questions[WorkerStatistics] = Questions()
        self._fanout = Fanout(parts.outlet)
        self.tracing = Tracing(worker_id, node_id, self.keeper, find=self._fanout.get, tell=self._tell)
        self._channels = Channels(self.broker, self._fanout, parts.rules, self._step_timeout)
        self._presence_events = PresenceEvents(
            parts.presence,
            publish=lambda channel, text: self.broker.publish(channel_key(channel), text),
            tell_here=lambda channel, text: self._fanout.send(self._fanout.members(channel), text),
        )
        self.outlet = parts.outlet
        self.turns = Turns()
        self._loop: asyncio.AbstractEventLoop | None = None  # of the last who connected
        self._home: asyncio.AbstractEventLoop | None = None  # that it runs on
        self._uid_prefix = secrets.token_hex(5)
        self._uids = 0
        self.on_worker_came: Callable[[], None] = lambda: None  # called when a worker begins to beat
        self._questions: asyncio.Queue[AskStatistics | AskFlight] = asyncio.Queue(100)

    async def run(self) -> None:
        """Hear the other workers, and keep the sessions, until cancelled."""
        self._home = asyncio.get_running_loop()
        await self.broker.subscribe(worker_channel(self.worker_id), EVERY_WORKER)
        with self._channels.holding(BROADCAST):
            await self._run()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.broker.run(), name="broker")
            tasks.create_task(self.keeper.run(), name="sessions")
            tasks.create_task(self._presence.run(), name="presence")
            tasks.create_task(self._channels.run(), name="channels")
            tasks.create_task(run_repeatedly(self._receipts.run, "receipts"), name="receipts")
            tasks.create_task(self._presence_events.run(), name="presence-events")
            tasks.create_task(run_repeatedly(self._answer_for_ever, "answers to workers"), name="answers")
            if self._user_connections is not None:
                tasks.create_task(
                    run_repeatedly(self._user_connections.run, "user connections"), name="user-connections"
                )
            if self.limits.idle_timeout:
                tasks.create_task(run_repeatedly(self._close_idle, "idle connections"), name="idle")

    async def settle(self) -> None:
        """Wait until it hears the other workers, or has seen that it cannot for now."""
        await self.broker.wait_until_ready()
        await self._channels.settle()

    # Connections

    async def connect(
        self,
        user_id: str,
        username: str = "",
        *,
        metadata: Mapping[str, Any] | None = None,
        welcome: bool = True,
        resume_token: str = "",
        since: Mapping[str, Position] | None = None,
        outbox: Outbox | None = None,
    ) -> Connection:
        """Register a client; its first message is the welcome, if it gets one. `outbox`: of its WebSocket, under a
        server that has our protocol (`handle_of`); nothing is sent before `Connection.pump` or `Outbox.release`.

        With a `resume_token` of its user's it goes on with an earlier session: it is in that one's channels again, and
        in those of `since`, and gets what it missed in them. Otherwise it has a new session.

        Raises TooManyConnectionsError, ValueError for a name that `name_problem` refuses, and TypeError or ValueError
        when `metadata` is not what JSON can say.
        """
        self._loop = asyncio.get_running_loop()
        username = username or user_id
        for field_name, name in (("user_id", user_id), ("username", username)):
            if problem := name_problem(name):
                raise ValueError(f"{field_name} {problem}")
        metadata = msgspec.json.decode(msgspec.json.encode(metadata or {}), type=dict[str, Any])
        secret = secrets.token_urlsafe(16)
        session = await self._claim(resume_token, user_id, username, digest(secret)) if resume_token else None
        resumed = session is not None
        if session is None:
            now = time.time()
            session = SessionInfo(
                session_id=secrets.token_hex(16),
                user_id=user_id,
                username=username,
                node_id=self.node_id,
                worker_id=self.worker_id,
                connected_at=now,
                last_seen=now,
                metadata=metadata,
                token=digest(secret),
            )
        outbox = outbox or Outbox(self.outlet)
        outbox.outlet = self.outlet
        outbox.on_gone = self._socket_ended
        outbox.bind(session.session_id, user_id, session.username)
        outbox.note("resumed" if resumed else "connected", f"from {session.previous_worker}" if resumed else "")
        if (earlier := self._fanout.get(session.session_id)) is not None:
            self._replace(earlier)
        try:
            await self._admit(outbox)
            with self._channels.holding(user_channel(user_id)):
                if resumed:
                    self.keeper.adopt(session.session_id)
                else:
                    await self.keeper.open(session)
                states = await self._enter_channels(outbox, session, since or {})
        except BaseException:
            self._unhook(outbox)
            self.keeper.close(outbox.session_id, clean=not resumed)
            raise
        limits = self.limits
        connection = Connection(
            outbox, limits.bucket(), self._forgotten, byte_bucket=limits.byte_bucket(), resumed=resumed
        )
        if welcome:
            greeting = wire.Welcome(
                session_id=session.session_id,
                user_id=user_id,
                username=session.username,
                worker_id=self.worker_id,
                node_id=self.node_id,
                resumed=resumed,
                resume_token=f"{session.session_id}.{secret}",
                channels=states,
            )
            outbox.send_first(wire.encode(greeting))
            self._fanout.sent += 1
        return connection

    async def _claim(self, resume_token: str, user_id: str, username: str, new_token: str) -> SessionInfo | None:
        """The session of a token, if there is one; a client that comes back waits a while for a Redis that is away."""
        session_id, _, secret = resume_token.partition(".")
        claim = Claim(
            session_id=session_id,
            user_id=user_id,
            username=username,
            token=digest(secret),
            new_token=new_token,
            worker_id=self.worker_id,
            node_id=self.node_id,
        )
        gives_up_at = time.monotonic() + PATIENCE_SECONDS
        await self.turns()  # clients come back together
        while True:
            if self.broker.healthy:
                try:
                    async with asyncio.timeout(self._step_timeout):
                        return await self.sessions.claim(claim)
                except LOST as exc:
                    self._not_answered("a session was not resumed", exc)
            if time.monotonic() > gives_up_at:
                return None
            await asyncio.sleep(RETRY_SECONDS)

    async def _enter_channels(
        self, outbox: Outbox, session: SessionInfo, since: Mapping[str, Position]
    ) -> dict[str, wire.ChannelState]:
        """The broadcast channel, its own, and those that it was in; where it stands in each."""
        states: dict[str, wire.ChannelState] = {}

        def note(label: str) -> Callable[[Joined], None]:
            def joined_at(joined: Joined) -> None:
                state = states[label] = joined.state()
                if state.recovered is False:
                    outbox.note("missed", f"messages in {label}: {state.reason}")
                elif state.count:
                    outbox.note("recovered", f"{state.count} messages in {label}")

            return joined_at

        own = user_channel(outbox.user_id)
        gives_up_at = time.monotonic() + PATIENCE_SECONDS

        async def join(name: str, label: str, add: Callable[[], None]) -> None:
            await self._channels.join(name, since.get(label), add, note(label), outbox, gives_up_at)

        await join(BROADCAST, BROADCAST, lambda: self._fanout.add(outbox))
        await join(own, DIRECT, lambda: self._fanout.join(outbox, own))
        if not session.channels and not since:
            return states
        named = sorted(name for name in session.channels | since.keys() if wire.is_channel(name))[:MAX_CHANNELS]
        identity = Identity(outbox.user_id, outbox.username)
        allowed = [name for name in named if await is_allowed(self.authorize, identity, "subscribe", name)]
        with ExitStack() as stack:
            for name in allowed:
                stack.enter_context(self._channels.holding(name))
            for name in session.channels ^ set(allowed):
                await self.keeper.set_membership(outbox.session_id, name, member=name in allowed)
            for name in allowed:
                await join(name, name, self._adder(outbox, name))
        return states

    def _replace(self, earlier: Outbox) -> None:
        """Its client has come back to this same worker; its session goes on."""
        ending = Ending(Side.SERVER, CloseCode.SESSION_ENDED, "resumed by another connection")
        self._note_end(earlier, ending)
        earlier.close(ending.code, ending.reason)

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
            self.tracing.refused(outbox, f"the user has {limit} connections already")
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

    def disconnect(self, connection: Connection, code: int = CloseCode.ABNORMAL, reason: str = "") -> None:
        """The connection ended, with this close code: after a goodbye (1000, 1001) its session, too; otherwise the
        client may come back to it."""
        self._remove(connection.outbox, code, frames.close_reason(reason))

    def _socket_ended(self, outbox: Outbox) -> None:
        """The application has a moment to say `disconnect`; what it forgets is not left to the garbage collector."""
        if outbox in self._fanout:
            asyncio.get_running_loop().call_later(FORGOTTEN_SECONDS, self._remove, outbox, CloseCode.ABNORMAL)

    def _forgotten(self, outbox: Outbox) -> None:
        """The application let go of a connection; on whatever thread the garbage collector runs."""
        if outbox in self._fanout and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._remove, outbox, CloseCode.ABNORMAL)
            self._loop.call_soon_threadsafe(outbox.close, CloseCode.INTERNAL_ERROR, "the application has let go of it")

    def _remove(self, outbox: Outbox, code: int, reason: str = "") -> None:
        if outbox not in self._fanout:
            return
        ending = outbox.ended or Ending(Side.UNKNOWN, code, reason)
        self._note_end(outbox, ending)
        sent_away = ending.side is not Side.CLIENT and ending.code in COME_BACK
        self.keeper.close(outbox.session_id, clean=code in CLEAN_CODES, sent_away=sent_away)

    def _note_end(self, outbox: Outbox, ending: Ending) -> None:
        self.closes[ending.label] += 1
        self.tracing.ended(outbox, ending)
        self._unhook(outbox)

    def _unhook(self, outbox: Outbox) -> None:
        """Nothing more is sent to it, and nobody sees it any more."""
        self._fanout.remove(outbox)
        self._leave_user(outbox)
        for channel in list(outbox.channels):
            self._leave(outbox, channel)
        outbox.stop_catching_up()
        own = user_channel(outbox.user_id)
        self._fanout.leave(outbox, own)
        self._channels.left(own)

    def send_away(self, count: int, longest: float) -> float:
        """Close so many connections with 1012, those that are here longest, paced as in a drain: they resume elsewhere.
        `longest`: seconds that it may take; returns those that it takes."""
        chosen = list(islice((outbox for outbox in self._fanout if outbox.closed is None), count))
        delays = close_delays(len(chosen), longest, random.Random())
        loop = asyncio.get_running_loop()
        for delay, outbox in zip(delays, chosen, strict=True):
            loop.call_later(delay, outbox.close, CloseCode.RESTART, "rebalance")
        return max(delays, default=0.0)

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

    async def join(
        self,
        connection: Connection,
        channel: str,
        since: Position | None = None,
        announce: Callable[[Joined], None] = lambda joined: None,
    ) -> None:
        """Make a connection a member of a channel: from the return on it hears what is published there.

        `announce` is called when it is one, before anything of the channel is sent to it: all that came after `since`,
        if that is given and the history has it.

        Raises ChannelFullError, and ValueError for a name that UTF-8 cannot say.
        """
        channel.encode()
        outbox = connection.outbox
        limit = self._channels.options(channel).max_members
        if limit and channel not in outbox.channels and len(self._fanout.members(channel)) >= limit:
            raise ChannelFullError(f"{channel} may have {limit} members on a worker")
        with self._channels.holding(channel):
            if channel not in outbox.channels:
                await self.keeper.set_membership(outbox.session_id, channel, member=True)
            await self._channels.join(channel, since, self._adder(outbox, channel), announce, outbox)

    def _adder(self, outbox: Outbox, channel: str) -> Callable[[], None]:
        def add() -> None:
            if outbox in self._fanout and channel not in outbox.channels:  # and has not ended meanwhile
                outbox.channels.add(channel)
                self._fanout.join(outbox, channel)
                self._enter(outbox, channel)
                outbox.note("joined", channel)

        return add

    async def leave(self, connection: Connection, channel: str) -> None:
        if channel in connection.channels:
            self._leave(connection.outbox, channel)
            connection.outbox.note("left", channel)
            await self.keeper.set_membership(connection.session_id, channel, member=False)

    def _leave(self, outbox: Outbox, channel: str) -> None:
        outbox.channels.discard(channel)
        outbox.caught_up(channel)
        self._fanout.leave(outbox, channel)
        self._channels.left(channel)
        kind = self._channels.options(channel).presence
        if kind != "off":
            self._presence.left(channel, _presence_id(outbox))
        if kind == "events":
            self._presence_events.left(channel, _presence_id(outbox), self._member(outbox))

    def _enter(self, outbox: Outbox, channel: str) -> None:
        kind = self._channels.options(channel).presence
        if kind != "off":
            self._presence.joined(channel, _presence_id(outbox), self._member(outbox))
        if kind == "events":
            self._presence_events.joined(channel, _presence_id(outbox), self._member(outbox))

    async def presence(self, channel: str, limit: int = MAX_LISTED_MEMBERS) -> tuple[int, list[wire.Member]]:
        """How many connections are in a channel, on all workers, and `limit` of them at most.

        While Redis is away: those of this worker. Raises ValueError for a name that UTF-8 cannot say.
        """
        channel.encode()
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

    def workers_seen(self, live: frozenset[str]) -> None:
        """The workers whose heartbeat is there now, told at every one of ours that Redis answered."""
        names = [name for name, _ in self._fanout.channel_sizes()]
        self._presence_events.workers_seen(
            live, [name for name in names if self._channels.options(name).presence == "events"]
        )

    def _member(self, outbox: Outbox) -> wire.Member:
        return wire.Member(outbox.user_id, outbox.username, self.node_id, self.worker_id)

    # Messages

    async def broadcast(
        self,
        data: Any,
        sender: Connection | None = None,
        *,
        idempotency_key: str = "",
        on_stored: Callable[[Position], None] | None = None,
    ) -> Published:
        """Send to every client of every worker. `data`: what JSON can say; without a `sender` it has no `from`."""
        return await self.publish(BROADCAST, data, sender, idempotency_key=idempotency_key, on_stored=on_stored)

    async def send_to_user(
        self,
        user_id: str,
        data: Any,
        sender: Connection | None = None,
        *,
        idempotency_key: str = "",
        on_stored: Callable[[Position], None] | None = None,
    ) -> Published:
        """Send to all connections of a user, on whatever worker and node, and to those that it comes back with.

        Raises ValueError for a user id that no user can have.
        """
        if problem := name_problem(user_id):
            raise ValueError(f"user_id {problem}")
        return await self.publish(
            user_channel(user_id), data, sender, idempotency_key=idempotency_key, on_stored=on_stored
        )

    async def publish(
        self,
        channel: str,
        data: Any,
        sender: Connection | None = None,
        *,
        idempotency_key: str = "",
        on_stored: Callable[[Position], None] | None = None,
    ) -> Published:
        """Send to all members of a channel on all workers.

        Of messages with the same `idempotency_key` (of one sender, within two minutes) the first one counts. Where the
        channel has a history, and the message could not be stored yet, `on_stored` is called once it is.

        Raises NotStoredError when Redis will not store it: then nobody has it.
        """
        if (home := self._another_home()) is not None:
            message = self.publish(channel, data, sender, idempotency_key=idempotency_key, on_stored=on_stored)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(message, home))
        answer: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        self.publish_soon(
            channel, data, resolve_into(answer), sender, idempotency_key=idempotency_key, on_stored=on_stored
        )
        return await answer

    def _another_home(self) -> asyncio.AbstractEventLoop | None:
        """The loop that this manager runs on, where somebody on another one (`asyncio.run` in a thread, say) talks to
        it."""
        home = self._home
        return home if home is not None and home is not asyncio.get_running_loop() and home.is_running() else None

    def publish_soon(
        self,
        channel: str,
        data: Any,
        told: Callable[[Published | NotStoredError], None],
        sender: Connection | None = None,
        *,
        idempotency_key: str = "",
        on_stored: Callable[[Position], None] | None = None,
    ) -> None:
        """`publish`, without waiting: `told` is called with what became of it. Messages keep the order of the calls."""
        label = DIRECT if channel.startswith(USER_PREFIX) else channel
        if not self._channels.options(channel).history_size:
            message = wire.Message(channel=label, data=data, sender=self._sender(sender))
            self.broker.publish_soon(
                channel_key(channel), wire.encode(message), lambda everywhere: told(Published(everywhere))
            )
            return
        key = stored_key(sender.user_id if sender is not None else None, idempotency_key) if idempotency_key else ""
        self._uids += 1
        uid = uid_of(channel, key, time.time()) if key else f"{self._uid_prefix}-{self._uids}"
        message = wire.Message(channel=label, data=data, sender=self._sender(sender), uid=uid)

        def stored(found: AppendResult | NotStoredError | None) -> None:
            if isinstance(found, NotStoredError):
                told(found)
            else:
                told(Published(found is not None, found.position if found is not None else None, kept=True))

        self._channels.publish_soon(channel, wire.encode(message), key, stored, on_stored)

    async def publish_text(self, channel: str, text: str) -> bool:
        """Send a text to all members of a channel as it is, not as a message of the hub's protocol, nor kept.

        Raises ValueError for a channel or a text that UTF-8 cannot say.
        """
        channel.encode()
        payload = text.encode()
        if (home := self._another_home()) is not None:
            message = self.publish_text(channel, text)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(message, home))
        return await self.broker.publish(channel_key(channel), payload)

    async def history(
        self, channel: str, since: int = 0, limit: int = 100, *, reverse: bool = False
    ) -> wire.HistoryPage:
        """Messages of a channel as its members got them: after offset `since`, or before it and backwards.

        Where they are large, there are fewer than `limit`, but one at least: a further page begins where this one ends.

        Raises ConnectionError while Redis is away, ValueError for a name that UTF-8 cannot say.
        """
        channel.encode()
        try:
            max_bytes = min(MAX_HISTORY_BYTES, max(1, self.outlet.max_buffer_bytes // 2))
            page = await self._channels.history(channel, since, limit, max_bytes=max_bytes, reverse=reverse)
        except LOST as exc:
            raise_if_cancelled()
            raise ConnectionError(str(exc) or "no answer in time") from None
        messages = [msgspec.Raw(self._channels.payload(entry, channel)) for entry in page.entries]
        return wire.HistoryPage(channel, page.top.offset, page.top.epoch, messages)

    # Receipts

    def options(self, channel: str) -> ChannelOptions:
        return self._channels.options(channel)

    def confirm(self, connection: Connection, channel: str, at: Position) -> None:
        """A client has read a channel that it is in up to a position; noted where the channel has receipts.

        A position that no client can have seen is ignored: only what exists may take room in Redis.
        """
        options = self.options(channel)
        if options.receipts and channel in connection.channels and self._channels.has_handed_out(channel, at):
            self._receipts.confirm(channel, connection.user_id, at, options.history_ttl_seconds)

    async def read_by(self, channel: str, user_id: str, epoch: str) -> int:
        """The highest offset that a user has read, by the word of its clients; 0 if none is known.

        Raises ConnectionError while Redis is away.
        """
        try:
            async with asyncio.timeout(self._step_timeout):
                return await self._receipts.read_by(channel, user_id, epoch)
        except LOST as exc:
            raise_if_cancelled()
            raise ConnectionError(str(exc) or "no answer in time") from None

    def send_to_connection(self, connection: Connection, data: Any, sender: Connection | None = None) -> None:
        """Send to one connection of this worker."""
        self.reply(connection, wire.Message(data=data, sender=self._sender(sender)))

    def reply(self, connection: Connection, message: Struct) -> None:
        connection.outbox.send(wire.encode(message))
        self._fanout.sent += 1

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

    async def _close_idle(self) -> None:
        timeout = self.limits.idle_timeout
        while True:
            looked_at = time.monotonic()
            await asyncio.sleep(timeout / 4)
            now = time.monotonic()
            if now - looked_at - timeout / 4 > STALL_SECONDS:  # the process could not read either
                for outbox in self._fanout:
                    outbox.heard_at = max(now, outbox.heard_at)
            since = now - timeout
            for outbox in [outbox for outbox in self._fanout if outbox.heard_at < since]:
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
            repaired=self._channels.repaired,
            losses=dict(self._channels.lost),
            broker=self.broker.statistics,
            top_users=top(self._fanout.user_sizes(), listed) if listed else [],
            top_channels=top(self._fanout.channel_sizes(), listed) if listed else [],
        )

    async def cluster_statistics(self, workers: int, *, offset: int = 0, limit: int = 10) -> ClusterStatistics:
        """Of all workers that answer within a second, of `workers` that should."""
        listed = min(offset + limit, MAX_LISTED)
        answers = await self._asked_statistics.ask(
            lambda question: self._tell(EVERY_WORKER, AskStatistics(self.worker_id, question, listed)),
            lambda found: len({answer.worker_id for answer in found}) >= workers,
        )
        found = {answer.worker_id: answer for answer in answers}
        return merge(found.values(), complete=len(found) >= workers, offset=offset, limit=limit)

    async def _tell(self, channel: str, message: Struct) -> bool:
        return await self.broker.publish(channel, wire.encode(message))

    async def _answer_for_ever(self) -> None:
        while True:
            asked = await self._questions.get()
            answer = (
                self.tracing.answer(asked)
                if isinstance(asked, AskFlight)
                else Answer(asked.question, self.statistics(asked.listed))
            )
            if answer is not None:
                await self._tell(worker_channel(asked.asker), answer)

    # What is heard from the broker

    def _deliver(self, channel: str, payload: bytes) -> None:
        if channel in (worker_channel(self.worker_id), EVERY_WORKER):
            self._hear_worker(payload)
            return
        try:
            payload.decode()
        except UnicodeDecodeError:
            logger.warning("dropped a message on %s that is not UTF-8", channel)
            return
        name = channel_of(channel)
        self._fanout.send_to_members(name, name, Message(payload))

    def _hear_worker(self, payload: bytes) -> None:
        try:
            told = _worker_message.decode(payload)
        except msgspec.DecodeError as exc:
            logger.warning("dropped a message to this worker: %s", exc)
            return
        match told:
            case SessionChanged(session_id=session_id):
                self.keeper.changed(session_id)
            case AskStatistics() | AskFlight() if not self._questions.full():
                self._questions.put_nowait(told)
            case Answer(question=question, statistics=statistics):
                self._asked_statistics.add_answer(question, statistics)
            case FlightAnswer():
                self.tracing.answered(told)
            case WorkerCame():
                self.on_worker_came()

    def _session_ended(self, session_id: str) -> None:
        if (outbox := self._fanout.get(session_id)) is not None:
            outbox.close(CloseCode.SESSION_ENDED, "session ended")

    def _session_failed(self, session_id: str) -> None:
        if (outbox := self._fanout.get(session_id)) is not None:
            outbox.fail()

    def rewrite(self) -> None:
        """Write anew what is to be in Redis: it was away, or has forgotten something."""
        self.keeper.flush_now()
        self._presence.refresh()
        self._channels.check_all()


def digest(secret: str) -> str:
    """What is stored of a resume token's secret."""
    return hashlib.sha256(secret.encode()).hexdigest() if secret else ""


def _presence_id(outbox: Outbox) -> str:
    """Tells this worker's connections apart, and resumes nothing."""
    return outbox.session_id[:16]
