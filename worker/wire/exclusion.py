"""The mark of a message that one connection does not get, such as the one that the message came from. Pure.

The mark is a digest of the session id. It stands at the end of the message's uid, where clients see it, too: they learn
nothing from it, since nobody can guess a session id.
"""

import hashlib

SEPARATOR = "!"

LENGTH = 32
"""The characters of a mark."""

_TAIL = LENGTH + 3
_SEPARATOR = SEPARATOR.encode()
UID_FIELD = b'"uid":"'


def mark_of(session_id: str) -> str:
    """Return the mark of a session."""
    return hashlib.blake2b(session_id.encode(), digest_size=LENGTH // 2).hexdigest()


def with_mark(uid: str, session_id: str) -> str:
    """Return a uid that says which session does not get the message."""
    return f"{uid}{SEPARATOR}{mark_of(session_id)}"


def without_mark(uid: bytes) -> bytes:
    """Return a uid as it was before `with_mark`."""
    return uid.partition(_SEPARATOR)[0]


def tail_of(mark: str) -> bytes:
    """Return the end of every encoded message that has a mark."""
    return f'{SEPARATOR}{mark}"}}'.encode()


def mark_in(payload: bytes) -> str:
    """Return the mark in an encoded `wire.Message`, whose last field is the uid; "" if there is none."""
    if payload[-_TAIL : 1 - _TAIL] != _SEPARATOR or not payload.endswith(b'"}'):
        return ""
    start = payload.rfind(UID_FIELD, 0, -_TAIL)
    if start < 0 or b'"' in payload[start + len(UID_FIELD) : -2]:
        return ""
    return payload[1 - _TAIL : -2].decode()
