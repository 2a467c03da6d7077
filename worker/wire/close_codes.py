"""The ends of connections: close codes (RFC 6455, 7.4), their words for people, and their labels in metrics."""

from enum import IntEnum, StrEnum
from typing import NamedTuple


class CloseCode(IntEnum):
    """The code of a close frame (RFC 6455, 7.4), or of the end of a connection without one.

    Codes from 4000 on are ours: clients come back after 4000 to 4499, and stay away after 4500 to 4999.
    """

    NORMAL = 1000  # ends the session, too
    GOING_AWAY = 1001  # ends the session, too
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
    RESUME_TIMEOUT = 4408
    TOO_MANY = 4429
    SESSION_ENDED = 4500


SESSION_ENDED_REASON = "session ended"
"""The reason in a close frame with SESSION_ENDED, unless the application names another one."""

CLEAN_CODES = (CloseCode.NORMAL, CloseCode.GOING_AWAY)
"""Codes of a client that leaves on purpose: it is done, or its page was closed."""


class CodeMeaning(NamedTuple):
    """The meaning of a close code that the server sent."""

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
    CloseCode.IDLE: CodeMeaning("idle", "the client sent nothing but pings for too long"),
    CloseCode.TOKEN_EXPIRED: CodeMeaning(
        "token_expired", "the client's token has expired or cannot be used, it may come back with a new one"
    ),
    CloseCode.RESUME_TIMEOUT: CodeMeaning("other", "the client did not say in time which session it resumes"),
    CloseCode.TOO_MANY: CodeMeaning(
        "policy", "too many messages came from the client, or its user has too many connections"
    ),
    CloseCode.SESSION_ENDED: CodeMeaning("session_ended", "the session was ended, or resumed by another connection"),
}


def may_be_sent(code: int) -> bool:
    """Return whether a close frame may carry this code: a registered one, or one of an application (7.4)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


_LOST = "lost without a close frame: the client, a network or a proxy is gone"


class Side(StrEnum):
    """The side that ended a connection: the one that sent the first close frame."""

    CLIENT = "client"
    SERVER = "server"
    NETWORK = "network"  # no side sent a close frame
    UNKNOWN = "unknown"  # servers with another WebSocket protocol than ours report only the code


class Ending(NamedTuple):
    """The end of a connection. As a string, it is one line for people."""

    side: Side
    code: int
    reason: str

    @property
    def label(self) -> str:
        """The label of this ending in metrics: `goodbye`, `by_client`, `lost`, or why the server closed it."""
        if self.side is Side.CLIENT and self.code not in CLEAN_CODES:
            return "by_client"
        return MEANINGS.get(self.code, OTHER).label

    def __str__(self) -> str:
        words = MEANINGS.get(self.code, OTHER).words
        match self.side:
            case Side.CLIENT:
                how = "by the client"
            case Side.SERVER:
                how = f"by the server: {words}" if words else "by the server"
            case Side.NETWORK:
                how = _LOST
            case Side.UNKNOWN if self.code == CloseCode.ABNORMAL:
                how = _LOST
            case Side.UNKNOWN:
                how = f"probably by the server: {words}" if words else "by the client"
        return f"{self.code} {how}" + (f" ({self.reason})" if self.reason else "")
