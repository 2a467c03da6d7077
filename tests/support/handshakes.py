"""Constant handshakes through nginx, which show whether a cluster refuses a client."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from websockets.asyncio.client import connect

from tests.support.cluster import Cluster
from tests.support.waiting import eventually

PAUSE_SECONDS = 0.01
"""The time between two handshakes. Without it they would take all the CPU that the cluster needs for its deploys."""


class Handshakes:
    """Constant handshakes through nginx, one after the other, counting those that fail."""

    def __init__(self, port: int) -> None:
        self.url = f"ws://127.0.0.1:{port}/ws"
        self.succeeded = 0
        self.failures: list[str] = []
        self.enough = False  # the test sets it to end the run

    async def run(self) -> None:
        while not self.enough:
            try:
                connection = await connect(self.url, open_timeout=20)
            except Exception as exc:  # noqa: BLE001 - every one counts
                self.failures.append(repr(exc))
            else:
                self.succeeded += 1
                await connection.close()
            await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def constant_handshakes(cluster: Cluster) -> AsyncIterator[Handshakes]:
    """Make handshakes until the block ends, and check that none of them has failed."""
    handshakes = Handshakes(cluster.port)
    load = asyncio.create_task(handshakes.run())
    try:
        await eventually(lambda: handshakes.succeeded > 20)
        yield handshakes
        seen = handshakes.succeeded
        await eventually(lambda: handshakes.succeeded > seen + 20)
    finally:
        handshakes.enough = True
        await load
    assert handshakes.failures == []
