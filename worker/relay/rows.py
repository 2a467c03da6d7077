"""The rows of the outbox, and the messages that they become. Pure.

A row means what a request to publish over HTTP means: the same names of channels, the same limits, the same options.
"""

from dataclasses import dataclass

from msgspec import Raw

from wsd.worker.broker.history import Retention
from wsd.worker.broker.idempotency import row_key, stored_key, uid_of
from wsd.worker.channels.options import ChannelRules
from wsd.worker.wire import messages as wire
from wsd.worker.wire.channel_names import BROADCAST, DIRECT, USER_PREFIX, check_channel
from wsd.worker.wire.redaction import PayloadFilter

KEY_SECONDS = 86_400
"""How long Redis knows a message whose row is not deleted: a day, so that a relay that comes late repeats none."""

_bounded = PayloadFilter(())
"""Refuses data that is nested deeper than a client's may be, and removes nothing."""


@dataclass(frozen=True)
class Row:
    """A row of the outbox as it was read. `data` is None if it is larger than `size` bytes may be."""

    id: int
    inserted_at: int  # microseconds since 1970
    channel: str
    size: int
    data: str | None
    idempotency_key: str | None


@dataclass(frozen=True)
class Publication:
    """A row as a message: the channel it goes to, its encoding, and how it is kept. Size 0: the channel keeps none."""

    row_id: int
    channel: str
    payload: bytes
    retention: Retention


class RowError(ValueError):
    """A row can never be published as it is. The text says why."""


class RowReader:
    """Turns rows into messages, by the options of channels."""

    def __init__(self, table: str, rules: ChannelRules, max_message_bytes: int) -> None:
        self._table = table
        self._rules = rules
        self._max_message_bytes = max_message_bytes

    def publication(self, row: Row, now: float) -> Publication:
        """Return the message of a row. `now` is in seconds since 1970.

        Raises RowError.
        """
        if row.data is None:
            raise RowError(
                f"data may have {self._max_message_bytes} bytes (websocket.max_message_bytes), has {row.size}"
            )
        try:
            label = _label(row.channel)
            data = _bounded(Raw(row.data.encode()))
        except wire.RequestError as exc:
            raise RowError(str(exc)) from None
        if row.idempotency_key is None:
            key = row_key(self._table, row.id, row.inserted_at, row.channel, row.data)
        elif 1 <= len(row.idempotency_key) <= MAX_KEY_LENGTH:
            key = stored_key(None, row.idempotency_key)
        else:
            raise RowError(f"idempotency_key must have 1 to {MAX_KEY_LENGTH} characters")
        options = self._rules.of(row.channel)
        message = wire.Message(channel=label, data=data, uid=uid_of(row.channel, key, now))
        retention = Retention(
            options.history_size, options.history_ttl_seconds, key, KEY_SECONDS, archived=options.archive
        )
        return Publication(row.id, row.channel, wire.encode(message), retention)


MAX_KEY_LENGTH = 128
"""The most characters of an idempotency key, as over HTTP."""


def _label(channel: str) -> str:
    """Return the name under which clients receive a channel. Raises RequestError for a channel that there cannot be."""
    if channel.startswith(USER_PREFIX):
        wire.check_user(channel.removeprefix(USER_PREFIX))
        return DIRECT
    if channel != BROADCAST:
        check_channel(channel)
    return channel
