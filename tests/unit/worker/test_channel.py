"""Reads that clients which come back together share."""

import asyncio

import pytest

from wsd.worker.broker.deduplication import SeenMessages
from wsd.worker.broker.history import PAGE_ENTRIES, Entry, Page
from wsd.worker.channels import channel
from wsd.worker.channels.channel import SharedReads
from wsd.worker.channels.feed import ChannelFeed
from wsd.worker.delivery.batch import Batch, Message
from wsd.worker.dialects.hub_dialect import HUB
from wsd.worker.wire.position import Position

pytestmark = pytest.mark.anyio


def entry(offset: int, payload: bytes = b"{}") -> Entry:
    return Entry(b"a", offset, payload, Position(offset, "e"))


def page(count: int, *, more: bool = False, payload: bytes = b"{}") -> Page:
    return Page(Position(count, "e"), tuple(entry(offset + 1, payload) for offset in range(count)), more=more)


def encode() -> Batch:
    return Batch("room", "close_and_resume", [Message(b"{}")])


async def test_a_batch_is_encoded_once_while_reads_are_retained() -> None:
    shared, entries = SharedReads(), [entry(1), entry(2)]
    assert shared.batch(HUB, entries, encode) is not shared.batch(HUB, entries, encode)
    shared.retain(ChannelFeed(SeenMessages()))
    first = shared.batch(HUB, entries, encode)
    assert shared.batch(HUB, entries, encode) is first
    assert shared.batch(HUB, entries[:1], encode) is not first
    shared.cancel()


async def test_retained_reads_are_forgotten_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "RETAIN_SECONDS", 0.01)
    shared, entries = SharedReads(), [entry(1)]
    shared.retain(ChannelFeed(SeenMessages()))
    first = shared.batch(HUB, entries, encode)
    shared.add_page(0, page(1, more=True))
    async with asyncio.timeout(10):
        while shared.page_after(0) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    assert shared.batch(HUB, entries, encode) is not first


@pytest.mark.parametrize(
    ("read", "kept"),
    [(page(0), False), (page(3), False), (page(3, more=True), True), (page(PAGE_ENTRIES), True)],
    ids=["empty", "the last one", "more behind it", "full"],
)
async def test_only_pages_that_cannot_grow_are_shared(read: Page, kept: bool) -> None:
    shared = SharedReads()
    shared.add_page(0, read)
    assert (shared.page_after(0) is read) is kept


async def test_shared_pages_are_bounded_but_the_newest_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "MAX_SHARED_BYTES", 25)
    shared = SharedReads()
    for offset in (0, 1, 2):
        shared.add_page(offset, page(1, more=True, payload=b"x" * 10))
    assert [shared.page_after(offset) is not None for offset in (0, 1, 2)] == [False, True, True]
    shared.add_page(3, page(1, more=True, payload=b"x" * 100))
    assert [shared.page_after(offset) is not None for offset in (1, 2, 3)] == [False, False, True]
