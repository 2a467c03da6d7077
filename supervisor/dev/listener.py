"""The socket that the clients of `wsd dev` connect to. It stays open while processes come and go."""

import socket

from wsd.supervisor.errors import StartError

BACKLOG = 1024
"""How many connections may wait while one process has stopped and the next has not begun."""


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address. Raises StartError."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as exc:
        from wsd.supervisor.machine.ports import check_port, listen_address  # noqa: PLC0415 - it is slow to import

        check_port(host, port)  # it finds the words for the usual reasons
        raise StartError(f"cannot listen on {listen_address(host, port)}: {exc}") from None
    return listener
