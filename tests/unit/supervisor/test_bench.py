"""The figures of `wsd bench`: frames in any pieces, latencies, the histogram, the verdict."""

import os

import msgspec
import pytest

from wsd.supervisor.bench.figures import Bucket, Figures, Latency, histogram, latency, per_delivery
from wsd.supervisor.bench.frames import CLOSE, PING, TEXT, ServerFrames, client_frame, parse_close
from wsd.supervisor.bench.report import BAR_WIDTH, bar
from wsd.supervisor.bench.run import BenchSettings
from wsd.worker.wire.frames import FrameReader
from wsd.worker.wire.frames import encode as server_frame

SIZES = [0, 1, 125, 126, 65_535, 65_536, 200_000]


@pytest.mark.parametrize("size", SIZES)
def test_the_server_understands_the_clients_frames(size: int) -> None:
    reader = FrameReader(1_000_000, compression=False)
    assert reader.feed(client_frame(TEXT, b"x" * size)) == [(TEXT, "x" * size)]
    assert reader.violation is None


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 100, 65_537])
def test_frames_are_found_however_they_are_cut(cut: int) -> None:
    sent = [(opcode, os.urandom(size)) for opcode in (TEXT, PING, CLOSE) for size in SIZES[: 4 if cut < 100 else 7]]
    data = b"".join(server_frame(opcode, payload) for opcode, payload in sent)
    frames = ServerFrames()
    found = [frame for start in range(0, len(data), cut) for frame in frames.feed(data[start : start + cut])]
    assert found == sent


def test_a_close_frame_is_read() -> None:
    frames = (b"", b"\x03\xe8", b"\x03\xf4why")
    assert [parse_close(payload) for payload in frames] == [(1005, ""), (1000, ""), (1012, "why")]


def test_latency_in_milliseconds() -> None:
    assert latency([]) is None
    assert latency([0.001 * number for number in range(100, 0, -1)]) == Latency(50, 95, 99, 100)


def test_the_histogram_has_no_holes_and_counts_everything() -> None:
    assert histogram([]) == []
    found = histogram([0.0, 0.00009, 0.0011, 0.0011, 0.0101])
    assert [bucket.below_ms for bucket in found] == [0.18, 0.32, 0.56, 1, 1.8, 3.2, 5.6, 10, 18]
    assert [bucket.count for bucket in found] == [2, 0, 0, 0, 2, 0, 0, 0, 1]


@pytest.mark.parametrize(("part", "expected"), [(0, ""), (1, "█" * BAR_WIDTH), (0.5, "█" * 25), (1e-9, "▏")])
def test_a_bar_is_visible_for_any_share_above_zero(part: float, expected: str) -> None:
    assert bar(part) == expected


def test_cpu_a_delivery() -> None:
    before, after = {"workers": 1.0, "nginx": 2.0, "valkey": 3.0}, {"workers": 1.5, "nginx": 2.0}
    assert per_delivery(before, after, 100_000) == {"workers": 5.0, "nginx": 0.0}
    assert per_delivery(before, after, 0) == {}


FIGURES = Figures(
    connections=2, channels=1, rate=1, payload_bytes=1, seconds=1, connected=2, connects_per_second=2, connect_p50_ms=1,
    connect_p99_ms=1, published=1, expected=2, delivered=2, deliveries_per_second=2, latency=None,
    histogram=[Bucket(1, 2)], failed_handshakes={}, refused={}, lost={}, cpu_us_per_delivery={}, load_cpu_percent=5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "passed"),
    [
        ({}, True),
        ({"delivered": 1}, False),
        ({"delivered": 0, "expected": 0}, False),
        ({"failed_handshakes": {"HTTP 503": 1}}, False),
        ({"refused": {"rate_limited": 1}}, False),
        ({"lost": {"1006": 1}}, False),
    ],
)
def test_a_run_passes_if_everything_arrived_and_nothing_failed(changes: dict[str, object], passed: bool) -> None:
    assert msgspec.structs.replace(FIGURES, **changes).passed == passed


def test_a_load_that_is_the_bottleneck_is_reported() -> None:
    assert not FIGURES.load_is_the_limit
    assert msgspec.structs.replace(FIGURES, load_cpu_percent=93.0).load_is_the_limit


@pytest.mark.parametrize(
    ("rate", "payload_bytes", "connections", "publishers"),
    [(20, 128, 500, 1), (100, 128, 500, 3), (200, 128, 2000, 5), (20, 60_000, 500, 7), (1000, 60_000, 200, 200)],
)
def test_enough_connections_publish_that_none_exceeds_a_rate_limit(
    rate: float, payload_bytes: int, connections: int, publishers: int
) -> None:
    assert BenchSettings(connections, rate, payload_bytes, 1, 10.0).publishers == publishers
