"""How often, and from where: pure decisions about what a client may do."""

import re
from collections.abc import Collection
from typing import NamedTuple

DEFAULT_PORTS = {"http": 80, "https": 443}


class TokenBucket:
    """`rate` tokens a second, `burst` at most; a token is one message, one byte, or one handshake."""

    __slots__ = ("_burst", "_rate", "_seen_at", "_tokens")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        """Full at first. Raises ValueError unless both are above 0."""
        if rate <= 0 or burst <= 0:
            raise ValueError(f"rate and burst must be above 0, got {rate:g} and {burst:g}")
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._seen_at = now

    def take(self, now: float, amount: float = 1) -> bool:
        """Take so many tokens, if they are there.

        More than `burst` are never there: whoever wants them waits for a full bucket, and owes the rest.
        """
        self._fill(now)
        if self._tokens < min(amount, self._burst):
            return False
        self._tokens -= amount
        return True

    def owe(self, now: float, amount: float) -> None:
        """Take so many tokens even if they are not there: what is taken next waits for them."""
        self._fill(now)
        self._tokens -= amount

    def wait(self, now: float) -> float:
        """Seconds until there is one."""
        self._fill(now)
        return max(0.0, (1 - self._tokens) / self._rate)

    def _fill(self, now: float) -> None:
        if now > self._seen_at:  # a clock that steps back gives nothing, and takes nothing
            self._tokens = min(self._burst, self._tokens + (now - self._seen_at) * self._rate)
            self._seen_at = now


def origin_allowed(origin: str | None, host: str, allowed: Collection[str], scheme: str = "http") -> bool:
    """Whether a page of this origin may open a WebSocket (RFC 6455, 10.2).

    None, from what is no browser, may. `allowed` holds origins, `https://*.example.com` for any name below, or `*`;
    empty, it means the same origin: `scheme`, host and port that the request was sent to.

    A page that came by https may also open what seems to be plain: browsers allow no such thing, so that there is a
    proxy in between that ends TLS. The other way is refused: whoever changes a plain page on its way would be in.
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
    """Scheme, host and port, in lower case; None for what no browser sends for a page of the web, such as "null"."""
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
