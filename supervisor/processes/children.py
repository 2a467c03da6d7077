"""The processes of the cluster: facts in, `slot.step`, effects out.

Exits, readiness, verdicts, timers and people's commands only put facts into one queue; `_apply` turns each into
the slot's next state and carries the effects out. So there is one order of things, and one log of them.
"""

import asyncio
import functools
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic, TypeGuard, TypeVar

from wsd.supervisor.errors import CommandError
from wsd.supervisor.logs.follow import log_size, tail
from wsd.supervisor.processes.clock import AwakeClock
from wsd.supervisor.processes.health import Pulse
from wsd.supervisor.processes.orphans import reap_others
from wsd.supervisor.processes.process import Process, describe_exit
from wsd.supervisor.processes.service import Service
from wsd.supervisor.processes.slot import (
    Adopt,
    Effect,
    End,
    Exited,
    Fact,
    Phase,
    Promote,
    Ready,
    Report,
    RestartPolicy,
    Slot,
    Spawn,
    Start,
    Tick,
    Unhealthy,
    Urgency,
    step,
)
from wsd.supervisor.processes.usage import Usage
from wsd.supervisor.state_dir import ProcessRecord, SavedState, StateDir
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)

READY_POLL_SECONDS = 0.03
REASON_LINES = 40
"""How much of its log is shown of a process that did not start."""


@dataclass(frozen=True)
class StartFailure:
    """A process ended before it was ready: why on one line, and what it printed before that."""

    incarnation: int
    reason: str
    output: tuple[str, ...]


ServiceT = TypeVar("ServiceT", bound=Service)
ServiceT_co = TypeVar("ServiceT_co", bound=Service, covariant=True)


@dataclass
class Child(Generic[ServiceT_co]):
    """A slot, the service that runs in it, and the processes that fill it."""

    service: ServiceT_co
    slot: Slot
    processes: dict[int, Process] = field(default_factory=dict)
    pulses: dict[int, Pulse] = field(default_factory=dict)
    usage: Usage | None = None
    cpu_percent: float | None = None
    log_start: int = 0  # where what its newest process has printed begins in its log
    start_failure: StartFailure | None = None  # the last

    @property
    def process(self) -> Process | None:
        return self.processes.get(self.slot.current.number) if self.slot.current else None

    @property
    def pulse(self) -> Pulse | None:
        return self.pulses.get(self.slot.current.number) if self.slot.current else None

    def measure(self) -> None:
        if self.process is not None and (usage := self.process.usage()) is not None:
            self.cpu_percent = usage.cpu_percent_since(self.usage)
            self.usage = usage


