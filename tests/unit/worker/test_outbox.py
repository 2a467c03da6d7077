"""Messages to one client: in order, one write in each iteration of the event loop, and never more than it takes."""

import asyncio
import json
from typing import Any

import pytest

from tests.support.outbox_socket import Socket, always, payload, turn
from tests.support.waiting import eventually
from wsd.worker.delivery.batch import Batch, Message
from wsd.worker.delivery.fanout import Fanout
from wsd.worker.delivery.outbox import Outbox
from wsd.worker.delivery.outlet import Outlet

pytestmark = pytest.mark.anyio


async def test_messages_of_one_loop_iteration_are_written_at_once() -> None:
    socket = Socket(Outlet())
    for number in range(5):
        socket.outbox.send(payload(number))
    assert socket.writes == []
    await turn()
    socket.outbox.send(payload(5))
    await turn()
    assert socket.writes == [[0, 1, 2, 3, 4], [5]]


async def test_nothing_is_sent_before_the_welcome() -> None:
    outlet = Outlet()
    socket = Socket(outlet)
    socket.outbox.bind("t", "ann", "Ann")
    socket.outbox.send(payload("early"))
    await turn()
    assert socket.writes == []
    socket.outbox.send_first(payload("welcome"))
    socket.outbox.release()
    assert outlet.waiting_bytes == 0
    assert socket.got == ["welcome", "early"]
    assert not socket.outbox.blocked


async def test_messages_of_a_channel_are_one_for_all_its_members() -> None:
    outlet = Outlet()
    fanout = Fanout(outlet)
    sockets = [Socket(outlet, str(number)) for number in range(3)]
    for socket in sockets:
        fanout.join(socket.outbox, "c")
    for number in range(16):
        fanout.send_to_members("c", always(Message(payload(number))))
    items = {id(socket.outbox.pending[0]) for socket in sockets}
    assert len(items) == 1
    assert all(len(socket.outbox.pending) == 1 for socket in sockets)
    await turn()
    assert [socket.writes for socket in sockets] == [[list(range(16))]] * 3
    assert fanout.sent == 48


async def test_the_order_across_channels_and_replies_is_that_of_the_calls() -> None:
    outlet = Outlet()
    fanout = Fanout(outlet)
    both, one = Socket(outlet, "both"), Socket(outlet, "one")
    for channel in ("a", "b"):
        fanout.join(both.outbox, channel)
    fanout.join(one.outbox, "a")
    fanout.send_to_members("a", always(Message(payload("a1"))))
    fanout.send_to_members("b", always(Message(payload("b1"))))
    fanout.send_to_members("a", always(Message(payload("a2"))))
    one.outbox.send(payload("reply"))
    fanout.send_to_members("a", always(Message(payload("a3"))))
    fanout.send_to_members("b", always(Message(payload("b2"))))
    await turn()
    assert both.writes == [["a1", "b1", "a2", "a3", "b2"]]
    assert one.writes == [["a1", "a2", "reply", "a3"]]


async def test_a_member_gets_exactly_the_messages_between_its_join_and_its_leave() -> None:
    outlet = Outlet()
    fanout = Fanout(outlet)
    first, second = Socket(outlet, "1"), Socket(outlet, "2")
    fanout.join(first.outbox, "c")
    fanout.send_to_members("c", always(Message(payload(1))))
    fanout.join(second.outbox, "c")
    fanout.send_to_members("c", always(Message(payload(2))))
    fanout.leave(first.outbox, "c")
    fanout.send_to_members("c", always(Message(payload(3))))
    await turn()
    assert (first.got, second.got) == ([1, 2], [2, 3])


async def test_a_slow_reader_delays_no_others_and_gets_everything_when_it_reads() -> None:
    outlet = Outlet()
    fanout = Fanout(outlet)
    slow, quick = Socket(outlet, "slow"), Socket(outlet, "quick")
    for socket in (slow, quick):
        fanout.join(socket.outbox, "c")
    slow.full = True
    for number in range(10):
        fanout.send_to_members("c", always(Message(payload(number))))
        await turn()
    assert quick.got == list(range(10))
    assert slow.got == [0]
    assert outlet.waiting_bytes > 0
    slow.reads()
    assert slow.got == list(range(10))
    assert outlet.waiting_bytes == 0


