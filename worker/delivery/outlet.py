"""The way out of a worker: the queues of all its clients, written once in each turn of the event loop."""

import asyncio
import os
from typing import Protocol, TypeVar

from wsd.worker.background.containment import report
from wsd.worker.delivery.batch import Item


class Queue(Protocol):
    """One client's queue, as far as an outlet needs it."""

    pending: list[Item]
    fd: int
    peak_bytes: int

    @property
    def waiting_bytes(self) -> int: ...

    @property
    def held_bytes(self) -> int: ...

    def flush(self, sent: int = 0) -> None: ...

    def fail(self) -> None: ...

    def close_slow(self) -> None: ...


Q = TypeVar("Q", bound=Queue)


class Outlet:
    """Flushes the queues that have something to send, and limits how many bytes wait for all slow readers together."""

    def __init__(self, *, max_buffer_bytes: int = 1_048_576, max_total_bytes: int = 268_435_456) -> None:
        """`max_buffer_bytes` may wait for one client, `max_total_bytes` for all clients together."""
        self.max_buffer_bytes = max_buffer_bytes
        self.waiting_bytes = 0
        self._max_total_bytes = max_total_bytes
        self._dirty: list[Queue] = []
        self._slow: set[Queue] = set()

    def touch(self, queue: Queue) -> None:
        """Flush a queue at the end of this turn of the event loop. Called when its first item is added."""
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self.flush)
        self._dirty.append(queue)

    def touch_all(self, queues: list[Q]) -> None:
        """Call `touch` for many queues. The list then belongs to the outlet."""
        if queues:
            self.touch(queues.pop())
            self._dirty += queues

    def flush(self) -> None:
        """Write what was sent in this turn of the event loop.

        Most of the time of a delivery is spent here. The plain case of `SendQueue.flush` and `SendingHalf.write` is
        spelled out here, which saves three calls of four for each connection.
        """
        dirty, self._dirty = self._dirty, []
        write = os.write
        for queue in dirty:
            items = queue.pending
            try:  # costs nothing unless it raises: a fault with one client must not keep messages from the others
                if queue.fd >= 0 and items:
                    if len(items) == 1:
                        frame = items[0].frame or items[0].sealed()
                    else:
                        frame = b"".join([item.frame or item.sealed() for item in items])
                    try:
                        sent = write(queue.fd, frame)
                    except OSError:  # the socket is full or broken, which the transport finds out, too
                        sent = 0
                    if sent == len(frame):
                        items.clear()
                    else:
                        queue.flush(sent)
                else:
                    queue.flush()
            except Exception as exc:  # noqa: BLE001 - a fault costs only this client its connection
                report("outlet", exc)
                queue.fail()

    def add_held(self, queue: Queue, change: int) -> None:
        """Count bytes that are held because of a client.

        While too many are held for all clients together, the client with the most is closed.
        """
        self.waiting_bytes += change
        if change <= 0:
            return
        self._slow.add(queue)
        queue.peak_bytes = max(queue.peak_bytes, queue.waiting_bytes)
        while self.waiting_bytes > self._max_total_bytes and self._slow:
            max(self._slow, key=lambda slow: slow.held_bytes).close_slow()

    def remove_held(self, queue: Queue, change: int) -> None:
        """Stop counting a client for which nothing is held any more."""
        self.waiting_bytes -= change
        self._slow.discard(queue)
