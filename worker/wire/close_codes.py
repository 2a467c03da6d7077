"""Close codes (RFC 6455, 7.4), with what each one means to people and how it is counted."""

from enum import IntEnum
from typing import NamedTuple


class CloseCode(IntEnum):
    """Why a connection ended.

    Of our own codes, clients come back after 4000 to 4499 and stay away after 4500 to 4999.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005  # never sent: stands for a close frame without a code
    ABNORMAL = 1006  # never sent: stands for a connection that ended without a close frame
    INVALID_TEXT = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    RESTART = 1012
    SLOW_READER = 1013
    IDLE = 4000
    TOKEN_EXPIRED = 4401
    SESSION_ENDED = 4500


CLEAN_CODES = (CloseCode.NORMAL, CloseCode.GOING_AWAY)
"""Codes of a client that leaves on purpose: it is done, or its page was closed."""


class CodeMeaning(NamedTuple):
    """What a close code that the server sent says."""

    label: str  # of the metric, which must not change
    words: str = ""  # for people, as in `wsd trace`


OTHER = CodeMeaning("other")

MEANINGS: dict[int, CodeMeaning] = {
    CloseCode.NORMAL: CodeMeaning("goodbye"),
    CloseCode.GOING_AWAY: CodeMeaning("goodbye"),
    CloseCode.PROTOCOL_ERROR: CodeMeaning("other", "the client broke the WebSocket protocol"),
    CloseCode.ABNORMAL: CodeMeaning("lost"),
    CloseCode.INVALID_TEXT: CodeMeaning("invalid_text", "the client sent text that is not UTF-8"),
    CloseCode.POLICY: CodeMeaning("policy", "the client did something that is not allowed"),
    CloseCode.TOO_BIG: CodeMeaning("too_big", "the client's message was too large"),
    CloseCode.INTERNAL_ERROR: CodeMeaning("failed", "the client did not answer a ping, or the application failed"),
    CloseCode.RESTART: CodeMeaning("restart", "its worker stops, is replaced, or had too many connections"),
    CloseCode.SLOW_READER: CodeMeaning("slow_reader", "the client reads too slowly"),
    CloseCode.IDLE: CodeMeaning("idle", "the client sent nothing for too long"),
    CloseCode.TOKEN_EXPIRED: CodeMeaning(
        "token_expired", "the client's token has expired, it may come back with a new one"
    ),
    CloseCode.SESSION_ENDED: CodeMeaning("session_ended", "the session was ended, or resumed by another connection"),
}


def may_be_sent(code: int) -> bool:
    """Return whether a close frame may carry this code: a registered one, or one of an application (7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
