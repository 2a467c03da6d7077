"""Statistics, metrics and publishing over HTTP."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.hub_client import ask, receive, said
from tests.support.ports import unused_port
from tests.support.raw_websocket import RawSocket
from tests.support.valkey import server, valkey
from tests.support.waiting import eventually
from tests.support.worker import RawBody, Worker, worker, workers

pytestmark = pytest.mark.anyio

KEY = {"X-API-Key": "sesame"}


def nested(levels: int) -> list[Any]:
    return [nested(levels - 1)] if levels > 1 else []


def samples(text: str) -> dict[tuple[str, str], float]:
    """Return values by the name of the metric and, if it has one, by reason or state."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            label = sample.labels.get("reason") or sample.labels.get("state") or ""
            found[sample.name, label] = sample.value
    return found


def metrics_of(serving: Worker) -> dict[tuple[str, str], float]:
    status, text = serving.request("GET", "/metrics")
    assert status == 200
    return samples(text)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker with the settings by default. The tests that share it publish nothing."""
    with worker(tmp_path_factory.mktemp("plain")) as serving:
        yield serving


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    """A worker with an API key. The tests that share it publish nothing."""
    with worker(tmp_path_factory.mktemp("keyed"), api_key="sesame") as serving:
        yield serving


async def test_statistics_are_of_all_workers_and_paged(tmp_path: Path) -> None:
    with valkey(tmp_path / "redis", unused_port()) as url, workers(tmp_path, 2, redis_url=url) as (one, two):
        connections = [await one.connect("ann"), await one.connect("bob"), await two.connect("ann")]
        for connection in connections:
            await ask(connection, type="subscribe", channel="room")
        await ask(connections[0], type="subscribe", channel="lonely")
        status, stats = one.request("GET", "/api/websocket/stats?limit=1")
        assert status == 200
        assert stats["complete"]
        assert stats["connections"] == 3
        assert [w["worker_id"] for w in stats["workers"]] == ["worker-1", "worker-2"]
        assert [w["connections"] for w in stats["workers"]] == [2, 1]
        assert stats["users"] == [{"name": "ann", "connections": 2}]
        assert stats["channels"] == [{"name": "room", "connections": 3}]
        _, stats = two.request("GET", "/api/websocket/stats?limit=5&offset=1")
        assert stats["users"] == [{"name": "bob", "connections": 1}]
        assert stats["channels"] == [{"name": "lonely", "connections": 1}]
        _, stats = two.request("GET", "/api/websocket/stats?scope=worker")
        assert (stats["worker_id"], stats["connections"], stats["mode"]) == ("worker-2", 1, "distributed")
        for connection in connections:
            await connection.close()


@pytest.mark.parametrize("query", ["limit=x", "limit=101", "offset=-1", "limit=1.5"])
def test_a_wrong_page_is_named(plain: Worker, query: str) -> None:
    status, body = plain.request("GET", f"/api/websocket/stats?{query}")
    assert status == 400
    assert "must be an integer from 0 to" in body["error"]


async def test_metrics_count_connections_messages_and_why_connections_ended(tmp_path: Path) -> None:
    with worker(tmp_path, slot=3, max_message_bytes=1000) as serving:
        one, two, big = await serving.connect("ann"), await serving.connect("bob"), await serving.connect("bob")
        await ask(one, type="subscribe", channel="room")
        await ask(one, type="broadcast", data=1)
        now = metrics_of(serving)
        assert now["wsd_connections", ""] == 3
        assert now["wsd_users", ""] == 2
        assert now["wsd_channels", ""] == 1
        assert now["wsd_messages_received_total", ""] == 2
        assert now["wsd_messages_sent_total", ""] == 3 + 2 + 3 + 1  # welcomes, subscribed and ack, broadcast, ack
        assert now["wsd_breaker_state", "closed"] == 1
        assert now["wsd_cluster_workers", ""] == 1
        await one.close()
        two.transport.abort()
        await big.send("x" * 2000)
        await big.wait_closed()
        await eventually(lambda: metrics_of(serving)["wsd_connections", ""] == 0)
        now = metrics_of(serving)
        for reason in ("goodbye", "lost", "too_big"):
            assert now["wsd_connections_closed_total", reason] == 1
        _, text = serving.request("GET", "/metrics")
        assert 'wsd_connections{node="n",worker="worker-3"} 0.0' in text


async def test_metrics_tell_of_redis(tmp_path: Path) -> None:
    with server(tmp_path / "redis", unused_port()) as redis, worker(tmp_path, redis_url=redis.url) as serving:
        connection = await serving.connect()
        await eventually(lambda: metrics_of(serving)["wsd_distributed", ""] == 1)
        assert metrics_of(serving)["wsd_redis_reconnects_total", ""] == 1
        redis.kill()
        await eventually(lambda: metrics_of(serving)["wsd_distributed", ""] == 0)
        await ask(connection, type="broadcast", data="kept")
        now = metrics_of(serving)
        assert now["wsd_breaker_opened_total", ""] == 1
        assert now["wsd_spool_messages", ""] == 1
        assert now["wsd_spool_bytes", ""] > 0
        redis.start()
        await eventually(lambda: metrics_of(serving)["wsd_spool_messages", ""] == 0)
        now = metrics_of(serving)
        assert now["wsd_redis_reconnects_total", ""] == 2
        assert now["wsd_breaker_state", "closed"] == 1
        await connection.close()


async def test_others_publish_with_the_key(tmp_path: Path) -> None:
    with worker(tmp_path, api_key="sesame") as serving:
        ann, bob = await serving.connect("ann"), await serving.connect("bob")
        await ask(ann, type="subscribe", channel="room")
        target = "/api/websocket/publish"
        answer = serving.request("POST", target, {"channel": "room", "data": {"n": 1}}, KEY)
        assert answer[0] == 200
        [result] = answer[1].pop("results")
        assert answer[1] == {"published": 1, "distributed": True}
        assert result.pop("epoch")
        assert result == {"channel": "room", "everywhere": True, "offset": 1, "durable": True}
        assert said(await receive(ann)) == {"type": "message", "channel": "room", "data": {"n": 1}}
        batch = [{"broadcast": True, "data": [2]}, {"user_id": "bob", "data": "three"}]
        status, body = serving.request("POST", target, batch, {"Authorization": "Bearer sesame"})
        assert (status, body["published"]) == (200, 2)
        assert (await receive(ann))["data"] == [2]
        assert (await receive(bob))["data"] == [2]
        assert said(await receive(bob)) == {"type": "message", "channel": "direct", "data": "three"}
        await ann.close()
        await bob.close()


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"data": 1}, "message 0: needs one of channel, channels, user_id, broadcast"),
        ({"data": 1, "channel": "a", "broadcast": True}, "message 0: needs one of"),
        ([{"channel": "a", "data": 1}, {"user_id": "b"}], "missing required field `data`"),
        ({"channel": "a", "channels": ["b"], "data": 1}, "message 0: needs one of"),
        ({"channels": [], "data": 1}, "message 0: needs one of"),
        ({"channels": ["a", "b", "a"], "data": 1}, "message 0: channels holds a channel twice"),
        ({"channels": ["a", "no name!"], "data": 1}, "a channel name has"),
        ([{"channels": ["a", "b"], "data": 1}] * 501, "a request may have 1000 messages, got 1002"),
        ({"channel": "no name!", "data": 1}, "a channel name has"),
        ({"channel": "a", "data": 1, "from": "me"}, "unknown field `from`"),
        ({"channel": "a", "data": "x" * 70_000}, "data may have 65536 bytes, got 70002"),
        ([{"channel": "a", "data": 1}] * 1001, "a request may have 1000 messages, got 1001"),
        (["a"], "Expected `object`"),
        ("text", "Expected `object`"),
        ({"channel": "a", "data": nested(33)}, "data may have 32 levels"),
        (RawBody('{"channel":"a","data":' + "[" * 400_000), "recursion"),
        (RawBody('{"channel":"a","data":' + "9" * 5000 + "}"), "out of range"),
        (RawBody('{"channel":"a","data":1},{"channel":"b","data":2}'), "trailing characters"),
        (RawBody(""), "truncated"),
        (RawBody("  "), "truncated"),
    ],
)
def test_an_item_that_cannot_be_published_is_named_and_nothing_is_sent(
    keyed: Worker, body: object, problem: str
) -> None:
    status, answer = keyed.request("POST", "/api/websocket/publish", body, KEY)
    assert status == 400
    assert problem in answer["error"]
    assert metrics_of(keyed)["wsd_broker_published_total", ""] == 0


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
def test_a_request_that_ends_before_its_body_is_no_fault(keyed: Worker, framing: str) -> None:
    with RawSocket(keyed.path) as raw:
        head = f"POST /api/websocket/publish HTTP/1.1\r\nHost: test\r\nX-API-Key: sesame\r\n{framing}\r\n\r\n"
        raw.send(head.encode(), b'5\r\n{"da')
    assert keyed.health()[0] == 200
    assert "Traceback" not in keyed.log.read_text()


@pytest.mark.parametrize("name", ["since", "limit"])
def test_no_number_of_a_query_is_beyond_what_redis_takes(tmp_path: Path, name: str) -> None:
    numbers = [2**53, 2**63, 2**64, 10**30, "9" * 5000, "-1", "1e300", "1.0", "%D9%A1", "+1", "1_0", ""]
    with valkey(tmp_path, unused_port()) as url, worker(tmp_path, api_key="sesame", redis_url=url) as serving:
        for number in numbers:
            status, answer = serving.request("GET", f"/api/websocket/history/room?{name}={number}", None, KEY)
            assert status == 400, number
            assert answer["error"].startswith(f"{name} must be an integer from 0 to ")
            assert len(answer["error"]) < 100
        status, _ = serving.request("GET", f"/api/websocket/history/room?since={2**53 - 1}&limit=500", None, KEY)
        assert status == 200


def test_publishing_over_http_needs_the_key(keyed: Worker) -> None:
    message = {"broadcast": True, "data": 1}
    target = "/api/websocket/publish"
    for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer "}, {"X-API-Key": "s\xe9same"}):
        assert keyed.request("POST", target, message, headers)[0] == 401
    assert keyed.request("GET", target, None, KEY)[0] == 405
    status, _ = keyed.request("POST", target, {"broadcast": True, "data": "x" * 1_100_000}, KEY)
    assert status == 413
    assert keyed.request("POST", "/health")[0] == 405


KEYS = json.dumps({"orders": {"key": "open", "rights": ["publish"], "channels": ["orders:*"]}})


async def test_a_message_to_several_channels_counts_once_in_each_with_its_idempotency_key(tmp_path: Path) -> None:
    with worker(tmp_path, api_key="sesame") as serving:
        message = {"channels": ["a", "b"], "data": 1, "idempotency_key": "k"}
        first, second = (serving.request("POST", "/api/websocket/publish", message, KEY)[1] for _ in range(2))
        assert [(each["channel"], each["offset"]) for each in first["results"]] == [("a", 1), ("b", 1)]
        assert second == first
        status, page = serving.request("GET", "/api/websocket/history/a", None, KEY)
        assert (status, page["offset"]) == (200, 1)


def test_a_key_with_few_rights_may_do_nothing_else(tmp_path: Path) -> None:
    key = {"Authorization": "Bearer open"}
    target = "/api/websocket/publish"
    refused = "the API key 'orders' has no right 'publish' in the channel "
    with worker(tmp_path, api_keys=KEYS) as serving:
        allowed = {"channel": "orders:1", "data": 1}
        assert serving.request("POST", target, allowed, key)[0] == 200
        for other, name in (
            ({"channel": "room"}, "room"),
            ({"channels": ["orders:2", "room"]}, "room"),
            ({"user_id": "ann"}, "direct"),
            ({"broadcast": True}, "broadcast"),
        ):
            answer = serving.request("POST", target, [allowed, {**other, "data": 1}], key)
            assert answer == (403, {"error": f"{refused}'{name}'"})
        status, answer = serving.request("GET", "/api/websocket/history/orders:1", None, key)
        assert (status, answer) == (403, {"error": "the API key 'orders' has no right 'history'"})
        assert serving.request("POST", target, allowed, KEY)[0] == 401
        assert metrics_of(serving)["wsd_broker_published_total", ""] == 1


def test_without_a_key_publishing_is_off(plain: Worker) -> None:
    status, body = plain.request("POST", "/api/websocket/publish", {"broadcast": True, "data": 1}, {"X-API-Key": ""})
    assert status == 404
    assert "set security.api_key" in body["error"]


def test_a_worker_without_a_supervisor_answers_no_operator_requests(plain: Worker) -> None:
    for headers in ({}, {"X-WSD-Operator-Key": ""}):
        assert plain.request("GET", "/_wsd/sessions", None, headers)[0] == 404


def test_statistics_and_metrics_are_not_for_strangers(tmp_path: Path) -> None:
    with worker(tmp_path, admin_allow="127.0.0.1,10.0.0.0/8") as serving:
        for address, expected in (("127.0.0.1", 200), ("10.1.2.3", 200), ("192.0.2.1", 403), ("rubbish", 403)):
            headers = {"X-Forwarded-For": address}  # as nginx says it
            assert serving.request("GET", "/metrics", None, headers)[0] == expected
            assert serving.request("GET", "/api/websocket/stats", None, headers)[0] == expected
            assert serving.request("GET", "/health", None, headers)[0] == 200


def test_health_tells_strangers_no_addresses_pids_or_memory(tmp_path: Path) -> None:
    with worker(tmp_path, admin_allow="10.0.0.0/8", redis_url="redis://127.0.0.1:1") as serving:
        for address in ("192.0.2.1", "2001:db8::1", "rubbish"):
            _, body = serving.request("GET", "/health", None, {"X-Forwarded-For": address})
            assert body == {"status": "degraded", "websocket": {"mode": "local"}}
        _, body = serving.request("GET", "/health", None, {"X-Forwarded-For": "10.1.2.3"})
        assert body["heartbeat"]["pid"]
        assert "127.0.0.1" in body["reason"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("localhost.", 200),
        ("wsd.localhost:8000", 200),
        ("127.0.0.1:8000", 200),
        ("10.1.2.3", 200),
        ("[::1]:8000", 200),
        ("[::1]", 200),
        ("monitoring.internal:9100", 200),
        (socket.gethostname(), 200),
        ("evil.example", 403),
        ("evil.example:8000", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("evillocalhost", 403),
        ("127.0.0.1@evil.example", 403),
        ("evil.example/health?", 403),
        ("", 403),
    ],
)
def test_a_name_that_another_site_lets_point_here_shows_nothing(looked_at: Worker, host: str, expected: int) -> None:
    headers = {"X-Forwarded-For": "127.0.0.1", "Host": host}
    for target in ("/metrics", "/api/websocket/stats"):
        assert looked_at.request("GET", target, None, headers)[0] == expected
    assert looked_at.request("GET", "/health", None, headers)[0] == 200


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with worker(tmp_path_factory.mktemp("looked_at"), admin_hosts="Monitoring.internal") as serving:
        yield serving


def test_health_is_json_for_people_and_programs(plain: Worker) -> None:
    status, body = plain.request("GET", "/health")
    assert (status, body["websocket"]["mode"]) == (200, "memory")
    assert json.dumps(body)
