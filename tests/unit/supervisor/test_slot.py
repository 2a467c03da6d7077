"""The state machine of a slot: facts in, effects out."""

import random
from dataclasses import replace

import pytest

from wsd.supervisor.processes.slot import (
    KILL_AFTER_SECONDS,
    Abandon,
    Adopt,
    Effect,
    End,
    Exited,
    Fact,
    Phase,
    Promote,
    Ready,
    Recycle,
    Replace,
    Report,
    RestartPolicy,
    Slot,
    SlotState,
    Spawn,
    Start,
    Stop,
    Swap,
    Tick,
    Unhealthy,
    Urgency,
    step,
)

POLICY = RestartPolicy(backoff_initial=1, backoff_max=8, stable_after=30, max_restarts=3, window=60, start_timeout=10)


class Run:
    """A slot and its clock; keeps the effects of the last fact, reports aside."""

    def __init__(self, policy: RestartPolicy = POLICY) -> None:
        self.slot = Slot("worker-1", patience=20)
        self.now = 1000.0
        self.policy = policy
        self.effects: list[Effect] = []
        self.reports: list[str] = []
        self.rng = random.Random(1)

    def __call__(self, fact: Fact, after: float = 0.0) -> list[Effect]:
        self.now += after
        self.slot, effects = step(self.slot, fact, self.now, self.policy, self.rng)
        self.reports = [effect.text for effect in effects if isinstance(effect, Report)]
        self.effects = [effect for effect in effects if not isinstance(effect, Report)]
        return self.effects

    def until_ready(self) -> None:
        self(Start())
        number = self.slot.next_number - 1
        self(Ready(number))

    @property
    def state(self) -> str:
        return self.slot.display_state


def test_a_start_spawns_and_readiness_promotes() -> None:
    run = Run()
    assert run.state == "stopped"
    assert run(Start()) == [Spawn(1)]
    assert (run.state, run.slot.ready) == ("starting", False)
    assert run(Ready(1), after=2) == [Promote(1)]
    assert (run.state, run.slot.ready) == ("ready", True)
    assert run(Ready(1)) == []


def test_a_stable_process_that_ends_is_replaced_at_once() -> None:
    run = Run()
    run.until_ready()
    assert run(Exited(1, "killed by SIGKILL"), after=31) == [Spawn(2)]
    assert run.slot.restarts == 1
    assert run.slot.last_exit == "killed by SIGKILL"
    assert run.reports == ["worker-1 ended (killed by SIGKILL), restart 1 in 0.0 s"]
    run(Ready(2))
    assert run.reports == ["worker-1 is ready again"]


def test_restarts_in_a_row_wait_longer_and_longer_with_full_jitter() -> None:
    for attempt, ceiling in enumerate([0, 1, 2, 4, 8, 8, 8]):
        delays = [POLICY.delay(attempt, random.Random(seed)) for seed in range(200)]
        assert all(0 <= delay <= ceiling for delay in delays)
        if ceiling:
            assert max(delays) > 0.9 * ceiling
            assert min(delays) < 0.1 * ceiling


def test_a_process_that_ends_early_backs_off_and_time_brings_it_back() -> None:
    run = Run()
    run(Start())
    assert run(Exited(1, "exit code 1")) == [Spawn(2)]
    assert run(Exited(2, "exit code 1")) == []
    assert run.state == "backoff"
    due = run.slot.due_at()
    assert due is not None
    assert run.now < due <= run.now + 1
    assert run(Tick()) == []
    run.now = due
    assert run(Tick()) == [Spawn(3)]
    assert run.state == "starting"


def test_a_stable_time_forgets_the_attempts() -> None:
    run = Run(replace(POLICY, max_restarts=100))
    run(Start())
    for number in range(1, 4):
        run(Exited(number, "exit code 1"))
        run(Tick(), after=10)
    run(Ready(4))
    assert run(Exited(4, "exit code 1"), after=29.9) == []  # not yet stable
    run(Tick(), after=10)
    run(Ready(5))
    assert run(Exited(5, "exit code 1"), after=30) == [Spawn(6)]


