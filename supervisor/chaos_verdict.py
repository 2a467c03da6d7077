"""What was promised and what arrived, in a run of `wsd chaos`. Pure: no clock, no clients."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from msgspec import Struct


class Verdict(Struct, frozen=True, kw_only=True):
    """Counts of messages, or of pairs of message and subscriber where they concern one. Times in seconds."""

    seed: int
    duration: float
    faults: dict[str, int]  # by kind
    published: int
    acked: int  # of them: stored, as the cluster said
    expected: int  # acked messages by subscribers
    delivered: int
    lost: int  # acked, and not delivered, whether the subscriber was told or not
    duplicated: int
    out_of_order: int
    told: int  # times that a subscriber was told of a loss
    holes: int  # offsets that a subscriber missed without being told
    reconnects: int
    resumed: int  # of them: the session went on
    recovery_p50: float
    recovery_p99: float
    ack_p50: float
    ack_p99: float

    @property
    def passed(self) -> bool:
        return not (self.lost or self.duplicated or self.out_of_order or self.holes) and self.acked > 0


class Ledger:
    """Publishers number their messages from 1; every subscriber is to get all that are acked."""

    def __init__(self, subscribers: Sequence[str]) -> None:
        self._subscribers = subscribers
        self.published = 0
        self.acked: dict[str, set[int]] = defaultdict(set)  # by publisher
        self.delivered: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))  # subscriber, publisher
        self.duplicated = 0
        self.out_of_order = 0
        self.told = 0
        self.holes = 0
        self.reconnects = 0
        self.resumed = 0
        self.missing = 0  # acked messages that have not arrived yet, over all subscribers
        self.recoveries: list[float] = []
        self.acks: list[float] = []
        self._last: dict[tuple[str, str], int] = defaultdict(int)

    def ack(self, publisher: str, number: int, seconds: float) -> None:
        self.acked[publisher].add(number)
        self.acks.append(seconds)
        self.missing += sum(number not in self.delivered[subscriber][publisher] for subscriber in self._subscribers)

    def deliver(self, subscriber: str, publisher: str, number: int) -> None:
        seen = self.delivered[subscriber][publisher]
        if number in seen:
            self.duplicated += 1
            return
        seen.add(number)
        self.missing -= number in self.acked[publisher]
        if number < self._last[subscriber, publisher]:
            self.out_of_order += 1
        else:
            self._last[subscriber, publisher] = number

    def verdict(self, seed: int, duration: float, faults: Counter[str]) -> Verdict:
        acked = sum(map(len, self.acked.values()))
        return Verdict(
            seed=seed,
            duration=duration,
            faults=dict(sorted(faults.items())),
            published=self.published,
            acked=acked,
            expected=acked * len(self._subscribers),
            delivered=sum(len(n) for by_publisher in self.delivered.values() for n in by_publisher.values()),
            lost=self.missing,
            duplicated=self.duplicated,
            out_of_order=self.out_of_order,
            told=self.told,
            holes=self.holes,
            reconnects=self.reconnects,
            resumed=self.resumed,
            recovery_p50=percentile(self.recoveries, 0.5),
            recovery_p99=percentile(self.recoveries, 0.99),
            ack_p50=percentile(self.acks, 0.5),
            ack_p99=percentile(self.acks, 0.99),
        )


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
