"""The problems of a cluster, and of which nothing is known at present."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.config.loading import load
from wsd.supervisor.control.problems import by_text, problems, unknown
from wsd.supervisor.processes.slot import Incarnation, Phase, SlotState
from wsd.supervisor.services.programs import Programs
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import SavedState


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of two workers, of which the first serves, and none is a process."""
    state_dir = StateDir(tmp_path / ".wsd")
    state_dir.acquire()
    state_dir.create()
    cluster = Cluster(load({}, {}, None, tmp_path), state_dir, SavedState(), Programs(), umask=0o077)
    for slot in (1, 2):
        cluster.children.add(cluster.make_worker(slot))
    change(cluster, 1, state=SlotState.RUNNING, incarnations=(Incarnation(1, Phase.READY, 0.0),))
    yield cluster
    state_dir.lock.release()


def change(cluster: Cluster, worker: int, **values: object) -> None:
    child = cluster.workers[worker - 1]
    child.slot = replace(child.slot, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize("state", SlotState)
def test_a_worker_that_does_not_serve_is_one_problem_whatever_the_reason(cluster: Cluster, state: SlotState) -> None:
    change(cluster, 2, state=state)
    [problem] = problems(cluster)
    assert problem.key == "worker-2"
    assert problem.is_urgent == (state is SlotState.FAILED)


def test_an_operation_makes_the_state_of_an_unready_slot_unknown(cluster: Cluster) -> None:
    assert {"worker-1", "worker-2", "connections"}.isdisjoint(unknown(cluster, is_busy=False))
    found = set(unknown(cluster, is_busy=True))
    assert {"worker-2", "connections"} <= found
    assert "worker-1" not in found


def test_whether_a_worker_without_a_heartbeat_reaches_redis_is_unknown(cluster: Cluster) -> None:
    assert {"worker-1 redis", "worker-2 redis"} <= set(unknown(cluster, is_busy=False))


def test_a_slot_that_was_drained_has_no_problems(cluster: Cluster) -> None:
    cluster.children.drained.add("worker-2")
    assert list(problems(cluster)) == []
    assert not any(key.startswith("worker-2") for key in unknown(cluster, is_busy=True))


def test_a_problem_is_the_same_while_its_figures_change() -> None:
    assert by_text("expires in 12 days").key == by_text("expires in 1 day").key
    assert by_text("refused by 1 worker").key == by_text("refused by 2 workers").key
    assert by_text("expires in 12 days").key != by_text("has expired").key
