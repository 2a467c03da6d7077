"""Ends of connections: a client of each kind does what docs/clients.md says, and tells its application."""

import pytest

from tests.support.client_kinds import JAVASCRIPT, PYTHON, kinds, new_client, stays, until_without_pauses
from tests.support.client_programs import Event, Program
from tests.support.misbehaving_hub import MisbehavingHub
from tests.support.misbehaving_hub.faults import (
    GARBAGE,
    RAW_GARBAGE,
    Answer,
    CloseAtOnce,
    Fault,
    GoAway,
    NeverAnswer,
    NeverReply,
    ResetAtOnce,
    Say,
    SayRaw,
    captive_portal,
    of_type,
    redirect,
    too_many,
)
from tests.support.network import Network
from tests.support.waiting import until

every_kind = pytest.mark.parametrize("kind", kinds())
chromium_too = pytest.mark.parametrize("kind", kinds("chromium"))

FAILED_ATTEMPTS: dict[str, Fault] = {
    "reset after the accept": ResetAtOnce(),
    "reset after the handshake": CloseAtOnce(1006, welcome=False),
    "restart before the welcome": CloseAtOnce(1012, welcome=False),
    "port closed": GoAway(0.3, welcome=False),
    "HTTP 200 with a page": captive_portal(),
    "HTTP 408": Answer(408),
    "HTTP 429": too_many("0"),
    "HTTP 500": Answer(500),
    "HTTP 502": Answer(502),
    "HTTP 503": Answer(503, {"Retry-After": "soon"}),
}
"""What an attempt can come to, so that another attempt may do better."""

COME_BACK = (1000, 1001, 1011, 1012, 1013, 3000, 4408, 4429)
FOR_GOOD = (1008, 4500, 4999)
PERMANENT_STATUSES = (400, 401, 403, 404, 405, 410, 426)


@chromium_too
def test_an_attempt_that_failed_is_told_and_tried_again(ann: Program) -> None:
    for name, fault in FAILED_ATTEMPTS.items():
        with MisbehavingHub({1: [fault]}) as hub, new_client(ann, hub.url):
            call = ann.do("publish", channel="room", data=name)
            assert "ok" in ann.answer(call), name
            waiting = ann.seen("state", name="waiting")
            assert ann.states[:4] == ["connecting", "waiting", "connecting", "waiting" if waiting[1:] else "open"], name
            assert waiting[0]["reason"], name
            assert (waiting[0]["failures"], 0 <= waiting[0]["retry_in"] <= 0.5) == (1, True), name
            assert waiting[0]["status"] == (fault.status if isinstance(fault, Answer) and is_python(ann) else None)
            assert hub.stored("room") == [name]


def is_python(ann: Program) -> bool:
    return ann.kind in PYTHON


def end_number(ann: Program, number: int) -> Event:
    """Wait until connections have ended so often, counted from 0, and return what the client said of that end."""
    until(lambda: len(ann.seen("state", name="waiting")) > number, f"the end number {number}")
    return ann.seen("state", name="waiting")[number]


def until_heard(ann: Program, channel: str, data: object, what: str) -> None:
    """Wait until this is the latest message of a channel."""
    until_without_pauses(ann, lambda: ann.heard(channel)[-1:] == [data], what)


@every_kind
def test_a_server_that_is_not_there_or_hangs_up_is_tried_until_it_is(ann: Program) -> None:
    with MisbehavingHub({1: [NeverAnswer()]}) as hub:
        with new_client(ann, hub.url):
            until(lambda: hub.records.handshakes)
            hub.close(1006)  # in the handshake
            assert ann.until_seen("state", name="waiting")["code"] == 1006
            ann.until_state("open")
        hub.close_port()
        with new_client(ann, hub.url):
            until(lambda: len(ann.seen("state", name="waiting")) >= 2, "two attempts")
            assert [each["failures"] for each in ann.seen("state", name="waiting")][:2] == [1, 2]
            hub.open_port()
            ann.until_state("open")


@every_kind
def test_a_host_that_is_not_found_is_told(ann: Program) -> None:
    with new_client(ann, "ws://no-such-host.invalid/ws"):
        waiting = ann.until_seen("state", name="waiting")
        assert (waiting["code"], bool(waiting["reason"])) == (1006, True)
        if is_python(ann):
            assert waiting["reason"].startswith("the host no-such-host.invalid was not found")


@every_kind
def test_no_client_follows_a_redirect(ann: Program) -> None:
    with MisbehavingHub() as other, MisbehavingHub({1: [redirect(other.url.replace("ws:", "http:"))]}) as hub:
        with new_client(ann, hub.url, token="secret"):
            ann.until_state("open")
        assert other.records.accepted == []
        assert [each.token for each in hub.records.handshakes] == ["secret", "secret"]


