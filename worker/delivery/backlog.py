"""The messages that wait for one client, by the rules of their channels. No I/O.

A client has a backlog only while it reads too slowly, or while it is being connected. A channel's rule for slow readers
is to keep all messages up to a limit, only the channel's latest message, or all but the channel's oldest messages.
"""

from collections import OrderedDict, deque

from wsd.worker.delivery.batch import Batch, Item, Message, message_in
from wsd.worker.dialects.dialect import Dialect
from wsd.worker.wire.position import Position

SLOW_READER = "slow_reader"
"""The reason in a `gap` notice for messages that were dropped for one client."""


class _Waiting:
    """One place in the backlog. Where `item` is None, messages up to `position` were dropped."""

    __slots__ = ("bytes", "channel", "item", "missed", "position")

    def __init__(
        self, item: Item, size: int, channel: str = "", position: Position | None = None, *, missed: bool = False
    ) -> None:
        self.item: Item | None = item
        self.bytes = size
        self.missed = missed  # not counted towards the client's limit
        self.channel = channel
        self.position = position


class Backlog:
    """A queue of items, limited in bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.bytes = 0
        self._missed_bytes = 0
        self.dropped = 0  # messages
        self._max_bytes = max_bytes
        self._queue: OrderedDict[int, _Waiting] = OrderedDict()
        self._last = 0
        self._latest: dict[str, int] = {}
        self._droppable: dict[str, deque[int]] = {}
        self._gaps: dict[str, _Waiting] = {}

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, item: Item) -> bool:
        """Add an item at the end. Return False if the backlog is then too large."""
        if isinstance(item, Batch) and item.policy != "close_and_resume":
            item.open = False
            return all([self._add_droppable(item, message) for message in item.messages])  # noqa: C419 - each is added
        self._append(_Waiting(item, len(item.sealed())))
        return self._fits

    @property
    def _fits(self) -> bool:
        return self.bytes - self._missed_bytes <= self._max_bytes

    def add_first(self, item: Item) -> None:
        """Add an item before everything that waits."""
        self._queue.move_to_end(self._append(_Waiting(item, len(item.sealed()))), last=False)

    def add_missed(self, item: Item) -> None:
        """Add what a client missed while it was away. It is counted, but does not count towards the client's limit."""
        waiting = _Waiting(item, len(item.sealed()), missed=True)
        self._missed_bytes += waiting.bytes
        self._append(waiting)

    def take(self, max_bytes: int, dialect: Dialect) -> list[Item]:
        """Remove and return the next items: about `max_bytes`, and at least one if anything can be sent.

        `dialect`: that of the client, in which it is told of what was dropped.
        """
        items: list[Item] = []
        size = 0
        while self._queue and (not items or size < max_bytes):
            number, waiting = self._queue.popitem(last=False)
            self.bytes -= waiting.bytes
            if waiting.missed:
                self._missed_bytes -= waiting.bytes
            if waiting.item is None:
                if (gap := self._gap(waiting, dialect)) is not None:
                    items.append(gap)
                continue
            items.append(waiting.item)
            size += len(waiting.item.sealed())
            if waiting.channel:
                self._forget(waiting.channel, number)
        return items

    def _append(self, waiting: _Waiting) -> int:
        self._last += 1
        self._queue[self._last] = waiting
        self.bytes += waiting.bytes
        return self._last

    def _add_droppable(self, batch: Batch, message: Message) -> bool:
        channel, size = batch.channel, len(message.frame)
        if message.position is None:  # a gap notice needs a position
            self._append(_Waiting(message, size))
        elif batch.policy == "drop_oldest":
            number = self._append(_Waiting(message, size, channel, message.position))
            self._droppable.setdefault(channel, deque()).append(number)
        elif (number := self._latest.get(channel, 0)) == 0:
            self._latest[channel] = self._append(_Waiting(message, size, channel, message.position))
        else:
            waiting = self._queue[number]
            self.bytes += size - waiting.bytes
            waiting.item, waiting.bytes = message, size
            self.dropped += 1
        while not self._fits:
            if not self._drop_oldest(channel):
                return False
        return True

    def _drop_oldest(self, channel: str) -> bool:
        """Drop the channel's oldest message. Return False if only its newest is left.

        However many are dropped in a row, one gap notice takes their place.
        """
        numbers = self._droppable.get(channel)
        if not numbers or len(numbers) == 1:
            return False
        number = numbers.popleft()
        waiting = self._queue[number]
        self.bytes -= waiting.bytes
        waiting.bytes = 0
        self.dropped += 1
        gap = self._gaps.get(channel)
        if gap is None:
            waiting.item = None
            self._gaps[channel] = waiting
        else:
            gap.position = waiting.position
            del self._queue[number]
        return True

    def _gap(self, waiting: _Waiting, dialect: Dialect) -> Message | None:
        at = waiting.position
        assert at is not None
        del self._gaps[waiting.channel]
        return message_in(dialect, dialect.gap(waiting.channel, SLOW_READER, at))

    def _forget(self, channel: str, number: int) -> None:
        if self._latest.get(channel) == number:
            del self._latest[channel]
        elif (numbers := self._droppable.get(channel)) and numbers[0] == number:
            numbers.popleft()
            if not numbers:
                del self._droppable[channel]
