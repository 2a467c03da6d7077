"""The messages that were delivered here already: the same message may come over two ways, or be sent again. Pure.

Every broker numbers the messages that it publishes. For each broker a window of its latest numbers is kept, as IPsec
does against replays (RFC 4303, 3.4.3): numbers need not come in order, nor all of them. A number costs one byte.
"""

from collections import OrderedDict

WINDOW = 16_384
"""How many numbers of one broker are remembered. A spool that is sent again must fit into the window."""

MAX_ORIGINS = 512
"""How many brokers are remembered. Beyond it, the one that was silent for longest is forgotten."""


class _Window:
    __slots__ = ("highest", "seen")

    def __init__(self) -> None:
        self.highest = 0
        self.seen = bytearray(WINDOW)

    def __contains__(self, number: int) -> bool:
        return self.highest - WINDOW < number <= self.highest and bool(self.seen[number % WINDOW])

    def add(self, number: int) -> bool:
        ahead = number - self.highest
        place = number % WINDOW
        if ahead > 0:
            if ahead == 1:
                pass
            elif ahead >= WINDOW:
                self.seen = bytearray(WINDOW)
            else:
                for skipped in range(self.highest + 1, number):
                    self.seen[skipped % WINDOW] = 0
            self.highest = number
        elif -ahead >= WINDOW or self.seen[place]:
            return False
        self.seen[place] = 1
        return True

    def discard(self, number: int) -> None:
        if number in self:
            self.seen[number % WINDOW] = 0


class SeenMessages:
    """The messages of all brokers that were seen lately, by origin and number."""

    def __init__(self) -> None:
        self._windows: OrderedDict[bytes, _Window] = OrderedDict()

    def __contains__(self, message: tuple[bytes, int]) -> bool:
        """Tell whether a message was seen for sure. A message that is too old to tell was not."""
        window = self._windows.get(message[0])
        return window is not None and message[1] in window

    def add(self, origin: bytes, number: int) -> bool:
        """Note a message. Return False if it was seen before, or is too old to tell. Numbers begin with 1."""
        window = self._windows.get(origin)
        if window is None:
            window = self._windows[origin] = _Window()
            if len(self._windows) > MAX_ORIGINS:
                self._windows.popitem(last=False)
        else:
            self._windows.move_to_end(origin)
        return window.add(number)

    def discard(self, origin: bytes, number: int) -> None:
        """Forget a message: the next time that it comes, it is new."""
        window = self._windows.get(origin)
        if window is not None:
            window.discard(number)
