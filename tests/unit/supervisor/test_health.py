"""Verdicts on processes, and the signs of life that they depend on."""

import pytest

from wsd.supervisor.monitoring.health import Limits, Observation, Verdict, observe, verdict
from wsd.supervisor.processes.pulse import Pulse
from wsd.worker.contract.heartbeat import Heartbeat, WorkerState

LIMITS = Limits(heartbeat_timeout=5, probe_timeout=2, max_rss=1000)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Observation(heartbeat_age=0), Verdict.HEALTHY),
        (Observation(heartbeat_age=3), Verdict.HEALTHY),
        (Observation(heartbeat_age=3.1), Verdict.PROBE),
        (Observation(heartbeat_age=60), Verdict.PROBE),  # never asked, so not hung
        (Observation(heartbeat_age=60, probing_for=1.9), Verdict.PROBE),
        (Observation(heartbeat_age=60, probing_for=2), Verdict.HUNG),
        # It answers without a newer beat. An answer within the timeout says nothing yet: the next beat may come.
        (Observation(heartbeat_age=4.5, silence_confirmed=4.0), Verdict.PROBE),
        (Observation(heartbeat_age=5.5, silence_confirmed=5.0), Verdict.PROBE),
        (Observation(heartbeat_age=5.5, silence_confirmed=5.1), Verdict.STALLED),
        (Observation(heartbeat_age=60, silence_confirmed=5.1, probing_for=2), Verdict.HUNG),
        (Observation(heartbeat_age=0, silence_confirmed=5.1), Verdict.HEALTHY),
        (Observation(heartbeat_age=5, probing_for=2), Verdict.PROBE),
        (Observation(heartbeat_age=5.1, probing_for=2), Verdict.HUNG),
        (Observation(heartbeat_age=0, probing_for=60), Verdict.HEALTHY),
        (Observation(heartbeat_age=0, rss=1000), Verdict.HEALTHY),
        (Observation(heartbeat_age=0, rss=1001), Verdict.MAX_RSS),
        (Observation(heartbeat_age=0, zombie=True, rss=1001), Verdict.ZOMBIE),
    ],
)
def test_the_verdict_depends_on_the_signs_of_life(seen: Observation, expected: Verdict) -> None:
    assert verdict(seen, LIMITS) is expected


def test_without_a_limit_no_memory_is_too_much() -> None:
    assert verdict(Observation(heartbeat_age=0, rss=10**12), Limits(5, 2)) is Verdict.HEALTHY


def test_a_probe_ends_no_later_than_the_heartbeats_timeout() -> None:
    for timeout, probe in ((5, 2), (10, 1), (1, 0.5)):
        assert Limits(timeout, probe).suspect_after + probe <= timeout
    assert Limits(1, 5).suspect_after == 0.5


def beat(count: int, **changes: object) -> Heartbeat:
    fields: dict[str, object] = {
        "worker_id": "worker-1-aaaa",
        "node_id": "n",
        "slot": 1,
        "pid": 1,
        "beat": count,
        "uptime": float(count),
        "state": WorkerState.READY,
        "connections": 0,
        "messages_in": 0,
        "messages_out": 0,
        "loop_lag": 0.0,
        "rss": 1,
        "redis": True,
    }
    return Heartbeat(**{**fields, **changes})  # type: ignore[arg-type]


def test_only_a_new_beat_is_a_sign_of_life() -> None:
    pulse = Pulse(seen_at=0)
    pulse.receive(beat(1), 1)
    pulse.receive(beat(1), 2)  # the same record, read again from Redis
    assert pulse.seen_at == 1
    pulse.receive(beat(2), 3)
    assert pulse.seen_at == 3
    pulse.receive(beat(1), 4)
    assert pulse.seen_at == 3


def test_an_answer_is_a_sign_of_life_only_with_a_newer_heartbeat() -> None:
    pulse = Pulse(seen_at=0)
    pulse.receive(beat(1), 1)
    pulse.probing_since = 6
    pulse.answer(beat(1), 7)  # answers, and nothing beats in it
    assert pulse == Pulse(seen_at=1, silence_confirmed=6, beat=beat(1))
    pulse.answer(beat(2), 8)  # Redis is away, the worker is not
    assert (pulse.seen_at, pulse.silence_confirmed) == (8, 0)


def test_rates_are_between_the_last_two_beats() -> None:
    pulse = Pulse(seen_at=0)
    pulse.receive(beat(1, messages_in=10, messages_out=100, uptime=1.0), 0)
    pulse.receive(beat(3, messages_in=30, messages_out=500, uptime=3.0), 50)
    rates = (pulse.messages_in_rate, pulse.messages_out_rate)
    assert rates == (10.0, 200.0)


def test_refused_messages_are_noticed_when_their_number_grows() -> None:
    pulse = Pulse(seen_at=0)
    noticed = []
    beats = [
        beat(1),
        beat(2, refused=3),
        beat(3, refused=3),
        beat(4, refused=4),
        beat(1, worker_id="another"),
        beat(1, worker_id="yet-another", refused=1),
    ]
    for now, heard in enumerate(beats, 1):
        pulse.receive(heard, now)
        noticed.append(pulse.refused_at)
    assert noticed == [None, 2, 2, 4, 4, 6]


def test_an_observation_has_ages() -> None:
    pulse = Pulse(seen_at=1, probing_since=4)
    assert observe(pulse, 10, zombie=False, rss=5, others_subscribed=True) == Observation(
        heartbeat_age=9, probing_for=6, rss=5
    )
