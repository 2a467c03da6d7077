"""Files of a running cluster are removed, by `git clean -fdx` or a cleaner of temporary files, and restored."""

import os
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, clean_env, wsd
from tests.support.ports import unused_port
from tests.support.waiting import until
from wsd.supervisor.control.stopping import stop


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster that every test leaves healthy, with other processes."""
    with Cluster(tmp_path_factory.mktemp("cluster"), "--workers", "2") as running:
        yield running


def is_whole(cluster: Cluster) -> bool:
    state_dir = cluster.state_dir
    files = [
        state_dir.control_socket,
        state_dir.worker_socket(1),
        state_dir.worker_socket(2),
        state_dir.valkey_socket,
        state_dir.nginx / "nginx.conf",
        state_dir.nginx / "client_body",
        state_dir.root / "state.json",
        state_dir.root / "operator.key",
        state_dir.logs,
    ]
    return all(path.exists() for path in files) and cluster.is_healthy() and cluster.health()[0] == 200


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "run/control.sock",
        "run/worker-2.sock",
        "run/valkey.sock",
        "lock",
        "operator.key",
        "state.json",
        "nginx",
        "nginx/client_body",
        "logs",
        ".",
    ],
)
def test_a_removed_file_of_the_state_directory_is_restored(cluster: Cluster, name: str) -> None:
    path = cluster.state_dir.root / name
    before = {worker.slot: worker.pid for worker in cluster.status().workers}
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    cluster.signal(signal.SIGUSR1)  # it has something to say, and its log may be gone
    if name in (".", "lock"):  # the lock is held by nobody now, and yet
        second = wsd("start", "--port", str(unused_port()), cwd=cluster.directory, env=cluster.env)
        assert second.returncode == 1
        assert f"a supervisor (pid {cluster.process.pid if cluster.process else 0}) runs in" in second.stderr
    until(lambda: is_whole(cluster), f"{name} to be restored")
    assert stat.S_IMODE(cluster.state_dir.control_socket.stat().st_mode) == 0o600
    if name == "run/worker-2.sock":
        until(lambda: cluster.replaced(2, before[2]))
        assert cluster.worker(1).pid == before[1]
    holder = cluster.state_dir.lock.open_holder()
    assert holder is not None
    os.close(holder)
    assert cluster.wsd("sessions").returncode == 0  # the workers know the supervisor's key
    assert cluster.wsd("events").returncode == 0


def test_a_restart_works_after_files_were_removed(cluster: Cluster) -> None:
    result = cluster.wsd("restart")
    assert result.returncode == 0, result.stderr
    until(lambda: is_whole(cluster))


def test_a_stop_needs_no_socket_and_returns_when_the_process_has_ended(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        pids = cluster.pids()
        cluster.state_dir.control_socket.unlink()
        assert stop(cluster.state_dir, 0).startswith("stopped the cluster")
        assert cluster.process is not None
        assert cluster.process.poll() == 0
        cluster.assert_nothing_is_left(pids)
        assert wsd("stop", cwd=tmp_path, env=clean_env()).returncode == 3
