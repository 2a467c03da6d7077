"""What can go wrong in ways a person can mend: one line of text each, and the exit code that goes with it."""

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0
    FAILURE = 1  # runtime; for `wsd status`: running but degraded
    USAGE = 2  # command line or configuration
    NOT_RUNNING = 3
    READER_GONE = 141  # as a shell reports a program that was ended by SIGPIPE


class WsdError(Exception):
    """Names the thing, the value and the way out."""

    exit_code = ExitCode.FAILURE


class ConfigError(WsdError):
    exit_code = ExitCode.USAGE


class NotRunningError(WsdError):
    exit_code = ExitCode.NOT_RUNNING


class StartError(WsdError):
    """The cluster, or a part that it cannot do without, did not come up."""
