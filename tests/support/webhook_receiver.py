"""A receiver of webhooks for tests, which may be down, refuse, or never answer."""

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = b"0123456789abcdef0123456789abcdef"
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver:
    """What came, and how the next requests are answered."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/webhooks?from=wsd"
        self.status = 200
        self.hangs = threading.Event()
        self.let_go = threading.Event()
        self.requests: list[tuple[dict[str, str], bytes]] = []
        """The headers and the bodies of all requests, those that were refused included."""
        self.taken: list[dict[str, Any]] = []
        """The events of the requests that were answered with 200."""
        self._port = port
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                assert self.path == "/webhooks?from=wsd"
                if receiver.hangs.is_set():
                    receiver.let_go.wait(30)
                    return
                if receiver.status == 200:
                    receiver.taken.extend(json.loads(body)["events"])
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def types(self, user_id: str) -> list[str]:
        return [event["type"] for event in self.taken if event["user_id"] == user_id]


def is_signed(headers: dict[str, str], body: bytes, key: bytes = KEY) -> bool:
    """Check a request as a receiver does that knows nothing of wsd but the specification."""
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 60
    return fresh and headers["webhook-signature"] == f"v1,{expected}"


@contextmanager
def receiver(port: int) -> Iterator[Receiver]:
    running = Receiver(port)
    running.start()
    try:
        yield running
    finally:
        running.let_go.set()
        running.stop()
