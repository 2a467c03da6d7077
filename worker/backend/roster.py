"""The workers that live, as far as one of them can tell by the heartbeats in Redis. Pure: no clock, no Redis."""

LATE_BEATS = 2
"""Intervals without a beat of its own after which a worker knows that it was interrupted."""


class Roster:
    """The workers that live, as of the last beat that Redis answered.

    While Redis is away, frozen or emptied, the heartbeats of all workers expire together. The worker that comes back
    first finds no others, which does not mean that they are dead. So for `grace` seconds after an interruption, all
    workers that lived before count as living, and no worker may be declared dead.
    """

    def __init__(self, interval: float, grace: float) -> None:
        """`interval`: seconds between two beats; `grace`: seconds that the other workers have to come back."""
        self.live: frozenset[str] = frozenset()
        self._interval = interval
        self._grace = grace
        self._beaten_at = float("-inf")
        self._judges_from = float("inf")

    def seen(self, found: frozenset[str], now: float, *, was_known: bool) -> None:
        """Note the workers that a beat has found, this worker among them.

        `was_known`: whether Redis still had the last beat of this worker. The first beat counts as an interruption.
        """
        if not was_known or now - self._beaten_at > LATE_BEATS * self._interval:
            self._judges_from = now + self._grace
        self._beaten_at = now
        self.live = found if self.judges(now) else self.live | found

    def judges(self, now: float) -> bool:
        """Return whether a worker without a heartbeat is dead. If not, it may still be on its way back."""
        return now >= self._judges_from
