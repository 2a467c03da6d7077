"""Membership: a client is in the channels that its application named last, over all connections."""

import string

import pytest

from tests.support.client_kinds import kinds, new_client
from tests.support.client_programs import Program
from tests.support.misbehaving_hub import MisbehavingHub
from tests.support.misbehaving_hub.faults import (
    CloseOn,
    Fault,
    ForgetSession,
    NeverReply,
    Refuse,
    RefuseResubscription,
    SayTwice,
    Unrecovered,
    in_channel,
)
from tests.support.waiting import until

every_kind = pytest.mark.parametrize("kind", kinds())

NAMES = [
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "then",
    "length",
    "0",
    "-1",
    ".",
    "//",
    "#",
    "a" * 255,
    "@:-_./#" * 36,
    string.ascii_letters + string.digits + "_.:@/#-",
]
"""Legal names of channels, most of which mean something elsewhere."""


def come_back(ann: Program, hub: MisbehavingHub) -> None:
    """Let the connection end, and the client come back at once."""
    number = len(hub.records.accepted)
    ends = len(ann.seen("state", name="waiting"))
    hub.close(1006)
    until(lambda: len(ann.seen("state", name="waiting")) > ends, "the end of the connection")
    if ann.seen("state", name="waiting")[-1]["retry_in"] > 0.5:
        ann.ask("reconnect")  # otherwise it might end an attempt that has begun already
    until(lambda: hub.connections and len(hub.records.accepted) > number, "the next connection")
    ann.until_state("open")


@every_kind
def test_all_names_of_channels_are_alike(ann: Program) -> None:
    with MisbehavingHub() as hub, new_client(ann, hub.url):
        for name in NAMES:
            ann.ask("subscribe", channel=name)
        ann.ask("unsubscribe", channel=NAMES[0])
        ann.ask("subscribe", channel=NAMES[0])
        for round_number in range(2):
            for name in NAMES:
                hub.publish(name, round_number)
            come_back(ann, hub)
        for name in NAMES:
            hub.publish(name, 2)
        until(lambda: all(ann.heard(name) == [0, 1, 2] for name in NAMES), "all messages once")
        assert ann.seen("gap") == []


@every_kind
def test_names_that_no_channel_can_have_are_refused(ann: Program) -> None:
    with MisbehavingHub() as hub, new_client(ann, hub.url):
        ann.until_state("open")
        for name in ("broadcast", "direct"):
            for what in ("subscribe", "unsubscribe"):
                assert ann.answer(ann.do(what, channel=name))["code"] == "invalid_channel"
        assert hub.records.requests() == []


@every_kind
def test_a_channel_that_was_left_stays_left(ann: Program) -> None:
    with MisbehavingHub({2: [NeverReply(in_channel("unanswered", "unsubscribe"), None)]}) as hub:
        with new_client(ann, hub.url):
            for name in ("kept", "left", "left while away", "unanswered"):
                ann.ask("subscribe", channel=name.replace(" ", "-"))
            ann.ask("unsubscribe", channel="left")
            hub.close_port()
            hub.close(1006)
            ann.until_seen("state", name="waiting")
            leaving = ann.do("unsubscribe", channel="left-while-away")
            hub.publish("left-while-away", "no")
            hub.open_port()
            assert "ok" in ann.answer(leaving)
            unanswered = ann.do("unsubscribe", channel="unanswered", timeout=0.5)
            assert ann.answer(unanswered)["code"] == "timeout"
            hub.publish("unanswered", "no")
            come_back(ann, hub)
            for _ in range(2):
                for name in ("left", "left-while-away", "unanswered", "kept"):
                    hub.publish(name, name)
                come_back(ann, hub)
            until(lambda: ann.heard("kept") == ["kept", "kept"])
            assert [ann.heard(name) for name in ("left", "left-while-away", "unanswered")] == [[], [], []]
            assert hub.peers[hub.connections[0]].channels == {"kept"}


