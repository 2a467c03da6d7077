"""What is kept and told of a channel, by patterns of its name. Pure."""

import re
from functools import lru_cache
from typing import Literal

import msgspec
from msgspec import Struct

from wsd.worker.delivery.batch import SlowReaders


class ChannelOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    history_size: int = 1000  # messages kept; 0: none
    history_ttl_seconds: float = 300.0  # after the last one, all are forgotten
    presence: Literal["off", "snapshot", "events"] = "snapshot"
    max_members: int = 0  # on one worker; 0: no limit
    slow_readers: SlowReaders = "close_and_resume"
    receipts: bool = False


NO_HISTORY = ChannelOptions(history_size=0, presence="off")

_by_pattern = msgspec.json.Decoder(dict[str, ChannelOptions])


class ChannelRules:
    """Of all patterns that match a name, the one with most literal characters says what holds; `*` stands for any."""

    def __init__(self, text: str = "") -> None:
        """`text`: a JSON object of options by pattern. Raises ValueError."""
        options = _by_pattern.decode(text) if text else {}
        longest_first = sorted(options.items(), key=lambda item: -len(item[0].replace("*", "")))
        self._rules = [(_compiled(pattern), chosen) for pattern, chosen in longest_first]
        self.of = lru_cache(maxsize=10_000)(self._of)

    def _of(self, channel: str) -> ChannelOptions:
        return next((options for pattern, options in self._rules if pattern.fullmatch(channel)), DEFAULT)


DEFAULT = ChannelOptions()


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
