"""The rules for the settings of webhooks. Pure."""

import base64
import binascii
from typing import Literal, get_args
from urllib.parse import urlsplit

EventType = Literal["connected", "disconnected", "subscribed", "unsubscribed"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)
"""The events that webhooks may carry."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - the same for all
"""The beginning of a secret, as Standard Webhooks has it. The key in base64 follows."""

SHORTEST_KEY, LONGEST_KEY = 24, 64
"""The bytes that a key may have, as Standard Webhooks says."""


def signing_key(secret: str) -> bytes:
    """Return the key in a secret. Raises ValueError with the rest of a sentence that begins with its setting."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not SHORTEST_KEY <= len(key) <= LONGEST_KEY:
        raise ValueError(
            f'must be "{SECRET_PREFIX}" and {SHORTEST_KEY} to {LONGEST_KEY} bytes in base64, '
            'as echo "whsec_$(openssl rand -base64 32)" makes it'
        )
    return key


def url_problem(url: str) -> str | None:
    """Say why webhooks cannot be posted to a URL, or return None."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as exc:
        return f"is no URL: {exc}"
    if parts.scheme not in ("http", "https") or not host or port == 0:
        return 'must be a URL like "https://example.com/webhooks"'
    if parts.username is not None or parts.password is not None:
        return "must have no user and no password: the receiver checks the signature"
    if not url.isascii() or any(character.isspace() or not character.isprintable() for character in url):
        return "must be ASCII without blanks: write other characters as %xx, and other host names as xn--"
    return None