@every_kind
def test_a_subscription_that_failed_never_was(ann: Program) -> None:
    faults: list[Fault] = [
        Refuse("channel_full", in_channel("full"), 1),
        NeverReply(in_channel("silent", "subscribe"), 1, carried_out=True),
    ]
    with MisbehavingHub(always=faults) as hub, new_client(ann, hub.url):
        assert ann.answer(ann.do("subscribe", channel="full"))["code"] == "channel_full"
        assert ann.answer(ann.do("subscribe", channel="silent", timeout=0.5))["code"] == "timeout"
        until(lambda: hub.records.requests("unsubscribe"), "the end of a membership that nobody wants")
        come_back(ann, hub)
        hub.publish("full", 1)
        hub.publish("silent", 1)
        ann.ask("publish", channel="room", data=1)
        assert hub.peers[hub.connections[0]].channels == set()
        assert (ann.heard("full"), ann.heard("silent")) == ([], [])


@every_kind
def test_a_refused_resubscription_is_told_and_not_tried_again(ann: Program) -> None:
    with MisbehavingHub({2: [ForgetSession(), RefuseResubscription("room")]}) as hub, new_client(ann, hub.url):
        ann.ask("subscribe", channel="room")
        ann.ask("subscribe", channel="other")
        come_back(ann, hub)
        left = ann.until_seen("left")
        assert (left["channel"], left["code"]) == ("room", "forbidden")
        come_back(ann, hub)
        hub.publish("room", 1)
        hub.publish("other", 2)
        until(lambda: ann.heard("other") == [2])
        assert ann.heard("room") == []
        assert [each["channel"] for each in hub.records.requests("subscribe", number=3)] == []
        ann.ask("subscribe", channel="room")
        hub.publish("room", 3)
        until(lambda: ann.heard("room") == [3])
        assert len(ann.seen("left")) == 1


@every_kind
def test_a_guest_keeps_its_name_and_its_session(ann: Program) -> None:
    with MisbehavingHub({3: [ForgetSession()]}, always=[CloseOn(1006, in_channel("room"), 1, carried_out=True)]) as hub:
        with new_client(ann, hub.url, user_id=""):
            assert ann.ask("publish", channel="room", data="once")["offset"] == 1
            come_back(ann, hub)
            come_back(ann, hub)
            first, *later = [each.query for each in hub.records.handshakes]
            assert "user_id" not in first or not first["user_id"]
            assert [each["user_id"] for each in later] == ["guest-1"] * 3
            assert hub.stored("room") == ["once"]  # though it was sent twice
            assert hub.memory.stored[0]["from"]["user_id"] == "guest-1"


@every_kind
def test_gaps_are_told_and_copies_are_not(ann: Program) -> None:
    faults: dict[int, list[Fault]] = {2: [Unrecovered("trimmed-room")], 3: [SayTwice()]}
    with MisbehavingHub(faults) as hub, new_client(ann, hub.url):
        ann.ask("subscribe", channel="trimmed-room")
        ann.ask("subscribe", channel="room")
        for name in ("trimmed-room", "room"):
            hub.publish(name, 1)
        until(lambda: ann.heard("trimmed-room") == ann.heard("room") == [1])
        hub.close_port()
        hub.close(1006)
        for name in ("trimmed-room", "room"):
            hub.publish(name, 2)
        hub.open_port()
        gap = ann.until_seen("gap")
        assert (gap["channel"], gap["reason"]) == ("trimmed-room", "trimmed")
        come_back(ann, hub)
        hub.publish("room", 3)
        hub.publish("trimmed-room", 3)
        until(lambda: (ann.heard("room"), ann.heard("trimmed-room")) == ([1, 2, 3], [1, 3]))
        hub.lose_histories()
        come_back(ann, hub)
        until(lambda: len(ann.seen("gap", reason="epoch_changed")) == 4)
        assert {each["channel"] for each in ann.seen("gap")} == {"room", "trimmed-room", "broadcast", "direct"}
        assert len(ann.seen("gap")) == 5
