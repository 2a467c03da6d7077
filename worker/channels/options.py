"""The options of channels, chosen by patterns of their names. Pure."""

from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from wsd.worker.contract.channel_rules import Allowed, ChannelPattern
from wsd.worker.delivery.batch import SlowReaders
from wsd.worker.security.channel_access import OPEN, ChannelAccess
from wsd.worker.wire.channel_names import BROADCAST, DIRECT, is_channel

UNNUMBERED_PREFIX = "~"
"""The beginning of the names of channels whose applications have a protocol of their own. Nothing is added to their
messages, and nothing is kept of them. No client of the hub can name such a channel."""

NUMBERED_PREFIX = "="
"""The beginning of the names of such channels with a history. The rest of the name is matched with the patterns."""


class ChannelOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a channel: what is kept of it, what its members are told, and what clients may do in it."""

    history_size: int = 1000  # messages kept; 0: none
    history_ttl_seconds: float = 300.0  # how long after the last message all are forgotten
    archive: bool = False  # whether PostgreSQL keeps every message
    presence: Literal["off", "snapshot", "events"] = "snapshot"
    max_members: int = 0  # on one worker; 0: no limit
    slow_readers: SlowReaders = "close_and_resume"
    receipts: bool = False
    allow_subscribe: Allowed = "anyone"
    allow_publish: Allowed = "anyone"
    allow_history: Allowed = "anyone"
    allow_presence: Allowed = "anyone"


DEFAULT = ChannelOptions()
NO_HISTORY = ChannelOptions(history_size=0, presence="off")

_by_pattern = msgspec.json.Decoder(dict[str, ChannelOptions])


class ChannelRules:
    """Options by patterns of channel names, in which `*` and `{user_id}` stand for any text.

    Of all patterns that match a name, the one with the most literal characters counts; of two with equally many, the
    one with `{user_id}`.
    """

    def __init__(self, text: str = "", *, client_broadcasts: bool = True, client_directs: bool = True) -> None:
        """`text`: a JSON object of options by pattern. `client_broadcasts` and `client_directs`: whether clients may
        send messages to everybody, and to one user, if the options allow it.

        Raises ValueError for a text that is not one.
        """
        options = _by_pattern.decode(text) if text else {}
        rules = [_Rule(ChannelPattern(pattern), chosen, _access(chosen)) for pattern, chosen in options.items()]
        self.archives = any(chosen.archive for chosen in options.values())
        """Whether any channel is archived."""

        self._rules = sorted(rules, key=lambda rule: rule.pattern.precision, reverse=True)
        self._closed = {BROADCAST: not client_broadcasts, DIRECT: not client_directs}
        # The first and the last are asked for every message.
        self.of = lru_cache(maxsize=10_000)(self._of)
        self.access = lru_cache(maxsize=10_000)(self._access_to)
        self.open_to_publish = lru_cache(maxsize=10_000)(self._open_to_publish)

    def _of(self, channel: str) -> ChannelOptions:
        if channel.startswith(UNNUMBERED_PREFIX):
            return NO_HISTORY
        rule = self._rule(channel.removeprefix(NUMBERED_PREFIX))
        return rule.options if rule is not None else DEFAULT

    def _access_to(self, channel: str) -> ChannelAccess:
        """Return who may do what in a channel. A broadcast is published in BROADCAST, a direct message in DIRECT.

        A channel that no client of the hub can name is the application's, and has no rules.
        """
        if not is_channel(channel) and channel not in self._closed:
            return OPEN
        rule = self._rule(channel)
        access = rule.access if rule is not None else OPEN
        if rule is not None and (owner := rule.pattern.owner(channel)) is not None:
            # These two belong to no user, whatever name a user has.
            access = replace(access, owner="" if channel in self._closed else owner)
        return replace(access, publish="server") if self._closed.get(channel) else access

    def _open_to_publish(self, channel: str) -> bool:
        """Return whether clients may use a channel of this name, and each of them may publish in it.

        The name must have MAX_CHANNEL_LENGTH characters at most, since the answer is kept.
        """
        return is_channel(channel) and self.access(channel).is_open("publish")

    def _rule(self, channel: str) -> "_Rule | None":
        return next((rule for rule in self._rules if rule.pattern.matches(channel)), None)


class _Rule(NamedTuple):
    pattern: ChannelPattern
    options: ChannelOptions
    access: ChannelAccess  # without an owner


def _access(options: ChannelOptions) -> ChannelAccess:
    return ChannelAccess(
        subscribe=options.allow_subscribe,
        publish=options.allow_publish,
        history=options.allow_history,
        presence=options.allow_presence,
    )
