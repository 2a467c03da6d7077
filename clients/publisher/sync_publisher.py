"""Publishing from programs that block."""

import ssl as tls
from collections.abc import Iterable, Sequence
from typing import Any, Self, TypeVar, overload

from wsd.publisher import calls
from wsd.publisher.calls import Call
from wsd.publisher.errors import PublishError
from wsd.publisher.records import History, OutgoingMessage, Presence, PublishResult, Session, Sessions
from wsd.publisher.sender import RETRY_FOR_SECONDS, TIMEOUT_SECONDS, add_earlier, sender_to

T = TypeVar("T")


class Publisher:
    """Publishes messages in a cluster, from a program that is no client of it.

    One publisher serves all threads of a program, and the children that it forks. It connects at the first call, and
    keeps connections for the next ones.

    A request that gets no answer, or that the cluster cannot carry out now, is sent again for `retry_for` seconds.
    Every message has an idempotency key, so that a channel with a history gets it once.

    All methods raise PublishError when the cluster cannot be reached or refuses, and TypeError or ValueError for data
    that JSON cannot hold.
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections. A later call opens another one."""
        self._sender.connections.close()

    @overload
    def publish(self, channel: str, data: Any, *, idempotency_key: str = "", exclude: str = "") -> PublishResult: ...
    @overload
    def publish(
        self, channel: Sequence[str], data: Any, *, idempotency_key: str = "", exclude: str = ""
    ) -> list[PublishResult]: ...
    def publish(
        self, channel: str | Sequence[str], data: Any, *, idempotency_key: str = "", exclude: str = ""
    ) -> PublishResult | list[PublishResult]:
        """Publish a message in a channel, or in several, and return its position in each.

        `idempotency_key`: of messages with the same key, in one channel and within two minutes, only the first counts.
        `exclude`: the id of a session that does not get the message.
        """
        if isinstance(channel, str):
            return self.publish_many([calls.message(data, idempotency_key, exclude, channel=channel)])[0]
        return self.publish_many(calls.to_channels(channel, data, idempotency_key, exclude))

    def broadcast(self, data: Any, *, idempotency_key: str = "", exclude: str = "") -> PublishResult:
        """Publish a message to all clients. `idempotency_key` and `exclude` are as for `publish`."""
        return self.publish_many([calls.message(data, idempotency_key, exclude, broadcast=True)])[0]

    def send_to_user(
        self, user_id: str | int, data: Any, *, idempotency_key: str = "", exclude: str = ""
    ) -> PublishResult:
        """Publish a message to all connections of a user. `idempotency_key` and `exclude` are as for `publish`."""
        return self.publish_many([calls.message(data, idempotency_key, exclude, user_id=str(user_id))])[0]

    def publish_many(self, messages: Iterable[OutgoingMessage]) -> list[PublishResult]:
        """Publish messages in their order, and return a result for each message and channel.

        `messages`: dicts as OutgoingMessage describes them. They are sent in as many requests as they need. If one
        cannot be published, the error has the results of those that were.
        """
        done: list[PublishResult] = []
        for call in calls.publish(messages):
            try:
                found = self._run(call)
            except PublishError as error:
                add_earlier(error, done)
                raise
            done += found
        return done

    def history(
        self, channel: str, *, since: int = 0, limit: int = 100, reverse: bool = False, epoch: str = ""
    ) -> History:
        """Read up to 500 messages of a channel after the offset `since`.

        With `reverse`, read those before it, the newest first; 0 begins with the newest. `epoch` names an earlier epoch
        of an archived channel: the `previous` of another part.
        """
        return self._run(calls.history(channel, since, limit, reverse=reverse, epoch=epoch))

    def delete_history(self, channel: str) -> None:
        """Forget all messages of a channel."""
        self._run(calls.delete_history(channel))

    def presence(self, channel: str, *, limit: int = 1000) -> Presence:
        """Tell who is in a channel, and list `limit` members at most."""
        return self._run(calls.presence(channel, limit))

    def sessions(self, user_id: str | int = "", *, offset: int = 0, limit: int = 100) -> Sessions:
        """List the sessions of a user, or of everybody, the one that was seen last first."""
        return self._run(calls.sessions(str(user_id), offset, limit))

    def disconnect(
        self, *, user_id: str | int = "", session_id: str = "", code: int | None = None, reason: str = ""
    ) -> tuple[Session, ...]:
        """End the sessions of a user, or one session, and return them. `code` and `reason` are those of the close."""
        return self._run(calls.disconnect(str(user_id), session_id, code, reason))

    def subscribe(self, user_id: str | int, channel: str) -> int:
        """Let all connections of a user join a channel, and return how many joined."""
        return self._run(calls.subscription(calls.SUBSCRIBE_PATH, str(user_id), channel))

    def unsubscribe(self, user_id: str | int, channel: str) -> int:
        """Let all connections of a user leave a channel, and return how many left."""
        return self._run(calls.subscription(calls.UNSUBSCRIBE_PATH, str(user_id), channel))

    def _run(self, call: Call[T]) -> T:
        return self._sender.run(call)