class Children:
    """All slots of one supervisor. `run` must run for anything to happen."""

    def __init__(self, state_dir: StateDir, policy: RestartPolicy, clock: AwakeClock) -> None:
        """`policy` may be replaced later on. All deadlines of the slots are by `clock`."""
        self.policy = policy
        self.clock = clock
        self._state_dir = state_dir
        self._rng = random.Random()
        self._facts: asyncio.Queue[tuple[Child[Service], Fact]] = asyncio.Queue()
        self._children: dict[str, Child[Service]] = {}
        self.workers = 0  # how many there are to be
        self.drained: set[str] = set()  # slots that stay empty until somebody resumes them
        self.unclaimed: list[ProcessRecord] = []  # that a supervisor before us had, and no slot has adopted yet
        self.is_recorded = True  # what runs now is in state.json
        self._changed = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    def __iter__(self) -> Iterator[Child[Service]]:
        """Over those that there are now: who looks at them one after the other may wait, and more are added."""
        return iter(list(self._children.values()))

    def get(self, name: str) -> Child[Service] | None:
        return self._children.get(name)

    def of(self, kind: type[ServiceT]) -> list[Child[ServiceT]]:
        """Return the slots that run a service of this class."""
        return [child for child in self if _runs(child, kind)]

    def add(self, service: ServiceT) -> Child[ServiceT]:
        child = Child(service, Slot(service.name, service.patience))
        self._children[service.name] = child
        return child

    def adopt(self, service: Service, records: Sequence[ProcessRecord], *, empties: bool) -> Child[Service]:
        """A slot whose processes run already; those that end meanwhile are the slot's to replace. `empties`: no other
        is to come after them."""
        child = self.add(service)
        self.unclaimed = [record for record in self.unclaimed if record not in records]
        found = []
        for record in sorted(records, key=lambda record: record.incarnation):
            number = record.incarnation
            is_promoted = service.adopt(record)
            phase = Phase.DRAINING if record.draining else Phase.READY if is_promoted else Phase.STARTING
            on_exit = functools.partial(self._exited, child, number)
            try:
                process = Process(
                    record,
                    self._state_dir.root,
                    service.orphan_signal,
                    on_exit,
                    log_start=log_size(self._log(child)),
                )
            except ProcessLookupError:
                continue
            child.processes[number] = process
            child.log_start = process.log_start
            if phase is Phase.READY:
                child.pulses[number] = Pulse(seen_at=self.clock.now())
            if phase is Phase.STARTING:
                self._watch_start(child, number)
            found.append((number, phase))
        if found:
            self.post(child, Adopt(tuple(found), empties))
        elif not empties:
            self.post(child, Start())
        return child

    def remove(self, child: Child[Service]) -> None:
        """Forget a slot that has no process any more."""
        del self._children[child.service.name]
        self.drained.discard(child.service.name)
        self.wake()

    def reap_orphans(self) -> None:
        """Wait for ended processes that became our children because their own parent ended."""
        reap_others({process.pid for child in self for process in child.processes.values()})

    def post(self, child: Child[Service], fact: Fact) -> None:
        self._facts.put_nowait((child, fact))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that depends on the children, or on what calls `wake`."""
        while not condition():
            await self._changed.wait()

    async def until_each(
        self,
        targets: Sequence[Child[Service]],
        done: Callable[[Child[Service]], bool],
        tell: Callable[[Child[Service]], None],
    ) -> None:
        """Wait until `done` holds for each of them, and `tell` of each when it first does."""
        waiting = list(targets)

        def all_done() -> bool:
            for child in list(waiting):
                if done(child):
                    waiting.remove(child)
                    tell(child)
            return not waiting

        await self.until(all_done)

    def wake(self) -> None:
        """Let all who wait in `until` look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Apply facts as they come, and tick when something is due, until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._tasks.create_task(self.clock.keep(), name="clock")
            while True:
                due = [at for child in self if (at := child.slot.due_at()) is not None]
                timeout = max(0.0, min(due) - self.clock.now()) if due else None
                try:
                    async with asyncio.timeout(timeout):
                        child, fact = await self._facts.get()
                except TimeoutError:
                    for child in self:
                        self._apply(child, Tick())
                else:
                    self._apply(child, fact)
                self.wake()

    def _apply(self, child: Child[Service], fact: Fact) -> None:
        if isinstance(fact, Exited):
            self._forget(child, fact)
        child.slot, effects = step(child.slot, fact, self.clock.now(), self.policy, self._rng)
        for effect in effects:
            self._carry_out(child, effect)
        if isinstance(fact, Exited) or any(isinstance(effect, Spawn | Promote | End) for effect in effects):
            self.record()

    def _carry_out(self, child: Child[Service], effect: Effect) -> None:
        match effect:
            case Spawn(number):
                self._spawn(child, number)
            case Promote(number):
                child.pulses[number] = Pulse(seen_at=self.clock.now())
                try:
                    child.service.promote(number)
                except OSError as exc:
                    self.post(child, Unhealthy(number, f"has no socket to promote ({exc})"))
            case End(number, urgency):
                if process := child.processes.get(number):
                    if urgency is Urgency.KILL:
                        process.kill()
                    else:
                        process.signal(child.service.signals[urgency])
            case Report(text, warning):
                logger.log(logging.WARNING if warning else logging.INFO, text, extra=EVENT)

    def _spawn(self, child: Child[Service], number: int) -> None:
        service = child.service
        on_exit = functools.partial(self._exited, child, number)
        try:
            self._state_dir.create()  # somebody may have removed what it needs
            process = Process.spawn(
                service.name,
                number,
                service.command(number),
                self._log(child),
                self._state_dir.root,
                service.orphan_signal,
                on_exit,
            )
        except (CommandError, OSError) as exc:
            self.post(child, Exited(number, f"cannot be run: {exc}"))
            return
        child.processes[number] = process
        child.log_start = process.log_start
        logger.info("%s started, pid %d", service.name, process.pid)
        self._watch_start(child, number)

    def _watch_start(self, child: Child[Service], number: int) -> None:
        self._tasks.create_task(self._await_ready(child, number), name=f"{child.service.name}-ready")

    def _exited(self, child: Child[Service], number: int, code: int | None) -> None:
        self.post(child, Exited(number, describe_exit(code)))

    def _log(self, child: Child[Service]) -> Path:
        return self._state_dir.log(child.service.name)

    def record(self) -> bool:
        """Write down what runs, for the supervisor that may have to go on from here; tell whether that was possible."""
        leaving = {(child.slot.name, i.number) for child in self for i in child.slot.incarnations if i.leaving}
        records = [
            replace(process.record, draining=(child.slot.name, number) in leaving)
            for child in self
            for number, process in child.processes.items()
        ] + self.unclaimed
        try:
            self._state_dir.write_state(SavedState(tuple(records), self.workers, tuple(sorted(self.drained))))
        except OSError as exc:  # a full disk must not end a cluster that runs
            if self.is_recorded:
                text = "cannot write state.json, a crash of the supervisor would leave processes behind: %s"
                logger.warning(text, exc)
            self.is_recorded = False
        else:
            if not self.is_recorded:
                logger.info("state.json is written again")
            self.is_recorded = True
        return self.is_recorded

    async def _await_ready(self, child: Child[Service], number: int) -> None:
        while number in child.processes:
            if await child.service.is_ready(number) and number in child.processes:
                self.post(child, Ready(number))
                return
            await asyncio.sleep(READY_POLL_SECONDS)

    def _forget(self, child: Child[Service], fact: Exited) -> None:
        number = fact.number
        process = child.processes.pop(number, None)
        child.pulses.pop(number, None)
        current = child.slot.current
        if current is not None and current.number == number:
            child.usage = child.cpu_percent = None
        was_starting = any(i.number == number and i.phase is Phase.STARTING for i in child.slot.incarnations)
        if was_starting:
            lines = tail(self._log(child), process.log_start, REASON_LINES) if process is not None else []
            why = f" ({fact.reason}): {lines.pop()}" if lines else f": {fact.reason}"
            text = f"{child.service.name} could not start{why}"
            child.start_failure = StartFailure(number, text, tuple(lines))


def _runs(child: Child[Service], kind: type[ServiceT]) -> TypeGuard[Child[ServiceT]]:
    return isinstance(child.service, kind)
