"""deploy/start_distributed.sh starts the whole cluster."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.cluster import ROOT, clean_env
from tests.support.ports import unused_port
from tests.support.server import ready
from tests.support.waiting import until


def test_the_script_starts_everything_and_stops_with_a_signal(tmp_path: Path) -> None:
    port = unused_port()
    env = clean_env(WORKERS="2", PORT=str(port), PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    command = [str(ROOT / "deploy/start_distributed.sh"), "--state-dir", str(tmp_path / "state")]
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, cwd=tmp_path)
    try:
        until(lambda: process.poll() is not None or ready(port))
        assert process.poll() is None, (tmp_path / "output").read_text()
        until(lambda: "wsd is up" in (tmp_path / "output").read_text())
        assert "2 on node" in (tmp_path / "output").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert process.returncode == 0
