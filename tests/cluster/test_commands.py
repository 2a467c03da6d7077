"""`wsd status`, `wsd render-nginx`, `wsd config`: their output and their exit codes."""

import json
import os
import re
import signal
from pathlib import Path

import pytest
from msgspec import Struct

from tests.support.cluster import ROOT, Cluster, clean_env, wsd
from tests.support.waiting import until
from wsd.supervisor.control import status as records


def test_status_shows_every_process(cluster: Cluster) -> None:
    def nothing_happens() -> bool:
        workers = cluster.status().workers
        return all((w.connections, w.messages_in_per_second, w.messages_out_per_second) == (0, 0, 0) for w in workers)

    until(nothing_happens, "workers that have told that they have no clients and no messages")
    result = cluster.wsd("status")
    assert (result.returncode, result.stderr) == (0, "")
    lines = {line.split()[0]: line.split() for line in result.stdout.splitlines()}
    assert " ".join(lines["NAME"]) == "NAME WORKER ID PID STATE UPTIME RESTARTS CPU % RSS CONNS MSG/S IN/OUT BEAT LAG"
    status = cluster.status()
    for worker in status.workers:
        cells = lines[worker.name]
        assert cells[1:4] == [worker.worker_id, str(worker.pid), "READY"]
        assert re.fullmatch(r"(\d+m)?\d+s", cells[4])
        assert cells[5] == "0"
        assert float(cells[6]) >= 0
        assert (cells[8], cells[9], cells[10]) == ("MB", "0", "0/0")
        assert (cells[12], cells[14]) == ("s", "ms")
    assert lines["supervisor"][1:3] == [str(status.supervisor.pid), "RUNNING"]
    for name in ("nginx", "valkey"):
        assert lines[name][2] == "READY"
    assert lines["redis:"][-1] == "reachable"


RECORDS = [each for each in vars(records).values() if isinstance(each, type) and issubclass(each, Struct)]


def test_status_as_json_has_the_documented_fields(cluster: Cluster) -> None:
    result = cluster.wsd("status", "--json")
    assert result.returncode == 0
    status = json.loads(result.stdout)
    rows = [line.split("|")[1] for line in (ROOT / "docs" / "status.md").read_text().splitlines() if line[:3] == "| `"]
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert documented == {name for record in RECORDS for name in record.__struct_fields__}
    shown = {*status, *status["supervisor"], *status["workers"][0], *status["redis"], *status["nodes"][0]}
    assert shown <= documented
    assert status["version"] == 1
    assert status["state"] == "healthy"
    assert status["problems"] == []
    assert [worker["slot"] for worker in status["workers"]] == [1, 2, 3, 4]


@pytest.mark.anyio
async def test_status_counts_connections_and_messages(cluster: Cluster) -> None:
    clients = [await cluster.client() for _ in range(5)]
    until(lambda: sum(worker.connections or 0 for worker in cluster.status().workers) == 5)
    for client in clients:
        await client.close()
    until(lambda: sum(worker.connections or 0 for worker in cluster.status().workers) == 0)


def test_status_is_degraded_while_a_worker_is_away(tmp_path: Path) -> None:
    config = "[restart]\nmax_restarts = 0\n"
    with Cluster(tmp_path, "--workers", "2", config=config) as cluster:
        pid = cluster.worker(2).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: cluster.worker(2).state == "failed")
        result = cluster.wsd("status")
        assert result.returncode == 1
        assert "wsd is DEGRADED" in result.stdout
        assert "! worker-2 is failed, last end: killed by SIGKILL" in result.stdout


def test_status_of_a_supervisor_that_does_not_answer_fails_and_says_so(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        cluster.signal(signal.SIGSTOP)
        try:
            result = cluster.wsd("status")
        finally:
            cluster.signal(signal.SIGCONT)
        assert result.returncode == 1
        assert cluster.process is not None
        assert f"the supervisor (pid {cluster.process.pid}) does not answer" in result.stderr


def test_render_nginx_needs_nothing_running(tmp_path: Path) -> None:
    result = wsd("render-nginx", "--workers", "3", cwd=tmp_path)
    assert result.returncode == 0
    assert set(re.findall(r"worker-\d\.sock", result.stdout)) == {"worker-1.sock", "worker-2.sock", "worker-3.sock"}
    assert list(tmp_path.iterdir()) == []


def test_render_nginx_is_what_start_uses(cluster: Cluster) -> None:
    result = cluster.wsd("render-nginx", "--workers", "4", "--config", str(cluster.directory / "again.toml"))
    assert result.returncode == 2  # there is no such file
    (cluster.directory / "again.toml").write_text(f"[cluster]\nport = {cluster.port}\n")
    result = cluster.wsd("render-nginx", "--workers", "4", "--config", "again.toml", "--check")
    assert result.returncode == 0
    assert result.stdout == (cluster.state_dir.nginx / "nginx.conf").read_text()
    assert cluster.is_healthy()


def test_render_nginx_writes_a_checked_file(tmp_path: Path) -> None:
    result = wsd("render-nginx", "--check", "--output", "out.conf", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "")
    assert "upstream workers" in (tmp_path / "out.conf").read_text()


def test_render_nginx_check_prints_the_error_of_nginx(tmp_path: Path) -> None:
    (tmp_path / "wsd.toml").write_text('[nginx]\ntls_certificate = "no.pem"\ntls_key = "no.key"\n')
    result = wsd("render-nginx", "--check", cwd=tmp_path)
    assert result.returncode == 1
    assert "nginx refuses its configuration" in result.stderr
    assert str(tmp_path / "no.pem") in result.stderr
    assert result.stderr.count("\n") == 1
    assert wsd("start", cwd=tmp_path).returncode == 1


def test_render_nginx_to_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    result = wsd("render-nginx", "--output", "no/such/dir", cwd=tmp_path)
    assert result.returncode == 1
    assert "cannot write no/such/dir: No such file or directory" in result.stderr


def test_config_shows_each_value_and_where_it_came_from(tmp_path: Path) -> None:
    (tmp_path / "wsd.toml").write_text("[cluster]\nport = 9000\nworkers = 2\n\n[nginx]\nworkers = 1\n")
    result = wsd("config", cwd=tmp_path, env=clean_env(WSD_PORT="9001", REDIS_URL="redis://u:hunter2@h/1"))
    assert result.returncode == 0
    assert "port = 9001  # WSD_PORT" in result.stdout
    assert "workers = 2  # wsd.toml line 3" in result.stdout
    assert "workers = 1  # wsd.toml line 6" in result.stdout
    assert 'host = "127.0.0.1"  # default' in result.stdout
    assert 'url = "redis://u:***@h/1"  # REDIS_URL' in result.stdout
    assert "hunter2" not in result.stdout


def test_an_unknown_wsd_variable_is_a_warning(tmp_path: Path) -> None:
    result = wsd("config", cwd=tmp_path, env=clean_env(WSD_WOKERS="2"))
    assert result.returncode == 0
    assert result.stderr == "wsd: warning: WSD_WOKERS is not a setting of wsd, did you mean WSD_WORKERS?\n"
