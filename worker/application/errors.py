"""The errors of `Cluster` and `Client`."""

from starlette.exceptions import WebSocketException

from wsd.worker.errors import ChannelFullError, WorkerError
from wsd.worker.wire.close_codes import CloseCode


class WorkerNotRunningError(WorkerError):
    """The error in a process without a running worker: nothing can be published from it."""

    def __init__(self) -> None:
        super().__init__(
            "no worker runs in this process: serve the application with `wsd start --app`, or with "
            "FastAPI(lifespan=cluster.lifespan), in tests inside `with TestClient(app)`; "
            "any other process publishes with wsd.Publisher"
        )


class EventLoopBlockedError(WorkerError):
    """A method of `cluster.sync` was called on the event loop that it would have to wait for."""

    def __init__(self, method: str) -> None:
        super().__init__(
            f"cluster.sync.{method} would block the event loop that it waits for: use `await cluster.{method}(...)`"
        )


class SyncTimeoutError(WorkerError, TimeoutError):
    """A method of `cluster.sync` was not done in time. What it does may still happen."""

    def __init__(self, method: str, seconds: float) -> None:
        super().__init__(f"cluster.sync.{method} was not done within {seconds:g} s; it may still be carried out")


class ClientRefusedError(WorkerError, WebSocketException):
    """A client may not connect. Raised by `serve` before its block begins.

    Starlette and FastAPI close the WebSocket with `code` and `reason` when an endpoint raises it.
    """

    def __init__(self, code: int, reason: str) -> None:
        WebSocketException.__init__(self, code, reason)


class InvalidChannelError(WorkerError, ValueError):
    """The name of a channel is not allowed."""


class InvalidDataError(WorkerError, ValueError):
    """Something was to be published that is no Unicode text: channels carry text and JSON."""


class InvalidPositionError(WorkerError, ValueError):
    """A `Position` whose fields no position can have, as a client may make them up."""


CLIENT_MISTAKES: dict[type[Exception], CloseCode] = {
    ChannelFullError: CloseCode.TOO_MANY,
    InvalidChannelError: CloseCode.POLICY,
    InvalidDataError: CloseCode.INVALID_TEXT,
    InvalidPositionError: CloseCode.POLICY,
}
"""Errors that a client can cause by what it sends, and the close codes that tell the client.

They are no faults of the application: one that leaves the block of `serve` ends it without an error.
"""
