"""Publisher and AsyncPublisher, against real workers, and against servers that fail."""

import asyncio
import json
import os
import pickle
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from inspect import signature
from pathlib import Path

import pytest
import trustme

from tests.support.ports import unused_port
from tests.support.scripted_http import Reply, ScriptedServer
from tests.support.valkey import server
from tests.support.waiting import eventually, until
from tests.support.worker import Worker, worker
from wsd import AsyncPublisher, Publisher, PublishError, PublishResult
from wsd.publisher.records import OutgoingMessage

KEY = "sesame"
STORED = Reply(body=b'{"results": [{"channel": "a", "everywhere": true, "offset": 7, "epoch": "e", "durable": true}]}')
PAGE = b"<html><h1>502 Bad Gateway</h1></html>"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    listen = f"127.0.0.1:{unused_port()}"
    channels = json.dumps({"*": {"history_size": 1000}, "long": {"history_size": 5000}, "live": {"history_size": 0}})
    with worker(tmp_path_factory.mktemp("worker"), listen=listen, api_key=KEY, channels=channels) as serving:
        yield f"http://{listen}"
        serving.check_unharmed()


@pytest.fixture
def publisher(url: str) -> Iterator[Publisher]:
    with Publisher(url, KEY) as opened:
        yield opened


def data_in(publisher: Publisher, channel: str) -> list[object]:
    return [message["data"] for message in publisher.history(channel, limit=500).messages]


def served(directory: Path, listen: str, **changes: object) -> Worker:
    running = Worker(directory, listen=listen, api_key=KEY, **changes)
    until(lambda: running.health()[0] == 200)
    return running


def end(running: Worker) -> None:
    running.process.kill()
    running.process.wait()


def test_messages_reach_channels_users_and_everybody(publisher: Publisher) -> None:
    first = publisher.publish("reach:1", {"text": "hällo"})
    epoch = publisher.history("reach:1").epoch
    assert first == PublishResult("reach:1", everywhere=True, offset=1, epoch=epoch, durable=True)
    both = publisher.publish(["reach:1", "reach:2"], "two")
    assert [(each.channel, each.offset) for each in both] == [("reach:1", 2), ("reach:2", 1)]
    assert publisher.publish("live", 1) == PublishResult("live", everywhere=True)
    assert data_in(publisher, "reach:1") == [{"text": "hällo"}, "two"]
    assert data_in(publisher, "reach:2") == ["two"]
    assert publisher.broadcast([1]).channel == "broadcast"
    assert data_in(publisher, "broadcast") == [[1]]
    assert publisher.send_to_user("ann", 1).channel == "direct"


def test_a_history_is_read_from_either_end(publisher: Publisher) -> None:
    publisher.publish_many({"channel": "ends", "data": number} for number in range(5))
    found = publisher.history("ends", since=1, limit=2)
    assert [message["data"] for message in found.messages] == [1, 2]
    assert (found.channel, found.offset) == ("ends", 5)
    assert [message["data"] for message in publisher.history("ends", limit=2, reverse=True).messages] == [4, 3]


def test_a_batch_that_is_larger_than_a_request_keeps_its_order(publisher: Publisher) -> None:
    messages: list[OutgoingMessage] = [{"channel": "long", "data": number} for number in range(2500)]
    assert len(publisher.publish_many(messages)) == 2500
    assert data_in(publisher, "long") == list(range(500))
    assert publisher.history("long").offset == 2500
    big: list[OutgoingMessage] = [{"channel": "big", "data": f"{number}" + "x" * 60_000} for number in range(40)]
    assert len(publisher.publish_many(big)) == 40
    assert publisher.history("big").offset == 40


def test_a_key_counts_once(publisher: Publisher) -> None:
    assert [publisher.publish("once", 1, idempotency_key="order-17").offset for _ in range(2)] == [1, 1]
    assert data_in(publisher, "once") == [1]


