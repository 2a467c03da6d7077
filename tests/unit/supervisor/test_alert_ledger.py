"""Which alerts follow from the problems of a node, with every time given."""

from wsd.supervisor.alerts.ledger import Ledger
from wsd.supervisor.control.problems import Problem

REDIS = Problem("redis", "Redis does not answer")
CRASH = Problem("worker-1", "worker-1 ended: killed by SIGKILL", crashes=1)
FAILED = Problem("worker-1", "worker-1 is failed", is_urgent=True)
SLOW = Problem("worker-2", "worker-2 is starting")
DELAY = 10.0


def history(*looks: tuple[float, list[Problem]]) -> list[tuple[float, str, str, int]]:
    """Return when each alert of a new ledger was due, its event, its problem and its count."""
    ledger = Ledger()
    return [
        (now, alert.event, alert.problem, alert.count)
        for now, found in looks
        for alert in ledger.look(found, now, DELAY)
    ]


def test_a_problem_that_lasts_is_announced_once_and_ends_once() -> None:
    looks = [(0.0, [REDIS]), (9.9, [REDIS]), (10.0, [REDIS]), (20.0, [REDIS]), (29.9, []), (30.0, []), (60.0, [])]
    assert history(*looks) == [(10.0, "began", "redis", 1), (30.0, "ended", "redis", 1)]


def test_a_blip_is_not_announced_and_does_not_count_for_the_next() -> None:
    assert history((0.0, [REDIS]), (5.0, []), (6.0, [REDIS]), (15.0, [REDIS]), (16.0, [])) == []


def test_a_crash_is_announced_at_once_and_repeated_crashes_are_one_alert() -> None:
    looks = [(0.0, [CRASH]), (1.0, []), (5.0, [CRASH]), (12.0, [CRASH]), (21.9, []), (22.0, [])]
    assert history(*looks) == [(0.0, "began", "worker-1", 1), (22.0, "ended", "worker-1", 3)]


def test_a_process_that_is_given_up_is_announced_at_once() -> None:
    assert history((3.0, [FAILED])) == [(3.0, "began", "worker-1", 1)]


def test_a_process_that_crashes_and_is_given_up_is_one_problem_until_it_serves() -> None:
    looks = [(0.0, [CRASH]), (1.0, [FAILED]), (100.0, [FAILED]), (101.0, []), (110.0, [])]
    assert history(*looks) == [(0.0, "began", "worker-1", 1), (110.0, "ended", "worker-1", 1)]


def test_what_is_unknown_neither_ends_nor_begins() -> None:
    ledger = Ledger()
    ledger.look([CRASH], 0.0, DELAY)
    assert ledger.look([], 50.0, DELAY, unknown={"worker-1", "worker-2"}) == []
    assert ledger.look([SLOW], 100.0, DELAY, unknown={"worker-1", "worker-2"}) == []
    assert ledger.look([], 109.9, DELAY) == []
    assert [alert.event for alert in ledger.look([], 110.0, DELAY)] == ["ended"]


def test_a_problem_that_was_unknown_for_a_time_must_last_anew() -> None:
    ledger = Ledger()
    ledger.look([SLOW], 0.0, DELAY)
    ledger.look([SLOW], 9.0, DELAY, unknown={"worker-2"})
    assert ledger.look([SLOW], 20.0, DELAY) == []
    assert [alert.event for alert in ledger.look([SLOW], 30.0, DELAY)] == ["began"]


def test_a_crash_is_certain_while_its_process_is_unknown() -> None:
    [alert] = Ledger().look([CRASH], 0.0, DELAY, unknown={"worker-1"})
    assert alert.event == "began"


def test_the_next_ledger_announces_no_open_problem_again_and_ends_it() -> None:
    first = Ledger()
    first.look([REDIS, CRASH], 0.0, DELAY)
    first.look([REDIS], 10.0, DELAY)
    second = Ledger([each for each in first.open if each.problem == "redis"], now=20.0)
    assert second.look([REDIS], 21.0, DELAY) == []
    [end] = second.look([], 31.0, DELAY)
    assert (end.event, end.problem, end.seconds) == ("ended", "redis", 21.0)
    assert second.open == []


def test_a_stop_ends_every_open_problem_once_and_says_why() -> None:
    ledger = Ledger()
    ledger.look([REDIS, CRASH], 0.0, DELAY)
    [end] = ledger.close(5.0)
    assert (end.event, end.problem, end.seconds) == ("ended", "worker-1", 5.0)
    assert end.text == "the cluster was stopped: worker-1 ended: killed by SIGKILL"
    assert ledger.close(6.0) == []


def test_a_short_absence_does_not_end_a_problem() -> None:
    looks = [(0.0, [REDIS]), (10.0, [REDIS]), (15.0, []), (16.0, [REDIS]), (25.9, []), (26.0, [])]
    assert [(now, event) for now, event, *_ in history(*looks)] == [(10.0, "began"), (26.0, "ended")]


def test_a_crash_during_a_problem_of_the_same_process_counts_without_a_second_begin() -> None:
    starting = Problem("worker-1", "worker-1 is starting")
    looks = [(0.0, [starting, CRASH]), (1.0, [starting, CRASH]), (11.0, [])]
    assert history(*looks) == [(0.0, "began", "worker-1", 1), (11.0, "ended", "worker-1", 2)]


def test_the_end_says_how_long_the_problem_lasted() -> None:
    ledger = Ledger()
    ledger.look([REDIS], 0.0, DELAY)
    ledger.look([REDIS], 12.0, DELAY)
    [end] = ledger.look([], 22.0, DELAY)
    assert (end.seconds, end.text) == (12.0, "over: Redis does not answer")
