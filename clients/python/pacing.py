"""The pace at which a client sends: below the limits that the hub names in its welcome."""

from collections.abc import Mapping
from typing import Any

from wsd.client.settings import MAX_IN_FLIGHT, MAX_IN_FLIGHT_BYTES

SHARE_OF_RATE = 0.9
SHARE_OF_BURST = 0.5
"""The parts of the hub's limits that a client uses.

What a client sends within its share, and then arrives at once after a delay, is still within the hub's limits: no more
than half a burst is on its way.
"""

NEW_CHANNEL_BYTES = 4096
"""The hub counts so much more for the first message of a connection to a channel."""

MAX_KNOWN_CHANNELS = 32
"""The channels of which the hub remembers that a connection has published in them."""

TOLERANCE = 1e-6
"""Tokens that may be missing: sums of fractions are not exact."""

LARGEST_LIMIT = 1e15
"""A limit above this is none."""

UNKNOWN = {"messages_per_second": 50, "message_burst": 100, "bytes_per_second": 65_536, "byte_burst": 524_288}
"""Limits of a hub that names none."""


class Bucket:
    """A bucket that gains `rate` tokens a second and holds up to `burst`. A rate of 0 is no limit."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate * SHARE_OF_RATE
        self._burst = max(1.0, burst * SHARE_OF_BURST)
        self._tokens = self._burst
        self._filled_at = now

    def wait(self, now: float, amount: float) -> float:
        """Return the seconds until `amount` tokens may be taken. An amount above the burst needs a full bucket."""
        if self._rate == 0:
            return 0.0
        self._fill(now)
        missing = min(amount, self._burst) - self._tokens
        return missing / self._rate if missing > TOLERANCE else 0.0

    def take(self, now: float, amount: float) -> None:
        """Take tokens, also if there are too few: the next ones wait for them."""
        self._fill(now)
        self._tokens -= amount

    def _fill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled_at) * self._rate)
        self._filled_at = now


class Pacing:
    """The limits of one connection."""

    def __init__(self, limits: Mapping[str, Any] | None, now: float) -> None:
        """`limits`: those of the welcome, or None for a hub that names none."""
        given = UNKNOWN if limits is None else limits

        def limit(name: str) -> float:
            value = given.get(name, 0)
            return float(value) if isinstance(value, int | float) and 0 < value < LARGEST_LIMIT else 0.0

        message_burst, byte_burst = limit("message_burst"), limit("byte_burst")
        self._messages = Bucket(limit("messages_per_second"), message_burst, now)
        self._bytes = Bucket(limit("bytes_per_second"), byte_burst, now)
        self._counts_bytes = limit("bytes_per_second") > 0
        self._channels: dict[str, None] = {}  # in which it has published
        self.max_message_bytes = limit("max_message_bytes") or None
        self.window = MAX_IN_FLIGHT
        if limit("messages_per_second"):
            self.window = max(1, min(MAX_IN_FLIGHT, int(message_burst * SHARE_OF_BURST)))
        self.window_bytes = float(MAX_IN_FLIGHT_BYTES)
        if limit("bytes_per_second"):
            self.window_bytes = min(self.window_bytes, byte_burst * SHARE_OF_BURST)

    def wait(self, now: float, size: int, channel: str | None) -> float:
        """Return the seconds until a request may be sent. `channel`: the one in which it publishes."""
        return max(self._messages.wait(now, 1), self._bytes.wait(now, self.cost(size, channel)))

    def sent(self, now: float, size: int, channel: str | None = None) -> None:
        """Note that a request was sent."""
        self._messages.take(now, 1)
        self._bytes.take(now, self.cost(size, channel))
        if channel is not None and channel not in self._channels:
            if len(self._channels) >= MAX_KNOWN_CHANNELS:
                self._channels.clear()
            self._channels[channel] = None

    def cost(self, size: int, channel: str | None) -> int:
        """Return the bytes that the hub counts for a request."""
        is_new = channel is not None and channel not in self._channels
        return size + NEW_CHANNEL_BYTES if is_new and self._counts_bytes else size
