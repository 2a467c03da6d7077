"""`wsd doctor` on a machine that is well, and on one with problems."""

import json
import os
import resource
import signal
import socket
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, clean_env, wsd
from tests.support.ports import unused_port
from tests.support.valkey import valkey
from wsd.supervisor.config.loading import load
from wsd.supervisor.doctor.machine import file_limit, somaxconn
from wsd.supervisor.monitoring.finding import Grade


def findings(output: str) -> dict[str, tuple[str, str, str]]:
    return {each["check"]: (each["grade"], each["found"], each["remedy"]) for each in json.loads(output)}


def test_doctor_finds_nothing_wrong_in_a_healthy_cluster(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "2") as cluster:
        result = cluster.wsd("doctor", "--json")
        found = findings(result.stdout)
        assert result.returncode == 0, result.stdout
        assert {check for check, (grade, _, _) in found.items() if grade == "failure"} == set()
        assert found["messages between workers"][0] == "ok"
        assert found["Redis: pub/sub"][0] == "ok"
        assert found["Redis: write"][0] == "ok"
        assert found["nginx"][0] == "ok"
        assert found["port"][1].startswith("used by this cluster")
        people = cluster.wsd("doctor").stdout
        assert "ok      messages between workers: all workers answered over Redis" in people


def test_each_failed_check_has_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "wsd.toml").write_text('[nginx]\ntls_certificate = "no.pem"\ntls_key = "no.key"\n')
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", unused_port()))
        taken.listen()
        env = clean_env(WSD_PORT=str(taken.getsockname()[1]), REDIS_URL=f"redis://:secret@127.0.0.1:{unused_port()}")
        result = wsd("doctor", "--json", cwd=tmp_path, env=env)
    assert result.returncode == 1
    assert "secret" not in result.stdout
    found = findings(result.stdout)
    for check, words in (("port", "is taken by"), ("nginx", "no.pem"), ("Redis", "does not answer")):
        grade, text, remedy = found[check]
        assert grade == "failure", check
        assert remedy, check
        assert words in text


def test_a_redis_that_forgets_is_a_warning(tmp_path: Path) -> None:
    with valkey(tmp_path, unused_port(), "--maxmemory", "10000000", "--maxmemory-policy", "allkeys-lru") as url:
        result = wsd("doctor", "--json", cwd=tmp_path, env=clean_env(REDIS_URL=url, WSD_PORT=str(unused_port())))
    found = findings(result.stdout)
    assert result.returncode == 0
    assert found["Redis: memory"][0] == "warning"
    assert "noeviction" in found["Redis: memory"][2]
    assert found["Redis: persistence"][0] == "warning"


def test_a_supervisor_that_is_gone_is_noticed(tmp_path: Path) -> None:
    with Cluster(tmp_path, "--workers", "1") as cluster:
        cluster.signal(signal.SIGKILL)
        cluster.wait()
        result = cluster.wsd("doctor", "--json")
        assert result.returncode == 1
        grade, found, remedy = findings(result.stdout)["state directory"]
        assert grade == "failure"
        assert "worker-1" in found
        assert "`wsd start` takes them over" in remedy


def test_low_limits_of_the_machine_are_findings(tmp_path: Path) -> None:
    loaded = load({}, {}, None)
    assert file_limit(loaded, 1_000_000).grade is Grade.OK
    assert file_limit(loaded, resource.RLIM_INFINITY).grade is Grade.OK
    low = file_limit(loaded, 4096)
    assert low.grade == Grade.WARNING
    assert "LimitNOFILE=" in low.remedy
    setting = tmp_path / "somaxconn"
    assert somaxconn(setting).grade is Grade.OK
    for value, grade in (("128\n", Grade.WARNING), ("4096\n", Grade.OK)):
        setting.write_text(value)
        assert somaxconn(setting).grade is grade


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_directory_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o500)
    result = wsd("doctor", "--json", "--state-dir", "state", cwd=tmp_path)
    assert findings(result.stdout)["state directory"][0] == "failure"
