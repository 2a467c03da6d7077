"""A proxy between a worker and its Redis, which can make the worker deaf, or late."""

from collections import defaultdict

from tests.support.tcp_proxy import Link, TcpProxy, Way


class Proxy(TcpProxy):
    """A TCP proxy that passes everything on, except messages to subscribers of the channels in `deaf_to`.

    Such subscribers are deaf: they are connected and receive nothing, as when a network has forgotten a connection that
    both ends take for open.
    """

    def __init__(self, url: str) -> None:
        super().__init__(int(url.rpartition(":")[2]))
        self.deaf_to: bytes | None = None
        self._subscribed: defaultdict[int, bytearray] = defaultdict(bytearray)  # requests, by number of the connection

    @property
    def url(self) -> str:
        """The URL of the Redis behind the proxy."""
        return f"redis://127.0.0.1:{self.port}"

    async def passes(self, link: Link, way: Way, data: bytes) -> bool:
        if way is Way.UP and b"SUBSCRIBE" in data:
            self._subscribed[link.number].extend(data)
        if way is Way.DOWN and self.deaf_to and self.deaf_to in self._subscribed[link.number] and b"message" in data:
            return False
        return await super().passes(link, way, data)
