"""The course of `wsd bench`: connect, subscribe, publish at a constant rate through nginx, and collect the figures."""

import asyncio
import base64
import itertools
import math
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec
import psutil

from wsd.supervisor.bench.clients import BenchClient, HandshakeError, Tally
from wsd.supervisor.bench.figures import Figures, histogram, latency, per_delivery
from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.control.status import ClusterStatus
from wsd.supervisor.errors import CommandError
from wsd.supervisor.local_tls import unverified_context
from wsd.supervisor.machine.file_limit import raise_file_limit
from wsd.supervisor.percentile import percentile
from wsd.supervisor.state_dir.directory import StateDir

AT_A_TIME = 50
"""How many handshakes, or subscriptions, are in progress at the same time."""

CONNECT_SECONDS = 30.0
"""Time limit of one handshake, and of one subscription."""

PUBLISHER_RATE = 50.0
"""Messages per second from one connection: well below the default of security.messages_per_second."""

PUBLISHER_BYTES = 200_000
"""Bytes per second from one connection: below the default of security.bytes_per_second."""

MESSAGE_BYTES = 4096
"""What security.bytes_per_second counts for a message besides its payload, if its channel is new to the connection."""

PATIENCE_SECONDS = 5.0
"""Messages that have not arrived count as lost once no other message has arrived for this long."""

LEAVE_SECONDS = 10.0
"""Time limit for all connections to close."""

SPARE_FILES = 64
"""File descriptors that this process needs besides those of its connections."""


@dataclass(frozen=True)
class BenchSettings:
    """The load, as the command line describes it."""

    connections: int
    rate: float  # messages per second, in total
    payload_bytes: int
    channels: int
    duration: float  # seconds
    token: str = ""

    @property
    def publishers(self) -> int:
        """The number of connections that publish: enough that none exceeds the rate limits for messages or bytes."""
        by_bytes = self.rate * (self.payload_bytes + MESSAGE_BYTES) / PUBLISHER_BYTES
        return min(self.connections, max(1, math.ceil(self.rate / PUBLISHER_RATE), math.ceil(by_bytes)))


@dataclass(frozen=True)
class BenchProgress:
    """The progress of a phase: `done` of `total` connections, subscriptions, seconds or deliveries."""

    phase: str
    done: float
    total: float
    delivered: int


Show = Callable[[BenchProgress], None]


