"""Two workers on a primary that Sentinels watch: failovers, a frozen primary that wakes up, and absent Sentinels."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.hub_client import ask, receive
from tests.support.sentinels import SentinelSet, Server, sentinel_set
from tests.support.waiting import eventually, until
from tests.support.worker import Worker, close_opened, workers

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
async def connections_are_closed() -> AsyncIterator[None]:
    yield
    await close_opened()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSet]:
    with sentinel_set(tmp_path_factory.mktemp("sentinels"), down_after=1.0) as running:
        yield running


@pytest.fixture(scope="module")
def both(servers: SentinelSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    directory = tmp_path_factory.mktemp("workers")
    limits = {"messages_per_second": 0.0, "bytes_per_second": 0.0}
    with workers(directory, 2, redis_url=servers.url, **limits) as running:
        yield running


class Traffic:
    """A publisher and a member on each of two workers, in one channel: what was acknowledged, and what was received."""

    def __init__(self, both: list[Worker], channel: str) -> None:
        self.acked: list[str] = []
        self.received: list[list[str]] = []
        self.told: list[str] = []
        self.longest = 0.0
        """The longest time in which no message of any publisher was stored, in seconds."""
        self._stored_at = time.monotonic()
        self._both = both
        self._channel = channel
        self._tasks: list[asyncio.Task[None]] = []
        self._publishers: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Traffic":
        for number, serving in enumerate(self._both):
            member = await serving.connect(f"member-{number}")
            await ask(member, type="subscribe", channel=self._channel)
            received: list[str] = []
            self.received.append(received)

            async def receiving(member=member, received=received) -> None:  # type: ignore[no-untyped-def]
                while True:
                    message = await receive(member)
                    if message["type"] == "message":
                        received.append(message["data"])
                    elif message["type"] == "gap":
                        self.told.append(message["reason"])

            self._tasks.append(asyncio.create_task(receiving()))
        for number, serving in enumerate(self._both):
            self._publishers.append(asyncio.create_task(self._publish(serving, number)))
        return self

    async def _publish(self, serving: Worker, number: int) -> None:
        source = await serving.connect(f"source-{number}")
        count = 0
        while True:
            count += 1
            answer = await ask(source, type="publish", channel=self._channel, data=f"{number}-{count}")
            if answer.get("durable"):
                self.acked.append(f"{number}-{count}")
                now = time.monotonic()
                self.longest = max(self.longest, now - self._stored_at)
                self._stored_at = now
            await asyncio.sleep(0.01)

    async def goes_on(self, count: int = 40) -> None:
        """Wait until more messages were acknowledged as stored."""
        before = len(self.acked)
        await eventually(lambda: len(self.acked) >= before + count, "messages to be stored")

    async def end(self) -> None:
        """Stop publishing, and wait until the members have all that was acknowledged."""
        for task in self._publishers:
            task.cancel()
        await asyncio.wait(self._publishers)
        await eventually(lambda: not any(map(self.missing, range(len(self.received)))), "the last messages")

    def missing(self, member: int) -> list[str]:
        return sorted(set(self.acked) - set(self.received[member]))

    async def __aexit__(self, *exc: object) -> None:
        for task in [*self._publishers, *self._tasks]:
            task.cancel()
        await asyncio.wait([*self._publishers, *self._tasks])


def is_whole(both: list[Worker]) -> bool:
    return all(serving.health()[1]["status"] == "healthy" for serving in both)


def is_replica(server: Server) -> bool:
    return bool(server.call("ROLE")[0] == "slave")


@pytest.mark.parametrize("fault", ["asked", "killed", "frozen"])
async def test_no_message_is_lost_or_doubled_by_a_failover(
    servers: SentinelSet, both: list[Worker], fault: str
) -> None:
    await asyncio.to_thread(servers.until_whole)
    async with Traffic(both, f"room-{fault}") as traffic:
        await traffic.goes_on()
        old = servers.primary
        if fault == "asked":
            await asyncio.to_thread(servers.fail_over)
        else:
            with servers.switching():
                old.kill() if fault == "killed" else old.freeze()
                await eventually(lambda: servers.names(servers.sentinels[0]) != old.port)
        await traffic.goes_on()
        if fault == "killed":
            await asyncio.to_thread(old.start)
        old.wake()
        await traffic.goes_on()
        await eventually(lambda: is_replica(old), "the old primary to be a replica")
        await traffic.goes_on()
        await traffic.end()
        for member in range(2):
            assert traffic.missing(member) == []
            assert len(traffic.received[member]) == len(set(traffic.received[member]))
    until(lambda: is_whole(both))
