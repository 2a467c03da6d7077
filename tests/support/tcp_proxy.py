"""A TCP proxy before a port of loopback, whose subclasses decide what passes."""

import asyncio
import socket
from dataclasses import dataclass
from enum import Enum

from tests.support.loop_server import LoopServer, from_any_thread, reset_at_close

CHUNK_BYTES = 65_536
"""The most bytes that are read at once."""

CHUNKS_UNDER_WAY = 64
"""The most chunks that wait for the latency to pass. The source has to wait while there are as many."""

SHORTEST_PAUSE_SECONDS = 0.05
"""How long a limited bandwidth waits between two chunks, at least where a chunk has more than one byte."""


class Way(Enum):
    """A direction of a connection: UP from the client to the server, DOWN from the server to the client."""

    UP = "up"
    DOWN = "down"


@dataclass
class Line:
    """The quality of one direction: seconds that a byte takes, and bytes a second of each connection (0: no limit)."""

    latency: float = 0.0
    bytes_per_second: float = 0.0

    @property
    def chunk_bytes(self) -> int:
        """The most bytes to read at once, so that they arrive as an even flow."""
        if not self.bytes_per_second:
            return CHUNK_BYTES
        return max(1, min(CHUNK_BYTES, int(self.bytes_per_second * SHORTEST_PAUSE_SECONDS)))


class Stream:
    """One direction of one connection through the proxy.

    What it holds while `hold` is in force is passed on after `release`, as TCP sends again what a network has lost.
    """

    def __init__(self, proxy: "TcpProxy", link: "Link", way: Way, source: socket.socket, sink: socket.socket) -> None:
        self._proxy = proxy
        self._link = link
        self._way = way
        self._source = source
        self._sink = sink
        self._free = asyncio.Event()
        self._under_way: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(CHUNKS_UNDER_WAY)
        if way not in link.held:
            self._free.set()

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    async def take(self) -> None:
        """Read from the source until it ends."""
        loop, line, data = self._proxy.loop, self._proxy.lines[self._way], b"-"
        while data:
            await self._free.wait()
            try:
                data = await loop.sock_recv(self._source, line.chunk_bytes)
            except OSError:
                break
            if line.bytes_per_second:
                await asyncio.sleep(len(data) / line.bytes_per_second)
            await self._free.wait()
            if not data or await self._proxy.passes(self._link, self._way, data):
                await self._under_way.put((loop.time() + line.latency, data))
        if data:  # the source was reset
            await self._free.wait()
            await self._under_way.put((loop.time() + line.latency, None))

    async def give(self) -> None:
        """Write to the sink until the source has ended. End the sink as the source has ended."""
        loop = self._proxy.loop
        while True:
            due, data = await self._under_way.get()
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            await self._free.wait()
            try:
                if data:
                    await loop.sock_sendall(self._sink, data)
                    continue
                if data is None:
                    raise ConnectionResetError
                self._sink.shutdown(socket.SHUT_WR)
            except OSError:
                self._link.cut()
            return


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: "TcpProxy", number: int, client: socket.socket) -> None:
        self.number = number
        """The first connection is 1."""
        self.bytes_passed = {Way.UP: 0, Way.DOWN: 0}
        self.held: set[Way] = set()
        """The directions in which nothing passes."""
        self._proxy = proxy
        self._client = client
        self._server = socket.socket()
        self._server.setblocking(False)
        self._streams: dict[Way, Stream] = {}
        self.task = proxy.spawn(self._run())

    @property
    def is_open(self) -> bool:
        """True until both directions have ended."""
        return not self.task.done()

    def hold(self, *ways: Way) -> None:
        """Let nothing pass in these directions, not even the end of the connection."""
        self.held.update(ways)
        for way in self._streams.keys() & set(ways):
            self._streams[way].hold()

    def release(self) -> None:
        """Let everything pass again, first what was held."""
        self.held.clear()
        for stream in self._streams.values():
            stream.release()

    def cut(self) -> None:
        """End the connection on both sides with a reset."""
        if self.is_open:
            reset_at_close(self._client)
            reset_at_close(self._server)
            self.task.cancel()

    async def _run(self) -> None:
        try:
            await asyncio.sleep(self._proxy.delay)
            try:
                await self._proxy.loop.sock_connect(self._server, ("127.0.0.1", self._proxy.target))
            except OSError:  # the server behind the proxy is down
                reset_at_close(self._client)
                return
            up = Stream(self._proxy, self, Way.UP, self._client, self._server)
            down = Stream(self._proxy, self, Way.DOWN, self._server, self._client)
            self._streams = {Way.UP: up, Way.DOWN: down}
            async with asyncio.TaskGroup() as ways:
                for stream in (up, down):
                    ways.create_task(stream.take())
                    ways.create_task(stream.give())
        finally:
            self._client.close()
            self._server.close()


class TcpProxy(LoopServer):
    """A TCP proxy that passes everything on. What changes its fields and calls its methods may be any thread."""

    def __init__(self, target: int) -> None:
        """`target`: the port before which the proxy stands."""
        super().__init__()
        self.target = target
        self.delay = 0.0  # seconds that a new connection takes
        self.lines = {Way.UP: Line(), Way.DOWN: Line()}
        self.links: list[Link] = []
        """All connections so far, also those that have ended."""

    def accepted(self, connection: socket.socket) -> None:
        self.links.append(Link(self, len(self.links) + 1, connection))

    @property
    def open_links(self) -> list[Link]:
        """The connections that have not ended."""
        return [link for link in self.links if link.is_open]

    async def passes(self, link: Link, way: Way, data: bytes) -> bool:
        """Return whether data may pass. A subclass may also let them wait here, and those behind them."""
        link.bytes_passed[way] += len(data)
        return True

    @from_any_thread
    def cut(self) -> None:
        """End all connections with a reset on both sides."""
        for link in self.open_links:
            link.cut()
