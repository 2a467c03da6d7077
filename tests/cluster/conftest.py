from collections.abc import Iterator

import pytest

from tests.support.cluster import Cluster


@pytest.fixture(scope="package")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster for the tests of all modules that leave it as it was."""
    with Cluster(tmp_path_factory.mktemp("cluster"), "--workers", "4") as running:
        yield running
