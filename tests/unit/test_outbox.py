"""What waits for one client, and what becomes of it when the client reads too slowly."""

import asyncio
import json
from typing import Any

import pytest

from wsd.worker.connection import MAX_QUEUED_MESSAGES, Outbox, Turns
from wsd.worker.history import Position

pytestmark = pytest.mark.anyio


@pytest.fixture
async def outbox() -> Outbox:
    return Outbox("s", "ann", "Ann", Turns())


async def read(outbox: Outbox, count: int) -> list[Any]:
    """The next messages that a client would get."""
    got: list[Any] = []
    enough = asyncio.Event()

    async def send_text(text: str) -> None:
        got.append(json.loads(text))
        if len(got) >= count:
            enough.set()
            await asyncio.get_running_loop().create_future()

    pump = asyncio.create_task(outbox.pump(send_text))
    async with asyncio.timeout(5):
        await enough.wait()
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)
    return got


def send_droppable(outbox: Outbox, numbers: range, channel: str = "c") -> None:
    for number in numbers:
        outbox.send_droppable(channel, Position(number, "e"), str(number))


async def test_what_waits_goes_out_in_order_and_the_welcome_first(outbox: Outbox) -> None:
    outbox.send("1")
    outbox.send_all(["2", "3"])
    outbox.send_all([])
    outbox.send("4")
    outbox.send_first("0")
    assert await read(outbox, 5) == [0, 1, 2, 3, 4]


async def test_who_reads_too_slowly_is_closed(outbox: Outbox) -> None:
    for number in range(MAX_QUEUED_MESSAGES):
        outbox.send(str(number))
    assert not outbox.closing.done()
    outbox.send("one too many")
    assert outbox.closing.result() == (1013, "reading too slowly")


async def test_what_a_client_missed_waits_as_one(outbox: Outbox) -> None:
    outbox.send_all([str(number) for number in range(10 * MAX_QUEUED_MESSAGES)])
    assert not outbox.closing.done()


async def test_only_the_latest_of_a_channel_waits(outbox: Outbox) -> None:
    outbox.send('"before"')
    for number in range(5000):
        outbox.send_latest("c", Position(number, "e"), str(number))
    outbox.send_latest("d", Position(1, "e"), '"other"')
    outbox.send('"after"')
    assert await read(outbox, 4) == ["before", 4999, "other", "after"]
    outbox.send_latest("c", Position(5000, "e"), "5000")
    assert await read(outbox, 1) == [5000]


async def test_the_oldest_are_dropped_and_their_gap_is_told(outbox: Outbox) -> None:
    send_droppable(outbox, range(1, MAX_QUEUED_MESSAGES + 4))
    assert not outbox.closing.done()
    got = await read(outbox, MAX_QUEUED_MESSAGES + 1)
    assert got[0] == {"type": "gap", "channel": "c", "reason": "slow_reader", "offset": 3, "epoch": "e"}
    assert got[1:] == list(range(4, MAX_QUEUED_MESSAGES + 4))
    assert outbox.dropped == 3


async def test_a_channel_drops_its_own_messages_only(outbox: Outbox) -> None:
    send_droppable(outbox, range(1, 11), "a")
    send_droppable(outbox, range(1, MAX_QUEUED_MESSAGES + 1), "b")
    got = await read(outbox, MAX_QUEUED_MESSAGES)
    assert got[:10] == list(range(1, 11))
    assert (got[10]["channel"], got[10]["offset"], got[11]) == ("b", 10, 11)


async def test_who_cannot_be_helped_by_dropping_is_closed(outbox: Outbox) -> None:
    for number in range(MAX_QUEUED_MESSAGES):
        outbox.send(str(number))
    send_droppable(outbox, range(1, 2))
    assert outbox.closing.result() == (1013, "reading too slowly")


async def test_who_wants_much_at_once_takes_turns() -> None:
    turns = Turns()
    done: list[str] = []

    async def work(name: str) -> None:
        for _ in range(3):
            await turns()
            done.append(name)

    async def other() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            done.append("other")

    abandoned = turns()
    abandoned.cancel()
    async with asyncio.TaskGroup() as tasks:
        for name in "abcde":
            tasks.create_task(work(name))
        tasks.create_task(other())
    assert sorted(done) == sorted("abcde" * 3) + ["other"] * 3
    assert done.index("other") < 3, "nobody else waits for all of it"
    assert done[-1] != "other"
