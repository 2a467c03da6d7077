"""A POST over HTTP/1.1 whose answer matters by its status alone."""

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import urlsplit

MAX_HEADERS = 200
"""Lines of headers that are read of an answer of the kind 1xx, before the real answer."""


class PostError(Exception):
    """The receiver gave no answer that can be read. The text says why, on one line."""


class Poster:
    """Posts to one URL, each time over a new connection."""

    def __init__(self, url: str, timeout: float) -> None:
        """`timeout`: seconds that a POST may take, from the connection to the status."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host = parts.hostname
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._timeout = timeout

    async def post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """Post a body. Return the status of the answer.

        Raises PostError.
        """
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(body, headers)
        except TimeoutError:
            raise PostError(f"no answer within {self._timeout:g} s") from None
        except (OSError, EOFError, ValueError) as exc:
            raise PostError(str(exc) or type(exc).__name__) from None

    async def _post(self, body: bytes, headers: Mapping[str, str]) -> int:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        try:
            lines = [f"POST {self._target} HTTP/1.1", f"host: {self._authority}", f"content-length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            lines += ["connection: close", "user-agent: wsd", "", ""]
            writer.write("\r\n".join(lines).encode() + body)
            with suppress(ConnectionError):  # the receiver may answer and close before it has read everything
                await writer.drain()
            while (status := _status(await reader.readline())) < 200:
                for _ in range(MAX_HEADERS):
                    if (await reader.readline()).strip() == b"":
                        break
            return status
        finally:
            writer.close()


def _status(line: bytes) -> int:
    """Return the status in the first line of an answer. Raises EOFError and ValueError."""
    if not line:
        raise EOFError("the receiver closed the connection without an answer")
    words = line.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit() or len(words[1]) != 3:
        raise ValueError("the answer is not HTTP/1.1")
    return int(words[1])