def test_a_batch_that_is_refused_says_what_was_published_before_it(publisher: Publisher) -> None:
    messages: list[OutgoingMessage] = [{"channel": "part", "data": number} for number in range(1000)]
    with pytest.raises(PublishError, match="a channel name has 1 to 255 characters") as caught:
        publisher.publish_many([*messages, {"channel": "no name!", "data": 1}])
    assert caught.value.status == 400
    assert not caught.value.temporary
    assert len(caught.value.results) == 1000
    assert publisher.history("part").offset == 1000


def test_data_that_is_no_json_sends_nothing(publisher: Publisher) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        publisher.publish_many([{"channel": "nothing", "data": 1}, {"channel": "nothing", "data": object()}])
    assert data_in(publisher, "nothing") == []


@pytest.mark.parametrize("key", ["wrong", ""])
def test_a_wrong_key_is_named_at_once(url: str, key: str) -> None:
    with Publisher(url, key) as publisher, pytest.raises(PublishError, match="WSD_API_KEY") as caught:
        publisher.publish("a", 1)
    assert (caught.value.status, caught.value.temporary) == (401, False)
    assert "times" not in str(caught.value)


def test_url_and_key_come_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSD_URL", url)
    monkeypatch.setenv("WSD_API_KEY", KEY)
    with Publisher() as publisher:
        assert publisher.publish("environment", 1).everywhere


def test_a_host_that_cannot_be_reached_is_named_after_several_attempts() -> None:
    url = f"http://127.0.0.1:{unused_port()}"
    with pytest.raises(PublishError, match=rf"{url} cannot be reached \(Connection refused\).*WSD_URL.*sent \d+ times"):
        Publisher(url, KEY, retry_for=0.5).publish("a", 1)
    with pytest.raises(PublishError, match=r"its name was not found") as caught:
        Publisher("http://nowhere.invalid", KEY, retry_for=0).publish("a", 1)
    assert caught.value.temporary


def test_an_error_can_be_passed_between_processes() -> None:
    error = PublishError("no", status=503, results=(PublishResult("a", True),), temporary=True)
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.__dict__) == ("no", error.__dict__)


