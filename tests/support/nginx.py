"""The real nginx with a rendered configuration, before upstreams that record the requests that reach them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
import trustme

from tests.support.ports import unused_port
from tests.support.waiting import eventually
from wsd.supervisor.config.settings import ClusterConfig, Config, NginxConfig
from wsd.supervisor.services.nginx_config import render
from wsd.supervisor.services.nginx_program import own_user, version_of

CERTIFICATE_NAMES = ("localhost", "127.0.0.1")
MAX_HEAD_BYTES = 1_000_000

NGINX_AROUND = """
pid {directory}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {directory}; proxy_temp_path {directory};
    fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
    {shown}
}}
"""
"""What surrounds a part of a configuration of nginx, `shown`, for an nginx that keeps its files in `directory`."""


@dataclass(frozen=True)
class Certificate:
    path: str
    key: str
    client: ssl.SSLContext

    @classmethod
    def make(cls, directory: Path, names: Sequence[str]) -> Self:
        authority = trustme.CA()
        issued = authority.issue_cert(*names)
        path, key = directory / "cert.pem", directory / "key.pem"
        for blob in issued.cert_chain_pems:
            blob.write_to_path(path, append=True)
        issued.private_key_pem.write_to_path(key)
        client = ssl.create_default_context()
        authority.configure_trust(client)
        return cls(str(path), str(key), client)


def config(port: int = 8000, host: str = "127.0.0.1", **nginx: Any) -> Config:
    return Config(
        cluster=ClusterConfig(host=host, port=port),
        nginx=msgspec.convert({"worker_connections": 256, **nginx}, NginxConfig),
    )


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


LARGE_BYTES, LARGE_PIECE = 40_000_000, 100_000
"""More bytes than the buffers of the kernel hold for connections that are not read."""


@dataclass
class Upstream:
    """Answers requests with 200 and handshakes with 101, and remembers their headers.

    A target that ends with `die` closes the connection without an answer, one that ends with `die-later` begins an
    answer first, and one that ends with `hang` is never answered. One that ends with `header-N` is answered with a
    header of N bytes, one with `own=NAME` with a header of that name, whose value is `own`.
    The answer to `large` has LARGE_BYTES, and `is_held_up` is set as soon as nobody takes more of it.
    """

    path: Path
    requests: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    connections: int = 0
    is_held_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await read_head(reader):
                line, headers = head
                self.requests.append({"request": line, **headers})
                self.bodies.append(await reader.readexactly(int(headers.get("content-length", 0))))
                target = line.split()[1]
                if target.endswith("hang"):
                    await reader.read()
                if target.endswith("die-later"):
                    writer.write(b"HTTP/1.1 ")
                if target.endswith(("die", "die-later", "hang")):
                    return
                size = int(target.rpartition("header-")[2]) if "header-" in target else 0
                long = b"X-Long: %b\r\n" % (b"x" * size) if size else b""
                if "own=" in target:
                    long += b"%b: own\r\n" % target.rpartition("own=")[2].encode()
                if "upgrade" in headers:
                    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
                    writer.write(switching + long + b"\r\n")
                    await reader.read()
                    return
                if target.endswith("large"):
                    await self._send_large(writer)
                    return
                closes = headers.get("connection") == "close"
                header = b"Connection: close\r\n" if closes else b""
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b%b\r\nok" % (header, long))
                await writer.drain()
                if closes:
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _send_large(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % LARGE_BYTES)
        for _ in range(LARGE_BYTES // LARGE_PIECE):
            writer.write(b"x" * LARGE_PIECE)
            try:
                async with asyncio.timeout(0.2):
                    await writer.drain()
            except TimeoutError:
                self.is_held_up.set()
                await writer.drain()


async def read_head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = block.decode("latin-1").split("\r\n")[:-2]
    headers: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in lines):
        # One that comes again is joined to the first (RFC 9110, 5.3).
        headers[name.lower()] = ", ".join(filter(None, (headers.get(name.lower()), value.strip())))
    return first, headers


@dataclass
class Front:
    port: int
    upstreams: list[Upstream]
    supervisor: Upstream
    redirect_port: int = 0
    tls: ssl.SSLContext | None = None

    @property
    def requests(self) -> list[str]:
        """The request lines that reached any of the upstreams."""
        return [request["request"] for up in self.upstreams for request in up.requests]

    async def ask(
        self,
        target: str = "/",
        *headers: str,
        body: bytes = b"",
        method: str = "",
        port: int = 0,
        plain: bool = False,
    ) -> Answer:
        """Send a request on a connection of its own, and return the response."""
        method = method or ("POST" if body else "GET")
        if body:
            headers = (*headers, f"Content-Length: {len(body)}")
        answer, writer = await self._ask(method, target, headers, body, port or self.port, plain)
        writer.close()
        return answer

    async def chunked(self, target: str, body: bytes) -> Answer:
        """Send a request with a body in chunks, and return the response."""
        encoded = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        answer, writer = await self._ask("POST", target, ("Transfer-Encoding: chunked",), encoded, self.port, False)
        writer.close()
        return answer

    async def handshake(self, *headers: str, target: str = "/ws") -> tuple[Answer, asyncio.StreamWriter]:
        """Make a WebSocket handshake. The connection stays open."""
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
        return await self._ask("GET", target, (*upgrade, *headers), b"", self.port, False)

    async def _ask(
        self, method: str, target: str, headers: Sequence[str], body: bytes, port: int, plain: bool
    ) -> tuple[Answer, asyncio.StreamWriter]:
        context = None if plain else self.tls
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        lines = [f"{method} {target} HTTP/1.1", *headers]
        if not any(header.lower().startswith("host:") for header in headers):
            lines.append(f"Host: localhost:{port}")
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        async with asyncio.timeout(20):
            head = await read_head(reader)
            assert head is not None, "nginx closed the connection without an answer"
            status, answered = head
            length = int(answered.get("content-length", 0))
            content = b"" if method == "HEAD" else await reader.readexactly(length)
        return Answer(int(status.split()[1]), answered, content), writer


@asynccontextmanager
async def front(
    binary: Path, directory: Path, upstreams: int = 2, tls: ssl.SSLContext | None = None, **nginx: Any
) -> AsyncIterator[Front]:
    """Run nginx on a free port, before a number of upstreams. `nginx` has keys of the section [nginx]."""
    behind = [Upstream(directory / f"{number}.sock") for number in range(upstreams)]
    port = unused_port()
    if nginx.get("tls_redirect_port"):
        nginx["tls_redirect_port"] = unused_port()
    text = render(
        config(port, **nginx),
        prefix=directory,
        sockets=[up.path for up in behind],
        control=directory / "control.sock",
        user=own_user(),
        version=version_of(binary),
    )
    path = directory / "nginx.conf"
    path.write_text(text)
    async with AsyncExitStack() as stack:
        supervisor = Upstream(directory / "control.sock")
        for up in (*behind, supervisor):
            await stack.enter_async_context(await asyncio.start_unix_server(up.serve, up.path, limit=MAX_HEAD_BYTES))
        with (directory / "error.log").open("wb") as log:
            command = (binary, "-p", directory, "-e", "stderr", "-c", path)
            process = await asyncio.create_subprocess_exec(*command, stderr=log)
        try:
            await eventually(lambda: (directory / "nginx.pid").exists() or process.returncode is not None)
            assert process.returncode is None, (directory / "error.log").read_text()
            yield Front(port, behind, supervisor, nginx.get("tls_redirect_port", 0), tls)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
