"""The machine in JavaScript passes the table of cases in clients/cases, as the one in Python does."""

import shutil
import subprocess
from pathlib import Path

import pytest

RUNNER = Path(__file__).parents[3] / "clients" / "js" / "test" / "run_cases.mjs"
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="no node on PATH")
def test_the_machine_in_javascript_passes_all_cases() -> None:
    result = subprocess.run([str(NODE), str(RUNNER)], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
