"""The feed of a channel under all that can happen to it.

Messages are published, lost on the way, trimmed, rolled back or forgotten, in whatever order. Each client has every
message once and in order, or was told that it has not.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import hypothesis.strategies as st
from hypothesis import example, given, settings
from msgspec import structs

from wsd.worker.broker.deduplication import SeenMessages
from wsd.worker.broker.history import Entry, Page, offset_of
from wsd.worker.broker.idempotency import UID_SECONDS, stored_key, uid_of
from wsd.worker.channels.feed import Advance, ChannelFeed, Deliver, Jump, Loss, ReadFirst, Recovered, Step
from wsd.worker.wire import messages as wire
from wsd.worker.wire.position import Position

PAGE = 3  # so small that a history takes several pages

SEQUENCES = os.environ.get("WSD_TEST_SEQUENCES", "")
"""How many sequences of operations to try, different ones each time. Unset: a few thousand, always the same."""


class History:
    """The history in Redis, and the wire from there to the worker."""

    def __init__(self) -> None:
        self.epochs = 1
        self.top = 0
        self.entries: list[Entry] = []
        self.wire: list[Entry] = []

    @property
    def epoch(self) -> str:
        return f"e{self.epochs}"

    def append(self, origin: bytes, number: int) -> Entry:
        self.top += 1
        entry = Entry(origin, number, b"%s-%d" % (origin, number), Position(self.top, self.epoch))
        self.entries.append(entry)
        self.wire.append(entry)
        return entry

    def read(self, since: int | None) -> Page:
        top = Position(self.top, self.epoch)
        if since is None:
            return Page(top)
        return Page(top, tuple(e for e in self.entries if offset_of(e) > since)[:PAGE])

    def forget(self) -> None:
        self.epochs += 1
        self.top = 0
        self.entries = []


@dataclass
class Client:
    position: Position
    owed_from: int  # in the order of all messages that were ever published
    got: list[bytes] = field(default_factory=list)
    gaps: int = 0

    def deliver(self, entry: Entry) -> None:
        assert entry.payload not in self.got, "twice"
        self.got.append(entry.payload)
        if entry.position is not None:
            self.advance(entry.position)

    def deliver_again(self, entry: Entry) -> None:
        """Deliver an entry that the client may have already: it knows messages by their uid."""
        if entry.payload not in self.got:
            self.deliver(entry)
        elif entry.position is not None:
            self.advance(entry.position)

    def advance(self, position: Position) -> None:
        assert position == Position(self.position.offset + 1, self.position.epoch), "a hole"
        self.position = position

    def jump(self, position: Position) -> None:
        assert position.epoch != self.position.epoch or position.offset > self.position.offset
        self.position = position
        self.gaps += 1


class Worker:
    """A feed, and members as `Channels` keeps them."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.feed = ChannelFeed(SeenMessages())
        self.members: list[Client] = []
        self.gone: list[Client] = []
        self.page: Page | None = None  # read, and not yet applied
        self.numbers: dict[bytes, int] = defaultdict(int)
        self.spool: list[tuple[bytes, int]] = []
        self.published: list[bytes] = []

    def carry_out(self, steps: Iterable[Step]) -> None:
        for step in steps:
            for client in self.members:
                match step:
                    case Deliver(entry):
                        client.deliver(entry)
                    case Advance(entry):
                        assert entry.position is not None
                        client.advance(entry.position)
                    case Jump(position, _):
                        client.jump(position)

    def receive(self) -> None:
        if self.history.wire:
            self.carry_out(self.feed.receive(self.history.wire.pop(0)))

    def receive_more(self) -> None:
        for _ in range(5):
            self.receive()

    def ask(self) -> None:
        self.feed.reading()
        self.page = self.history.read(self.feed.read_since)

    def answer(self) -> None:
        if self.page is not None:
            page, self.page = self.page, None
            self.carry_out(self.feed.page(page, PAGE))
            if self.feed.rolled_back:
                self.history.forget()
                self.feed.renewed()

    def catch_up(self) -> None:
        self.answer()
        for _ in range(100):
            self.ask()
            self.answer()
            if self.feed.live:
                return
        raise AssertionError("it never catches up")

    def become_live(self) -> None:
        if not self.feed.live:
            self.catch_up()

    def next_message(self, origin: bytes) -> int:
        self.numbers[origin] += 1
        self.published.append(b"%s-%d" % (origin, self.numbers[origin]))
        return self.numbers[origin]

    def publish(self, origin: bytes) -> None:
        """Publish from another worker."""
        self.history.append(origin, self.next_message(origin))

    def publish_own(self) -> None:
        """Publish from this worker, which knows its message before the wire brings it. The spool goes first."""
        if self.spool:
            self.publish_later()
        else:
            self.carry_out(self.feed.echo(self.history.append(b"own", self.next_message(b"own"))))

    def publish_later(self) -> None:
        """Publish from this worker while it cannot reach Redis."""
        number = self.next_message(b"own")
        self.spool.append((b"own", number))
        self.carry_out(self.feed.receive(Entry(b"own", number, b"own-%d" % number, None)))

    def flush(self) -> None:
        for origin, number in self.spool:
            self.history.append(origin, number)
        self.spool = []

    def join(self) -> None:
        self.become_live()
        if self.feed.position is not None:
            client = Client(self.feed.position, len(self.published))
            for entry in self.feed.early:
                client.deliver(entry)
            self.members.append(client)

    def drop(self) -> None:
        if self.members:
            self.gone.append(self.members.pop(0))

    def resume(self) -> None:
        if not self.gone:
            return
        self.become_live()
        client = self.gone.pop(0)
        self.feed.retain()
        for _ in range(10):
            match self.feed.recover(client.position):
                case Recovered(entries):
                    for entry in entries:
                        client.deliver_again(entry)
                    break
                case ReadFirst(behind=True):
                    self.catch_up()
                    at = self.feed.position
                    if at is not None and at.epoch == client.position.epoch and at.offset < client.position.offset:
                        client.position, client.gaps = at, client.gaps + 1
                        break
                case ReadFirst(since):
                    entries = tuple(e for e in self.history.entries if offset_of(e) > since)
                    page = Page(Position(self.history.top, self.history.epoch), entries)
                    if self.feed.prepend(client.position, page) is not None:
                        assert self.feed.position is not None
                        client.position, client.gaps = self.feed.position, client.gaps + 1
                        break
                case Loss():
                    assert self.feed.position is not None
                    client.position, client.gaps = self.feed.position, client.gaps + 1
                    break
        else:
            raise AssertionError("it never recovers")
        for entry in self.feed.early:
            client.deliver_again(entry)
        self.members.append(client)


