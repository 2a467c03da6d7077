"""Which workers live, as far as one of them can tell by the heartbeats in Redis. Pure: no clock, no Redis."""

LATE_BEATS = 2
"""After how many intervals without a beat of its own a worker knows that it was interrupted."""


class Roster:
    """The workers that live, as of the last beat that Redis answered.

    Heartbeats of all workers expire together while Redis is away, frozen or emptied. The worker that comes back first
    finds nobody else, and that says nothing. So for `grace` seconds after an interruption all workers that lived before
    count as living, and nobody is to be declared dead.
    """

    def __init__(self, interval: float, grace: float) -> None:
        """`interval`: seconds between two beats; `grace`: seconds that the others have to come back."""
        self.live: frozenset[str] = frozenset()
        self._interval = interval
        self._grace = grace
        self._beaten_at = float("-inf")
        self._judges_from = float("inf")

    def seen(self, found: frozenset[str], now: float, *, was_known: bool) -> None:
        """Take note of the workers that a beat found, its own among them.

        `was_known`: whether Redis still had the last beat of this worker. The first beat counts as an interruption.
        """
        if not was_known or now - self._beaten_at > LATE_BEATS * self._interval:
            self._judges_from = now + self._grace
        self._beaten_at = now
        self.live = found if self.judges(now) else self.live | found

    def judges(self, now: float) -> bool:
        """Tell whether a worker without a heartbeat is dead, and not only on its way back."""
        return now >= self._judges_from
