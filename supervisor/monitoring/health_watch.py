"""The watch over the processes of a node: it collects signs of life, and acts on the verdicts of `health`."""

import asyncio
import logging
import os

from wsd.supervisor.monitoring.health import Limits, Verdict, observe, verdict
from wsd.supervisor.monitoring.redis_watch import RedisWatch
from wsd.supervisor.processes.children import Child, Children
from wsd.supervisor.processes.pulse import Pulse
from wsd.supervisor.processes.service import LifeSign, Service
from wsd.supervisor.processes.slot import Phase, Recycle, Unhealthy
from wsd.supervisor.processes.usage import Usage
from wsd.supervisor.services.worker import WorkerService
from wsd.worker.contract.events import EVENT

logger = logging.getLogger(__name__)

JUDGEMENTS_PER_INTERVAL = 2
"""How often verdicts are computed per interval. Measuring is expensive, judging is not, and judging more often notices
a hung process sooner."""

SURVEY_INTERVALS = 5
"""How many intervals are between two surveys of Redis, see RedisWatch.survey."""


class HealthWatch:
    """A watch over the processes, for as long as `run` runs.

    `usage` and `cpu_percent` are those of the supervisor process itself.
    """

    def __init__(self, children: Children, redis: RedisWatch | None, limits: Limits, interval: float) -> None:
        """`interval`: seconds between two measurements of a process, and between two questions to it."""
        self.usage: Usage | None = None
        self.cpu_percent: float | None = None
        self._children = children
        self._clock = children.clock
        self._gaps = self._clock.gaps  # the gaps after which silences were restarted
        self._redis = redis
        self.configure(limits)
        self._interval = interval
        self._tasks: asyncio.TaskGroup

    def configure(self, limits: Limits) -> None:
        """Use these limits from now on."""
        self.limits = limits
        self._clock.late_after = limits.late_after

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            if self._redis is not None:
                # In tasks of their own: a Redis that hangs must not delay the watch over the processes.
                self._tasks.create_task(self._read_heartbeats(self._redis), name="heartbeats")
                self._tasks.create_task(self._survey(self._redis), name="survey")
            self._tasks.create_task(self._ask_regularly(), name="answers")
            self._tasks.create_task(self._measure(), name="usage")
            while True:
                await asyncio.sleep(self._interval / JUDGEMENTS_PER_INTERVAL)
                for child in self._children:
                    self._judge(child)

    async def _read_heartbeats(self, redis: RedisWatch) -> None:
        while True:
            pulses = {
                child.service.worker_id(child.slot.current.number): child.pulse
                for child in self._children.of(WorkerService)
                if child.slot.current is not None
            }
            beats = await redis.look(list(pulses))
            for worker_id, beat in beats.items():
                if (pulse := pulses[worker_id]) is not None:
                    pulse.receive(beat, self._clock.now())
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

    def _forgive_gap(self, now: float) -> None:
        """Restart all silences if the supervisor itself was stopped, and so could not receive any heartbeat."""
        if self._clock.gaps == self._gaps:
            return
        self._gaps = self._clock.gaps
        for child in self._children:
            for pulse in child.pulses.values():
                pulse.restart_silence(now)
        text = "the supervisor was stopped for %.1f s: silences of processes are counted from now on"
        logger.warning(text, self._clock.last_gap, extra=EVENT)

    def _judge(self, child: Child[Service]) -> None:
        """Compute the verdict on a slot's process, and act on it."""
        now = self._clock.now()
        self._forgive_gap(now)
        current, pulse = child.slot.current, child.pulse
        if current is None or pulse is None or current.phase is not Phase.READY:
            return
        self._note_answers(child.service, pulse, now)
        usage = child.usage
        seen = observe(
            pulse,
            now,
            zombie=usage is not None and usage.zombie,
            rss=usage.rss if usage and child.service.can_overlap else 0,
            # If no worker receives anything, the fault is not in the workers, and replacing them would not help.
            others_subscribed=any(c.pulse and c.pulse.beat and c.pulse.beat.redis for c in self._children),
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
                self._children.post(child, Unhealthy(current.number, "is a zombie: its main thread has ended"))
            case Verdict.MAX_RSS:
                self._recycle(child, f"uses {seen.rss} bytes of memory, health.max_rss is {self.limits.max_rss}")
            case Verdict.DEAF:
                self._recycle(child, "can talk to Redis, but receives no messages from it")
            case Verdict.MAX_AGE:
                self._recycle(child, f"is {seen.age:.0f} s old, health.max_age is {self.limits.max_age:g}")
            case Verdict.MAX_MESSAGES:
                reason = f"has handled {seen.messages} messages, health.max_messages is {self.limits.max_messages}"
                self._recycle(child, reason)

    def _recycle(self, child: Child[Service], reason: str) -> None:
        """Replace the process of a slot, unless a replacement is under way: each needs memory for two processes."""
        current = child.slot.current
        if current is not None and not any(other.slot.replacing for other in self._children):
            self._children.post(child, Recycle(current.number, reason))

    def _note_answers(self, service: Service, pulse: Pulse, now: float) -> None:
        """Count Redis' answers to the supervisor as signs of life of our own Valkey, where that is the Redis we use."""
        if service.life_sign is LifeSign.REDIS:
            answered_at = self._redis.answered_at if self._redis is not None else now
            pulse.seen_at = max(pulse.seen_at, answered_at)

    async def _ask_regularly(self) -> None:
        """Ask each process with LifeSign.ANSWER at every interval.

        Each is asked in a task of its own, so that one that hangs does not delay the others and make them look hung.
        """
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
        """Ask a silent process directly.

        Without an answer, `probing_since` stays set, and the verdict after the probe's timeout is HUNG.

        The probe uses a new connection: an older one may have been lost while the supervisor was stopped.
        """
        is_answered = await self._is_answered(child.service, pulse)
        now = self._clock.now()
        if is_answered:
            pulse.probing_since = None
            return
        # A refused connection fails at once. It counts as silence only when the timeout has passed.
        await asyncio.sleep(asked_at + self.limits.probe_timeout - now)
        if child.pulse is pulse and pulse.probing_since == asked_at:
            self._judge(child)
            pulse.probing_since = None

    async def _is_answered(self, service: Service, pulse: Pulse) -> bool:
        """Ask a process, note what its answer says, and tell whether it answered.

        An answer is a sign of life. That of a worker is one only if it holds a newer heartbeat, see Pulse.answer.
        """
        if service.life_sign is LifeSign.HEARTBEAT:
            beat = await service.probe(self.limits.probe_timeout)
            if beat is not None:
                pulse.answer(beat, self._clock.now())
            return beat is not None
        answers = await service.answers(self.limits.probe_timeout)
        if answers:
            pulse.seen_at = self._clock.now()
        return answers
