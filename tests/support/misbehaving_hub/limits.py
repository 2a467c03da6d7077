"""The limits of one client, counted as the hub counts them."""

from dataclasses import dataclass

from tests.support.misbehaving_hub.memory import Message
from wsd.worker.security.limits import TokenBucket


@dataclass(frozen=True)
class Limits:
    """Limits of one connection. 0 means no limit."""

    messages_per_second: float = 0.0
    message_burst: float = 0.0
    bytes_per_second: float = 0.0
    byte_burst: float = 0.0
    max_message_bytes: int = 1_048_576

    def announcement(self) -> Message:
        """Return what the welcome says."""
        return {
            "messages_per_second": self.messages_per_second,
            "message_burst": self.message_burst,
            "bytes_per_second": self.bytes_per_second,
            "byte_burst": self.byte_burst,
            "max_message_bytes": self.max_message_bytes,
        }


class Rates:
    """The messages and bytes of one connection."""

    def __init__(self, limits: Limits, now: float) -> None:
        """`now`: by the clock of `exceeded`."""
        self._limits = limits
        self._messages = self._bytes = None
        if limits.messages_per_second:
            self._messages = TokenBucket(limits.messages_per_second, max(1.0, limits.message_burst), now)
        if limits.bytes_per_second:
            self._bytes = TokenBucket(limits.bytes_per_second, max(1.0, limits.byte_burst), now)
        self._refused_in_a_row = 0

    @property
    def refused_too_often(self) -> bool:
        """True if a client goes on sending regardless of the answers, so that the hub closes it."""
        return self._refused_in_a_row > self._limits.message_burst

    def exceeded(self, now: float, content: str | bytes) -> str:
        """Count a message, and return the error code if it is above a rate, or else ""."""
        size = len(content.encode() if isinstance(content, str) else content)
        code = ""
        if self._messages is not None and not self._messages.take(now):
            code = "rate_limited"
        elif self._bytes is not None and not self._bytes.take(now, size):
            code = "byte_rate_limited"
        self._refused_in_a_row = self._refused_in_a_row + 1 if code else 0
        return code
