"""Publishing: the data of an application or a client becomes a message of the hub's protocol."""

import asyncio
import secrets
import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from wsd.worker.broker.history import AppendResult
from wsd.worker.broker.idempotency import stored_key, uid_of
from wsd.worker.broker.message_broker import MessageBroker, resolve_into
from wsd.worker.channels.channels import Channels
from wsd.worker.contract.redis_keys import channel_key
from wsd.worker.errors import NotStoredError
from wsd.worker.manager.connection import Connection
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import label_of, user_channel
from wsd.worker.wire.exclusion import LENGTH as MARK_LENGTH
from wsd.worker.wire.exclusion import mark_of, with_mark
from wsd.worker.wire.frames import BINARY, TEXT
from wsd.worker.wire.names import name_problem
from wsd.worker.wire.position import Position

BINARY_MARK = b"\xff"
"""The beginning of a binary message in a channel without the hub's protocol. No text begins with it, being UTF-8."""


EXCLUDE_MARK = b"\xfe"
"""The beginning of such a message that one connection does not get. The mark of its session follows, see
`wire.exclusion`, and then the message."""


def parse_unnumbered(payload: bytes) -> tuple[str, int, bytes]:
    """Return the mark of the session that does not get a message, the opcode and the content.

    Raises UnicodeDecodeError for a text that is not UTF-8.
    """
    mark = ""
    if payload.startswith(EXCLUDE_MARK):
        mark, payload = payload[1 : 1 + MARK_LENGTH].decode(), payload[1 + MARK_LENGTH :]
    if payload.startswith(BINARY_MARK):
        return mark, BINARY, payload[1:]
    payload.decode()
    return mark, TEXT, payload


class Published(Struct, frozen=True):
    """The result of publishing a message.

    While Redis is away, `everywhere` is False. The message has then reached the members on this worker (with
    `redis.stand_in`: on this node), and reaches the others once Redis is back.
    """

    everywhere: bool
    """Whether the message is on its way to all workers. False while Redis is away."""

    position: Position | None = None
    """The position of the message in the history of the channel. None if it is not stored, or not yet."""

    kept: bool = False
    """Whether the channel has a history."""


class Publisher:
    """Sends messages to the members of channels, on all workers.

    `publish` and `publish_text` may be called on any event loop, by `asyncio.run` in a thread for example. They run on
    the event loop of `attach`.
    """

    def __init__(self, broker: MessageBroker, channels: Channels, worker_id: str) -> None:
        self._broker = broker
        self._channels = channels
        self._worker_id = worker_id
        self._home: asyncio.AbstractEventLoop | None = None
        self._uid_prefix = secrets.token_hex(5)
        self._uids = 0

    def attach(self) -> None:
        """Make the running event loop the one that messages are published on."""
        self._home = asyncio.get_running_loop()

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
        """Publish a message, see `DistributedWebSocketManager.publish`. Raises NotStoredError."""
        if (home := self._another_home()) is not None:
            message = self.publish(
                channel, data, sender, idempotency_key=idempotency_key, exclude=exclude, on_stored=on_stored
            )
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(message, home))
        answer: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        self.publish_soon(
            channel,
            data,
            resolve_into(answer),
            sender,
            idempotency_key=idempotency_key,
            exclude=exclude,
            on_stored=on_stored,
        )
        return await answer

    async def publish_text(self, channel: str, content: str | bytes, *, exclude: str = "") -> bool:
        """Publish a text, or bytes as a binary message, as it is. Return whether it went to all workers."""
        payload = content.encode() if isinstance(content, str) else BINARY_MARK + content
        if exclude:
            payload = EXCLUDE_MARK + mark_of(exclude).encode() + payload
        if (home := self._another_home()) is not None:
            message = self.publish_text(channel, content, exclude=exclude)
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(message, home))
        return await self._broker.publish(channel_key(channel), payload)

    def _another_home(self) -> asyncio.AbstractEventLoop | None:
        """Return the event loop of `attach` if the caller runs on another one."""
        home = self._home
        return home if home is not None and home is not asyncio.get_running_loop() and home.is_running() else None

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
        """Publish a message without waiting, see `DistributedWebSocketManager.publish_soon`."""
        label = label_of(channel)
        if not self._channels.options(channel).history_size:
            uid = with_mark(self._new_uid(), exclude) if exclude else ""
            message = wire.Message(channel=label, data=data, sender=self.sender(sender), uid=uid)
            self._broker.publish_soon(
                channel_key(channel), wire.encode(message), lambda everywhere: on_result(Published(everywhere))
            )
            return
        key = stored_key(sender.user_id if sender is not None else None, idempotency_key) if idempotency_key else ""
        uid = uid_of(channel, key, time.time()) if key else self._new_uid()
        if exclude:
            uid = with_mark(uid, exclude)
        message = wire.Message(channel=label, data=data, sender=self.sender(sender), uid=uid)

        def appended(result: AppendResult | NotStoredError | None) -> None:
            if isinstance(result, NotStoredError):
                on_result(result)
            else:
                on_result(Published(result is not None, result.position if result is not None else None, kept=True))

        self._channels.publish_soon(channel, wire.encode(message), key, appended, on_stored)

    def _new_uid(self) -> str:
        self._uids += 1
        return f"{self._uid_prefix}-{self._uids}"

    @staticmethod
    def channel_of_user(user_id: str) -> str:
        """Return the channel of all connections of a user. Raises ValueError for a user id that no user can have."""
        if problem := name_problem(user_id):
            raise ValueError(f"user_id {problem}")
        return user_channel(user_id)

    def sender(self, connection: Connection | None) -> wire.Sender | None:
        """Return what a message says of its sender; None for a message of the application itself."""
        if connection is None:
            return None
        client = connection.outbox.public_id if connection.outbox.dialect.shows_client_ids else ""
        return wire.Sender(connection.user_id, connection.username, self._worker_id, client)
