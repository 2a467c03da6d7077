"""Decide which server is the primary, by what the Sentinels say. Pure: no clock, no network.

Each failover has a number, the config epoch, which is higher than all before. A Sentinel that was down during a
failover comes back with the old primary and a lower epoch, until another one corrects it. So the highest epoch is
right, whoever names it, and however often a stale Sentinel repeats itself.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from wsd.worker.contract.redis_address import Place

FRESH_SECONDS = 30.0
"""How long a word counts after its Sentinel fell silent, once more than half of the others are heard.

Epochs begin anew where an operator removes a primary from the Sentinels and lets them monitor another one. The word of
a Sentinel that is gone for good must not outweigh the others for ever then.
"""


class Word(NamedTuple):
    """The word of one Sentinel about the primary."""

    place: Place
    epoch: int  # the config epoch of the failover that made this server the primary; 0 before the first one


class Heard(NamedTuple):
    """The last word of one Sentinel, and when it was heard, in seconds by a clock that does not go back."""

    word: Word
    at: float


def primary_place(current: Place | None, heard: Mapping[Place, Heard], sentinels: int, now: float) -> Place | None:
    """Return the address that is right.

    `current` is the address in use, if any. `heard` holds the last word of each Sentinel, by its address; `sentinels`
    says how many there are. None if nothing is known.
    """
    words = [one.word for one in heard.values() if now - one.at <= FRESH_SECONDS]
    if 2 * len(words) <= sentinels:
        words = [one.word for one in heard.values()]
    if not words:
        return current
    highest = max(word.epoch for word in words)
    votes = Counter(word.place for word in words if word.epoch == highest)
    most = max(votes.values())
    chosen = [place for place, count in votes.items() if count == most]
    return current if current in chosen else chosen[0]
