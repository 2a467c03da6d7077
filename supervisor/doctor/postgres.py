"""Checks of the PostgreSQL with the outbox, made by a relay, which is the process that uses it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import msgspec

from wsd.supervisor.config.redis_url import redacted
from wsd.supervisor.config.settings import Config
from wsd.supervisor.errors import ConfigError
from wsd.supervisor.monitoring.finding import Finding, failure
from wsd.supervisor.services.relay import check_asyncpg, environment
from wsd.worker.contract.relay_status import EXAMINE

CHECK = "PostgreSQL"

ANSWER_SECONDS = 60.0


def postgres(config: Config) -> Iterator[Finding]:
    """Check what a relay needs. Yields nothing without postgres.url."""
    if not config.postgres.url:
        return
    try:
        check_asyncpg(config)
    except ConfigError as exc:
        yield failure(CHECK, str(exc), 'pip install "wsd-cluster[postgres]"')
        return
    command = (sys.executable, "-P", "-m", "wsd.worker.relay", EXAMINE)
    environ = {**os.environ, **environment(config, redis_url="")}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, timeout=ANSWER_SECONDS, check=False)
        yield from msgspec.json.decode(done.stdout, type=list[Finding])
    except (subprocess.TimeoutExpired, msgspec.DecodeError):
        shown = redacted(config.postgres.listen_url or config.postgres.url)
        yield failure(CHECK, f"{shown} could not be examined", "check that it is reachable from this machine")
