"""The handle of a WebSocket, for more than ASGI can do, under a server that uses our protocol."""

from collections.abc import Mapping
from typing import Any, Protocol

from wsd.worker.delivery.outbox import Outbox

EXTENSION = "wsd.websocket"
"""The key of the WebSocketHandle in `scope["extensions"]`."""

LAST_WORDS_SECONDS = 1.0
"""How long a receiver may still answer what a client sent before its end."""


class Receiver(Protocol):
    """Receives what a client sends. Its methods are called by the protocol and must not block."""

    def received(self, content: str | bytes) -> None:
        """Handle a message: text as str, binary as bytes."""

    def controlled(self) -> bool:
        """Count a ping or a pong. Return whether it is within the rate at which this client may send."""

    def ended(self, code: int, reason: str) -> bool:
        """Handle the end of the connection. Called once.

        Return whether everything that was received before has been answered. A receiver that returns False must call
        `WebSocketHandle.answered` when that has happened. After LAST_WORDS_SECONDS the connection ends anyway.
        """


class WebSocketHandle(Protocol):
    """A WebSocket that can be served without a task, by a receiver that is called for each message."""

    outbox: Outbox

    def hand_off(self, receiver: Receiver) -> None:
        """Let `receiver` get what the client sends from now on, beginning with what the application has not received.

        The application may then return: the connection stays open without a task.
        """

    def answered(self) -> None:
        """Complete the closing handshake, once everything that the client sent before its end is answered."""

    def pause_reading(self) -> None:
        """Read nothing more from the client, until `resume_reading`."""

    def resume_reading(self) -> None: ...


def handle_of(scope: Mapping[str, Any]) -> WebSocketHandle | None:
    """Return the handle of a WebSocket, or None under a server with another protocol than ours.

    Without a handle, `Outbox.pump` sends what the outbox has.
    """
    handle: WebSocketHandle | None = scope.get("extensions", {}).get(EXTENSION)
    return handle
