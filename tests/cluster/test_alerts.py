"""Alerts of a real cluster reach a command and a web server."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.cluster import FAST_HEALTH, Cluster, wsd
from tests.support.ports import unused_port
from tests.support.valkey import server
from tests.support.waiting import until

SCRIPT = "#!/bin/sh\ncat >> $0.jsonl\necho >> $0.jsonl\n"
HANGING_SCRIPT = "#!/bin/sh\necho $$ > $0.pid\nsleep 600 & wait\n"


class Receiver(BaseHTTPRequestHandler):
    alerts: list[Any]
    may_answer: threading.Event

    def do_POST(self) -> None:
        self.alerts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.may_answer.wait(60)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[Any], threading.Event]]:
    """Yield the URL of a web server, the list of the alerts that it was sent, and whether it answers."""
    alerts: list[Any] = []
    may_answer = threading.Event()
    may_answer.set()
    handler = type("OwnReceiver", (Receiver,), {"alerts": alerts, "may_answer": may_answer})
    http = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/hook", alerts, may_answer
    may_answer.set()
    http.shutdown()
    http.server_close()


def seen(alerts: list[Any]) -> list[tuple[str, str]]:
    return [(alert["event"], alert["problem"]) for alert in alerts]


def kill_worker(cluster: Cluster, slot: int) -> None:
    # A worker that a takeover has started stands behind those that it has adopted.
    [worker] = [worker for worker in cluster.status().workers if worker.slot == slot]
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)


def test_a_killed_worker_and_an_outage_of_redis_reach_operators(
    tmp_path: Path, receiver: tuple[str, list[Any], threading.Event]
) -> None:
    """One cluster for all, since it is expensive: each part begins without open problems, or says which are open."""
    url, posted, may_answer = receiver
    script = tmp_path / "alert.sh"
    script.write_text(SCRIPT)
    script.chmod(0o700)
    settings = f'[alerts]\ncommand = "./alert.sh"\nurl = "{url}"\ndelay_seconds = 1.0\ntimeout = 100.0\n'
    settings += "[redis]\nstand_in = false\n[restart]\nmax_restarts = 1\n"
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        Cluster(tmp_path, "--workers", "2", "--redis-url", redis.url, config=FAST_HEALTH + settings) as cluster,
    ):
        assert "url: the test alert was accepted" in cluster.wsd("alerts", "test").stdout
        expected = [("test", "test")]
        assert seen(posted) == expected

        # A worker that crashes is started again. The next crash is one too many: it is given up, and is one problem.
        kill_worker(cluster, 1)
        expected += [("began", "worker-1"), ("ended", "worker-1")]
        until(lambda: seen(posted) == expected, "the begin and the end of the crash")
        kill_worker(cluster, 1)
        until(lambda: cluster.worker(1).state == "failed", "the worker to be given up")
        expected += [("began", "worker-1")]
        until(lambda: seen(posted) == expected, "the second begin")

        # A supervisor that was upgraded announces no open problem again, and neither has ended.
        redis.kill()
        expected += [("began", "redis")]
        until(lambda: seen(posted) == expected, "the alert about Redis")
        assert cluster.wsd("upgrade").returncode == 0
        assert json.loads(cluster.state_dir.open_alerts.read_text())
        redis.start()

        # The new supervisor has started worker 1 again, so that its problem ended while nobody looked.
        until(lambda: len(posted) == len(expected) + 2, "the end of both problems")
        assert sorted(seen(posted)[len(expected) :]) == [("ended", "redis"), ("ended", "worker-1")]
        assert not cluster.state_dir.open_alerts.exists()

        log = tmp_path / "alert.sh.jsonl"
        until(lambda: list(map(json.loads, log.read_text().splitlines())) == posted, "the same alerts by the command")

        # A stop waits for neither a command nor a server that hangs, and leaves nothing behind.
        may_answer.clear()
        script.write_text(HANGING_SCRIPT)
        kill_worker(cluster, 2)
        until((tmp_path / "alert.sh.pid").exists, "the hanging command")
        until(lambda: len(posted) == len(expected) + 3, "the hanging request")
        hanging = psutil.Process(int((tmp_path / "alert.sh.pid").read_text()))
        pids = [*cluster.pids(), hanging.pid, *(child.pid for child in hanging.children())]
        assert cluster.wsd("stop", "--timeout", "0", timeout=30).returncode == 0
        assert "the supervisor ends before all alerts have arrived" in cluster.log("supervisor")
        cluster.assert_nothing_is_left(pids)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("", "nothing would send alerts: set alerts.command or alerts.url"),
        ('command = "false"', "alerts.command ended with exit code 1"),
        ('command = "/nowhere/alert"', "alerts.command cannot be run: "),
        ('command = "sleep 60"\ntimeout = 0.2', "alerts.command did not end within 0.2 s, and was killed"),
        ('url = "http://127.0.0.1:1/"', "alerts.url cannot be reached: "),
        ('url = "ftp://host/"', "alerts.url must be a URL like"),
        ('command = "mail \'ops"', "alerts.command has a quotation mark without its partner"),
    ],
)
def test_an_alert_that_does_not_arrive_is_one_line(tmp_path: Path, settings: str, problem: str) -> None:
    (tmp_path / "wsd.toml").write_text(f"[alerts]\n{settings}\n")
    found = wsd("alerts", "test", cwd=tmp_path)
    assert found.returncode in (1, 2)
    assert problem in found.stderr
    assert len(found.stderr.splitlines()) == 1