def test_too_many_ends_within_the_window_are_given_up() -> None:
    run = Run()
    run.until_ready()
    for number in range(1, 4):
        run(Exited(number, "exit code 1"), after=1)
        run(Tick(), after=9)
    assert run(Exited(4, "exit code 1")) == []
    assert run.state == "failed"
    assert run.reports == [
        "worker-1 failed: it ended 4 times within 60 s, last with exit code 1; giving up on it, see `wsd logs 1`"
    ]
    assert run(Tick(), after=1000) == []
    assert run.slot.due_at() is None
    assert run(Start()) == [Spawn(5)]  # told to, it tries again


def test_a_process_that_ends_as_often_over_a_longer_time_is_restarted() -> None:
    run = Run()
    run.until_ready()
    for number in range(1, 20):
        run(Exited(number, "exit code 1"), after=15)
        run(Tick(), after=10)
        assert run.state == "starting"


def test_a_start_that_takes_too_long_is_killed_and_tried_again() -> None:
    run = Run()
    run(Start())
    assert run.slot.due_at() == run.now + 10
    assert run(Tick(), after=9.9) == []
    assert run(Tick(), after=0.1) == [End(1, Urgency.KILL)]
    assert run.reports == ["worker-1 was not ready within 10 s (health.start_timeout): killing it"]
    assert run(Tick(), after=5) == []  # once is enough
    assert run(Exited(1, "killed by SIGKILL")) == [Spawn(2)]


def test_a_stop_drains_then_urges_then_kills() -> None:
    run = Run()
    run.until_ready()
    assert run(Stop(30)) == [End(1, Urgency.DRAIN)]
    assert run.slot.state is SlotState.STOPPED
    assert run.slot.current is not None
    assert run.slot.current.phase is Phase.DRAINING
    assert run(Tick(), after=29.9) == []
    assert run(Tick(), after=0.1) == [End(1, Urgency.QUICK)]
    assert run(Tick(), after=KILL_AFTER_SECONDS) == [End(1, Urgency.KILL)]
    assert run(Tick(), after=100) == []
    assert run(Exited(1, "killed by SIGKILL")) == []
    assert run.slot.incarnations == ()
    assert run.slot.due_at() is None


def test_a_stop_without_patience_urges_at_once() -> None:
    run = Run()
    run.until_ready()
    assert run(Stop(0)) == [End(1, Urgency.QUICK)]
    assert run(Tick(), after=KILL_AFTER_SECONDS) == [End(1, Urgency.KILL)]


def test_a_second_stop_may_only_shorten_the_time() -> None:
    run = Run()
    run.until_ready()
    run(Stop(30))
    assert run(Stop(5)) == []
    assert run.slot.due_at() == run.now + 5
    assert run(Stop(50)) == []
    assert run.slot.due_at() == run.now + 5
    assert run(Stop(0)) == [End(1, Urgency.QUICK)]


def test_a_stop_during_backoff_cancels_the_restart() -> None:
    run = Run()
    run(Start())
    run(Exited(1, "x"))
    run(Exited(2, "x"))
    assert run.state == "backoff"
    assert run(Stop(30)) == []
    assert run(Tick(), after=100) == []
    assert run.state == "stopped"


def test_a_stop_while_it_starts_ends_it() -> None:
    run = Run()
    run(Start())
    assert run(Stop(30)) == [End(1, Urgency.QUICK)]  # nobody is connected to it
    assert run(Ready(1)) == []
    assert run(Exited(1, "exit code 0")) == []


@pytest.mark.parametrize(
    ("stop", "seconds"),
    [(Stop(30), 3), (Stop(30, 1.5), 1.5), (Stop(1), 1), (Stop(0), 3), (Stop(0, 0.5), 0.5), (Stop(2, 5), 2)],
)
def test_a_process_that_still_starts_is_given_little_time_to_end(stop: Stop, seconds: float) -> None:
    run = Run()
    run(Start())
    begun = run.now
    run(stop)
    assert run.slot.due_at() == begun + seconds


def test_an_unhealthy_process_is_killed_and_replaced() -> None:
    run = Run()
    run.until_ready()
    assert run(Unhealthy(1, "hangs"), after=100) == [End(1, Urgency.KILL)]
    assert run.reports == ["worker-1 hangs: killing it"]
    assert run(Unhealthy(1, "hangs")) == []
    assert run(Exited(1, "killed by SIGKILL")) == [Spawn(2)]


