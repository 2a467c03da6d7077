import socket
from collections.abc import Callable

import pytest


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return unused_port


def unused_port() -> int:
    """A port of loopback that nobody uses now, and that the kernel gives nobody else by itself for a while."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
