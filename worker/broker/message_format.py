"""The format of a message on a Redis channel and in the stream of a history. Pure.

A message is `origin number payload`: the broker that sent it, the number that this broker gave it, and the payload.
On a Redis channel a position stands before it: `17:5f0c`, or `~` for a message of a history that is not stored yet, or
`-` for a message of a channel without a history.
"""

from wsd.worker.wire.position import Position

NO_HISTORY = b"-"
"""Stands for the position of a message of a channel without a history."""

NOT_STORED = b"~"
"""Stands for the position of a message that Redis has not stored yet."""

PROBE = b"hear "
"""The beginning of a probe, which a worker sends to itself. No message begins with it: it is no origin of a broker."""

UNNUMBERED = b"- - 0 "
"""The beginning of a message that no broker sent, but a script, for example: it has no origin, and the number 0."""


def parse_text(text: bytes) -> tuple[bytes, Position | None, bytes, int, bytes]:
    """Return what stands for the position, the position itself if there is one, origin, number and payload.

    Raises ValueError for a message that no broker wrote.
    """
    marker, origin, number, payload = text.split(b" ", 3)
    return marker, None if marker in (NO_HISTORY, NOT_STORED) else Position.parse(marker), origin, int(number), payload


def parse_message(message: bytes) -> tuple[bytes, int, bytes]:
    """Return origin, number and payload of a message.

    Raises ValueError for a message that no broker wrote.
    """
    origin, number, payload = message.split(b" ", 2)
    return origin, int(number), payload
