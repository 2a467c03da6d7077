"""One client of an application's own WebSocket protocol."""

import asyncio
import reprlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

import msgspec
from starlette.websockets import WebSocket, WebSocketState

from wsd.worker.application.errors import InvalidChannelError, InvalidDataError, InvalidPositionError
from wsd.worker.application.formats import frame_of, text_of
from wsd.worker.application.records import Joined
from wsd.worker.application.running import publish_everywhere
from wsd.worker.application.servers import Socket
from wsd.worker.channels.joining import Joined as Place
from wsd.worker.clients.client import size_of
from wsd.worker.delivery.translation import Translator
from wsd.worker.manager.connection import Connection
from wsd.worker.manager.publisher import Published
from wsd.worker.security.authentication import Identity
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import check_channel
from wsd.worker.wire.close_codes import CloseCode
from wsd.worker.wire.position import Position
from wsd.worker.worker import Worker


class Client(AsyncIterator[str | bytes]):
    """A client that `Cluster.serve` serves, for as long as the block of `serve` runs.

    Iterate over it for what the client sends: str or bytes. The iteration ends when either side ends the connection.
    """

    def __init__(
        self,
        websocket: WebSocket,
        worker: Worker,
        connection: Connection,
        identity: Identity,
        welcome: wire.Welcome,
        translator: Translator,
        socket: Socket,
    ) -> None:
        self.websocket = websocket
        """The WebSocket of Starlette, which may be used as ever."""
        self.connection = connection
        """The client, for the methods of the manager (`get_websocket_manager`)."""
        self.identity = identity
        """Who the client is."""
        self.resume_token = welcome.resume_token
        """The secret with which the client continues its session: `serve(..., resume=token)`."""
        self._worker = worker
        self._translator = translator
        self._socket = socket

    @property
    def user_id(self) -> str:
        """The id of the user."""
        return self.identity.user_id

    @property
    def username(self) -> str:
        """The name of the user for people."""
        return self.identity.username

    @property
    def session_id(self) -> str:
        """The id of the session, the same after the client has come back. It is no secret."""
        return self.connection.session_id

    @property
    def resumed(self) -> bool:
        """True if the client continues an earlier session. It is in the channels of that session again."""
        return self.connection.resumed

    @property
    def channels(self) -> frozenset[str]:
        """The channels that the client is in."""
        return frozenset(self.connection.channels)

    @property
    def positions(self) -> Mapping[str, Position]:
        """The position that the client has reached, by channel: that of the last message that was written to it.

        Only channels with a history have positions.
        """
        return dict(self._translator.positions)

    # Channels

    async def join(self, channel: str, since: Position | str | None = None, *, last: int | None = None) -> Joined:
        """Make the client a member of a channel. From now on it is sent what is published there.

        `since`: the position that the client has reached, or its text, see `position_of`. The client is sent what came
        after. `last`: how many of the newest messages the client is sent first. Without both, a client that is in the
        channel already, after a resume for example, stays as it is.

        Raises InvalidChannelError, InvalidPositionError, ChannelFullError; ValueError for both `since` and `last`, and
        for a `last` below 1.
        """
        check_name(channel)
        reached = position_of(since)
        if channel in self.connection.channels and reached is None and last is None:
            return Joined(channel=channel, position=self._translator.positions.get(channel))
        places: list[Place] = []

        def announce(place: Place) -> None:
            places.append(place)
            note_start(self._translator, channel, place.state(), reached)

        await self._worker.manager.join(self.connection, channel, reached, announce, last=last)
        state = places[0].state()
        return Joined(
            channel=channel,
            position=state.position,
            recovered=state.recovered,
            count=state.count or 0,
            reason=state.reason or "",
        )

    async def leave(self, channel: str) -> None:
        """Take the client out of a channel. Does nothing if it is not in the channel."""
        await self._worker.manager.leave(self.connection, channel)
        self._translator.positions.pop(channel, None)

    # Messages

    async def publish(self, channel: str, data: Any, *, idempotency_key: str = "", exclude: str = "") -> Published:
        """Publish a message in a channel, as `Cluster.publish` does, with this client as its sender.

        The client need not be in the channel. If it is, it is sent the message, too, unless `exclude` is its own
        `session_id`.
        """
        check_name(channel)
        return await publish_everywhere(
            self._worker, channel, publishable(data), self.connection, idempotency_key=idempotency_key, exclude=exclude
        )

    async def send(self, data: Any) -> None:
        """Send something to this client alone: bytes as a binary message, a text as it is, anything else as JSON.

        Waits while the client has not taken what it was sent before. Raises WebSocketDisconnect if the connection has
        ended; TypeError or ValueError for data that JSON cannot express.
        """
        frame = frame_of(data if isinstance(data, bytes | bytearray | memoryview) else text_of(data))
        assert frame is not None
        await self._socket.send(frame)

    async def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> None:
        """Close the connection with a close frame, behind what was sent before. A second call changes nothing.

        Raises ValueError or TypeError for a code or a reason that no close frame can carry.
        """
        self.connection.outbox.close(code, reason)

    # What the client sends

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str | bytes:
        """Return what the client sends next: str or bytes."""
        if self.websocket.client_state is WebSocketState.DISCONNECTED:
            raise StopAsyncIteration
        message = await self._socket.receive()
        if message is None or message["type"] == "websocket.disconnect":
            raise StopAsyncIteration
        self._worker.manager.counts.messages_in += 1
        text: str | None = message.get("text")
        content: str | bytes = message["bytes"] if text is None else text
        await self._keep_to_rates(size_of(content))
        return content

    async def _keep_to_rates(self, size: int) -> None:
        """Wait as long as the client sends above a rate of the settings. Meanwhile nothing is read from it."""
        now = time.monotonic()
        for bucket, amount in ((self.connection.bucket, 1), (self.connection.byte_bucket, size)):
            if bucket is not None and not bucket.take(now, amount):
                bucket.owe(now, amount)
                await asyncio.sleep(bucket.wait(now))


def note_start(translator: Translator, channel: str, state: wire.ChannelState, since: Position | None) -> None:
    """Note where a client begins in a channel. What it missed is noted when it is written."""
    begins_at = since if state.count else state.position
    if begins_at is not None:
        translator.positions[channel] = begins_at


def check_name(channel: str) -> None:
    """Check the name of a channel. Raises InvalidChannelError."""
    try:
        check_channel(channel)
    except wire.RequestError as exc:
        raise InvalidChannelError(f"{wire.shortened(channel, 80)!r}: {exc}") from None


def position_of(since: Position | str | None) -> Position | None:
    """Return the position that a client says it has reached. Its fields or its text may be made up.

    `since`: a position, or the text that `str(position)` has made; an empty text is no position.

    Raises InvalidPositionError.
    """
    if not since:
        return None
    try:
        found = Position.parse(since) if isinstance(since, str) else since
        msgspec.convert({"offset": found.offset, "epoch": found.epoch}, Position)
    except (ValueError, msgspec.ValidationError):
        raise InvalidPositionError(f"{reprlib.repr(since)} is no position") from None
    return found


def publishable(data: Any) -> Any:
    """Return data as it is published: bytes as the text that they are. Raises InvalidDataError if they are no text."""
    if not isinstance(data, bytes | bytearray | memoryview):
        return data
    try:
        return bytes(data).decode()
    except UnicodeDecodeError as exc:
        raise InvalidDataError(f"channels carry text and JSON, and these bytes are no UTF-8: {exc}") from None
