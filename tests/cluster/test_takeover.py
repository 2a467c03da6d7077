"""A supervisor ends and another one takes over; the processes that serve stay."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.handshakes import constant_handshakes
from tests.support.waiting import eventually, until

pytestmark = pytest.mark.anyio


async def test_a_new_supervisor_goes_on_where_one_was_killed(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        served = cluster.pids()[1:]
        client = await cluster.client()
        async with constant_handshakes(cluster):
            cluster.kill_supervisor()
            told = cluster.wsd("status")
            assert told.returncode == 3
            assert "its cluster still has 4 processes" in told.stderr
            cluster.launch()
            await eventually(lambda: "wsd is up" in cluster.output)
        assert set(served) <= set(cluster.pids())
        assert "worker-1  adopted" in cluster.output
        assert (await client.ask(type="ping"))["type"] == "pong"
        await client.close()
        await eventually(cluster.is_healthy)
        # It can do with them what it could with its own.
        status = cluster.status()
        for slot, worker in enumerate(status.workers, 1):
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            replaced = await eventually(lambda: cluster.replaced(slot, worker.pid))  # noqa: B023
            assert replaced.restarts == 1
        assert status.nginx is not None
        assert status.nginx.pid is not None
        os.kill(status.nginx.pid, signal.SIGKILL)
        old = status.nginx.pid
        await eventually(lambda: (nginx := cluster.status().nginx) and nginx.pid != old and nginx.state == "ready")
        assert cluster.health()[0] == 200
        cluster.signal(signal.SIGINT)
        assert cluster.wait() == 0


def test_a_supervisor_without_a_control_socket_leaves_the_processes_that_it_found(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        served = cluster.pids()[1:]
        cluster.kill_supervisor()
        blocked = cluster.state_dir.control_socket
        blocked.unlink()
        blocked.mkdir()
        cluster.launch()
        assert cluster.wait() == 1
        assert "cannot open the control socket" in cluster.output
        assert cluster.health()[0] == 200
        blocked.rmdir()
        cluster.output_path.unlink()
        cluster.launch()
        cluster.wait_until_up()
        assert set(served) <= set(cluster.pids())


async def test_processes_that_died_with_the_supervisor_are_started_again(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        status = cluster.status()
        kept = status.workers[0].pid
        cluster.kill_supervisor()
        for process in (status.workers[1], status.nginx, status.valkey):
            assert process is not None
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
        cluster.launch()
        cluster.wait_until_up()
        assert cluster.worker(1).pid == kept
        cluster.wait_until_healthy()
        client = await cluster.client_of(2)
        await client.close()


async def test_a_takeover_replaces_processes_with_other_settings(tmp_path: Path) -> None:
    config = tmp_path / "wsd.toml"
    config.write_text("[cluster]\nworkers = 2\n")
    with Cluster(tmp_path) as cluster:
        before = {worker.pid for worker in cluster.status().workers}
        cluster.kill_supervisor()
        config.write_text("[cluster]\nworkers = 2\n[websocket]\nping_interval = 20\n[nginx]\ndebug_headers = true\n")
        async with constant_handshakes(cluster):
            cluster.launch()
            await eventually(lambda: "wsd is up" in cluster.output)
            await eventually(lambda: before.isdisjoint(worker.pid for worker in cluster.status().workers))
        await eventually(lambda: cluster.status().operation is None)
        assert "X-Backend" in (cluster.state_dir.nginx / "nginx.conf").read_text()
        assert cluster.is_healthy()


async def test_a_count_by_hand_outlives_the_supervisor(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        assert cluster.wsd("scale", "2").returncode == 0
        cluster.kill_supervisor()
        cluster.launch()
        cluster.wait_until_up()
        assert [worker.slot for worker in cluster.status().workers] == [1, 2]


async def test_a_restart_that_lost_its_supervisor_is_finished_by_the_next(tmp_path: Path) -> None:
    more = "import os, time\nwhile os.path.exists('wait'): time.sleep(0.01)"
    app = f"from starlette.applications import Starlette\n{more}\napp = Starlette()\n"
    (tmp_path / "mine.py").write_text(app)
    with Cluster(tmp_path, "--workers", "1", "--app", "mine:app") as cluster:
        old = cluster.worker(1).pid
        (tmp_path / "wait").write_text("")
        restarting = asyncio.create_task(asyncio.to_thread(cluster.wsd, "restart", "--surge"))
        await eventually(lambda: len(cluster.state_dir.read_state().processes) == 4)
        cluster.kill_supervisor()
        result = await restarting
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert cluster.health()[0] == 200
        (tmp_path / "wait").unlink()
        cluster.launch()
        cluster.wait_until_up()
        await eventually(lambda: cluster.replaced(1, old))
        until(lambda: len(cluster.state_dir.read_state().processes) == 3)


async def test_an_upgrade_keeps_the_pid_the_lock_and_everybody_connected(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        pids = cluster.pids()
        client = await cluster.client()
        async with constant_handshakes(cluster):
            result = await asyncio.to_thread(cluster.wsd, "upgrade")
            assert result.returncode == 0, result.stderr
            assert cluster.wsd("status").returncode == 0
        assert set(cluster.pids()) == set(pids)
        assert (await client.ask(type="ping"))["type"] == "pong"
        await client.close()
        second = cluster.wsd("start", "--port", str(cluster.port))
        assert "runs in" in second.stderr  # the lock is held
        # Still its children: it knows how they end.
        worker = cluster.worker(1)
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        replaced = await eventually(lambda: cluster.replaced(1, worker.pid))
        assert replaced.last_exit == "killed by SIGKILL"
        cluster.signal(signal.SIGINT)
        assert cluster.wait() == 0


def test_an_upgrade_to_what_would_not_start_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wsd.toml").write_text("")
    with Cluster(tmp_path, "--workers", "1") as cluster:
        pids = cluster.pids()
        (tmp_path / "wsd.toml").write_text("[cluster]\nwokers = 1\n")
        other = tmp_path / "other.toml"
        other.write_text(f"[cluster]\nstate_dir = '{cluster.state_dir.root}'\n")
        result = cluster.wsd("upgrade", "--config", str(other))
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "the installed version would not start, this one keeps running: wsd: wsd.toml line 2" in result.stderr
        assert cluster.pids() == pids


def test_a_detached_supervisor_stays_detached_over_an_upgrade(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "--workers", "1")
    assert cluster.wsd("start", *cluster.arguments, "--detach").returncode == 0
    try:
        for _ in range(2):
            assert cluster.wsd("upgrade").returncode == 0
        assert cluster.wsd("restart").returncode == 0
        assert cluster.wsd("stop").returncode == 0
        assert "supervisor | " not in cluster.log("supervisor")  # it does not follow its own log
        assert cluster.log("supervisor").count("worker-1 was replaced by a new process") == 1
    finally:
        cluster.kill()
