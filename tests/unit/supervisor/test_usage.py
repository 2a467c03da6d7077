"""The CPU time and the memory of real processes, and of made-up measurements."""

import os
import subprocess
import sys

from tests.support.waiting import until
from wsd.supervisor.machine.procfs import children_of
from wsd.supervisor.processes.usage import Usage


def test_a_process_that_is_gone_has_no_usage() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    assert Usage.of(process.pid) is None
    assert children_of(process.pid) == []


def test_the_memory_of_children_counts_if_they_are_asked_for() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        until(lambda: process.pid in children_of(os.getpid()))
        alone, with_children = Usage.of(os.getpid()), Usage.of(os.getpid(), with_children=True)
        process.kill()
    assert alone is not None
    assert with_children is not None
    assert with_children.rss > alone.rss > 0
    assert not alone.zombie


def test_the_cpu_percentage_needs_two_measurements() -> None:
    first = Usage(at=10.0, cpu_seconds=1.0, rss=1, zombie=False)
    second = Usage(at=12.0, cpu_seconds=2.0, rss=1, zombie=False)
    assert second.cpu_percent_since(first) == 50.0
    assert second.cpu_percent_since(second) is None
    assert second.cpu_percent_since(None) is None
