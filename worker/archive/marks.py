"""The decision which marked channels are read, and when a mark is removed. Pure.

A mark is set before its message is stored. So a channel is read at once, for promptness, and once more when its mark
has not been renewed for SETTLE_SECONDS. Only after that the mark is removed. No clocks are compared: the archiver
counts the time since it saw the mark.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SETTLE_SECONDS = 5.0
"""How long a message may take from its mark until it is stored. A request to Redis takes 2 seconds at most."""


@dataclass
class _Mark:
    score: int
    seen_at: float
    read_at: float | None = None


class MarkBook:
    """The knowledge of the archiver about the marks in Redis. Times are in seconds of one clock."""

    def __init__(self) -> None:
        self._marks: dict[str, _Mark] = {}

    def to_read(self, marks: Mapping[str, int], now: float) -> list[str]:
        """Take over all marks that there are, by channel, and return the channels that are to be read now."""
        self._marks = {
            channel: known
            if (known := self._marks.get(channel)) is not None and known.score == score
            else _Mark(score, now)
            for channel, score in marks.items()
        }
        return [channel for channel, mark in self._marks.items() if _is_due(mark, now)]

    def note_read(self, channel: str, began: float) -> None:
        """Note that all of a channel was read, from the time `began` on."""
        if (mark := self._marks.get(channel)) is not None:
            mark.read_at = began

    def settled(self) -> dict[str, int]:
        """Return the marks that can be removed, unless they were renewed since."""
        return {channel: mark.score for channel, mark in self._marks.items() if _is_settled(mark)}

    def unread(self) -> list[int]:
        """Return the scores of the channels that have not been read since they were marked."""
        return [mark.score for mark in self._marks.values() if mark.read_at is None]


def _is_due(mark: _Mark, now: float) -> bool:
    return mark.read_at is None or (not _is_settled(mark) and now >= mark.seen_at + SETTLE_SECONDS)


def _is_settled(mark: _Mark) -> bool:
    return mark.read_at is not None and mark.read_at >= mark.seen_at + SETTLE_SECONDS