@every_kind
def test_the_time_of_retry_after_is_waited_where_it_can_be_known(ann: Program) -> None:
    for status in (429, 503):
        with MisbehavingHub({1: [Answer(status, {"Retry-After": "1"})]}) as hub, new_client(ann, hub.url):
            retry_in = ann.until_seen("state", name="waiting")["retry_in"]
            assert 1 <= retry_in <= 1.5 if is_python(ann) else 0 <= retry_in <= 0.5
            ann.until_state("open")
            assert abs(hub.records.pauses[0] - retry_in) < 1


@every_kind
def test_a_refusal_for_good_ends_a_client_that_was_never_welcomed(ann: Program) -> None:
    for status in PERMANENT_STATUSES:
        with MisbehavingHub({1: [Answer(status)]}) as hub, new_client(ann, hub.url):
            call = ann.do("publish", channel="room", data=1)
            if is_python(ann):
                ended = ann.until_state("closed")
                assert (ended["status"], str(status) in ended["reason"]) == (status, True)
                assert ann.answer(call)["code"] == "closed"
                assert ann.answer(ann.do("presence", channel="room"))["code"] == "closed"
                ann.ask("reconnect")
            else:
                assert "ok" in ann.answer(call)  # nobody tells a client in JavaScript why the handshake has failed
            ann.until_state("open")


@every_kind
def test_a_refusal_for_good_does_not_end_a_client_that_was_welcomed(ann: Program) -> None:
    with MisbehavingHub({2: [Answer(401)], 3: [Answer(404)]}) as hub, new_client(ann, hub.url):
        ann.until_state("open")
        hub.close(1012)
        until(lambda: len(hub.records.handshakes) == 4 and hub.connections, "the connection after the refusals")
        end_number(ann, 2)
        ann.until_state("open")
        refusals = [each["status"] for each in ann.seen("state", name="waiting")]
        assert refusals == ([None, 401, 404] if is_python(ann) else [None, None, None])


@chromium_too
def test_a_client_comes_back_after_most_ends_and_misses_nothing(ann: Program) -> None:
    with MisbehavingHub() as hub, Network(hub.port) as network, new_client(ann, network.url):
        ann.ask("subscribe", channel="room")
        for number, code in enumerate((*COME_BACK, 1006, 1006)):
            if number == len(COME_BACK):
                network.cut()  # a reset between the client and the hub
            else:
                hub.close(code, reason=f"because of {code}" if code != 1006 else "")
            waiting = end_number(ann, number)
            assert waiting["code"] == code
            assert waiting["reason"] == (f"because of {code}" if code != 1006 else waiting["reason"]) != ""
            hub.publish("room", code)
            ann.ask("reconnect")  # which does not wait, however many failures there were
            ann.until_state("open")
        until(lambda: ann.heard("room") == [*COME_BACK, 1006, 1006], "all that was missed")
        assert ann.seen("gap") == []
        assert len(hub.records.requests("resume")) >= len(COME_BACK) + 2


@every_kind
def test_a_refusal_with_a_close_code_ends_a_client_until_it_reconnects(ann: Program) -> None:
    for code in FOR_GOOD:
        with MisbehavingHub(always=[NeverReply(of_type("presence"), None)]) as hub, new_client(ann, hub.url):
            ann.until_state("open")
            call = ann.do("presence", channel="room")
            until(lambda: hub.records.requests("presence"))
            hub.close(code, reason="no entry")
            ended = ann.until_state("closed")
            assert (ended["code"], ended["reason"], ended["retry_in"]) == (code, "no entry", None)
            assert ann.answer(call)["code"] == "closed"
            late = ann.answer(ann.do("publish", channel="room", data=1))
            assert (late["code"], "no entry" in late["text"]) == ("closed", True)
            assert len(hub.records.handshakes) == 1
            ann.ask("reconnect")
            ann.until_state("open")
            assert hub.records.handshakes[-1].number == 2
            ann.ask("publish", channel="room", data="back")


@every_kind
def test_an_expired_token_is_replaced_or_ends_the_client(ann: Program) -> None:
    with MisbehavingHub({2: [CloseAtOnce(4401, welcome=False)]}) as hub:
        with new_client(ann, hub.url, tokens=["one", "two", "three"]):
            ann.ask("subscribe", channel="room")
            hub.close(4401)
            until(lambda: len(hub.records.handshakes) == 3 and hub.connections, "the third token")
            assert [each.token for each in hub.records.handshakes] == ["one", "two", "three"]
            hub.publish("room", "still a member")
            until(lambda: ann.heard("room") == ["still a member"])
        with new_client(ann, hub.url, token="fixed"):
            ann.until_state("open")
            hub.close(4401)
            assert ann.until_state("closed")["code"] == 4401
            assert ann.answer(ann.do("publish", channel="room", data=1))["code"] == "closed"
            assert len(hub.records.handshakes) == 4
            ann.ask("reconnect")
            ann.until_state("open")


