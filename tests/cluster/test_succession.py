"""A takeover takes all or leaves all, and signals are not lost."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from tests.support.apps import copy_app
from tests.support.cluster import WSD, Cluster
from tests.support.waiting import until
from wsd.supervisor.state_dir.records import SavedState

ADOPT_ORPHANS = "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1); os.execv(sys.argv[1], sys.argv[1:])"
"""Become a subreaper (PR_SET_CHILD_SUBREAPER), which gets orphans as PID 1 does, and then execute the supervisor."""


def zombies(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children() if child.status() == psutil.STATUS_ZOMBIE]


def test_signals_and_orphans_are_handled_as_by_pid_1(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "--workers", "1", "--app", copy_app("orphaning", tmp_path))
    cluster.command = [sys.executable, "-c", ADOPT_ORPHANS, *cluster.command]
    with cluster:
        pids = cluster.pids()
        until(lambda: not zombies(pids[0]), "orphans to be waited for")
        for signum in (signal.SIGUSR1, signal.SIGUSR2):
            cluster.signal(signum)
            until(lambda: f"{signum.name} is ignored" in cluster.log("supervisor"))  # noqa: B023
        # A reload that is asked for during an operation comes after it.
        (tmp_path / "wait").touch()
        restart = subprocess.Popen([*WSD, "restart"], cwd=tmp_path, env=cluster.env)
        until(lambda: cluster.status().operation)
        cluster.signal(signal.SIGHUP)
        cluster.signal(signal.SIGHUP)
        until(lambda: "the settings are read again after the restart" in cluster.log("supervisor"))
        (tmp_path / "wait").unlink()
        assert restart.wait(30) == 0
        until(lambda: "reload is done" in cluster.log("supervisor"))
        assert cluster.log("supervisor").count("reload begins") == 1
        until(lambda: not zombies(pids[0]), "orphans to be waited for")
        pids += cluster.pids()
        cluster.signal(signal.SIGQUIT)
        assert cluster.wait() == 0
        cluster.assert_nothing_is_left(pids)


def test_a_stop_does_not_wait_for_a_slow_start(tmp_path: Path) -> None:
    app = copy_app("slow_startup", tmp_path)
    config = "[cluster]\ndrain_seconds = 0.5\n"
    cluster = Cluster(tmp_path, "--workers", "1", "--app", app, config=config)
    try:
        cluster.launch()
        until(lambda: cluster.state_dir.log("worker-1").exists() and "starting" in cluster.log("worker-1"))
        begun = time.monotonic()
        cluster.signal(signal.SIGTERM)
        assert cluster.wait() == 0
        assert time.monotonic() - begun < 10  # of its 50 seconds
        assert "worker-1 ended" not in cluster.log("supervisor")
    finally:
        cluster.kill()


def test_a_second_upgrade_during_a_takeover_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    config = "[redis]\nconnect_timeout = 0.5\ntimeout = 0.5\n"
    with Cluster(tmp_path, "--workers", "2", config=config) as cluster:
        before = cluster.status()
        assert before.valkey is not None
        assert before.valkey.pid is not None
        os.kill(before.valkey.pid, signal.SIGSTOP)
        upgrade = subprocess.Popen([*WSD, "upgrade"], cwd=tmp_path, env=cluster.env)
        refused = [cluster.wsd("upgrade")]
        while upgrade.poll() is None:
            refused.append(cluster.wsd("upgrade"))
        with suppress(ProcessLookupError):  # it was replaced as one that hangs
            os.kill(before.valkey.pid, signal.SIGCONT)
        codes = {upgrade.returncode, *(result.returncode for result in refused)}
        assert 0 in codes <= {0, 1}
        assert {result.stderr.count("\n") for result in refused if result.returncode} <= {1}
        cluster.wait_until_healthy()
        after = cluster.status()
        assert [worker.pid for worker in after.workers] == [worker.pid for worker in before.workers]
        pids = [*cluster.pids(), before.valkey.pid]
        assert cluster.wsd("stop").returncode == 0
        cluster.assert_nothing_is_left(pids)


def test_a_supervisor_that_fails_after_a_takeover_leaves_all_that_it_found(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        pids = cluster.pids()[1:]
        cluster.kill_supervisor()
        left = cluster.state_dir.read_state()
        (tmp_path / "wsd.toml").write_text("[nginx]\nbinary = 'no-such-nginx'\n")
        cluster.launch()
        assert cluster.wait() != 0
        assert set(cluster.state_dir.read_state().processes) == set(left.processes)
        assert "2 processes" not in cluster.wsd("status").stderr
        assert "its cluster still has 4 processes" in cluster.wsd("status").stderr
        assert cluster.wsd("stop").returncode == 0
        cluster.assert_nothing_is_left(pids)
        assert cluster.state_dir.read_state() == SavedState()


def test_a_takeover_ends_processes_that_the_settings_no_longer_name(tmp_path: Path) -> None:
    """The settings have changed meanwhile, and the previous supervisor died while it scaled down."""
    with Cluster(tmp_path, "--workers", "2") as cluster:
        old = cluster.pids()[1:]
        cluster.kill_supervisor()
        path = cluster.state_dir.root / "state.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "workers": 1}))
        (tmp_path / "wsd.toml").write_text("[nginx]\nenabled = false\n[redis]\nembedded = false\n")
        cluster.launch()
        until(lambda: "wsd is up" in cluster.output)
        until(lambda: not any(map(psutil.pid_exists, old)), "the old processes to end")
        until(lambda: cluster.status().valkey is None)
        status = cluster.status()
        assert len(status.workers) == 1
        assert status.nginx is None
        until(lambda: cluster.health()[0] == 200)
