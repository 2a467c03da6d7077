"""A slot and the processes that fill it: one pure state machine for workers, nginx and Valkey.

A slot (worker-1) stays; its incarnations, which are processes, come and go. The states of a slot:

    STOPPED -> RUNNING -> BACKOFF -> RUNNING ...      a process ended, the next one starts after a pause
                       -> FAILED                      too many restarts within the window
    any     -> STOPPED                                on Stop

and the phases of an incarnation:

    STARTING -> READY -> DRAINING -> (gone)
             -> STANDBY -> READY                   healthy, and waiting for Swap

To replace a process, a new one is started beside it. Once the new one has taken over, the old one drains. If the new
one does not become healthy, the old one stays.

`step` turns a fact into the next state of the slot and the effects to carry out. It reads no clock and does no I/O.
"""

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

KILL_AFTER_SECONDS = 3.0
"""Time between asking a process to end with Urgency.QUICK and killing it."""


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
    """The ways of asking a process to end. Each service maps them to signals."""

    DRAIN = "drain"
    QUICK = "quick"
    KILL = "kill"


@dataclass(frozen=True)
class RestartPolicy:
    """The settings that decide when an ended process is restarted. Times are in seconds."""

    backoff_initial: float
    backoff_max: float
    stable_after: float
    max_restarts: int
    window: float
    start_timeout: float

    def delay(self, attempt: int, rng: random.Random) -> float:
        """Return the pause before a restart, in seconds.

        `attempt` counts the restarts in a row, from 0. There is no pause before the first; the later ones are random,
        and their maximum grows exponentially (full jitter).
        """
        if attempt == 0:
            return 0.0
        return rng.uniform(0, min(self.backoff_max, self.backoff_initial * 2 ** (attempt - 1)))


@dataclass(frozen=True)
class Incarnation:
    """One process of a slot. Times are seconds of the caller's clock."""

    number: int
    phase: Phase
    since: float  # when it entered its phase
    urgency: Urgency | None = None  # how it was last asked to end
    deadline: float | None = None  # when it is asked to end more urgently
    held: bool = False  # once healthy, it waits for Swap

    @property
    def leaving(self) -> bool:
        """True while the incarnation drains, or after it was asked to end."""
        return self.phase is Phase.DRAINING or self.urgency is not None


@dataclass(frozen=True)
class Slot:
    """The state of a slot. `patience`: seconds that a process may drain after it was replaced."""

    name: str
    patience: float = 0.0
    state: SlotState = SlotState.STOPPED
    incarnations: tuple[Incarnation, ...] = ()
    next_number: int = 1
    restarts: int = 0
    attempt: int = 0
    failures: tuple[float, ...] = ()  # when processes ended without being asked to, within the window
    retry_at: float | None = None
    ever_ready: bool = False
    last_exit: str = ""
    recycle_at: float = 0.0  # no Recycle before this time: the last replacement did not become healthy

    @property
    def current(self) -> Incarnation | None:
        """The incarnation that serves, or else the newest that starts, or else the newest that drains."""
        for phases in ((Phase.READY,), (Phase.STARTING, Phase.STANDBY), (Phase.DRAINING,)):
            for incarnation in reversed(self.incarnations):
                if incarnation.phase in phases:
                    return incarnation
        return None

    @property
    def replacing(self) -> bool:
        """True while the slot has several processes, because one is being replaced."""
        return len(self.incarnations) > 1

    @property
    def ready(self) -> bool:
        """True while a process of the slot serves."""
        return any(i.phase is Phase.READY for i in self.incarnations)

    @property
    def display_state(self) -> str:
        """The state as `wsd status` shows it: the phase of the current incarnation while the slot is running."""
        if self.state is SlotState.RUNNING and self.current is not None:
            return self.current.phase
        return self.state

    def due_at(self) -> float | None:
        """Return the time at which the next Tick has an effect, or None."""
        times = [i.deadline for i in self.incarnations if i.deadline is not None]
        if self.retry_at is not None:
            times.append(self.retry_at)
        return min(times, default=None)


# Facts


@dataclass(frozen=True)
class Start:
    """Start a process, and count failures from zero."""


@dataclass(frozen=True)
class Adopt:
    """Adopt processes of the previous supervisor.

    `found` holds the number and the phase of each, the oldest first. With `drains` all of them
    drain, and none is replaced.
    """

    found: tuple[tuple[int, Phase], ...]
    drains: bool = False


@dataclass(frozen=True)
class Ready:
    """A starting process has become healthy."""

    number: int


@dataclass(frozen=True)
class Exited:
    """A process has ended, or could not be started."""

    number: int
    reason: str