def test_a_server_that_was_restarted_between_two_calls_is_no_failure(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{unused_port()}"
    running = served(tmp_path, listen)
    try:
        with Publisher(f"http://{listen}", KEY) as publisher:
            publisher.publish("a", 1)
            end(running)
            running = served(tmp_path, listen)
            publisher.publish("a", 2)
            assert data_in(publisher, "a") == [2]
    finally:
        end(running)


def test_a_server_that_is_away_for_a_while_gets_the_message_later(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{unused_port()}"
    with Publisher(f"http://{listen}", KEY) as publisher, ThreadPoolExecutor() as threads:
        waiting = threads.submit(publisher.publish, "a", 1)
        running = served(tmp_path, listen)
        try:
            assert waiting.result(30).everywhere
            assert data_in(publisher, "a") == [1]
        finally:
            end(running)


@pytest.mark.parametrize("failure", [Reply(hangs_up_first=True), Reply(502, PAGE), Reply(429), Reply(503, b"{}")])
def test_a_message_is_sent_again_with_the_same_key(failure: Reply) -> None:
    with ScriptedServer(failure, failure, STORED) as scripted, Publisher(scripted.url, KEY) as publisher:
        assert publisher.publish("a", 1) == PublishResult("a", True, 7, "e", True)
        assert len(scripted.bodies) == 3
        assert len(set(scripted.bodies)) == 1
        assert len(json.loads(scripted.bodies[0])[0]["idempotency_key"]) == 32


def test_a_connection_is_used_again_and_one_that_the_server_has_closed_is_not() -> None:
    with ScriptedServer(STORED, STORED, Reply(body=STORED.body, hangs_up_later=True), STORED) as scripted:
        with Publisher(scripted.url, KEY, retry_for=0) as publisher:
            for _ in range(3):
                publisher.publish("a", 1)
            assert scripted.connections == 1
            publisher.publish("a", 1)
            assert scripted.connections == 2
            assert len(scripted.bodies) == 4


def test_a_kept_connection_that_breaks_is_replaced_without_a_retry() -> None:
    with ScriptedServer(STORED, Reply(hangs_up_first=True), STORED) as scripted:
        with Publisher(scripted.url, KEY, retry_for=0) as publisher:
            publisher.publish("a", 1)
            publisher.publish("a", 2)
        assert [json.loads(body)[0]["data"] for body in scripted.bodies] == [1, 2, 2]


def test_a_page_of_a_proxy_is_shown_when_the_time_is_over() -> None:
    with ScriptedServer(Reply(502, PAGE)) as scripted, Publisher(scripted.url, KEY, retry_for=0.3) as publisher:
        with pytest.raises(PublishError, match=r"HTTP 502, .* not from wsd .*Bad Gateway.*sent \d+ times") as caught:
            publisher.publish("a", 1)
    assert (caught.value.status, caught.value.temporary) == (502, True)


def test_a_server_that_asks_for_too_long_a_pause_is_not_asked_again() -> None:
    with ScriptedServer(Reply(429, headers={"Retry-After": "60"})) as scripted:
        with Publisher(scripted.url, KEY) as publisher, pytest.raises(PublishError, match="HTTP 429"):
            publisher.publish("a", 1)
        assert len(scripted.bodies) == 1


@pytest.mark.parametrize("body", [b"[]", b"<html></html>", b"", b'{"results": [{}]}', b'{"results": 5}'])
def test_an_answer_that_is_none_is_refused(body: bytes) -> None:
    with ScriptedServer(Reply(body=body)) as scripted, Publisher(scripted.url, KEY) as publisher:
        with pytest.raises(PublishError, match=scripted.url) as caught:
            publisher.publish("a", 1)
        assert not caught.value.temporary
        assert len(scripted.bodies) == 1


def test_a_message_that_is_not_stored_is_told_with_those_that_are() -> None:
    stored, failed = {"channel": "a", "everywhere": True}, {"channel": "b", "error": "Redis is full"}
    answer = {"error": "message 1 is not stored", "published": 1, "results": [stored, failed]}
    refused = Reply(503, json.dumps(answer).encode())
    with ScriptedServer(refused) as scripted, Publisher(scripted.url, KEY, retry_for=0) as publisher:
        with pytest.raises(PublishError, match="message 1 is not stored") as caught:
            publisher.publish(["a", "b"], 1)
    assert caught.value.results == (PublishResult("a", True),)


def test_a_silent_server_is_given_up_in_time() -> None:
    silent = threading.Event()
    with ScriptedServer(STORED) as scripted:
        scripted.before_reply = silent.wait
        with Publisher(scripted.url, KEY, timeout=0.2, retry_for=0) as publisher:
            with pytest.raises(PublishError, match=r"did not answer within 0\.2 s") as caught:
                publisher.publish("a", 1)
        silent.set()
    assert caught.value.temporary


def test_a_certificate_must_be_trusted() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with ScriptedServer(STORED, context=context) as scripted:
        with Publisher(scripted.url, KEY, ssl=trusting) as publisher:
            assert publisher.publish("a", 1).offset == 7
            publisher.publish("a", 1)
        with pytest.raises(PublishError, match="has a certificate that is not trusted") as caught:
            Publisher(scripted.url, KEY).publish("a", 1)
    assert not caught.value.temporary
    assert len(scripted.bodies) == 2


def test_threads_share_a_publisher(publisher: Publisher) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda number: publisher.publish("threads", number), range(200)))
    assert len(found) == 200
    assert sorted(data_in(publisher, "threads"), key=str) == sorted(range(200), key=str)


FORKING = """
import os, wsd
publisher = wsd.Publisher()
publisher.publish("forks", "before")
for number in range(3):
    pid = os.fork()
    if pid == 0:
        publisher.publish("forks", f"child {number}")
        publisher.publish("forks", f"child {number} again")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
publisher.publish("forks", "after")
"""


def test_a_publisher_serves_the_children_of_a_fork() -> None:
    with ScriptedServer(STORED) as scripted:
        environ = {**os.environ, "WSD_URL": scripted.url, "WSD_API_KEY": KEY}
        subprocess.run([sys.executable, "-W", "error", "-c", FORKING], env=environ, check=True, timeout=60)
        assert scripted.connections == 4
        published = [json.loads(body)[0]["data"] for body in scripted.bodies]
    children = [f"child {number}{again}" for number in range(3) for again in ("", " again")]
    assert published == ["before", *children, "after"]


