"""Ten minutes of faults for all kinds of clients together: `python -m benchmarks.clients [--minutes 10] [--seed 1]`.

Runs a cluster of two workers with a Redis of its own, and a client of each kind that is installed: Node, a page in
Chromium, asyncio and the one without asyncio. Each client publishes numbers into its own channel and reads all
channels. Faults happen one after the other, in an order that the seed decides. Before that, a worker with 50 clients
is killed a few times, which shows how far their ways back are spread. Prints Markdown tables. Linux only.

Exit code 1: a message was lost, doubled or out of order, a call was rejected, or a client has told of a gap or a fault.
"""

import argparse
import functools
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import client_faults as faults
from tests.support.client_faults import Fault, Site, site_of, token
from tests.support.client_programs import NODES
from tests.support.crowd import crowd
from tests.support.fleet import Member, compare
from tests.support.ports import unused_port
from tests.support.valkey import server
from tests.support.waiting import until
from wsd.supervisor.percentile import percentile

CROWD = 100
"""Clients on two workers, of which one is killed."""

LIVED_SECONDS = 11.0
"""Clients whose connections have lived for 10 seconds make the shortest pauses."""

LONGEST_CALM_SECONDS = 12.0
"""The longest pause between two faults. Connections that have lived for 10 seconds by then are replaced sooner."""

PATIENCE_SECONDS = 120.0

FAULTS: dict[str, Fault] = {
    "each worker is killed": faults.workers_killed,
    "`wsd restart`": faults.deploy,
    "each worker is drained": faults.workers_drained,
    "Redis is away for 10 s": faults.redis_away,
    "Redis hangs for 10 s": faults.redis_frozen,
    "the Valkey that stands in is killed": faults.valkey_killed,
    "processes and tab stand still for 5 s": faults.clients_stopped,
    "the same for 45 s": functools.partial(faults.clients_stopped, seconds=45.0),
    "offline for 5 s, 1500 messages of all wait": faults.offline,
    "400 ms and 50 KB/s": faults.slow,
    "no packet passes for 3 s": faults.deaf_for_a_moment,
    "connections are half-open": faults.half_open,
    "every other connection is reset": faults.connections_cut,
    "`wsd stop`, 2 s later `wsd start`": faults.stop_and_start,
}


