"""Run all checks of `wsd doctor`, in the order in which problems should be solved."""

import asyncio
import resource
from collections.abc import Iterator

from wsd.supervisor.config.loading import Loaded
from wsd.supervisor.doctor import cluster, machine, nginx, redis
from wsd.supervisor.doctor.exposure import exposure
from wsd.supervisor.doctor.key_set import key_set
from wsd.supervisor.doctor.permissions import permissions
from wsd.supervisor.doctor.postgres import postgres
from wsd.supervisor.monitoring import certificates
from wsd.supervisor.monitoring.finding import Finding
from wsd.supervisor.state_dir.directory import StateDir


def examine(loaded: Loaded) -> Iterator[Finding]:
    """Run all checks and yield their findings."""
    state_dir = StateDir(loaded.state_dir)
    running = cluster.current_status(state_dir)
    yield from machine.versions()
    yield machine.file_limit(loaded, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    yield machine.somaxconn(machine.SOMAXCONN)
    yield from cluster.state_directory(state_dir)
    yield cluster.port(loaded, running, state_dir)
    yield nginx.configuration(loaded)
    if loaded.config.nginx.enabled:
        yield from certificates.examine(loaded.config.nginx)
    yield from exposure(loaded)
    yield from permissions(loaded.config)
    yield from key_set(loaded.config.security.jwt_jwks_url)
    yield from cluster.processes(state_dir, running)
    yield from postgres(loaded.config)
    yield from asyncio.run(redis.examine(loaded.config.redis, running.redis.url if running is not None else None))
