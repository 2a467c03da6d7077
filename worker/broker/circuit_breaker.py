"""A circuit breaker, which decides whether Redis is asked at all: while it is away, callers need not wait for it. Pure.

    CLOSED --failures in a row--> OPEN --after a pause--> HALF_OPEN --successes--> CLOSED
                                   ^                          |
                                   +--------- a failure ------+

CLOSED: ask. OPEN: do not ask. HALF_OPEN: one caller may try, the others do not ask.
Nothing here waits or reads a clock.
"""

from dataclasses import dataclass
from enum import StrEnum


class BreakerState(StrEnum):
    """The state of a breaker. While it is open, Redis is not asked."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True)
class BreakerPolicy:
    """The rules by which a breaker opens and closes.

    One failure is enough by default: messages are spooled while the breaker is open, so that opening costs little.
    """

    failures: int = 1  # in a row, to open
    pause: float = 0.5  # seconds from a failure to the next try
    successes: int = 1  # in a row, to close again


class CircuitBreaker:
    """A breaker for one server. `reason` says what failed last, and is empty while the breaker is closed.

    `opened` counts how often the breaker opened. Times are in seconds, by any clock that does not go back.
    """

    def __init__(self, policy: BreakerPolicy) -> None:
        self.state = BreakerState.CLOSED
        self.reason = ""
        self.opened = 0
        self._policy = policy
        self._in_a_row = 0
        self._retry_at = 0.0

    @property
    def closed(self) -> bool:
        return self.state is BreakerState.CLOSED

    def wait(self, now: float) -> float:
        """Return the seconds until `try_again` allows a try: 0 unless the breaker is open."""
        return max(0.0, self._retry_at - now) if self.state is BreakerState.OPEN else 0.0

    def try_again(self, now: float) -> bool:
        """Tell whether the caller may try. OPEN becomes HALF_OPEN when its pause is over."""
        if self.state is BreakerState.OPEN and now >= self._retry_at:
            self.state = BreakerState.HALF_OPEN
            self._in_a_row = 0
        return self.state is not BreakerState.OPEN

    def failed(self, now: float, reason: str) -> bool:
        """Note a failure. Return True if it opened a closed breaker."""
        was_closed = self.closed
        self._in_a_row = self._in_a_row + 1 if was_closed else 0
        if was_closed and self._in_a_row < self._policy.failures:
            return False
        self.state = BreakerState.OPEN
        self.reason = reason
        self._retry_at = now + self._policy.pause
        self._in_a_row = 0
        self.opened += was_closed
        return was_closed

    def succeeded(self) -> bool:
        """Note a success. Return True if it closed the breaker. A late one, while the breaker is open, says nothing."""
        match self.state:
            case BreakerState.CLOSED:
                self._in_a_row = 0
            case BreakerState.HALF_OPEN:
                self._in_a_row += 1
                if self._in_a_row >= self._policy.successes:
                    self.state = BreakerState.CLOSED
                    self.reason = ""
                    self._in_a_row = 0
                    return True
        return False
