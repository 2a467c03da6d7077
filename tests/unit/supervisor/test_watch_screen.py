"""The live screen: what fits, what keys mean, and sparklines."""

import io
from dataclasses import replace

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from wsd.supervisor.cli.sparkline import sparkline
from wsd.supervisor.cli.watch import keys_of
from wsd.supervisor.cli.watch_screen import (
    NODE,
    SAMPLES,
    OperationRequest,
    Screen,
    first_screen,
    press,
    render,
    updated,
)
from wsd.supervisor.control.status import ClusterStatus, NodeStatus, ProcessStatus, RedisStatus, WorkerStatus
from wsd.worker.contract.events import Event


@pytest.mark.parametrize(
    ("values", "width", "expected"),
    [
        ([], 4, "    "),
        ([0, 0], 4, "  ▁▁"),
        ([1, 2, 3, 4], 4, "▃▅▇█"),
        ([0, 7, 8], 3, "▁██"),
        ([5, None, 5], 3, "█ █"),
        ([9, 1, 2, 4], 3, "▃▅█"),  # the 9 is no longer seen
        ([1, 2], 0, ""),
        ([-3, 1], 2, "▁█"),
    ],
)
def test_sparklines(values: list[float | None], width: int, expected: str) -> None:
    assert sparkline(values, width) == expected


def status(workers: int = 4, **changes: object) -> ClusterStatus:
    made = ClusterStatus(
        state="healthy",
        problems=[],
        node_id="web-1",
        url="http://127.0.0.1:8000/",
        websocket_url="ws://127.0.0.1:8000/ws",
        state_dir="/srv/wsd/.wsd",
        supervisor=ProcessStatus(name="supervisor", state="running", pid=1, uptime_seconds=70, rss_bytes=50_000_000),
        workers=[
            WorkerStatus(
                name=f"worker-{slot}",
                state="ready",
                pid=1_234_567,
                slot=slot,
                uptime_seconds=123_456,
                connections=12_345,
                messages_in_per_second=1234.0,
                messages_out_per_second=123_456.0,
                cpu_percent=99.9,
                rss_bytes=1_234_000_000,
                loop_lag_seconds=1.234,
            )
            for slot in range(1, workers + 1)
        ],
        nginx=ProcessStatus(name="nginx", state="ready", pid=3),
        valkey=None,
        redis=RedisStatus(url=None, embedded=False, reachable=True),
    )
    return msgspec.structs.replace(made, **changes)


def drawn(screen: Screen, width: int, height: int) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width, height=height, color_system=None, legacy_windows=False)
    console.print(render(screen, width, height))
    return file.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 10), (100, 30), (118, 40), (160, 50), (240, 70)])
@pytest.mark.parametrize("workers", [1, 4, 64])
@pytest.mark.parametrize("trouble", [False, True])
def test_nothing_is_wider_or_higher_than_the_terminal(width: int, height: int, workers: int, trouble: bool) -> None:
    screen = first_screen(status(workers))
    for _ in range(3):
        screen = updated(screen, status(workers))
    if trouble:
        long = "Redis does not answer, messages stay on this node: " + "x" * 300
        screen = replace(
            updated(screen, status(workers, problems=[long], state="degraded")),
            events=[Event(at=1.0, source="worker-1", level="warning", text="y" * 300)] * 100,
            note="z" * 300,
        )
    lines = drawn(screen, width, height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    assert any(line.startswith("worker-1 ") for line in lines)
    assert lines[0].startswith("wsd DEGRADED" if trouble else "wsd HEALTHY")
    if width >= 80:
        assert "12,345" in "".join(lines)
        assert "123,456" in "".join(lines)


def test_other_nodes_are_shown() -> None:
    nodes = [NodeStatus(node_id=name, workers=2, connections=7) for name in ("web-1", "web-2")]
    for width in (80, 160):
        text = "\n".join(drawn(first_screen(status(2, nodes=nodes)), width, 24))
        assert "web-2 2 workers 7 connections" in text
        assert "lag 1234 ms" in text
    assert "nodes" not in "".join(drawn(first_screen(status(2, nodes=nodes[:1])), 80, 24))


def test_the_selected_worker_is_always_seen() -> None:
    screen = first_screen(status(64))
    for _ in range(40):
        screen, _ = press(screen, "down")
    assert any(line.startswith("worker-41 ") for line in drawn(screen, 80, 24))


def test_samples_are_kept_and_a_worker_that_is_gone_is_forgotten() -> None:
    screen = first_screen(status(2))
    for _ in range(3 * SAMPLES):
        screen = updated(screen, status(2))
    assert {name: len(samples) for name, samples in screen.samples.items()} == {
        "worker-1": SAMPLES,
        "worker-2": SAMPLES,
        NODE: SAMPLES,
    }
    assert screen.samples[NODE][-1].connections == 2 * 12_345
    screen, _ = press(screen, "down")
    screen = updated(screen, status(1))
    assert screen.selected == 0
    assert set(screen.samples) == {"worker-1", NODE}


@pytest.mark.parametrize(
    ("key", "target", "body"),
    [
        ("R", "/v1/restart", {}),
        ("r", "/v1/restart", {"slots": [2]}),
        ("d", "/v1/drain", {"slot": 2}),
        ("u", "/v1/resume", {"slot": 2}),
        ("+", "/v1/scale", {"workers": 5}),
        ("-", "/v1/scale", {"workers": 3}),
        ("b", "/v1/rebalance", {}),
    ],
)
def test_an_operation_that_changes_the_cluster_needs_a_confirmation(
    key: str, target: str, body: dict[str, object]
) -> None:
    screen, _ = press(first_screen(status(4)), "down")
    asked, action = press(screen, key)
    assert action is None
    assert asked.asking is not None
    assert "y/n" in drawn(asked, 80, 24)[-1]
    for other in ("n", "x", "up"):
        after, action = press(asked, other)
        assert after.asking is None
        assert action is None
    after, action = press(asked, "y")
    assert after.asking is None
    assert action == OperationRequest(target, body, asked.asking.question)


def test_keys_that_mean_nothing_change_nothing() -> None:
    screen = first_screen(status(1))
    for key in ("x", "-", "y", " ", "\x00"):
        assert press(screen, key) == (screen, None)
    assert press(screen, "up")[0].selected == press(screen, "down")[0].selected == 0


def test_the_bytes_of_a_terminal_are_read_as_keys() -> None:
    assert list(keys_of(b"j\x1b[A\x1b[BR\x1bOAq\xff")) == ["j", "up", "down", "R", "up", "q", "\ufffd"]
