"""A Redis that is not ours: absent, back again, closed to us, shared by nodes."""

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, wsd
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from tests.support.waiting import eventually

FAST_HEALTH = "[health]\nheartbeat_interval = 0.2\n"


@pytest.mark.anyio
async def test_a_start_without_its_redis_is_degraded_and_recovers_by_itself(tmp_path: Path) -> None:
    port = unused_port()
    url = f"redis://127.0.0.1:{port}"
    alone = FAST_HEALTH + "[redis]\nstand_in = false\n"
    with Cluster(tmp_path, "--workers", "2", "--redis-url", url, config=alone) as cluster:
        assert f"Redis {url} is not reachable (" in cluster.output
        assert "): starting without it, until it comes back" in cluster.output
        assert "wsd is up, but degraded" in cluster.output
        status = cluster.status()
        assert status.state == "degraded"
        assert status.valkey is None
        assert not status.redis.reachable
        assert cluster.wsd("status").returncode == 1
        code, health = cluster.health()
        assert (code, health["status"], health["websocket"]["mode"]) == (200, "degraded", "local")
        assert health["reason"].startswith("Redis is not reachable, messages stay on this worker: ")
        one, two = await cluster.client_of(1), await cluster.client_of(2)
        other = await cluster.client_of(1)
        await one.send({"text": "local"})
        assert (await other.next_message())["data"] == {"text": "local"}
        assert (await one.next_message())["data"] == {"text": "local"}
        with valkey(tmp_path / "redis", port):
            await eventually(cluster.is_healthy, "recovery")
            assert (await two.next_message())["data"] == {"text": "local"}  # it waited
            await one.send({"text": "all"})
            assert (await two.next_message())["data"] == {"text": "all"}
            assert [worker.restarts for worker in cluster.status().workers] == [0, 0]
        await eventually(lambda: cluster.status().state == "degraded")
        for client in (one, two, other):
            await client.send({"type": "ping"})  # nobody was disconnected
            await client.close()


