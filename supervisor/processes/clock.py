"""A clock that does not count the time for which the supervisor itself was stopped."""

import asyncio
import time
from collections.abc import Callable

TICK_SECONDS = 0.2
"""Pause between two readings of the clock while the supervisor runs normally."""

LATE_SECONDS = 1.0
"""A reading that is later than this shows that the supervisor was stopped, swapped out or starved of CPU time."""


class AwakeClock:
    """A monotonic clock in seconds that leaves out the gaps in which the supervisor did not run.

    A supervisor that was stopped could not receive anything, so it must not count that time as a worker's silence.
    `gaps` counts the gaps, and `last_gap` is the length of the last one in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock. `keep` must run from now on, or every pause between two calls of `now` looks like a gap."""
        self.gaps = 0
        self.last_gap = 0.0
        self.late_after = LATE_SECONDS
        self._clock = clock
        self._read_at = clock()
        self._left_out = 0.0

    def now(self) -> float:
        """Return the time in seconds. A reading that comes late is counted as a gap."""
        at = self._clock()
        gap = at - self._read_at - TICK_SECONDS
        self._read_at = at
        if gap > self.late_after:
            self._left_out += gap
            self.gaps += 1
            self.last_gap = gap
        return at - self._left_out

    async def keep(self) -> None:
        """Read the clock at every tick until cancelled."""
        while True:
            self.now()
            await asyncio.sleep(TICK_SECONDS)
