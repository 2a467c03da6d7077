"""`wsd bench` on a real cluster: it counts what is there, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import jwt
import pytest

from tests.support.apps import copy_app
from tests.support.cluster import WSD, Cluster, wsd
from tests.support.waiting import eventually, long_run, until

SMALL = ("bench", "--connections", "40", "--channels", "2", "--rate", "50", "--duration", "1")


@pytest.mark.anyio
async def test_bench_delivers_everything_and_reports_the_cost(cluster: Cluster) -> None:
    result = cluster.wsd(*SMALL, "--json")
    assert result.returncode == 0, result.stderr + result.stdout
    figures = json.loads(result.stdout)
    assert (figures["connected"], figures["published"]) == (40, 50)
    assert figures["delivered"] == figures["expected"] == 50 * 20
    assert sum(bucket["count"] for bucket in figures["histogram"]) == 1000
    assert 0 < figures["latency"]["p50"] <= figures["latency"]["p99"] <= figures["latency"]["most"]
    assert {"workers", "nginx", "valkey", "load"} == figures["cpu_us_per_delivery"].keys()
    assert figures["passed"]
    await eventually(lambda: json.loads(cluster.wsd("sessions", "--json").stdout)["total"] == 0)


def test_people_get_a_table_and_a_histogram(cluster: Cluster) -> None:
    result = cluster.wsd(*SMALL)
    assert result.returncode == 0, result.stderr + result.stdout
    assert "delivered         1,000 of 1,000" in result.stdout
    assert "errors            none" in result.stdout
    assert "█" in result.stdout
    assert " ms  " in result.stdout


@long_run
def test_failures_during_a_run_are_counted(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:

        def is_under_way() -> bool:
            return any(worker.messages_out_per_second for worker in cluster.status().workers)

        command = [*WSD, *SMALL[:-1], "12", "--json"]
        with subprocess.Popen(command, cwd=tmp_path, env=cluster.env, stdout=subprocess.PIPE, text=True) as bench:
            until(is_under_way)
            pid = cluster.worker(1).pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            until(lambda: cluster.replaced(1, pid), "the killed worker to be replaced")
            output, _ = bench.communicate(timeout=60)
        assert bench.returncode == 1
        figures = json.loads(output)
        assert figures["lost"]["1006"] > 0
        assert figures["delivered"] < figures["expected"]


def test_bench_says_why_it_cannot_measure(tmp_path: Path) -> None:
    result = wsd(*SMALL, cwd=tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (3, 1)
    with Cluster(tmp_path, "--workers", "1", "--app", copy_app("greeting", tmp_path)) as cluster:
        result = cluster.wsd(*SMALL)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "does not speak the hub's protocol" in result.stderr


def test_bench_needs_a_token_for_a_cluster_with_authentication(tmp_path: Path) -> None:
    secret = "s" * 40
    with Cluster(tmp_path, "--workers", "1", config=f'[security]\njwt_secret = "{secret}"\n') as cluster:
        result = cluster.wsd(*SMALL)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "closed with 1008 (a token is missing)" in result.stderr
        assert "--token" in result.stderr
        token = jwt.encode({"sub": "bench", "exp": time.time() + 60}, secret, "HS256")
        assert cluster.wsd(*SMALL, "--token", token).returncode == 0
