"""Look up host names, also with a resolver that is dead or slow.

asyncio looks names up in the threads of its default executor. A time limit ends the waiting, but not the look-up, which
takes 10 seconds and more where no name server answers. Connections that are tried again every second would occupy all
threads, and what else needs them would wait: code of the application, and the supervisor's questions to its workers.
So each name is looked up by one thread at a time, which belongs to no executor, and all who ask share its answer.
"""

import asyncio
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

Addresses = tuple[str, ...]
"""The addresses of a host, the best one first."""


def _ask_the_system(host: str) -> Addresses:
    """Return the addresses of a host. Blocks. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found))


class HostNames:
    """Looks up names, each at most once at a time. May be used by several event loops and threads."""

    def __init__(self, ask: Callable[[str], Addresses] = _ask_the_system) -> None:
        """`ask` returns the addresses of a name. It may block, and may raise OSError."""
        self._ask = ask
        self._lock = threading.Lock()
        self._asked: dict[str, Future[Addresses]] = {}

    async def addresses(self, host: str) -> Addresses:
        """Return the addresses of a host; an address is its own.

        Raises OSError. A caller that waits no longer leaves the look-up to those that come later.
        """
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return await asyncio.wrap_future(self._answer(host))
        return (host,)

    def _answer(self, host: str) -> Future[Addresses]:
        with self._lock:
            answer = self._asked.get(host)
            if answer is None:
                answer = self._asked[host] = Future()
                answer.set_running_or_notify_cancel()  # one caller that is cancelled must not cancel the others
                threading.Thread(target=self._run, args=(host, answer), name=f"look-up of {host}", daemon=True).start()
        return answer

    def _run(self, host: str, answer: Future[Addresses]) -> None:
        try:
            found = self._ask(host)
        except Exception as exc:  # noqa: BLE001 - raised where it is awaited
            self._forget(host)
            answer.set_exception(exc)
        else:
            self._forget(host)
            answer.set_result(found)

    def _forget(self, host: str) -> None:
        with self._lock:
            del self._asked[host]


HOST_NAMES = HostNames()
"""The names that this process looks up."""


async def open_stream(
    host: str, port: int, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to the first address of a host that can be reached. `tls`: None without TLS. Raises OSError."""
    name = host if tls is not None else None
    *others, last = await HOST_NAMES.addresses(host)
    for address in others:
        with suppress(OSError):
            return await asyncio.open_connection(address, port, ssl=tls, server_hostname=name)
    return await asyncio.open_connection(last, port, ssl=tls, server_hostname=name)


def looking_up_names(connection_class: type[Any]) -> type[Any]:
    """Return a class of connections of redis-py that look up the name of their host by `HOST_NAMES`.

    `connection_class` is that of redis.asyncio for TCP, or the one with TLS; any other one is returned as it is.
    """
    if not hasattr(connection_class, "_connection_arguments"):
        return connection_class  # of a unix socket

    class LookingUpConnection(connection_class):  # type: ignore[misc]
        _address = ""

        async def _connect(self) -> None:
            async with asyncio.timeout(self.socket_connect_timeout):
                *others, last = await HOST_NAMES.addresses(self.host)
                for self._address in others:
                    with suppress(OSError):
                        await super()._connect()
                        return
                self._address = last
                await super()._connect()

        def _connection_arguments(self) -> dict[str, Any]:
            arguments = {**super()._connection_arguments(), "host": self._address}
            if "ssl" in arguments:
                arguments["server_hostname"] = self.host  # for which the certificate is checked
            return arguments

    return LookingUpConnection
