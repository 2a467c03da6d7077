"""What was promised, what arrived, and what is there at the end of a run of `wsd chaos`. Pure: no clock, no clients."""

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
    failed_faults: list[str] = []  # that could not be carried out, and why
    discrepancies: list[str] = []  # between what status names at the end, and what there is

    @property
    def passed(self) -> bool:
        has_lost = self.lost or self.duplicated or self.out_of_order or self.holes
        return not (has_lost or self.failed_faults or self.discrepancies) and self.acked > 0


class Survey(Struct, frozen=True, kw_only=True):
    """The cluster at one moment, from several sides."""

    state: str
    problems: tuple[str, ...] = ()
    named: dict[int, str]  # by pid, as status has them
    recorded: dict[int, bool]  # the pids of state.json that live, and whether they drain
    others: dict[int, str] = {}  # further programs of the cluster: pid and command line
    expected_workers: dict[str, str]  # the id of the worker in each slot, as status has it
    answering_workers: dict[str, str]  # that of the process behind its socket, empty: none
    sessions: dict[str, tuple[str, ...]] = {}  # by user that is connected: the workers that its sessions name


def discrepancies(seen: Survey) -> list[str]:
    """Return what does not fit together, one line each; nothing for a cluster that is what it says."""
    found = []
    if seen.state != "healthy":
        found.append(f"the cluster is {seen.state}: {'; '.join(seen.problems) or 'no reason is given'}")
    for pid, name in seen.named.items():
        if pid not in seen.recorded:
            found.append(f"{name} (pid {pid}) is in status, and no living process of state.json")
    unnamed = [pid for pid, drains in seen.recorded.items() if pid not in seen.named and not drains]
    found += [f"pid {pid} is in state.json and not in status" for pid in unnamed]
    strays = {pid: command for pid, command in seen.others.items() if pid not in seen.recorded}
    found += [f"pid {pid} belongs to the cluster and nobody names it: {command}" for pid, command in strays.items()]
    for name, worker_id in seen.expected_workers.items():
        if (answering := seen.answering_workers.get(name, "")) != worker_id:
            found.append(f"behind the socket of {name} is {answering or 'nobody'}, and not {worker_id}")
    live = set(seen.expected_workers.values())
    for user, workers in seen.sessions.items():
        if len(workers) != 1 or workers[0] not in live:
            where = ", ".join(workers) or "no worker"
            found.append(f"{user} is connected, and its sessions name {where}")
    return found


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

    def verdict(
        self,
        seed: int,
        duration: float,
        faults: Counter[str],
        failed_faults: Sequence[str] = (),
        found: Sequence[str] = (),
    ) -> Verdict:
        """`failed_faults`, `found`: what could not be done, and what did not fit together at the end."""
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
            failed_faults=list(failed_faults),
            discrepancies=list(found),
        )


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest rank; 0 of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
