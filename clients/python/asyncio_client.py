"""The client for programs that run on asyncio."""

import asyncio
import math
import random
import secrets
from collections.abc import Callable, Mapping
from ssl import SSLContext
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qs, urlsplit

from wsd.client import records
from wsd.client.address import checked_url, problem_with_token
from wsd.client.callbacks import Callbacks, Token
from wsd.client.effects import Left, Message, State
from wsd.client.engine import TAKEN_IN_A_ROW, Engine
from wsd.client.errors import CLOSED, RequestError
from wsd.client.inbox import Handler, Handlers, Inbox, Reader
from wsd.client.link import Connector
from wsd.client.machine import Machine
from wsd.client.records import Position
from wsd.client.settings import Settings
from wsd.client.texts import is_text


class WsdClient:
    """A connection to the hub that outlives its WebSocket, for programs that run on asyncio.

        async with WsdClient("wss://example.com/ws", "ann") as client:
            await client.subscribe("room:1")
            async for message in client:
                print(message["channel"], message["type"], message.get("data"))

    It reconnects by itself, asks for the messages that it missed, and sends calls again until they are answered. A call
    that is made without a connection waits for one, at most for `timeout` seconds.

    Messages are dicts, as the hub sends them (docs/protocol.md). They go to the function of their channel, if
    `subscribe` was given one. All others come out of `async for`, together with `{"type": "gap", "channel", "reason"}`
    where messages were lost, and `{"type": "presence_changed", ...}` where others joined or left.

    Functions of the application may be `def` or `async def`. They are called one after the other, and awaited. They may
    call the client. What they raise goes to `on_error`, or else to the log.

    An application that is slow loses nothing that the history keeps: from `max_inbox` messages on, the client takes no
    more, and gets the rest from the history later. Messages that neither have a function nor are read by `async for`
    are dropped, but for the newest 1000, which a later `async for` begins with.

    All methods belong to the event loop in which the client was started.
    """

    def __init__(
        self,
        url: str,
        user_id: str = "",
        username: str = "",
        *,
        token: Token | None = None,
        request_timeout: float | None = 60.0,
        ping_interval: float = 30.0,
        max_waiting: int = 10_000,
        max_waiting_bytes: int = 8_388_608,
        max_inbox: int = 10_000,
        on_state: Callable[[State], object] | None = None,
        on_left: Callable[[Left], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        query: Mapping[str, str] | None = None,
        additional_headers: Mapping[str, str] | None = None,
        ssl: SSLContext | None = None,
        proxy: str | Literal[True] | None = True,
    ) -> None:
        """Create a client. It begins to connect in `async with`, or with `start`.

        `url`: that of the hub, which begins with ws:// or wss://. `user_id`, `username`: who the client is, where the
        hub does not authenticate its clients.
        `token`: a JSON Web Token, or a function that returns one, which is called before each connection. With a fixed
        token, the client ends when the token has expired. A function is also called before the hub's connection ends
        with its token, so that the connection goes on with the next one.
        `request_timeout`, `ping_interval`: in seconds. `max_waiting`, `max_waiting_bytes`: how many calls may wait for
        an answer, and how many bytes. `max_inbox`: how many messages may wait for the application.
        `on_state`: told each new state, also while a function for messages waits. `on_left`: told when the hub takes
        the client out of a channel, or does not let it in again. `on_error`: gets what these functions raise.
        `query`: added to the URL.
        `additional_headers`: headers of the handshake. `ssl`: how a wss:// URL is verified; by default by the
        certificates of the system.
        `proxy`: by default, the one that the environment names (`https_proxy`, `no_proxy` and so on). None for none.

        Raises ValueError for a URL, a token or a number that cannot be used.
        """
        names = {"user_id": user_id, "username": username}
        names = {name: value for name, value in names.items() if value}
        self._url = checked_url(url, {**(query or {}), **names}, has_ssl=ssl is not None)
        if token is not None and not callable(token) and (problem := problem_with_token(token)):
            raise ValueError(problem)
        if max_inbox < 1:
            raise ValueError(f"max_inbox must be at least 1, not {max_inbox}")
        check_above_zero(ping_interval=ping_interval, max_waiting=max_waiting, max_waiting_bytes=max_waiting_bytes)
        settings = Settings(
            request_timeout=request_timeout,
            ping_interval=ping_interval,
            max_waiting=max_waiting,
            max_waiting_bytes=max_waiting_bytes,
            token_is_fixed=not callable(token),
            has_name="user_id" in parse_qs(urlsplit(self._url).query),
        )
        self._request_timeout = request_timeout
        self._timeout(None)
        self._machine = Machine(settings, secrets.token_hex(8), random.random)
        self._inbox = Inbox(max_inbox)
        self._engine = Engine(
            self._machine,
            Connector(self._url, additional_headers or {}, ssl, proxy),
            self._inbox,
            token,
            Callbacks(on_state, on_left, on_error),
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._url.partition('?')[0]} {self.state.name}>"  # a query may hold secrets

    # Life

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def start(self) -> None:
        """Begin to connect, for those who do not use `async with`."""
        self._engine.start()

    async def close(self) -> None:
        """End the client and its session. Calls that wait are rejected with `closed`.

        Return once nothing of the client runs any more. The server has 2 seconds to answer, and so have functions of
        the application to return: then they are cancelled. A call by such a function itself returns at once.
        """
        await self._engine.close()

    def reconnect(self) -> None:
        """Connect anew at once, whatever the state is. Raises RequestError after `close`."""
        self._engine.do(self._machine.reconnect)

    @property
    def state(self) -> State:
        """The state, as on_state was told it."""
        return self._machine.state

    @property
    def welcome(self) -> Message:
        """The latest welcome of the hub. It is empty before the first one."""
        return self._machine.welcome

    @property
    def user(self) -> records.User | None:
        """The user that the client is, or None before the first welcome."""
        welcome = self.welcome
        return records.User(str(welcome["user_id"]), str(welcome["username"])) if "user_id" in welcome else None

    @property
    def waiting(self) -> records.Waiting:
        """The calls that have no answer yet, and the bytes of their requests."""
        return records.Waiting(*self._machine.waiting)

    def discard_waiting(self) -> int:
        """Reject all calls that were never sent, with `cancelled`. Return how many they were."""
        count: int = self._engine.do(self._machine.discard_waiting)
        return count

    # Channels

    async def subscribe(
        self,
        channel: str,
        handler: Handler | None = None,
        *,
        on_gap: Handler | None = None,
        on_presence: Handler | None = None,
        last: int = 0,
        token: Token | None = None,
        timeout: float | None = None,
    ) -> records.Subscribed:
        """Join a channel, and stay in it over all connections. Return the position at which the client is in it.

        `last`: how many of the newest messages come first. `handler`, `on_gap`, `on_presence`: functions that get the
        messages, the gaps and the changes of presence. They replace those of an earlier call for the channel. `token`:
        a subscription token, or a function that returns one, which is called before each subscription: now, before the
        token ends, when the hub says that it has ended, and after a reconnect without the channel. Without it, that of
        an earlier call for the channel counts.

        Raises RequestError.
        """
        check_channel_token(token)
        if type(last) is not int or last < 0:
            raise ValueError(f"last must be a whole number, not {last!r}")
        handlers = Handlers(handler, on_gap, on_presence)
        before: Handlers | None = None

        def queue(now: float) -> int:
            nonlocal before
            number = self._machine.subscribe(now, channel, last, self._timeout(timeout), token)
            before = self._inbox.handle(channel, handlers)
            return number

        try:
            return records.subscribed(await self._engine.ask(queue))
        except BaseException:
            if handlers and self._inbox.handlers.get(channel) is handlers:
                self._inbox.handle(channel, before)
            raise

    async def unsubscribe(self, channel: str, *, timeout: float | None = None) -> None:
        """Leave a channel. From the call on, nothing of it is delivered. Raises RequestError."""

        def queue(now: float) -> int:
            number = self._machine.unsubscribe(now, channel, self._timeout(timeout))
            self._inbox.leave(channel)
            self._engine.handed.pop(channel, None)
            return number

        await self._engine.ask(queue)

    def mark_read(self, channel: str, position: Position | Message | None = None) -> None:
        """Tell the hub what was read in a channel with `receipts`: up to `position`, or to the last message delivered.

        `position` may be a message, too. The hub is told within a second, and again after a lost connection.
        """
        if position is None:
            position = self._engine.handed.get(channel)
        elif not isinstance(position, Position):
            position = records.position_of(position)
        if position is not None:
            at = {"offset": position.offset, "epoch": position.epoch}
            self._engine.do(lambda now: self._machine.mark_read(now, channel, at))

    # Requests

    async def publish(self, channel: str, data: object, *, timeout: float | None = None) -> records.Ack:
        """Publish a message. Return once it is stored.

        Until then it is sent again after each lost connection, and published once. Messages keep their order.
        `timeout`: in seconds, `math.inf` for none.

        Raises RequestError.
        """
        return records.ack(await self._ask("publish", {"channel": channel, "data": data}, timeout))

    async def broadcast(self, data: object, *, timeout: float | None = None) -> records.Ack:
        """Send a message to all clients, as `publish` does."""
        return records.ack(await self._ask("broadcast", {"data": data}, timeout))

    async def direct(self, user_id: str, data: object, *, timeout: float | None = None) -> records.Ack:
        """Send a message to all connections of a user, as `publish` does."""
        return records.ack(await self._ask("direct", {"user_id": user_id, "data": data}, timeout))

    async def presence(self, channel: str, *, timeout: float | None = None) -> records.Presence:
        """Return who is in a channel. Raises RequestError."""
        return records.presence(await self._ask("presence", {"channel": channel}, timeout))

    async def history(
        self,
        channel: str,
        *,
        since: int = 0,
        limit: int = 100,
        reverse: bool = False,
        epoch: str = "",
        timeout: float | None = None,
    ) -> records.History:
        """Return messages after the offset `since`, or with `reverse` those before it, the newest first.

        `epoch` names an earlier epoch of an archived channel, the `previous` of another answer.

        Raises RequestError.
        """
        fields = {"channel": channel, "since": since, "limit": limit, "reverse": reverse}
        if epoch:
            fields["epoch"] = epoch
        return records.history(await self._ask("history", fields, timeout))

    async def delivered(
        self, channel: str, user_id: str, position: Position | records.Ack, *, timeout: float | None = None
    ) -> records.Delivered:
        """Return whether a user has read a channel with `receipts` up to a `position`. Raises RequestError."""
        fields = {"channel": channel, "user_id": user_id, "offset": position.offset, "epoch": position.epoch}
        return records.delivered(await self._ask("delivered", fields, timeout))

    async def _ask(self, kind: str, fields: Message, timeout: float | None) -> Message:
        seconds = self._timeout(timeout)
        return await self._engine.ask(lambda now: self._machine.call(now, kind, fields, seconds))

    def _timeout(self, timeout: float | None) -> float | None:
        seconds = self._request_timeout if timeout is None else timeout
        if seconds is None or seconds == math.inf:
            return None
        if not isinstance(seconds, int | float) or not seconds >= 0:  # NaN, too
            raise ValueError(f"a timeout is a number of seconds, not {seconds!r}")
        return seconds

    # Messages

    def __aiter__(self) -> "Messages":
        """Iterate over the messages, gaps and changes of presence that have no function.

        The iteration ends when the application closes the client. When the server has ended it, the iteration raises
        RequestError `closed`, once everything was read. Of several iterations each message goes to one.
        """
        return Messages(self._engine)


class Messages(Reader):
    """One iteration over the messages of a client."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._taken = 0
        engine.inbox.readers.add(self)

    def __aiter__(self) -> "Messages":
        return self

    async def __anext__(self) -> Message:
        self._taken += 1
        if self._taken % TAKEN_IN_A_ROW == 0:
            await asyncio.sleep(0)
        await self.wait()
        return self.take(1)[0]

    async def wait(self) -> None:
        """Wait until there is a message. Raises StopAsyncIteration or RequestError where an iteration ends."""
        engine, inbox = self._engine, self._engine.inbox
        while not engine.is_closing:
            if inbox.unread:
                return
            if engine.machine.state.name == "closed":
                raise RequestError(CLOSED, engine.machine.state.reason)
            inbox.unread_news.clear()
            await inbox.unread_news.wait()
        raise StopAsyncIteration

    def take(self, limit: int) -> list[Message]:
        """Return up to `limit` messages that are there."""
        inbox = self._engine.inbox
        found = [inbox.unread.popleft() for _ in range(min(limit, len(inbox.unread)))]
        for message in found:
            self._engine.taken(message)
        return found

    def put(self, event: Message) -> None:
        """Add an event behind those that wait."""
        self._engine.inbox.put(event)


def check_channel_token(token: Token | None) -> None:
    """Raises ValueError for what is neither a token nor a function."""
    if token is not None and not callable(token) and not (is_text(token) and token):
        raise ValueError(f"the token of a channel is a text or a function, not {token!r}")


def check_above_zero(**options: float) -> None:
    """Raises ValueError."""
    for name, value in options.items():
        if not value > 0:
            raise ValueError(f"{name} must be a number above 0, not {value}")
