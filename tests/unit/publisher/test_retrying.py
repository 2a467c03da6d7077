"""When a publisher sends a request again."""

import pytest

from wsd.publisher.retrying import Attempts, check_times


def pauses(attempts: Attempts, now: float, chance: float, count: int) -> list[float | None]:
    found = []
    for _ in range(count):
        pause = attempts.pause(now, 0.0, chance)
        found.append(pause)
        now += pause or 0.0
    return found


def test_the_longest_pause_doubles_up_to_a_limit() -> None:
    assert pauses(Attempts(100.0, 50.0), 50.0, 1.0, 7) == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0])


def test_a_pause_is_a_random_part_of_the_longest() -> None:
    assert pauses(Attempts(100.0, 0.0), 0.0, 0.5, 3) == pytest.approx([0.1, 0.2, 0.4])
    assert pauses(Attempts(100.0, 0.0), 0.0, 0.0, 3) == [0.0, 0.0, 0.0]


def test_the_last_attempt_begins_when_the_time_is_over() -> None:
    assert pauses(Attempts(1.0, 10.0), 10.0, 1.0, 4) == pytest.approx([0.2, 0.4, 0.4, None])


def test_what_the_server_asks_for_is_waited_in_addition() -> None:
    attempts = Attempts(30.0, 0.0)
    assert attempts.pause(1.0, 3.0, 0.5) == pytest.approx(3.1)
    assert attempts.pause(10.0, 19.9, 1.0) == pytest.approx(20.0)
    assert attempts.pause(10.0, 20.1, 1.0) is None


def test_without_time_there_is_no_second_attempt() -> None:
    assert Attempts(0.0, 5.0).pause(5.0, 0.0, 0.0) is None


def test_nothing_is_sent_again_that_the_cluster_could_have_forgotten() -> None:
    attempts = Attempts(100.0, 0.0)
    assert [attempts.may_send(now) for now in (50.0, 51.0, 169.9, 170.0)] == [True, True, True, False]


def test_thousands_of_failures_are_no_fault() -> None:
    attempts = Attempts(100.0, 0.0)
    assert [attempts.pause(0.0, 0.0, 1.0) for _ in range(3000)][-1] == 5.0


def test_an_error_says_how_often_the_request_was_sent() -> None:
    attempts = Attempts(10.0, 100.0)
    attempts.pause(100.0, 0.0, 0.0)
    assert attempts.summary(101.0) == ""
    attempts.pause(101.0, 0.0, 0.0)
    assert attempts.summary(107.4) == " (sent 2 times in 7 s)"


@pytest.mark.parametrize(("timeout", "retry_for"), [(10.0, 110.0), (119.9, 0.0), (0.01, 0.0), (1, 119)])
def test_times_with_which_nothing_is_published_twice(timeout: float, retry_for: float) -> None:
    check_times(timeout, retry_for)


@pytest.mark.parametrize(
    ("timeout", "retry_for", "problem"),
    [
        (10.0, 110.1, "retry_for must be from 0 to 110 s with a timeout of 10 s, got 110.1: the cluster remembers"),
        (10.0, -1.0, "retry_for must be from 0 to 110 s"),
        (10.0, float("nan"), "retry_for must be from 0 to 110 s"),
        (0.0, 1.0, "timeout must be above 0 and below 120 s, got 0.0"),
        (120.0, 0.0, "timeout must be above 0 and below 120 s, got 120.0"),
        (float("inf"), 0.0, "timeout must be"),
    ],
)
def test_other_times_are_refused_with_one_line(timeout: float, retry_for: float, problem: str) -> None:
    with pytest.raises(ValueError, match="^" + problem.replace(".", r"\.")) as caught:
        check_times(timeout, retry_for)
    assert "\n" not in str(caught.value)
