"""One connection to a Sentinel: commands and their answers, in RESP2."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from wsd.worker.contract.errors import WsdError
from wsd.worker.contract.host_names import open_stream
from wsd.worker.contract.redis_address import Place
from wsd.worker.contract.sentinels.words import Word

_END = b"\r\n"


class SentinelError(WsdError):
    """Sentinels do not say where the primary is.

    - `refused`: a Sentinel wants another user or password, or permits too little;
    - `known`: the names that the Sentinels know, where they do not know ours; else None.
    """

    def __init__(self, text: str, *, refused: bool = False, known: tuple[str, ...] | None = None) -> None:
        super().__init__(text)
        self.refused = refused
        self.known = known


class ErrorAnswer(Exception):  # noqa: N818 - it is one of the answers
    """An error as a Sentinel answers it."""


@dataclass(frozen=True)
class SentinelLogin:
    """The way to reach Sentinels: user and password ("" for none), TLS (None for none), and seconds to wait."""

    username: str
    password: str
    tls: ssl.SSLContext | None
    timeout: float


class SentinelConnection:
    """A connection to one Sentinel. Calls must not overlap."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, *words: str) -> None:
        """Send a command, whose answer `read` returns."""
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            text = word.encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(text), text))
        self._writer.write(b"".join(parts))

    async def read(self) -> Any:
        """Return the next answer: str, int, None, a list of these, or an ErrorAnswer.

        Raises OSError when the connection is lost, ValueError for what is no RESP2.
        """
        try:
            line = (await self._reader.readuntil(_END))[:-2]
            kind, rest = line[:1], line[1:]
            match kind:
                case b"+":
                    return rest.decode(errors="replace")
                case b"-":
                    return ErrorAnswer(rest.decode(errors="replace"))
                case b":":
                    return int(rest)
                case b"$":
                    if (length := int(rest)) < 0:
                        return None
                    return (await self._reader.readexactly(length + 2))[:-2].decode(errors="replace")
                case b"*":
                    return None if int(rest) < 0 else [await self.read() for _ in range(int(rest))]
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
            raise ConnectionResetError("the Sentinel closed the connection") from exc
        raise ValueError("this is no Sentinel")

    async def ask(self, *words: str) -> Any:
        """Return the answer to one command. Raises ErrorAnswer, OSError and ValueError."""
        self.send(*words)
        answer = await self.read()
        if isinstance(answer, ErrorAnswer):
            raise answer
        return answer

    async def word(self, name: str) -> Word | None:
        """Return what the Sentinel says about the primary of this name, or None if it does not know the name.

        Both questions go in one write, which a Sentinel answers without anything in between: while it carries out a
        failover, SENTINEL MASTER still has the old address with the new epoch, and the other question the new address.

        Raises ErrorAnswer, OSError and ValueError.
        """
        self.send("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        self.send("SENTINEL", "MASTER", name)
        place, state = await self.read(), await self.read()
        if isinstance(place, ErrorAnswer):
            raise place
        if place is None:
            return None
        if isinstance(state, ErrorAnswer):
            raise state
        fields = dict(zip(state[::2], state[1::2], strict=True))
        host, port = place
        return Word((host, int(port)), int(fields.get("config-epoch", 0)))


@asynccontextmanager
async def connected(place: Place, login: SentinelLogin) -> AsyncIterator[SentinelConnection]:
    """Open a connection to a Sentinel, and close it after the block.

    Raises OSError (TimeoutError is one), and ErrorAnswer for a wrong user or password.
    """
    async with asyncio.timeout(login.timeout):
        reader, writer = await open_stream(*place, login.tls)
    try:
        connection = SentinelConnection(reader, writer)
        if login.password:
            user = [login.username] if login.username else []
            async with asyncio.timeout(login.timeout):
                await connection.ask("AUTH", *user, login.password)
        yield connection
    finally:
        writer.transport.abort()


def tls_context(options: dict[str, str]) -> ssl.SSLContext:
    """Make the TLS settings for Sentinels, of the options that a `rediss+sentinel://` URL has. See redis-py for them.

    Raises OSError for a file that cannot be read, ssl.SSLError (an OSError) for one that is no certificate.
    """
    context = ssl.create_default_context(
        cafile=options.get("ssl_ca_certs") or None, capath=options.get("ssl_ca_path") or None
    )
    required = options.get("ssl_cert_reqs", "required")
    off = ("0", "f", "false", "n", "no")
    context.check_hostname = required != "none" and options.get("ssl_check_hostname", "true").lower() not in off
    context.verify_mode = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL}.get(required, ssl.CERT_REQUIRED)
    if certificate := options.get("ssl_certfile"):
        context.load_cert_chain(certificate, options.get("ssl_keyfile"), options.get("ssl_password"))
    if ciphers := options.get("ssl_ciphers"):
        context.set_ciphers(ciphers)
    return context