OPERATIONS: dict[str, Callable[[Worker], object]] = {
    "publish a": lambda w: w.publish(b"a"),
    "publish b": lambda w: w.publish(b"b"),
    "publish own": Worker.publish_own,
    "publish later": Worker.publish_later,
    "flush": Worker.flush,
    "receive": Worker.receive,
    "receive more": Worker.receive_more,
    "lose": lambda w: w.history.wire and w.history.wire.pop(0),
    "lose all": lambda w: w.history.wire.clear(),
    "ask": Worker.ask,
    "answer": Worker.answer,
    "catch up": Worker.catch_up,
    "join": Worker.join,
    "drop": Worker.drop,
    "resume": Worker.resume,
    "release": lambda w: w.feed.release(),
    "expire": lambda w: w.history.entries.clear(),
    "trim": lambda w: w.history.entries and w.history.entries.pop(0),
    "forget": lambda w: w.history.forget(),
    "doubt": lambda w: w.feed.doubt(),
}


def finish(worker: Worker) -> None:
    worker.flush()
    while worker.history.wire:
        worker.receive()
    worker.catch_up()
    while worker.gone:
        worker.resume()


@settings(max_examples=int(SEQUENCES or 3000), derandomize=not SEQUENCES, deadline=None)
@given(st.lists(st.sampled_from(sorted(OPERATIONS)), max_size=60))
@example(["forget", "publish own", "forget", "catch up", "publish later", "receive", "publish later"])
@example(["publish a", "publish own", "forget", "catch up", "publish later", "receive more", "publish later"])
def test_every_client_gets_each_message_once_and_in_order_or_is_told(operations: list[str]) -> None:
    worker = Worker(History())
    worker.catch_up()
    worker.join()
    for name in operations:
        OPERATIONS[name](worker)
    finish(worker)
    at = worker.feed.position
    assert at == Position(worker.history.top, worker.history.epoch)
    for client in worker.members:
        assert client.position == at
        for origin in (b"a", b"b", b"own"):
            numbers = [int(payload.split(b"-")[1]) for payload in client.got if payload.startswith(origin + b"-")]
            assert numbers == sorted(numbers), "out of order"
        if not client.gaps:
            missed = set(worker.published[client.owed_from :]) - set(client.got)
            assert not missed, f"lost without a word: {missed}"


def tried(number: int, period: int, *, origin: bytes = b"a", key: str = "k", offset: int | None = None) -> Entry:
    """One try of a message with an idempotency key."""
    uid = uid_of("c", stored_key("ann", key), period * UID_SECONDS)
    payload = wire.encode(wire.Message(channel="c", data=1, uid=uid))
    return Entry(origin, number, payload, None if offset is None else Position(offset, "e1"))


