"""A primary and a Sentinel that are reached by TLS: rediss+sentinel://."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.sentinels import Server
from wsd.worker.redis_client import open_redis

pytestmark = pytest.mark.anyio


def copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError), source, target:
        while data := source.recv(65536):
            target.sendall(data)


@contextmanager
def tls_in_front_of(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """Yield a port that takes connections with TLS and without it, for a server that has none.

    The embedded Valkey is built without TLS, and a Sentinel names the address that it reaches the primary at.
    """

    def serve(plain: socket.socket) -> None:
        with suppress(OSError):
            begins_tls = plain.recv(1, socket.MSG_PEEK) == b"\x16"
            client = context.wrap_socket(plain, server_side=True) if begins_tls else plain
            server = socket.create_connection(("127.0.0.1", port))
            threading.Thread(target=copy, args=(server, client), daemon=True).start()
            copy(client, server)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


@dataclass(frozen=True)
class Places:
    url: str
    primary: int  # the port with TLS
    authority: Path


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Places]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ExitStack() as stack:
        server = Server(tmp_path / "primary")
        stack.callback(server.kill)
        primary = stack.enter_context(tls_in_front_of(server.port, context))
        sentinel = Server(tmp_path / "sentinel", f"sentinel monitor chat 127.0.0.1 {primary} 1", sentinel=True)
        stack.callback(sentinel.kill)
        port = stack.enter_context(tls_in_front_of(sentinel.port, context))
        yield Places(f"rediss+sentinel://127.0.0.1:{port}/chat/0", primary, tmp_path / "ca.pem")


async def test_a_primary_is_found_and_used_by_tls(places: Places) -> None:
    async with open_redis(f"{places.url}?ssl_ca_certs={places.authority}", connect_timeout=2, timeout=2) as redis:
        assert await redis.set("key", "value")
        connection: Any = redis.connection_pool._available_connections[0]
        assert connection.port == places.primary
        assert connection._writer.get_extra_info("cipher")
    async with open_redis(places.url, connect_timeout=2, timeout=2) as stranger:
        with pytest.raises(RedisConnectionError, match="certificate verify failed"):
            await stranger.ping()
