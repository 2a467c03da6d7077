import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import ROOT, clean_env

GIT = ("git", "-c", "user.name=wsd", "-c", "user.email=wsd@example.com", "-c", "init.defaultBranch=main")


def _pip_install(environment: Path, *names: str) -> None:
    """Install packages into a new environment. Skip where the registry of packages is not reached."""
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=120)
    install = [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *names]
    if subprocess.run(install, timeout=300).returncode:
        pytest.skip(f"{' and '.join(names)} cannot be installed: the registry of packages is not reached")


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the programs of uv and pipx."""
    environment = tmp_path_factory.mktemp("tools")
    _pip_install(environment, "uv", "pipx")
    return environment / "bin"


@pytest.fixture(scope="session")
def version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory, version: str) -> Path:
    """Return a repository with the files of this one, whose only commit is ready to be released."""
    copy = tmp_path_factory.mktemp("repository")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["cp", "--parents", "-P", "--", *filter(None, listed.split(b"\0")), str(copy)], cwd=ROOT, check=True)
    changelog = copy / "CHANGELOG.md"
    text = changelog.read_text("utf-8")
    changelog.write_text(text.replace("## Unreleased\n", f"## Unreleased\n\n## {version} (2026-01-31)\n"), "utf-8")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "all"], ["tag", f"v{version}"]):
        subprocess.run([*GIT, *command], cwd=copy, check=True, timeout=60)
    return copy


@pytest.fixture(scope="session")
def wheel(repository: Path, version: str, tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel that `.ci/release` has built. `tools` skips where nothing can be installed."""
    packages = tmp_path_factory.mktemp("packages")
    env = clean_env(PYTHON=sys.executable, PATH=f"{tools}{os.pathsep}{os.environ['PATH']}")
    command = [str(repository / ".ci" / "release"), str(packages)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"  twine upload {packages}/wsd_cluster-{version}*\n")
    return packages / f"wsd_cluster-{version}-py3-none-any.whl"
