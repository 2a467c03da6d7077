"""The names by which two attempts to send one message are known to be the same message. Pure.

A sender that does not know whether a message arrived sends it again with the same idempotency key. Redis recognizes
the message by a stored key. While Redis is away nobody can ask it, so workers and clients recognize it by its uid.
"""

import hashlib
from collections import OrderedDict

from wsd.worker.wire.exclusion import UID_FIELD, without_mark

UID_SECONDS = 60
"""How long a uid is used for the messages of one key.

The period is half of the two minutes for which a key counts. So a message that counts as new has a new uid, even if the
clocks of two nodes differ by a minute.
"""

_DIGEST_BYTES = 16
_NAME_LENGTH = 2 * _DIGEST_BYTES


def stored_key(sender: str | None, key: str) -> str:
    """Return the name under which Redis stores an idempotency key of a user, or of the server itself (None).

    The user id is hashed with its length, so that no two pairs have the same result, and nobody can read the key in it.
    """
    return _digest(f"server {key}" if sender is None else f"user {len(sender)} {sender}{key}")


def row_key(table: str, row_id: int, inserted_at: int, channel: str, data: str) -> str:
    """Return the name under which Redis stores the key of a row of an outbox. `inserted_at` is in microseconds.

    All of the row is hashed. A database that was restored counts its ids from an earlier one, and another row with the
    same id must not be taken for this one.
    """
    return _digest(f"outbox {len(table)} {table} {row_id} {inserted_at} {len(channel)} {channel}{data}")


def uid_of(channel: str, stored_key: str, now: float) -> str:
    """Return the uid of a message with an idempotency key. `now` is in seconds since 1970."""
    # A stored key has a fixed length, so that no two pairs of key and channel give the same text.
    return f"{_digest(stored_key + channel)}-{int(now // UID_SECONDS):x}"


def attempt_of(payload: bytes) -> tuple[bytes, int] | None:
    """Return the name that all attempts of a message share, and the period of this one; None without a key.

    `payload` is an encoded `wire.Message`, whose last field is the uid.
    """
    at = payload.rfind(UID_FIELD)
    uid = without_mark(payload[at + len(UID_FIELD) : -2])
    if at < 0 or uid[_NAME_LENGTH : _NAME_LENGTH + 1] != b"-":
        return None
    try:
        return uid[:_NAME_LENGTH], int(uid[_NAME_LENGTH + 1 :], 16)
    except ValueError:
        return None


class RecentAttempts:
    """The messages with an idempotency key that were handed out lately, `limit` of them at most."""

    __slots__ = ("_limit", "_periods")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._periods: OrderedDict[bytes, int] = OrderedDict()

    def add(self, name: bytes, period: int) -> None:
        self._periods[name] = period
        if len(self._periods) > self._limit:
            self._periods.popitem(last=False)

    def __contains__(self, one: tuple[bytes, int]) -> bool:
        """Tell whether another attempt was made in the same period or in one next to it.

        Both are of the same message then for sure.
        """
        period = self._periods.get(one[0])
        return period is not None and abs(period - one[1]) <= 1


def _digest(text: str) -> str:
    # An application's text may have lone surrogates.
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=_DIGEST_BYTES).hexdigest()
