"""The programs with a client: each kind takes the same commands and reports the same events."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsd.client
from tests.support.client_programs import KINDS, PageProgram, Program, client_program
from tests.support.misbehaving_hub import MisbehavingHub
from tests.support.misbehaving_hub.faults import CloseAtOnce, Refuse, of_type
from tests.support.network import Network
from tests.support.waiting import all_clients, until

pytestmark = all_clients


@pytest.fixture(params=KINDS)
def ann(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Program]:
    if request.param == "sync" and not hasattr(wsd.client, "SyncWsdClient"):
        pytest.skip("there is no SyncWsdClient")
    with client_program(request.param, tmp_path) as program:
        yield program


def test_each_kind_takes_all_commands(ann: Program) -> None:
    with MisbehavingHub() as hub:
        ann.connect(hub.url, user_id="ann", username="Ann", request_timeout=20, query={"extra": "1"})
        ann.until_state("open")
        assert hub.records.handshakes[0].query == {"user_id": "ann", "username": "Ann", "extra": "1"}
        hub.publish("room", 0)
        subscribed = ann.ask("subscribe", channel="room", last=1)
        assert (subscribed["offset"], subscribed["recovered"], subscribed["count"]) == (1, True, 1)
        assert ann.ask("publish", channel="room", data={"text": "häß"}) == {"offset": 2, "epoch": subscribed["epoch"]}
        many = ann.do("publish_many", channel="room", data=list(range(50)))
        assert [ann.answer(f"{many}.{n}")["ok"]["offset"] for n in range(50)] == list(range(3, 53))
        until(lambda: ann.heard("room") == [0, {"text": "häß"}, *range(50)], "all messages in their order")
        assert ann.ask("broadcast", data="all")["offset"] == 1
        assert ann.ask("direct", user_id="ann", data="mine")["offset"] == 1
        until(lambda: (ann.heard("broadcast"), ann.heard("direct")) == (["all"], ["mine"]), "both messages")
        presence = ann.ask("presence", channel="room")
        assert (presence["count"], presence["members"][0]["username"]) == (1, "Ann")
        history = ann.ask("history", channel="room", since=0, limit=2, reverse=True)
        assert [message["data"] for message in history["messages"]] == [49, 48]
        assert ann.ask("waiting") == {"requests": 0, "bytes": 0}
        assert ann.ask("discard_waiting") == {"count": 0}
        assert ann.ask("memory")["bytes"] > 0
        assert ann.ask("unsubscribe", channel="room") == {}
        ann.ask("reconnect")
        until(lambda: len(hub.records.handshakes) == 2 and hub.connections, "the second connection")
        ann.until_state("open")
        ann.ask("close")
        ann.until_state("closed")
        until(lambda: hub.records.ended[-1].by_client, "the end of the second connection")
        assert ann.troubles == []


def test_errors_gaps_and_ends_are_reported(ann: Program) -> None:
    with MisbehavingHub(always=[Refuse("forbidden", of_type("publish"))]) as hub:
        ann.connect(hub.url, tokens=["one", "two"])
        ann.until_state("open")
        assert [each["token"] for each in ann.seen("token_asked")] == ["one"]
        assert ann.answer(ann.do("publish", channel="room", data=1))["code"] == "forbidden"
        ann.ask("subscribe", channel="room")
        hub.publish("room", 1)
        until(lambda: ann.heard("room") == [1])
        hub.lose_histories()
        hub.close(1012, reason="restart")
        gap = ann.until_seen("gap", channel="room")
        assert gap["reason"] == "epoch_changed"
        (waiting,) = ann.seen("state", name="waiting")
        assert (waiting["code"], waiting["failures"]) == (1012, waiting["failures"])
        assert 0 <= waiting["retry_in"] < 20
        assert abs(waiting["at"] - time.time()) < 60
        assert [each.token for each in hub.records.handshakes] == ["one", "two"]
        hub.always.insert(0, CloseAtOnce(4500))
        hub.close(4500)
        ended = ann.until_state("closed")
        assert ended["code"] == 4500
        hub.always.pop(0)
        ann.ask("reconnect")
        ann.until_state("open")
        hub.publish("room", 2)
        until(lambda: ann.heard("room") == [1, 2], "messages after the way back")


def test_a_client_stands_still_and_goes_on(ann: Program) -> None:
    with MisbehavingHub() as hub:
        ann.connect(hub.url, user_id="ann")
        ann.ask("subscribe", channel="room")
        ann.stop()
        if isinstance(ann, PageProgram):
            assert ann.devtools("Runtime.evaluate", expression="1")  # the page itself can still be asked
        else:
            hub.publish("room", "while it stands still")
            time.sleep(0.3)
            assert ann.heard("room") == []
        ann.go_on()
        hub.publish("room", "after")
        until(lambda: ann.heard("room")[-1:] == ["after"], "a message after the pause")


def test_a_client_comes_back_through_a_network_that_was_gone(ann: Program) -> None:
    with MisbehavingHub() as hub, Network(hub.port) as network:
        ann.connect(network.url, user_id="ann")
        ann.ask("subscribe", channel="room")
        network.go_offline()
        ann.until_state("waiting")
        hub.publish("room", "missed")
        call = ann.do("publish", channel="room", data="said meanwhile")
        network.go_online()
        assert ann.answer(call)["ok"]["offset"] == 2
        until(lambda: ann.heard("room") == ["missed", "said meanwhile"], "what was missed")


def test_a_page_is_told_that_it_is_offline(tmp_path: Path) -> None:
    with client_program("chromium", tmp_path) as page, MisbehavingHub() as hub:
        assert isinstance(page, PageProgram)
        page.connect(hub.url, user_id="ann")
        page.until_state("open")
        page.set_offline(True)
        assert page.devtools("Runtime.evaluate", expression="navigator.onLine")["result"]["value"] is False
        page.set_offline(False)
        assert page.devtools("Runtime.evaluate", expression="navigator.onLine")["result"]["value"] is True
        page.ask("publish", channel="room", data=1)
