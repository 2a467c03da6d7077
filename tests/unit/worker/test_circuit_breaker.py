from wsd.worker.broker.circuit_breaker import BreakerPolicy, BreakerState, CircuitBreaker

POLICY = BreakerPolicy(failures=3, pause=5.0, successes=2)


def opened(policy: BreakerPolicy = POLICY, at: float = 100.0) -> CircuitBreaker:
    breaker = CircuitBreaker(policy)
    for _ in range(policy.failures):
        breaker.failed(at, "no answer")
    return breaker


def test_a_breaker_opens_after_failures_in_a_row() -> None:
    breaker = CircuitBreaker(POLICY)
    assert breaker.failed(1, "a") is False
    assert breaker.failed(2, "b") is False
    assert breaker.succeeded() is False
    assert breaker.failed(3, "c") is False
    assert breaker.failed(4, "d") is False
    assert breaker.closed
    assert breaker.failed(5, "e") is True
    assert (breaker.state, breaker.reason, breaker.opened) == (BreakerState.OPEN, "e", 1)


def test_one_failure_is_enough_by_default() -> None:
    breaker = CircuitBreaker(BreakerPolicy())
    assert breaker.failed(1, "gone") is True
    assert breaker.state is BreakerState.OPEN


def test_open_means_not_to_try_until_the_pause_is_over() -> None:
    breaker = opened(at=100)
    assert breaker.wait(101) == 4
    assert breaker.try_again(104.9) is False
    assert breaker.wait(105) == 0
    assert breaker.try_again(105) is True
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.wait(105) == 0


def test_half_open_closes_after_successes_in_a_row() -> None:
    breaker = opened(at=100)
    breaker.try_again(105)
    assert breaker.succeeded() is False
    assert breaker.state is BreakerState.HALF_OPEN
    assert breaker.succeeded() is True
    assert (breaker.state, breaker.reason) == (BreakerState.CLOSED, "")


def test_a_failure_while_half_open_opens_it_at_once_and_is_not_a_new_outage() -> None:
    breaker = opened(at=100)
    breaker.try_again(105)
    breaker.succeeded()
    assert breaker.failed(106, "again") is False
    assert (breaker.state, breaker.reason, breaker.opened) == (BreakerState.OPEN, "again", 1)
    assert breaker.wait(106) == 5
    breaker.try_again(111)
    assert breaker.succeeded() is False, "it begins to count anew"


def test_a_late_success_does_not_close_an_open_breaker() -> None:
    breaker = opened(at=100)
    assert breaker.succeeded() is False
    assert breaker.state is BreakerState.OPEN


def test_a_failure_while_open_begins_the_pause_anew() -> None:
    breaker = opened(at=100)
    assert breaker.failed(103, "still") is False
    assert breaker.wait(103) == 5
    assert breaker.opened == 1


def test_a_closed_breaker_counts_failures_from_the_start() -> None:
    breaker = opened(at=100)
    breaker.try_again(105)
    breaker.succeeded()
    breaker.succeeded()
    assert breaker.failed(106, "one") is False
    assert breaker.closed
