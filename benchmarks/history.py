"""Benchmarks of histories: `python -m benchmarks.history [--clients 1000]`.

Measures the cost of a message with and without a history, and how long it takes until a thousand clients that reconnect
at once have received a hundred missed messages each, while two other clients exchange messages. Uses real workers and a
real Valkey. Those two clients run in a process of their own, so that they measure the workers and not the crowd in this
process. Linux only.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, unix_connect

from benchmarks.messages import Worker, client, cpu_seconds, valkey, workers
from wsd.supervisor.percentile import percentile

CHANNELS = json.dumps({"plain": {"history_size": 0}})
WINDOW = 50
"""How many messages are in transit at the same time."""

TALK_RATE = 50
"""Messages per second between the two clients of `talk`."""


async def receive(connection: ClientConnection, kind: str) -> dict[str, Any]:
    while True:
        message: dict[str, Any] = json.loads(await connection.recv())
        if message["type"] == kind:
            return message


async def subscribe(connection: ClientConnection, channel: str) -> dict[str, Any]:
    await connection.send(json.dumps({"type": "subscribe", "channel": channel}))
    return await receive(connection, "subscribed")


async def publish(connection: ClientConnection, channel: str, count: int, padding: int = 128) -> None:
    data = "x" * padding
    for number in range(0, count, WINDOW):
        ids = range(number, min(count, number + WINDOW))
        for each in ids:
            await connection.send(json.dumps({"type": "publish", "channel": channel, "data": data, "id": each}))
        for _ in ids:
            await receive(connection, "ack")


async def cost_rows(messages: int, rounds: int) -> None:
    print(f"\n| {messages} messages of 128 bytes, {WINDOW} in transit | worker, CPU each | Valkey, CPU each |")
    print("|---|---|---|")
    found: dict[str, list[tuple[float, float]]] = {"plain": [], "kept": []}
    with valkey() as url, workers(1, url, CHANNELS) as (worker,):
        async with client(url) as redis:
            info: dict[str, Any] = await redis.info("server")
            server = int(info["process_id"])
            source = await worker.connect("source")
            for channel in found:
                await publish(source, channel, 1000)
            for _ in range(rounds):
                for channel, figures in found.items():
                    before = worker.cpu_seconds(), cpu_seconds(server)
                    await publish(source, channel, messages)
                    after = worker.cpu_seconds(), cpu_seconds(server)
                    figures.append(((after[0] - before[0]) / messages, (after[1] - before[1]) / messages))
            await source.close()
    for channel, name in (("plain", "without a history"), ("kept", "with a history of 1000")):
        ours, theirs = (sorted(figures)[rounds // 2] * 1e6 for figures in zip(*found[channel], strict=True))
        print(f"| {name} | {ours:.0f} us | {theirs:.0f} us |")


class Returning:
    """A client that reconnects and resumes its session."""

    def __init__(self, number: int) -> None:
        self.user_id = f"crowd-{number}"
        self.token = ""
        self.since: dict[str, Any] = {}
        self.connection: ClientConnection

    async def join(self, worker: Worker) -> None:
        self.connection = await worker.open(self.user_id)
        self.token = (await receive(self.connection, "welcome"))["resume_token"]
        state = await subscribe(self.connection, "crowd")
        self.since = {"crowd": {"offset": state["offset"], "epoch": state["epoch"]}}

    async def drop(self) -> None:
        self.connection.transport.abort()
        await self.connection.wait_closed()

    async def come_back(self, worker: Worker, missed: int) -> float:
        """Reconnect and return the seconds from the first byte until the last missed message has arrived."""
        started = time.perf_counter()
        self.connection = await worker.open(self.user_id, self.token)
        await self.connection.send(json.dumps({"type": "resume", "since": self.since}))
        welcome = await receive(self.connection, "welcome")
        assert welcome["channels"]["crowd"]["count"] == missed
        for _ in range(missed):
            await receive(self.connection, "message")
        return time.perf_counter() - started


async def resume_rows(count: int, missed: int) -> None:
    print(f"\n| {count} clients reconnect at once, {missed} missed messages each | |\n|---|---|")
    with valkey() as url, workers(2, url, CHANNELS) as both:
        crowd = [Returning(number) for number in range(count)]
        for number, each in enumerate(crowd):
            await each.join(both[number % 2])
        for each in crowd:
            await each.drop()
        source = await both[0].connect("source")
        await publish(source, "crowd", missed)
        talk = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.history", "--talk", *(str(worker.path) for worker in both),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert talk.stdout is not None
        await talk.stdout.readline()  # its clients are connected
        await asyncio.sleep(2)
        cpu = [worker.cpu_seconds() for worker in both]
        started = time.perf_counter()
        times = await asyncio.gather(*(each.come_back(both[n % 2], missed) for n, each in enumerate(crowd)))
        took = time.perf_counter() - started
        cpu = [worker.cpu_seconds() - before for worker, before in zip(both, cpu, strict=True)]
        output, _ = await talk.communicate(b"stop\n")
        during = json.loads(output)
        await source.close()
        for each in crowd:
            await each.drop()
    times.sort()
    during.sort()
    print(f"| all clients have received what they missed | {took:.2f} s |")
    print(f"| one client, p50, p99 | {percentile(times, 0.50):.2f} s, {percentile(times, 0.99):.2f} s |")
    print(f"| CPU of both workers together, per client | {sum(cpu) / count * 1000:.2f} ms |")
    print(
        "| latency of other messages between the two workers meanwhile, p50, p99, max |"
        f" {percentile(during, 0.50) * 1000:.1f}, {percentile(during, 0.99) * 1000:.1f}, {max(during) * 1000:.1f} ms |"
    )


async def talk(one: Path, two: Path) -> None:
    """Exchange messages between two workers until a line arrives on standard input, then print latencies in seconds."""
    sender, receiver = [
        await unix_connect(str(path), f"ws://localhost/ws?user_id=talk-{n}", ping_interval=None, compression=None)
        for n, path in enumerate((one, two))
    ]
    await subscribe(receiver, "talk")
    found: list[float] = []

    async def receive_all() -> None:
        while True:
            message = await receive(receiver, "message")
            found.append(time.perf_counter() - message["data"])

    receiving = asyncio.create_task(receive_all())
    stop = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
    print("talking", flush=True)
    while not stop.done():
        await sender.send(json.dumps({"type": "publish", "channel": "talk", "data": time.perf_counter()}))
        await asyncio.sleep(1 / TALK_RATE)
    receiving.cancel()
    print(json.dumps(found[TALK_RATE:]))  # the first second warms up
    await sender.close()
    await receiver.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--missed", type=int, default=100)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--talk", type=Path, nargs=2, metavar="SOCKET", help="for its own use")
    options = parser.parse_args()
    if options.talk:
        asyncio.run(talk(*options.talk))
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores")
    asyncio.run(cost_rows(options.messages, 5))
    asyncio.run(resume_rows(options.clients, options.missed))


if __name__ == "__main__":
    main()
