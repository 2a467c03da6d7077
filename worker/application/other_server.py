"""A client under a server with another WebSocket protocol than ours: a task sends to it."""

import asyncio
from contextlib import suppress
from typing import Any

from starlette.types import Message
from starlette.websockets import WebSocket, WebSocketDisconnect

from wsd.worker.background.containment import report
from wsd.worker.background.waiting import end_tasks
from wsd.worker.delivery import batch
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.translation import Translator
from wsd.worker.server.other_protocols import note_messages
from wsd.worker.wire.frames import BINARY


class OtherServer:
    """The sending and receiving for one client, with ASGI alone."""

    def __init__(self, websocket: WebSocket, outbox: Outbox, translator: Translator) -> None:
        """Begin to send what the outbox has. `stop` must be called."""
        self._websocket = websocket
        self._outbox = outbox
        self._translator = translator
        self._receiving: asyncio.Task[Message] | None = None
        note_messages(websocket, outbox)
        self._sending = asyncio.create_task(self._send_until_closed())

    async def receive(self) -> Message | None:
        """Return the next message, or None when this worker ends the connection.

        Such a server does not tell the application of an end that the worker wants.
        """
        if self._receiving is None:
            self._receiving = asyncio.create_task(self._websocket.receive())
        ends: set[asyncio.Future[Any]] = {self._receiving, self._outbox.closing}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not self._receiving.done():
            return None
        receiving, self._receiving = self._receiving, None
        return receiving.result()

    async def stop(self, seconds: float) -> None:
        """End all tasks. A connection that is closed gets `seconds` for what it was sent before."""
        try:
            if self._outbox.closed is not None:
                await asyncio.wait([self._sending], timeout=seconds)
        finally:
            for exc in await end_tasks(*[task for task in (self._sending, self._receiving) if task is not None]):
                report("sending to a client", exc)

    async def _send_until_closed(self) -> None:
        # The client may be gone, or the application has closed the WebSocket itself. The application learns of it.
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._outbox.pump_messages(self._send)
            code, reason = self._outbox.closing.result()
            await self._websocket.close(code, reason)

    async def _send(self, message: batch.Message) -> None:
        item = self._translator(message)
        if not isinstance(item, batch.Message):
            return
        if item.opcode == BINARY:
            await self._websocket.send_bytes(item.payload)
        else:
            await self._websocket.send_text(item.payload.decode())
