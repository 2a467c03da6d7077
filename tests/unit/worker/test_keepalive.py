"""Pings: a client that does not answer in time is closed, unless the server itself stood still."""

import asyncio
from dataclasses import dataclass, field

import pytest

from wsd.worker.server.keepalive import Keepalive


@dataclass
class Peer:
    has_received: bool = False
    ping_at: float = 0.0
    answer_by: float = 0.0
    gone: bool = False
    said: list[str] = field(default_factory=list)

    def ping(self) -> None:
        self.said.append("ping")

    def fail(self) -> None:
        raise AssertionError

    def not_answered(self) -> None:
        self.gone = True
        self.said.append("not answered")


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock moves only when the test says so."""

    at = 1000.0

    def time(self) -> float:
        return self.at

    async def jump(self, seconds: float) -> None:
        """Advance the clock at once by this many seconds, and run what is due then."""
        self.at += seconds
        for _ in range(3):
            await asyncio.sleep(0)

    async def run_for(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.5)):
            await self.jump(0.5)


@pytest.mark.parametrize("gap", [0.0, 9.0, 12.0, 3600.0])
def test_a_client_has_its_full_time_to_answer_after_the_server_slept(gap: float) -> None:
    async def scene(loop: JumpingLoop) -> None:
        keepalive = Keepalive(interval=25, timeout=10)
        silent, talker = Peer(), Peer()
        keepalive.add(silent)
        keepalive.add(talker)
        await loop.run_for(27)
        assert silent.said == talker.said == ["ping"]
        await loop.jump(gap)
        assert silent.said == talker.said == ["ping"]
        talker.has_received = True  # its answer comes a moment after all woke up
        await loop.run_for(6)
        assert not silent.gone
        await loop.run_for(6)
        assert silent.said[-1] == "not answered"
        assert not talker.gone

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, JumpingLoop)
        runner.run(scene(loop))