async def test_a_client_that_reads_too_slowly_is_closed() -> None:
    outlet = Outlet(max_buffer_bytes=1000)
    socket = Socket(outlet)
    socket.full = True
    for _ in range(11):
        assert socket.ended is None
        socket.outbox.send(payload("x" * 98))
        await turn()
    assert socket.ended == (1013, "reading too slowly")
    assert outlet.waiting_bytes == 0
    socket.outbox.send(payload("more"))
    await turn()
    assert outlet.waiting_bytes == 0


async def test_the_slowest_reader_is_closed_if_all_together_hold_too_much() -> None:
    outlet = Outlet(max_buffer_bytes=1000, max_total_bytes=1500)
    slow, slower = Socket(outlet, "slow"), Socket(outlet, "slower")
    for socket, count in ((slow, 8), (slower, 10)):
        socket.full = True
        for _ in range(count):
            socket.outbox.send(payload("x" * 98))
            await turn()
    assert slower.ended == (1013, "reading too slowly")
    assert slow.ended is None
    assert outlet.waiting_bytes < 1000
    slow.reads()
    assert len(slow.got) == 8
    assert outlet.waiting_bytes == 0


async def test_messages_that_a_client_missed_may_exceed_the_buffer_limit() -> None:
    socket = Socket(Outlet(max_buffer_bytes=100))
    socket.full = True
    missed = Batch("c", "close_and_resume", [Message(payload(number)) for number in range(1000)])
    socket.outbox.send_missed(missed)
    socket.outbox.send_missed(missed)
    await turn()
    assert socket.ended is None
    socket.reads()
    assert socket.got == [*range(1000), *range(1000)]


async def test_a_close_comes_after_what_was_sent_before_it() -> None:
    socket = Socket(Outlet())
    socket.outbox.send(payload("last"))
    socket.outbox.close(1000, "bye")
    socket.outbox.close(1001, "again")
    assert socket.got == ["last"]
    assert socket.ended == (1000, "bye")
    assert await socket.outbox.closing == (1000, "bye")


async def test_messages_after_the_end_of_a_connection_are_dropped() -> None:
    outlet = Outlet()
    socket = Socket(outlet)
    socket.full = True
    socket.outbox.send(payload(1))
    await turn()
    socket.outbox.send(payload(2))
    await turn()
    socket.outbox.gone()
    socket.outbox.send(payload(3))
    await turn()
    assert socket.got == [1]
    assert outlet.waiting_bytes == 0


async def test_without_a_writer_a_pump_sends_one_after_the_other() -> None:
    outbox = Outbox(Outlet())
    outbox.bind("s", "ann", "Ann")
    outbox.send(payload(1))
    outbox.send_first(payload(0))
    outbox.send_missed(Batch("c", "close_and_resume", [Message(payload(2)), Message(payload(3))]))
    got: list[Any] = []
    taking = asyncio.Event()

    async def send_text(text: str) -> None:
        await taking.wait()
        got.append(json.loads(text))

    pump = asyncio.create_task(outbox.pump(send_text))
    await turn()
    outbox.send(payload(4))
    taking.set()
    await eventually(lambda: len(got) == 5)
    assert got == [0, 1, 2, 3, 4]
    pump.cancel()
    await asyncio.gather(pump, return_exceptions=True)


async def test_without_a_writer_the_pump_sends_what_waits_and_returns_when_the_server_ends_it() -> None:
    outbox, sent = Outbox(Outlet()), list[str]()

    async def send(text: str) -> None:
        sent.append(text)

    pump = asyncio.create_task(outbox.pump(send))
    await asyncio.sleep(0)
    outbox.send(b"the last")
    outbox.flush()
    outbox.close(4000, "idle")
    async with asyncio.timeout(5):
        await pump
    assert sent == ["the last"]
    assert outbox.closing.result() == (4000, "idle")
