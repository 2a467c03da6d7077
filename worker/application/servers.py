"""The ways between an application and its client's socket: with wsd's own WebSocket protocol, and with ASGI alone."""

import asyncio
from contextlib import suppress
from typing import Any, Protocol

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from wsd.worker.background.containment import report
from wsd.worker.background.waiting import end_tasks
from wsd.worker.delivery import batch
from wsd.worker.delivery.batch import OwnMessage
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.translation import TranslatingWriter, Translator
from wsd.worker.server.other_protocols import note_messages, write_to

LAST_SECONDS = 5.0
"""How long a client may take, at the end of its block, to read what it was sent before."""


class Socket(Protocol):
    """The socket of one client, as a `Client` uses it."""

    async def receive(self) -> Message | None:
        """Return the next ASGI message, or None when this worker ends the connection."""

    async def send(self, message: OwnMessage) -> None:
        """Send a message behind all others, once the client has taken enough of these.

        Raises WebSocketDisconnect if the connection has ended.
        """


class Server(Socket, Protocol):
    """The server of one client's WebSocket. It sends what the client's outbox has, from its construction on."""

    async def until_sent(self) -> None:
        """Wait until the client has taken what it was sent, for LAST_SECONDS at most."""

    async def stop(self) -> None:
        """End the sending. A connection that is closed, and whose client is slow, gets LAST_SECONDS before."""


class QueuedSocket:
    """A socket whose messages to the client go through the outbox."""

    def __init__(self, websocket: WebSocket, outbox: Outbox) -> None:
        self.receive = websocket.receive
        self._outbox = outbox

    async def send(self, message: OwnMessage) -> None:
        """See `Socket.send`."""
        outbox = self._outbox
        if outbox.blocked:
            await outbox.until_drained()
        if outbox.ended is not None:
            raise WebSocketDisconnect(outbox.ended.code, outbox.ended.reason)
        outbox.put(message)


class OwnServer(QueuedSocket):
    """A server with wsd's WebSocket protocol, which writes from the outbox to the socket."""

    def __init__(self, websocket: WebSocket, outbox: Outbox, translator: Translator) -> None:
        super().__init__(websocket, outbox)
        outbox.write_through(lambda writer: TranslatingWriter(writer, translator))
        outbox.release()

    async def until_sent(self) -> None:
        """See `Server.until_sent`."""
        self._outbox.flush()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                await self._outbox.until_drained()

    async def stop(self) -> None:
        """Do nothing: the protocol ends the connection by itself."""


class OtherServer:
    """A server with another protocol, where a task sends what the outbox has."""

    def __init__(self, websocket: WebSocket, outbox: Outbox, translator: Translator) -> None:
        """Begin to send. `stop` must be called."""
        self._websocket = websocket
        self._outbox = outbox
        self._translator = translator
        self._receiving: asyncio.Task[Message] | None = None
        note_messages(websocket, outbox)
        self._sending = asyncio.create_task(self._send_until_closed())

    async def receive(self) -> Message | None:
        """See `Socket.receive`. Such a server does not tell the application of an end that the worker wants."""
        if self._receiving is None:
            self._receiving = asyncio.create_task(self._websocket.receive())
        ends: set[asyncio.Future[Any]] = {self._receiving, self._outbox.closing}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not self._receiving.done():
            return None
        receiving, self._receiving = self._receiving, None
        return receiving.result()

    async def send(self, message: OwnMessage) -> None:
        """See `Socket.send`. The message does not pass through the outbox, so that it may be of any size."""
        outbox = self._outbox
        outbox.flush()
        await outbox.until_drained()
        if outbox.ended is not None:
            raise WebSocketDisconnect(outbox.ended.code, outbox.ended.reason)
        await write_to(self._websocket, message)

    async def until_sent(self) -> None:
        """Do nothing: `stop` waits."""

    async def stop(self) -> None:
        """See `Server.stop`."""
        try:
            if self._outbox.closed is not None:
                await asyncio.wait([self._sending], timeout=LAST_SECONDS)
        finally:
            for exc in await end_tasks(*[task for task in (self._sending, self._receiving) if task is not None]):
                report("sending to a client", exc)
            self._outbox.gone()

    async def _send_until_closed(self) -> None:
        # The client may be gone, or the application has closed the WebSocket itself. The application learns of it.
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._outbox.pump_messages(self._translate_and_write)
            code, reason = self._outbox.closing.result()
            await self._websocket.close(code, reason)

    async def _translate_and_write(self, message: batch.Message) -> None:
        item = self._translator(message)
        if isinstance(item, batch.Message):
            await write_to(self._websocket, item)
