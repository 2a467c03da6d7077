"""The clock of the supervisor's watch: it does not count the time for which the supervisor itself stood still."""

import asyncio
import time
from collections.abc import Callable

TICK_SECONDS = 0.2
"""Between two readings of the clock, as long as the supervisor runs as it should."""

LATE_SECONDS = 1.0
"""A reading that comes later than this means that the supervisor was stopped, swapped out or starved."""


class AwakeClock:
    """A monotonic clock in seconds, less the gaps in which nobody could read it.

    A supervisor that stood still has heard nobody, so nobody was silent for that long.
    `gaps` counts the gaps, and `last_gap` is the length of the last one in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with the present; `keep` must run from here on."""
        self.gaps = 0
        self.last_gap = 0.0
        self.late_after = LATE_SECONDS
        self._clock = clock
        self._read_at = clock()
        self._left_out = 0.0

    def now(self) -> float:
        """Return the time, and note whether this reading comes late."""
        at = self._clock()
        gap = at - self._read_at - TICK_SECONDS
        self._read_at = at
        if gap > self.late_after:
            self._left_out += gap
            self.gaps += 1
            self.last_gap = gap
        return at - self._left_out

    async def keep(self) -> None:
        """Read the clock at every tick, until cancelled."""
        while True:
            self.now()
            await asyncio.sleep(TICK_SECONDS)
