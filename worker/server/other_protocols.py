"""WebSockets under a server with another protocol than ours, where ASGI is all that there is."""

import time

from starlette.types import Message
from starlette.websockets import WebSocket

from wsd.worker.delivery import batch
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.wire.close_codes import CloseCode, Ending, Side
from wsd.worker.wire.frames import BINARY


def note_messages(websocket: WebSocket, outbox: Outbox) -> None:
    """Note in the outbox when the client sends something, and how the connection ends.

    Only the application receives what the client sends, and only the application closes the WebSocket.
    """
    receive, send = websocket._receive, websocket._send

    async def receive_and_note() -> Message:
        message = await receive()
        if message["type"] == "websocket.receive":
            outbox.received_at = time.monotonic()
        elif message["type"] == "websocket.disconnect" and outbox.ended is None:
            outbox.ended = Ending(Side.UNKNOWN, close_code(message), message.get("reason") or "")
        return message

    async def send_and_note(message: Message) -> None:
        if message["type"] == "websocket.close" and outbox.ended is None:
            code = message.get("code")
            outbox.ended = Ending(Side.SERVER, CloseCode.NORMAL if code is None else code, message.get("reason") or "")
        await send(message)

    outbox.received_at = time.monotonic()
    websocket._receive, websocket._send = receive_and_note, send_and_note


def close_code(disconnect: Message) -> int:
    """Return the close code of a `websocket.disconnect` message.

    uvicorn says 1005 both for a lost connection and for a close frame without a code, as browsers send for `close()`.
    Only the frame comes with a reason, if an empty one.
    """
    code: int = disconnect.get("code", CloseCode.ABNORMAL)
    if code == CloseCode.NO_STATUS:
        return CloseCode.NORMAL if disconnect.get("reason") is not None else CloseCode.ABNORMAL
    return code


async def write_to(websocket: WebSocket, message: batch.Message) -> None:
    """Send a text or a binary message by Starlette's WebSocket."""
    if message.opcode == BINARY:
        await websocket.send_bytes(message.payload)
    else:
        await websocket.send_text(message.payload.decode())
