"""The address of a cluster: its URL, and the API key."""

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

URL_VARIABLE = "WSD_URL"
KEY_VARIABLE = "WSD_API_KEY"
DEFAULT_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Address:
    """A checked URL in its parts, and the key that is shown there."""

    url: str
    is_tls: bool
    host: str
    port: int
    prefix: str  # of all paths; "" or it begins with a slash
    api_key: str = field(repr=False)


def address(url: str | None, api_key: str | None) -> Address:
    """Return the address that was given, or else that of the environment.

    Raises ValueError for a URL or a key that cannot be used.
    """
    given = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
    key = api_key if api_key is not None else os.environ.get(KEY_VARIABLE, "")
    if not all("!" <= each <= "~" for each in key):
        raise ValueError(f"the API key ({KEY_VARIABLE}) must consist of visible ASCII characters")
    try:
        parts = urlsplit(given)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except ValueError as exc:
        raise ValueError(f"this is no URL ({URL_VARIABLE}): {given!r}: {exc}") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError(f"the URL ({URL_VARIABLE}) must begin with http:// or https://: {given!r}")
    if not parts.hostname:
        raise ValueError(f"the URL ({URL_VARIABLE}) names no host: {given!r}")
    if parts.username is not None:
        raise ValueError(f"the URL ({URL_VARIABLE}) must contain no user and password; use {KEY_VARIABLE}")
    if parts.query or parts.fragment:
        raise ValueError(f"the URL ({URL_VARIABLE}) must end before the ? or #: {given!r}")
    if not all("!" <= each <= "~" for each in parts.path):
        raise ValueError(f"the path of the URL ({URL_VARIABLE}) must be percent-encoded: {given!r}")
    is_tls = parts.scheme == "https"
    default_port = 443 if is_tls else 80
    return Address(given, is_tls, parts.hostname, port or default_port, parts.path.rstrip("/"), key)
