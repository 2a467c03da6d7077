"""The client for programs that do not run on asyncio."""

import concurrent.futures
import functools
import inspect
import os
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from ssl import SSLContext
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, TypeVar, Unpack

from wsd.client import records
from wsd.client.asyncio_client import WsdClient
from wsd.client.callbacks import Token
from wsd.client.effects import Left, Message, State
from wsd.client.errors import CLOSED, RequestError
from wsd.client.inbox import Handler, Handlers
from wsd.client.mailbox import Mailbox
from wsd.client.own_thread import OwnThread, in_daemon_thread
from wsd.client.records import Position

T = TypeVar("T")


class Options(TypedDict, total=False):
    """The options of WsdClient. The function for states is called in the client's own thread."""

    token: Token | None
    request_timeout: float | None
    ping_interval: float
    max_waiting: int
    max_waiting_bytes: int
    max_inbox: int
    on_state: Callable[[State], object] | None
    query: Mapping[str, str] | None
    additional_headers: Mapping[str, str] | None
    ssl: SSLContext | None
    proxy: str | Literal[True] | None


class SyncWsdClient:
    """A connection to the hub that outlives its WebSocket, for programs that do not run on asyncio.

        with SyncWsdClient("wss://example.com/ws", "ann") as client:
            client.subscribe("room:1")
            for message in client:
                print(message["channel"], message["type"], message.get("data"))

    It does what WsdClient does, in a thread of its own. Its methods block until there is an answer, and may be called
    from any thread.

    The functions of channels and `on_left` are called in the thread that iterates or calls `receive`, and
    only then. They must not be `async def`. From the first such function or the first `receive` on, the client holds
    messages back for the program: beyond `max_inbox` it takes no more, and gets the rest from the history later. Before
    that, it keeps the newest 1000.

    What they raise goes to `on_error`, or else to the log. `on_state` is called in the client's own thread: it must not
    block, and must not call methods of the client, except `close`. The function for tokens is called in a thread of its
    own, and may block.
    """

    def __init__(
        self,
        url: str,
        user_id: str = "",
        username: str = "",
        *,
        on_left: Callable[[Left], object] | None = None,
        on_error: Callable[[Exception], object] | None = None,
        **options: Unpack[Options],
    ) -> None:
        """Create a client, with `url` and `options` as for WsdClient. It begins to connect in `with`, or with `start`.

        Raises ValueError for a URL or a token that cannot be used.
        """
        check_no_coroutines(on_left, on_error)
        self._mailbox = Mailbox(on_left, on_error)
        if callable(token := options.get("token")):
            options["token"] = functools.partial(ask_for_token, token)
        self._client = WsdClient(url, user_id, username, on_left=self._mailbox.put_left, **options)
        self._mailbox.belong_to(self._client)
        self._thread = OwnThread("wsd client")
        self._process = os.getpid()
        self._closed = False

    def __repr__(self) -> str:
        return repr(self._client).replace("WsdClient", type(self).__name__, 1)

    # Life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begin to connect, for those who do not use `with`."""
        self._check_process()
        self._thread.start(self._client)

    def close(self) -> None:
        """End the client and its session, and wait until its thread has ended. Calls that wait raise `closed`.

        In a process that was forked from the client's own, nothing happens.
        """
        if os.getpid() == self._process:
            self._closed = True
            self._thread.end()

    def reconnect(self) -> None:
        """Connect anew at once, whatever the state is. Raises RequestError after `close`."""
        self._do(self._client.reconnect)

    @property
    def state(self) -> State:
        """The state, as on_state was told it."""
        return self._client.state

    @property
    def welcome(self) -> Message:
        """The latest welcome of the hub. It is empty before the first one."""
        return self._client.welcome

    @property
    def user(self) -> records.User | None:
        """The user that the client is, or None before the first welcome."""
        return self._client.user

    @property
    def waiting(self) -> records.Waiting:
        """The calls that have no answer yet, and the bytes of their requests."""
        return self._client.waiting

    def discard_waiting(self) -> int:
        """Reject all calls that were never sent, with `cancelled`. Return how many they were."""
        return self._do(self._client.discard_waiting)

    # Channels

    def subscribe(
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
        """Join a channel, and stay in it over all connections. See `WsdClient.subscribe`. Raises RequestError.

        A function for tokens is called in a thread of its own, and may block.
        """
        check_no_coroutines(handler, on_gap, on_presence)
        if callable(token):
            token = functools.partial(ask_for_token, token)
        return self._wait(self._subscribe(channel, Handlers(handler, on_gap, on_presence), last, token, timeout))

    async def _subscribe(
        self, channel: str, handlers: Handlers, last: int, token: Token | None, timeout: float | None
    ) -> records.Subscribed:
        before = self._mailbox.handlers_of(channel)
        self._mailbox.handle(channel, handlers)
        try:
            return await self._client.subscribe(channel, last=last, token=token, timeout=timeout)
        except BaseException:
            if handlers and self._mailbox.handlers_of(channel) is handlers:
                self._mailbox.handle(channel, before)
            raise

    def unsubscribe(self, channel: str, *, timeout: float | None = None) -> None:
        """Leave a channel. From the call on, nothing of it is delivered. Raises RequestError."""
        self._wait(self._unsubscribe(channel, timeout))

    async def _unsubscribe(self, channel: str, timeout: float | None) -> None:
        self._mailbox.leave(channel)
        await self._client.unsubscribe(channel, timeout=timeout)

    def mark_read(self, channel: str, position: Position | Message | None = None) -> None:
        """Tell the hub what was read in a channel with `receipts`: up to `position`, or to the last message received.

        `position` may be a message, too. The hub is told within a second, and again after a lost connection.
        """
        at = self._mailbox.handed.get(channel) if position is None else position
        if at is not None:
            self._do(lambda: self._client.mark_read(channel, at))

    # Requests

    def publish(self, channel: str, data: object, *, timeout: float | None = None) -> records.Ack:
        """Publish a message. Return once it is stored. See `WsdClient.publish`. Raises RequestError."""
        return self._wait(self._client.publish(channel, data, timeout=timeout))

    def broadcast(self, data: object, *, timeout: float | None = None) -> records.Ack:
        """Send a message to all clients, as `publish` does."""
        return self._wait(self._client.broadcast(data, timeout=timeout))

    def direct(self, user_id: str, data: object, *, timeout: float | None = None) -> records.Ack:
        """Send a message to all connections of a user, as `publish` does."""
        return self._wait(self._client.direct(user_id, data, timeout=timeout))

    def presence(self, channel: str, *, timeout: float | None = None) -> records.Presence:
        """Return who is in a channel. Raises RequestError."""
        return self._wait(self._client.presence(channel, timeout=timeout))

    def history(
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
        work = self._client.history(channel, since=since, limit=limit, reverse=reverse, epoch=epoch, timeout=timeout)
        return self._wait(work)

    def delivered(
        self, channel: str, user_id: str, position: Position | records.Ack, *, timeout: float | None = None
    ) -> records.Delivered:
        """Return whether a user has read a channel with `receipts` up to a `position`. Raises RequestError."""
        return self._wait(self._client.delivered(channel, user_id, position, timeout=timeout))

    # Messages

    def __iter__(self) -> Iterator[Message]:
        """Iterate over the messages, gaps and changes of presence that have no function, and call the functions.

        The iteration ends when the application closes the client. When the server has ended it, the iteration raises
        RequestError `closed`, once everything was read. Of several iterations each message goes to one.
        """
        while True:
            try:
                message = self.receive()
            except RequestError:
                if self._closed:
                    return
                raise
            yield message

    def receive(self, timeout: float | None = None) -> Message:
        """Wait for the next message, gap or change of presence that has no function, and call the functions.

        Raises TimeoutError, and RequestError `closed` once the client has ended.
        """
        ends_at = None if timeout is None else time.monotonic() + timeout
        while True:
            if self._closed:
                raise RequestError(CLOSED, "closed by the application")
            event = self._mailbox.pop()
            if event is None:
                self._wait(self._mailbox.fetch(None if ends_at is None else max(0.0, ends_at - time.monotonic())))
            elif not self._mailbox.was_handled(event):
                return event

    # Between the threads

    def _do(self, function: Callable[[], T]) -> T:
        async def work() -> T:
            return function()

        return self._wait(work())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Have the client's thread do something, and return its result."""
        try:
            self._check_process()
            waiting = self._thread.submit(work)
        except BaseException:
            work.close()
            raise
        try:
            return waiting.result()
        except concurrent.futures.CancelledError:
            raise RequestError(CLOSED, self.state.reason) from None
        except BaseException:  # such as KeyboardInterrupt
            waiting.cancel()
            raise

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this client belongs to process {self._process}: create another one in each process, after the fork"
            )


def check_no_coroutines(*functions: Callable[[Any], object] | None) -> None:
    """Raises TypeError for functions that only an event loop can call."""
    if any(inspect.iscoroutinefunction(each) for each in functions):
        raise TypeError("SyncWsdClient calls no `async def` functions; WsdClient does")


async def ask_for_token(function: Callable[[], str | Awaitable[str | None] | None]) -> str | None:
    """Return the token of an application whose function may block."""
    found = await in_daemon_thread(function, "wsd client: token")
    return await found if inspect.isawaitable(found) else found
