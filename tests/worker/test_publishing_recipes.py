"""The recipes for publishing from outside in docs/clients.md, as they stand."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import ROOT
from tests.support.pages import files
from tests.support.ports import unused_port
from tests.support.worker import worker
from wsd import Publisher

KEY = "sesame"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    listen = f"127.0.0.1:{unused_port()}"
    with worker(tmp_path_factory.mktemp("worker"), listen=listen, api_key=KEY) as serving:
        yield f"http://{listen}"
        serving.check_unharmed()


def environ(url: str) -> dict[str, str]:
    return {**os.environ, "WSD_URL": url, "WSD_API_KEY": KEY}


def write_recipe(directory: Path, name: str) -> None:
    """Write the file `name` of the documentation."""
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(files(ROOT / "docs" / "clients.md")[name])


def run(directory: Path, url: str, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, *arguments], cwd=directory, env=environ(url), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def data_in(url: str, channel: str) -> list[object]:
    with Publisher(url, KEY) as publisher:
        return [message["data"] for message in publisher.history(channel).messages]


def test_a_cron_job_publishes(url: str, tmp_path: Path) -> None:
    write_recipe(tmp_path, "nightly.py")
    run(tmp_path, url, "nightly.py")
    assert data_in(url, "reports") == [{"title": "Sales of yesterday", "total": 1740}]
