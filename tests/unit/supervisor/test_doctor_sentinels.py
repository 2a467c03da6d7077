"""What `wsd doctor` says about Sentinels and replicas."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from wsd.supervisor.doctor.sentinels import SentinelReport, judge_replication, judge_sentinels
from wsd.supervisor.monitoring.finding import Grade
from wsd.worker.contract.sentinels.words import Word

A, B = ("10.0.0.1", 6379), ("10.0.0.2", 6379)
STATE = {
    "num-other-sentinels": "2",
    "quorum": "2",
    "num-slaves": "1",
    "down-after-milliseconds": "5000",
}
GOOD = [SentinelReport(("s", port), word=Word(A, 0), state=STATE) for port in (1, 2, 3)]


def changed(**values: str) -> list[SentinelReport]:
    """Return reports in which all Sentinels say these values."""
    return [replace(one, state={**STATE, **{k.replace("_", "-"): v for k, v in values.items()}}) for one in GOOD]


def bad(reports: Sequence[SentinelReport]) -> list[tuple[str, Grade]]:
    found = list(judge_sentinels("chat", reports))
    assert all("\n" not in one.found + one.remedy for one in found)
    return [(one.check, one.grade) for one in found if one.grade is not Grade.OK]


def test_sentinels_that_agree_are_good() -> None:
    assert bad(GOOD) == []
    texts = [one.found for one in judge_sentinels("chat", GOOD)]
    assert texts == [
        '3 of 3 answer, and name 10.0.0.1:6379 as the primary of "chat"',
        "2 must agree, and can",
        "a primary is replaced after 5 s of silence",
    ]


DEAD = SentinelReport(("s", 9), "Connect call failed")


@pytest.mark.parametrize(
    ("reports", "findings"),
    [
        ([DEAD, DEAD], [("Sentinels", Grade.FAILURE)]),
        ([*GOOD, DEAD], [("Sentinels", Grade.WARNING)]),
        ([*GOOD[:2], replace(GOOD[2], word=Word(B, 1))], [("Sentinels", Grade.FAILURE)]),
        (changed(num_other_sentinels="1")[:2], [("Sentinels: number", Grade.WARNING)]),
        (GOOD[:1], [("Sentinels: number", Grade.WARNING)]),
        ([replace(one, quorum_problem="NOQUORUM") for one in GOOD], [("Sentinels: quorum", Grade.FAILURE)]),
        (changed(num_slaves="0"), [("Sentinels: replicas", Grade.WARNING)]),
        (changed(down_after_milliseconds="500"), [("Sentinels: down-after", Grade.WARNING)]),
        (changed(down_after_milliseconds="30000"), [("Sentinels: down-after", Grade.WARNING)]),
        ([*GOOD[:2], *changed(down_after_milliseconds="3000")[:1]], [("Sentinels: down-after", Grade.WARNING)]),
    ],
)
def test_what_is_wrong_with_sentinels_is_found(
    reports: Sequence[SentinelReport], findings: list[tuple[str, Grade]]
) -> None:
    assert bad(reports) == findings


def test_a_primary_that_acknowledges_without_its_replica_is_warned_of() -> None:
    (found,) = judge_replication({"role": "master", "connected_slaves": 1})
    assert found.grade is Grade.WARNING
    assert found.found == "1 replica connected, min-replicas-to-write is 0"
    assert "CONFIG SET min-replicas-to-write 1" in found.remedy
    (found,) = judge_replication({"role": "master", "connected_slaves": 2, "min_slaves_good_slaves": 2})
    assert found.grade is Grade.OK
