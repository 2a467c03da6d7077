"""A full disk ends no process, and everything continues once there is room again. On a small disk of its own."""

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.support.cluster import Cluster, wsd
from tests.support.disk import fill, small_disk_at
from tests.support.ports import unused_port
from tests.support.waiting import eventually
from wsd.supervisor.config.settings import LogConfig
from wsd.supervisor.logs.events import parse_events
from wsd.supervisor.logs.rotation import Rotation, rotate
from wsd.worker.contract.events import EventHandler

pytestmark = pytest.mark.anyio


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The state directory."""
    with small_disk_at(tmp_path / ".wsd") as directory:
        yield directory


def half_written(directory: Path) -> list[str]:
    """Return the names of files that were to replace others and could not be written."""
    return [path.name for path in directory.rglob("*.new")]


async def test_a_full_disk_ends_nothing_and_is_said_in_the_right_words(tmp_path: Path, small_disk: Path) -> None:
    config = """
        [health]
        heartbeat_interval = 0.1
        heartbeat_timeout = 0.8
        probe_timeout = 0.3
        [security]
        bytes_per_second = 0
    """
    with Cluster(tmp_path, "--workers", "2", config=config) as cluster:
        before = cluster.status()
        assert before.valkey is not None
        assert before.valkey.uptime_seconds is not None
        client = await cluster.client()
        ballast = fill(small_disk)
        refused = {"type": "ack"}
        while refused["type"] == "ack":
            refused = await client.ask(type="publish", channel="news", data="x" * 10_000)
        fill(small_disk)
        await eventually(lambda: any("its disk is full" in text for text in cluster.status().problems))
        shown = cluster.wsd("status")
        assert shown.returncode == 1
        assert "Redis refuses to write: its disk is full" in shown.stdout
        assert "does not answer" not in shown.stdout

        # Nothing can be recorded of a process that dies meanwhile, and another takes its place all the same.
        killed = cluster.worker(2).pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await eventually(lambda: cluster.replaced(2, killed))
        refused_upgrade = cluster.wsd("upgrade")
        assert refused_upgrade.returncode == 1
        assert "state.json cannot be written" in refused_upgrade.stderr
        assert "this one keeps running" in refused_upgrade.stderr
        seen = cluster.status().valkey
        assert seen is not None
        end = (seen.uptime_seconds or 0) + 2.5  # three times health.heartbeat_timeout

        def has_lived_on() -> bool:
            valkey = cluster.status().valkey
            assert valkey is not None
            assert (valkey.pid, valkey.restarts) == (before.valkey.pid if before.valkey else None, 0)
            return (valkey.uptime_seconds or 0) > end

        await eventually(has_lived_on)
        assert cluster.worker(1).pid == before.workers[0].pid
        assert half_written(small_disk) == []

        ballast.unlink()
        await eventually(cluster.is_healthy)
        assert (await client.ask(type="publish", channel="news", data="again"))["type"] == "ack"
        recorded = cluster.worker(2).pid
        await eventually(lambda: recorded in [record.pid for record in cluster.state_dir.read_state().processes])
        await client.close()
        fill(small_disk)
        cluster.signal(signal.SIGKILL)
        cluster.wait()
        stopped = cluster.wsd("stop", "--timeout", "0")
        assert stopped.returncode == 0, stopped.stderr
        assert "ended the processes that a dead supervisor had left running" in stopped.stdout


async def test_a_valkey_that_refuses_everything_is_not_taken_for_hung(tmp_path: Path) -> None:
    config = "[health]\nheartbeat_interval = 0.1\nheartbeat_timeout = 0.8\nprobe_timeout = 0.3\n"
    with Cluster(tmp_path, "--workers", "1", "--no-nginx", config=config) as cluster:
        before = cluster.status()
        assert before.valkey is not None

        async def is_left_alone(words: str) -> None:
            """Wait until the status says this, and for twice health.heartbeat_timeout after that."""
            await eventually(lambda: any(words in text for text in cluster.status().problems))
            end = (cluster.status().supervisor.uptime_seconds or 0) + 1.6
            await eventually(lambda: (cluster.status().supervisor.uptime_seconds or 0) > end)
            after = cluster.status()
            assert after.valkey is not None
            assert before.valkey is not None
            assert (after.valkey.pid, after.workers[0].pid) == (before.valkey.pid, before.workers[0].pid)

        async with Redis.from_url(f"unix://{cluster.state_dir.valkey_socket}") as redis:
            await redis.config_set("maxmemory", 1)
            await is_left_alone("its memory is full")
            await redis.config_set("maxmemory", 0)
            await eventually(cluster.is_healthy)
            await redis.replicaof("127.0.0.1", unused_port())
            await is_left_alone("it is a replica")
            await redis.replicaof("NO", "ONE")
            await eventually(cluster.is_healthy)
            await redis.config_set("busy-reply-threshold", 1)
            script: asyncio.Future[object] = asyncio.ensure_future(redis.eval("while true do end", 0))
            await is_left_alone("busy with a script")
            async with Redis.from_url(f"unix://{cluster.state_dir.valkey_socket}") as other:
                await other.script_kill()
            with pytest.raises(RedisError):
                await script
            await eventually(cluster.is_healthy)


def test_commands_on_a_full_disk_end_with_one_line(tmp_path: Path, small_disk: Path) -> None:
    small_disk.chmod(0o700)
    fill(small_disk)
    for command in (("start",), ("status",), ("stop",)):
        result = wsd(*command, cwd=tmp_path)
        assert "Traceback" not in result.stderr, result.stderr
        assert result.stderr.count("\n") <= 1, result.stderr
        if command[0] == "start":
            assert "No space left on device" in result.stderr
            assert result.returncode == 1


@pytest.mark.parametrize("room_for_copy", [0, 300_000])
def test_rotation_without_room_leaves_all_logs_as_they_are(
    small_disk: Path, room_for_copy: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = small_disk / "worker-1.log"
    log.write_bytes(b"now" * 200_000)
    for number in (1, 2, 3):
        log.with_name(f"{log.name}.{number}").write_bytes(b"%d" % number)
    ballast = fill(small_disk)
    os.truncate(ballast, ballast.stat().st_size - room_for_copy)
    if room_for_copy:  # as if somebody had taken the room that there was
        monkeypatch.setattr("wsd.supervisor.logs.rotation._check_room", lambda path, size: None)
    names = sorted(path.name for path in small_disk.iterdir())
    rotation = Rotation()
    for _ in range(3):
        rotation.look(log, LogConfig(max_bytes=100_000, backups=3))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot rotate" in caplog.text
    assert sorted(path.name for path in small_disk.iterdir()) == names
    assert log.stat().st_size == 600_000
    assert [log.with_name(f"{log.name}.{number}").read_bytes() for number in (1, 2, 3)] == [b"1", b"2", b"3"]

    ballast.unlink()
    assert rotate(log, 100_000, 3)
    assert log.stat().st_size == 0
    assert log.with_name(f"{log.name}.1").stat().st_size == 600_000
    assert [log.with_name(f"{log.name}.{number}").read_bytes() for number in (2, 3)] == [b"1", b"2"]


def test_an_event_after_one_that_was_cut_is_whole(small_disk: Path) -> None:
    path = small_disk / "events.jsonl"
    path.write_bytes(b"x" * 4085 + b"\n")  # ten bytes are left of the page that it has
    ballast = fill(small_disk)
    handler = EventHandler(str(path), "test")
    handler.emit(logging.makeLogRecord({"msg": "cut"}))
    assert path.stat().st_size == 4096
    ballast.unlink()
    for text in ("whole", "whole, too"):
        handler.emit(logging.makeLogRecord({"msg": text}))
    assert [event.text for event in parse_events(path.read_text().splitlines())] == ["whole", "whole, too"]
