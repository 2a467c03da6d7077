"""Closing connections whose clients send nothing, or nothing but pings."""

import asyncio
import math
import time

from wsd.worker.background.waiting import STALL_SECONDS
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.wire.close_codes import CloseCode


class IdleWatch:
    """Closes connections of this worker with 4000 when their clients have sent nothing for too long."""

    def __init__(self, fanout: Fanout, timeout: float) -> None:
        """`timeout`: seconds. It must not be 0."""
        self._fanout = fanout
        self._timeout = timeout
        self._counted_from = -math.inf  # the end of the last time in which this process read from no client

    async def run(self) -> None:
        """Look four times per timeout, until cancelled."""
        pause = self._timeout / 4
        while True:
            due = time.monotonic() + pause
            await asyncio.sleep(pause)
            now = time.monotonic()
            self.look(now, late=now - due)

    def look(self, now: float, *, late: float) -> None:
        """Close the connections that are idle at `now`, by the monotonic clock. `late`: seconds since this was due."""
        if late > STALL_SECONDS:  # this process was stopped or starved
            self._counted_from = now
        since = now - self._timeout
        if since <= self._counted_from:
            return
        for outbox in [outbox for outbox in self._fanout if outbox.received_at < since]:
            outbox.close(CloseCode.IDLE, f"nothing received for {self._timeout:g} s")
