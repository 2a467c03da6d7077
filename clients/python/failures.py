"""Why a WebSocket could not be opened or has ended, in words for people."""

import errno
import socket
import ssl
import time
from datetime import UTC
from email.utils import parsedate_to_datetime

from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidProxy,
    InvalidStatus,
    NegotiationError,
    ProxyError,
    WebSocketException,
)

from wsd.client.address import impossible
from wsd.client.ends import ABNORMAL, End

HANDSHAKE_ERRORS = (OSError, WebSocketException, EOFError, ValueError, ImportError)
"""What a failed attempt raises. ValueError and ImportError come from the settings of proxies in the environment."""


def end_of_connection(exc: ConnectionClosed) -> End:
    """Return how an open WebSocket has ended."""
    if exc.rcvd is not None:
        return End(exc.rcvd.code, exc.rcvd.reason)
    if exc.sent is not None:  # this side has found a fault
        return End(ABNORMAL, f"the server broke the WebSocket protocol: {exc.sent.reason or exc.sent.code}")
    return End(ABNORMAL)


def end_of_attempt(exc: BaseException, host: str) -> End:
    """Return how an attempt to open a WebSocket to `host` has ended."""
    if isinstance(exc, InvalidStatus):
        headers = exc.response.headers
        return End(status=exc.response.status_code, retry_after=retry_after(headers.get("Retry-After"), time.time()))
    if isinstance(exc, InvalidProxy | ImportError):
        return impossible(f"the proxy of the environment cannot be used: {exc}")
    return End(reason=reason(exc, host))


def reason(exc: BaseException, host: str) -> str:
    if isinstance(exc, InvalidHandshake) and isinstance(exc.__cause__, EOFError | ConnectionError):
        exc = exc.__cause__
    match exc:
        case socket.gaierror():
            return f"the host {host} was not found: {exc.strerror}"
        case ssl.SSLCertVerificationError():
            return f"the certificate of {host} is not trusted: {exc.verify_message}"
        case ssl.SSLError():
            return f"TLS with {host} failed: {exc.reason or exc}"
        case ConnectionRefusedError():
            return f"{host} refused the connection"
        case ConnectionError() | EOFError():
            return f"{host} closed the connection during the handshake"
        case ProxyError():
            return f"the proxy failed: {exc}"
        case OSError() if every_address_refused(exc):
            return f"{host} refused the connection"
        case OSError():
            return f"{host} cannot be reached: {exc.strerror or exc}"
        case NegotiationError():
            return f"{host} answered the handshake with what was not asked for: {exc}"
        case InvalidHandshake():
            return f"{host} gave no valid answer to the handshake: {exc.__cause__ or exc}"
    return f"the connection to {host} failed: {exc}"


def every_address_refused(exc: OSError) -> bool:
    """Return whether an error of asyncio joins several errors into a text, and all of them say so.

    `localhost` has two addresses.
    """
    text = str(exc)
    return "[Errno" in text and text.count("[Errno") == text.count(f"[Errno {errno.ECONNREFUSED}]")


def retry_after(value: str | None, now: float) -> float:
    """Return the seconds that the header Retry-After asks for, 0 if it asks for nothing. `now`: seconds since 1970.

    The header has seconds, or a date (RFC 9110, 10.2.3).
    """
    if value is None:
        return 0.0
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)
