"""Which alerts follow from the problems of a node, with every time given."""

from wsd.supervisor.alerts.ledger import Ledger
from wsd.supervisor.control.problems import Problem

REDIS = Problem("redis", "Redis does not answer")
CRASH = Problem("worker-1", "worker-1 ended: killed by SIGKILL", crashes=1)
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
    failed = Problem("worker-1 failed", "worker-1 is failed", is_urgent=True)
    assert history((3.0, [failed])) == [(3.0, "began", "worker-1 failed", 1)]


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
