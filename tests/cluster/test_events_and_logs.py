"""The file of events, the logs, and the commands that show them."""

import asyncio
import getpass
import http.client
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.cluster import WSD, Cluster, wsd
from tests.support.waiting import eventually, until
from wsd.supervisor.unix_http import request
from wsd.worker.contract.http_paths import OPERATOR_KEY_HEADER

pytestmark = pytest.mark.anyio


async def test_events_say_what_happened_and_outlive_the_cluster(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        pid = cluster.worker(2).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await eventually(lambda: cluster.replaced(2, pid))
        client = await cluster.client()
        cluster.wsd("restart")
        await client.connection.wait_closed()
        shown = cluster.wsd("events").stdout
    lines = shown.splitlines()
    assert "worker-2 ended (killed by SIGKILL), restart 1 in 0.0 s" in shown
    assert "restart is done" in lines[-1]
    assert any("worker-" in line and line.endswith("draining 1 connections") for line in lines)  # a worker's own
    assert wsd("events", cwd=tmp_path).stdout.startswith(shown)
    found = wsd("events", "--json", "-n", "1", cwd=tmp_path).stdout
    assert json.loads(found)["text"] == "stopping, asked for by SIGINT"
    assert wsd("events", "--since", "2100-01-01", cwd=tmp_path).stdout == ""


async def test_events_say_who_asked(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        client = await cluster.client("ann")
        await cluster.run("kick", "ann")
        await client.connection.wait_closed()
        await asyncio.to_thread(cluster.wsd, "kick", "nobody")
        await cluster.run("drain", "2")
        page = http.client.HTTPConnection("127.0.0.1", cluster.port, timeout=10)
        token = cluster.status().dashboard_url.partition("?token=")[2]
        headers = {"X-WSD-Dashboard": "1", "Authorization": f"Bearer {token}"}
        page.request("POST", "/_wsd/dashboard/api/resume", '{"slot": 2}', headers)
        assert page.getresponse().status == 202
        page.close()
        await eventually(lambda: "resume is done" in cluster.log("supervisor"))
        cluster.signal(signal.SIGHUP)
        await eventually(lambda: "reload is done" in cluster.log("supervisor"))
        key = {OPERATOR_KEY_HEADER: cluster.state_dir.operator_key_path.read_text()}
        request(cluster.state_dir.control_socket, "POST", "/v1/rebalance", 10, {}, headers=key)
        await cluster.run("stop")
        shown = cluster.wsd("events").stdout
    user = getpass.getuser()
    for text in (
        f"kick ends 1 session, asked for by wsd kick, user {user}",
        f"drain begins, asked for by wsd drain, user {user}",
        "resume begins, asked for by the dashboard, from 127.0.0.1",
        "reload begins, asked for by SIGHUP",
        "rebalance begins, asked for by a request on the control socket",
        f"stopping, asked for by wsd stop, user {user}",
    ):
        assert f"{text}\n" in shown, shown
    assert shown.count("kick ends") == 1


async def test_a_slow_reader_is_an_event(tmp_path: Path) -> None:
    config = "[websocket]\nmax_buffer_bytes = 20000\n[security]\nbytes_per_second = 0\n"
    with Cluster(tmp_path, "--workers", "1", config=config) as cluster:
        slow = await cluster.client("slow")
        slow.connection.transport.pause_reading()
        sender = await cluster.client("fast")

        async def told() -> bool:
            for _ in range(20):
                await sender.send({"text": "x" * 50_000})
            return "closed user 'slow', who reads too slowly" in cluster.wsd("events").stdout

        for _ in range(100):
            if await told():
                break
        else:
            raise AssertionError("nobody was told")
        await sender.close()
        slow.connection.transport.abort()


def test_logs_are_chosen_by_process_time_and_text(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        cluster.wsd("restart", "2")
        one = cluster.wsd("logs", "1").stdout
        assert "subscribed" in one
        assert " | " not in one  # one log needs no names
        both = cluster.wsd("logs", "supervisor", "2", "--grep", "STARTED|subscribed").stdout.splitlines()
        assert {line.split(" | ")[0].strip() for line in both} == {"supervisor", "worker-2"}
        times = [line.split(" | ")[1][:23] for line in both]
        assert times == sorted(times)
        assert len(cluster.wsd("logs", "-n", "3").stdout.splitlines()) == 3
        assert cluster.wsd("logs", "--since", "2100-01-01").stdout == ""
        wrong = cluster.wsd("logs", "9")
        assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
        assert 'there is no log of "worker-9"' in wrong.stderr


@pytest.mark.parametrize("command", ["logs", "events"])
def test_follow_prints_new_lines_as_they_come(tmp_path: Path, command: str) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        shown = tmp_path / "shown.txt"
        with shown.open("wb") as output:
            # A test that was started in the background of a shell ignores SIGINT, and so does what it starts.
            line = ["env", "--default-signal=INT", *WSD, command, "-f"]
            following = subprocess.Popen(line, cwd=tmp_path, env=cluster.env, stdout=output)
        try:
            until(lambda: "worker-1" in shown.read_text() or "is up" in shown.read_text())
            cluster.wsd("restart")
            until(lambda: "worker-1 was replaced by a new process" in shown.read_text())
        finally:
            following.send_signal(signal.SIGINT)
            assert following.wait(10) == 130


def test_logs_in_json_and_rotated_by_size(tmp_path: Path) -> None:
    config = '[log]\nformat = "json"\nmax_bytes = 4096\nbackups = 1\n'
    with Cluster(tmp_path, "--workers", "1", config=config) as cluster:
        line = json.loads(cluster.log("worker-1").splitlines()[0])
        assert line.keys() >= {"at", "level", "logger", "message", "worker_id"}
        assert json.loads(cluster.log("supervisor").splitlines()[-1])["process"] == "supervisor"
        log = cluster.state_dir.log("worker-1")
        with log.open("a") as writer:
            writer.write("x" * 5000 + "\n")
        until(lambda: log.with_name("worker-1.log.1").exists() and log.stat().st_size < 5000)
        pid = cluster.worker(1).pid
        cluster.wsd("restart")
        assert cluster.replaced(1, pid)
        until(lambda: "subscribed" in log.read_text())


def test_logs_of_nothing_are_an_error(tmp_path: Path) -> None:
    result = wsd("logs", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (1, 1)
    assert "there are no logs in" in result.stderr
    assert wsd("events", cwd=tmp_path).stdout == ""
