"""The course of `wsd chaos`: connect clients, inject the faults of a schedule, wait for deliveries, and judge."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from wsd.supervisor.chaos.clients import ChaosClient, Publisher, Subscriber
from wsd.supervisor.chaos.faults import REDIS_FAULTS, Fault, Planned, pick, plan, possible
from wsd.supervisor.chaos.injector import Injector
from wsd.supervisor.chaos.nodes import LocalNode, local_nodes
from wsd.supervisor.chaos.redis_faults import RedisFaults
from wsd.supervisor.chaos.survey import look
from wsd.supervisor.chaos.verdict import ChaosVerdict, Ledger, discrepancies
from wsd.supervisor.config.settings import RedisConfig
from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.control.status import ClusterStatus
from wsd.supervisor.errors import CommandError
from wsd.supervisor.state_dir.directory import StateDir
from wsd.worker.contract.sentinels.connection import SentinelError

READY_SECONDS = 20.0
"""Time limit for all clients to connect and subscribe."""

CLOSE_SECONDS = 5.0
"""Time limit for the clients to close."""

SETTLE_SECONDS = 30.0
"""How long after the last fault messages may take to arrive, and the cluster to be consistent."""

EVENTS_SHOWN = 5
"""How many faults the progress shows."""

DUPLICATE_SECONDS = 1.0
"""How long duplicates of the last messages are waited for."""


@dataclass(frozen=True)
class ChaosSettings:
    """The load and the faults, as the command line describes them."""

    seed: int
    duration: float  # seconds
    faults: frozenset[Fault]
    publishers: int = 4
    subscribers: int = 40
    rate: float = 25.0  # messages per second from each publisher
    nodes: bool = False  # whether all nodes take part, or only this one


@dataclass(frozen=True)
class ChaosProgress:
    """The progress of a run."""

    seconds: float
    published: int
    missing: int  # acked deliveries in transit
    told: int
    reconnects: int
    events: tuple[str, ...]  # the latest faults


class ChaosRun:
    """One run against a running cluster."""

    def __init__(self, state_dir: StateDir, redis: RedisConfig, settings: ChaosSettings) -> None:
        """Prepare a run. `redis` says how the cluster reaches its Redis.

        Raises NotRunningError without a running cluster, CommandError when the cluster is not healthy.
        """
        self._state_dir = state_dir
        self._control = ControlClient(state_dir)
        self._settings = settings
        self._faults: Counter[str] = Counter()
        self._events: list[str] = []
        status = self._status()
        if status.state != "healthy":
            raise CommandError(f"the cluster is {status.state} at the start: {'; '.join(status.problems)}")
        self._redis = msgspec.structs.replace(redis, url=redis.url or (status.redis.url or ""))
        self._redis_faults = RedisFaults(self._redis)
        run = f"{time.time_ns() // 1_000_000:x}"  # keeps messages and users of an earlier run apart
        channels = [f"chaos:{run}:{number}" for number in range(settings.publishers)]
        readers = [f"chaos-{run}-s{number}" for number in range(settings.subscribers)]
        self._nodes = local_nodes(state_dir, status) if settings.nodes else [LocalNode(status.node_id, state_dir)]
        self._elsewhere = 0  # nodes on other machines, which only get clients
        urls = [status.websocket_url]
        if settings.nodes:
            living = [node for node in status.nodes if node.state != "gone"]
            if bad := [node.node_id for node in living if node.state != "healthy" or not node.websocket_url]:
                raise CommandError(
                    f"not all nodes are healthy at the start: {', '.join(bad)}; see `wsd status --nodes`"
                )
            urls = [node.websocket_url for node in living]
            self._elsewhere = len(living) - len(self._nodes)
        has_redis_faults = bool(REDIS_FAULTS.intersection(settings.faults)) and self._redis_faults.are_possible()
        self._planned_faults = possible(settings.faults, status, nodes=len(urls), redis_faults=has_redis_faults)
        self._failed_faults: list[str] = []
        self._discrepancies: list[str] = []
        self._ledger = Ledger(readers)
        self._publishers = [
            Publisher(rotated(urls, number), f"chaos-{run}-p{number}", self._ledger, channel, settings.rate)
            for number, channel in enumerate(channels)
        ]
        self._subscribers = [
            Subscriber(rotated(urls, number), user_id, self._ledger, channels) for number, user_id in enumerate(readers)
        ]

    @property
    def _clients(self) -> list[ChaosClient]:
        return [*self._publishers, *self._subscribers]

    async def run(self, show: Callable[[ChaosProgress], None]) -> ChaosVerdict:
        """Run the load and the faults, and return the verdict. `show` is called about twice per second.

        Raises CommandError when the clients cannot connect, or are refused.
        """
        clients = [asyncio.create_task(client.run()) for client in self._clients]
        load = asyncio.create_task(self._run(show))
        try:
            # A client that ends is a bug, not a fault.
            done, _ = await asyncio.wait([load, *clients], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in [load, *clients]:
                task.cancel()
            await asyncio.wait([load, *clients], timeout=CLOSE_SECONDS)
            await asyncio.to_thread(self._end_sessions)
        settings = self._settings
        return self._ledger.verdict(
            settings.seed, settings.duration, self._faults, self._failed_faults, self._discrepancies, self._events
        )

    async def _run(self, show: Callable[[ChaosProgress], None]) -> None:
        await self._until_all_ready()
        began = self._ledger.began = time.monotonic()
        display = asyncio.create_task(self._show_progress(show, began))
        publishing = [asyncio.create_task(publisher.publish_messages()) for publisher in self._publishers]
        try:
            await self._inject_all(began)
            for task in publishing:
                task.cancel()
            await self._until_settled()
        finally:
            for task in [display, *publishing]:
                task.cancel()
            await asyncio.gather(display, *publishing, return_exceptions=True)

    async def _until_all_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                for publisher in self._publishers:
                    await publisher.connected.wait()
                for subscriber in self._subscribers:
                    await subscriber.ready.wait()
        except TimeoutError:
            raise CommandError(
                "the clients cannot connect: the cluster must serve the built-in hub, without authentication"
            ) from None

    async def _inject_all(self, began: float) -> None:
        settings = self._settings
        injector = Injector(self._nodes, self._redis_faults, self._kill_listeners, self._drop_client)
        async with asyncio.TaskGroup() as group:
            for planned in plan(settings.seed, settings.duration, self._planned_faults):
                await asyncio.sleep(max(0.0, began + planned.at - time.monotonic()))
                group.create_task(self._inject(injector, planned, began))
            await asyncio.sleep(max(0.0, began + settings.duration - time.monotonic()))

    async def _inject(self, injector: Injector, planned: Planned, began: float) -> None:
        self._faults[planned.fault.value] += 1
        try:
            done = await injector.inject(planned)
        except (CommandError, OSError) as exc:
            done = str(exc) if str(exc).startswith(planned.fault) else f"{planned.fault}: {exc}"
            self._failed_faults.append(done)
        self._events.append(f"{time.monotonic() - began:6.1f} s  {done}")

    async def _until_settled(self) -> None:
        """Wait until all acked messages have arrived and the cluster is consistent, at most SETTLE_SECONDS each."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                while self._ledger.missing:  # noqa: ASYNC110 - no event announces a count
                    await asyncio.sleep(0.2)
        await asyncio.sleep(DUPLICATE_SECONDS)
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            users = [client.user_id for client in self._clients if client.connected.is_set()]
            self._discrepancies = await asyncio.to_thread(self._look, users)
            is_over = self._state_dir.lock.holder() is None  # without a supervisor, nothing will change any more
            if not self._discrepancies or is_over or time.monotonic() > deadline:
                return
            await asyncio.sleep(0.5)

    def _look(self, users: list[str]) -> list[str]:
        """Return the contradictions on all nodes of this machine.

        Sessions are compared only where the workers of all nodes are known.
        """
        try:
            seen = [
                look(node.state_dir, node.control, users if number == 0 and not self._elsewhere else [])
                for number, node in enumerate(self._nodes)
            ]
        except (CommandError, OSError) as exc:
            return [f"a supervisor does not answer: {exc}"]
        workers = [worker_id for survey in seen for worker_id in survey.expected_workers.values()]
        several = len(seen) > 1
        return [
            f"{node.node_id}: {text}" if several else text
            for node, survey in zip(self._nodes, seen, strict=True)
            for text in discrepancies(survey, workers)
        ]

    async def _show_progress(self, show: Callable[[ChaosProgress], None], began: float) -> None:
        while True:
            ledger = self._ledger
            show(
                ChaosProgress(
                    time.monotonic() - began,
                    ledger.published,
                    ledger.missing,
                    ledger.told,
                    ledger.reconnects,
                    tuple(self._events[-EVENTS_SHOWN:]),
                )
            )
            await asyncio.sleep(0.5)

    def _status(self) -> ClusterStatus:
        return msgspec.json.decode(self._control.call("GET", "/v1/status"), type=ClusterStatus)

    def _end_sessions(self) -> None:
        """End the sessions that lost connections and failed resumes have left behind."""
        for client in self._clients:
            try:
                self._control.call("POST", "/v1/kick", {"who": client.user_id})
            except CommandError:
                return  # the cluster is gone or cannot end them: the sessions expire

    def _kill_listeners(self) -> None:
        import redis  # noqa: PLC0415 - takes 40 ms, and only this fault needs it

        from wsd.supervisor.monitoring.redis_client import server_url  # noqa: PLC0415
        from wsd.supervisor.monitoring.redis_errors import unusable  # noqa: PLC0415

        try:
            url = asyncio.run(server_url(self._redis, self._redis.url))
            with redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2) as client:
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        except (redis.RedisError, SentinelError, OSError) as exc:
            error = unusable(exc)
            raise CommandError(f"{error.summary}: {error}") from None

    def _drop_client(self, which: float) -> None:
        pick(self._clients, which).drop()


def rotated(urls: Sequence[str], number: int) -> list[str]:
    """Return the URLs with another one first for each number, so that clients begin on all nodes."""
    first = number % len(urls)
    return [*urls[first:], *urls[:first]]
