"""`.ci/release`, and its packages as uv, pipx and man use them."""

import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from docs.site.packages.description import description
from docs.site.packages.readiness import problems
from tests.support.cluster import clean_env
from tests.support.ports import unused_port
from tests.support.waiting import long_run, until

READY = {"tags": ["v1.2.0"], "changed": "", "js_version": "1.2.0"}
CHANGELOG = "# Changelog\n\n## Unreleased\n\n## 1.2.0 (2026-01-31)\n\n* Rooms.\n\n## 1.1.0 (2025-01-31)\n\n* Chats.\n"


def test_a_tagged_commit_with_a_dated_changelog_can_be_released() -> None:
    assert problems("1.2.0", CHANGELOG, **READY) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("version", "changelog", "changes", "problem"),
    [
        ("1.2.0", CHANGELOG, {"tags": ["v1.1.0"]}, "tag the commit: git tag v1.2.0"),
        ("1.2.0", CHANGELOG, {"changed": " M README.md"}, "commit or remove what git status lists: README.md"),
        ("1.2.0", CHANGELOG, {"js_version": "1.1.0"}, "clients/js/package.json has version 1.1.0"),
        ("1.3.0", CHANGELOG, {"tags": ["v1.3.0"], "js_version": "1.3.0"}, "with: ## 1.3.0 (YEAR-MONTH-DAY)"),
        ("1.2.0", "# Changelog\n\n## Unreleased\n", {}, "with: ## 1.2.0 (YEAR-MONTH-DAY)"),
        ("1.2.0", CHANGELOG.replace("Unreleased\n", "Unreleased\n\n* Games.\n"), {}, "under Unreleased to ## 1.2.0"),
    ],
)
def test_a_release_is_refused(version: str, changelog: str, changes: dict[str, object], problem: str) -> None:
    (found,) = problems(version, changelog, **{**READY, **changes})  # type: ignore[arg-type]
    assert problem in found


def test_links_to_files_are_absolute_or_plain_text_on_the_package_index() -> None:
    readme = "![A](docs/a.png)\n\nSee [the guide](docs/b.md#c), [uv](https://example.com/uv) and [below](#below).\n"
    assert description(readme) == "See the guide, [uv](https://example.com/uv) and [below](#below).\n"
    assert description(readme, "https://example.com/blob/v1") == (
        "![A](https://example.com/blob/v1/docs/a.png)\n\n"
        "See [the guide](https://example.com/blob/v1/docs/b.md#c), [uv](https://example.com/uv) and [below](#below).\n"
    )


@long_run
def test_a_commit_without_a_tag_is_not_released(repository: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--no-tags", str(repository), str(clone)], check=True, timeout=60)
    env = clean_env(PYTHON=sys.executable)
    done = subprocess.run([clone / ".ci" / "release"], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("release: tag the commit: git tag v")
    assert not (clone / "dist").exists()


@long_run
def test_the_packages_hold_what_is_needed_and_nothing_else(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    stem = wheel.name.removesuffix("-py3-none-any.whl")
    assert names == {"wsd", f"{stem}.data", f"{stem}.dist-info"}
    with tarfile.open(wheel.parent / f"{stem}.tar.gz") as sdist:
        folders = {name.split("/")[1] for name in sdist.getnames() if name.count("/") > 1}
    assert folders == {"clients", "man", "public", "supervisor", "templates", "worker", "wsd_cluster.egg-info"}
    description = zipfile.ZipFile(wheel).read(f"{stem}.dist-info/METADATA").decode()
    assert "](docs/" not in description


@long_run
def test_uvx_runs_a_cluster_from_the_wheel(tools: Path, wheel: Path, tmp_path: Path) -> None:
    port = unused_port()
    env = clean_env(UV_CACHE_DIR=str(tmp_path / "cache"))
    command = [str(tools / "uvx"), "--from", str(wheel), "wsd", "start", "--workers", "2", "--port", str(port)]
    output = tmp_path / "output.txt"
    with output.open("w") as file:
        started = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        until(lambda: "wsd is up" in output.read_text() or started.poll() is not None, "the cluster", patience=120)
        assert started.poll() is None, output.read_text()
        os.killpg(started.pid, signal.SIGINT)  # as Ctrl-C does
        assert started.wait(60) == 0, output.read_text()
    finally:
        started.kill()


@long_run
def test_pipx_installs_the_command_and_its_man_pages(tools: Path, wheel: Path, tmp_path: Path) -> None:
    folders = {name: str(tmp_path / name) for name in ("PIPX_HOME", "PIPX_BIN_DIR", "PIPX_MAN_DIR")}
    env = clean_env(**folders)
    subprocess.run([tools / "pipx", "install", str(wheel)], env=env, check=True, timeout=300)
    command = tmp_path / "PIPX_BIN_DIR" / "wsd"
    arguments = ["start", "--workers", "2", "--port", str(unused_port()), "--detach"]
    subprocess.run([command, *arguments], cwd=tmp_path, env=env, check=True, timeout=60)
    subprocess.run([command, "stop"], cwd=tmp_path, env=env, check=True, timeout=60)
    assert (tmp_path / "PIPX_MAN_DIR" / "man1" / "wsd-start.1").read_text().startswith(".TH WSD")


@long_run
def test_pipx_runs_the_command_without_an_installation(tools: Path, wheel: Path, version: str, tmp_path: Path) -> None:
    env = clean_env(PIPX_HOME=str(tmp_path))
    command = [str(tools / "pipx"), "run", "--spec", str(wheel), "wsd", "--version"]
    done = subprocess.run(command, env=env, check=True, timeout=300, capture_output=True, text=True)
    assert done.stdout == f"wsd {version}\n"
