"""Publishing from asyncio. `sync_publisher` has the same methods for programs that block."""

import asyncio
import ssl as tls
from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeVar, overload

from wsd.publisher import calls
from wsd.publisher.answers import Failure
from wsd.publisher.calls import Call
from wsd.publisher.errors import PublishError
from wsd.publisher.records import History, OutgoingMessage, Presence, PublishResult, Session, Sessions
from wsd.publisher.sender import RETRY_FOR_SECONDS, TIMEOUT_SECONDS, add_earlier, sender_to
from wsd.publisher.threads import Threads

T = TypeVar("T")


class AsyncPublisher:
    """Publishes messages in a cluster, from a program that is no client of it.

    It is `Publisher` for asyncio. Each request is sent in a thread, up to ten at the same time, and pauses between
    attempts block no thread. A call that is cancelled may still be carried out.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT_SECONDS,
        retry_for: float = RETRY_FOR_SECONDS,
        ssl: tls.SSLContext | None = None,
    ) -> None:
        """Name the cluster, without connecting to it.

        `url`: by default that in WSD_URL, or else http://127.0.0.1:8000. `api_key`: by default that in WSD_API_KEY.
        `timeout` in seconds, for each step of one attempt. `retry_for` in seconds; 0 sends a request once.
        `ssl`: how an https URL is verified; by default by the certificates of the system.

        Raises ValueError for a URL or a key that cannot be used, and if `timeout` and `retry_for` together exceed the
        two minutes for which the cluster remembers idempotency keys.
        """
        self._sender = sender_to(url, api_key, timeout=timeout, retry_for=retry_for, context=ssl)
        self._threads = Threads()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections. A later call opens another one."""
        self._sender.connections.close()

    @overload
    async def publish(
        self, channel: str, data: Any, *, idempotency_key: str = "", exclude: str = ""
    ) -> PublishResult: ...
    @overload
    async def publish(
        self, channel: Sequence[str], data: Any, *, idempotency_key: str = "", exclude: str = ""
    ) -> list[PublishResult]: ...
    async def publish(
        self, channel: str | Sequence[str], data: Any, *, idempotency_key: str = "", exclude: str = ""
    ) -> PublishResult | list[PublishResult]:
        """Publish a message in a channel, or in several, and return its position in each.

        `idempotency_key`: of messages with the same key, in one channel and within two minutes, only the first counts.
        `exclude`: the id of a session that does not get the message.
        """
        if isinstance(channel, str):
            return (await self.publish_many([calls.message(data, idempotency_key, exclude, channel=channel)]))[0]
        return await self.publish_many(calls.to_channels(channel, data, idempotency_key, exclude))

    async def broadcast(self, data: Any, *, idempotency_key: str = "", exclude: str = "") -> PublishResult:
        """Publish a message to all clients. `idempotency_key` and `exclude` are as for `publish`."""
        return (await self.publish_many([calls.message(data, idempotency_key, exclude, broadcast=True)]))[0]

    async def send_to_user(
        self, user_id: str | int, data: Any, *, idempotency_key: str = "", exclude: str = ""
    ) -> PublishResult:
        """Publish a message to all connections of a user. `idempotency_key` and `exclude` are as for `publish`."""
        return (await self.publish_many([calls.message(data, idempotency_key, exclude, user_id=str(user_id))]))[0]

    async def publish_many(self, messages: Iterable[OutgoingMessage]) -> list[PublishResult]:
        """Publish messages in their order, and return a result for each message and channel.

        `messages`: dicts as OutgoingMessage describes them. They are sent in as many requests as they need. If one
        cannot be published, the error has the results of those that were.
        """
        done: list[PublishResult] = []
        for call in calls.publish(messages):
            try:
                found = await self._run(call)
            except PublishError as error:
                add_earlier(error, done)
                raise
            done += found
        return done

    async def history(
        self, channel: str, *, since: int = 0, limit: int = 100, reverse: bool = False, epoch: str = ""
    ) -> History:
        """Read up to 500 messages of a channel after the offset `since`.

        With `reverse`, read those before it, the newest first; 0 begins with the newest. `epoch` names an earlier epoch
        of an archived channel: the `previous` of another part.
        """
        return await self._run(calls.history(channel, since, limit, reverse=reverse, epoch=epoch))

    async def delete_history(self, channel: str) -> None:
        """Forget all messages of a channel."""
        await self._run(calls.delete_history(channel))

    async def presence(self, channel: str, *, limit: int = 1000) -> Presence:
        """Tell who is in a channel, and list `limit` members at most."""
        return await self._run(calls.presence(channel, limit))

    async def sessions(self, user_id: str | int = "", *, offset: int = 0, limit: int = 100) -> Sessions:
        """List the sessions of a user, or of everybody, the one that was seen last first."""
        return await self._run(calls.sessions(str(user_id), offset, limit))

    async def disconnect(
        self, *, user_id: str | int = "", session_id: str = "", code: int | None = None, reason: str = ""
    ) -> tuple[Session, ...]:
        """End the sessions of a user, or one session, and return them. `code` and `reason` are those of the close."""
        return await self._run(calls.disconnect(str(user_id), session_id, code, reason))

    async def subscribe(self, user_id: str | int, channel: str) -> int:
        """Let all connections of a user join a channel, and return how many joined."""
        return await self._run(calls.subscription(calls.SUBSCRIBE_PATH, str(user_id), channel))

    async def unsubscribe(self, user_id: str | int, channel: str) -> int:
        """Let all connections of a user leave a channel, and return how many left."""
        return await self._run(calls.subscription(calls.UNSUBSCRIBE_PATH, str(user_id), channel))

    async def _run(self, call: Call[T]) -> T:
        attempts = self._sender.attempts()
        while True:
            found = await self._threads.call(lambda: self._sender.attempt(call, attempts))
            if not isinstance(found, Failure):
                return found
            await asyncio.sleep(self._sender.pause_after(found, attempts))
