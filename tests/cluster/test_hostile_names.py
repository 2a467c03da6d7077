"""A cluster works in a directory of any name."""

import json
import os
from pathlib import Path

from tests.support.cluster import Cluster, wsd

NAME = b"-a b$c${d}%n'\"\\{;}#?[x]\n\tnext \xff\xfe\x1b[31m " + b"x" * 100


def test_every_command_works_in_a_directory_of_any_name(tmp_path: Path) -> None:
    directory = tmp_path / os.fsdecode(NAME)
    directory.mkdir()
    assert wsd("init", "--systemd", cwd=directory).returncode == 0
    with Cluster(directory, "--workers", "1") as cluster:
        status = json.loads(cluster.wsd("status", "--json").stdout)
        assert (status["state"], status["warnings"]) == ("healthy", [])
        assert cluster.health()[1]["websocket"]["mode"] == "distributed"
        for command in ("status", "logs", "render-nginx --check", "reload", "stop --timeout 0"):
            result = cluster.wsd(*command.split())
            assert result.returncode == 0, (command, result.stdout, result.stderr)
            assert "Traceback" not in result.stdout + result.stderr
        logs = [path.read_bytes() for path in cluster.state_dir.logs.glob("*.log")]
        assert not any(b"Traceback" in log or b"Logging error" in log for log in logs)