def test_a_recycled_process_drains_once_another_has_taken_over() -> None:
    run = Run()
    run.until_ready()
    assert run(Recycle(1, "is fat"), after=100) == [Spawn(2)]
    assert run.reports == ["worker-1 is fat: replacing it"]
    assert run.state == "ready"
    assert run(Recycle(1, "is fat")) == []
    assert run(Ready(2)) == [Promote(2), End(1, Urgency.DRAIN)]
    assert run.reports == ["worker-1 was replaced by a new process, the old one drains"]
    assert run.state == "ready"
    assert run(Tick(), after=20) == [End(1, Urgency.QUICK)]
    assert run(Exited(1, "exit code 0")) == []
    assert run.slot.restarts == 0


def test_a_replacement_that_does_not_become_healthy_leaves_the_old_one() -> None:
    run = Run()
    run.until_ready()
    run(Recycle(1, "is fat"))
    assert run(Tick(), after=10) == [End(2, Urgency.KILL)]
    assert run(Exited(2, "killed by SIGKILL")) == []
    assert run.reports == ["worker-1: the new process ended (killed by SIGKILL), the old one keeps running"]
    assert run.state == "ready"
    assert run(Recycle(1, "is fat")) == []  # not again and again
    assert run(Recycle(1, "is fat"), after=8) == [Spawn(3)]


def test_a_held_replacement_is_promoted_only_by_a_swap() -> None:
    run = Run()
    run.until_ready()
    assert run(Replace(held=True)) == [Spawn(2)]
    assert run(Ready(2)) == []
    assert run.slot.current == run.slot.incarnations[0]
    assert run(Tick(), after=1000) == []
    assert run(Swap()) == [Promote(2), End(1, Urgency.DRAIN)]
    assert run(Swap()) == []
    assert run(Exited(1, "exit code 0")) == []
    assert run.slot.current == run.slot.incarnations[0]


def test_a_held_replacement_may_be_given_up() -> None:
    run = Run()
    run.until_ready()
    run(Replace(held=True))
    run(Ready(2))
    assert run(Abandon()) == [End(2, Urgency.QUICK)]
    assert run(Exited(2, "exit code 0")) == []
    assert run.reports == []
    assert run.state == "ready"
    run(Replace(held=True))
    assert run(Abandon()) == [End(3, Urgency.QUICK)]
    assert run(Ready(3)) == []


def test_a_replacement_that_is_ready_takes_over_when_the_old_process_dies() -> None:
    run = Run()
    run.until_ready()
    run(Replace(held=True))
    run(Ready(2))
    assert run(Exited(1, "killed by SIGKILL")) == [Promote(2)]
    assert run.reports == [
        "worker-1 ended (killed by SIGKILL), its replacement takes over",
        "worker-1 is ready again",
    ]
    assert run.slot.restarts == 0
    assert run(Abandon()) == []


def test_a_replacement_whose_predecessor_has_died_takes_over_once_it_is_ready() -> None:
    run = Run()
    run.until_ready()
    run(Replace(held=True))
    assert run(Exited(1, "killed by SIGKILL")) == []
    assert run(Ready(2)) == [Promote(2)]


def test_the_first_process_that_is_ready_serves_until_its_replacement_is_swapped_in() -> None:
    run = Run()
    run(Start())
    run(Replace(held=True))
    assert run(Ready(1)) == [Promote(1)]
    assert run(Ready(2)) == []
    assert run(Swap()) == [Promote(2), End(1, Urgency.DRAIN)]


def test_a_new_process_that_dies_while_the_old_one_drains_is_replaced() -> None:
    run = Run()
    run.until_ready()
    run(Replace(held=False))
    run(Ready(2))
    assert run(Exited(2, "killed by SIGKILL"), after=1) == [Spawn(3)]
    assert run(Exited(1, "exit code 0")) == []
    assert run(Ready(3)) == [Promote(3)]
    assert run(Exited(3, "x"), after=1) == []
    assert run.state == "backoff"


def test_a_slot_without_a_process_is_replaced_by_a_start() -> None:
    run = Run()
    run.until_ready()
    run(Exited(1, "x"))
    run(Exited(2, "x"))
    assert run.state == "backoff"
    assert run(Replace(held=True)) == [Spawn(3)]
    assert run(Ready(3)) == [Promote(3)]


