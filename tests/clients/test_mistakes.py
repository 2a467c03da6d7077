"""Mistakes of the application: they are told to it, and change nothing in a client."""

import time
from typing import Any

import pytest

from tests.support.client_kinds import kinds, new_client
from tests.support.client_programs import Program
from tests.support.misbehaving_hub import MisbehavingHub
from tests.support.misbehaving_hub.faults import (
    ForgetSession,
    NeverAnswer,
    NeverReply,
    NotDurableYet,
    Refuse,
    RefuseResubscription,
    of_type,
    saying,
)
from tests.support.network import Network
from tests.support.waiting import until

Message = dict[str, Any]

every_kind = pytest.mark.parametrize("kind", kinds())

CALLS: dict[str, Message] = {
    "subscribe": {"channel": "room"},
    "unsubscribe": {"channel": "room"},
    "publish": {"channel": "room", "data": 1},
    "broadcast": {"data": 1},
    "direct": {"user_id": "ann", "data": 1},
    "presence": {"channel": "room"},
    "history": {"channel": "room"},
    "delivered": {"channel": "room", "user_id": "ann", "position": {"offset": 1, "epoch": "e"}},
}
"""Every call that has an answer, with arguments that are right."""

NO_CHANNELS: list[object] = [5, {}, []]

WRONG_ARGUMENTS: list[tuple[str, Message]] = [
    *((what, {"channel": channel}) for what in CALLS if "channel" in CALLS[what] for channel in NO_CHANNELS),
    *((what, {"timeout": timeout}) for what in ("publish", "subscribe") for timeout in ("soon", [1], -1)),
    *(("subscribe", {"last": last}) for last in (-1, 1.5, "all")),
]
"""Calls with an argument that is wrong."""


@every_kind
@pytest.mark.parametrize("how", ["throws", "rejects"])
def test_callbacks_that_fail_change_nothing(ann: Program, how: str) -> None:
    if (how, ann.kind) == ("rejects", "sync"):
        pytest.skip("it refuses coroutine functions")
    with MisbehavingHub({2: [ForgetSession(), RefuseResubscription("refused")]}) as hub:
        ann.connect(hub.url, user_id="ann", careless=how)
        ann.ask("subscribe", channel="room")
        ann.ask("subscribe", channel="refused")
        for number in range(5):
            hub.publish("room", number)
        hub.close(1006)
        ann.until_seen("left", channel="refused")
        hub.publish("room", 5)
        until(lambda: ann.heard("room") == list(range(6)), "all messages")
        assert ann.ask("publish", channel="room", data=6)["offset"] == 7
        ann.ask("close")
        ann.until_seen("state", name="closed")
        states = [name for name in ann.states if name != "waiting"]
        assert states == ["connecting", "open", "connecting", "open", "closed"]
        ann.until_seen("error")
    assert ann.seen("uncaught") == []


@every_kind
def test_callbacks_may_publish(ann: Program) -> None:
    with MisbehavingHub() as hub, new_client(ann, hub.url, echo={"questions": "answers"}):
        for name in ("questions", "answers"):
            ann.ask("subscribe", channel=name)
        for number in range(50):
            hub.publish("questions", number)
            if number == 25:
                hub.close(1006)
        until(lambda: len(ann.heard("answers")) == 50, "all answers")
        assert hub.stored("answers") == ann.heard("answers") == list(range(50))


@every_kind
def test_data_that_cannot_be_encoded_is_refused_at_once(ann: Program) -> None:
    with MisbehavingHub() as hub:
        hub.close_port()
        with new_client(ann, hub.url):
            codes = ann.ask("publish_unencodable", channel="room")["codes"]
            assert codes == ["not_encodable"] * len(codes) != []
            assert ann.ask("waiting")["requests"] == 0
            hub.open_port()
            ann.ask("publish", channel="room", data="encodable")
            assert hub.stored("room") == ["encodable"]


@every_kind
def test_data_that_change_after_the_call_are_sent_as_they_were(ann: Program) -> None:
    if ann.kind == "sync":
        pytest.skip("its calls return after the message was stored")
    with MisbehavingHub() as hub:
        hub.close_port()
        with new_client(ann, hub.url):
            call = ann.do("publish_changed", channel="room")
            until(lambda: ann.ask("waiting")["requests"] == 1)
            hub.open_port()
            assert "ok" in ann.answer(call)
            assert hub.stored("room") == [{"n": 1, "list": [1]}]


@every_kind
def test_wrong_arguments_are_rejected_and_change_nothing(ann: Program) -> None:
    with MisbehavingHub() as hub, new_client(ann, hub.url):
        ann.until_state("open")
        for what, wrong in WRONG_ARGUMENTS:
            rejected = ann.answer(ann.do(what, **{**CALLS[what], **wrong}))
            assert "ok" not in rejected, (what, wrong)
        assert hub.records.requests() == []
        assert ann.ask("waiting") == {"requests": 0, "bytes": 0}
        for what, right in CALLS.items():
            ann.ask(what, **right)
        assert ann.states == ["connecting", "open"]


@every_kind
def test_numbers_that_cannot_be_are_refused_by_the_constructor(ann: Program) -> None:
    for option in ({"ping_interval": 0}, {"max_waiting": 0}, {"max_waiting_bytes": -1}, {"request_timeout": -1}):
        assert "ok" not in ann.answer(ann.do("connect", url="ws://127.0.0.1:9/ws", options=option)), option
    assert ann.states == []


