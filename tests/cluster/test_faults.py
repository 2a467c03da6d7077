"""Processes that fail are noticed and replaced, and new clients are not affected."""

import asyncio
import os
import signal
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support.apps import copy_app
from tests.support.cluster import FAST_HEALTH, Cluster
from tests.support.handshakes import Handshakes
from tests.support.signals import stopped
from tests.support.waiting import eventually, long_run, until

pytestmark = pytest.mark.anyio


async def test_a_killed_worker_is_replaced_and_no_handshake_fails(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        handshakes = Handshakes(cluster.port)
        async with asyncio.TaskGroup() as tasks:
            load = tasks.create_task(handshakes.run())
            await eventually(lambda: handshakes.succeeded > 20)
            for slot in (1, 2, 1):
                # Two of two killed at once could only fail: the other one must be back.
                await eventually(cluster.is_healthy)
                pid = cluster.worker(slot).pid
                assert pid is not None
                os.kill(pid, signal.SIGKILL)
                replaced = await eventually(partial(cluster.replaced, slot, pid))
                assert replaced.last_exit == "killed by SIGKILL"
            seen = handshakes.succeeded
            await eventually(lambda: handshakes.succeeded > seen + 20)
            handshakes.enough = True
            await load
        assert handshakes.failures == []
        assert cluster.worker(1).restarts == 2
        assert "worker-1 ended (killed by SIGKILL), restart 1 in 0.0 s" in cluster.log("supervisor")


async def test_clients_of_a_killed_worker_are_closed_and_the_others_are_not(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        one, two = await cluster.client_of(1), await cluster.client_of(2)
        pid = cluster.worker(1).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await one.connection.wait_closed()
        await eventually(lambda: cluster.replaced(1, pid))
        back = await cluster.client_of(1)
        assert back.worker_id != one.worker_id
        await two.send({"text": "hello again"})
        assert (await back.receive())["data"] == {"text": "hello again"}
        await two.close()
        await back.close()


async def test_a_worker_that_hangs_is_killed_and_replaced(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2", config=FAST_HEALTH) as cluster:
        pid = cluster.worker(1).pid
        assert pid is not None
        with stopped(pid):
            replaced = await eventually(lambda: cluster.replaced(1, pid))
        assert replaced.last_exit == "killed by SIGKILL"
        assert "worker-1 hangs, no sign of life for" in cluster.log("supervisor")
        assert cluster.worker(2).restarts == 0


async def test_a_worker_that_exits_with_0_is_replaced_too(tmp_path: Path) -> None:
    app = copy_app("crashing", tmp_path)
    with Cluster(tmp_path, "--workers", "1", "--app", app) as cluster:
        pid = cluster.worker(1).pid
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port)
        writer.write(b"GET /end?code=0 HTTP/1.0\r\n\r\n")
        await reader.read()
        writer.close()
        replaced = await eventually(lambda: cluster.replaced(1, pid))
        assert replaced.last_exit == "exit code 0"


async def test_a_terminated_worker_is_replaced(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        pid = cluster.worker(1).pid
        assert pid is not None
        os.kill(pid, signal.SIGTERM)
        await eventually(lambda: cluster.replaced(1, pid))
        log = cluster.log("supervisor")
        assert "worker-1 ended (exit code 0)" in log
        # A worker removes its socket before it ends. If the guard of files sees that first, it is no restart.
        assert cluster.worker(1).restarts == (0 if "worker-1 has lost its socket" in log else 1)


async def test_a_worker_that_keeps_crashing_is_given_up_and_the_others_go_on(tmp_path: Path) -> None:
    app = copy_app("crashing", tmp_path)
    config = "[restart]\nbackoff_initial = 0.05\nbackoff_max = 0.1\nmax_restarts = 2\n"
    with Cluster(tmp_path, "--workers", "2", "--app", app, config=config) as cluster:
        (tmp_path / "broken").touch()
        pid = cluster.worker(1).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: cluster.worker(1).state == "failed")
        assert cluster.worker(2).state == "ready"
        assert cluster.health()[0] == 200
        result = cluster.wsd("status")
        assert result.returncode == 1
        assert "worker-1 is failed, last end: exit code 4; its log ends with:" in result.stdout
        assert "slot 1 is broken today" in result.stdout
        assert "giving up on it" in cluster.log("supervisor")


async def test_a_killed_valkey_comes_back_with_its_data_and_messages_cross_again(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        one, two = await cluster.client_of(1), await cluster.client_of(2)
        valkey = cluster.status().valkey
        assert valkey is not None
        assert valkey.pid is not None
        reader, writer = await asyncio.open_unix_connection(cluster.state_dir.valkey_socket)
        writer.write(b"SET kept yes\r\nCONFIG SET appendfsync always\r\nSET kept yes\r\n")
        for _ in range(3):
            assert await reader.readline() == b"+OK\r\n"
        writer.close()
        os.kill(valkey.pid, signal.SIGKILL)
        await eventually(lambda: (now := cluster.status().valkey) and now.state == "ready" and now.pid != valkey.pid)
        reader, writer = await asyncio.open_unix_connection(cluster.state_dir.valkey_socket)
        writer.write(b"GET kept\r\n")
        assert await reader.readline() == b"$3\r\n"
        writer.close()
        assert [worker.restarts for worker in cluster.status().workers] == [0, 0]

        await two.wait_for_broadcasts_of(one)
        await eventually(cluster.is_healthy)
        await one.close()
        await two.close()


async def test_a_valkey_that_hangs_is_replaced_and_no_worker_is(tmp_path: Path) -> None:
    config = FAST_HEALTH + "[redis]\ntimeout = 0.5\n"
    with Cluster(tmp_path, "--workers", "2", config=config) as cluster:
        valkey = cluster.status().valkey
        assert valkey is not None
        assert valkey.pid is not None
        with stopped(valkey.pid):
            await eventually(
                lambda: (now := cluster.status().valkey) and now.state == "ready" and now.pid != valkey.pid
            )
        await eventually(cluster.is_healthy)
        assert [worker.restarts for worker in cluster.status().workers] == [0, 0]


async def test_a_killed_nginx_comes_back_on_its_port(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        client = await cluster.client()
        nginx = cluster.status().nginx
        assert nginx is not None
        assert nginx.pid is not None
        os.kill(nginx.pid, signal.SIGKILL)
        await eventually(lambda: (now := cluster.status().nginx) and now.state == "ready" and now.pid != nginx.pid)
        # Its orphaned processes keep their clients, but not the port.
        await client.send({"text": "kept"})
        assert (await client.receive())["data"] == {"text": "kept"}
        assert cluster.health()[0] == 200
        fresh = await cluster.client()
        await fresh.close()
        await client.close()


async def test_a_worker_over_its_memory_limit_is_recycled(tmp_path: Path) -> None:
    config = "[health]\nheartbeat_interval = 0.2\nmax_rss = 120000000\n"
    app = copy_app("greedy", tmp_path)
    with Cluster(tmp_path, "--workers", "1", "--app", app, config=config) as cluster:
        pid = cluster.worker(1).pid
        reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b"kept")
        writer.close()
        replaced = await eventually(lambda: cluster.replaced(1, pid))
        assert replaced.restarts == 0
        assert "health.max_rss is 120000000: replacing it" in cluster.log("supervisor")
        await eventually(lambda: cluster.worker(1).last_exit == "exit code 0")


async def test_no_restart_loses_a_worker_of_the_count(tmp_path: Path) -> None:
    """Kill all workers at once: all come back, and Redis counts as many as there are."""
    with Cluster(tmp_path, "--workers", "3") as cluster:
        pids = [worker.pid for worker in cluster.status().workers]
        for pid in pids:
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
        for slot, pid in enumerate(pids, 1):
            until(partial(cluster.replaced, slot, pid))
        await eventually(lambda: cluster.health()[1]["websocket"]["total_workers"] == 3)


async def test_an_nginx_that_hangs_is_replaced(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1", config=FAST_HEALTH) as cluster:
        nginx = cluster.status().nginx
        assert nginx is not None
        assert nginx.pid is not None
        pids = [nginx.pid, *(child.pid for child in psutil.Process(nginx.pid).children())]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: (new := cluster.status().nginx) and new.pid != pids[0] and new.state == "ready")
        assert cluster.health()[0] == 200
        assert "nginx hangs" in cluster.log("supervisor")
        until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


async def test_an_nginx_configuration_that_was_edited_is_restored(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        path = cluster.state_dir.nginx / "nginx.conf"
        rendered = path.read_text()
        path.write_text(rendered.replace("unix:", "unix:/nowhere"))
        nginx = cluster.status().nginx
        assert nginx is not None
        assert nginx.pid is not None
        os.kill(nginx.pid, signal.SIGHUP)
        await eventually(lambda: path.read_text() == rendered)
        await eventually(lambda: cluster.get("/health")[0] == 200)
        assert "nginx.conf was changed or removed by somebody else" in cluster.wsd("events").stdout


@pytest.mark.parametrize("limit", ["max_age = 1.0", pytest.param("max_messages = 10", marks=long_run)])
async def test_old_workers_are_replaced_one_by_one_and_no_handshake_fails(tmp_path: Path, limit: str) -> None:
    config = f"[health]\nheartbeat_interval = 0.2\n{limit}\n"
    with Cluster(tmp_path, "--workers", "2", config=config) as cluster:
        pids = [worker.pid for worker in cluster.status().workers]
        handshakes = Handshakes(cluster.port)
        load = asyncio.create_task(handshakes.run())
        talker = await cluster.client_of(1)
        for number in range(20):
            await talker.send({"text": str(number)})
        await eventually(lambda: cluster.replaced(1, pids[0]))
        handshakes.enough = True
        await load
        assert handshakes.failures == []
        assert "health.max_" in cluster.wsd("events").stdout
        await talker.close()


async def test_a_drain_may_wait_for_the_connections_to_end(tmp_path: Path) -> None:
    config = '[cluster]\ndrain = "wait"\ndrain_seconds = 3\n'
    with Cluster(tmp_path, "--workers", "1", config=config) as cluster:
        ends, stays = await cluster.client(), await cluster.client()
        restarting = asyncio.create_task(asyncio.to_thread(cluster.wsd, "restart"))
        await eventually(lambda: "draining 2 connections" in cluster.log("worker-1"))
        assert (await ends.ask(type="ping"))["type"] == "pong"  # it goes on meanwhile
        await ends.close()
        await stays.connection.wait_closed()
        assert stays.connection.close_code == 1012
        assert (await restarting).returncode == 0
