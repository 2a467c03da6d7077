"""`wsd chaos` against a cluster: what it proves, and what it says when it cannot."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.apps import copy_app
from tests.support.cluster import Cluster, wsd
from tests.support.waiting import long_run, until
from wsd.supervisor.chaos.survey import look
from wsd.supervisor.chaos.verdict import discrepancies
from wsd.supervisor.control.client import ControlClient
from wsd.supervisor.machine.identity import MARK

FAULTS = "worker-kill,worker-stop,nginx-reload,pubsub-kill,client-drop"


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=long_run)])
def test_thirty_seconds_of_faults_lose_nothing(tmp_path: Path, seed: int) -> None:
    with Cluster(tmp_path, "--workers", "4") as cluster:
        arguments = ["--duration", "30", "--subscribers", "20", "--rate", "15", "--seed", str(seed), "--json"]
        result = cluster.wsd("chaos", *arguments, timeout=120)
        verdict = json.loads(result.stdout)
        assert (verdict["lost"], verdict["duplicated"], verdict["out_of_order"], verdict["holes"]) == (0, 0, 0, 0)
        assert result.returncode == 0, result.stderr
        assert sum(verdict["faults"].values()) >= 5
        assert verdict["expected"] == 20 * verdict["acked"] > 0
        assert verdict["told"] == 0
        assert json.loads(cluster.wsd("sessions", "--json").stdout)["total"] == 0


@long_run
def test_deploys_of_changed_code_under_load_and_faults_lose_nothing(tmp_path: Path) -> None:
    app = copy_app("versioned", tmp_path)
    with Cluster(tmp_path, "--workers", "3", "--app", app) as cluster, ThreadPoolExecutor(1) as beside:
        arguments = ["--duration", "25", "--subscribers", "15", "--rate", "15", "--json"]
        load = beside.submit(cluster.wsd, "chaos", "--faults", FAULTS, *arguments, timeout=120)
        version = 0
        while not load.done():
            copy_app("versioned", tmp_path, f"VERSION = {version + 1}")
            result = cluster.wsd("restart")
            if result.returncode == 0:
                version += 1
                assert cluster.get("/") == (200, str(version).encode())
            else:  # a worker was killed as it started: the old ones keep running
                assert "keep running" in result.stderr
        verdict = json.loads(load.result().stdout)
        assert (verdict["lost"], verdict["duplicated"], verdict["out_of_order"], verdict["holes"]) == (0, 0, 0, 0)
        assert verdict["expected"] == 15 * verdict["acked"] > 0
        assert verdict["told"] == 0
        assert version >= 3


def test_wrong_arguments_of_chaos_are_errors_of_one_line(cluster: Cluster, tmp_path: Path) -> None:
    none = wsd("chaos", "--state-dir", str(tmp_path / "none"), cwd=tmp_path)
    assert (none.returncode, none.stderr.count("\n")) == (3, 1)
    assert "no cluster runs in" in none.stderr
    wrong = cluster.wsd("chaos", "--faults", "meteor")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert 'there is no fault "meteor"' in wrong.stderr
    short = cluster.wsd("chaos", "--duration", "3")
    assert (short.returncode, short.stderr.count("\n")) == (2, 1)


def test_chaos_refuses_a_cluster_with_authentication(tmp_path: Path) -> None:
    config = f'[security]\njwt_secret = "{"s" * 32}"\n'
    with Cluster(tmp_path, "--workers", "1", config=config) as cluster:
        result = cluster.wsd("chaos", "--duration", "11", timeout=60)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "without authentication" in result.stderr


def test_chaos_finds_processes_sockets_and_sessions_that_status_does_not_name(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:

        def told() -> list[str]:
            return discrepancies(look(cluster.state_dir, ControlClient(cluster.state_dir), []))

        assert told() == []
        mark = {**os.environ, MARK: str(cluster.state_dir.root)}
        argv = [sys.executable, "-c", "import time; time.sleep(60)", "wsd.worker"]
        stray = subprocess.Popen(argv, env=mark, start_new_session=True)
        try:
            until(told)
            assert f"pid {stray.pid} belongs to the cluster, but is in neither the status nor state.json" in told()[0]
        finally:
            stray.kill()
            stray.wait()
        assert told() == []
        client = ControlClient(cluster.state_dir)
        (found,) = discrepancies(look(cluster.state_dir, client, ["nobody"]))
        assert found == "nobody is connected once, but its sessions name no worker"


@long_run
def test_chaos_fails_if_the_supervisor_is_gone_at_the_end(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster, ThreadPoolExecutor(1) as beside:
        arguments = ["--duration", "11", "--subscribers", "2", "--publishers", "1", "--faults", "client-drop", "--json"]
        run = beside.submit(cluster.wsd, "chaos", *arguments, timeout=120)
        until(lambda: cluster.worker(1).connections == 3)
        cluster.kill_supervisor()
        result = run.result()
        verdict = json.loads(result.stdout)
        assert (result.returncode, verdict["lost"], verdict["failed_faults"]) == (1, 0, [])
        assert "its cluster still has 3 processes" in verdict["discrepancies"][0]


def test_a_fault_that_the_cluster_has_no_process_for_is_refused(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1", "--no-nginx") as cluster:
        result = cluster.wsd("chaos", "--duration", "11", "--faults", "nginx-kill,client-drop")
        assert (result.returncode, result.stderr.count("\n")) == (2, 1)
        assert "this cluster has no process of its own for nginx-kill" in result.stderr
