"""What the tests of the pages share."""

from collections.abc import Iterator

import pytest

from tests.support.browser import CHROMIUM, chromium
from tests.support.cluster import Cluster


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run a browser for all pages, and yield its DevTools port."""
    if CHROMIUM is None:
        pytest.skip("no chromium on PATH")
    with chromium(tmp_path_factory.mktemp("browser")) as port:
        yield port


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for the tests of all pages that leave it as it was."""
    with Cluster(tmp_path_factory.mktemp("cluster"), "--workers", "1") as running:
        yield running
