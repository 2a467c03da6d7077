"""The socket where the supervisor asks the relay for its status, over HTTP."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from wsd.worker.contract.relay_status import RelayStatus

REQUEST_SECONDS = 2.0
"""How long a request may take to arrive."""


async def serve_status(path: Path, status: Callable[[], RelayStatus]) -> asyncio.Server:
    """Answer every request at a unix socket with the status. Raises OSError."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_SECONDS):
                await reader.readuntil(b"\r\n\r\n")
                body = status().to_json().encode()
                head = f"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(answer, path)  # a socket of an earlier process in its place is replaced
