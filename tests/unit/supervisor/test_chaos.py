"""The schedule and the verdict of `wsd chaos`, without a cluster."""

from collections import Counter
from typing import Any

import msgspec
import pytest

from wsd.client.channels import uids_of
from wsd.supervisor.chaos.faults import (
    CALM_SECONDS,
    NODE_FAULTS,
    REDIS_FAULTS,
    Fault,
    parse_faults,
    pick,
    plan,
    possible,
)
from wsd.supervisor.chaos.run import rotated
from wsd.supervisor.chaos.verdict import ChaosVerdict, Ledger, Survey, discrepancies
from wsd.supervisor.control.status import ClusterStatus, ProcessStatus, RedisStatus
from wsd.supervisor.errors import ConfigError


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert plan(7, 60, list(Fault)) == plan(7, 60, list(Fault)[::-1])
    assert plan(7, 60, list(Fault)) != plan(8, 60, list(Fault))


def test_faults_leave_a_beginning_and_an_end_alone() -> None:
    times = [planned.at for planned in plan(1, 600, list(Fault))]
    assert times == sorted(times)
    assert times[0] == CALM_SECONDS
    assert times[-1] < 600 - CALM_SECONDS
    assert 600 / 4.5 - 5 < len(times) < 600 / 1.5


def test_every_fault_comes_in_ten_minutes_and_no_other_than_asked() -> None:
    assert {planned.fault for planned in plan(1, 600, list(Fault))} == set(Fault)
    assert {planned.fault for planned in plan(1, 600, [Fault.CLIENT_DROP])} == {Fault.CLIENT_DROP}
    assert plan(1, 600, []) == []


def test_every_fault_comes_once_before_any_comes_again() -> None:
    kinds = [planned.fault for planned in plan(3, 600, list(Fault))]
    rounds = [kinds[first : first + len(Fault)] for first in range(0, len(kinds), len(Fault))]
    assert all(set(each) == set(Fault) for each in rounds[:-1])
    assert len(set(rounds[-1])) == len(rounds[-1])


STATUS = ClusterStatus(
    state="healthy",
    problems=[],
    node_id="a",
    url="",
    websocket_url="",
    state_dir="",
    supervisor=ProcessStatus(name="supervisor", state="running"),
    workers=[],
    nginx=ProcessStatus(name="nginx", state="ready"),
    valkey=None,
    redis=RedisStatus(url="redis://r", embedded=False, reachable=True),
)


