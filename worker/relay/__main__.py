"""Run one relay process: `python -m wsd.worker.relay`. Its settings are in the environment (RelayEnv).

With `--examine` it examines its PostgreSQL instead.
"""

import asyncio
import json
import os
import sys
from dataclasses import asdict

import uvloop

from wsd.worker.contract.lifecycle import EXIT_STARTUP_FAILED
from wsd.worker.contract.relay_environment import RelayEnv
from wsd.worker.contract.relay_status import EXAMINE
from wsd.worker.logs import log_as_process
from wsd.worker.relay.examination import examine
from wsd.worker.relay.relay import Relay


def main() -> int:
    """Publish until told to stop. Return the exit code."""
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    env = RelayEnv.from_env(os.environ)
    log_as_process("relay", env.log_level, env.log_format, env.events_path)
    if sys.argv[1:] == [EXAMINE]:
        findings = asyncio.run(examine(env.postgres_url, env.session_url, env.table))
        print(json.dumps([asdict(each) for each in findings]))  # noqa: T201 - `wsd doctor` reads it
        return 0
    try:
        relay = Relay(env)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(relay.run())
    except (ValueError, OSError) as exc:
        print(exc, file=sys.stderr, flush=True)  # noqa: T201 - the supervisor shows a process' last line
        return EXIT_STARTUP_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
