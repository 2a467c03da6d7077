"""Ports for servers that a test starts, and may start again."""

import random
import socket
from pathlib import Path

RESERVED: dict[int, socket.socket] = {}
"""The ports that this process has handed out, each with the socket that reserves it among all test processes."""


def unused_port() -> int:
    """A port of loopback that nobody uses and no other test is given, also while the server behind it is down.

    It is below those that the kernel gives to outgoing connections (ip(7), ip_local_port_range). One of those could be
    taken by any client while a test restarts its server, even by the client that tries to reach that server.
    """
    first_of_clients = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(10_000, first_of_clients // 2), first_of_clients)
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0wsd-test-port-{port}")  # abstract: it goes when this process goes
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        RESERVED[port] = reservation
        return port
