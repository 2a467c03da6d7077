"""Lines for `wsd logs` and `wsd events`: times are found in all formats, and logs are merged, rotated ones first."""

import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from wsd.supervisor.errors import ConfigError
from wsd.supervisor.logs.events import read_events, show_event
from wsd.supervisor.logs.follow import tail
from wsd.supervisor.logs.reading import Choice, merged, parse_pattern, parse_since, time_of
from wsd.supervisor.machine.private_files import append_to
from wsd.worker.contract.events import Event

NOON = datetime(2026, 11, 24, 12, 18, 0, 761_000).timestamp()  # noqa: DTZ001 - logs are written in local time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-24 12:18:00,761 INFO ready", NOON),
        ("2026/11/24 12:18:00 [error] 1#1: refused", int(NOON)),
        ("31301:M 24 Nov 2026 12:18:00.761 * Ready", NOON),
        ("31301:signal-handler (1795523077) Received SIGTERM", None),
        ("Traceback (most recent call last):", None),
        ("2026-99-24 12:18:00,761 no month", None),
        ("", None),
    ],
)
def test_the_time_of_a_line(text: str, expected: float | None) -> None:
    assert time_of(text) == pytest.approx(expected)


def test_the_time_of_a_line_in_json() -> None:
    at = datetime(2026, 11, 24, 12, 18, 0, 761_000, UTC)
    assert time_of('{"at": "2026-11-24T12:18:00.761+00:00", "level": "info"}') == at.timestamp()
    assert time_of('{"at": "soon"}') is None
    assert time_of(Event(at=1.5, source="worker-2", level="info", text="").to_json()) == 1.5


def test_the_time_of_a_request_that_nginx_could_not_have_answered() -> None:
    assert time_of('2026-11-26T15:46:00+01:00 [error] 502 for GET "/"') == 1_795_704_360


@pytest.mark.parametrize(("text", "ago"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86_400)])
def test_since_is_an_age(text: str, ago: float) -> None:
    assert parse_since(text, 1_000_000) == 1_000_000 - ago


def test_since_is_a_time_or_an_error() -> None:
    assert parse_since("2026-11-24 12:18:00.761", 0) == NOON
    with pytest.raises(ConfigError, match=r'--since must be like 30s, .* got "soon"'):
        parse_since("soon", 0)
    with pytest.raises(ConfigError, match="--grep must be a regular expression"):
        parse_pattern("(")


def test_logs_are_merged_by_time_and_lines_without_one_stay_where_they_are(tmp_path: Path) -> None:
    one, two = tmp_path / "one.log", tmp_path / "two.log"
    one.write_text("2026-11-24 12:00:02,000 b\n  more of b\n2026-11-24 12:00:04,000 d\n")
    (tmp_path / "one.log.1").write_text("2026-11-24 12:00:01,000 a\n")
    two.write_text("2026/11/24 12:00:03 c\n")
    paths = [("one", one), ("two", two), ("three", tmp_path / "none.log")]
    texts = [line.text.split()[-1] for line in merged(paths, Choice(), 0)]
    assert texts == ["a", "b", "b", "c", "d"]
    assert [line.name for line in merged(paths, Choice(), 2)] == ["two", "one"]
    late = Choice(since=datetime(2026, 11, 24, 12, 0, 3).timestamp())  # noqa: DTZ001
    assert [line.text[-1] for line in merged(paths, late, 0)] == ["c", "d"]
    assert [line.text for line in merged(paths, Choice(pattern=re.compile("more")), 0)] == ["  more of b"]


def test_events_are_read_whatever_else_is_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    event = Event(at=1.5, source="worker-2", level="warning", text="Redis is away")
    path.write_text(f"{event.to_json()}\n{{\n[]\n{event.to_json()[:-9]}\n\n{event.to_json()}\n")
    assert list(read_events(path, Choice(), 0, follow=False)) == [event, event]


@pytest.mark.parametrize(
    "line",
    [
        "[" * 100_000,
        '{"at":1e999,"source":"x","level":"info","text":"far"}',
        '{"at":NaN,"source":"x","level":"info","text":"never"}',
        '{"at":99999999999999999,"source":"x","level":"info","text":"far"}',
        '{"at":-99999999999,"source":"x","level":"info","text":"long ago"}',
        '{"at":true,"source":"x","level":"info","text":"yes"}',
        '{"at":1,"source":[],"level":{},"text":5}',
        '{"at":' + "9" * 5000 + ',"source":"x","level":"info","text":"far"}',
    ],
    ids=lambda line: line[:30],
)
def test_a_line_that_is_no_event_is_left_out(tmp_path: Path, line: str) -> None:
    path = tmp_path / "events.jsonl"
    event = Event(at=1.5, source="worker-2", level="warning", text="Redis is away")
    path.write_text(f"{line}\n{event.to_json()}\n")
    assert [show_event(each) for each in read_events(path, Choice(), 0, follow=False)] == [show_event(event)]


@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "a device"])
def test_a_log_that_is_not_a_file_blocks_no_process(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "worker-1.log"
    match kind:
        case "a FIFO":
            os.mkfifo(path)
        case "a directory":
            path.mkdir()
        case "a device":
            path.symlink_to("/dev/zero")
    assert list(merged([("worker-1", path)], Choice(), 0)) == []
    assert tail(path, 0, 10) == []
    if kind == "a FIFO":
        with pytest.raises(OSError, match="No such device"):
            append_to(path)
