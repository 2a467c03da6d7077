"""All kinds of clients together on a real cluster, to which all that can happen does happen.

After each fault every call has its answer, and every client has heard every number of all, once and in order. The
faults are not tests of their own: where tests run in several processes, each process would start all clients.
"""

import functools
from contextlib import ExitStack
from pathlib import Path

from tests.support import client_faults as faults
from tests.support.client_faults import Fault, Site, site_of, token
from tests.support.client_programs import NODES
from tests.support.crowd import Crowd, crowd, spread
from tests.support.fleet import installed_kinds
from tests.support.ports import unused_port
from tests.support.valkey import server
from tests.support.waiting import all_clients, until

FAULTS: dict[str, Fault] = {
    "workers are killed": faults.workers_killed,
    "a deploy": faults.deploy,
    "Valkey is killed": faults.valkey_killed,
    "clients are stopped": faults.clients_stopped,
    "offline": functools.partial(faults.offline, seconds=2.0, messages=200),
    "a slow network": faults.slow,
}
LONG_FAULTS: dict[str, Fault] = {
    "workers are drained": faults.workers_drained,
    "clients are stopped for 45 s": functools.partial(faults.clients_stopped, seconds=45.0),
    "1500 messages offline": functools.partial(faults.offline, seconds=5.0, messages=1500),
    "no packet passes": faults.deaf_for_a_moment,
    "half-open connections": faults.half_open,
    "a stop and a start": faults.stop_and_start,
}


def try_it(site: Site, name: str, fault: Fault) -> None:
    """Let a fault happen under load, and check that it has done no harm."""
    with site.fleet.load():
        fault(site)
    site.fleet.catch_up()
    assert (name, site.fleet.faults()) == (name, [])


def start_crowds(stack: ExitStack, site: Site, directory: Path, kinds: tuple[str, ...], count: int) -> list[Crowd]:
    """Start many clients of each kind that is installed. Return once all are connected."""
    started = [kind for kind in installed_kinds() if kind in kinds]
    crowds = [
        stack.enter_context(crowd(kind, directory, site.network.url, count, token("someone"))) for kind in started
    ]
    until(lambda: all(each.are_open for each in crowds), "all clients")
    return crowds


def test_clients_of_all_kinds_lose_nothing(tmp_path: Path) -> None:
    """Two tokens of each client are replaced meanwhile, and no token is in a log."""
    with site_of(tmp_path, 4, 8) as site:
        for name, fault in FAULTS.items():
            try_it(site, name, fault)
        assert all(member.tokens_asked >= 3 for member in site.fleet.members)
        logs = list(site.cluster.state_dir.logs.glob("*.log"))
        assert logs
        assert "eyJ" not in "".join(path.read_text("utf-8") for path in logs)


@all_clients
def test_clients_of_all_kinds_lose_nothing_in_the_long_run(tmp_path: Path) -> None:
    """Handshakes fail during a stop, which in Node 20 and 22 fires `error`, and no `close`."""
    with site_of(tmp_path, 4, 8) as site, ExitStack() as stack:
        crowds = start_crowds(stack, site, tmp_path, NODES, 30)
        for name, fault in LONG_FAULTS.items():
            try_it(site, name, fault)
        until(lambda: all(each.returned == 30 and each.are_open for each in crowds), "all clients to be back")


@all_clients
def test_clients_of_all_kinds_lose_nothing_while_an_external_redis_is_away(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port(), "--appendonly", "yes") as redis,
        site_of(tmp_path, 4, 8, redis=redis) as site,
    ):
        try_it(site, "Redis is killed", faults.redis_away)
        try_it(site, "Redis hangs", faults.redis_frozen)


@all_clients
def test_clients_that_lose_their_worker_do_not_all_come_back_at_the_same_moment(tmp_path: Path) -> None:
    """The pauses are random, between 0 and 1 second for clients that have not lived for 10 seconds."""
    with site_of(tmp_path, kinds=()) as site, ExitStack() as stack:
        crowds = start_crowds(stack, site, tmp_path, (*NODES, "asyncio"), 25)
        seen = faults.one_worker_killed(site, crowds)
        assert seen.count >= 10 * len(crowds), seen
        assert seen.last - seen.first > 0.3, seen
        assert seen.most_within_50_ms < seen.count / 2, seen


def test_the_spread_of_handshakes_is_measured() -> None:
    seen = spread([0.3, 0.01, 0.05, 0.04, 0.2])
    assert (seen.count, seen.first, seen.median, seen.last, seen.most_within_50_ms) == (5, 0.01, 0.05, 0.3, 3)
