"""When autoscaling waits, and what it observes."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from wsd.supervisor.cluster import Cluster
from wsd.supervisor.config.loading import load
from wsd.supervisor.control.commands import begin_scale
from wsd.supervisor.control.problems import unknown, warnings
from wsd.supervisor.deploys.autoscaler import load_of, uncertainty
from wsd.supervisor.deploys.operations import Operations
from wsd.supervisor.errors import CommandError
from wsd.supervisor.monitoring.redis_errors import RedisUnusableError
from wsd.supervisor.monitoring.scaling import Load
from wsd.supervisor.processes.children import Child
from wsd.supervisor.processes.pulse import Pulse
from wsd.supervisor.processes.slot import Incarnation, Phase, SlotState
from wsd.supervisor.services.programs import Programs
from wsd.supervisor.services.worker import WorkerService
from wsd.supervisor.state_dir.directory import StateDir
from wsd.supervisor.state_dir.records import SavedState
from wsd.worker.contract.heartbeat import Heartbeat, WorkerState


class Watch:
    """A watch over a Redis that is well."""

    def __init__(self) -> None:
        self.error: RedisUnusableError | None = None
        self.info: dict[str, int] = {}
        self.sentinels = None


def heartbeat(slot: int, connections: int) -> Heartbeat:
    return Heartbeat(
        worker_id=f"worker-{slot}-0000",
        node_id="node",
        slot=slot,
        pid=1,
        beat=1,
        uptime=1.0,
        state=WorkerState.READY,
        connections=connections,
        messages_in=0,
        messages_out=0,
        loop_lag=0.0,
        rss=0,
        redis=True,
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster of two workers that serve as far as the supervisor knows, none of which is a process."""
    (tmp_path / "wsd.toml").write_text(
        "[cluster]\nworkers = 2\n[scale]\nmin = 2\nmax = 4\nconnections_per_worker = 10\ncpu = 0.5\n"
    )
    state_dir = StateDir(tmp_path / ".wsd")
    state_dir.acquire()
    state_dir.create()
    cluster = Cluster(
        load({}, {}, str(tmp_path / "wsd.toml"), tmp_path), state_dir, SavedState(), Programs(), umask=0o077
    )
    cluster.redis_watch = Watch()  # type: ignore[assignment]
    for slot, connections in ((1, 3), (2, 7)):
        child = cluster.children.add(cluster.make_worker(slot))
        incarnation = Incarnation(1, Phase.READY, 0.0)
        child.slot = replace(child.slot, state=SlotState.RUNNING, incarnations=(incarnation,))
        child.pulses[1] = Pulse(seen_at=cluster.clock.now(), beat=heartbeat(slot, connections))
        child.cpu_percent = 30.0
    yield cluster
    state_dir.lock.release()


def second(cluster: Cluster) -> Child[WorkerService]:
    return cluster.workers[1]


def drain(cluster: Cluster) -> None:
    cluster.children.drained.add("worker-2")


def end(cluster: Cluster) -> None:
    second(cluster).slot = replace(second(cluster).slot, state=SlotState.BACKOFF, incarnations=())


def replace_process(cluster: Cluster) -> None:
    slot = second(cluster).slot
    second(cluster).slot = replace(slot, incarnations=(*slot.incarnations, Incarnation(2, Phase.STARTING, 0.0)))


def begin_anew(cluster: Cluster) -> None:
    second(cluster).pulses[1].beat = None


def fall_silent(cluster: Cluster) -> None:
    second(cluster).pulses[1].seen_at -= 6


def lose_redis(cluster: Cluster) -> None:
    assert cluster.redis_watch is not None
    cluster.redis_watch.error = RedisUnusableError("away")


def have_no_redis(cluster: Cluster) -> None:
    cluster.redis_watch = None


def have_no_measurement(cluster: Cluster) -> None:
    second(cluster).cpu_percent = None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda cluster: None, None),
        (drain, "worker-2 is drained"),
        (end, "worker-2 does not serve"),
        (replace_process, "worker-2 is being replaced"),
        (begin_anew, "there is no heartbeat of worker-2"),
        (fall_silent, "there is no heartbeat of worker-2"),
        (lose_redis, "Redis cannot be used"),
        (have_no_redis, "there is no Redis"),
        (have_no_measurement, "the CPU use of worker-2 is not measured yet"),
    ],
)
def test_it_waits_while_it_is_unknown_what_the_workers_can_carry(
    cluster: Cluster, change: Callable[[Cluster], None], reason: str | None
) -> None:
    change(cluster)
    assert uncertainty(cluster) == reason


def test_the_load_is_that_of_all_workers(cluster: Cluster) -> None:
    assert load_of(cluster.workers) == Load(workers=2, connections=10, most_connections=7, cpu=0.6)


@pytest.mark.parametrize(("workers", "key"), [(1, "min"), (5, "max")])
def test_a_number_beyond_the_limits_is_refused_by_hand(cluster: Cluster, workers: int, key: str) -> None:
    with pytest.raises(CommandError, match=f"autoscaling keeps 2 to 4 workers: for {workers}, change scale.{key} in "):
        begin_scale(cluster, Operations(), workers)


def test_a_load_beyond_the_most_workers_is_a_warning(cluster: Cluster) -> None:
    policy = cluster.scaling
    policy.decide(Load(4, 50, 20, 1.0), cluster.config.scale, 0)
    assert "autoscaling" in {warning.key for warning in warnings(cluster)}
    assert "autoscaling" not in unknown(cluster, is_busy=False)
    policy.wait("worker-2 is drained")
    assert "autoscaling" in unknown(cluster, is_busy=False)
