"""The one object that applications talk to: clients on this worker, messages to clients everywhere."""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from wsd.worker.broker.history import Page
from wsd.worker.channels.joining import PATIENCE_SECONDS, Joined
from wsd.worker.channels.options import ChannelOptions
from wsd.worker.channels.recovery import AnyEpoch
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.dialects.hub_dialect import HUB
from wsd.worker.errors import NotStoredError
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.histories import hub_page
from wsd.worker.manager.parts import ManagerParts
from wsd.worker.manager.publisher import Published
from wsd.worker.manager.statistics import ClusterStatistics, WorkerStatistics
from wsd.worker.security.authentication import Identity, unauthenticated
from wsd.worker.security.authorization import Action
from wsd.worker.security.channel_access import BY_APPLICATION, Grant, Refusal
from wsd.worker.sessions.session_store import SessionInfo
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import BROADCAST
from wsd.worker.wire.close_codes import SESSION_ENDED_REASON, CloseCode
from wsd.worker.wire.position import Position


class DistributedWebSocketManager:
    """The clients of this worker, and messages to the clients of all workers.

    While Redis is away, a message reaches members on this worker at once (with `redis.stand_in`: members on this node),
    and the other members when Redis is back. No call waits for Redis longer than `redis.timeout`, with one exception:
    a client that comes back for messages that it missed waits up to 20 seconds for Redis. Only `history` and `read_by`
    fail while Redis is away.
    """

    def __init__(self, parts: ManagerParts) -> None:
        self.worker_id = parts.worker_id
        """The id of this worker."""

        self.node_id = parts.node_id
        """The name of this node."""

        self.limits = parts.rules.limits
        self._announced_limits = self.limits.announced()
        self.payload_filter = parts.rules.payload_filter
        self.authorize = parts.rules.authorize
        self.hooks = parts.rules.hooks
        self.subscription_tokens = parts.rules.subscription_tokens
        self.centrifuge = parts.rules.centrifuge
        self.ping_interval = parts.rules.ping_interval
        self.counts = parts.counts
        self._sessions = parts.sessions.client_sessions
        self._registry = parts.connections.registry
        self._membership = parts.members.membership
        self._members = parts.members.lists
        self._publisher = parts.messages.publisher
        self._channels = parts.messages.channels
        self._histories = parts.messages.histories
        self._peers = parts.peers
        self._users = parts.users
        self._statistics = parts.statistics
        self._fanout = parts.messages.fanout
        self.open_to_publish = self._channels.open_to_publish

    # Connections

    async def connect(
        self,
        user_id: str,
        username: str = "",
        *,
        identity: Identity | None = None,
        metadata: Mapping[str, Any] | None = None,
        welcome: bool | Callable[[wire.Welcome], None] = True,
        resume_token: str = "",
        since: Mapping[str, Position] | None = None,
        outbox: Outbox | None = None,
        trusted: bool = False,
        dialect: Dialect = HUB,
        patience: float = PATIENCE_SECONDS,
    ) -> Connection:
        """Register a client, and return the handle of its connection.

        With a `resume_token` of the same user, the client continues an earlier session: it is in the channels of that
        session again, and in those of `since`, and gets what it missed in them. Otherwise it gets a new session.

        `username`: by default the user id. `identity`: what authentication found, None for a client that chose its own
        name; the rules of channels and `authorize` use it. `metadata`: stored with a new session. `welcome`: whether
        a welcome is the client's first message; a function gets the welcome instead. `since`: the position that the
        client has reached, by channel. `outbox`: the one of its WebSocket, under a server with wsd's WebSocket
        protocol (`handle_of`). Nothing is sent before `Connection.pump` or `Outbox.release` is called. `trusted`: the
        client enters exactly the channels of its earlier session, since the application has decided about them; neither
        the rules nor `authorize` are asked. `dialect`: the one in which the client is told what happens. `patience`:
        the seconds that a client with earlier positions waits for a Redis that is away.

        Raises TooManyConnectionsError; ConnectionEndedError if the WebSocket of `outbox` ends while the session is
        looked for; ValueError for a user id or name that is empty, longer than 128 characters or cannot be read, and
        for a session that no store can hold; TypeError or ValueError for metadata that JSON cannot express.
        """
        session = await self._sessions.find_or_make(user_id, username, metadata, resume_token, outbox)
        outbox = self._registry.bind(outbox, session, dialect)
        async with self._registry.admission(outbox, session):
            asked = identity or unauthenticated(outbox.user_id, outbox.username)
            entered = await self._membership.enter_all(
                outbox, session.info, since or {}, asked, trusted=trusted, patience=patience
            )
        connection = Connection(
            outbox, self.limits, self._registry.handle_collected, identity=identity, resumed=session.resumed
        )
        expires_in = asked.seconds_left(time.time())
        if callable(welcome):
            welcome(session.welcome(*entered, self._announced_limits, expires_in))
        elif welcome:
            greeting = dialect.welcome(session.welcome(*entered, self._announced_limits, expires_in))
            self._fanout.tell_first(outbox, greeting)
        return connection

    def disconnect(self, connection: Connection, code: int = CloseCode.ABNORMAL, reason: str = "") -> None:
        """Take out a connection that has ended with a close code.

        After a clean close (1000, 1001) its session ends, too. Otherwise the client may resume it. Calling this again
        changes nothing.
        """
        self._registry.remove(connection.outbox, code, reason)

    def send_away(self, count: int, longest: float) -> float:
        """Close `count` connections with 1012, so that their clients resume on other workers.

        The oldest go first, paced as in a drain, within `longest` seconds. Return the seconds until the last of them is
        closed.
        """
        return self._registry.send_away(count, longest)

    @staticmethod
    def guest_name() -> str:
        """Return a new user id for a client that nothing identifies."""
        return f"guest-{secrets.token_hex(3)}"

    @property
    def connection_count(self) -> int:
        """The number of connections of this worker."""
        return len(self._fanout)

    # Channels

    async def join(
        self,
        connection: Connection,
        channel: str,
        since: Position | AnyEpoch | None = None,
        announce: Callable[[Joined], None] = lambda joined: None,
        *,
        last: int | None = None,
        grant: Grant | None = BY_APPLICATION,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        """Make a connection a member of a channel. Once this returns, it receives what is published there.

        `since`: the position in the channel that the client has reached. The client gets what came after it, as far as
        the channel's history has it. `last`: how many of the newest messages the client gets first, as far as the
        history has them. `announce`: called when the connection is a member, before anything of the channel is sent
        to it. `grant`: what the client is given beyond the rules of the channel; a client that asks to join by itself
        may have none. A member that the application has put into a channel is in it again when it resumes its session,
        whatever the rules say. `patience`: the seconds that a client with earlier messages waits for a Redis that is
        away.

        Raises ChannelFullError; ValueError for a name that UTF-8 cannot encode, for both `since` and `last`, and for a
        `last` below 1.
        """
        channel.encode()
        if last is not None and (since is not None or last < 1):
            raise ValueError("last must be at least 1, and excludes since")
        await self._membership.join(
            connection.outbox,
            channel,
            since if last is None else last,
            announce,
            identity=connection.identity,
            grant=grant,
            patience=patience,
        )

    @contextmanager
    def holding(self, channels: Iterable[str]) -> Iterator[None]:
        """Keep channels open within a block. Clients that join several there ask Redis once for all of them."""
        with ExitStack() as stack:
            for channel in channels:
                stack.enter_context(self._channels.holding(channel))
            yield

    async def renew(self, connection: Connection, channel: str, grant: Grant) -> None:
        """Give a member of a channel what a new subscription token grants, in place of an earlier token."""
        await self._membership.renew(connection.outbox, channel, connection.identity, grant)

    async def leave(self, connection: Connection, channel: str) -> None:
        """Take a connection out of a channel. Does nothing if it is not in the channel.

        The session forgets the channel, too.
        """
        await self._membership.leave(connection.outbox, channel)

    async def presence(self, channel: str, limit: int = 1000) -> tuple[int, list[wire.Member]]:
        """Return the number of connections in a channel, on all workers, and up to `limit` of them.

        While Redis is away: only those of this worker. Raises ValueError for a name that UTF-8 cannot encode.
        """
        channel.encode()
        return await self._members.of_channel(channel, limit)

    def refusal(
        self, connection: Connection, action: Action, channel: str, token: Grant | None = None
    ) -> Refusal | None:
        """Return why the rules of a channel do not let a client do something there, or None if they do.

        `token`: what a subscription token grants that the client shows now. The application's `authorize` is not asked.
        """
        return self._membership.refusal(connection.outbox, connection.identity, action, channel, token)

    def options(self, channel: str) -> ChannelOptions:
        """Return the options of a channel, from the settings."""
        return self._channels.options(channel)

    # Users and sessions, on all workers

    async def sessions(self, user_id: str = "", *, offset: int = 0, limit: int = 100) -> tuple[int, list[SessionInfo]]:
        """Return the number of sessions on all workers, and a page of them; only those of a user, if one is named.

        Raises RedisUnavailableError while Redis is away.
        """
        return await self._users.sessions(user_id, offset, limit)

    async def end_sessions(
        self,
        *,
        user_id: str = "",
        session_id: str = "",
        code: int = CloseCode.SESSION_ENDED,
        reason: str = SESSION_ENDED_REASON,
    ) -> list[SessionInfo]:
        """End all sessions of a user, or one session, on whatever worker, and close their connections.

        By default they are closed with 4500, after which clients stay away. Return the sessions that have ended.

        Raises ValueError unless either a user or a session is named, and for a code or a reason that no close frame can
        carry; RedisUnavailableError while Redis is away.
        """
        if bool(user_id) == bool(session_id):
            raise ValueError("a user_id or a session_id is needed, and not both")
        return await self._users.end_sessions(user_id=user_id, session_id=session_id, code=code, reason=reason)

    async def subscribe_user(self, user_id: str, channel: str, *, workers: int = 1) -> int:
        """Let all connections of a user join a channel, on all workers. Return how many have joined.

        A client of the hub is told with `subscribed`. Sessions of the user that have no connection now join, too, and
        are not counted. `workers`: how many workers there are, whose answers are waited for: one second at most.

        Raises ValueError for a user id that no user can have, and for a name that UTF-8 cannot encode.
        """
        channel.encode()
        return await self._users.change_membership(user_id, channel, member=True, workers=workers)

    async def unsubscribe_user(self, user_id: str, channel: str, *, workers: int = 1) -> int:
        """Let all connections of a user leave a channel, on all workers. Return how many have left.

        A client of the hub is told with `unsubscribed`. Everything else is as for `subscribe_user`.
        """
        channel.encode()
        return await self._users.change_membership(user_id, channel, member=False, workers=workers)

    # Messages

    async def broadcast(
        self,
        data: Any,
        sender: Connection | None = None,
        *,
        idempotency_key: str = "",
        exclude: str = "",
        on_stored: Callable[[Position], None] | None = None,
    ) -> Published:
        """Send a message to every client of every worker. Everything else is as for `publish`."""
        return await self.publish(
            BROADCAST, data, sender, idempotency_key=idempotency_key, exclude=exclude, on_stored=on_stored
        )

    async def send_to_user(
        self,
        user_id: str,
        data: Any,
        sender: Connection | None = None,
        *,
        idempotency_key: str = "",
        exclude: str = "",
        on_stored: Callable[[Position], None] | None = None,
    ) -> Published:
        """Send a message to all connections of a user, on all workers and nodes.

        With a history for `direct` messages, connections that the user resumes later get it, too. Everything else is as
        for `publish`.

        Raises NotStoredError; ValueError for a user id that no user can have.
        """
        channel = self._publisher.channel_of_user(user_id)
        return await self.publish(
            channel, data, sender, idempotency_key=idempotency_key, exclude=exclude, on_stored=on_stored
        )

    async def publish(
        self,
        channel: str,
        data: Any,
        sender: Connection | None = None,
        *,
        idempotency_key: str = "",
        exclude: str = "",
        on_stored: Callable[[Position], None] | None = None,
    ) -> Published:
        """Send a message to all members of a channel, on all workers. May be called on any event loop.

        `data`: anything that JSON can express. `sender`: the client that the message is `from`; None for a message of
        the application itself. `idempotency_key`: of messages with the same key, from one sender and within two
        minutes, only the first is sent. `exclude`: the id of a session whose connection does not get the message,
        neither now nor after a resume. `on_stored`: called with the position once the message is stored, if the
        channel has a history and Redis is away now.

        Raises NotStoredError when Redis rejects the message, which nobody has received then; TypeError or ValueError
        for data that JSON cannot express.
        """
        return await self._publisher.publish(
            channel, data, sender, idempotency_key=idempotency_key, exclude=exclude, on_stored=on_stored
        )

    def publish_soon(
        self,
        channel: str,
        data: Any,
        on_result: Callable[[Published | NotStoredError], None],
        sender: Connection | None = None,
        *,
        idempotency_key: str = "",
        exclude: str = "",
        on_stored: Callable[[Position], None] | None = None,
    ) -> None:
        """Send a message as `publish` does, without waiting. Messages keep the order of the calls.

        `on_result` is called exactly once with what became of the message, possibly before this returns. To be called
        on the event loop of the worker.

        Raises TypeError or ValueError for data that JSON cannot express. `on_result` is not called then.
        """
        self._publisher.publish_soon(
            channel, data, on_result, sender, idempotency_key=idempotency_key, exclude=exclude, on_stored=on_stored
        )

    async def publish_text(self, channel: str, content: str | bytes, *, exclude: str = "") -> bool:
        """Send a text to all members of a channel as it is: neither in the hub's protocol nor stored in a history.

        Bytes are sent as a binary message. `exclude`: the id of a session that does not get it. Both are for channels
        whose names begin with UNNUMBERED_PREFIX.

        Return False if Redis is away: members on other workers get it once Redis is back. May be called on any event
        loop.

        Raises ValueError for a channel or a text that UTF-8 cannot encode.
        """
        channel.encode()
        return await self._publisher.publish_text(channel, content, exclude=exclude)

    def send_to_connection(self, connection: Connection, data: Any, sender: Connection | None = None) -> None:
        """Send a message to one connection of this worker, as `publish` would. Does not block."""
        published = wire.encode(wire.Message(data=data, sender=self._publisher.sender(sender)))
        self.reply(connection, connection.outbox.dialect.published(published, "", None))

    def reply(self, connection: Connection, payload: bytes | None) -> None:
        """Send a message that is encoded in the client's dialect to a connection of this worker. Does not block.

        None: nothing is sent.
        """
        if payload is not None:  # as `Fanout.tell` does it: a call less for each answer
            connection.outbox.send(payload)
            self._fanout.told += 1

    def greet(self, connection: Connection, payload: bytes) -> None:
        """Send a connection of this worker its first message, before anything that waits for it. Does not block.

        `payload`: encoded in the client's dialect.
        """
        self._fanout.tell_first(connection.outbox, payload)

    # Histories and receipts

    async def history(
        self, channel: str, since: int = 0, limit: int = 100, *, reverse: bool = False, epoch: str = ""
    ) -> wire.HistoryPage:
        """Return messages of a channel as clients of the hub got them: those after offset `since`, the oldest first.

        `reverse`: those before offset `since`, the newest first. `limit`: how many at most. Large messages make a page
        shorter, but it has at least one; the next page begins where this one ends. `epoch`: an earlier epoch of an
        archived channel, such as the `previous` of another page.

        Raises RedisUnavailableError while Redis is away; ValueError for a name that UTF-8 cannot encode.
        """
        return hub_page(channel, await self.history_page(channel, since, limit, reverse=reverse, epoch=epoch))

    async def history_page(
        self, channel: str, since: int = 0, limit: int = 100, *, reverse: bool = False, epoch: str = ""
    ) -> Page:
        """Return messages of a channel as `history` does, but as workers publish them, in no dialect."""
        channel.encode()
        return await self._histories.page(channel, since, limit, reverse=reverse, epoch=epoch)

    def confirm(self, connection: Connection, channel: str, at: Position) -> None:
        """Note that a client has read a channel that it is in up to a position.

        Channels without receipts, and positions that no client can have seen, are ignored.
        """
        self._histories.confirm(connection, channel, at)

    async def read_by(self, channel: str, user_id: str, epoch: str) -> int:
        """Return the highest offset in a channel that a user has read, as its clients say; 0 if none is known.

        Raises RedisUnavailableError while Redis is away.
        """
        return await self._histories.read_by(channel, user_id, epoch)

    async def delete_history(self, channel: str) -> None:
        """Forget the messages of a channel. Offsets go on, and a client that had missed some is told of a gap.

        Raises RedisUnavailableError while Redis is away, and ArchiveUnavailableError while the archive of the channel
        does not answer: nothing is deleted then. Raises ValueError for a name that UTF-8 cannot encode.
        """
        channel.encode()
        await self._histories.delete(channel)

    # Statistics

    def statistics(self, listed: int = 0) -> WorkerStatistics:
        """Return the statistics of this worker, with up to `listed` of its largest users and channels."""
        return self._statistics.statistics(listed)

    async def cluster_statistics(self, workers: int, *, offset: int = 0, limit: int = 10) -> ClusterStatistics:
        """Collect statistics from all workers, with a page of the largest users and channels.

        `complete` is False unless `workers` of them answered within one second.
        """
        return await self._peers.cluster_statistics(workers, offset=offset, limit=limit)