def test_all_faults_are_those_that_this_cluster_can_be_given() -> None:
    without_valkey = set(Fault) - {Fault.VALKEY_KILL, Fault.VALKEY_FREEZE}
    assert possible(frozenset(Fault), STATUS, nodes=2, redis_faults=True) == without_valkey
    one_node = possible(frozenset(Fault), STATUS, nodes=1, redis_faults=True)
    assert one_node == without_valkey - NODE_FAULTS
    assert possible(frozenset(Fault), STATUS, nodes=1, redis_faults=False) == one_node - REDIS_FAULTS


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault.VALKEY_KILL, "no process of its own for valkey-kill"),
        (Fault.NODE_KILL, "node-kill needs --nodes"),
        (Fault.REDIS_KILL, r"redis-kill needs a redis.url with redis\+sentinel://"),
    ],
)
def test_a_named_fault_that_is_not_possible_is_refused(fault: Fault, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        possible(frozenset({fault}), STATUS, nodes=1, redis_faults=False)


def test_clients_begin_on_all_nodes() -> None:
    assert [rotated(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_sessions_may_be_on_workers_of_other_nodes() -> None:
    seen = Survey(
        state="healthy",
        named={},
        recorded={},
        expected_workers={"worker-1": "w1"},
        answering_workers={"worker-1": "w1"},
        sessions={"ann": ("w9",)},
    )
    assert discrepancies(seen) == ["ann is connected once, but its sessions name w9"]
    assert discrepancies(seen, ["w9"]) == []


def test_faults_are_chosen_by_name() -> None:
    assert parse_faults("worker-kill, client-drop") == {Fault.WORKER_KILL, Fault.CLIENT_DROP}
    with pytest.raises(ConfigError, match='there is no fault "meteor", choose from worker-kill, '):
        parse_faults("worker-kill,meteor")


def test_each_can_be_chosen() -> None:
    assert [pick("abc", which) for which in (0.0, 0.34, 0.67, 1.0)] == ["a", "b", "c", "c"]


def verdict(ledger: Ledger) -> ChaosVerdict:
    return ledger.verdict(1, 60, Counter({"worker-kill": 2}))


def filled() -> Ledger:
    """Three messages that both subscribers got."""
    ledger = Ledger(["s1", "s2"])
    for number in (1, 2, 3):
        ledger.published += 1
        ledger.ack("p", number, 0.01 * number, number)
        for subscriber in ("s1", "s2"):
            ledger.deliver(subscriber, "p", number)
    return ledger


def test_all_once_and_in_order_passes() -> None:
    made = verdict(filled())
    assert made.passed
    assert (made.acked, made.expected, made.delivered) == (3, 6, 6)
    assert (made.lost, made.duplicated, made.out_of_order, made.holes) == (0, 0, 0, 0)
    assert made.faults == {"worker-kill": 2}


def test_an_acked_message_that_did_not_arrive_is_lost() -> None:
    ledger = filled()
    ledger.ack("p", 5, 0.01, 12.5)
    ledger.ack("p", 4, 0.01, 11.0)
    ledger.deliver("s1", "p", 4)
    made = verdict(ledger)
    assert made.lost == 3
    assert not made.passed
    assert made.lost_messages == [
        "number 4 of p, acked at 11.0 s, did not reach s2",
        "number 5 of p, acked at 12.5 s, did not reach 2 of 2 subscribers",
    ]


def test_a_message_without_an_ack_may_arrive_or_not() -> None:
    ledger = filled()
    ledger.published += 1
    ledger.deliver("s1", "p", 4)
    assert verdict(ledger).passed


def test_a_message_that_arrives_twice_is_a_duplicate() -> None:
    ledger = filled()
    ledger.deliver("s1", "p", 2)
    made = verdict(ledger)
    assert made.duplicated == 1
    assert made.out_of_order == 0
    assert not made.passed


def test_the_order_is_that_of_each_publisher() -> None:
    ledger = filled()
    for publisher, number in (("p", 5), ("q", 1), ("p", 4)):
        ledger.deliver("s1", publisher, number)
    made = verdict(ledger)
    assert made.out_of_order == 1
    assert not made.passed


def test_an_unreported_gap_fails_the_run_and_a_reported_one_is_counted() -> None:
    ledger = filled()
    ledger.told = 3
    assert verdict(ledger).passed
    ledger.holes = 1
    assert not verdict(ledger).passed


def test_a_run_without_an_acked_message_fails() -> None:
    assert not verdict(Ledger(["s1"])).passed


def test_percentiles_of_times_in_the_order_in_which_they_came() -> None:
    ledger = Ledger(["s1"])
    for number in range(100, 0, -1):
        ledger.ack("p", number, float(number), 0.0)
        ledger.recoveries.append(number / 10)
    made = verdict(ledger)
    assert (made.ack_p50, made.ack_p99) == (50, 99)
    assert (made.recovery_p50, made.recovery_p99) == (5, 9.9)


def test_a_fault_that_could_not_be_carried_out_and_a_broken_cluster_fail() -> None:
    faults = Counter({"upgrade": 1})
    assert not filled().verdict(1, 60, faults, ["upgrade: the supervisor does not answer"]).passed
    assert not filled().verdict(1, 60, faults, [], ["the cluster is degraded"]).passed
    assert filled().verdict(1, 60, faults, [], []).passed


WHOLE = Survey(
    state="healthy",
    named={11: "worker-1", 12: "nginx"},
    recorded={11: False, 12: False, 13: True},  # 13 drains
    others={13: "python -m wsd.worker"},
    expected_workers={"worker-1": "worker-1-aa"},
    answering_workers={"worker-1": "worker-1-aa"},
    sessions={"ann": ("worker-1-aa",)},
)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"state": "degraded", "problems": ("nginx is backoff",)}, ["the cluster is degraded: nginx is backoff"]),
        ({"state": "starting"}, ["the cluster is starting: no reason given"]),
        (
            {"recorded": {11: False}, "others": {}},
            ["nginx (pid 12) is in the status, but is no living process in state.json"],
        ),
        (
            {"recorded": {11: False, 12: False, 14: False}, "others": {}},
            ["pid 14 is in state.json, but not in the status"],
        ),
        (
            {"others": {15: "python -m wsd.worker"}},
            ["pid 15 belongs to the cluster, but is in neither the status nor state.json: python -m wsd.worker"],
        ),
        ({"answering_workers": {}}, ["no worker answers on the socket of worker-1, instead of worker-1-aa"]),
        (
            {"answering_workers": {"worker-1": "worker-1-bb"}},
            ["worker-1-bb answers on the socket of worker-1, instead of worker-1-aa"],
        ),
        ({"sessions": {"ann": ()}}, ["ann is connected once, but its sessions name no worker"]),
        ({"sessions": {"ann": ("worker-1-bb",)}}, ["ann is connected once, but its sessions name worker-1-bb"]),
        (
            {"sessions": {"ann": ("worker-1-aa", "worker-1-bb")}},
            ["ann is connected once, but its sessions name worker-1-aa, worker-1-bb"],
        ),
    ],
)
def test_discrepancies_between_status_and_the_machine_are_found(change: dict[str, Any], expected: list[str]) -> None:
    assert discrepancies(msgspec.structs.replace(WHOLE, **change)) == expected


def test_uids_of_a_message_in_minutes_beside_each_other_are_one_message() -> None:
    name = "0123456789abcdef" * 2
    assert set(uids_of(f"{name}-1c0")) == {f"{name}-1bf", f"{name}-1c0", f"{name}-1c1"}
    assert uids_of("8cabc15713-1") == ("8cabc15713-1",)  # the next number is the next message
