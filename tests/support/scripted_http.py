"""An HTTP server that answers as a test says: as a proxy in trouble, or a server that ends."""

import http.server
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Reply:
    """An answer to one request. With `hangs_up_first` there is none: the server closes the connection instead.

    With `hangs_up_later`, the server closes the connection after the answer, and does not say so before.
    """

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs_up_first: bool = False
    hangs_up_later: bool = False


class _QuietServer(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing when a client is gone, or does not like the certificate."""


class ScriptedServer:
    """Gives one reply after the other, and the last one again and again."""

    def __init__(self, *replies: Reply, context: ssl.SSLContext | None = None) -> None:
        """`context`: for TLS."""
        self.bodies: list[bytes] = []
        self.connections = 0
        self.before_reply: Callable[[], object] = lambda: None
        self._replies = list(replies)
        self._lock = threading.Lock()
        self._server = _QuietServer(("127.0.0.1", 0), self._handler())
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=[0.02], daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self, body: bytes) -> Reply:
        with self._lock:
            self.bodies.append(body)
            return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        scripted = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5  # seconds until an idle connection ends, so that no thread stays

            def setup(self) -> None:
                super().setup()
                scripted.connections += 1

            def do_POST(self) -> None:
                reply = scripted._next(self.rfile.read(int(self.headers["Content-Length"])))
                scripted.before_reply()
                self.close_connection = reply.hangs_up_first or reply.hangs_up_later
                if reply.hangs_up_first:
                    return
                self.send_response(reply.status)
                for name, value in {**reply.headers, "Content-Length": str(len(reply.body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *arguments: object) -> None:
                """Log nothing."""

        return Handler
