"""The rules by which a request is sent again. All times are in seconds."""

from typing import Final

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Limits of the longest pause before a request is sent again. It doubles with each failure."""

REMEMBERED_SECONDS: Final = 120.0
"""How long the cluster remembers an idempotency key."""


def check_times(timeout: float, retry_for: float) -> None:
    """Check the times that an application has given.

    Raises ValueError for times with which a message could be published twice, or never.
    """
    if not 0 < timeout < REMEMBERED_SECONDS:
        raise ValueError(f"timeout must be above 0 and below {REMEMBERED_SECONDS:g} s, got {timeout!r}")
    if not 0 <= retry_for <= REMEMBERED_SECONDS - timeout:
        raise ValueError(
            f"retry_for must be from 0 to {REMEMBERED_SECONDS - timeout:g} s with a timeout of {timeout:g} s, got "
            f"{retry_for!r}: the cluster remembers for {REMEMBERED_SECONDS:g} s what it has published"
        )


class Attempts:
    """The attempts of one request, which an application has asked for at the time `now`."""

    def __init__(self, retry_for: float, now: float) -> None:
        self._begun = now
        self._last_at = now + retry_for
        self._first_sent_at: float | None = None
        self._failures = 0

    def may_send(self, now: float) -> bool:
        """Tell whether the request may be sent now.

        It may not if the cluster could have forgotten the first attempt: the process was stopped, or other requests
        have taken all threads.
        """
        if self._first_sent_at is None:
            self._first_sent_at = now
        return now - self._first_sent_at < REMEMBERED_SECONDS

    def pause(self, now: float, asked: float, chance: float) -> float | None:
        """Return the pause before the next attempt after a failure, or None if there is none.

        `asked`: the pause that the server has asked for. `chance`: a random number from 0 to 1, so that programs that
        failed together do not come back together. The last attempt begins when the time is over.
        """
        limit = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(self._failures, 16))
        self._failures += 1
        left = self._last_at - now
        if left <= 0 or asked > left:
            return None
        return min(asked + limit * chance, left)

    def summary(self, now: float) -> str:
        """Return how often the request was sent, in words for people; "" if it was sent once."""
        if self._failures < 2:
            return ""
        return f" (sent {self._failures} times in {now - self._begun:.0f} s)"
