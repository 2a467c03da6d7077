"""Which server is the primary, by what the Sentinels say: the highest config epoch is right."""

import pytest

from wsd.worker.contract.redis_address import Place
from wsd.worker.contract.sentinels.words import FRESH_SECONDS, Heard, Word, primary_place

A, B, C = ("a", 1), ("b", 1), ("c", 1)
S1, S2, S3 = ("s", 1), ("s", 2), ("s", 3)
NOW = 1000.0
OLD = NOW - FRESH_SECONDS - 1


def heard(*words: tuple[Place, Place, int] | tuple[Place, Place, int, float]) -> dict[Place, Heard]:
    return {sentinel: Heard(Word(place, epoch), when[0] if when else NOW) for sentinel, place, epoch, *when in words}


@pytest.mark.parametrize(
    ("current", "words", "right"),
    [
        # Nothing is known, or one Sentinel says it.
        (None, [], None),
        (A, [], A),
        (None, [(S1, A, 0)], A),
        (A, [(S1, A, 0), (S2, A, 0), (S3, A, 0)], A),
        # A failover: the first that tells is believed, though it is alone.
        (A, [(S1, B, 1), (S2, A, 0), (S3, A, 0)], B),
        (A, [(S1, B, 1)], B),
        # A stale Sentinel comes back with the old primary: it does not lead back, however many it are.
        (B, [(S1, A, 0), (S2, B, 1), (S3, B, 1)], B),
        (B, [(S1, A, 0), (S2, A, 0), (S3, B, 1)], B),
        (B, [(S1, A, 0), (S2, B, 1, OLD), (S3, B, 1, OLD)], B),
        # The primary goes back to where it was, by another failover.
        (B, [(S1, A, 2), (S2, B, 1), (S3, B, 1)], A),
        # The news of an earlier switch: what counts is the epoch that the Sentinel has.
        (C, [(S1, B, 1), (S2, C, 2), (S3, C, 2)], C),
        # Epochs begin anew: all were given another primary by hand. The last word of one that is gone counts no more.
        (B, [(S1, C, 0), (S2, C, 0), (S3, C, 0)], C),
        (B, [(S1, C, 0), (S2, C, 0), (S3, B, 5)], B),
        (B, [(S1, C, 0), (S2, C, 0), (S3, B, 5, OLD)], C),
        # One after the other: with the same epoch, most decide, and a draw changes nothing.
        (A, [(S1, C, 0), (S2, A, 0)], A),
        (A, [(S1, C, 0), (S2, A, 0), (S3, A, 0)], A),
        (A, [(S1, C, 0), (S2, C, 0), (S3, A, 0)], C),
        # While most Sentinels are silent, their last words count.
        (B, [(S1, A, 0), (S2, B, 1, OLD), (S3, B, 1, OLD)], B),
        (B, [(S1, B, 1, OLD), (S2, B, 1, OLD), (S3, B, 1, OLD)], B),
    ],
)
def test_the_highest_epoch_is_right(
    current: Place | None, words: list[tuple[Place, Place, int]], right: Place | None
) -> None:
    assert primary_place(current, heard(*words), 3, NOW) == right


def test_the_order_in_which_sentinels_are_heard_does_not_matter() -> None:
    words = [(S1, A, 0), (S2, B, 2), (S3, C, 1)]
    for start in range(3):
        assert primary_place(A, heard(*words[start:], *words[:start]), 3, NOW) == B