@pytest.mark.anyio
async def test_without_its_redis_a_node_is_whole_through_its_own_valkey(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{unused_port()}"
    with Cluster(tmp_path, "--workers", "2", "--redis-url", url, config=FAST_HEALTH) as cluster:
        status = cluster.status()
        assert status.valkey is not None
        assert status.valkey.state == "ready"
        assert not status.redis.embedded
        assert any("messages stay on this node" in problem for problem in status.problems)
        assert cluster.health()[1]["websocket"]["mode"] == "stand-in"
        one, two = await cluster.client_of(1, "ann"), await cluster.client_of(2, "bob")
        await one.send({"text": "hi"})
        assert (await two.next_message())["data"] == {"text": "hi"}
        await two.ask(type="subscribe", channel="room")
        await one.ask(type="publish", channel="room", data=1)
        assert (await two.next_message())["channel"] == "room"
        await one.ask(type="direct", user_id="bob", data=2)
        assert (await two.next_message())["data"] == 2
        await one.close()
        await two.close()


@pytest.mark.anyio
async def test_a_fallback_valkey_that_dies_or_hangs_is_replaced(tmp_path: Path) -> None:
    url = f"redis://127.0.0.1:{unused_port()}"
    config = "[health]\nheartbeat_interval = 0.2\nheartbeat_timeout = 1.0\nprobe_timeout = 0.5\n"
    with Cluster(tmp_path, "--workers", "1", "--redis-url", url, config=config) as cluster:
        for signum in (signal.SIGKILL, signal.SIGSTOP):
            before = cluster.status().valkey
            assert before is not None
            assert before.pid is not None
            old = before.pid
            os.kill(old, signum)
            await eventually(lambda: is_replaced(cluster, old))  # noqa: B023 - awaited within the round
            await eventually(lambda: cluster.health()[1]["websocket"]["mode"] == "stand-in")
        nginx = cluster.status().nginx
        assert nginx is not None
        assert nginx.restarts == 0  # it was well all the time


def is_replaced(cluster: Cluster, old_pid: int) -> bool:
    valkey = cluster.status().valkey
    return valkey is not None and valkey.state == "ready" and valkey.pid != old_pid


def test_a_wrong_password_fails_the_start(tmp_path: Path) -> None:
    with valkey(tmp_path / "redis", unused_port(), "--requirepass", "sesame") as url:
        wrong = url.replace("//", "//:wrong-one@")
        for redis_url in (url, wrong):
            result = wsd("start", "--redis-url", redis_url, "--port", str(unused_port()), cwd=tmp_path)
            assert result.returncode == 1
            assert "refuses us: " in result.stderr
            assert "check the user of REDIS_URL, its password and its permissions" in result.stderr
            assert "wrong-one" not in result.stderr + result.stdout
            assert result.stderr.count("\n") == 1
        right = url.replace("//", "//:sesame@")
        with Cluster(tmp_path, "--workers", "1", "--redis-url", right) as cluster:
            assert cluster.is_healthy()
            assert "sesame" not in cluster.output + cluster.wsd("status").stdout + cluster.wsd("config").stdout


def test_a_redis_user_without_permissions_fails_the_start(tmp_path: Path) -> None:
    user = ("--user", "reader", "on", ">sesame", "~*", "&*", "+@read")
    with valkey(tmp_path / "redis", unused_port(), *user) as url:
        reader = url.replace("//", "//reader:sesame@")
        result = wsd("start", "--redis-url", reader, "--port", str(unused_port()), cwd=tmp_path)
        assert result.returncode == 1
        assert "refuses us: " in result.stderr
        assert "its permissions" in result.stderr
        assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "code", "expected"),
    [
        ("localhost:6379", 2, "redis.url must begin with redis://, rediss:// or unix://"),
        ("http://localhost", 2, "redis.url must begin with redis://, rediss:// or unix://"),
        ("redis://127.0.0.1:lots", 2, "redis.url has no number as its port"),
    ],
)
def test_a_malformed_redis_url_is_an_error_of_one_line(tmp_path: Path, url: str, code: int, expected: str) -> None:
    result = wsd("start", "--redis-url", url, "--port", str(unused_port()), cwd=tmp_path)
    assert result.returncode == code
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.anyio
async def test_nodes_that_share_a_redis_are_one_cluster(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        Cluster(tmp_path / "a", "--workers", "1", "--redis-url", url, "--node-id", "node-a") as a,
        Cluster(tmp_path / "b", "--workers", "1", "--redis-url", url, "--node-id", "node-b") as b,
    ):
        on_a, on_b = await a.client(), await b.client()
        assert (on_a.welcome["node_id"], on_b.welcome["node_id"]) == ("node-a", "node-b")
        await on_a.send({"text": "across"})
        assert (await on_b.next_message())["data"] == {"text": "across"}
        await eventually(lambda: a.health()[1]["websocket"]["total_workers"] == 2)
        await on_a.close()
        await on_b.close()


def test_a_node_id_that_is_live_elsewhere_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with (
        valkey(tmp_path / "redis", unused_port()) as url,
        Cluster(tmp_path / "a", "--workers", "1", "--redis-url", url, "--node-id", "same") as a,
    ):
        arguments = ("--workers", "1", "--redis-url", url, "--node-id", "same", "--port", str(unused_port()))
        result = wsd("start", *arguments, cwd=tmp_path / "b")
        assert result.returncode == 1
        assert f'node id "same" is live on host {socket.gethostname()} (pid' in result.stderr
        assert f"(pid {a.status().supervisor.pid}) already; give this one another with --node-id" in result.stderr
        assert a.is_healthy()
        assert a.wsd("stop").returncode == 0
        with Cluster(tmp_path / "b", *arguments[:-2]) as b:  # its lease was given back
            assert b.is_healthy()


@pytest.mark.parametrize("kind", ["replica", "cluster"])
def test_a_server_that_can_never_serve_is_refused_at_the_start(tmp_path: Path, kind: str) -> None:
    primary = unused_port()
    of_cluster = ("--cluster-enabled", "yes", "--cluster-port", str(unused_port()))
    options = of_cluster if kind == "cluster" else ("--replicaof", f"127.0.0.1 {primary}")
    problem = {
        "replica": f"leads to a replica, which stores nothing: name its primary, 127.0.0.1:{primary}",
        "cluster": "leads to a Redis Cluster, which wsd does not support: name a single Redis or Valkey",
    }[kind]
    with valkey(tmp_path / "redis", unused_port(), *options) as url:
        result = wsd("start", "--port", str(unused_port()), "--redis-url", url, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr == f"wsd: REDIS_URL {url} {problem}\n"
