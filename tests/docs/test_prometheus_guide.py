"""docs/guides/prometheus.md and deploy/prometheus/: the metrics exist, Prometheus reads them, and the alerts fire."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import Cluster
from tests.support.pages import ROOT, files
from tests.support.ports import unused_port
from tests.support.waiting import long_run, until

PAGE = ROOT / "docs" / "guides" / "prometheus.md"
FOLDER = ROOT / "deploy" / "prometheus"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool, of the package prometheus"
)
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def test_the_page_shows_the_configuration_and_explains_every_alert() -> None:
    shown = yaml.safe_load(files(PAGE)["prometheus.yml"])
    assert shown == yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    assert set(re.findall(r"\bWsd[A-Z]\w+", PAGE.read_text("utf-8"))) == {rule["alert"] for rule in alerts()}


def test_metrics_that_the_page_and_the_alerts_name_exist(cluster: Cluster) -> None:
    status, body = cluster.get("/metrics")
    assert status == 200
    described = set(re.findall(r"^# TYPE (\w+)", body.decode(), re.MULTILINE))
    of_the_outbox = set(re.findall(r"`(wsd_outbox_\w+)`", (ROOT / "docs" / "postgres.md").read_text("utf-8")))
    for text in (PAGE.read_text("utf-8"), *(rule["expr"] for rule in alerts())):
        assert set(re.findall(r"\bwsd_[a-z]\w+", text)) - described - of_the_outbox == set()


@needs_promtool
def test_promtool_accepts_the_configuration() -> None:
    done = subprocess.run(["promtool", "check", "config", FOLDER / "prometheus.yml"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_queries_of_the_page(tmp_path: Path) -> None:
    table = PAGE.read_text("utf-8").partition("## The metrics that matter")[2].partition("\n\nThe reasons")[0]
    queries = [query for line in table.splitlines() for query in re.findall(r"`([^`]*wsd_[^`]*)`", line)]
    assert len(queries) > 10
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


EVENTS = {
    "WsdNodeUnreachable": ('up{instance="a",job="wsd"}', "1 1 0x3", 2, 4),
    "WsdNodeDegraded": ('wsd_node_healthy{node="a"}', "1 0x5", 2, 4),
    "WsdProcessRestarts": ('wsd_process_restarts_total{node="a",process="worker-1"}', "0 2 5x4", 1, 3),
    "WsdRedisAway": ('wsd_distributed{node="a",worker="worker-1"}', "1 0x5", 1, 3),
    "WsdMessagesDropped": ('wsd_broker_dropped_total{node="a",worker="worker-1"}', "0 0 7x5", 1, 3),
    "WsdConnectionsLost": ('wsd_node_connections{node="a"}', "1000x15 300x15", 16, 20),
    "WsdWorkersBusy": ('wsd_process_cpu_percent{node="a",process="worker-1"}', "96x15", 9, 11),
    "WsdEventLoopSlow": ('wsd_loop_lag_seconds{node="a",worker="worker-1"}', "0.5x15", 4, 6),
    "WsdSlowReaders": ('wsd_connections_closed_total{node="a",reason="slow_reader"}', "0+20x10", 1, 8),
    "WsdClientsRefused": ('wsd_refused_total{node="a",reason="rate_limited"}', "0+120x15", 4, 9),
    "WsdFaults": ('wsd_faults_total{node="a",where="somewhere"}', "_x3 1x3", 2, 4),
    "WsdWebhooksLate": ('wsd_events_oldest_age_seconds{node="a",reader="webhooks"}', "200x6", 1, 3),
    "WsdOutboxLate": ('wsd_outbox_oldest_seconds{node="a"}', "90x6", 1, 3),
}
"""By alert: a series with its values minute by minute, a minute before the alert fires, and one when it does."""


@needs_promtool
def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    assert set(EVENTS) == {rule["alert"] for rule in alerts()}
    tests = []
    for alert, (series, values, before, after) in EVENTS.items():
        firing = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
        expected = [
            {"expr": firing, "eval_time": f"{minute}m", "exp_samples": [{"labels": "{}", "value": value}]}
            for minute, value in ((before, 0), (after, 1))
        ]
        inputs = [{"series": series, "values": values}]
        tests.append({"interval": "1m", "input_series": inputs, "promql_expr_test": expected})
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(FOLDER / "alerts.yml")], "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> Any:
        """Return the data of an answer, or None while Prometheus does not serve."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", f"/api/v1/{path}")
            response = connection.getresponse()
            return json.loads(response.read())["data"] if response.status == 200 else None
        except ConnectionRefusedError:
            return None
        finally:
            connection.close()

    def target(self) -> str:
        found = self.get("targets")
        return found["activeTargets"][0]["health"] if found and found["activeTargets"] else ""

    def alerts(self) -> set[str]:
        return {alert["labels"]["alertname"] for alert in self.get("alerts")["alerts"]}


@contextmanager
def prometheus(directory: Path, target: int) -> Iterator[Prometheus]:
    """Run Prometheus with the configuration of the page, and with a target in place of those in it."""
    directory.mkdir()
    shown = files(PAGE)["prometheus.yml"]
    config = shown.replace('["10.0.0.1:8000", "10.0.0.2:8000"]', f'["127.0.0.1:{target}"]').replace("15s", "1s")
    assert config.count(str(target)) == 1
    (directory / "prometheus.yml").write_text(config)
    shutil.copy(FOLDER / "alerts.yml", directory)
    running = Prometheus(unused_port())
    options = ["--config.file=prometheus.yml", "--storage.tsdb.path=data"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", *options, f"--web.listen-address=127.0.0.1:{running.port}"],
            cwd=directory,
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: running.target() == "up", f"the target: {directory}/log")
        yield running
    finally:
        process.terminate()
        process.wait(20)


@long_run
@needs_prometheus
def test_prometheus_reads_the_metrics_and_notices_a_node_that_is_stopped(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster, prometheus(tmp_path / "prometheus", cluster.port) as server:
        (group,) = server.get("rules")["groups"]
        until(lambda: {rule["health"] for rule in server.get("rules")["groups"][0]["rules"]} == {"ok"}, "the rules")
        assert len(group["rules"]) == len(alerts())
        (healthy,) = until(lambda: server.get("query?query=wsd_node_healthy")["result"], "wsd_node_healthy")
        assert healthy["value"][1] == "1"
        assert server.alerts() == set()
        cluster.wsd("stop")
        until(lambda: server.alerts() == {"WsdNodeUnreachable"}, "the alert")
