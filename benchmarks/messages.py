"""Benchmarks of messages, sessions and connections: `python benchmarks/messages.py [--seconds 10]`.

Starts workers and a Valkey in temporary directories. A latency is the time from one client's send to another client's
receipt, both in this process, so the difference between two rows is what Redis adds. Linux only.
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, unix_connect

from wsd.supervisor.percentile import percentile
from wsd.supervisor.services.valkey import find_binary
from wsd.supervisor.unix_http import request
from wsd.worker.contract.environment import WorkerEnv
from wsd.worker.redis_client import Redis, open_redis
from wsd.worker.sessions.redis_store import RedisSessionStore
from wsd.worker.sessions.session_store import SessionInfo

RATE = 1000
"""Messages per second."""

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Worker:
    """A worker process without a supervisor."""

    def __init__(self, directory: Path, number: int, redis_url: str, channels: str = "") -> None:
        self.path = directory / f"{number}.sock"
        env = WorkerEnv(
            worker_id=f"worker-{number}",
            node_id="bench",
            redis_url=redis_url,
            bind_path=str(self.path),
            messages_per_second=0.0,
            bytes_per_second=0.0,
            channels=channels,
            log_level="error",
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wsd.worker"], env={**os.environ, **env.to_env()}, cwd=directory
        )
        wait_for(lambda: self.path.exists() and request(self.path, "GET", "/health", 5)[0] == 200)

    async def connect(self, user_id: str) -> ClientConnection:
        connection = await self.open(user_id)
        await connection.recv()
        return connection

    async def open(self, user_id: str, token: str = "") -> ClientConnection:
        """Open a connection without waiting for the welcome."""
        return await unix_connect(
            str(self.path), f"ws://localhost/ws?user_id={user_id}&session={token}", ping_interval=None, compression=None
        )

    def pss(self) -> int:
        """Return the memory in bytes, with its part of shared pages (proc(5), smaps_rollup)."""
        for line in Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no Pss")

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.process.pid)


def cpu_seconds(pid: int) -> float:
    """Return user and system time (proc(5), stat, fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


@contextmanager
def workers(count: int, redis_url: str, channels: str = "") -> Iterator[list[Worker]]:
    with tempfile.TemporaryDirectory(prefix="wsd-bench-") as directory, ExitStack() as stack:
        made = []
        for number in range(count):
            made.append(Worker(Path(directory), number + 1, redis_url, channels))
            stack.callback(made[-1].process.kill)
        yield made


@contextmanager
def valkey() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="wsd-bench-") as directory:
        path = Path(directory) / "valkey.sock"
        command = [str(find_binary()), "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", directory]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            wait_for(path.exists)
            yield f"unix://{path}"
        finally:
            process.kill()
            process.wait()


def wait_for(condition: Any, patience: float = 30) -> None:
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except OSError:
            pass
        time.sleep(0.01)
    raise TimeoutError


async def latencies(publisher: Worker, listener: Worker, seconds: float) -> list[float]:
    """Send RATE messages per second and return the seconds from send to receipt of each."""
    sender, receiver = await publisher.connect("sender"), await listener.connect("receiver")
    await receiver.send('{"type":"subscribe","channel":"bench","id":1}')
    while json.loads(await receiver.recv())["type"] != "ack":
        pass
    found: list[float] = []
    count = int(seconds * RATE)

    async def receive_all() -> None:
        for _ in range(count):
            message = json.loads(await receiver.recv())
            found.append(time.perf_counter() - message["data"]["at"])

    receiving = asyncio.create_task(receive_all())
    started = time.perf_counter()
    padding = "x" * 100
    for number in range(count):
        await asyncio.sleep(max(0.0, started + number / RATE - time.perf_counter()))
        data = {"at": time.perf_counter(), "padding": padding}
        await sender.send(json.dumps({"type": "publish", "channel": "bench", "data": data}))
    await receiving
    await sender.close()
    await receiver.close()
    return found[RATE:]  # the first second warms up


async def latency_rows(seconds: float, rounds: int) -> None:
    print(f"\n| {RATE} messages per second, 128 bytes | p50 | p99 |\n|---|---|---|")
    found: dict[str, list[tuple[float, float]]] = {}
    with valkey() as url, workers(1, "") as (alone,), workers(2, url) as (one, two):
        pairs = {
            "in one worker, in memory": (alone, alone),
            "in one worker, through Redis": (one, one),
            "between two workers, through Redis": (one, two),
        }
        for _ in range(rounds):
            for name, (publisher, listener) in pairs.items():
                ordered = sorted(await latencies(publisher, listener, seconds))
                found.setdefault(name, []).append((percentile(ordered, 0.50), percentile(ordered, 0.99)))
    for name, figures in found.items():
        p50, p99 = (statistics.median(figure) * 1000 for figure in zip(*figures, strict=True))
        print(f"| {name} | {p50:.2f} ms | {p99:.2f} ms |")


@asynccontextmanager
async def client(url: str) -> AsyncIterator[Redis]:
    redis = open_redis(url, connect_timeout=1, timeout=10)
    try:
        yield redis
    finally:
        await redis.aclose()


def session(number: int) -> SessionInfo:
    now = time.time()
    return SessionInfo(
        session_id=f"{number:032x}",
        user_id=f"user-{number}",
        username="somebody",
        node_id="bench",
        worker_id="worker-1",
        connected_at=now,
        last_seen=now,
    )


async def session_rows(seconds: float) -> None:
    print("\n| sessions, one worker's store | create + delete per second |\n|---|---|")
    with valkey() as url:
        async with client(url) as redis:
            store = RedisSessionStore(redis, "worker-1", 3600)
            for batch in (1, 10, 100):
                done, started = 0, time.perf_counter()
                while time.perf_counter() - started < seconds:
                    group = [session(done + number) for number in range(batch)]
                    await store.create_many(group)
                    await store.delete_many([made.session_id for made in group])
                    done += batch
                print(f"| {batch} at a time | {done / (time.perf_counter() - started):,.0f} |")


async def connection_rows(count: int) -> None:
    """Measure what a connection costs: CPU, round trips to Redis, and memory while it is idle."""
    print(f"\n| a connection to the hub, {count} of them | |\n|---|---|")
    with valkey() as url, workers(1, url) as (worker,):
        async with client(url) as redis:
            for connection in [await worker.connect("warm-up") for _ in range(50)]:
                await connection.close()
            await asyncio.sleep(1)
            cpu, pss = worker.cpu_seconds(), worker.pss()
            before = await asked(redis)
            connections = [await worker.connect(f"user-{number}") for number in range(count)]
            connect_cpu = worker.cpu_seconds() - cpu
            round_trips = (await asked(redis) - before) / count
            await asyncio.sleep(1)
            idle = (worker.pss() - pss) / count
            print(f"| CPU of the worker to connect, with its session | {connect_cpu / count * 1000:.2f} ms |")
            print(f"| round trips to Redis to connect, heartbeats included | {round_trips:.2f} |")
            print(f"| PSS while idle, with its session | {idle / 1000:.1f} KB |")
            for connection in connections:
                await connection.close()


async def asked(redis: Redis) -> int:
    """Return the number of round trips of all clients so far."""
    stats: dict[str, Any] = await redis.info("stats")
    reads: int = stats["total_reads_processed"]
    return reads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=1000)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores")
    asyncio.run(latency_rows(options.seconds, options.rounds))
    asyncio.run(session_rows(3))
    asyncio.run(connection_rows(options.connections))


if __name__ == "__main__":
    main()
