"""The ledger of a run of `wsd chaos`, its verdict, and the check of the cluster at the end. Pure."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

from msgspec import Struct

from wsd.supervisor.percentile import percentile

LOSSES_SHOWN = 20
"""How many lost messages a verdict lists."""


class ChaosVerdict(Struct, frozen=True, kw_only=True):
    """The result of `wsd chaos`, as `--json` prints it.

    Deliveries are counted per subscriber: a message to 40 subscribers is 40 deliveries. Times are in seconds.
    """

    seed: int
    duration: float
    faults: dict[str, int]  # by kind
    published: int
    acked: int  # published messages that the cluster acknowledged as stored
    expected: int  # deliveries: acked messages times subscribers
    delivered: int
    lost: int  # expected deliveries that were not made, with or without notice to the subscriber
    duplicated: int
    out_of_order: int
    told: int  # times that the cluster told a subscriber of a gap
    holes: int  # times that offsets were missing without notice
    reconnects: int
    resumed: int  # reconnects that resumed the session
    recovery_p50: float
    recovery_p99: float
    ack_p50: float
    ack_p99: float
    ack_max: float = 0.0
    lost_messages: list[str] = []  # what is counted as lost, one line for each message, at most LOSSES_SHOWN
    failed_faults: list[str] = []  # faults that could not be injected, and why
    discrepancies: list[str] = []  # between the status at the end and what was found
    events: list[str] = []  # the faults and what they did, with the seconds from the beginning when they were over

    @property
    def passed(self) -> bool:
        has_lost = self.lost or self.duplicated or self.out_of_order or self.holes
        return not (has_lost or self.failed_faults or self.discrepancies) and self.acked > 0


class Survey(Struct, frozen=True, kw_only=True):
    """The cluster at one moment, as several sources describe it."""

    state: str
    problems: tuple[str, ...] = ()
    named: dict[int, str]  # processes in the status: pid and name
    recorded: dict[int, bool]  # living processes in state.json: pid and whether it drains
    others: dict[int, str] = {}  # other processes of the cluster: pid and command line
    expected_workers: dict[str, str]  # name and id of each worker in the status
    answering_workers: dict[str, str]  # name and id of the worker that answers on its socket; empty: none answers
    sessions: dict[str, tuple[str, ...]] = {}  # connected users: the workers that their sessions name


def discrepancies(seen: Survey, elsewhere: Collection[str] = ()) -> list[str]:
    """Return a line for each contradiction between the sources, none for a healthy node.

    `elsewhere` are the ids of the workers of other nodes, where sessions may be, too.
    """
    found = []
    if seen.state != "healthy":
        found.append(f"the cluster is {seen.state}: {'; '.join(seen.problems) or 'no reason given'}")
    for pid, name in seen.named.items():
        if pid not in seen.recorded:
            found.append(f"{name} (pid {pid}) is in the status, but is no living process in state.json")
    unnamed = [pid for pid, drains in seen.recorded.items() if pid not in seen.named and not drains]
    found += [f"pid {pid} is in state.json, but not in the status" for pid in unnamed]
    strays = {pid: command for pid, command in seen.others.items() if pid not in seen.recorded}
    found += [
        f"pid {pid} belongs to the cluster, but is in neither the status nor state.json: {command}"
        for pid, command in strays.items()
    ]
    for name, worker_id in seen.expected_workers.items():
        if (answering := seen.answering_workers.get(name, "")) != worker_id:
            found.append(f"{answering or 'no worker'} answers on the socket of {name}, instead of {worker_id}")
    live = {*seen.expected_workers.values(), *elsewhere}
    for user, workers in seen.sessions.items():
        if len(workers) != 1 or workers[0] not in live:
            where = ", ".join(workers) or "no worker"
            found.append(f"{user} is connected once, but its sessions name {where}")
    return found


class Ledger:
    """A record of what was acked and what was delivered.

    Publishers number their messages from 1, and every subscriber must receive all messages that are acked.
    """

    def __init__(self, subscribers: Sequence[str]) -> None:
        self._subscribers = subscribers
        self.began = 0.0  # the monotonic time at the beginning
        self.published = 0
        self.acked: dict[str, dict[int, float]] = defaultdict(dict)  # by publisher: when each number was acked
        self.delivered: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))  # subscriber, publisher
        self.duplicated = 0
        self.out_of_order = 0
        self.told = 0
        self.holes = 0
        self.reconnects = 0
        self.resumed = 0
        self.missing = 0  # acked deliveries that have not arrived yet
        self.recoveries: list[float] = []
        self.acks: list[float] = []
        self._last: dict[tuple[str, str], int] = defaultdict(int)

    def ack(self, publisher: str, number: int, seconds: float, at: float) -> None:
        """Note an ack that took some seconds, and arrived `at` seconds from the beginning."""
        self.acked[publisher][number] = at
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

    def losses(self) -> list[str]:
        """Return a line for each acked message that did not reach all subscribers, the oldest first."""
        found = []
        for publisher, numbers in self.acked.items():
            for number, at in numbers.items():
                without = [name for name in self._subscribers if number not in self.delivered[name][publisher]]
                if without:
                    who = without[0] if len(without) == 1 else f"{len(without)} of {len(self._subscribers)} subscribers"
                    found.append((at, f"number {number} of {publisher}, acked at {at:.1f} s, did not reach {who}"))
        return [line for _, line in sorted(found)]

    def verdict(
        self,
        seed: int,
        duration: float,
        faults: Counter[str],
        failed_faults: Sequence[str] = (),
        found: Sequence[str] = (),
        events: Sequence[str] = (),
    ) -> ChaosVerdict:
        """Return the verdict on a run.

        `failed_faults` could not be injected; `found` are the discrepancies at the end; `events` is what happened.
        """
        acked = sum(map(len, self.acked.values()))
        recoveries, acks = sorted(self.recoveries), sorted(self.acks)
        return ChaosVerdict(
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
            recovery_p50=percentile(recoveries, 0.5),
            recovery_p99=percentile(recoveries, 0.99),
            ack_p50=percentile(acks, 0.5),
            ack_p99=percentile(acks, 0.99),
            ack_max=max(acks, default=0.0),
            lost_messages=self.losses()[:LOSSES_SHOWN],
            failed_faults=list(failed_faults),
            discrepancies=list(found),
            events=list(events),
        )
