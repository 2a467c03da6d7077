"""The open problems of a supervisor are kept for the next one."""

from pathlib import Path

import pytest

from wsd.supervisor.alerts.ledger import OpenProblem
from wsd.supervisor.alerts.open_problems import read_open, write_open


def test_what_is_kept_is_as_old_by_the_clock_of_the_next_supervisor(tmp_path: Path) -> None:
    path = tmp_path / "open_alerts.json"
    write_open(path, [OpenProblem("redis", "Redis does not answer", 1, 90.0)], now=100.0)
    assert path.stat().st_mode & 0o777 == 0o600
    [kept] = read_open(path, now=1000.0)
    assert (kept.problem, kept.text, kept.count) == ("redis", "Redis does not answer", 1)
    assert kept.since == pytest.approx(990.0, abs=60.0)


def test_no_open_problems_leave_no_file(tmp_path: Path) -> None:
    path = tmp_path / "open_alerts.json"
    write_open(path, [OpenProblem("redis", "", 1, 0.0)], now=0.0)
    write_open(path, [], now=0.0)
    assert list(tmp_path.iterdir()) == []
    write_open(path, [], now=0.0)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'[{"problem": "redis"}]', b"\xff"])
def test_a_file_that_makes_no_sense_holds_no_problems(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "open_alerts.json"
    assert read_open(path, 0.0) == []
    path.write_bytes(content)
    assert read_open(path, 0.0) == []
