"""How often, and from where: pure decisions about what a client may do."""

from collections.abc import Collection
from urllib.parse import urlsplit

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

    def wait(self, now: float) -> float:
        """Seconds until there is one."""
        self._fill(now)
        return max(0.0, (1 - self._tokens) / self._rate)

    def _fill(self, now: float) -> None:
        if now > self._seen_at:  # a clock that steps back gives nothing, and takes nothing
            self._tokens = min(self._burst, self._tokens + (now - self._seen_at) * self._rate)
            self._seen_at = now


def origin_allowed(origin: str | None, host: str, allowed: Collection[str]) -> bool:
    """Whether a page of this origin may open a WebSocket (RFC 6455, 10.2).

    None, from what is no browser, may. `allowed` holds origins, `https://*.example.com` for any name below, or `*`;
    empty, it means the same origin: the host and port that the request was sent to.
    """
    if origin is None or "*" in allowed:
        return True
    scheme, netloc = _split(origin)
    if not allowed:
        return bool(netloc) and netloc == _with_port(host.lower(), scheme)
    return any(_matches(scheme, netloc, origin, entry) for entry in allowed)


def _matches(scheme: str, netloc: str, origin: str, entry: str) -> bool:
    if not netloc or "://" not in entry:
        return origin.lower() == entry.lower()  # "null"
    wanted_scheme, wanted = _split(entry)
    if scheme != wanted_scheme:
        return False
    if wanted.startswith("*."):
        return netloc.endswith(wanted[1:]) and len(netloc) > len(wanted) - 1
    return netloc == wanted


def _split(origin: str) -> tuple[str, str]:
    """Scheme and host:port, lower case; an empty host for what is no origin."""
    try:
        parts = urlsplit(origin.lower())
    except ValueError:
        return "", ""
    return parts.scheme, _with_port(parts.netloc, parts.scheme) if parts.scheme in DEFAULT_PORTS else ""


def _with_port(netloc: str, scheme: str) -> str:
    has_port = netloc.rpartition("]")[2].rpartition(":")[1]
    return netloc if has_port or not netloc else f"{netloc}:{DEFAULT_PORTS.get(scheme, 80)}"
