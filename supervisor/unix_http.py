"""HTTP over a unix socket, for programs that block: how commands ask the supervisor, and the supervisor its workers."""

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path

NO_HEADERS: Mapping[str, str] = {}


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to the server that listens on the unix socket `path`. `timeout` in seconds."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def request(
    path: Path,
    method: str,
    target: str,
    timeout: float,
    body: object = None,
    *,
    headers: Mapping[str, str] = NO_HEADERS,
) -> tuple[int, bytes]:
    """Send one request over a connection of its own, and return the status and the body of the response.

    `timeout` in seconds, for each step. `body` is sent as JSON, unless it is None.

    Raises OSError (TimeoutError among them) or http.client.HTTPException.
    """
    connection = UnixConnection(path, timeout)
    try:
        payload = None if body is None else json.dumps(body)
        content_type = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, target, payload, {**content_type, **headers})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