def test_adopted_processes_go_on_from_where_they_were() -> None:
    run = Run()
    assert run(Adopt(((3, Phase.DRAINING), (4, Phase.READY), (5, Phase.STARTING)))) == []
    assert run.state == "ready"
    assert run(Ready(5)) == [Promote(5), End(4, Urgency.DRAIN)]
    assert run(Tick(), after=20) == [End(3, Urgency.QUICK), End(4, Urgency.QUICK)]
    run = Run()
    assert run(Adopt(((1, Phase.READY), (2, Phase.READY)))) == [End(1, Urgency.DRAIN)]
    run = Run()
    assert run(Adopt(((1, Phase.DRAINING),))) == [Spawn(2)]


def test_adopted_processes_of_a_slot_that_is_to_be_empty_drain() -> None:
    run = Run()
    assert run(Adopt(((1, Phase.DRAINING), (2, Phase.READY)), drains=True)) == [End(2, Urgency.DRAIN)]
    assert run(Exited(1, "exit code 0")) == []
    assert run(Exited(2, "exit code 0")) == []
    assert run.state == "stopped"


def test_a_stop_ends_old_and_new() -> None:
    run = Run()
    run.until_ready()
    run(Replace(held=False))
    assert run(Stop(5)) == [End(1, Urgency.DRAIN), End(2, Urgency.QUICK)]
    assert run(Exited(1, "x")) == []
    assert run(Exited(2, "x")) == []
    assert run.slot.incarnations == ()


@pytest.mark.parametrize("fact", [Ready(9), Exited(9, "x"), Unhealthy(9, "x"), Recycle(9, "x")])
def test_facts_about_processes_that_are_gone_change_nothing(fact: Fact) -> None:
    run = Run()
    run.until_ready()
    before = run.slot
    assert run(fact) == []
    assert run.slot == before


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_the_invariants_hold(seed: int) -> None:
    rng = random.Random(seed)
    run = Run()
    urgency: dict[int, int] = {}
    order = list(Urgency)
    stopped = False
    for _ in range(300):
        numbers = [i.number for i in run.slot.incarnations] or [0]
        number = rng.choice([*numbers, rng.randint(0, 5)])
        facts: list[Fact] = [
            Ready(number),
            Exited(number, "x"),
            Unhealthy(number, "x"),
            Recycle(number, "x"),
            Tick(),
        ]
        if not run.slot.incarnations and run.slot.state is not SlotState.BACKOFF:
            facts.append(Start())
        if run.slot.state is not SlotState.STOPPED and len(run.slot.incarnations) < 4:
            facts += [Replace(rng.random() < 0.5), Swap(), Abandon()]
        if rng.random() < 0.02:
            facts = [Stop(rng.choice([0.0, 5.0]))]
        fact = rng.choice(facts)
        next_number = run.slot.next_number
        served = run.slot.ready
        effects = run(fact, after=rng.uniform(0, 5))
        stopped = isinstance(fact, Stop) or (stopped and not isinstance(fact, Start))
        for effect in effects:
            if isinstance(effect, Spawn):
                assert not stopped
                assert effect.number == next_number
                assert effect.number in [i.number for i in run.slot.incarnations]
            if isinstance(effect, End):
                assert effect.number in [i.number for i in run.slot.incarnations]
                assert order.index(effect.urgency) > urgency.get(effect.number, -1)
                urgency[effect.number] = order.index(effect.urgency)
            if isinstance(effect, Promote):
                assert run.slot.ready
        if served and not isinstance(fact, Exited | Stop):
            assert run.slot.ready  # whoever serves is replaced, and not just ended
        assert len([i for i in run.slot.incarnations if i.phase is Phase.READY and not i.leaving]) <= 1
        if run.slot.state is SlotState.RUNNING:
            assert any(i.phase is not Phase.DRAINING for i in run.slot.incarnations)
        assert (run.slot.retry_at is not None) == (run.slot.state is SlotState.BACKOFF)
    run(Stop(0))
    for incarnation in run.slot.incarnations:
        run(Exited(incarnation.number, "x"))
    assert run.slot.incarnations == ()
    assert run.slot.due_at() is None
