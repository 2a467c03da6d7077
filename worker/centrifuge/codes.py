"""The error codes and close codes of the Centrifuge protocol, and how wsd's own become theirs. Pure.

Source: github.com/centrifugal/centrifuge, errors.go, disconnect.go and unsubscribe.go.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from wsd.worker.centrifuge.messages import Error
from wsd.worker.wire.close_codes import CloseCode, may_be_sent

INTERNAL = Error(code=100, message="internal server error", temporary=True)
PERMISSION_DENIED = Error(code=103, message="permission denied")
METHOD_NOT_FOUND = Error(code=104, message="method not found")
ALREADY_SUBSCRIBED = Error(code=105, message="already subscribed")
LIMIT_EXCEEDED = Error(code=106, message="limit exceeded")
BAD_REQUEST = Error(code=107, message="bad request")
NOT_AVAILABLE = Error(code=108, message="not available")
TOKEN_EXPIRED = Error(code=109, message="token expired")
EXPIRED = Error(code=110, message="expired")
TOO_MANY_REQUESTS = Error(code=111, message="too many requests", temporary=True)
UNRECOVERABLE_POSITION = Error(code=112, message="unrecoverable position")

_ERRORS: Mapping[str, Error] = {
    "byte_rate_limited": TOO_MANY_REQUESTS,
    "channel_full": LIMIT_EXCEEDED,
    "forbidden": PERMISSION_DENIED,
    "internal_error": INTERNAL,
    "invalid_channel": BAD_REQUEST,
    "invalid_json": BAD_REQUEST,
    "invalid_request": BAD_REQUEST,
    "invalid_token": PERMISSION_DENIED,
    "invalid_user": BAD_REQUEST,
    "no_function": NOT_AVAILABLE,
    "no_history": NOT_AVAILABLE,
    "no_presence": NOT_AVAILABLE,
    "no_receipts": NOT_AVAILABLE,
    "not_stored": INTERNAL,
    "rate_limited": TOO_MANY_REQUESTS,
    "refused": PERMISSION_DENIED,
    "token_needed": PERMISSION_DENIED,
    "too_big": BAD_REQUEST,
    "too_deep": BAD_REQUEST,
    "too_many_channels": LIMIT_EXCEEDED,
    "unavailable": INTERNAL,
    "unrecoverable_position": UNRECOVERABLE_POSITION,
    "unknown_type": METHOD_NOT_FOUND,
}

APPLICATION_ERROR = 400
"""The code of an error that a function of the application has named with a word of its own. 400 to 1999 are theirs."""


def error_for(code: str, message: str) -> Error:
    """Return the error that tells a client of this protocol what a code of wsd's (`ErrorCode`) tells its own.

    `message`: the text for people.
    """
    known = _ERRORS.get(code)
    if known is None:
        return Error(code=APPLICATION_ERROR, message=f"{code}: {message}")
    return Error(code=known.code, message=message or known.message, temporary=known.temporary)


class Unsubscribed(IntEnum):
    """The codes with which the server ends a subscription. From 2500 on, the client subscribes again."""

    BY_SERVER = 2000
    INSUFFICIENT_STATE = 2500
    EXPIRED = 2501


class Close(NamedTuple):
    """A close frame. The reason is never empty, since the client in JavaScript comes back after an empty one."""

    code: int
    reason: str


SHUTDOWN = Close(3001, "shutdown")
SERVER_ERROR = Close(3004, "internal server error")
CONNECTION_EXPIRED = Close(3005, "connection expired")
SLOW = Close(3008, "slow")
TOO_MANY = Close(3013, "too many requests")
INVALID_TOKEN = Close(3500, "invalid token")
BAD_REQUEST_CLOSE = Close(3501, "bad request")
STALE = Close(3502, "stale")
FORCE_DISCONNECT = Close(3503, "force disconnect")
CONNECTION_LIMIT = Close(3504, "connection limit")

_CLOSES: Mapping[int, Close] = {
    CloseCode.INVALID_TEXT: BAD_REQUEST_CLOSE,
    CloseCode.POLICY: INVALID_TOKEN,
    CloseCode.INTERNAL_ERROR: SERVER_ERROR,
    CloseCode.RESTART: SHUTDOWN,
    CloseCode.SLOW_READER: SLOW,
    CloseCode.TOKEN_EXPIRED: CONNECTION_EXPIRED,
    CloseCode.TOO_MANY: TOO_MANY,
    CloseCode.SESSION_ENDED: FORCE_DISCONNECT,
}


def close_for(code: int, reason: str) -> Close:
    """Return the close frame that has the effect on a client of this protocol that wsd's close code has on its own.

    A client comes back after 3000 to 3499 and 4000 to 4499, and stays away after 3500 to 3999 and 4500 to 4999. After
    a registered code below 3000 it comes back, so that one after which wsd's own clients stay away must not be sent.
    A reason in the form of JSON would be read as an old kind of advice, and is left out.
    """
    if (known := _CLOSES.get(code)) is not None:
        return Close(known.code, _plain(reason) or known.reason)
    if not may_be_sent(code):
        return SERVER_ERROR
    return Close(code, _plain(reason) or "closed by the server")


def _plain(reason: str) -> str:
    return "" if reason.lstrip().startswith("{") else reason
