"""The messages that wait until Redis is back, in order. Pure, and bounded in messages and in bytes."""

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from msgspec import Struct

from wsd.worker.broker.history import Retention
from wsd.worker.wire.position import Position


class Outgoing(Struct, frozen=True):
    """A message on its way, with the number that this broker gave it, which `message` contains, too."""

    number: int
    channel: str
    message: bytes
    retention: Retention | None = None  # None for a channel without a history
    on_stored: Callable[[Position], None] | None = None
    position: Position | None = None  # in the history, once the message is stored

    @property
    def text(self) -> bytes:
        """The message as subscribers receive it, see `message_format`."""
        if self.retention is None:
            return b"- " + self.message
        if self.position is None:
            return b"~ " + self.message
        return b"%s %s" % (str(self.position).encode(), self.message)


class Spool:
    """A bounded queue of messages. Beyond its bounds the oldest message is dropped, and counted in `dropped`."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.dropped = 0
        self.bytes = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._waiting: deque[Outgoing] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, outgoing: Outgoing) -> None:
        """Add a message in the order of numbers.

        A message that was on its way when Redis went away may come after one that was never sent.
        """
        later = []
        while self._waiting and self._waiting[-1].number > outgoing.number:
            later.append(self._waiting.pop())
        self._waiting.append(outgoing)
        self._waiting.extend(reversed(later))
        self.bytes += len(outgoing.message)
        while len(self._waiting) > self._max_messages or self.bytes > self._max_bytes:
            self.bytes -= len(self._waiting.popleft().message)
            self.dropped += 1

    def first(self, count: int) -> list[Outgoing]:
        """Return the oldest messages. They stay until `remove`, since sending them may fail."""
        return list(islice(self._waiting, count))

    def remove(self, sent: Iterable[Outgoing]) -> None:
        """Remove messages that `first` returned.

        Some of them may have been dropped meanwhile, and others may have been added before them.
        """
        numbers = {outgoing.number for outgoing in sent}
        before = []
        while self._waiting and numbers:
            outgoing = self._waiting.popleft()
            if outgoing.number > max(numbers):
                before.append(outgoing)
                break
            if outgoing.number in numbers:
                numbers.discard(outgoing.number)
                self.bytes -= len(outgoing.message)
            else:
                before.append(outgoing)
        self._waiting.extendleft(reversed(before))
