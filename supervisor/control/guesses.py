"""A limit for wrong tokens, per address and for all addresses together, so that no token is found by trying. Pure."""

import ipaddress
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class Allowance:
    """The number of wrong guesses that are allowed: `burst` at once, then one every `seconds`."""

    burst: int
    seconds: float


OF_ONE_ADDRESS = Allowance(burst=5, seconds=10.0)
OF_ALL = Allowance(burst=50, seconds=1.0)

ALL = "all addresses"
IPV6_PREFIX = 64
"""The bits of an IPv6 address that one customer shares: all addresses below them belong to the same user."""


class Burst(StrEnum):
    """A turning point in a series of wrong guesses that is worth an event."""

    BEGINS = "begins"  # the first wrong guess of an address
    LIMITED = "limited"  # further guesses have to wait


@dataclass
class _Guesses:
    forgotten_at: float  # when none of them counts any more
    limited: bool = False  # LIMITED was reported


class GuessLimit:
    """Token buckets for wrong guesses. All times are by the monotonic clock of the caller, in seconds.

    An address has an entry only while its wrong guesses count. The limit for all addresses together bounds the number
    of entries.
    """

    def __init__(self) -> None:
        self._guesses: dict[str, _Guesses] = {}

    def __len__(self) -> int:
        return len(self._guesses)

    def wait(self, address: str, now: float) -> float:
        """Return how long this address has to wait before its next guess, 0.0 if it may guess now."""
        return max(self._wait(_bucket(address), OF_ONE_ADDRESS, now), self._wait(ALL, OF_ALL, now))

    def wrong(self, address: str, now: float) -> list[tuple[str, Burst]]:
        """Count a wrong guess, and return the events to report, each with the name of the address or of all."""
        self._guesses = {name: guesses for name, guesses in self._guesses.items() if guesses.forgotten_at > now}
        events = []
        for name, allowance in ((_bucket(address), OF_ONE_ADDRESS), (ALL, OF_ALL)):
            if name not in self._guesses and name != ALL:
                events.append((name, Burst.BEGINS))
            guesses = self._guesses.setdefault(name, _Guesses(now))
            guesses.forgotten_at += allowance.seconds
            if not guesses.limited and self._wait(name, allowance, now) > 0:
                guesses.limited = True
                events.append((name, Burst.LIMITED))
        return events

    def _wait(self, name: str, allowance: Allowance, now: float) -> float:
        guesses = self._guesses.get(name)
        if guesses is None:
            return 0.0
        return max(0.0, guesses.forgotten_at - now - (allowance.burst - 1) * allowance.seconds)


def _bucket(address: str) -> str:
    """Return the name under which an address is counted: the IPv4 address, or the IPv6 network."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "an unknown address"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, IPV6_PREFIX), strict=False))
    return str(parsed)
