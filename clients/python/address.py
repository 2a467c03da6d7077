"""Where a client connects to: its URL, and the token that it shows there."""

import re
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit

from wsd.client.ends import End

BEARER = "wsd.bearer"
"""The subprotocol after which the token stands. A browser cannot set headers, and URLs end up in logs."""

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What may stand in a list of subprotocols (RFC 9110, 5.6.2). JSON Web Tokens consist of such characters."""


def checked_url(url: str, query: Mapping[str, str], *, has_ssl: bool) -> str:
    """Return a URL with `query` added to its own.

    Raises ValueError for one that no WebSocket can be opened to.
    """
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - looking at it raises ValueError for a port that is no number, or too large
        (parts.hostname or "").encode("idna")
    except ValueError as exc:
        raise ValueError(f"this is no URL of a WebSocket: {url!r}: {exc}") from None
    if parts.scheme not in ("ws", "wss"):
        raise ValueError(f"the URL must begin with ws:// or wss://: {url!r}")
    if not parts.hostname:
        raise ValueError(f"the URL names no host: {url!r}")
    if parts.fragment or url.endswith("#"):
        raise ValueError(f"the URL must have no fragment (#...): {url!r}")
    if parts.username is not None:
        raise ValueError("the URL must contain no user and password; use token=... or additional_headers=...")
    if not all(" " < each != "\x7f" for each in url):
        raise ValueError(f"the URL must contain no spaces and no control characters: {url!r}")
    if has_ssl and parts.scheme == "ws":
        raise ValueError(f"ssl=... needs a URL that begins with wss://: {url!r}")
    return with_query(url, query)


def with_query(url: str, query: Mapping[str, str]) -> str:
    if not query:
        return url
    parts = urlsplit(url)
    both = [each for each in (parts.query, urlencode(query)) if each]
    return urlunsplit(parts._replace(query="&".join(both)))


def problem_with_token(token: object) -> str:
    """Return why a token cannot be sent, or "" for one that can."""
    if not isinstance(token, str):
        return f"the token must be a text, not {type(token).__name__}"
    if not TOKEN.fullmatch(token):
        return "the token contains characters that cannot be sent, such as spaces, commas or quotation marks"
    return ""


def impossible(reason: str) -> End:
    """Return the end of an attempt that would be the same the next time."""
    return End(reason=reason, final=True)
