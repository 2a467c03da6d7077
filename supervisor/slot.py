"""A slot and the processes that fill it: one pure state machine for workers, nginx and Valkey alike.

A slot is stable (worker-1); its incarnations, the processes, come and go. The slot:

    STOPPED -> RUNNING -> BACKOFF -> RUNNING ...      a process ended, the next one comes after a pause
                       -> FAILED                      too many restarts within the window
    any     -> STOPPED                                as told

and each incarnation:

    STARTING -> READY -> DRAINING -> (gone)

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


@dataclass(frozen=True)
class Slot:
    name: str
    state: SlotState = SlotState.STOPPED
    incarnations: tuple[Incarnation, ...] = ()
    next_number: int = 1
    restarts: int = 0
    attempt: int = 0
    failures: tuple[float, ...] = ()  # when processes ended unasked, within the window
    retry_at: float | None = None
    ever_ready: bool = False
    last_exit: str = ""

    @property
    def current(self) -> Incarnation | None:
        """The newest process: the one that serves, or will."""
        return self.incarnations[-1] if self.incarnations else None

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
    """It should go, but may drain."""

    number: int
    reason: str
    patience: float


@dataclass(frozen=True)
class Stop:
    """End for good. `patience` in seconds before urging; 0 urges at once."""

    patience: float


@dataclass(frozen=True)
class Tick:
    pass


Fact = Start | Ready | Exited | Unhealthy | Recycle | Stop | Tick

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
        case Ready(number):
            return _ready(slot, number, now)
        case Exited(number, reason):
            return _exited(slot, number, reason, now, policy, rng)
        case Unhealthy(number, reason):
            return _end(slot, [number], Urgency.KILL, now, None, f"{slot.name} {reason}: killing it")
        case Recycle(number, reason, patience):
            return _end(slot, [number], Urgency.DRAIN, now, now + patience, f"{slot.name} {reason}: draining it")
        case Stop(patience):
            stopped = replace(slot, state=SlotState.STOPPED, retry_at=None)
            urgency = Urgency.DRAIN if patience > 0 else Urgency.QUICK
            wait = patience if patience > 0 else KILL_AFTER_SECONDS
            return _end(stopped, [i.number for i in slot.incarnations], urgency, now, now + wait)
        case Tick():
            return _tick(slot, now, policy)


def _spawn(slot: Slot, now: float, policy: RestartPolicy) -> Step:
    number = slot.next_number
    new = Incarnation(number, Phase.STARTING, now, deadline=now + policy.start_timeout)
    slot = replace(
        slot,
        state=SlotState.RUNNING,
        incarnations=(*slot.incarnations, new),
        next_number=number + 1,
        retry_at=None,
    )
    return slot, [Spawn(number)]


def _ready(slot: Slot, number: int, now: float) -> Step:
    incarnation = _find(slot, number)
    if incarnation is None or incarnation.phase is not Phase.STARTING:
        return slot, []
    ready = replace(incarnation, phase=Phase.READY, since=now, deadline=None)
    effects: list[Effect] = [Promote(number)]
    if slot.ever_ready:
        effects.append(Report(f"{slot.name} is ready again", warning=False))
    return replace(_with(slot, ready), ever_ready=True), effects


def _exited(slot: Slot, number: int, reason: str, now: float, policy: RestartPolicy, rng: random.Random) -> Step:
    gone = _find(slot, number)
    if gone is None:
        return slot, []
    slot = replace(slot, incarnations=tuple(i for i in slot.incarnations if i is not gone), last_exit=reason)
    if slot.state is not SlotState.RUNNING or slot.incarnations:
        return slot, []
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
