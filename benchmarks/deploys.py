"""Benchmarks of deploys under load: `python -m benchmarks.deploys [--clients 2000] [--handshakes 200]`.

Starts a cluster of 4 workers, clients that are subscribed to a channel and reconnect, a publisher, and a process that
makes handshakes at a constant rate. Meanwhile the workers are restarted and scaled to 2 and 6, and the supervisor is
killed and started again. Another cluster is restarted 50 times in a row, which must leave no processes or files behind.
Prints Markdown tables.
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
from websockets.asyncio.client import connect

from benchmarks.cluster import WSD, Cluster, cluster
from wsd.supervisor.chaos.clients import Publisher, Subscriber
from wsd.supervisor.chaos.verdict import Ledger
from wsd.supervisor.machine.file_limit import raise_file_limit

CONNECT_AT_ONCE = 50
SETTLE_SECONDS = 60.0
MESSAGES_PER_SECOND = 2.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--handshakes", type=int, default=200, metavar="RATE", help="a second")
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--knock", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.knock:
        asyncio.run(knock(options.knock, options.handshakes))
        return
    raise_file_limit()
    print(f"{options.clients} clients, {MESSAGES_PER_SECOND:g} messages/s to all, {options.handshakes} handshakes/s")
    print("| | seconds | handshakes | failed | deliveries | lost | duplicated | out of order | clients moved |")
    print("|---|---|---|---|---|---|---|---|---|")
    with cluster(4) as running:
        asyncio.run(under_load(running, options.clients, options.handshakes))
    with cluster(4) as running:
        asyncio.run(many_restarts(running, options.restarts))


async def knock(url: str, rate: int) -> None:
    """Make handshakes at a constant rate until SIGTERM, then print the results as JSON."""
    succeeded, failures, under_way = 0, [], set()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def once() -> None:
        nonlocal succeeded
        try:
            connection = await connect(url, open_timeout=20, ping_interval=None, compression=None)
            await connection.recv()
            await connection.close()
        except Exception as exc:  # noqa: BLE001 - every failure is counted
            failures.append(repr(exc))
        else:
            succeeded += 1

    begun, number = time.monotonic(), 0
    while not stop.is_set():
        task = asyncio.create_task(once())
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        number += 1
        await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
    await asyncio.gather(*under_way)
    print(json.dumps({"succeeded": succeeded, "failures": failures}), flush=True)


@dataclass
class Load:
    """The clients of a cluster under load."""

    ledger: Ledger
    publisher: Publisher
    subscribers: list[Subscriber]
    url: str
    handshakes: int


async def under_load(running: Cluster, clients: int, handshakes: int) -> None:
    url = f"ws://127.0.0.1:{running.port}/ws"
    names = [f"reader-{number}" for number in range(clients)]
    ledger = Ledger(names)
    publisher = Publisher([url], "publisher", ledger, "news", MESSAGES_PER_SECOND)
    subscribers = [Subscriber([url], name, ledger, ["news"]) for name in names]
    tasks = [asyncio.create_task(publisher.run())]
    for begin in range(0, clients, CONNECT_AT_ONCE):
        batch = subscribers[begin : begin + CONNECT_AT_ONCE]
        tasks += [asyncio.create_task(subscriber.run()) for subscriber in batch]
        for subscriber in batch:
            await subscriber.ready.wait()
    await publisher.connected.wait()
    tasks.append(asyncio.create_task(publisher.publish_messages()))
    load = Load(ledger, publisher, subscribers, url, handshakes)
    await measure("no deploy, 10 s", load, lambda: asyncio.sleep(10))
    await measure("`wsd restart`, 4 workers", load, lambda: command(running, "restart"))
    await measure("`wsd restart --one-by-one`", load, lambda: command(running, "restart", "--one-by-one"))
    await measure("`wsd scale 2`", load, lambda: command(running, "scale", "2"))
    await measure("`wsd scale 6`", load, lambda: command(running, "scale", "6"))
    await measure("`wsd scale 2`", load, lambda: command(running, "scale", "2"))
    await measure("supervisor killed, `wsd start`", load, lambda: succeed(running))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=10)


async def measure(what: str, load: Load, work: Callable[[], Awaitable[object]]) -> None:
    """Do some work under load and print a row of the table."""
    ledger = load.ledger
    arguments = ["--knock", load.url, "--handshakes", str(load.handshakes)]
    knocking = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.deploys", *arguments, stdout=subprocess.PIPE
    )
    await asyncio.sleep(2)
    before = (ledger.reconnects, sum(map(len, ledger.acked.values())))
    begun = time.monotonic()
    await work()
    seconds = time.monotonic() - begun
    knocking.terminate()
    output, _ = await knocking.communicate()
    seen = json.loads(output)
    deadline = time.monotonic() + SETTLE_SECONDS
    # One message is always in transit.
    while ledger.missing > len(load.subscribers) and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    lost = 0 if ledger.missing <= len(load.subscribers) else ledger.missing
    acked = sum(map(len, ledger.acked.values())) - before[1]
    print(
        f"| {what} | {seconds:.1f} | {seen['succeeded']} | {len(seen['failures'])} | {acked * len(load.subscribers)} "
        f"| {lost} | {ledger.duplicated} | {ledger.out_of_order} | {ledger.reconnects - before[0]} |",
        flush=True,
    )
    for failure in seen["failures"][:3]:
        print(failure, file=sys.stderr)


async def command(running: Cluster, *arguments: str) -> None:
    directory = running.state_dir.root.parent
    process = await asyncio.create_subprocess_exec(*WSD, *arguments, cwd=directory, stdout=subprocess.DEVNULL)
    if await process.wait():
        raise RuntimeError(f"wsd {' '.join(arguments)} failed")


async def succeed(running: Cluster) -> None:
    """Kill the supervisor, start another and wait until it is ready."""
    running.process.kill()
    running.process.wait()
    await asyncio.to_thread(running.launch)


async def many_restarts(running: Cluster, count: int) -> None:
    """Restart all workers many times and print what exists before and afterwards: processes, sockets, memory."""
    await command(running, "restart")  # so that all that is made once is there
    before = left(running)
    begun = time.monotonic()
    for _ in range(count):
        await command(running, "restart")
    seconds = time.monotonic() - begun
    print(f"\n{count} restarts in {seconds:.0f} s\n\n| | before | after |\n|---|---|---|")
    after = left(running)
    for name, value in before.items():
        print(f"| {name} | {value} | {after[name]} |")


def left(running: Cluster) -> dict[str, int | str]:
    """Count what restarts could leave behind."""
    supervisor = psutil.Process(running.process.pid)
    tree = [supervisor, *supervisor.children(recursive=True)]
    return {
        "processes": len(tree),
        "socket files": len(list(Path(running.state_dir.sockets).iterdir())),
        "descriptors of the supervisor": supervisor.num_fds(),
        "descriptors of nginx and Valkey": sum(
            process.num_fds() for process in tree if process.name().startswith(("nginx", "valkey"))
        ),
        "threads of the supervisor": supervisor.num_threads(),
        "memory of the supervisor": f"{supervisor.memory_info().rss / 1e6:.0f} MB",
        "memory of all": f"{sum(process.memory_info().rss for process in tree) / 1e6:.0f} MB",
    }


if __name__ == "__main__":
    main()
