"""The number of CPUs that we may use, by affinity and cgroup."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wsd.supervisor.machine import cpus
from wsd.supervisor.machine.cpus import available_cpus, cpu_cgroups, parse_quota


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000\n", math.inf),
        ("150000 100000\n", 1.5),
        ("50000 100000", 0.5),
        ("-1\n 100000\n", math.inf),
        ("200000\n 100000\n", 2.0),
        ("", math.inf),
        ("nonsense", math.inf),
        ("1 0", math.inf),
    ],
)
def test_a_quota_is_a_number_of_cpus(text: str, expected: float) -> None:
    assert parse_quota(text) == expected


@pytest.mark.parametrize(
    ("membership", "directories"),
    [
        ("0::/\n", ["."]),
        ("0::/user.slice/wsd.service\n", ["user.slice/wsd.service", "user.slice", "."]),
        ("4:memory:/a\n3:cpu,cpuacct:/a/b\n", ["cpu/a/b", "cpu/a", "cpu"]),
        ("0::/odd:name\n", ["odd:name", "."]),
        ("", []),
    ],
)
def test_the_cgroups_that_limit_cpu_time(membership: str, directories: list[str]) -> None:
    assert [str(path) for path in cpu_cgroups(membership)] == directories


def test_the_smallest_limit_of_cpus_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "CGROUPS", tmp_path)
    monkeypatch.setattr(cpus, "OWN_CGROUPS", tmp_path / "self")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    assert available_cpus() == 16
    (tmp_path / "self").write_text("0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "cpu.max").write_text("400000 100000\n")
    assert available_cpus() == 4
    (tmp_path / "a" / "cpu.max").write_text("250000 100000\n")
    assert available_cpus() == 3
    (tmp_path / "cpu.max").write_text("10000 100000\n")
    assert available_cpus() == 1


def test_a_process_that_is_pinned_has_the_cpus_that_it_is_pinned_to() -> None:
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    code += "from wsd.supervisor.machine.cpus import available_cpus; print(available_cpus())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
