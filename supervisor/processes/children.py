"""The slots of a node and their processes: facts go in, `slot.step` decides, and its effects are carried out.

Exits, readiness, verdicts, timers and commands of operators only put facts into one queue. `_apply` takes them one by
one, computes the next state of the slot and carries out the effects. So everything happens in one order.
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
from wsd.supervisor.processes.orphans import reap_others
from wsd.supervisor.processes.process import Process, describe_exit
from wsd.supervisor.processes.pulse import Pulse
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
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import ProcessRecord, SavedState
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)

READY_POLL_SECONDS = 0.03
REASON_LINES = 40
"""How many lines of its log are shown when a process did not start."""


@dataclass(frozen=True)
class StartFailure:
    """A process that ended before it was ready: the reason on one line, and the lines that it printed before."""

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
    log_start: int = 0  # the byte in its log at which the output of its newest process begins
    start_failure: StartFailure | None = None  # the latest

    @property
    def process(self) -> Process | None:
        """The process of the slot's current incarnation."""
        return self.processes.get(self.slot.current.number) if self.slot.current else None

    @property
    def pulse(self) -> Pulse | None:
        """The signs of life of the slot's current incarnation, once it is ready."""
        return self.pulses.get(self.slot.current.number) if self.slot.current else None

    def measure(self) -> None:
        """Update `usage` and `cpu_percent`, if the process can be measured."""
        if self.process is not None and (usage := self.process.usage()) is not None:
            self.cpu_percent = usage.cpu_percent_since(self.usage)
            self.usage = usage


class Children:
    """The slots of a supervisor. Facts are applied only while `run` runs."""

    def __init__(self, state_dir: StateDir, policy: RestartPolicy, clock: AwakeClock) -> None:
        """`policy` may be replaced later. All deadlines of the slots are times of `clock`."""
        self.policy = policy
        self.clock = clock
        self._state_dir = state_dir
        self._rng = random.Random()
        self._facts: asyncio.Queue[tuple[Child[Service], Fact]] = asyncio.Queue()
        self._children: dict[str, Child[Service]] = {}
        self.workers = 0  # the number of worker slots that is recorded for the next supervisor
        self.drained: set[str] = set()  # names of the slots that stay empty until `wsd resume`
        self.helpers: set[int] = set()  # pids of other programs that are waited for elsewhere
        self.unclaimed: list[ProcessRecord] = []  # processes of the previous supervisor that no slot has adopted yet
        self.is_recorded = True  # False while state.json cannot be written
        self._changed = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    def __iter__(self) -> Iterator[Child[Service]]:
        """Iterate over the slots that exist now. The caller may await between two of them while others are added."""
        return iter(list(self._children.values()))

    def get(self, name: str) -> Child[Service] | None:
        """Return the slot of this name, or None."""
        return self._children.get(name)

    def of(self, kind: type[ServiceT]) -> list[Child[ServiceT]]:
        """Return the slots that run a service of this class."""
        return [child for child in self if _runs(child, kind)]

    def add(self, service: ServiceT) -> Child[ServiceT]:
        """Add an empty slot for a service."""
        child = Child(service, Slot(service.name, service.patience))
        self._children[service.name] = child
        return child

    def adopt(self, service: Service, records: Sequence[ProcessRecord], *, drains: bool) -> Child[Service]:
        """Add a slot, and adopt the processes that the previous supervisor left running in it.

        A process that has ended in the meantime is replaced as usual. With `drains` all of them drain, and none is
        replaced.
        """
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
            self.post(child, Adopt(tuple(found), drains))
        elif not drains:
            self.post(child, Start())
        return child

    def remove(self, child: Child[Service]) -> None:
        """Remove a slot that has no processes."""
        del self._children[child.service.name]
        self.drained.discard(child.service.name)
        self.wake()

    def reap_orphans(self) -> None:
        """Wait for ended processes that became our children when their own parent ended."""
        own = {process.pid for child in self for process in child.processes.values()}
        reap_others(own | self.helpers)

    def post(self, child: Child[Service], fact: Fact) -> None:
        """Queue a fact about a slot."""
        self._facts.put_nowait((child, fact))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition. It is checked after each fact, and whenever `wake` is called."""
        while not condition():
            await self._changed.wait()

    async def until_each(
        self,
        targets: Sequence[Child[Service]],
        done: Callable[[Child[Service]], bool],
        on_done: Callable[[Child[Service]], None],
    ) -> None:
        """Wait until `done` holds for every target, and call `on_done` for each target once it does."""
        waiting = list(targets)

        def all_done() -> bool:
            for child in list(waiting):
                if done(child):
                    waiting.remove(child)
                    on_done(child)
            return not waiting

        await self.until(all_done)

    def wake(self) -> None:
        """Let every `until` check its condition again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Apply facts as they come, and post a Tick to all slots when a deadline of one is due, until cancelled."""
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
            self._state_dir.create()  # directories that the process needs may have been removed
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
        """Write the running processes to state.json, for a later supervisor, and tell whether that was possible."""
        leaving = {(child.slot.name, i.number) for child in self for i in child.slot.incarnations if i.leaving}
        records = [
            replace(process.record, draining=(child.slot.name, number) in leaving)
            for child in self
            for number, process in child.processes.items()
        ] + self.unclaimed
        try:
            self._state_dir.write_state(SavedState(tuple(records), self.workers, tuple(sorted(self.drained))))
        except OSError as exc:  # a full disk must not end a running cluster
            if self.is_recorded:
                text = "cannot write state.json: %s; if the supervisor crashes now, its processes are not found again"
                logger.warning(text, exc)
            self.is_recorded = False
        else:
            if not self.is_recorded:
                logger.info("state.json can be written again")
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
