"""The plugin for pytest: the fixtures `wsd_cluster`, `wsd_app` and `wsd_settings`.

pytest loads this module in every project where wsd is installed, so it imports nothing heavy by itself.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from wsd.testing import TestCluster


@pytest.fixture
def wsd_app() -> Any:
    """Return the application that `wsd_cluster` serves: None is the hub. A project returns its own one."""
    return None


@pytest.fixture
def wsd_settings() -> dict[str, Any]:
    """Return the settings of `wsd_cluster`, by their names in wsd.toml. A project returns its own ones."""
    return {}


@pytest.fixture
def wsd_cluster(wsd_app: Any, wsd_settings: dict[str, Any]) -> "Iterator[TestCluster]":
    """Serve the application of `wsd_app` by two workers in a thread, and yield the cluster."""
    from wsd.testing import TestCluster  # noqa: PLC0415 - takes time, and most tests need no cluster

    with TestCluster(wsd_app, settings=wsd_settings) as cluster:
        yield cluster
