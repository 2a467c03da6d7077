"""What could not be published, in order, until Redis is back. Pure, and bounded in messages and in bytes."""

from collections import deque
from itertools import islice

Entry = tuple[str, bytes]  # channel, payload


class Spool:
    """Beyond its bounds the oldest goes: `dropped` counts those."""

    def __init__(self, max_messages: int, max_bytes: int) -> None:
        self.dropped = 0
        self.bytes = 0
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, channel: str, payload: bytes) -> None:
        self._entries.append((channel, payload))
        self.bytes += len(payload)
        while len(self._entries) > self._max_messages or self.bytes > self._max_bytes:
            self.pop(1)
            self.dropped += 1

    def first(self, count: int) -> list[Entry]:
        """The oldest, which stay until `pop`: one that is being sent may yet fail."""
        return list(islice(self._entries, count))

    def pop(self, count: int) -> None:
        for _ in range(min(count, len(self._entries))):
            _, payload = self._entries.popleft()
            self.bytes -= len(payload)
