"""How a connection ended: which side ended it, and with which close code. Pure."""

from enum import StrEnum
from typing import NamedTuple

from wsd.worker.wire.messages import CloseCode

GOODBYES = (CloseCode.GOODBYE, CloseCode.GOING_AWAY)
"""Close codes of a client that leaves on purpose: done, or its page is closed (RFC 6455, 7.4.1)."""


class Side(StrEnum):
    """Who ended a connection: whoever sent the first close frame, or nobody where there was none."""

    CLIENT = "client"
    SERVER = "server"
    NETWORK = "network"
    UNKNOWN = "unknown"  # a server with another WebSocket protocol than ours tells the code alone


class Ending(NamedTuple):
    side: Side
    code: int
    reason: str

    @property
    def label(self) -> str:
        """Return how it is counted: `goodbye`, `by_client`, `lost`, or why the server closed it."""
        if self.code in GOODBYES:
            return "goodbye"
        if self.side is Side.CLIENT:
            return "by_client"
        try:
            return CloseCode(self.code).name.lower()
        except ValueError:
            return "other"

    def __str__(self) -> str:
        meaning = MEANINGS.get(self.code)
        match self.side:
            case Side.CLIENT:
                how = "by the client"
            case Side.SERVER:
                how = f"by the server: {meaning}" if meaning else "by the server"
            case Side.NETWORK:
                how = LOST
            case Side.UNKNOWN if self.code == CloseCode.LOST:
                how = LOST
            case Side.UNKNOWN:
                how = f"probably by the server: {meaning}" if meaning else "by the client"
        return f"{self.code} {how}" + (f" ({self.reason})" if self.reason else "")


LOST = "lost without a close frame: the client, a network or a proxy is gone"

MEANINGS: dict[int, str] = {
    CloseCode.INVALID_TEXT: "it sent what is not UTF-8",
    CloseCode.POLICY: "it did what it may not",
    CloseCode.TOO_BIG: "its message was too large",
    CloseCode.RESTART: "its worker stops, is replaced, or has too many",
    CloseCode.SLOW_READER: "it reads too slowly",
    CloseCode.IDLE: "it said nothing for too long",
    CloseCode.TOKEN_EXPIRED: "its token has expired, it may come back with a new one",
    CloseCode.SESSION_ENDED: "its session was ended, or resumed by another connection",
    1002: "it broke the WebSocket protocol",
    CloseCode.FAILED: "no answer to a ping, or its application raised",
}
