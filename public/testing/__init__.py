"""Tests of applications: a cluster of several workers in the test's own process, without Redis and nginx.

pytest has the fixture `wsd_cluster` wherever wsd is installed, see docs/testing.md.
"""

from wsd.testing.clusters import AsyncTestCluster, StartupFailedError, TestCluster

__all__ = ["AsyncTestCluster", "StartupFailedError", "TestCluster"]
