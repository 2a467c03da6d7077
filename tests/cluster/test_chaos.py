"""`wsd chaos` against a cluster: what it proves, and what it says when it cannot."""

import json
from pathlib import Path

import pytest

from tests.cluster.harness import Cluster, wsd


@pytest.mark.parametrize("seed", [1, 2])
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


def test_what_it_cannot_work_with_is_said_in_one_line(cluster: Cluster, tmp_path: Path) -> None:
    none = wsd("chaos", "--state-dir", str(tmp_path / "none"), cwd=tmp_path)
    assert (none.returncode, none.stderr.count("\n")) == (3, 1)
    assert "no cluster runs in" in none.stderr
    wrong = cluster.wsd("chaos", "--faults", "meteor")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert 'there is no fault "meteor"' in wrong.stderr
    short = cluster.wsd("chaos", "--duration", "3")
    assert (short.returncode, short.stderr.count("\n")) == (2, 1)


def test_a_cluster_that_wants_to_know_who_comes_is_told_of(tmp_path: Path) -> None:
    config = f'[security]\njwt_secret = "{"s" * 32}"\n'
    with Cluster(tmp_path, "--workers", "1", config=config) as cluster:
        result = cluster.wsd("chaos", "--duration", "11", timeout=60)
        assert (result.returncode, result.stderr.count("\n")) == (1, 1)
        assert "without authentication" in result.stderr
