"""Deadlines of the clients: whatever the server or the network keeps back, each wait ends when docs/clients.md says.

A story is what one client goes through. All stories are told at the same time, because they wait nearly all the time.
"""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.client_kinds import Story, run_at_once, usual_kinds
from tests.support.client_programs import KINDS, Program
from tests.support.misbehaving_hub import MisbehavingHub
from tests.support.misbehaving_hub.faults import (
    Answer,
    CloseAtOnce,
    Fault,
    NeverAnswer,
    NeverReply,
    NeverWelcome,
    ResetAtOnce,
    of_type,
)
from tests.support.network import Network
from tests.support.tcp_proxy import Way
from tests.support.waiting import all_clients, long_run, until

Tell = Callable[[Program], None]

LATE = 4.0
"""How much later than it should an event may be noticed, on a machine that has much else to do."""


def is_after(seconds: float, began: float, ended: float) -> bool:
    return seconds - 0.2 <= ended - began <= seconds + LATE


def handshake_is_never_answered(ann: Program) -> None:
    with MisbehavingHub({1: [NeverAnswer()]}) as hub:
        ann.connect(hub.url, user_id="ann")
        call = ann.do("publish", channel="room", data=1)
        waiting = ann.until_seen("state", name="waiting")
        assert is_after(15, ann.seen("state", name="connecting")[0]["at"], waiting["at"])
        assert "handshake in time" in waiting["reason"]
        assert "ok" in ann.answer(call)


def welcome_never_comes(ann: Program) -> None:
    with MisbehavingHub({1: [NeverWelcome()]}) as hub:
        ann.connect(hub.url, user_id="ann")
        waiting = ann.until_seen("state", name="waiting", patience=60)
        assert is_after(30, ann.seen("state", name="connecting")[0]["at"], waiting["at"])
        assert "no welcome" in waiting["reason"]
        ann.until_state("open")


def token_never_comes(ann: Program) -> None:
    with MisbehavingHub() as hub:
        ann.connect(hub.url, tokens=["never", "second"])
        waiting = ann.until_seen("state", name="waiting", patience=60)
        assert is_after(30, ann.seen("state", name="connecting")[0]["at"], waiting["at"])
        assert waiting["reason"].startswith("no token")
        ann.until_state("open")
        assert [each.token for each in hub.records.handshakes] == ["second"]


def one_request_is_never_answered(ann: Program) -> None:
    with MisbehavingHub(always=[NeverReply(of_type("presence"), None)]) as hub:
        ann.connect(hub.url, user_id="ann")
        ann.until_state("open")
        began = time.time()
        call = ann.do("presence", channel="room", timeout=2)
        unsent = ann.do("presence", channel="room", timeout=0)
        answer = ann.answer(call)
        assert (answer["code"], is_after(2, began, answer["at"])) == ("timeout", True)
        assert "may have been carried out" in answer["text"]
        assert ann.answer(unsent)["code"] == "timeout"
        assert "ok" in ann.answer(ann.do("publish", channel="room", data=1))  # others are not held up
        assert ann.states == ["connecting", "open"]


def calls_expire_in_each_state(ann: Program) -> None:
    with MisbehavingHub() as hub, Network(hub.port) as network:
        network.go_offline()
        ann.connect(network.url, user_id="ann")
        for state in ("waiting", "connecting"):
            if state == "connecting":
                network.go_online()
                network.go_deaf(new_ones_too=True)
                ann.ask("reconnect")
                until(lambda: network.open_links)
            began = time.time()
            answer = ann.answer(ann.do("publish", channel="room", data=state, timeout=1))
            assert (answer["code"], is_after(1, began, answer["at"])) == ("timeout", True)
            assert "never sent" in answer["text"]
        network.heal()
        ann.until_state("open")
        assert hub.stored("room") == []
        assert ann.ask("waiting") == {"requests": 0, "bytes": 0}


def half_open_with_short_pings(ann: Program) -> None:
    half_open(ann, ping_interval=1, call=False, expected=16)


def half_open_without_a_call(ann: Program) -> None:
    half_open(ann, ping_interval=30, call=False, expected=45)


def half_open_with_a_call(ann: Program) -> None:
    half_open(ann, ping_interval=30, call=True, expected=25)


def half_open(ann: Program, *, ping_interval: float, call: bool, expected: float) -> None:
    with MisbehavingHub() as hub, Network(hub.port) as network:
        ann.connect(network.url, user_id="ann", ping_interval=ping_interval)
        ann.ask("subscribe", channel="room")
        network.go_deaf()
        began = time.time()
        calls = [ann.do("publish", channel="room", data="said")] if call else []
        hub.publish("room", "missed")
        waiting = ann.until_seen("state", name="waiting", patience=expected + LATE + 5)
        # The last word came a moment before the network went deaf.
        assert expected - 1.5 <= waiting["at"] - began <= expected + LATE
        assert waiting["reason"] == "the server does not answer"
        assert all("ok" in ann.answer(each) for each in calls)
        until(lambda: ann.heard("room") == ["missed", "said"][: 1 + len(calls)], "what was missed")


