"""A relay publishes what transactions commit: once, in order, and whatever dies meanwhile."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from redis import Redis

from tests.support.pgbouncer import find_pgbouncer, pgbouncer
from tests.support.ports import unused_port
from tests.support.postgres import Postgres, postgres
from tests.support.relay import SQL, Relay, environment, relay, stored
from tests.support.sentinels import sentinel_set
from tests.support.tcp_proxy import Link, TcpProxy, Way
from tests.support.valkey import Valkey, server
from tests.support.waiting import eventually, long_run, until
from wsd.worker.contract.redis_keys import channel_key, history_key, history_meta_key

CHANNELS = json.dumps({"*": {"history_size": 100_000}, "passing:*": {"history_size": 0}})

INSERT = "INSERT INTO wsd_outbox (channel, data) VALUES ($1, $2)"


@pytest.fixture(scope="module")
def server_of_rows() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with server(tmp_path_factory.mktemp("valkey"), unused_port()) as running:
        yield running


@pytest.fixture
def redis(valkey: Valkey) -> Iterator[Redis]:
    with Redis.from_url(valkey.url) as client:
        client.flushall()
        yield client


@pytest.fixture
def database(server_of_rows: Postgres) -> str:
    url = server_of_rows.new_database()
    server_of_rows.psql(SQL, url)
    return url


@pytest.fixture
def running(database: str, valkey: Valkey, tmp_path: Path) -> Iterator[Relay]:
    url = database.replace("owner@", "wsd_relay@")
    with relay(tmp_path, environment(url, valkey.url, channels=CHANNELS)) as active:
        active.wait_until_active()
        yield active


def rows(server_of_rows: Postgres, database: str) -> int:
    return int(server_of_rows.psql("SELECT count(*) FROM wsd_outbox", database))


def numbers(redis: Redis, channel: str) -> list[int]:
    """Return the numbers `n` of the messages in a channel."""
    return [json.loads(payload)["data"]["n"] for payload in stored(redis, channel)]


def insert(first: int, last: int, channel: str = "'room:1'") -> str:
    """Return SQL that inserts rows with these numbers `n`."""
    return (
        f"INSERT INTO wsd_outbox (channel, data) SELECT {channel}, jsonb_build_object('n', n) "
        f"FROM generate_series({first}, {last}) n;"
    )


def test_what_is_committed_is_published_once_and_in_order(
    running: Relay, server_of_rows: Postgres, database: str, redis: Redis
) -> None:
    server_of_rows.psql(
        f"{insert(1, 1)}"
        f"BEGIN; {insert(2, 3)} {insert(4, 4)} COMMIT;"
        f"BEGIN; {insert(100, 101)} ROLLBACK;"
        f"BEGIN; {insert(5, 5)} SAVEPOINT one; {insert(102, 102)} ROLLBACK TO one; {insert(6, 6)} COMMIT;"
        f"{insert(7, 2000)}",
        database,
    )
    until(lambda: not rows(server_of_rows, database), "an empty table")
    assert numbers(redis, "room:1") == list(range(1, 2001))
    assert json.loads(stored(redis, "room:1")[0]) == {
        "type": "message",
        "channel": "room:1",
        "data": {"n": 1},
        "uid": json.loads(stored(redis, "room:1")[0])["uid"],
    }


def test_a_low_id_that_commits_late_is_published_all_the_same(running: Relay, database: str, redis: Redis) -> None:
    async def story() -> None:
        first, second = await asyncpg.connect(database), await asyncpg.connect(database)
        late = first.transaction()
        await late.start()
        await first.execute(INSERT, "room:1", '{"n": 1}')
        await second.execute(INSERT, "room:1", '{"n": 2}')
        await eventually(lambda: numbers(redis, "room:1") == [2])
        await late.commit()
        await eventually(lambda: numbers(redis, "room:1") == [2, 1])
        await first.close()
        await second.close()

    asyncio.run(story())


def test_channels_mean_what_they_mean_over_http(
    running: Relay, server_of_rows: Postgres, database: str, redis: Redis
) -> None:
    with redis.pubsub(ignore_subscribe_messages=True) as heard:  # type: ignore[no-untyped-call]
        heard.subscribe(channel_key("passing:1"))
        assert heard.get_message(timeout=1) is None
        server_of_rows.psql(
            """INSERT INTO wsd_outbox (channel, data) VALUES
            ('broadcast', '1'), ('!ann', '{"token": "kept"}'), ('passing:1', '"not kept"')""",
            database,
        )
        until(lambda: not rows(server_of_rows, database), "an empty table")
        passed = until(lambda: heard.get_message(timeout=1), "a message")
    kind, _, _, payload = passed["data"].split(b" ", 3)
    assert (kind, json.loads(payload)["data"]) == (b"-", "not kept")
    assert not redis.exists(history_key("passing:1"))
    assert [json.loads(text)["channel"] for text in stored(redis, "broadcast")] == ["broadcast"]
    assert [json.loads(text)["channel"] for text in stored(redis, "!ann")] == ["direct"]


def test_rows_that_cannot_be_published_are_set_aside_and_can_be_tried_again(
    running: Relay, server_of_rows: Postgres, database: str, redis: Redis
) -> None:
    redis.set(history_meta_key("taken"), "a string")
    deep = "[" * 40 + "]" * 40
    server_of_rows.psql(
        f"""INSERT INTO wsd_outbox (channel, data, idempotency_key) VALUES
        ('no spaces', '1', NULL), ('direct', '1', NULL), ('!', '1', NULL), (repeat('c', 1000000), '1', NULL),
        ('room:1', to_jsonb(repeat('x', 70000)), NULL), ('room:1', '{deep}', NULL), ('taken', '1', NULL),
        ('room:1', '1', ''), ('room:1', '1', repeat('k', 200)), ('room:1', '{{"n": 1}}', NULL)""",
        database,
    )
    until(lambda: rows(server_of_rows, database) == 9, "a published row")
    assert numbers(redis, "room:1") == [1]
    until(lambda: running.status().set_aside == 9, "a count")
    errors = server_of_rows.psql("SELECT error FROM wsd_outbox ORDER BY id", database).splitlines()
    name = "a channel name has 1 to 255 characters of A-Z a-z 0-9 _ . : @ / # -"
    assert errors == [
        name,
        "the channel direct is each client's own, send a direct message to it",
        "user_id must have 1 to 128 characters, got 0",
        name,
        "data may have 65536 bytes (websocket.max_message_bytes), has 70002",
        "data may have 32 levels",
        "Redis: something else stands in its place",
        "idempotency_key must have 1 to 128 characters",
        "idempotency_key must have 1 to 128 characters",
    ]
    assert "9 rows of wsd_outbox cannot be published and are set aside, the first has the id 1" in running.log
    server_of_rows.psql("UPDATE wsd_outbox SET channel = 'room:2', error = NULL WHERE id = 1", database)
    until(lambda: len(stored(redis, "room:2")) == 1, "the row that was repaired")


def test_rows_with_one_key_are_one_message(
    running: Relay, server_of_rows: Postgres, database: str, redis: Redis
) -> None:
    sql = "INSERT INTO wsd_outbox (channel, data, idempotency_key) VALUES ('{}', '{{\"n\": {}}}', 'order-17');"
    server_of_rows.psql(sql.format("room:1", 1) + sql.format("room:1", 2) + sql.format("room:2", 3), database)
    until(lambda: not rows(server_of_rows, database), "an empty table")
    assert (numbers(redis, "room:1"), numbers(redis, "room:2")) == ([1], [3])


def test_another_row_with_an_id_that_was_used_before_is_another_message(
    running: Relay, server_of_rows: Postgres, database: str, redis: Redis
) -> None:
    """A database that was restored from a copy counts its ids from the time of the copy."""
    for n in (1, 2):
        server_of_rows.psql(f"TRUNCATE wsd_outbox RESTART IDENTITY; {insert(n, n)}", database)
        until(lambda n=n: n in numbers(redis, "room:1"), "a published row")  # type: ignore[misc]
        until(lambda: rows(server_of_rows, database) == 0, "the relay to be done with the row")
    assert numbers(redis, "room:1") == [1, 2]


def test_keys_live_for_a_day_and_end_soon_after_their_rows(
    running: Relay, server_of_rows: Postgres, database: str, redis: Redis
) -> None:
    server_of_rows.psql(insert(1, 3), database)
    until(lambda: running.status().published == 3, "published rows")
    until(lambda: all(redis.ttl(key) <= 120 for key in redis.keys("ws_idempotency:*")), "keys that end soon")
    assert len(redis.keys("ws_idempotency:*")) == 3


class LossyPostgres(TcpProxy):
    """Loses the commands that delete, while `loses` is set."""

    loses = False

    async def passes(self, link: Link, way: Way, data: bytes) -> bool:
        return not (self.loses and way is Way.UP and b"DELETE" in data)


@long_run
def test_a_relay_that_is_killed_between_publishing_and_deleting_publishes_nothing_twice(
    server_of_rows: Postgres, valkey: Valkey, database: str, redis: Redis, tmp_path: Path
) -> None:
    with LossyPostgres(server_of_rows.port) as proxy:
        proxy.loses = True
        url = database.replace(str(server_of_rows.port), str(proxy.port))
        with relay(tmp_path, environment(url, valkey.url, channels=CHANNELS)) as running:
            running.wait_until_active()
            server_of_rows.psql(insert(1, 700), database)
            until(lambda: len(stored(redis, "room:1")) == 500, "a published batch")
            assert rows(server_of_rows, database) == 700
            running.kill()
            proxy.loses = False
            proxy.cut()
            running.start_again()
            until(lambda: not rows(server_of_rows, database), "an empty table")
    assert numbers(redis, "room:1") == list(range(1, 701))


@long_run
def test_another_relay_takes_over_within_a_second(
    running: Relay, server_of_rows: Postgres, database: str, valkey: Valkey, redis: Redis, tmp_path: Path
) -> None:
    with relay(tmp_path, environment(database, valkey.url, channels=CHANNELS), "second") as second:
        until(lambda: "stands by" in second.log, "a relay that stands by")
        assert not second.status().active
        server_of_rows.psql(insert(1, 10), database)
        until(lambda: len(stored(redis, "room:1")) == 10, "the rows")
        running.kill()
        killed = time.monotonic()
        second.wait_until_active()
        assert time.monotonic() - killed < 3.0  # on a busy machine; half a second by itself
        server_of_rows.psql(insert(11, 20), database)
        until(lambda: not rows(server_of_rows, database), "an empty table")
        assert numbers(redis, "room:1") == list(range(1, 21))
        assert second.stop() == 0


@long_run
def test_rows_wait_while_redis_is_away(server_of_rows: Postgres, database: str, tmp_path: Path) -> None:
    port = unused_port()
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with server(tmp_path / "valkey", port, *options) as own:
        with relay(tmp_path, environment(database, own.url, channels=CHANNELS)) as running:
            running.wait_until_active()
            server_of_rows.psql(insert(1, 5), database)
            until(lambda: not rows(server_of_rows, database), "an empty table")
            own.kill()
            server_of_rows.psql(insert(6, 10), database)
            until(lambda: running.status().problem.startswith("Redis: "), "a problem")
            until(lambda: running.status().waiting == 5, "a count of what waits")
            own.start()
            until(lambda: not rows(server_of_rows, database), "an empty table")
        with Redis.from_url(own.url) as redis:
            assert numbers(redis, "room:1") == list(range(1, 11))


@long_run
def test_a_full_redis_sets_nothing_aside(server_of_rows: Postgres, database: str, tmp_path: Path) -> None:
    with server(tmp_path / "valkey", unused_port()) as own, Redis.from_url(own.url) as redis:
        with relay(tmp_path, environment(database, own.url, channels=CHANNELS)) as running:
            running.wait_until_active()
            redis.config_set("maxmemory", "1")
            server_of_rows.psql(insert(1, 5), database)
            until(lambda: "maxmemory" in running.status().problem, "a problem")
            redis.config_set("maxmemory", "0")
            until(lambda: not rows(server_of_rows, database), "an empty table")
            assert numbers(redis, "room:1") == list(range(1, 6))


@long_run
def test_a_relay_comes_back_after_a_restart_of_postgresql(
    running: Relay, server_of_rows: Postgres, database: str, redis: Redis
) -> None:
    server_of_rows.restart()
    server_of_rows.psql(insert(1, 5), database)
    until(lambda: not rows(server_of_rows, database), "an empty table")
    server_of_rows.kill()
    until(lambda: running.status().problem.startswith("PostgreSQL: "), "a problem")
    server_of_rows.start()
    server_of_rows.psql(insert(6, 10), database)
    until(lambda: not rows(server_of_rows, database), "an empty table")
    assert numbers(redis, "room:1") == list(range(1, 11))
    running.wait_until_active()


def test_what_is_missing_is_named(server_of_rows: Postgres, valkey: Valkey, tmp_path: Path) -> None:
    database = server_of_rows.new_database()
    with relay(tmp_path, environment(database, valkey.url)) as running:
        until(lambda: running.status().problem, "a problem")
        assert running.status().problem == 'PostgreSQL: relation "wsd_outbox" does not exist'
        server_of_rows.psql(SQL, database)
        running.wait_until_active()


@long_run
@pytest.mark.skipif(find_pgbouncer() is None, reason="needs pgbouncer")
def test_a_pooler_that_shares_sessions_is_refused(
    server_of_rows: Postgres, database: str, valkey: Valkey, redis: Redis, tmp_path: Path
) -> None:
    with pgbouncer(server_of_rows, "transaction") as port:
        pooled = database.replace(str(server_of_rows.port), str(port))
        with relay(tmp_path, environment(pooled, valkey.url, channels=CHANNELS), "pooled") as refused:
            until(lambda: refused.status().problem, "a problem")
            assert refused.status().problem.endswith("set postgres.listen_url to the address of PostgreSQL itself")
        settings = environment(pooled, valkey.url, channels=CHANNELS, listen_url=database)
        with relay(tmp_path, settings, "direct") as running:
            running.wait_until_active()
            server_of_rows.psql(insert(1, 3), database)
            until(lambda: numbers(redis, "room:1") == [1, 2, 3], "the rows")


@long_run
def test_relays_that_are_killed_again_and_again_publish_each_row_once(
    server_of_rows: Postgres, valkey: Valkey, database: str, redis: Redis, tmp_path: Path
) -> None:
    total = 20_000
    settings = environment(database, valkey.url, channels=CHANNELS)
    with relay(tmp_path, settings, "one") as one, relay(tmp_path, settings, "two") as two:
        for number in range(20):
            server_of_rows.psql(insert(number * 1000 + 1, (number + 1) * 1000), database)
            active = until(lambda: next((each for each in (one, two) if each.status().active), None))
            seen = active.status().published
            until(lambda: active.status().published > seen or not active.status().active, "progress")  # noqa: B023
            active.kill()
            active.start_again()
        until(lambda: not rows(server_of_rows, database), "an empty table")
    assert numbers(redis, "room:1") == list(range(1, total + 1))


@long_run
def test_a_frozen_relay_that_wakes_up_publishes_nothing_twice(
    server_of_rows: Postgres, valkey: Valkey, database: str, redis: Redis, tmp_path: Path
) -> None:
    settings = environment(database, valkey.url, channels=CHANNELS)
    with relay(tmp_path, settings, "one") as one:
        one.wait_until_active()
        with relay(tmp_path, settings, "two") as two:
            server_of_rows.psql(insert(1, 30_000), database)
            until(lambda: len(stored(redis, "room:1")) > 1000, "a beginning")
            one.freeze()
            # As PostgreSQL does to the session of a machine that has vanished.
            server_of_rows.psql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'", database)
            two.wait_until_active()
            one.thaw()
            until(lambda: not rows(server_of_rows, database), "an empty table")
            until(lambda: one.status() and not one.status().active, "a relay that stands by")
    assert numbers(redis, "room:1") == list(range(1, 30_001))


@long_run
def test_a_relay_follows_the_sentinels(server_of_rows: Postgres, database: str, tmp_path: Path) -> None:
    with sentinel_set(tmp_path / "sentinels", down_after=1.0) as servers:
        with relay(tmp_path, environment(database, servers.url, channels=CHANNELS)) as running:
            running.wait_until_active()
            server_of_rows.psql(insert(1, 100), database)
            until(lambda: not rows(server_of_rows, database), "an empty table")
            servers.primary.kill()
            server_of_rows.psql(insert(101, 200), database)
            until(lambda: not rows(server_of_rows, database), "an empty table")
        with Redis(port=servers.primary.port) as redis:
            assert numbers(redis, "room:1") == list(range(1, 201))