@dataclass
class Row:
    """What a fault did, each time that it happened. Times are in seconds."""

    away: list[float] = field(default_factory=list)
    """How long each client was without a connection."""

    recoveries: list[float] = field(default_factory=list)
    """How long it took after the end of the fault until everything said before was answered and heard by all."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=5.0, help="numbers a second of each client")
    parser.add_argument("--kills", type=int, default=3, help="how often a worker with 50 clients is killed")
    options = parser.parse_args()
    tokens = [30.0 * number for number in range(1, int(options.minutes * 2) + 1)]
    with tempfile.TemporaryDirectory(prefix="wsd-bench-") as name:
        directory = Path(name)
        with (
            server(directory / "redis", unused_port(), "--appendonly", "yes") as redis,
            site_of(directory, *tokens, redis=redis) as site,
        ):
            spreads(site, directory, options.kills)
            passed = run(site, options.minutes * 60, options.seed, options.rate)
    sys.exit(not passed)


def spreads(site: Site, directory: Path, kills: int) -> None:
    """Kill a worker of many clients some times, and print when the clients came back."""
    kinds = [member.name for member in site.fleet.members if member.name in (*NODES, "asyncio")]
    print("| clients that lost their worker | first | median | last | most within 50 ms |\n|---|---|---|---|---|")
    with ExitStack() as stack:
        url, own = site.network.url, token("someone")
        crowds = [stack.enter_context(crowd(kind, directory, url, CROWD // len(kinds), own)) for kind in kinds]
        for _ in range(kills):
            until(lambda: all(each.are_open for each in crowds), "all clients")
            time.sleep(LIVED_SECONDS)
            site.command("rebalance")
            until(lambda: all(each.are_open for each in crowds), "all clients")
            time.sleep(LIVED_SECONDS)
            seen = faults.one_worker_killed(site, crowds)
            first, median, last = (f"{seconds * 1000:.0f} ms" for seconds in (seen.first, seen.median, seen.last))
            print(f"| {seen.count} | {first} | {median} | {last} | {seen.most_within_50_ms} |", flush=True)


def schedule(seed: int) -> Iterator[tuple[float, str]]:
    """Yield all faults in a random order, and again in another one, each with the seconds of calm before it."""
    order = random.Random(seed)
    while True:
        for name in order.sample(list(FAULTS), len(FAULTS)):
            yield order.uniform(0, LONGEST_CALM_SECONDS), name


def run(site: Site, seconds: float, seed: int, rate: float) -> bool:
    """Let faults happen for some seconds, and print what became of calls and messages."""
    members = site.fleet.members
    rows = {name: Row() for name in FAULTS}
    before = {member.name: member.ask("memory") for member in members}
    deadline = time.monotonic() + seconds
    with site.fleet.load(rate):
        for calm, name in schedule(seed):
            if time.monotonic() + calm > deadline:
                break
            time.sleep(calm)
            seen = {member.name: len(member.absences()) for member in members}
            FAULTS[name](site)
            rows[name].recoveries.append(site.fleet.catch_up(PATIENCE_SECONDS))
            rows[name].away += [away for member in members for away in member.absences()[seen[member.name] :]]
    site.fleet.catch_up(PATIENCE_SECONDS)
    print_faults(rows)
    print_clients(members)
    print_memory(members, before)
    found = site.fleet.faults()
    print("\n" + ("\n".join(found) or "No message was lost, doubled or out of order, and no call was rejected."))
    return not found


def print_faults(rows: dict[str, Row]) -> None:
    print("\n| fault | times | reconnects | away: median | 95 % | longest | all caught up: median | longest |")
    print("|---|---|---|---|---|---|---|---|")
    total = Row()
    for name, row in rows.items():
        if row.recoveries:
            print_row(name, row)
        total.away += row.away
        total.recoveries += row.recoveries
    print_row("all", total)


def print_row(name: str, row: Row) -> None:
    away = sorted(row.away)
    figures = [f"{percentile(away, share):.2f} s" if away else "" for share in (0.5, 0.95, 1.0)]
    caught_up = f"{statistics.median(row.recoveries):.1f} s | {max(row.recoveries):.1f} s"
    print(f"| {name} | {len(row.recoveries)} | {len(away)} | {' | '.join(figures)} | {caught_up} |")


def print_clients(members: list[Member]) -> None:
    head = "client, calls, resolved, rejected, heard, lost, doubled, out of order, gaps, connections, tokens"
    print(f"\n| {head.replace(', ', ' | ')} |\n" + "|---" * 11 + "|")
    for reader in members:
        heard = [compare(sender.sent, reader.heard.get(sender.name, [])) for sender in members]
        figures = [reader.sent, reader.resolved, len(reader.rejected), sum(each.messages for each in heard)]
        figures += [sum(each.lost for each in heard), sum(each.duplicated for each in heard)]
        figures += [sum(each.out_of_order for each in heard), len(reader.gaps)]
        figures += [sum(state["name"] == "open" for state in reader.states), reader.ended_with(4401)]
        print(f"| {reader.name} | {' | '.join(map(str, figures))} |")


def print_memory(members: list[Member], before: dict[str, dict[str, float]]) -> None:
    """Print the memory of the clients. A page tells its heap only, and Python its process only."""
    print("\n| client | heap: begin | end | process: begin | end |\n|---|---|---|---|---|")
    for member in members:
        after = member.ask("memory")
        in_python = member.name in {"asyncio", "sync"}
        figures = [megabytes(each, "bytes") if not in_python else "" for each in (before[member.name], after)]
        figures += [megabytes(each, "resident") for each in (before[member.name], after)]
        print(f"| {member.name} | {' | '.join(figures)} |")


def megabytes(memory: dict[str, float], what: str) -> str:
    return f"{memory[what] / 1e6:.1f} MB" if what in memory else ""


if __name__ == "__main__":
    main()
