"""The end of a connection, and what follows from it."""

from dataclasses import dataclass
from enum import Enum, auto

ABNORMAL = 1006
POLICY = 1008
TOO_BIG_CODE = 1009
IDLE = 4000
TOKEN_EXPIRED = 4401
FIRST_FINAL, LAST_FINAL = 4500, 4999

PERMANENT_STATUSES = frozenset({400, 401, 403, 404, 405, 410, 426})
"""HTTP statuses that a client gets again when it tries again, unless the server changes."""

WORDS = {
    1000: "the server closed the connection",
    1001: "the server went away",
    1005: "the server closed the connection",
    ABNORMAL: "the connection was lost",
    1011: "the server failed",
    1012: "the server restarts",
    1013: "the client read too slowly",
    IDLE: "the client was idle",
    TOKEN_EXPIRED: "the token has expired",
}


@dataclass(frozen=True)
class End:
    """The end of a WebSocket, or of an attempt to open one.

    `status` is that of an HTTP answer that refused the handshake, and `retry_after` the seconds that the answer asks
    for. `final` says that another attempt cannot do better, because the attempt was impossible.
    """

    code: int = ABNORMAL
    reason: str = ""
    status: int | None = None
    retry_after: float = 0.0
    final: bool = False

    @property
    def ends_session(self) -> bool:
        """True if the session is over, too, or goes on in another connection."""
        return FIRST_FINAL <= self.code <= LAST_FINAL

    def __str__(self) -> str:
        if self.status is not None:
            return f"the server refused the connection with HTTP {self.status}"
        return self.reason or WORDS.get(self.code, f"the connection ended with {self.code}")


class Sequel(Enum):
    """What a client does after the end of a connection."""

    COME_BACK = auto()
    WAIT_FOR_A_CALL = auto()
    STAY_AWAY = auto()


def sequel(end: End, *, token_is_fixed: bool, was_welcomed: bool) -> Sequel:
    """Return what a client does after an end.

    A client that was never welcomed stays away when the handshake was refused for good: its URL, its origin or its
    token is wrong. One that was welcomed before comes back, because the server is probably being changed.
    """
    if end.final or end.code == POLICY or end.ends_session:
        return Sequel.STAY_AWAY
    if end.code == TOKEN_EXPIRED and token_is_fixed:
        return Sequel.STAY_AWAY
    if end.status in PERMANENT_STATUSES and not was_welcomed:
        return Sequel.STAY_AWAY
    return Sequel.WAIT_FOR_A_CALL if end.code == IDLE else Sequel.COME_BACK
