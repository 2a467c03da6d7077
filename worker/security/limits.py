"""Limits on rates and origins. No I/O."""

import re
from collections.abc import Collection
from typing import NamedTuple

DEFAULT_PORTS = {"http": 80, "https": 443}


class TokenBucket:
    """A bucket that gains `rate` tokens a second and holds up to `burst`: messages, bytes or handshakes."""

    __slots__ = ("_burst", "_rate", "_seen_at", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """Begin with a full bucket. Times are by any clock, in seconds.

        Raises ValueError unless rate and burst are above 0.
        """
        if rate <= 0 or burst <= 0:
            raise ValueError(f"rate and burst must be above 0, got {rate:g} and {burst:g}")
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._seen_at = now

    def take(self, now: float, amount: float = 1) -> bool:
        """Take `amount` tokens. Return False, and take none, if there are too few.

        The bucket never holds more than `burst`. A larger amount needs a full bucket, and is owed beyond that.
        """
        self._fill(now)
        if self._tokens < min(amount, self._burst):
            return False
        self._tokens -= amount
        return True

    def owe(self, now: float, amount: float) -> None:
        """Take `amount` tokens even if there are too few. Later calls of `take` wait for them."""
        self._fill(now)
        self._tokens -= amount

    def wait(self, now: float) -> float:
        """Return the seconds until there is a token."""
        self._fill(now)
        return max(0.0, (1 - self._tokens) / self._rate)

    def _fill(self, now: float) -> None:
        if now > self._seen_at:  # a clock that steps back changes nothing
            self._tokens = min(self._burst, self._tokens + (now - self._seen_at) * self._rate)
            self._seen_at = now


def origin_allowed(origin: str | None, host: str, allowed: Collection[str], scheme: str = "http") -> bool:
    """Return whether a page of this origin may open a WebSocket (RFC 6455, 10.2).

    None is allowed, since clients without an Origin header are not browsers. `allowed` holds origins,
    `https://*.example.com` for any name below it, or `*`. If it is empty, only the origin of the request itself is
    allowed: its `scheme`, host and port.

    A page that was loaded by https may also open a WebSocket that seems to be plain. Browsers do not allow that, so a
    proxy in between ends TLS. A plain page may not open a secure WebSocket: an attacker could have changed the page.
    """
    if origin is None or "*" in allowed:
        return True
    found = _parse(origin) if "*" not in origin else None
    if not allowed:
        if found is None or (scheme == "https" and found.scheme == "http"):
            return False
        return found == _parse(f"{found.scheme}://{host}")
    return any(_matches(origin, found, entry) for entry in allowed)


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int


_ORIGIN = re.compile(r"(https?)://((?:\*\.)?[\w.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")


def _parse(origin: str) -> _Origin | None:
    """Parse an origin into its parts, in lower case. Return None for anything but a web page, such as "null"."""
    found = _ORIGIN.fullmatch(origin.lower())
    if found is None:
        return None
    scheme, host, port = found.groups()
    return _Origin(scheme, host, int(port) if port else DEFAULT_PORTS[scheme])


def _matches(origin: str, found: _Origin | None, entry: str) -> bool:
    wanted = _parse(entry)
    if wanted is None:
        return origin.lower() == entry.lower()  # "null"
    if found is None:
        return False
    if wanted.host.startswith("*."):
        below = wanted.host[1:]
        return found._replace(host="") == wanted._replace(host="") and (
            found.host.endswith(below) and len(found.host) > len(below)
        )
    return found == wanted
