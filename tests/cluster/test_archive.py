"""The archive in a cluster: `wsd history` reads beyond Redis, and `wsd archive` shows and prunes."""

import json
from pathlib import Path

from tests.support.cluster import Cluster, wsd
from tests.support.postgres import postgres
from tests.support.waiting import long_run, until


@long_run
def test_the_commands_of_an_operator(tmp_path: Path) -> None:
    (tmp_path / "wsd.toml").write_text('[channels."room:*"]\narchive = true\n')
    refused = wsd("start", "--check", cwd=tmp_path)
    assert refused.returncode == 2
    problem = 'channels."room:*".archive needs postgres.url: the archive is in PostgreSQL'
    assert refused.stderr == f"wsd: wsd.toml line 2: {problem}\n"
    with postgres() as server:
        server.psql(wsd("init", "--postgres", cwd=tmp_path).stdout)
        config = f"""[postgres]
url = "{server.url(user="wsd_relay")}"
[channels."room:*"]
archive = true
history_size = 2
"""
        with Cluster(tmp_path, "--workers", "2", config=config) as cluster:

            def archived() -> int:
                return int(json.loads(cluster.wsd("archive", "--json").stdout)["messages"])

            for n in range(1, 4):
                assert cluster.wsd("publish", "room:1", str(n)).returncode == 0
                until(lambda n=n: archived() == n, f"{n} messages")  # type: ignore[misc]
            assert cluster.wsd("history", "room:1").stdout == "1  -  1\n2  -  2\n3  -  3\n"
            assert cluster.wsd("history", "room:1", "--since", "1", "--limit", "1").stdout == "2  -  2\n"
            assert "archive: 0 channels waiting, 3 messages written" in cluster.wsd("status").stdout
            asked = cluster.wsd("archive", "prune", "--older-than", "1s")
            assert asked.returncode == 1
            assert "would be deleted: add --yes to do so" in asked.stderr
            until(lambda: cluster.wsd("archive", "prune", "--older-than", "1s", "--yes") and archived() == 0)
            assert cluster.wsd("history", "room:1").stdout == "2  -  2\n3  -  3\n"
            assert b'wsd_archive_messages_total{node="' in cluster.get("/metrics")[1]