class BenchRun:
    """One run against a running cluster."""

    def __init__(self, state_dir: StateDir, settings: BenchSettings) -> None:
        """Prepare a run.

        Raises NotRunningError without a running cluster, CommandError when this process may not open that many
        connections.
        """
        self._settings = settings
        status = msgspec.json.decode(ControlClient(state_dir).call("GET", "/v1/status"), type=ClusterStatus)
        files = raise_file_limit()
        if files < settings.connections + SPARE_FILES:
            raise CommandError(
                f"{settings.connections} connections need as many file descriptors, but the limit of this process is "
                f"{files}: use fewer --connections, or run `ulimit -Hn {settings.connections + 1000}` as root"
            )
        self._url = urlsplit(status.websocket_url)
        workers = [worker.pid for worker in status.workers]
        others = {"nginx": status.nginx, "valkey": status.valkey}
        self._pids = {"workers": [pid for pid in workers if pid is not None]}
        self._pids |= {name: [process.pid] for name, process in others.items() if process and process.pid}
        self._pids["load"] = [os.getpid()]
        self._run = f"{time.time_ns() // 1_000_000:x}"  # keeps messages and users of an earlier run apart
        self._tally = Tally()
        self._clients: list[BenchClient] = []
        self._handshakes: list[float] = []
        self._failed: Counter[str] = Counter()

    async def run(self, show: Show) -> Figures:
        """Run all phases and return the figures. `show` is called several times per second.

        Raises CommandError when the first connection is not accepted, or is not served by the hub.
        """
        try:
            connecting = await self._connect(show)
            await self._join(show)
            members = self._members()
            before, began = self._cpu(), time.monotonic()
            published, expected = await self._publish(members, show)
            await self._wait_for_deliveries(expected, show)
            seconds = time.monotonic() - began
            after = self._cpu()
        finally:
            await self._leave()
        return self._figures(connecting, seconds, published, expected, before, after)

    # Connecting

    async def _connect(self, show: Show) -> float:
        """Open all connections and return the seconds that it took.

        Raises CommandError when the first connection is not accepted.
        """
        began = time.monotonic()
        await self._handshake(0)
        if not self._clients:
            (reason,) = self._failed
            raise CommandError(
                f"the first connection to {self._url.geturl()} was not accepted: {reason}; the cluster must serve the "
                "built-in hub, and --token must be given if the hub requires one"
            )
        await self._some_at_a_time("connecting", range(1, self._settings.connections), self._handshake, show)
        return time.monotonic() - began

    async def _handshake(self, number: int) -> None:
        url, began = self._url, time.monotonic()
        tls = unverified_context() if url.scheme == "wss" else None
        client = None
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, client = await asyncio.get_running_loop().create_connection(
                    lambda: BenchClient(self._request(number), self._tally),
                    url.hostname or "",
                    url.port or 0,
                    ssl=tls,
                )
                await client.welcomed
        except (HandshakeError, OSError, TimeoutError) as exc:
            self._failed[str(exc) or type(exc).__name__] += 1
            if client is not None:
                client.abort()
        else:
            self._handshakes.append(time.monotonic() - began)
            self._clients.append(client)

    def _request(self, number: int) -> bytes:
        token = f"Authorization: Bearer {self._settings.token}\r\n" if self._settings.token else ""
        return (
            f"GET {self._url.path}?user_id=bench-{self._run}-{number} HTTP/1.1\r\nHost: {self._url.netloc}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n{token}\r\n"
        ).encode()

    async def _join(self, show: Show) -> None:
        async def join(number: int) -> None:
            # A client that fails here is counted as a lost connection, or its deliveries are missing.
            with suppress(HandshakeError, TimeoutError):
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._clients[number].join(self._channel(number))

        await self._some_at_a_time("subscribing", range(len(self._clients)), join, show)

    def _channel(self, number: int) -> str:
        return f"bench:{self._run}:{number % self._settings.channels}"

    def _members(self) -> Counter[str]:
        return Counter(self._channel(number) for number in range(len(self._clients)))

    async def _some_at_a_time(
        self, phase: str, numbers: range, do: Callable[[int], Awaitable[None]], show: Show
    ) -> None:
        waiting = iter(numbers)

        async def work() -> None:
            for number in waiting:
                await do(number)
                if number % AT_A_TIME == 0:
                    show(BenchProgress(phase, number, len(numbers), 0))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_A_TIME):
                tasks.create_task(work())

    # Messages

    async def _publish(self, members: Counter[str], show: Show) -> tuple[int, int]:
        """Publish for the duration of the run. Return the numbers of messages and of deliveries that are expected.

        Each message is due at a fixed time, even if those before it are late. Otherwise a slow cluster would slow down
        the load and look faster than it is.
        """
        settings = self._settings
        publishers = itertools.cycle(self._clients[: settings.publishers])
        channels = itertools.cycle(sorted(members))
        padding = "x" * settings.payload_bytes
        published = expected = 0
        began = time.monotonic()
        while (due := began + published / settings.rate) < began + settings.duration:
            if due > time.monotonic():
                await _until(due)
                show(BenchProgress("publishing", due - began, settings.duration, len(self._tally.latencies)))
            elif published % AT_A_TIME == 0:
                await asyncio.sleep(0)  # we are late, but what has arrived must be read all the same
            channel = next(channels)
            next(publishers).publish(channel, int(due * 1e9), padding)
            published += 1
            expected += members[channel]
        return published, expected

    async def _wait_for_deliveries(self, expected: int, show: Show) -> None:
        """Wait until everything has arrived, or nothing has arrived for PATIENCE_SECONDS."""
        tally = self._tally
        all_here = asyncio.Event()

        def on_delivery() -> None:
            if len(tally.latencies) >= expected:
                all_here.set()

        tally.on_delivery = on_delivery
        on_delivery()
        seen = -1
        while not all_here.is_set() and len(tally.latencies) > seen:
            seen = len(tally.latencies)
            show(BenchProgress("in transit", seen, expected, seen))
            with suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await all_here.wait()

    async def _leave(self) -> None:
        """Close all connections cleanly, so that no session is left behind."""
        if not self._clients:
            return
        for client in self._clients:
            client.leave()
        await asyncio.wait([client.gone for client in self._clients], timeout=LEAVE_SECONDS)
        for client in self._clients:
            client.abort()

    # Figures

    def _cpu(self) -> dict[str, float]:
        """Return the CPU seconds that each group of processes has used so far."""
        used = {}
        for name, pids in self._pids.items():
            with suppress(psutil.Error):
                processes = [psutil.Process(pid) for pid in pids]
                if name == "nginx":
                    processes += processes[0].children()
                used[name] = sum(sum(process.cpu_times()[:2]) for process in processes)
        return used

    def _figures(
        self,
        connecting: float,
        seconds: float,
        published: int,
        expected: int,
        before: dict[str, float],
        after: dict[str, float],
    ) -> Figures:
        settings, tally = self._settings, self._tally
        handshakes, delivered = sorted(self._handshakes), len(tally.latencies)
        return Figures(
            connections=settings.connections,
            channels=settings.channels,
            rate=settings.rate,
            payload_bytes=settings.payload_bytes,
            seconds=seconds,
            connected=len(handshakes),
            connects_per_second=len(handshakes) / connecting,
            connect_p50_ms=percentile(handshakes, 0.50) * 1000,
            connect_p99_ms=percentile(handshakes, 0.99) * 1000,
            published=published,
            expected=expected,
            delivered=delivered,
            deliveries_per_second=delivered / seconds,
            latency=latency(tally.latencies),
            histogram=histogram(tally.latencies),
            failed_handshakes=dict(self._failed),
            refused=dict(tally.refused),
            lost=dict(tally.lost),
            cpu_us_per_delivery=per_delivery(before, after, delivered),
            load_cpu_percent=(after["load"] - before["load"]) / seconds * 100,
        )


async def _until(due: float) -> None:
    """Sleep until `due`, and never wake up early: the timers of uvloop are rounded to milliseconds."""
    while (early := due - time.monotonic()) > 0:  # noqa: ASYNC110 - no event announces a point in time
        await asyncio.sleep(early)
