import random

from wsd.worker.broker.deduplication import MAX_ORIGINS, WINDOW, SeenMessages


def test_each_is_new_once() -> None:
    seen = SeenMessages()
    assert [seen.add(b"a", number) for number in (1, 2, 2, 1, 3)] == [True, True, False, False, True]


def test_workers_count_by_themselves() -> None:
    seen = SeenMessages()
    assert [seen.add(origin, 1) for origin in (b"a", b"b", b"a")] == [True, True, False]


def test_order_and_gaps_do_not_matter() -> None:
    seen = SeenMessages()
    assert [seen.add(b"a", number) for number in (10, 3, 7, 3, 10, 1)] == [True, True, True, False, False, True]


def test_a_message_older_than_the_window_counts_as_seen() -> None:
    seen = SeenMessages()
    assert seen.add(b"a", WINDOW + 10)
    assert not seen.add(b"a", 10)
    assert seen.add(b"a", 11)


def test_a_place_is_free_again_once_its_number_left_the_window() -> None:
    seen = SeenMessages()
    assert seen.add(b"a", 5)
    assert seen.add(b"a", 3 * WINDOW)
    assert seen.add(b"a", 2 * WINDOW + 5)
    assert seen.add(b"a", 3 * WINDOW + 5)
    assert not seen.add(b"a", 2 * WINDOW + 5)


def test_numbers_in_any_order_are_seen_as_by_a_set() -> None:
    rng = random.Random(1)
    seen, exact, highest = SeenMessages(), set[int](), 0
    for _ in range(100_000):
        number = max(1, highest + rng.choice((1, 1, 1, 2, 50, 3000, 0, -1, -5, -400, -WINDOW + 1)))
        assert seen.add(b"a", number) is (number not in exact)
        exact.add(number)
        highest = max(highest, number)


def test_the_worker_that_was_silent_for_longest_is_forgotten() -> None:
    seen = SeenMessages()
    for number in range(MAX_ORIGINS):
        seen.add(b"%d" % number, 1)
    assert not seen.add(b"0", 1)
    assert seen.add(b"one too many", 1)
    assert not seen.add(b"0", 1)
    assert seen.add(b"1", 1)


def test_a_message_that_is_forgotten_is_new_again() -> None:
    seen = SeenMessages()
    seen.discard(b"a", 1)
    assert seen.add(b"a", 1)
    assert seen.add(b"a", 2)
    seen.discard(b"a", 1)
    seen.discard(b"a", 3)
    assert (b"a", 1) not in seen
    assert (b"a", 2) in seen
    assert seen.add(b"a", 1)
    assert not seen.add(b"a", 2)
