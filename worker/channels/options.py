"""The options of channels, chosen by patterns of their names. Pure."""

import re
from functools import lru_cache
from typing import Literal

import msgspec
from msgspec import Struct

from wsd.worker.delivery.batch import SlowReaders

UNNUMBERED_PREFIX = "~"
"""The beginning of the names of channels whose applications have a protocol of their own. Nothing is added to their
messages, and nothing is kept of them. No client of the hub can name such a channel."""


class ChannelOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a channel: what is kept of it, and what its members are told."""

    history_size: int = 1000  # messages kept; 0: none
    history_ttl_seconds: float = 300.0  # how long after the last message all are forgotten
    presence: Literal["off", "snapshot", "events"] = "snapshot"
    max_members: int = 0  # on one worker; 0: no limit
    slow_readers: SlowReaders = "close_and_resume"
    receipts: bool = False


DEFAULT = ChannelOptions()
NO_HISTORY = ChannelOptions(history_size=0, presence="off")

_by_pattern = msgspec.json.Decoder(dict[str, ChannelOptions])


class ChannelRules:
    """Options by patterns of channel names, in which `*` stands for any text.

    Of all patterns that match a name, the one with the most literal characters counts.
    """

    def __init__(self, text: str = "") -> None:
        """`text`: a JSON object of options by pattern.

        Raises ValueError for a text that is not one.
        """
        options = _by_pattern.decode(text) if text else {}
        longest_first = sorted(options.items(), key=lambda item: -len(item[0].replace("*", "")))
        self._rules = [(_compiled(pattern), chosen) for pattern, chosen in longest_first]
        self.of = lru_cache(maxsize=10_000)(self._of)  # asked for every message

    def _of(self, channel: str) -> ChannelOptions:
        if channel.startswith(UNNUMBERED_PREFIX):
            return NO_HISTORY
        return next((options for pattern, options in self._rules if pattern.fullmatch(channel)), DEFAULT)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
