"""A server of a JSON Web Key Set on loopback, whose keys rotate, and which may fail or hang."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey


class KeyServer:
    """`url` answers with the `status`, and with the public keys of `keys` by their ids. After `hang` it does not."""

    def __init__(self, url: str, keys: Mapping[str, RSAPrivateKey]) -> None:
        self.url = url
        self.keys = keys
        self.status = 200
        self.requests = 0
        self._may_answer = threading.Event()
        self._may_answer.set()

    def hang(self) -> None:
        self._may_answer.clear()

    def go_on(self) -> None:
        self._may_answer.set()

    def answer(self) -> tuple[int, bytes]:
        self.requests += 1
        status, keys = self.status, key_set(self.keys)
        self._may_answer.wait()
        return status, keys.encode()


def key_set(keys: Mapping[str, RSAPrivateKey]) -> str:
    """Return the key set with the public keys of some private ones, by their ids."""
    parts: list[dict[str, Any]] = [
        jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) for key in keys.values()
    ]
    return json.dumps({"keys": [{**part, "kid": kid} for part, kid in zip(parts, keys, strict=True)]})


@contextmanager
def key_server(**keys: RSAPrivateKey) -> Iterator[KeyServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = served.answer()
            with suppress(OSError):  # the client has given up
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = KeyServer(f"http://127.0.0.1:{server.server_port}/jwks.json", keys)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield served
    finally:
        served.go_on()
        server.shutdown()
        thread.join()
        server.server_close()