def test_a_program_need_not_close_its_publisher(url: str) -> None:
    code = "import wsd; publisher = wsd.Publisher(); publisher.publish('unclosed', 1)"
    environ = {**os.environ, "WSD_URL": url, "WSD_API_KEY": KEY}
    result = subprocess.run([sys.executable, "-X", "dev", "-c", code], env=environ, capture_output=True, check=True)
    assert result.stderr == b""


def test_while_redis_is_away_messages_are_accepted_and_kept(tmp_path: Path) -> None:
    listen = f"127.0.0.1:{unused_port()}"
    with server(tmp_path / "redis", unused_port()) as redis:
        with worker(tmp_path, listen=listen, api_key=KEY, redis_url=redis.url) as serving:
            until(lambda: serving.health()[1]["websocket"]["mode"] == "distributed")
            with Publisher(f"http://{listen}", KEY, retry_for=0) as publisher:
                assert publisher.publish("outage", 1).everywhere
                redis.kill()
                until(lambda: serving.health()[1]["websocket"]["mode"] == "local")
                accepted = publisher.publish("outage", 2)
                assert accepted == PublishResult("outage", everywhere=False, durable=False)
                with pytest.raises(PublishError, match="HTTP 503: the history cannot be read now") as caught:
                    publisher.history("outage")
                assert caught.value.temporary
                redis.start()
                until(lambda: serving.health()[1]["websocket"]["mode"] == "distributed")
                until(lambda: 2 in data_in(publisher, "outage"))


# AsyncPublisher


@pytest.mark.anyio
async def test_tasks_share_an_asynchronous_publisher(url: str) -> None:
    async with AsyncPublisher(url, KEY) as publisher:
        found = await asyncio.gather(*(publisher.publish("tasks", number) for number in range(100)))
        assert len(found) == 100
        assert [each.channel for each in await publisher.publish(["tasks", "other"], 1)] == ["tasks", "other"]
        assert (await publisher.broadcast(1)).channel == "broadcast"
        assert (await publisher.send_to_user("ann", 1)).channel == "direct"
        assert (await publisher.history("tasks")).offset == 101


@pytest.mark.anyio
async def test_an_asynchronous_publisher_raises_the_same_errors(url: str) -> None:
    async with AsyncPublisher(url, "wrong") as publisher:
        with pytest.raises(PublishError, match="WSD_API_KEY"):
            await publisher.publish("a", 1)
    with pytest.raises(PublishError, match=r"cannot be reached .*sent \d+ times"):
        await AsyncPublisher(f"http://127.0.0.1:{unused_port()}", retry_for=0.3).publish("a", 1)


@pytest.mark.anyio
async def test_pauses_of_many_tasks_hold_up_no_other_call(url: str) -> None:
    away = AsyncPublisher(f"http://127.0.0.1:{unused_port()}", KEY)
    waiting = [asyncio.create_task(away.publish("a", number)) for number in range(50)]
    async with AsyncPublisher(url, KEY) as publisher:
        await publisher.publish("meanwhile", 1)
    assert not any(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await eventually(lambda: not [one for one in threading.enumerate() if one.name == "wsd publisher"])


def test_an_asynchronous_publisher_serves_one_event_loop_after_the_other(url: str) -> None:
    publisher = AsyncPublisher(url, KEY)

    async def publish() -> None:
        await asyncio.gather(*(publisher.publish("loops", number) for number in range(30)))

    for _ in range(3):
        asyncio.run(publish())
    with Publisher(url, KEY) as reader:
        assert reader.history("loops").offset == 90


def test_both_publishers_have_the_same_methods() -> None:
    names = {name for name in vars(Publisher) if not name.startswith("_")}
    assert {name for name in vars(AsyncPublisher) if not name.startswith("_")} == names
    for name in (*names - {"close"}, "__init__"):
        assert str(signature(getattr(AsyncPublisher, name))) == str(signature(getattr(Publisher, name))), name
        assert getattr(AsyncPublisher, name).__doc__ == getattr(Publisher, name).__doc__
