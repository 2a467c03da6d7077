"""What this worker hands out of one channel with history, and what it lacks. Pure: no clock, no Redis, no clients.

Entries are heard in the order of their offsets, as long as nothing is lost on the way. An entry beyond the next offset
is held, a page is read, and what was missing goes out before it: once for all members here, and nobody reconnects.

    WAITING  a page is wanted: the position is not known yet, or there is a hole   -> LIVE, by a page
    LIVE     handed out all up to `position`                                       -> WAITING, by a hole, a new epoch

Before they have a position, entries may come from this node alone (Redis is away). They are handed out at once; when
they come again, with a position, members only learn the position.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from enum import StrEnum
from itertools import dropwhile

from msgspec import Struct, structs

from wsd.worker.broker.deduplication import SeenMessages
from wsd.worker.broker.history import PAGE_ENTRIES, Entry, Origin, Page, offset_of
from wsd.worker.broker.idempotency import RecentAttempts, attempt_of
from wsd.worker.wire.position import Position

MAX_HELD = 2000
"""Entries held beyond a hole; those after them are in the history."""

MAX_HELD_BYTES = 4_194_304

MAX_EARLY = 10_000
MAX_EARLY_BYTES = 16_777_216

MAX_RECENT_BYTES = 262_144
"""How much is kept of what was handed out, for those who come back; what is older they read."""

MAX_TRIES = 64
"""Messages with an idempotency key that are remembered of a channel: they may be tried again while Redis is away."""

MAX_ENDED = 8
"""Epochs remembered that have ended."""


class Loss(StrEnum):
    """Why messages are missing."""

    EXPIRED = "expired"  # the history's time was over
    TRIMMED = "trimmed"  # there were more than it holds
    EPOCH_CHANGED = "epoch_changed"  # the history itself was lost
    UNAVAILABLE = "unavailable"  # Redis is away
    NO_HISTORY = "no_history"  # the channel has none


class Deliver(Struct, frozen=True):
    """Send it to all members; without a position when it has none yet."""

    entry: Entry


class Advance(Struct, frozen=True):
    """Members have it already, and learn its position."""

    entry: Entry


class Jump(Struct, frozen=True):
    """Members are at this position now, and may have missed something before it."""

    position: Position
    reason: Loss


Step = Deliver | Advance | Jump


class Recovered(Struct, frozen=True):
    """With these, and what is `early`, a client is where the feed is."""

    entries: tuple[Entry, ...]


class ReadFirst(Struct, frozen=True):
    """`prepend` a page of the entries after `since`, or `page` one if it is behind itself; then ask again."""

    since: int
    behind: bool = False


Recovery = Recovered | ReadFirst | Loss


class ChannelFeed:
    def __init__(self, seen: SeenMessages) -> None:
        """`seen`: what this worker handed out, of whatever channel."""
        self.position: Position | None = None  # of the last entry that was handed out
        self.live = False
        self.rolled_back = False  # the history has lost what we handed out: its epoch must be renewed
        self._seen = seen
        self._last: tuple[Origin, int] | None = None  # the entry at `position`
        self._lost_epoch = False
        self._ended: tuple[str, ...] = ()
        self._held: dict[tuple[str, int], Entry] = {}
        self._held_bytes = 0  # that were added since nothing was held
        self._held_before: set[tuple[str, int]] = set()  # the read that is under way
        self._offset_before = 0
        self._early: OrderedDict[tuple[Origin, int], Entry] = OrderedDict()
        self._early_bytes = 0
        self._early_tries: dict[bytes, tuple[Origin, int]] = {}  # keys of `_early`, by what their tries share
        self._tries = RecentAttempts(MAX_TRIES)
        self._recent: deque[Entry] | None = None
        self._recent_bytes = 0

    # What is heard

    def hear(self, entry: Entry) -> list[Step]:
        position = entry.position
        if position is None:
            return self._hear_early(entry)
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
        """An entry of this worker's own that was stored: it will be heard, too, after all that is before it."""
        position, at = entry.position, self.position
        if position is None:
            return []
        if self.live and at is not None and position.epoch == at.epoch and position.offset <= at.offset + 1:
            return self.hear(entry)
        self._hold(entry, position)
        return []

    def _hear_early(self, entry: Entry) -> list[Step]:
        # What is held of the same origin was said before: nobody must see it later than this.
        held = (each for each in self._held.values() if each.origin == entry.origin and each.number < entry.number)
        steps: list[Step] = []
        for each in [*sorted(held, key=lambda each: each.number), entry]:
            key = (each.origin, each.number)
            if key in self._seen:
                continue
            self._seen.add(*key)
            one = attempt_of(each.payload)
            if one is not None:
                if one[0] in self._early_tries or one in self._tries:
                    continue  # members have it from another try
                self._early_tries[one[0]] = key
            early = self._early[key] = structs.replace(each, position=None)
            self._early_bytes += len(early.payload)
            while len(self._early) > MAX_EARLY or self._early_bytes > MAX_EARLY_BYTES:
                self._forget_one_early(next(iter(self._early)))
            steps.append(Deliver(early))
        return steps

    def _forget_one_early(self, key: tuple[Origin, int]) -> None:
        entry = self._early.pop(key, None)
        if entry is not None:
            self._early_bytes -= len(entry.payload)
        if entry is not None and (one := attempt_of(entry.payload)) is not None:
            del self._early_tries[one[0]]

    @property
    def early(self) -> tuple[Entry, ...]:
        """What was handed out and has no position yet. It will stand after `position`, so every new member gets it; one
        that had it knows it by its uid."""
        return tuple(self._early.values())

    def forget_early(self) -> None:
        """Entries that were never stored will not be: who said them was lost with them."""
        self._early.clear()
        self._early_bytes = 0
        self._early_tries.clear()

    # What is read

    @property
    def wanted_since(self) -> int | None:
        """Where to read: one entry too many, to see that the history is still the one we know."""
        if self.position is None:
            return None
        return max(0, self.position.offset - 1)

    def reading(self) -> None:
        """A page is being asked for."""
        self._held_before = set(self._held)
        self._offset_before = self.position.offset if self.position is not None else 0

    def page(self, page: Page, asked: int = PAGE_ENTRIES) -> list[Step]:
        """The answer. Where the feed is not live after it, another one is wanted."""
        at = self.position
        if at is None:
            # Who is here already joined while Redis was away: what was heard since is theirs.
            heard = [offset for epoch, offset in self._held if epoch == page.top.epoch and offset <= page.top.offset]
            start = Position(min(heard) - 1 if heard else page.top.offset, page.top.epoch)
            steps: list[Step] = [self._jump(start, Loss.UNAVAILABLE)]
            return steps if heard else [*steps, *self._become_live(start.epoch)]
        if page.top.epoch != at.epoch:
            # Whatever it holds is new to us; it is read from its beginning.
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

    def renewed(self) -> None:
        """The epoch that was rolled back has ended."""
        self.rolled_back = False

    def _is_another_history(self, entries: Iterable[Entry], at: Position) -> bool:
        known = next((e for e in entries if offset_of(e) == at.offset), None)
        return known is not None and self._last is not None and (known.origin, known.number) != self._last

    def _become_live(self, epoch: str) -> list[Step]:
        # What we held before we asked, and of another epoch, is of one that has ended.
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
            self._recent_bytes += len(entry.payload)
            while self._recent_bytes > MAX_RECENT_BYTES and len(self._recent) > 1:
                self._recent_bytes -= len(self._recent.popleft().payload)
        is_known = key in self._seen
        if not is_known:
            self._seen.add(*key)
        if (one := attempt_of(entry.payload)) is not None:
            self._tries.add(*one)
            is_known = one[0] in self._early_tries or is_known
            key = self._early_tries.get(one[0], key)  # another try of it was handed out early
        if is_known:
            self._forget_one_early(key)
            return Advance(entry)
        return Deliver(entry)

    def _jump(self, position: Position, reason: Loss) -> Step:
        self.position = position
        self._last = None
        self._forget_recent()
        return Jump(position, reason)

    def _hold(self, entry: Entry, position: Position) -> None:
        # What comes late of an epoch that has ended: members were told of the change, and are beyond it.
        if not self._held:
            self._held_bytes = 0
        if len(self._held) < MAX_HELD and self._held_bytes < MAX_HELD_BYTES and position.epoch not in self._ended:
            self._held[position.epoch, position.offset] = entry
            self._held_bytes += len(entry.payload)

    def _end(self, epoch: str) -> None:
        if epoch not in self._ended:
            self._ended = (*self._ended, epoch)[-MAX_ENDED:]

    # Who comes back

    def retain(self) -> None:
        """From now on keep what is handed out, for those who come back."""
        if self._recent is None:
            self._recent = deque()
            self._recent_bytes = 0

    def release(self) -> None:
        self._recent = None

    def recover(self, since: Position) -> Recovery:
        """What a client has missed that saw all up to `since`: with it, it is where this feed is."""
        at = self.position
        if at is None:
            return Loss.UNAVAILABLE
        if since.epoch != at.epoch or self._lost_epoch:
            return Loss.EPOCH_CHANGED
        if since.offset > at.offset:
            return ReadFirst(since.offset, behind=True)
        if since.offset == at.offset:
            return Recovered(())
        recent = self._recent
        if recent and offset_of(recent[0]) <= since.offset + 1:
            missed = dropwhile(lambda entry: offset_of(entry) <= since.offset, recent)
            return Recovered(tuple(missed))
        return ReadFirst(since.offset)

    def prepend(self, since: Position, page: Page) -> Loss | None:
        """Add what was read after `since` to what is retained; why that is not possible, if it is not."""
        at = self.position
        if self._recent is None or at is None or page.top.epoch != since.epoch or at.epoch != since.epoch:
            return Loss.EPOCH_CHANGED
        end = offset_of(self._recent[0]) if self._recent else at.offset + 1
        missing = [e for e in page.entries if offset_of(e) < end]
        if not missing:
            return Loss.EXPIRED
        if offset_of(missing[0]) > since.offset + 1:
            return Loss.TRIMMED
        if len(missing) != end - offset_of(missing[0]):
            return Loss.TRIMMED
        self._recent.extendleft(reversed(missing))
        self._recent_bytes += sum(len(entry.payload) for entry in missing)
        return None

    def can_prepend(self, page: Page) -> bool:
        """Whether a page leads up to what is retained, and there is room for it."""
        at = self.position
        if self._recent is None or at is None or not page.entries:
            return True  # `prepend` says what is wrong
        end = offset_of(self._recent[0]) if self._recent else at.offset + 1
        return offset_of(page.entries[-1]) >= end - 1 and self._recent_bytes < MAX_RECENT_BYTES

    def known_of(self, page: Page) -> Page:
        """A page without the entries that are still to be handed out."""
        last = self.position.offset if self.position is not None else 0
        return structs.replace(page, entries=tuple(entry for entry in page.entries if offset_of(entry) <= last))

    def follows(self, since: Position, page: Page) -> Loss | None:
        """Why the entries of a page are not those that come right after `since`; None if they are."""
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
            self._recent_bytes = 0
