"""The API keys of a cluster, and what each of them may do: one decision, without I/O and without a clock."""

import hmac
from collections.abc import Iterable
from typing import get_args

import msgspec
from msgspec import Struct

from wsd.worker.contract.api_keys import ALL_CHANNELS, OF_ALL_CHANNELS, Right
from wsd.worker.contract.channel_rules import ChannelPattern


class _Section(Struct, frozen=True):
    key: str
    rights: tuple[Right, ...]
    channels: tuple[str, ...]


class ApiKey(Struct, frozen=True):
    """The rights of the holder of a key: some kinds of requests, in the channels that one of the patterns matches."""

    name: str
    rights: frozenset[Right]
    channels: tuple[ChannelPattern, ...]

    @property
    def is_for_all_channels(self) -> bool:
        return any(pattern.text == ALL_CHANNELS for pattern in self.channels)


def unlimited(name: str) -> ApiKey:
    """Return a key that may do everything."""
    return ApiKey(name, frozenset(get_args(Right)), (ChannelPattern(ALL_CHANNELS),))


class ApiKeys:
    """The keys of a cluster, by their secrets: `security.api_key`, and those of the sections [api_keys.NAME]."""

    def __init__(self, api_key: str, sections: str = "") -> None:
        """`api_key`: the secret that may do everything, or "". `sections`: a JSON object of sections by name, or "".

        Raises ValueError for a text that is not one.
        """
        found = msgspec.json.decode(sections, type=dict[str, _Section]) if sections else {}
        self._keys = [
            (section.key, ApiKey(name, frozenset(section.rights), tuple(map(ChannelPattern, section.channels))))
            for name, section in found.items()
        ]
        if api_key:
            self._keys.append((api_key, unlimited("security.api_key")))

    def __bool__(self) -> bool:
        """Tell whether there is any key, so that the API is on."""
        return bool(self._keys)

    def find(self, secret: str) -> ApiKey | None:
        """Return the key with a secret, or None. Every key is compared, in constant time."""
        found = [key for known, key in self._keys if known and hmac.compare_digest(known.encode(), secret.encode())]
        return found[0] if found else None


def refusal(key: ApiKey, right: Right, channels: Iterable[str] = ()) -> str | None:
    """Say why a key does not allow a request, or return None if it does.

    `channels`: those that the request concerns. A message to one user concerns the channel "direct", and one to
    everybody the channel "broadcast". A request with a right of OF_ALL_CHANNELS needs a key for all channels.
    """
    concerned = tuple(dict.fromkeys(channels))
    if right not in key.rights:
        where = f" in the channel {concerned[0]!r}" if concerned else ""
        return f"the API key {key.name!r} has no right {right!r}{where}"
    if right in OF_ALL_CHANNELS and not key.is_for_all_channels:
        return f"the API key {key.name!r} has the right {right!r} only with channels = [{ALL_CHANNELS!r}]"
    for channel in concerned:
        if not any(pattern.matches(channel) for pattern in key.channels):
            return f"the API key {key.name!r} has no right {right!r} in the channel {channel!r}"
    return None
