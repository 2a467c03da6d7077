"""Watches the processes: listens to heartbeats, measures, asks who is silent, and posts what `health.verdict` says."""

import asyncio
import logging
import os

from wsd.supervisor.monitoring.redis_watch import RedisWatch
from wsd.supervisor.processes.children import Child, Children
from wsd.supervisor.processes.health import Limits, Pulse, Verdict, verdict
from wsd.supervisor.processes.service import LifeSign, Service
from wsd.supervisor.processes.slot import Phase, Recycle, Unhealthy
from wsd.supervisor.processes.usage import Usage
from wsd.supervisor.services.worker import WorkerService
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)

JUDGEMENTS = 2
"""In each interval between looks: to look costs, to judge does not, and a hung process is known that much sooner."""

SURVEY_INTERVALS = 5
"""Between two looks at what changes slowly."""


class HealthWatch:
    """`run` watches until cancelled; `usage` and `cpu_percent` are the supervisor's own."""

    def __init__(self, children: Children, redis: RedisWatch | None, limits: Limits, interval: float) -> None:
        """`interval`: seconds between two measurements of a process, and between two questions to it."""
        self.usage: Usage | None = None
        self.cpu_percent: float | None = None
        self._children = children
        self._clock = children.clock
        self._gaps = self._clock.gaps  # that the pulses know of
        self._redis = redis
        self.configure(limits)
        self._interval = interval
        self._tasks: asyncio.TaskGroup

    def configure(self, limits: Limits) -> None:
        """Judge by these limits from now on."""
        self.limits = limits
        self._clock.late_after = limits.late_after

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            if self._redis is not None:
                # Apart from the rest: a Redis that hangs must not hold up the watch over the workers.
                self._tasks.create_task(self._listen(self._redis), name="heartbeats")
                self._tasks.create_task(self._survey(self._redis), name="survey")
            self._tasks.create_task(self._ask_the_silent(), name="answers")
            self._tasks.create_task(self._measure(), name="usage")
            while True:
                await asyncio.sleep(self._interval / JUDGEMENTS)
                for child in self._children:
                    self._judge(child)

    async def _listen(self, redis: RedisWatch) -> None:
        while True:
            pulses = {
                child.service.worker_id(child.slot.current.number): child.pulse
                for child in self._children.of(WorkerService)
                if child.slot.current is not None
            }
            beats = await redis.look(list(pulses))
            for worker_id, beat in beats.items():
                if (pulse := pulses[worker_id]) is not None:
                    pulse.hear(beat, self._clock.now())
            await asyncio.sleep(self._interval)

    async def _survey(self, redis: RedisWatch) -> None:
        while True:
            await redis.survey()
            await asyncio.sleep(self._interval * SURVEY_INTERVALS)

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            for child in self._children:
                child.measure()
            if (usage := Usage.of(os.getpid())) is not None:
                self.cpu_percent = usage.cpu_percent_since(self.usage)
                self.usage = usage

    def _doubt(self, now: float) -> None:
        """Let all silences begin anew after a time in which the supervisor could not hear anybody."""
        if self._clock.gaps == self._gaps:
            return
        self._gaps = self._clock.gaps
        for child in self._children:
            for pulse in child.pulses.values():
                pulse.begin_anew(now)
        text = "the supervisor stood still for %.1f s: it kills nobody for a silence that began before"
        logger.warning(text, self._clock.last_gap, extra=EVENT)

    def _judge(self, child: Child[Service]) -> None:
        now = self._clock.now()
        self._doubt(now)
        current, pulse = child.slot.current, child.pulse
        if current is None or pulse is None or current.phase is not Phase.READY:
            return
        self._feel(child.service, pulse, now)
        usage = child.usage
        seen = pulse.observe(
            now,
            zombie=usage is not None and usage.zombie,
            rss=usage.rss if usage and child.service.can_overlap else 0,
            # If nobody hears, the fault is not in the workers, and new ones would not help.
            others_hear=any(c.pulse and c.pulse.beat and c.pulse.beat.redis for c in self._children),
        )
        match verdict(seen, self.limits):
            case Verdict.PROBE:
                if pulse.probing_since is None:
                    pulse.probing_since = now
                    self._tasks.create_task(self._probe(child, pulse, now), name=f"probe-{child.slot.name}")
            case Verdict.HUNG:
                reason = f"hangs, no sign of life for {seen.heartbeat_age:.1f} s"
                self._children.post(child, Unhealthy(current.number, reason))
            case Verdict.STALLED:
                reason = f"answers, but its background work has stopped: no heartbeat for {seen.heartbeat_age:.1f} s"
                self._recycle(child, reason)
            case Verdict.ZOMBIE:
                self._children.post(child, Unhealthy(current.number, "is a zombie"))
            case Verdict.OVERWEIGHT:
                self._recycle(child, f"uses {seen.rss} bytes of memory, health.max_rss is {self.limits.max_rss}")
            case Verdict.DEAF:
                self._recycle(child, "hears nothing of Redis, whatever it tries")
            case Verdict.OLD:
                self._recycle(child, f"is {seen.age:.0f} s old, health.max_age is {self.limits.max_age:g}")
            case Verdict.WORN:
                reason = f"has handled {seen.messages} messages, health.max_messages is {self.limits.max_messages}"
                self._recycle(child, reason)

    def _recycle(self, child: Child[Service], reason: str) -> None:
        """One at a time: two processes of one slot are twice the memory."""
        current = child.slot.current
        if current is not None and not any(other.slot.replacing for other in self._children):
            self._children.post(child, Recycle(current.number, reason))

    def _feel(self, service: Service, pulse: Pulse, now: float) -> None:
        """Take the supervisor's own talk with Valkey for its heartbeat, where Valkey is the Redis of all."""
        if service.life_sign is LifeSign.REDIS:
            answered_at = self._redis.answered_at if self._redis is not None else now
            pulse.seen_at = max(pulse.seen_at, answered_at)

    async def _ask_the_silent(self) -> None:
        """nginx sends no heartbeat, nor does a Valkey that nobody talks to as long as the Redis it stands in for is
        well. Each is asked apart: one that hangs must not make another look as if it did."""
        asked: dict[str, asyncio.Task[None]] = {}
        while True:
            await asyncio.sleep(self._interval)
            for child in self._children:
                name, pulse = child.slot.name, child.pulse
                if child.service.life_sign is not LifeSign.ANSWER or pulse is None:
                    continue
                if name not in asked or asked[name].done():
                    asked[name] = self._tasks.create_task(self._ask(child.service, pulse), name=f"ask-{name}")

    async def _ask(self, service: Service, pulse: Pulse) -> None:
        if await service.answers(self.limits.heartbeat_timeout):
            pulse.seen_at = self._clock.now()

    async def _probe(self, child: Child[Service], pulse: Pulse, asked_at: float) -> None:
        """Ask a silent process once more; while it does not answer, `probing_since` stays, and a later verdict is HUNG.

        The question goes over a connection of its own: an earlier one may have been lost while we stood still.
        """
        is_answered = await self._is_answered(child.service, pulse)
        now = self._clock.now()
        if is_answered:
            pulse.probing_since = None
            return
        await asyncio.sleep(asked_at + self.limits.probe_timeout - now)  # a refusal comes at once: silence, too
        if child.pulse is pulse and pulse.probing_since == asked_at:
            self._judge(child)
            pulse.probing_since = None

    async def _is_answered(self, service: Service, pulse: Pulse) -> bool:
        """Whether it answered; an answer is a sign of life, of a worker only where it has a newer heartbeat."""
        if service.life_sign is LifeSign.HEARTBEAT:
            beat = await service.probe(self.limits.probe_timeout)
            if beat is not None:
                pulse.answer(beat, self._clock.now())
            return beat is not None
        answers = await service.answers(self.limits.probe_timeout)
        if answers:
            pulse.seen_at = self._clock.now()
        return answers
