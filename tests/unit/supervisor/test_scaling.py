"""How many workers a node has for its load: added at once, taken away slowly, never beyond the limits."""

import pytest

from wsd.supervisor.config.settings import ScaleConfig
from wsd.supervisor.monitoring.scaling import (
    CPU_SECONDS,
    RETRY_SECONDS,
    SETTLED_SECONDS,
    Load,
    Resize,
    ScalingPolicy,
    Spread,
)

BOTH = ScaleConfig(min=2, max=6, connections_per_worker=100, cpu=0.5, down_after=300)
CONNECTIONS = ScaleConfig(min=1, max=6, connections_per_worker=100, down_after=300)


def load(workers: int, connections: int = 0, cpu: float = 0.0, most: int | None = None) -> Load:
    return Load(workers, connections, -(-connections // workers) if most is None else most, cpu)


def observe(policy: ScalingPolicy, load: Load, config: ScaleConfig, begin: int, end: int) -> list[tuple[int, int]]:
    """Observe the same load once a second. Return when another number of workers was decided, and which."""
    decisions = ((now, policy.decide(load, config, now)) for now in range(begin, end + 1))
    return [(now, decision.workers) for now, decision in decisions if isinstance(decision, Resize)]


@pytest.mark.parametrize(
    ("seen", "wanted"),
    [
        (load(2, 200), None),
        (load(2, 201), 3),
        (load(2, 450), 5),
        (load(2, 5000), 6),
        (load(6, 5000), None),
        (load(1), 2),  # scale.min
        (load(8, 100), 6),  # scale.max
        (load(8, 5000), 6),
    ],
)
def test_workers_are_added_at_once_by_connections_and_within_the_limits(seen: Load, wanted: int | None) -> None:
    decision = ScalingPolicy().decide(seen, BOTH, 0)
    assert (decision.workers if isinstance(decision, Resize) else decision) == wanted


@pytest.mark.parametrize(
    ("cores", "wanted"),
    [(1.0, []), (1.01, [3]), (1.6, [4]), (2.0, [4]), (9.0, [6])],
)
def test_workers_are_added_by_cpu_after_the_time_of_its_average(cores: float, wanted: list[int]) -> None:
    seen = load(2, 190, cores)
    policy = ScalingPolicy()
    assert observe(policy, seen, BOTH, 0, int(CPU_SECONDS) - 1) == []
    assert [workers for _, workers in observe(policy, seen, BOTH, 30, 30)] == wanted


def test_a_peak_of_cpu_is_averaged_away() -> None:
    policy = ScalingPolicy()
    for now in range(100):
        assert policy.decide(load(2, 190, 2.0 if now % 10 == 0 else 0.6), BOTH, now) is None


def test_the_reason_is_the_load_that_needs_more_workers() -> None:
    policy = ScalingPolicy()
    assert policy.decide(load(2, 250), BOTH, 0) == Resize(
        3, "125 connections each, scale.connections_per_worker is 100"
    )
    assert policy.last == "from 2 to 3 workers: 125 connections each, scale.connections_per_worker is 100"
    policy.decide(load(2, 10, 1.8), BOTH, 1)
    decision = policy.decide(load(2, 10, 1.8), BOTH, 31)
    assert decision == Resize(4, "0.90 of a core each, scale.cpu is 0.5")


@pytest.mark.parametrize(
    ("seen", "config", "wanted"),
    [
        (load(3, 140), CONNECTIONS, [(300, 2)]),
        (load(3, 141), CONNECTIONS, []),
        (load(1), CONNECTIONS, []),
        (load(3, 0, 0.7), BOTH, [(330, 2)]),  # the first average of the CPU use is there after 30 seconds
        (load(3, 0, 0.71), BOTH, []),
        (load(3, 141, 0.1), BOTH, []),
        (load(2), BOTH, []),
    ],
)
def test_one_worker_is_taken_away_after_a_quiet_time(
    seen: Load, config: ScaleConfig, wanted: list[tuple[int, int]]
) -> None:
    assert observe(ScalingPolicy(), seen, config, 0, 330)[:1] == wanted


def test_one_busy_moment_begins_the_quiet_time_anew() -> None:
    policy = ScalingPolicy()
    assert observe(policy, load(3, 10), CONNECTIONS, 0, 299) == []
    assert observe(policy, load(3, 150), CONNECTIONS, 300, 300) == []
    assert observe(policy, load(3, 10), CONNECTIONS, 301, 601) == [(601, 2)]


def test_so_does_a_moment_of_uncertainty_which_status_shows() -> None:
    policy = ScalingPolicy()
    assert observe(policy, load(3, 10), CONNECTIONS, 0, 299) == []
    policy.wait("worker-2 is drained")
    assert policy.waits_for == "worker-2 is drained"
    assert observe(policy, load(3, 10), CONNECTIONS, 301, 601) == [(601, 2)]
    assert policy.waits_for is None


def test_the_next_worker_goes_after_another_quiet_time() -> None:
    policy, seen = ScalingPolicy(), load(3, 10)
    assert observe(policy, seen, CONNECTIONS, 0, 300) == [(300, 2)]
    policy.ended(Resize(2, ""), seen, 330, failed=False)
    assert observe(policy, load(2, 10), CONNECTIONS, 331, 631) == [(631, 1)]


def test_nothing_is_tried_for_a_minute_after_a_failure() -> None:
    policy, seen = ScalingPolicy(), load(2, 500)
    policy.ended(Resize(5, ""), seen, 10, failed=True)
    assert policy.decide(seen, CONNECTIONS, 10 + RETRY_SECONDS - 1) is None
    assert policy.waits_for == "the last attempt failed"
    assert isinstance(policy.decide(seen, CONNECTIONS, 10 + RETRY_SECONDS), Resize)


@pytest.mark.parametrize(
    ("config", "most", "spreads"),
    [(CONNECTIONS, 101, True), (CONNECTIONS, 100, False), (ScaleConfig(max=6, cpu=0.5), 3, True)],
)
def test_connections_move_to_new_workers_once_their_number_is_enough(
    config: ScaleConfig, most: int, *, spreads: bool
) -> None:
    policy = ScalingPolicy()
    policy.ended(Resize(4, ""), load(2), 0, failed=False)
    seen = load(4, 120, most=most)
    assert policy.decide(seen, config, SETTLED_SECONDS - 1) is None
    assert policy.decide(seen, config, SETTLED_SECONDS) == (Spread() if spreads else None)
    assert policy.decide(seen, config, SETTLED_SECONDS + 1) is None


def test_more_workers_come_before_connections_move() -> None:
    policy = ScalingPolicy()
    policy.ended(Resize(4, ""), load(2), 0, failed=False)
    assert isinstance(policy.decide(load(4, 500), CONNECTIONS, 10), Resize)


def test_nothing_moves_after_a_worker_was_taken_away() -> None:
    policy = ScalingPolicy()
    policy.ended(Resize(2, ""), load(3, 130), 0, failed=False)
    assert policy.decide(load(2, 130, most=120), CONNECTIONS, 100) is None


def test_a_load_beyond_the_most_workers_is_known() -> None:
    policy = ScalingPolicy()
    policy.decide(load(6, 600), BOTH, 0)
    assert not policy.is_overloaded
    policy.decide(load(6, 601), BOTH, 1)
    assert policy.is_overloaded


def test_a_load_that_swings_by_a_quarter_never_changes_the_number_twice() -> None:
    policy, workers, changes = ScalingPolicy(), 2, 0
    for now in range(7200):
        seen = load(workers, 300 if now // 400 % 2 else 225)
        if isinstance(decision := policy.decide(seen, CONNECTIONS, now), Resize):
            policy.ended(decision, seen, now, failed=False)
            workers, changes = decision.workers, changes + 1
    assert (workers, changes) == (3, 1)
