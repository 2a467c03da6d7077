"""Thousands of clients in one process: raw sockets and epoll, and frames that are counted without being decoded."""

import select
import socket
import time
from collections.abc import Callable, Sequence

from benchmarks.fanout.dialects import Dialect

PATIENCE_SECONDS = 60.0
IN_PROGRESS = 50
"""How many handshakes are in progress at the same time."""

REQUEST = (
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


class Client:
    __slots__ = ("count", "expected", "rest", "socket")

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.rest = b""
        self.count = 0
        self.expected = 0


class Crowd:
    """Clients of one server."""

    def __init__(self, ports: Sequence[int], dialect: Dialect) -> None:
        """Prepare clients that are distributed over the ports in turn."""
        self.clients: list[Client] = []
        self._ports = ports
        self._dialect = dialect
        self._poll = select.epoll()
        self._by_fd: dict[int, Client] = {}

    def close(self) -> None:
        for client in self.clients:
            client.socket.close()
        self._poll.close()

    def connect(self, count: int, channels: Callable[[int], Sequence[str]]) -> None:
        """Open connections, a few at the same time, and join the channels of each."""
        dialect = self._dialect
        for start in range(0, count, IN_PROGRESS):
            group = [self._open(number) for number in range(start, min(count, start + IN_PROGRESS))]
            for client in group:
                self._read_until(client, b"\r\n\r\n")
            for position, greeting in enumerate(dialect.greeting):
                for client in group:
                    self._await(client, greeting)
                    if position == 0 and dialect.hello:
                        client.socket.sendall(dialect.hello)
            for number, client in enumerate(group, start):
                joins = b"".join(dialect.join(channel) for channel in channels(number))
                if joins:
                    client.socket.sendall(joins)
            for number, client in enumerate(group, start):
                for _ in channels(number) if dialect.joined else ():
                    self._await(client, dialect.joined)
        for client in self.clients:
            client.socket.setblocking(False)
            self._poll.register(client.socket, select.EPOLLIN)
            self._by_fd[client.socket.fileno()] = client

    def _open(self, number: int) -> Client:
        connected = socket.create_connection(("127.0.0.1", self._ports[number % len(self._ports)]), PATIENCE_SECONDS)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.sendall(REQUEST.format(path=self._dialect.path(number)).encode())
        client = Client(connected)
        self.clients.append(client)
        return client

    def _read_until(self, client: Client, end: bytes) -> None:
        while end not in client.rest:
            more = client.socket.recv(65536)
            if not more:
                raise ConnectionError(f"closed in the handshake: {client.rest[:200]!r}")
            client.rest += more
        client.rest = client.rest.partition(end)[2]

    def _await(self, client: Client, beginning: bytes) -> None:
        """Read frames until one begins with these bytes."""
        while True:
            found, size = first_frame(client.rest)
            if found is None:
                more = client.socket.recv(65536)
                if not more:
                    raise ConnectionError(f"closed while waiting for {beginning!r}")
                client.rest += more
                continue
            client.rest = client.rest[size:]
            if found.startswith(beginning):
                return

    def expect(self, each: Callable[[int], int]) -> None:
        """Set how many deliveries each client, by its number, will get in the next round."""
        for number, client in enumerate(self.clients):
            client.count = 0
            client.expected = each(number)

    def receive_all(self, mark: bytes) -> None:
        """Read until every client has received what it expects.

        Raises AssertionError if a client receives more, TimeoutError if nothing arrives for too long.
        """
        waiting = sum(client.expected > client.count for client in self.clients)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while waiting:
            events = self._poll.poll(1.0)
            if not events and time.monotonic() > deadline:
                raise TimeoutError(f"{waiting} clients wait for messages")
            for fd, _ in events:
                client = self._by_fd[fd]
                before = client.count
                self._count(client, mark)
                if client.count > client.expected:
                    raise AssertionError(f"a client got {client.count} messages instead of {client.expected}")
                if before < client.expected == client.count:
                    waiting -= 1

    def _count(self, client: Client, mark: bytes) -> None:
        data = client.socket.recv(1_048_576)
        if not data:
            raise ConnectionError("the server closed a connection")
        if client.rest:
            data = client.rest + data
        at, end = 0, len(data)
        while end - at >= 2:
            length, start = data[at + 1], at + 2
            if length == 126:
                start += 2
                length = int.from_bytes(data[at + 2 : start])
            elif length == 127:
                start += 8
                length = int.from_bytes(data[at + 2 : start])
            if start > end or start + length > end:
                break
            if data.startswith(mark, start):
                client.count += 1
            elif length == 1 and data[start] == 0x32:  # a ping of Engine.IO
                client.socket.sendall(b"\x81\x81\0\0\0\x003")
            at = start + length
        client.rest = data[at:]


def first_frame(data: bytes) -> tuple[bytes | None, int]:
    """Return payload and size of the first frame, None and 0 while it is incomplete."""
    if len(data) < 2:
        return None, 0
    length, start = data[1], 2
    if length == 126:
        start, length = 4, int.from_bytes(data[2:4])
    elif length == 127:
        start, length = 10, int.from_bytes(data[2:10])
    if len(data) < start + length:
        return None, 0
    return data[start : start + length], start + length
