"""The roster of live workers, and when a missing heartbeat means that a worker is dead."""

from wsd.worker.backend.roster import Roster


def seen(roster: Roster, now: float, *found: str, was_known: bool = True) -> None:
    roster.seen(frozenset(found), now, was_known=was_known)


def running(*found: str) -> Roster:
    """Return the roster of a worker that has sent heartbeats for a while, the last of them at 110."""
    roster = Roster(interval=1.0, grace=5.0)
    for second in range(100, 111):
        seen(roster, second, *found, was_known=second > 100)
    return roster


def test_a_worker_that_has_just_begun_knows_the_others_but_judges_none() -> None:
    roster = Roster(interval=1.0, grace=5.0)
    assert not roster.judges(100)
    seen(roster, 100, "a", "b", was_known=False)
    assert roster.live == {"a", "b"}
    assert not roster.judges(104.9)
    assert roster.judges(105)


def test_a_worker_without_heartbeats_is_gone_at_once_for_an_uninterrupted_one() -> None:
    roster = running("a", "b")
    seen(roster, 111, "a")
    assert roster.live == {"a"}
    assert roster.judges(111)


def test_the_first_heartbeat_after_a_pause_removes_no_other_worker() -> None:
    roster = running("a", "b", "c")
    seen(roster, 120, "a")
    assert roster.live == {"a", "b", "c"}
    assert not roster.judges(120)
    seen(roster, 121, "a", "b", "d")
    assert roster.live == {"a", "b", "c", "d"}


def test_a_client_that_did_not_come_back_within_the_grace_period_is_gone() -> None:
    roster = running("a", "b", "c")
    for second in range(120, 126):
        seen(roster, second, "a", "b")
    assert roster.live == {"a", "b"}
    assert roster.judges(125)


def test_a_redis_that_forgot_our_beat_forgot_those_of_others_too() -> None:
    roster = running("a", "b")
    seen(roster, 111, "a", was_known=False)
    assert roster.live == {"a", "b"}
    assert not roster.judges(111)


def test_a_slightly_late_heartbeat_is_no_interruption() -> None:
    roster = running("a", "b")
    seen(roster, 111.9, "a")
    assert roster.live == {"a"}
