"""A network between clients and a server, which can be slow, deaf, mute, or gone."""

import asyncio
import socket

from tests.support.loop_server import from_any_thread
from tests.support.tcp_proxy import Line, Link, TcpProxy, Way

BOTH_WAYS = (Way.UP, Way.DOWN)


class Network(TcpProxy):
    """A TCP proxy before a port, with the faults of a network.

    async with Network(hub.port, latency=0.2) as network:   # or `with`, in a test without an event loop
        await connect(network.url)
        network.go_deaf()

    Connections are counted from 1.
    """

    def __init__(self, target: int, *, latency: float = 0.0, bytes_per_second: float = 0.0) -> None:
        """`latency`: seconds of each way. `bytes_per_second`: of each connection and way, 0 for no limit."""
        super().__init__(target)
        self.lines = {way: Line(latency, bytes_per_second) for way in BOTH_WAYS}
        self._held_from_the_start: tuple[Way, ...] = ()
        self._holds: dict[int, float] = {}
        self._answered: set[int] = set()  # numbers of connections whose handshake has passed

    def set_line(self, *ways: Way, latency: float = 0.0, bytes_per_second: float = 0.0) -> None:
        """Change latency and bandwidth of these directions, or of both, for open connections, too."""
        for way in ways or BOTH_WAYS:
            self.lines[way].latency = latency
            self.lines[way].bytes_per_second = bytes_per_second

    @from_any_thread
    def go_deaf(self, *, new_ones_too: bool = False) -> None:
        """Let nothing pass either way, and close nothing: both ends keep a connection that is half-open.

        `new_ones_too`: new connections are opened and then deaf as well. Otherwise they are served.
        """
        self._hold(BOTH_WAYS, new_ones_too)

    @from_any_thread
    def mute(self, way: Way, *, new_ones_too: bool = False) -> None:
        """Let nothing pass in one direction, and close nothing."""
        self._hold((way,), new_ones_too)

    def _hold(self, ways: tuple[Way, ...], new_ones_too: bool) -> None:
        for link in self.open_links:
            link.hold(*ways)
        self._held_from_the_start = ways if new_ones_too else ()

    @from_any_thread
    def heal(self) -> None:
        """Let everything pass again. What was held comes first, as TCP sends again what a network has lost."""
        self._held_from_the_start = ()
        for link in self.open_links:
            link.release()

    @from_any_thread
    def go_offline(self) -> None:
        """End all connections with a reset, and refuse new ones."""
        self.close_port()
        self.cut()

    @from_any_thread
    def go_online(self) -> None:
        """Accept connections again."""
        self.open_port()

    def hold_after_handshake(self, number: int, seconds: float) -> None:
        """Let what the client says after its handshake on a connection wait for some seconds."""
        self._holds[number] = seconds

    def accepted(self, connection: socket.socket) -> None:
        super().accepted(connection)
        self.links[-1].hold(*self._held_from_the_start)

    async def passes(self, link: Link, way: Way, data: bytes) -> bool:
        if way is Way.UP:
            if link.number in self._answered and link.number in self._holds:
                await asyncio.sleep(self._holds.pop(link.number))
            if b"\r\n\r\n" in data:  # a client says no more before the answer to its handshake
                self._answered.add(link.number)
        return await super().passes(link, way, data)