@dataclass(frozen=True)
class Unhealthy:
    """Kill a process at once. Its end counts as a failure."""

    number: int
    reason: str


@dataclass(frozen=True)
class Recycle:
    """Replace a process that should not serve much longer, e.g. because of its age."""

    number: int
    reason: str


@dataclass(frozen=True)
class Replace:
    """Start a new process beside the one that serves.

    With `held` it waits for Swap once it is healthy; otherwise it takes over at once.
    """

    held: bool


@dataclass(frozen=True)
class Swap:
    """Let the process in STANDBY take over."""


@dataclass(frozen=True)
class Abandon:
    """End the processes that have not taken over yet, if another one serves."""


@dataclass(frozen=True)
class Stop:
    """End all processes of the slot and start no other.

    `patience` is the time that they may drain, in seconds; with 0 they are asked with Urgency.QUICK at once.
    `unready` is the time, in seconds, after which a process that is still starting is killed.
    """

    patience: float
    unready: float = KILL_AFTER_SECONDS


@dataclass(frozen=True)
class Tick:
    """A deadline of the slot may be due."""


Fact = Start | Adopt | Ready | Exited | Unhealthy | Recycle | Replace | Swap | Abandon | Stop | Tick

# Effects


@dataclass(frozen=True)
class Spawn:
    """Start a process."""

    number: int


@dataclass(frozen=True)
class Promote:
    """Let clients reach this process from now on."""

    number: int


@dataclass(frozen=True)
class End:
    """Ask a process to end."""

    number: int
    urgency: Urgency


@dataclass(frozen=True)
class Report:
    """Log an event for operators, on one line."""

    text: str
    warning: bool = True


Effect = Spawn | Promote | End | Report
Step = tuple[Slot, list[Effect]]


def step(slot: Slot, fact: Fact, now: float, policy: RestartPolicy, rng: random.Random) -> Step:
    """Return the next state of a slot after a fact, and the effects to carry out. Pure, except for `rng`."""
    match fact:
        case Start():
            return _spawn(replace(slot, failures=(), attempt=0), now, policy)
        case Adopt(found, drains):
            return _adopt(slot, found, drains, now, policy)
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
    """Let serving processes drain. A starting process has no clients yet, and is asked to end at once."""
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


def _adopt(slot: Slot, found: tuple[tuple[int, Phase], ...], drains: bool, now: float, policy: RestartPolicy) -> Step:
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
        state=SlotState.STOPPED if drains else SlotState.RUNNING,
        incarnations=tuple(incarnations),
        next_number=max(number for number, _ in found) + 1,
        ever_ready=True,
    )
    if drains:
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
    """Let an incarnation take over, and the earlier ones drain."""
    before = [i.number for i in slot.incarnations if i.number < incarnation.number]
    ready = replace(incarnation, phase=Phase.READY, since=now, deadline=None)
    slot, effects = _end(_with(slot, ready), before, Urgency.DRAIN, now, now + slot.patience)
    if slot.ever_ready:
        text = (
            f"{slot.name} was replaced by a new process, the old one drains"
            if effects
            else f"{slot.name} is ready again"
        )
        effects.append(Report(text, warning=False))
    # Promote comes first: until then, new clients still reach the old process.
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
        times = f"{len(failures)} times within {policy.window:g} s"
        log = slot.name.removeprefix("worker-")
        text = f"{slot.name} failed: it ended {times}, last with {reason}; giving up on it, see `wsd logs {log}`"
        return replace(slot, state=SlotState.FAILED), [Report(text)]
    slot = replace(slot, restarts=slot.restarts + 1)
    delay = policy.delay(attempt, rng)
    report = Report(f"{slot.name} ended ({reason}), restart {slot.restarts} in {delay:.1f} s")
    if delay > 0:
        return replace(slot, state=SlotState.BACKOFF, retry_at=now + delay), [report]
    slot, effects = _spawn(slot, now, policy)
    return slot, [report, *effects]


def _succeed(slot: Slot, gone: Incarnation, reason: str, now: float, policy: RestartPolicy) -> Step:
    """Handle the end of one of several processes."""
    if gone.phase is Phase.DRAINING:
        return slot, []
    if slot.ready:
        text = f"{slot.name}: the new process ended ({reason}), the old one keeps running"
        return replace(slot, recycle_at=now + policy.backoff_max), [Report(text)]
    report = Report(f"{slot.name} ended ({reason}), its replacement takes over")
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
    """Ask incarnations to end. If one was asked as urgently before, only its deadline may move closer."""
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
        # A killed process keeps its phase: how long it was ready decides the backoff of the next one.
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
            text = f"{slot.name} was not ready within {policy.start_timeout:g} s (health.start_timeout): killing it"
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
