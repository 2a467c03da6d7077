"""One client of this worker: the handle that its application holds, and the limits of what it may do."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from wsd.worker.delivery.outbox import Outbox, SendText
from wsd.worker.hooks.functions import NO_HOOKS, Hook, HookFunctions
from wsd.worker.hooks.webhooks import WebhookSettings
from wsd.worker.security.authentication import Identity, unauthenticated
from wsd.worker.security.authorization import Authorize
from wsd.worker.security.limits import TokenBucket
from wsd.worker.security.subscription_tokens import SubscriptionTokens
from wsd.worker.wire import messages as wire
from wsd.worker.wire.redaction import PayloadFilter

NEW_HISTORY_BYTES = 4096
"""Bytes that Redis allocates for the first message of a history, however small it is."""

MAX_WRITTEN = 32
"""Channels remembered of one connection. A client that publishes in turn in more of them is charged each time."""


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits of one client. 0 means no limit."""

    per_user: int = 0  # connections of one user on all workers
    messages_per_second: float = 0.0  # from one connection
    message_burst: float = 0.0  # messages
    bytes_per_second: float = 0.0  # of messages from one connection
    byte_burst: float = 0.0
    max_message_bytes: int = 0  # of one message
    idle_timeout: float = 0.0  # seconds after which a client that sends nothing but pings is closed

    def bucket(self) -> TokenBucket | None:
        if not self.messages_per_second:
            return None
        return TokenBucket(self.messages_per_second, max(1.0, self.message_burst), time.monotonic())

    def byte_bucket(self) -> TokenBucket | None:
        if not self.bytes_per_second:
            return None
        return TokenBucket(self.bytes_per_second, max(1.0, self.byte_burst), time.monotonic())

    def announced(self) -> wire.Limits:
        """Return the limits that clients are told of, as the buckets apply them."""
        messages, size = self.messages_per_second, self.bytes_per_second
        return wire.Limits(
            messages_per_second=messages,
            message_burst=max(1.0, self.message_burst) if messages else 0.0,
            bytes_per_second=size,
            byte_burst=max(1.0, self.byte_burst) if size else 0.0,
            max_message_bytes=self.max_message_bytes,
        )


@dataclass(frozen=True)
class CentrifugeRules:
    """Rules for clients of the Centrifuge protocol. `rpc`: a function that takes a ClientCall, None: there is none."""

    enabled: bool = True
    personal_channel: bool = True
    broadcast: bool = True
    rpc: Hook | None = None


@dataclass(frozen=True)
class ClientRules:
    """Rules for clients: their limits, the filter of their data, and who decides what they may do."""

    limits: ConnectionLimits
    payload_filter: PayloadFilter
    authorize: Authorize | None = None
    hooks: HookFunctions = NO_HOOKS
    webhooks: WebhookSettings | None = None  # None: events are not posted
    subscription_tokens: SubscriptionTokens | None = None  # None: there are no keys to verify them with
    centrifuge: CentrifugeRules = CentrifugeRules()
    ping_interval: float = 0.0  # seconds between the pings of the server, 0 for none


class Connection:
    """A connected client, as `connect` of the manager returns it.

    The application holds this object for as long as it serves the client, and passes it to the methods of the manager.
    The manager itself keeps only the outbox. If the application drops the object without calling `disconnect` (its
    endpoint raised, for example), the connection is ended when the object is garbage collected.
    """

    __slots__ = (
        "__weakref__",
        "_identity",
        "_on_collected",
        "_written",
        "bucket",
        "byte_bucket",
        "outbox",
        "refused_in_a_row",
        "resumed",
    )

    def __init__(
        self,
        outbox: Outbox,
        limits: ConnectionLimits,
        on_collected: Callable[[Outbox], None],
        *,
        identity: Identity | None = None,
        resumed: bool = False,
    ) -> None:
        """`on_collected` is called when this object is garbage collected, on whatever thread that happens."""
        self.outbox = outbox
        self._identity = identity
        self.resumed = resumed
        """Whether the client continues the session of an earlier connection."""
        self.bucket = limits.bucket()  # messages that the client may send
        self.byte_bucket = limits.byte_bucket()
        self.refused_in_a_row = 0  # messages above one of the rates
        self._written: dict[str, None] = {}  # channels that it published in lately, the oldest first
        self._on_collected = on_collected

    def __del__(self) -> None:
        self._on_collected(self.outbox)

    @property
    def identity(self) -> Identity:
        """The identity that authentication found, with the claims of its token.

        For a client that chose its own name it has only that name, and `authenticated` is False.
        """
        return self._identity or unauthenticated(self.user_id, self.username)

    @identity.setter
    def identity(self, newer: Identity) -> None:
        """Set the identity of a newer token of the same user. The username of the connection stays."""
        self._identity = newer

    @property
    def session_id(self) -> str:
        """The id of the session. It stays the same when the client comes back."""
        return self.outbox.session_id

    @property
    def user_id(self) -> str:
        """The id of the user."""
        return self.outbox.user_id

    @property
    def username(self) -> str:
        """The name of the user for people."""
        return self.outbox.username

    @property
    def channels(self) -> set[str]:
        """The channels that the connection is in."""
        return self.outbox.channels

    @property
    def closing(self) -> asyncio.Future[tuple[int, str]]:
        """A future of the close code and the reason, done once the server wants the connection to end."""
        return self.outbox.closing

    def charge_for_history(self, channel: str, now: float) -> None:
        """Charge the client for the memory of a history in Redis, unless it published in the channel lately.

        `now`: by the monotonic clock.
        """
        if self.byte_bucket is None:
            return
        if channel not in self._written:
            self.byte_bucket.owe(now, NEW_HISTORY_BYTES)
            if len(self._written) >= MAX_WRITTEN:
                del self._written[next(iter(self._written))]
        else:
            del self._written[channel]
        self._written[channel] = None

    def send(self, text: str) -> None:
        """Queue `text` for this client. Does not block. A client that reads too slowly is closed with 1013."""
        self.outbox.send(text.encode())

    def close(self, code: int, reason: str) -> None:
        """End the connection with a close frame, after what is queued. Further calls change nothing.

        Raises ValueError or TypeError for a code or a reason that no close frame can carry.
        """
        self.outbox.close(code, reason)

    async def pump(self, send_text: SendText) -> None:
        """Send what is queued, in order, until the server wants the connection to end, or `send_text` raises.

        Under a server without wsd's WebSocket protocol, the caller closes the WebSocket afterwards, with the code and
        the reason of `closing`.
        """
        await self.outbox.pump(send_text)