def live_feed() -> ChannelFeed:
    feed = ChannelFeed(SeenMessages())
    feed.reading()
    feed.page(Page(Position(0, "e1")))
    return feed


def test_a_message_that_is_tried_again_while_redis_is_away_is_handed_out_once() -> None:
    feed = live_feed()
    first, again, elsewhere = tried(1, 10), tried(2, 11), tried(1, 11, origin=b"b")
    assert feed.receive(first) == [Deliver(first)]
    assert feed.receive(again) == []
    assert feed.receive(elsewhere) == []
    assert feed.early == (first,)
    stored = tried(1, 11, origin=b"b", offset=1)  # Redis took the try of the other worker
    assert feed.receive(stored) == [Advance(stored)]
    assert not feed.early


def test_a_message_that_was_stored_and_is_tried_again_while_redis_is_away_is_handed_out_once() -> None:
    feed = live_feed()
    stored = tried(1, 10, offset=1)
    assert feed.receive(stored) == [Deliver(stored)]
    assert feed.receive(tried(1, 10, origin=b"b")) == []
    assert feed.receive(tried(2, 11, origin=b"b")) == []
    assert feed.early == ()


def test_a_message_that_counts_as_new_is_handed_out_whatever_its_key() -> None:
    feed = live_feed()
    stored, later = tried(1, 10, offset=1), tried(2, 12)
    assert feed.receive(stored) == [Deliver(stored)]
    assert feed.receive(later) == [Deliver(later)]
    after = tried(2, 12, offset=2)
    assert feed.receive(after) == [Advance(after)]
    newest, other = tried(3, 12, offset=3), tried(4, 12, key="another", offset=4)
    assert feed.receive(newest) == [Deliver(newest)], "Redis knows which messages are new"
    assert feed.receive(other) == [Deliver(other)]


def test_who_joins_a_channel_that_was_empty_gets_what_others_had_before_it_was_stored() -> None:
    seen = SeenMessages()
    before, after = (ChannelFeed(seen) for _ in range(2))
    for feed in (before, after):
        feed.reading()
        feed.page(Page(Position(0, "e1")))
    plain = Entry(b"a", 1, b"plain", None)
    first, again = tried(2, 10), tried(1, 11, origin=b"b")
    assert before.receive(plain) == [Deliver(plain)]
    assert before.receive(first) == [Deliver(first)]
    assert before.receive(again) == []
    before.close()
    stored = Entry(b"a", 1, b"plain", Position(1, "e1"))
    assert after.receive(stored) == [Deliver(stored)]
    tried_again = tried(1, 11, origin=b"b", offset=2)  # Redis took the second try
    assert after.receive(tried_again) == [Deliver(tried_again)]


def test_after_a_new_connection_nothing_is_handed_out_before_the_histories_were_compared() -> None:
    """The server is another one now, which lacked the entries 2 and 3. Two others have their offsets."""
    feed = live_feed()
    had = [Entry(b"a", number, b"", Position(number, "e1")) for number in (1, 2, 3)]
    others = [Entry(b"b", number - 1, b"", Position(number, "e1")) for number in (2, 3, 4)]
    assert [feed.receive(entry) for entry in had] == [[Deliver(entry)] for entry in had]
    feed.doubt()
    assert feed.receive(others[2]) == [], "it would be next, by its offset"
    feed.reading()
    assert feed.read_since == 2
    assert feed.page(Page(Position(4, "e1"), tuple(others[1:]))) == []
    assert feed.rolled_back
    feed.renewed()
    feed.reading()
    assert feed.page(Page(Position(4, "e2"))) == []
    feed.reading()
    in_new_epoch = [structs.replace(e, position=Position(offset_of(e), "e2")) for e in [had[0], *others]]
    steps = feed.page(Page(Position(4, "e2"), tuple(in_new_epoch)))
    assert steps == [
        Jump(Position(0, "e2"), Loss.EPOCH_CHANGED),
        Advance(in_new_epoch[0]),
        *map(Deliver, in_new_epoch[1:]),
    ]
    assert feed.live


def test_after_a_new_connection_to_the_same_history_the_feed_goes_on() -> None:
    feed = live_feed()
    first, second = (Entry(b"a", number, b"", Position(number, "e1")) for number in (1, 2))
    assert feed.receive(first) == [Deliver(first)]
    feed.doubt()
    assert feed.receive(second) == []
    feed.reading()
    assert feed.page(Page(Position(2, "e1"), (first, second))) == [Deliver(second)]
    assert feed.live
