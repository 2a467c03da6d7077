"""A slot and the processes that fill it: one pure state machine for workers, nginx and Valkey alike.

A slot is stable (worker-1); its incarnations, the processes, come and go. The slot:

    STOPPED -> RUNNING -> BACKOFF -> RUNNING ...      a process ended, the next one comes after a pause
                       -> FAILED                      too many restarts within the window
    any     -> STOPPED                                as told

and each incarnation:

    STARTING -> READY -> DRAINING -> (gone)
             -> STANDBY -> READY                   healthy, and waiting for the word to take over

A slot is replaced by a process beside the one that serves, which drains once the new one has taken over. If the new
one does not become healthy, the old one goes on.

`step` turns a fact into the next state and the effects to carry out. It reads no clock and does no I/O.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

KILL_AFTER_SECONDS = 3.0
"""From asking a process urgently to end, to killing it."""


class Phase(StrEnum):
    STARTING = "starting"
    STANDBY = "standby"
    READY = "ready"
    DRAINING = "draining"


class SlotState(StrEnum):
    RUNNING = "running"
    BACKOFF = "backoff"
    FAILED = "failed"
    STOPPED = "stopped"


class Urgency(StrEnum):
    """How a process is asked to end; each service knows its signals."""

    DRAIN = "drain"
    QUICK = "quick"
    KILL = "kill"


@dataclass(frozen=True)
class RestartPolicy:
    """Times in seconds."""

    backoff_initial: float
    backoff_max: float
    stable_after: float
    max_restarts: int
    window: float
    start_timeout: float

    def delay(self, attempt: int, rng: random.Random) -> float:
        """The pause before restart number `attempt` in a row, counted from 0: none at first, then full jitter."""
        if attempt == 0:
            return 0.0
        return rng.uniform(0, min(self.backoff_max, self.backoff_initial * 2 ** (attempt - 1)))


@dataclass(frozen=True)
class Incarnation:
    number: int
    phase: Phase
    since: float  # when it entered its phase
    urgency: Urgency | None = None  # how it was last asked to end
    deadline: float | None = None  # when patience with its phase ends
    held: bool = False  # once healthy, it waits for Swap

    @property
    def leaving(self) -> bool:
        return self.phase is Phase.DRAINING or self.urgency is not None


@dataclass(frozen=True)
class Slot:
    """`patience`: seconds that a process which was replaced may drain."""

    name: str
    patience: float = 0.0
    state: SlotState = SlotState.STOPPED
    incarnations: tuple[Incarnation, ...] = ()
    next_number: int = 1
    restarts: int = 0
    attempt: int = 0
    failures: tuple[float, ...] = ()  # when processes ended unasked, within the window
    retry_at: float | None = None
    ever_ready: bool = False
    last_exit: str = ""
    recycle_at: float = 0.0  # not before: the last replacement did not become healthy

    @property
    def current(self) -> Incarnation | None:
        """The process that serves; else the newest that will; else the newest."""
        for phases in ((Phase.READY,), (Phase.STARTING, Phase.STANDBY), (Phase.DRAINING,)):
            for incarnation in reversed(self.incarnations):
                if incarnation.phase in phases:
                    return incarnation
        return None

    @property
    def replacing(self) -> bool:
        """Whether a process is on its way beside one that serves, or drains."""
        return len(self.incarnations) > 1

    @property
    def ready(self) -> bool:
        return any(i.phase is Phase.READY for i in self.incarnations)

    @property
    def display_state(self) -> str:
        if self.state is SlotState.RUNNING and self.current is not None:
            return self.current.phase
        return self.state

    def due_at(self) -> float | None:
        """When the next Tick has something to do."""
        times = [i.deadline for i in self.incarnations if i.deadline is not None]
        if self.retry_at is not None:
            times.append(self.retry_at)
        return min(times, default=None)


# Facts


@dataclass(frozen=True)
class Start:
    pass


@dataclass(frozen=True)
class Adopt:
    """These processes run already, the oldest first: the numbers, and the phase of each. `empties`: they drain, and no
    other is to come after them."""

    found: tuple[tuple[int, Phase], ...]
    empties: bool = False


@dataclass(frozen=True)
class Ready:
    number: int


@dataclass(frozen=True)
class Exited:
    number: int
    reason: str


@dataclass(frozen=True)
class Unhealthy:
    """It must go at once; its end is a failure like any other."""

    number: int
    reason: str


@dataclass(frozen=True)
class Recycle:
    """It should go, once another has taken over."""

    number: int
    reason: str


@dataclass(frozen=True)
class Replace:
    """A new process beside the one that serves. `held`: healthy, it waits for Swap; else it takes over at once."""

    held: bool


@dataclass(frozen=True)
class Swap:
    """Let the process that stands by take over."""


@dataclass(frozen=True)
class Abandon:
    """End those that have not taken over yet, as long as another serves."""


@dataclass(frozen=True)
class Stop:
    """End for good. `patience` in seconds before urging; 0 urges at once.

    `unready`: seconds from urging a process that serves nobody yet, to killing it.
    """

    patience: float
    unready: float = KILL_AFTER_SECONDS


@dataclass(frozen=True)
class Tick:
    pass


Fact = Start | Adopt | Ready | Exited | Unhealthy | Recycle | Replace | Swap | Abandon | Stop | Tick

# Effects


@dataclass(frozen=True)
class Spawn:
    number: int


@dataclass(frozen=True)
class Promote:
    """Put it where clients find it."""

    number: int


@dataclass(frozen=True)
class End:
    number: int
    urgency: Urgency


@dataclass(frozen=True)
class Report:
    """An event for people, one line."""

    text: str
    warning: bool = True


Effect = Spawn | Promote | End | Report
Step = tuple[Slot, list[Effect]]


def step(slot: Slot, fact: Fact, now: float, policy: RestartPolicy, rng: random.Random) -> Step:
    match fact:
        case Start():
            return _spawn(replace(slot, failures=(), attempt=0), now, policy)
        case Adopt(found, empties):
            return _adopt(slot, found, empties, now, policy)
        case Ready(number):
            return _ready(slot, number, now)
        case Exited(number, reason):
            return _exited(slot, number, reason, now, policy, rng)
        case Unhealthy(number, reason):
            return _end(slot, [number], Urgency.KILL, now, None, f"{slot.name} {reason}: killing it")
        case Recycle(number, reason):
            return _recycle(slot, number, reason, now, policy)
        case Replace(held):
            return _spawn(slot, now, policy, held=held)
        case Swap():
            return _swap(slot, now)
        case Abandon():
            return _abandon(slot, now)
        case Stop(patience, unready):
            return _stop(replace(slot, state=SlotState.STOPPED, retry_at=None), now, patience, unready)
        case Tick():
            return _tick(slot, now, policy)


def _stop(slot: Slot, now: float, patience: float, unready: float) -> Step:
    """Nobody is connected to a process that still starts: it need not drain."""
    starting = [i.number for i in slot.incarnations if i.phase is Phase.STARTING]
    serving = [i.number for i in slot.incarnations if i.phase is not Phase.STARTING]
    urgency = Urgency.DRAIN if patience > 0 else Urgency.QUICK
    slot, effects = _end(slot, serving, urgency, now, now + (patience if patience > 0 else KILL_AFTER_SECONDS))
    slot, more = _end(slot, starting, Urgency.QUICK, now, now + min(unready, patience or unready))
    return slot, effects + more


def _spawn(slot: Slot, now: float, policy: RestartPolicy, *, held: bool = False) -> Step:
    number = slot.next_number
    new = Incarnation(number, Phase.STARTING, now, deadline=now + policy.start_timeout, held=held)
    slot = replace(
        slot,
        state=SlotState.RUNNING,
        incarnations=(*slot.incarnations, new),
        next_number=number + 1,
        retry_at=None,
    )
    return slot, [Spawn(number)]


def _adopt(slot: Slot, found: tuple[tuple[int, Phase], ...], empties: bool, now: float, policy: RestartPolicy) -> Step:
    incarnations = []
    for number, phase in found:
        match phase:
            case Phase.STARTING | Phase.STANDBY:
                new = Incarnation(number, Phase.STARTING, now, deadline=now + policy.start_timeout)
            case Phase.READY:
                new = Incarnation(number, Phase.READY, now)
            case Phase.DRAINING:
                new = Incarnation(number, phase, now, urgency=Urgency.DRAIN, deadline=now + slot.patience)
        incarnations.append(new)
    slot = replace(
        slot,
        state=SlotState.STOPPED if empties else SlotState.RUNNING,
        incarnations=tuple(incarnations),
        next_number=max(number for number, _ in found) + 1,
        ever_ready=True,
    )
    if empties:
        return _end(slot, [number for number, _ in found], Urgency.DRAIN, now, now + slot.patience)
    serving = [i.number for i in slot.incarnations if i.phase is Phase.READY]
    slot, effects = _end(slot, serving[:-1], Urgency.DRAIN, now, now + slot.patience)
    if all(i.phase is Phase.DRAINING for i in slot.incarnations):
        slot, more = _spawn(slot, now, policy)
        effects += more
    return slot, effects


def _recycle(slot: Slot, number: int, reason: str, now: float, policy: RestartPolicy) -> Step:
    found = _find(slot, number)
    if found is None or found.leaving or slot.replacing or now < slot.recycle_at or slot.state is SlotState.STOPPED:
        return slot, []
    slot, effects = _spawn(slot, now, policy)
    return slot, [Report(f"{slot.name} {reason}: replacing it"), *effects]


def _ready(slot: Slot, number: int, now: float) -> Step:
    incarnation = _find(slot, number)
    if incarnation is None or incarnation.phase is not Phase.STARTING or incarnation.leaving:
        return slot, []
    if incarnation.held and slot.ready:
        return _with(slot, replace(incarnation, phase=Phase.STANDBY, since=now, deadline=None)), []
    return _promote(slot, incarnation, now)


def _promote(slot: Slot, incarnation: Incarnation, now: float) -> Step:
    """It takes over; those before it drain."""
    before = [i.number for i in slot.incarnations if i.number < incarnation.number]
    ready = replace(incarnation, phase=Phase.READY, since=now, deadline=None)
    slot, effects = _end(_with(slot, ready), before, Urgency.DRAIN, now, now + slot.patience)
    if slot.ever_ready:
        text = f"{slot.name} has a new process, the old one drains" if effects else f"{slot.name} is ready again"
        effects.append(Report(text, warning=False))
    # First of all: until then new clients still come to the old one.
    return replace(slot, ever_ready=True), [Promote(incarnation.number), *effects]


def _swap(slot: Slot, now: float) -> Step:
    standby = next((i for i in slot.incarnations if i.phase is Phase.STANDBY and not i.leaving), None)
    return _promote(slot, standby, now) if standby is not None else (slot, [])


def _abandon(slot: Slot, now: float) -> Step:
    if not any(i.phase is Phase.READY and not i.leaving for i in slot.incarnations):
        return _swap(slot, now)
    waiting = [i.number for i in slot.incarnations if i.phase in (Phase.STARTING, Phase.STANDBY)]
    return _end(slot, waiting, Urgency.QUICK, now, now + KILL_AFTER_SECONDS)


def _exited(slot: Slot, number: int, reason: str, now: float, policy: RestartPolicy, rng: random.Random) -> Step:
    gone = _find(slot, number)
    if gone is None:
        return slot, []
    slot = replace(slot, incarnations=tuple(i for i in slot.incarnations if i is not gone), last_exit=reason)
    if slot.state is not SlotState.RUNNING:
        return slot, []
    if any(i.phase is not Phase.DRAINING for i in slot.incarnations):
        return _succeed(slot, gone, reason, now, policy)
    was_stable = gone.phase is not Phase.STARTING and now - gone.since >= policy.stable_after
    attempt = 0 if was_stable else slot.attempt
    failures = (*(at for at in slot.failures if now - at < policy.window), now)
    slot = replace(slot, failures=failures, attempt=attempt + 1)
    if len(failures) > policy.max_restarts:
        text = f"{slot.name} failed: {reason}, {len(failures)} ends within {policy.window:g} s; giving up on it"
        return replace(slot, state=SlotState.FAILED), [Report(text)]
    slot = replace(slot, restarts=slot.restarts + 1)
    delay = policy.delay(attempt, rng)
    report = Report(f"{slot.name} ended ({reason}), restart {slot.restarts} in {delay:.1f} s")
    if delay > 0:
        return replace(slot, state=SlotState.BACKOFF, retry_at=now + delay), [report]
    slot, effects = _spawn(slot, now, policy)
    return slot, [report, *effects]


def _succeed(slot: Slot, gone: Incarnation, reason: str, now: float, policy: RestartPolicy) -> Step:
    """One of several processes has ended."""
    if gone.phase is Phase.DRAINING:
        return slot, []
    if slot.ready:
        text = f"{slot.name}: the new process ended ({reason}), the old one goes on"
        return replace(slot, recycle_at=now + policy.backoff_max), [Report(text)]
    report = Report(f"{slot.name} ended ({reason}), its successor is there already")
    slot, effects = _swap(slot, now)
    return slot, [report, *effects]


def _end(
    slot: Slot,
    numbers: Iterable[int],
    urgency: Urgency,
    now: float,
    deadline: float | None,
    report: str | None = None,
) -> Step:
    """Ask incarnations to end; one that was asked as urgently before is only given less time."""
    order = list(Urgency)
    effects: list[Effect] = []
    for number in numbers:
        incarnation = _find(slot, number)
        if incarnation is None:
            continue
        if incarnation.urgency is not None and order.index(incarnation.urgency) >= order.index(urgency):
            if incarnation.urgency is urgency and incarnation.deadline is not None and deadline is not None:
                slot = _with(slot, replace(incarnation, deadline=min(incarnation.deadline, deadline)))
            continue
        # A killed process keeps its phase: how long it was ready decides about the next one's backoff.
        draining = urgency is not Urgency.KILL and incarnation.phase is not Phase.DRAINING
        ended = replace(incarnation, urgency=urgency, deadline=deadline)
        slot = _with(slot, replace(ended, phase=Phase.DRAINING) if draining else ended)
        effects.append(End(number, urgency))
    if report is not None and effects:
        effects.append(Report(report))
    return slot, effects


def _tick(slot: Slot, now: float, policy: RestartPolicy) -> Step:
    if slot.state is SlotState.BACKOFF and slot.retry_at is not None and now >= slot.retry_at:
        return _spawn(slot, now, policy)
    effects: list[Effect] = []
    for incarnation in slot.incarnations:
        if incarnation.deadline is None or now < incarnation.deadline:
            continue
        number = incarnation.number
        if incarnation.phase is Phase.STARTING:
            text = f"{slot.name} was not ready after {policy.start_timeout:g} s: killing it"
            slot, more = _end(slot, [number], Urgency.KILL, now, None, text)
        elif incarnation.urgency is Urgency.DRAIN:
            slot, more = _end(slot, [number], Urgency.QUICK, now, now + KILL_AFTER_SECONDS)
        else:
            slot, more = _end(slot, [number], Urgency.KILL, now, None)
        effects += more
    return slot, effects


def _find(slot: Slot, number: int) -> Incarnation | None:
    return next((i for i in slot.incarnations if i.number == number), None)


def _with(slot: Slot, changed: Incarnation) -> Slot:
    return replace(slot, incarnations=tuple(changed if i.number == changed.number else i for i in slot.incarnations))
