"""The pauses between the tries to send something. Pure."""

from collections.abc import Callable

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0


class Backoff:
    """Pauses that double with each failure in a row, with jitter: each is between half of its length and all of it."""

    def __init__(self, random: Callable[[], float]) -> None:
        """`random`: returns a number from 0 up to 1."""
        self._random = random
        self._failures = 0

    def failed(self) -> float:
        """Note a failure. Return the seconds to wait before the next try."""
        longest = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(self._failures, 16))
        self._failures += 1
        return longest * (0.5 + self._random() / 2)

    def succeeded(self) -> bool:
        """Note a success. Return whether failures came before it."""
        failed, self._failures = self._failures > 0, 0
        return failed
