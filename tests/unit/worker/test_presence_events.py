from wsd.worker.channels.presence_events import GONE_AFTER_SECONDS, Absences


def test_a_worker_has_gone_once_it_was_missing_for_long_enough() -> None:
    absences = Absences()
    assert absences.gone(frozenset("abc"), 0) == []
    assert absences.gone(frozenset("ab"), 1) == []
    assert absences.gone(frozenset("abc"), 2) == []  # it was only slow
    assert absences.gone(frozenset("a"), 10) == []
    assert absences.gone(frozenset("a"), 10 + GONE_AFTER_SECONDS) in (["b", "c"], ["c", "b"])
    assert absences.gone(frozenset("a"), 100) == []
