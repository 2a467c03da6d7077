"""The request that opens a WebSocket, parsed from bytes."""

import httptools

from wsd.worker.wire import handshake

MAX_HEAD_BYTES = 65_536
"""The maximum number of bytes of a request that arrive before its head, or a piece of its body, is complete."""

TOO_LARGE = "the head of the request is too large"


class RequestParser:
    """Parses the head of one request."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: handshake.Headers = []
        self._complete = False
        self.bytes = 0  # fed so far, while the head is incomplete

    def feed(self, data: bytes) -> tuple[handshake.Request, bytes] | None:
        """Return the request and the bytes behind it, or None while the request is incomplete.

        Raises httptools.HttpParserError for anything but HTTP.
        """
        rest = b""
        self.bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            rest = data[exc.args[0] :]
        if not self._complete:
            return None
        self.bytes = 0
        parser = self._parser
        return handshake.Request(parser.get_method(), self._target, parser.get_http_version(), self._headers), rest

    # Called by httptools

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._complete = True
