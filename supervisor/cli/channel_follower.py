"""The way of `wsd tail` through the history of a channel: each message once, and every gap told."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from wsd.publisher import History, Publisher, PublishError
from wsd.supervisor.counts import count
from wsd.supervisor.machine.terminal import say

PAGE: Final = 500
"""Messages that are asked for at once."""

SHORTEST_PAUSE_SECONDS: Final = 0.05
LONGEST_PAUSE_SECONDS: Final = 0.5
"""Limits of the pause before the next question. It is short after a message, and grows while there is none."""

AWAY_PAUSE_SECONDS: Final = 0.5
"""The pause while the cluster cannot be asked."""


@dataclass
class ChannelFollower:
    """Follows a channel by its offsets, so that each message is shown once, from whichever worker it comes.

    There is no I/O here: the caller passes on what it has read from the history after the offset `since`.
    """

    since: int = 0
    epoch: str = ""
    lost: int = 0  # messages of the last page that were no longer in the history
    began_anew: bool = False  # the history was lost before the last page
    pause: float = SHORTEST_PAUSE_SECONDS  # seconds before the next question

    def first(self, page: History, last: int) -> list[dict[str, Any]]:
        """Return the `last` messages to show first, the oldest first. `page` was read in reverse from the newest."""
        self.since, self.epoch = page.offset, page.epoch
        return list(reversed(page.messages[:last]))

    def next(self, page: History) -> list[dict[str, Any]]:
        """Return the messages to show of a page that was read after `since`."""
        self.lost, self.began_anew = 0, False
        if page.epoch != self.epoch:
            self.began_anew = bool(self.epoch)
            self.epoch, self.since = page.epoch, 0
            self.pause = 0.0
            return []  # the page was read after an offset of the old epoch
        if page.messages:
            self.lost = page.messages[0]["offset"] - self.since - 1
            self.since = page.messages[-1]["offset"]
            self.pause = 0.0 if self.since < page.offset else SHORTEST_PAUSE_SECONDS
        elif page.offset > self.since:
            self.lost = page.offset - self.since
            self.since = page.offset
        else:
            self.pause = min(LONGEST_PAUSE_SECONDS, max(SHORTEST_PAUSE_SECONDS, self.pause * 1.5))
        return list(page.messages)


def follow(cluster: Publisher, channel: str, last: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the last messages of a channel, and then new ones as they come, without end.

    A cluster that is away is asked again. Raises PublishError if it refuses, or is away at the beginning.
    """
    follower = ChannelFollower()
    page = cluster.history(channel, reverse=True, limit=max(1, last))
    if not page.epoch:
        say(f"wsd: {channel} has no messages yet; if it keeps no history, none will be shown", err=True)
    yield follower.first(page, last)
    is_away = False
    while True:
        time.sleep(AWAY_PAUSE_SECONDS if is_away else follower.pause)
        try:
            page = cluster.history(channel, since=follower.since, limit=PAGE)
        except PublishError as exc:
            if not exc.temporary:
                raise
            if not is_away:
                say(f"wsd: waiting: {exc}", err=True)
            is_away = True
            continue
        is_away = False
        messages = follower.next(page)
        if follower.began_anew:
            say(f"wsd: the history of {channel} was lost, and begins anew", err=True)
        if follower.lost:
            say(f"wsd: missed {count(follower.lost, 'message')} that the history no longer had", err=True)
        yield messages
