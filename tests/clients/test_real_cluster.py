"""All kinds of clients together on a real cluster, to which all that can happen does happen.

In the end of each trial every call has its answer, and every client has heard every number of all, once and in order.
"""

import functools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import client_faults as faults
from tests.support.client_faults import Fault, Site, site_of, token
from tests.support.client_programs import NODES
from tests.support.crowd import crowd, spread
from tests.support.fleet import installed_kinds
from tests.support.ports import unused_port
from tests.support.valkey import server
from tests.support.waiting import long_run, until


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site for all trials. The first two tokens of its clients end soon, whatever happens then."""
    with site_of(tmp_path_factory.mktemp("site"), 4, 8) as running:
        yield running


def try_it(site: Site, fault: Fault) -> None:
    """Let a fault happen under load, and check that it has done no harm."""
    with site.fleet.load():
        fault(site)
    site.fleet.catch_up()
    assert site.fleet.faults() == []


FAULTS = [
    faults.workers_killed,
    faults.deploy,
    faults.valkey_killed,
    faults.clients_stopped,
    functools.partial(faults.offline, seconds=2.0, messages=200),
    faults.slow,
]
LONG_FAULTS = [
    faults.workers_drained,
    functools.partial(faults.clients_stopped, seconds=45.0),
    functools.partial(faults.offline, seconds=5.0, messages=1500),
    faults.deaf_for_a_moment,
    faults.half_open,
]


def name_of(fault: Fault) -> str:
    return fault.func.__name__ if isinstance(fault, functools.partial) else fault.__name__


@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
def test_clients_of_all_kinds_lose_nothing(site: Site, fault: Fault) -> None:
    try_it(site, fault)


@long_run
@pytest.mark.parametrize("fault", LONG_FAULTS, ids=name_of)
def test_nothing_is_lost_in_the_long_run(site: Site, fault: Fault) -> None:
    try_it(site, fault)


@long_run
def test_nothing_is_lost_while_an_external_redis_is_away(tmp_path: Path) -> None:
    with (
        server(tmp_path / "redis", unused_port(), "--appendonly", "yes") as redis,
        site_of(tmp_path, redis=redis) as site,
    ):
        try_it(site, faults.redis_away)
        try_it(site, faults.redis_frozen)


def test_tokens_that_end_lose_nothing(site: Site) -> None:
    with site.fleet.load():
        site.fleet.until_all(lambda member: member.tokens_asked >= 3, "the third token")
    site.fleet.catch_up()
    assert site.fleet.faults() == []
    logs = [path for path in site.cluster.directory.rglob("*.log") if site.cluster.state_dir.logs in path.parents]
    assert logs
    assert "eyJ" not in "".join(path.read_text() for path in logs), "no token is logged"


@long_run
def test_a_stop_and_a_start_bring_all_clients_back(site: Site, tmp_path: Path) -> None:
    """Handshakes fail meanwhile, which in Node 20 and 22 fires `error`, and no `close`: so they do in `offline`."""
    with ExitStack() as stack:
        crowds = [
            stack.enter_context(crowd(kind, tmp_path, site.network.url, 30, token("someone")))
            for kind in installed_kinds()
            if kind in NODES
        ]
        until(lambda: all(each.are_open for each in crowds), "all clients")
        try_it(site, faults.stop_and_start)
        until(lambda: all(each.returned == 30 and each.are_open for each in crowds), "all clients to be back")


def test_clients_that_lose_their_worker_do_not_all_come_back_at_the_same_moment(site: Site, tmp_path: Path) -> None:
    """The pauses are random, between 0 and 1 second for clients that have not lived for 10 seconds."""
    kinds = [kind for kind in installed_kinds() if kind in (*NODES, "asyncio")]
    with ExitStack() as stack:
        crowds = [
            stack.enter_context(crowd(kind, tmp_path, site.network.url, 100 // len(kinds), token("someone")))
            for kind in kinds
        ]
        until(lambda: all(each.are_open for each in crowds), "all clients")
        seen = faults.one_worker_killed(site, crowds)
        assert seen.count >= 40, seen
        assert seen.last - seen.first > 0.3, seen
        assert seen.most_within_50_ms < seen.count / 2, seen
    site.fleet.catch_up()
    assert site.fleet.faults() == []


def test_the_spread_of_handshakes_is_measured() -> None:
    seen = spread([0.3, 0.01, 0.05, 0.04, 0.2])
    assert (seen.count, seen.first, seen.median, seen.last, seen.most_within_50_ms) == (5, 0.01, 0.05, 0.3, 3)
