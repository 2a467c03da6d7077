"""The oldest versions of other packages that pyproject.toml admits are sufficient."""

import subprocess
import sys
from pathlib import Path

from tests.support.cluster import clean_env
from tests.support.ports import unused_port
from tests.support.waiting import long_run


@long_run
def test_a_cluster_runs_with_the_oldest_dependencies(tools: Path, wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    install = [str(tools / "uv"), "pip", "install", "--quiet", "--python", str(environment)]
    subprocess.run([tools / "uv", "venv", "--quiet", "--python", sys.executable, environment], check=True, timeout=60)
    subprocess.run([*install, "--resolution", "lowest-direct", str(wheel)], check=True, timeout=300)

    def wsd(*arguments: str) -> str:
        command = [str(environment / "bin" / "wsd"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=clean_env(), capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    wsd("start", "--workers", "2", "--port", str(unused_port()), "--detach")
    try:
        assert wsd("publish", "room", '"hello"').startswith("published in room")
        assert "_wsd_completion" in wsd("completion", "bash")
    finally:
        wsd("stop")
