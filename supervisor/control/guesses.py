"""Wrong tokens are counted, of each address and of all together: a token cannot be found by trying. Pure."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class Allowance:
    """Wrong guesses: `burst` at once, then one every `seconds`."""

    burst: int
    seconds: float


OF_ONE_ADDRESS = Allowance(burst=5, seconds=10.0)
OF_ALL = Allowance(burst=50, seconds=1.0)

ALL = "all addresses"
IPV6_PREFIX = 64
"""Bits of an IPv6 address that its network gives out as one: its user can have any address below them."""


class Burst(StrEnum):
    """What a wrong guess means for those of its address, worth an event."""

    BEGINS = "begins"
    LIMITED = "limited"


@dataclass
class _Guesses:
    forgotten_at: float  # when all of them are made up for
    limited: bool = False  # it was said that they are too many


class GuessLimit:
    """Token buckets for wrong guesses; times by the caller's monotonic clock.

    An address has an entry only while its wrong guesses count, and there are never more of these than the limit for
    all lets through.
    """

    def __init__(self) -> None:
        self._guesses: dict[str, _Guesses] = {}

    def __len__(self) -> int:
        return len(self._guesses)

    def wait(self, address: str, now: float) -> float:
        """Return for how many seconds this address must not guess, 0.0 if it may now."""
        return max(self._wait(_bucket(address), OF_ONE_ADDRESS, now), self._wait(ALL, OF_ALL, now))

    def wrong(self, address: str, now: float) -> list[tuple[str, Burst]]:
        """Count a wrong guess, and return what is to be told: of whom, and what."""
        self._guesses = {name: guesses for name, guesses in self._guesses.items() if guesses.forgotten_at > now}
        told = []
        for name, allowance in ((_bucket(address), OF_ONE_ADDRESS), (ALL, OF_ALL)):
            if name not in self._guesses and name != ALL:
                told.append((name, Burst.BEGINS))
            guesses = self._guesses.setdefault(name, _Guesses(now))
            guesses.forgotten_at += allowance.seconds
            if not guesses.limited and self._wait(name, allowance, now) > 0:
                guesses.limited = True
                told.append((name, Burst.LIMITED))
        return told

    def _wait(self, name: str, allowance: Allowance, now: float) -> float:
        guesses = self._guesses.get(name)
        if guesses is None:
            return 0.0
        return max(0.0, guesses.forgotten_at - now - (allowance.burst - 1) * allowance.seconds)


def _bucket(address: str) -> str:
    """Return who counts as one: an IPv4 address, or an IPv6 network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "an unknown address"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
    return str(parsed)
