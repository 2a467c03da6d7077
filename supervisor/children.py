"""The processes of the cluster: facts in, `slot.step`, effects out.

Exits, readiness, verdicts, timers and people's commands only put facts into one queue; `_apply` turns each into
the slot's next state and carries the effects out. So there is one order of things, and one log of them.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from wsd.supervisor.health import Pulse
from wsd.supervisor.logs import tail
from wsd.supervisor.process import Process, Usage, describe_exit
from wsd.supervisor.service import Service
from wsd.supervisor.slot import (
    Effect,
    End,
    Exited,
    Fact,
    Promote,
    Ready,
    Report,
    RestartPolicy,
    Slot,
    Spawn,
    Tick,
    Unhealthy,
    step,
)
from wsd.supervisor.state_dir import StateDir

logger = logging.getLogger(__name__)

READY_POLL_SECONDS = 0.03
REASON_LINES = 40
"""How much of its log is shown of a process that did not start."""


@dataclass(frozen=True)
class StartFailure:
    """A process ended before its slot was ever ready: why on one line, and what it printed before that."""

    reason: str
    output: tuple[str, ...]


@dataclass
class Child:
    """A slot and what really fills it."""

    service: Service
    slot: Slot
    processes: dict[int, Process] = field(default_factory=dict)
    pulses: dict[int, Pulse] = field(default_factory=dict)
    usage: Usage | None = None
    cpu_percent: float | None = None
    log_start: int = 0
    start_failure: StartFailure | None = None

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

    def __init__(self, state_dir: StateDir, policy: RestartPolicy) -> None:
        self._state_dir = state_dir
        self._policy = policy
        self._rng = random.Random()
        self._facts: asyncio.Queue[tuple[Child, Fact]] = asyncio.Queue()
        self._children: dict[str, Child] = {}
        self._changed = asyncio.Event()
        self._tasks: asyncio.TaskGroup

    def __iter__(self) -> Iterator[Child]:
        """Over those that there are now: who looks at them one after the other may wait, and more are added."""
        return iter(list(self._children.values()))

    def get(self, name: str) -> Child | None:
        return self._children.get(name)

    def add(self, service: Service) -> Child:
        child = self._children[service.name] = Child(service, Slot(service.name))
        return child

    def post(self, child: Child, fact: Fact) -> None:
        self._facts.put_nowait((child, fact))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that depends on the children, or on what calls `wake`."""
        while not condition():
            await self._changed.wait()

    def wake(self) -> None:
        """Let all who wait in `until` look again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Apply facts as they come, and tick when something is due, until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                due = [at for child in self if (at := child.slot.due_at()) is not None]
                timeout = max(0.0, min(due) - time.monotonic()) if due else None
                try:
                    async with asyncio.timeout(timeout):
                        child, fact = await self._facts.get()
                except TimeoutError:
                    for child in self:
                        self._apply(child, Tick())
                else:
                    self._apply(child, fact)
                self.wake()

    def _apply(self, child: Child, fact: Fact) -> None:
        if isinstance(fact, Exited):
            self._forget(child, fact)
        child.slot, effects = step(child.slot, fact, time.monotonic(), self._policy, self._rng)
        for effect in effects:
            self._carry_out(child, effect)
        if isinstance(fact, Exited) or any(isinstance(effect, Spawn) for effect in effects):
            self._record_processes()

    def _carry_out(self, child: Child, effect: Effect) -> None:
        match effect:
            case Spawn(number):
                self._spawn(child, number)
            case Promote(number):
                child.pulses[number] = Pulse(seen_at=time.monotonic())
                try:
                    child.service.promote(number)
                except OSError as exc:
                    self.post(child, Unhealthy(number, f"has no socket to promote ({exc})"))
            case End(number, urgency):
                if process := child.processes.get(number):
                    process.signal(child.service.signals[urgency])
            case Report(text, warning):
                logger.log(logging.WARNING if warning else logging.INFO, text)

    def _spawn(self, child: Child, number: int) -> None:
        service = child.service

        def on_exit(code: int) -> None:
            self.post(child, Exited(number, describe_exit(code)))

        log = self._state_dir.log(service.name)
        try:
            process = Process(service.name, service.command(number), log, service.orphan_signal, on_exit)
        except OSError as exc:
            self.post(child, Exited(number, f"cannot be run: {exc}"))
            return
        child.processes[number] = process
        child.log_start = process.log_start
        logger.info("%s started, pid %d", service.name, process.pid)
        self._tasks.create_task(self._await_ready(child, number), name=f"{service.name}-ready")

    def _record_processes(self) -> None:
        try:
            self._state_dir.write_processes([process.record for child in self for process in child.processes.values()])
        except OSError as exc:  # a full disk must not end a cluster that runs
            logger.warning("cannot write state.json, a crash of the supervisor would leave processes behind: %s", exc)

    async def _await_ready(self, child: Child, number: int) -> None:
        while number in child.processes:
            if await child.service.is_ready(number) and number in child.processes:
                self.post(child, Ready(number))
                return
            await asyncio.sleep(READY_POLL_SECONDS)

    def _forget(self, child: Child, fact: Exited) -> None:
        child.processes.pop(fact.number, None)
        child.pulses.pop(fact.number, None)
        child.usage = child.cpu_percent = None
        if not child.slot.ever_ready and child.start_failure is None:
            lines = tail(self._state_dir.log(child.service.name), child.log_start, REASON_LINES)
            reason = lines.pop() if lines else fact.reason
            child.start_failure = StartFailure(
                f"{child.service.name} could not start ({fact.reason}): {reason}", tuple(lines)
            )
