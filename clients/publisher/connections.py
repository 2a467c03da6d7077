"""Kept HTTP connections to the cluster, for several threads."""

import contextlib
import http.client
import os
import secrets
import select
import ssl
import sys
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from wsd.publisher.address import Address
from wsd.publisher.answers import Answer

PUBLISHER_HEADER: Final = "X-WSD-Publisher"
"""Names the publisher, so that nginx passes all its messages to one worker: they stay in order while Redis is away."""

MAX_KEPT: Final = 10
"""Connections that are kept for the next request."""

CLOSED_MEANWHILE: Final = (ConnectionError, ssl.SSLEOFError)
"""What a request raises on a kept connection that the server has closed."""

MAX_RETRY_AFTER_DIGITS: Final = 6


class Connections:
    """HTTP connections of one program, each used for one request at a time.

    A connection belongs to the process that has opened it: after a fork, the child opens others. There is no lock,
    because another thread could hold it at the moment of the fork.
    """

    def __init__(
        self, connect: Callable[[], http.client.HTTPConnection], prefix: str, headers: Callable[[], Mapping[str, str]]
    ) -> None:
        """`prefix` goes before all paths. `headers` returns those that go with a request."""
        self._connect = connect
        self._prefix = prefix
        self._headers = headers
        self._kept: deque[tuple[int, http.client.HTTPConnection]] = deque()  # with the process of each
        weakref.finalize(self, _close_all, self._kept)  # also when the program ends, or nobody refers to this any more

    def request(self, method: str, target: str, body: bytes | None) -> Answer:
        """Send a request and return its answer. The request may be sent twice, so the cluster must bear that.

        Raises OSError (TimeoutError among them) or HTTPException.
        """
        kept = self._take()
        if kept is not None:
            with contextlib.suppress(*CLOSED_MEANWHILE):
                return self._exchange(kept, method, target, body)
            self.close()  # most likely, the server has closed the others, too
        return self._exchange(self._connect(), method, target, body)

    def close(self) -> None:
        """Close the connections that are not in use."""
        _close_all(self._kept)

    def _take(self) -> http.client.HTTPConnection | None:
        """Return a kept connection that is still open, or None."""
        with contextlib.suppress(IndexError):
            while True:
                process, connection = self._kept.pop()
                if process == os.getpid() and _is_open(connection):
                    return connection
                connection.close()  # in a child, the parent's connection stays open
        return None

    def _exchange(self, connection: http.client.HTTPConnection, method: str, target: str, body: bytes | None) -> Answer:
        content_type = {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(method, self._prefix + target, body, {**self._headers(), **content_type})
            response = connection.getresponse()
            answer = Answer(
                response.status,
                response.read(),
                _seconds(response.getheader("Retry-After", "")),
                response.getheader("Location", ""),
            )
        except BaseException:
            connection.close()
            raise
        if connection.sock is None or len(self._kept) >= MAX_KEPT:
            connection.close()
        else:
            self._kept.append((os.getpid(), connection))
        return answer


def connections_to(address: Address, timeout: float, context: ssl.SSLContext | None) -> Connections:
    """Return connections to an address. `timeout` in seconds, for each step. `context`: for TLS."""
    headers = {PUBLISHER_HEADER: secrets.token_hex(8)}
    if address.api_key:
        headers["Authorization"] = f"Bearer {address.api_key}"
    if address.is_tls:
        context = context or ssl.create_default_context()

    def connect() -> http.client.HTTPConnection:
        if address.is_tls:
            return http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=context)
        return http.client.HTTPConnection(address.host, address.port, timeout=timeout)

    return Connections(connect, address.prefix, lambda: headers)


def _close_all(kept: deque[tuple[int, http.client.HTTPConnection]]) -> None:
    with contextlib.suppress(IndexError):
        while True:
            kept.pop()[1].close()


def _is_open(connection: http.client.HTTPConnection) -> bool:
    """Tell whether an idle connection is still open. Where there is something to read, it is the end."""
    if sys.platform == "win32":
        is_readable = bool(select.select([connection.sock], [], [], 0)[0])
    else:  # select() takes no file descriptors above 1023
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        is_readable = bool(poll.poll(0))
    return not is_readable


def _seconds(text: str) -> float:
    """Return the seconds in a header Retry-After. A date in it is ignored, as wsd and nginx send none."""
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_RETRY_AFTER_DIGITS
    return float(text) if is_number else 0.0
