"""Tests of applications: a cluster of several workers in the test's own process, without Redis and nginx.

pytest has the fixture `wsd_cluster` wherever wsd is installed, see docs/testing.md.
"""

from wsd.testing.clusters import AsyncTestCluster, TestCluster
from wsd.worker.shared_loop.shared_lifespan import StartupFailedError

__all__ = ["AsyncTestCluster", "StartupFailedError", "TestCluster"]
