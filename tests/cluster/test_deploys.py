"""Deploys while clients are connected: restart, scale, drain, reload. No client is lost for good."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.apps import copy_app
from tests.support.cluster import Cluster
from tests.support.handshakes import constant_handshakes
from tests.support.waiting import eventually, long_run, until
from wsd.client import WsdClient

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("workers", "way"),
    [
        ("3", "--surge"),
        ("1", "--one-by-one"),
        pytest.param("1", "--surge", marks=long_run),
        pytest.param("3", "--one-by-one", marks=long_run),
    ],
)
async def test_a_restart_replaces_every_process_and_no_handshake_fails(tmp_path: Path, workers: str, way: str) -> None:
    with Cluster(tmp_path, "--workers", workers) as cluster:
        before = {worker.pid for worker in cluster.status().workers}
        client = await cluster.client("ann")
        async with constant_handshakes(cluster):
            said = await cluster.run("restart", way)
        assert said.count("the old process has drained") == int(workers)
        after = cluster.status()
        assert before.isdisjoint(worker.pid for worker in after.workers)
        assert after.state == "healthy"
        assert [worker.restarts for worker in after.workers] == [0] * int(workers)
        await client.come_back(cluster)
        await client.close()
        assert not list(cluster.state_dir.sockets.glob("worker-*.*.sock"))


async def test_a_surge_moves_each_client_once(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "3") as cluster:
        clients = [await cluster.client("ann") for _ in range(12)]
        old = {client.worker_id for client in clients}
        restarting = asyncio.create_task(cluster.run("restart", "--surge"))
        await asyncio.gather(*(client.come_back(cluster) for client in clients))
        await restarting
        assert old.isdisjoint(client.worker_id for client in clients)
        for client in clients:
            assert (await client.ask(type="ping"))["type"] == "pong"
            await client.close()


async def test_new_code_comes_with_a_restart_and_broken_code_does_not(tmp_path: Path) -> None:
    app = copy_app("versioned", tmp_path)
    with Cluster(tmp_path, "--workers", "2", "--app", app) as cluster:
        assert cluster.get("/") == (200, b"one")
        copy_app("versioned", tmp_path, "VERSION = 'two'")
        await cluster.run("restart")
        assert cluster.get("/") == (200, b"two")
        pids = [worker.pid for worker in cluster.status().workers]
        for way in ("--surge", "--one-by-one"):
            copy_app("versioned", tmp_path, "raise RuntimeError('half done')")
            result = cluster.wsd("restart", way)
            assert (result.returncode, result.stderr.count("\n")) == (1, 1)
            assert "half done" in result.stderr
            assert [worker.pid for worker in cluster.status().workers] == pids
            until(lambda: len(cluster.state_dir.read_state().processes) == 4)  # what tried is gone
            assert cluster.get("/") == (200, b"two")
        assert cluster.is_healthy()


async def test_one_slot_is_restarted_and_the_others_are_not(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "3") as cluster:
        before = [worker.pid for worker in cluster.status().workers]
        progress = [json.loads(line) for line in (await cluster.run("restart", "2", "--json")).splitlines()]
        assert progress[-1] == {"done": True}
        assert any("worker-2: the new process is healthy" in line.get("text", "") for line in progress)
        after = [worker.pid for worker in cluster.status().workers]
        assert before[0] == after[0]
        assert before[1] != after[1]
        assert before[2] == after[2]
        result = cluster.wsd("restart", "9")
        assert result.returncode == 1
        assert "there is no slot 9: this cluster has slots 1 to 3" in result.stderr


async def test_a_worker_that_dies_during_a_restart_is_not_missed(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        before = {worker.pid for worker in cluster.status().workers}
        async with constant_handshakes(cluster):
            restarting = asyncio.create_task(cluster.run("restart", "--surge"))
            pid = cluster.worker(1).pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await restarting
        await eventually(cluster.is_healthy)
        assert before.isdisjoint(worker.pid for worker in cluster.status().workers)


async def test_scaling_up_and_down_drops_no_handshake(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        client = await cluster.client("ann")
        async with constant_handshakes(cluster):
            assert "4 workers" in await cluster.run("scale", "4")
            status = cluster.status()
            assert [worker.slot for worker in status.workers] == [1, 2, 3, 4]
            assert status.state == "healthy"
            await client.close()
            client = await cluster.client_of(4, "ann")
            await cluster.run("scale", "2")
            assert [worker.slot for worker in cluster.status().workers] == [1, 2]
            await client.come_back(cluster)
        assert (await client.ask(type="ping"))["type"] == "pong"
        await client.close()
        assert cluster.is_healthy()
        assert cluster.wsd("scale", "0").returncode == 2


async def test_a_scale_whose_workers_do_not_start_changes_nothing(tmp_path: Path) -> None:
    more = "import os\nif os.environ['WSD_WORKER_SLOT'] == '3': raise RuntimeError('no seat left')"
    app = copy_app("versioned", tmp_path, more)
    with Cluster(tmp_path, "--workers", "2", "--app", app) as cluster:
        config = (cluster.state_dir.nginx / "nginx.conf").read_text()
        result = cluster.wsd("scale", "4")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "no seat left" in result.stderr
        assert "2 workers as before" in result.stderr
        assert [worker.slot for worker in cluster.status().workers] == [1, 2]
        assert (cluster.state_dir.nginx / "nginx.conf").read_text() == config
        assert cluster.is_healthy()


async def test_a_drained_slot_stays_empty_until_it_is_resumed(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        client = await cluster.client_of(2, "ann")
        async with constant_handshakes(cluster):
            await cluster.run("drain", "2")
            await client.come_back(cluster)
            assert client.slot == 1
            status = cluster.status()
            assert (status.workers[1].state, status.state) == ("drained", "healthy")
            refused = cluster.wsd("drain", "1")
            assert refused.returncode == 1
            assert "worker-1 is the last worker that serves" in refused.stderr
            await cluster.run("restart")
            assert cluster.worker(2).state == "drained"
            await cluster.run("upgrade")
            assert cluster.worker(2).state == "drained"
            await cluster.run("resume", "2")
        assert cluster.worker(2).state == "ready"
        assert cluster.wsd("resume", "2").returncode == 1
        await client.close()


async def test_one_operation_at_a_time(tmp_path: Path) -> None:
    app = copy_app("versioned", tmp_path, "import os, time\nwhile os.path.exists('wait'): time.sleep(0.01)")
    with Cluster(tmp_path, "--workers", "1", "--app", app) as cluster:
        wait = tmp_path / "wait"
        wait.write_text("")
        restarting = asyncio.create_task(cluster.run("restart", "--surge"))
        await eventually(lambda: cluster.status().operation)
        result = cluster.wsd("scale", "2")
        assert result.returncode == 1
        assert "restart is under way" in result.stderr
        wait.unlink()
        await restarting
        assert cluster.status().operation is None


async def test_a_stop_during_a_restart_stops(tmp_path: Path) -> None:
    more = "import os, time\nwhile os.path.exists('wait'): time.sleep(0.01)"
    app = copy_app("versioned", tmp_path, more)
    with Cluster(tmp_path, "--workers", "1", "--app", app) as cluster:
        (tmp_path / "wait").write_text("")
        restarting = asyncio.create_task(asyncio.to_thread(cluster.wsd, "restart", "--surge"))
        await eventually(lambda: cluster.status().operation)
        assert (await asyncio.to_thread(cluster.wsd, "stop")).returncode == 0
        assert (await restarting).returncode == 1
        assert cluster.wait() == 0


async def test_a_reload_applies_what_has_changed(tmp_path: Path) -> None:
    config = tmp_path / "wsd.toml"
    config.write_text("[cluster]\nworkers = 2\n")
    with Cluster(tmp_path) as cluster:
        pids = [worker.pid for worker in cluster.status().workers]
        client = await cluster.client("ann")
        async with constant_handshakes(cluster):
            assert await cluster.run("reload") == "no setting has changed\n"
            config.write_text("[cluster]\nworkers = 2\n[nginx]\ndebug_headers = true\n")
            said = await cluster.run("reload")
            assert "nginx.debug_headers: false -> true" in said
            assert [worker.pid for worker in cluster.status().workers] == pids  # it is nginx's alone
            assert "X-Backend" in (cluster.state_dir.nginx / "nginx.conf").read_text()
            config.write_text("[cluster]\nworkers = 3\n[websocket]\nmax_message_bytes = 1000\n")
            said = await cluster.run("reload")
            assert "websocket.max_message_bytes: 65536 -> 1000" in said
        after = cluster.status()
        assert len(after.workers) == 3
        assert set(pids).isdisjoint(worker.pid for worker in after.workers)
        await client.come_back(cluster)
        await client.send("x" * 1001)
        await client.connection.wait_closed()
        assert client.connection.close_code == 1009


async def test_a_reload_that_cannot_be_leaves_all_as_it_was(tmp_path: Path) -> None:
    config = tmp_path / "wsd.toml"
    config.write_text("")
    with Cluster(tmp_path, "--workers", "1") as cluster:
        pids = cluster.pids()
        rendered = (cluster.state_dir.nginx / "nginx.conf").read_text()
        for text, code, words in (
            ("[cluster]\nnode_id = 'x'\n[nginx]\ndebug_headers = true\n", 1, "needs `wsd stop` and `wsd start`"),
            ("[nginx]\ntls_certificate = 'no.pem'\ntls_key = 'no.key'\n", 1, "nginx refuses its configuration"),
            ("[nginx]\ndebug_headers = true\n[cluster]\napp = 'no.such:app'\n", 1, "the settings are as before"),
            ("[cluster]\nwokers = 1\n", 2, "unknown key cluster.wokers"),
        ):
            config.write_text(text)
            result = cluster.wsd("reload")
            assert (result.returncode, result.stderr.count("\n")) == (code, 1), result.stderr
            assert words in result.stderr
            assert (cluster.state_dir.nginx / "nginx.conf").read_text() == rendered
            assert cluster.is_healthy()
        until(lambda: cluster.status().workers[0].pid in pids and len(cluster.pids()) == len(pids))


async def test_a_reload_whose_new_workers_do_not_start_leaves_all_as_it_was(tmp_path: Path) -> None:
    more = "import os\nif os.environ['WSD_WORKER_SLOT'] == '2': raise RuntimeError('no seat left')"
    app = copy_app("versioned", tmp_path, more)
    config = tmp_path / "wsd.toml"
    config.write_text("[cluster]\nworkers = 1\n")
    with Cluster(tmp_path, "--app", app) as cluster:
        rendered = (cluster.state_dir.nginx / "nginx.conf").read_text()
        config.write_text("[cluster]\nworkers = 2\n[nginx]\ndebug_headers = true\n")
        result = cluster.wsd("reload")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "no seat left" in result.stderr
        assert (cluster.state_dir.nginx / "nginx.conf").read_text() == rendered
        assert [worker.slot for worker in cluster.status().workers] == [1]
        config.write_text("[cluster]\nworkers = 1\n")
        assert cluster.wsd("reload").stdout == "no setting has changed\n"


async def test_sighup_reloads_and_logs_what_is_wrong(tmp_path: Path) -> None:
    config = tmp_path / "wsd.toml"
    config.write_text("")
    with Cluster(tmp_path, "--workers", "1") as cluster:
        pid = cluster.worker(1).pid
        config.write_text("[websocket]\nping_interval = 20\n")
        cluster.signal(signal.SIGHUP)
        await eventually(lambda: cluster.replaced(1, pid))
        config.write_text("[websocket]\nping_interval = 'often'\n")
        await eventually(lambda: cluster.status().operation is None)
        cluster.signal(signal.SIGHUP)
        await eventually(lambda: "reload failed: wsd.toml line 2: websocket.ping_interval" in cluster.log("supervisor"))
        assert cluster.is_healthy()


async def test_a_number_of_workers_that_was_set_by_hand_survives_a_reload(tmp_path: Path) -> None:
    config = tmp_path / "wsd.toml"
    config.write_text("[cluster]\nworkers = 1\n")
    with Cluster(tmp_path) as cluster:
        await cluster.run("scale", "2")
        config.write_text("[cluster]\nworkers = 1\n[nginx]\ndebug_headers = true\n")
        await cluster.run("reload")
        assert len(cluster.status().workers) == 2
        config.write_text("[cluster]\nworkers = 3\n[nginx]\ndebug_headers = true\n")
        await cluster.run("reload")
        assert len(cluster.status().workers) == 3


async def test_connections_move_to_workers_that_came_later_and_nothing_is_lost(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        async with AsyncExitStack() as stack:
            url = f"ws://127.0.0.1:{cluster.port}/ws"
            clients = [await stack.enter_async_context(WsdClient(url, f"u{n}")) for n in range(24)]
            for client in clients:
                await client.subscribe("news")
            await cluster.run("scale", "3")
            moving = asyncio.create_task(cluster.run("rebalance"))
            published = 0
            while not moving.done():
                await clients[published % len(clients)].publish("news", published)
                published += 1
            said = await moving
            assert "worker-1 closes 16 of 24 connections" in said
            await eventually(lambda: all(abs((w.connections or 0) - 8) <= 1 for w in cluster.status().workers))
            for client in clients:
                async with asyncio.timeout(10):
                    heard = [message async for message in islice_async(aiter(client), published)]
                assert [message["data"] for message in heard] == list(range(published))
        assert "connections: worker-1" in await cluster.run("rebalance")


async def islice_async(messages: AsyncIterator[Any], count: int) -> AsyncIterator[Any]:
    """Yield the first `count` messages."""
    async for message in messages:
        yield message
        count -= 1
        if not count:
            return


async def test_there_is_no_rebalance_where_an_address_says_on_which_worker_a_client_is(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2", config='[nginx]\naffinity = "ip"\n') as cluster:
        result = cluster.wsd("rebalance")
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert 'nginx.affinity "ip"' in result.stderr
