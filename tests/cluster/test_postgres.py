"""The relay of a cluster: watched like its other processes, and the way from a transaction to a client's socket."""

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.support.cluster import FAST_HEALTH, ROOT, Cluster, clean_env, wsd
from tests.support.pgbouncer import find_pgbouncer, pgbouncer
from tests.support.postgres import Postgres, postgres
from tests.support.relay import SQL
from tests.support.waiting import long_run, until
from wsd.supervisor.control.status import RelayProcessStatus
from wsd.worker.relay.examination import examine

ORDERS = """
CREATE TABLE orders (id int GENERATED ALWAYS AS IDENTITY, item text, amount int CHECK (amount > 0));
CREATE ROLE shop LOGIN;
GRANT INSERT, SELECT ON orders TO shop;
GRANT INSERT, SELECT ON wsd_outbox TO shop;
"""


@pytest.fixture(scope="module")
def rows() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="module")
def database(rows: Postgres) -> str:
    url = rows.new_database()
    rows.psql(SQL + ORDERS, url)
    return url


@pytest.fixture(scope="module")
def cluster(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The example outbox.py, in a cluster with a relay."""
    env = clean_env(
        DATABASE_URL=database.replace("postgresql://owner", "postgresql+asyncpg://shop"),
        PYTHONPATH=str(ROOT / "examples"),
    )
    directory = tmp_path_factory.mktemp("cluster")
    (directory / "outbox.py").symlink_to(ROOT / "examples" / "outbox.py")
    settings = f'[postgres]\nurl = "{database.replace("owner", "wsd_relay")}"\n{FAST_HEALTH}'
    with Cluster(directory, "--workers", "1", "--app", "outbox:app", config=settings, env=env) as running:
        yield running


def relay(cluster: Cluster) -> RelayProcessStatus:
    found = cluster.status().relay
    assert found is not None
    return found


def order(cluster: Cluster, amount: int) -> int:
    """Place an order, and return the status of the answer."""
    url = f"http://127.0.0.1:{cluster.port}/orders?item=tea&amount={amount}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code


def test_clients_hear_of_what_an_application_commits_and_of_nothing_else(cluster: Cluster) -> None:
    async def story() -> None:
        client = await connect(f"ws://127.0.0.1:{cluster.port}/orders")
        async with asyncio.timeout(30):
            while "orders" not in await cluster.run("channels", "--json"):
                pass
        assert await asyncio.to_thread(order, cluster, 1) == 200
        assert await asyncio.to_thread(order, cluster, 0) == 500
        assert await asyncio.to_thread(order, cluster, 2) == 200
        received = [json.loads(await asyncio.wait_for(client.recv(), 10)) for _ in range(2)]
        assert received == [{"item": "tea", "amount": 1}, {"item": "tea", "amount": 2}]
        await client.close()

    asyncio.run(story())
    until(lambda: relay(cluster).published == 2, "a count")
    assert relay(cluster).active
    assert "outbox: 0 rows waiting, 2 published" in cluster.wsd("status").stdout
    _, metrics = cluster.get("/metrics")
    node = cluster.status().node_id
    assert f'wsd_outbox_published_total{{node="{node}"}} 2.0' in metrics.decode()
    assert f'wsd_outbox_active{{node="{node}"}} 1.0' in metrics.decode()


@long_run
def test_a_relay_that_is_killed_or_frozen_is_replaced(cluster: Cluster, rows: Postgres, database: str) -> None:
    for signum in (signal.SIGKILL, signal.SIGSTOP):
        until(lambda: relay(cluster).state == "ready" and relay(cluster).active, "an active relay")
        before = relay(cluster).pid
        assert before is not None
        os.kill(before, signum)
        rows.psql("INSERT INTO wsd_outbox (channel, data) VALUES ('orders', '1')", database)
        until(lambda: relay(cluster).pid not in (before, None), "another relay")  # noqa: B023
        until(lambda: rows.psql("SELECT count(*) FROM wsd_outbox", database) == "0\n", "an empty table")


def test_a_row_that_cannot_be_published_is_a_warning(cluster: Cluster, rows: Postgres, database: str) -> None:
    rows.psql("INSERT INTO wsd_outbox (channel, data) VALUES ('no spaces', '1')", database)
    warning = "1 row of wsd_outbox cannot be published: see the column error, and docs/postgres.md"
    until(lambda: warning in cluster.status().warnings, "a warning")
    assert "PostgreSQL: wsd_outbox rows: 1 cannot be published, 0 wait" in cluster.wsd("doctor").stdout
    rows.psql("DELETE FROM wsd_outbox", database)
    until(lambda: not cluster.status().warnings, "no warning")


@long_run
def test_a_postgresql_that_is_away_is_a_problem_and_disturbs_nobody(cluster: Cluster, rows: Postgres) -> None:
    rows.kill()
    until(lambda: any("the outbox is not published: PostgreSQL: " in each for each in cluster.status().problems))
    assert cluster.worker(1).state == "ready"
    rows.start()
    cluster.wait_until_healthy()


@long_run
def test_reload_ends_and_starts_the_relay_and_a_takeover_keeps_it(cluster: Cluster, database: str) -> None:
    path = cluster.directory / "wsd.toml"
    settings = path.read_text()
    path.write_text(FAST_HEALTH)
    result = cluster.wsd("reload")
    assert result.returncode == 0, result.stderr
    assert "postgres.url" in result.stdout
    assert "wsd_relay" not in result.stdout
    assert cluster.status().relay is None
    path.write_text(settings)
    assert cluster.wsd("reload").returncode == 0
    first = relay(cluster)
    assert first.state == "ready"
    path.write_text(settings + '[channels."*"]\nhistory_size = 5\n')  # the relay needs it, as the workers do
    assert cluster.wsd("reload").returncode == 0
    second = relay(cluster)
    assert second.pid != first.pid
    cluster.kill_supervisor()
    cluster.launch()
    cluster.wait_until_up()
    assert relay(cluster).pid == second.pid
    assert cluster.wsd("restart").returncode == 0
    assert relay(cluster).pid != second.pid


def test_the_sql_for_another_table_can_be_run_twice(rows: Postgres, tmp_path: Path) -> None:
    url = rows.new_database()
    sql = wsd("init", "--postgres", "--table", "messages.outgoing", cwd=tmp_path).stdout
    rows.psql(sql, url)
    rows.psql(sql, url)
    rows.psql("INSERT INTO messages.outgoing (channel, data) VALUES ('room:1', '1')", url)
    assert list(tmp_path.iterdir()) == []
    examined = asyncio.run(examine(url, url.replace("owner", "wsd_relay"), "messages.outgoing"))
    assert {each.check: each.found for each in examined if each.check != "PostgreSQL"} == {
        "PostgreSQL: session": "a connection is a session of its own",
        "PostgreSQL: messages.outgoing": "has its columns, and this user its rights",
        "PostgreSQL: messages.outgoing rows": "1 wait",
    }


def test_what_an_outbox_lacks_is_found(rows: Postgres) -> None:
    url = rows.new_database()
    lacking = {
        "DROP TRIGGER wsd_outbox_notify ON wsd_outbox": (
            "has no trigger that wakes the relay: rows wait up to two seconds"
        ),
        "REVOKE DELETE, UPDATE (error) ON wsd_outbox FROM wsd_relay": "this user lacks DELETE, UPDATE (error)",
        "ALTER TABLE wsd_outbox DROP COLUMN error": "has no column error",
        "DROP TABLE wsd_outbox": "there is no such table for this user",
    }
    rows.psql(SQL, url)
    for change, found in lacking.items():
        rows.psql(change, url)
        examined = asyncio.run(examine(url, url.replace("owner", "wsd_relay"), "wsd_outbox"))
        assert found in [each.found for each in examined if each.grade != "ok"]
    secret = "postgresql://wsd_relay:secret@127.0.0.1:1/shop"
    [nobody] = asyncio.run(examine(secret, secret, "wsd_outbox"))
    assert nobody.grade == "failure"
    assert "secret" not in nobody.found


@long_run
@pytest.mark.skipif(find_pgbouncer() is None, reason="needs pgbouncer")
def test_a_pooler_that_shares_sessions_is_found(rows: Postgres) -> None:
    url = rows.new_database()
    rows.psql(SQL, url)

    def session_of(postgres_url: str, session_url: str) -> str:
        return next(
            each.grade
            for each in asyncio.run(examine(postgres_url, session_url, "wsd_outbox"))
            if each.check == "PostgreSQL: session"
        )

    for mode, grade in (("transaction", "failure"), ("session", "ok")):
        with pgbouncer(rows, mode) as port:
            pooled = url.replace(str(rows.port), str(port))
            assert session_of(pooled, pooled) == grade
            assert session_of(pooled, url) == "ok"
