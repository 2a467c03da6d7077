"""The limit for wrong tokens, and the events about them."""

import pytest

from wsd.supervisor.control.guesses import ALL, OF_ALL, OF_ONE_ADDRESS, Burst, GuessLimit


def guess(limit: GuessLimit, address: str, now: float) -> bool:
    """Make a wrong guess, if the limit allows it."""
    if limit.wait(address, now) > 0:
        return False
    limit.wrong(address, now)
    return True


def test_one_address_has_a_burst_and_then_its_rate() -> None:
    limit = GuessLimit()
    guesses = [guess(limit, "192.0.2.1", 0.0) for _ in range(20)]
    assert sum(guesses) == OF_ONE_ADDRESS.burst
    assert limit.wait("192.0.2.1", 0.0) == OF_ONE_ADDRESS.seconds
    assert limit.wait("192.0.2.1", 4.0) == OF_ONE_ADDRESS.seconds - 4
    assert limit.wait("192.0.2.2", 0.0) == 0.0  # another one is not locked out
    an_hour = [guess(limit, "192.0.2.1", float(at)) for at in range(1, 3601)]
    assert sum(an_hour) == pytest.approx(3600 / OF_ONE_ADDRESS.seconds, abs=1)


def test_all_together_have_a_limit_and_the_table_has_one() -> None:
    limit = GuessLimit()
    guessed = sum(guess(limit, f"198.51.{number // 256}.{number % 256}", 0.0) for number in range(10_000))
    assert guessed == OF_ALL.burst
    assert len(limit) <= OF_ALL.burst + 1
    for at in range(1, 1000):
        guess(limit, f"203.0.{at // 256}.{at % 256}", float(at))
        assert len(limit) < 2 * OF_ALL.burst


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("", "nonsense", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_addresses_of_one_network_share_a_limit(one: str, other: str, together: bool) -> None:
    limit = GuessLimit()
    while guess(limit, one, 0.0):
        pass
    assert (limit.wait(other, 0.0) > 0) is together


def test_a_burst_of_wrong_guesses_is_reported_once() -> None:
    limit = GuessLimit()
    reported = [limit.wrong("192.0.2.1", 0.0) for _ in range(OF_ONE_ADDRESS.burst)]
    assert reported == [[("192.0.2.1", Burst.BEGINS)], [], [], [], [("192.0.2.1", Burst.LIMITED)]]
    assert limit.wrong("192.0.2.1", OF_ONE_ADDRESS.seconds) == []
    forgotten = OF_ONE_ADDRESS.seconds * (OF_ONE_ADDRESS.burst + 2)
    assert limit.wrong("192.0.2.1", forgotten) == [("192.0.2.1", Burst.BEGINS)]


def test_the_limit_over_all_addresses_is_reported_once() -> None:
    limit = GuessLimit()
    reported = [what for number in range(OF_ALL.burst) for what in limit.wrong(f"192.0.2.{number}", 0.0)]
    assert reported.count((ALL, Burst.LIMITED)) == 1
