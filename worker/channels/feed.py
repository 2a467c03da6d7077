"""The feed of one channel with history: the entries that this worker hands out, and those that it lacks.

Pure: no clock, no Redis, no clients.

Entries are received in the order of their offsets, unless something is lost on the way. An entry beyond the next offset
is held, a page of the history is read, and the missing entries go out before it: once for all members here, and nobody
reconnects.

    WAITING  a page is wanted: the position is not known yet, or there is a hole    -> LIVE, by a page
    LIVE     all entries up to `position` were handed out                           -> WAITING, by a hole, a new epoch

While Redis is away, entries come from this node alone and have no position yet: they are early. They are handed out at
once. When they are received again, with a position, members only learn the position.
"""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct, structs

from wsd.worker.broker.deduplication import SeenMessages
from wsd.worker.broker.history import PAGE_ENTRIES, Entry, Page, offset_of
from wsd.worker.broker.idempotency import RecentAttempts, attempt_of
from wsd.worker.channels.early_entries import EarlyEntries, EntryKey
from wsd.worker.channels.recent_entries import RecentEntries
from wsd.worker.wire.position import Position

MAX_HELD = 2000
"""Entries held beyond a hole. Later ones are in the history."""

MAX_HELD_BYTES = 4_194_304

MAX_ATTEMPTS = 64
"""Messages with an idempotency key that are remembered of a channel, since a client may send them again while Redis is
away."""

MAX_ENDED = 8
"""Epochs remembered that have ended."""


class Loss(StrEnum):
    """The reason why messages are missing."""

    EXPIRED = "expired"  # the history's time was over
    TRIMMED = "trimmed"  # there were more than it holds
    EPOCH_CHANGED = "epoch_changed"  # the history itself was lost
    UNAVAILABLE = "unavailable"  # Redis is away
    NO_HISTORY = "no_history"  # the channel has none


class Deliver(Struct, frozen=True):
    """Send the entry to all members, without a position if it has none yet."""

    entry: Entry


class Advance(Struct, frozen=True):
    """Tell members the position of an entry that they have already."""

    entry: Entry


class Jump(Struct, frozen=True):
    """Tell members that they are at this position now, and may have missed something before it."""

    position: Position
    reason: Loss


Step = Deliver | Advance | Jump


class Recovered(Struct, frozen=True):
    """The entries that bring a client to where the feed is, apart from the early ones."""

    entries: tuple[Entry, ...]


class ReadFirst(Struct, frozen=True):
    """The answer that a page must be read, and the question asked again.

    The page is one after `since`, for `prepend`; or, if the feed is `behind` the client, the next one for `page`.
    """

    since: int
    behind: bool = False


Recovery = Recovered | ReadFirst | Loss


