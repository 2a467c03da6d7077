"""The interface of dialects. The rest of the worker knows messages and positions, and none of the formats."""

from abc import ABC, abstractmethod
from typing import ClassVar

from wsd.worker.wire.frames import TEXT
from wsd.worker.wire.messages import LeaveReason, Welcome
from wsd.worker.wire.position import Position


class Dialect(ABC):
    """The format in which some of the clients are told what happens.

    Each method returns the payload of one WebSocket message, or None if clients of this dialect are not told. Nothing
    is known of the client, since what a method returns is sent to all clients of the dialect that it concerns.

    No method raises: a dialect leaves out what it cannot render.

    The answers to requests are not here. They are rendered where the requests are read (`clients.client`).
    """

    __slots__ = ()

    opcode: int = TEXT
    """The opcode of all messages: TEXT or BINARY."""

    resumable: ClassVar[bool] = True
    """Whether a client may come back to its session. Otherwise the session ends with the connection."""

    shows_client_ids: ClassVar[bool] = False
    """Whether messages of a client of this dialect have the id of its connection, so that it can tell its own."""

    ping_frame: bytes | None = None
    """The frame with which the server asks whether a client is there. None: that of a WebSocket ping.

    A WebSocket ping shows the program of a page nothing.
    """

    # To the members of a channel

    @abstractmethod
    def published(self, payload: bytes, channel: str, at: Position | None) -> bytes | None:
        """Render what was published in a channel: a message, or who has joined and left.

        `payload`: as workers publish it, an encoded `wire.Message` or `wire.PresenceChanged`. In a channel without a
        history it may be any text. `channel`: its name among workers, "" for a message to one connection. `at`: the
        position of the message, None if it has none.
        """

    @abstractmethod
    def position(self, channel: str, at: Position) -> bytes | None:
        """Render the position of a message that was sent without one, or that is not sent to this client."""

    @abstractmethod
    def gap(self, channel: str, reason: str, at: Position) -> bytes | None:
        """Render that messages are missing in a channel, and that the client is now at this position."""

    # To one client

    @abstractmethod
    def welcome(self, welcome: Welcome) -> bytes | None:
        """Render the first message to a client that has connected."""

    @abstractmethod
    def joined(self, channel: str, at: Position | None) -> bytes | None:
        """Render that the server has put the client into a channel, which is at this position."""

    @abstractmethod
    def left(self, channel: str, reason: LeaveReason) -> bytes | None:
        """Render that the server has taken the client out of a channel."""

    def closing(self, code: int, reason: str) -> tuple[int, str]:
        """Return the code and the reason of the close frame, for an end with one of `CloseCode`, or of an application.

        By default they are sent as they are.
        """
        return code, reason
