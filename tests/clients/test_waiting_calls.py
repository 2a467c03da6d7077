"""Calls that wait: each message arrives once and in order, or its call is rejected once, whatever the hub does."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client_kinds import Story, kinds, new_client, run_at_once, until_without_pauses, usual_kinds
from tests.support.client_programs import KINDS, Program
from tests.support.misbehaving_hub import Limits, MisbehavingHub
from tests.support.misbehaving_hub.faults import (
    CloseAtOnce,
    CloseOn,
    Fault,
    GoAway,
    NeverReply,
    NotDurableYet,
    Refuse,
    die_on,
    of_type,
    saying,
    too_large,
)
from tests.support.waiting import all_clients, until

every_kind = pytest.mark.parametrize("kind", kinds())
chromium_too = pytest.mark.parametrize("kind", kinds("chromium"))

REAL_LIMITS = Limits(200.0, 400.0, 262_144.0, 2_097_152.0, 65_536)
"""The defaults of the real hub."""

REFUSALS = (
    "invalid_request",
    "invalid_channel",
    "invalid_user",
    "channel_full",
    "too_many_channels",
    "forbidden",
    "no_presence",
    "no_receipts",
    "internal_error",
    "too_deep",
    "unknown_type",
    "invalid_json",
    "from_the_future",
    "__proto__",
)
"""Errors with which the hub refuses a request for good."""


def publish_all(ann: Program, hub: MisbehavingHub, total: int, patience: float = 60.0) -> None:
    """Queue messages while the hub is away. Each of them must be stored once, in order, and be acknowledged."""
    hub.close_port()
    ann.connect(hub.url, user_id="ann")
    ann.until_seen("state", name="waiting")
    call = ann.do("publish_many", channel="room", data=list(range(total)))
    if ann.kind != "sync":  # which makes one call after the other
        until(lambda: ann.ask("waiting")["requests"] == total, "all calls")
    hub.open_port()
    until_without_pauses(ann, lambda: ann.seen("settled", call=f"{call}.{total - 1}"), "the last answer", patience)
    calls = [f"{call}.{number}" for number in range(total)]
    places = {each: place for place, each in enumerate(calls)}
    settled = [each for each in ann.seen("settled") if each["call"] in places]
    answers = sorted(settled, key=lambda each: places[each["call"]])
    assert [each["call"] for each in answers] == calls  # each of them once
    assert [each for each in answers if "ok" not in each] == []
    assert hub.stored("room") == list(range(total))
    assert [each["ok"]["offset"] for each in answers] == list(range(1, total + 1))
    assert ann.ask("waiting") == {"requests": 0, "bytes": 0}


def story_of_a_full_queue(announced: bool) -> Callable[[Program], None]:
    def tell(ann: Program) -> None:
        with MisbehavingHub(limits=REAL_LIMITS, announce_limits=announced) as hub:
            publish_all(ann, hub, 1500 if announced else 500)
            assert [each for each in hub.records.ended if not each.by_client] == []  # the hub had to close nothing
            if announced:
                assert hub.records.keys_heard_again == []  # and to refuse nothing

    return tell


def test_1500_messages_that_waited_stay_below_the_limits_of_the_hub(tmp_path: Path) -> None:
    run_at_once([Story(kind, "1500 messages", story_of_a_full_queue(True)) for kind in usual_kinds()], tmp_path)


@all_clients
def test_1500_messages_of_every_kind_stay_below_the_limits_of_the_hub(tmp_path: Path) -> None:
    run_at_once([Story(kind, "1500 messages", story_of_a_full_queue(True)) for kind in KINDS], tmp_path)


@all_clients
def test_a_hub_that_names_no_limits_is_not_flooded(tmp_path: Path) -> None:
    run_at_once([Story(kind, "500 messages", story_of_a_full_queue(False)) for kind in KINDS], tmp_path)


@chromium_too
def test_lost_connections_neither_lose_nor_repeat_nor_reorder_messages(ann: Program) -> None:
    ends: list[Fault] = [
        CloseOn(1006, saying(20), 1),
        CloseOn(1012, saying(60), 1, carried_out=True),
        CloseOn(1006, saying(61), 1, carried_out=True),
        CloseOn(1013, saying(150), 1),
    ]
    with MisbehavingHub({2: [CloseAtOnce(1012)], 3: [GoAway(0.3)]}, always=ends) as hub:
        publish_all(ann, hub, 200)
        assert hub.records.keys_heard_again
        ann.ask("close")
    assert ann.troubles == []


@every_kind
def test_refusals_for_the_moment_neither_lose_nor_repeat_messages(ann: Program) -> None:
    codes = ("rate_limited", "byte_rate_limited", "not_stored", "unavailable")
    refusals: list[Fault] = [Refuse(code, saying(40 * number), 1) for number, code in enumerate(codes)]
    later: list[Fault] = [NotDurableYet(0.3, saying(7)), NotDurableYet(0.1, saying(90))]
    with MisbehavingHub(always=[*refusals, *later]) as hub, new_client(ann, hub.url):
        call = ann.do("publish_many", channel="room", data=list(range(150)))
        answers = [ann.answer(f"{call}.{number}", 60) for number in range(150)]
        assert [each for each in answers if "ok" not in each] == []
        assert sorted(hub.stored("room"), key=repr) == sorted(range(150), key=repr)
        assert ann.states == ["connecting", "open"]
        assert len(hub.records.keys_heard_again) == len(codes)


@every_kind
def test_a_message_is_measured_in_bytes(ann: Program) -> None:
    with MisbehavingHub(limits=Limits(max_message_bytes=1000)) as hub:
        hub.close_port()
        with new_client(ann, hub.url):
            early = ann.do("publish", channel="room", data="ä" * 600)  # 600 characters, and more than 1000 bytes
            hub.open_port()
            ann.until_state("open")
            late = ann.do("publish", channel="room", data="🎉" * 300)
            assert "ok" in ann.answer(ann.do("publish", channel="room", data="ä" * 300))
            assert [ann.answer(call)["code"] for call in (early, late)] == ["too_big", "too_big"]
            assert len(hub.records.requests("publish")) == 1
            assert len(hub.records.accepted) == 1


@every_kind
def test_a_message_that_the_hub_closes_the_connection_for_is_too_big(ann: Program) -> None:
    with MisbehavingHub(always=[too_large(2000)], announce_limits=False) as hub, new_client(ann, hub.url):
        ann.until_state("open")
        calls = [ann.do("publish", channel="room", data=data, beside=True) for data in ("a", "b" * 3000, "c")]
        assert ann.answer(calls[1])["code"] == "too_big"
        assert ["ok" in ann.answer(call) for call in (calls[0], calls[2])] == [True, True]
        assert sorted(hub.stored("room"), key=repr) == ["a", "c"]
        assert [each.code for each in hub.records.ended] == [1009]


@every_kind
def test_calls_beyond_the_bounds_are_rejected_at_once_and_others_can_be_discarded(ann: Program) -> None:
    with MisbehavingHub() as hub:
        hub.close_port()
        with new_client(ann, hub.url, max_waiting=5, max_waiting_bytes=10_000):
            large = ann.do("publish", channel="room", data="x" * 20_000, beside=True)
            assert ann.answer(large)["code"] == "queue_full"
            waiting = [ann.do("publish", channel="room", data=number, beside=True) for number in range(5)]
            until(lambda: ann.ask("waiting")["requests"] == 5)
            beyond = ann.answer(ann.do("presence", channel="room", beside=True))
            assert beyond["code"] == "queue_full"
            assert ann.ask("waiting")["bytes"] > 0
            assert ann.ask("discard_waiting") == {"count": 5}
            assert {ann.answer(call)["code"] for call in waiting} == {"cancelled"}
            assert ann.ask("waiting") == {"requests": 0, "bytes": 0}
            hub.open_port()
            ann.ask("publish", channel="room", data="after")
            assert hub.stored("room") == ["after"]


@every_kind
def test_what_was_sent_is_not_discarded(ann: Program) -> None:
    with MisbehavingHub({1: [NeverReply(of_type("presence"))]}) as hub, new_client(ann, hub.url):
        call = ann.do("presence", channel="room")
        until(lambda: hub.records.requests("presence"))
        assert ann.ask("discard_waiting") == {"count": 0}
        hub.close(1006)
        ann.until_seen("state", name="waiting")
        assert ann.ask("discard_waiting") == {"count": 0}
        assert ann.answer(call)["ok"]["count"] == 0


@every_kind
def test_what_the_hub_refuses_is_rejected_once_and_not_sent_again(ann: Program) -> None:
    refusals = [Refuse(code, saying(code)) for code in REFUSALS]
    other = [Refuse("forbidden", of_type("subscribe", "presence", "history"))]
    with MisbehavingHub(always=[*refusals, *other]) as hub, new_client(ann, hub.url):
        calls = [(code, ann.do("publish", channel="room", data=code, beside=True)) for code in REFUSALS]
        assert [ann.answer(call)["code"] for _, call in calls] == [code for code, _ in calls]
        for request in ("subscribe", "presence", "history"):
            assert ann.answer(ann.do(request, channel="room"))["code"] == "forbidden"
        hub.close(1012)
        ann.until_seen("state", name="waiting")
        ann.ask("publish", channel="room", data="accepted")
        heard = [each["data"] for each in hub.records.requests("publish")]
        assert sorted(heard) == sorted([*REFUSALS, "accepted"])
        requests = [each["type"] for each in hub.records.requests("subscribe", "presence", "history")]
        assert requests == ["subscribe", "presence", "history"]
        assert hub.stored("room") == ["accepted"]


@every_kind
@pytest.mark.parametrize("others", [0, 30])
def test_a_message_that_kills_connections_is_given_up_and_the_others_are_not(ann: Program, others: int) -> None:
    with MisbehavingHub(always=[die_on("poison")]) as hub, new_client(ann, hub.url):
        ann.until_state("open")
        data = [*range(others), "poison", *range(others, 2 * others)]
        calls = [ann.do("publish", channel="room", data=each, beside=True) for each in data]

        until_without_pauses(ann, lambda: ann.seen("settled", call=calls[others]), "the end of the message")
        assert ann.answer(calls[others])["code"] == "unanswered"
        rest = [ann.answer(call) for call in calls if call != calls[others]]
        assert [each for each in rest if "ok" not in each] == []
        assert sorted(hub.stored("room"), key=repr) == sorted(range(2 * others), key=repr)
        if ann.kind != "sync":
            assert hub.stored("room") == list(range(2 * others))
        times = [each["data"] for each in hub.records.requests("publish")].count("poison")
        # The first time it was on its way with others, of which the first one is suspected.
        assert times == 5 if others == 0 else times in {5, 6}


@all_clients
@pytest.mark.parametrize("kind", KINDS)
def test_a_message_that_kills_connections_is_given_up_with_all_pauses(ann: Program) -> None:
    with MisbehavingHub(always=[die_on("poison")]) as hub, new_client(ann, hub.url):
        call = ann.do("publish", channel="room", data="poison")
        assert ann.answer(call)["code"] == "unanswered"
        ann.ask("publish", channel="room", data="well")
        assert hub.stored("room") == ["well"]
