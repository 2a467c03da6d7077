"""Run one relay process: `python -m wsd.worker.relay`. Its settings are in the environment (RelayEnv)."""

import asyncio
import os
import sys

import uvloop

from wsd.worker.contract.lifecycle import EXIT_STARTUP_FAILED
from wsd.worker.contract.relay_environment import RelayEnv
from wsd.worker.logs import log_as_process
from wsd.worker.relay.relay import Relay


def main() -> int:
    """Publish until told to stop. Return the exit code."""
    sys.stderr.reconfigure(encoding="utf-8", errors="backslashreplace")  # type: ignore[union-attr]
    env = RelayEnv.from_env(os.environ)
    log_as_process("relay", env.log_level, env.log_format, env.events_path)
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
