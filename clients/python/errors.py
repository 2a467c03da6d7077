"""Errors of the client library."""

from typing import Final

from wsd.worker.contract.errors import WsdError

TIMEOUT: Final = "timeout"
CLOSED: Final = "closed"
CANCELLED: Final = "cancelled"
QUEUE_FULL: Final = "queue_full"
TOO_BIG: Final = "too_big"
NOT_ENCODABLE: Final = "not_encodable"
UNANSWERED: Final = "unanswered"
NO_TOKEN: Final = "no_token"  # noqa: S105 - no password
INVALID_CHANNEL: Final = "invalid_channel"  # the hub has this code, too


class RequestError(WsdError):
    """A call that was not carried out, or of which the client does not know whether it was.

    `code` is for programs: one of the hub's error codes (docs/protocol.md), or one of the constants above, which
    docs/clients.md explains. The text is for people.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
