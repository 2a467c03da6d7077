"""Every message of an archived channel is kept in PostgreSQL, and histories are read beyond what Redis keeps."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from redis import Redis

from tests.support.hub_client import ask
from tests.support.ports import unused_port
from tests.support.postgres import Postgres, postgres
from tests.support.relay import Relay, environment, relay
from tests.support.valkey import Valkey, server
from tests.support.waiting import long_run, until
from tests.support.worker import Worker, worker
from wsd.supervisor.new_files import archive_sql, outbox_sql
from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER, OPERATOR_PREFIX
from wsd.worker.contract.redis_keys import ARCHIVE_KEY, history_key, history_meta_key

pytestmark = pytest.mark.anyio

CHANNELS = json.dumps(
    {
        "*": {"history_size": 1000},
        "short:*": {"history_size": 5, "archive": True},
        "long:*": {"history_size": 1000, "archive": True},
        "direct": {"history_size": 5, "archive": True},
    }
)
KEY = {"X-API-Key": "sesame"}
OPERATOR = {OPERATOR_KEY_HEADER: "operator"}


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with postgres() as running:
        running.psql(outbox_sql("wsd_outbox") + archive_sql("wsd_archive"))
        yield running


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with server(tmp_path_factory.mktemp("valkey"), unused_port()) as running:
        yield running


@pytest.fixture(scope="module")
def archiving(keeping: Postgres, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    env = environment(keeping.url(user="wsd_relay"), valkey.url, channels=CHANNELS)
    with relay(tmp_path_factory.mktemp("relay"), env) as running:
        until(lambda: running.status().archive_active, f"an active archive: {running.log}")
        yield running


@pytest.fixture(scope="module")
def serving(keeping: Postgres, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    env: dict[str, Any] = {"channels": CHANNELS, "api_key": "sesame", "operator_key": "operator"}
    url = keeping.url(user="wsd_relay")
    with worker(tmp_path_factory.mktemp("worker"), redis_url=valkey.url, postgres_url=url, **env) as running:
        yield running


@pytest.fixture
def redis(valkey: Valkey) -> Iterator[Redis]:
    with Redis.from_url(valkey.url) as client:
        yield client


def publish(serving: Worker, channel: str, first: int, last: int) -> None:
    for start in range(first, last + 1, 100):
        numbers = range(start, min(start + 100, last + 1))
        batch = [{"channel": channel, "data": {"n": n}} for n in numbers]
        status, answer = serving.request("POST", "/api/websocket/publish", batch, KEY)
        assert status == 200, answer


def history(serving: Worker, channel: str, **query: object) -> Any:
    text = "&".join(f"{name}={value}" for name, value in query.items())
    status, answer = serving.request("GET", f"/api/websocket/history/{quote(channel, safe='')}?{text}", None, KEY)
    assert status == 200, answer
    return answer


def numbers(page: Any) -> list[int]:
    return [message["data"]["n"] for message in page["messages"]]


def archived(keeping: Postgres, channel: str) -> list[int]:
    """Return the numbers `n` of the messages of a channel in the table."""
    # PostgreSQL keeps a zero byte in JSON, and refuses to look into such a document.
    number = """substring(message::text FROM '"n": *([0-9]+)')"""
    sql = f"SELECT {number} FROM wsd_archive WHERE channel = '{channel}' ORDER BY run, \"offset\""
    return [int(line) for line in keeping.psql(sql).split()]


def wait_until_archived(keeping: Postgres, channel: str, last: int) -> None:
    until(lambda: archived(keeping, channel)[-1:] == [last], f"{last} in the archive")


async def test_a_history_is_read_beyond_redis_in_both_directions_and_in_pages(
    serving: Worker, keeping: Postgres, archiving: Relay
) -> None:
    channel = "short:pages"
    for start in range(1, 21, 5):  # no more than Redis keeps until it is archived
        publish(serving, channel, start, start + 4)
        wait_until_archived(keeping, channel, start + 4)
    page = history(serving, channel, since=0, limit=500)
    assert numbers(page) == list(range(1, 21))
    assert page["offset"] == 20
    assert [message["offset"] for message in page["messages"]] == list(range(1, 21))
    assert {message["epoch"] for message in page["messages"]} == {page["epoch"]}
    assert "incomplete" not in page
    assert numbers(history(serving, channel, reverse="true", limit=500)) == list(range(20, 0, -1))
    assert numbers(history(serving, channel, since=13, limit=4)) == [14, 15, 16, 17]
    assert numbers(history(serving, channel, since=17, limit=9, reverse="true")) == list(range(16, 7, -1))
    client = await serving.connect("ann")
    answer = await ask(client, type="history", channel=channel, since=18, limit=5, reverse=True)
    assert numbers(answer) == [17, 16, 15, 14, 13]
    seen, since = [], 0
    while found := (await ask(client, type="history", channel=channel, since=since, limit=3))["messages"]:
        seen += [message["data"]["n"] for message in found]
        since = found[-1]["offset"]
    assert seen == list(range(1, 21))
    await client.close()


def test_messages_are_kept_as_clients_got_them(serving: Worker, keeping: Postgres, archiving: Relay) -> None:
    channel, odd = "short:odd", {"n": 1, "text": 'ä"\\ \U0001f600 \0', "list": [1.50, None, 2**60]}
    serving.request("POST", "/api/websocket/publish", {"channel": channel, "data": odd}, KEY)
    [before] = history(serving, channel)["messages"]
    wait_until_archived(keeping, channel, 1)
    publish(serving, channel, 2, 6)
    wait_until_archived(keeping, channel, 6)
    assert history(serving, channel)["messages"][0] == before


def test_a_channel_without_a_rule_is_not_marked(serving: Worker, redis: Redis) -> None:
    publish(serving, "plain", 1, 5)
    publish(serving, "long:marked", 1, 5)
    assert redis.zscore(ARCHIVE_KEY, "plain") is None
    assert history(serving, "plain", epoch="other")["messages"] == []


def test_marks_are_removed_when_all_is_archived(serving: Worker, archiving: Relay, redis: Redis) -> None:
    publish(serving, "long:settles", 1, 5)
    assert redis.zscore(ARCHIVE_KEY, "long:settles") is not None
    until(lambda: redis.zscore(ARCHIVE_KEY, "long:settles") is None, "a removed mark")


@long_run
def test_a_relay_that_is_killed_archives_each_message_once(
    serving: Worker, keeping: Postgres, archiving: Relay
) -> None:
    channel = "long:killed"
    for start in (1, 301, 601):
        publish(serving, channel, start, start + 299)
        archiving.kill()
        archiving.start_again()
    wait_until_archived(keeping, channel, 900)
    assert archived(keeping, channel) == list(range(1, 901))


@long_run
def test_nothing_waits_for_a_postgresql_that_is_away(serving: Worker, keeping: Postgres, archiving: Relay) -> None:
    channel = "short:away"
    publish(serving, channel, 1, 5)
    wait_until_archived(keeping, channel, 5)
    publish(serving, channel, 6, 10)
    wait_until_archived(keeping, channel, 10)
    keeping.kill()
    try:
        publish(serving, channel, 11, 13)
        began = time.monotonic()
        page = history(serving, channel)
        assert (numbers(page), page["incomplete"]) == ([9, 10, 11, 12, 13], True)
        for _ in range(20):  # it is not asked each time
            history(serving, channel)
        assert time.monotonic() - began < 5.0
        status, answer = serving.request("DELETE", f"/api/websocket/history/{channel}", None, KEY)
        assert (status, answer["error"]) == (503, "the archive does not answer, and nothing was deleted")
        assert numbers(history(serving, channel)) == [9, 10, 11, 12, 13]
        until(lambda: archiving.status().archive_problem.startswith("PostgreSQL: "), "a problem")
    finally:
        keeping.start()
    wait_until_archived(keeping, channel, 13)
    until(lambda: numbers(history(serving, channel)) == list(range(1, 14)), "all of the history")
    assert archiving.status().archive_problem == ""


@long_run
def test_what_expired_before_it_was_archived_is_counted(serving: Worker, keeping: Postgres, archiving: Relay) -> None:
    channel = "short:hole"
    publish(serving, channel, 1, 3)
    wait_until_archived(keeping, channel, 3)
    archiving.freeze()
    publish(serving, channel, 4, 12)
    archiving.thaw()
    wait_until_archived(keeping, channel, 12)
    assert numbers(history(serving, channel)) == [1, 2, 3, 8, 9, 10, 11, 12]
    assert "4 messages of short:hole were forgotten by Redis before they were archived" in archiving.log
    assert archiving.status().archive_lost >= 4
    status, answer = serving.request("GET", f"{OPERATOR_PREFIX}archive", None, OPERATOR)
    assert (status, answer["holes"][channel]) == (200, 4)


def test_old_messages_are_pruned_in_the_channels_that_match(
    serving: Worker, keeping: Postgres, archiving: Relay
) -> None:
    def prune(channel: str, age: float, *, is_test: bool) -> object:
        wanted = {"older_than_seconds": age, "channel": channel, "is_test": is_test}
        return serving.request("POST", f"{OPERATOR_PREFIX}prune-archive", wanted, OPERATOR)

    for channel in ("long:pruned:1", "long:pruned:2", "long:pruned_3"):
        publish(serving, channel, 1, 3)
        wait_until_archived(keeping, channel, 3)
    keeping.psql("UPDATE wsd_archive SET archived_at = now() - interval '2 days' WHERE channel LIKE 'long:pruned%'")
    assert prune("long:pruned:*", 86_400, is_test=True) == (200, {"messages": 6})
    assert prune("long:pruned:*", 3 * 86_400, is_test=False) == (200, {"messages": 0})
    assert prune("long:pruned_1", 86_400, is_test=False) == (200, {"messages": 0})  # no character stands for others
    assert prune("long:pruned:*", 86_400, is_test=False) == (200, {"messages": 6})
    assert archived(keeping, "long:pruned:1") == []
    assert archived(keeping, "long:pruned_3") == [1, 2, 3]
    publish(serving, "long:pruned:1", 4, 4)
    wait_until_archived(keeping, "long:pruned:1", 4)
    assert archived(keeping, "long:pruned:1") == [4]


def test_a_deleted_history_is_gone_and_stays_gone(serving: Worker, keeping: Postgres, archiving: Relay) -> None:
    channel = "short:deleted"
    publish(serving, channel, 1, 7)
    wait_until_archived(keeping, channel, 7)
    archiving.freeze()
    publish(serving, channel, 8, 9)  # not archived when they are deleted
    assert serving.request("DELETE", f"/api/websocket/history/{channel}", None, KEY) == (200, {"deleted": True})
    archiving.thaw()
    assert numbers(history(serving, channel)) == []
    publish(serving, channel, 10, 10)
    wait_until_archived(keeping, channel, 10)
    assert archived(keeping, channel) == [10]
    page = history(serving, channel)
    assert (numbers(page), page["offset"]) == ([10], 10)
    assert keeping.psql(f"SELECT lost FROM wsd_archive_epochs WHERE channel = '{channel}'").split() == ["0"]


@long_run
def test_a_history_goes_on_in_another_epoch(serving: Worker, keeping: Postgres, archiving: Relay, redis: Redis) -> None:
    channel = "short:epochs"
    publish(serving, channel, 1, 8)
    wait_until_archived(keeping, channel, 8)
    old = history(serving, channel)["epoch"]
    redis.delete(history_key(channel), history_meta_key(channel))
    asleep = history(serving, channel, reverse="true", limit=2)
    assert (numbers(asleep), asleep["epoch"], asleep["offset"]) == ([8, 7], old, 8)
    publish(serving, channel, 9, 10)
    wait_until_archived(keeping, channel, 10)
    page = history(serving, channel, reverse="true", limit=10)
    assert (numbers(page), page["offset"], page["previous"]) == ([10, 9], 2, old)
    page = history(serving, channel, reverse="true", limit=10, epoch=old)
    assert (numbers(page)[:2], page["offset"], page["epoch"]) == ([8, 7], 8, old)
    assert "previous" not in page
    assert numbers(history(serving, channel, since=6, epoch=old)) == [7, 8]
    status, _ = serving.request("GET", f"/api/websocket/history/{channel}?epoch=%00", None, KEY)
    assert status == 400


async def test_clients_page_through_epochs_over_their_websocket(
    serving: Worker, keeping: Postgres, archiving: Relay, redis: Redis
) -> None:
    channel = "short:socket-epochs"
    publish(serving, channel, 1, 2)
    await asyncio.to_thread(wait_until_archived, keeping, channel, 2)
    redis.delete(history_key(channel), history_meta_key(channel))
    publish(serving, channel, 3, 3)
    await asyncio.to_thread(wait_until_archived, keeping, channel, 3)
    client = await serving.connect("ann")
    page = await ask(client, type="history", channel=channel, reverse=True)
    assert numbers(page) == [3]
    page = await ask(client, type="history", channel=channel, reverse=True, epoch=page["previous"])
    assert numbers(page) == [2, 1]
    await client.close()


def test_direct_messages_have_an_archive_where_their_rule_says_so(
    serving: Worker, keeping: Postgres, archiving: Relay
) -> None:
    batch = [{"user_id": "ann", "data": {"n": n}} for n in range(1, 4)]
    assert serving.request("POST", "/api/websocket/publish", batch, KEY)[0] == 200
    wait_until_archived(keeping, "!ann", 3)


def test_rows_of_an_outbox_are_archived_too(serving: Worker, keeping: Postgres, archiving: Relay) -> None:
    keeping.psql("""INSERT INTO wsd_outbox (channel, data) VALUES ('long:outbox', '{"n": 1}')""")
    wait_until_archived(keeping, "long:outbox", 1)


@long_run
def test_what_no_worker_wrote_does_not_hold_up_the_others(
    serving: Worker, keeping: Postgres, archiving: Relay, redis: Redis
) -> None:
    publish(serving, "long:foreign", 1, 1)
    redis.xadd(history_key("long:foreign"), {"m": b"\xff\0"}, id="2-0")
    redis.hset(history_meta_key("long:foreign"), "offset", 2)
    redis.set(history_key("long:taken"), "a string")
    redis.hset(history_meta_key("long:taken"), mapping={"epoch": "e", "offset": 1})
    redis.zadd(ARCHIVE_KEY, {b"long:taken": 1, b"nul\0": 1, b"\xff": 1, b"x" * 3000: 1})
    publish(serving, "long:foreign", 3, 3)
    publish(serving, "long:healthy", 1, 3)
    wait_until_archived(keeping, "long:healthy", 3)
    until(lambda: keeping.psql("SELECT count(*) FROM wsd_archive WHERE channel = 'long:foreign'").strip() == "3")
    assert keeping.psql("SELECT message IS NULL FROM wsd_archive WHERE channel = 'long:foreign'").split() == list("ftf")
    redis.delete(history_key("long:foreign"))
    page = history(serving, "long:foreign")
    assert [message["data"] for message in page["messages"]] == [{"n": 1}, None, {"n": 3}]