@every_kind
def test_calls_after_the_end_are_rejected(ann: Program) -> None:
    with MisbehavingHub() as hub:
        for ended_by_hub in (True, False):
            ann.events.clear()
            ann.connect(hub.url, user_id="ann")
            ann.until_state("open")
            if ended_by_hub:
                hub.close(4500)
            else:
                ann.ask("close")
            ann.until_state("closed")
            for what, fields in CALLS.items():
                assert ann.answer(ann.do(what, **fields))["code"] == "closed", what
            handshakes = len(hub.records.handshakes)
            if not ended_by_hub:
                assert ann.answer(ann.do("reconnect"))["code"] == "closed"
            ann.ask("close")
            ann.ask("close")
            assert len(hub.records.handshakes) == handshakes


@every_kind
def test_a_close_ends_all_calls_in_each_state(ann: Program) -> None:
    for fault in (NeverAnswer(), NeverReply(of_type("presence"), None), None):
        with MisbehavingHub({1: [fault]} if fault else {}) as hub:
            if fault is None:
                hub.close_port()
            ann.events.clear()
            ann.connect(hub.url, user_id="ann")
            if fault is None:
                ann.until_seen("state", name="waiting")
            else:
                until(lambda: hub.records.handshakes)
            calls = [ann.do("presence", channel="room", beside=True) for _ in range(3)]
            until(lambda: ann.ask("waiting")["requests"] == 3)
            began = time.monotonic()
            ann.ask("close")
            assert [ann.answer(call)["code"] for call in calls] == ["closed"] * 3
            ann.until_state("closed")
            assert time.monotonic() - began < 5
    assert ann.troubles == []


@every_kind
def test_calls_in_odd_orders_end_as_the_last_one_says(ann: Program) -> None:
    with MisbehavingHub() as hub, new_client(ann, hub.url):
        for _ in range(3):
            ann.ask("reconnect")
        ann.ask("mark_read", channel="unknown")
        calls = [ann.do("unsubscribe", channel="never-joined")]
        join, leave = "subscribe", "unsubscribe"
        calls += [ann.do(what, channel="in") for what in (join, leave, join, join, leave, leave, join)]
        calls += [ann.do(what, channel="out") for what in (join, leave, join, leave)]
        assert [each for each in map(ann.answer, calls) if "ok" not in each] == []
        for name in ("in", "out"):
            hub.publish(name, 1)
        until(lambda: ann.heard("in") == [1])
        assert ann.heard("out") == []
        until(lambda: hub.connections and hub.peers[hub.connections[0]].channels == {"in"})


@every_kind
def test_a_cancelled_call_is_forgotten_in_each_state(ann: Program) -> None:
    if ann.kind == "sync":
        pytest.skip("its calls block, and have a timeout")
    silent = NeverReply(saying("on its way"), None)
    held = Refuse("unavailable", saying("held"))
    with MisbehavingHub(always=[silent, held, NotDurableYet(60, saying("accepted"))]) as hub:
        hub.close_port()
        with new_client(ann, hub.url):
            first = ann.do("publish", channel="room", data="without a connection", cancellable=True)
            joining = ann.do("subscribe", channel="unwanted", cancellable=True)
            until(lambda: ann.ask("waiting")["requests"] == 2)
            for call in (first, joining):
                cancel(ann, call)
            hub.open_port()
            ann.until_state("open")
            for number, data in enumerate(("on its way", "accepted", "held"), 1):
                call = ann.do("publish", channel="room", data=data, cancellable=True)
                until(lambda: len(hub.records.requests("publish")) >= number)  # noqa: B023 - called at once
                cancel(ann, call)
            hub.close(1006)
            ann.until_seen("state", name="waiting", code=1006)
            ann.ask("publish", channel="room", data="the next one")
            heard = [each["data"] for each in hub.records.requests("publish")]
            assert heard.count("without a connection") == 0
            assert [heard.count(data) for data in ("on its way", "accepted", "the next one")] == [1, 1, 1]
            assert hub.records.requests("subscribe") == []


def cancel(ann: Program, call: int) -> None:
    ann.ask("cancel", target=call)
    assert ann.answer(call)["code"] == "cancelled"


@every_kind
def test_a_token_function_that_fails_is_asked_again(ann: Program) -> None:
    with MisbehavingHub() as hub, Network(hub.port) as network:
        with new_client(ann, network.url, tokens=[None, None, "third"]):
            call = ann.do("publish", channel="room", data=1)
            assert "ok" in ann.answer(call)
            reasons = [each["reason"] for each in ann.seen("state", name="waiting")]
            assert reasons == ["no token: no token today"] * 2
            assert [each.token for each in hub.records.handshakes] == ["third"]


@every_kind
def test_a_token_that_cannot_be_sent_ends_the_client(ann: Program) -> None:
    with MisbehavingHub() as hub:
        ann.connect(hub.url, tokens=["has a space"])
        ended = ann.until_state("closed")
        assert "token" in ended["reason"]
        assert "has a space" not in ended["reason"]
        assert ann.answer(ann.do("publish", channel="room", data=1))["code"] == "closed"
        assert hub.records.accepted == []
