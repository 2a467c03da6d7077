"""Alerts of a real cluster reach a command and a web server."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.cluster import FAST_HEALTH, Cluster, wsd
from tests.support.ports import unused_port
from tests.support.valkey import server
from tests.support.waiting import until

SCRIPT = "#!/bin/sh\ncat >> $0.jsonl\necho >> $0.jsonl\n"


class Receiver(BaseHTTPRequestHandler):
    alerts: list[Any]

    def do_POST(self) -> None:
        self.alerts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[Any]]]:
    """Yield the URL of a web server, and the list of the alerts that it was sent."""
    alerts: list[Any] = []
    http = HTTPServer(("127.0.0.1", 0), type("OwnReceiver", (Receiver,), {"alerts": alerts}))
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}/hook", alerts
    http.shutdown()
    http.server_close()


def seen(alerts: list[Any]) -> list[tuple[str, str]]:
    return [(alert["event"], alert["problem"]) for alert in alerts]


def test_a_killed_worker_and_an_outage_of_redis_reach_operators(
    tmp_path: Path, receiver: tuple[str, list[Any]]
) -> None:
    url, posted = receiver
    script = tmp_path / "alert.sh"
    script.write_text(SCRIPT)
    script.chmod(0o700)
    settings = f'[alerts]\ncommand = "{script}"\nurl = "{url}"\ndelay_seconds = 1.0\n[redis]\nstand_in = false\n'
    with (
        server(tmp_path / "redis", unused_port()) as redis,
        Cluster(tmp_path, "--workers", "2", "--redis-url", redis.url, config=FAST_HEALTH + settings) as cluster,
    ):
        assert "url: the test alert was accepted" in cluster.wsd("alerts", "test").stdout
        assert seen(posted) == [("test", "test")]
        pid = cluster.worker(1).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: ("ended", "worker-1") in seen(posted), "the end of the crash")
        assert seen(posted) == [("test", "test"), ("began", "worker-1"), ("ended", "worker-1")]
        redis.kill()
        until(lambda: ("began", "redis") in seen(posted), "the alert about Redis")
        redis.start()
        until(lambda: ("ended", "redis") in seen(posted), "the end of the outage")
        lines = (tmp_path / "alert.sh.jsonl").read_text().splitlines
        until(lambda: [json.loads(line) for line in lines()] == posted, "the same alerts by the command")
        assert all(seen(posted).count(item) == 1 for item in seen(posted))


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
