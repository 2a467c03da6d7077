"""How a connection ended: which side ended it, with which close code and reason."""

from enum import StrEnum
from typing import NamedTuple

from wsd.worker.wire.close_codes import CLEAN_CODES, MEANINGS, OTHER, CloseCode

LOST = "lost without a close frame: the client, a network or a proxy is gone"


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
                how = LOST
            case Side.UNKNOWN if self.code == CloseCode.ABNORMAL:
                how = LOST
            case Side.UNKNOWN:
                how = f"probably by the server: {words}" if words else "by the client"
        return f"{self.code} {how}" + (f" ({self.reason})" if self.reason else "")
