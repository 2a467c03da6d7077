"""Looking up host names while the resolver is dead, slow, or well."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import eventually, until
from wsd.worker.contract import host_names
from wsd.worker.contract.host_names import Addresses, HostNames, looking_up_names
from wsd.worker.errors import RedisUnavailableError
from wsd.worker.redis_client import open_redis, redis_errors

pytestmark = pytest.mark.anyio


class Resolver:
    """A resolver that answers when the test says so."""

    def __init__(self, *answers: Addresses | OSError) -> None:
        self.asked: list[str] = []
        self._answers = list(answers)
        self._may_answer = threading.Semaphore(0)

    def ask(self, host: str) -> Addresses:
        self.asked.append(host)
        self._may_answer.acquire()
        if isinstance(answer := self._answers.pop(0), OSError):
            raise answer
        return answer

    def answer(self) -> None:
        self._may_answer.release()


def look_ups() -> int:
    return sum(thread.name.startswith("look-up of ") for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def _threads_of_earlier_tests_have_ended() -> None:
    until(lambda: look_ups() == 0)


async def test_all_who_ask_for_a_name_share_one_look_up() -> None:
    resolver = Resolver(("10.0.0.1", "10.0.0.2"))
    names = HostNames(resolver.ask)
    asking = [asyncio.create_task(names.addresses("redis.example")) for _ in range(50)]
    await eventually(lambda: resolver.asked)
    assert look_ups() == 1
    resolver.answer()
    assert await asyncio.gather(*asking) == [("10.0.0.1", "10.0.0.2")] * 50
    assert resolver.asked == ["redis.example"]


async def test_callers_that_give_up_leave_one_thread_and_its_answer_to_the_next() -> None:
    resolver = Resolver(("10.0.0.1",))
    names = HostNames(resolver.ask)
    for _ in range(20):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await names.addresses("redis.example")
    assert (resolver.asked, look_ups()) == (["redis.example"], 1)
    later = asyncio.create_task(names.addresses("redis.example"))
    await asyncio.sleep(0)
    resolver.answer()
    assert await later == ("10.0.0.1",)


async def test_after_a_failure_a_name_is_looked_up_anew() -> None:
    resolver = Resolver(socket.gaierror(-3, "Temporary failure in name resolution"), ("10.0.0.1",))
    names = HostNames(resolver.ask)
    resolver.answer()
    with pytest.raises(socket.gaierror, match="Temporary failure"):
        await names.addresses("redis.example")
    resolver.answer()
    assert await names.addresses("redis.example") == ("10.0.0.1",)


async def test_one_name_does_not_wait_for_another() -> None:
    resolver = Resolver(("10.0.0.1",), ("10.0.0.2",))
    names = HostNames(resolver.ask)
    asking = {asyncio.create_task(names.addresses(name)) for name in ("a.example", "b.example")}
    await eventually(lambda: len(resolver.asked) == 2)
    resolver.answer()
    done, waiting = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    assert (len(done), len(waiting)) == (1, 1)
    resolver.answer()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1%eth0"])
async def test_an_address_is_not_looked_up(address: str) -> None:
    resolver = Resolver()
    assert await HostNames(resolver.ask).addresses(address) == (address,)
    assert resolver.asked == []


async def test_a_name_of_this_machine_is_found() -> None:
    assert set(await HostNames().addresses("localhost")) <= {"127.0.0.1", "::1"}


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    port = unused_port()
    with valkey(tmp_path / "redis", port):
        yield port


async def test_a_redis_is_found_at_the_second_address_of_its_name(
    redis_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = Resolver(("127.0.0.2", "127.0.0.1"))  # Valkey listens at the second one alone
    resolver.answer()
    monkeypatch.setattr(host_names, "HOST_NAMES", HostNames(resolver.ask))
    redis = open_redis(f"redis://redis.example:{redis_port}", connect_timeout=2, timeout=2)
    assert await redis.ping()
    await redis.aclose()


async def test_a_dead_resolver_occupies_no_thread_of_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver(("127.0.0.1",))
    monkeypatch.setattr(host_names, "HOST_NAMES", HostNames(resolver.ask))
    redis = open_redis("redis://redis.example:1", connect_timeout=0.01, timeout=1)
    for _ in range(40):  # more than the default executor has threads
        with pytest.raises(RedisUnavailableError, match="Timeout connecting"):
            async with redis_errors():
                await redis.ping()
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: "served") == "served"
    assert look_ups() == 1
    resolver.answer()
    await redis.aclose()


def test_connections_to_a_unix_socket_look_nothing_up() -> None:
    class UnixConnection:
        """A connection class without a host."""

    assert looking_up_names(UnixConnection) is UnixConnection
