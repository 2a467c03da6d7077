"""A process that stood still uses no connection to Redis before it has asked the Sentinels again."""

import asyncio
import contextlib
import time

import pytest

from tests.support.ports import unused_port
from wsd.worker.contract.redis_address import Place, sentinel_address
from wsd.worker.contract.sentinels.sentinels import Sentinels


class Connection:
    """A connection that remembers whether it was dropped."""

    place: Place = ("127.0.0.1", 1)
    dropped = False

    def drop(self) -> None:
        self.dropped = True


@pytest.mark.parametrize(("blocked", "is_dropped"), [(0.3, False), (1.4, True)])
def test_connections_are_dropped_after_a_standstill(blocked: float, is_dropped: bool) -> None:
    address = sentinel_address(f"redis+sentinel://127.0.0.1:{unused_port()}/chat")
    assert address is not None
    sentinels = Sentinels(address)
    connection, told = Connection(), list[str]()
    sentinels.watch(connection)
    sentinels.on_doubt = told.append

    async def run() -> None:
        following = asyncio.create_task(sentinels.follow())
        await asyncio.sleep(0.2)
        time.sleep(blocked)  # noqa: ASYNC251 - as an application that blocks the event loop
        await asyncio.sleep(0.2)
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following

    asyncio.run(run())
    assert connection.dropped is is_dropped
    assert bool(told) is is_dropped