def half_open_downwards_only(ann: Program) -> None:
    """The hub hears the client, and the client hears nothing."""
    with MisbehavingHub() as hub, Network(hub.port) as network:
        ann.connect(network.url, user_id="ann", ping_interval=1)
        ann.until_state("open")
        network.mute(Way.DOWN)
        call = ann.do("publish", channel="room", data="once")
        assert is_after(16, time.time(), ann.until_seen("state", name="waiting")["at"])
        assert ann.answer(call)["ok"]["offset"] == 1
        assert hub.stored("room") == ["once"]  # though it was sent twice
        assert len(hub.records.keys_heard_again) == 1


def resume_is_held_for_12_seconds(ann: Program) -> None:
    with MisbehavingHub() as hub, Network(hub.port) as network:
        ann.connect(network.url, user_id="ann")
        ann.ask("subscribe", channel="room")
        network.hold_after_handshake(2, 12.0)
        network.cut()
        hub.publish("room", "missed")
        late = until(lambda: ann.seen("state", name="waiting", code=4408), "the hub's end", 40)[0]
        assert is_after(10, ann.seen("state", name="connecting")[1]["at"], late["at"])
        ann.until_state("open")
        until(lambda: ann.heard("room") == ["missed"])


def reconnects(ann: Program, hub: MisbehavingHub, *faults: Fault) -> None:
    """Reconnect to a hub with other faults, which is asked for a handshake at once."""
    hub.always[:] = faults
    before = len(hub.records.handshakes)
    ann.ask("reconnect")
    until(lambda: len(hub.records.handshakes) > before, "the next handshake", LATE)


def hangs_in_each_state_and_reconnects(ann: Program) -> None:
    with MisbehavingHub(always=[NeverAnswer()]) as hub:
        ann.connect(hub.url, user_id="ann")
        call = ann.do("publish", channel="room", data="patient")
        until(lambda: hub.records.handshakes)
        reconnects(ann, hub, NeverWelcome())  # in the handshake
        reconnects(ann, hub)  # before the welcome
        assert "ok" in ann.answer(call)
        reconnects(ann, hub, NeverAnswer())  # while it is open
        reconnects(ann, hub)
        ann.until_state("open")
        hub.close_port()
        hub.close(1006)
        until(lambda: ann.states[-1] == "waiting")
        hub.open_port()
        reconnects(ann, hub)  # while it waits
        ann.until_state("open")
        ann.ask("close")
        refused = ann.answer(ann.do("reconnect"))
        assert refused["code"] == "closed"


def hot_loop_of(*faults: Fault) -> Tell:
    """Return a story of a server that lets the client in, and ends each connection at once."""

    def tell(ann: Program) -> None:
        with MisbehavingHub(always=faults) as hub:
            ann.connect(hub.url, user_id="ann")
            time.sleep(10)
            # The pauses are random: 0.25, 0.5, 1, 2, 4 and 8 seconds on average. A busy Node has told nothing
            # of a reset before its request. Then only the deadline of the handshake ends the attempt.
            assert 1 <= len(hub.records.accepted) <= 16
            failures = [each["failures"] for each in ann.seen("state", name="waiting")]
            assert failures == list(range(1, len(failures) + 1))

    return tell


SHORT: dict[str, Tell] = {
    "the handshake is never answered": handshake_is_never_answered,
    "one request is never answered": one_request_is_never_answered,
    "calls expire without a connection": calls_expire_in_each_state,
    "half-open, with short pings": half_open_with_short_pings,
    "reconnect() in each state": hangs_in_each_state_and_reconnects,
    "a hot loop of connections that are closed": hot_loop_of(CloseAtOnce(1012)),
}
"""Stories of up to 20 seconds."""

LONG: dict[str, Tell] = {
    "the welcome never comes": welcome_never_comes,
    "the token never comes": token_never_comes,
    "half-open, without a call": half_open_without_a_call,
    "half-open, with a call": half_open_with_a_call,
    "half-open, only downwards": half_open_downwards_only,
    "`resume` is held for 12 s": resume_is_held_for_12_seconds,
    **{f"a hot loop of closes with {code}": hot_loop_of(CloseAtOnce(code)) for code in (1000, 1013, 4408, 4429)},
    "a hot loop of resets after the accept": hot_loop_of(ResetAtOnce()),
    "a hot loop of resets after the welcome": hot_loop_of(CloseAtOnce(1006)),
    "a hot loop of resets in place of the welcome": hot_loop_of(CloseAtOnce(1006, welcome=False)),
    "a hot loop of HTTP 503": hot_loop_of(Answer(503)),
}


@long_run
def test_each_wait_of_the_usual_clients_ends_in_time(tmp_path: Path) -> None:
    run_at_once([Story(kind, name, tell) for kind in usual_kinds() for name, tell in SHORT.items()], tmp_path)


@all_clients
@pytest.mark.parametrize("kind", KINDS)
def test_each_wait_ends_in_time(kind: str, tmp_path: Path) -> None:
    run_at_once([Story(kind, name, tell) for name, tell in {**SHORT, **LONG}.items()], tmp_path)
