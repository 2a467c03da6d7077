"""The messages and events that the application has not taken yet."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakSet

from wsd.client.effects import Left, Message

Handler = Callable[[Message], object]
"""A function of the application. If it returns an awaitable, this is awaited before the next call."""

KEPT_UNREAD = 1000
"""The newest messages without a handler that are kept while nobody iterates."""


@dataclass(frozen=True)
class Handlers:
    """The functions of a channel. What has none goes to those who iterate over the client."""

    on_message: Handler | None = None
    on_gap: Handler | None = None
    on_presence: Handler | None = None

    def __post_init__(self) -> None:
        for each in (self.on_message, self.on_gap, self.on_presence):
            if each is not None and not callable(each):
                raise TypeError(f"a handler is a function, not {each!r}")

    def __bool__(self) -> bool:
        return any((self.on_message, self.on_gap, self.on_presence))

    def of(self, event: Message) -> Handler | None:
        """Return the function for an event of the channel."""
        match event["type"]:
            case "gap":
                return self.on_gap
            case "presence_changed":
                return self.on_presence
        return self.on_message


@dataclass(frozen=True)
class Departure:
    """The hub has refused a channel whose functions were these."""

    left: Left
    handlers: Handlers | None


class Reader:
    """A loop over the messages. As long as the object lives, messages are kept for it."""


class Inbox:
    """Two queues: `handled` for the functions of channels, `unread` for those who iterate.

    They are bounded together. The owner looks at `is_full` and `has_room` to stop and resume the flow of messages.
    While nobody iterates, old messages in `unread` are dropped instead.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.handlers: dict[str, Handlers] = {}
        self.handled: deque[Message | Departure] = deque()
        self.unread: deque[Message] = deque()
        self.handled_news = asyncio.Event()
        self.unread_news = asyncio.Event()
        self.readers: WeakSet[Reader] = WeakSet()

    @property
    def is_full(self) -> bool:
        return self._size() >= self.limit

    @property
    def has_room(self) -> bool:
        """True if at least half of the inbox is empty."""
        return self._size() <= self.limit // 2

    def put(self, event: Message) -> bool:
        """Add a message or an event. Return False if nobody is there to take it, so that it may be dropped later.

        Changes of presence are dropped while the inbox is full: unlike messages, they cannot be asked for again.
        """
        if event["type"] == "presence_changed" and self.is_full:
            return True
        if self.handler_of(event) is not None:
            self.handled.append(event)
            self.handled_news.set()
            return True
        self.unread.append(event)
        self._forget_unread()
        self.unread_news.set()
        return bool(self.readers)

    def put_departure(self, left: Left) -> None:
        self.handled.append(Departure(left, self.handlers.get(left.channel)))
        self.handled_news.set()

    def handler_of(self, event: Message) -> Handler | None:
        handlers = self.handlers.get(event["channel"])
        return handlers.of(event) if handlers is not None else None

    def handle(self, channel: str, handlers: Handlers | None) -> Handlers | None:
        """Set or remove the functions of a channel. Return those that it had."""
        before = self.handlers.pop(channel, None)
        if handlers:
            self.handlers[channel] = handlers
        return before

    def leave(self, channel: str) -> None:
        """Drop everything of a channel that the application leaves."""
        self.handlers.pop(channel, None)
        self.handled = deque(one for one in self.handled if isinstance(one, Departure) or one["channel"] != channel)
        self.unread = deque(one for one in self.unread if one["channel"] != channel)

    def _size(self) -> int:
        if self.unread and not self.readers:
            self._forget_unread()
            return len(self.handled)
        return len(self.handled) + len(self.unread)

    def _forget_unread(self) -> None:
        if not self.readers:
            while len(self.unread) > min(KEPT_UNREAD, self.limit):
                self.unread.popleft()


def event_of_gap(channel: str, reason: str) -> Message:
    return {"type": "gap", "channel": channel, "reason": reason}