class ChannelFeed:
    """The state of one channel with history on this worker."""

    __slots__ = (
        "_attempts",
        "_early",
        "_ended",
        "_held",
        "_held_before",
        "_held_bytes",
        "_last",
        "_lost_epoch",
        "_offset_before",
        "_recent",
        "_seen",
        "live",
        "position",
        "rolled_back",
    )

    def __init__(self, seen: SeenMessages) -> None:
        """`seen`: the messages that this worker handed out, of whatever channel."""
        self.position: Position | None = None  # of the last entry that was handed out
        self.live = False
        self.rolled_back = False  # the history has lost what we handed out: its epoch must be renewed
        self._seen = seen
        self._last: EntryKey | None = None  # the entry at `position`
        self._lost_epoch = False
        self._ended: tuple[str, ...] = ()
        self._held: dict[tuple[str, int], Entry] = {}  # by epoch and offset
        self._held_bytes = 0  # of entries that were added since nothing was held
        self._held_before: set[tuple[str, int]] = set()  # what was held before the read that is under way
        self._offset_before = 0
        self._early = EarlyEntries()
        self._attempts = RecentAttempts(MAX_ATTEMPTS)
        self._recent: RecentEntries | None = None

    # Entries that are received

    def receive(self, entry: Entry) -> list[Step]:
        """Take an entry from the broker. Unless the feed is live afterwards, a page is wanted."""
        position = entry.position
        if position is None:
            return self._receive_early(entry)
        at = self.position
        if self.live and at is not None and position.epoch == at.epoch:
            if position.offset <= at.offset:
                return []
            if position.offset == at.offset + 1:
                return [self._take(entry), *self._take_held()] if self._held else [self._take(entry)]
        self.live = False
        self._hold(entry, position)
        return []

    def echo(self, entry: Entry) -> list[Step]:
        """Take an entry of this worker's own that was stored.

        It will be received from the broker, too, after all entries before it.
        """
        position, at = entry.position, self.position
        if position is None:
            return []
        if self.live and at is not None and position.epoch == at.epoch and position.offset <= at.offset + 1:
            return self.receive(entry)
        self._hold(entry, position)
        return []

    def _receive_early(self, entry: Entry) -> list[Step]:
        # Held entries of the same origin were published before this one: nobody may see them after it.
        held = (each for each in self._held.values() if each.origin == entry.origin and each.number < entry.number)
        steps: list[Step] = []
        for each in [*sorted(held, key=lambda each: each.number), entry]:
            key = (each.origin, each.number)
            if key in self._seen:
                continue
            attempt = attempt_of(each.payload)
            if attempt is not None and (self._early.key_of(attempt[0]) is not None or attempt in self._attempts):
                continue  # members have it from another try
            self._seen.add(*key)
            early = structs.replace(each, position=None)
            self._early.add(early)
            steps.append(Deliver(early))
        return steps

    @property
    def early(self) -> tuple[Entry, ...]:
        """Entries that were handed out and have no position yet.

        Their positions will come after `position`, so every new member gets them. A client that had one knows it by its
        uid.
        """
        return tuple(self._early)

    def forget_early(self) -> None:
        """Forget entries that were never stored, and will not be: the workers that published them have died."""
        self._early.clear()

    def close(self) -> None:
        """Note that the last member has left the channel.

        Early entries are new again: whoever joins next may not have had them, and knows them by their uids if so.
        """
        for entry in self._early:
            self._seen.discard(entry.origin, entry.number)
        self._early.clear()

    # Pages that are read

    @property
    def read_since(self) -> int | None:
        """The offset after which to read; None if only the top is wanted.

        It includes one entry that is known already, to see that the history is still the same.
        """
        if self.position is None:
            return None
        return max(0, self.position.offset - 1)

    def reading(self) -> None:
        """Note that a page is about to be asked for."""
        self._held_before = set(self._held)
        self._offset_before = self.position.offset if self.position is not None else 0

    def page(self, page: Page, asked: int = PAGE_ENTRIES) -> list[Step]:
        """Take the page that was asked for, of `asked` entries at most.

        Unless the feed is live afterwards, another page is wanted.
        """
        at = self.position
        if at is None:
            # The present members joined while Redis was away: what was received since then is theirs.
            held = [offset for epoch, offset in self._held if epoch == page.top.epoch and offset <= page.top.offset]
            start = Position(min(held) - 1 if held else page.top.offset, page.top.epoch)
            steps: list[Step] = [self._jump(start, Loss.UNAVAILABLE)]
            return steps if held else [*steps, *self._become_live(start.epoch)]
        if page.top.epoch != at.epoch:
            # All that the history holds now is new to us: it is read from its beginning.
            self.live = False
            self._lost_epoch = True
            self._last = None
            self._forget_recent()
            self._end(at.epoch)
            self._ended = tuple(epoch for epoch in self._ended if epoch != page.top.epoch)
            self.position = Position(0, page.top.epoch)
            return []
        if page.top.offset < self._offset_before or self._is_another_history(page.entries, at):
            self.live = False
            self.rolled_back = True
            return []
        steps = []
        new = [e for e in page.entries if e.position is not None and e.position.offset > at.offset]
        complete = len(page.entries) < asked and not page.more
        first = offset_of(new[0]) if new else page.top.offset + 1
        if self._lost_epoch:
            self._lost_epoch = False
            steps.append(self._jump(Position(first - 1, at.epoch), Loss.EPOCH_CHANGED))
        elif new and first > at.offset + 1:
            steps.append(self._jump(Position(first - 1, at.epoch), Loss.TRIMMED))
        elif not new and complete and page.top.offset > at.offset:
            steps.append(self._jump(page.top, Loss.EXPIRED))
        steps += [self._take(entry) for entry in new]
        if complete:
            steps += self._become_live(at.epoch)
        else:
            self.live = False
        return steps

    def doubt(self) -> None:
        """Note that what is received from now on may come from another history, which has lost what was handed out.

        Entries are held until a page was compared. An entry right after `position` would hide that those up to it are
        others now.
        """
        self.live = False

    def renewed(self) -> None:
        """Note that the epoch that was rolled back has ended."""
        self.rolled_back = False

    def _is_another_history(self, entries: Iterable[Entry], at: Position) -> bool:
        known = next((e for e in entries if offset_of(e) == at.offset), None)
        return known is not None and self._last is not None and (known.origin, known.number) != self._last

    def _become_live(self, epoch: str) -> list[Step]:
        # Entries of another epoch that were held before the page was asked for are of an epoch that has ended.
        for key in self._held_before:
            if key[0] != epoch:
                self._held.pop(key, None)
                self._end(key[0])
        self._held_before = set()
        self.live = True
        steps = self._take_held()
        self.live = not self._held
        return steps

    def _take_held(self) -> list[Step]:
        steps: list[Step] = []
        while self.position is not None:
            epoch, offset = self.position.epoch, self.position.offset
            entry = self._held.pop((epoch, offset + 1), None)
            if entry is None:
                for key in [key for key in self._held if key[0] == epoch and key[1] <= offset]:
                    del self._held[key]
                break
            steps.append(self._take(entry))
        return steps

    def _take(self, entry: Entry) -> Step:
        self.position = entry.position
        key = self._last = (entry.origin, entry.number)
        if self._recent is not None:
            self._recent.append(entry)
        is_known = key in self._seen
        if not is_known:
            self._seen.add(*key)
        if (attempt := attempt_of(entry.payload)) is not None:
            self._attempts.add(*attempt)
            if (earlier := self._early.key_of(attempt[0])) is not None:  # another try of it was handed out early
                is_known, key = True, earlier
        if is_known:
            self._early.remove(key)
            return Advance(entry)
        return Deliver(entry)

    def _jump(self, position: Position, reason: Loss) -> Step:
        self.position = position
        self._last = None
        self._forget_recent()
        return Jump(position, reason)

    def _hold(self, entry: Entry, position: Position) -> None:
        # An entry that comes late of an epoch that has ended is not held: members were told of the change.
        if not self._held:
            self._held_bytes = 0
        if len(self._held) < MAX_HELD and self._held_bytes < MAX_HELD_BYTES and position.epoch not in self._ended:
            self._held[position.epoch, position.offset] = entry
            self._held_bytes += len(entry.payload)

    def _end(self, epoch: str) -> None:
        if epoch not in self._ended:
            self._ended = (*self._ended, epoch)[-MAX_ENDED:]

    # Clients that come back

    def retain(self) -> None:
        """Keep entries that are handed out from now on, for clients that come back."""
        if self._recent is None:
            self._recent = RecentEntries()

    def release(self) -> None:
        """Forget the entries that were kept."""
        self._recent = None

    def recover(self, since: Position) -> Recovery:
        """Return the entries that a client has missed that saw all up to `since`, or how to find them."""
        at = self.position
        if at is None:
            return Loss.UNAVAILABLE
        if since.epoch != at.epoch or self._lost_epoch:
            return Loss.EPOCH_CHANGED
        if since.offset > at.offset:
            return ReadFirst(since.offset, behind=True)
        if since.offset == at.offset:
            return Recovered(())
        missed = self._recent.after(since.offset) if self._recent is not None else None
        return Recovered(missed) if missed is not None else ReadFirst(since.offset)

    def before_newest(self, count: int, begin: int) -> Position | None:
        """Return the position before the newest `count` entries, or None while the feed is at no position.

        `begin`: the offset before the first entry that the history still has.
        """
        at = self.position
        return Position(max(at.offset - count, begin), at.epoch) if at is not None else None

    def prepend(self, since: Position, page: Page) -> Loss | None:
        """Keep the entries of a page that was read after `since`. Return why that is not possible, if it is not."""
        at = self.position
        if self._recent is None or at is None or page.top.epoch != since.epoch or at.epoch != since.epoch:
            return Loss.EPOCH_CHANGED
        end = self._recent.first_offset(at.offset + 1)
        missing = [e for e in page.entries if offset_of(e) < end]
        if not missing:
            return Loss.TRIMMED if page.entries else Loss.EXPIRED
        if offset_of(missing[0]) > since.offset + 1:
            return Loss.TRIMMED
        if len(missing) != end - offset_of(missing[0]):
            return Loss.TRIMMED
        self._recent.prepend(missing)
        return None

    def can_prepend(self, page: Page) -> bool:
        """Tell whether a page leads up to the entries that are kept, and there is room for it."""
        at = self.position
        if self._recent is None or at is None or not page.entries:
            return True  # `prepend` finds out what is wrong
        end = self._recent.first_offset(at.offset + 1)
        return offset_of(page.entries[-1]) >= end - 1 and not self._recent.full

    def known_part(self, page: Page) -> Page:
        """Return a page without the entries that are still to be handed out."""
        last = self.position.offset if self.position is not None else 0
        return structs.replace(page, entries=tuple(entry for entry in page.entries if offset_of(entry) <= last))

    @staticmethod
    def run_of(page: Page) -> Page:
        """Return a page from its last hole on, if it has one."""
        entries = page.entries
        begin = len(entries) - 1
        while begin > 0 and offset_of(entries[begin - 1]) + 1 == offset_of(entries[begin]):
            begin -= 1
        return structs.replace(page, entries=entries[begin:]) if begin > 0 else page

    def loss_before(self, page: Page, since: Position) -> Loss | None:
        """Return why the entries of a page are not those that come right after `since`; None if they are."""
        at = self.position
        if at is None or page.top.epoch != since.epoch or at.epoch != since.epoch:
            return Loss.EPOCH_CHANGED
        if not page.entries:
            return Loss.EXPIRED if at.offset > since.offset else None
        first, last = offset_of(page.entries[0]), offset_of(page.entries[-1])
        whole = first == since.offset + 1 and last - first + 1 == len(page.entries)
        return None if whole else Loss.TRIMMED

    def _forget_recent(self) -> None:
        if self._recent is not None:
            self._recent.clear()
