"""A supervisor that was stopped kills no process for it: its clock, and the silences that it measures."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from wsd.supervisor.monitoring.health import Limits, Verdict, observe, verdict
from wsd.supervisor.processes.clock import TICK_SECONDS, AwakeClock
from wsd.supervisor.processes.pulse import Pulse
from wsd.supervisor.processes.slot import End, Ready, RestartPolicy, Slot, Start, Stop, Tick, Urgency, step

LIMITS = Limits(heartbeat_timeout=5, probe_timeout=2)
EVERY_SECOND = tuple(float(at) for at in range(1, 60))


class Time:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at

    def pass_by(self, clock: AwakeClock, seconds: float) -> None:
        """Let the time pass with a reading at every tick."""
        for _ in range(round(seconds / TICK_SECONDS)):
            self.at += TICK_SECONDS
            clock.now()


@pytest.mark.parametrize(("gap", "counted"), [(0.2, 0.2), (1.0, 1.0), (1.1, 1.1), (1.3, 0.2), (8, 0.2), (86_400, 0.2)])
def test_a_standstill_counts_as_one_tick_of_the_clock(gap: float, counted: float) -> None:
    time = Time()
    clock = AwakeClock(time)
    before = clock.now()
    time.at += gap
    assert clock.now() - before == pytest.approx(counted)
    assert clock.gaps == (gap > counted)
    assert clock.now() - before == pytest.approx(counted)


def test_several_gaps_add_up_and_the_time_between_them_counts() -> None:
    time = Time()
    clock = AwakeClock(time)
    begun = clock.now()
    for _ in range(3):
        time.pass_by(clock, 2)
        time.at += 30
        clock.now()
    assert clock.now() - begun == pytest.approx(6 + 3 * TICK_SECONDS)
    assert clock.gaps == 3
    assert clock.last_gap == pytest.approx(30 - TICK_SECONDS)


@pytest.mark.parametrize(("probe_timeout", "late_after"), [(2, 1), (10, 1), (0.5, 0.25)])
def test_the_watch_may_be_late_by_less_than_a_probe_may_take(probe_timeout: float, late_after: float) -> None:
    assert Limits(5, probe_timeout).late_after == late_after


@dataclass
class Watched:
    """A process that is watched as `HealthWatch` does it, second by second.

    It beats at `beats`, and answers probes unless it hangs.
    """

    beats: Sequence[float] = EVERY_SECOND
    hangs: bool = False
    time: Time = field(default_factory=Time)

    def __post_init__(self) -> None:
        self.begun = self.time.at
        self.clock = AwakeClock(self.time)
        self.pulse = Pulse(seen_at=self.clock.now())
        self.gaps = 0
        self.asked = 0

    def look(self) -> Verdict:
        """One look, a tick after the last one."""
        self.time.at += TICK_SECONDS
        return self.look_now()

    def look_now(self) -> Verdict:
        now = self.clock.now()
        if self.clock.gaps != self.gaps:
            self.gaps = self.clock.gaps
            self.pulse.restart_silence(now)
        since = self.time.at - self.begun
        if any(since - TICK_SECONDS < at <= since for at in self.beats):
            self.pulse.seen_at = now
        found = verdict(observe(self.pulse, now, zombie=False, rss=0, others_subscribed=True), LIMITS)
        if found is Verdict.PROBE and self.pulse.probing_since is None:
            self.asked += 1
            self.pulse.probing_since = now
            if not self.hangs:
                self.pulse.seen_at, self.pulse.probing_since = now, None
        return found

    def looks(self, seconds: float) -> set[Verdict]:
        return {self.look() for _ in range(round(seconds / TICK_SECONDS))}


@pytest.mark.parametrize("awake", [0.0, 0.4, 2.8, 3.4, 4.8])
@pytest.mark.parametrize("gap", [1.5, 5.1, 8.0, 3600.0])
def test_a_process_is_not_hung_because_its_watch_stood_still(awake: float, gap: float) -> None:
    watched = Watched(beats=(), hangs=True)  # whoever slept together with the watch has not answered yet, either
    assert Verdict.HUNG not in watched.looks(awake)
    watched.time.at += gap
    assert watched.look_now() is Verdict.HEALTHY
    assert Verdict.HUNG not in watched.looks(4.6)  # it has the whole time once more
    asked = watched.asked
    assert Verdict.HUNG in watched.looks(1.2)
    assert asked > 0  # and is killed only after another question


def test_a_process_that_really_hangs_is_found_in_time() -> None:
    watched = Watched(beats=(1.0, 2.0), hangs=True)
    assert Verdict.HUNG not in watched.looks(6.8)
    assert Verdict.HUNG in watched.looks(0.6)  # five seconds after its last beat


def test_a_watch_that_is_late_again_and_again_kills_no_live_worker() -> None:
    watched = Watched(beats=())
    for gap in (1.3, 9.0, 2.0, 4.9, 5.1, 30.0):
        watched.time.at += gap
        assert watched.look_now() is not Verdict.HUNG
        assert Verdict.HUNG not in watched.looks(0.6)


def test_a_process_that_starts_or_drains_has_its_time_without_the_gaps() -> None:
    policy = RestartPolicy(1, 1, 1, max_restarts=5, window=60, start_timeout=60)
    time, rng = Time(), random.Random(1)
    clock = AwakeClock(time)
    slot, _ = step(Slot("worker-1", patience=30), Start(), clock.now(), policy, rng)
    time.at += 3600
    slot, effects = step(slot, Tick(), clock.now(), policy, rng)
    assert effects == []
    slot, _ = step(slot, Ready(1), clock.now(), policy, rng)
    slot, _ = step(slot, Stop(30), clock.now(), policy, rng)
    time.at += 3600
    slot, effects = step(slot, Tick(), clock.now(), policy, rng)
    assert effects == []
    time.pass_by(clock, 31)
    _, effects = step(slot, Tick(), clock.now(), policy, rng)
    assert effects == [End(1, Urgency.QUICK)]
