"""Ports: how an address is written, whether it can be listened on, and who does so already."""

import errno
import os
import socket

import psutil

from wsd.supervisor.errors import StartError

FIRST_UNPRIVILEGED_PORT = 1024
"""Ports below it are for root, unless the machine has another limit (`net.ipv4.ip_unprivileged_port_start`)."""


def listen_host(host: str) -> str:
    """Put an IPv6 address into the brackets that it needs before a port."""
    bare = host.strip("[]")
    return f"[{bare}]" if ":" in bare else bare


def listen_address(host: str, port: int) -> str:
    """Join host and port."""
    return f"{listen_host(host)}:{port}"


def check_port(host: str, port: int, setting: str = "--port") -> None:
    """Check that an address can be listened on. `setting` is the option or the setting that names the port.

    Raises StartError when it cannot; its message names the process that listens there, if that is known.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, proto) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as exc:
        where = listen_address(host, port)
        if isinstance(exc, socket.gaierror) or exc.errno is None:
            raise StartError(f"cannot listen on {where}: unknown host; choose another with --host") from None
        holder = port_holder(port)
        by = f" by {holder}" if holder else ""
        if exc.errno == errno.EADDRINUSE:
            raise StartError(f"port {where} is taken{by}; choose another with {setting}") from None
        if isinstance(exc, PermissionError) and port < FIRST_UNPRIVILEGED_PORT:
            raise StartError(
                f"cannot listen on {where}: this user may not use ports below {FIRST_UNPRIVILEGED_PORT}; run "
                f"`sysctl -w net.ipv4.ip_unprivileged_port_start={port}` as root, start wsd by the unit of "
                f"`wsd init --systemd`, or choose another with {setting}"
            ) from None
        raise StartError(f"cannot listen on {where}: {exc.strerror}; choose another with --host or {setting}") from None


def check_socket(host: str, port: int, fd: int) -> None:
    """Check that the socket that systemd holds for us listens on the public address.

    Raises StartError when it listens elsewhere.
    """
    wanted = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0][4]
    with socket.socket(fileno=os.dup(fd)) as held:
        found = held.getsockname()
    if found != wanted:
        raise StartError(
            f"systemd's socket listens on {found}, and cluster.host and cluster.port say {wanted}: make them the same"
        )


def port_holder(port: int) -> str | None:
    """Return who listens on a port, as `nginx (pid 12)`, or None when psutil cannot tell."""
    try:
        connections = psutil.net_connections("tcp")
    except psutil.Error:
        return None
    for connection in connections:
        if connection.status != psutil.CONN_LISTEN or not connection.laddr or connection.pid is None:
            continue
        if connection.laddr.port == port:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return None