@every_kind
def test_a_client_that_was_idle_waits_for_the_next_call(ann: Program) -> None:
    with MisbehavingHub() as hub, new_client(ann, hub.url):
        ann.ask("subscribe", channel="room")
        hub.close(4000)
        waiting = ann.until_state("waiting")
        assert (waiting["code"], waiting["retry_in"], waiting["failures"]) == (4000, None, 0)
        hub.publish("room", "meanwhile")
        assert stays(lambda: len(hub.records.accepted) == 1, 0.8)
        ann.ask("publish", channel="room", data="something to say")
        until(lambda: ann.heard("room") == ["meanwhile", "something to say"])
        assert len(hub.records.accepted) == 2


# What is no message


ODD = {
    "an array in an array, and so on": "[" * 100_000,
    "an object in an object, and so on": '{"type":"message","channel":"room","data":' + '{"a":' * 50_000,
    "a number of many digits": '{"type":"ack","id":' + "9" * 5000 + "}",
    "a number that is none": '{"type":"message","channel":"odd","data":NaN}',
    "an infinite offset": '{"type":"position","channel":"room","offset":1e999,"epoch":"e0"}',
    "half a surrogate": '{"type":"message","channel":"odd\\ud800","data":"\\udc00"}',
    "a negative offset": {"type": "position", "channel": "odd", "offset": -5, "epoch": "x"},
    "a message with an object as its channel": {"type": "message", "channel": {}, "data": 1},
    "a message in __proto__": {"type": "message", "channel": "__proto__", "data": 1, "uid": "constructor"},
    "a subscription to __proto__": {"type": "subscribed", "channel": "__proto__", "offset": 1, "epoch": "x"},
    "a welcome with odd channels": {"type": "welcome", "channels": {"__proto__": 1, "room": []}, "limits": []},
    "a gap without a channel": {"type": "gap"},
    "an error with an odd code": {"type": "error", "id": 1, "code": {"a": 1}, "message": ["b"]},
    "an ack for a text": {"type": "ack", "id": "1"},
    "an ack for true": {"type": "ack", "id": True},
    "a presence_changed without lists": {"type": "presence_changed", "channel": "room"},
}
"""More of what no hub sends, for both clients."""

BAD_WELCOMES: tuple[str | bytes | dict[str, object], ...] = (
    {"type": "welcome"},
    {"type": "welcome", "channels": []},
    "welcome",
    {"type": "gap", "channel": "room"},
    b"\x00",
)
"""What may come in the place of a welcome."""


@chromium_too
def test_garbage_never_stops_a_client(ann: Program) -> None:
    with MisbehavingHub() as hub, new_client(ann, hub.url):
        ann.ask("subscribe", channel="room")
        for number, (name, item) in enumerate({**GARBAGE, **ODD}.items()):
            hub.send(item)  # type: ignore[arg-type]
            hub.publish("room", number)
            until_heard(ann, "room", number, f"a message after {name}")
        assert [each for each in ann.heard("room") if isinstance(each, int)] == list(range(len(GARBAGE) + len(ODD)))
        assert ann.ask("publish", channel="room", data="still here")["offset"] == len(GARBAGE) + len(ODD) + 1


@every_kind
def test_broken_frames_end_a_connection_and_no_client(ann: Program) -> None:
    for name, data in RAW_GARBAGE.items():
        with MisbehavingHub({1: [SayRaw(data)]}) as hub, new_client(ann, hub.url):
            if name.startswith("half"):
                until(lambda: hub.connections)
                hub.close(1006)
            assert ann.until_seen("state", name="waiting")["reason"], name
            ann.ask("publish", channel="room", data=name)
            ann.until_state("open")


@every_kind
def test_no_welcome_is_an_end(ann: Program) -> None:
    for item in BAD_WELCOMES:
        with MisbehavingHub({1: [Say((item,), before_welcome=True)]}) as hub, new_client(ann, hub.url):
            ann.ask("publish", channel="room", data=1)
            ann.until_state("open")


def test_all_kinds_are_tried() -> None:
    assert {*JAVASCRIPT, *PYTHON} == {getattr(kind, "values", [kind])[0] for kind in kinds()}
