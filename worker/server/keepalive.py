"""Pings (RFC 6455, 5.5.2) for all connections of a server with one timer. Many timers cost more than idle sockets."""

import asyncio
from collections import deque
from typing import Protocol

from wsd.worker.background.containment import Containment
from wsd.worker.background.waiting import STALL_SECONDS

COARSE = 0.04
"""The part of the interval within which connections are pinged together."""


class Pinged(Protocol):
    """A connection that is pinged. Times are by the event loop's clock.

    `has_received` becomes True whenever anything is received.
    """

    has_received: bool
    ping_at: float
    answer_by: float

    @property
    def gone(self) -> bool: ...

    def ping(self) -> None: ...

    def not_answered(self) -> None: ...

    def fail(self) -> None: ...


class Keepalive:
    """Pings connections every `interval` seconds, and closes them if nothing arrives `timeout` seconds after a ping.

    Both queues are ordered by time, since every time lies equally far ahead when it is added. Connections that have
    gone leave the queues when their time comes.
    """

    def __init__(self, interval: float | None, timeout: float | None) -> None:
        """`interval` None or 0: no pings. `timeout` None or 0: no limit for the answer."""
        self._interval = interval or 0.0
        self._timeout = timeout or 0.0
        self._due: deque[Pinged] = deque()
        self._asked: deque[Pinged] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._due_at = 0.0  # when the timer is due

    def add(self, connection: Pinged) -> None:
        if self._interval:
            loop = asyncio.get_running_loop()
            connection.ping_at = loop.time() + self._interval
            self._due.append(connection)
            if self._timer is None:
                self._call_at(connection.ping_at, loop)

    def _call_at(self, due_at: float, loop: asyncio.AbstractEventLoop) -> None:
        self._due_at = due_at
        self._timer = loop.call_at(due_at, self._serve, loop)

    def _make_up_for(self, late: float) -> None:
        """Give every connection the time in which this process was stopped or starved and could not read answers."""
        if late > STALL_SECONDS:
            for connection in self._asked:
                connection.answer_by += late

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._make_up_for(now - self._due_at)
        while self._asked and self._asked[0].answer_by <= now:
            connection = self._asked.popleft()
            if not connection.has_received and not connection.gone:
                with Containment("keepalive", connection):
                    connection.not_answered()
        while self._due and self._due[0].ping_at <= now:
            connection = self._due.popleft()
            if connection.gone:
                continue
            connection.ping_at = now + self._interval
            self._due.append(connection)
            if now < connection.answer_by:
                continue  # the answer to the last ping is not due yet
            connection.has_received = False
            with Containment("keepalive", connection):
                connection.ping()
            if self._timeout:
                connection.answer_by = now + self._timeout
                self._asked.append(connection)
        times = [self._due[0].ping_at] if self._due else []
        if self._asked:  # often enough to notice that the process stood still
            times.append(min(self._asked[0].answer_by, now + STALL_SECONDS))
        coarse = min(self._interval, self._timeout or self._interval) * COARSE
        self._timer = None
        if times:
            self._call_at(max(min(times), now + coarse), loop)
