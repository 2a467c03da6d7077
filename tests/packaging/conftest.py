import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the programs of uv and pipx. Skip where they cannot be installed."""
    environment = tmp_path_factory.mktemp("tools")
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=60)
    install = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "uv", "pipx"]
    if subprocess.run(install, timeout=180).returncode:
        pytest.skip("uv and pipx cannot be installed: the registry of packages is not reached")
    return environment / "bin"
